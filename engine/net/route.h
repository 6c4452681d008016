/*
 * route: which network an address lies in, and by whom it is reached: the longest prefix wins.
 *
 * A relay has a handful of routes, so they lie in one array, the longest first, and are tried in
 * turn; connections look once, when they are made. Pure: no stack, no clock.
 * Source: RFC 1122 §3.3.1, RFC 4861 §5.2.
 */
#pragma once
#include "engine/net/address.h"

#define ROUTES_MAX 256u

enum route_origin {
    ROUTE_CONNECTED,  /* a network of one of our addresses */
    ROUTE_STATIC,     /* the operator says so */
    ROUTE_ADVERTISED, /* a router says so; it may be withdrawn */
};

struct route {
    struct ip_address prefix; /* bits after the prefix do not count */
    struct ip_address via;    /* any: on the link */
    struct ip_address source; /* what a packet comes from if nobody has chosen */
    uint64_t expires_ns;      /* ROUTE_ADVERTISED; UINT64_MAX: never */
    uint8_t length;           /* 96..128 for IPv4 */
    uint8_t origin;           /* enum route_origin */
};

struct routes {
    struct route list[ROUTES_MAX]; /* the longest prefix first, then the first origin */
    uint32_t count;
};

/* 0; -EEXIST: this prefix has a route of this origin; -ENOSPC. */
int routes_add(struct routes *routes, const struct route *route);
/* The one with the same prefix and origin; NULL: none. */
struct route *routes_same(struct routes *routes, const struct route *route);
void routes_remove(struct routes *routes, struct route *route);
const struct route *routes_find(const struct routes *routes, const struct ip_address *to);

static inline bool route_is_on_link(const struct route *route)
{
    return ip_address_is_any(&route->via);
}
