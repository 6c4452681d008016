#include "engine/relay/relay.h"
#include "engine/auth/auth_service.h"
#include "engine/core/mutation.h"
#include "engine/lookup/lookup.h"
#include "engine/relay/bounce.h"
#include "engine/relay/inbound.h"
#include "engine/relay/lease_desk.h"
#include "engine/relay/outbound.h"
#include "engine/relay/relay_queue.h"
#include "engine/relay/tls_clear.h"
#include "engine/relay/tls_report.h"
#include "engine/relay/relay_group.h"
#include "engine/relay/relay_owed.h"
#include "engine/relay/relay_parking.h"
#include "engine/relay/relay_sites.h"
#include "engine/relay/relay_way.h"
#include "queue/sched/group.h"
#include <stdlib.h>

#define FOUND_EACH_ROUND 256u /* recipients that a start has found, to be filed: 0.1 ms */

struct network *relay_network_to(struct relay *relay, const struct endpoint *to)
{
    return relay->bypass == NULL || endpoint_is_loopback(to) ? relay->kernel : relay->bypass;
}

/* ---- Life ---- */

static void server_settings(struct relay *relay, const struct relay_conf *conf)
{
    const struct smtp_server_settings settings = {
        .hostname = slice_text(conf->hostname),
        .message_bytes_max = conf->limits.message_bytes,
        .recipients_max = conf->limits.recipients,
        .errors_max = conf->limits.errors,
        .junk_max = conf->limits.commands,
        .messages_max = conf->limits.messages,
        .line_bytes_max = conf->limits.line_bytes,
        .header_bytes_max = conf->limits.header_bytes,
        .header_lines_max = conf->limits.header_lines,
        .hops_max = conf->limits.hops,
        .command_ns = conf->timeouts.command,
        .data_ns = conf->timeouts.data,
        .octet_ns = smtp_octet_ns(conf->limits.data_rate_min),
        .normalize = conf->smtp.bare_newline == CONF_BARE_NEWLINE_NORMALIZE,
        .pipelining = conf->smtp.pipelining,
        .chunking = conf->smtp.chunking,
        .smtputf8 = conf->smtp.smtputf8,
        .dsn = conf->smtp.dsn,
    };
    for (unsigned i = 0; i < 2 * RELAY_TLS_KINDS; i++) {
        enum relay_tls_kind kind = i % RELAY_TLS_KINDS;
        struct smtp_server_settings *made = &relay->server_settings[i / RELAY_TLS_KINDS][kind];
        *made = settings;
        made->lmtp = i / RELAY_TLS_KINDS == 1;
        made->starttls =
            relay_tls_has_server(relay->tls) && kind != RELAY_TLS_OFF && kind != RELAY_TLS_MISSED;
        made->tls_only = kind == RELAY_TLS_REQUIRED || kind == RELAY_TLS_MISSED;
    }
}

static const struct lease_id connections_id = {.words = {0}}; /* limits.connections_out */

/* Of all shards. An equal part of it each has at once: to wait for a word costs time, and a connection that has nothing
 * to do. */
static int connections_limit(struct relay *relay)
{
    const struct relay_conf *conf = relay->conf;
    const struct sched_limits limits = {.connection_count_max = conf->limits.connections_out};
    struct sched_group *group = sched_group_of_all(relay->sched);
    sched_set_connection_count_max(relay->sched, limits.connection_count_max);
    if (relay->leases == NULL) {
        return 0;
    }
    if (lease_desk_find(relay->leases, &connections_id) != NULL) {
        lease_desk_set(relay->leases, group, &limits);
    } else if (lease_desk_join(relay->leases, &connections_id, group, &limits, group) < 0) {
        return -ENOMEM;
    }
    sched_group_wish(group, limits.connection_count_max / conf->shards);
    return 0;
}

/* What clients send is measured by their sessions. Reports may be larger, where mail must be small. */
static uint64_t message_bytes_max(const struct relay_conf *conf)
{
    uint64_t mail = conf->limits.message_bytes + SMTP_RECEIVED_MAX;
    uint64_t report = conf->bounce.full_bytes_max + BOUNCE_BYTES_MAX;
    return mail > report ? mail : report;
}

static void message_found(void *owner, struct message *message)
{
    if (MUTATED(DEFERRED_FORGOTTEN) && message->attempts > 0) {
        return;
    }
    relay_schedule(owner, message);
}

/* All that a start has found is filed. */
static void found_look(struct relay *relay)
{
    if (!relay->owed.starting || spool_is_finding(relay->spool)) {
        return;
    }
    relay_owed_begin(relay);
    if (relay->flush_again) {
        relay_flush_queue(relay);
    }
}

int relay_open(struct relay **opened, const struct relay_settings *settings)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    uint64_t seeds[2];
    struct siphash_key secret;
    if (relay == NULL) {
        return -ENOMEM;
    }
    relay->conf = settings->conf;
    relay->shard = settings->shard;
    relay->logger = settings->shard->logger;
    relay->kernel = settings->kernel;
    relay->bypass = settings->bypass;
    relay->tls = settings->tls;
    relay->resolve = settings->resolve;
    relay->log = settings->log;
    relay->lookup = settings->lookup;
    relay->maps = settings->maps;
    relay->leases = settings->leases;
    list_init(&relay->dirty);
    list_init(&relay->inbounds);
    list_init(&relay->outbounds);
    list_init(&relay->bounces);
    list_init(&relay->groups);
    list_init(&relay->parkings);
    relay_detours_init(relay);
    list_init(&relay->way_waits);
    relay_owed_init(relay);
    queue_walks_init(&relay->walks, NULL, settings->shard->world);
    int status = relay_sites_open(relay);
    if (relay_domains_open(relay) < 0) {
        status = -ENOMEM;
    }
    server_settings(relay, relay->conf);
    world_random(relay->shard->world, seeds, sizeof(seeds));
    world_random(relay->shard->world, &secret, sizeof(secret));
    relay->clear = tls_clear_open(&secret);
    relay->tls_report = tls_report_open(&secret);
    relay->clients = client_count_open(seeds[0]);
    relay->sched = sched_open(seeds[1]);
    if (relay->clear == NULL || relay->tls_report == NULL || relay->clients == NULL ||
        relay->sched == NULL) {
        status = -ENOMEM;
    }
    if (relay->leases != NULL) {
        lease_desk_attach(relay->leases, relay->sched);
    }
    if (status == 0 && settings->auth != NULL) {
        status = auth_service_desk(settings->auth, relay->shard, NULL, &relay->logins);
    }
    if (status == 0) {
        status = connections_limit(relay);
        if (status == 0 && settings->orders != NULL) {
            status = relay_suspensions_load(relay, settings->orders);
            status = status == 0 ? relay_detours_load(relay, settings->orders) : status;
        }
    }
    if (status == 0) {
        const struct spool_settings spool = {
            .message_bytes_max = message_bytes_max(relay->conf),
            .draft_count_max = relay->conf->limits.connections,
            .fetch_memory = settings->fetch_memory,
            .fetch_memory_bytes = settings->fetch_memory_bytes,
            .found_each_round = FOUND_EACH_ROUND,
        };
        status = spool_open(&relay->spool, relay->log, &spool, message_found, relay);
    }
    relay->walks.spool = relay->spool;
    if (status == 0) {
        int adopted = spool_adopt(relay->spool, relay->conf->shards);
        if (adopted < 0) { /* their mail is safe where it is */
            logger_line(relay->logger, LOGGER_ERROR,
                        "spool: folders of former shards stay for the next start: %s",
                        strerror(-adopted));
        }
    }
    if (status < 0) {
        relay_close(relay);
        return status;
    }
    found_look(relay);
    *opened = relay;
    return 0;
}

static void connections_leave(struct relay *relay)
{
    if (lease_desk_find(relay->leases, &connections_id) != NULL) {
        lease_desk_leave(relay->leases, sched_group_of_all(relay->sched));
    }
}

static void each_inbound(struct relay *relay, void (*visit)(struct inbound *inbound))
{
    struct list_node all;
    list_init(&all);
    list_splice(&all, &relay->inbounds);
    for (struct list_node *node; (node = list_pop(&all)) != NULL;) {
        list_append(&relay->inbounds, node);
        visit(inbound_of_node(node)); /* which may end it */
    }
}

void relay_unlisten(struct relay *relay)
{
    for (uint32_t i = 0; i < relay->listener_count; i++) {
        struct relay_listener *at = &relay->listeners[i];
        if (at->listener != NULL) {
            at->network->ops->unlisten(at->network, at->listener);
            at->listener = NULL;
        }
    }
}

void relay_close(struct relay *relay)
{
    relay_unlisten(relay);
    free(relay->listeners);
    if (relay->logins != NULL) {
        each_inbound(relay, inbound_auth_cancel);
        login_desk_close(relay->logins);
    }
    relay_owed_close(relay);
    relay_domains_close(relay);
    relay_ways_close(relay);
    relay_sites_close(relay);
    if (relay->leases != NULL && relay->sched != NULL) {
        connections_leave(relay);
    }
    if (relay->sched != NULL) {
        sched_close(relay->sched);
    }
    relay_groups_close(relay);
    if (relay->leases != NULL) {
        lease_desk_attach(relay->leases, NULL);
    }
    relay_suspensions_close(relay);
    relay_detours_close(relay);
    if (relay->spool != NULL) {
        spool_close(relay->spool);
    }
    tls_clear_close(relay->clear);
    tls_report_close(relay->tls_report);
    if (relay->clients != NULL) {
        client_count_close(relay->clients);
    }
    free(relay);
}

unsigned relay_round(struct relay *relay, uint64_t now_ns)
{
    unsigned work = 0;
    struct list_node dirty;
    for (struct sched_site *site; (site = sched_look(relay->sched)) != NULL;) {
        relay_site_touch(sched_site_owner(site));
    }
    list_init(&dirty);
    list_splice(&dirty, &relay->dirty);
    for (struct list_node *node; (node = list_pop(&dirty)) != NULL;) {
        relay_site_run(list_entry(node, struct relay_site, dirty));
        work++;
    }
    if (!relay->owed.starting || relay->draining) { /* what is not filed yet would be missed */
        work += queue_walks_round(&relay->walks);
    }
    if (relay->draining && now_ns >= relay->drain_deadline_ns) {
        while (!list_empty(&relay->inbounds) && relay->counters.sessions_in > 0) {
            struct inbound *in = inbound_of_node(relay->inbounds.next);
            if (!inbound_abort(in)) {
                break;
            }
        }
        outbound_abort_all(relay);
    }
    relay_sites_tidy(relay);
    work += spool_round(relay->spool);
    found_look(relay);
    relay_space_round(relay);
    return work;
}

void relay_reload(struct relay *relay, const struct relay_conf *conf, const struct relay_maps *maps)
{
    relay_ways_reload(relay);
    relay->conf = conf;
    relay->maps = maps;
    if (relay->lookup != NULL) {
        lookup_forget(relay->lookup);
    }
    if (relay->tls != NULL) {
        relay_tls_reload(relay->tls, conf);
    }
    relay_listeners_reload(relay);
    server_settings(relay, conf);
    connections_limit(relay);
    relay_detours_reload(relay);
    relay_sites_reload(relay);
    relay_parkings_reload(relay);
    outbound_drain_all(
        relay); /* what was secured as the old one says is not for mail of the new one */
    each_inbound(relay, inbound_reload);
    bounce_reload(relay);
}

void relay_drain(struct relay *relay, uint64_t deadline_ns)
{
    relay->draining = true;
    queue_walks_cancel(&relay->walks);
    relay->drain_deadline_ns = deadline_ns;
    spool_rest(relay->spool);
    for (uint32_t i = 0; i < relay->listener_count; i++) {
        struct relay_listener *at = &relay->listeners[i];
        at->network->ops->unlisten(at->network, at->listener);
        at->listener = NULL;
    }
    each_inbound(relay, inbound_drain);
    outbound_drain_all(relay);
    bounce_abandon_all(relay);
}

bool relay_drained(const struct relay *relay)
{
    return relay->draining && relay->visits == 0 && list_empty(&relay->inbounds) &&
           list_empty(&relay->outbounds);
}

const struct relay_counters *relay_counters(const struct relay *relay)
{
    return &relay->counters;
}

const struct tls_report *relay_tls_report(const struct relay *relay)
{
    return relay->tls_report;
}

struct spool *relay_spool(struct relay *relay)
{
    return relay->spool;
}

/* ---- For the operator ---- */

void relay_flush_queue(struct relay *relay)
{
    relay->flush_again = relay->owed.starting;
    sched_flush(relay->sched);
    relay_sites_touch_all(relay);
}

struct queue_walks *relay_walks(struct relay *relay)
{
    return &relay->walks;
}

struct log *relay_log(struct relay *relay)
{
    return relay->log;
}

bool relay_is_draining(const struct relay *relay)
{
    return relay->draining;
}

int64_t relay_mail_age_max_s(const struct relay *relay)
{
    return (int64_t)(relay->conf->retry.expire / 1000000000ull);
}

void relay_visit_begin(struct relay *relay)
{
    relay->visits++;
}

void relay_visit_end(struct relay *relay)
{
    check(relay->visits > 0);
    relay->visits--;
}
