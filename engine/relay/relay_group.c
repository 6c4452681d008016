#include "engine/relay/relay_group.h"
#include "engine/relay/relay_private.h"
#include "queue/sched/group.h"
#include <stdlib.h>

struct relay_group {
    struct list_node node; /* in relay->groups */
    struct sched_group *sched;
};

static struct sched_limits limits_of(const struct conf_route *route)
{
    return (struct sched_limits){
        .connection_count_max = route->connections,
        .connections = {.count = route->connection_rate.count,
                        .period_ns = route->connection_rate.period_ns,
                        .burst = route->connection_rate.burst},
        .messages = {.count = route->message_rate.count,
                     .period_ns = route->message_rate.period_ns,
                     .burst = route->message_rate.burst},
    };
}

struct relay_group *relay_group_open(struct relay *relay, const struct conf_route *route)
{
    const struct sched_limits limits = limits_of(route);
    struct relay_group *group = malloc(sizeof(*group));
    if (group == NULL) {
        return NULL;
    }
    if (sched_group_open(relay->sched, &limits, &group->sched) < 0) {
        free(group);
        return NULL;
    }
    list_init(&group->node);
    list_append(&relay->groups, &group->node);
    return group;
}

void relay_group_set(struct relay_group *group, const struct conf_route *route)
{
    const struct sched_limits limits = limits_of(route);
    sched_group_set(group->sched, &limits);
}

struct sched_group *relay_group_sched(const struct relay_group *group)
{
    return group->sched;
}

static void group_close(struct relay_group *group)
{
    sched_group_close(group->sched);
    list_remove(&group->node);
    free(group);
}

void relay_group_leave(struct relay_group *group)
{
    if (sched_group_site_count(group->sched) == 0) {
        group_close(group);
    }
}

void relay_groups_close(struct relay *relay)
{
    while (!list_empty(&relay->groups)) {
        group_close(list_entry(relay->groups.next, struct relay_group, node));
    }
}
