/*
 * The log read again.
 *
 * The index is the state at one record. What follows it is done again, in the order of the log. Without an index that can
 * be used all there is of changes is gathered first, and done in the order in which they first were: some were copied
 * from segments that were freed, and snapshots stand for what is older.
 */
#include "engine/core/crc32c.h"
#include "queue/log/log_folder.h"
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define INDEX_VERSION 3u
#define INDEX_MEMORY_BYTES                                                                         \
    (64u * 1024 * 1024) /* of rows in memory: then they are written, few as they are */

struct header_row {
    uint32_t version, sum;
    uint64_t applied;
    uint64_t floor; /* what follows `applied` needs no record before this one */
};

struct item {       /* a part or a change */
    uint64_t order; /* a snapshot's as_of, or as lsn */
    uint64_t lsn;   /* where it was first */
    uint64_t tag;
    uint8_t *content; /* of the heap */
    uint32_t size;
    uint32_t part;
    bool snapshot;
};
struct items {
    struct item *list;
    size_t count, room;
};
struct recovery {
    struct mailstore *store;
    bool builds;
    struct mailstore_building *building; /* beside a store that runs; else NULL */
    uint64_t gathered_bytes;
    uint64_t from; /* the index has what is up to here */
    uint32_t sum;
    bool useless;     /* the index has failed */
    bool parts_come;  /* and are not sorted */
    bool met;         /* that record, as it was */
    uint64_t cleaned; /* see RECORD_CLEANED */
    uint64_t newest;
    uint32_t newest_sum;
    struct writer segments; /* the row of them, as it was */
    struct items parts, changes;
    uint64_t *state_bytes; /* of segments, from the first one met */
    uint32_t first_segment, segment_count;
};

/* ── The index's own record ──────────────────────────────────────────────────────────────────── */

/* While the log is read again its parts are not those of any change yet, and its segments are not counted. */
static int header_put(struct mailstore *store)
{
    struct header_row row = {.version = INDEX_VERSION,
                             .sum = store->applied_sum,
                             .applied = store->applied,
                             .floor = store->replays ? store->replays_from : changes_floor(store)};
    struct key key;
    key_begin(&key, ROW_HEADER);
    int status = store->replays ? 0 : segments_put(store);
    return status == 0 ? index_put(store->index, key_slice(&key), slice_of(&row, sizeof(row)))
                       : status;
}

int mailstore_checkpoint(struct mailstore *store)
{
    int status = store->sick != 0 ? store->sick : store->midway ? -EAGAIN : users_flush(store);
    status = status == 0 && !store->rebuilds ? header_put(store) : status;
    status = status == 0 ? index_write(store->index) : status;
    if (status == 0) {
        store->writing = store->applied;
        store->writes_begun++;
        store->changes_written = store->counters.changes;
    }
    return status;
}

static void written(struct mailstore *store, int result)
{
    if (result > 0) {
        store->safe = store->writing;
        store->writes_done = store->writes_begun;
        store->counters.index_writes++;
        audit_written(store);
    } else if (result < 0) {
        store->index_retry_s = store->wall_s + 1;
    }
}

bool index_is_behind(const struct mailstore *store)
{
    return index_is_writing(store->index) &&
           index_waiting(store->index) > 16 * store->settings.index_changes_max;
}

bool index_is_busy(const struct mailstore *store)
{
    return index_is_writing(store->index) &&
           (index_waiting(store->index) > 4 * store->settings.index_changes_max ||
            index_memory_bytes(store->index) > 2 * INDEX_MEMORY_BYTES);
}

void mailstore_index_round(struct mailstore *store)
{
    if (store->wall_s < store->index_retry_s) {
        return;
    }
    store->index_retry_s = 0;
    written(store, index_round(store->index));
    audit_take(store);
    uint64_t changes = store->counters.changes - store->changes_written;
    uint32_t most = store->settings.index_changes_max;
    if (!index_is_writing(store->index) && store->sick == 0 &&
        (index_waiting(store->index) >= most || changes >= most ||
         index_waiting_bytes(store->index) >= INDEX_MEMORY_BYTES)) {
        mailstore_checkpoint(store);
    }
}

/* While the log is read nobody else is served: what is too much for memory is written at once. */
static int index_relieve(struct mailstore *store)
{
    users_trim(store);
    if (index_waiting(store->index) < store->settings.index_changes_max) {
        return 0;
    }
    int status = index_wait(store->index);
    status = status >= 0 ? mailstore_checkpoint(store) : status;
    status = status == 0 ? index_wait(store->index) : status;
    written(store, status);
    return status < 0 ? status : 0;
}

/* ── Items ───────────────────────────────────────────────────────────────────────────────────── */

static void items_free(struct items *items)
{
    for (size_t i = 0; i < items->count; i++) {
        free(items->list[i].content);
    }
    free(items->list);
    *items = (struct items){0};
}

static int item_add(struct items *items, struct item item, struct slice content)
{
    if (items->count == items->room) {
        size_t room = items->room * 2 + 64;
        struct item *grown = (struct item *)realloc(items->list, room * sizeof(grown[0]));
        if (grown == NULL) {
            return -ENOMEM;
        }
        items->list = grown;
        items->room = room;
    }
    item.content = (uint8_t *)malloc(content.size + 1);
    if (item.content == NULL) {
        return -ENOMEM;
    }
    memcpy(item.content, content.bytes, content.size);
    item.size = (uint32_t)content.size;
    items->list[items->count++] = item;
    return 0;
}

static int by_part(const void *left, const void *right)
{
    const struct item *a = (const struct item *)left;
    const struct item *b = (const struct item *)right;
    if (a->tag != b->tag) {
        return a->tag < b->tag ? -1 : 1;
    }
    return a->part < b->part ? -1 : a->part > b->part;
}

static int by_order(const void *left, const void *right)
{
    const struct item *a = (const struct item *)left;
    const struct item *b = (const struct item *)right;
    if (a->order != b->order) {
        return a->order < b->order ? -1 : 1;
    }
    if (a->snapshot != b->snapshot) {
        return a->snapshot ? 1 : -1;
    }
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

static const struct item *part_find(const struct recovery *recovery, uint64_t tag, uint32_t part)
{
    struct item wanted = {.tag = tag, .part = part};
    return recovery->parts.count == 0
               ? NULL
               : (const struct item *)bsearch(&wanted, recovery->parts.list, recovery->parts.count,
                                              sizeof(wanted), by_part);
}

static void parts_sort(struct recovery *recovery)
{
    if (recovery->parts_come && recovery->parts.count > 1) {
        recovery->parts_come = false;
        qsort(recovery->parts.list, recovery->parts.count, sizeof(recovery->parts.list[0]),
              by_part);
    }
}

/* ── A change done again ─────────────────────────────────────────────────────────────────────── */

/* Its change has been done. */
static void parts_drop(struct recovery *recovery, uint64_t tag)
{
    struct items *parts = &recovery->parts;
    size_t kept = 0;
    for (size_t i = 0; i < parts->count; i++) {
        if (parts->list[i].tag == tag) {
            free(parts->list[i].content);
        } else {
            parts->list[kept++] = parts->list[i];
        }
    }
    parts->count = kept;
}

static int change_again(struct recovery *recovery, uint64_t lsn, uint64_t tag, struct slice content)
{
    struct mailstore *store = recovery->store;
    struct change_head head;
    struct slice users, rest;
    struct writer body = {0};
    if (!change_parse(content, &head, &users, &rest)) {
        return 0;
    }
    for (uint32_t i = 0; i < head.part; i++) {
        const struct item *part = part_find(recovery, tag, i);
        struct change_head part_head;
        struct slice part_users, piece;
        if (part == NULL ||
            !change_parse(slice_of(part->content, part->size), &part_head, &part_users, &piece)) {
            store->counters.damaged_bytes += content.size;
            writer_free(&body);
            return 0;
        }
        write_bytes(&body, piece.bytes, piece.size);
    }
    write_bytes(&body, rest.bytes, rest.size);
    struct change_said said = {.lsn = lsn,
                               .as_of = head.as_of,
                               .wall_s = head.wall_s,
                               .kind = (enum change_kind)head.kind,
                               .users = users,
                               .body = slice_of(body.bytes, body.size)};
    struct change_steps steps = {0};
    int status = body.failed ? -ENOMEM : 0;
    said.steps = &steps;
    if (status == 0) {
        while (mailstore_apply(store, &said) == -EINPROGRESS) {
        }
        store->counters.replayed_records++;
        status = store->sick;
    }
    writer_free(&body);
    return status;
}

/* ── Records ─────────────────────────────────────────────────────────────────────────────────── */

static int state_count(struct recovery *recovery, const struct log_record *record)
{
    uint32_t sequence = log_lsn_sequence(record->lsn);
    if (recovery->segment_count == 0) {
        recovery->first_segment = sequence;
    }
    uint32_t index = sequence - recovery->first_segment;
    if (index >= recovery->segment_count) {
        uint32_t count = index + 64;
        uint64_t *grown = (uint64_t *)realloc(recovery->state_bytes, count * sizeof(grown[0]));
        if (grown == NULL) {
            return -ENOMEM;
        }
        memset(grown + recovery->segment_count, 0,
               (count - recovery->segment_count) * sizeof(grown[0]));
        recovery->state_bytes = grown;
        recovery->segment_count = count;
    }
    recovery->state_bytes[index] += record->content.size + 64;
    return 0;
}

/* What is kept of a record, until all have been read. */
static int gather(struct recovery *recovery, struct items *items, struct item item,
                  const struct log_record *record)
{
    const struct mailstore_building *building = recovery->building;
    recovery->gathered_bytes += record->content.size + sizeof(item) + 32;
    if (building != NULL && recovery->gathered_bytes > building->memory_bytes) {
        return -E2BIG;
    }
    return item_add(items, item, record->content);
}

static int part_found(struct recovery *recovery, const struct log_record *record)
{
    struct change_head head;
    struct slice users, rest;
    if (!change_parse(record->content, &head, &users, &rest)) {
        return 0;
    }
    struct item item = {.lsn = record->lsn, .tag = record->tag, .part = head.part};
    recovery->parts_come = true;
    return gather(recovery, &recovery->parts, item, record);
}

static int change_found(struct recovery *recovery, const struct log_record *record)
{
    struct change_head head;
    struct slice users, rest;
    bool beyond = recovery->building != NULL && record->lsn > recovery->building->until;
    if (beyond || !change_parse(record->content, &head, &users, &rest)) {
        return 0;
    }
    struct item item = {.order = head.as_of != 0 ? head.as_of : record->lsn,
                        .snapshot = head.as_of != 0,
                        .lsn = record->lsn,
                        .tag = record->tag};
    return gather(recovery, &recovery->changes, item, record);
}

static int carried_found(struct recovery *recovery, const struct log_record *record)
{
    struct carried_head head;
    if (record->content.size < sizeof(head)) {
        return 0;
    }
    memcpy(&head, record->content.bytes, sizeof(head));
    struct log_record inner = {.lsn = head.lsn,
                               .tag = record->tag,
                               .type = head.type,
                               .content = slice_from(record->content, sizeof(head))};
    if (head.type == RECORD_PART) {
        return part_found(recovery, &inner);
    }
    return recovery->builds ? change_found(recovery, &inner) : 0;
}

static int chunk_found(struct recovery *recovery, const struct log_record *record)
{
    struct chunk_head head;
    if (record->content.size <= sizeof(head)) {
        return 0;
    }
    memcpy(&head, record->content.bytes, sizeof(head));
    struct text_extent extent = {.lsn = record->lsn,
                                 .length = (uint32_t)(record->content.size - sizeof(head)),
                                 .offset = head.offset};
    int status = text_chunk(recovery->store, record->tag, &extent, true);
    return status == 0 ? index_relieve(recovery->store) : status;
}

/* Behind what the index has: done at once. */
static int change_follows(struct recovery *recovery, const struct log_record *record)
{
    struct mailstore *store = recovery->store;
    uint32_t sum = crc32c(0, record->content.bytes, record->content.size);
    if (record->lsn <= recovery->from) {
        recovery->met |= record->lsn == recovery->from && sum == recovery->sum;
        parts_drop(recovery, record->tag);
        return 0;
    }
    if (recovery->from != 0 && !recovery->met) {
        return 0; /* another log: all is read again */
    }
    parts_sort(recovery);
    int status = change_again(recovery, record->lsn, record->tag, record->content);
    parts_drop(recovery, record->tag);
    store->applied = record->lsn;
    store->applied_sum = sum;
    return status == 0 ? index_relieve(store) : status; /* it has the change now, and says so */
}

static int record_read(struct recovery *recovery, const struct log_record *record)
{
    int status = record->type != RECORD_CHUNK ? state_count(recovery, record) : 0;
    if (status != 0) {
        return status;
    }
    switch (record->type) {
    case RECORD_CHUNK:
        torn_chunk(recovery->store->torn, record->lsn);
        return recovery->builds ? chunk_found(recovery, record) : 0;
    case RECORD_PART:
        return part_found(recovery, record);
    case RECORD_CHANGE:
        if (record->lsn > recovery->newest &&
            (recovery->building == NULL || record->lsn <= recovery->building->until)) {
            recovery->newest = record->lsn;
            recovery->newest_sum = crc32c(0, record->content.bytes, record->content.size);
        }
        return recovery->builds ? change_found(recovery, record) : change_follows(recovery, record);
    case RECORD_CARRIED:
        return carried_found(recovery, record);
    case RECORD_CLEANED:
        if (record->content.size == sizeof(uint64_t)) {
            uint64_t cleaned;
            memcpy(&cleaned, record->content.bytes, sizeof(cleaned));
            recovery->cleaned = cleaned > recovery->cleaned ? cleaned : recovery->cleaned;
        }
        return 0;
    default:
        return 0;
    }
}

/* The log itself must be read to its end, also beside an index that is of no use. */
static int record_found(void *owner, const struct log_record *record)
{
    struct recovery *recovery = (struct recovery *)owner;
    int status = recovery->useless ? 0 : record_read(recovery, record);
    recovery->useless = recovery->useless || (status == -EIO && !recovery->builds);
    return recovery->useless ? 0 : status;
}

static void record_damaged(void *owner, uint64_t lsn, uint64_t bytes)
{
    struct mailstore *store = ((struct recovery *)owner)->store;
    torn_damaged(store->torn, lsn, bytes);
    store->counters.damaged_bytes += bytes;
}

/* ── Without an index ────────────────────────────────────────────────────────────────────────── */

static int items_again(struct recovery *recovery)
{
    struct mailstore *store = recovery->store;
    struct items *changes = &recovery->changes;
    int status = 0;
    parts_sort(recovery);
    if (changes->count > 1) {
        qsort(changes->list, changes->count, sizeof(changes->list[0]), by_order);
    }
    for (size_t i = 0; i < changes->count && status == 0; i++) {
        const struct item *item = &changes->list[i];
        if (i > 0 && item->lsn == changes->list[i - 1].lsn) {
            continue; /* it was copied, and the first one is still there */
        }
        status =
            change_again(recovery, item->order, item->tag, slice_of(item->content, item->size));
        status = status == 0 ? index_relieve(store) : status;
        if (status == 0 && recovery->building != NULL) {
            status = recovery->building->built(recovery->building, i, changes->count);
        }
    }
    store->applied = recovery->newest;
    store->applied_sum = recovery->newest_sum;
    return status;
}

static int build_begin(struct recovery *recovery)
{
    struct mailstore *store = recovery->store;
    mailstore_users_close(store);
    items_free(&recovery->parts);
    items_free(&recovery->changes);
    free(recovery->state_bytes);
    writer_free(&recovery->segments);
    *recovery = (struct recovery){.store = store, .builds = true};
    store->replays_from = 0;
    torn_free(store->torn);
    store->rebuilds = true;
    store->applied = store->safe = 0;
    store->counters.rebuilds++;
    store->sick = 0;
    return index_renew(store->index);
}

/* The log was read once already, beside an index that was of no use. */
static int folder_read_again(struct recovery *recovery, const struct log_visitor *visitor)
{
    const struct log_settings *settings = log_settings_of(recovery->store->log);
    struct log_folder *folder;
    void *memory = aligned_alloc(DISK_BLOCK_BYTES, LOG_FOLDER_MEMORY_BYTES);
    if (memory == NULL) {
        return -ENOMEM;
    }
    const struct log_folder_source source = {.disk = settings->disk,
                                             .shard = settings->shard,
                                             .memory = memory,
                                             .memory_bytes = LOG_FOLDER_MEMORY_BYTES,
                                             .unread = settings->unread,
                                             .owner = settings->unread_owner};
    int status = log_folder_open(&folder, &source);
    if (status == 0) {
        status = log_folder_scan(folder, visitor);
        status = status == 0 && folder->unread_bytes > 0 ? -EIO : status;
        log_folder_close(folder);
    }
    free(memory);
    return status;
}

/* A state of which a part is missing would give uids out again, and bring back what is gone: there is no start
 * without all of the log that the index does not have, where damage, which no later start can read either, is counted and passed over. */
static int log_read_rest(struct mailstore *store, const struct log_visitor *visitor)
{
    int status = log_recover(store->log, visitor);
    return log_counters(store->log)->unread_bytes > 0 ? -EREMOTEIO : status;
}

/* ── All of it ───────────────────────────────────────────────────────────────────────────────── */

static bool header_read(struct recovery *recovery)
{
    struct mailstore *store = recovery->store;
    struct header_row row;
    struct key key;
    struct slice value;
    key_begin(&key, ROW_HEADER);
    if (index_get(store->index, key_slice(&key), &value) != 0 || value.size != sizeof(row)) {
        return false;
    }
    memcpy(&row, value.bytes, sizeof(row));
    recovery->from = store->applied = store->safe = row.applied;
    recovery->sum = store->applied_sum = row.sum;
    store->replays_from = row.floor < row.applied ? row.floor : row.applied;
    key_begin(&key, ROW_SEGMENTS);
    if (index_get(store->index, key_slice(&key), &value) == 0) {
        write_bytes(&recovery->segments, value.bytes, value.size);
    }
    return row.version == INDEX_VERSION && !recovery->segments.failed;
}

static int recovery_end(struct recovery *recovery)
{
    struct mailstore *store = recovery->store;
    int status = recovery->builds ? items_again(recovery) : 0;
    segments_take(store, slice_of(recovery->segments.bytes, recovery->segments.size),
                  log_lsn_sequence(store->replays_from));
    for (uint32_t i = 0; i < recovery->segment_count; i++) {
        struct segment_books *books = recovery->state_bytes[i] == 0
                                          ? NULL
                                          : segment_books(store, recovery->first_segment + i);
        if (books != NULL) {
            books->state_bytes = recovery->state_bytes[i];
        }
    }
    store->rebuilds = false;
    status = status == 0 ? texts_settle(store) : status;
    store->replays = false;
    if (status == 0 && recovery->builds) {
        status = index_wait(store->index);
        status = status >= 0 ? mailstore_checkpoint(store) : status;
        status = status == 0 ? index_wait(store->index) : status;
        written(store, status);
        status = status < 0 ? status : 0;
    }
    return status;
}

static void recovery_free(struct recovery *recovery, struct torn *torn)
{
    torn_free(torn);
    items_free(&recovery->parts);
    items_free(&recovery->changes);
    free(recovery->state_bytes);
    writer_free(&recovery->segments);
}

/* Deliveries that power loss has torn were taken away by a change of their own, when the store was opened. */
int mailstore_build(struct mailstore *store, struct mailstore_building *building)
{
    struct recovery recovery = {.store = store};
    struct log_visitor visitor = {
        .record = record_found, .damaged = record_damaged, .owner = &recovery};
    struct torn torn = {0};
    store->replays = true;
    store->torn = &torn;
    int status = build_begin(&recovery);
    recovery.building = building;
    torn.from = UINT64_MAX;
    status = status == 0 ? building->read(building, &visitor) : status;
    status = status == 0 ? recovery_end(&recovery) : status;
    recovery_free(&recovery, &torn);
    store->torn = NULL;
    return status;
}

int mailstore_recover(struct mailstore *store, bool stale_index)
{
    struct recovery recovery = {.store = store};
    struct log_visitor visitor = {
        .record = record_found, .damaged = record_damaged, .owner = &recovery};
    struct torn torn = {0};
    store->replays = true;
    store->torn = &torn;
    int status = 0;
    bool fresh = stale_index || !header_read(&recovery);
    torn.from = recovery.from;
    if (fresh) {
        status = build_begin(&recovery);
    }
    visitor.from = store->replays_from;
    status = status == 0 ? log_read_rest(store, &visitor) : status;
    bool unread = status == -EREMOTEIO;
    if (status == 0 && store->has_kept && log_counters(store->log)->damaged_bytes > 0) {
        status = -EBADMSG; /* before anything is written of what was made of it */
    }
    bool stale = status == 0 && !recovery.builds &&
                 (recovery.useless || recovery.cleaned > recovery.from ||
                  (recovery.from != 0 && !recovery.met));
    if (stale) {
        visitor.from = 0;
        status = build_begin(&recovery);
        status = status == 0 ? folder_read_again(&recovery, &visitor) : status;
    }
    status = status == 0 ? recovery_end(&recovery) : unread ? -EIO : status;
    status = torn.failed && status == 0 ? -ENOMEM : status;
    status = status == 0 ? torn_expunge(store) : status;
    recovery_free(&recovery, &torn);
    store->torn = NULL;
    return status;
}
