/* What is asked for of Maildirs: each an op. */
#include "queue/mailbox/mailstore_files.h"
#include <stdio.h>
#include <stdlib.h>

static void name_take(char out[MAILSTORE_NAME_BYTES_MAX + 1], struct slice name)
{
    size_t size = name.size < MAILSTORE_NAME_BYTES_MAX ? name.size : MAILSTORE_NAME_BYTES_MAX;
    memcpy(out, name.bytes, size);
    out[size] = 0;
}

void op_name_keep(char out[MAILSTORE_NAME_BYTES_MAX + 1], struct slice name)
{
    char text[MAILSTORE_NAME_BYTES_MAX];
    name_take(out, name_canonical(name, text));
}

int files_refresh(struct mailstore *store, struct user *user, struct mailstore_waiter *waiter,
                  bool reads)
{
    if (store->sick != 0) {
        return store->sick;
    }
    struct op *op = op_new(user, OP_LOOK, waiter, NULL);
    if (op == NULL) {
        return -ENOMEM;
    }
    op->leaves_new = !reads;
    op_queue(op);
    return 0;
}

/* INBOX always is, also of a user whose Maildir nobody has looked at. */
static bool is_there(const struct user *user, struct slice name)
{
    return slice_equal(name, slice_text("INBOX")) || user_box(user, name) != NULL;
}

/* Whoever replaces a message is not asked how much he has, if it does not become more: a draft may be shortened. */
static int place_check(struct op *op, const struct mailstore_place *place, uint64_t bytes)
{
    const struct user *user = op->mirror->user;
    uint64_t replaced = 0;
    if (place->replaces != NULL) {
        const struct mailstore_entry *entry =
            mailstore_entry_find(place->replaces, place->replaces_uid);
        if (entry == NULL) {
            return -ESTALE;
        }
        replaced = entry->bytes;
    }
    op->adds.bytes = bytes > replaced ? bytes - replaced : 0;
    op->adds.messages = place->replaces == NULL;
    op->quota_bytes = place->quota_bytes;
    op->quota_messages = place->quota_messages;
    if (op_is_over(op, (struct mailstore_totals){0})) {
        return -EDQUOT;
    }
    char text[MAILSTORE_NAME_BYTES_MAX];
    struct slice name = name_canonical(place->mailbox, text);
    return is_there(user, name) ? 0 : -ENOENT;
}

static int put_fill(struct op *op, const struct mailstore_place *place)
{
    op_name_keep(op->mailbox, place->mailbox);
    op->box = place->replaces != NULL ? place->replaces->id : 0;
    op->expunge.expunged_count = place->replaces_uid; /* until it is expunged */
    op->message = (struct home_message){.flags = place->flags & MAILSTORE_FLAGS_ALL,
                                        .internal_s = place->internal_s};
    op->keywords = calloc(place->keyword_count + 1, sizeof op->keywords[0]);
    if (op->keywords == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < place->keyword_count; i++) {
        struct slice keyword = place->keywords[i];
        if (keyword.size > 0 && keyword.size <= MAILDIR_KEYWORD_BYTES_MAX) {
            memcpy(op->keywords[op->message.keyword_count++], keyword.bytes, keyword.size);
        }
    }
    return 0;
}

int files_commit(struct mailstore_draft *draft, struct mailstore_place *place,
                 struct mailstore_waiter *waiter)
{
    struct mailstore *store = draft->store;
    struct user *user;
    int status = user_get(store, place->user, &user);
    if (status != 0) {
        draft_free(draft, false);
        return status;
    }
    status = store->sick;
    struct op *op = status == 0 ? op_new(user, OP_PUT, waiter, place) : NULL;
    if (status == 0) {
        status = op != NULL ? place_check(op, place, draft->bytes) : -ENOMEM;
        status = status == 0 ? put_fill(op, place) : status;
    }
    if (status == 0 && op != NULL) {
        store->counters.texts_committed++;
        op->text = draft->id;
        op->staged = draft->file;
        draft->file = NULL;
        staged_finish(op->staged, op->mirror);
        op_queue(op);
    } else if (op != NULL) {
        op_free(op);
    }
    store->counters.refused_quota += status == -EDQUOT;
    draft_free(draft, false);
    user_drop(user);
    return status;
}

/* The entries of these uids, as the copies are to be. */
int op_copy_fill(struct op *op, const struct box *box, const struct mailstore_copy *copy,
                 uint64_t *bytes)
{
    struct home_write *entries = calloc(box->pub.count + 1, sizeof entries[0]);
    size_t count = 0;
    op->copy.entries = entries;
    op->copy.names = calloc(box->pub.keyword_count + 1, sizeof op->copy.names[0]);
    if (entries == NULL || op->copy.names == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < copy->uid_count; i++) {
        uint32_t at = mailstore_entry_index(&box->pub, copy->uids[i].first);
        for (; at < box->pub.count && box->entries[at].uid <= copy->uids[i].last; at++) {
            const struct mailstore_entry *entry = &box->entries[at];
            if (changes_leave(box->user->store, box->pub.id, entry->uid)) {
                continue;
            }
            entries[count++] =
                (struct home_write){.uid = entry->uid,
                                    .flags = (uint8_t)(entry->flags & ~copy->flags_lost),
                                    .keywords = copy->keywords_lost ? 0 : entry->keywords};
            *bytes += entry->bytes;
        }
    }
    op->copy.count = count;
    op->copy.name_count = box->pub.keyword_count;
    for (uint32_t i = 0; i < box->pub.keyword_count; i++) {
        snprintf(op->copy.names[i], sizeof op->copy.names[i], "%s", box->keywords[i]);
    }
    op->copy.copied = calloc(count + 1, sizeof op->copy.copied[0]);
    return op->copy.copied == NULL ? -ENOMEM : 0;
}

static int copy_begin(struct op *op, struct box *box, struct mailstore_copy *copy, bool moves)
{
    const struct user *target = op->mirror->user;
    bool same = target == box->user;
    uint64_t bytes = 0;
    name_take(op->mailbox, box->pub.name);
    op_name_keep(op->to, copy->mailbox);
    op->box = box->pub.id;
    op->flag = moves;
    op->copy_user = same ? NULL : strdup(box->user->name);
    int status = !same && op->copy_user == NULL ? -ENOMEM : op_copy_fill(op, box, copy, &bytes);
    if (status != 0) {
        return status;
    }
    op->copy.user = op->copy_user;
    op->copy.path = files_path(op->mirror->files, box->user->name);
    op->copy.uidvalidity = box->pub.uidvalidity;
    op->copy.from = op->mailbox;
    op->copy.to = op->to;
    if (!(moves && same)) {
        op->adds = (struct mailstore_totals){.bytes = bytes, .messages = op->copy.count};
        op->quota_bytes = copy->quota_bytes;
        op->quota_messages = copy->quota_messages;
    }
    if (op_is_over(op, (struct mailstore_totals){0})) {
        target->store->counters.refused_quota++;
        return -EDQUOT;
    }
    return is_there(target, slice_text(op->to)) ? 0 : -ENOENT;
}

int files_copy(struct box *box, struct mailstore_copy *copy, bool moves,
               struct mailstore_waiter *waiter)
{
    struct mailstore *store = box->user->store;
    struct user *target;
    struct slice name = copy->user.size > 0 ? copy->user : slice_text(box->user->name);
    int status = store->sick != 0 ? store->sick : user_get(store, name, &target);
    if (status != 0) {
        return status;
    }
    struct op *op = op_new(target, OP_COPY, waiter, copy);
    status = op == NULL ? -ENOMEM : copy_begin(op, box, copy, moves);
    if (status == 0) {
        op_queue(op);
    } else if (op != NULL) {
        op_free(op);
    }
    user_drop(target);
    return status;
}

/* A name that a folder can have. */
static bool has_folder(struct slice name)
{
    char folder[MAILDIR_FILE_NAME_MAX + 1];
    return name.size <= MAILSTORE_NAME_BYTES_MAX && maildir_folder_write(name, folder) >= 0;
}

bool mailstore_can_name(const struct mailstore *store, struct slice name)
{
    char text[MAILSTORE_NAME_BYTES_MAX];
    return name_is_good(name) && (store->files == NULL || has_folder(name_canonical(name, text)));
}

int files_create(struct user *user, struct mailstore_create *create,
                 struct mailstore_waiter *waiter)
{
    char text[MAILSTORE_NAME_BYTES_MAX];
    struct slice name = name_canonical(create->mailbox, text);
    struct op *op = NULL;
    int status = user->store->sick != 0 ? user->store->sick : has_folder(name) ? 0 : -EINVAL;
    if (status == 0) {
        op = op_new(user, OP_CREATE, waiter, create);
        status = op == NULL ? -ENOMEM : 0;
    }
    if (status == 0) {
        name_take(op->mailbox, name);
        op->special_use = create->special_use;
        op->flag = create->subscribe;
        op_queue(op);
    }
    return status;
}

int files_delete(struct box *box, struct mailstore_waiter *waiter)
{
    if (box->pub.state != MAILSTORE_BOX_LIVE) {
        return -ENOENT;
    }
    if (slice_equal(box->pub.name, slice_text("INBOX"))) {
        return -EOPNOTSUPP;
    }
    struct op *op = op_new(box->user, OP_DELETE, waiter, NULL);
    if (op == NULL) {
        return -ENOMEM;
    }
    name_take(op->mailbox, box->pub.name);
    op->box = box->pub.id;
    op_queue(op);
    return 0;
}

int files_rename(struct user *user, struct box *box, struct slice from, struct slice name,
                 struct mailstore_waiter *waiter)
{
    if (box != NULL && box->pub.state != MAILSTORE_BOX_LIVE) {
        return -ENOENT;
    }
    if (!has_folder(name)) {
        return -EINVAL;
    }
    if (slice_equal(from, slice_text("INBOX"))) {
        return files_inbox_rename(user, name, waiter);
    }
    struct op *op = op_new(user, OP_RENAME, waiter, NULL);
    if (op == NULL) {
        return -ENOMEM;
    }
    name_take(op->mailbox, from);
    op_name_keep(op->to, name);
    op->box = box != NULL ? box->pub.id : 0;
    op_queue(op);
    return 0;
}

int files_subscribe(struct user *user, struct slice name, bool subscribed,
                    struct mailstore_waiter *waiter)
{
    if (!has_folder(name)) {
        return -EINVAL;
    }
    struct op *op = op_new(user, OP_SUBSCRIBE, waiter, NULL);
    if (op == NULL) {
        return -ENOMEM;
    }
    name_take(op->mailbox, name);
    op->flag = subscribed;
    op_queue(op);
    return 0;
}
