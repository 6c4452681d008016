#include "engine/relay/inbound_private.h"
#include "engine/relay/recipient.h"
#include "engine/relay/recipient_judge.h"
#include "engine/relay/relay_queue.h"
#include <stdio.h>
#include <stdlib.h>

static void inbound_notify(struct stream *stream, uint32_t events, void *session);
static void inbound_end(struct inbound *in);

void inbound_free(struct inbound *in)
{
    list_remove(&in->node);
    inbound_letters_free(&in->letters);
    free(in);
}

void inbound_reset(struct inbound *in)
{
    in->envelope = (struct envelope){0};
    in->receiving = false;
    inbound_letters_reset(&in->letters);
    in->accepted_count = 0;
    if (in->judging != NULL) {
        recipient_job_end(in->judging);
        in->judging = NULL;
    }
    in->held = slice_of(NULL, 0);
}

void inbound_verdict(struct inbound *in, unsigned code, const char *status, const char *text)
{
    struct smtp_verdict answer = {
        .code = (uint16_t)code, .status = status, .text = slice_text(text)};
    if (code >= 400) {
        in->relay->counters.refused_commands++;
    }
    smtp_server_verdict(&in->server, &answer);
}

/* ---- Who may send what to whom ---- */

static void path_refuse(struct inbound *in, const char *command, struct slice mailbox,
                        const struct smtp_verdict *refusal, const char *reason)
{
    logger_line(in->relay->logger, LOGGER_INFO, "smtp: reject: %s: %u %s %.*s; %s=<%.*s>%s%s",
                command, refusal->code, refusal->status, (int)refusal->text.size,
                (const char *)refusal->text.bytes, command[0] == 'M' ? "from" : "to",
                (int)mailbox.size, (const char *)mailbox.bytes, reason[0] != '\0' ? "; " : "",
                reason);
    in->relay->counters.refused_commands++;
    smtp_server_verdict(&in->server, refusal);
}

/* The spool keeps them as the protocol names them. */
static_assert((int)SPOOL_RET_HDRS == (int)SMTP_RET_HDRS &&
                  (int)SPOOL_RET_FULL == (int)SMTP_RET_FULL &&
                  (int)SPOOL_NOTIFY_NEVER == (int)SMTP_NOTIFY_NEVER &&
                  (int)SPOOL_NOTIFY_SUCCESS == (int)SMTP_NOTIFY_SUCCESS &&
                  (int)SPOOL_NOTIFY_FAILURE == (int)SMTP_NOTIFY_FAILURE &&
                  (int)SPOOL_NOTIFY_DELAY == (int)SMTP_NOTIFY_DELAY,
              "RFC 3461");

/* The maps have spoken. */
static void judged(struct inbound *in)
{
    struct recipient_job *job = in->judging;
    int status = 0;
    in->judging = NULL;
    if (job->verdict.code != 250) {
        path_refuse(in, job->is_sender ? "MAIL" : "RCPT", job->path.mailbox, &job->verdict,
                    job->reason);
        recipient_job_end(job);
        return;
    }
    if (job->is_sender) {
        status = inbound_paths_reverse(&in->letters.own.paths, job->addresses[0], job->xtext);
    } else {
        status = inbound_recipients_make(in, job);
    }
    in->accepted_count += status == 0 && !job->is_sender;
    if (status == -E2BIG) {
        /* As RFC 5321 §4.5.3.1.10 has it of too many RCPTs: the rest in another transaction. */
        inbound_verdict(in, 452, "4.5.3", "The recipients stand for too many addresses or lists");
    } else if (status == -EOVERFLOW) {
        inbound_verdict(in, 550, "5.4.6", "The address stands for too many lists");
    } else if (status < 0) {
        inbound_verdict(in, 452, "4.3.1", "Out of memory, try again later");
    } else {
        smtp_server_verdict(&in->server, &job->verdict);
    }
    recipient_job_end(job);
}

static void judging_done(struct recipient_job *job)
{
    struct inbound *in = job->owner;
    in->state = INBOUND_READING;
    judged(in);
    inbound_run(in);
}

/* False when the session must wait. */
static bool judging_begin(struct inbound *in, struct recipient_job *job)
{
    if (job == NULL) {
        inbound_verdict(in, 452, "4.3.1", "Out of memory, try again later");
        return true;
    }
    in->judging = job;
    job->owner = in;
    job->done = judging_done;
    if (recipient_job_run(job) == -EINPROGRESS) {
        in->state = INBOUND_JUDGING;
        return false;
    }
    judged(in);
    return true;
}

/* False when the session must wait. */
static bool recipient_take(struct inbound *in, const struct smtp_event *event)
{
    const struct smtp_path *path = &event->path;
    struct smtp_verdict refusal;
    if (in->outcast && !in->trusted) {
        path_refuse(in, "RCPT", path->mailbox, &inbound_protocol_error, "PREGREET");
        return true;
    }
    if (recipient_needs_job(in->relay, path->mailbox)) {
        return judging_begin(in, recipient_job_new(in->relay, event, in->trusted,
                                                   inbound_paths_sender(&in->letters.own.paths)));
    }
    if (!recipient_judge(in->relay->conf, in->trusted, path, &refusal)) {
        path_refuse(in, "RCPT", path->mailbox, &refusal, "");
        return true;
    }
    const struct envelope_recipient recipient = {
        .forward_path = path->mailbox, .orcpt = event->orcpt, .notify = event->notify};
    if (inbound_paths_forward(&in->letters.own.paths, &recipient) < 0) {
        inbound_verdict(in, 452, "4.3.1", "Out of memory, try again later");
        return true;
    }
    in->accepted_count++;
    inbound_verdict(in, 250, "2.1.5", "Ok");
    return true;
}

/* False when the session must wait. */
static bool sender_judge(struct inbound *in, const struct smtp_event *event)
{
    inbound_reset(in);
    uint8_t priority =
        relay_conf_client_priority(in->relay->conf, &in->facts.remote, in->at->priority);
    in->envelope.flags = (event->eight_bit ? SPOOL_8BITMIME : 0u) |
                         (event->smtputf8 ? SPOOL_SMTPUTF8 : 0u) |
                         relay_queue_priority_marks(priority);
    in->envelope.ret = event->ret;
    if (in->relay->draining) {
        inbound_verdict(in, 421, "4.3.2", "Service is ending");
        return true;
    }
    if (!relay_has_room(in->relay, event->size)) {
        inbound_verdict(in, 452, "4.3.1", "Insufficient system storage");
        return true;
    }
    struct slice login = inbound_auth_user(in);
    if (sender_needs_job(in->relay, event->path.mailbox, login)) {
        return judging_begin(in, sender_job_new(in->relay, event, login));
    }
    if (inbound_paths_reverse(&in->letters.own.paths, event->path.mailbox, event->envid) < 0) {
        inbound_verdict(in, 452, "4.3.1", "Out of memory, try again later");
        return true;
    }
    inbound_verdict(in, 250, "2.1.0", "Ok");
    return true;
}

/* ---- The dialogue ---- */

/* False when the session must wait before it goes on. */
static bool event_take(struct inbound *in, const struct smtp_event *event)
{
    switch (event->kind) {
    case SMTP_EVENT_NONE:
        return true;
    case SMTP_EVENT_CONNECTED:
        return inbound_greet(in);
    case SMTP_EVENT_HELO:
        return true;
    case SMTP_EVENT_SENDER:
        return sender_judge(in, event);
    case SMTP_EVENT_RECIPIENT:
        return recipient_take(in, event);
    case SMTP_EVENT_BODY_BEGIN:
        return inbound_body_begin(in);
    case SMTP_EVENT_BODY:
        return inbound_body_take(in, event->body);
    case SMTP_EVENT_BODY_END:
        inbound_commit(in);
        return in->state == INBOUND_READING;
    case SMTP_EVENT_RESET:
        inbound_reset(in);
        return true;
    case SMTP_EVENT_AUTH:
    case SMTP_EVENT_AUTH_ANSWER:
    case SMTP_EVENT_AUTH_ROOM:
    case SMTP_EVENT_AUTH_END:
        return inbound_auth_take(in, event);
    }
    return true;
}

/* Puts the machine's replies on the stream. False when it has no room. */
static bool output_write(struct inbound *in)
{
    for (;;) {
        struct slice output = slice_first(smtp_server_output(&in->server), STREAM_WRITE_MAX);
        if (output.size == 0) {
            return true;
        }
        int status = stream_write(in->stream, output);
        if (status < 0) {
            return false;
        }
        smtp_server_sent(&in->server, output.size);
    }
}

/* Feeds one slice; returns how much of it is done with. */
static size_t slice_feed(struct inbound *in, struct slice input, bool *more)
{
    size_t done = 0;
    for (;;) {
        size_t used = 0;
        struct smtp_event event = {.kind = SMTP_EVENT_NONE};
        uint64_t now_ns = in->relay->shard->now_ns;
        enum smtp_want want =
            smtp_server_input(&in->server, now_ns, slice_from(input, done), &used, &event);
        if (!event_take(in, &event)) {
            *more = false;
            if (in->state == INBOUND_NO_ROOM) {
                in->held_consume = used;
                return done;
            }
            return done + used;
        }
        done += used;
        if (want == SMTP_WANT_CLOSE || want == SMTP_WANT_TLS) {
            in->state = want == SMTP_WANT_TLS ? INBOUND_SECURING : INBOUND_CLOSING;
            *more = false;
            return done;
        }
        if (used == 0 && event.kind == SMTP_EVENT_NONE) {
            if (smtp_server_output(&in->server).size > 0 && done < input.size) {
                *more = output_write(in) && *more;
                if (*more) {
                    continue;
                }
            }
            *more = *more && done == input.size;
            return done;
        }
    }
}

/* Behind a refused DATA. */
static void text_notice(struct inbound *in)
{
    if (smtp_server_data_refused(&in->server) && stream_unacknowledged(in->stream) > 0) {
        smtp_server_text_came(&in->server);
    }
}

static void input_take(struct inbound *in)
{
    bool more = true;
    while (more && in->state == INBOUND_READING) {
        struct slice slices[INBOUND_SLICES];
        size_t count = stream_peek(in->stream, slices, INBOUND_SLICES);
        size_t consumed = 0;
        if (count == 0) {
            slice_feed(in, slice_of(NULL, 0), &more); /* events that need no input */
            return;
        }
        text_notice(in);
        for (size_t i = 0; i < count && more && in->state == INBOUND_READING; i++) {
            consumed += slice_feed(in, slices[i], &more);
        }
        stream_consume(in->stream, consumed);
        more = more && consumed > 0;
    }
}

static void held_take(struct inbound *in)
{
    struct slice held = in->held;
    in->held = slice_of(NULL, 0);
    if (held.size > 0 && inbound_body_take(in, held)) {
        stream_consume(in->stream, in->held_consume);
        in->held_consume = 0;
    }
}

/* ---- TLS ---- */

static void input_drop(struct inbound *in)
{
    struct slice slices[INBOUND_SLICES];
    for (size_t count; (count = stream_peek(in->stream, slices, INBOUND_SLICES)) > 0;) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            bytes += slices[i].size;
        }
        stream_consume(in->stream, bytes);
    }
}

/* From here on the stream is a TLS one. What the client has sent in the clear behind STARTTLS is never
 * read (CVE-2011-0411). False: the session has ended. */
static bool secure(struct inbound *in)
{
    const struct relay_tls *tls = in->relay->tls;
    struct tls_context *context = relay_tls_server(tls, in->client_certificate);
    struct stream *below = in->stream;
    if (in->state == INBOUND_SECURING) {
        input_drop(in);
    }
    in->stream = NULL;
    if (context == NULL) { /* a reload has taken the last certificate */
        stream_abort(below);
        stream_release(below);
    } else if (tls_accept(tls->tls, below, context, &in->stream) < 0) {
        in->stream = NULL;
    }
    if (in->stream == NULL) {
        inbound_end(in);
        return false;
    }
    in->stream->session = in;
    in->stream->notify = inbound_notify;
    in->state = INBOUND_HANDSHAKE;
    if (in->finished) { /* nobody else is told any more */
        tls_half_closed(in->stream);
    }
    return true;
}

void inbound_trust(struct inbound *in)
{
    if (in->counted && !in->trusted) {
        client_count_leave(in->relay->clients, &in->facts.remote);
    }
    in->counted = in->trusted = true;
}

static void secured(struct inbound *in)
{
    stream_facts(in->stream, &in->facts);
    if (relay_tls_may_relay(in->relay->conf, in->facts.tls)) {
        inbound_trust(in);
    }
    smtp_server_secured(&in->server, in->relay->shard->now_ns);
    inbound_auth_offer(in);
    in->state = INBOUND_READING;
}

#define INBOUND_LAST_WORDS_NS (10ull * 1000000000ull)

void inbound_run(struct inbound *in)
{
    if (in->state == INBOUND_GREETING) {
        inbound_greet_look(in);
    }
    if (in->state == INBOUND_READING && in->held.size > 0) {
        held_take(in);
    }
    if (in->state == INBOUND_READING) {
        input_take(in);
    }
    bool written = output_write(in);
    if (in->state == INBOUND_SECURING && written && !secure(in)) {
        return;
    }
    if (in->state == INBOUND_READING && in->finished && written) {
        struct slice left;
        if (stream_peek(in->stream, &left, 1) == 0) {
            in->state = INBOUND_CLOSING; /* torn off: nobody waits for a reply */
        }
    }
    if (in->state == INBOUND_CLOSING && written) {
        inbound_end(in);
        return;
    }
    if (in->state == INBOUND_CLOSING) {
        wheel_arm(in->relay->shard->wheel, &in->timer,
                  in->relay->shard->now_ns + INBOUND_LAST_WORDS_NS);
        return;
    }
    inbound_timer_set(in);
}

static void inbound_notify(struct stream *stream, uint32_t events, void *session)
{
    struct inbound *in = session;
    (void)stream;
    if (events & STREAM_CLOSED) {
        if (in->state == INBOUND_HANDSHAKE) {
            relay_tls_failed(in->relay->tls, in->stream);
        }
        inbound_end(in);
        return;
    }
    if ((events & STREAM_CONNECTED) && in->state == INBOUND_HANDSHAKE) {
        secured(in);
    }
    if (events & STREAM_HALF_CLOSED) {
        in->finished = true;
    }
    if (in->state == INBOUND_CLOSING) {
        input_drop(in);
    }
    inbound_run(in);
}

/* Lets go of the stream; what was written is still sent. */
static void inbound_end(struct inbound *in)
{
    struct relay *relay = in->relay;
    wheel_disarm(relay->shard->wheel, &in->timer);
    inbound_auth_close(in);
    if (in->counted && !in->trusted) {
        client_count_leave(relay->clients, &in->facts.remote);
    }
    in->counted = false;
    if (in->stream != NULL) {
        stream_release(in->stream);
        in->stream = NULL;
    }
    relay->counters.sessions_in--;
    if (in->state != INBOUND_COMMITTING) {
        inbound_reset(in);
    }
    bool busy = in->state == INBOUND_COMMITTING || in->room_waited;
    in->state = INBOUND_GONE;
    if (!busy) {
        inbound_free(in);
    }
}

void inbound_leave(struct inbound *in)
{
    output_write(in);
    inbound_end(in);
}

void inbound_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct relay_listener *at = owner;
    struct relay *relay = at->relay;
    const struct relay_conf *conf = relay->conf;
    uint32_t limit = conf->limits.connections / conf->shards;
    (void)listener;
    relay->counters.connections_in++;
    struct inbound *in = NULL;
    if (relay->counters.sessions_in < (limit > 0 ? limit : 1)) {
        in = calloc(1, sizeof(*in));
    }
    if (in == NULL) {
        relay->counters.connections_refused++;
        if (at->tls != CONF_TLS_IMPLICIT) {
            stream_write(stream, slice_text("421 4.3.2 Too many connections\r\n"));
        }
        stream_release(stream);
        return;
    }
    in->relay = relay;
    in->stream = stream;
    in->lmtp = at->protocol == CONF_PROTOCOL_LMTP;
    in->at = at;
    in->client_certificate = at->client_certificate;
    in->greet_action = at->greet_action;
    in->greet_wait_ns = at->greet_wait_ns;
    stream_facts(stream, &in->facts);
    in->trusted = relay_conf_may_relay(conf, &in->facts.remote);
    in->counted = in->trusted || client_count_enter(relay->clients, &in->facts.remote,
                                                    conf->limits.connections_per_client) == 0;
    relay->counters.connections_refused += !in->counted;
    timer_init(&in->timer, inbound_timer_fired);
    list_init(&in->node);
    list_append(&relay->inbounds, &in->node);
    relay->counters.sessions_in++;
    smtp_server_open(&in->server, relay_listener_settings(at), relay->shard->now_ns);
    if (relay_conf_takes_bare_lines(conf, &in->facts.remote)) {
        smtp_server_take_bare_lines(&in->server);
    }
    if (at->tls != CONF_TLS_IMPLICIT) { /* else when it is encrypted: secured() */
        inbound_auth_offer(in);
    }
    stream->session = in;
    stream->notify = inbound_notify;
    if (at->tls != CONF_TLS_IMPLICIT || secure(in)) {
        inbound_run(in);
    }
}

void inbound_drain(struct inbound *in)
{
    if (in->state == INBOUND_GREETING) {
        inbound_greet_over(in);
        return;
    }
    if (in->state == INBOUND_READING && smtp_server_idle(&in->server)) {
        smtp_server_shut(&in->server);
        in->state = INBOUND_CLOSING;
        inbound_run(in);
    }
}

void inbound_reload(struct inbound *in)
{
    if (in->state == INBOUND_JUDGING) {
        in->judging->verdict =
            (struct smtp_verdict){451, "4.3.0", slice_text("Temporary lookup failure")};
        judging_done(in->judging);
    }
}

struct inbound *inbound_of_node(struct list_node *node)
{
    return list_entry(node, struct inbound, node);
}

bool inbound_abort(struct inbound *in)
{
    if (in->state == INBOUND_GONE) {
        return false;
    }
    stream_abort(in->stream);
    inbound_end(in);
    return true;
}
