/*
 * near: memory for millions of small things, and links between them of 32 bits.
 *
 * A heap lies in one stretch of NEAR_SPAN_BYTES of addresses, so the lower bits tell one of its objects from
 * another, and the upper ones are those of any of them: a link needs the address of an object that has it, and
 * nothing else. Objects are as large as was asked, in steps of NEAR_GRANULE_BYTES; those of one size share a page. An
 * empty page goes back to the system, and serves any size afterwards.
 *
 * One thread. Only addresses are reserved at first; memory is taken as it is used.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEAR_GRANULE_SHIFT 3
#define NEAR_GRANULE_BYTES (1u << NEAR_GRANULE_SHIFT)
#define NEAR_SPAN_BYTES ((uint64_t)NEAR_GRANULE_BYTES << 32)
#define NEAR_BYTES_MAX 8192u /* of one object */
#define NEAR_CLASSES 95u

/* ---- Links ---- */

/* For an object of the same heap; NULL becomes 0. */
static inline uint32_t near_link(const void *object)
{
    return (uint32_t)((uintptr_t)object >> NEAR_GRANULE_SHIFT);
}

/* What a link of `self`, or of anything in it, leads to; NULL for 0. */
static inline void *near_at(const void *self, uint32_t link)
{
    uintptr_t span = (uintptr_t)self & ~(uintptr_t)(NEAR_SPAN_BYTES - 1);
    return link != 0 ? (void *)(span | (uintptr_t)link << NEAR_GRANULE_SHIFT) : NULL;
}

/* ---- Lists ---- */

/* As struct list_node (engine/core/list.h) in half the room: a ring, of which the head too lies in the heap. A node is
 * at a multiple of NEAR_GRANULE_BYTES. */
struct near_node {
    uint32_t next, prev;
};

static inline struct near_node *near_next(const struct near_node *node)
{
    return (struct near_node *)near_at(node, node->next);
}

static inline struct near_node *near_prev(const struct near_node *node)
{
    return (struct near_node *)near_at(node, node->prev);
}

static inline void near_list_init(struct near_node *node)
{
    node->next = node->prev = near_link(node);
}

static inline bool near_list_empty(const struct near_node *head)
{
    return head->next == near_link(head);
}

static inline void near_list_append(struct near_node *head, struct near_node *node)
{
    node->prev = head->prev;
    node->next = near_link(head);
    near_prev(head)->next = near_link(node);
    head->prev = near_link(node);
}

static inline void near_list_prepend(struct near_node *head, struct near_node *node)
{
    node->next = head->next;
    node->prev = near_link(head);
    near_next(head)->prev = near_link(node);
    head->next = near_link(node);
}

static inline void near_list_remove(struct near_node *node)
{
    near_prev(node)->next = node->next;
    near_next(node)->prev = node->prev;
    near_list_init(node);
}

/* ---- The heap ---- */

struct near_heap {
    char *base;
    uint32_t page_max, page_count; /* that fit; that were used at some time */
    uint32_t ready_count;          /* pages that may be written */
    uint32_t free_first; /* pages that are empty, chained in the heap's own table; 0: none */
    uint32_t partial[NEAR_CLASSES]; /* of each size those that have room; 0: none */
    uint64_t memory_bytes;          /* of objects */
};

int near_open(struct near_heap *heap);   /* 0 or -ENOMEM: no addresses */
void near_close(struct near_heap *heap); /* what is in it too; fine when it is zeroed */

/* At most NEAR_BYTES_MAX. Not cleared. NULL: memory is short. */
void *near_take(struct near_heap *heap, size_t bytes);
void near_give(struct near_heap *heap, void *object); /* NULL is fine */
struct near_heap *near_heap_of(const void *object);
size_t near_size(const void *object); /* what it takes */

/* All that are taken of this size, from a cursor that is 0 at first; NULL: no more. Those that are taken meanwhile may
 * be missed. */
void *near_each(const struct near_heap *heap, size_t bytes, uint64_t *cursor);
