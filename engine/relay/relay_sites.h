/*
 * relay_sites: the sites of a relay, found by key, made when mail comes for them, closed when they
 * are unused.
 *
 * A site is a set of next hops and the way to them: what limits and fails together. Its key says
 * which route leads there and, by MX, to which hosts with which demands on TLS: ten thousand domains
 * with the same are one site. A keyed hash finds it, so that a recipient costs the same whether
 * there are five sites or fifty thousand. One without mail and without connections is closed after
 * RELAY_SITE_UNUSED_NS, or earlier when there are too many.
 *
 * After a reload a site goes on when its route leads where it led before. Otherwise it is retired:
 * nobody finds it any more, its waiting deliveries are filed again, and it ends with its last
 * connection.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/relay/relay_route_keys.h"

struct conf_route;
struct destination;
struct relay;
struct relay_conf;
struct relay_site;
struct sched_site_settings;

#define RELAY_SITES_MAX 65536u
#define RELAY_SITE_UNUSED_NS (600ull * 1000000000ull)

struct relay_sites {
    struct siphash_key secret;
    struct relay_site **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
    struct list_node used;    /* the longest unused first */
    struct list_node retired; /* of routes that are gone, until their last connection ends */
    struct relay_route_keys route_keys;
};

/* 0 or -ENOMEM. */
int relay_sites_open(struct relay *relay);
void relay_sites_close(struct relay *relay); /* also after an open that failed */

/* What tells one route from another: that of a site is in its key. */
uint64_t relay_route_key(const struct relay *relay, const struct conf_route *route);
/* The site that a route leads to, the configuration's or a transport map's: its hosts, or the lobby of one that has
 * none. NULL: memory is short; or of a map's: there are RELAY_SITES_MAX and all are needed. */
struct relay_site *relay_site_of_route(struct relay *relay, const struct conf_route *route);
/* The site of a destination that is OK, by a route by MX; the destination is borrowed. NULL: memory
 * is short, or there are RELAY_SITES_MAX and all are needed. */
struct relay_site *relay_site_of_destination(struct relay *relay, const struct conf_route *route,
                                             struct destination *destination);
/* Is it the site of this destination? */
bool relay_site_holds(const struct relay_site *site, const struct destination *destination);
/* Takes note of an answer for one of its domains: addresses are as new as the newest. */
void relay_site_refresh(struct relay_site *site, struct destination *destination);

/* What the configuration says of waiting, at any site. */
void relay_site_times(const struct relay_conf *conf, struct sched_site_settings *settings);

/* Deliveries that are due find connections, those that are too old go back to their senders. */
void relay_site_run(struct relay_site *site);

/* relay->conf is another one now. */
void relay_sites_reload(struct relay *relay);

/* It is in use now: it is not closed in this round to make room. */
void relay_site_use(struct relay_site *site);

/* Closes some of those that were unused for long; once a round. */
void relay_sites_tidy(struct relay *relay);

/* Closes some of those that nobody needs, used or not long ago. */
void relay_sites_shed(struct relay *relay);

/* Every one is looked at in this round. */
void relay_sites_touch_all(struct relay *relay);
