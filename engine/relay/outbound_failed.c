#include "engine/relay/outbound_private.h"
#include "engine/relay/relay_hops.h"
#include <stdio.h>

/* What is said when a site rests: as many deliveries as were tried, but a dead site that has many connections, or
 * many recipients of one message, must not fill the log. */
#define TRIED_MOST 32u
#define RECIPIENTS_MOST 100u /* of one delivery */

/* One failure, as Postfix says it. */
struct unreached {
    char relay[ENDPOINT_TEXT_MAX]; /* who was spoken to, or none */
    char status[SMTP_STATUS_TEXT_MAX];
    char text[SCHED_REASON_BYTES_MAX];
};

/* Our own judgement of what the server is, or shows: no reply of its own says so. */
static bool is_insecure(const struct smtp_client_result *failure)
{
    return failure->code == 0 && failure->status.subject == 7;
}

static void unreached_describe(const struct outbound *out, const struct smtp_client_result *failure,
                               struct unreached *unreached)
{
    char remote[ENDPOINT_TEXT_MAX];
    struct smtp_status status = failure->status;
    const char *text = (const char *)failure->text.bytes;
    int size = (int)failure->text.size;
    endpoint_format(&out->hop.to, remote);
    snprintf(unreached->relay, sizeof(unreached->relay), "%s", out->connected ? remote : "none");
    status.class = 4; /* another day, or another host of the same site, may greet us otherwise */
    if (is_insecure(failure)) {
        snprintf(unreached->text, sizeof(unreached->text), "%.*s", size, text);
    } else if (failure->code != 0) {
        snprintf(unreached->text, sizeof(unreached->text), "host %s refused to talk to me: %u %.*s",
                 remote, failure->code, size, text);
    } else if (out->connected) {
        snprintf(unreached->text, sizeof(unreached->text), "conversation with %s: %.*s", remote,
                 size, text);
    } else {
        status = (struct smtp_status){4, 4, 1}; /* RFC 3463 §3.5: no answer from host */
        snprintf(unreached->text, sizeof(unreached->text), "connect to %s: %.*s", remote, size,
                 text);
    }
    smtp_status_format(&status, unreached->status);
}

static void delivery_log(const struct relay_site *site, const struct sched_delivery *delivery,
                         const struct unreached *unreached)
{
    struct logger *logger = site->relay->logger;
    const char *agent = site->lmtp ? "lmtp" : "smtp";
    const struct message *message = delivery->message;
    char id[MESSAGE_ID_TEXT];
    uint32_t count = delivery->count < RECIPIENTS_MOST ? delivery->count : RECIPIENTS_MOST;
    message_id_format(message->id, id);
    for (uint32_t i = 0; i < count; i++) {
        struct slice to = message_forward_path(message, sched_indexes(delivery)[i]);
        logger_line(logger, LOGGER_INFO,
                    "%s: %s: to=<%.*s>, relay=%s, dsn=%s, status=deferred (%s)", agent, id,
                    (int)to.size, (const char *)to.bytes, unreached->relay, unreached->status,
                    unreached->text);
    }
    if (count < delivery->count) {
        logger_line(logger, LOGGER_INFO, "%s: %s: %u more recipients deferred for the same reason",
                    agent, id, delivery->count - count);
    }
}

/* The site rests: those for whom the connections were opened are deferred with it. */
static void deliveries_say(struct relay_site *site, const struct unreached *unreached,
                           uint32_t tried)
{
    struct relay *relay = site->relay;
    const struct sched_delivery *deliveries[TRIED_MOST];
    uint32_t count = sched_turns(site->sched, deliveries, tried < TRIED_MOST ? tried : TRIED_MOST);
    for (uint32_t i = 0; i < count; i++) {
        relay->counters.deferred_unreached += deliveries[i]->count;
        if (relay->logger->level >= LOGGER_INFO) {
            delivery_log(site, deliveries[i], unreached);
        }
    }
}

void outbound_connect_failed(const struct outbound *out, const struct smtp_client_result *failure)
{
    struct relay *relay = out->relay;
    struct relay_site *site = out->site;
    struct unreached unreached;
    const struct smtp_client_result lost = {.status = {4, 4, 2},
                                            .text = slice_text("connection lost")};
    failure = failure != NULL ? failure : &lost;
    bool insecure = is_insecure(failure);
    char remote[ENDPOINT_TEXT_MAX], reason[SMTP_STATUS_TEXT_MAX + SCHED_REASON_BYTES_MAX];
    endpoint_format(&out->hop.to, remote);
    unreached_describe(out, failure, &unreached);
    snprintf(reason, sizeof(reason), "%s%s%s", insecure ? unreached.status : "",
             insecure ? " " : "", unreached.text);
    relay->counters.connections_out_failed++;
    relay->counters.connections_out_insecure += insecure;
    logger_line(relay->logger, LOGGER_INFO, "connect to %s: %s%s%.*s", remote,
                insecure ? unreached.status : "", insecure ? " " : "", (int)failure->text.size,
                (const char *)failure->text.bytes);
    uint32_t tried = sched_connection_failed(site->sched, relay->shard->now_ns, slice_text(reason));
    if (!out->draining) { /* when it was we who left, nothing was tried */
        deliveries_say(site, &unreached, tried);
    }
    relay_hop_failed(site, &out->hop);
}

void outbound_no_hop(struct relay_site *site, const char *status, const char *why)
{
    struct unreached unreached = {.relay = "none"};
    snprintf(unreached.status, sizeof(unreached.status), "%s", status);
    snprintf(unreached.text, sizeof(unreached.text), "%s", why);
    uint32_t tried =
        sched_connection_failed(site->sched, site->relay->shard->now_ns, slice_text(why));
    deliveries_say(site, &unreached, tried);
}
