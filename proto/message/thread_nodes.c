#include "proto/message/thread_nodes.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

/* ---- Children ---- */

void thread_child_add(struct thread_forest *forest, uint32_t parent, uint32_t child)
{
    struct thread_node *nodes = forest->nodes;
    nodes[child].parent = parent;
    nodes[child].previous = nodes[parent].last;
    nodes[child].next = THREAD_NONE;
    if (nodes[parent].last != THREAD_NONE) {
        nodes[nodes[parent].last].next = child;
    } else {
        nodes[parent].first = child;
    }
    nodes[parent].last = child;
}

/* What was before the child, and what was behind it, are led past it. */
static void neighbours_join(struct thread_forest *forest, uint32_t parent, uint32_t previous,
                            uint32_t next)
{
    struct thread_node *nodes = forest->nodes;
    if (previous != THREAD_NONE) {
        nodes[previous].next = next;
    } else {
        nodes[parent].first = next;
    }
    if (next != THREAD_NONE) {
        nodes[next].previous = previous;
    } else {
        nodes[parent].last = previous;
    }
}

void thread_child_remove(struct thread_forest *forest, uint32_t child)
{
    struct thread_node *node = &forest->nodes[child];
    neighbours_join(forest, node->parent, node->previous, node->next);
    node->parent = node->previous = node->next = THREAD_NONE;
}

void thread_child_replace(struct thread_forest *forest, uint32_t child, uint32_t by)
{
    struct thread_node *nodes = forest->nodes, *node = &nodes[child];
    uint32_t parent = node->parent;
    nodes[by].parent = parent;
    nodes[by].previous = node->previous;
    nodes[by].next = node->next;
    if (node->previous != THREAD_NONE) {
        nodes[node->previous].next = by;
    } else {
        nodes[parent].first = by;
    }
    if (node->next != THREAD_NONE) {
        nodes[node->next].previous = by;
    } else {
        nodes[parent].last = by;
    }
    node->parent = node->previous = node->next = THREAD_NONE;
}

void thread_children_move(struct thread_forest *forest, uint32_t from, uint32_t to)
{
    uint32_t next;
    for (uint32_t at = forest->nodes[from].first; at != THREAD_NONE; at = next) {
        next = forest->nodes[at].next;
        thread_child_remove(forest, at);
        thread_child_add(forest, to, at);
    }
}

bool thread_children_gather(struct thread_forest *forest, struct thread_walk *walk, size_t *steps)
{
    for (; walk->at + 1 < forest->node_count && *steps > 0; --*steps) {
        walk->at++;
        thread_child_add(forest, forest->nodes[walk->at].parent, walk->at);
    }
    return walk->at + 1 == forest->node_count;
}

/* ---- Dummies ---- */

/* What stands between the child's neighbours is its own children, if any. Their parent is said when they are met. */
static void child_dissolve(struct thread_forest *forest, uint32_t parent, uint32_t child)
{
    struct thread_node *nodes = forest->nodes;
    uint32_t first = nodes[child].first, last = nodes[child].last;
    uint32_t previous = nodes[child].previous, next = nodes[child].next;
    if (first == THREAD_NONE) {
        neighbours_join(forest, parent, previous, next);
        return;
    }
    neighbours_join(forest, parent, previous, first);
    nodes[first].previous = previous;
    nodes[last].next = next;
    if (next != THREAD_NONE) {
        nodes[next].previous = last;
    }
    nodes[parent].last = next == THREAD_NONE ? last : nodes[parent].last;
}

/* Of walk->at: its dummies' children become its own. True: it has no dummies any more. */
static bool children_flatten(struct thread_forest *forest, struct thread_walk *walk, size_t *steps)
{
    struct thread_node *nodes = forest->nodes;
    if (walk->part == THREAD_WALK_DOWN) {
        walk->child = nodes[walk->at].first;
        walk->part = THREAD_WALK_CHILDREN;
    }
    for (; walk->child != THREAD_NONE && *steps > 0; --*steps) {
        uint32_t at = walk->child;
        nodes[at].parent = walk->at;
        walk->child = nodes[at].next;
        if (nodes[at].number == 0) {
            walk->child = nodes[at].first != THREAD_NONE ? nodes[at].first : walk->child;
            child_dissolve(forest, walk->at, at);
        }
    }
    return walk->child == THREAD_NONE;
}

/* At the top: a dummy stays when it has several children. */
static void top_prune(struct thread_forest *forest, struct thread_walk *walk)
{
    struct thread_node *nodes = forest->nodes;
    uint32_t at = walk->at;
    walk->at = nodes[at].next;
    if (nodes[at].number == 0 && nodes[at].first == nodes[at].last) {
        uint32_t only = nodes[at].first;
        child_dissolve(forest, THREAD_ROOT, at);
        nodes[only].parent = THREAD_ROOT;
    }
}

/* To the node after this one where parents come before their children; THREAD_ROOT: there is none. */
static void downwards_on(const struct thread_forest *forest, struct thread_walk *walk)
{
    const struct thread_node *nodes = forest->nodes;
    if (walk->part != THREAD_WALK_ON && nodes[walk->at].first != THREAD_NONE) {
        walk->at = nodes[walk->at].first;
        walk->part = THREAD_WALK_DOWN;
    } else if (nodes[walk->at].next != THREAD_NONE) {
        walk->at = nodes[walk->at].next;
        walk->part = THREAD_WALK_DOWN;
    } else {
        walk->at = nodes[walk->at].parent;
        walk->part = THREAD_WALK_ON;
    }
}

/* From above downwards, so that each node is met once, however many dummies are above each other. */
bool thread_dummies_prune(struct thread_forest *forest, struct thread_walk *walk, size_t *steps)
{
    if (walk->at == THREAD_ROOT && !walk->below) {
        walk->at = forest->nodes[THREAD_ROOT].first;
    }
    while (!walk->below && walk->at != THREAD_NONE) {
        if (!children_flatten(forest, walk, steps) || !thread_spend(steps)) {
            return false;
        }
        top_prune(forest, walk);
        walk->part = THREAD_WALK_DOWN;
    }
    if (!walk->below) {
        walk->below = true;
        walk->at = forest->nodes[THREAD_ROOT].first;
    }
    while (walk->at != THREAD_ROOT) {
        if ((walk->part != THREAD_WALK_ON && !children_flatten(forest, walk, steps)) ||
            !thread_spend(steps)) {
            return false;
        }
        downwards_on(forest, walk);
    }
    return true;
}

/* ---- Order ---- */

static int node_order(const void *a, const void *b, void *owner)
{
    const struct thread_node *nodes = owner, *one = &nodes[*(const uint32_t *)a],
                             *other = &nodes[*(const uint32_t *)b];
    if (one->sent_s != other->sent_s) {
        return one->sent_s < other->sent_s ? -1 : 1;
    }
    return one->order < other->order ? -1 : one->order > other->order;
}

/* Lists the children of walk->at. True: these are all. */
static bool children_list(struct thread_forest *forest, struct thread_walk *walk, size_t *steps)
{
    struct thread_node *nodes = forest->nodes;
    for (; walk->child != THREAD_NONE && *steps > 0; --*steps) {
        walk->in_order =
            walk->in_order &&
            (walk->count == 0 || node_order(&walk->list[walk->count - 1], &walk->child, nodes) < 0);
        walk->list[walk->count++] = walk->child;
        walk->child = nodes[walk->child].next;
    }
    return walk->child == THREAD_NONE;
}

static bool children_join(struct thread_forest *forest, struct thread_walk *walk, size_t *steps)
{
    for (; walk->joined<walk->count && * steps> 0; --*steps) {
        thread_child_add(forest, walk->at, walk->list[walk->joined++]);
    }
    return walk->joined == walk->count;
}

/* Of the children of walk->at. 0, -EAGAIN, -ENOMEM. */
static int children_sort(struct thread_forest *forest, struct thread_walk *walk, size_t *steps)
{
    struct thread_node *nodes = forest->nodes;
    if (walk->part == THREAD_WALK_CHILDREN && children_list(forest, walk, steps)) {
        walk->part = walk->in_order ? THREAD_WALK_ON : THREAD_WALK_SORT;
        if (!walk->in_order && gradual_sort_open(&walk->sort, walk->list, walk->count,
                                                 sizeof(*walk->list), node_order, nodes) != 0) {
            return -ENOMEM;
        }
    }
    if (walk->part == THREAD_WALK_SORT && gradual_sort_step(&walk->sort, steps)) {
        gradual_sort_close(&walk->sort);
        nodes[walk->at].first = nodes[walk->at].last = THREAD_NONE;
        walk->part = THREAD_WALK_JOIN;
    }
    if (walk->part == THREAD_WALK_JOIN && children_join(forest, walk, steps)) {
        walk->part = THREAD_WALK_ON;
    }
    if (walk->part != THREAD_WALK_ON) {
        return -EAGAIN;
    }
    if (nodes[walk->at].number == 0 && walk->count > 0) {
        nodes[walk->at].sent_s = nodes[nodes[walk->at].first].sent_s;
        nodes[walk->at].order = nodes[nodes[walk->at].first].order;
    }
    return 0;
}

static void children_begin(const struct thread_forest *forest, struct thread_walk *walk)
{
    walk->child = forest->nodes[walk->at].first;
    walk->count = walk->joined = 0;
    walk->in_order = true;
    walk->part = THREAD_WALK_CHILDREN;
}

/* Children come before their parent; the root is the last. */
int thread_sort(struct thread_forest *forest, struct thread_walk *walk, size_t *steps)
{
    const struct thread_node *nodes = forest->nodes;
    if (walk->list == NULL) {
        walk->list = malloc(forest->node_count * sizeof(*walk->list));
    }
    if (walk->list == NULL) {
        return -ENOMEM;
    }
    for (;;) {
        bool down = walk->part == THREAD_WALK_DOWN && nodes[walk->at].first != THREAD_NONE;
        if (walk->part == THREAD_WALK_DOWN && !down) {
            children_begin(forest, walk);
        }
        int status = down ? 0 : children_sort(forest, walk, steps);
        if (status != 0 || (!down && walk->at == THREAD_ROOT)) {
            return status;
        }
        if (!thread_spend(steps)) {
            return -EAGAIN;
        }
        if (down) {
            walk->at = nodes[walk->at].first;
        } else if (nodes[walk->at].next != THREAD_NONE) {
            walk->at = nodes[walk->at].next;
            walk->part = THREAD_WALK_DOWN;
        } else {
            walk->at = nodes[walk->at].parent;
            children_begin(forest, walk);
        }
    }
}

void thread_walk_end(struct thread_walk *walk)
{
    gradual_sort_close(&walk->sort);
    free(walk->list);
    *walk = (struct thread_walk){.at = THREAD_ROOT};
}
