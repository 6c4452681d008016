#include "engine/relay/outbound.h"
#include "engine/core/mutation.h"
#include "engine/relay/bounce.h"
#include "engine/relay/relay_hops.h"
#include <stdio.h>
#include <stdlib.h>

#define OUTBOUND_RECIPIENTS_INLINE 4
#define OUTBOUND_FETCH_RETRY_NS 10000000ull /* fetch memory was out */

/* What became of one recipient in this transaction. */
enum outbound_fate { FATE_OPEN, FATE_DELIVERED, FATE_DEFERRED, FATE_RETURNED, FATE_FAILED };

struct outbound {
    struct list_node node; /* in relay->outbounds */
    struct list_node idle; /* in site->idle */
    struct relay *relay;
    struct relay_site *site;
    struct stream *stream;
    struct relay_hop hop;
    bool greeted;  /* the scheduler was told that it is open */
    bool draining; /* no further delivery */
    bool lost;     /* the stream has closed */
    struct timer timer;
    uint64_t idle_until_ns;
    uint32_t delivery_count; /* on this connection */

    /* The delivery under way. */
    struct sched_delivery *delivery;
    uint32_t recipient_size;
    struct smtp_client_recipient *recipients;
    uint8_t *fates;
    uint32_t open_count; /* recipients without a fate */
    struct relay_failure *failures;
    uint32_t failure_count, failure_size;
    char reason[SCHED_REASON_BYTES_MAX]; /* of the last that was deferred */
    uint64_t body_offset;
    bool fetching;
    struct spool_fetch fetch;
    uint64_t started_ns;

    struct smtp_client client;
    struct smtp_client_recipient recipients_inline[OUTBOUND_RECIPIENTS_INLINE];
    uint8_t fates_inline[OUTBOUND_RECIPIENTS_INLINE];
};

/* What a step of the dialogue leads to. After STEP_ENDED the session is gone. */
enum outbound_step { STEP_AGAIN, STEP_WAIT, STEP_ENDED };

static enum outbound_step outbound_run(struct outbound *out);

struct outbound *outbound_of_idle(struct list_node *idle)
{
    return list_entry(idle, struct outbound, idle);
}

static void memory_free(struct outbound *out)
{
    if (out->recipients != out->recipients_inline) {
        free(out->recipients);
        free(out->fates);
    }
    free(out->failures);
    relay_hop_release(&out->hop);
    free(out);
}

/* ---- The fate of recipients ---- */

static struct relay_failure *failure_add(struct outbound *out)
{
    if (out->failure_count == out->failure_size) {
        uint32_t size = out->failure_size == 0 ? 2 : out->failure_size * 2;
        struct relay_failure *grown = realloc(out->failures, size * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        out->failures = grown;
        out->failure_size = size;
    }
    struct relay_failure *failure = &out->failures[out->failure_count++];
    *failure = (struct relay_failure){0};
    return failure;
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
    struct slice path = message->recipients[index].forward_path;
    char id[MESSAGE_ID_TEXT];
    char remote[ENDPOINT_TEXT_MAX];
    char dsn[SMTP_STATUS_TEXT_MAX];
    message_id_format(message->id, id);
    endpoint_format(&out->hop.to, remote);
    smtp_status_format(&result->status, dsn);
    logger_line(relay->logger, level, "%s: %s: to=<%.*s>, relay=%s, dsn=%s, status=%s (%u %.*s)",
                out->site->lmtp ? "lmtp" : "smtp", id, (int)path.size, (const char *)path.bytes,
                remote, dsn, status, result->code, (int)result->text.size,
                (const char *)result->text.bytes);
}

static void failure_fill(struct outbound *out, struct relay_failure *failure, uint32_t index,
                         const struct smtp_client_result *result)
{
    failure->index = index;
    failure->status = result->status;
    failure->code = result->code;
    if ((result->flags & SMTP_CLIENT_DECIDED_HERE) == 0) {
        endpoint_format_address(&out->hop.to, failure->remote);
    }
    snprintf(failure->text, sizeof(failure->text), "%.*s", (int)result->text.size,
             (const char *)result->text.bytes);
}

/* The connection ended before this delivery could be judged, and had worked before: not the message's fault. */
static bool returned_unjudged(const struct outbound *out, const struct smtp_client_result *result)
{
    return (result->flags & SMTP_CLIENT_CONNECTION_FAILED) &&
           result->stage <= SMTP_CLIENT_AT_MAIL && out->delivery_count > 1;
}

static void result_take(struct outbound *out, const struct smtp_client_result *result)
{
    uint32_t index = sched_indexes(out->delivery)[result->index];
    struct relay_counters *counters = &out->relay->counters;
    uint8_t *fate = &out->fates[result->index];
    check(*fate == FATE_OPEN);
    out->open_count--;
    if ((result->flags & SMTP_CLIENT_SUSPECT_PIPELINING) && out->site->client_settings.pipelining) {
        out->site->client_settings.pipelining = false; /* until the configuration is read again */
        logger_line(out->relay->logger, LOGGER_WARNING,
                    "smtp: the site does not bear PIPELINING; going on without it");
    }
    switch ((enum smtp_client_outcome)result->outcome) {
    case SMTP_CLIENT_ACCEPTED:
        *fate = FATE_DELIVERED;
        counters->delivered++;
        line_log(out, index, result, "sent");
        return;
    case SMTP_CLIENT_TEMPORARY:
        *fate = returned_unjudged(out, result) ? FATE_RETURNED : FATE_DEFERRED;
        *fate = MUTATED(DEFERRED_IS_DELIVERED) ? FATE_DELIVERED : *fate;
        counters->deferred += *fate == FATE_DEFERRED;
        snprintf(out->reason, sizeof(out->reason), "%u %.*s", result->code, (int)result->text.size,
                 (const char *)result->text.bytes);
        line_log(out, index, result, "deferred");
        return;
    case SMTP_CLIENT_PERMANENT: {
        struct relay_failure *failure = failure_add(out);
        if (failure == NULL) { /* no memory for the report: the next attempt says it again */
            *fate = FATE_DEFERRED;
            return;
        }
        *fate = FATE_FAILED;
        failure_fill(out, failure, index, result);
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

static void expire(struct outbound *out, const uint32_t *indexes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct relay_failure *failure = failure_add(out);
        if (failure != NULL) {
            failure->index = indexes[i];
            failure->status = (struct smtp_status){4, 4, 7};
            snprintf(failure->text, sizeof(failure->text),
                     "Not delivered in time; the last answer was: %.200s", out->reason);
        }
    }
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
    expire(out, indexes, deferred);
    return false;
}

/* Every recipient has its fate: tell scheduler and spool. The message may be gone afterwards. */
static void delivery_settle(struct outbound *out)
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
    spool_message_hold(message);
    if (!deferred_put_back(out, indexes)) {
        sched_done(delivery);
    }
    out->delivery = NULL;
    for (uint32_t i = 0; i < delivered_count; i++) {
        spool_recipient_finished(relay->spool, message, delivered[i], RECIPIENT_DELIVERED);
    }
    if (out->failure_count > 0) {
        bounce_send(relay, message, out->failures, out->failure_count);
        out->failure_count = 0;
    }
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

static bool delivery_begin(struct outbound *out, struct sched_delivery *delivery)
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
            (struct smtp_client_recipient){.forward_path = message->recipients[index].forward_path};
        out->fates[i] = FATE_OPEN;
    }
    out->delivery = delivery;
    out->open_count = delivery->count;
    out->failure_count = 0;
    out->body_offset = 0;
    out->delivery_count++;
    out->relay->counters.deliveries++;
    out->started_ns = out->relay->shard->now_ns;
    const struct smtp_client_message request = {
        .reverse_path = message->envelope.reverse_path,
        .flags = ((message->envelope.flags & SPOOL_8BITMIME) ? SMTP_CLIENT_8BITMIME : 0u) |
                 ((message->envelope.flags & SPOOL_SMTPUTF8) ? SMTP_CLIENT_SMTPUTF8 : 0u),
        .recipient_count = delivery->count,
        .body_bytes = message->body_bytes,
        .recipients = out->recipients,
    };
    smtp_client_begin(&out->client, &request, out->relay->shard->now_ns);
    return true;
}

static void body_fetched(struct spool_waiter *waiter, int status)
{
    struct outbound *out = list_entry(waiter, struct outbound, fetch.waiter);
    (void)status; /* spool_read says it again */
    out->fetching = false;
    outbound_run(out);
}

/* Puts as much of the body on the stream as it takes. True when all of it is there. */
static bool body_pump(struct outbound *out)
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
        smtp_client_body_sent(&out->client, SMTP_CLIENT_PART, relay->shard->now_ns);
    }
    smtp_client_body_sent(&out->client, SMTP_CLIENT_LAST, relay->shard->now_ns);
    return true;
}

/* ---- The connection ---- */

static void outbound_end(struct outbound *out)
{
    struct relay *relay = out->relay;
    struct relay_site *site = out->site;
    const struct smtp_client_result *failure = smtp_client_failure(&out->client);
    check(out->delivery == NULL);
    if (out->fetching) {
        spool_fetch_cancel(relay->spool, &out->fetch);
    }
    if (out->greeted) {
        sched_connection_closed(site->sched);
    } else {
        struct slice reason = failure != NULL ? failure->text : slice_text("connection lost");
        char remote[ENDPOINT_TEXT_MAX];
        endpoint_format(&out->hop.to, remote);
        relay->counters.connections_out_failed++;
        logger_line(relay->logger, LOGGER_INFO, "connect to %s: %.*s", remote, (int)reason.size,
                    (const char *)reason.bytes);
        sched_connection_failed(site->sched, relay->shard->now_ns, reason);
        relay_hop_failed(site, &out->hop);
    }
    wheel_disarm(relay->shard->wheel, &out->timer);
    list_remove(&out->idle);
    list_remove(&out->node);
    if (failure != NULL) {
        /* We have given up on it. What is still queued may be the rest of a message that will now be
         * sent again: the server must not get it after all, an hour later, and deliver it twice. */
        stream_abort(out->stream);
    }
    stream_release(out->stream);
    relay->counters.sessions_out--;
    memory_free(out);
    relay_site_left(site);
}

/* Nothing to send now: wait for a while, or leave. */
static void outbound_idle(struct outbound *out)
{
    struct relay *relay = out->relay;
    const struct conf_route *route = out->site->route;
    bool used_up = route != NULL && route->messages_per_connection > 0 &&
                   out->delivery_count >= route->messages_per_connection;
    if (out->draining || relay->draining || route == NULL || used_up) {
        smtp_client_quit(&out->client, relay->shard->now_ns);
        return;
    }
    struct sched_delivery *delivery = sched_next(out->site->sched, relay->shard->now_ns);
    if (delivery != NULL && delivery_begin(out, delivery)) {
        return;
    }
    if (list_empty(&out->idle)) {
        list_prepend(&out->site->idle, &out->idle); /* the warmest first */
        out->idle_until_ns = relay->shard->now_ns + relay->conf->timeouts.idle;
    }
}

void outbound_take(struct outbound *out, struct sched_delivery *delivery)
{
    list_remove(&out->idle);
    if (delivery_begin(out, delivery)) {
        outbound_run(out);
    }
}

/* False when the stream has no room: STREAM_WRITABLE follows. */
static bool output_write(struct outbound *out)
{
    for (;;) {
        struct slice output = smtp_client_output(&out->client);
        if (output.size == 0) {
            return true;
        }
        if (!out->lost && stream_write(out->stream, output) < 0) {
            return false;
        }
        smtp_client_output_sent(&out->client, out->relay->shard->now_ns);
    }
}

static uint64_t deadline(const struct outbound *out)
{
    if (!list_empty(&out->idle)) {
        return out->idle_until_ns;
    }
    return smtp_client_deadline(&out->client);
}

static void timer_set(struct outbound *out)
{
    uint64_t due = deadline(out);
    if (due != SMTP_CLIENT_NEVER && (!timer_armed(&out->timer) || out->timer.due_ns > due)) {
        wheel_arm(out->relay->shard->wheel, &out->timer, due);
    }
}

/* What the stream has got rid of counts, not what it was given. */
static void progress_note(struct outbound *out)
{
    smtp_client_queued(&out->client, stream_queued(out->stream), out->relay->shard->now_ns);
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct outbound *out = list_entry(timer, struct outbound, timer);
    progress_note(out);
    if (deadline(out) <= now_ns) {
        if (!list_empty(&out->idle)) {
            list_remove(&out->idle);
            smtp_client_quit(&out->client, now_ns);
        } else {
            smtp_client_expire(&out->client, now_ns);
        }
    }
    outbound_run(out);
}

/* The server waits for a message: settle what is behind, begin what comes. */
static enum outbound_step message_next(struct outbound *out)
{
    if (!out->greeted) {
        out->greeted = true;
        sched_connection_opened(out->site->sched);
    }
    if (out->delivery != NULL) {
        delivery_settle(out);
    }
    if (!list_empty(&out->idle)) {
        return STEP_WAIT;
    }
    outbound_idle(out);
    return list_empty(&out->idle) ? STEP_AGAIN : STEP_WAIT;
}

static enum outbound_step outbound_step(struct outbound *out)
{
    struct slice input = {0};
    struct smtp_client_result result;
    size_t used = 0;
    if (stream_peek(out->stream, &input, 1) == 0) {
        input = slice_of(NULL, 0);
    }
    enum smtp_client_want want =
        smtp_client_input(&out->client, out->relay->shard->now_ns, input, &used, &result);
    if (want == SMTP_CLIENT_WANT_RESULT) {
        result_take(out, &result); /* before the input that its text may lie in is consumed */
    }
    if (used > 0) {
        stream_consume(out->stream, used);
    }
    bool written = output_write(out);
    switch (want) {
    case SMTP_CLIENT_WANT_INPUT:
        return used > 0 ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_RESULT:
        return STEP_AGAIN;
    case SMTP_CLIENT_WANT_TLS:
        check(false); /* nobody has asked for it */
        return STEP_WAIT;
    case SMTP_CLIENT_WANT_BODY:
        return written && body_pump(out) ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_MESSAGE:
        return used > 0 && !list_empty(&out->idle) ? STEP_AGAIN : message_next(out);
    case SMTP_CLIENT_WANT_CLOSE:
        if (out->delivery != NULL) {
            delivery_settle(out);
        }
        outbound_end(out);
        return STEP_ENDED;
    }
    return STEP_WAIT;
}

static enum outbound_step outbound_run(struct outbound *out)
{
    enum outbound_step step;
    progress_note(out);
    do {
        step = outbound_step(out);
    } while (step == STEP_AGAIN);
    if (step == STEP_WAIT) {
        progress_note(out); /* what was written just now is new, not left from before */
        timer_set(out);
    }
    return step;
}

static void outbound_notify(struct stream *stream, uint32_t events, void *session)
{
    struct outbound *out = session;
    if (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) {
        out->lost = out->lost || (events & STREAM_CLOSED) != 0;
        if (outbound_run(out) ==
            STEP_ENDED) { /* what the server said before it closed comes first */
            return;
        }
        list_remove(&out->idle);
        smtp_client_closed(&out->client, stream->error < 0 ? strerror(-stream->error)
                                                           : "the server closed the connection");
    }
    outbound_run(out);
}

void outbound_open(struct relay_site *site)
{
    struct relay *relay = site->relay;
    const struct conf_route *route = site->route;
    struct outbound *out = calloc(1, sizeof(*out));
    if (out == NULL) {
        sched_connection_started(site->sched);
        sched_connection_failed(site->sched, relay->shard->now_ns, slice_text("out of memory"));
        return;
    }
    out->relay = relay;
    out->site = site;
    relay_hop_choose(site, &out->hop);
    out->recipients = out->recipients_inline;
    out->fates = out->fates_inline;
    out->recipient_size = OUTBOUND_RECIPIENTS_INLINE;
    timer_init(&out->timer, timer_fired);
    list_init(&out->idle);
    list_init(&out->node);
    sched_connection_started(site->sched);
    relay->counters.connections_out++;
    const struct connect_request request = {
        .to = out->hop.to,
        .from = route->source,
        .timeout_ns = relay->conf->timeouts.connect,
    };
    struct network *network = relay_network_to(relay, &out->hop.to);
    int status = network->ops->connect(network, &request, &out->stream);
    if (status < 0) {
        relay->counters.connections_out_failed++;
        sched_connection_failed(site->sched, relay->shard->now_ns, slice_text(strerror(-status)));
        relay_hop_failed(site, &out->hop);
        memory_free(out);
        return;
    }
    smtp_client_open(&out->client, &site->client_settings, relay->shard->now_ns);
    list_append(&relay->outbounds, &out->node);
    site->connections++;
    relay->counters.sessions_out++;
    out->stream->session = out;
    out->stream->notify = outbound_notify;
    timer_set(out);
}

void outbound_drain(struct outbound *out)
{
    out->draining = true;
    if (!list_empty(&out->idle)) {
        list_remove(&out->idle);
        smtp_client_quit(&out->client, out->relay->shard->now_ns);
        outbound_run(out);
    }
}

void outbound_abort(struct outbound *out)
{
    out->lost = true;
    out->draining = true;
    stream_abort(out->stream);
    list_remove(&out->idle);
    smtp_client_closed(&out->client, "we are ending");
    outbound_run(out);
}

void outbound_abort_all(struct relay *relay)
{
    while (!list_empty(&relay->outbounds)) {
        outbound_abort(list_entry(relay->outbounds.next, struct outbound, node));
    }
}

void outbound_drain_all(struct relay *relay)
{
    struct list_node all;
    list_init(&all);
    list_splice(&all, &relay->outbounds);
    for (struct list_node *node; (node = list_pop(&all)) != NULL;) {
        list_append(&relay->outbounds, node);
        outbound_drain(list_entry(node, struct outbound, node));
    }
}
