#include "proto/message/thread_nodes.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

int thread_forest_open(struct thread_forest **made, const struct thread_message *messages,
                       uint32_t count, size_t more)
{
    check(count <= THREAD_MESSAGES_MAX);
    struct thread_forest *forest = calloc(1, sizeof(*forest));
    size_t room = (size_t)count + more + 1;
    if (forest != NULL && room <= UINT32_MAX) {
        forest->nodes = calloc(room, sizeof(*forest->nodes));
    }
    if (forest == NULL || forest->nodes == NULL) {
        free(forest);
        return -ENOMEM;
    }
    forest->node_room = (uint32_t)room;
    forest->node_count = count + 1;
    for (uint32_t i = 0; i < count; i++) {
        check(messages[i].number != 0);
        forest->nodes[i + 1] = (struct thread_node){.number = messages[i].number,
                                                    .order = messages[i].number,
                                                    .sent_s = messages[i].sent_s,
                                                    .subject = messages[i].subject,
                                                    .is_reply = messages[i].is_reply};
    }
    *made = forest;
    return 0;
}

void thread_free(struct thread_forest *forest)
{
    if (forest != NULL) {
        free(forest->nodes);
        free(forest);
    }
}

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

void thread_children_gather(struct thread_forest *forest)
{
    for (uint32_t i = 1; i < forest->node_count; i++) {
        thread_child_add(forest, forest->nodes[i].parent, i);
    }
}

/* ---- From below upwards ---- */

static uint32_t lowest_first(const struct thread_forest *forest, uint32_t at)
{
    while (forest->nodes[at].first != THREAD_NONE) {
        at = forest->nodes[at].first;
    }
    return at;
}

/* The node after this one where children come before their parent; the root is the last. */
static uint32_t upwards_next(const struct thread_forest *forest, uint32_t at)
{
    uint32_t next = forest->nodes[at].next;
    return next != THREAD_NONE ? lowest_first(forest, next) : forest->nodes[at].parent;
}

/* ---- Dummies ---- */

static uint32_t downwards_next(const struct thread_forest *forest, uint32_t at)
{
    const struct thread_node *nodes = forest->nodes;
    if (nodes[at].first != THREAD_NONE) {
        return nodes[at].first;
    }
    while (at != THREAD_ROOT && nodes[at].next == THREAD_NONE) {
        at = nodes[at].parent;
    }
    return at == THREAD_ROOT ? THREAD_ROOT : nodes[at].next;
}

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

/* From above downwards, so that each node is met once, however many dummies are above each other. */
static void children_flatten(struct thread_forest *forest, uint32_t parent)
{
    struct thread_node *nodes = forest->nodes;
    uint32_t next;
    for (uint32_t at = nodes[parent].first; at != THREAD_NONE; at = next) {
        nodes[at].parent = parent;
        next = nodes[at].next;
        if (nodes[at].number == 0) {
            next = nodes[at].first != THREAD_NONE ? nodes[at].first : next;
            child_dissolve(forest, parent, at);
        }
    }
}

void thread_dummies_prune(struct thread_forest *forest)
{
    struct thread_node *nodes = forest->nodes;
    uint32_t next;
    for (uint32_t at = nodes[THREAD_ROOT].first; at != THREAD_NONE; at = next) {
        next = nodes[at].next;
        children_flatten(forest, at);
        if (nodes[at].number == 0 && nodes[at].first == nodes[at].last) {
            uint32_t only = nodes[at].first;
            child_dissolve(forest, THREAD_ROOT, at);
            nodes[only].parent = THREAD_ROOT;
        }
    }
    for (uint32_t at = nodes[THREAD_ROOT].first; at != THREAD_ROOT;
         at = downwards_next(forest, at)) {
        children_flatten(forest, at);
    }
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

static void children_sort(struct thread_forest *forest, uint32_t parent, uint32_t *room)
{
    struct thread_node *nodes = forest->nodes;
    uint32_t count = 0;
    bool sorted = true;
    for (uint32_t at = nodes[parent].first; at != THREAD_NONE; at = nodes[at].next) {
        sorted = sorted && (count == 0 || node_order(&room[count - 1], &at, nodes) < 0);
        room[count++] = at;
    }
    if (!sorted) {
        qsort_r(room, count, sizeof(*room), node_order, nodes);
        nodes[parent].first = nodes[parent].last = THREAD_NONE;
        for (uint32_t i = 0; i < count; i++) {
            thread_child_add(forest, parent, room[i]);
        }
    }
    if (nodes[parent].number == 0 && count > 0) {
        nodes[parent].sent_s = nodes[nodes[parent].first].sent_s;
        nodes[parent].order = nodes[nodes[parent].first].order;
    }
}

int thread_sort(struct thread_forest *forest)
{
    uint32_t *room = calloc(forest->node_count, sizeof(*room));
    if (room == NULL) {
        return -ENOMEM;
    }
    uint32_t at = lowest_first(forest, THREAD_ROOT);
    for (; at != THREAD_ROOT; at = upwards_next(forest, at)) {
        children_sort(forest, at, room);
    }
    children_sort(forest, THREAD_ROOT, room);
    free(room);
    forest->text_at = forest->nodes[THREAD_ROOT].first;
    forest->text_upwards = false;
    return 0;
}
