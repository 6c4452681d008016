/*
 * slab: objects of one size, by number; grows by blocks up to a bound and keeps what it has grown.
 *
 * Numbers are small and stay the same while an object lives, so that tables can hold 4 bytes
 * instead of a pointer. Objects are aligned to cache lines when their size is a multiple of one.
 * Taking and giving cost a few instructions; only growth calls the heap.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define SLAB_NONE UINT32_MAX

struct slab {
    uint8_t **blocks;
    uint32_t object_bytes;
    uint32_t block_shift; /* objects in a block: 1 << block_shift */
    uint32_t block_count;
    uint32_t max;
    uint32_t used;
    uint32_t
        free; /* first of the free ones, or SLAB_NONE; each holds the next in its first bytes */
};

/* object_bytes >= 4. 0 or -ENOMEM. */
int slab_open(struct slab *slab, uint32_t object_bytes, uint32_t max);
void slab_close(struct slab *slab);

/* Not cleared. SLAB_NONE: the bound is reached, or memory is out. */
uint32_t slab_take(struct slab *slab);
void slab_give(struct slab *slab, uint32_t index);

static inline void *slab_at(const struct slab *slab, uint32_t index)
{
    return slab->blocks[index >> slab->block_shift] +
           (size_t)(index & ((1u << slab->block_shift) - 1)) * slab->object_bytes;
}
