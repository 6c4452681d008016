#include "engine/core/mutation.h"
#include "engine/relay/bounce.h"
#include "engine/relay/outbound_private.h"
#include <stdio.h>
#include <stdlib.h>

#define OUTBOUND_FETCH_RETRY_NS 10000000ull /* fetch memory was out */

/* ---- The fate of recipients ---- */

static struct relay_outcome *outcome_add(struct outbound *out)
{
    if (out->outcome_count == out->outcome_size) {
        uint32_t size = out->outcome_size == 0 ? 2 : out->outcome_size * 2;
        struct relay_outcome *grown = realloc(out->outcomes, size * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        out->outcomes = grown;
        out->outcome_size = size;
    }
    struct relay_outcome *failure = &out->outcomes[out->outcome_count++];
    *failure = (struct relay_outcome){0};
    return failure;
}

/* "450 ", to stand before the text; nothing where no server has spoken: a connection was lost, or we decided. */
static void code_format(const struct smtp_client_result *result, char code[8])
{
    code[0] = '\0';
    if (result->code != 0) {
        snprintf(code, 8, "%u ", result->code);
    }
}

static void line_log(struct outbound *out, uint32_t index, const struct smtp_client_result *result,
                     const char *status)
{
    static const enum logger_level levels[] = {LOGGER_DEBUG, LOGGER_INFO, LOGGER_INFO};
    struct relay *relay = out->relay;
    enum logger_level level = levels[result->outcome];
    if (relay->logger->level < level) {
        return;
    }
    const struct message *message = out->delivery->message;
    struct slice path = message_forward_path(message, index);
    char id[MESSAGE_ID_TEXT];
    char remote[ENDPOINT_TEXT_MAX];
    char dsn[SMTP_STATUS_TEXT_MAX], code[8];
    message_id_format(message->id, id);
    endpoint_format(&out->hop.to, remote);
    smtp_status_format(&result->status, dsn);
    code_format(result, code);
    logger_line(relay->logger, level, "%s: %s: to=<%.*s>, relay=%s, dsn=%s, status=%s (%s%.*s)",
                out->site->lmtp ? "lmtp" : "smtp", id, (int)path.size, (const char *)path.bytes,
                remote, dsn, status, code, (int)result->text.size,
                (const char *)result->text.bytes);
}

/* RFC 3461 §9.3: a host has a name, or is an address literal. Behind a socket of ours there are we. */
static void remote_fill(const struct outbound *out, struct relay_outcome *outcome)
{
    const struct relay_hop *hop = &out->hop;
    char address[ENDPOINT_TEXT_MAX];
    endpoint_format_address(&hop->to, address);
    const char *name = hop->destination != NULL          ? hop->destination->hosts[hop->host].name
                       : hop->to.family == ENDPOINT_UNIX ? out->relay->conf->hostname
                                                         : NULL;
    if (name != NULL) {
        snprintf(outcome->remote, sizeof(outcome->remote), "%s", name);
        snprintf(outcome->address, sizeof(outcome->address), "%s", address);
    } else {
        snprintf(outcome->remote, sizeof(outcome->remote), "[%s%s]",
                 hop->to.family == ENDPOINT_IPV6 ? "IPv6:" : "", address);
    }
}

static void outcome_fill(struct outbound *out, struct relay_outcome *failure, uint32_t index,
                         const struct smtp_client_result *result)
{
    failure->index = index;
    failure->status = result->status;
    failure->code = result->code;
    if ((result->flags & SMTP_CLIENT_DECIDED_HERE) == 0) {
        remote_fill(out, failure);
    }
    snprintf(failure->text, sizeof(failure->text), "%.*s", (int)result->text.size,
             (const char *)result->text.bytes);
}

/* Whoever wants to know is told by the server, where that makes reports; else by us. True: by us. */
static bool success_note(struct outbound *out, uint32_t index,
                         const struct smtp_client_result *result)
{
    if (!bounce_success_wanted(out->delivery->message, index) ||
        smtp_client_passes_dsn(&out->client)) {
        return false;
    }
    enum dsn_action action = out->site->lmtp ? DSN_DELIVERED : DSN_RELAYED;
    struct relay_outcome *outcome = outcome_add(out);
    if (outcome == NULL) {
        bounce_owe(out->relay, out->delivery->message, index, action);
        return true;
    }
    outcome_fill(out, outcome, index, result);
    outcome->action = (uint8_t)action;
    return true;
}

/* The connection ended before this delivery could be judged, and had worked before: not the message's fault. */
static bool returned_unjudged(const struct outbound *out, const struct smtp_client_result *result)
{
    return (result->flags & SMTP_CLIENT_CONNECTION_FAILED) &&
           result->stage <= SMTP_CLIENT_AT_MAIL && out->delivery_count > 1;
}

void outbound_result_take(struct outbound *out, const struct smtp_client_result *result)
{
    uint32_t index = sched_indexes(out->delivery)[result->index];
    struct relay_counters *counters = &out->relay->counters;
    uint8_t *fate = &out->fates[result->index];
    char code[8];
    check(*fate == FATE_OPEN);
    out->open_count--;
    if ((result->flags & SMTP_CLIENT_SUSPECT_PIPELINING) && out->site->client_settings.pipelining) {
        out->site->client_settings.pipelining = false; /* until the configuration is read again */
        logger_line(out->relay->logger, LOGGER_WARNING,
                    "smtp: the site does not bear PIPELINING; going on without it");
    }
    switch ((enum smtp_client_outcome)result->outcome) {
    case SMTP_CLIENT_ACCEPTED:
        *fate = success_note(out, index, result) ? FATE_TOLD : FATE_DELIVERED;
        counters->delivered++;
        line_log(out, index, result, "sent");
        return;
    case SMTP_CLIENT_TEMPORARY:
        *fate = returned_unjudged(out, result) ? FATE_RETURNED : FATE_DEFERRED;
        *fate = MUTATED(DEFERRED_IS_DELIVERED) ? FATE_DELIVERED : *fate;
        counters->deferred += *fate == FATE_DEFERRED;
        code_format(result, code);
        snprintf(out->reason, sizeof(out->reason), "%s%.*s", code, (int)result->text.size,
                 (const char *)result->text.bytes);
        line_log(out, index, result, "deferred");
        return;
    case SMTP_CLIENT_PERMANENT: {
        struct relay_outcome *failure = outcome_add(out);
        if (failure == NULL) { /* no memory for the report: the next attempt says it again */
            *fate = FATE_DEFERRED;
            return;
        }
        *fate = FATE_FAILED;
        outcome_fill(out, failure, index, result);
        line_log(out, index, result, "bounced");
        return;
    }
    }
}

/* Collects the indexes with a fate at the front of `indexes`; returns how many. */
static uint32_t fates_collect(const struct outbound *out, enum outbound_fate fate,
                              uint32_t *indexes)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < out->delivery->count; i++) {
        if (out->fates[i] == fate) {
            indexes[count++] = sched_indexes(out->delivery)[i];
        }
    }
    return count;
}

/* Too old to wait again. False: memory is short, they are to wait all the same. */
static bool expire(struct outbound *out, const uint32_t *indexes, uint32_t count)
{
    struct relay_outcome *failures = calloc(count, sizeof(*failures));
    for (uint32_t i = 0; i < count && failures != NULL; i++) {
        bounce_expired(&failures[i], indexes[i], slice_text(out->reason));
    }
    bool is_told =
        failures != NULL && bounce_send(out->relay, out->delivery->message, failures, count) == 0;
    free(failures);
    return is_told;
}

/* Puts the waiting ones back with the scheduler. True when it still has the delivery. */
static bool deferred_put_back(struct outbound *out, uint32_t *indexes)
{
    struct relay *relay = out->relay;
    struct sched_delivery *delivery = out->delivery;
    uint32_t returned = fates_collect(out, FATE_RETURNED, indexes);
    if (returned > 0 &&
        out->site->route != NULL) { /* all of a connection's recipients are returned, or none */
        sched_return(delivery, indexes, returned);
        return true;
    }
    uint32_t deferred = returned > 0 ? returned : fates_collect(out, FATE_DEFERRED, indexes);
    if (deferred == 0) {
        return false;
    }
    if (out->site->route == NULL) {
        struct message *message = delivery->message;
        uint32_t attempts = delivery->attempts + 1;
        sched_done(delivery);
        out->delivery = NULL;
        relay_file(relay, message, indexes, deferred, attempts);
        return true;
    }
    uint64_t now_ns = relay->shard->now_ns;
    if (sched_defer(delivery, now_ns, indexes, deferred, slice_text(out->reason)) ==
        SCHED_DEFERRED) {
        spool_note_attempt(relay->spool, delivery->message, world_wall_s(relay->shard->world));
        return true;
    }
    if (expire(out, indexes, deferred)) {
        return false;
    }
    sched_return(delivery, indexes, deferred);
    return true;
}

/* Of the outcomes those that have failed come first; returns how many. */
static uint32_t failures_sort(struct outbound *out)
{
    uint32_t failed = 0;
    for (uint32_t i = 0; i < out->outcome_count; i++) {
        struct relay_outcome outcome = out->outcomes[i];
        if (outcome.action == DSN_FAILED) {
            out->outcomes[i] = out->outcomes[failed];
            out->outcomes[failed++] = outcome;
        }
    }
    return failed;
}

/* The sender is told, or, when memory is short, the next attempt says it again. */
static void failures_tell(struct outbound *out, uint32_t failed)
{
    if (failed == 0 ||
        bounce_send(out->relay, out->delivery->message, out->outcomes, failed) == 0) {
        return;
    }
    snprintf(out->reason, sizeof(out->reason), "%.190s", out->outcomes[0].text);
    for (uint32_t i = 0; i < out->delivery->count; i++) {
        out->fates[i] = out->fates[i] == FATE_FAILED ? FATE_DEFERRED : out->fates[i];
    }
}

void outbound_delivery_settle(struct outbound *out)
{
    struct relay *relay = out->relay;
    struct sched_delivery *delivery = out->delivery;
    struct message *message = delivery->message;
    uint32_t indexes_inline[OUTBOUND_RECIPIENTS_INLINE];
    uint32_t *indexes = indexes_inline;
    uint32_t *delivered = NULL;
    uint32_t few[OUTBOUND_RECIPIENTS_INLINE];
    uint32_t count = delivery->count;
    check(out->open_count == 0);
    if (count > OUTBOUND_RECIPIENTS_INLINE) {
        indexes = malloc(2 * count * sizeof(*indexes));
        check(indexes != NULL);
    }
    delivered = count > OUTBOUND_RECIPIENTS_INLINE ? indexes + count : few;
    uint32_t delivered_count = fates_collect(out, FATE_DELIVERED, delivered);
    uint32_t failed = failures_sort(out);
    spool_message_hold(message);
    failures_tell(out, failed);
    if (!deferred_put_back(out, indexes)) {
        sched_done(delivery);
    }
    out->delivery = NULL;
    for (uint32_t i = 0; i < delivered_count; i++) {
        spool_recipient_finished(relay->spool, message, delivered[i], RECIPIENT_DELIVERED);
    }
    if (out->outcome_count > failed) {
        bounce_served(relay, message, out->outcomes + failed, out->outcome_count - failed);
    }
    out->outcome_count = 0;
    spool_message_release(relay->spool, message);
    if (indexes != indexes_inline) {
        free(indexes);
    }
    relay_site_touch(out->site);
}

/* ---- One delivery ---- */

static int recipients_reserve(struct outbound *out, uint32_t count)
{
    if (count <= out->recipient_size) {
        return 0;
    }
    struct smtp_client_recipient *recipients = calloc(count, sizeof(*recipients));
    uint8_t *fates = calloc(count, 1);
    if (recipients == NULL || fates == NULL) {
        free(recipients);
        free(fates);
        return -ENOMEM;
    }
    if (out->recipients != out->recipients_inline) {
        free(out->recipients);
        free(out->fates);
    }
    out->recipients = recipients;
    out->fates = fates;
    out->recipient_size = count;
    return 0;
}

bool outbound_delivery_begin(struct outbound *out, struct sched_delivery *delivery)
{
    struct message *message = delivery->message;
    const uint32_t *indexes = sched_indexes(delivery);
    if (recipients_reserve(out, delivery->count) < 0) {
        sched_return(delivery, indexes, delivery->count);
        return false;
    }
    for (uint32_t i = 0; i < delivery->count; i++) {
        uint32_t index = indexes[MUTATED(RECIPIENTS_SWAPPED) ? delivery->count - 1 - i : i];
        out->recipients[i] =
            (struct smtp_client_recipient){.forward_path = message_forward_path(message, index),
                                           .orcpt = message_orcpt(message, index),
                                           .notify = message_notify(message, index)};
        out->fates[i] = FATE_OPEN;
    }
    out->delivery = delivery;
    out->open_count = delivery->count;
    out->outcome_count = 0;
    out->reason[0] = '\0'; /* not that of the delivery before */
    out->body_offset = 0;
    out->delivery_count++;
    out->relay->counters.deliveries++;
    out->started_ns = out->relay->shard->now_ns;
    const struct smtp_client_message request = {
        .reverse_path = message_reverse_path(message),
        .flags = ((message_flags(message) & SPOOL_8BITMIME) ? SMTP_CLIENT_8BITMIME : 0u) |
                 ((message_flags(message) & SPOOL_SMTPUTF8) ? SMTP_CLIENT_SMTPUTF8 : 0u) |
                 SMTP_CLIENT_NAMES_ORIGINAL, /* what was rewritten has its ORCPT since then */
        .recipient_count = delivery->count,
        .body_bytes = message->body_bytes,
        .recipients = out->recipients,
        .envid = message_envid(message),
        .ret = (uint8_t)message_ret(message),
    };
    smtp_client_begin(&out->client, &request, out->relay->shard->now_ns);
    return true;
}

static void body_fetched(struct spool_waiter *waiter, int status)
{
    struct outbound *out = list_entry(waiter, struct outbound, fetch.waiter);
    (void)status; /* spool_read says it again */
    out->fetching = false;
    outbound_go_on(out);
}

uint64_t outbound_body_left(const struct outbound *out)
{
    return out->delivery != NULL ? out->delivery->message->body_bytes - out->body_offset : 0;
}

bool outbound_body_pump(struct outbound *out)
{
    struct relay *relay = out->relay;
    struct message *message = out->delivery->message;
    while (out->body_offset < message->body_bytes) {
        struct slice piece;
        struct ref *owner;
        if (out->fetching || out->lost) {
            return false;
        }
        out->fetch.waiter.done = body_fetched;
        int status =
            spool_read(relay->spool, message, out->body_offset, &piece, &owner, &out->fetch);
        if (status == -EINPROGRESS) {
            out->fetching = true;
            return false;
        }
        if (status == -EAGAIN) {
            wheel_arm(relay->shard->wheel, &out->timer,
                      relay->shard->now_ns + OUTBOUND_FETCH_RETRY_NS);
            return false;
        }
        if (status < 0) {
            logger_line(relay->logger, LOGGER_ERROR, "spool: a message cannot be read: %s",
                        strerror(-status));
            smtp_client_closed(&out->client, "the message could not be read");
            out->lost = true;
            stream_abort(out->stream);
            return false;
        }
        status = stream_write_ref(out->stream, piece, owner);
        ref_drop(owner);
        if (status < 0) {
            return false;
        }
        out->body_offset += piece.size;
        relay->counters.bytes_out += piece.size;
    }
    smtp_client_body_sent(&out->client, relay->shard->now_ns);
    return true;
}
