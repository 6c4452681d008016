/*
 * heap: deliveries by due time: a pairing heap inside the deliveries themselves.
 *
 * For the scheduler alone. Adding and merging are O(1), removing is O(log n) over many calls;
 * nothing is allocated and nothing moves in memory, so a heap of a million costs the others
 * nothing. A heap is the pointer to its earliest delivery, NULL when it is empty.
 *
 * Source: Fredman, Sedgewick, Sleator, Tarjan: The pairing heap (1986).
 */
#pragma once
#include "queue/sched/sched.h"

void sched_heap_add(struct sched_delivery **heap, struct sched_delivery *delivery);
/* Moves all of `from` into `heap`. */
void sched_heap_merge(struct sched_delivery **heap, struct sched_delivery **from);
void sched_heap_remove_first(struct sched_delivery **heap);
/* Takes one out that is not the first of its heap, whichever heap that is. */
void sched_heap_remove_inner(struct sched_delivery *delivery);
