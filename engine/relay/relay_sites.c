#include "engine/relay/relay_sites.h"
#include "engine/relay/bounce.h"
#include "engine/relay/outbound.h"
#include "engine/relay/relay_direct.h"
#include "engine/relay/relay_group.h"
#include "engine/relay/relay_hops.h"
#include "engine/relay/relay_parking.h"
#include "engine/relay/relay_way.h"
#include "queue/sched/group.h"
#include <stdlib.h>

#define RELAY_REFILE_NS (1000000000ull) /* memory was short: look again */
#define SITE_TIDY_MOST 16               /* looked at in one round */
#define DELAY_ASKED_FOR_NS                                                                         \
    (4ull * 3600 * 1000000000ull) /* NOTIFY=DELAY, when nothing is configured */
#define SITE_EXPIRED_MOST 64      /* returned to their senders in one round */
#define SITE_FILED_MOST 256u      /* filed again in one round */
#define SITE_BUCKETS_FIRST 64u

uint64_t relay_route_key(const struct relay *relay, const struct conf_route *route)
{
    const struct relay_sites *sites = &relay->sites;
    return route->by_map ? relay_transport_key(relay_transport_of(route))
                         : relay_route_keys_of(&sites->route_keys, &sites->secret, route);
}

/* ---- The table ---- */

/* The same for all demands on TLS: who leads to the same hosts finds one another. */
static struct relay_site **bucket_of(const struct relay_sites *sites,
                                     const struct relay_site_key *key)
{
    const uint64_t words[] = {key->route, key->exchangers};
    uint64_t hash = siphash(&sites->secret, words, sizeof(words) / sizeof(words[0]));
    return &sites->buckets[hash & (sites->bucket_count - 1)];
}

/* The key of the hosts is no secret: somebody may have made other hosts with the same. */
static struct relay_site *site_find(const struct relay_sites *sites,
                                    const struct relay_site_key *key,
                                    const struct destination *destination)
{
    struct relay_site *site = *bucket_of(sites, key);
    while (site != NULL &&
           (!relay_site_key_same(&site->key, key) ||
            (destination != NULL && !destination_same_site(site->destination, destination)))) {
        site = site->next;
    }
    return site;
}

static void site_enter(struct relay_sites *sites, struct relay_site *site)
{
    struct relay_site **bucket = bucket_of(sites, &site->key);
    site->next = *bucket;
    *bucket = site;
    list_append(&sites->used, &site->node);
    sites->count++;
}

static void site_leave(struct relay_sites *sites, struct relay_site *site)
{
    struct relay_site **at = bucket_of(sites, &site->key);
    while (*at != site) {
        at = &(*at)->next;
    }
    *at = site->next;
    list_remove(&site->node);
    sites->count--;
}

/* As many buckets as sites, about. Without memory the chains are longer, that is all. */
static void table_grow(struct relay_sites *sites)
{
    struct relay_site **before = sites->buckets;
    uint32_t before_count = sites->bucket_count;
    struct relay_site **grown = calloc(2 * (size_t)before_count, sizeof(*grown));
    if (grown == NULL) {
        return;
    }
    sites->buckets = grown;
    sites->bucket_count = 2 * before_count;
    for (uint32_t i = 0; i < before_count; i++) {
        for (struct relay_site *site = before[i], *next; site != NULL; site = next) {
            struct relay_site **bucket = bucket_of(sites, &site->key);
            next = site->next;
            site->next = *bucket;
            *bucket = site;
        }
    }
    free(before);
}

/* ---- A site ---- */

static void site_wake(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    relay_site_touch(list_entry(timer, struct relay_site, wake));
}

void relay_site_times(const struct relay_conf *conf, struct sched_site_settings *settings)
{
    const struct retry_policy retry = {.first_ns = conf->retry.first,
                                       .limit_ns = conf->retry.limit,
                                       .spread_pct = conf->retry.jitter_pct};
    settings->retry = settings->reconnect = retry;
    settings->expire_ns = conf->retry.expire;
    settings->delay_ns =
        conf->bounce.delay_warning > 0 ? conf->bounce.delay_warning : DELAY_ASKED_FOR_NS;
}

/* What the route says of limits and times. */
static void site_settle(struct relay_site *site, struct sched_site_settings *settings)
{
    const struct relay_conf *conf = site->relay->conf;
    const struct conf_route *route = site->route;
    *settings = (struct sched_site_settings){
        .connection_count_max = route->connections,
        .address_count =
            site->destination != NULL ? relay_hop_count(route, site->destination) : route->to_count,
        .group = site->group != NULL ? relay_group_sched(site->group) : NULL,
    };
    relay_site_times(conf, settings);
    site->client_settings = (struct smtp_client_settings){
        .hostname = slice_text(route->hostname != NULL ? route->hostname : conf->hostname),
        .lmtp = route->via == CONF_VIA_LMTP || route->lmtp,
        .pipelining = route->pipelining,
        .greeting_ns = conf->timeouts.greeting,
        .reply_ns = conf->timeouts.reply,
        .handshake_ns = conf->timeouts.handshake,
        .data_start_ns = conf->timeouts.data_start,
        .data_block_ns = conf->timeouts.data_block,
        .data_end_ns = conf->timeouts.data_end,
        .quit_ns = conf->timeouts.quit,
    };
    site->lmtp = site->client_settings.lmtp;
}

/* It is in no list but perhaps that of the dirty ones. */
static void site_free(struct relay_site *site)
{
    wheel_disarm(site->relay->shard->wheel, &site->wake);
    list_remove(&site->node);
    list_remove(&site->dirty);
    if (site->destination != NULL) {
        destination_drop(site->destination);
    }
    if (site->transport != NULL) {
        relay_transport_drop(site->relay, site->transport);
    }
    free(site->bad_hosts);
    free(site->name);
    free(site);
}

/* That of a site that leads to the same hosts, or a group of its own. */
static struct relay_group *group_find(const struct relay_site *site)
{
    struct relay_site *other = *bucket_of(&site->relay->sites, &site->key);
    for (; other != NULL; other = other->next) {
        if (other->key.route == site->key.route && other->key.exchangers == site->key.exchangers &&
            (site->destination == NULL ||
             destination_same_site(other->destination, site->destination))) {
            return other->group;
        }
    }
    return relay_group_open(site->relay, site->route, site->destination);
}

/* It has joined the scheduler. 0 or -ENOMEM. */
static int site_join(struct relay_site *site)
{
    struct sched_site_settings settings;
    site->lobby = site->route->via >= CONF_VIA_MX && site->destination == NULL;
    site->group = site->lobby ? NULL : group_find(site);
    if (!site->lobby && site->group == NULL) {
        return -ENOMEM;
    }
    site_settle(site, &settings);
    int status = sched_site_open(site->relay->sched, &settings, site, &site->sched);
    if (status < 0 && site->group != NULL) {
        relay_group_leave(site->group);
    }
    return status;
}

static struct relay_site *site_open(struct relay *relay, const struct relay_site_key *key,
                                    const struct conf_route *route, struct destination *destination)
{
    struct relay_site *site = calloc(1, sizeof(*site));
    if (site == NULL) {
        return NULL;
    }
    site->relay = relay;
    site->route = route;
    site->key = *key;
    site->destination = destination;
    site->fresh_until_ns = relay_ways_fresh_until(relay);
    list_init(&site->node);
    list_init(&site->idle);
    list_init(&site->dirty);
    timer_init(&site->wake, site_wake);
    if (site_join(site) < 0) {
        free(site);
        return NULL;
    }
    if (destination != NULL) {
        destination_take(destination);
    }
    site->transport = relay_transport_of(route);
    if (site->transport != NULL) {
        relay_transport_hold(site->transport);
    }
    if (relay->sites.count >= relay->sites.bucket_count) {
        table_grow(&relay->sites);
    }
    site_enter(&relay->sites, site);
    relay_suspend_site(site);
    return site;
}

void relay_site_use(struct relay_site *site)
{
    site->used_ns = site->relay->shard->now_ns;
    list_remove(&site->node);
    list_append(&site->relay->sites.used, &site->node);
}

static bool site_vacant(const struct sched_site_counts *counts, const struct relay_site *site)
{
    return counts->deliveries == 0 && counts->connections == 0 && site->connections == 0;
}

/* What is known of one that cannot be reached, or what the operator said of it, would be lost with it. */
static bool site_unused(const struct relay_site *site)
{
    struct sched_site_counts counts;
    sched_site_counts(site->sched, &counts);
    return site_vacant(&counts, site) && counts.suspended_until_ns == 0 &&
           counts.unreachable_until_ns <= site->relay->shard->now_ns;
}

/* It is in the table no more. */
static void site_end(struct relay_site *site)
{
    sched_site_close(site->sched);
    if (site->group != NULL) {
        relay_group_leave(site->group);
    }
    site_free(site);
}

static void site_close(struct relay_site *site)
{
    site_leave(&site->relay->sites, site);
    site_end(site);
}

static struct relay_site_key destination_key(const struct relay *relay, uint64_t route,
                                             const struct destination *destination)
{
    return (struct relay_site_key){.route = route,
                                   .exchangers = destination->site_key,
                                   .policy =
                                       relay_site_key_policy(&relay->sites.secret, destination)};
}

bool relay_site_holds(const struct relay_site *site, const struct destination *destination)
{
    if (site->destination == destination) {
        return true;
    }
    if (site->destination == NULL || destination->status != DESTINATION_OK) {
        return false;
    }
    const struct relay_site_key key = destination_key(site->relay, site->key.route, destination);
    return relay_site_key_same(&site->key, &key) &&
           destination_same_site(site->destination, destination);
}

void relay_site_refresh(struct relay_site *site, struct destination *destination)
{
    struct destination *before = site->destination;
    if (destination->expires_ns < site->fresh_until_ns) {
        site->fresh_until_ns = destination->expires_ns;
    }
    if (destination == before || destination->expires_ns <= before->expires_ns) {
        return;
    }
    site->destination = destination_take(destination);
    if (relay_hop_count(site->route, destination) != relay_hop_count(site->route, before)) {
        struct sched_site_settings settings;
        site_settle(site, &settings);
        sched_site_set(site->sched, &settings);
    }
    destination_drop(before);
}

/* Some of the longest unused are closed, until there are fewer than so many. One that was used just now may be about to
 * get mail. */
static void sites_shed(struct relay *relay, uint32_t most)
{
    struct relay_sites *sites = &relay->sites;
    struct list_node *node = sites->used.next;
    for (unsigned i = 0; sites->count >= most && i < SITE_TIDY_MOST && node != &sites->used; i++) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        node = node->next;
        if (site->used_ns == relay->shard->now_ns) {
            return;
        }
        if (site_unused(site)) {
            site_close(site);
        } else {
            relay_site_use(site);
        }
    }
}

void relay_sites_shed(struct relay *relay)
{
    sites_shed(relay, 1);
}

/* One more may be made: the longest unused make room. */
static bool site_fits(struct relay *relay)
{
    sites_shed(relay, RELAY_SITES_MAX);
    return relay->sites.count < RELAY_SITES_MAX;
}

struct relay_site *relay_site_of_route(struct relay *relay, const struct conf_route *route)
{
    const struct relay_site_key key = {.route = relay_route_key(relay, route)};
    struct relay_site *site = site_find(&relay->sites, &key, NULL);
    /* Of routes of the configuration there are few; maps can make as many as they like. */
    if (site == NULL && (!route->by_map || site_fits(relay))) {
        site = site_open(relay, &key, route, NULL);
    }
    if (site != NULL) {
        relay_site_use(site);
    }
    return site;
}

struct relay_site *relay_site_of_destination(struct relay *relay, const struct conf_route *route,
                                             struct destination *destination)
{
    const struct relay_site_key key =
        destination_key(relay, relay_route_key(relay, route), destination);
    struct relay_site *site = site_find(&relay->sites, &key, destination);
    if (site == NULL && site_fits(relay)) {
        site = site_open(relay, &key, route, destination);
    }
    if (site != NULL) {
        relay_site_use(site);
        relay_site_refresh(site, destination);
    }
    return site;
}

void relay_site_touch(struct relay_site *site)
{
    if (list_empty(&site->dirty)) {
        list_append(&site->relay->dirty, &site->dirty);
    }
}

void relay_site_left(struct relay_site *site)
{
    site->connections--;
    relay_site_touch(site);
}

/* ---- Those that nobody needs ---- */

/* Not by a timer: a shard that has nothing to do need not wake up for this. */
void relay_sites_tidy(struct relay *relay)
{
    struct relay_sites *sites = &relay->sites;
    uint64_t now_ns = relay->shard->now_ns;
    for (unsigned i = 0; i < SITE_TIDY_MOST && !list_empty(&sites->used); i++) {
        struct relay_site *site = list_entry(sites->used.next, struct relay_site, node);
        if (now_ns - site->used_ns < RELAY_SITE_UNUSED_NS) {
            return;
        }
        if (site_unused(site)) {
            site_close(site);
        } else {
            relay_site_use(site);
        }
    }
}

/* A site whose route is gone: its waiting deliveries go where the new routes lead, a part in each round. */
static void site_empty(struct relay_site *site)
{
    struct relay *relay = site->relay;
    unsigned filed = 0;
    for (struct sched_delivery *delivery; (delivery = sched_evict(site->sched)) != NULL;) {
        uint32_t count = delivery->count;
        uint32_t *indexes = malloc(count * sizeof(*indexes));
        if (indexes == NULL) {
            sched_return(delivery, sched_indexes(delivery), count);
            wheel_arm(relay->shard->wheel, &site->wake, relay->shard->now_ns + RELAY_REFILE_NS);
            return;
        }
        memcpy(indexes, sched_indexes(delivery), count * sizeof(*indexes));
        struct message *message = delivery->message;
        uint32_t attempts = delivery->attempts;
        sched_done(delivery);
        relay_file(relay, message, indexes, count, attempts);
        free(indexes);
        if (++filed == SITE_FILED_MOST) {
            relay_site_touch(site);
            return;
        }
    }
    struct sched_site_counts counts;
    uint32_t wanted = sched_wants_connection(site->sched, relay->shard->now_ns);
    check(wanted == 0); /* what it was promised goes to others */
    sched_site_counts(site->sched, &counts);
    if (site_vacant(&counts, site)) { /* no connection has one, no question is under way for one */
        site_end(site);
    }
}

/* ---- What is due ---- */

void relay_delivery_put_back(struct relay *relay, struct sched_delivery *delivery)
{
    if (sched_defer(delivery, relay->shard->now_ns, sched_indexes(delivery), delivery->count,
                    slice_text("out of memory")) == SCHED_EXPIRED) {
        sched_return(delivery, sched_indexes(delivery), delivery->count);
    }
}

bool relay_delivery_expire(struct relay *relay, struct sched_delivery *delivery)
{
    uint32_t count = delivery->count;
    struct message *message = delivery->message;
    struct slice reason = sched_reason(delivery);
    struct relay_outcome *failures = calloc(count, sizeof(*failures));
    if (failures == NULL) {
        relay_delivery_put_back(relay, delivery);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        bounce_expired(&failures[i], sched_indexes(delivery)[i], reason);
    }
    spool_message_hold(message);
    bool is_told = bounce_send(relay, message, failures, count) == 0;
    if (is_told) {
        sched_done(delivery);
    } else {
        relay_delivery_put_back(relay, delivery);
    }
    spool_message_release(relay->spool, message);
    free(failures);
    return is_told;
}

/* Gives what is due to connections, and opens those that are wanted. Returns when it may be looked at again at
 * the earliest. */
static uint64_t site_connect(struct relay_site *site)
{
    uint64_t now_ns = site->relay->shard->now_ns;
    while (!list_empty(&site->idle)) {
        struct sched_delivery *delivery = relay_site_next(site);
        if (delivery == NULL) {
            break;
        }
        outbound_take(outbound_of_idle(site->idle.next), delivery);
    }
    while (!list_empty(&site->idle) &&
           sched_connection_surplus(site->sched, SCHED_CONNECTION_IDLE)) {
        outbound_drain(outbound_of_idle(site->idle.next));
    }
    uint32_t wanted = sched_wants_connection(site->sched, now_ns);
    if (wanted > 0 && relay_parking_sift(site) && relay_site_reviewed(site)) {
        wanted = sched_wants_connection(site->sched, now_ns);
        for (; wanted > 0; wanted--) {
            outbound_open(site);
        }
    }
    return now_ns;
}

/* A backlog of one day grows too old on one day: a part of it in each round, for the others' sake. */
static void site_expire(struct relay_site *site)
{
    uint64_t now_ns = site->relay->shard->now_ns;
    for (unsigned i = 0; i < SITE_EXPIRED_MOST; i++) {
        struct sched_delivery *expired = sched_expired(site->sched, now_ns);
        if (expired == NULL || !relay_delivery_expire(site->relay, expired)) {
            return;
        }
    }
    relay_site_touch(site);
}

/* What has waited for long: whoever wants to know is told. */
static void site_warn(struct relay_site *site)
{
    uint64_t now_ns = site->relay->shard->now_ns;
    for (unsigned i = 0; i < SITE_EXPIRED_MOST; i++) {
        struct sched_delivery *delayed = sched_delayed(site->sched, now_ns);
        if (delayed == NULL) {
            return;
        }
        bounce_delayed(site->relay, delayed->message, sched_indexes(delayed), delayed->count,
                       sched_reason(delayed), delayed->expires_ns);
    }
    relay_site_touch(site);
}

void relay_site_run(struct relay_site *site)
{
    struct relay *relay = site->relay;
    uint64_t now_ns = relay->shard->now_ns;
    relay_parking_run(site);
    if (site->route == NULL && site->parking == NULL) {
        site_empty(site);
        return;
    }
    if (relay->draining) {
        return;
    }
    site_expire(site);
    site_warn(site);
    uint64_t rest_until_ns = site->parking != NULL ? now_ns
                             : site->lobby         ? relay_lobby_run(site)
                                                   : site_connect(site);
    uint64_t due = sched_site_next_due(site->sched, now_ns);
    due = due > rest_until_ns ? due : rest_until_ns;
    if (due != SCHED_NEVER) {
        wheel_arm(relay->shard->wheel, &site->wake, due > now_ns ? due : now_ns + WHEEL_TICK_NS);
    } else {
        wheel_disarm(relay->shard->wheel, &site->wake);
    }
}

void relay_sites_touch_all(struct relay *relay)
{
    struct list_node *used = &relay->sites.used;
    for (struct list_node *node = used->next; node != used; node = node->next) {
        relay_site_touch(list_entry(node, struct relay_site, node));
    }
}

/* ---- Life ---- */

int relay_sites_open(struct relay *relay)
{
    struct relay_sites *sites = &relay->sites;
    list_init(&sites->used);
    list_init(&sites->retired);
    world_random(relay->shard->world, &sites->secret, sizeof(sites->secret));
    sites->bucket_count = SITE_BUCKETS_FIRST;
    sites->buckets = calloc(sites->bucket_count, sizeof(*sites->buckets));
    relay_route_keys_make(&sites->route_keys, &sites->secret, relay->conf);
    return sites->buckets == NULL ? -ENOMEM : 0;
}

static void list_free(struct list_node *sites)
{
    while (!list_empty(sites)) {
        site_free(list_entry(sites->next, struct relay_site, node));
    }
}

void relay_sites_close(struct relay *relay)
{
    struct relay_sites *sites = &relay->sites;
    list_free(&sites->used);
    list_free(&sites->retired);
    free(sites->buckets);
    relay_transports_close(relay);
    relay_route_keys_free(&sites->route_keys);
}

static void site_retire(struct relay *relay, struct relay_site *site)
{
    site_leave(&relay->sites, site);
    list_append(&relay->sites.retired, &site->node);
    site->route = NULL;
    if (site->transport != NULL) {
        relay_transport_drop(relay, site->transport);
        site->transport = NULL;
    }
    site->client_settings.hostname = slice_text(relay->conf->hostname);
    relay_site_touch(site);
    for (struct list_node *next = site->idle.next; next != &site->idle;) {
        struct outbound *out = outbound_of_idle(next);
        next = next->next;
        outbound_drain(out);
    }
}

/* Where it leads by the configuration that is read now; NULL: nowhere. */
static const struct conf_route *route_now(const struct relay_site *site)
{
    if (relay_detour_is_made(site->relay, site->route)) {
        return site->route; /* the configuration has no say */
    }
    return site->transport != NULL
               ? relay_transport_route(site->transport)
               : relay_route_keys_find(&site->relay->sites.route_keys, site->key.route);
}

void relay_sites_reload(struct relay *relay)
{
    struct relay_sites *sites = &relay->sites;
    struct list_node before;
    relay_route_keys_make(&sites->route_keys, &sites->secret, relay->conf);
    relay_transports_reload(relay);
    list_init(&before);
    list_splice(&before, &sites->used);
    for (struct list_node *node; (node = list_pop(&before)) != NULL;) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        struct sched_site_settings settings;
        const struct conf_route *route = route_now(site);
        list_append(&sites->used, &site->node);
        if (route == NULL) {
            site_retire(relay, site);
            continue;
        }
        site->route = route;
        if (site->fresh_until_ns > relay_ways_fresh_until(relay)) {
            site->fresh_until_ns = relay_ways_fresh_until(relay);
        }
        if (site->group != NULL) {
            relay_group_set(site->group, site->route);
        }
        site_settle(site, &settings);
        sched_site_set(site->sched, &settings);
        relay_site_touch(site);
    }
}
