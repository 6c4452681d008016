/*
 * ref: a count on memory that outlives a call: log frames, bounce texts, fetched extents.
 *
 * Counts are plain integers: a ref is taken and dropped by one thread only, the shard that owns
 * the memory. When the count falls to zero `release` runs, once, and may free the memory.
 */
#pragma once
#include "engine/core/check.h"
#include <stdint.h>

struct ref {
    uint32_t count;
    void (*release)(struct ref *);
};

static inline void ref_init(struct ref *ref, void (*release)(struct ref *))
{
    ref->count = 1;
    ref->release = release;
}

static inline struct ref *ref_take(struct ref *ref)
{
    check(ref->count > 0);
    ref->count++;
    return ref;
}

static inline void ref_drop(struct ref *ref)
{
    check(ref->count > 0);
    if (--ref->count == 0) {
        ref->release(ref);
    }
}
