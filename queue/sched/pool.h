/*
 * pool: the scheduler's memory: deliveries, their indexes, the reasons why they wait.
 *
 * For the scheduler alone. Deliveries come from slabs that are kept until the end; reasons are
 * shared between deliveries of a site that failed the same way one after the other.
 */
#pragma once
#include "queue/sched/sched.h"

#define SCHED_SLAB_DELIVERIES 256

struct sched_slab;

struct sched_reason {
    uint32_t count; /* who holds it */
    uint16_t size;
    char text[];
};

struct sched_pool {
    struct sched_slab *slabs;
    struct sched_delivery *free; /* chained by next_of_message */
    uint64_t memory_bytes;
};

void sched_pool_close(struct sched_pool *pool); /* frees the deliveries that are still there too */
struct sched_delivery *sched_pool_take(struct sched_pool *pool); /* NULL when memory is short */
/* With its indexes and its hold on a reason. */
void sched_pool_give(struct sched_pool *pool, struct sched_delivery *delivery);

/* All that are taken, one after the other: a place to begin with index 0, and the next from there, NULL: no more.
 * Those that are taken meanwhile may be missed. */
void *sched_pool_first(const struct sched_pool *pool);
struct sched_delivery *sched_pool_next(void **at, uint32_t *index);

/* Sets which recipients it is for. They may be a part of its own. 0 or -ENOMEM, never when there
 * are fewer than before. */
int sched_pool_set_indexes(struct sched_pool *pool, struct sched_delivery *delivery,
                           const uint32_t *indexes, uint32_t count);

/* A reason to hold: `last` once more when it says the same, else another; NULL when memory is
 * short. */
struct sched_reason *sched_reason_take(struct sched_pool *pool, struct sched_reason *last,
                                       struct slice text);
void sched_reason_drop(struct sched_pool *pool, struct sched_reason *reason); /* NULL is fine */
