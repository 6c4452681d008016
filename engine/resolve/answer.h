/*
 * answer: what the DNS said to one question, kept as long as it may be believed.
 *
 * Counted: the cache and every resolution that reads it hold it. Immutable.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/ref.h"
#include "engine/resolve/backend.h"

#define ANSWER_RECORDS_MAX 1000u /* of one answer; what is beyond is not looked at */

struct answer_lives { /* how long answers are kept */
    uint64_t ttl_min_ns, ttl_max_ns, negative_ttl_max_ns, failure_ns;
};

struct answer {
    struct ref ref;
    struct resolve_answer is; /* points into this block */
    uint64_t expires_ns;
    size_t bytes;
    struct slice records[];
};

/* A copy. NULL: memory is short. */
struct answer *answer_new(const struct resolve_answer *from, const struct answer_lives *lives,
                          uint64_t now_ns);

static inline void answer_drop(struct answer *answer)
{
    if (answer != NULL) {
        ref_drop(&answer->ref);
    }
}

static inline bool answer_failed(const struct answer *answer)
{
    return answer->is.status == RESOLVE_ANSWER_FAILED || answer->is.status == RESOLVE_ANSWER_BOGUS;
}
