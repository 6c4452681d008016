#include "queue/sched/retry.h"

#include "engine/core/check.h"
#include "engine/core/mutation.h"

/* first_ns doubled attempts - 1 times, at most limit_ns. */
static uint64_t wait_of(const struct retry_policy *policy, uint32_t attempts)
{
    uint64_t wait_ns = policy->first_ns;
    for (uint32_t i = 1; i < attempts && wait_ns < policy->limit_ns && !MUTATED(WAIT_NOT_DOUBLED);
         i++) {
        wait_ns = wait_ns > policy->limit_ns / 2 ? policy->limit_ns : wait_ns * 2;
    }
    return wait_ns;
}

uint64_t retry_due(const struct retry_policy *policy, uint64_t now_ns, uint32_t attempts,
                   uint32_t entropy)
{
    check(attempts >= 1 && policy->first_ns > 0 && policy->limit_ns >= policy->first_ns);
    check(policy->spread_pct <= 50);
    uint64_t wait_ns = wait_of(policy, attempts);
    /* Spread evenly also at the limit, or all that failed together would come back together. */
    uint64_t spread_ns = wait_ns / 100 * policy->spread_pct;
    uint64_t least_ns = wait_ns - spread_ns;
    uint64_t most_ns =
        spread_ns < policy->limit_ns - wait_ns ? wait_ns + spread_ns : policy->limit_ns;
    uint64_t drawn_ns =
        least_ns + (uint64_t)(((unsigned __int128)(most_ns - least_ns) * entropy) >> 32);
    return drawn_ns < UINT64_MAX - now_ns ? now_ns + drawn_ns : UINT64_MAX - 1;
}
