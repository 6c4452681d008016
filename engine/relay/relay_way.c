#include "engine/relay/relay_way.h"
#include "engine/lookup/lookup.h"
#include "engine/relay/relay_direct.h"
#include "engine/relay/relay_maps.h"
#include "engine/relay/transport_lookup.h"
#include <stdio.h>
#include <stdlib.h>

/* What keeps a recipient from going. */
enum trouble {
    TROUBLE_NONE,
    TROUBLE_FAILED, /* no answer */
    TROUBLE_WRONG,  /* one that we do not know */
    TROUBLE_MANY,   /* too many ways or sites, or memory is short */
};

struct item {
    struct relay_way way;
    uint8_t trouble; /* enum trouble */
};

/* A delivery whose recipients are looked up, one after the other. */
struct way_wait {
    struct list_node node; /* in relay->way_waits */
    struct relay *relay;
    struct sched_delivery *delivery;
    struct transport_job job;
    bool parked;
    uint32_t at, count;
    char text[160]; /* of the last trouble, for the log */
    struct item items[];
};

bool relay_ways_used(const struct relay *relay)
{
    return relay->maps != NULL && relay->maps->transports.count > 0;
}

uint64_t relay_ways_fresh_until(const struct relay *relay)
{
    return relay_ways_used(relay) ? relay->shard->now_ns + RELAY_WAYS_FRESH_NS : UINT64_MAX;
}

bool relay_way_due(const struct relay *relay, struct sched_delivery *delivery)
{
    uint64_t now_ns = relay->shard->now_ns, since_ns = delivery->due_ns; /* when it was filed */
    bool asked = delivery->asked;
    delivery->asked = false;
    return relay_ways_used(relay) && !asked && !delivery->placed &&
           (delivery->attempts > 0 ||
            (now_ns > since_ns && now_ns - since_ns >= RELAY_WAYS_FRESH_NS));
}

static int look_up(struct relay *relay, struct transport_job *job, struct slice mailbox)
{
    if (!relay_ways_used(relay)) { /* a reload has taken them away */
        job->answer = MAP_ABSENT;
        return 0;
    }
    return transport_lookup(job, relay->lookup, &relay->maps->transports, &relay->maps->rules,
                            mailbox);
}

/* What the maps have said; the way is the caller's. */
static enum trouble settle(struct relay *relay, const struct transport_job *job,
                           struct slice mailbox, struct relay_way *way)
{
    const struct conf_route *by_routes = relay_conf_route(relay->conf, mailbox);
    *way = (struct relay_way){.route = by_routes};
    switch (job->answer) {
    case MAP_ABSENT:
        return TROUBLE_NONE;
    case MAP_FAILED:
        return TROUBLE_FAILED;
    case MAP_TOO_LONG:
        return TROUBLE_WRONG;
    case MAP_FOUND:
        break;
    }
    int status = relay_transport_way(relay, by_routes, job->value->text, way);
    return status == 0 ? TROUBLE_NONE : status == -EINVAL ? TROUBLE_WRONG : TROUBLE_MANY;
}

/* ---- At once ---- */

void relay_way_later(struct relay *relay, struct relay_way *way)
{
    *way = (struct relay_way){.route = &relay->conf->route_standard};
}

void relay_way_now(struct relay *relay, struct slice mailbox, struct relay_way *way)
{
    if (!relay_ways_used(relay)) {
        *way = (struct relay_way){.route = relay_conf_route(relay->conf, mailbox)};
        return;
    }
    struct transport_job job = {0};
    if (look_up(relay, &job, mailbox) < 0 || settle(relay, &job, mailbox, way) != TROUBLE_NONE) {
        relay_way_later(relay, way); /* there it is said what is wrong */
    }
    transport_job_end(&job);
}

/* ---- Deliveries ---- */

static struct slice mailbox_of(const struct way_wait *wait, uint32_t at)
{
    const struct sched_delivery *delivery = wait->delivery;
    return message_forward_path(delivery->message, sched_indexes(delivery)[at]);
}

static void wait_free(struct way_wait *wait)
{
    transport_job_end(&wait->job);
    list_remove(&wait->node);
    for (uint32_t i = 0; i < wait->at; i++) {
        relay_way_drop(wait->relay, &wait->items[i].way);
    }
    free(wait);
}

/* The lookup of the recipient whose turn it is has ended. */
static void item_settle(struct way_wait *wait)
{
    struct item *item = &wait->items[wait->at];
    const struct lookup_value *value = wait->job.value;
    struct slice text = value != NULL ? value->text : slice_text("there is no room to ask");
    item->trouble = settle(wait->relay, &wait->job, mailbox_of(wait, wait->at), &item->way);
    if (item->trouble == TROUBLE_FAILED || item->trouble == TROUBLE_WRONG) {
        snprintf(wait->text, sizeof(wait->text), "%s: %.*s",
                 item->trouble == TROUBLE_FAILED ? "The transport map does not answer"
                                                 : "The transport map gives no transport",
                 (int)(text.size < 110 ? text.size : 110), (const char *)text.bytes);
    }
    transport_job_end(&wait->job);
    wait->at++;
}

/* 0; -EINPROGRESS; -ENOBUFS: there is no room to ask. */
static int wait_run(struct way_wait *wait)
{
    while (wait->at < wait->count) {
        int status = look_up(wait->relay, &wait->job, mailbox_of(wait, wait->at));
        if (status < 0) {
            return status;
        }
        if (wait->job.busy) {
            transport_job_end(&wait->job);
            return -ENOBUFS;
        }
        item_settle(wait);
    }
    return 0;
}

static bool all_stay(const struct way_wait *wait)
{
    const struct relay_site *site = sched_site_owner(sched_site_of(wait->delivery));
    for (uint32_t i = 0; i < wait->count; i++) {
        const struct item *item = &wait->items[i];
        if (item->trouble != TROUBLE_NONE || item->way.route == NULL ||
            relay_route_key(wait->relay, item->way.route) != site->key.route) {
            return false;
        }
    }
    return true;
}

/* Is there room for the sites that they go to? Also the lobby of one by MX is a site. */
static void sites_open(struct way_wait *wait)
{
    for (uint32_t i = 0; i < wait->count; i++) {
        struct item *item = &wait->items[i];
        if (item->trouble == TROUBLE_NONE && item->way.made != NULL &&
            relay_site_of_route(wait->relay, item->way.route) == NULL) {
            item->trouble = TROUBLE_MANY;
        }
    }
}

/* Which of them is told first; all are put off alike. */
static void say(const struct way_wait *wait, enum trouble trouble, const char **dsn,
                const char **text)
{
    *dsn = trouble == TROUBLE_FAILED ? "4.3.0" : trouble == TROUBLE_WRONG ? "4.3.5" : "4.3.2";
    *text = trouble == TROUBLE_MANY ? "Too many next hops at once, or out of memory" : wait->text;
}

/* indexes: room for all of the delivery's recipients. Those in trouble wait on; those that can go are `*going`, from the
 * front, and their ways in the first items. */
static void part(struct way_wait *wait, uint32_t *indexes, uint32_t *going)
{
    struct relay *relay = wait->relay;
    const uint32_t *all = sched_indexes(wait->delivery);
    uint32_t good = 0, bad = 0;
    enum trouble trouble = TROUBLE_NONE;
    for (uint32_t i = 0; i < wait->count; i++) {
        if (wait->items[i].trouble != TROUBLE_NONE) {
            trouble = wait->items[i].trouble;
            indexes[wait->count - ++bad] = all[i];
            continue;
        }
        struct item item = wait->items[i];
        wait->items[i] = wait->items[good];
        wait->items[good] = item;
        indexes[good++] = all[i];
    }
    *going = good;
    if (bad == 0) {
        sched_done(wait->delivery);
        return;
    }
    const char *dsn, *text;
    say(wait, trouble, &dsn, &text);
    relay->counters.transport_failures += bad;
    relay_delivery_defer(relay, wait->delivery, indexes + good, bad, dsn, text);
}

/* They go where they lead. */
static void disperse(struct way_wait *wait)
{
    struct relay *relay = wait->relay;
    struct message *message = wait->delivery->message;
    uint32_t attempts = wait->delivery->attempts, going = 0;
    uint32_t *indexes = calloc(wait->count, sizeof(*indexes));
    struct relay_way *ways = calloc(wait->count, sizeof(*ways));
    if (indexes == NULL || ways == NULL) {
        relay_delivery_defer(relay, wait->delivery, sched_indexes(wait->delivery), wait->count,
                             "4.3.0", "out of memory");
    } else {
        spool_message_hold(message);
        sites_open(wait);
        part(wait, indexes, &going);
        for (uint32_t i = 0; i < going; i++) {
            ways[i] = wait->items[i].way;
        }
        if (going > 0) {
            relay_file_by(relay, message, indexes, ways, going, attempts);
        }
        spool_message_release(relay->spool, message);
    }
    free(indexes);
    free(ways);
}

static enum relay_way_answer wait_finish(struct way_wait *wait)
{
    if (all_stay(wait)) {
        return RELAY_WAY_STAYS;
    }
    struct relay_site *site = sched_site_owner(sched_site_of(wait->delivery));
    if (!wait->parked) {
        sched_park(wait->delivery); /* it takes nothing of what the site may do */
    }
    relay_site_use(site); /* this may have been all that it had */
    disperse(wait);
    relay_site_touch(site);
    return RELAY_WAY_GONE;
}

/* It is the next, and not asked for again: behind a long backlog the answer would be forgotten, and everybody asked for
 * without end. But where all are asked before a site is tried again, it is the others' turn. */
static void stay(struct relay_site *site, struct sched_delivery *delivery)
{
    if (site->review_count > 0) {
        sched_move(delivery, site->sched);
    } else {
        delivery->asked = true;
        sched_return(delivery, sched_indexes(delivery), delivery->count);
    }
    relay_site_touch(site);
}

static void told(struct transport_job *job)
{
    struct way_wait *wait = list_entry(job, struct way_wait, job);
    struct sched_delivery *delivery = wait->delivery;
    struct relay_site *site = sched_site_owner(sched_site_of(delivery));
    if (!wait->job.busy) {
        item_settle(wait);
    }
    int status = wait->job.busy ? -ENOBUFS : wait_run(wait);
    if (status == -EINPROGRESS) {
        return;
    }
    /* A site that was retired meanwhile has all its mail filed anew. */
    if (status < 0 || site->route == NULL) {
        sched_move(delivery, site->sched);
        relay_site_touch(site);
    } else if (wait_finish(wait) == RELAY_WAY_STAYS) {
        stay(site, delivery);
    }
    wait_free(wait);
}

enum relay_way_answer relay_way_ask(struct relay_site *site, struct sched_delivery *delivery)
{
    struct relay *relay = site->relay;
    if (delivery->placed ||
        (!relay_ways_used(relay) && site->route != &relay->conf->route_standard)) {
        return RELAY_WAY_STAYS;
    }
    struct way_wait *wait = calloc(1, sizeof(*wait) + delivery->count * sizeof(wait->items[0]));
    if (wait == NULL) {
        return RELAY_WAY_NOT_NOW;
    }
    *wait = (struct way_wait){
        .relay = relay, .delivery = delivery, .job = {.done = told}, .count = delivery->count};
    list_init(&wait->node);
    enum relay_way_answer answer = RELAY_WAY_NOT_NOW;
    int status = wait_run(wait);
    if (status == -EINPROGRESS) {
        sched_park(delivery);
        wait->parked = true;
        list_append(&relay->way_waits, &wait->node);
        return RELAY_WAY_GONE;
    }
    if (status == 0) {
        answer = wait_finish(wait);
    }
    wait_free(wait);
    return answer;
}

/* ---- Life ---- */

void relay_ways_reload(struct relay *relay)
{
    struct list_node waits;
    list_init(&waits);
    list_splice(&waits, &relay->way_waits);
    for (struct list_node *node; (node = list_pop(&waits)) != NULL;) {
        struct way_wait *wait = list_entry(node, struct way_wait, node);
        struct sched_delivery *delivery = wait->delivery;
        relay_site_touch(sched_site_owner(sched_site_of(delivery)));
        sched_move(delivery, sched_site_of(delivery));
        wait_free(wait);
    }
}

void relay_ways_close(struct relay *relay)
{
    while (!list_empty(&relay->way_waits)) {
        wait_free(list_entry(relay->way_waits.next, struct way_wait, node));
    }
}
