#include "engine/relay/relay_space.h"
#include "engine/relay/relay_private.h"

#define DISK_MARGIN_BYTES_MAX (64ull << 20) /* between our mark and the log's */
#define DISK_MARGIN_SHARE 32u               /* of what fits, where that is less */
#define MEMORY_MARGIN_SHARE 16u             /* so much less before mail is taken again */

static uint64_t disk_margin(const struct spool_fill *fill)
{
    uint64_t share = fill->capacity_bytes / DISK_MARGIN_SHARE;
    return share < DISK_MARGIN_BYTES_MAX ? share : DISK_MARGIN_BYTES_MAX;
}

static uint64_t memory_used(const struct relay *relay, const struct spool_fill *fill)
{
    return fill->memory_bytes + sched_memory_bytes(relay->sched);
}

static uint64_t memory_most(const struct relay *relay)
{
    uint64_t most = relay->conf->memory.queue_max_bytes;
    return most == 0 ? UINT64_MAX : most / relay->conf->shards;
}

bool relay_has_room(const struct relay *relay, uint64_t bytes)
{
    struct spool_fill fill;
    spool_fill(relay->spool, &fill);
    bool fits =
        fill.live_bytes < fill.capacity_bytes && bytes <= fill.capacity_bytes - fill.live_bytes;
    return fits && !relay->space.disk_is_full && !relay->space.memory_is_full;
}

static void disk_look(struct relay *relay, const struct spool_fill *fill)
{
    bool was = relay->space.disk_is_full;
    uint64_t margin = disk_margin(fill) * (was ? 2 : 1);
    bool is = fill->live_bytes + margin >= fill->capacity_bytes;
    relay->space.disk_is_full = is;
    if (is == was) {
        return;
    }
    logger_line(relay->logger, is ? LOGGER_WARNING : LOGGER_INFO,
                "spool: shard %u: %s: %llu of %llu MiB are taken by mail that waits; the file "
                "system has %llu MiB left",
                relay->shard->settings.index,
                is ? "not enough space in the mail queue, new mail is put off (452)"
                   : "mail is taken again",
                (unsigned long long)fill->live_bytes >> 20,
                (unsigned long long)fill->capacity_bytes >> 20,
                (unsigned long long)fill->disk_free_bytes >> 20);
}

static void memory_look(struct relay *relay, const struct spool_fill *fill)
{
    bool was = relay->space.memory_is_full;
    uint64_t used = memory_used(relay, fill), most = memory_most(relay);
    bool is = used >= most - (was ? most / MEMORY_MARGIN_SHARE : 0);
    relay->space.memory_is_full = is;
    if (is == was) {
        return;
    }
    logger_line(relay->logger, is ? LOGGER_WARNING : LOGGER_INFO,
                "memory: shard %u: %s: the queue has %llu of %llu MiB",
                relay->shard->settings.index,
                is ? "not enough for more mail, it is put off (452)" : "mail is taken again",
                (unsigned long long)used >> 20, (unsigned long long)most >> 20);
}

void relay_space_round(struct relay *relay)
{
    struct spool_fill fill;
    spool_fill(relay->spool, &fill);
    disk_look(relay, &fill);
    memory_look(relay, &fill);
}

static void gauge(json_t *gauges, const char *name, uint64_t bytes)
{
    json_object_set_new(gauges, name, json_integer((json_int_t)bytes));
}

void relay_space_gauges(const struct relay *relay, json_t *gauges)
{
    struct spool_fill fill;
    spool_fill(relay->spool, &fill);
    gauge(gauges, "spool_bytes", fill.live_bytes);
    if (fill.capacity_bytes < LOG_GROWTH_UNKNOWN / 2) {
        gauge(gauges, "spool_bytes_max", fill.capacity_bytes);
    }
    gauge(gauges, "spool_file_bytes", log_used_bytes(relay->log));
    if (fill.disk_free_bytes != UINT64_MAX) {
        gauge(gauges, "disk_bytes_free", fill.disk_free_bytes);
    }
    gauge(gauges, "queue_memory_bytes", memory_used(relay, &fill));
    if (memory_most(relay) != UINT64_MAX) {
        gauge(gauges, "queue_memory_bytes_max", memory_most(relay));
    }
    gauge(gauges, "shards_full", relay->space.disk_is_full || relay->space.memory_is_full);
}
