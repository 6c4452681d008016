/* The calls that change something: each says what is wanted in a record. */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

struct change *user_change(struct mailstore *store, const struct mailstore_user *user,
                           enum change_kind kind, void *result, struct mailstore_waiter *waiter)
{
    struct change *change = change_new(store, kind, result, waiter);
    if (change != NULL) {
        change_user(change, slice_text(user->name));
    }
    return change;
}

/* *change: of a box that is there. */
static int box_change(const struct mailstore_box *box, enum change_kind kind, void *result,
                      struct mailstore_waiter *waiter, struct change **change)
{
    if (box->state != MAILSTORE_BOX_LIVE) {
        return -ENOENT;
    }
    *change = user_change(box_private(box)->user->store, box->user, kind, result, waiter);
    if (*change == NULL) {
        return -ENOMEM;
    }
    write_u64(&(*change)->content, box->id);
    return 0;
}

static void ranges_say(struct change *change, const struct mailstore_uids *uids, uint32_t count)
{
    write_u32(&change->content, count);
    write_bytes(&change->content, uids, count * sizeof(uids[0]));
}

/* ── Entries ─────────────────────────────────────────────────────────────────────────────────── */

static bool keywords_are_good(const struct slice *keywords, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (keywords[i].size > UINT16_MAX) {
            return false;
        }
    }
    return count <= UINT16_MAX;
}

int mailstore_flags(struct mailstore *store, struct mailstore_box *box,
                    struct mailstore_flags *flags, struct mailstore_waiter *waiter)
{
    struct change *change;
    (void)store;
    flags->failed = NULL;
    flags->failed_count = 0;
    flags->modseq = 0;
    if (!keywords_are_good(flags->keywords, flags->keyword_count)) {
        return -EINVAL;
    }
    int status = box_change(box, CHANGE_FLAGS, flags, waiter, &change);
    if (status != 0) {
        return status;
    }
    bool keeps = flags->flags_kept != 0 || flags->keywords_kept;
    write_u8(&change->content, (uint8_t)(flags->op | (keeps ? FLAGS_KEEPS : 0)));
    if (keeps) {
        write_u8(&change->content, flags->flags_kept);
        write_u8(&change->content, flags->keywords_kept);
    }
    write_u8(&change->content, flags->flags);
    write_u64(&change->content, flags->unchanged_since);
    write_u16(&change->content, (uint16_t)flags->keyword_count);
    for (uint32_t i = 0; i < flags->keyword_count; i++) {
        write_text(&change->content, flags->keywords[i]);
    }
    ranges_say(change, flags->uids, flags->uid_count);
    return change_submit(change);
}

/* Who would copy or move them must know that they leave. */
static void leaving_say(struct change *change, uint64_t box, const struct mailstore_uids *uids,
                        uint32_t count)
{
    change->leaving = (struct mailstore_uids *)malloc(count * sizeof(uids[0]) + 1);
    if (change->leaving == NULL) {
        change->content.failed = true;
        return;
    }
    if (uids != NULL && count > 0) {
        memcpy(change->leaving, uids, count * sizeof(uids[0]));
        change->leaving_count = count;
    }
    change->box = box;
}

int mailstore_expunge(struct mailstore *store, struct mailstore_box *box,
                      struct mailstore_expunge *expunge, struct mailstore_waiter *waiter)
{
    struct change *change;
    expunge->expunged_count = 0;
    expunge->modseq = 0;
    expunge->gone = NULL;
    expunge->gone_count = 0;
    int status = box_change(box, CHANGE_EXPUNGE, expunge, waiter, &change);
    if (status != 0) {
        return status;
    }
    write_u8(&change->content, expunge->uids == NULL);
    write_u8(&change->content, expunge->deleted_only);
    write_u8(&change->content, store->settings.keep_expunged_s > 0 && !expunge->at_once);
    ranges_say(change, expunge->uids, expunge->uids == NULL ? 0 : expunge->uid_count);
    if (expunge->carried) {
        leaving_say(change, box->id, expunge->uids, expunge->uid_count);
    }
    return change_submit(change);
}

int mailstore_expunge_untold(struct mailstore *store, struct mailstore_box *box,
                             struct mailstore_expunge *expunge)
{
    int status = mailstore_expunge(store, box, expunge, NULL);
    if (status == 0) {
        struct list_node *last =
            !list_empty(&store->queue) ? store->queue.prev : store->flight.prev;
        list_entry(last, struct change, node)->asked.result =
            NULL; /* it is on the caller's stack */
    }
    return status;
}

int mailstore_restore(struct mailstore *store, struct mailstore_box *box,
                      struct mailstore_restore *restore, struct mailstore_waiter *waiter)
{
    struct change *change;
    restore->restored_count = restore->first = restore->last = 0;
    if (store->files != NULL) {
        return files_restore(box_private(box), restore, waiter);
    }
    int status = box_change(box, CHANGE_RESTORE, restore, waiter, &change);
    if (status != 0) {
        return status;
    }
    ranges_say(change, restore->uids, restore->uid_count);
    return change_submit(change);
}

/* ── Copy and move ───────────────────────────────────────────────────────────────────────────── */

/* The entries that are copied, and in copy->sources what they are. */
struct gathering {
    struct change *change;
    struct mailstore_copy *copy;
    struct writer entries, ranges;
    struct patch patch; /* only read */
    uint32_t count, range_count;
};

static int entry_gather(struct gathering *gathering, uint32_t uid)
{
    struct stored_entry *stored;
    struct mailstore_uids *last = (struct mailstore_uids *)(void *)gathering->ranges.bytes;
    int status = patch_find(&gathering->patch, uid, &stored);
    if (status != 0) {
        return status == -ENOENT ? -EIO : status;
    }
    struct stored_entry copied = *stored;
    copied.entry.flags &= ~(uint32_t)gathering->copy->flags_lost & MAILSTORE_FLAGS_ALL;
    copied.entry.keywords = gathering->copy->keywords_lost ? 0 : copied.entry.keywords;
    write_bytes(&gathering->entries, &copied, sizeof(copied));
    gathering->count++;
    if (last != NULL && last[gathering->range_count - 1].last + 1 == uid) {
        last[gathering->range_count - 1].last = uid;
    } else {
        struct mailstore_uids range = {uid, uid};
        write_bytes(&gathering->ranges, &range, sizeof(range));
        gathering->range_count++;
    }
    return gathering->entries.failed || gathering->ranges.failed ? -ENOMEM : 0;
}

static int entries_gather(struct gathering *gathering, struct box *box)
{
    const struct mailstore_copy *copy = gathering->copy;
    int status = 0;
    for (uint32_t i = 0; i < copy->uid_count && status == 0; i++) {
        uint32_t at = mailstore_entry_index(&box->pub, copy->uids[i].first);
        for (; at < box->pub.count && box->entries[at].uid <= copy->uids[i].last && status == 0;
             at++) {
            uint32_t uid = box->entries[at].uid;
            if (!changes_leave(box->user->store, box->pub.id, uid)) {
                status = entry_gather(gathering, uid);
            }
        }
    }
    return status;
}

static void copy_say(struct gathering *gathering, const struct box *box, bool moves, bool same_user)
{
    const struct mailstore_copy *copy = gathering->copy;
    struct writer *writer = &gathering->change->content;
    write_u8(writer, moves);
    write_u16(writer, same_user ? 0 : 1);
    write_u64(writer, box->pub.id);
    name_write(writer, copy->mailbox);
    write_u32(writer, copy->options);
    write_u64(writer, moves && same_user ? 0 : copy->quota_bytes);
    write_u64(writer, moves && same_user ? 0 : copy->quota_messages);
    write_u16(writer, (uint16_t)box->pub.keyword_count);
    for (uint32_t i = 0; i < box->pub.keyword_count; i++) {
        write_text(writer, slice_text(box->keywords[i]));
    }
    write_u32(writer, gathering->count);
    write_bytes(writer, gathering->entries.bytes, gathering->entries.size);
}

static int gathered_submit(struct gathering *gathering, struct box *box, bool moves)
{
    struct change *change = gathering->change;
    struct mailstore_copy *copy = gathering->copy;
    if (moves) {
        leaving_say(change, box->pub.id, (struct mailstore_uids *)(void *)gathering->ranges.bytes,
                    gathering->range_count);
    }
    change->copies = true;
    change->store->copies++;
    int status = change_submit(change);
    if (status == 0) {
        copy->sources = (struct mailstore_uids *)(void *)gathering->ranges.bytes;
        copy->source_count = gathering->range_count;
        gathering->ranges = (struct writer){0};
    }
    return status;
}

static int copy_or_move(struct mailstore_box *pub, struct mailstore_copy *copy, bool moves,
                        struct mailstore_waiter *waiter)
{
    struct box *box = box_private(pub);
    struct mailstore *store = box->user->store;
    struct slice own = slice_text(box->user->name);
    struct slice target = copy->user.size > 0 ? copy->user : own;
    copy->sources = NULL;
    copy->source_count = copy->target_first = copy->target_last = 0;
    if (pub->state != MAILSTORE_BOX_LIVE) {
        return -ENOENT;
    }
    if (target.size > MAILSTORE_USER_BYTES_MAX ||
        (copy->mailbox.size > 0 && !name_is_good(copy->mailbox))) {
        return -EINVAL;
    }
    if (store->files != NULL) {
        return files_copy(box, copy, moves, waiter);
    }
    check(box->loaded);
    struct gathering *gathering = (struct gathering *)calloc(1, sizeof(*gathering));
    struct change *change = gathering != NULL ? change_new(store, CHANGE_COPY, copy, waiter) : NULL;
    int status = -ENOMEM;
    if (change != NULL) {
        *gathering = (struct gathering){.change = change, .copy = copy};
        gathering->patch.store = store;
        gathering->patch.box = box;
        change_user(change, target);
        if (!slice_equal(target, own)) {
            change_user(change, own);
        }
        status = entries_gather(gathering, box);
        copy_say(gathering, box, moves, slice_equal(target, own));
        change->content.failed |= status != 0;
        int submitted = gathered_submit(gathering, box, moves);
        status = status != 0 ? status : submitted;
        writer_free(&gathering->entries);
        writer_free(&gathering->ranges);
    }
    free(gathering);
    return status;
}

int mailstore_copy(struct mailstore *store, struct mailstore_box *box, struct mailstore_copy *copy,
                   struct mailstore_waiter *waiter)
{
    (void)store;
    return copy_or_move(box, copy, false, waiter);
}

int mailstore_move(struct mailstore *store, struct mailstore_box *box, struct mailstore_copy *copy,
                   struct mailstore_waiter *waiter)
{
    (void)store;
    return copy_or_move(box, copy, true, waiter);
}

/* ── Mailboxes ───────────────────────────────────────────────────────────────────────────────── */

int mailstore_box_create(struct mailstore *store, struct mailstore_user *user,
                         struct mailstore_create *create, struct mailstore_waiter *waiter)
{
    if (!name_is_good(create->mailbox)) {
        return -EINVAL;
    }
    if (mailstore_box_find(user, create->mailbox) != NULL) {
        return -EEXIST;
    }
    if (store->files != NULL) {
        return files_create(user_private(user), create, waiter);
    }
    struct change *change = user_change(store, user, CHANGE_CREATE, create, waiter);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u32(&change->content, create->special_use);
    write_u8(&change->content, create->subscribe);
    name_write(&change->content, create->mailbox);
    return change_submit(change);
}

int mailstore_box_delete(struct mailstore *store, struct mailstore_box *box,
                         struct mailstore_waiter *waiter)
{
    struct change *change;
    if (store->files != NULL) {
        return files_delete(box_private(box), waiter);
    }
    int status = box_change(box, CHANGE_DELETE, NULL, waiter, &change);
    return status == 0 ? change_submit(change) : status;
}

int mailstore_box_rename(struct mailstore *store, struct mailstore_box *box, struct slice name,
                         struct mailstore_waiter *waiter)
{
    struct change *change;
    if (!name_is_good(name)) {
        return -EINVAL;
    }
    if (mailstore_box_find(box->user, name) != NULL) {
        return -EEXIST;
    }
    if (store->files != NULL) {
        return files_rename(box_private(box)->user, box_private(box), box->name, name, waiter);
    }
    int status = box_change(box, CHANGE_RENAME, NULL, waiter, &change);
    if (status != 0) {
        return status;
    }
    name_write(&change->content, name);
    return change_submit(change);
}

int mailstore_names_rename(struct mailstore *store, struct mailstore_user *user, struct slice from,
                           struct slice name, struct mailstore_waiter *waiter)
{
    if (!name_is_good(name) || !name_is_good(from)) {
        return -EINVAL;
    }
    if (mailstore_box_find(user, name) != NULL) {
        return -EEXIST;
    }
    if (store->files != NULL) {
        return files_rename(user_private(user), NULL, from, name, waiter);
    }
    struct change *change = user_change(store, user, CHANGE_RENAME, NULL, waiter);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u64(&change->content, 0);
    name_write(&change->content, name);
    name_write(&change->content, from);
    return change_submit(change);
}

int mailstore_box_special_use(struct mailstore *store, struct mailstore_box *box,
                              uint32_t special_use, struct mailstore_waiter *waiter)
{
    struct change *change;
    (void)store;
    int status = box_change(box, CHANGE_SPECIAL_USE, NULL, waiter, &change);
    if (status != 0) {
        return status;
    }
    write_u32(&change->content, special_use);
    return change_submit(change);
}

int mailstore_subscribe(struct mailstore *store, struct mailstore_user *user, struct slice name,
                        bool subscribed, struct mailstore_waiter *waiter)
{
    if (!name_is_good(name)) {
        return -EINVAL;
    }
    if (store->files != NULL) {
        char text[MAILSTORE_NAME_BYTES_MAX];
        return files_subscribe(user_private(user), name_canonical(name, text), subscribed, waiter);
    }
    struct change *change = user_change(store, user, CHANGE_SUBSCRIBE, NULL, waiter);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u8(&change->content, subscribed);
    name_write(&change->content, name);
    return change_submit(change);
}

int mailstore_user_delete(struct mailstore *store, struct mailstore_user *user,
                          struct mailstore_waiter *waiter)
{
    if (store->files != NULL) {
        return -EOPNOTSUPP; /* the next look at his Maildir would bring it back */
    }
    struct change *change = user_change(store, user, CHANGE_USER_DELETE, NULL, waiter);
    return change != NULL ? change_submit(change) : -ENOMEM;
}

int mailstore_purge(struct mailstore *store, struct box *box, uint32_t until_s)
{
    struct change *change;
    (void)store;
    int status = box_change(&box->pub, CHANGE_PURGE, NULL, NULL, &change);
    if (status != 0) {
        return status;
    }
    write_u32(&change->content, until_s);
    return change_submit(change);
}
