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
#include <stdio.h>
#include <stdlib.h>

#define LOGIN_NS (60ull * 1000000000ull)
#define IDLE_NS (600ull * 1000000000ull) /* RFC 1939 §3: at least ten minutes */

static void session_end(struct dialogue *dialogue);

static struct pop3_session *session_of(struct dialogue *dialogue)
{
    return (struct pop3_session *)(void *)dialogue; /* its first member */
}

static uint64_t now_of(const struct pop3_session *session)
{
    return dialogue_now_ns(&session->dialogue);
}

/* ---- Replies ---- */

void pop3_session_refuse(struct pop3_session *session, const char *code, const char *text)
{
    pop3_server_verdict(
        &session->server,
        &(struct pop3_verdict){.answer = POP3_ERR, .code = code, .text = slice_text(text)});
}

static void output_take(struct pop3_session *session)
{
    struct slice output = pop3_server_output(&session->server);
    outbox_write(&session->dialogue.outbox, output);
    pop3_server_sent(&session->server, output.size);
}

/* The client has taken some of it. */
static void taken(struct dialogue *dialogue)
{
    pop3_server_progress(&session_of(dialogue)->server, dialogue_now_ns(dialogue));
}

/* ---- The dialogue ---- */

static void greet(struct pop3_session *session)
{
    const struct mailbox *mailbox = session->dialogue.session.mailbox;
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
    const struct mailbox *mailbox = session->dialogue.session.mailbox;
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
    if (session->dialogue.state == POP3_SESSION_GONE) {
        session_end(&session->dialogue);
        return;
    }
    check(session->dialogue.state == POP3_SESSION_UPDATING);
    session->dialogue.state = POP3_SESSION_READING;
    update_answer(session, status);
    dialogue_run(&session->dialogue);
}

static void update(struct pop3_session *session)
{
    int status = maildrop_update(&session->drop);
    if (status == -EINPROGRESS) {
        session->dialogue.state = POP3_SESSION_UPDATING;
    } else {
        update_answer(session, status);
    }
}

static void event_take(struct pop3_session *session, const struct pop3_event *event)
{
    session_counters(&session->dialogue.session)->commands +=
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
static size_t feed(struct dialogue *dialogue, struct slice input, bool *more)
{
    struct pop3_session *session = session_of(dialogue);
    size_t done = 0;
    *more = true;
    while (session->dialogue.state == POP3_SESSION_READING &&
           !dialogue_is_full(&session->dialogue)) {
        size_t used = 0;
        struct pop3_event event = {.kind = POP3_EVENT_NONE};
        enum pop3_want want = pop3_server_input(&session->server, now_of(session),
                                                slice_from(input, done), &used, &event);
        done += used;
        event_take(session, &event);
        bool replied = pop3_server_output(&session->server).size > 0;
        output_take(session);
        if (want == POP3_WANT_TLS) {
            session->dialogue.state = POP3_SESSION_SECURING;
        } else if (want == POP3_WANT_CLOSE) {
            dialogue_closing(&session->dialogue);
        } else if (used == 0 && event.kind == POP3_EVENT_NONE && !replied) {
            return done; /* all of it is taken */
        }
    }
    *more = false;
    return done;
}

static bool step(struct dialogue *dialogue)
{
    struct pop3_session *session = session_of(dialogue);
    bool goes_on = false;
    switch ((enum pop3_session_state)dialogue->state) {
    case POP3_SESSION_RETRIEVING:
        goes_on = pop3_message_retrieve(session);
        break;
    case POP3_SESSION_SENDING:
        goes_on = pop3_message_send(session);
        break;
    case POP3_SESSION_HANDSHAKE:
    case POP3_SESSION_READING:
    case POP3_SESSION_SECURING:
    case POP3_SESSION_CLOSING:
    case POP3_SESSION_LOGIN:
    case POP3_SESSION_UPDATING:
    case POP3_SESSION_GONE:
        return false;
    }
    output_take(session);
    return goes_on;
}

static void secured(struct dialogue *dialogue)
{
    struct pop3_session *session = session_of(dialogue);
    pop3_login_offer(session);
    pop3_server_secured(&session->server, now_of(session));
}

/* ---- Time ---- */

static uint64_t due_ns(const struct dialogue *dialogue)
{
    const struct pop3_session *session = (const struct pop3_session *)(const void *)dialogue;
    uint64_t deadline_ns = pop3_server_deadline(&session->server);
    switch ((enum pop3_session_state)dialogue->state) {
    case POP3_SESSION_READING:
    case POP3_SESSION_SECURING:
        return deadline_ns;
    case POP3_SESSION_SENDING:
        return deadline_ns < session->retry_ns ? deadline_ns : session->retry_ns;
    case POP3_SESSION_RETRIEVING:
        return session->retry_ns;
    case POP3_SESSION_HANDSHAKE:
    case POP3_SESSION_CLOSING:
    case POP3_SESSION_LOGIN:    /* the desk answers in any case */
    case POP3_SESSION_UPDATING: /* and so does the store */
    case POP3_SESSION_GONE:
        break;
    }
    return WHEEL_NEVER;
}

static bool expire(struct dialogue *dialogue, uint64_t now_ns)
{
    struct pop3_session *session = session_of(dialogue);
    bool sends = dialogue->state == POP3_SESSION_SENDING;
    bool counts = sends || dialogue->state == POP3_SESSION_READING ||
                  dialogue->state == POP3_SESSION_SECURING;
    if (!counts || pop3_server_deadline(&session->server) > now_ns) {
        return true;
    }
    pop3_server_expire(&session->server);
    if (sends || !outbox_is_empty(&dialogue->outbox)) {
        return false; /* what it has of a message is not the whole */
    }
    dialogue_closing(dialogue);
    return true;
}

/* ---- Life ---- */

static void session_end(struct dialogue *dialogue)
{
    struct pop3_session *session = session_of(dialogue);
    if (dialogue->state != POP3_SESSION_GONE) {
        pop3_login_end(session);
        pop3_message_end(session);
        dialogue_leave(dialogue);
    }
    if (dialogue->state == POP3_SESSION_UPDATING) {
        dialogue->state = POP3_SESSION_GONE;
        return;
    }
    maildrop_close(&session->drop);
    list_remove(&dialogue->session.node);
    pop3_server_close(&session->server);
    free(session);
}

static bool farewell(struct dialogue *dialogue)
{
    const struct pop3_server *server = &session_of(dialogue)->server;
    if (server->line_bytes > 0 && !server->line_ended) {
        return false;
    }
    outbox_write(&dialogue->outbox, slice_text("-ERR [SYS/TEMP] "));
    outbox_write(&dialogue->outbox, slice_text(session_farewell(&dialogue->session)));
    outbox_write(&dialogue->outbox, slice_text("\r\n"));
    return true;
}

/* An update that was begun goes on without us. */
static bool session_abort(struct session *base)
{
    struct pop3_session *session = (struct pop3_session *)(void *)base;
    if (session->dialogue.state != POP3_SESSION_GONE) {
        stream_abort(session->dialogue.stream);
    }
    if (session->dialogue.state == POP3_SESSION_UPDATING) {
        session_end(&session->dialogue);
    }
    session_end(&session->dialogue);
    return true;
}

static void session_arrived(struct session *base, struct stream *stream, const char *user)
{
    struct pop3_session *session = (struct pop3_session *)(void *)base;
    (void)user;
    dialogue_arrived(&session->dialogue, stream);
    pop3_login_arrived(session);
    dialogue_run(&session->dialogue);
}

/* Nobody was logged in. */
static void session_lost(struct session *base)
{
    struct pop3_session *session = (struct pop3_session *)(void *)base;
    outbox_close(&session->dialogue.outbox);
    pop3_server_close(&session->server);
    free(session);
}

static const struct session_ops session_operations = {
    .drain = dialogue_drain,
    .abort = session_abort,
    .forget = dialogue_forget,
    .arrived = session_arrived,
    .lost = session_lost,
};

static const struct dialogue_ops operations = {
    .session = &session_operations,
    .refusal = {"-ERR [SYS/TEMP] ", "\r\n"},
    .feed = feed,
    .step = step,
    .taken = taken,
    .secured = secured,
    .due_ns = due_ns,
    .expire = expire,
    .farewell = farewell,
    .end = session_end,
};

void pop3_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct mailbox_door *door = (const struct mailbox_door *)owner;
    struct dialogue *dialogue =
        dialogue_accept(door, stream, sizeof(struct pop3_session), &operations);
    (void)listener;
    if (dialogue == NULL) {
        return;
    }
    struct pop3_session *session = session_of(dialogue);
    session->retry_ns = WHEEL_NEVER;
    session->drop.updated = updated;
    session->settings = (struct pop3_server_settings){
        .stls = dialogue_offers_tls(door),
        .errors_max = door->mailbox->conf->limits.errors,
        .login_ns = LOGIN_NS,
        .idle_ns = IDLE_NS,
    };
    pop3_login_offer(session);
    pop3_server_open(&session->server, &session->settings, now_of(session));
    dialogue_start(dialogue, door);
}
