#include "queue/sched/pool.h"

#include "engine/core/check.h"
#include "queue/sched/sched_private.h"

#include <errno.h>
#include <stdlib.h>

#define INDEXES_FEW 2 /* lie in the delivery itself */

struct sched_delivery *sched_pool_take(struct sched_pool *pool)
{
    struct sched_delivery *delivery = near_take(&pool->heap, sizeof(*delivery));
    if (delivery != NULL) {
        *delivery = (struct sched_delivery){0};
    }
    return delivery;
}

struct sched_delivery *sched_pool_next(const struct sched_pool *pool, uint64_t *cursor)
{
    return near_each(&pool->heap, sizeof(struct sched_delivery), cursor);
}

static void indexes_free(struct sched_pool *pool, struct sched_delivery *delivery)
{
    if (delivery->count > INDEXES_FEW) {
        pool->memory_bytes -= delivery->count * sizeof(uint32_t);
        free(delivery->indexes.many);
    }
    delivery->count = 0;
}

void sched_pool_give(struct sched_pool *pool, struct sched_delivery *delivery)
{
    indexes_free(pool, delivery);
    sched_reason_drop(pool, sched_reason_of(delivery));
    near_give(&pool->heap, delivery);
}

int sched_pool_set_indexes(struct sched_pool *pool, struct sched_delivery *delivery,
                           const uint32_t *indexes, uint32_t count)
{
    check(count > 0);
    size_t bytes = count * sizeof(*indexes);
    if (count <= INDEXES_FEW) {
        uint32_t few[INDEXES_FEW] = {0};
        memcpy(few, indexes, bytes);
        indexes_free(pool, delivery);
        memcpy(delivery->indexes.few, few, sizeof(few));
    } else if (count <= delivery->count) {
        memmove(delivery->indexes.many, indexes, bytes);
        uint32_t *smaller = count < delivery->count ? realloc(delivery->indexes.many, bytes) : NULL;
        delivery->indexes.many = smaller != NULL ? smaller : delivery->indexes.many;
        pool->memory_bytes -= (delivery->count - count) * sizeof(*indexes);
    } else {
        uint32_t *many = malloc(bytes);
        if (many == NULL) {
            return -ENOMEM;
        }
        memcpy(many, indexes, bytes);
        indexes_free(pool, delivery);
        delivery->indexes.many = many;
        pool->memory_bytes += bytes;
    }
    delivery->count = count;
    return 0;
}

/* Deliveries are told by their size, so no reason may have it. */
static size_t reason_bytes(size_t size)
{
    size_t bytes = sizeof(struct sched_reason) + size;
    bool same = bytes <= sizeof(struct sched_delivery) &&
                bytes + NEAR_GRANULE_BYTES > sizeof(struct sched_delivery);
    return same ? sizeof(struct sched_delivery) + 1 : bytes;
}
static_assert(sizeof(struct sched_queue) + NEAR_GRANULE_BYTES <= sizeof(struct sched_delivery) &&
                  sizeof(struct sched_site) > sizeof(struct sched_delivery),
              "the others have not");

struct sched_reason *sched_reason_take(struct sched_pool *pool, struct sched_reason *last,
                                       struct slice text)
{
    if (last != NULL && slice_equal(slice_of(last->text, last->size), text)) {
        last->count++;
        return last;
    }
    struct sched_reason *reason = near_take(&pool->heap, reason_bytes(text.size));
    if (reason == NULL) {
        return NULL;
    }
    reason->count = 1;
    reason->size = (uint16_t)text.size;
    memcpy(reason->text, text.bytes, text.size);
    return reason;
}

void sched_reason_drop(struct sched_pool *pool, struct sched_reason *reason)
{
    if (reason != NULL && --reason->count == 0) {
        near_give(&pool->heap, reason);
    }
}

void sched_pool_close(struct sched_pool *pool)
{
    uint64_t cursor = 0;
    for (struct sched_delivery *delivery; (delivery = sched_pool_next(pool, &cursor)) != NULL;) {
        indexes_free(pool, delivery);
    }
    near_close(&pool->heap);
}
