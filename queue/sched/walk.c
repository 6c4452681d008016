#include "queue/sched/sched_private.h"

void sched_walk_begin(struct sched_walk *walk, struct sched *sched)
{
    *walk = (struct sched_walk){.pool = &sched->pool};
    list_init(&walk->node);
}

void sched_walk_begin_site(struct sched_walk *walk, struct sched_site *site)
{
    *walk = (struct sched_walk){.site = site, .at = near_next(&site->held)};
    list_init(&walk->node);
    list_append(&site->walks, &walk->node);
}

/* Those that are held, then the others by age. */
static struct sched_delivery *next_of_site(struct sched_walk *walk)
{
    struct sched_site *site = walk->site;
    if (walk->at == &site->held) {
        walk->at = near_next(&site->by_age);
    }
    if (walk->at == &site->by_age) {
        return NULL;
    }
    struct near_node *node = walk->at;
    walk->at = near_next(node);
    return list_entry(node, struct sched_delivery, by_age);
}

struct sched_delivery *sched_walk_next(struct sched_walk *walk)
{
    if (walk->site != NULL) {
        return next_of_site(walk);
    }
    return walk->pool != NULL ? sched_pool_next(walk->pool, &walk->cursor) : NULL;
}

void sched_walk_end(struct sched_walk *walk)
{
    list_remove(&walk->node);
}

void sched_walks_step(struct sched_site *site, const struct near_node *left)
{
    for (struct list_node *node = site->walks.next; node != &site->walks; node = node->next) {
        struct sched_walk *walk = list_entry(node, struct sched_walk, node);
        if (walk->at == left) {
            walk->at = near_next(left);
        }
    }
}

void sched_walks_close(struct sched_site *site)
{
    for (struct list_node *node; (node = list_pop(&site->walks)) != NULL;) {
        struct sched_walk *walk = list_entry(node, struct sched_walk, node);
        walk->site = NULL;
        walk->at = NULL;
    }
}

struct sched_site *sched_site_next(const struct sched *sched, const struct sched_site *after)
{
    const struct list_node *node = after != NULL ? after->node.next : sched->sites.next;
    return node == &sched->sites ? NULL : list_entry(node, struct sched_site, node);
}
