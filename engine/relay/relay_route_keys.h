/*
 * relay_route_keys: the keys of all routes of a configuration (relay_site_key.h), made once, so that no recipient waits
 * for them; and which route has a key, after a reload.
 */
#pragma once
#include "engine/relay/relay_site_key.h"

struct relay_conf;

struct relay_keyed_route {
    uint64_t key;
    const struct conf_route *route;
};

struct relay_route_keys { /* zeroed before its first use */
    const struct relay_conf *conf;
    uint64_t standard;                /* of conf->route_standard */
    uint64_t *keys;                   /* by the index in conf->routes; NULL: memory was short */
    struct relay_keyed_route *sorted; /* with the standard one; NULL: memory was short */
};

/* In place of those of another configuration. Borrows it. */
void relay_route_keys_make(struct relay_route_keys *keys, const struct siphash_key *secret,
                           const struct relay_conf *conf);
void relay_route_keys_free(struct relay_route_keys *keys);

/* Of any route; made where it is none of the configuration's. */
uint64_t relay_route_keys_of(const struct relay_route_keys *keys, const struct siphash_key *secret,
                             const struct conf_route *route);
/* A route with this key; NULL: there is none, or memory was short. */
const struct conf_route *relay_route_keys_find(const struct relay_route_keys *keys, uint64_t key);
