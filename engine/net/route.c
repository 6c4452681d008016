#include "engine/net/route.h"
#include <errno.h>
#include <string.h>

/* A default route of IPv6 would hold mapped IPv4 addresses too. */
static bool holds(const struct route *route, const struct ip_address *to)
{
    return ip_address_is_ipv4(&route->prefix) == ip_address_is_ipv4(to) &&
           ip_address_in(to, &route->prefix, route->length);
}

const struct route *routes_find(const struct routes *routes, const struct ip_address *to)
{
    for (uint32_t i = 0; i < routes->count; i++) {
        if (holds(&routes->list[i], to)) {
            return &routes->list[i];
        }
    }
    return NULL;
}

struct route *routes_same(struct routes *routes, const struct route *route)
{
    for (uint32_t i = 0; i < routes->count; i++) {
        struct route *other = &routes->list[i];
        if (other->length == route->length && other->origin == route->origin &&
            holds(other, &route->prefix)) {
            return other;
        }
    }
    return NULL;
}

static bool comes_before(const struct route *a, const struct route *b)
{
    return a->length != b->length ? a->length > b->length : a->origin <= b->origin;
}

int routes_add(struct routes *routes, const struct route *route)
{
    if (routes_same(routes, route) != NULL) {
        return -EEXIST;
    }
    if (routes->count == ROUTES_MAX) {
        return -ENOSPC;
    }
    uint32_t at = 0;
    while (at < routes->count && comes_before(&routes->list[at], route)) {
        at++;
    }
    memmove(&routes->list[at + 1], &routes->list[at],
            (routes->count - at) * sizeof(routes->list[0]));
    routes->list[at] = *route;
    routes->count++;
    return 0;
}

void routes_remove(struct routes *routes, struct route *route)
{
    uint32_t at = (uint32_t)(route - routes->list);
    routes->count--;
    memmove(route, route + 1, (routes->count - at) * sizeof(*route));
}
