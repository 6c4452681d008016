/*
 * arena: memory that is taken piece by piece and given back all at once: what a parser keeps of one command, what
 * describes one message.
 *
 * Pieces are aligned for any type and stay where they are. There is a most that an arena may hold, so that what a
 * peer sends cannot make it grow without end.
 */
#pragma once
#include "engine/core/slice.h"

struct arena_block;

struct arena {
    struct arena_block *newest; /* owned, as the chain behind it is */
    size_t bytes;               /* held, blocks' heads included */
    size_t bytes_max;
};

/* Takes nothing yet. */
void arena_open(struct arena *arena, size_t bytes_max);
/* Zeroed; at least one byte. NULL: no memory, or more than bytes_max. Valid until arena_reset. */
void *arena_take(struct arena *arena, size_t bytes);
/* The same for `count` pieces in a row. */
void *arena_take_array(struct arena *arena, size_t count, size_t bytes);
/* A copy of it. False, and *copy is empty: as arena_take. */
bool arena_copy(struct arena *arena, struct slice bytes, struct slice *copy);
/* Nothing that was taken is valid any more. Keeps one small block, so that the next piece costs no heap. */
void arena_reset(struct arena *arena);
/* The same, and keeps nothing. It may be used again. */
void arena_close(struct arena *arena);
