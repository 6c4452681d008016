/*
 * thread_nodes: the trees that thread.c makes. Nobody else includes it.
 *
 * Nodes are told by their index. 0 is the root of all threads; as a parent or a sibling 0 is THREAD_NONE, since the root
 * has neither: it is nobody's child. A node without a number is a dummy: a message that is not there.
 */
#pragma once
#include "engine/core/gradual_sort.h"
#include "proto/message/thread.h"

#define THREAD_ROOT 0u
#define THREAD_NONE 0u

struct thread_node {
    uint32_t number; /* 0: a dummy */
    uint32_t parent, first, last, next, previous;
    uint32_t order; /* its number; as sent_s of a dummy: of its first child, when sorted */
    bool is_reply;
    int64_t sent_s;
    uint64_t subject;
};

struct thread_work; /* of thread.c: what is there until the threads are made */

struct thread_forest {
    struct thread_node *nodes;
    uint32_t node_count, node_room;
    struct thread_work *work; /* owned; NULL: they are made */
    /* thread_text: what is written next, or has been left. */
    uint32_t text_at;
    bool text_upwards;
};

/* Last of the parent's children. The child is nobody's. */
void thread_child_add(struct thread_forest *forest, uint32_t parent, uint32_t child);
void thread_child_remove(struct thread_forest *forest, uint32_t child);
/* `by`, nobody's, stands where `child` stood, which is nobody's then. */
void thread_child_replace(struct thread_forest *forest, uint32_t child, uint32_t by);
void thread_children_move(struct thread_forest *forest, uint32_t from, uint32_t to);

/* False: there are no steps left. */
static inline bool thread_spend(size_t *steps)
{
    bool any = *steps > 0;
    *steps -= any;
    return any;
}

/* A way through all nodes, a bounded piece at a time: each step takes off *steps what it did. */
struct thread_walk {
    uint32_t at;
    uint32_t child; /* of `at`, where its children are gone through */
    enum {
        THREAD_WALK_DOWN,
        THREAD_WALK_CHILDREN,
        THREAD_WALK_SORT,
        THREAD_WALK_JOIN,
        THREAD_WALK_ON
    } part;
    bool below;     /* of the dummies: those at the top are done */
    uint32_t *list; /* owned: children of `at` */
    uint32_t count, joined;
    bool in_order;
    struct gradual_sort sort;
};

/* Every node becomes its parent's child, those without one the root's. True: all are. walk: zeroed at first, as with the others. */
bool thread_children_gather(struct thread_forest *forest, struct thread_walk *walk, size_t *steps);
/* Dummies without children go; of others the children take their place, but at the top only an only child (step 3). */
bool thread_dummies_prune(struct thread_forest *forest, struct thread_walk *walk, size_t *steps);
/* All siblings by date, then number, from below upwards (steps 4, 6). 0: they are; -EAGAIN: another step; -ENOMEM. */
int thread_sort(struct thread_forest *forest, struct thread_walk *walk, size_t *steps);
void thread_walk_end(struct thread_walk *walk); /* at any time */
