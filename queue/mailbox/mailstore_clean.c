/*
 * Space comes back. One segment at a time, whichever has least that is needed:
 *
 *  LOOKS ──one is worth it──► READS ⇄ COPIES ──all of it──► SETTLES ──durable──► INDEXES ──written──► SAYS ──durable──► frees
 *
 * READS, COPIES: piece by piece, texts that some entry has and changes that no snapshot stands for are appended again:
 * a change with the place that it had in the order of changes. SETTLES: when the copies are durable the texts lie
 * there. INDEXES: the index on the device must not look for them where they were, and must know all changes that were
 * left off. SAYS: an index that is older than that is of no use any more, and the log says so. Then the segment is freed.
 *
 * A user whose changes take much more than what has come of them is written whole: a snapshot. It stands for all changes
 * up to the one that was done last when it was taken.
 *
 * Segments are cleaned when little in them lives; when more than half of the log is dead; or when space is short and
 * there is an eighth to gain.
 */
#include "queue/log/log_reading.h"
#include "queue/log/record.h"
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define REST_SEGMENTS 8u
#define SNAPSHOT_FACTOR 4u
#define SNAPSHOT_BYTES_MIN (64u * 1024)
#define COPIED_EACH_BYTES (512u * 1024) /* a round */

enum cleaner_state {
    CLEAN_LOOKS,
    CLEAN_READS,
    CLEAN_COPIES,
    CLEAN_SETTLES,
    CLEAN_INDEXES,
    CLEAN_SAYS
};

struct move { /* bytes of a text, from one record to another */
    uint64_t text, from;
    struct text_extent to;
};
struct cleaner {
    struct mailstore *store;
    enum cleaner_state state;
    uint32_t sequence; /* of the segment */
    uint32_t piece, at, bytes;
    uint64_t failures, copied;
    uint64_t write_needed; /* of the index */
    uint8_t *memory;       /* one piece */
    struct log_fetch fetch;
    struct disk_done read;
    struct log_waiter waiter;
    struct writer moves; /* struct move */
    bool busy;           /* read or waiter under way */
    uint64_t *snapshots; /* users, by id */
    uint32_t snapshot_count, snapshot_room;
};

int cleaner_open(struct mailstore *store)
{
    struct cleaner *cleaner = (struct cleaner *)calloc(1, sizeof(*cleaner));
    if (cleaner == NULL) {
        return -ENOMEM;
    }
    store->cleaner = cleaner;
    cleaner->store = store;
    cleaner->memory = (uint8_t *)aligned_alloc(DISK_BLOCK_BYTES, LOG_FRAME_BYTES);
    return cleaner->memory != NULL ? 0 : -ENOMEM;
}

void cleaner_close(struct mailstore *store)
{
    if (store->cleaner != NULL) {
        if (cleaner_waits_for_log(store)) {
            list_remove(&store->cleaner->waiter.node);
        }
        writer_free(&store->cleaner->moves);
        free(store->cleaner->snapshots);
        free(store->cleaner->memory);
        free(store->cleaner);
    }
}

bool cleaner_is_quiet(const struct mailstore *store)
{
    return !store->cleaner->busy;
}

bool cleaner_waits_for_log(const struct mailstore *store)
{
    enum cleaner_state state = store->cleaner->state;
    return store->cleaner->busy && (state == CLEAN_SETTLES || state == CLEAN_SAYS);
}

/* ── Which one ───────────────────────────────────────────────────────────────────────────────── */

struct choice {
    bool of_all; /* also of those that are kept for who reads the log */
    uint32_t sequence;
    uint64_t needed; /* bytes in it, or about */
    uint64_t all_needed, all_bytes;
};

static void choose(struct mailstore *store, struct choice *choice)
{
    uint32_t current = log_current_sequence(store->log);
    uint64_t segment = log_settings_of(store->log)->segment_bytes;
    *choice = (struct choice){.needed = UINT64_MAX, .of_all = choice->of_all};
    for (uint32_t sequence = log_head_sequence(store->log); sequence != 0;
         sequence = log_segment_after(store->log, sequence)) {
        const struct log_segment_live *live = log_segment_live(store->log, sequence);
        const struct segment_books *books = segment_books(store, sequence);
        if (sequence == current || books == NULL) {
            continue;
        }
        uint64_t needed = live->bytes + books->state_bytes / 2;
        choice->all_needed += needed;
        choice->all_bytes += segment;
        if (!choice->of_all && log_reading_keeps(store->log, sequence)) {
            continue;
        }
        if (books->drafts == 0 && current >= books->rest_until && needed < choice->needed &&
            sequence < log_lsn_sequence(store->applied)) {
            choice->needed = needed;
            choice->sequence = sequence;
        }
    }
}

static bool space_is_short(const struct mailstore *store, const struct log_space *space)
{
    uint64_t segment = log_settings_of(store->log)->segment_bytes;
    uint64_t left =
        space->rest_bytes + space->ready_bytes + space->freed_bytes + space->growth_bytes;
    return left < (LOG_SEGMENTS_RESERVED + 2) * segment + space->used_bytes / 16;
}

bool cleaner_is_short(const struct mailstore *store)
{
    struct log_space space;
    log_space(store->log, &space);
    return space_is_short(store, &space);
}

static bool is_worth_it(const struct mailstore *store, const struct choice *choice)
{
    uint64_t segment = log_settings_of(store->log)->segment_bytes;
    struct log_space space;
    log_space(store->log, &space);
    uint64_t room = space.rest_bytes + space.ready_bytes + space.freed_bytes;
    if (choice->sequence == 0 || room < choice->needed + choice->needed / 4 + LOG_FRAME_BYTES) {
        return false;
    }
    if (space_is_short(store, &space)) {
        return choice->needed < segment - segment / 8;
    }
    if (space.used_bytes < store->settings.clean_bytes_min) {
        return false;
    }
    return choice->needed < segment / 8 ||
           (choice->needed < segment / 2 && choice->all_needed < choice->all_bytes / 2);
}

static void looks(struct cleaner *cleaner)
{
    struct mailstore *store = cleaner->store;
    struct choice choice = {.of_all = cleaner_is_short(store)};
    if (!log_is_orderly(store->log)) {
        return;
    }
    choose(store, &choice);
    bool worth = is_worth_it(store, &choice);
    if (worth && log_reading_keeps(store->log, choice.sequence)) {
        audit_yield(store);
    }
    log_expect_space(store->log, worth);
    if (!worth) {
        return;
    }
    cleaner->sequence = choice.sequence;
    cleaner->piece = 0;
    cleaner->copied = 0;
    cleaner->moves.size = 0;
    cleaner->failures = log_counters(store->log)->write_failures;
    /* All that is left off must be in the index. */
    cleaner->write_needed = 0;
    cleaner->state = CLEAN_READS;
}

/* It is tried again when mail is some segments further. */
static void gives_up(struct cleaner *cleaner)
{
    struct segment_books *books = segment_books(cleaner->store, cleaner->sequence);
    if (books != NULL) {
        books->rest_until = log_current_sequence(cleaner->store->log) + REST_SEGMENTS;
    }
    log_expect_space(cleaner->store->log, false);
    cleaner->state = CLEAN_LOOKS;
}

/* ── Reading ─────────────────────────────────────────────────────────────────────────────────── */

static void piece_read(struct disk_done *done, int result)
{
    struct cleaner *cleaner = list_entry(done, struct cleaner, read);
    cleaner->busy = false;
    log_fetch_end(cleaner->store->log, &cleaner->fetch);
    if (result < 0) {
        gives_up(cleaner);
        return;
    }
    cleaner->state = CLEAN_COPIES;
}

static void all_is_durable(struct log_waiter *waiter, int status);

static void waits_for_log(struct cleaner *cleaner, enum cleaner_state state)
{
    cleaner->state = state;
    cleaner->busy = true;
    cleaner->waiter.done = all_is_durable;
    log_when_durable(cleaner->store->log, &cleaner->waiter);
}

static void reads(struct cleaner *cleaner)
{
    struct log *log = cleaner->store->log;
    uint32_t offset = cleaner->piece * LOG_FRAME_BYTES;
    uint32_t first = cleaner->piece == 0 ? SEGMENT_HEADER_BYTES : 0;
    struct log_extent extent = {.lsn = lsn_of(cleaner->sequence, offset + first)};
    if (log_is_void(log, extent.lsn) || log_fetch_begin(log, &extent, &cleaner->fetch) != 0) {
        waits_for_log(cleaner, CLEAN_SETTLES);
        return;
    }
    cleaner->fetch.offset = offset + first;
    cleaner->fetch.bytes = LOG_FRAME_BYTES - first;
    cleaner->bytes = LOG_FRAME_BYTES;
    cleaner->at = first;
    cleaner->read.run = piece_read;
    list_init(&cleaner->read.node);
    struct disk *disk = log_settings_of(log)->disk;
    int status = disk->ops->read(disk, cleaner->fetch.file, cleaner->memory + first,
                                 cleaner->fetch.bytes, cleaner->fetch.offset, &cleaner->read);
    if (status < 0) {
        log_fetch_end(log, &cleaner->fetch);
        return; /* another time */
    }
    cleaner->busy = true;
}

/* ── Texts ───────────────────────────────────────────────────────────────────────────────────── */

static int chunk_copy(struct cleaner *cleaner, uint64_t text, uint64_t lsn, struct slice content)
{
    struct mailstore *store = cleaner->store;
    struct log_head head = {.type = RECORD_CHUNK, .flags = LOG_BODY | LOG_RESERVED, .tag = text};
    struct chunk_head begin;
    int status = log_room(store->log, content.size + 512, LOG_RESERVED);
    if (status != 0) {
        return status;
    }
    memcpy(&begin, content.bytes, sizeof(begin));
    struct slice rest = slice_from(content, sizeof(begin));
    while (rest.size > 0) {
        struct slice parts[] = {slice_of(&begin, sizeof(begin)), rest};
        struct log_extent extent;
        uint32_t added =
            log_append_body(store->log, &head, parts, 2, 0, NULL, &extent) - sizeof(begin);
        struct move move = {.text = text,
                            .from = lsn,
                            .to = {.lsn = extent.lsn, .length = added, .offset = begin.offset}};
        write_bytes(&cleaner->moves, &move, sizeof(move));
        begin.offset += added;
        rest = slice_from(rest, added);
    }
    store->counters.copied_bytes += content.size;
    cleaner->copied += content.size;
    return cleaner->moves.failed ? -ENOMEM : 0;
}

static int chunk_found(struct cleaner *cleaner, uint64_t text, uint64_t lsn, struct slice content)
{
    struct text_row *row;
    int status = text_get(cleaner->store, text, &row);
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    for (uint32_t i = 0; i < row->extent_count; i++) {
        if (row->extents[i].lsn == lsn) {
            return content.size > sizeof(struct chunk_head)
                       ? chunk_copy(cleaner, text, lsn, content)
                       : 0;
        }
    }
    return 0;
}

/* The text lies where its copy is, if it is still there. */
static int move_do(struct mailstore *store, const struct move *moves, uint32_t count)
{
    struct text_row *row;
    int status = text_get(store, moves[0].text, &row);
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    uint32_t i = 0;
    while (i < row->extent_count && row->extents[i].lsn != moves[0].from) {
        i++;
    }
    if (i == row->extent_count) {
        return 0;
    }
    live_take(store, moves[0].from, row->extents[i].length + EXTENT_COST);
    size_t bytes = sizeof(*row) + (row->extent_count - 1 + count) * sizeof(row->extents[0]);
    struct text_row *moved = (struct text_row *)malloc(bytes);
    if (moved == NULL) {
        return -ENOMEM;
    }
    *moved = *row;
    moved->extent_count = row->extent_count - 1 + count;
    memcpy(moved->extents, row->extents, i * sizeof(row->extents[0]));
    for (uint32_t k = 0; k < count; k++) {
        moved->extents[i + k] = moves[k].to;
        live_add(store, moves[k].to.lsn, moves[k].to.length + EXTENT_COST);
    }
    memcpy(moved->extents + i + count, row->extents + i + 1,
           (row->extent_count - i - 1) * sizeof(row->extents[0]));
    status = text_put(store, moves[0].text, moved);
    free(moved);
    return status;
}

static int moves_do(struct cleaner *cleaner)
{
    const struct move *moves = (const struct move *)(const void *)cleaner->moves.bytes;
    uint32_t count = (uint32_t)(cleaner->moves.size / sizeof(moves[0]));
    int status = 0;
    for (uint32_t i = 0, next; i < count && status == 0; i = next) {
        next = i + 1;
        while (next < count && moves[next].from == moves[i].from) {
            next++;
        }
        status = move_do(cleaner->store, moves + i, next - i);
    }
    cleaner->moves.size = 0;
    return status;
}

/* ── Changes ─────────────────────────────────────────────────────────────────────────────────── */

/* Would a start without an index miss it? */
static int change_is_needed(struct mailstore *store, uint64_t lsn, struct slice content,
                            bool *needed)
{
    struct change_head head;
    struct slice users, rest;
    *needed = false;
    if (!change_parse(content, &head, &users, &rest)) {
        return 0;
    }
    struct reader reader = {.at = users.bytes, .end = users.bytes + users.size};
    while (reader.at < reader.end && !*needed) {
        struct user *user;
        struct slice name = read_bytes(&reader, read_u8(&reader));
        int status = user_get(store, name, &user);
        if (status != 0) {
            return status == -EINVAL ? 0 : status;
        }
        *needed = head.kind == CHANGE_SNAPSHOT ? head.as_of >= user->base : lsn >= user->floor;
        user_drop(user);
    }
    return 0;
}

static int change_carry(struct cleaner *cleaner, const struct log_record *record,
                        const struct carried_head *carried)
{
    struct mailstore *store = cleaner->store;
    struct log_head head = {.type = RECORD_CARRIED, .flags = LOG_RESERVED, .tag = record->tag};
    struct slice parts[] = {slice_of(carried, sizeof(*carried)), record->content};
    struct log_extent extent;
    bool needed;
    int status = change_is_needed(store, carried->lsn, record->content, &needed);
    if (status != 0 || !needed) {
        return status;
    }
    status = log_append(store->log, &head, parts, 2, &extent);
    if (status == 0) {
        struct segment_books *books = segment_books(store, log_lsn_sequence(extent.lsn));
        if (books != NULL) {
            books->state_bytes += extent.length + 64;
        }
        store->counters.carried_records++;
        cleaner->copied += extent.length;
    }
    return status;
}

static int record_keep(struct cleaner *cleaner, const struct log_record *record)
{
    struct carried_head carried = {.lsn = record->lsn, .type = record->type};
    struct log_record inner = *record;
    switch (record->type) {
    case RECORD_CHUNK:
        return chunk_found(cleaner, record->tag, record->lsn, record->content);
    case RECORD_PART:
    case RECORD_CHANGE:
        return change_carry(cleaner, record, &carried);
    case RECORD_CARRIED:
        if (record->content.size < sizeof(carried)) {
            return 0;
        }
        memcpy(&carried, record->content.bytes, sizeof(carried));
        inner.content = slice_from(record->content, sizeof(carried));
        return change_carry(cleaner, &inner, &carried);
    default:
        return 0;
    }
}

/* ── Copying ─────────────────────────────────────────────────────────────────────────────────── */

/* The record at cleaner->at; false: none is there. */
static bool record_at(struct cleaner *cleaner, struct log_record *record, uint32_t *next)
{
    struct record_header header;
    uint32_t offset = cleaner->piece * LOG_FRAME_BYTES + cleaner->at;
    uint64_t lsn = lsn_of(cleaner->sequence, offset);
    if (cleaner->at + sizeof(header) > cleaner->bytes) {
        return false;
    }
    memcpy(&header, cleaner->memory + cleaner->at, sizeof(header));
    struct log_fetch fetch = {.extent = {.lsn = lsn, .length = header.length},
                              .offset = cleaner->piece * LOG_FRAME_BYTES,
                              .bytes = cleaner->bytes};
    if (header.lsn != lsn || log_is_void(cleaner->store->log, lsn) ||
        log_fetch_verify(cleaner->store->log, &fetch, cleaner->memory, &record->content) != 0) {
        return false;
    }
    record->lsn = lsn;
    record->tag = header.tag;
    record->type = header.type;
    *next = cleaner->at + record_bytes(header.length);
    return true;
}

static void copies(struct cleaner *cleaner)
{
    struct mailstore *store = cleaner->store;
    uint64_t segment = log_settings_of(store->log)->segment_bytes, before = cleaner->copied;
    while (cleaner->at + sizeof(struct record_header) <= cleaner->bytes) {
        struct log_record record;
        uint32_t next;
        if (cleaner->copied - before > COPIED_EACH_BYTES) {
            return;
        }
        if (!record_at(cleaner, &record, &next)) {
            /* Padding, or what was torn: a start finds a record at any place behind it, so we do. */
            cleaner->at += RECORD_ALIGN;
            continue;
        }
        int status = record_keep(cleaner, &record);
        if (status == -EAGAIN) {
            return;
        }
        if (status != 0 || cleaner->copied > segment - segment / 16) {
            gives_up(cleaner);
            return;
        }
        cleaner->at = record.type == LOG_TYPE_SKIP ? cleaner->bytes : next;
    }
    cleaner->piece++;
    cleaner->state = CLEAN_READS;
}

/* ── The end ─────────────────────────────────────────────────────────────────────────────────── */

static void says(struct cleaner *cleaner)
{
    struct mailstore *store = cleaner->store;
    struct log_head head = {.type = RECORD_CLEANED, .flags = LOG_RESERVED};
    struct slice part = slice_of(&store->safe, sizeof(store->safe));
    struct log_extent extent;
    int status = log_append(store->log, &head, &part, 1, &extent);
    if (status == 0) {
        waits_for_log(cleaner, CLEAN_SAYS);
    } else if (status != -EAGAIN) {
        gives_up(cleaner);
    }
}

static void frees(struct cleaner *cleaner)
{
    struct mailstore *store = cleaner->store;
    struct log_segment_live *live = log_segment_live(store->log, cleaner->sequence);
    struct segment_books *books = segment_books(store, cleaner->sequence);
    if (live == NULL || books == NULL || live->bytes > 0 || books->drafts > 0) {
        gives_up(cleaner);
        return;
    }
    if (log_reading_keeps(store->log, cleaner->sequence) &&
        !(cleaner_is_short(store) && audit_yield(store))) {
        log_expect_space(store->log, false);
        cleaner->state = CLEAN_LOOKS; /* it is chosen again when nobody reads it */
        return;
    }
    int status = log_free_segment(store->log, cleaner->sequence);
    if (status != 0) {
        gives_up(cleaner);
        return;
    }
    store->counters.segments_cleaned++;
    log_expect_space(store->log, false);
    cleaner->state = CLEAN_LOOKS;
}

static void all_is_durable(struct log_waiter *waiter, int status)
{
    struct cleaner *cleaner = list_entry(waiter, struct cleaner, waiter);
    struct mailstore *store = cleaner->store;
    cleaner->busy = false;
    bool failed = status != 0 || log_counters(store->log)->write_failures != cleaner->failures ||
                  store->sick != 0;
    if (failed) {
        gives_up(cleaner);
        return;
    }
    if (cleaner->state == CLEAN_SAYS) {
        frees(cleaner);
        return;
    }
    status = moves_do(cleaner);
    if (status != 0) {
        store->sick = status;
        gives_up(cleaner);
        return;
    }
    cleaner->write_needed = store->writes_begun + 1;
    cleaner->state = CLEAN_INDEXES;
}

static void indexes(struct cleaner *cleaner)
{
    struct mailstore *store = cleaner->store;
    if (store->writes_done >= cleaner->write_needed) {
        says(cleaner);
        return;
    }
    if (!index_is_writing(store->index) && store->writes_begun < cleaner->write_needed &&
        store->sick == 0) {
        mailstore_checkpoint(store);
    }
}

/* ── Snapshots ───────────────────────────────────────────────────────────────────────────────── */

void snapshot_wanted(struct user *user)
{
    struct cleaner *cleaner = user->store->cleaner;
    uint64_t size = SNAPSHOT_BYTES_MIN + user->box_count * 256ull +
                    user->pub.totals.messages * (sizeof(struct stored_entry) + 16);
    size = size > user->snapshot_bytes ? size : user->snapshot_bytes;
    if (user->snapshots || user->store->replays || user->state_bytes < SNAPSHOT_FACTOR * size) {
        return;
    }
    if (cleaner->snapshot_count == cleaner->snapshot_room) {
        uint32_t room = cleaner->snapshot_room * 2 + 16;
        uint64_t *grown =
            (uint64_t *)realloc(cleaner->snapshots, room * sizeof(cleaner->snapshots[0]));
        if (grown == NULL) {
            return; /* another time */
        }
        cleaner->snapshots = grown;
        cleaner->snapshot_room = room;
    }
    cleaner->snapshots[cleaner->snapshot_count++] = user->pub.id;
    user->snapshots = true;
}

static int rows_say(struct mailstore *store, struct writer *writer, const struct key *prefix)
{
    struct index_walk walk;
    bool more = index_walk_begin(store->index, &walk, key_slice(prefix), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        write_text(writer, walk.key);
        write_u32(writer, (uint32_t)walk.value.size);
        write_bytes(writer, walk.value.bytes, walk.value.size);
    }
    index_walk_end(&walk);
    return walk.status;
}

static int user_say(struct user *user, struct writer *writer)
{
    static const enum row_kind of_user[] = {ROW_USER,     ROW_BOX,  ROW_SUBSCRIBED,
                                            ROW_PROPERTY, ROW_KEPT, ROW_WRITE};
    static const enum row_kind of_box[] = {ROW_ENTRIES, ROW_VANISHED};
    struct mailstore *store = user->store;
    struct key key;
    int status = users_flush(store);
    key_begin(&key, ROW_USER_NAME);
    key_text(&key, slice_text(user->name));
    struct slice id;
    status = status == 0 ? index_get(store->index, key_slice(&key), &id) : status;
    if (status == 0) { /* this one name, and not those that begin with it */
        write_text(writer, key_slice(&key));
        write_u32(writer, (uint32_t)id.size);
        write_bytes(writer, id.bytes, id.size);
    }
    for (size_t i = 0; i < sizeof(of_user) / sizeof(of_user[0]) && status == 0; i++) {
        key_begin(&key, of_user[i]);
        key_u64(&key, user->pub.id);
        status = rows_say(store, writer, &key);
    }
    for (uint32_t b = 0; b < user->box_count; b++) {
        for (size_t i = 0; i < sizeof(of_box) / sizeof(of_box[0]) && status == 0; i++) {
            key_begin(&key, of_box[i]);
            key_u64(&key, user->boxes[b]->pub.id);
            status = rows_say(store, writer, &key);
        }
    }
    return status;
}

static int snapshot_take(struct mailstore *store, struct user *user)
{
    struct change *change = change_new(store, CHANGE_SNAPSHOT, NULL, NULL);
    if (change == NULL) {
        return -ENOMEM;
    }
    change_user(change, slice_text(user->name));
    change->head.as_of = store->applied;
    write_u64(&change->content, changes_floor(store));
    int status = user_say(user, &change->content);
    change->content.failed |= status != 0;
    uint64_t bytes = change->content.size;
    status = change_submit(change);
    if (status == 0) {
        store->counters.snapshots++;
        store->counters.snapshot_bytes += bytes;
    }
    return status;
}

static unsigned snapshot_next(struct cleaner *cleaner)
{
    struct mailstore *store = cleaner->store;
    struct user *user;
    if (cleaner->snapshot_count == 0 || !list_empty(&store->queue) || store->midway ||
        log_room(store->log, 65536, LOG_RESERVED) != 0) {
        return 0;
    }
    uint64_t id = cleaner->snapshots[--cleaner->snapshot_count];
    if (user_get_by_id(store, id, &user) == 0) {
        user->snapshots = false;
        user->state_bytes = 0; /* it counts anew, also when this one fails */
        snapshot_take(store, user);
        user_drop(user);
    }
    return 1;
}

/* ── A round ─────────────────────────────────────────────────────────────────────────────────── */

unsigned cleaner_round(struct mailstore *store)
{
    struct cleaner *cleaner = store->cleaner;
    if (store->sick != 0 || store->rests || cleaner->busy) {
        return 0;
    }
    unsigned done = snapshot_next(cleaner);
    bool broken = cleaner->failures != log_counters(store->log)->write_failures;
    if (cleaner->state != CLEAN_LOOKS && broken) {
        gives_up(cleaner);
        return done;
    }
    switch (cleaner->state) {
    case CLEAN_LOOKS:
        looks(cleaner);
        break;
    case CLEAN_READS:
        reads(cleaner);
        break;
    case CLEAN_COPIES:
        copies(cleaner);
        break;
    case CLEAN_INDEXES:
        indexes(cleaner);
        break;
    case CLEAN_SETTLES:
    case CLEAN_SAYS:
        break;
    }
    return done + (cleaner->state != CLEAN_LOOKS);
}
