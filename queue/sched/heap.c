#include "queue/sched/heap.h"

/*
 * A tree: `child` is the first of those below, `next` and `previous` chain siblings; `previous` of
 * the first child is its parent. The root has neither.
 */

/* The later of two roots becomes the first child of the earlier. */
static struct sched_delivery *join(struct sched_delivery *a, struct sched_delivery *b)
{
    if (b->due_ns < a->due_ns) {
        struct sched_delivery *earlier = b;
        b = a;
        a = earlier;
    }
    b->heap.next = a->heap.child;
    b->heap.previous = a;
    if (a->heap.child != NULL) {
        a->heap.child->heap.previous = b;
    }
    a->heap.child = b;
    return a;
}

static struct sched_delivery *root_of(struct sched_delivery *delivery)
{
    delivery->heap.next = NULL;
    delivery->heap.previous = NULL;
    return delivery;
}

/* Makes one tree of a chain of siblings: joins them two by two from the left, then all from the
 * right. NULL when there are none. No recursion: the chain may be a million long. */
static struct sched_delivery *gather(struct sched_delivery *first)
{
    struct sched_delivery *pairs = NULL; /* chained by next, the last made first */
    while (first != NULL) {
        struct sched_delivery *a = first, *b = a->heap.next;
        first = b != NULL ? b->heap.next : NULL;
        a = root_of(a);
        if (b != NULL) {
            a = join(a, root_of(b));
        }
        a->heap.next = pairs;
        pairs = a;
    }
    struct sched_delivery *tree = NULL;
    while (pairs != NULL) {
        struct sched_delivery *pair = pairs;
        pairs = pair->heap.next;
        pair = root_of(pair);
        tree = tree != NULL ? root_of(join(tree, pair)) : pair;
    }
    return tree;
}

/* Joins the first two below a root. */
static void join_children(struct sched_delivery *root)
{
    struct sched_delivery *a = root->heap.child, *b = a->heap.next;
    struct sched_delivery *others = b->heap.next;
    struct sched_delivery *joined = join(a, b);
    joined->heap.previous = root;
    joined->heap.next = others;
    if (others != NULL) {
        others->heap.previous = joined;
    }
    root->heap.child = joined;
}

void sched_heap_add(struct sched_heap *heap, struct sched_delivery *delivery)
{
    delivery->heap.child = NULL;
    delivery = root_of(delivery);
    if (heap->first == NULL) {
        heap->first = delivery;
        heap->added_count = 0;
        return;
    }
    heap->first = root_of(join(heap->first, delivery));
    /* So many ones end the number, so many trees are as large as the one just made. */
    for (uint32_t digits = heap->added_count++; digits & 1; digits >>= 1) {
        if (heap->first->heap.child->heap.next == NULL) {
            break;
        }
        join_children(heap->first);
    }
}

void sched_heap_merge(struct sched_heap *heap, struct sched_heap *from)
{
    if (from->first != NULL) {
        heap->first = heap->first != NULL ? root_of(join(heap->first, from->first)) : from->first;
        heap->added_count = 0;
        from->first = NULL;
    }
}

void sched_heap_remove_first(struct sched_heap *heap)
{
    heap->first = gather(heap->first->heap.child);
    heap->added_count = 0;
}

void sched_heap_remove_inner(struct sched_delivery *delivery)
{
    /* What is below it takes its place: later than it, so later than its parent. */
    struct sched_delivery *heir = gather(delivery->heap.child);
    struct sched_delivery *next = delivery->heap.next, *previous = delivery->heap.previous;
    struct sched_delivery *follower = heir != NULL ? heir : next;
    if (heir != NULL) {
        heir->heap.next = next;
        heir->heap.previous = previous;
        if (next != NULL) {
            next->heap.previous = heir;
        }
    } else if (next != NULL) {
        next->heap.previous = previous;
    }
    if (previous->heap.child == delivery) {
        previous->heap.child = follower;
    } else {
        previous->heap.next = follower;
    }
}
