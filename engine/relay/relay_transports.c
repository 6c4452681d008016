#include "engine/relay/relay_transports.h"
#include "engine/relay/relay_private.h"
#include "engine/relay/relay_way.h"
#include "engine/relay/transport.h"
#include <stdlib.h>

#define BUCKETS 2048u

struct relay_transport {
    struct relay_transport *next; /* in its bucket */
    uint32_t holds;
    bool gone; /* in no bucket any more */
    uint64_t base_key, key;
    struct transport transport;
    size_t value_bytes;
    uint8_t value[];
};

static struct relay_transport **bucket_of(const struct relay *relay, uint64_t base_key,
                                          struct slice value)
{
    uint64_t words[2 + (TRANSPORT_VALUE_MAX + 7) / 8] = {base_key, value.size};
    memcpy(&words[2], value.bytes, value.size);
    uint64_t hash = siphash(&relay->sites.secret, words, 2 + (value.size + 7) / 8);
    return &relay->transports.buckets[hash % BUCKETS];
}

static struct slice value_of(const struct relay_transport *transport)
{
    return slice_of(transport->value, transport->value_bytes);
}

static struct relay_transport *transport_find(const struct relay *relay, uint64_t base_key,
                                              struct slice value)
{
    struct relay_transport *found = *bucket_of(relay, base_key, value);
    while (found != NULL && (found->base_key != base_key || !slice_equal(value_of(found), value))) {
        found = found->next;
    }
    return found;
}

static uint64_t key_of_base(const struct relay *relay, const struct conf_route *base)
{
    const struct relay_sites *sites = &relay->sites;
    return relay_route_keys_of(&sites->route_keys, &sites->secret, base);
}

/* Its own memory, since a transport is not copied. NULL: memory is short. */
static struct relay_transport *transport_new(struct relay *relay, const struct conf_route *base,
                                             struct slice value)
{
    struct relay_transport *made = calloc(1, sizeof(*made) + value.size);
    if (made != NULL) {
        made->base_key = key_of_base(relay, base);
        made->value_bytes = value.size;
        memcpy(made->value, value.bytes, value.size);
        int status = transport_read(&made->transport, relay->conf, base, value);
        check(status == 0 && made->transport.made); /* as it was just read */
        made->key = relay_site_key_route(&relay->sites.secret, &made->transport.route);
    }
    return made;
}

static int transport_enter(struct relay *relay, const struct conf_route *base, struct slice value,
                           struct relay_transport **entered)
{
    struct relay_transports *transports = &relay->transports;
    if (transports->count >= RELAY_TRANSPORTS_MAX) {
        relay_sites_shed(relay); /* sites that nobody needs have some */
    }
    if (transports->count >= RELAY_TRANSPORTS_MAX) {
        relay->counters.transports_refused++;
        return -ENOBUFS;
    }
    struct relay_transport *made = transport_new(relay, base, value);
    if (made == NULL) {
        return -ENOMEM;
    }
    struct relay_transport **bucket = bucket_of(relay, made->base_key, value);
    made->next = *bucket;
    *bucket = made;
    relay->counters.transports = ++transports->count;
    *entered = made;
    return 0;
}

int relay_transport_way(struct relay *relay, const struct conf_route *by_routes, struct slice value,
                        struct relay_way *way)
{
    struct relay_transports *transports = &relay->transports;
    struct transport transport;
    struct relay_transport *made = NULL;
    int status = transport_read(&transport, relay->conf, by_routes, value);
    if (status < 0) {
        return status;
    }
    if (!transport.made) {
        *way = (struct relay_way){.route = transport.base};
        return 0;
    }
    if (transports->buckets == NULL) {
        transports->buckets = calloc(BUCKETS, sizeof(*transports->buckets));
        if (transports->buckets == NULL) {
            return -ENOMEM;
        }
    }
    made = transport_find(relay, key_of_base(relay, transport.base), value);
    status = made == NULL ? transport_enter(relay, transport.base, value, &made) : 0;
    if (status == 0) {
        relay_transport_hold(made);
        *way = (struct relay_way){.route = &made->transport.route, .made = made};
    }
    return status;
}

void relay_way_drop(struct relay *relay, struct relay_way *way)
{
    if (way->made != NULL) {
        relay_transport_drop(relay, way->made);
    }
    *way = (struct relay_way){0};
}

struct relay_transport *relay_transport_of(const struct conf_route *route)
{
    struct transport *transport = list_entry(route, struct transport, route);
    return route->by_map ? list_entry(transport, struct relay_transport, transport) : NULL;
}

uint64_t relay_transport_key(const struct relay_transport *transport)
{
    return transport->key;
}

const struct conf_route *relay_transport_route(const struct relay_transport *transport)
{
    return transport->gone ? NULL : &transport->transport.route;
}

void relay_transport_hold(struct relay_transport *transport)
{
    transport->holds++;
}

static void transport_leave(struct relay *relay, struct relay_transport *transport)
{
    struct relay_transport **at = bucket_of(relay, transport->base_key, value_of(transport));
    while (*at != transport) {
        at = &(*at)->next;
    }
    *at = transport->next;
    transport->gone = true;
    relay->counters.transports = --relay->transports.count;
}

void relay_transport_drop(struct relay *relay, struct relay_transport *transport)
{
    check(transport->holds > 0);
    if (--transport->holds > 0) {
        return;
    }
    if (!transport->gone) {
        transport_leave(relay, transport);
    }
    free(transport);
}

/* Made anew of what the configuration says now. False: it leads elsewhere, or nowhere. */
static bool transport_renew(struct relay *relay, struct relay_transport *transport)
{
    const struct relay_sites *sites = &relay->sites;
    const struct conf_route *base = relay_route_keys_find(&sites->route_keys, transport->base_key);
    struct transport *read = &transport->transport;
    return base != NULL && transport_read(read, relay->conf, base, value_of(transport)) == 0 &&
           read->made && key_of_base(relay, read->base) == transport->base_key &&
           relay_site_key_route(&sites->secret, &read->route) == transport->key;
}

void relay_transports_reload(struct relay *relay)
{
    struct relay_transports *transports = &relay->transports;
    for (uint32_t i = 0; transports->buckets != NULL && i < BUCKETS; i++) {
        for (struct relay_transport *at = transports->buckets[i], *next; at != NULL; at = next) {
            next = at->next;
            if (!relay_ways_used(relay) || !transport_renew(relay, at)) {
                transport_leave(relay, at);
            }
        }
    }
}

void relay_transports_close(struct relay *relay)
{
    check(relay->transports.count == 0);
    free(relay->transports.buckets);
}
