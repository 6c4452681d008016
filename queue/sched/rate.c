#include "queue/sched/rate.h"

#include "engine/core/check.h"

uint64_t rate_interval(const struct rate *rate)
{
    if (rate->count == 0) {
        return 0;
    }
    uint64_t interval_ns = rate->period_ns / rate->count;
    return interval_ns > 0 ? interval_ns : 1;
}

/* What a full bucket holds beyond its first token, as a time. Saturates. */
static uint64_t depth(const struct rate *rate)
{
    uint64_t tokens = rate->burst > 0 ? rate->burst - 1 : 0, interval_ns = rate_interval(rate);
    return interval_ns > 0 && tokens > UINT64_MAX / interval_ns ? UINT64_MAX : tokens * interval_ns;
}

uint64_t rate_due(const struct rate *rate, const struct rate_bucket *bucket)
{
    if (rate->count == 0) {
        return 0;
    }
    uint64_t depth_ns = depth(rate);
    return bucket->full_ns > depth_ns ? bucket->full_ns - depth_ns : 0;
}

uint32_t rate_available(const struct rate *rate, const struct rate_bucket *bucket, uint64_t now_ns,
                        uint32_t most)
{
    if (rate->count == 0) {
        return most;
    }
    uint64_t due_ns = rate_due(rate, bucket);
    if (due_ns > now_ns) {
        return 0;
    }
    uint64_t burst = rate->burst > 0 ? rate->burst : 1;
    /* Each interval since one was due adds one, up to the burst. */
    uint64_t tokens =
        bucket->full_ns <= now_ns ? burst : (now_ns - due_ns) / rate_interval(rate) + 1;
    return tokens < most ? (uint32_t)tokens : most;
}

void rate_take(const struct rate *rate, struct rate_bucket *bucket, uint64_t now_ns, uint32_t count)
{
    check(rate_available(rate, bucket, now_ns, count) == count);
    uint64_t from_ns = bucket->full_ns > now_ns ? bucket->full_ns : now_ns;
    uint64_t interval_ns = rate_interval(rate);
    bucket->full_ns = from_ns;
    if (count > 0 && interval_ns > 0) {
        bucket->full_ns = interval_ns < (UINT64_MAX - from_ns) / count
                              ? from_ns + count * interval_ns
                              : UINT64_MAX - 1;
    }
}

void rate_give(const struct rate *rate, struct rate_bucket *bucket)
{
    uint64_t interval_ns = rate_interval(rate);
    bucket->full_ns = bucket->full_ns > interval_ns ? bucket->full_ns - interval_ns : 0;
}
