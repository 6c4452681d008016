#include "engine/relay/relay_hops.h"

void relay_hop_choose(struct relay_site *site, struct relay_hop *hop)
{
    const struct conf_route *route = site->route;
    *hop = (struct relay_hop){.to = route->to[site->next_address % route->to_count]};
}

/* Once, however many connections failed there together. */
void relay_hop_failed(struct relay_site *site, const struct relay_hop *hop)
{
    const struct conf_route *route = site->route;
    if (route != NULL &&
        endpoint_equal(&route->to[site->next_address % route->to_count], &hop->to)) {
        site->next_address++;
    }
}

void relay_hop_release(struct relay_hop *hop)
{
    if (hop->destination != NULL) {
        destination_drop(hop->destination);
        hop->destination = NULL;
    }
}
