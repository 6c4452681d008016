/*
 * relay_detour: where the operator has rerouted mail to, which no route says of it.
 *
 * A next hop is one that a route of the configuration names first, with that route's limits and TLS; or any other, for
 * which a route is made that says what a route says by default, and which lasts as long as mail for it waits.
 *
 * A reroute moves what waits (relay_queue.h). It is remembered besides, so that the same mail goes there when it is
 * filed anew: after a restart, or when a route is gone. What had come by then and is meant by its words is followed
 * through all that was said since, in that order: mail that was sent from A to B, and then whatever waited for B to
 * C, is found at C. Mail that came later is nobody's business here.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/relay/operator_orders.h"

struct conf_route;
struct message;
struct relay;
struct relay_detour;
struct relay_site;

struct relay_detours {
    struct relay_detour **all; /* in the order in which they were said */
    uint32_t count;
    int64_t since_wall_s;  /* the last of them */
    struct list_node hops; /* those that are made */
    uint32_t hop_count;
};

/* Is it a next hop? "192.0.2.9:25", "smtp:[192.0.2.9]:25", "lmtp:unix:/run/lmtp"; without a port that of the
 * protocol. */
bool relay_detour_is_hop(const char *to);
/* Do we listen there? Mail would come back until it has passed through too many hands. */
bool relay_detour_is_ours(const struct relay *relay, const char *to);
/* NULL: memory is short, it is none, or there are as many as there may be and mail waits for all. */
struct relay_site *relay_detour_site(struct relay *relay, const char *to);
/* The route was made here: no reload takes it away. */
bool relay_detour_is_made(const struct relay *relay, const struct conf_route *route);

/* 0, -ENOMEM; -EINVAL: its words or its next hop are none; -ENOSPC: there are as many as there may be. */
int relay_detour_remember(struct relay *relay, const struct operator_reroute *said);
int relay_detours_load(struct relay *relay, const struct operator_orders *orders);
/* Where this recipient's mail was rerouted to, that would go to `natural` (NULL: nobody knows yet); NULL: nowhere. */
struct relay_site *relay_detour_of(struct relay *relay, const struct message *message,
                                   uint32_t index, struct relay_site *natural);
/* Costs a comparison: it may have been. */
bool relay_detour_may_be(const struct relay *relay, const struct message *message);

void relay_detours_init(struct relay *relay);
void relay_detours_reload(
    struct relay *relay); /* relay->conf is another one now; before the sites */
void relay_detours_close(struct relay *relay); /* after the sites */
