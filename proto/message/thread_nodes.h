/*
 * thread_nodes: the trees that thread.c makes. Nobody else includes it.
 *
 * Nodes are told by their index. 0 is the root of all threads; as a parent or a sibling 0 is THREAD_NONE, since the root
 * has neither: it is nobody's child. A node without a number is a dummy: a message that is not there.
 */
#pragma once
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

struct thread_forest {
    struct thread_node *nodes;
    uint32_t node_count, node_room;
    /* thread_text: what is written next, or has been left. */
    uint32_t text_at;
    bool text_upwards;
};

/* A node for each message, from 1 on, and room for `more`. 0 or -ENOMEM. */
int thread_forest_open(struct thread_forest **forest, const struct thread_message *messages,
                       uint32_t count, size_t more);

/* Every node becomes its parent's child, those without one the root's. */
void thread_children_gather(struct thread_forest *forest);
/* Last of the parent's children. The child is nobody's. */
void thread_child_add(struct thread_forest *forest, uint32_t parent, uint32_t child);
void thread_child_remove(struct thread_forest *forest, uint32_t child);
/* `by`, nobody's, stands where `child` stood, which is nobody's then. */
void thread_child_replace(struct thread_forest *forest, uint32_t child, uint32_t by);
void thread_children_move(struct thread_forest *forest, uint32_t from, uint32_t to);

/* Dummies without children go; of others the children take their place, but at the top only an only child (step 3). */
void thread_dummies_prune(struct thread_forest *forest);
/* All siblings by date, then number, from below upwards (steps 4, 6). And thread_text begins anew. 0 or -ENOMEM. */
int thread_sort(struct thread_forest *forest);
