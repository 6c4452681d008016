/*
 * managesieve_session: one ManageSieve session: a stream on one side, a user's scripts in the store on the other.
 *
 *            peek                        event: AUTHENTICATE    login desk
 *   stream ─────────► managesieve_server ──────────────────────► here
 *      ▲                     │ replies     PUTSCRIPT, ...        │ mailstore_property_set ... durable ──► the reply
 *      └──── outbox ◄────────┘                                   └──────────────────────────────────
 *
 * Source: RFC 5804.
 */
#include "engine/mailbox/managesieve_session.h"
#include "engine/core/check.h"
#include "engine/tls/tls.h"
#include <stdio.h>
#include <stdlib.h>

#define SLICES 16
#define LOGIN_NS (60ull * 1000000000ull)
#define IDLE_NS (1800ull * 1000000000ull) /* RFC 5804 §1.2: at least thirty minutes */
#define HANDSHAKE_NS (60ull * 1000000000ull)
#define LAST_WORDS_NS (10ull * 1000000000ull)
#define OUTBOX_BYTES (64u * 1024)
#define REDIRECTS_MAX 4u

static void session_end(struct managesieve_session *session);

static uint64_t now_of(const struct managesieve_session *session)
{
    return session->session.mailbox->shard->now_ns;
}

/* ---- Replies ---- */

void managesieve_session_refuse(struct managesieve_session *session, const char *code,
                                const char *text)
{
    managesieve_server_verdict(
        &session->server, &(struct managesieve_verdict){
                              .reply = MANAGESIEVE_NO, .code = code, .text = slice_text(text)});
}

void managesieve_session_output(struct managesieve_session *session)
{
    struct slice output = managesieve_server_output(&session->server);
    outbox_write(&session->outbox, output);
    managesieve_server_sent(&session->server, output.size);
}

static void closing(struct managesieve_session *session)
{
    session->state = MANAGESIEVE_SESSION_CLOSING;
    session->give_up_ns = now_of(session) + LAST_WORDS_NS;
}

static bool is_full(struct managesieve_session *session)
{
    return session->outbox.failed || outbox_is_full(&session->outbox);
}

/* ---- The dialogue ---- */

static void event_take(struct managesieve_session *session, const struct managesieve_event *event)
{
    session_counters(&session->session)->commands +=
        event->kind != MANAGESIEVE_EVENT_NONE && event->kind != MANAGESIEVE_EVENT_SCRIPT;
    switch (event->kind) {
    case MANAGESIEVE_EVENT_AUTHENTICATE:
        managesieve_login_begin(session, event);
        return;
    case MANAGESIEVE_EVENT_RESPONSE:
        managesieve_login_answer(session, event->text);
        return;
    case MANAGESIEVE_EVENT_CANCEL:
    case MANAGESIEVE_EVENT_UNAUTHENTICATE:
        managesieve_login_end(session);
        return;
    case MANAGESIEVE_EVENT_NONE:
    case MANAGESIEVE_EVENT_HAVESPACE:
    case MANAGESIEVE_EVENT_SCRIPT_BEGIN:
    case MANAGESIEVE_EVENT_SCRIPT:
    case MANAGESIEVE_EVENT_SCRIPT_END:
    case MANAGESIEVE_EVENT_LISTSCRIPTS:
    case MANAGESIEVE_EVENT_SETACTIVE:
    case MANAGESIEVE_EVENT_GETSCRIPT:
    case MANAGESIEVE_EVENT_DELETESCRIPT:
    case MANAGESIEVE_EVENT_RENAMESCRIPT:
        managesieve_scripts_event(session, event);
        return;
    }
}

/* Returns how much of the slice is done with. *more: the machine would take the next. */
static size_t slice_feed(struct managesieve_session *session, struct slice input, bool *more)
{
    size_t done = 0;
    *more = true;
    while (session->state == MANAGESIEVE_SESSION_READING && !is_full(session)) {
        size_t used = 0;
        struct managesieve_event event;
        enum managesieve_want want = managesieve_server_input(
            &session->server, now_of(session), slice_from(input, done), &used, &event);
        done += used;
        event_take(session, &event);
        bool replied = managesieve_server_output(&session->server).size > 0;
        managesieve_session_output(session);
        if (want == MANAGESIEVE_WANT_TLS) {
            session->state = MANAGESIEVE_SESSION_SECURING;
        } else if (want == MANAGESIEVE_WANT_CLOSE) {
            closing(session);
        } else if (used == 0 && event.kind == MANAGESIEVE_EVENT_NONE && !replied) {
            return done; /* all of it is taken */
        }
    }
    *more = false;
    return done;
}

/* False: it waits for input, or for somebody's answer. */
static bool input_take(struct managesieve_session *session)
{
    struct slice slices[SLICES];
    size_t consumed = 0;
    bool more = true;
    if (session->state != MANAGESIEVE_SESSION_READING) {
        return false;
    }
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

/* ---- TLS ---- */

static void input_drop(struct managesieve_session *session)
{
    struct slice slice;
    while (stream_peek(session->stream, &slice, 1) > 0) {
        stream_consume(session->stream, slice.size);
    }
}

static void notified(struct stream *stream, uint32_t events, void *owner);

/* From here on the stream is a TLS one. What the client has sent in the clear behind STARTTLS is never read. False: the
 * session has ended. */
static bool secure(struct managesieve_session *session)
{
    const struct mailbox *mailbox = session->session.mailbox;
    struct stream *below = session->stream;
    if (session->state == MANAGESIEVE_SESSION_SECURING) {
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
    session->state = MANAGESIEVE_SESSION_HANDSHAKE;
    session->give_up_ns = now_of(session) + HANDSHAKE_NS;
    if (session->finished) { /* nobody else is told any more */
        tls_half_closed(session->stream);
    }
    return true;
}

static void machine_open(struct managesieve_session *session, bool secured)
{
    managesieve_login_offer(session);
    managesieve_server_open(&session->server, &session->settings, secured, now_of(session));
    session->opened = true;
    if (session->session.mailbox->draining) {
        managesieve_server_shut(&session->server);
    }
    managesieve_session_output(session);
}

static void secured(struct managesieve_session *session)
{
    session->session.encrypted = true;
    session->state = MANAGESIEVE_SESSION_READING;
    if (!session->opened) {
        machine_open(session, true);
        return;
    }
    managesieve_login_offer(session);
    managesieve_server_secured(&session->server, now_of(session));
    managesieve_session_output(session);
}

/* ---- Time ---- */

static uint64_t due_of(const struct managesieve_session *session)
{
    switch ((enum managesieve_session_state)session->state) {
    case MANAGESIEVE_SESSION_READING:
    case MANAGESIEVE_SESSION_SECURING:
        return managesieve_server_deadline(&session->server);
    case MANAGESIEVE_SESSION_HANDSHAKE:
    case MANAGESIEVE_SESSION_CLOSING:
        return session->give_up_ns;
    case MANAGESIEVE_SESSION_LOGIN:    /* the desk answers in any case */
    case MANAGESIEVE_SESSION_CHANGING: /* and so does the store */
        break;
    }
    return WHEEL_NEVER;
}

/* Deadlines move; the timer is only ever brought forward, and looks again when it fires. */
static void timer_set(struct managesieve_session *session)
{
    uint64_t due_ns = due_of(session);
    if (due_ns != WHEEL_NEVER &&
        (!timer_armed(&session->timer) || session->timer.due_ns > due_ns)) {
        wheel_arm(session->session.mailbox->shard->wheel, &session->timer, due_ns);
    }
}

static void cut(struct managesieve_session *session)
{
    stream_abort(session->stream);
    session_end(session);
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct managesieve_session *session = list_entry(timer, struct managesieve_session, timer);
    switch ((enum managesieve_session_state)session->state) {
    case MANAGESIEVE_SESSION_HANDSHAKE:
    case MANAGESIEVE_SESSION_CLOSING: /* it does not take our last words */
        if (session->give_up_ns <= now_ns) {
            cut(session);
            return;
        }
        break;
    case MANAGESIEVE_SESSION_READING:
    case MANAGESIEVE_SESSION_SECURING:
        if (managesieve_server_deadline(&session->server) > now_ns) {
            break;
        }
        if (!outbox_is_empty(&session->outbox)) {
            cut(session);
            return;
        }
        managesieve_server_expire(&session->server);
        managesieve_session_output(session);
        closing(session);
        break;
    case MANAGESIEVE_SESSION_LOGIN:
    case MANAGESIEVE_SESSION_CHANGING:
        break;
    }
    managesieve_session_run(session);
}

/* ---- Events ---- */

/* All is written. False: the session has ended. */
static bool settle(struct managesieve_session *session)
{
    struct slice left;
    if (session->state == MANAGESIEVE_SESSION_SECURING) {
        return secure(session);
    }
    if (session->state == MANAGESIEVE_SESSION_READING && session->finished &&
        stream_peek(session->stream, &left, 1) == 0) {
        closing(session); /* torn off: nobody waits for a reply */
    }
    if (session->state == MANAGESIEVE_SESSION_CLOSING) {
        session_end(session);
        return false;
    }
    return true;
}

void managesieve_session_run(struct managesieve_session *session)
{
    bool waits = false;
    int status = 0;
    while (status == 0 && !waits) {
        while (!waits && !is_full(session)) {
            waits = !input_take(session);
        }
        status = session_flush(&session->session, &session->outbox, session->stream);
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
    struct managesieve_session *session = (struct managesieve_session *)owner;
    (void)stream;
    if ((events & STREAM_CLOSED) != 0) {
        session_end(session);
        return;
    }
    if ((events & STREAM_CONNECTED) != 0 && session->state == MANAGESIEVE_SESSION_HANDSHAKE) {
        secured(session);
    }
    session->finished = session->finished || (events & STREAM_HALF_CLOSED) != 0;
    if (session->state == MANAGESIEVE_SESSION_CLOSING) {
        input_drop(session);
    }
    managesieve_session_run(session);
}

/* ---- Life ---- */

/* Lets go of the stream; what was written is still sent, and a change that was begun goes on. */
static void session_end(struct managesieve_session *session)
{
    struct mailbox *mailbox = session->session.mailbox;
    wheel_disarm(mailbox->shard->wheel, &session->timer);
    managesieve_scripts_end(session);
    managesieve_login_end(session);
    outbox_close(&session->outbox);
    if (session->stream != NULL) {
        stream_release(session->stream);
    }
    session_over(&session->session);
    list_remove(&session->session.node);
    explicit_bzero(&session->server, sizeof session->server); /* passwords were in it */
    free(session);
}

static void session_drain(struct session *base)
{
    struct managesieve_session *session = (struct managesieve_session *)(void *)base;
    struct slice left;
    if (session->state == MANAGESIEVE_SESSION_HANDSHAKE) {
        cut(session);
    } else if (session->state == MANAGESIEVE_SESSION_READING && outbox_is_empty(&session->outbox) &&
               session->server.line_bytes == 0 && session->server.state != MANAGESIEVE_SCRIPT &&
               session->server.state != MANAGESIEVE_SCRIPT_TAIL &&
               stream_peek(session->stream, &left, 1) == 0) {
        managesieve_server_shut(&session->server);
        managesieve_session_output(session);
        closing(session);
        managesieve_session_run(session);
    }
}

static bool session_abort(struct session *base)
{
    cut((struct managesieve_session *)(void *)base);
    return true;
}

const char *managesieve_session_pass(struct managesieve_session *session, const char *user)
{
    struct stream *stream = session->stream;
    wheel_disarm(session->session.mailbox->shard->wheel, &session->timer);
    bool finished = session->finished;
    session->stream = NULL;
    session->finished = false;
    const char *why = session_pass(&session->session, stream, finished, user);
    if (why != NULL) {
        session->stream = stream;
        session->finished = finished;
    }
    return why;
}

static void session_arrived(struct session *base, struct stream *stream, const char *user)
{
    struct managesieve_session *session = (struct managesieve_session *)(void *)base;
    session->stream = stream;
    stream->session = session;
    stream->notify = notified;
    managesieve_login_arrived(session, user);
    managesieve_session_output(session);
    managesieve_session_run(session);
}

/* Nobody was logged in. */
static void session_lost(struct session *base)
{
    struct managesieve_session *session = (struct managesieve_session *)(void *)base;
    outbox_close(&session->outbox);
    explicit_bzero(&session->server, sizeof session->server);
    free(session);
}

/* Never waits for the store alone. */
static void session_forget(struct session *base)
{
    (void)base;
    check(!"a ManageSieve session has been aborted before the store is closed");
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
    int size = snprintf(text, sizeof text, "BYE (TRYLATER) \"%s\"\r\n", why);
    door->mailbox->counters.connections_refused++;
    if (door->tls != CONF_TLS_IMPLICIT) {
        stream_write(stream, slice_of(text, (size_t)size));
    }
    stream_release(stream);
}

static void settings_make(struct managesieve_session *session, const struct mailbox_door *door)
{
    const struct mailbox *mailbox = door->mailbox;
    size_t size = sieve_extensions_list(SIEVE_EXTENSIONS_HERE, session->extensions,
                                        sizeof session->extensions);
    session->settings = (struct managesieve_settings){
        .implementation = slice_text("Tubepost"),
        .sieve = slice_of(session->extensions, size),
        .starttls = door->tls != CONF_TLS_OFF && door->tls != CONF_TLS_IMPLICIT &&
                    mailbox->tls_server != NULL,
        .redirects_max = REDIRECTS_MAX,
        .script_bytes_max = MANAGESIEVE_SCRIPT_BYTES_MAX,
        .errors_max = mailbox->conf->limits.errors,
        .login_ns = LOGIN_NS,
        .idle_ns = IDLE_NS,
    };
}

void managesieve_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct mailbox_door *door = (const struct mailbox_door *)owner;
    struct mailbox *mailbox = door->mailbox;
    struct managesieve_session *session = (struct managesieve_session *)calloc(1, sizeof(*session));
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
    session->state = MANAGESIEVE_SESSION_READING;
    session->tls_required = door->tls == CONF_TLS_REQUIRED;
    timer_init(&session->timer, timer_fired);
    outbox_open(&session->outbox, OUTBOX_BYTES);
    settings_make(session, door);
    stream->session = session;
    stream->notify = notified;
    if (door->tls != CONF_TLS_IMPLICIT) {
        machine_open(session, false);
        managesieve_session_run(session);
    } else if (secure(session)) {
        managesieve_session_run(session);
    }
}
