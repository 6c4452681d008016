#include "engine/relay/worker_log.h"

void worker_log_unread(void *logger, const struct log_unread *what)
{
    if (what->bytes == 0) {
        logger_line(logger, LOGGER_WARNING, "spool: %u/%08u.segment cannot be opened: %s",
                    what->shard, what->number, strerror(-what->error));
    } else {
        logger_line(logger, LOGGER_WARNING,
                    "spool: %u/%08u.segment: %llu bytes at offset %llu cannot be read: %s",
                    what->shard, what->number, (unsigned long long)what->bytes,
                    (unsigned long long)what->offset, strerror(-what->error));
    }
}

void worker_log_recovered(struct logger *logger, uint32_t shard, const struct log *log)
{
    const struct log_counters *counters = log_counters(log);
    if (counters->damaged_bytes > 0) {
        logger_line(logger, LOGGER_ERROR, "spool: shard %u: %llu bytes are damaged", shard,
                    (unsigned long long)counters->damaged_bytes);
    }
    if (counters->unread_bytes > 0) {
        logger_line(logger, LOGGER_ERROR,
                    "spool: shard %u: %llu bytes cannot be read and may be mail: %u segments are "
                    "kept as they are until a start that reads all of them; mend the disk, then "
                    "restart",
                    shard, (unsigned long long)counters->unread_bytes, counters->segments_held);
    }
}
