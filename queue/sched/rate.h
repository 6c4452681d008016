/*
 * rate: so many in a time, and some at once: a token bucket.
 *
 * For the scheduler's limits. Pure arithmetic on the time that is handed in; nothing ticks. One number is the whole
 * state: the time at which the bucket will be full again (the generic cell rate algorithm, ITU-T I.371).
 */
#pragma once
#include <stdint.h>

struct rate {
    uint32_t count;     /* so many tokens come ... */
    uint64_t period_ns; /* ... in so long, evenly; count 0: there is no limit */
    uint32_t burst;     /* so many may be saved up; 0: as 1 */
};

struct rate_bucket {
    uint64_t full_ns; /* 0: full */
};

/* When the next token can be taken: now_ns or earlier: at once. */
uint64_t rate_due(const struct rate *rate, const struct rate_bucket *bucket);
/* How many can be taken now, at most `most`. */
uint32_t rate_available(const struct rate *rate, const struct rate_bucket *bucket, uint64_t now_ns,
                        uint32_t most);
/* Takes some of those that are available. */
void rate_take(const struct rate *rate, struct rate_bucket *bucket, uint64_t now_ns,
               uint32_t count);
/* Between two tokens; 0 without a limit. */
uint64_t rate_interval(const struct rate *rate);
/* One that was taken was not used. */
void rate_give(const struct rate *rate, struct rate_bucket *bucket);
