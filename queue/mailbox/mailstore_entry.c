/*
 * The entries of a mailbox: in rows of ENTRIES_EACH uids, and all of them in memory while it is loaded. The rows are what
 * counts; what is in memory follows them.
 */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define LOAD_ROWS                                                                                  \
    512u /* read at a time, 16,384 entries: a million at once would take 30 ms and more */

static void entries_key(struct key *key, uint64_t box)
{
    key_begin(key, ROW_ENTRIES);
    key_u64(key, box);
}

/* ── Loading ─────────────────────────────────────────────────────────────────────────────────── */

static int entries_room(struct box *box, uint32_t more)
{
    if (box->pub.count + more <= box->room) {
        return 0;
    }
    uint32_t room = box->pub.count + more;
    room += room / 8 + 8;
    struct mailstore_entry *grown =
        (struct mailstore_entry *)realloc(box->entries, (size_t)room * sizeof(grown[0]));
    if (grown == NULL) {
        return -ENOMEM;
    }
    box->user->store->counters.memory_bytes += (uint64_t)(room - box->room) * sizeof(grown[0]);
    box->entries = grown;
    box->pub.entries = grown;
    box->room = room;
    return 0;
}

/* Whose uids are behind those that are there: a row may have grown since it was read. */
static void row_take(struct box *box, struct slice value)
{
    uint32_t last = box->loading_count > 0 ? box->entries[box->loading_count - 1].uid : 0;
    for (size_t at = 0; at + sizeof(struct stored_entry) <= value.size;
         at += sizeof(struct stored_entry)) {
        struct mailstore_entry entry;
        memcpy(&entry, value.bytes + at, sizeof(entry));
        if (entry.uid > last && box->loading_count < box->pub.count) {
            box->entries[box->loading_count++] = entry;
            last = entry.uid;
        }
    }
}

/* From the last row that was read on. 0: there are no more; -EINPROGRESS; -EIO. */
static int rows_take(struct mailstore *store, struct box *box)
{
    struct key prefix, from;
    struct index_walk walk;
    entries_key(&prefix, box->pub.id);
    from = prefix;
    key_u32(&from, box->loading_row);
    bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), key_slice(&from));
    for (uint32_t i = 0; more && i < LOAD_ROWS; i++) {
        row_take(box, walk.value);
        box->loading_row = key_read_u32(walk.key, prefix.size);
        more = index_walk_next(&walk);
    }
    int status = walk.status;
    index_walk_end(&walk);
    return status != 0 ? -EIO : more ? -EINPROGRESS : 0;
}

int box_load_some(struct mailstore *store, struct box *box)
{
    if (box->loaded) {
        return 0;
    }
    int status = entries_room(box, 1);
    if (status != 0) {
        return status;
    }
    status = rows_take(store, box);
    if (status == -EINPROGRESS) {
        return status;
    }
    if (status != 0 || box->loading_count != box->pub.count) {
        box_unload(box);
        return -EIO;
    }
    box->loaded = true;
    store->counters.boxes_loaded++;
    return 0;
}

void box_unload(struct box *box)
{
    struct mailstore *store = box->user->store;
    store->counters.memory_bytes -= (uint64_t)box->room * sizeof(box->entries[0]);
    store->counters.boxes_loaded -= box->loaded && store->counters.boxes_loaded > 0;
    free(box->entries);
    box->entries = NULL;
    box->pub.entries = NULL;
    box->room = 0;
    box->loading_count = box->loading_row = 0;
    box->loaded = false;
}

/* ── One row ─────────────────────────────────────────────────────────────────────────────────── */

static int patch_load(struct patch *patch, uint32_t number)
{
    struct key key;
    struct slice value;
    entries_key(&key, patch->box->pub.id);
    key_u32(&key, number);
    int status = index_get(patch->store->index, key_slice(&key), &value);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    patch->number = number + 1;
    patch->count = 0;
    patch->changed = false;
    if (status == 0) {
        if (value.size > sizeof(patch->entries) || value.size % sizeof(patch->entries[0]) != 0) {
            return -EIO;
        }
        memcpy(patch->entries, value.bytes, value.size);
        patch->count = (uint32_t)(value.size / sizeof(patch->entries[0]));
    }
    return 0;
}

int patch_end(struct patch *patch)
{
    if (patch->number == 0 || !patch->changed) {
        patch->number = 0;
        return 0;
    }
    struct key key;
    entries_key(&key, patch->box->pub.id);
    key_u32(&key, patch->number - 1);
    patch->number = 0;
    if (patch->count == 0) {
        return index_remove(patch->store->index, key_slice(&key));
    }
    return index_put(patch->store->index, key_slice(&key),
                     slice_of(patch->entries, patch->count * sizeof(patch->entries[0])));
}

static int patch_go(struct patch *patch, uint32_t uid)
{
    if (patch->number == uid / ENTRIES_EACH + 1) {
        return 0;
    }
    int status = patch_end(patch);
    return status == 0 ? patch_load(patch, uid / ENTRIES_EACH) : status;
}

int patch_find(struct patch *patch, uint32_t uid, struct stored_entry **stored)
{
    int status = patch_go(patch, uid);
    for (uint32_t i = 0; status == 0 && i < patch->count; i++) {
        if (patch->entries[i].entry.uid == uid) {
            *stored = &patch->entries[i];
            return 0;
        }
    }
    return status != 0 ? status : -ENOENT;
}

void patch_remove(struct patch *patch, struct stored_entry *stored)
{
    size_t behind = (size_t)(patch->entries + patch->count - stored) - 1;
    memmove(stored, stored + 1, behind * sizeof(*stored));
    patch->count--;
    patch->changed = true;
}

/* ── Entries ─────────────────────────────────────────────────────────────────────────────────── */

void box_count_add(struct box *box, const struct mailstore_entry *entry, int sign)
{
    struct mailstore_totals *totals = &box->user->pub.totals;
    uint32_t by = (uint32_t)sign;
    uint64_t bytes = (uint64_t)(int64_t)sign * entry->bytes;
    box->pub.count += by;
    box->pub.unseen_count += entry->flags & MAILSTORE_SEEN ? 0 : by;
    box->pub.deleted_count += entry->flags & MAILSTORE_DELETED ? by : 0;
    box->pub.deleted_bytes += entry->flags & MAILSTORE_DELETED ? bytes : 0;
    box->pub.bytes += bytes;
    totals->bytes += bytes;
    totals->messages += (uint64_t)(int64_t)sign;
}

/* Its uid is above all that there are. */
int entry_add(struct mailstore *store, struct box *box, const struct stored_entry *stored)
{
    struct patch patch = {.store = store, .box = box};
    int status = box->loaded ? entries_room(box, 1) : 0;
    status = status == 0 ? patch_go(&patch, stored->entry.uid) : status;
    if (status != 0) {
        return status;
    }
    check(patch.count < ENTRIES_EACH);
    patch.entries[patch.count++] = *stored;
    patch.changed = true;
    if (box->loaded) {
        box->entries[box->pub.count] = stored->entry;
    }
    box_count_add(box, &stored->entry, 1);
    return patch_end(&patch);
}

int entry_stored(struct mailstore *store, const struct box *box, uint32_t uid,
                 struct stored_entry *stored)
{
    struct key key;
    struct slice value;
    entries_key(&key, box->pub.id);
    key_u32(&key, uid / ENTRIES_EACH);
    int status = index_get(store->index, key_slice(&key), &value);
    for (size_t at = 0; status == 0 && at + sizeof(*stored) <= value.size; at += sizeof(*stored)) {
        memcpy(stored, value.bytes + at, sizeof(*stored));
        if (stored->entry.uid == uid) {
            return 0;
        }
    }
    return status != 0 ? status : -ENOENT;
}

uint32_t mailstore_entry_index(const struct mailstore_box *box, uint32_t uid)
{
    uint32_t low = 0, high = box->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (box->entries[middle].uid < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct mailstore_entry *mailstore_entry_find(const struct mailstore_box *box, uint32_t uid)
{
    uint32_t index = mailstore_entry_index(box, uid);
    return index < box->count && box->entries[index].uid == uid ? &box->entries[index] : NULL;
}

/* ── What is gone ────────────────────────────────────────────────────────────────────────────── */

static void vanished_key(struct key *key, uint64_t box)
{
    key_begin(key, ROW_VANISHED);
    key_u64(key, box);
}

int entries_vanish(struct mailstore *store, struct box *box, uint64_t modseq,
                   const struct mailstore_uids *range)
{
    struct key key;
    vanished_key(&key, box->pub.id);
    key_u64(&key, modseq);
    key_u32(&key, range->first);
    box->vanished_count++;
    return index_put(store->index, key_slice(&key), slice_of(&range->last, sizeof(range->last)));
}

/* An eighth of them goes at a time. */
int vanished_trim(struct mailstore *store, struct box *box)
{
    if (box->vanished_count <= VANISHED_MAX) {
        return 0;
    }
    struct key prefix, found;
    struct index_walk walk;
    int status = 0;
    vanished_key(&prefix, box->pub.id);
    while (status == 0 && box->vanished_count > VANISHED_MAX - VANISHED_MAX / 8) {
        bool is = index_walk_begin(store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
        found.size = 0;
        if (is) {
            key_text(&found, walk.key);
        }
        status = walk.status;
        index_walk_end(&walk);
        if (!is || status != 0) {
            break;
        }
        box->pub.modseq_floor = key_read_u64(key_slice(&found), 9);
        box->vanished_count--;
        status = index_remove(store->index, key_slice(&found));
    }
    return status;
}

static int by_first(const void *left, const void *right)
{
    const struct mailstore_uids *a = (const struct mailstore_uids *)left;
    const struct mailstore_uids *b = (const struct mailstore_uids *)right;
    return a->first < b->first ? -1 : a->first > b->first;
}

static void ranges_tell(struct mailstore_uids *ranges, uint32_t count,
                        void (*visit)(void *owner, uint32_t first, uint32_t last), void *owner)
{
    if (count > 1) {
        qsort(ranges, count, sizeof(ranges[0]), by_first);
    }
    for (uint32_t i = 0; i < count;) {
        struct mailstore_uids range = ranges[i++];
        while (i < count && ranges[i].first <= (uint64_t)range.last + 1) {
            range.last = ranges[i].last > range.last ? ranges[i].last : range.last;
            i++;
        }
        visit(owner, range.first, range.last);
    }
}

int mailstore_vanished(const struct mailstore_box *pub, uint64_t since,
                       void (*visit)(void *owner, uint32_t first, uint32_t last), void *owner)
{
    const struct box *box = box_private(pub);
    struct mailstore *store = box->user->store;
    if (since < pub->modseq_floor) {
        return -ESTALE;
    }
    struct mailstore_uids *ranges =
        (struct mailstore_uids *)malloc((box->vanished_count + 1) * sizeof(ranges[0]));
    if (ranges == NULL) {
        return -ENOMEM;
    }
    struct key prefix, from;
    struct index_walk walk;
    uint32_t count = 0;
    vanished_key(&prefix, pub->id);
    from = prefix;
    key_u64(&from, since + 1);
    bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), key_slice(&from));
    for (; more && count < box->vanished_count; more = index_walk_next(&walk)) {
        uint32_t last = 0;
        memcpy(&last, walk.value.bytes, walk.value.size == sizeof(last) ? sizeof(last) : 0);
        ranges[count++] = (struct mailstore_uids){key_read_u32(walk.key, 17), last};
    }
    int status = walk.status;
    index_walk_end(&walk);
    if (status == 0) {
        ranges_tell(ranges, count, visit, owner);
    }
    free(ranges);
    return status;
}

int mailstore_expunged(struct mailstore *store, struct mailstore_box *pub,
                       void (*visit)(void *owner, const struct mailstore_entry *entry), void *owner)
{
    struct key prefix;
    struct index_walk walk;
    kept_key(&prefix, box_private(pub));
    bool more = index_walk_begin(store->index, &walk, key_slice(&prefix), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        struct stored_entry stored = {0};
        memcpy(&stored, walk.value.bytes,
               walk.value.size < sizeof(stored) ? walk.value.size : sizeof(stored));
        visit(owner, &stored.entry);
    }
    index_walk_end(&walk);
    return walk.status;
}
