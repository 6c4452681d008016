#include "engine/relay/relay_direct.h"
#include "engine/relay/bounce.h"
#include "engine/relay/relay_domain.h"
#include "engine/relay/relay_hops.h"
#include "engine/relay/relay_parking.h"
#include "engine/relay/relay_part.h"
#include "engine/relay/relay_way.h"
#include <stdio.h>
#include <stdlib.h>

#define LOBBY_BATCH 256u                      /* deliveries in one round */
#define LOBBY_RETRY_NS (10ull * 1000000ull)   /* resolve or memory had no room */
#define NEXT_MOST 64u                         /* that belong elsewhere, in one call */
#define REVIEW_REST_NS (1000ull * 1000000ull) /* a destination counts as fresh at least this long */

/* ---- Those that need no server ---- */

/* As outbound says it of those that do. */
static void fate_log(const struct relay *relay, const struct message *message,
                     const uint32_t *indexes, uint32_t count, const char *agent, const char *status,
                     const char *text)
{
    char id[MESSAGE_ID_TEXT];
    if (relay->logger->level < LOGGER_INFO) {
        return;
    }
    message_id_format(message->id, id);
    for (uint32_t i = 0; i < count; i++) {
        struct slice path = message_forward_path(message, indexes[i]);
        logger_line(relay->logger, LOGGER_INFO, "%s: %s: to=<%.*s>, relay=none, %s (%s)", agent, id,
                    (int)path.size, (const char *)path.bytes, status, text);
    }
}

void relay_delivery_defer(struct relay *relay, struct sched_delivery *delivery,
                          const uint32_t *indexes, uint32_t count, const char *dsn,
                          const char *text)
{
    char status[64];
    snprintf(status, sizeof(status), "dsn=%s, status=deferred", dsn);
    fate_log(relay, delivery->message, indexes, count, "smtp", status, text);
    relay->counters.deferred += count;
    relay_site_touch(
        sched_site_owner(sched_site_of(delivery))); /* when it is due next has changed */
    if (sched_defer(delivery, relay->shard->now_ns, indexes, count, slice_text(text)) ==
        SCHED_EXPIRED) {
        relay_delivery_expire(relay, delivery);
        return;
    }
    spool_note_attempt(relay->spool, delivery->message, world_wall_s(relay->shard->world));
}

static void delivery_defer(struct relay *relay, struct sched_delivery *delivery, const char *dsn,
                           const char *text)
{
    relay_delivery_defer(relay, delivery, sched_indexes(delivery), delivery->count, dsn, text);
}

static void delivery_discard(struct relay *relay, struct sched_delivery *delivery)
{
    struct message *message = delivery->message;
    uint32_t count = delivery->count;
    struct relay_outcome *outcomes = calloc(count, sizeof(*outcomes));
    if (outcomes == NULL) {
        delivery_defer(relay, delivery, "4.3.0", "out of memory");
        return;
    }
    fate_log(relay, message, sched_indexes(delivery), count, "discard", "dsn=2.0.0, status=sent",
             "discarded");
    for (uint32_t i = 0; i < count; i++) {
        outcomes[i] = (struct relay_outcome){.index = sched_indexes(delivery)[i],
                                             .action = DSN_DELIVERED,
                                             .status = {2, 0, 0},
                                             .text = "discarded"};
    }
    relay->counters.delivered += count;
    sched_done(delivery);
    bounce_served(relay, message, outcomes, count);
    free(outcomes);
}

/* It cannot be delivered, ever. like: what to report of each recipient. */
static void delivery_fail(struct relay *relay, struct sched_delivery *delivery, const char *agent,
                          const struct relay_outcome *like)
{
    struct message *message = delivery->message;
    uint32_t count = delivery->count;
    struct relay_outcome *failures = calloc(count, sizeof(*failures));
    char dsn[SMTP_STATUS_TEXT_MAX], status[64];
    if (failures == NULL) {
        delivery_defer(relay, delivery, "4.3.0", "out of memory");
        return;
    }
    smtp_status_format(&like->status, dsn);
    snprintf(status, sizeof(status), "dsn=%s, status=bounced", dsn);
    fate_log(relay, message, sched_indexes(delivery), count, agent, status, like->text);
    for (uint32_t i = 0; i < count; i++) {
        failures[i] = *like;
        failures[i].index = sched_indexes(delivery)[i];
    }
    spool_message_hold(message);
    if (bounce_send(relay, message, failures, count) < 0) {
        delivery_defer(relay, delivery, "4.3.0", "out of memory");
    } else {
        sched_done(delivery);
    }
    spool_message_release(relay->spool, message);
    free(failures);
}

static void delivery_refuse(struct relay *relay, struct sched_delivery *delivery,
                            const struct conf_route *route)
{
    struct relay_outcome failure = {.code = route->reply_code};
    unsigned class = 5, subject = 0, detail = 0;
    sscanf(route->reply_status, "%u.%u.%u", &class, &subject, &detail);
    failure.status = (struct smtp_status){5, (uint16_t)subject, (uint16_t)detail};
    snprintf(failure.text, sizeof(failure.text), "%s", route->reply_text);
    if (class == 4) {
        delivery_defer(relay, delivery, route->reply_status, route->reply_text);
        return;
    }
    delivery_fail(relay, delivery, "error", &failure);
}

/* ---- By the destination ---- */

/* Why none of the hosts can be used now, or NULL: the first that policy forbids speaks for all. */
static const char *hosts_trouble(const struct conf_route *route,
                                 const struct destination *destination, const char **dsn)
{
    const char *forbidden = NULL, *why;
    for (uint32_t i = 0; i < destination->host_count; i++) {
        if (relay_host_usable(route, destination, i, &why)) {
            return NULL;
        }
        forbidden = forbidden != NULL ? forbidden : why;
    }
    *dsn = forbidden != NULL ? "4.7.5" : "4.4.3";
    return forbidden != NULL ? forbidden
                             : "Addresses of the domain's mail servers cannot be looked up";
}

static void destination_fail(struct relay *relay, struct sched_delivery *delivery,
                             const struct destination *destination)
{
    struct relay_outcome failure = {.status = {(uint8_t)destination->enhanced_class,
                                               destination->enhanced_subject,
                                               destination->enhanced_detail}};
    char dsn[SMTP_STATUS_TEXT_MAX];
    snprintf(failure.text, sizeof(failure.text), "%s",
             destination->text != NULL ? destination->text : "Host or domain name not found");
    if (destination->status == DESTINATION_TEMPORARY || destination->status == DESTINATION_BOGUS) {
        smtp_status_format(&failure.status, dsn);
        delivery_defer(relay, delivery, dsn, failure.text);
    } else {
        delivery_fail(relay, delivery, "smtp", &failure);
    }
}

/* Does the delivery belong to the site where it is, and can that be reached by what is known now? */
static bool stays(struct relay_site *site, struct destination *destination)
{
    if (!relay_site_holds(site, destination) ||
        (destination != site->destination && relay_hop_count(site->route, destination) == 0)) {
        return false;
    }
    relay_site_refresh(site, destination);
    return true;
}

/* Of mail that comes from a lobby: it may have been rerouted by the name of the site that it would go to. */
static struct relay_site *detour_of(void *owner, const struct message *message, uint32_t index)
{
    struct relay_site *natural = owner;
    return relay_detour_of(natural->relay, message, index, natural);
}

static bool goes_elsewhere(struct relay_site *site, struct sched_delivery *delivery)
{
    const struct relay_site *lobby = sched_site_owner(sched_site_of(delivery));
    const struct relay_part_choice choice = {.where = detour_of, .owner = site};
    return lobby->lobby && relay_detour_may_be(site->relay, delivery->message) &&
           relay_part_by(delivery, &choice);
}

void relay_direct(struct relay *relay, struct sched_delivery *delivery,
                  struct destination *destination)
{
    struct relay_site *site = sched_site_owner(sched_site_of(delivery));
    const char *dsn = "4.4.3", *trouble;
    if (site->route == NULL) { /* retired while it waited: filed anew, as all that is there */
        sched_move(delivery, sched_site_of(delivery));
        relay_site_touch(site);
        return;
    }
    if (destination->status != DESTINATION_OK) {
        destination_fail(relay, delivery, destination);
        return;
    }
    trouble = hosts_trouble(site->route, destination, &dsn);
    if (trouble != NULL) {
        delivery_defer(relay, delivery, dsn, trouble);
        return;
    }
    if (!stays(site, destination)) {
        site = relay_site_of_destination(relay, site->route, destination);
    }
    if (site == NULL) {
        delivery_defer(relay, delivery, "4.3.2", "Too many destinations at once, or out of memory");
        return;
    }
    if (goes_elsewhere(site, delivery)) {
        return;
    }
    relay_site_touch(sched_site_owner(sched_site_of(delivery))); /* it need not wake for this one */
    sched_move(delivery, site->sched);
    relay_site_touch(site);
}

/* ---- Whose turn it is ---- */

enum direction {
    STAYS,   /* at its site: an attempt may be made */
    GONE,    /* on its way elsewhere, or waiting for an answer */
    NOT_NOW, /* there is no room to ask */
};

static enum direction domain_ask(struct relay_site *site, struct sched_delivery *delivery)
{
    struct relay *relay = site->relay;
    struct slice path = message_forward_path(delivery->message, sched_indexes(delivery)[0]);
    struct destination *destination = NULL;
    struct relay_domain *domain = NULL;
    int status = relay_domain_ask(relay, site->route, relay_domain_for(relay, site->route, path),
                                  &destination, &domain);
    if (status == -EINPROGRESS) {
        return relay_domain_wait(domain, delivery) == 0 ? GONE : NOT_NOW;
    }
    if (status == -ENOTSUP) {
        delivery_defer(relay, delivery, "4.4.3", "No DNS is configured");
        return GONE;
    }
    if (status < 0) {
        return NOT_NOW;
    }
    enum direction direction = GONE;
    if (stays(site, destination)) {
        direction = STAYS;
    } else {
        relay_direct(relay, delivery, destination);
    }
    destination_drop(destination);
    return direction;
}

/* By the transport maps, then by the domain. */
static enum direction delivery_ask(struct relay_site *site, struct sched_delivery *delivery)
{
    switch (relay_way_ask(site, delivery)) {
    case RELAY_WAY_STAYS:
        return site->destination != NULL ? domain_ask(site, delivery) : STAYS;
    case RELAY_WAY_GONE:
        return GONE;
    case RELAY_WAY_NOT_NOW:
        break;
    }
    return NOT_NOW;
}

static enum direction delivery_look(struct relay_site *site, struct sched_delivery *delivery)
{
    if (relay_way_due(site->relay, delivery)) {
        return delivery_ask(site, delivery);
    }
    return site->destination != NULL ? domain_ask(site, delivery) : STAYS;
}

struct sched_delivery *relay_site_next(struct relay_site *site)
{
    for (unsigned i = 0; i < NEXT_MOST; i++) {
        struct sched_delivery *delivery = sched_next(site->sched, site->relay->shard->now_ns);
        if (delivery != NULL && relay_parking_takes(site, delivery)) {
            continue;
        }
        if (delivery == NULL || delivery_look(site, delivery) !=
                                    GONE) { /* no room to ask: what was known is good enough */
            return delivery;
        }
    }
    relay_site_touch(site);
    return NULL;
}

bool relay_site_reviewed(struct relay_site *site)
{
    uint64_t now_ns = site->relay->shard->now_ns;
    bool asks = site->destination != NULL || relay_ways_used(site->relay);
    if (!asks || site->connections > 0) {
        site->review_count = 0;
        return true;
    }
    if (site->review_count == 0) {
        struct sched_site_counts counts;
        if (site->fresh_until_ns > now_ns) {
            return true;
        }
        sched_site_counts(site->sched, &counts);
        site->review_count = counts.ready;
        site->fresh_until_ns = relay_ways_fresh_until(site->relay);
    }
    for (unsigned i = 0; i < LOBBY_BATCH && site->review_count > 0; i++) {
        struct sched_delivery *delivery = sched_next(site->sched, now_ns);
        site->review_count = delivery == NULL ? 0 : site->review_count - 1;
        if (delivery != NULL && !relay_parking_takes(site, delivery) &&
            delivery_ask(site, delivery) != GONE) {
            sched_move(delivery, site->sched); /* behind those that were not looked at yet */
        }
    }
    if (site->review_count > 0) {
        relay_site_touch(site);
        return false;
    }
    if (site->fresh_until_ns < now_ns + REVIEW_REST_NS) {
        site->fresh_until_ns = now_ns + REVIEW_REST_NS;
    }
    return true;
}

static enum direction lobby_take(struct relay_site *lobby, struct sched_delivery *delivery)
{
    bool waits_for_maps = lobby->route == &lobby->relay->conf->route_standard;
    if (waits_for_maps || relay_way_due(lobby->relay, delivery)) {
        switch (relay_way_ask(lobby, delivery)) {
        case RELAY_WAY_STAYS:
            break;
        case RELAY_WAY_GONE:
            return GONE;
        case RELAY_WAY_NOT_NOW:
            return NOT_NOW;
        }
    }
    switch ((enum conf_via)lobby->route->via) {
    case CONF_VIA_DISCARD:
        delivery_discard(lobby->relay, delivery);
        return GONE;
    case CONF_VIA_ERROR:
        delivery_refuse(lobby->relay, delivery, lobby->route);
        return GONE;
    case CONF_VIA_SMTP:
    case CONF_VIA_LMTP:
    case CONF_VIA_MX:
        break;
    }
    return domain_ask(lobby, delivery);
}

uint64_t relay_lobby_run(struct relay_site *lobby)
{
    struct relay *relay = lobby->relay;
    uint64_t now_ns = relay->shard->now_ns;
    for (unsigned i = 0; i < LOBBY_BATCH; i++) {
        struct sched_delivery *delivery = sched_next(lobby->sched, now_ns);
        if (delivery == NULL) {
            return now_ns;
        }
        if (!relay_parking_takes(lobby, delivery) && lobby_take(lobby, delivery) == NOT_NOW) {
            sched_return(delivery, sched_indexes(delivery), delivery->count);
            return now_ns + LOBBY_RETRY_NS;
        }
    }
    relay_site_touch(lobby);
    return now_ns;
}
