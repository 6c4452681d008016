/*
 * relay_site_key: what tells one site from another.
 *
 * Pure; the parts are hashed with the relay's secret, so that nobody can make two sites look like one.
 */
#pragma once
#include "engine/net/siphash.h"
#include <stdbool.h>

struct conf_route;
struct destination;

struct relay_site_key {
    uint64_t route;      /* what the route says of the way: its match, its hosts, its source */
    uint64_t exchangers; /* by MX: destination->site_key, which is no secret; 0: the hosts of the
                            route, or its lobby */
    uint64_t policy;     /* by MX: what the domains demand of TLS; 0: nothing */
};

static inline bool relay_site_key_same(const struct relay_site_key *a,
                                       const struct relay_site_key *b)
{
    return a->route == b->route && a->exchangers == b->exchangers && a->policy == b->policy;
}

/* Equal for routes that lead to the same hosts in the same way. */
uint64_t relay_site_key_route(const struct siphash_key *secret, const struct conf_route *route);
/* What a domain demands of each host: whoever demands the same can share its connections. */
uint64_t relay_site_key_policy(const struct siphash_key *secret,
                               const struct destination *destination);
