/*
 * heap: deliveries by due time: a pairing heap inside the deliveries themselves.
 *
 * For the scheduler alone. Nothing is allocated and nothing moves in memory, so a heap of a million costs the others
 * nothing. Adding and removing are O(log n), merging is O(1).
 *
 * A plain pairing heap puts all that is added below its first, and the next removal pays for it: after a million it
 * walks a million siblings, 33 ms. Here what is added is joined as it comes, like the digits of a binary counter; then
 * it walks 45 at most (both measured).
 *
 * Source: Fredman, Sedgewick, Sleator, Tarjan: The pairing heap (1986).
 */
#pragma once
#include "queue/sched/sched.h"

struct sched_heap {
    struct sched_delivery *first; /* the earliest; NULL: empty */
    uint32_t added_count;         /* since one was removed */
};

void sched_heap_add(struct sched_heap *heap, struct sched_delivery *delivery);
/* Moves all of `from` into `heap`. */
void sched_heap_merge(struct sched_heap *heap, struct sched_heap *from);
void sched_heap_remove_first(struct sched_heap *heap);
/* Takes one out that is not the first of its heap, whichever heap that is. */
void sched_heap_remove_inner(struct sched_delivery *delivery);
