#include "queue/sched/heap.h"

/*
 * A tree: `child` is the first of those below, `next` and `previous` chain siblings; `previous` of
 * the first child is its parent. The root has neither.
 */

static struct sched_delivery *of(const struct sched_delivery *self, uint32_t link)
{
    return (struct sched_delivery *)near_at(self, link);
}

/* `next`, unless it is none, comes behind `before`, or is its first child. */
static void follows(struct sched_delivery *next, const struct sched_delivery *before)
{
    if (next != NULL) {
        next->heap.previous = near_link(before);
    }
}

/* The later of two roots becomes the first child of the earlier. */
static struct sched_delivery *join(struct sched_delivery *a, struct sched_delivery *b)
{
    if (b->due_ns < a->due_ns) {
        struct sched_delivery *earlier = b;
        b = a;
        a = earlier;
    }
    b->heap.next = a->heap.child;
    b->heap.previous = near_link(a);
    follows(of(a, a->heap.child), b);
    a->heap.child = near_link(b);
    return a;
}

static struct sched_delivery *root_of(struct sched_delivery *delivery)
{
    delivery->heap.next = 0;
    delivery->heap.previous = 0;
    return delivery;
}

/* Makes one tree of a chain of siblings: joins them two by two from the left, then all from the
 * right. NULL when there are none. No recursion: the chain may be a million long. */
static struct sched_delivery *gather(struct sched_delivery *first)
{
    struct sched_delivery *pairs = NULL; /* chained by next, the last made first */
    while (first != NULL) {
        struct sched_delivery *a = first, *b = of(a, a->heap.next);
        first = b != NULL ? of(b, b->heap.next) : NULL;
        a = root_of(a);
        if (b != NULL) {
            a = join(a, root_of(b));
        }
        a->heap.next = near_link(pairs);
        pairs = a;
    }
    struct sched_delivery *tree = NULL;
    while (pairs != NULL) {
        struct sched_delivery *pair = pairs;
        pairs = of(pair, pair->heap.next);
        pair = root_of(pair);
        tree = tree != NULL ? root_of(join(tree, pair)) : pair;
    }
    return tree;
}

/* Joins the first two below a root. */
static void join_children(struct sched_delivery *root)
{
    struct sched_delivery *a = of(root, root->heap.child), *b = of(a, a->heap.next);
    struct sched_delivery *others = of(b, b->heap.next);
    struct sched_delivery *joined = join(a, b);
    joined->heap.previous = near_link(root);
    joined->heap.next = near_link(others);
    follows(others, joined);
    root->heap.child = near_link(joined);
}

void sched_heap_add(struct sched_heap *heap, struct sched_delivery *delivery)
{
    delivery->heap.child = 0;
    delivery = root_of(delivery);
    if (heap->first == NULL) {
        heap->first = delivery;
        heap->added_count = 0;
        return;
    }
    heap->first = root_of(join(heap->first, delivery));
    /* So many ones end the number, so many trees are as large as the one just made. */
    for (uint32_t digits = heap->added_count++; digits & 1; digits >>= 1) {
        if (of(heap->first, heap->first->heap.child)->heap.next == 0) {
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
    heap->first = gather(of(heap->first, heap->first->heap.child));
    heap->added_count = 0;
}

void sched_heap_remove_inner(struct sched_delivery *delivery)
{
    /* What is below it takes its place: later than it, so later than its parent. */
    struct sched_delivery *heir = gather(of(delivery, delivery->heap.child));
    struct sched_delivery *next = of(delivery, delivery->heap.next);
    struct sched_delivery *previous = of(delivery, delivery->heap.previous);
    if (heir != NULL) {
        heir->heap.next = delivery->heap.next;
        heir->heap.previous = delivery->heap.previous;
        follows(next, heir);
    } else {
        follows(next, previous);
    }
    uint32_t follower = near_link(heir != NULL ? heir : next);
    if (previous->heap.child == near_link(delivery)) {
        previous->heap.child = follower;
    } else {
        previous->heap.next = follower;
    }
}
