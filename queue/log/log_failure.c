/* What follows a failed write: the void, another segment, and the records that must not be lost. */
#include "queue/log/log_private.h"

struct stash_entry {
    uint64_t tag;
    uint32_t length;
    uint8_t type;
    uint8_t flags;
    uint16_t zero;
};

static int stash_reserve(struct log_stash *stash, size_t more)
{
    if (stash->size + more <= stash->capacity) {
        return 0;
    }
    size_t capacity = stash->capacity * 2 + more + 4096;
    if (stash->size + more > LOG_STASH_BYTES_MAX) {
        return -ENOMEM;
    }
    uint8_t *bytes = (uint8_t *)realloc(stash->bytes, capacity);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    stash->bytes = bytes;
    stash->capacity = capacity;
    return 0;
}

int log_stash_put(struct log *log, const struct log_head *head, const struct slice *parts,
                  size_t count)
{
    struct log_stash *stash = &log->stash;
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += parts[i].size;
    }
    struct stash_entry entry = {
        .tag = head->tag, .length = (uint32_t)length, .type = head->type, .flags = head->flags};
    if (stash_reserve(stash, sizeof(entry) + length) != 0) {
        return -ENOMEM;
    }
    memcpy(stash->bytes + stash->size, &entry, sizeof(entry));
    stash->size += sizeof(entry);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].size > 0) {
            memcpy(stash->bytes + stash->size, parts[i].bytes, parts[i].size);
        }
        stash->size += parts[i].size;
    }
    return 0;
}

unsigned log_stash_append(struct log *log)
{
    struct log_stash *stash = &log->stash;
    unsigned done = 0;
    while (stash->used < stash->size && log->state == LOG_RUNNING) {
        struct stash_entry entry;
        memcpy(&entry, stash->bytes + stash->used, sizeof(entry));
        if (log_room(log, entry.length, entry.flags) != 0) {
            break;
        }
        struct log_head head = {.type = entry.type, .flags = entry.flags, .tag = entry.tag};
        struct slice content = slice_of(stash->bytes + stash->used + sizeof(entry), entry.length);
        struct log_extent extent;
        check(log_append(log, &head, &content, 1, &extent) == 0);
        log_segment_keep(log->current); /* its owner does not know that it is here */
        stash->used += sizeof(entry) + entry.length;
        done++;
    }
    if (stash->used == stash->size && stash->size > 0) {
        free(stash->bytes);
        *stash = (struct log_stash){0};
    }
    return done;
}

/* Stashes those records of a void part of a frame that must not be lost. */
static void frame_salvage(struct log *log, const struct log_frame *frame, uint32_t from)
{
    uint32_t at = from;
    while (at + sizeof(struct record_header) <= frame->filled) {
        struct record_header header;
        memcpy(&header, frame->memory + at, sizeof(header));
        uint64_t lsn = lsn_of(frame->segment->sequence, frame->piece * LOG_FRAME_BYTES + at);
        if (header.lsn != lsn) {
            at = (at / DISK_BLOCK_BYTES + 1) * DISK_BLOCK_BYTES; /* the padding of a write */
            continue;
        }
        if (header.flags & LOG_KEPT) {
            struct log_head head = {.type = header.type, .flags = header.flags, .tag = header.tag};
            struct slice content = slice_of(frame->memory + at + sizeof(header), header.length);
            log_stash_put(log, &head, &content, 1);
        }
        at += record_bytes(header.length);
    }
}

static void frame_void(struct log *log, struct log_frame *frame)
{
    check(frame->segment != NULL);
    uint32_t start = frame->piece == 0 ? SEGMENT_HEADER_BYTES : 0;
    uint32_t from = start;
    uint32_t within = lsn_offset(log->void_from) - frame->piece * LOG_FRAME_BYTES;
    if (frame->segment->sequence == log_lsn_sequence(log->void_from) && within < LOG_FRAME_BYTES) {
        from = within;
    }
    frame_salvage(log, frame, from);
    check(frame->kept && frame->writes == 0);
    frame->kept = false;
    frame->closed = true;
    log->kept_count--;
    frame->segment->kept--;
    if (from <= start) {
        frame->segment->frames[frame->piece] = 0;
        frame->segment = NULL;
    }
    ref_drop(&frame->ref);
}

static void frames_void(struct log *log)
{
    log_record_close(log);
    log->frame = NULL;
    log->current = NULL;
    list_splice(&log->failed, &log->unsent);
    for (struct list_node *node; (node = list_pop(&log->failed)) != NULL;) {
        frame_void(log, list_entry(node, struct log_frame, node));
    }
    for (uint32_t i = log->used_count; i-- > 0;) {
        struct log_segment *segment = log->used[log->used_first + i];
        if (segment->sequence < log_lsn_sequence(log->void_from)) {
            break;
        }
        segment->valid_end = segment->sequence == log_lsn_sequence(log->void_from)
                                 ? lsn_offset(log->void_from)
                                 : SEGMENT_HEADER_BYTES;
    }
    log->counters.segments_sealed_early++;
    log_freed_doubt(log);
    log->end = log->promised;
}

static void broken(struct log *log, int status)
{
    struct list_node told;
    list_init(&told);
    if (!log->refuses_late) {
        list_splice(&told, &log->void_waiters);
    }
    log->state = LOG_BROKEN;
    log->status = status;
    log->retry_ns = log->now_ns + LOG_RETRY_NS;
    log->room_due = true;
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        struct log_waiter *waiter = list_entry(node, struct log_waiter, node);
        waiter->done(waiter, status);
    }
}

void log_write_failed(struct log *log, uint64_t lsn, int result)
{
    if (result < 0) {
        log->counters.write_failures++;
        log->status = result == -ENOSPC ? -ENOSPC : -EIO;
    }
    log->state = LOG_DRAINING;
    if (log->void_from == 0 || lsn < log->void_from) {
        log->void_from = lsn;
    }
}

/* Nothing of the segment that failed is in flight any more. */
void log_drained(struct log *log)
{
    bool again = log->void_mark != 0;
    frames_void(log);
    list_splice(&log->void_waiters, &log->waiters);
    log->void_mark = 0;
    log->state = LOG_REOPENING;
    if (again) {
        broken(log, log->status);
    } else {
        log_failure_round(log);
    }
}

/* Goes on in another segment, whose first record says what is void. */
static void reopen(struct log *log)
{
    log_segment_take(log);
    log->state = LOG_RUNNING;
    struct record_void range = {.from = log->void_from, .to = lsn_of(log->current->sequence, 0)};
    struct log_head head = {.type = LOG_TYPE_VOID, .flags = LOG_RESERVED};
    struct slice content = slice_of(&range, sizeof(range));
    struct log_extent extent;
    check(log_append(log, &head, &content, 1, &extent) == 0);
    log_segment_keep(log->current);
    log->void_mark = log->end;
    log->room_due = true;
}

unsigned log_failure_round(struct log *log)
{
    if (log->state != LOG_REOPENING && log->state != LOG_BROKEN) {
        return 0;
    }
    log_void_segments_give_up(log);
    if (log->state == LOG_BROKEN && log->now_ns < log->retry_ns) {
        return 0;
    }
    if (log->ready_count > 0 && log->idle_count > 0) {
        reopen(log);
        return 1;
    }
    if (log->state == LOG_REOPENING && log->ready_count == 0 && log->maker.status != 0) {
        broken(log, log->maker.status);
        return 1;
    }
    return 0;
}
