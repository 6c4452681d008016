/* What there is of the disk: ours, and what the file system has left for us. */
#include "queue/log/log_private.h"

#define FILES_MIN 64u /* with fewer left no segment is made: they are others' too */
#define ASK_NS 1000000000ull

void log_space_open(struct log *log)
{
    log->watch.log = log;
    log->watch.free_bytes = UINT64_MAX;
    log->watch.growth_bytes = LOG_GROWTH_UNKNOWN;
}

static void asked(struct disk_done *done, int result)
{
    struct log_watch *watch = (struct log_watch *)(void *)done;
    const struct log_settings *settings = &watch->log->settings;
    const struct disk_space *space = &watch->space;
    watch->asks = false;
    if (result < 0) {
        return; /* as it was */
    }
    uint32_t shares = settings->share_count > 1 ? settings->share_count : 1;
    uint64_t free_bytes = space->free_bytes;
    uint64_t growth =
        free_bytes > settings->disk_free_min ? free_bytes - settings->disk_free_min : 0;
    watch->free_bytes = free_bytes / shares;
    watch->growth_bytes = space->free_files < FILES_MIN ? 0 : growth / shares;
    if (watch->growth_bytes > LOG_GROWTH_UNKNOWN) {
        watch->growth_bytes = LOG_GROWTH_UNKNOWN;
    }
}

void log_space_ask(struct log *log)
{
    struct log_watch *watch = &log->watch;
    if (watch->asks || (watch->asked_ns != 0 && log->now_ns - watch->asked_ns < ASK_NS)) {
        return;
    }
    watch->asked_ns = log->now_ns;
    watch->asks = true;
    watch->done.run = asked;
    list_init(&watch->done.node);
    int result = log->disk->ops->space(log->disk, &watch->space, &watch->done);
    if (result < 0) {
        asked(&watch->done, result);
    }
}

static uint32_t segment_count(const struct log *log)
{
    return log->used_count + log->ready_count + log->freed_count + log->suspect_count;
}

bool log_space_may_grow(const struct log *log)
{
    uint32_t most = log->settings.segment_count_max;
    bool last = log->ready_count == 0 && log->current != NULL && log->current->reserve;
    return (most == 0 || segment_count(log) < most) &&
           (log->watch.growth_bytes >= log->settings.segment_bytes || last);
}

void log_space_grown(struct log *log, uint64_t bytes)
{
    uint64_t *growth = &log->watch.growth_bytes;
    if (*growth != LOG_GROWTH_UNKNOWN) {
        *growth -= bytes < *growth ? bytes : *growth;
    }
}

/* What segments that are not there yet may take. */
static uint64_t growth_bytes(const struct log *log)
{
    uint64_t bytes = log->watch.growth_bytes, count = segment_count(log);
    uint64_t most = log->settings.segment_count_max;
    if (log->maker.status == -ENOSPC) {
        return 0;
    }
    if (most != 0) {
        most = most > count ? (most - count) * log->settings.segment_bytes : 0;
        bytes = most < bytes ? most : bytes;
    }
    return bytes - bytes % log->settings.segment_bytes;
}

uint64_t log_used_bytes(const struct log *log)
{
    return log->used_bytes;
}

bool log_is_short(const struct log *log)
{
    return log->maker.status == -ENOSPC && log->ready_count < LOG_READY_WANTED;
}

void log_space(const struct log *log, struct log_space *space)
{
    uint64_t segment = log->settings.segment_bytes;
    *space = (struct log_space){.used_bytes = log->used_bytes,
                                .ready_bytes = log->ready_count * segment,
                                .freed_bytes = log->freed_count * segment,
                                .held_bytes = log->held_bytes,
                                .growth_bytes = growth_bytes(log)};
    if (log->maker.state == MAKER_HEADING) {
        space->freed_bytes += log->maker.segment->bytes;
    }
    if (log->current != NULL) {
        space->rest_bytes =
            (uint64_t)(log->current->piece_count - log->current->piece_next) * LOG_FRAME_BYTES;
    }
}

uint64_t log_disk_free_bytes(const struct log *log)
{
    return log->watch.free_bytes;
}

/* A segment is being made ready, or the owner says that one will be freed. */
bool log_space_comes(const struct log *log, uint32_t flags)
{
    return log->maker.state == MAKER_HEADING || log_freed_comes(log) ||
           (log->space_expected && !(flags & LOG_RESERVED));
}

void log_expect_space(struct log *log, bool expected)
{
    log->room_due = log->room_due || (log->space_expected && !expected);
    log->space_expected = expected;
}
