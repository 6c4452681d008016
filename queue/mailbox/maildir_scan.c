#include "queue/mailbox/maildir_scan.h"
#include "engine/core/check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES (MAILDIR_FILE_NAME_MAX + 1)
#define SETTLED_LINKS_S                                                                            \
    30 /* two names of one file for so long: nobody is in the middle of a rename */

/* A file of a listing. */
struct found {
    const char *name;
    uint32_t look;
    bool in_new;
};

struct scan {
    struct maildir_box *box;
    const struct maildir_files *files;
    struct arena *names;
    struct found *listed; /* of one folder */
    size_t listed_count, listed_room;
    struct found *fresh; /* without a UID */
    size_t fresh_count, fresh_room;
    int status;
};

/* ---- opening ---- */

static int folder_open(const struct maildir_files *files, int at, const char *name)
{
    int status = files->make_folder(files->self, at, name);
    return status < 0 && status != -EEXIST ? status : files->open_folder(files->self, at, name);
}

int maildir_box_open(struct maildir_box *box, const struct maildir_owner *owner, int at,
                     const char *name)
{
    const struct maildir_files *files = owner->files;
    *box = (struct maildir_box){.owner = owner, .new_folder = -1, .cur_folder = -1};
    box->namer =
        (struct maildir_namer){.process_id = owner->process_id, .hostname = owner->hostname};
    maildir_uidlist_open(&box->list);
    arena_open(&box->names[0], MAILDIR_UIDLIST_BYTES_MAX);
    arena_open(&box->names[1], MAILDIR_UIDLIST_BYTES_MAX);
    box->folder = files->open_folder(files->self, at, name);
    if (box->folder >= 0) {
        int made = files->make_folder(files->self, box->folder, "tmp");
        box->new_folder =
            made < 0 && made != -EEXIST ? made : folder_open(files, box->folder, "new");
        box->cur_folder =
            box->new_folder < 0 ? box->new_folder : folder_open(files, box->folder, "cur");
    }
    int status = box->folder < 0 ? box->folder : box->cur_folder;
    if (status < 0) {
        maildir_box_close(box);
    }
    return status < 0 ? status : 0;
}

void maildir_box_close(struct maildir_box *box)
{
    const struct maildir_files *files = box->owner->files;
    maildir_uidlist_close(&box->list, files);
    arena_close(&box->names[0]);
    arena_close(&box->names[1]);
    int folders[3] = {box->cur_folder, box->new_folder, box->folder};
    for (unsigned i = 0; i < 3; i++) {
        if (folders[i] >= 0) {
            files->close(files->self, folders[i]);
        }
    }
    box->folder = box->new_folder = box->cur_folder = -1;
}

static struct maildir_lock lock_of(const struct maildir_box *box)
{
    return (struct maildir_lock){.owner = box->owner,
                                 .at = box->folder,
                                 .protected = MAILDIR_UIDLIST,
                                 .stale_s = MAILDIR_LOCK_STALE_S};
}

static int lock_take(const struct maildir_box *box, struct maildir_lock *lock)
{
    return maildir_lock_take(lock,
                             box->patience_s != 0 ? box->patience_s : MAILDIR_LOCK_PATIENCE_S);
}

/* ---- listing ---- */

static bool array_grow(struct found **array, size_t count, size_t *room)
{
    if (count < *room) {
        return true;
    }
    size_t wanted = *room == 0 ? 64 : *room * 2;
    struct found *grown = realloc(*array, wanted * sizeof *grown);
    if (grown != NULL) {
        *array = grown;
        *room = wanted;
    }
    return grown != NULL;
}

static const char *name_keep(struct arena *names, struct slice name)
{
    char *kept = arena_take(names, name.size + 1);
    if (kept != NULL) {
        memcpy(kept, name.bytes, name.size);
    }
    return kept;
}

static void visit(void *owner, const char *name)
{
    struct scan *scan = owner;
    struct maildir_name parts;
    if (scan->status < 0 || maildir_name_read(slice_text(name), &parts) < 0) {
        return; /* what is no message is left alone */
    }
    const char *kept = name_keep(scan->names, slice_text(name));
    if (kept == NULL || !array_grow(&scan->listed, scan->listed_count, &scan->listed_room)) {
        scan->status = -ENOMEM;
        return;
    }
    scan->listed[scan->listed_count++] = (struct found){.name = kept, .look = scan->box->looks};
}

static int folder_of(const struct maildir_box *box, bool in_new)
{
    return in_new ? box->new_folder : box->cur_folder;
}

/* From new/ to cur/, with the ":2," of a message that has no flags. */
static void move_to_cur(struct scan *scan, struct found *found)
{
    char name[NAME_BYTES + 3];
    bool info = strchr(found->name, ':') != NULL;
    int size = snprintf(name, sizeof name, "%s%s", found->name, info ? "" : ":2,");
    const struct maildir_box *box = scan->box;
    found->in_new =
        size > MAILDIR_FILE_NAME_MAX || scan->files->rename(scan->files->self, box->new_folder,
                                                            found->name, box->cur_folder, name) < 0;
    if (!found->in_new && !info) {
        found->name = name_keep(scan->names, slice_of(name, (size_t)size));
        scan->status = found->name == NULL ? -ENOMEM : scan->status;
    }
}

/* ---- what is seen ---- */

static void fresh_add(struct scan *scan, struct found found)
{
    if (!array_grow(&scan->fresh, scan->fresh_count, &scan->fresh_room)) {
        scan->status = -ENOMEM;
        return;
    }
    scan->fresh[scan->fresh_count++] = found;
}

/* A base of its own, with the sizes and flags that it has. */
static void rename_apart(struct scan *scan, struct found found)
{
    struct maildir_name parts;
    char base[NAME_BYTES], name[NAME_BYTES];
    struct maildir_box *box = scan->box;
    maildir_name_read(slice_text(found.name), &parts);
    ssize_t size = maildir_namer_next(&box->namer, maildir_owner_now_us(box->owner), parts.bytes,
                                      parts.virtual_bytes, base);
    size = maildir_name_write(slice_of(base, (size_t)size), parts.flags, parts.keywords, name);
    const char *before = found.name;
    found.name = size < 0 ? NULL : name_keep(scan->names, slice_of(name, (size_t)size));
    if (found.name == NULL) {
        scan->status = size < 0 ? (int)size : -ENOMEM;
        return;
    }
    int at = folder_of(box, found.in_new);
    if (scan->files->rename(scan->files->self, at, before, box->cur_folder, found.name) == 0) {
        found.in_new = false;
        box->renamed++;
        fresh_add(scan, found);
    }
}

/* Two names of one base: a rename seen half, a link, or two messages. */
static void settle_duplicate(struct scan *scan, struct maildir_uid *uid, struct found found)
{
    struct maildir_file_facts one, other;
    const struct maildir_box *box = scan->box;
    const struct maildir_files *files = scan->files;
    int at = folder_of(box, found.in_new);
    if (files->facts(files->self, at, found.name, &other) < 0) {
        return;
    }
    if (files->facts(files->self, folder_of(box, uid->in_new), uid->file, &one) < 0) {
        uid->file = found.name;
        uid->in_new = found.in_new;
        return;
    }
    if (one.inode != other.inode || one.device != other.device) {
        rename_apart(scan, found);
    } else if (one.links > 1 &&
               other.changed_s < world_wall_s(box->owner->world) - SETTLED_LINKS_S &&
               strcmp(uid->file, found.name) != 0) {
        files->remove(files->self, at, found.name);
    }
}

static void settle(struct scan *scan, struct found found)
{
    struct maildir_name parts;
    struct maildir_box *box = scan->box;
    maildir_name_read(slice_text(found.name), &parts);
    struct maildir_uid *uid = maildir_uidlist_find(&box->list, parts.base);
    if (uid == NULL) {
        fresh_add(scan, found);
    } else if (uid->presence == MAILDIR_GONE) {
        rename_apart(scan, found);
    } else if (uid->scan == found.look &&
               (uid->in_new != found.in_new || strcmp(uid->file, found.name) != 0)) {
        settle_duplicate(scan, uid, found);
    } else {
        uid->scan = found.look;
        uid->presence = MAILDIR_PRESENT;
        uid->file = found.name;
        uid->in_new = found.in_new;
    }
}

/* One folder: listed as a whole, then worked on, so that our own renames disturb no listing. */
static void look_at(struct scan *scan, bool in_new)
{
    const struct maildir_box *box = scan->box;
    scan->listed_count = 0;
    int status = scan->files->list(scan->files->self, folder_of(box, in_new), visit, scan);
    scan->status = status < 0 && scan->status == 0 ? status : scan->status;
    size_t count = scan->listed_count;
    for (size_t i = 0; i < count && scan->status == 0; i++) {
        scan->listed[i].in_new = in_new;
        if (in_new && !box->leaves_new) {
            move_to_cur(scan, &scan->listed[i]);
        }
        if (scan->status == 0) {
            settle(scan, scan->listed[i]);
        }
    }
}

static void look(struct scan *scan)
{
    scan->box->looks++;
    look_at(scan, true);
    if (scan->status == 0) {
        look_at(scan, false);
    }
}

/* How many have not been seen since that look. */
static size_t missing_since(const struct maildir_box *box, uint32_t first_look)
{
    size_t missing = 0;
    for (size_t i = 0; i < box->list.count; i++) {
        const struct maildir_uid *uid = &box->list.uids[i];
        missing += uid->presence != MAILDIR_GONE && uid->scan < first_look;
    }
    return missing;
}

/* ---- new UIDs ---- */

static int fresh_order(const void *one, const void *other)
{
    const struct found *a = one, *b = other;
    int order = maildir_name_order(slice_text(a->name), slice_text(b->name));
    if (order != 0) {
        return order;
    }
    order = a->in_new - b->in_new; /* what was moved to cur/ is there under its last name */
    return order != 0 ? order : a->look > b->look ? -1 : a->look < b->look;
}

static void give_uids(struct scan *scan)
{
    struct maildir_box *box = scan->box;
    if (scan->fresh_count > 0) {
        qsort(scan->fresh, scan->fresh_count, sizeof *scan->fresh, fresh_order);
    }
    for (size_t i = 0; i < scan->fresh_count && scan->status == 0; i++) {
        const struct found *found = &scan->fresh[i];
        struct maildir_name parts;
        maildir_name_read(slice_text(found->name), &parts);
        if (maildir_uidlist_find(&box->list, parts.base) != NULL) {
            continue; /* seen by both looks; two messages are told apart by the next scan */
        }
        scan->status = maildir_uidlist_add(&box->list, parts.base);
        if (scan->status == 0) {
            struct maildir_uid *uid = &box->list.uids[box->list.count - 1];
            uid->scan = found->look;
            uid->presence = MAILDIR_PRESENT;
            uid->file = found->name;
            uid->in_new = found->in_new;
        }
    }
}

static void begin_list(struct maildir_box *box)
{
    if (box->list.uidvalidity == 0) {
        int64_t wall_s = world_wall_s(box->owner->world);
        bool later = wall_s > (int64_t)box->uidvalidity_least;
        box->list.uidvalidity = later ? (uint32_t)wall_s : box->uidvalidity_least;
        box->list.uidvalidity += box->list.uidvalidity == 0;
        box->list.must_rewrite = true;
    }
    if (box->list.guid[0] == 0) {
        uint64_t random[2];
        world_random(box->owner->world, random, sizeof random);
        snprintf(box->list.guid, sizeof box->list.guid, "%016" PRIx64 "%016" PRIx64, random[0],
                 random[1]);
        box->list.must_rewrite = true;
    }
}

/* Durable, or the UIDs are forgotten; they are not given again. */
static int write_list(struct scan *scan, const struct maildir_lock *lock, size_t first)
{
    struct maildir_box *box = scan->box;
    struct maildir_uidlist *list = &box->list;
    size_t gone = 0;
    for (size_t i = 0; i < list->count; i++) {
        gone += list->uids[i].presence == MAILDIR_GONE;
    }
    list->must_rewrite = list->must_rewrite || gone * 4 > list->count;
    if (list->count == first && !list->must_rewrite) {
        return 0;
    }
    int status = maildir_lock_holds(lock)
                     ? maildir_uidlist_append(list, scan->files, box->folder, first)
                     : -EAGAIN;
    if (status < 0) {
        list->count = first;
        maildir_uidlist_drop_gone(list); /* the table too */
        list->must_rewrite = true;
    }
    return status;
}

static int scan_locked(struct maildir_box *box, const struct maildir_lock *lock)
{
    struct scan scan = {
        .box = box, .files = box->owner->files, .names = &box->names[++box->scans & 1]};
    int status = maildir_uidlist_refresh(&box->list, scan.files, box->folder);
    status = status == -EBADMSG ? 0 : status;
    status = status < 0 ? status : maildir_keywords_read(&box->keywords, scan.files, box->folder);
    if (status < 0) {
        return status;
    }
    arena_reset(scan.names);
    begin_list(box);
    uint32_t first_look = box->looks + 1;
    look(&scan);
    if (scan.status == 0 && missing_since(box, first_look) > 0) {
        look(&scan);
    }
    for (size_t i = 0; i < box->list.count && scan.status == 0; i++) {
        struct maildir_uid *uid = &box->list.uids[i];
        if (uid->scan < first_look) {
            uid->presence = MAILDIR_GONE;
            uid->file = NULL;
        }
    }
    size_t first = box->list.count;
    if (scan.status == 0) {
        give_uids(&scan);
        status = write_list(&scan, lock, first);
        scan.status = scan.status == 0 ? status : scan.status;
    }
    free(scan.listed);
    free(scan.fresh);
    return scan.status;
}

int maildir_box_scan(struct maildir_box *box)
{
    struct maildir_lock lock = lock_of(box);
    int status = lock_take(box, &lock);
    if (status == 0) {
        status = scan_locked(box, &lock);
        maildir_lock_release(&lock);
    }
    return status;
}

/* ---- one message ---- */

static int sizes_read(struct maildir_box *box, const struct maildir_uid *uid,
                      struct maildir_message *message)
{
    const struct maildir_files *files = box->owner->files;
    int file = files->open_file(files->self, folder_of(box, uid->in_new), uid->file);
    if (file < 0) {
        return file;
    }
    uint8_t piece[16384];
    uint64_t bytes = 0, lone = 0;
    bool carriage = false;
    ssize_t size;
    while ((size = files->read(files->self, file, bytes, piece, sizeof piece)) > 0) {
        for (ssize_t i = 0; i < size; i++) {
            lone += piece[i] == '\n' && !carriage;
            carriage = piece[i] == '\r';
        }
        bytes += (uint64_t)size;
    }
    files->close(files->self, file);
    message->bytes = bytes;
    message->virtual_bytes = bytes + lone;
    return size < 0 ? (int)size : 0;
}

/* Who changes a file need not change its name: what is said of one of another size is not believed. */
static bool sizes_can_be(const struct maildir_message *message, uint64_t bytes_said)
{
    uint64_t bytes = message->bytes, virtual_bytes = message->virtual_bytes;
    return (bytes_said == MAILDIR_SIZE_UNKNOWN || bytes_said == bytes) &&
           virtual_bytes != MAILDIR_SIZE_UNKNOWN && virtual_bytes >= bytes &&
           virtual_bytes - bytes <= bytes;
}

int maildir_box_message(struct maildir_box *box, const struct maildir_uid *uid,
                        struct maildir_message *message)
{
    struct maildir_name parts;
    struct maildir_file_facts facts;
    const struct maildir_files *files = box->owner->files;
    if (uid->presence != MAILDIR_PRESENT) {
        return -ENOENT;
    }
    int status = files->facts(files->self, folder_of(box, uid->in_new), uid->file, &facts);
    if (status < 0) {
        return status;
    }
    maildir_name_read(slice_text(uid->file), &parts);
    *message = (struct maildir_message){.uid = uid->uid,
                                        .file = uid->file,
                                        .flags = parts.flags,
                                        .keywords = parts.keywords,
                                        .bytes = facts.bytes,
                                        .virtual_bytes = parts.virtual_bytes,
                                        .internal_date_s = facts.modified_s,
                                        .saved_s = facts.changed_s};
    if (message->virtual_bytes == MAILDIR_SIZE_UNKNOWN) {
        message->virtual_bytes = maildir_uid_field(uid, 'W');
    }
    return sizes_can_be(message, parts.bytes) ? 0 : sizes_read(box, uid, message);
}

int maildir_box_keyword(struct maildir_box *box, struct slice name)
{
    struct maildir_lock lock = lock_of(box);
    int index = maildir_keywords_find(&box->keywords, name);
    if (index >= 0) {
        return index;
    }
    int status = lock_take(box, &lock);
    if (status < 0) {
        return status;
    }
    status = maildir_keywords_read(&box->keywords, box->owner->files, box->folder);
    index = status < 0 ? status : maildir_keywords_add(&box->keywords, name);
    if (index >= 0) {
        status = maildir_keywords_write(&box->keywords, box->owner->files, box->folder,
                                        world_wall_s(box->owner->world));
    }
    maildir_lock_release(&lock);
    return status < 0 ? status : index;
}

/* `to` NULL: removes it. */
static int change(struct maildir_box *box, struct maildir_uid *uid, const char *to)
{
    const struct maildir_files *files = box->owner->files;
    int at = folder_of(box, uid->in_new);
    if (to == NULL) {
        return files->remove(files->self, at, uid->file);
    }
    if (!uid->in_new && strcmp(uid->file, to) == 0) {
        struct maildir_file_facts facts;
        return files->facts(files->self, at, to, &facts);
    }
    return files->rename(files->self, at, uid->file, box->cur_folder, to);
}

struct wish {
    bool expunge;
    bool merges; /* into what the file has, from `before` on */
    struct maildir_state before, after;
};

/* What the file is to have. */
static struct maildir_state state_wished(const struct maildir_uid *uid, struct wish wish)
{
    struct maildir_name is;
    if (!wish.merges || maildir_name_read(slice_text(uid->file), &is) < 0) {
        return wish.after;
    }
    unsigned flags = wish.before.flags ^ wish.after.flags;
    uint32_t keywords = wish.before.keywords ^ wish.after.keywords;
    return (struct maildir_state){.flags = (is.flags & ~flags) | (wish.after.flags & flags),
                                  .keywords =
                                      (is.keywords & ~keywords) | (wish.after.keywords & keywords)};
}

static int change_locked(struct maildir_box *box, const struct maildir_lock *lock, uint32_t number,
                         struct wish wish)
{
    for (unsigned attempt = 0;; attempt++) {
        struct maildir_uid *uid = maildir_uidlist_find_uid(&box->list, number);
        char name[NAME_BYTES];
        ssize_t size = 0;
        int status = -ENOENT;
        if (uid != NULL && uid->presence == MAILDIR_PRESENT) {
            if (!wish.expunge) {
                struct maildir_state state = state_wished(uid, wish);
                size = maildir_name_write(slice_text(uid->file), state.flags, state.keywords, name);
            }
            name[size < 0 ? 0 : size] = 0;
            status = size < 0 ? (int)size : change(box, uid, wish.expunge ? NULL : name);
        }
        if (status == 0) {
            uid->presence = wish.expunge ? MAILDIR_GONE : MAILDIR_PRESENT;
            uid->file = wish.expunge
                            ? NULL
                            : name_keep(&box->names[box->scans & 1], slice_of(name, (size_t)size));
            uid->in_new = false;
            return !wish.expunge && uid->file == NULL ? -ENOMEM : 0;
        }
        if (status != -ENOENT || attempt == 1) {
            return status;
        }
        status = scan_locked(box, lock); /* its name is another by now */
        if (status < 0) {
            return status;
        }
    }
}

static int change_one(struct maildir_box *box, uint32_t uid, struct wish wish)
{
    struct maildir_lock lock = lock_of(box);
    int status = lock_take(box, &lock);
    if (status == 0) {
        status = change_locked(box, &lock, uid, wish);
        maildir_lock_release(&lock);
    }
    return status;
}

int maildir_box_set(struct maildir_box *box, uint32_t uid, unsigned flags, uint32_t keywords)
{
    return change_one(box, uid, (struct wish){.after = {.flags = flags, .keywords = keywords}});
}

int maildir_box_expunge(struct maildir_box *box, uint32_t uid)
{
    return change_one(box, uid, (struct wish){.expunge = true});
}

/* ---- several ---- */

static int writes_locked(struct maildir_box *box, const struct maildir_lock *lock,
                         struct maildir_write *writes, size_t count)
{
    const struct maildir_files *files = box->owner->files;
    int status = scan_locked(box, lock);
    for (size_t i = 0; i < count && status == 0; i++) {
        struct maildir_write *write = &writes[i];
        const struct wish wish = {.expunge = write->expunge,
                                  .merges = true,
                                  .before = write->before,
                                  .after = write->after};
        struct maildir_name is;
        write->status = change_locked(box, lock, write->uid, wish);
        const struct maildir_uid *uid = maildir_uidlist_find_uid(&box->list, write->uid);
        if (write->status != -ENOENT && !write->expunge && uid != NULL &&
            uid->presence == MAILDIR_PRESENT &&
            maildir_name_read(slice_text(uid->file), &is) == 0) {
            write->left = (struct maildir_state){.flags = is.flags, .keywords = is.keywords};
        }
    }
    return status == 0 ? files->sync(files->self, box->cur_folder) : status;
}

int maildir_box_write(struct maildir_box *box, struct maildir_write *writes, size_t count)
{
    struct maildir_lock lock = lock_of(box);
    int status = lock_take(box, &lock);
    if (status == 0) {
        status = writes_locked(box, &lock, writes, count);
        maildir_lock_release(&lock);
    }
    return status;
}

static int put_one(struct maildir_box *box, struct maildir_put *put)
{
    const struct maildir_files *files = box->owner->files;
    struct maildir_name parts;
    int status = maildir_name_read(slice_text(put->name), &parts);
    if (status == 0) {
        status =
            put->links
                ? files->link(files->self, put->from_at, put->from, box->cur_folder, put->name)
                : files->rename(files->self, put->from_at, put->from, box->cur_folder, put->name);
    }
    status = status < 0 ? status : maildir_uidlist_add(&box->list, parts.base);
    if (status < 0) {
        return status;
    }
    struct maildir_uid *uid = &box->list.uids[box->list.count - 1];
    put->uid = uid->uid;
    uid->scan = box->looks;
    uid->presence = MAILDIR_PRESENT;
    uid->file = name_keep(&box->names[box->scans & 1], slice_text(put->name));
    uid->in_new = false;
    return uid->file == NULL ? -ENOMEM : 0;
}

static int puts_locked(struct maildir_box *box, const struct maildir_lock *lock,
                       struct maildir_put *puts, size_t count)
{
    const struct maildir_files *files = box->owner->files;
    struct scan scan = {.box = box, .files = files};
    int status = scan_locked(box, lock);
    size_t first = box->list.count, done = 0;
    while (status == 0 && done < count) {
        status = put_one(box, &puts[done]);
        done += status == 0;
    }
    status = status == 0 ? files->sync(files->self, box->cur_folder) : status;
    status = status == 0 ? write_list(&scan, lock, first) : status;
    if (status < 0 && first < box->list.count) {
        box->list.count = first;
        maildir_uidlist_drop_gone(&box->list);
        box->list.must_rewrite = true;
    }
    /* A link more of what is elsewhere, or what was told to nobody. */
    for (size_t i = 0; i < done && status < 0; i++) {
        files->remove(files->self, box->cur_folder, puts[i].name);
    }
    return status;
}

int maildir_box_put(struct maildir_box *box, struct maildir_put *puts, size_t count)
{
    struct maildir_lock lock = lock_of(box);
    int status = lock_take(box, &lock);
    if (status == 0) {
        status = puts_locked(box, &lock, puts, count);
        maildir_lock_release(&lock);
    }
    return status;
}
