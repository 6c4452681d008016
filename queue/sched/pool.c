#include "queue/sched/pool.h"

#include "engine/core/check.h"

#include <errno.h>
#include <stdlib.h>

#define INDEXES_FEW 2 /* lie in the delivery itself */

struct sched_slab {
    struct sched_slab *next;
    struct sched_delivery deliveries[SCHED_SLAB_DELIVERIES];
};

static int grow(struct sched_pool *pool)
{
    struct sched_slab *slab = malloc(sizeof(*slab));
    if (slab == NULL) {
        return -ENOMEM;
    }
    slab->next = pool->slabs;
    pool->slabs = slab;
    pool->memory_bytes += sizeof(*slab);
    for (size_t i = SCHED_SLAB_DELIVERIES; i-- > 0;) {
        slab->deliveries[i].count = 0;
        slab->deliveries[i].next_of_message = pool->free;
        pool->free = &slab->deliveries[i];
    }
    return 0;
}

struct sched_delivery *sched_pool_take(struct sched_pool *pool)
{
    if (pool->free == NULL && grow(pool) < 0) {
        return NULL;
    }
    struct sched_delivery *delivery = pool->free;
    pool->free = delivery->next_of_message;
    memset(delivery, 0, sizeof(*delivery));
    return delivery;
}

void *sched_pool_first(const struct sched_pool *pool)
{
    return pool->slabs;
}

struct sched_delivery *sched_pool_next(void **at, uint32_t *index)
{
    for (struct sched_slab *slab = *at; slab != NULL; *at = slab = slab->next, *index = 0) {
        while (*index < SCHED_SLAB_DELIVERIES) {
            struct sched_delivery *delivery = &slab->deliveries[(*index)++];
            if (delivery->count > 0) { /* not in the free list */
                return delivery;
            }
        }
    }
    return NULL;
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
    sched_reason_drop(pool, delivery->reason);
    delivery->next_of_message = pool->free;
    pool->free = delivery;
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

struct sched_reason *sched_reason_take(struct sched_pool *pool, struct sched_reason *last,
                                       struct slice text)
{
    if (last != NULL && slice_equal(slice_of(last->text, last->size), text)) {
        last->count++;
        return last;
    }
    struct sched_reason *reason = malloc(sizeof(*reason) + text.size);
    if (reason == NULL) {
        return NULL;
    }
    reason->count = 1;
    reason->size = (uint16_t)text.size;
    memcpy(reason->text, text.bytes, text.size);
    pool->memory_bytes += sizeof(*reason) + text.size;
    return reason;
}

void sched_reason_drop(struct sched_pool *pool, struct sched_reason *reason)
{
    if (reason != NULL && --reason->count == 0) {
        pool->memory_bytes -= sizeof(*reason) + reason->size;
        free(reason);
    }
}

void sched_pool_close(struct sched_pool *pool)
{
    while (pool->slabs != NULL) {
        struct sched_slab *slab = pool->slabs;
        pool->slabs = slab->next;
        for (size_t i = 0; i < SCHED_SLAB_DELIVERIES; i++) {
            if (slab->deliveries[i].count > 0) { /* not in the free list */
                sched_pool_give(pool, &slab->deliveries[i]);
            }
        }
        pool->memory_bytes -= sizeof(*slab);
        free(slab);
    }
    pool->free = NULL;
}
