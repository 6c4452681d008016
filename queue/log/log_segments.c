/* Segments: spares made ahead, freed ones recycled. */
#include "queue/log/log_private.h"
#include <stdio.h>

struct log_segment *log_segment_new(uint32_t number, uint32_t bytes)
{
    uint32_t pieces = bytes / LOG_FRAME_BYTES;
    struct log_segment *segment =
        (struct log_segment *)calloc(1, sizeof(*segment) + pieces * sizeof(segment->frames[0]));
    if (segment != NULL) {
        list_init(&segment->node);
        list_init(&segment->live.members);
        segment->file = -1;
        segment->number = number;
        segment->bytes = bytes;
        segment->piece_count = pieces;
        segment->valid_end = pieces * LOG_FRAME_BYTES;
    }
    return segment;
}

void log_segment_name(const struct log *log, uint32_t number, char name[static 32])
{
    snprintf(name, 32, "%u/%08u.segment", log->settings.shard, number);
}

/* ── In use ──────────────────────────────────────────────────────────────────────────────────── */

static struct log_segment *used_at(const struct log *log, uint32_t i)
{
    return log->used[log->used_first + i];
}

/* Which is the first in use with this sequence or a later one? used_count: none. */
static uint32_t used_index(const struct log *log, uint32_t sequence)
{
    uint32_t low = 0, high = log->used_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (used_at(log, middle)->sequence < sequence) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct log_segment *log_segment_find(const struct log *log, uint32_t sequence)
{
    if (log->current != NULL && log->current->sequence == sequence) {
        return log->current;
    }
    uint32_t i = used_index(log, sequence);
    return i < log->used_count && used_at(log, i)->sequence == sequence ? used_at(log, i) : NULL;
}

uint32_t log_segment_after(const struct log *log, uint32_t sequence)
{
    uint32_t i = used_index(log, sequence + 1);
    return i < log->used_count ? used_at(log, i)->sequence : 0;
}

/* Makes sure that one more can be in use. */
static int used_reserve(struct log *log)
{
    uint32_t wanted = log->used_count + log->ready_count + 1;
    if (log->used_first + wanted <= log->used_capacity) {
        return 0;
    }
    if (log->used_first > 0) {
        memmove(log->used, log->used + log->used_first, log->used_count * sizeof(log->used[0]));
        log->used_first = 0;
    }
    if (wanted <= log->used_capacity / 2) {
        return 0;
    }
    uint32_t capacity = wanted * 2 + 16;
    struct log_segment **used =
        (struct log_segment **)realloc(log->used, capacity * sizeof(log->used[0]));
    if (used == NULL) {
        return wanted <= log->used_capacity ? 0 : -ENOMEM;
    }
    log->used = used;
    log->used_capacity = capacity;
    return 0;
}

int log_used_append(struct log *log, struct log_segment *segment)
{
    int result = used_reserve(log);
    if (result == 0) {
        log->used[log->used_first + log->used_count++] = segment;
        log->used_bytes += segment->bytes;
    }
    return result;
}

int log_segment_ready(const struct log *log, uint32_t flags)
{
    uint32_t wanted = flags & LOG_RESERVED ? 1 : LOG_READY_WANTED;
    if (log->ready_count >= wanted) {
        return 0;
    }
    bool comes = log->maker.status == -ENOSPC && log_space_comes(log, flags);
    return log->maker.status != 0 && !comes ? log->maker.status : -EAGAIN;
}

void log_segment_take(struct log *log)
{
    struct list_node *node = list_pop(&log->ready);
    check(node != NULL);
    struct log_segment *segment = list_entry(node, struct log_segment, node);
    log->ready_count--;
    segment->reserve = log_is_short(log);
    log->current = segment;
    check(log_used_append(log, segment) == 0); /* reserved when it was made ready */
    log_maker_step(log);
}

struct log_segment_live *log_segment_live(struct log *log, uint32_t sequence)
{
    struct log_segment *segment = log_segment_find(log, sequence);
    return segment != NULL ? &segment->live : NULL;
}

uint32_t log_head_sequence(const struct log *log)
{
    return log->used_count > 0 ? used_at(log, 0)->sequence : 0;
}

uint32_t log_current_sequence(const struct log *log)
{
    return log->current != NULL ? log->current->sequence : 0;
}

uint32_t log_promised_sequence(const struct log *log)
{
    if (log->current != NULL && !log->current->resumed) {
        return log->current->sequence;
    }
    return log->ready_count > 0 ? list_entry(log->ready.next, struct log_segment, node)->sequence
                                : 0;
}

void log_segment_keep(struct log_segment *segment)
{
    segment->live.kept_for = segment->sequence - 1;
}

/* Leaves those in use. */
void log_segment_detach(struct log *log, struct log_segment *segment)
{
    log->used_bytes -= segment->bytes;
    free(segment->live.notes);
    segment->live.notes = NULL;
    segment->live.kept_for = 0;
    for (uint32_t piece = 0; piece < segment->piece_count; piece++) {
        if (segment->frames[piece] != 0) {
            log->frames[segment->frames[piece] - 1].segment = NULL;
            segment->frames[piece] = 0;
        }
    }
}

static bool segment_is_busy(const struct log *log, const struct log_segment *segment)
{
    return segment == log->current || segment->pins > 0 || segment->kept > 0 ||
           log_is_held(log, segment->sequence) || segment->sequence <= log->reading_to;
}

/* It may be destroyed when all that was appended so far is durable: among that is what says that its
 * messages are gone. Known once what waits for a place has one. */
static void freed_settles(struct log *log, struct log_segment *segment)
{
    segment->freed_end = log_is_orderly(log) ? log->end : LOG_END_UNKNOWN;
    if (log->frame != NULL && log->frame->filled > log->frame->sent) {
        log->urgent = true; /* a body alone would wait */
    }
}

void log_freed_doubt(struct log *log)
{
    for (struct list_node *node = log->freed.next; node != &log->freed; node = node->next) {
        struct log_segment *segment = list_entry(node, struct log_segment, node);
        if (segment->freed_end > log->frontier) {
            segment->freed_end = LOG_END_UNKNOWN;
        }
    }
}

static struct log_segment *freed_first(const struct log *log)
{
    return list_empty(&log->freed) ? NULL : list_entry(log->freed.next, struct log_segment, node);
}

bool log_freed_comes(const struct log *log)
{
    const struct log_segment *freed = freed_first(log);
    return freed != NULL && log->state == LOG_RUNNING && freed->freed_end != LOG_END_UNKNOWN;
}

static void segment_free(struct log *log, struct log_segment *segment)
{
    check(segment->live.bytes == 0 && list_empty(&segment->live.members));
    log_segment_detach(log, segment);
    freed_settles(log, segment);
    list_append(&log->freed, &segment->node);
    log->freed_count++;
    log->counters.segments_freed++;
    log_maker_step(log);
}

bool log_is_held(const struct log *log, uint32_t sequence)
{
    return sequence <= log->held_to;
}

int log_trim(struct log *log)
{
    /* The highest sequence must stay on the disk. */
    bool highest = log->used_count == 1 && log->ready_count == 0;
    if (log->used_count == 0 || highest || segment_is_busy(log, used_at(log, 0))) {
        return -EBUSY;
    }
    struct log_segment *segment = used_at(log, 0);
    log->used_first++;
    log->used_count--;
    segment_free(log, segment);
    return 0;
}

bool log_is_orderly(const struct log *log)
{
    return log->state == LOG_RUNNING && log->stash.used == log->stash.size;
}

int log_free_segment(struct log *log, uint32_t sequence)
{
    uint32_t i = used_index(log, sequence);
    check(i < log->used_count && used_at(log, i)->sequence == sequence);
    struct log_segment *segment = used_at(log, i);
    if (i == 0) {
        return log_trim(log);
    }
    if (i + 1 == log->used_count || segment_is_busy(log, segment) || !log_is_orderly(log) ||
        log_head_sequence(log) <= segment->live.kept_for) {
        return -EBUSY;
    }
    log->used_count--;
    memmove(&log->used[log->used_first + i], &log->used[log->used_first + i + 1],
            (log->used_count - i) * sizeof(log->used[0]));
    log->counters.segments_freed_between++;
    segment_free(log, segment);
    return 0;
}

/* Segments in which nothing counts any more, behind a void that is about to be said, are removed:
 * a disk that keeps failing must not be filled with them. */
void log_void_segments_give_up(struct log *log)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < log->used_count; i++) {
        struct log_segment *segment = used_at(log, i);
        bool gone = log->void_from != 0 && lsn_of(segment->sequence, 0) > log->void_from &&
                    !segment_is_busy(log, segment) && segment->live.bytes == 0 &&
                    list_empty(&segment->live.members);
        if (!gone) {
            log->used[log->used_first + kept++] = segment;
            continue;
        }
        log_segment_detach(log, segment);
        list_append(&log->suspect, &segment->node);
        log->suspect_count++;
    }
    log->used_count = kept;
}

/* ── Making spares, destroying what is freed ─────────────────────────────────────────────────── */

static void maker_done(struct disk_done *done, int result);

static void maker_begin(struct log *log, enum log_maker_state state, struct log_segment *segment)
{
    log->maker.state = state;
    log->maker.segment = segment;
    log->maker.done.run = maker_done;
    list_init(&log->maker.done.node);
}

static void maker_failed(struct log *log, int result)
{
    int status = result == -ENOSPC ? -ENOSPC : -EIO;
    log->maker.status = result == -ENOMEM ? -ENOMEM : status;
    log->maker.retry_ns = log->now_ns + LOG_RETRY_NS;
    log->room_due = true;
}

static void suspect_add(struct log *log, struct log_segment *segment)
{
    list_append(&log->suspect, &segment->node);
    log->suspect_count++;
}

/* The oldest sequence that a start must believe in. A freed segment that may not be destroyed yet is: else
 * its header would destroy it. */
static uint32_t oldest_sequence(const struct log *log, uint32_t own)
{
    uint32_t oldest = own;
    if (log->used_count > 0) {
        oldest = log_head_sequence(log);
    } else if (log->ready_count > 0) {
        oldest = list_entry(log->ready.next, struct log_segment, node)->sequence;
    }
    for (struct list_node *node = log->freed.next; node != &log->freed; node = node->next) {
        const struct log_segment *segment = list_entry(node, struct log_segment, node);
        if (segment->freed_end > log->frontier && segment->sequence < oldest) {
            oldest = segment->sequence;
        }
    }
    return oldest;
}

/* The header is durable before the segment is needed. */
static void maker_head(struct log *log, struct log_segment *segment)
{
    if (used_reserve(log) != 0) {
        suspect_add(log, segment);
        maker_failed(log, -ENOMEM);
        return;
    }
    segment->sequence = log->next_sequence++;
    segment->piece_next = 0;
    segment->valid_end = segment->piece_count * LOG_FRAME_BYTES;
    segment->reserve = false;
    segment->resumed = false;
    struct segment_header header = {
        .magic = SEGMENT_MAGIC,
        .version = SEGMENT_VERSION,
        .shard = log->settings.shard,
        .log_id = log->id,
        .sequence = segment->sequence,
        .bytes = segment->bytes,
        .head_sequence = oldest_sequence(log, segment->sequence),
    };
    header.crc = crc32c(0, &header, offsetof(struct segment_header, crc));
    memset(log->maker.header, 0, SEGMENT_HEADER_BYTES);
    memcpy(log->maker.header, &header, sizeof(header));
    maker_begin(log, MAKER_HEADING, segment);
    int result = log->disk->ops->write(log->disk, segment->file, log->maker.header,
                                       SEGMENT_HEADER_BYTES, 0, DISK_DURABLE, &log->maker.done);
    if (result < 0) {
        maker_done(&log->maker.done, result);
    }
}

static void maker_prepare(struct log *log)
{
    if (!log_space_may_grow(log)) {
        maker_failed(log, -ENOSPC);
        return;
    }
    struct log_segment *segment = log_segment_new(log->next_number, log->settings.segment_bytes);
    if (segment == NULL) {
        maker_failed(log, -ENOMEM);
        return;
    }
    char name[32];
    log_segment_name(log, log->next_number++, name);
    maker_begin(log, MAKER_PREPARING, segment);
    int result = log->disk->ops->prepare(log->disk, name, segment->bytes, &log->maker.done);
    if (result < 0) {
        maker_done(&log->maker.done, result);
    }
}

static void maker_remove(struct log *log, struct list_node *from, uint32_t *count)
{
    struct log_segment *segment = list_entry(list_pop(from), struct log_segment, node);
    (*count)--;
    if (segment->file >= 0) {
        log->disk->ops->forget(log->disk, segment->file);
        segment->file = -1;
    }
    char name[32];
    log_segment_name(log, segment->number, name);
    maker_begin(log, MAKER_REMOVING, segment);
    int result = log->disk->ops->remove(log->disk, name, &log->maker.done);
    if (result < 0) {
        maker_done(&log->maker.done, result);
    }
}

static void maker_prepared(struct log *log, struct log_segment *segment, int result)
{
    if (result < 0) {
        free(segment);
        maker_failed(log, result);
        return;
    }
    segment->file = result;
    log->counters.segments_prepared++;
    log_space_grown(log, segment->bytes);
    maker_head(log, segment);
}

static void maker_headed(struct log *log, struct log_segment *segment, int result)
{
    if (result < 0) {
        suspect_add(log, segment);
        maker_failed(log, result);
        return;
    }
    list_append(&log->ready, &segment->node);
    log->ready_count++;
    log->maker.status = 0;
    log->room_due = true;
}

/* A file that stays although it was to go would be believed by the next start, when what says that its
 * messages are gone may have been destroyed: so nothing else is destroyed before it. */
static void maker_removed(struct log *log, struct log_segment *segment, int result)
{
    if (result >= 0 || result == -ENOENT) {
        free(segment);
        return;
    }
    list_prepend(&log->suspect, &segment->node);
    log->suspect_count++;
    log->maker.remove_retry_ns = log->now_ns + LOG_RETRY_NS;
}

static void maker_done(struct disk_done *done, int result)
{
    struct log_maker *maker = (struct log_maker *)(void *)done;
    struct log *log = maker->log;
    struct log_segment *segment = maker->segment;
    enum log_maker_state state = maker->state;
    maker->state = MAKER_IDLE;
    maker->segment = NULL;
    switch (state) {
    case MAKER_PREPARING:
        maker_prepared(log, segment, result);
        break;
    case MAKER_HEADING:
        maker_headed(log, segment, result);
        break;
    case MAKER_REMOVING:
        maker_removed(log, segment, result);
        break;
    case MAKER_IDLE:
        check(state != MAKER_IDLE);
    }
    if (log->maker.status == 0) {
        log_maker_step(log);
    }
    log_run_room(log);
}

/* May what was freed first be destroyed? When no spare is left and none can be made otherwise, it must be:
 * what waits for a place would wait for ever. A crash then finds nothing of messages that are gone but
 * commits without a body. */
static bool freed_may_go(struct log *log)
{
    struct log_segment *freed = freed_first(log);
    if (freed == NULL) {
        return false;
    }
    if (freed->freed_end == LOG_END_UNKNOWN && log_is_orderly(log)) {
        freed_settles(log, freed);
    }
    bool stuck = freed->freed_end == LOG_END_UNKNOWN && log->ready_count == 0 &&
                 log->maker.status != 0 && log->write_count == 0;
    return freed->freed_end <= log->frontier || stuck;
}

/* Begins the next thing there is to do, if any; what was freed first is always destroyed first. */
unsigned log_maker_step(struct log *log)
{
    struct log_maker *maker = &log->maker;
    if (maker->state != MAKER_IDLE) {
        return 0;
    }
    struct log_segment *freed = freed_first(log);
    bool foreign = freed != NULL && freed->bytes != log->settings.segment_bytes;
    bool removes = foreign || log->freed_count > log->settings.recycled_count_max;
    bool destroys = log->now_ns >= maker->remove_retry_ns;
    bool goes = destroys && freed_may_go(log);
    if (destroys && !list_empty(&log->suspect)) {
        maker_remove(log, &log->suspect, &log->suspect_count);
    } else if (goes && removes) {
        maker_remove(log, &log->freed, &log->freed_count);
    } else if (log->ready_count >= LOG_READY_WANTED) {
        return 0;
    } else if (maker->status == -EIO && log->now_ns < maker->retry_ns) {
        return 0;
    } else if (goes) {
        list_remove(&freed->node);
        log->freed_count--;
        log->counters.segments_recycled++;
        maker_head(log, freed);
    } else if (destroys && log_freed_comes(log)) {
        return 0;
    } else if (maker->status == 0 || log->now_ns >= maker->retry_ns) {
        maker_prepare(log);
    } else {
        return 0;
    }
    return 1;
}
