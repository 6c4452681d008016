/*
 * relay_sites: the sites of a relay, found by key, made when mail comes for them, closed when they
 * are unused.
 *
 * A site is a set of next hops and the way to them: what limits and fails together. Its key says
 * which route leads there; a keyed hash finds it, so that a recipient costs the same whether there
 * are five sites or fifty thousand. One without mail and without connections is closed after
 * RELAY_SITE_UNUSED_NS.
 *
 * After a reload a site goes on when its route leads where it led before. Otherwise it is retired:
 * nobody finds it any more, its waiting deliveries are filed again, and it ends with its last
 * connection.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/net/siphash.h"

struct conf_route;
struct relay;
struct relay_conf;
struct relay_site;

#define RELAY_SITE_UNUSED_NS (600ull * 1000000000ull)

/* What tells one site from another. */
struct relay_site_key {
    uint64_t route; /* what the route says of the way: its match, its hosts, its source */
};

struct relay_sites {
    struct siphash_key secret;
    struct relay_site **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
    struct list_node used;    /* the longest unused first */
    struct list_node retired; /* of routes that are gone, until their last connection ends */
    uint64_t *route_keys;     /* by the index in conf->routes; NULL: memory was short */
};

/* 0 or -ENOMEM. */
int relay_sites_open(struct relay *relay);
void relay_sites_close(struct relay *relay); /* also after an open that failed */

/* The site that a route of the configuration leads to. NULL: memory is short. */
struct relay_site *relay_site_of_route(struct relay *relay, const struct conf_route *route);

/* Deliveries that are due find connections, those that are too old go back to their senders. */
void relay_site_run(struct relay_site *site);

/* relay->conf is another one now. */
void relay_sites_reload(struct relay *relay);

/* Closes some of those that were unused for long; once a round. */
void relay_sites_tidy(struct relay *relay);

/* Every one is looked at in this round. */
void relay_sites_touch_all(struct relay *relay);
