/*
 * transport: the way that a row of a transport map names, TRANSPORT:NEXTHOP, as Postfix writes it (transport(5)).
 *
 *   smtp:[mx.example.org]:587   that host; without a port 25, also "submission" and so on. relay: is the same
 *   smtp:example.org            the hosts that DNS names for that domain
 *   smtp:                       those of the recipient's own domain
 *   lmtp:unix:/run/lmtp         lmtp:HOST:PORT, lmtp:inet:HOST:PORT; without a port 24
 *   error:5.1.1 No such user    refused at RCPT; what waits already goes back
 *   retry:4.3.2 Later           taken, and put off until the row says something else
 *   discard:                    taken and thrown away
 *   NAME:                       the route of that name; NAME:NEXTHOP its settings, and another next hop
 *   :NEXTHOP                    as the routes say, and another next hop
 *   :                           as the routes say
 *
 * What a way does not say of itself, limits, TLS and so on, is as the route says that the recipient has without the map,
 * or that was named. Pure.
 */
#pragma once
#include "engine/conf/conf.h"

#define TRANSPORT_VALUE_MAX 511u /* a longer value is wrong */

struct transport {
    const struct conf_route
        *base;               /* of the configuration, whose settings hold; NULL: there is no way */
    bool made;               /* `route` is the way; otherwise the base is */
    bool put_off;            /* retry: */
    struct conf_route route; /* borrows from the base and from this: not to be copied */
    struct endpoint to;
    char text[TRANSPORT_VALUE_MAX + 1];
};

/* by_routes: the recipient's route without the map; NULL: none. 0, or -EINVAL: the value is none of these. */
int transport_read(struct transport *transport, const struct relay_conf *conf,
                   const struct conf_route *by_routes, struct slice value);

static inline const struct conf_route *transport_route(const struct transport *transport)
{
    return transport->made ? &transport->route : transport->base;
}
