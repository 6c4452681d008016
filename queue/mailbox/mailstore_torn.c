/*
 * Power is lost while several writes are under way: of a delivery the record may have come to the device and a part of the
 * text not. Nobody was told of it. It is done again like all others, since what follows it was done after it, and then
 * expunged, by a change of its own, before anybody can see it: whoever reads the log again comes to the same.
 */
#include "queue/mailbox/mailstore_private.h"
#include <sched.h>
#include <stdlib.h>

#define TURNS_MAX 1000000u

/* Room for one more. */
static void *grow(struct torn *torn, void *list, size_t count, size_t *room, size_t each)
{
    if (count < *room) {
        return list;
    }
    void *grown = realloc(list, (*room * 2 + 64) * each);
    if (grown == NULL) {
        torn->failed = true;
        return list;
    }
    *room = *room * 2 + 64;
    return grown;
}

void torn_chunk(struct torn *torn, uint64_t lsn)
{
    if (lsn <= torn->from) {
        return;
    }
    torn->chunks = (uint64_t *)grow(torn, torn->chunks, torn->chunk_count, &torn->chunk_room,
                                    sizeof(torn->chunks[0]));
    if (!torn->failed) {
        torn->chunks[torn->chunk_count++] = lsn;
    }
}

void torn_damaged(struct torn *torn, uint64_t lsn, uint64_t bytes)
{
    torn->damaged = (struct damaged *)grow(torn, torn->damaged, torn->damaged_count,
                                           &torn->damaged_room, sizeof(torn->damaged[0]));
    if (!torn->failed) {
        torn->damaged[torn->damaged_count++] = (struct damaged){.lsn = lsn, .bytes = bytes};
    }
}

void torn_add(struct torn *torn, struct torn_entry entry)
{
    torn->entries = (struct torn_entry *)grow(torn, torn->entries, torn->entry_count,
                                              &torn->entry_room, sizeof(entry));
    if (!torn->failed) {
        torn->entries[torn->entry_count++] = entry;
    }
}

void torn_free(struct torn *torn)
{
    free(torn->chunks);
    free(torn->damaged);
    free(torn->entries);
    *torn = (struct torn){0};
}

static int by_lsn(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* There, or copied from there. */
static bool is_found(const struct torn *torn, const struct text_row *row,
                     const struct text_extent *extent)
{
    if (extent->lsn <= torn->from) {
        return true;
    }
    if (torn->chunk_count > 0 && bsearch(&extent->lsn, torn->chunks, torn->chunk_count,
                                         sizeof(torn->chunks[0]), by_lsn) != NULL) {
        return true;
    }
    for (uint32_t i = 0; row != NULL && i < row->extent_count; i++) {
        if (row->extents[i].offset <= extent->offset &&
            row->extents[i].offset + row->extents[i].length > extent->offset) {
            return true;
        }
    }
    return false;
}

uint64_t torn_missing(struct mailstore *store, uint64_t text, const struct text_extent *extents,
                      uint32_t count)
{
    struct text_row *row = NULL;
    if (store->rebuilds && text_get(store, text, &row) != 0) {
        row = NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!is_found(store->torn, row, &extents[i])) {
            return extents[i].lsn;
        }
    }
    return 0;
}

static bool is_damaged(const struct torn *torn, uint64_t lsn)
{
    for (size_t i = 0; i < torn->damaged_count; i++) {
        if (lsn - torn->damaged[i].lsn < torn->damaged[i].bytes) {
            return true;
        }
    }
    return false;
}

static int entry_expunge(struct mailstore *store, const struct torn_entry *entry)
{
    struct user *user;
    struct stored_entry stored;
    if (is_damaged(store->torn, entry->missing) ||
        log_segment_live(store->log, log_lsn_sequence(entry->missing)) == NULL) {
        return 0;
    }
    int status = user_get_by_id(store, entry->user, &user);
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    struct box *box = user_box_by_id(user, entry->box);
    if (box != NULL && entry_stored(store, box, entry->uid, &stored) == 0) {
        struct mailstore_uids uids = {entry->uid, entry->uid};
        struct mailstore_expunge expunge = {.uids = &uids, .uid_count = 1, .at_once = true};
        status = mailstore_expunge_untold(store, &box->pub, &expunge);
    }
    user_drop(user);
    return status == -ENOMEM ? status : 0; /* on a full disk it is for the next start */
}

int torn_expunge(struct mailstore *store)
{
    const struct torn *torn = store->torn;
    struct disk *disk = log_settings_of(store->log)->disk;
    int status = 0;
    for (size_t i = 0; i < torn->entry_count && status == 0; i++) {
        status = entry_expunge(store, &torn->entries[i]);
    }
    for (uint32_t turn = 0; turn < TURNS_MAX; turn++) {
        bool done =
            list_empty(&store->queue) && list_empty(&store->flight) && list_empty(&store->durable);
        if (done || store->sick != 0 || log_is_broken(store->log)) {
            break; /* broken: they are done when the log runs again, or by the next start */
        }
        changes_round(store);
        log_round(store->log, 0);
        log_flush(store->log);
        disk->ops->submit(disk);
        if (disk->ops->reap(disk) == 0) {
            sched_yield();
        }
    }
    return status == 0 ? store->sick : status;
}
