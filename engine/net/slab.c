#include "engine/net/slab.h"
#include "engine/core/check.h"
#include <errno.h>
#include <string.h>

#define BLOCK_BYTES 65536u

int slab_open(struct slab *slab, uint32_t object_bytes, uint32_t max)
{
    uint32_t shift = 0;
    check(object_bytes >= sizeof(uint32_t) && max < SLAB_NONE);
    while (((uint64_t)object_bytes << (shift + 1)) <= BLOCK_BYTES) {
        shift++;
    }
    uint32_t block_max = (max >> shift) + 1;
    *slab = (struct slab){
        .object_bytes = object_bytes, .block_shift = shift, .max = max, .free = SLAB_NONE};
    slab->blocks = calloc(block_max, sizeof(slab->blocks[0]));
    return slab->blocks == NULL ? -ENOMEM : 0;
}

void slab_close(struct slab *slab)
{
    for (uint32_t i = 0; slab->blocks != NULL && i < slab->block_count; i++) {
        free(slab->blocks[i]);
    }
    free(slab->blocks);
    *slab = (struct slab){.free = SLAB_NONE};
}

static void free_push(struct slab *slab, uint32_t index)
{
    memcpy(slab_at(slab, index), &slab->free, sizeof(slab->free));
    slab->free = index;
}

static void grow(struct slab *slab)
{
    uint32_t first = slab->block_count << slab->block_shift;
    uint32_t count = 1u << slab->block_shift;
    if (first >= slab->max) {
        return;
    }
    uint8_t *block = aligned_alloc(64, ((size_t)slab->object_bytes * count + 63) / 64 * 64);
    if (block == NULL) {
        return;
    }
    memset(block, 0, (size_t)slab->object_bytes * count);
    slab->blocks[slab->block_count++] = block;
    count = count < slab->max - first ? count : slab->max - first;
    for (uint32_t i = count; i > 0; i--) {
        free_push(slab, first + i - 1);
    }
}

uint32_t slab_take(struct slab *slab)
{
    if (slab->free == SLAB_NONE) {
        grow(slab);
    }
    uint32_t index = slab->free;
    if (index != SLAB_NONE) {
        memcpy(&slab->free, slab_at(slab, index), sizeof(slab->free));
        slab->used++;
    }
    return index;
}

void slab_give(struct slab *slab, uint32_t index)
{
    check(slab->used > 0 && index < slab->block_count << slab->block_shift);
    slab->used--;
    free_push(slab, index);
}
