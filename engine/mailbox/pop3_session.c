/*
 * pop3_session: one POP3 session: a stream on one side, a user's maildrop in the store on the other.
 *
 *            peek                 event: PASS, AUTH    login desk ──► maildrop
 *   stream ─────────► pop3_server ──────────────────► here
 *      ▲                  │ replies      RETR, TOP      │ mailstore_read
 *      └──── outbox ◄─────┴─────────────────────────────┘
 *                         QUIT      maildrop_update ... durable ──► the last reply
 *
 * A session that loses its client while it updates lives on, and keeps the maildrop to itself, until the store has
 * answered.
 *
 * Source: RFC 1939; RFC 2595 §4 (STLS); RFC 8314 §3.2 (TLS from the beginning).
 */
#include "engine/core/check.h"
#include "engine/mailbox/pop3_private.h"
#include "engine/tls/tls.h"
#include <stdio.h>
#include <stdlib.h>

#define SLICES 16
#define LOGIN_NS (60ull * 1000000000ull)
#define IDLE_NS (600ull * 1000000000ull) /* RFC 1939 §3: at least ten minutes */
#define HANDSHAKE_NS (60ull * 1000000000ull)
#define LAST_WORDS_NS (10ull * 1000000000ull)
#define OUTBOX_BYTES (64u * 1024)

static void session_end(struct pop3_session *session);

static uint64_t now_of(const struct pop3_session *session)
{
    return session->session.mailbox->shard->now_ns;
}

/* ---- Replies ---- */

void pop3_session_refuse(struct pop3_session *session, const char *code, const char *text)
{
    pop3_server_verdict(
        &session->server,
        &(struct pop3_verdict){.answer = POP3_ERR, .code = code, .text = slice_text(text)});
}

void pop3_session_closing(struct pop3_session *session)
{
    session->state = POP3_SESSION_CLOSING;
    session->give_up_ns = now_of(session) + LAST_WORDS_NS;
}

bool pop3_session_is_full(struct pop3_session *session)
{
    return session->outbox.failed || outbox_is_full(&session->outbox);
}

static void output_take(struct pop3_session *session)
{
    struct slice output = pop3_server_output(&session->server);
    outbox_write(&session->outbox, output);
    pop3_server_sent(&session->server, output.size);
}

/* 0: the stream has all; -EAGAIN; -ENOMEM; another errno: it is closed. */
static int output_write(struct pop3_session *session)
{
    size_t before = session->outbox.bytes;
    int status = session_flush(&session->session, &session->outbox, session->stream);
    if (session->outbox.bytes < before) {
        pop3_server_progress(&session->server, now_of(session));
    }
    return status;
}

/* ---- The dialogue ---- */

static void greet(struct pop3_session *session)
{
    const struct mailbox *mailbox = session->session.mailbox;
    char text[POP3_TEXT_MAX];
    if (mailbox->draining) {
        pop3_session_refuse(session, "SYS/TEMP", "Service is ending");
        return;
    }
    int size = snprintf(text, sizeof(text), "%s POP3 ready", mailbox->conf->hostname);
    struct slice said = slice_first(slice_of(text, (size_t)size), sizeof(text) - 1);
    pop3_server_verdict(&session->server,
                        &(struct pop3_verdict){.answer = POP3_OK, .code = "", .text = said});
}

static void update_answer(struct pop3_session *session, int status)
{
    const struct mailbox *mailbox = session->session.mailbox;
    if (status == 0) {
        pop3_server_verdict(&session->server, NULL);
        return;
    }
    logger_line(mailbox->shard->logger, LOGGER_ERROR,
                "store: what %s has deleted cannot be removed: %s", session->user,
                strerror(-status));
    pop3_session_refuse(session, "SYS/TEMP", "The deleted messages are not removed");
}

static void updated(struct maildrop *drop, int status)
{
    struct pop3_session *session = list_entry(drop, struct pop3_session, drop);
    if (session->state == POP3_SESSION_GONE) {
        session_end(session);
        return;
    }
    check(session->state == POP3_SESSION_UPDATING);
    session->state = POP3_SESSION_READING;
    update_answer(session, status);
    pop3_session_run(session);
}

static void update(struct pop3_session *session)
{
    int status = maildrop_update(&session->drop);
    if (status == -EINPROGRESS) {
        session->state = POP3_SESSION_UPDATING;
    } else {
        update_answer(session, status);
    }
}

static void event_take(struct pop3_session *session, const struct pop3_event *event)
{
    session_counters(&session->session)->commands +=
        event->kind != POP3_EVENT_NONE && event->kind != POP3_EVENT_CONNECTED;
    switch (event->kind) {
    case POP3_EVENT_NONE:
        return;
    case POP3_EVENT_CONNECTED:
        greet(session);
        return;
    case POP3_EVENT_LOGIN:
        pop3_login_password(session, event);
        return;
    case POP3_EVENT_AUTH:
        pop3_login_auth(session, event);
        return;
    case POP3_EVENT_AUTH_ANSWER:
        pop3_login_answer(session, event->octets);
        return;
    case POP3_EVENT_AUTH_CANCEL:
        pop3_login_end(session);
        return;
    case POP3_EVENT_RETRIEVE:
        pop3_message_begin(session, event);
        return;
    case POP3_EVENT_UPDATE:
        update(session);
        return;
    }
}

/* Returns how much of the slice is done with. *more: the machine would take the next. */
static size_t slice_feed(struct pop3_session *session, struct slice input, bool *more)
{
    size_t done = 0;
    *more = true;
    while (session->state == POP3_SESSION_READING && !pop3_session_is_full(session)) {
        size_t used = 0;
        struct pop3_event event = {.kind = POP3_EVENT_NONE};
        enum pop3_want want = pop3_server_input(&session->server, now_of(session),
                                                slice_from(input, done), &used, &event);
        done += used;
        event_take(session, &event);
        bool replied = pop3_server_output(&session->server).size > 0;
        output_take(session);
        if (want == POP3_WANT_TLS) {
            session->state = POP3_SESSION_SECURING;
        } else if (want == POP3_WANT_CLOSE) {
            pop3_session_closing(session);
        } else if (used == 0 && event.kind == POP3_EVENT_NONE && !replied) {
            return done; /* all of it is taken */
        }
    }
    *more = false;
    return done;
}

/* False: it waits for input. */
static bool input_take(struct pop3_session *session)
{
    struct slice slices[SLICES];
    size_t consumed = 0;
    bool more = true;
    size_t count = stream_peek(session->stream, slices, SLICES);
    if (count == 0) {
        slice_feed(session, slice_of(NULL, 0), &more); /* what needs no input */
        return !more;
    }
    for (size_t i = 0; i < count && more; i++) {
        consumed += slice_feed(session, slices[i], &more);
    }
    session_consume(&session->session, session->stream, consumed);
    return consumed > 0 || !more;
}

/* One step. False: it waits for something else than room in the outbox. */
static bool step(struct pop3_session *session)
{
    bool goes_on = false;
    switch ((enum pop3_session_state)session->state) {
    case POP3_SESSION_READING:
        return input_take(session);
    case POP3_SESSION_RETRIEVING:
        goes_on = pop3_message_retrieve(session);
        break;
    case POP3_SESSION_SENDING:
        goes_on = pop3_message_send(session);
        break;
    case POP3_SESSION_HANDSHAKE:
    case POP3_SESSION_LOGIN:
    case POP3_SESSION_UPDATING:
    case POP3_SESSION_SECURING:
    case POP3_SESSION_CLOSING:
    case POP3_SESSION_GONE:
        return false;
    }
    output_take(session);
    return goes_on;
}

/* ---- TLS ---- */

static void input_drop(struct pop3_session *session)
{
    struct slice slice;
    while (stream_peek(session->stream, &slice, 1) > 0) {
        stream_consume(session->stream, slice.size);
    }
}

static void notified(struct stream *stream, uint32_t events, void *owner);

/* From here on the stream is a TLS one. What the client has sent in the clear behind STLS is never read. False: the
 * session has ended. */
static bool secure(struct pop3_session *session)
{
    const struct mailbox *mailbox = session->session.mailbox;
    struct stream *below = session->stream;
    if (session->state == POP3_SESSION_SECURING) {
        input_drop(session);
    }
    session->stream = NULL;
    if (mailbox->tls_server == NULL) { /* a reload has taken the certificate */
        stream_abort(below);
        stream_release(below);
    } else if (tls_accept(mailbox->tls, below, mailbox->tls_server, &session->stream) < 0) {
        session->stream = NULL;
    }
    if (session->stream == NULL) {
        session_end(session);
        return false;
    }
    session->stream->session = session;
    session->stream->notify = notified;
    session->state = POP3_SESSION_HANDSHAKE;
    session->give_up_ns = now_of(session) + HANDSHAKE_NS;
    if (session->finished) { /* nobody else is told any more */
        tls_half_closed(session->stream);
    }
    return true;
}

static void secured(struct pop3_session *session)
{
    session->session.encrypted = true;
    pop3_login_offer(session);
    pop3_server_secured(&session->server, now_of(session));
    session->state = POP3_SESSION_READING;
}

/* ---- Time ---- */

static uint64_t due_of(const struct pop3_session *session)
{
    uint64_t deadline_ns = pop3_server_deadline(&session->server);
    switch ((enum pop3_session_state)session->state) {
    case POP3_SESSION_READING:
    case POP3_SESSION_SECURING:
        return deadline_ns;
    case POP3_SESSION_SENDING:
        return deadline_ns < session->retry_ns ? deadline_ns : session->retry_ns;
    case POP3_SESSION_RETRIEVING:
        return session->retry_ns;
    case POP3_SESSION_HANDSHAKE:
    case POP3_SESSION_CLOSING:
        return session->give_up_ns;
    case POP3_SESSION_LOGIN:    /* the desk answers in any case */
    case POP3_SESSION_UPDATING: /* and so does the store */
    case POP3_SESSION_GONE:
        break;
    }
    return WHEEL_NEVER;
}

/* Deadlines move; the timer is only ever brought forward, and looks again when it fires. */
static void timer_set(struct pop3_session *session)
{
    uint64_t due_ns = due_of(session);
    if (due_ns != WHEEL_NEVER &&
        (!timer_armed(&session->timer) || session->timer.due_ns > due_ns)) {
        wheel_arm(session->session.mailbox->shard->wheel, &session->timer, due_ns);
    }
}

static void cut(struct pop3_session *session)
{
    stream_abort(session->stream);
    session_end(session);
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct pop3_session *session = list_entry(timer, struct pop3_session, timer);
    switch ((enum pop3_session_state)session->state) {
    case POP3_SESSION_HANDSHAKE:
    case POP3_SESSION_CLOSING: /* it does not take our last words */
        if (session->give_up_ns <= now_ns) {
            cut(session);
            return;
        }
        break;
    case POP3_SESSION_READING:
    case POP3_SESSION_SECURING:
    case POP3_SESSION_SENDING:
        if (pop3_server_deadline(&session->server) > now_ns) {
            break;
        }
        pop3_server_expire(&session->server);
        if (!outbox_is_empty(&session->outbox) || session->state == POP3_SESSION_SENDING) {
            cut(session); /* what it has of a message is not the whole */
            return;
        }
        pop3_session_closing(session);
        break;
    case POP3_SESSION_LOGIN:
    case POP3_SESSION_RETRIEVING:
    case POP3_SESSION_UPDATING:
    case POP3_SESSION_GONE:
        break;
    }
    pop3_session_run(session);
}

/* ---- Events ---- */

/* False: the session has ended. */
static bool settle(struct pop3_session *session)
{
    struct slice left;
    if (session->state == POP3_SESSION_SECURING) {
        return secure(session);
    }
    if (session->state == POP3_SESSION_READING && session->finished &&
        stream_peek(session->stream, &left, 1) == 0) {
        pop3_session_closing(session); /* torn off: nobody waits for a reply */
    }
    if (session->state == POP3_SESSION_CLOSING) {
        session_end(session);
        return false;
    }
    return true;
}

void pop3_session_run(struct pop3_session *session)
{
    bool waits = false;
    int status = 0;
    while (status == 0 && !waits) {
        while (!waits && !pop3_session_is_full(session)) {
            waits = !step(session);
        }
        status = output_write(session);
    }
    if (status != 0 && status != -EAGAIN) {
        cut(session);
        return;
    }
    if (status == 0 && !settle(session)) {
        return;
    }
    timer_set(session);
}

static void notified(struct stream *stream, uint32_t events, void *owner)
{
    struct pop3_session *session = (struct pop3_session *)owner;
    (void)stream;
    if ((events & STREAM_CLOSED) != 0) {
        session_end(session);
        return;
    }
    if ((events & STREAM_CONNECTED) != 0 && session->state == POP3_SESSION_HANDSHAKE) {
        secured(session);
    }
    session->finished = session->finished || (events & STREAM_HALF_CLOSED) != 0;
    if (session->state == POP3_SESSION_CLOSING) {
        input_drop(session);
    }
    pop3_session_run(session);
}

/* ---- Life ---- */

static void session_free(struct pop3_session *session)
{
    list_remove(&session->session.node);
    pop3_server_close(&session->server);
    free(session);
}

/* Lets go of the stream; what was written is still sent. */
static void session_end(struct pop3_session *session)
{
    struct mailbox *mailbox = session->session.mailbox;
    if (session->state != POP3_SESSION_GONE) {
        wheel_disarm(mailbox->shard->wheel, &session->timer);
        pop3_login_end(session);
        pop3_message_end(session);
        outbox_close(&session->outbox);
        if (session->stream != NULL) {
            stream_release(session->stream);
            session->stream = NULL;
        }
        session_over(&session->session);
    }
    if (session->state == POP3_SESSION_UPDATING) {
        session->state = POP3_SESSION_GONE;
        return;
    }
    maildrop_close(&session->drop);
    session_free(session);
}

/* Between commands, with nothing on its way. */
static bool is_idle(const struct pop3_session *session)
{
    const struct pop3_server *server = &session->server;
    struct slice left;
    return session->state == POP3_SESSION_READING && outbox_is_empty(&session->outbox) &&
           (server->line_bytes == 0 || server->line_ended) &&
           stream_peek(session->stream, &left, 1) == 0;
}

static void session_drain(struct session *base)
{
    struct pop3_session *session = (struct pop3_session *)(void *)base;
    if (session->state == POP3_SESSION_HANDSHAKE) {
        cut(session);
    } else if (is_idle(session)) {
        outbox_write(&session->outbox, slice_text("-ERR [SYS/TEMP] "));
        outbox_write(&session->outbox, slice_text(session_farewell(base)));
        outbox_write(&session->outbox, slice_text("\r\n"));
        pop3_session_closing(session);
        pop3_session_run(session);
    }
}

/* An update that was begun goes on without us. */
static bool session_abort(struct session *base)
{
    struct pop3_session *session = (struct pop3_session *)(void *)base;
    if (session->state != POP3_SESSION_GONE) {
        stream_abort(session->stream);
    }
    if (session->state == POP3_SESSION_UPDATING) {
        session_end(session);
    }
    if (session->state == POP3_SESSION_GONE) {
        maildrop_close(&session->drop);
        session_free(session);
    } else {
        session_end(session);
    }
    return true;
}

const char *pop3_session_pass(struct pop3_session *session)
{
    struct stream *stream = session->stream;
    wheel_disarm(session->session.mailbox->shard->wheel, &session->timer);
    bool finished = session->finished;
    session->stream = NULL;
    session->finished = false;
    const char *why = session_pass(&session->session, stream, finished, session->user);
    if (why != NULL) {
        session->stream = stream;
        session->finished = finished;
    }
    return why;
}

static void session_arrived(struct session *base, struct stream *stream, const char *user)
{
    struct pop3_session *session = (struct pop3_session *)(void *)base;
    (void)user;
    session->stream = stream;
    stream->session = session;
    stream->notify = notified;
    pop3_login_arrived(session);
    pop3_session_run(session);
}

/* Nobody was logged in. */
static void session_lost(struct session *base)
{
    struct pop3_session *session = (struct pop3_session *)(void *)base;
    outbox_close(&session->outbox);
    pop3_server_close(&session->server);
    free(session);
}

/* Never waits for the store alone: see session_abort. */
static void session_forget(struct session *base)
{
    (void)base;
    check(!"a POP3 session has been aborted before the store is closed");
}

static const struct session_ops session_operations = {
    .drain = session_drain,
    .abort = session_abort,
    .forget = session_forget,
    .arrived = session_arrived,
    .lost = session_lost,
};

static void refuse_stranger(const struct mailbox_door *door, struct stream *stream, const char *why)
{
    char text[80];
    int size = snprintf(text, sizeof(text), "-ERR [SYS/TEMP] %s\r\n", why);
    door->mailbox->counters.connections_refused++;
    if (door->tls != CONF_TLS_IMPLICIT) {
        stream_write(stream, slice_of(text, (size_t)size));
    }
    stream_release(stream);
}

void pop3_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct mailbox_door *door = (const struct mailbox_door *)owner;
    struct mailbox *mailbox = door->mailbox;
    struct pop3_session *session = (struct pop3_session *)calloc(1, sizeof(*session));
    (void)listener;
    mailbox->counters.connections++;
    const char *why = session == NULL
                          ? SESSION_TOO_MANY
                          : session_begin(&session->session, &session_operations, door, stream);
    if (why != NULL) {
        refuse_stranger(door, stream, why);
        free(session);
        return;
    }
    session->stream = stream;
    session->state = POP3_SESSION_READING;
    session->tls_required = door->tls == CONF_TLS_REQUIRED;
    session->retry_ns = WHEEL_NEVER;
    session->drop.updated = updated;
    timer_init(&session->timer, timer_fired);
    outbox_open(&session->outbox, OUTBOX_BYTES);
    session->settings = (struct pop3_server_settings){
        .stls = door->tls != CONF_TLS_OFF && door->tls != CONF_TLS_IMPLICIT &&
                mailbox->tls_server != NULL,
        .errors_max = mailbox->conf->limits.errors,
        .login_ns = LOGIN_NS,
        .idle_ns = IDLE_NS,
    };
    pop3_login_offer(session);
    pop3_server_open(&session->server, &session->settings, now_of(session));
    stream->session = session;
    stream->notify = notified;
    if (door->tls != CONF_TLS_IMPLICIT || secure(session)) {
        pop3_session_run(session);
    }
}
