/* Frames, and the records in them. */
#include "queue/log/log_private.h"

/* Readers may keep this share of the frames from being used again; then they read from the disk. */
#define FRAMES_HELD_MAX(log) ((log)->frame_count / 2)
#define COPY_PIECE_BYTES 8192u
#define NOTES_SHARE 8u /* of the last segment, for records that are LOG_KEPT alone */

static void frame_release(struct ref *ref)
{
    struct log_frame *frame = (struct log_frame *)(void *)ref;
    struct log *log = frame->log;
    list_append(&log->idle, &frame->node);
    log->idle_count++;
    log->room_due = true;
}

void log_frames_open(struct log *log)
{
    for (uint32_t i = 0; i < log->frame_count; i++) {
        struct log_frame *frame = &log->frames[i];
        frame->log = log;
        frame->memory = (uint8_t *)log->settings.memory + (size_t)i * LOG_FRAME_BYTES;
        frame->ref = (struct ref){.count = 0, .release = frame_release};
        list_init(&frame->node);
        list_append(&log->idle, &frame->node);
    }
    log->idle_count = log->frame_count;
}

/* The log's own hold ends when nothing of the frame is left to write. */
void log_frame_settle(struct log_frame *frame)
{
    if (!frame->kept || !frame->closed || frame->writes > 0 || frame->sent < frame->filled) {
        return;
    }
    frame->kept = false;
    frame->log->kept_count--;
    if (frame->segment != NULL) {
        frame->segment->kept--;
    }
    ref_drop(&frame->ref);
}

static struct log_frame *frame_take(struct log *log)
{
    struct log_segment *segment = log->current;
    struct list_node *node = list_pop(&log->idle);
    check(node != NULL && segment != NULL && segment->piece_next < segment->piece_count);
    struct log_frame *frame = list_entry(node, struct log_frame, node);
    log->idle_count--;
    if (frame->segment != NULL) {
        frame->segment->frames[frame->piece] = 0;
    }
    ref_init(&frame->ref, frame_release);
    frame->segment = segment;
    frame->piece = segment->piece_next++;
    frame->filled = frame->sent = frame->piece == 0 ? SEGMENT_HEADER_BYTES : 0;
    frame->writes = 0;
    frame->kept = true;
    frame->closed = false;
    segment->frames[frame->piece] = (uint16_t)(frame - log->frames + 1);
    segment->kept++;
    log->kept_count++;
    list_append(&log->unsent, &frame->node);
    log->frame = frame;
    log->end = lsn_of(segment->sequence, frame->piece * LOG_FRAME_BYTES + frame->filled);
    return frame;
}

static uint64_t frame_lsn(const struct log_frame *frame, uint32_t offset)
{
    return lsn_of(frame->segment->sequence, frame->piece * LOG_FRAME_BYTES + offset);
}

static void header_seal(struct log *log, uint32_t offset, struct record_header *header,
                        uint32_t content_crc)
{
    struct log_frame *frame = log->frame;
    header->lsn = frame_lsn(frame, offset);
    if (log->settings.durability == LOG_DURABLE && !frame->segment->resumed &&
        log_lsn_sequence(log->frontier) == frame->segment->sequence) {
        header->durable = lsn_offset(log->frontier);
    }
    header->crc = record_crc(content_crc, header);
    memcpy(frame->memory + offset, header, sizeof(*header));
}

/* The newest record takes no more: writes its header, pads it. */
void log_record_close(struct log *log)
{
    struct log_open_record *open = &log->open;
    if (!open->is) {
        return;
    }
    open->is = false;
    struct log_frame *frame = log->frame;
    struct record_header header = {.length = open->length,
                                   .tag = open->head.tag,
                                   .type = open->head.type,
                                   .flags = open->head.flags};
    header_seal(log, open->offset, &header, open->crc);
    uint32_t end = open->offset + record_bytes(open->length);
    memset(frame->memory + frame->filled, 0, end - frame->filled);
    frame->filled = end;
    log->end = frame_lsn(frame, end);
}

/* The frame takes no more; says so to who reads it back. */
void log_frame_close(struct log *log)
{
    struct log_frame *frame = log->frame;
    if (frame == NULL) {
        return;
    }
    log_record_close(log);
    if (LOG_FRAME_BYTES - frame->filled >= sizeof(struct record_header)) {
        struct record_header header = {.type = LOG_TYPE_SKIP};
        header_seal(log, frame->filled, &header, log->seed);
        frame->filled += (uint32_t)sizeof(header);
    }
    frame->closed = true;
    log->frame = NULL;
    if (frame->sent == frame->filled) {
        list_remove(&frame->node);
        log_frame_settle(frame);
    }
}

/* What is left for the content of another record; -1: not even room for its header. */
static int64_t frame_left(const struct log *log)
{
    if (log->frame == NULL) {
        return -1;
    }
    uint32_t end = log->frame->filled;
    if (log->open.is) {
        end = log->open.offset + record_bytes(log->open.length);
    }
    int64_t left = (int64_t)LOG_FRAME_BYTES - end - (int64_t)sizeof(struct record_header);
    return left >= 0 ? left : -1;
}

static int room_answer(struct log *log, int answer)
{
    switch (answer) {
    case 0:
        break;
    case -EAGAIN:
        log->counters.refused_again++;
        break;
    case -ENOSPC:
        log->counters.refused_full++;
        break;
    default:
        log->counters.refused_broken++;
        break;
    }
    return answer;
}

/* Has this record no part in what is left of the current segment? */
static bool is_kept_out(const struct log *log, uint32_t flags)
{
    const struct log_segment *current = log->current;
    if (current == NULL || !current->reserve || !log_is_short(log) || (flags & LOG_KEPT)) {
        return false;
    }
    if (!(flags & LOG_RESERVED)) {
        return log->ready_count < LOG_SEGMENTS_RESERVED; /* else what is kept back is whole */
    }
    return log->ready_count == 0 &&
           current->piece_count - current->piece_next < current->piece_count / NOTES_SHARE;
}

static int room(const struct log *log, size_t bytes, uint32_t flags)
{
    if (log->state != LOG_RUNNING) {
        return log->state == LOG_BROKEN ? log->status : -EAGAIN;
    }
    if (is_kept_out(log, flags)) {
        return log_space_comes(log, flags) ? -EAGAIN : -ENOSPC;
    }
    if ((int64_t)bytes <= frame_left(log)) {
        return 0;
    }
    uint32_t wanted = 1 + (uint32_t)(bytes / LOG_RECORD_BYTES_MAX);
    if (log->current != NULL && log->current->piece_count - log->current->piece_next >= wanted) {
        return log->idle_count >= wanted ? 0 : -EAGAIN;
    }
    int ready = log_segment_ready(log, flags);
    if (ready == 0 && log->idle_count < wanted) {
        return -EAGAIN;
    }
    return ready;
}

int log_room(const struct log *log, size_t bytes, uint32_t flags)
{
    check(bytes <= LOG_BODY_BYTES_MAX);
    /* Counting is no change that a caller could see. */
    return room_answer((struct log *)(uintptr_t)log, room(log, bytes, flags));
}

/* Moves to the next piece; log_room has promised it. */
static void frame_next(struct log *log)
{
    log_frame_close(log);
    if (log->current != NULL && log->current->piece_next == log->current->piece_count) {
        log->current = NULL;
    }
    if (log->current == NULL) {
        log_segment_take(log);
    }
    frame_take(log);
}

/* What is copied is counted while it is in the first-level cache. */
static uint32_t copy_counted(uint32_t crc, uint8_t *to, const uint8_t *from, size_t size)
{
    while (size > 0) {
        size_t piece = size < COPY_PIECE_BYTES ? size : COPY_PIECE_BYTES;
        memcpy(to, from, piece);
        crc = crc32c(crc, to, piece);
        to += piece;
        from += piece;
        size -= piece;
    }
    return crc;
}

static void record_begin(struct log *log, const struct log_head *head)
{
    log_record_close(log);
    struct log_frame *frame = log->frame;
    log->open = (struct log_open_record){
        .is = true, .offset = frame->filled, .crc = log->seed, .head = *head};
    frame->filled += (uint32_t)sizeof(struct record_header);
    log->counters.records++;
}

/* Adds at most `limit` bytes of the parts from `skip` on to the newest record. */
static uint32_t record_fill(struct log *log, const struct slice *parts, size_t count, size_t skip,
                            uint32_t limit)
{
    struct log_frame *frame = log->frame;
    uint32_t added = 0;
    for (size_t i = 0; i < count && added < limit; i++) {
        if (skip >= parts[i].size) {
            skip -= parts[i].size;
            continue;
        }
        size_t size = parts[i].size - skip;
        if (size > limit - added) {
            size = limit - added;
        }
        log->open.crc =
            copy_counted(log->open.crc, frame->memory + frame->filled, parts[i].bytes + skip, size);
        frame->filled += (uint32_t)size;
        added += (uint32_t)size;
        skip = 0;
    }
    log->open.length += added;
    log->end = frame_lsn(frame, frame->filled);
    log->counters.record_bytes += added;
    if (!(log->open.head.flags & LOG_BODY)) {
        log->urgent = true;
    }
    return added;
}

static size_t parts_size(const struct slice *parts, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += parts[i].size;
    }
    return size;
}

int log_append(struct log *log, const struct log_head *head, const struct slice *parts,
               size_t count, struct log_extent *extent)
{
    size_t size = parts_size(parts, count);
    check(size <= LOG_RECORD_BYTES_MAX);
    int answer = room(log, size, head->flags);
    if (answer != 0) {
        if ((head->flags & LOG_KEPT) && log_stash_put(log, head, parts, count) == 0) {
            *extent = (struct log_extent){.length = (uint32_t)size};
            return 0;
        }
        return room_answer(log, answer);
    }
    if ((int64_t)size > frame_left(log)) {
        frame_next(log);
    }
    record_begin(log, head);
    record_fill(log, parts, count, 0, (uint32_t)size);
    *extent = (struct log_extent){.lsn = frame_lsn(log->frame, log->open.offset),
                                  .length = (uint32_t)size};
    return 0;
}

bool log_is_growing(const struct log *log, const struct log_extent *extent)
{
    return log->open.is && frame_lsn(log->frame, log->open.offset) == extent->lsn &&
           log->open.length < LOG_RECORD_BYTES_MAX && log->frame->filled < LOG_FRAME_BYTES;
}

uint32_t log_append_body(struct log *log, const struct log_head *head, const struct slice *parts,
                         size_t count, size_t skip, const struct log_extent *last,
                         struct log_extent *extent)
{
    size_t size = parts_size(parts, count);
    check(size > skip);
    size -= skip;
    struct log_open_record *open = &log->open;
    uint32_t limit = 0;
    if (last != NULL && log_is_growing(log, last)) {
        check(open->head.tag == head->tag && open->head.type == head->type);
        limit = LOG_FRAME_BYTES - log->frame->filled;
        if (limit > LOG_RECORD_BYTES_MAX - open->length) {
            limit = LOG_RECORD_BYTES_MAX - open->length;
        }
    }
    if (limit == 0) {
        /* A record of a few bytes at the end of a frame costs more than it holds. */
        int64_t left = frame_left(log);
        if (left < (int64_t)size && left < 1024) {
            frame_next(log);
            left = frame_left(log);
        }
        record_begin(log, head);
        limit = left < LOG_RECORD_BYTES_MAX ? (uint32_t)left : LOG_RECORD_BYTES_MAX;
    }
    uint32_t added = record_fill(log, parts, count, skip, size < limit ? (uint32_t)size : limit);
    *extent =
        (struct log_extent){.lsn = frame_lsn(log->frame, open->offset), .length = open->length};
    return added;
}

int log_read(struct log *log, const struct log_extent *extent, struct slice *content,
             struct ref **owner)
{
    struct log_segment *segment = log_segment_find(log, log_lsn_sequence(extent->lsn));
    uint32_t offset = lsn_offset(extent->lsn);
    uint32_t within = offset % LOG_FRAME_BYTES;
    if (segment == NULL || extent->length > LOG_RECORD_BYTES_MAX ||
        within + sizeof(struct record_header) + extent->length > LOG_FRAME_BYTES ||
        (uint64_t)offset + record_bytes(extent->length) > segment->valid_end) {
        return -EIO;
    }
    uint16_t index = segment->frames[offset / LOG_FRAME_BYTES];
    if (index == 0) {
        return -ENOENT;
    }
    struct log_frame *frame = &log->frames[index - 1];
    uint32_t held = log->frame_count - log->idle_count - log->kept_count;
    if (held >= FRAMES_HELD_MAX(log) && (frame->kept || frame->ref.count == 0)) {
        return -ENOENT;
    }
    if (frame->ref.count == 0) {
        list_remove(&frame->node);
        log->idle_count--;
        ref_init(&frame->ref, frame_release);
    } else {
        ref_take(&frame->ref);
    }
    *owner = &frame->ref;
    *content = slice_of(frame->memory + within + sizeof(struct record_header), extent->length);
    return 0;
}
