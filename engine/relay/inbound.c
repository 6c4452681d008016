#include "engine/relay/inbound.h"
#include "engine/relay/recipient_judge.h"
#include "engine/relay/relay_trace.h"
#include <stdio.h>
#include <stdlib.h>

/* What holds the session up. */
enum inbound_state {
    INBOUND_READING,    /* commands and text are taken as they come */
    INBOUND_NO_ROOM,    /* the log's buffers are all under way: `held` waits for spool_when_room */
    INBOUND_COMMITTING, /* the end of data waits for the disk */
    INBOUND_SECURING,   /* the answer to STARTTLS is being written */
    INBOUND_HANDSHAKE,  /* `stream` is TLS, and not yet open */
    INBOUND_CLOSING,    /* the last reply is written; what comes in is dropped */
    INBOUND_GONE,       /* no stream any more; only the commit is waited for */
};

#define INBOUND_SLICES 16
#define INBOUND_PATHS_FIRST_BYTES 512

struct inbound {
    struct list_node node; /* in relay->inbounds */
    struct relay *relay;
    struct stream *stream;
    enum inbound_state state;
    bool counted;  /* in relay->clients */
    bool trusted;  /* may send anywhere */
    bool finished; /* the client has sent its FIN */
    bool lmtp;
    uint8_t client_certificate; /* enum conf_client_certificate, of its listener */
    struct timer timer;         /* looks at the machine's deadline when it fires */
    struct stream_facts facts;

    /* The transaction. */
    struct spool_draft *draft;
    struct envelope envelope;
    uint8_t *paths; /* reverse-path, then forward-paths, one after the other */
    size_t paths_used, paths_size;
    struct slice *forward_paths; /* offsets until commit: see inbound_paths_settle */
    uint32_t recipient_count, recipient_size;
    struct slice held;   /* body that spool_append could not take yet; borrowed from the stream */
    size_t held_consume; /* what the machine has used of the stream for it */
    struct message *message;
    struct spool_waiter durable;
    struct spool_waiter room;
    bool room_waited; /* `room` is in the spool's hands */

    struct smtp_server server;
};

static void inbound_run(struct inbound *in);
static void inbound_notify(struct stream *stream, uint32_t events, void *session);
static void inbound_end(struct inbound *in);

static bool inbound_busy(const struct inbound *in)
{
    return in->state == INBOUND_COMMITTING || in->room_waited;
}

static void inbound_free(struct inbound *in)
{
    list_remove(&in->node);
    free(in->paths);
    free(in->forward_paths);
    free(in);
}

/* One reset, on every way out of a transaction. */
static void transaction_reset(struct inbound *in)
{
    if (in->draft != NULL) {
        spool_abort(in->draft);
        in->draft = NULL;
    }
    in->envelope = (struct envelope){0};
    in->paths_used = 0;
    in->recipient_count = 0;
    in->held = slice_of(NULL, 0);
}

/* Keeps a path of the transaction. 0 or -ENOMEM. */
static int path_keep(struct inbound *in, struct slice path)
{
    if (path.size == 0) {
        return 0; /* the null reverse-path */
    }
    if (in->paths_size - in->paths_used < path.size) {
        size_t size = in->paths_size == 0 ? INBOUND_PATHS_FIRST_BYTES : in->paths_size * 2;
        while (size - in->paths_used < path.size) {
            size *= 2;
        }
        uint8_t *grown = realloc(in->paths, size);
        if (grown == NULL) {
            return -ENOMEM;
        }
        in->paths = grown;
        in->paths_size = size;
    }
    memcpy(in->paths + in->paths_used, path.bytes, path.size);
    in->paths_used += path.size;
    return 0;
}

static int recipient_keep(struct inbound *in, struct slice path)
{
    if (in->recipient_count == in->recipient_size) {
        uint32_t size = in->recipient_size == 0 ? 4 : in->recipient_size * 2;
        struct slice *grown = realloc(in->forward_paths, size * sizeof(struct slice));
        if (grown == NULL) {
            return -ENOMEM;
        }
        in->forward_paths = grown;
        in->recipient_size = size;
    }
    if (path_keep(in, path) < 0) {
        return -ENOMEM;
    }
    in->forward_paths[in->recipient_count++] = slice_of(NULL, path.size);
    return 0;
}

/* The paths may have moved while they were gathered; now they stay. */
static void paths_settle(struct inbound *in)
{
    const uint8_t *next = in->paths;
    in->envelope.reverse_path.bytes = next;
    next += in->envelope.reverse_path.size;
    for (uint32_t i = 0; i < in->recipient_count; i++) {
        in->forward_paths[i].bytes = next;
        next += in->forward_paths[i].size;
    }
}

static void verdict(struct inbound *in, unsigned code, const char *status, const char *text)
{
    struct smtp_verdict answer = {
        .code = (uint16_t)code, .status = status, .text = slice_text(text)};
    if (code >= 400) {
        in->relay->counters.refused_commands++;
    }
    smtp_server_verdict(&in->server, &answer);
}

/* ---- Who may send what to whom ---- */

static void recipient_take(struct inbound *in, const struct smtp_path *path)
{
    struct smtp_verdict refusal;
    if (!recipient_judge(in->relay->conf, in->trusted, path, &refusal)) {
        logger_line(in->relay->logger, LOGGER_INFO, "smtp: reject: RCPT: %u %s %.*s; to=<%.*s>",
                    refusal.code, refusal.status, (int)refusal.text.size,
                    (const char *)refusal.text.bytes, (int)path->mailbox.size,
                    (const char *)path->mailbox.bytes);
        in->relay->counters.refused_commands++;
        smtp_server_verdict(&in->server, &refusal);
        return;
    }
    if (recipient_keep(in, path->mailbox) < 0) {
        verdict(in, 452, "4.3.1", "Out of memory, try again later");
        return;
    }
    verdict(in, 250, "2.1.5", "Ok");
}

static void sender_judge(struct inbound *in, const struct smtp_event *event)
{
    transaction_reset(in);
    in->envelope.flags =
        (event->eight_bit ? SPOOL_8BITMIME : 0u) | (event->smtputf8 ? SPOOL_SMTPUTF8 : 0u);
    if (in->relay->draining) {
        verdict(in, 421, "4.3.2", "Service is ending");
        return;
    }
    if (!relay_has_room(in->relay, event->size)) {
        verdict(in, 452, "4.3.1", "Insufficient system storage");
        return;
    }
    if (path_keep(in, event->path.mailbox) < 0) {
        verdict(in, 452, "4.3.1", "Out of memory, try again later");
        return;
    }
    in->envelope.reverse_path.size = event->path.mailbox.size;
    verdict(in, 250, "2.1.0", "Ok");
}

/* ---- The body ---- */

static void body_refuse(struct inbound *in, int status)
{
    const struct smtp_verdict full = {452, "4.3.1", slice_text("Insufficient system storage")};
    const struct smtp_verdict broken = {451, "4.3.0", slice_text("Local error in processing")};
    const struct smtp_verdict large = {552, "5.3.4", slice_text("Message is too large")};
    if (in->draft != NULL) {
        spool_abort(in->draft);
        in->draft = NULL;
    }
    in->relay->counters.refused_messages++;
    smtp_server_body_refuse(&in->server, status == -ENOSPC || status == -EAGAIN ? &full
                                         : status == -EFBIG                     ? &large
                                                                                : &broken);
}

static void room_came(struct spool_waiter *waiter, int status)
{
    struct inbound *in = list_entry(waiter, struct inbound, room);
    (void)status; /* whatever it is, spool_append says it again */
    in->room_waited = false;
    if (in->state == INBOUND_GONE) {
        inbound_free(in);
        return;
    }
    in->state = INBOUND_READING;
    inbound_run(in);
}

/* Takes body into the log. False when it must wait; then `piece` is remembered. */
static bool body_take(struct inbound *in, struct slice piece)
{
    if (in->draft == NULL) {
        return true; /* refused already: the rest is thrown away */
    }
    int status = spool_append(in->draft, &piece, 1);
    if (status == -EAGAIN) {
        in->held = piece;
        in->state = INBOUND_NO_ROOM;
        in->room_waited = true;
        in->room.done = room_came;
        spool_when_room(in->relay->spool, &in->room);
        return false;
    }
    if (status < 0) {
        body_refuse(in, status);
    } else {
        in->relay->counters.bytes_in += piece.size;
    }
    return true;
}

/* The draft is opened, with our trace line before what the client sends. False when it must wait. */
static bool body_begin(struct inbound *in)
{
    int status = relay_has_room(in->relay, 0) ? spool_begin(in->relay->spool, &in->draft) : -ENOSPC;
    if (status < 0) {
        in->draft = NULL;
        body_refuse(in, status);
        return true;
    }
    in->envelope.arrival_wall_s = world_wall_s(in->relay->shard->world);
    char id[MESSAGE_ID_TEXT] = "";
    message_id_format(spool_draft_id(in->draft), id);
    char line[SMTP_RECEIVED_MAX];
    const struct smtp_received known = {
        .hostname = slice_text(in->relay->conf->hostname),
        .id = slice_text(id),
        .forward_path =
            in->recipient_count == 1
                ? slice_of(in->paths + in->envelope.reverse_path.size, in->forward_paths[0].size)
                : slice_of(NULL, 0),
        .wall_s = in->envelope.arrival_wall_s,
    };
    size_t size = relay_trace_format(&in->server, &in->facts, &known, line);
    struct slice text = slice_of(line, size);
    status = spool_append(in->draft, &text, 1);
    if (status < 0) {
        /* Not worth a wait of its own: the client comes again. */
        body_refuse(in, status);
    }
    return true;
}

static void commit_answer(struct inbound *in, int status)
{
    char id[MESSAGE_ID_TEXT];
    char text[64];
    uint32_t count = in->lmtp ? in->recipient_count : 1;
    if (status == 0) {
        message_id_format(in->message->id, id);
        snprintf(text, sizeof(text), "Ok: queued as %s", id);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (status == 0) {
            verdict(in, 250, "2.0.0", text);
        } else if (status == -ENOSPC) {
            verdict(in, 452, "4.3.1", "Insufficient system storage");
        } else {
            verdict(in, 451, "4.3.0", "The message could not be kept, try again later");
        }
    }
    in->message = NULL;
    transaction_reset(in);
}

static void commit_done(struct spool_waiter *waiter, int status)
{
    struct inbound *in = list_entry(waiter, struct inbound, durable);
    struct relay *relay = in->relay;
    struct message *message = in->message;
    bool gone = in->state == INBOUND_GONE;
    if (gone) {
        inbound_free(in);
    } else {
        in->state = INBOUND_READING;
        commit_answer(in, status);
    }
    if (status == 0) {
        relay->counters.messages_in++;
        relay->counters.recipients_in += message->recipient_count;
        relay_schedule(relay, message);
    } else {
        logger_line(relay->logger, LOGGER_ERROR, "spool: a message was refused: %s",
                    strerror(-status));
    }
    if (!gone) {
        inbound_run(in);
    }
}

static void commit(struct inbound *in)
{
    if (in->draft == NULL) { /* the machine has the verdict of body_refuse */
        return;
    }
    paths_settle(in);
    in->durable.done = commit_done;
    struct spool_draft *draft = in->draft;
    in->draft = NULL;
    int status = spool_commit(draft, &in->envelope, in->forward_paths, in->recipient_count,
                              &in->message, &in->durable);
    if (status < 0) {
        commit_answer(in, status);
        return;
    }
    in->state = INBOUND_COMMITTING;
}

/* ---- The dialogue ---- */

/* False when the session must wait before it goes on. */
static bool event_take(struct inbound *in, const struct smtp_event *event)
{
    switch (event->kind) {
    case SMTP_EVENT_NONE:
        return true;
    case SMTP_EVENT_CONNECTED:
        if (in->relay->draining) {
            verdict(in, 421, "4.3.2", "Service is ending");
        } else if (!in->counted) {
            verdict(in, 421, "4.7.0", "Too many connections from your address");
        } else {
            smtp_server_verdict(&in->server, NULL);
        }
        return true;
    case SMTP_EVENT_HELO:
        return true;
    case SMTP_EVENT_SENDER:
        sender_judge(in, event);
        return true;
    case SMTP_EVENT_RECIPIENT:
        recipient_take(in, &event->path);
        return true;
    case SMTP_EVENT_BODY_BEGIN:
        return body_begin(in);
    case SMTP_EVENT_BODY:
        return body_take(in, event->body);
    case SMTP_EVENT_BODY_END:
        commit(in);
        return in->state == INBOUND_READING;
    case SMTP_EVENT_RESET:
        transaction_reset(in);
        return true;
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
        for (size_t i = 0; i < count && more && in->state == INBOUND_READING; i++) {
            consumed += slice_feed(in, slices[i], &more);
        }
        stream_consume(in->stream, consumed);
        more = more && consumed > 0;
    }
}

static void timer_set(struct inbound *in)
{
    uint64_t due = smtp_server_deadline(&in->server);
    if (in->state == INBOUND_COMMITTING || due == WHEEL_NEVER) {
        return; /* the disk answers in any case */
    }
    if (!timer_armed(&in->timer) || in->timer.due_ns > due) {
        wheel_arm(in->relay->shard->wheel, &in->timer, due);
    }
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct inbound *in = list_entry(timer, struct inbound, timer);
    if (in->state == INBOUND_CLOSING) {
        stream_abort(in->stream); /* the client does not take our last words */
        return;
    }
    if (smtp_server_deadline(&in->server) <= now_ns && !inbound_busy(in)) {
        smtp_server_expire(&in->server, now_ns);
        in->state = INBOUND_CLOSING;
    }
    inbound_run(in);
}

static void held_take(struct inbound *in)
{
    struct slice held = in->held;
    in->held = slice_of(NULL, 0);
    if (held.size > 0 && body_take(in, held)) {
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

/* By its certificate, whatever its address: it may relay, and is not counted among the strangers. */
static void client_identify(struct inbound *in)
{
    if (in->trusted || !relay_tls_may_relay(in->relay->conf, in->facts.tls)) {
        return;
    }
    if (in->counted) {
        client_count_leave(in->relay->clients, &in->facts.remote);
    }
    in->counted = in->trusted = true;
}

static void secured(struct inbound *in)
{
    stream_facts(in->stream, &in->facts);
    client_identify(in);
    smtp_server_secured(&in->server, in->relay->shard->now_ns);
    in->state = INBOUND_READING;
}

#define INBOUND_LAST_WORDS_NS (10ull * 1000000000ull)

static void inbound_run(struct inbound *in)
{
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
    timer_set(in);
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
        transaction_reset(in);
    }
    bool busy = inbound_busy(in);
    in->state = INBOUND_GONE;
    if (!busy) {
        inbound_free(in);
    }
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
    in->client_certificate = at->client_certificate;
    stream_facts(stream, &in->facts);
    in->trusted = relay_conf_may_relay(conf, &in->facts.remote);
    in->counted = in->trusted || client_count_enter(relay->clients, &in->facts.remote,
                                                    conf->limits.connections_per_client) == 0;
    relay->counters.connections_refused += !in->counted;
    timer_init(&in->timer, timer_fired);
    list_init(&in->node);
    list_append(&relay->inbounds, &in->node);
    relay->counters.sessions_in++;
    smtp_server_open(&in->server, relay_listener_settings(at), relay->shard->now_ns);
    stream->session = in;
    stream->notify = inbound_notify;
    if (at->tls != CONF_TLS_IMPLICIT || secure(in)) {
        inbound_run(in);
    }
}

void inbound_drain(struct inbound *in)
{
    if (in->state == INBOUND_READING && smtp_server_idle(&in->server)) {
        smtp_server_shut(&in->server);
        in->state = INBOUND_CLOSING;
        inbound_run(in);
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
