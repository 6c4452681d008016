/*
 * All records of a folder, one segment after the other. While a piece is looked at those behind it are being read, over
 * the end of a segment too, so that the disk and the processor do not wait for each other in turns.
 */
#include "queue/log/log_folder.h"
#include "queue/log/log_scan.h"

#define READ_BYTES (1024u * 1024)
#define READS_MAX 8u
#define FRAMES_READ (READ_BYTES / LOG_FRAME_BYTES)

struct reading {
    struct log_folder *folder;
    uint8_t *memory;
    uint32_t room;            /* pieces of READ_BYTES that memory has */
    uint64_t begun, finished; /* of them, since the start */
    uint32_t ahead_segment;   /* what is read next: of this segment */
    uint32_t ahead_offset;    /* from here on */
    struct log_blocking blocking[READS_MAX];
    int started[READS_MAX];
};

static uint32_t read_size(const struct log_folder_segment *segment, uint32_t offset)
{
    uint32_t rest = segment->bytes - offset;
    return rest < READ_BYTES ? rest : READ_BYTES;
}

static uint8_t *piece_memory(const struct reading *reading, uint64_t piece)
{
    return reading->memory + piece % reading->room * READ_BYTES;
}

/* The segment that the next piece is of; NULL: all was asked for. */
static const struct log_folder_segment *segment_ahead(struct reading *reading)
{
    const struct log_folder *folder = reading->folder;
    while (reading->ahead_segment < folder->in_use_count) {
        const struct log_folder_segment *segment = &folder->segments[reading->ahead_segment];
        if (reading->ahead_offset < segment->bytes) {
            return segment;
        }
        reading->ahead_segment++;
        reading->ahead_offset = 0;
    }
    return NULL;
}

/* Asks for as many pieces as there is room for, and has the disk begin at once. */
static void read_ahead(struct reading *reading)
{
    struct disk *disk = reading->folder->source.disk;
    const struct log_folder_segment *segment;
    while (reading->begun - reading->finished < reading->room &&
           (segment = segment_ahead(reading)) != NULL) {
        uint64_t i = reading->begun % reading->room;
        log_blocking_init(&reading->blocking[i]);
        reading->started[i] =
            disk->ops->read(disk, segment->file, piece_memory(reading, reading->begun),
                            read_size(segment, reading->ahead_offset), reading->ahead_offset,
                            &reading->blocking[i].done);
        reading->ahead_offset += READ_BYTES;
        reading->begun++;
    }
    disk->ops->submit(disk);
}

static int read_wait(struct reading *reading)
{
    uint64_t i = reading->finished++ % reading->room;
    return log_blocking_wait(reading->folder->source.disk, &reading->blocking[i],
                             reading->started[i]);
}

/* Counts it, and says so. */
static void unread_tell(const struct reading *reading, struct log_folder_segment *segment,
                        struct log_unread *what)
{
    struct log_folder *folder = reading->folder;
    if (what->bytes == 0) {
        return;
    }
    segment->unread_bytes += (uint32_t)what->bytes;
    folder->unread_bytes += what->bytes;
    if (folder->source.unread != NULL) {
        folder->source.unread(folder->source.owner, what);
    }
    what->bytes = 0;
}

static bool block_read(const struct reading *reading, const struct log_folder_segment *segment,
                       uint8_t *memory, uint32_t offset, int *error)
{
    struct disk *disk = reading->folder->source.disk;
    struct log_blocking blocking;
    log_blocking_init(&blocking);
    *error = log_blocking_wait(
        disk, &blocking,
        disk->ops->read(disk, segment->file, memory, DISK_BLOCK_BYTES, offset, &blocking.done));
    return *error >= 0;
}

/* One block that cannot be read must not cost its neighbours. unread: of each frame, which could not. Of
 * the header nothing is wanted here, and behind valid_end nothing counts. */
static void read_by_blocks(const struct reading *reading, struct log_folder_segment *segment,
                           uint8_t *memory, uint32_t offset, uint64_t unread[static FRAMES_READ])
{
    const struct log_folder *folder = reading->folder;
    struct log_unread what = {.shard = folder->source.shard, .number = segment->number};
    uint32_t bytes = read_size(segment, offset);
    for (uint32_t at = 0; at < bytes; at += DISK_BLOCK_BYTES) {
        int error;
        if (block_read(reading, segment, memory + at, offset + at, &error)) {
            unread_tell(reading, segment, &what);
            continue;
        }
        memset(memory + at, 0xff, DISK_BLOCK_BYTES);
        if (offset + at < SEGMENT_HEADER_BYTES || offset + at >= segment->valid_end) {
            continue;
        }
        unread[at / LOG_FRAME_BYTES] |= 1ull << at % LOG_FRAME_BYTES / DISK_BLOCK_BYTES;
        what.offset = what.bytes == 0 ? offset + at : what.offset;
        what.bytes += DISK_BLOCK_BYTES;
        what.error = error;
    }
    unread_tell(reading, segment, &what);
}

static int segment_scan(struct reading *reading, struct log_folder_segment *segment,
                        const struct log_visitor *visitor)
{
    struct log_folder *folder = reading->folder;
    struct log_scan scan = {.sequence = segment->sequence,
                            .seed = record_seed(folder->id),
                            .valid_end = segment->valid_end,
                            .visitor = visitor};
    for (uint32_t offset = 0; offset < segment->bytes; offset += READ_BYTES) {
        read_ahead(reading);
        uint8_t *memory = piece_memory(reading, reading->finished);
        uint32_t bytes = read_size(segment, offset);
        uint64_t unread[FRAMES_READ] = {0};
        if (read_wait(reading) < 0) {
            read_by_blocks(reading, segment, memory, offset, unread);
        }
        folder->scanned_bytes += bytes;
        for (uint32_t at = 0; at < bytes; at += LOG_FRAME_BYTES) {
            scan.unread = unread[at / LOG_FRAME_BYTES];
            int result = log_scan_piece(&scan, memory + at, offset + at, LOG_FRAME_BYTES);
            if (result != 0) {
                return result;
            }
        }
    }
    folder->damaged_bytes += scan.damaged_bytes;
    folder->torn_bytes += scan.torn_bytes;
    segment->end = segment->unread_bytes > 0 ? segment->bytes : scan.end;
    segment->empty = segment->unread_bytes == 0 && scan.records == 0;
    return 0;
}

/* The first segment that is read. Who goes on in the newest must know where it ends. */
static uint32_t pass_over(struct log_folder *folder, uint64_t from)
{
    uint32_t i = 0;
    for (; i + 1 < folder->in_use_count; i++) {
        struct log_folder_segment *segment = &folder->segments[i];
        if (segment->sequence >= log_lsn_sequence(from)) {
            break;
        }
        segment->end = segment->bytes;
        segment->empty = segment->valid_end <= SEGMENT_HEADER_BYTES; /* all of it is void */
    }
    return i;
}

int log_folder_scan(struct log_folder *folder, const struct log_visitor *visitor)
{
    uint32_t first = pass_over(folder, visitor->from);
    struct reading reading = {
        .folder = folder, .memory = folder->source.memory, .ahead_segment = first};
    size_t room = folder->source.memory_bytes / READ_BYTES;
    int result = 0;
    reading.room = room < READS_MAX ? (uint32_t)room : READS_MAX;
    check(reading.room > 0);
    for (uint32_t i = first; i < folder->in_use_count && result == 0; i++) {
        result = segment_scan(&reading, &folder->segments[i], visitor);
    }
    while (reading.finished < reading.begun) { /* nothing may come into memory later */
        read_wait(&reading);
    }
    return result;
}
