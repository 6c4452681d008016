#include "engine/relay/relay.h"
#include "engine/core/mutation.h"
#include "engine/relay/bounce.h"
#include "engine/relay/inbound.h"
#include "engine/relay/outbound.h"
#include <stdlib.h>

#define RELAY_REFILE_NS (1000000000ull) /* memory was short: look again */

/* ---- Sites ---- */

static void site_wake(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    relay_site_touch(list_entry(timer, struct relay_site, wake));
}

static void site_settings(const struct relay_conf *conf, const struct conf_route *route,
                          struct sched_site_settings *settings)
{
    *settings = (struct sched_site_settings){
        .connection_count_max = route->connections,
        .address_count = route->to_count,
        .retry = {.first_ns = conf->retry.first,
                  .limit_ns = conf->retry.limit,
                  .spread_pct = conf->retry.jitter_pct},
        .reconnect = {.first_ns = conf->retry.first,
                      .limit_ns = conf->retry.limit,
                      .spread_pct = conf->retry.jitter_pct},
        .expire_ns = conf->retry.expire,
    };
}

static void site_client_settings(struct relay_site *site, const struct relay_conf *conf,
                                 const struct conf_route *route)
{
    site->client_settings = (struct smtp_client_settings){
        .hostname = slice_text(conf->hostname),
        .lmtp = route->via == CONF_PROTOCOL_LMTP,
        .pipelining = route->pipelining,
        .greeting_ns = conf->timeouts.greeting,
        .reply_ns = conf->timeouts.reply,
        .data_start_ns = conf->timeouts.data_start,
        .data_block_ns = conf->timeouts.data_block,
        .data_end_ns = conf->timeouts.data_end,
        .quit_ns = conf->timeouts.quit,
    };
    site->lmtp = site->client_settings.lmtp;
}

static void site_free(struct relay_site *site)
{
    wheel_disarm(site->relay->shard->wheel, &site->wake);
    list_remove(&site->node);
    list_remove(&site->dirty);
    free(site);
}

static int site_open(struct relay *relay, const struct relay_conf *conf,
                     const struct conf_route *route, struct list_node *sites)
{
    struct sched_site_settings settings;
    struct relay_site *site = calloc(1, sizeof(*site));
    if (site == NULL) {
        return -ENOMEM;
    }
    site->relay = relay;
    site->route = route;
    list_init(&site->node);
    list_init(&site->idle);
    list_init(&site->dirty);
    timer_init(&site->wake, site_wake);
    site_settings(conf, route, &settings);
    site_client_settings(site, conf, route);
    int status = sched_site_open(relay->sched, &settings, site, &site->sched);
    if (status < 0) {
        free(site);
        return status;
    }
    list_append(sites, &site->node);
    return 0;
}

static int sites_open(struct relay *relay, const struct relay_conf *conf, struct list_node *sites)
{
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        int status = site_open(relay, conf, &conf->routes[i], sites);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

static struct relay_site *site_of_route(struct relay *relay, const struct conf_route *route)
{
    for (struct list_node *node = relay->sites.next; node != &relay->sites; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (site->route == route) {
            return site;
        }
    }
    return NULL;
}

void relay_site_touch(struct relay_site *site)
{
    if (list_empty(&site->dirty)) {
        list_append(&site->relay->dirty, &site->dirty);
    }
}

/* A site whose route is gone: its waiting deliveries go where the new routes lead. */
static void site_empty(struct relay_site *site)
{
    struct relay *relay = site->relay;
    sched_site_flush(site->sched);
    for (struct sched_delivery *delivery;
         (delivery = sched_next(site->sched, relay->shard->now_ns)) != NULL;) {
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
    }
    if (site->connections == 0) {
        sched_site_close(site->sched);
        site_free(site);
    }
}

void relay_site_left(struct relay_site *site)
{
    site->connections--;
    relay_site_touch(site);
}

/* Memory is short: all of it waits again. */
static void relay_put_back(struct relay *relay, struct sched_delivery *delivery)
{
    if (sched_defer(delivery, relay->shard->now_ns, sched_indexes(delivery), delivery->count,
                    slice_text("out of memory")) == SCHED_EXPIRED) {
        sched_return(delivery, sched_indexes(delivery), delivery->count);
    }
}

/* Too old while it waited: its recipients go back to the sender. False: not now, memory is short.
 */
static bool delivery_expire(struct relay *relay, struct sched_delivery *delivery)
{
    static const char words[] = "Not delivered in time; the last answer was: ";
    uint32_t count = delivery->count;
    struct message *message = delivery->message;
    struct slice reason = sched_reason(delivery);
    struct relay_failure *failures = calloc(count, sizeof(*failures));
    if (failures == NULL) {
        relay_put_back(relay, delivery);
        return false;
    }
    reason = slice_first(reason, sizeof(failures->text) - sizeof(words));
    for (uint32_t i = 0; i < count; i++) {
        failures[i].index = sched_indexes(delivery)[i];
        failures[i].status = (struct smtp_status){4, 4, 7};
        memcpy(failures[i].text, words, sizeof(words) - 1);
        memcpy(failures[i].text + sizeof(words) - 1, reason.bytes, reason.size);
    }
    sched_done(delivery);
    bounce_send(relay, message, failures, count);
    free(failures);
    return true;
}

static void site_run(struct relay_site *site)
{
    struct relay *relay = site->relay;
    uint64_t now_ns = relay->shard->now_ns;
    if (site->route == NULL) {
        site_empty(site);
        return;
    }
    if (relay->draining) {
        return;
    }
    struct sched_delivery *expired;
    while ((expired = sched_expired(site->sched, now_ns)) != NULL &&
           delivery_expire(relay, expired)) {
    }
    while (!list_empty(&site->idle)) {
        struct sched_delivery *delivery = sched_next(site->sched, now_ns);
        if (delivery == NULL) {
            break;
        }
        outbound_take(outbound_of_idle(site->idle.next), delivery);
    }
    for (uint32_t wanted = sched_wants_connection(site->sched, now_ns); wanted > 0; wanted--) {
        outbound_open(site);
    }
    uint64_t due = sched_site_next_due(site->sched, now_ns);
    if (due != SCHED_NEVER) {
        wheel_arm(relay->shard->wheel, &site->wake, due > now_ns ? due : now_ns + WHEEL_TICK_NS);
    } else {
        wheel_disarm(relay->shard->wheel, &site->wake);
    }
}

/* ---- Routing messages ---- */

static struct slice domain_of(const struct relay *relay, struct slice mailbox)
{
    const uint8_t *at = mailbox.size > 0 ? memrchr(mailbox.bytes, '@', mailbox.size) : NULL;
    if (at == NULL) {
        return slice_text(relay->conf->hostname);
    }
    return slice_from(mailbox, (size_t)(at - mailbox.bytes) + 1);
}

static struct relay_site *site_for(struct relay *relay, struct slice mailbox)
{
    bool named;
    const struct conf_route *route =
        relay_conf_route(relay->conf, domain_of(relay, mailbox), &named);
    return route == NULL ? NULL : site_of_route(relay, route);
}

static void unroutable(struct relay *relay, struct message *message, uint32_t index)
{
    struct relay_failure failure = {.index = index,
                                    .status = {5, 4, 4},
                                    .text = "No route to the recipient's domain is configured"};
    bounce_send(relay, message, &failure, 1);
}

static void group_add(struct relay_site *site, struct message *message, const uint32_t *indexes,
                      uint32_t count, uint32_t attempts)
{
    struct relay *relay = site->relay;
    uint64_t now_ns = relay->shard->now_ns;
    int64_t age_s = world_wall_s(relay->shard->world) - message->envelope.arrival_wall_s;
    uint32_t limit =
        site->route->recipients_per_message > 0 ? site->route->recipients_per_message : count;
    for (uint32_t from = 0; from < count; from += limit) {
        const struct sched_request request = {
            .message = message,
            .indexes = indexes + from,
            .count = count - from < limit ? count - from : limit,
            .attempts = attempts,
            .due_ns = now_ns,
            .age_ns = age_s > 0 ? (uint64_t)age_s * 1000000000ull : 0,
        };
        if (sched_add(site->sched, &request, now_ns) < 0) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "sched: out of memory; recipients wait for a restart");
        }
    }
    relay_site_touch(site);
}

void relay_file(struct relay *relay, struct message *message, const uint32_t *indexes,
                uint32_t count, uint32_t attempts)
{
    enum { FEW = 16 };
    uint32_t few[FEW] = {0};
    uint32_t *group = count <= FEW ? few : malloc(count * sizeof(*group));
    uint64_t done_few[1] = {0};
    uint64_t *done = count <= 64 ? done_few : calloc((count + 63) / 64, sizeof(*done));
    if (group == NULL || done == NULL) {
        logger_line(relay->logger, LOGGER_ERROR,
                    "relay: out of memory; recipients wait for a restart");
        count = 0;
    }
    spool_message_hold(message);
    for (uint32_t i = 0; i < count; i++) {
        if (done[i / 64] >> (i % 64) & 1) {
            continue;
        }
        struct relay_site *site = site_for(relay, message->recipients[indexes[i]].forward_path);
        uint32_t members = 0;
        for (uint32_t j = i; j < count; j++) {
            struct slice path = message->recipients[indexes[j]].forward_path;
            if (!(done[j / 64] >> (j % 64) & 1) && (j == i || site_for(relay, path) == site)) {
                done[j / 64] |= 1ull << (j % 64);
                group[members++] = indexes[j];
            }
        }
        if (site != NULL) {
            group_add(site, message, group, members, attempts);
        } else {
            for (uint32_t j = 0; j < members; j++) {
                unroutable(relay, message, group[j]);
            }
        }
    }
    spool_message_release(relay->spool, message);
    if (group != few) {
        free(group);
    }
    if (done != done_few) {
        free(done);
    }
}

void relay_schedule(struct relay *relay, struct message *message)
{
    enum { FEW = 16 };
    uint32_t few[FEW] = {0};
    uint32_t waiting = message->waiting_count;
    uint32_t *indexes = waiting <= FEW ? few : calloc(waiting, sizeof(*indexes));
    uint32_t count = 0;
    if (indexes == NULL) {
        logger_line(relay->logger, LOGGER_ERROR,
                    "relay: out of memory; a message waits for a restart");
        return;
    }
    for (uint32_t i = 0; i < message->recipient_count && count < waiting; i++) {
        if (message->recipients[i].state == RECIPIENT_WAITING) {
            indexes[count++] = i;
        }
    }
    relay_file(relay, message, indexes, count, message->attempts);
    if (indexes != few) {
        free(indexes);
    }
}

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
        .normalize = conf->smtp.bare_newline == CONF_BARE_NEWLINE_NORMALIZE,
        .pipelining = conf->smtp.pipelining,
        .chunking = conf->smtp.chunking,
        .smtputf8 = conf->smtp.smtputf8,
    };
    for (unsigned i = 0; i < 2 * RELAY_TLS_KINDS; i++) {
        struct smtp_server_settings *made =
            &relay->server_settings[i / RELAY_TLS_KINDS][i % RELAY_TLS_KINDS];
        *made = settings;
        made->lmtp = i / RELAY_TLS_KINDS == 1;
        made->starttls = i % RELAY_TLS_KINDS != RELAY_TLS_OFF;
        made->tls_only = i % RELAY_TLS_KINDS == RELAY_TLS_REQUIRED;
    }
}

static void message_found(void *owner, struct message *message)
{
    if (MUTATED(DEFERRED_FORGOTTEN) && message->attempts > 0) {
        return;
    }
    relay_schedule(owner, message);
}

int relay_open(struct relay **opened, const struct relay_settings *settings)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    uint64_t seeds[2];
    if (relay == NULL) {
        return -ENOMEM;
    }
    relay->conf = settings->conf;
    relay->shard = settings->shard;
    relay->logger = settings->shard->logger;
    relay->kernel = settings->kernel;
    relay->bypass = settings->bypass;
    relay->tls = settings->tls;
    relay->log = settings->log;
    list_init(&relay->sites);
    list_init(&relay->retired);
    list_init(&relay->dirty);
    list_init(&relay->inbounds);
    list_init(&relay->outbounds);
    list_init(&relay->bounces);
    server_settings(relay, relay->conf);
    world_random(relay->shard->world, seeds, sizeof(seeds));
    relay->clients = client_count_open(seeds[0]);
    relay->sched = sched_open(seeds[1]);
    int status = relay->clients == NULL || relay->sched == NULL ? -ENOMEM : 0;
    if (status == 0) {
        status = sites_open(relay, relay->conf, &relay->sites);
    }
    if (status == 0) {
        const struct spool_settings spool = {
            .message_bytes_max = relay->conf->limits.message_bytes + SMTP_RECEIVED_MAX,
            .draft_count_max = relay->conf->limits.connections,
            .fetch_memory = settings->fetch_memory,
            .fetch_memory_bytes = settings->fetch_memory_bytes,
        };
        status = spool_open(&relay->spool, relay->log, &spool, message_found, relay);
    }
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
    *opened = relay;
    return 0;
}

static void sites_close(struct list_node *sites)
{
    while (!list_empty(sites)) {
        site_free(list_entry(sites->next, struct relay_site, node));
    }
}

void relay_close(struct relay *relay)
{
    for (uint32_t i = 0; i < relay->listener_count; i++) {
        struct relay_listener *at = &relay->listeners[i];
        if (at->listener != NULL) {
            at->network->ops->unlisten(at->network, at->listener);
        }
    }
    free(relay->listeners);
    sites_close(&relay->sites);
    sites_close(&relay->retired);
    if (relay->sched != NULL) {
        sched_close(relay->sched);
    }
    if (relay->spool != NULL) {
        spool_close(relay->spool);
    }
    if (relay->clients != NULL) {
        client_count_close(relay->clients);
    }
    free(relay);
}

static int listener_open(struct relay *relay, const struct conf_listener *from,
                         const struct endpoint *at)
{
    struct relay_listener *listener = &relay->listeners[relay->listener_count];
    char text[ENDPOINT_TEXT_MAX];
    *listener = (struct relay_listener){
        .relay = relay,
        .network = relay_network_to(relay, at),
        .protocol = from->protocol,
        .tls = relay->tls == NULL || relay->tls->server == NULL ? CONF_TLS_OFF : from->tls};
    const struct listen_request request = {
        .at = *at, .unix_mode = from->unix_mode, .accepted = inbound_accepted, .owner = listener};
    endpoint_format(at, text);
    int status = listener->network->ops->listen(listener->network, &request, &listener->listener);
    if (status < 0 && from->by_default) {
        logger_line(relay->logger, LOGGER_WARNING, "listen %s: %s", text, strerror(-status));
        return 0;
    }
    if (status < 0) {
        logger_line(relay->logger, LOGGER_ERROR, "listen %s (%s): %s", text, from->name,
                    strerror(-status));
        return status;
    }
    relay->listener_count++;
    logger_line(relay->logger, LOGGER_INFO, "listening on %s (%s, %s transport)", text, from->name,
                listener->network->transport);
    return 0;
}

int relay_listen(struct relay *relay)
{
    const struct relay_conf *conf = relay->conf;
    uint32_t count = 0;
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        count += conf->listen[i].addresses_count;
    }
    if (count == 0) {
        return 0;
    }
    relay->listeners = calloc(count, sizeof(*relay->listeners));
    if (relay->listeners == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        for (uint32_t j = 0; j < conf->listen[i].addresses_count; j++) {
            const struct endpoint *at = &conf->listen[i].addresses[j];
            if (at->family == ENDPOINT_UNIX && relay->shard->settings.index > 0) {
                continue; /* a path can be bound once: the first shard has it */
            }
            int status = listener_open(relay, &conf->listen[i], at);
            if (status < 0) {
                return status;
            }
        }
    }
    return 0;
}

unsigned relay_round(struct relay *relay, uint64_t now_ns)
{
    unsigned work = 0;
    struct list_node dirty;
    list_init(&dirty);
    list_splice(&dirty, &relay->dirty);
    for (struct list_node *node; (node = list_pop(&dirty)) != NULL;) {
        site_run(list_entry(node, struct relay_site, dirty));
        work++;
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
    return work + spool_round(relay->spool);
}

/* A site goes on when its route leads where it led before. */
static bool route_same(const struct conf_route *a, const struct conf_route *b)
{
    if (strcmp(a->match, b->match) != 0 || a->via != b->via || a->to_count != b->to_count ||
        !endpoint_equal(&a->source, &b->source)) {
        return false;
    }
    for (uint32_t i = 0; i < a->to_count; i++) {
        if (!endpoint_equal(&a->to[i], &b->to[i])) {
            return false;
        }
    }
    return true;
}

static struct relay_site *site_like(struct list_node *sites, const struct conf_route *route)
{
    for (struct list_node *node = sites->next; node != sites; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (route_same(site->route, route)) {
            return site;
        }
    }
    return NULL;
}

void relay_reload(struct relay *relay, const struct relay_conf *conf)
{
    struct list_node before;
    list_init(&before);
    list_splice(&before, &relay->sites);
    relay->conf = conf;
    server_settings(relay, conf);
    if (relay->tls != NULL) {
        relay_tls_reload(relay->tls, conf);
    }
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        const struct conf_route *route = &conf->routes[i];
        struct sched_site_settings settings;
        struct relay_site *site = site_like(&before, route);
        if (site == NULL) {
            if (site_open(relay, conf, route, &relay->sites) < 0) {
                logger_line(relay->logger, LOGGER_ERROR, "relay: out of memory for route %s",
                            route->match);
            }
            continue;
        }
        list_remove(&site->node);
        list_append(&relay->sites, &site->node);
        site->route = route;
        site_settings(conf, route, &settings);
        site_client_settings(site, conf, route);
        sched_site_set(site->sched, &settings);
        relay_site_touch(site);
    }
    for (struct list_node *node; (node = list_pop(&before)) != NULL;) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        list_append(&relay->retired, node);
        site->route = NULL;
        site->client_settings.hostname = slice_text(conf->hostname);
        relay_site_touch(site);
        for (struct list_node *next = site->idle.next; next != &site->idle;) {
            struct outbound *out = outbound_of_idle(next);
            next = next->next;
            outbound_drain(out);
        }
    }
}

void relay_drain(struct relay *relay, uint64_t deadline_ns)
{
    relay->draining = true;
    relay->drain_deadline_ns = deadline_ns;
    for (uint32_t i = 0; i < relay->listener_count; i++) {
        struct relay_listener *at = &relay->listeners[i];
        at->network->ops->unlisten(at->network, at->listener);
        at->listener = NULL;
    }
    struct list_node all;
    list_init(&all);
    list_splice(&all, &relay->inbounds);
    for (struct list_node *node; (node = list_pop(&all)) != NULL;) {
        list_append(&relay->inbounds, node);
        inbound_drain(inbound_of_node(node));
    }
    outbound_drain_all(relay);
    bounce_abandon_all(relay);
}

bool relay_drained(const struct relay *relay)
{
    return relay->draining && list_empty(&relay->inbounds) && list_empty(&relay->outbounds);
}

const struct relay_counters *relay_counters(const struct relay *relay)
{
    return &relay->counters;
}

struct spool *relay_spool(struct relay *relay)
{
    return relay->spool;
}

/* ---- For the operator ---- */

void relay_flush_queue(struct relay *relay)
{
    sched_flush(relay->sched);
    for (struct list_node *node = relay->sites.next; node != &relay->sites; node = node->next) {
        relay_site_touch(list_entry(node, struct relay_site, node));
    }
}

int relay_delete(struct relay *relay, uint64_t message_id)
{
    struct message *message = spool_find(relay->spool, message_id);
    if (message == NULL) {
        return -ENOENT;
    }
    int status = sched_delete(message);
    if (status < 0) {
        return status;
    }
    uint32_t count = message->recipient_count;
    spool_message_hold(message);
    for (uint32_t i = 0; i < count; i++) {
        if (message->recipients[i].state == RECIPIENT_WAITING) {
            spool_recipient_finished(relay->spool, message, i, RECIPIENT_FAILED);
        }
    }
    spool_message_release(relay->spool, message);
    return 0;
}

void relay_view_recipient(struct relay *relay, const struct message *message, uint32_t index,
                          struct relay_recipient_view *view)
{
    struct sched_view found;
    *view = (struct relay_recipient_view){0};
    if (!sched_view(message, index, &found)) {
        view->active = true; /* its report is being written */
        return;
    }
    uint64_t now_ns = relay->shard->now_ns;
    view->active = found.active;
    view->reason = found.reason;
    view->next_attempt_s =
        found.next_attempt_ns > now_ns ? (found.next_attempt_ns - now_ns) / 1000000000ull : 0;
}
