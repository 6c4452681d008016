/*
 * relay_group: what a route allows of connections and messages, counted for all sites that lead to the same hosts.
 *
 * Domains with different demands on TLS have sites of their own; the hosts do not care why we come. So the sites of
 * one route and one set of hosts share a scheduler's group (queue/sched/group.h), which ends with the last of them.
 * Where there are several shards each has a group for the same hosts, and what all may have is leased (lease_desk.h).
 */
#pragma once

struct conf_route;
struct destination;
struct relay;
struct relay_group;
struct sched_group;

/* destination: by MX, its hosts; NULL: those of the route. NULL: memory is short. Ends by relay_group_leave, or with the
 * relay. */
struct relay_group *relay_group_open(struct relay *relay, const struct conf_route *route,
                                     const struct destination *destination);
/* The route has other limits now. */
void relay_group_set(struct relay_group *group, const struct conf_route *route);
struct sched_group *relay_group_sched(const struct relay_group *group);
/* After a site of it was closed. */
void relay_group_leave(struct relay_group *group);
/* After the scheduler was closed. */
void relay_groups_close(struct relay *relay);
