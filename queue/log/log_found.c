#include "queue/log/log_found.h"

void log_found_unread(void *owner, const struct log_unread *what)
{
    const struct log_found *found = (const struct log_found *)owner;
    if (what->bytes == 0) {
        logger_line(found->logger, LOGGER_WARNING, "%s: %u/%08u.segment cannot be opened: %s",
                    found->store, what->shard, what->number, strerror(-what->error));
    } else {
        logger_line(found->logger, LOGGER_WARNING,
                    "%s: %u/%08u.segment: %llu bytes at offset %llu cannot be read: %s",
                    found->store, what->shard, what->number, (unsigned long long)what->bytes,
                    (unsigned long long)what->offset, strerror(-what->error));
    }
}

void log_found_unusable(const struct log_found *found, uint32_t shard, int status)
{
    logger_line(found->logger, LOGGER_ERROR, "%s: the log of shard %u cannot be opened: %s%s",
                found->store, shard, strerror(-status),
                status == -ENOMEM || status == -EINVAL
                    ? ""
                    : "; a segment that cannot be read may hold mail, so it is not "
                      "passed over: see the kernel's log, then mend the disk or move "
                      "the file away");
}

void log_found_recovered(const struct log_found *found, const struct log *log)
{
    const struct log_counters *counters = log_counters(log);
    uint32_t shard = log_settings_of(log)->shard;
    if (counters->damaged_bytes > 0) {
        logger_line(found->logger, LOGGER_ERROR, "%s: shard %u: %llu bytes are damaged",
                    found->store, shard, (unsigned long long)counters->damaged_bytes);
    }
    if (counters->unread_bytes > 0) {
        logger_line(found->logger, LOGGER_ERROR,
                    "%s: shard %u: %llu bytes cannot be read and may be mail: %u segments are "
                    "kept as they are until a start that reads all of them; mend the disk, then "
                    "restart",
                    found->store, shard, (unsigned long long)counters->unread_bytes,
                    counters->segments_held);
    }
}
