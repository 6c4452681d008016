/*
 * gradual_sort: puts many items in order, a bounded piece of work at a time.
 *
 * For what runs on a shard and must not keep it from others for as long as a million comparisons take. A merge sort: n log n
 * comparisons however the items lie, n where they are in order already, and room for a copy of them. What compares equal
 * stays as it lies.
 *
 * Pure. `order` compares as qsort_r's does.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRADUAL_SORT_ITEM_MAX 64u /* octets of an item */

struct gradual_sort {
    uint8_t *items;     /* borrowed from open to close */
    uint8_t *room;      /* owned */
    size_t count, size; /* of items; octets of each */
    int (*order)(const void *a, const void *b, void *owner);
    void *owner;
    /* Where it is: runs of `width` are in order; of this pass all before `out` is merged. */
    bool in_room; /* the pass goes from room to items */
    size_t width, left, right, left_end, right_end, out;
};

/* 0 or -ENOMEM, with nothing to close. size: 1 to GRADUAL_SORT_ITEM_MAX. */
int gradual_sort_open(struct gradual_sort *sort, void *items, size_t count, size_t size,
                      int (*order)(const void *a, const void *b, void *owner), void *owner);
/* Looks at about *steps items, and takes as many off. True: they are in order, where they were given. */
bool gradual_sort_step(struct gradual_sort *sort, size_t *steps);
void gradual_sort_close(
    struct gradual_sort *sort); /* at any time; harmless twice, and when zeroed */
