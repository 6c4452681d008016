#include "engine/relay/outbound_private.h"
#include "engine/relay/relay_direct.h"
#include "engine/relay/relay_hops.h"
#include "queue/sched/group.h"
#include <stdlib.h>

/* What a step of the dialogue leads to. After STEP_ENDED the session is gone. */
enum outbound_step { STEP_AGAIN, STEP_WAIT, STEP_ENDED };

static enum outbound_step outbound_run(struct outbound *out);
static void outbound_notify(struct stream *stream, uint32_t events, void *session);
static int session_open(struct outbound *out);

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
    free(out->outcomes);
    relay_hop_release(&out->hop);
    free(out);
}

/* ---- The connection ---- */

/* Once a connection, when it is of use or has failed. */
static void starttls_note(const struct outbound *out)
{
    enum smtp_client_secrecy secrecy = smtp_client_secrecy(&out->client);
    if (secrecy == SMTP_CLIENT_TLS_NOT_OFFERED || secrecy == SMTP_CLIENT_TLS_REFUSED) {
        outbound_tls_not_there(&out->tls, out->relay, out->site->route, &out->hop);
    }
}

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
        starttls_note(out);
        outbound_connect_failed(out, failure);
    }
    wheel_disarm(relay->shard->wheel, &out->timer);
    list_remove(&out->idle);
    list_remove(&out->node);
    if (failure != NULL && out->stream != NULL) {
        /* We have given up on it. What is still queued may be the rest of a message that will now be
         * sent again: the server must not get it after all, an hour later, and deliver it twice. */
        stream_abort(out->stream);
    }
    if (out->stream != NULL) {
        stream_release(out->stream);
    }
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
    uint32_t sent = (uint32_t)out->delivery_count;
    if (out->draining || relay->draining || route == NULL || used_up ||
        sched_connection_surplus(out->site->sched, sent)) {
        smtp_client_quit(&out->client, relay->shard->now_ns);
        return;
    }
    struct sched_delivery *delivery = relay_site_next(out->site);
    if (delivery != NULL && outbound_delivery_begin(out, delivery)) {
        return;
    }
    if (sched_connection_surplus(out->site->sched, SCHED_CONNECTION_IDLE)) {
        smtp_client_quit(&out->client, relay->shard->now_ns);
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
    if (outbound_delivery_begin(out, delivery)) {
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
    if (out->stream != NULL) {
        smtp_client_left(&out->client, outbound_body_left(out) + stream_queued(out->stream),
                         out->relay->shard->now_ns);
    }
}

/* ---- TLS ---- */

static void secure_failed(struct outbound *out, const char *why)
{
    outbound_tls_failed(&out->tls, out->relay, out->site->route, &out->hop, out->stream, why);
    out->lost = true;
    smtp_client_tls_failed(&out->client, out->tls.problem);
}

/* With TLS 1.3 a server's refusal, of our certificate or for want of one, comes after our side is done:
 * an alert in place of the answer to EHLO, or the reset that overtakes it. */
static bool handshake_failed(const struct outbound *out, int error)
{
    return out->tls.secrecy == OUTBOUND_SHAKING_HANDS ||
           (out->tls.secrecy == OUTBOUND_SECURED && !out->greeted &&
            (error == -EPROTO || error == -ECONNRESET));
}

/* The stream is TLS from here on, or there is none. */
static void secure(struct outbound *out)
{
    if (out->lost || out->site->route == NULL) {
        secure_failed(out, out->lost ? "the server closed the connection" : "the route is gone");
        return;
    }
    outbound_tls_start(&out->tls, out->relay, out->site->route, &out->hop, &out->stream);
    if (out->stream == NULL) {
        out->lost = true;
        smtp_client_tls_failed(&out->client, out->tls.problem);
        return;
    }
    out->stream->session = out;
    out->stream->notify = outbound_notify;
}

static void secured(struct outbound *out)
{
    outbound_tls_opened(&out->tls, out->relay, out->site->route, &out->hop, out->stream);
    if (!out->tls.policy.implicit) {
        smtp_client_secured(&out->client, out->relay->shard->now_ns);
    }
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct outbound *out = list_entry(timer, struct outbound, timer);
    progress_note(out);
    if (deadline(out) <= now_ns) {
        if (!list_empty(&out->idle)) {
            list_remove(&out->idle);
            smtp_client_quit(&out->client, now_ns);
        } else if (out->tls.secrecy == OUTBOUND_SHAKING_HANDS) {
            secure_failed(out, "timed out");
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
        starttls_note(out);
        relay_hop_worked(out->site, &out->hop);
        sched_connection_opened(out->site->sched);
    }
    if (out->delivery != NULL) {
        outbound_delivery_settle(out);
    }
    if (!list_empty(&out->idle)) {
        return STEP_WAIT;
    }
    outbound_idle(out);
    return list_empty(&out->idle) ? STEP_AGAIN : STEP_WAIT;
}

/* Again to where it goes, in the clear. False: not now. */
static bool reconnect(struct outbound *out)
{
    if (out->draining || out->site->route == NULL) {
        return false;
    }
    if (out->stream != NULL) {
        stream_abort(out->stream);
        stream_release(out->stream);
    }
    return session_open(out) == 0;
}

static enum outbound_step outbound_step(struct outbound *out)
{
    struct slice input = {0};
    struct smtp_client_result result;
    size_t used = 0;
    if (out->stream == NULL || stream_peek(out->stream, &input, 1) == 0) {
        input = slice_of(NULL, 0);
    }
    enum smtp_client_want want =
        smtp_client_input(&out->client, out->relay->shard->now_ns, input, &used, &result);
    if (want == SMTP_CLIENT_WANT_RESULT) {
        outbound_result_take(out,
                             &result); /* before the input that its text may lie in is consumed */
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
        if (used == 0 && out->tls.secrecy == OUTBOUND_IN_CLEAR) {
            secure(out);
            return STEP_AGAIN;
        }
        return used > 0 ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_BODY:
        return written && outbound_body_pump(out) ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_MESSAGE:
        return used > 0 && !list_empty(&out->idle) ? STEP_AGAIN : message_next(out);
    case SMTP_CLIENT_WANT_CLOSE:
        if (out->delivery != NULL) {
            outbound_delivery_settle(out);
        }
        if (outbound_tls_falls_back(&out->tls, out->relay, &out->hop) && reconnect(out)) {
            return STEP_WAIT;
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

void outbound_go_on(struct outbound *out)
{
    outbound_run(out);
}

static void outbound_notify(struct stream *stream, uint32_t events, void *session)
{
    struct outbound *out = session;
    const char *why =
        stream->error < 0 ? strerror(-stream->error) : "the server closed the connection";
    out->connected = out->connected || (events & STREAM_CONNECTED) != 0;
    if ((events & STREAM_CONNECTED) && out->tls.secrecy == OUTBOUND_SHAKING_HANDS) {
        secured(out);
    } else if ((events & STREAM_CONNECTED) && out->tls.policy.implicit) {
        secure(out);
    }
    if (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) {
        out->lost = out->lost || (events & STREAM_CLOSED) != 0;
        if (out->tls.secrecy != OUTBOUND_SHAKING_HANDS &&
            outbound_run(out) ==
                STEP_ENDED) { /* what the server said before it closed comes first */
            return;
        }
        list_remove(&out->idle);
        if (handshake_failed(out, stream->error)) {
            secure_failed(out, why);
        } else {
            smtp_client_closed(&out->client, why);
        }
    }
    outbound_run(out);
}

/* 0 or -errno; then there is no stream. */
static int session_open(struct outbound *out)
{
    struct relay *relay = out->relay;
    const struct connect_request request = {
        .to = out->hop.to,
        .from = out->site->route->source,
        .timeout_ns = relay->conf->timeouts.connect,
    };
    struct network *network = relay_network_to(relay, &out->hop.to);
    relay->counters.connections_out++;
    int status = network->ops->connect(network, &request, &out->stream);
    if (status < 0) {
        out->stream = NULL;
        return status;
    }
    out->lost = false;
    out->connected = false;
    out->stream->session = out;
    out->stream->notify = outbound_notify;
    smtp_client_open(&out->client, &out->site->client_settings, relay->shard->now_ns);
    smtp_client_use_tls(&out->client, outbound_tls_wish(&out->tls));
    return 0;
}

void outbound_open(struct relay_site *site)
{
    struct relay *relay = site->relay;
    struct outbound *out = calloc(1, sizeof(*out));
    if (out == NULL || relay_hop_choose(site, &out->hop) < 0) {
        const char *why = out == NULL ? "out of memory" : "no mail server has an address now";
        sched_connection_started(site->sched);
        outbound_no_hop(site, out == NULL ? "4.3.0" : "4.4.4", why);
        free(out);
        return;
    }
    out->relay = relay;
    out->site = site;
    out->recipients = out->recipients_inline;
    out->fates = out->fates_inline;
    out->recipient_size = OUTBOUND_RECIPIENTS_INLINE;
    timer_init(&out->timer, timer_fired);
    list_init(&out->idle);
    list_init(&out->node);
    sched_connection_started(site->sched);
    bool usable = outbound_tls_choose(&out->tls, relay, site->route, &out->hop);
    int status = usable ? session_open(out) : 0;
    if (!usable || status < 0) {
        const char *why = usable ? strerror(-status) : out->tls.policy.why;
        const struct smtp_client_result failure = {.status = {4, usable ? 4 : 7, usable ? 1 : 5},
                                                   .text = slice_text(why)};
        outbound_connect_failed(out, &failure);
        memory_free(out);
        return;
    }
    list_append(&relay->outbounds, &out->node);
    site->connections++;
    relay->counters.sessions_out++;
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
