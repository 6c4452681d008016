/* What changes do to the entries of a mailbox. */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

int box_need_some(struct box *box)
{
    struct mailstore *store = box->user->store;
    int status = box_load_some(store, box);
    box->loads = status == -EINPROGRESS;
    if ((status == 0 || status == -EINPROGRESS) && box->pub.open_count == 0) {
        store->idle_box_count += list_empty(&box->idle);
        list_remove(&box->idle);
        list_append(&store->idle_boxes, &box->idle);
    }
    return status;
}

int box_need(struct box *box)
{
    int status;
    do {
        status = box_need_some(box);
    } while (status == -EINPROGRESS);
    return status;
}

/* A piece of it is a step of the change, which has done nothing yet. */
int box_need_step(struct box *box, struct change_steps *steps)
{
    int status = box_need_some(box);
    steps->cost += status == -EINPROGRESS ? STEP_ENTRIES : 0;
    return status;
}

uint64_t keywords_read(struct box *box, struct reader *body)
{
    uint64_t bits = 0;
    for (uint32_t i = 0, count = read_u16(body); i < count && !body->bad; i++) {
        int bit = box_keyword_bit(box, read_text(body), true);
        bits |= bit >= 0 ? 1ull << bit : 0;
    }
    return bits;
}

/* Ranges, of the heap. NULL: no memory, or bad. */
static struct mailstore_uids *ranges_read(struct reader *body, uint32_t *count)
{
    *count = read_u32(body);
    struct slice bytes = read_bytes(body, (size_t)*count * sizeof(struct mailstore_uids));
    struct mailstore_uids *ranges = (struct mailstore_uids *)malloc(bytes.size + 1);
    if (ranges != NULL) {
        memcpy(ranges, bytes.bytes, bytes.size);
        *count = (uint32_t)(bytes.size / sizeof(ranges[0]));
    }
    return ranges;
}

/* ── Flags ───────────────────────────────────────────────────────────────────────────────────── */

struct flagging {
    enum mailstore_flags_op op;
    uint8_t flags, flags_kept;
    bool keywords_kept;
    uint64_t unchanged_since, keywords;
    uint64_t modseq;
    struct writer failed; /* struct mailstore_uids */
    uint32_t failed_count, changed_count;
};

static void failed_add(struct flagging *flagging, uint32_t uid)
{
    struct mailstore_uids range = {uid, uid};
    if (flagging->failed_count > 0 && !flagging->failed.failed) {
        struct mailstore_uids *last =
            (struct mailstore_uids *)(void *)(flagging->failed.bytes + flagging->failed.size) - 1;
        if (last->last + 1 == uid) {
            last->last = uid;
            return;
        }
    }
    write_bytes(&flagging->failed, &range, sizeof(range));
    flagging->failed_count++;
}

static int entry_flag(struct box *box, struct flagging *flagging, struct patch *patch,
                      struct mailstore_entry *entry)
{
    if (entry->modseq > flagging->unchanged_since) {
        failed_add(flagging, entry->uid);
        return 0;
    }
    uint8_t flags = flagging->flags;
    uint64_t keywords = flagging->keywords;
    switch (flagging->op) {
    case MAILSTORE_ADD:
        flags = (uint8_t)(entry->flags | flags);
        keywords |= entry->keywords;
        break;
    case MAILSTORE_REMOVE:
        flags = (uint8_t)(entry->flags & ~flags);
        keywords = entry->keywords & ~keywords;
        break;
    case MAILSTORE_REPLACE:
        flags = (uint8_t)((flags & ~flagging->flags_kept) | (entry->flags & flagging->flags_kept));
        keywords = flagging->keywords_kept ? entry->keywords : keywords;
        break;
    }
    if (flags == entry->flags && keywords == entry->keywords) {
        return 0;
    }
    struct stored_entry *stored;
    int status = patch_find(patch, entry->uid, &stored);
    if (status != 0) {
        return -EIO;
    }
    status = write_note(box, entry, false);
    if (status != 0) {
        return status;
    }
    box_count_add(box, entry, -1);
    entry->flags = flags;
    entry->keywords = keywords;
    entry->modseq = flagging->modseq & ((1ull << 44) - 1);
    box_count_add(box, entry, 1);
    stored->entry = *entry;
    patch->changed = true;
    flagging->changed_count++;
    return 0;
}

static int entries_flag(struct box *box, struct flagging *flagging,
                        const struct mailstore_uids *ranges, uint32_t count)
{
    struct patch patch = {.store = box->user->store, .box = box};
    int status = 0;
    flagging->modseq = box->pub.modseq + 1;
    for (uint32_t i = 0; i < count && status == 0; i++) {
        uint32_t at = mailstore_entry_index(&box->pub, ranges[i].first);
        for (; at < box->pub.count && box->entries[at].uid <= ranges[i].last && status == 0; at++) {
            status = entry_flag(box, flagging, &patch, &box->entries[at]);
        }
    }
    status = status == 0 ? patch_end(&patch) : status;
    if (flagging->changed_count > 0) {
        box->pub.modseq_flags = ++box->pub.modseq;
    }
    return flagging->failed.failed ? -ENOMEM : status;
}

int apply_flags(struct box *box, const struct change_said *said, struct reader *body)
{
    struct mailstore_flags *result = (struct mailstore_flags *)said->result;
    struct flagging flagging = {0};
    uint32_t count;
    uint8_t op = read_u8(body);
    flagging.op = (enum mailstore_flags_op)(op & ~FLAGS_KEEPS);
    if (op & FLAGS_KEEPS) {
        flagging.flags_kept = read_u8(body);
        flagging.keywords_kept = read_u8(body);
    }
    flagging.flags = read_u8(body) & MAILSTORE_FLAGS_ALL;
    flagging.unchanged_since = read_u64(body);
    flagging.keywords = keywords_read(box, body);
    struct mailstore_uids *ranges = ranges_read(body, &count);
    int status = ranges == NULL ? -ENOMEM : body->bad ? EINVAL : box_need_step(box, said->steps);
    if (status == 0) {
        status = entries_flag(box, &flagging, ranges, count);
        box_changed(box);
    }
    free(ranges);
    if (result == NULL || status != 0) {
        writer_free(&flagging.failed);
        return status;
    }
    result->modseq = flagging.changed_count > 0 ? flagging.modseq : 0;
    result->failed = (struct mailstore_uids *)(void *)flagging.failed.bytes;
    result->failed_count = flagging.failed_count;
    return 0;
}

/* ── Expunge ─────────────────────────────────────────────────────────────────────────────────── */

void kept_key(struct key *key, const struct box *box)
{
    key_begin(key, ROW_KEPT);
    key_u64(key, box->user->pub.id);
    key_u64(key, box->pub.id);
}

static int entry_keep(struct box *box, const struct removal *removal,
                      const struct stored_entry *stored)
{
    struct stored_entry kept = *stored;
    struct key key;
    kept.entry.modseq = removal->modseq & ((1ull << 44) - 1);
    kept.entry.saved_s = removal->wall_s;
    kept_key(&key, box);
    key_u64(&key, removal->modseq);
    key_u32(&key, kept.entry.uid);
    return index_put(box->user->store->index, key_slice(&key), slice_of(&kept, sizeof(kept)));
}

/* To ranges that ascend. */
static void range_add(struct writer *ranges, uint32_t uid)
{
    struct mailstore_uids range = {uid, uid};
    size_t count = ranges->size / sizeof(range);
    struct mailstore_uids *all = (struct mailstore_uids *)(void *)ranges->bytes;
    if (count > 0 && all[count - 1].last + 1 == uid) {
        all[count - 1].last = uid;
    } else {
        write_bytes(ranges, &range, sizeof(range));
    }
}

static int entry_remove(struct box *box, struct removal *removal, struct patch *patch,
                        const struct mailstore_entry *entry)
{
    struct stored_entry *stored;
    int status = patch_find(patch, entry->uid, &stored);
    if (status != 0) {
        return -EIO;
    }
    status = removal->taken ? 0 : write_note(box, entry, true);
    if (status != 0) {
        return status;
    }
    status = removal->keeps ? entry_keep(box, removal, stored)
                            : text_refer(box->user->store, entry->text, 0, -1);
    patch_remove(patch, stored);
    box_expunge_tell(box, entry->uid);
    if (removal->gone != NULL) {
        range_add(removal->gone, entry->uid);
    }
    removal->count++;
    return status;
}

static bool is_removed(const struct removal *removal, const struct mailstore_entry *entry,
                       uint32_t *range)
{
    if (removal->deleted_only && !(entry->flags & MAILSTORE_DELETED)) {
        return false;
    }
    if (removal->uids == NULL) {
        return true;
    }
    while (*range < removal->uid_count && removal->uids[*range].last < entry->uid) {
        (*range)++;
    }
    return *range < removal->uid_count && removal->uids[*range].first <= entry->uid;
}

/* Those removed that lie side by side are one range of what has vanished. */
static int vanish_more(struct box *box, const struct removal *removal, struct mailstore_uids *run,
                       const struct mailstore_entry *entry)
{
    int status = 0;
    if (entry != NULL && run->first != 0) {
        run->last = entry->uid;
        return 0;
    }
    if (run->first != 0) {
        status = entries_vanish(box->user->store, box, removal->modseq, run);
    }
    run->first = run->last = entry != NULL ? entry->uid : 0;
    return status;
}

/* The first range that does not lie before the uid. */
static uint32_t range_find(const struct removal *removal, uint32_t uid)
{
    uint32_t low = 0, high = removal->uids != NULL ? removal->uid_count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (removal->uids[middle].last < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The box is loaded. */
int entries_remove(struct box *box, struct removal *removal)
{
    struct patch patch = {.store = box->user->store, .box = box};
    struct mailstore_uids run = {0};
    uint32_t at = removal->first, kept = at, count = box->pub.count;
    uint32_t range = at < count ? range_find(removal, box->entries[at].uid) : 0;
    int status = 0;
    removal->modseq = box->pub.modseq + 1;
    for (; at < removal->last && status == 0; at++) {
        struct mailstore_entry entry = box->entries[at];
        if (is_removed(removal, &entry, &range)) {
            status = entry_remove(box, removal, &patch, &entry);
            status = status == 0 ? vanish_more(box, removal, &run, &entry) : status;
            box_count_add(box, &entry, -1);
        } else {
            box->entries[kept++] = entry;
            status = run.first != 0 ? vanish_more(box, removal, &run, NULL) : 0;
        }
    }
    status = status == 0 ? vanish_more(box, removal, &run, NULL) : status;
    status = status == 0 ? patch_end(&patch) : status;
    if (removal->count == 0) {
        removal->modseq = 0;
        return status;
    }
    memmove(&box->entries[kept], &box->entries[at], (count - at) * sizeof(box->entries[0]));
    box->pub.modseq++;
    box->pub.generation++;
    box->user->store->counters.entries_expunged += removal->count;
    box_changed(box);
    return status == 0 ? vanished_trim(box->user->store, box) : status;
}

/* Ascending, as views keep what is missing: what is left moves up in each step, 40 MB of a million entries. */
static int expunge_step(struct box *box, struct removal *removal, struct change_steps *steps)
{
    uint32_t low = mailstore_entry_index(&box->pub, steps->from), high = box->pub.count;
    if (removal->uids != NULL) {
        uint32_t count = removal->uid_count;
        uint32_t lowest = count > 0 ? removal->uids[0].first : UINT32_MAX;
        uint32_t highest = count > 0 ? removal->uids[count - 1].last : 0;
        uint32_t begin = mailstore_entry_index(&box->pub, lowest);
        low = begin > low ? begin : low;
        high = highest < UINT32_MAX ? mailstore_entry_index(&box->pub, highest + 1) : high;
    }
    if (low >= high) {
        return 0;
    }
    removal->first = low;
    removal->last = high - low > STEP_ENTRIES ? low + STEP_ENTRIES : high;
    steps->from = box->entries[removal->last - 1].uid + 1;
    bool more = removal->last < high;
    int status = entries_remove(box, removal);
    steps->expunged += removal->count;
    steps->modseq = removal->count > 0 ? removal->modseq : steps->modseq;
    steps->cost += removal->count + STEP_ENTRIES / 16;
    return status == 0 && more ? -EINPROGRESS : status;
}

static void gone_tell(struct change_steps *steps, struct mailstore_expunge *result)
{
    if (result->carried && !steps->gone.failed && steps->gone.size > 0) {
        result->gone = (struct mailstore_uids *)(void *)steps->gone.bytes;
        result->gone_count = (uint32_t)(steps->gone.size / sizeof(result->gone[0]));
        steps->gone = (struct writer){0};
    }
}

int apply_expunge(struct box *box, const struct change_said *said, struct reader *body)
{
    struct mailstore_expunge *result = (struct mailstore_expunge *)said->result;
    struct removal removal = {.wall_s = said->wall_s};
    bool all = read_u8(body);
    removal.deleted_only = read_u8(body);
    removal.keeps = read_u8(body);
    struct mailstore_uids *ranges = ranges_read(body, &removal.uid_count);
    removal.uids = all ? NULL : ranges;
    removal.gone = result != NULL && result->carried ? &said->steps->gone : NULL;
    int status = ranges == NULL ? -ENOMEM : body->bad ? EINVAL : box_need_step(box, said->steps);
    status = status == 0 ? expunge_step(box, &removal, said->steps) : status;
    free(ranges);
    if (result != NULL && status == 0) {
        result->expunged_count = said->steps->expunged;
        result->modseq = said->steps->modseq;
        gone_tell(said->steps, result);
    }
    return status;
}

bool uids_have(const struct mailstore_uids *uids, uint32_t count, uint32_t uid)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (uids[middle].last < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && uids[low].first <= uid;
}

/* ── What was kept ───────────────────────────────────────────────────────────────────────────── */

struct keeping {
    struct box *box;
    const struct mailstore_uids *ranges;
    uint32_t count;
    uint64_t modseq; /* of those that come back */
    uint32_t until_s, wall_s;
    uint32_t dropped;
    struct mailstore_restore *result;
};

static int kept_restore(struct mailstore *store, void *owner, struct slice key, struct slice value)
{
    struct keeping *keeping = (struct keeping *)owner;
    struct box *box = keeping->box;
    struct stored_entry stored;
    if (value.size != sizeof(stored)) {
        return -EIO;
    }
    memcpy(&stored, value.bytes, sizeof(stored));
    if (!uids_have(keeping->ranges, keeping->count, stored.entry.uid) ||
        box->pub.uidnext == UINT32_MAX) {
        return index_put(store->index, key, value); /* it stays */
    }
    stored.entry.modseq = keeping->modseq & ((1ull << 44) - 1);
    stored.entry.flags = stored.entry.flags & ~(uint32_t)MAILSTORE_DELETED & MAILSTORE_FLAGS_ALL;
    stored.entry.uid = box->pub.uidnext++;
    stored.entry.saved_s = keeping->wall_s;
    store->counters.entries_restored++;
    if (keeping->result != NULL) {
        keeping->result->first =
            keeping->result->restored_count++ == 0 ? stored.entry.uid : keeping->result->first;
        keeping->result->last = stored.entry.uid;
    }
    return entry_add(store, box, &stored);
}

int apply_restore(struct box *box, const struct change_said *said, struct reader *body)
{
    struct keeping keeping = {.box = box,
                              .modseq = box->pub.modseq + 1,
                              .wall_s = said->wall_s,
                              .result = (struct mailstore_restore *)said->result};
    struct key prefix;
    struct mailstore_uids *ranges = ranges_read(body, &keeping.count);
    uint32_t uidnext = box->pub.uidnext;
    keeping.ranges = ranges;
    kept_key(&prefix, box);
    int status = ranges == NULL ? -ENOMEM
                 : body->bad    ? EINVAL
                                : rows_remove(box->user->store, &prefix, kept_restore, &keeping);
    free(ranges);
    if (box->pub.uidnext != uidnext) {
        box->pub.modseq++;
        box_changed(box);
    }
    return status;
}

/* It stays, or nothing is kept of it any more. */
static int kept_drop(struct mailstore *store, struct keeping *keeping, struct slice key,
                     struct slice value, const struct stored_entry *stored, bool goes)
{
    keeping->dropped += goes;
    return goes ? text_refer(store, stored->entry.text, 0, -1)
                : index_put(store->index, key, value);
}

static int kept_purge(struct mailstore *store, void *owner, struct slice key, struct slice value)
{
    struct keeping *keeping = (struct keeping *)owner;
    struct stored_entry stored;
    if (value.size != sizeof(stored)) {
        return -EIO;
    }
    memcpy(&stored, value.bytes, sizeof(stored));
    return kept_drop(store, keeping, key, value, &stored, stored.entry.saved_s <= keeping->until_s);
}

int apply_purge(struct box *box, const struct change_said *said, struct reader *body)
{
    struct keeping keeping = {.box = box, .until_s = read_u32(body)};
    struct key prefix;
    (void)said;
    kept_key(&prefix, box);
    int status = rows_remove(box->user->store, &prefix, kept_purge, &keeping);
    if (keeping.dropped > 0) {
        files_tidy(box->user);
    }
    return status;
}

static int kept_unkeep(struct mailstore *store, void *owner, struct slice key, struct slice value)
{
    struct keeping *keeping = (struct keeping *)owner;
    struct stored_entry stored;
    if (value.size != sizeof(stored)) {
        return -EIO;
    }
    memcpy(&stored, value.bytes, sizeof(stored));
    bool goes = uids_have(keeping->ranges, keeping->count, stored.entry.uid);
    store->counters.entries_restored += goes;
    return kept_drop(store, keeping, key, value, &stored, goes);
}

int apply_unkeep(struct box *box, const struct change_said *said, struct reader *body)
{
    struct keeping keeping = {.box = box};
    struct key prefix;
    struct mailstore_uids *ranges = ranges_read(body, &keeping.count);
    (void)said;
    keeping.ranges = ranges;
    kept_key(&prefix, box);
    int status = ranges == NULL ? -ENOMEM
                 : body->bad    ? EINVAL
                                : rows_remove(box->user->store, &prefix, kept_unkeep, &keeping);
    free(ranges);
    if (keeping.dropped > 0) {
        files_tidy(box->user);
    }
    return status;
}
