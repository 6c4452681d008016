#include "engine/relay/relay_route_keys.h"
#include "engine/conf/conf.h"
#include <stdlib.h>

static int keyed_order(const void *a, const void *b)
{
    uint64_t first = ((const struct relay_keyed_route *)a)->key;
    uint64_t second = ((const struct relay_keyed_route *)b)->key;
    return first < second ? -1 : first > second;
}

void relay_route_keys_make(struct relay_route_keys *keys, const struct siphash_key *secret,
                           const struct relay_conf *conf)
{
    size_t count = conf->routes_count;
    relay_route_keys_free(keys);
    keys->conf = conf;
    keys->standard = relay_site_key_route(secret, &conf->route_standard);
    keys->keys = malloc((count + 1) * sizeof(*keys->keys));
    keys->sorted = malloc((count + 1) * sizeof(*keys->sorted));
    for (size_t i = 0; keys->keys != NULL && i < count; i++) {
        keys->keys[i] = relay_site_key_route(secret, &conf->routes[i]);
    }
    if (keys->sorted == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct conf_route *route = &conf->routes[i];
        keys->sorted[i] =
            (struct relay_keyed_route){relay_route_keys_of(keys, secret, route), route};
    }
    keys->sorted[count] = (struct relay_keyed_route){keys->standard, &conf->route_standard};
    qsort(keys->sorted, count + 1, sizeof(*keys->sorted), keyed_order);
}

void relay_route_keys_free(struct relay_route_keys *keys)
{
    free(keys->keys);
    free(keys->sorted);
    *keys = (struct relay_route_keys){0};
}

static bool in_routes(const struct relay_route_keys *keys, const struct conf_route *route)
{
    uintptr_t at = (uintptr_t)route, first = (uintptr_t)keys->conf->routes;
    return at >= first && at < first + keys->conf->routes_count * sizeof(*route);
}

uint64_t relay_route_keys_of(const struct relay_route_keys *keys, const struct siphash_key *secret,
                             const struct conf_route *route)
{
    if (route == &keys->conf->route_standard) {
        return keys->standard;
    }
    return keys->keys != NULL && in_routes(keys, route) ? keys->keys[route - keys->conf->routes]
                                                        : relay_site_key_route(secret, route);
}

const struct conf_route *relay_route_keys_find(const struct relay_route_keys *keys, uint64_t key)
{
    const struct relay_keyed_route wanted = {.key = key};
    const struct relay_keyed_route *found =
        keys->sorted == NULL ? NULL
                             : bsearch(&wanted, keys->sorted, keys->conf->routes_count + 1u,
                                       sizeof(wanted), keyed_order);
    return found != NULL ? found->route : NULL;
}
