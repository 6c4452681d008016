/*
 * pool: the scheduler's memory: deliveries, their indexes, the reasons why they wait; sites and queues too.
 *
 * For the scheduler alone. All but long lists of indexes lies in one heap, so that links between them are short (near.h).
 * Reasons are shared between deliveries of a site that failed the same way one after the other.
 */
#pragma once
#include "engine/core/near.h"
#include "queue/sched/sched.h"

struct sched_reason {
    uint32_t count; /* who holds it */
    uint16_t size;
    char text[];
};

struct sched_pool {
    struct near_heap heap;
    uint64_t memory_bytes; /* besides it */
};

void sched_pool_close(struct sched_pool *pool); /* frees the deliveries that are still there too */
struct sched_delivery *sched_pool_take(struct sched_pool *pool); /* NULL when memory is short */
/* With its indexes and its hold on a reason. */
void sched_pool_give(struct sched_pool *pool, struct sched_delivery *delivery);

/* All that are taken, one after the other, from a cursor that is 0 at first; NULL: no more. Those that are taken
 * meanwhile may be missed. */
struct sched_delivery *sched_pool_next(const struct sched_pool *pool, uint64_t *cursor);

/* Sets which recipients it is for. They may be a part of its own. 0 or -ENOMEM, never when there
 * are fewer than before. */
int sched_pool_set_indexes(struct sched_pool *pool, struct sched_delivery *delivery,
                           const uint32_t *indexes, uint32_t count);

/* Why a delivery waits; NULL: nobody said. */
static inline struct sched_reason *sched_reason_of(const struct sched_delivery *delivery)
{
    return (struct sched_reason *)near_at(delivery, delivery->reason_link);
}
/* A reason to hold: `last` once more when it says the same, else another; NULL when memory is
 * short. */
struct sched_reason *sched_reason_take(struct sched_pool *pool, struct sched_reason *last,
                                       struct slice text);
void sched_reason_drop(struct sched_pool *pool, struct sched_reason *reason); /* NULL is fine */
