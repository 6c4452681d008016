/*
 * log_reading: a log as it is at a moment, for another thread to read, while its own goes on.
 *
 * The log's thread begins and ends it. In between none of the segments that were in use then is freed, so what lies in
 * them stays as it is, however long it takes; what is appended meanwhile is not part of it. One at a time. When all that
 * had been appended is written (log_when_durable, asked for when it is begun, and no write has failed; a relaxed log runs
 * waiters before that) any one thread may scan it, on a disk of its own: it touches nothing of the log.
 *
 * A log in name has its segments, and books of them, and nothing else: for who comes to the same state from the records
 * again, beside the log. Records are not appended to it, nor read from it.
 */
#pragma once
#include "queue/log/log_folder.h"

struct log_reading {
    uint64_t id;
    uint64_t end; /* behind the newest record */
    uint64_t bytes;
    uint32_t shard, segment_bytes;
    uint32_t count;
    struct log_reading_segment {
        uint32_t number, sequence, bytes;
        uint32_t valid_end; /* what lies behind is not part of it */
    } segments[];           /* by sequence */
};

/* 0; -ENOMEM; -EBUSY: there is one, or the log does not run. The caller frees it with free(), when it has ended and no
 * thread has it any more. */
int log_reading_begin(struct log *log, struct log_reading **reading);
/* Segments may be freed again. What is still scanned may be something else then. Harmless when there is none. */
void log_reading_end(struct log *log);
/* All of it is on the device. */
bool log_reading_is_written(const struct log *log, const struct log_reading *reading);
/* Is it one that is only kept for who reads? */
bool log_reading_keeps(const struct log *log, uint32_t sequence);

struct log_reading_result {
    uint64_t scanned_bytes, damaged_bytes, torn_bytes, unread_bytes;
};
/* Visits all records. Blocks. source: its disk and memory, and who is told of what is unreadable. 0, what the visitor
 * returned, or -errno: a segment cannot be opened. */
int log_reading_scan(const struct log_reading *reading, const struct log_folder_source *source,
                     const struct log_visitor *visitor, struct log_reading_result *result);

/* 0 or -ENOMEM. */
int log_in_name_open(struct log **log, const struct log_reading *reading);
void log_in_name_close(struct log *log);
