#include "queue/log/log_private.h"
#include "queue/log/log_folder.h"
#include <sched.h>

static int settings_check(struct log_settings *settings)
{
    if (settings->segment_bytes == 0) {
        settings->segment_bytes = LOG_SEGMENT_BYTES_DEFAULT;
    }
    if (settings->write_count_max == 0) {
        settings->write_count_max = 4;
    }
    if (settings->gather_bytes == 0) {
        settings->gather_bytes = 64 * 1024;
    }
    if (settings->recycled_count_max == 0) {
        settings->recycled_count_max = 4;
    }
    if (settings->memory == NULL || settings->memory_bytes < LOG_MEMORY_BYTES_MIN ||
        settings->memory_bytes % LOG_FRAME_BYTES != 0 ||
        settings->memory_bytes / LOG_FRAME_BYTES >= UINT16_MAX ||
        (uintptr_t)settings->memory % DISK_BLOCK_BYTES != 0 ||
        settings->segment_bytes < LOG_SEGMENT_BYTES_MIN ||
        settings->segment_bytes > SEGMENT_BYTES_MAX ||
        settings->segment_bytes % LOG_FRAME_BYTES != 0 || settings->shard > 255 ||
        settings->write_count_max > LOG_WRITES_MAX ||
        (settings->segment_count_max != 0 && settings->segment_count_max < LOG_SEGMENTS_MIN)) {
        return -EINVAL;
    }
    return 0;
}

static void lists_open(struct log *log)
{
    struct list_node *lists[] = {&log->idle,    &log->unsent,       &log->failed,
                                 &log->ready,   &log->freed,        &log->suspect,
                                 &log->waiters, &log->void_waiters, &log->room_waiters};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
}

static void log_free(struct log *log)
{
    struct list_node *lists[] = {&log->ready, &log->freed, &log->suspect};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (struct list_node *node; (node = list_pop(lists[i])) != NULL;) {
            struct log_segment *segment = list_entry(node, struct log_segment, node);
            if (segment->file >= 0) { /* else: its removal failed */
                log->disk->ops->forget(log->disk, segment->file);
            }
            free(segment);
        }
    }
    for (uint32_t i = 0; i < log->used_count; i++) {
        struct log_segment *segment = log->used[log->used_first + i];
        log->disk->ops->forget(log->disk, segment->file);
        free(segment->live.notes);
        free(segment);
    }
    if (log->folder != NULL) {
        log_folder_close(log->folder);
    }
    free(log->used);
    free(log->stash.bytes);
    free(log->maker.header);
    free(log->writes);
    free(log->frames);
    free(log);
}

int log_open(struct log **result, const struct log_settings *given)
{
    struct log_settings settings = *given;
    int status = settings_check(&settings);
    struct log *log = status == 0 ? (struct log *)calloc(1, sizeof(*log)) : NULL;
    if (log == NULL) {
        return status != 0 ? status : -ENOMEM;
    }
    log->settings = settings;
    log->disk = settings.disk;
    lists_open(log);
    log_space_open(log);
    log->frame_count = (uint32_t)(settings.memory_bytes / LOG_FRAME_BYTES);
    log->frames = (struct log_frame *)calloc(log->frame_count, sizeof(log->frames[0]));
    log->writes = (struct log_write *)calloc(settings.write_count_max, sizeof(log->writes[0]));
    log->maker.header = (uint8_t *)aligned_alloc(DISK_BLOCK_BYTES, SEGMENT_HEADER_BYTES);
    log->maker.log = log;
    status = -ENOMEM;
    if (log->frames != NULL && log->writes != NULL && log->maker.header != NULL) {
        const struct log_folder_source source = {.disk = log->disk,
                                                 .shard = settings.shard,
                                                 .memory = (uint8_t *)settings.memory,
                                                 .memory_bytes = settings.memory_bytes,
                                                 .unread = settings.unread,
                                                 .owner = settings.unread_owner};
        status = log_folder_open(&log->folder, &source);
    }
    if (status == 0 && log->folder->sequence_max >= UINT32_MAX - 65536) {
        status = -EOVERFLOW;
    }
    if (status != 0) {
        log_free(log);
        return status;
    }
    log->id = log->folder->id != 0 ? log->folder->id : settings.new_id | 1;
    log->seed = record_seed(log->id);
    log->next_sequence = log->folder->sequence_max + 1;
    log->next_number = log->folder->number_max + 1;
    log_frames_open(log);
    *result = log;
    return 0;
}

uint64_t log_id(const struct log *log)
{
    return log->id;
}

const struct log_settings *log_settings_of(const struct log *log)
{
    return &log->settings;
}

void log_close(struct log *log)
{
    check(log->write_count == 0 && log->maker.state == MAKER_IDLE && !log->watch.asks);
    log_free(log);
}

bool log_is_quiet(const struct log *log)
{
    bool unsent = log->urgent || log->stash.used < log->stash.size;
    if (!list_empty(&log->unsent)) {
        unsent = unsent || list_entry(log->unsent.next, struct log_frame, node)->closed;
    }
    return log->write_count == 0 && log->fetch_count == 0 && log->maker.state == MAKER_IDLE &&
           !log->watch.asks && (log->state == LOG_BROKEN || (log->state == LOG_RUNNING && !unsent));
}

bool log_is_broken(const struct log *log)
{
    return log->state == LOG_BROKEN;
}

unsigned log_round(struct log *log, uint64_t now_ns)
{
    log->now_ns = now_ns;
    log_space_ask(log);
    unsigned done = log_maker_step(log);
    done += log_failure_round(log);
    return done + log_run_room(log);
}

const struct log_counters *log_counters(const struct log *log)
{
    struct log_counters *counters = (struct log_counters *)(uintptr_t)&log->counters;
    counters->segments_used = log->used_count;
    counters->segments_spare = log->ready_count + log->freed_count;
    counters->frames_dirty = log->kept_count;
    counters->frames_held = log->frame_count - log->idle_count - log->kept_count;
    return counters;
}

/* ── Recovery ────────────────────────────────────────────────────────────────────────────────── */

/* Takes over what the folder found: what holds records stays in use, the rest is recycled. */
static int folder_adopt(struct log *log)
{
    struct log_folder *folder = log->folder;
    if (folder->unread_bytes > 0) {
        log->held_to = folder->segments[folder->in_use_count - 1].sequence;
    }
    for (uint32_t i = 0; i < folder->count; i++) {
        struct log_folder_segment *found = &folder->segments[i];
        struct log_segment *segment = log_segment_new(found->number, found->bytes);
        if (segment == NULL) {
            return -ENOMEM;
        }
        segment->file = found->file;
        segment->sequence = found->sequence;
        segment->valid_end = found->valid_end;
        /* What later records say of records that are damaged now is not known to their owner. */
        if (found->says_void || folder->damaged_bytes > 0) {
            log_segment_keep(segment);
        }
        segment->piece_next = (found->end + LOG_FRAME_BYTES - 1) / LOG_FRAME_BYTES;
        bool floor = found->in_use && found->bytes == 0;
        if (!found->in_use || (found->empty && !floor)) {
            list_append(&log->freed, &segment->node);
            log->freed_count++;
        } else if (log_used_append(log, segment) != 0) {
            free(segment);
            return -ENOMEM;
        } else if (log_is_held(log, segment->sequence)) {
            log->held_bytes += segment->bytes;
            log->counters.segments_held++;
        }
        found->file = -1;
    }
    return 0;
}

/* On a full disk even the spares may be gone, by restarts that each took one. What must be written
 * goes on in the newest segment then, in pieces behind all that was found: what a lost write has
 * left there is overwritten before anything behind it can be believed. */
static void newest_resume(struct log *log)
{
    if (log->ready_count > 0 || log->maker.status != -ENOSPC || log->used_count == 0) {
        return;
    }
    struct log_segment *newest = log->used[log->used_first + log->used_count - 1];
    if (newest->valid_end == newest->piece_count * LOG_FRAME_BYTES &&
        newest->piece_next < newest->piece_count) {
        newest->reserve = true;
        newest->resumed = true;
        log->current = newest;
    }
}

static void disk_wait(struct disk *disk)
{
    disk->ops->submit(disk);
    if (disk->ops->reap(disk) == 0) {
        sched_yield();
    }
}

int log_recover(struct log *log, const struct log_visitor *visitor)
{
    check(log->folder != NULL);
    int result = log_folder_scan(log->folder, visitor);
    if (result == 0) {
        result = folder_adopt(log);
    }
    log->counters.scanned_bytes = log->folder->scanned_bytes;
    log->counters.damaged_bytes = log->folder->damaged_bytes;
    log->counters.torn_bytes = log->folder->torn_bytes;
    log->counters.unread_bytes = log->folder->unread_bytes;
    log_folder_close(log->folder);
    log->folder = NULL;
    if (result != 0) {
        return result;
    }
    log_space_ask(log);
    while (log->watch.asks) {
        disk_wait(log->disk);
    }
    log_maker_step(log);
    while (log->maker.state != MAKER_IDLE) {
        disk_wait(log->disk);
    }
    newest_resume(log);
    return 0;
}

/* ── Reading from the disk ───────────────────────────────────────────────────────────────────── */

int log_fetch_begin(struct log *log, const struct log_extent *extent, struct log_fetch *fetch)
{
    struct log_segment *segment = log_segment_find(log, log_lsn_sequence(extent->lsn));
    uint32_t offset = lsn_offset(extent->lsn);
    uint32_t from = offset - offset % DISK_BLOCK_BYTES;
    uint64_t end = (uint64_t)offset + record_bytes(extent->length);
    if (segment == NULL || extent->length > LOG_RECORD_BYTES_MAX || end > segment->valid_end ||
        end - from > LOG_FRAME_BYTES) {
        return -EIO;
    }
    segment->pins++;
    log->fetch_count++;
    *fetch = (struct log_fetch){.extent = *extent,
                                .file = segment->file,
                                .offset = from,
                                .bytes = block_up((uint32_t)end - from)};
    return 0;
}

bool log_fetch_widen(const struct log *log, struct log_fetch *fetch)
{
    const struct log_segment *segment = log_segment_find(log, log_lsn_sequence(fetch->extent.lsn));
    uint32_t piece = lsn_offset(fetch->extent.lsn) / LOG_FRAME_BYTES;
    uint32_t end = (piece + 1) * LOG_FRAME_BYTES;
    end =
        end < segment->valid_end ? end : segment->valid_end - segment->valid_end % DISK_BLOCK_BYTES;
    if (segment->frames[piece] != 0 || end <= fetch->offset + fetch->bytes) {
        return false;
    }
    fetch->bytes = end - (uint32_t)fetch->offset;
    return true;
}

bool log_fetch_has(const struct log_fetch *fetch, const struct log_extent *extent)
{
    uint64_t begin = lsn_of(log_lsn_sequence(fetch->extent.lsn), (uint32_t)fetch->offset);
    return extent->lsn >= begin && extent->length <= LOG_RECORD_BYTES_MAX &&
           extent->lsn + record_bytes(extent->length) <= begin + fetch->bytes;
}

void log_fetch_end(struct log *log, const struct log_fetch *fetch)
{
    struct log_segment *segment = log_segment_find(log, log_lsn_sequence(fetch->extent.lsn));
    check(segment != NULL && segment->pins > 0);
    segment->pins--;
    log->fetch_count--;
}

int log_fetch_verify(const struct log *log, const struct log_fetch *fetch, const void *memory,
                     struct slice *content)
{
    uint32_t at = lsn_offset(fetch->extent.lsn) - (uint32_t)fetch->offset;
    const uint8_t *record = (const uint8_t *)memory + at;
    struct record_header header;
    if (!record_is_valid(record, fetch->bytes - at, fetch->extent.lsn, log->seed)) {
        return -EIO;
    }
    memcpy(&header, record, sizeof(header));
    if (header.length != fetch->extent.length) {
        return -EIO;
    }
    *content = slice_of(record + sizeof(header), header.length);
    return 0;
}

bool log_is_void(const struct log *log, uint64_t lsn)
{
    struct log_segment *segment = log_segment_find(log, log_lsn_sequence(lsn));
    return segment == NULL || lsn_offset(lsn) >= segment->valid_end;
}

int log_seal(struct log *log)
{
    int ready = log->state != LOG_RUNNING ? log_room(log, 0, 0)
                : log->current == NULL    ? 0
                                          : log_segment_ready(log, 0);
    if (ready == 0) {
        log_frame_close(log);
        log->current = NULL;
    }
    return ready;
}
