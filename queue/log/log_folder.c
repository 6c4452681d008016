#include "queue/log/log_folder.h"
#include "engine/core/mutation.h"
#include "queue/log/log_scan.h"
#include <sched.h>
#include <stdio.h>

/* ── Waiting ─────────────────────────────────────────────────────────────────────────────────── */

static void blocking_done(struct disk_done *done, int result)
{
    struct log_blocking *blocking = (struct log_blocking *)(void *)done;
    blocking->result = result;
    blocking->complete = true;
}

void log_blocking_init(struct log_blocking *blocking)
{
    *blocking = (struct log_blocking){.done.run = blocking_done};
    list_init(&blocking->done.node);
}

int log_blocking_wait(struct disk *disk, struct log_blocking *blocking, int started)
{
    if (started < 0) {
        return started;
    }
    while (!blocking->complete) {
        disk->ops->submit(disk);
        if (disk->ops->reap(disk) == 0) {
            sched_yield();
        }
    }
    return blocking->result;
}

static int read_blocking(struct disk *disk, int file, void *memory, uint32_t bytes, uint64_t offset)
{
    struct log_blocking blocking;
    log_blocking_init(&blocking);
    return log_blocking_wait(disk, &blocking,
                             disk->ops->read(disk, file, memory, bytes, offset, &blocking.done));
}

/* ── Finding ─────────────────────────────────────────────────────────────────────────────────── */

struct listing {
    uint32_t *numbers;
    uint32_t count, capacity;
    int status;
};

static void listing_visit(void *owner, const char *name)
{
    struct listing *listing = (struct listing *)owner;
    uint32_t number = 0;
    size_t digits = strspn(name, "0123456789");
    if (digits == 0 || digits > 9 || strcmp(name + digits, ".segment") != 0) {
        return;
    }
    for (size_t i = 0; i < digits; i++) {
        number = number * 10 + (uint32_t)(name[i] - '0');
    }
    if (listing->count == listing->capacity) {
        uint32_t capacity = listing->capacity * 2 + 64;
        uint32_t *numbers =
            (uint32_t *)realloc(listing->numbers, capacity * sizeof(listing->numbers[0]));
        if (numbers == NULL) {
            listing->status = -ENOMEM;
            return;
        }
        listing->numbers = numbers;
        listing->capacity = capacity;
    }
    listing->numbers[listing->count++] = number;
}

/* Does this block begin a segment? */
static bool header_read(const uint8_t *block, struct segment_header *header)
{
    memcpy(header, block, sizeof(*header));
    return header->magic == SEGMENT_MAGIC && header->version == SEGMENT_VERSION &&
           header->crc == crc32c(0, header, offsetof(struct segment_header, crc)) &&
           header->sequence > 0;
}

/* What only the headers say, while they are read. */
struct finding {
    struct log_folder *folder;
    uint64_t candidate;
    uint32_t votes;
    uint32_t head_sequence;
};

#define BEGINS_BYTES (2 * DISK_BLOCK_BYTES) /* what places a segment */
static_assert(LOG_FOLDER_BEGINS_BYTES == sizeof(struct record_header) + sizeof(struct record_void),
              "what is kept of the first record is all of one that says what is void");

static int unread_tell(const struct log_folder *folder, uint32_t number, uint64_t offset,
                       uint64_t bytes, int error)
{
    const struct log_unread what = {.shard = folder->source.shard,
                                    .number = number,
                                    .offset = offset,
                                    .bytes = bytes,
                                    .error = error};
    if (folder->source.unread != NULL) {
        folder->source.unread(folder->source.owner, &what);
    }
    return error;
}

/* A block that is refused for a moment must not keep us from starting, so each is asked for twice. */
static int begin_read(const struct log_folder *folder, const struct log_folder_segment *segment)
{
    struct disk *disk = folder->source.disk;
    uint32_t bytes = segment->bytes < BEGINS_BYTES ? SEGMENT_HEADER_BYTES : BEGINS_BYTES;
    if (segment->bytes < SEGMENT_HEADER_BYTES ||
        read_blocking(disk, segment->file, folder->source.memory, bytes, 0) >= 0) {
        return 0;
    }
    for (uint32_t at = 0; at < bytes; at += DISK_BLOCK_BYTES) {
        int result =
            read_blocking(disk, segment->file, folder->source.memory + at, DISK_BLOCK_BYTES, at);
        if (result < 0) {
            return unread_tell(folder, segment->number, at, DISK_BLOCK_BYTES, result);
        }
    }
    return 0;
}

static int segment_open(struct finding *finding, uint32_t number)
{
    struct log_folder *folder = finding->folder;
    const uint8_t *memory = folder->source.memory;
    struct disk *disk = folder->source.disk;
    char name[32];
    uint64_t bytes = 0;
    snprintf(name, sizeof(name), "%u/%08u.segment", folder->source.shard, number);
    if (number > folder->number_max) {
        folder->number_max = number;
    }
    int file = disk->ops->open(disk, name, &bytes);
    if (file < 0) {
        return file == -ENOMEM ? file : unread_tell(folder, number, 0, 0, file);
    }
    struct log_folder_segment *segment = &folder->segments[folder->count++];
    *segment = (struct log_folder_segment){.number = number, .file = file, .empty = true};
    segment->bytes = bytes > SEGMENT_BYTES_MAX ? SEGMENT_BYTES_MAX : (uint32_t)bytes;
    struct segment_header header;
    int result = begin_read(folder, segment);
    if (result < 0) {
        return result;
    }
    if (segment->bytes < SEGMENT_HEADER_BYTES || !header_read(memory, &header)) {
        segment->bytes -= segment->bytes % LOG_FRAME_BYTES;
        return 0;
    }
    if (header.bytes < segment->bytes) {
        segment->bytes = header.bytes;
    }
    segment->bytes -= segment->bytes % LOG_FRAME_BYTES;
    if (segment->bytes > 0) {
        memcpy(segment->begins, memory + SEGMENT_HEADER_BYTES, sizeof(segment->begins));
    }
    segment->sequence = header.sequence;
    segment->head_sequence = header.head_sequence;
    segment->log_id = header.log_id;
    segment->in_use = true;
    if (finding->votes == 0) {
        finding->candidate = header.log_id;
    }
    finding->votes += header.log_id == finding->candidate ? 1 : -1u;
    return 0;
}

/* The header says nothing. Unless the segment was never used, its records tell where it belongs; where
 * no header at all can be read they cannot be verified, and the segment is left alone. What cannot be read
 * may be what would tell. */
static int segment_probe(struct log_folder *folder, struct log_folder_segment *segment)
{
    uint32_t seed = record_seed(folder->id);
    uint8_t *memory = folder->source.memory;
    static const uint8_t zeros[64];
    uint32_t highest = 0;
    segment->log_id = folder->id;
    for (uint32_t offset = 0; offset < segment->bytes; offset += LOG_FRAME_BYTES) {
        int result =
            read_blocking(folder->source.disk, segment->file, memory, LOG_FRAME_BYTES, offset);
        if (result < 0) {
            return unread_tell(folder, segment->number, offset, LOG_FRAME_BYTES, result);
        }
        if (offset == 0 && memcmp(memory, zeros, sizeof(zeros)) == 0) {
            return 0;
        }
        if (folder->id == 0) {
            segment->lost = true;
            folder->damaged_bytes += segment->bytes;
            return 0;
        }
        if (offset == 0) {
            memcpy(segment->begins, memory + SEGMENT_HEADER_BYTES, sizeof(segment->begins));
        }
        uint32_t found = log_scan_probe(memory, offset, LOG_FRAME_BYTES, seed);
        highest = found > highest ? found : highest;
    }
    segment->sequence = highest;
    segment->in_use = highest > 0;
    return 0;
}

static int by_sequence(const void *left, const void *right)
{
    const struct log_folder_segment *a = (const struct log_folder_segment *)left;
    const struct log_folder_segment *b = (const struct log_folder_segment *)right;
    if (a->in_use != b->in_use) {
        return a->in_use ? -1 : 1;
    }
    if (a->sequence != b->sequence) {
        return a->sequence < b->sequence ? -1 : 1;
    }
    return a->number < b->number ? -1 : a->number > b->number;
}

/* The first record may say that the end of earlier segments is void. */
static void void_apply(struct log_folder *folder, uint32_t i)
{
    struct log_folder_segment *segment = &folder->segments[i];
    uint64_t lsn = lsn_of(segment->sequence, SEGMENT_HEADER_BYTES);
    struct record_header header;
    struct record_void range;
    memcpy(&header, segment->begins, sizeof(header));
    if (MUTATED(VOID_IGNORED) || header.type != LOG_TYPE_VOID || header.length != sizeof(range) ||
        !record_is_valid(segment->begins, sizeof(segment->begins), lsn, record_seed(folder->id))) {
        return;
    }
    segment->says_void = true;
    memcpy(&range, segment->begins + sizeof(header), sizeof(range));
    while (i-- > 0 && folder->segments[i].sequence >= log_lsn_sequence(range.from)) {
        struct log_folder_segment *earlier = &folder->segments[i];
        uint32_t end = earlier->sequence == log_lsn_sequence(range.from) ? lsn_offset(range.from)
                                                                         : SEGMENT_HEADER_BYTES;
        if (end < earlier->valid_end) {
            earlier->valid_end = end;
        }
    }
}

/* Drops (and leaves alone) what another log has written, and doubles. Returns how many stay. */
static uint32_t foreign_drop(struct log_folder *folder)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < folder->count; i++) {
        struct log_folder_segment *segment = &folder->segments[i];
        bool twice =
            kept > 0 && segment->in_use && folder->segments[kept - 1].sequence == segment->sequence;
        if (segment->lost || segment->log_id != folder->id || twice) {
            folder->source.disk->ops->forget(folder->source.disk, segment->file);
            continue;
        }
        folder->segments[kept++] = *segment;
    }
    return kept;
}

static int segments_place(struct finding *finding)
{
    struct log_folder *folder = finding->folder;
    folder->id = finding->candidate;
    for (uint32_t i = 0; i < folder->count; i++) {
        struct log_folder_segment *segment = &folder->segments[i];
        int status = segment->in_use ? 0 : segment_probe(folder, segment);
        if (status < 0) {
            return status;
        }
    }
    qsort(folder->segments, folder->count, sizeof(folder->segments[0]), by_sequence);
    folder->count = foreign_drop(folder);
    for (uint32_t i = 0; i < folder->count; i++) {
        const struct log_folder_segment *segment = &folder->segments[i];
        if (segment->sequence > folder->sequence_max) {
            folder->sequence_max = segment->sequence;
        }
        if (segment->in_use && segment->head_sequence > finding->head_sequence) {
            finding->head_sequence = segment->head_sequence;
        }
    }
    for (uint32_t i = 0; i < folder->count; i++) {
        struct log_folder_segment *segment = &folder->segments[i];
        segment->in_use = segment->in_use && segment->sequence >= finding->head_sequence;
        segment->valid_end = segment->bytes;
    }
    qsort(folder->segments, folder->count, sizeof(folder->segments[0]), by_sequence);
    while (folder->in_use_count < folder->count && folder->segments[folder->in_use_count].in_use) {
        folder->in_use_count++;
    }
    for (uint32_t i = 0; i < folder->in_use_count; i++) {
        void_apply(folder, i);
    }
    return 0;
}

int log_folder_open(struct log_folder **result, const struct log_folder_source *source)
{
    check(source->memory_bytes >= LOG_FOLDER_MEMORY_BYTES);
    struct listing listing = {0};
    char name[16];
    snprintf(name, sizeof(name), "%u", source->shard);
    int status = source->disk->ops->list(source->disk, name, listing_visit, &listing);
    status = status == -ENOENT ? 0 : status < 0 ? status : listing.status;
    struct log_folder *folder = (struct log_folder *)calloc(1, sizeof(*folder));
    if (status == 0 && folder != NULL) {
        folder->source = *source;
        folder->segments =
            (struct log_folder_segment *)calloc(listing.count + 1, sizeof(folder->segments[0]));
    }
    if (status < 0 || folder == NULL || folder->segments == NULL) {
        free(folder);
        free(listing.numbers);
        return status < 0 ? status : -ENOMEM;
    }
    struct finding finding = {.folder = folder};
    for (uint32_t i = 0; i < listing.count && status == 0; i++) {
        status = segment_open(&finding, listing.numbers[i]);
    }
    free(listing.numbers);
    status = status == 0 ? segments_place(&finding) : status;
    if (status == 0) {
        *result = folder;
    } else {
        log_folder_close(folder);
    }
    return status;
}

void log_folder_close(struct log_folder *folder)
{
    for (uint32_t i = 0; i < folder->count; i++) {
        if (folder->segments[i].file >= 0) {
            folder->source.disk->ops->forget(folder->source.disk, folder->segments[i].file);
        }
    }
    free(folder->segments);
    free(folder);
}

/* ── Reading ─────────────────────────────────────────────────────────────────────────────────── */

int log_folder_read(struct log_folder *folder, const struct log_extent *extent, void *memory,
                    struct slice *content)
{
    for (uint32_t i = 0; i < folder->in_use_count; i++) {
        struct log_folder_segment *segment = &folder->segments[i];
        uint32_t offset = lsn_offset(extent->lsn);
        uint32_t from = offset - offset % DISK_BLOCK_BYTES;
        uint64_t end = (uint64_t)offset + record_bytes(extent->length);
        if (segment->sequence != log_lsn_sequence(extent->lsn)) {
            continue;
        }
        if (extent->length > LOG_RECORD_BYTES_MAX || end > segment->valid_end ||
            end - from > LOG_FRAME_BYTES ||
            read_blocking(folder->source.disk, segment->file, memory,
                          block_up((uint32_t)end - from), from) < 0 ||
            !record_is_valid((uint8_t *)memory + (offset - from), (uint32_t)end - offset,
                             extent->lsn, record_seed(folder->id))) {
            return -EIO;
        }
        *content = slice_of((uint8_t *)memory + (offset - from) + sizeof(struct record_header),
                            extent->length);
        return 0;
    }
    return -EIO;
}

/* ── Retiring ────────────────────────────────────────────────────────────────────────────────── */

static int floor_make(struct log_folder *folder, uint8_t *block, uint32_t number)
{
    struct log_blocking blocking;
    struct disk *disk = folder->source.disk;
    char name[32];
    snprintf(name, sizeof(name), "%u/%08u.segment", folder->source.shard, number);
    log_blocking_init(&blocking);
    int file = log_blocking_wait(
        disk, &blocking, disk->ops->prepare(disk, name, SEGMENT_HEADER_BYTES, &blocking.done));
    if (file < 0) {
        return file;
    }
    struct segment_header header = {.magic = SEGMENT_MAGIC,
                                    .version = SEGMENT_VERSION,
                                    .shard = folder->source.shard,
                                    .log_id = folder->id,
                                    .sequence = folder->sequence_max + 1,
                                    .head_sequence = folder->sequence_max + 1,
                                    .bytes = SEGMENT_HEADER_BYTES};
    header.crc = crc32c(0, &header, offsetof(struct segment_header, crc));
    memset(block, 0, SEGMENT_HEADER_BYTES);
    memcpy(block, &header, sizeof(header));
    log_blocking_init(&blocking);
    int result = log_blocking_wait(
        disk, &blocking,
        disk->ops->write(disk, file, block, SEGMENT_HEADER_BYTES, 0, DISK_DURABLE, &blocking.done));
    disk->ops->forget(disk, file);
    return result < 0 ? result : 0;
}

int log_folder_retire(struct log_folder *folder, void *memory)
{
    bool retired = folder->count == 0 || (folder->count == 1 && folder->in_use_count == 1 &&
                                          folder->segments[0].bytes == 0);
    if (retired || folder->id == 0) {
        return 0;
    }
    int result = floor_make(folder, (uint8_t *)memory, folder->number_max + 1);
    for (uint32_t i = 0; i < folder->count && result >= 0; i++) {
        struct log_blocking blocking;
        char name[32];
        snprintf(name, sizeof(name), "%u/%08u.segment", folder->source.shard,
                 folder->segments[i].number);
        folder->source.disk->ops->forget(folder->source.disk, folder->segments[i].file);
        folder->segments[i].file = -1;
        log_blocking_init(&blocking);
        result = log_blocking_wait(
            folder->source.disk, &blocking,
            folder->source.disk->ops->remove(folder->source.disk, name, &blocking.done));
    }
    return result;
}
