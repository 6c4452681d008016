/*
 * relay_transports: the ways that transport maps have made (transport.h), each of them once.
 *
 * A way is made when mail goes it, and lives while a site has it, or somebody who files mail: so there are not many more
 * than sites. A reload makes each anew of the route that it is based on; one whose base is gone, or says something else
 * now, ends with its sites, and their mail is looked up again. Where no map has a say any more all of them do.
 *
 * RELAY_TRANSPORTS_MAX are all there may be, since a pattern can make as many as senders think of; mail for one more is
 * put off (4.3.2).
 */
#pragma once
#include "engine/core/slice.h"
#include <stdbool.h>
#include <stdint.h>

struct conf_route;
struct relay;
struct relay_transport;

#define RELAY_TRANSPORTS_MAX 16384u

struct relay_transports {
    struct relay_transport **buckets; /* NULL: there was none yet */
    uint32_t count;
};

/* Where a recipient's mail goes. */
struct relay_way {
    const struct conf_route *route; /* NULL: nowhere */
    struct relay_transport
        *made; /* held, of a route that is made; NULL: one of the configuration */
};

/* What the value of a map says, for a recipient that has the route by_routes without it (NULL: none). 0 and *way is
 * the caller's, for relay_way_drop; -EINVAL: it says nothing that we know; -ENOBUFS: there are too many; -ENOMEM. */
int relay_transport_way(struct relay *relay, const struct conf_route *by_routes, struct slice value,
                        struct relay_way *way);
void relay_way_drop(struct relay *relay, struct relay_way *way);

/* Who made the route; NULL: none of these. */
struct relay_transport *relay_transport_of(const struct conf_route *route);
uint64_t relay_transport_key(const struct relay_transport *transport);
void relay_transport_hold(struct relay_transport *transport);
void relay_transport_drop(struct relay *relay, struct relay_transport *transport);
/* NULL: a reload has left nothing of it. */
const struct conf_route *relay_transport_route(const struct relay_transport *transport);

/* relay->conf is another one, and the keys of its routes are made. */
void relay_transports_reload(struct relay *relay);
/* After the last site was closed. */
void relay_transports_close(struct relay *relay);
