/* What a Maildir is told of the store, and what it tells. */
#include "queue/mailbox/mailstore_files.h"
#include <stdio.h>
#include <stdlib.h>

#define LOOK_PATIENCE_S 5 /* it is asked again soon, and a helper that waits is missed by all */
#define TAKEN_EACH 2048u  /* items of a change */

static void name_put(char *out, size_t room, struct slice name)
{
    size_t size = name.size < room ? name.size : room - 1;
    memcpy(out, name.bytes, size);
    out[size] = 0;
}

static char (*names_of(const struct box *box, unsigned *count))[MAILDIR_KEYWORD_BYTES_MAX + 1]
{
    char(*names)[MAILDIR_KEYWORD_BYTES_MAX + 1] =
        calloc(box->pub.keyword_count + 1, sizeof names[0]);
    *count = box->pub.keyword_count;
    for (uint32_t i = 0; names != NULL && i < box->pub.keyword_count; i++) {
        name_put(names[i], sizeof names[i], slice_text(box->keywords[i]));
    }
    return names;
}

/* ── What the store has ──────────────────────────────────────────────────────────────────────── */

struct row_list {
    struct row_of {
        uint32_t uid;
        struct write_row row;
    } * all;
    size_t count, room;
};

/* Of what is to be written in this mailbox, ascending. */
static int rows_list(const struct box *box, struct row_list *list)
{
    struct mailstore *store = box->user->store;
    struct key key;
    struct index_walk walk;
    int status = 0;
    write_key(&key, box);
    bool more = index_walk_begin(store->index, &walk, key_slice(&key), slice_of(NULL, 0));
    for (; more && status == 0; more = index_walk_next(&walk)) {
        if (list->count == list->room) {
            size_t room = list->room * 2 + 64;
            struct row_of *grown = realloc(list->all, room * sizeof grown[0]);
            status = grown == NULL ? -ENOMEM : 0;
            list->all = grown != NULL ? grown : list->all;
            list->room = grown != NULL ? room : list->room;
        }
        if (status == 0 && walk.value.size == sizeof list->all[0].row) {
            struct row_of *row = &list->all[list->count++];
            row->uid = key_read_u32(walk.key, key.size);
            memcpy(&row->row, walk.value.bytes, sizeof row->row);
        }
    }
    index_walk_end(&walk);
    return status == 0 ? walk.status : status;
}

static struct home_told *told_new(const struct box *box, size_t rows)
{
    struct home_told *told = calloc(1, sizeof *told);
    if (told == NULL) {
        return NULL;
    }
    name_put(told->mailbox, sizeof told->mailbox, box->pub.name);
    told->uidvalidity = box->pub.uidvalidity;
    told->uid_next = box->pub.uidnext;
    told->names = names_of(box, &told->name_count);
    told->seen = malloc((box->pub.count + rows + 1) * sizeof told->seen[0]);
    if (told->names == NULL || told->seen == NULL) {
        home_told_free(told);
        return NULL;
    }
    return told;
}

/* As the Maildir had it: entries, and what a row says of those that we have changed or expunged. */
static void seen_merge(const struct box *box, const struct row_list *rows, struct home_told *told)
{
    size_t at = 0;
    for (uint32_t i = 0; i <= box->pub.count; i++) {
        const struct mailstore_entry *entry = i < box->pub.count ? &box->entries[i] : NULL;
        while (at < rows->count && (entry == NULL || rows->all[at].uid < entry->uid)) {
            const struct row_of *row = &rows->all[at++];
            told->seen[told->count++] = (struct home_seen){
                .uid = row->uid, .flags = row->row.flags, .keywords = row->row.keywords};
        }
        if (entry == NULL) {
            return;
        }
        struct home_seen seen = {
            .uid = entry->uid, .flags = (uint8_t)entry->flags, .keywords = entry->keywords};
        if (at < rows->count && rows->all[at].uid == entry->uid) {
            seen.flags = rows->all[at].row.flags;
            seen.keywords = rows->all[at++].row.keywords;
        }
        told->seen[told->count++] = seen;
    }
}

static int box_tell(struct op *op, struct box *box)
{
    struct row_list rows = {.count = 0};
    int status = box_need(box);
    status = status == 0 ? rows_list(box, &rows) : status;
    struct home_told *told = status == 0 ? told_new(box, rows.count) : NULL;
    if (told != NULL) {
        seen_merge(box, &rows, told);
        told->next = op->told;
        op->told = told;
    } else if (status == 0) {
        status = -ENOMEM;
    }
    free(rows.all);
    return status;
}

/* ── What is to be written ───────────────────────────────────────────────────────────────────── */

void op_writes_free(struct op_writes *writes)
{
    while (writes != NULL) {
        struct op_writes *next = writes->next;
        free(writes->writes);
        free(writes->names);
        free(writes);
        writes = next;
    }
}

/* Its one entry has gone: it is there for what is kept of it. */
static uint64_t kept_id(struct mailstore *store, uint64_t text)
{
    struct text_row *row;
    return text_get(store, text, &row) == 0 && row->refs > 0 ? text : 0;
}

static void writes_fill(struct op_writes *writes, const struct box *box,
                        const struct row_list *rows, bool *held)
{
    for (size_t i = 0; i < rows->count; i++) {
        const struct row_of *row = &rows->all[i];
        const struct mailstore_entry *entry = mailstore_entry_find(&box->pub, row->uid);
        struct home_write write = {.uid = row->uid,
                                   .expunge = row->row.expunged,
                                   .flags_before = row->row.flags,
                                   .keywords_before = row->row.keywords};
        if (entry != NULL) {
            write.flags = (uint8_t)entry->flags;
            write.keywords = entry->keywords;
        }
        /* Somebody is reading it: the file stays for him. */
        bool waits = write.expunge && text_is_held(box->user->store, row->row.text);
        *held |= waits;
        write.kept = write.expunge ? kept_id(box->user->store, row->row.text) : 0;
        if (!waits && (write.expunge || entry != NULL)) {
            writes->writes[writes->what.count++] = write;
        }
    }
}

static int box_writes(struct op *op, struct box *box)
{
    struct row_list rows = {.count = 0};
    int status = rows_list(box, &rows);
    if (status != 0 || rows.count == 0) {
        free(rows.all);
        return status;
    }
    struct op_writes *writes = calloc(1, sizeof *writes);
    if (writes == NULL) {
        free(rows.all);
        return -ENOMEM;
    }
    writes->next = op->writes;
    op->writes = writes;
    name_put(writes->mailbox, sizeof writes->mailbox, box->pub.name);
    writes->names = names_of(box, &writes->what.name_count);
    writes->writes = calloc(rows.count, sizeof writes->writes[0]);
    status = writes->names == NULL || writes->writes == NULL ? -ENOMEM : box_need(box);
    if (status == 0) {
        writes_fill(writes, box, &rows, &op->mirror->writes);
        writes->what.mailbox = writes->mailbox;
        writes->what.writes = writes->writes;
        writes->what.names = writes->names;
    }
    free(rows.all);
    return status;
}

static bool is_stale(const struct op *op, const char *name)
{
    for (size_t at = 0; at < op->stale.size; at += strlen(op->stale.names + at) + 1) {
        if (strcmp(op->stale.names + at, name) == 0) {
            return true;
        }
    }
    return false;
}

/* > 0: yes. Of a home that rests only what is to be worked on is told. */
static int must_tell(const struct op *op, const struct box *box)
{
    const struct mirror *mirror = op->mirror;
    struct row_list rows = {.count = 0};
    if (!mirror->rests) {
        return 1;
    }
    switch (op->kind) {
    case OP_PUT:
        return strcmp(box->name, op->mailbox) == 0;
    case OP_RESTORE:
        return box->pub.id == op->box;
    case OP_COPY:
        return strcmp(box->name, op->to) == 0;
    case OP_LOOK:
        break;
    case OP_CREATE:
    case OP_DELETE:
    case OP_RENAME:
    case OP_SUBSCRIBE:
    case OP_INBOX:
        return 0;
    }
    if (is_stale(op, box->name) || !mirror->writes) {
        return is_stale(op, box->name);
    }
    int status = rows_list(box, &rows);
    free(rows.all);
    return status != 0 ? status : rows.count > 0;
}

int op_prepare(struct op *op)
{
    struct mirror *mirror = op->mirror;
    const struct user *user = mirror->user;
    int status = 0;
    op->forgets = !mirror->told && !mirror->rests;
    op->uidvalidity = user->uidvalidity_next;
    for (uint32_t i = 0; i < user->box_count && status == 0 && !mirror->told; i++) {
        int must = must_tell(op, user->boxes[i]);
        status = must > 0 ? box_tell(op, user->boxes[i]) : must;
    }
    if (status != 0) {
        return status;
    }
    mirror->told = mirror->told || !mirror->rests;
    if (op->kind == OP_LOOK && mirror->writes) {
        mirror->writes = false;
        for (uint32_t i = 0; i < user->box_count && status == 0; i++) {
            status = box_writes(op, user->boxes[i]);
        }
        mirror->writes |= status != 0;
    }
    if (op->kind == OP_LOOK && (mirror->tidies || op->tidies) && status == 0) {
        mirror->tidies = false;
        op->tidies = true;
        status = op_tidy_prepare(op);
        mirror->tidies = status != 0;
        op->tidies = status == 0;
    }
    if (op->kind == OP_RESTORE && status == 0) {
        op->refused = op_restore_prepare(op);
    }
    return status;
}

/* ── At work ─────────────────────────────────────────────────────────────────────────────────── */

static int by_name(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int subscribed_list(struct op *op, struct home *home)
{
    int status = home_subscribed(home, &op->subscribed, &op->subscribed_size);
    if (status != 0) {
        return status == -EALREADY ? 0 : status;
    }
    op->listed = malloc((op->subscribed_size / 2 + 1) * sizeof op->listed[0]);
    if (op->listed == NULL) {
        return -ENOMEM;
    }
    for (size_t at = 0; at < op->subscribed_size; at += strlen(op->subscribed + at) + 1) {
        op->listed[op->listed_count++] = op->subscribed + at;
    }
    if (op->listed_count > 1) {
        qsort(op->listed, op->listed_count, sizeof op->listed[0], by_name);
    }
    return 0;
}

static int look(struct op *op, struct home *home)
{
    int status = 0;
    for (const struct op_writes *writes = op->writes; writes != NULL; writes = writes->next) {
        int written = writes->what.count > 0 ? home_write(home, &writes->what, &op->news) : 0;
        status = status == 0 && written != -ENOENT ? written : status;
    }
    free(op->stale.names);
    op->stale = (struct home_stale){.size = 0};
    int looked = home_look(home, &op->news, &op->stale);
    if (op->stale.size > 0) {
        return -ESTALE; /* it is asked again */
    }
    status = status == 0 ? looked : status;
    if (op->tidies) {
        const struct home_tidy tidy = {op->kept, op->kept_count,
                                       op->mirror->files->store->settings.keep_expunged_s};
        int tidied = home_tidy(home, &tidy);
        status = status == 0 ? tidied : status;
    }
    int subscribed = subscribed_list(op, home);
    return status == 0 ? subscribed : status;
}

static int put(struct op *op, struct home *home)
{
    struct staged *staged = op->staged;
    const struct mailstore_maildirs *settings = &staged->files->settings;
    const struct maildir_files *files = settings->owner->files;
    int status = op->refused;
    status = status == 0 && staged->short_of_memory ? -ENOMEM : status;
    status = status == 0 ? staged->error : status;
    status = status == 0 ? files->sync(files->self, staged->file) : status;
    op->message.at = staged->files->staging;
    op->message.name = staged->name;
    op->message.bytes = staged->bytes;
    op->message.virtual_bytes = staged->virtual_bytes;
    op->message.keywords = (const char(*)[MAILDIR_KEYWORD_BYTES_MAX + 1]) op->keywords;
    status = status == 0 ? home_put(home, op->mailbox, &op->message, &op->uid, &op->news) : status;
    if (staged->file >= 0) {
        files->close(files->self, staged->file);
        staged->file = -1;
    }
    if (status != 0) {
        files->remove(files->self, staged->files->staging, staged->name);
    }
    return status;
}

static int create(struct op *op, struct home *home)
{
    int status = home_create(home, op->mailbox, &op->news);
    return status == 0 && op->flag ? home_subscribe(home, op->mailbox, true) : status;
}

void op_work(struct crew_job *job)
{
    struct op *op = list_entry(job, struct op, job);
    struct home *home = op->mirror->home;
    home_uidvalidity(home, op->uidvalidity);
    home_patience(home, op->kind == OP_LOOK ? LOOK_PATIENCE_S : 0);
    home_leave_new(home, op->leaves_new);
    if (op->forgets) {
        home_forget(home);
    }
    while (op->told != NULL) {
        struct home_told *told = op->told;
        op->told = told->next;
        home_tell(home, told);
    }
    switch (op->kind) {
    case OP_LOOK:
        op->status = look(op, home);
        break;
    case OP_PUT:
        op->status = put(op, home);
        break;
    case OP_COPY:
        op->status = op->refused != 0 ? op->refused : home_copy(home, &op->copy, &op->news);
        break;
    case OP_CREATE:
        op->status = create(op, home);
        break;
    case OP_DELETE:
        op->status = home_delete(home, op->mailbox);
        break;
    case OP_RENAME:
        op->status = home_rename(home, op->mailbox, op->to);
        break;
    case OP_SUBSCRIBE:
        op->status = home_subscribe(home, op->mailbox, op->flag);
        break;
    case OP_RESTORE:
        op->status = op->refused != 0 ? op->refused : home_restore(home, &op->restore, &op->news);
        break;
    case OP_INBOX:
        op->status = inbox_work(op);
        break;
    }
    if (op->rests && op->status != -ESTALE) {
        home_rest(home);
    }
}

/* ── News ────────────────────────────────────────────────────────────────────────────────────── */

/* So many ids from `first` on, for texts. */
static int ids_make(struct mailstore *store, uint32_t count, uint64_t *first)
{
    if (store->id_count + count > 1u << 24) {
        store->id_count = 1u << 24; /* of another sequence, then */
    }
    int status = id_make(store, first);
    store->id_count += status == 0 && count > 1 ? count - 1 : 0;
    return status;
}

static void item_write(struct writer *writer, const struct home_item *item, uint64_t text)
{
    static const uint8_t kinds[] = {
        [HOME_ADDED] = TAKE_ADDED, [HOME_CHANGED] = TAKE_CHANGED, [HOME_GONE] = TAKE_GONE};
    write_u8(writer, kinds[item->kind]);
    write_u32(writer, item->uid);
    if (item->kind == HOME_GONE) {
        return;
    }
    write_u8(writer, item->flags_before);
    write_u8(writer, item->flags);
    write_u32(writer, item->keywords_before);
    write_u32(writer, item->keywords);
    if (item->kind == HOME_ADDED) {
        write_u32(writer, item->bytes);
        write_u32(writer, item->internal_s);
        write_u32(writer, item->saved_s);
        write_u64(writer, text);
    }
}

/* The message that was put, which has its text's id already. */
static bool is_put(const struct op *op, const struct home_news *news, const struct home_item *item)
{
    return op->text != 0 && item->kind == HOME_ADDED && item->uid == op->uid &&
           strcmp(news->mailbox, op->mailbox) == 0;
}

static int items_say(struct op *op, const struct home_news *news)
{
    struct user *user = op->mirror->user;
    size_t left = news->count - op->said;
    uint32_t count = (uint32_t)(left < TAKEN_EACH ? left : TAKEN_EACH);
    bool last = count == left;
    uint64_t text = 0;
    int status = ids_make(user->store, count + 1, &text);
    struct change *change =
        status == 0 ? user_change(user->store, &user->pub, CHANGE_TAKE, NULL, &op->durable) : NULL;
    if (change == NULL) {
        return status != 0 ? status : -ENOMEM;
    }
    struct writer *writer = &change->content;
    write_text(writer, slice_text(news->mailbox));
    write_u32(writer, news->uidvalidity);
    write_u32(writer, last ? news->uid_next : 0);
    write_u16(writer, MAILDIR_KEYWORDS_MAX);
    for (unsigned i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        write_text(writer, slice_text(news->keywords[i]));
    }
    write_u32(writer, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct home_item *item = &news->items[op->said + i];
        item_write(writer, item, is_put(op, news, item) ? op->text : text + i);
    }
    status = change_submit(change);
    op->said += status == 0 ? count : 0;
    return status;
}

static int box_gone_say(struct op *op, const struct box *box)
{
    struct user *user = op->mirror->user;
    struct change *change = user_change(user->store, &user->pub, CHANGE_DELETE, NULL, &op->durable);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u64(&change->content, box->pub.id);
    return change_submit(change);
}

/* The folder that a mailbox has become, whose own is not there any more. */
static const struct home_news *moved_to(const struct op *op, const struct box *box)
{
    for (const struct home_news *news = op->news; news != NULL; news = news->next) {
        if (!news->gone && news->uidvalidity == box->pub.uidvalidity &&
            name_is_good(slice_text(news->mailbox)) &&
            user_box(op->mirror->user, slice_text(news->mailbox)) == NULL) {
            return news;
        }
    }
    return NULL;
}

/* Somebody has renamed it, or we have, and a crash came before that was said. What else is new there is found by the
 * next look, which is told what the store has. */
static int box_moved_say(struct op *op, const struct box *box, const struct home_news *to)
{
    struct user *user = op->mirror->user;
    struct change *change = user_change(user->store, &user->pub, CHANGE_RENAME, NULL, &op->durable);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u64(&change->content, box->pub.id);
    write_text(&change->content, slice_text(to->mailbox));
    int status = change_submit(change);
    if (status == 0) {
        home_news_free(op->news);
        op->news = NULL;
        op->said = 0;
        op->mirror->told = op->mirror->rests = false;
        mirror_poke(op->mirror);
    }
    return status;
}

static void news_drop(struct op *op)
{
    struct home_news *news = op->news;
    op->news = news->next;
    news->next = NULL;
    op->said = 0;
    home_news_free(news);
}

int op_say(struct op *op)
{
    while (op->news != NULL) {
        const struct home_news *news = op->news;
        const struct box *box = user_box(op->mirror->user, slice_text(news->mailbox));
        const struct home_news *moved = box != NULL && news->gone ? moved_to(op, box) : NULL;
        if (moved != NULL) {
            return box_moved_say(op, box, moved);
        }
        if (box != NULL && (news->gone || box->pub.uidvalidity != news->uidvalidity)) {
            return box_gone_say(op, box);
        }
        bool nothing =
            news->gone || news->keywords == NULL || !name_is_good(slice_text(news->mailbox));
        if (!nothing &&
            (op->said < news->count || box == NULL || news->uid_next > box->pub.uidnext)) {
            return items_say(op, news);
        }
        news_drop(op);
    }
    return -EALREADY;
}
