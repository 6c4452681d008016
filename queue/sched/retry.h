/*
 * retry: when a deferred delivery is tried again.
 *
 * The scheduler asks after each temporary failure, of a delivery or of a site; nobody else calls
 * this. Pure arithmetic: no clock, no state, no allocation.
 *
 * All times are nanoseconds of the shard's monotonic clock.
 * Source: RFC 5321 §4.5.4.1 (give up after 4-5 days, back off).
 */
#pragma once
#include <stdint.h>

struct retry_policy {
    uint64_t first_ns;   /* wait after the first failure, > 0 */
    uint64_t limit_ns;   /* longest wait between two attempts, >= first_ns */
    uint32_t spread_pct; /* jitter, 0..50: each wait moves by at most this much */
};

/* Returns when attempt number `attempts` + 1 is due, after now_ns. The wait doubles with each
 * failure. attempts: failures so far, >= 1. entropy: any 32 random bits; equal input, equal answer.
 */
uint64_t retry_due(const struct retry_policy *policy, uint64_t now_ns, uint32_t attempts,
                   uint32_t entropy);
