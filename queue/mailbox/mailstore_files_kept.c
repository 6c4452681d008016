/*
 * What is kept after expunge, of Maildirs. That it is kept is said in the log; its file is a link below the id of its text
 * (maildir_home_kept.c), made when the expunge is written there. What comes back is a new message to the log, as if others
 * had put it there, and then what was kept of it goes.
 */
#include "queue/mailbox/mailstore_files.h"
#include <stdio.h>
#include <stdlib.h>

void files_tidy(struct user *user)
{
    struct mirror *mirror = user->store->files != NULL ? mirror_get(user) : NULL;
    if (mirror != NULL) {
        mirror->tidies = true;
        mirror_poke(mirror);
    }
}

/* ── What is kept ────────────────────────────────────────────────────────────────────────────── */

static int by_id(const void *left, const void *right)
{
    uint64_t one = *(const uint64_t *)left, other = *(const uint64_t *)right;
    return one < other ? -1 : one > other;
}

static int id_add(struct op *op, size_t *room, uint64_t id)
{
    if (op->kept_count == *room) {
        *room = *room * 2 + 64;
        uint64_t *grown = realloc(op->kept, *room * sizeof grown[0]);
        if (grown == NULL) {
            return -ENOMEM;
        }
        op->kept = grown;
    }
    op->kept[op->kept_count++] = id;
    return 0;
}

int op_tidy_prepare(struct op *op)
{
    const struct user *user = op->mirror->user;
    struct key prefix;
    struct index_walk walk;
    size_t room = op->kept_count;
    int status = 0;
    op->kept_count = 0; /* of an earlier asking: since then more can be kept */
    key_begin(&prefix, ROW_KEPT);
    key_u64(&prefix, user->pub.id);
    bool more = index_walk_begin(user->store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    for (; more && status == 0; more = index_walk_next(&walk)) {
        struct stored_entry stored = {0};
        if (walk.value.size == sizeof stored) {
            memcpy(&stored, walk.value.bytes, sizeof stored);
            status = id_add(op, &room, stored.entry.text);
        }
    }
    index_walk_end(&walk);
    status = status == 0 ? walk.status : status;
    if (status == 0 && op->kept_count > 1) {
        qsort(op->kept, op->kept_count, sizeof op->kept[0], by_id);
    }
    return status;
}

/* ── What comes back ─────────────────────────────────────────────────────────────────────────── */

static int kept_add(struct op *op, size_t *room, const struct mailstore_entry *entry)
{
    struct home_restore *restore = &op->restore;
    struct home_kept *entries = (struct home_kept *)(uintptr_t)restore->entries;
    if (restore->count == *room) {
        *room = *room * 2 + 64;
        struct home_kept *grown = realloc(entries, *room * sizeof grown[0]);
        if (grown == NULL) {
            return -ENOMEM;
        }
        restore->entries = entries = grown;
    }
    entries[restore->count++] = (struct home_kept){
        .kept = entry->text,
        .uid = entry->uid,
        .bytes = entry->bytes,
        .flags = (uint8_t)(entry->flags & ~(unsigned)MAILSTORE_DELETED & MAILSTORE_FLAGS_ALL),
        .keywords = entry->keywords};
    return 0;
}

static int by_uid(const void *left, const void *right)
{
    const struct home_kept *one = left, *other = right;
    return one->uid < other->uid ? -1 : one->uid > other->uid;
}

/* In the order in which they came: their new uids are in it, too. */
int op_restore_prepare(struct op *op)
{
    struct home_restore *restore = &op->restore;
    struct box *box = user_box_by_id(op->mirror->user, op->box);
    struct key prefix;
    struct index_walk walk;
    size_t room = 0;
    int status = 0;
    if (box == NULL) {
        return -ENOENT;
    }
    snprintf(op->mailbox, sizeof op->mailbox, "%s", box->name);
    restore->mailbox = op->mailbox;
    restore->uidvalidity = box->pub.uidvalidity;
    restore->names = calloc(box->pub.keyword_count + 1, sizeof restore->names[0]);
    restore->name_count = restore->names != NULL ? box->pub.keyword_count : 0;
    for (uint32_t i = 0; i < restore->name_count; i++) {
        snprintf(restore->names[i], sizeof restore->names[i], "%s", box->keywords[i]);
    }
    kept_key(&prefix, box);
    bool more =
        index_walk_begin(box->user->store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    for (; more && status == 0; more = index_walk_next(&walk)) {
        struct stored_entry stored = {0};
        memcpy(&stored, walk.value.bytes, walk.value.size == sizeof stored ? sizeof stored : 0);
        status = uids_have(op->uids, op->uid_count, stored.entry.uid)
                     ? kept_add(op, &room, &stored.entry)
                     : 0;
    }
    index_walk_end(&walk);
    status = status == 0 ? walk.status : status;
    restore->restored = malloc((restore->count + 1) * sizeof restore->restored[0]);
    if (restore->names == NULL || restore->restored == NULL) {
        status = -ENOMEM;
    }
    if (restore->count > 1) {
        qsort((void *)(uintptr_t)restore->entries, restore->count, sizeof restore->entries[0],
              by_uid);
    }
    return status;
}

void op_kept_free(struct op *op)
{
    free(op->kept);
    free(op->uids);
    free((void *)(uintptr_t)op->restore.entries);
    free(op->restore.names);
    free(op->restore.restored);
}

int files_restore(struct box *box, struct mailstore_restore *restore,
                  struct mailstore_waiter *waiter)
{
    struct mailstore *store = box->user->store;
    if (store->sick != 0 || box->pub.state != MAILSTORE_BOX_LIVE) {
        return store->sick != 0 ? store->sick : -ENOENT;
    }
    struct op *op = op_new(box->user, OP_RESTORE, waiter, restore);
    if (op == NULL) {
        return -ENOMEM;
    }
    op->box = box->pub.id;
    op->uids = malloc((restore->uid_count + 1) * sizeof op->uids[0]);
    if (op->uids == NULL) {
        op_free(op);
        return -ENOMEM;
    }
    memcpy(op->uids, restore->uids, restore->uid_count * sizeof op->uids[0]);
    op->uid_count = restore->uid_count;
    op_queue(op);
    return 0;
}

/* They are there; that they were kept is over. */
int restore_end(struct op *op)
{
    struct mailstore_restore *result = op->asked.result;
    const struct home_restore *restore = &op->restore;
    const struct box *box = user_box_by_id(op->mirror->user, op->box);
    if (op->status != 0 || box == NULL || restore->restored_count == 0) {
        return op->status != 0 ? op->status : box == NULL ? -ENOENT : 0;
    }
    if (result != NULL) {
        result->restored_count = (uint32_t)restore->restored_count;
        result->first = restore->first;
        result->last = restore->first + (uint32_t)restore->restored_count - 1;
    }
    struct change *change =
        user_change(box->user->store, &box->user->pub, CHANGE_UNKEEP, NULL, &op->durable);
    if (change == NULL) {
        return -ENOMEM;
    }
    op->ending = true;
    write_u64(&change->content, box->pub.id);
    write_u32(&change->content, (uint32_t)restore->restored_count);
    for (size_t i = 0; i < restore->restored_count; i++) {
        write_u32(&change->content, restore->restored[i]);
        write_u32(&change->content, restore->restored[i]);
    }
    int status = change_submit(change);
    return status == 0 ? -EINPROGRESS : status;
}
