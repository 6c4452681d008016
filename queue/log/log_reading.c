#include "queue/log/log_reading.h"
#include "queue/log/log_private.h"
#include <stdlib.h>

/* ── The log's thread ────────────────────────────────────────────────────────────────────────── */

int log_reading_begin(struct log *log, struct log_reading **result)
{
    if (log->reading_to != 0 || !log_is_orderly(log)) {
        return -EBUSY;
    }
    struct log_reading *reading = (struct log_reading *)calloc(
        1, sizeof(*reading) + log->used_count * sizeof(reading->segments[0]));
    if (reading == NULL) {
        return -ENOMEM;
    }
    reading->id = log->id;
    reading->end = log->end;
    reading->shard = log->settings.shard;
    reading->segment_bytes = log->settings.segment_bytes;
    for (uint32_t i = 0; i < log->used_count; i++) {
        const struct log_segment *segment = log->used[log->used_first + i];
        bool is_last = segment->sequence == log_lsn_sequence(log->end);
        uint32_t end = is_last ? lsn_offset(log->end) : segment->valid_end;
        reading->segments[reading->count++] = (struct log_reading_segment){
            .number = segment->number,
            .sequence = segment->sequence,
            .bytes = segment->bytes,
            .valid_end = end < segment->valid_end ? end : segment->valid_end};
        reading->bytes += segment->bytes;
        log->reading_to = segment->sequence;
    }
    *result = reading;
    return 0;
}

void log_reading_end(struct log *log)
{
    log->reading_to = 0;
}

bool log_reading_is_written(const struct log *log, const struct log_reading *reading)
{
    return log->frontier >= reading->end;
}

bool log_reading_keeps(const struct log *log, uint32_t sequence)
{
    return sequence <= log->reading_to;
}

/* ── The other one ───────────────────────────────────────────────────────────────────────────── */

static int segment_scan(const struct log_reading *reading, const struct log_reading_segment *from,
                        const struct log_folder_source *source, const struct log_visitor *visitor,
                        struct log_reading_result *result)
{
    char name[32];
    uint64_t bytes;
    snprintf(name, sizeof name, "%u/%08u.segment", reading->shard, from->number);
    struct log_folder_segment segment = {.log_id = reading->id,
                                         .number = from->number,
                                         .sequence = from->sequence,
                                         .bytes = from->bytes,
                                         .valid_end = from->valid_end,
                                         .in_use = true};
    struct log_folder folder = {
        .source = *source, .id = reading->id, .segments = &segment, .count = 1, .in_use_count = 1};
    folder.source.shard = reading->shard;
    segment.file = source->disk->ops->open(source->disk, name, &bytes);
    if (segment.file < 0) {
        return segment.file;
    }
    int status = bytes < segment.bytes ? -EIO : log_folder_scan(&folder, visitor);
    source->disk->ops->forget(source->disk, segment.file);
    result->scanned_bytes += folder.scanned_bytes;
    result->damaged_bytes += folder.damaged_bytes;
    result->torn_bytes += folder.torn_bytes;
    result->unread_bytes += folder.unread_bytes;
    return status;
}

int log_reading_scan(const struct log_reading *reading, const struct log_folder_source *source,
                     const struct log_visitor *visitor, struct log_reading_result *result)
{
    int status = 0;
    *result = (struct log_reading_result){0};
    for (uint32_t i = 0; i < reading->count && status == 0; i++) {
        status = segment_scan(reading, &reading->segments[i], source, visitor, result);
    }
    return status;
}

/* ── A log in name ───────────────────────────────────────────────────────────────────────────── */

void log_in_name_close(struct log *log)
{
    for (uint32_t i = 0; i < log->used_count; i++) {
        free(log->used[log->used_first + i]->live.notes);
        free(log->used[log->used_first + i]);
    }
    free(log->used);
    free(log);
}

int log_in_name_open(struct log **result, const struct log_reading *reading)
{
    struct log *log = (struct log *)calloc(1, sizeof(*log));
    if (log == NULL) {
        return -ENOMEM;
    }
    log->id = reading->id;
    log->settings.shard = reading->shard;
    log->settings.segment_bytes = reading->segment_bytes;
    for (uint32_t i = 0; i < reading->count; i++) {
        struct log_segment *segment =
            log_segment_new(reading->segments[i].number, reading->segments[i].bytes);
        if (segment == NULL || log_used_append(log, segment) != 0) {
            free(segment);
            log_in_name_close(log);
            return -ENOMEM;
        }
        segment->sequence = reading->segments[i].sequence;
    }
    *result = log;
    return 0;
}
