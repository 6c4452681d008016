#include "engine/relay/relay_group.h"
#include "engine/relay/lease_desk.h"
#include "engine/relay/relay_private.h"
#include "engine/resolve/destination.h"
#include "queue/sched/group.h"
#include <stdlib.h>

struct relay_group {
    struct list_node node; /* in relay->groups */
    struct sched_group *sched;
    struct lease_desk *leases; /* NULL: there is one shard */
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

static struct lease_id lease_id_of(const struct relay *relay, const struct conf_route *route,
                                   const struct destination *destination)
{
    return (struct lease_id){.words = {
                                 relay_site_key_route(lease_desk_secret(relay->leases), route),
                                 destination != NULL ? destination->site_key : 0,
                             }};
}

static struct relay_group *group_new(struct relay *relay, const struct sched_limits *limits)
{
    struct relay_group *group = malloc(sizeof(*group));
    if (group == NULL) {
        return NULL;
    }
    *group = (struct relay_group){.leases = relay->leases};
    if (sched_group_open(relay->sched, limits, &group->sched) < 0) {
        free(group);
        return NULL;
    }
    list_init(&group->node);
    list_append(&relay->groups, &group->node);
    return group;
}

struct relay_group *relay_group_open(struct relay *relay, const struct conf_route *route,
                                     const struct destination *destination)
{
    const struct sched_limits limits = limits_of(route);
    if (relay->leases == NULL) {
        return group_new(relay, &limits);
    }
    const struct lease_id id = lease_id_of(relay, route, destination);
    struct relay_group *group = lease_desk_find(relay->leases, &id);
    if (group != NULL) {
        return group; /* of a route that was taken away, and is back */
    }
    group = group_new(relay, &limits);
    if (group != NULL && lease_desk_join(relay->leases, &id, group->sched, &limits, group) < 0) {
        sched_group_close(group->sched);
        list_remove(&group->node);
        free(group);
        return NULL;
    }
    return group;
}

void relay_group_set(struct relay_group *group, const struct conf_route *route)
{
    const struct sched_limits limits = limits_of(route);
    sched_group_set(group->sched, &limits);
    if (group->leases != NULL) {
        lease_desk_set(group->leases, group->sched, &limits);
    }
}

struct sched_group *relay_group_sched(const struct relay_group *group)
{
    return group->sched;
}

static void group_close(struct relay_group *group)
{
    if (group->leases != NULL) {
        lease_desk_leave(group->leases, group->sched);
    }
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
