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
#include <stdlib.h>

#define LOGIN_NS (60ull * 1000000000ull)
#define IDLE_NS (1800ull * 1000000000ull) /* RFC 5804 §1.2: at least thirty minutes */
#define REDIRECTS_MAX 4u

static struct managesieve_session *session_of(struct dialogue *dialogue)
{
    return (struct managesieve_session *)(void *)dialogue; /* its first member */
}

static uint64_t now_of(const struct managesieve_session *session)
{
    return dialogue_now_ns(&session->dialogue);
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
    outbox_write(&session->dialogue.outbox, output);
    managesieve_server_sent(&session->server, output.size);
}

/* ---- The dialogue ---- */

static void event_take(struct managesieve_session *session, const struct managesieve_event *event)
{
    session_counters(&session->dialogue.session)->commands +=
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
static size_t feed(struct dialogue *dialogue, struct slice input, bool *more)
{
    struct managesieve_session *session = session_of(dialogue);
    size_t done = 0;
    *more = true;
    while (session->dialogue.state == MANAGESIEVE_SESSION_READING &&
           !dialogue_is_full(&session->dialogue)) {
        size_t used = 0;
        struct managesieve_event event;
        enum managesieve_want want = managesieve_server_input(
            &session->server, now_of(session), slice_from(input, done), &used, &event);
        done += used;
        event_take(session, &event);
        bool replied = managesieve_server_output(&session->server).size > 0;
        managesieve_session_output(session);
        if (want == MANAGESIEVE_WANT_TLS) {
            session->dialogue.state = MANAGESIEVE_SESSION_SECURING;
        } else if (want == MANAGESIEVE_WANT_CLOSE) {
            dialogue_closing(&session->dialogue);
        } else if (used == 0 && event.kind == MANAGESIEVE_EVENT_NONE && !replied) {
            return done; /* all of it is taken */
        }
    }
    *more = false;
    return done;
}

static void machine_open(struct managesieve_session *session, bool secured)
{
    managesieve_login_offer(session);
    managesieve_server_open(&session->server, &session->settings, secured, now_of(session));
    session->opened = true;
    if (session->dialogue.session.mailbox->draining) {
        managesieve_server_shut(&session->server);
    }
    managesieve_session_output(session);
}

static void secured(struct dialogue *dialogue)
{
    struct managesieve_session *session = session_of(dialogue);
    if (!session->opened) {
        machine_open(session, true);
        return;
    }
    managesieve_login_offer(session);
    managesieve_server_secured(&session->server, now_of(session));
    managesieve_session_output(session);
}

/* ---- Time ---- */

static uint64_t due_ns(const struct dialogue *dialogue)
{
    const struct managesieve_session *session =
        (const struct managesieve_session *)(const void *)dialogue;
    switch ((enum managesieve_session_state)dialogue->state) {
    case MANAGESIEVE_SESSION_READING:
    case MANAGESIEVE_SESSION_SECURING:
        return managesieve_server_deadline(&session->server);
    case MANAGESIEVE_SESSION_HANDSHAKE:
    case MANAGESIEVE_SESSION_CLOSING:
    case MANAGESIEVE_SESSION_LOGIN:    /* the desk answers in any case */
    case MANAGESIEVE_SESSION_CHANGING: /* and so does the store */
        break;
    }
    return WHEEL_NEVER;
}

static bool expire(struct dialogue *dialogue, uint64_t now_ns)
{
    struct managesieve_session *session = session_of(dialogue);
    if (due_ns(dialogue) > now_ns) {
        return true;
    }
    if (!outbox_is_empty(&dialogue->outbox)) {
        return false;
    }
    managesieve_server_expire(&session->server);
    managesieve_session_output(session);
    dialogue_closing(dialogue);
    return true;
}

/* ---- Life ---- */

/* A change that was begun goes on. */
static void session_end(struct dialogue *dialogue)
{
    struct managesieve_session *session = session_of(dialogue);
    managesieve_scripts_end(session);
    managesieve_login_end(session);
    dialogue_leave(dialogue);
    list_remove(&dialogue->session.node);
    explicit_bzero(&session->server, sizeof session->server); /* passwords were in it */
    free(session);
}

static bool farewell(struct dialogue *dialogue)
{
    struct managesieve_session *session = session_of(dialogue);
    if (session->server.line_bytes > 0 || session->server.state == MANAGESIEVE_SCRIPT ||
        session->server.state == MANAGESIEVE_SCRIPT_TAIL) {
        return false;
    }
    managesieve_server_shut(&session->server);
    managesieve_session_output(session);
    return true;
}

static void session_arrived(struct session *base, struct stream *stream, const char *user)
{
    struct managesieve_session *session = (struct managesieve_session *)(void *)base;
    dialogue_arrived(&session->dialogue, stream);
    managesieve_login_arrived(session, user);
    managesieve_session_output(session);
    dialogue_run(&session->dialogue);
}

/* Nobody was logged in. */
static void session_lost(struct session *base)
{
    struct managesieve_session *session = (struct managesieve_session *)(void *)base;
    outbox_close(&session->dialogue.outbox);
    explicit_bzero(&session->server, sizeof session->server);
    free(session);
}

static const struct session_ops session_operations = {
    .drain = dialogue_drain,
    .abort = dialogue_abort,
    .forget = dialogue_forget,
    .arrived = session_arrived,
    .lost = session_lost,
};

static const struct dialogue_ops operations = {
    .session = &session_operations,
    .refusal = {"BYE (TRYLATER) \"", "\"\r\n"},
    .feed = feed,
    .secured = secured,
    .due_ns = due_ns,
    .expire = expire,
    .farewell = farewell,
    .end = session_end,
};

static void settings_make(struct managesieve_session *session, const struct mailbox_door *door)
{
    size_t size = sieve_extensions_list(SIEVE_EXTENSIONS_HERE, session->extensions,
                                        sizeof session->extensions);
    session->settings = (struct managesieve_settings){
        .implementation = slice_text("Tubepost"),
        .sieve = slice_of(session->extensions, size),
        .starttls = dialogue_offers_tls(door),
        .redirects_max = REDIRECTS_MAX,
        .script_bytes_max = MANAGESIEVE_SCRIPT_BYTES_MAX,
        .errors_max = door->mailbox->conf->limits.errors,
        .login_ns = LOGIN_NS,
        .idle_ns = IDLE_NS,
    };
}

void managesieve_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    const struct mailbox_door *door = (const struct mailbox_door *)owner;
    struct dialogue *dialogue =
        dialogue_accept(door, stream, sizeof(struct managesieve_session), &operations);
    (void)listener;
    if (dialogue == NULL) {
        return;
    }
    struct managesieve_session *session = session_of(dialogue);
    settings_make(session, door);
    if (door->tls != CONF_TLS_IMPLICIT) {
        machine_open(session, false);
    }
    dialogue_start(dialogue, door);
}
