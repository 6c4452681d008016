#include "engine/core/arena.h"
#include "engine/core/check.h"
#include <stdalign.h>
#include <stdlib.h>

#define BLOCK_BYTES_MIN 1024u
#define BLOCK_BYTES_MAX (64u * 1024) /* of a block that is made for more than one piece */
#define ALIGNMENT (alignof(max_align_t))

struct arena_block {
    struct arena_block *older;
    size_t bytes; /* of the whole block */
    size_t used;  /* its head included */
};

#define HEAD_BYTES ((sizeof(struct arena_block) + ALIGNMENT - 1) & ~(ALIGNMENT - 1))

void arena_open(struct arena *arena, size_t bytes_max)
{
    *arena = (struct arena){.bytes_max = bytes_max};
}

/* Twice the last one, within bounds, but enough for the piece. NULL: as arena_take. */
static struct arena_block *block_add(struct arena *arena, size_t piece_bytes)
{
    size_t room = arena->bytes_max > arena->bytes ? arena->bytes_max - arena->bytes : 0;
    if (room < HEAD_BYTES || piece_bytes > room - HEAD_BYTES) {
        return NULL;
    }
    size_t bytes = arena->newest != NULL ? arena->newest->bytes * 2 : BLOCK_BYTES_MIN;
    bytes = bytes > BLOCK_BYTES_MAX ? BLOCK_BYTES_MAX : bytes;
    bytes = bytes < HEAD_BYTES + piece_bytes ? HEAD_BYTES + piece_bytes : bytes;
    bytes = bytes > room ? room : bytes;
    struct arena_block *block = malloc(bytes);
    if (block == NULL) {
        return NULL;
    }
    *block = (struct arena_block){.older = arena->newest, .bytes = bytes, .used = HEAD_BYTES};
    arena->newest = block;
    arena->bytes += bytes;
    return block;
}

void *arena_take(struct arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGNMENT) {
        return NULL;
    }
    bytes = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    struct arena_block *block = arena->newest;
    if (block == NULL || block->bytes - block->used < bytes) {
        block = block_add(arena, bytes);
        if (block == NULL) {
            return NULL;
        }
    }
    void *piece = (uint8_t *)block + block->used;
    block->used += bytes;
    check(block->used <= block->bytes);
    return memset(piece, 0, bytes);
}

void *arena_take_array(struct arena *arena, size_t count, size_t bytes)
{
    if (bytes != 0 && count > SIZE_MAX / bytes) {
        return NULL;
    }
    return arena_take(arena, count * bytes);
}

bool arena_copy(struct arena *arena, struct slice bytes, struct slice *copy)
{
    *copy = slice_of(NULL, 0);
    uint8_t *place = arena_take(arena, bytes.size);
    if (place == NULL) {
        return false;
    }
    if (bytes.size > 0) {
        memcpy(place, bytes.bytes, bytes.size);
    }
    *copy = slice_of(place, bytes.size);
    return true;
}

void arena_reset(struct arena *arena)
{
    struct arena_block *block = arena->newest;
    while (block != NULL && (block->older != NULL || block->bytes > BLOCK_BYTES_MIN)) {
        struct arena_block *older = block->older;
        arena->bytes -= block->bytes;
        free(block);
        block = older;
    }
    arena->newest = block;
    if (block != NULL) {
        block->used = HEAD_BYTES;
    }
}

void arena_close(struct arena *arena)
{
    arena_reset(arena);
    free(arena->newest);
    arena->newest = NULL;
    arena->bytes = 0;
}
