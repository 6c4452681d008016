/*
 * list: circular doubly-linked list whose nodes live inside what they link.
 *
 * A head and a node are the same type; an unlinked node points to itself, so removing one twice
 * is harmless. Every node must be initialised with list_init before use.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *next;
    struct list_node *prev;
};

/* The object of `type` whose member `field` is `node`. */
#define list_entry(node, type, field) ((type *)(void *)((char *)(node)-offsetof(type, field)))

static inline void list_init(struct list_node *node)
{
    node->next = node;
    node->prev = node;
}

static inline bool list_empty(const struct list_node *head)
{
    return head->next == head;
}

static inline void list_append(struct list_node *head, struct list_node *node)
{
    node->prev = head->prev;
    node->next = head;
    /* The analyzer does not know that a list is a ring. */
    head->prev->next = node; /* NOLINT(clang-analyzer-core.NullDereference) */
    head->prev = node;
}

static inline void list_prepend(struct list_node *head, struct list_node *node)
{
    node->next = head->next;
    node->prev = head;
    head->next->prev = node;
    head->next = node;
}

static inline void list_remove(struct list_node *node)
{
    /* The analyzer does not know that a list is a ring. */
    node->prev->next = node->next; /* NOLINT(clang-analyzer-core.NullDereference) */
    node->next->prev = node->prev;
    list_init(node);
}

/* Takes the first node off, or returns NULL. */
static inline struct list_node *list_pop(struct list_node *head)
{
    struct list_node *node = head->next;
    if (node == head) {
        return NULL;
    }
    list_remove(node);
    return node;
}

/* Moves all nodes of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice(struct list_node *to, struct list_node *from)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
