#include "engine/control/control.h"
#include "engine/control/request.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include <stdio.h>
#include <stdlib.h>

/*
 *            a line                 control_finish             all is written
 *  LISTENING ───────► ASKED (asked) ─────────────► ANSWERING ──────────────────► LISTENING
 *      │                 │ the operator goes           │
 *      ▼                 ▼                             ▼
 *    gone             ABANDONED ── control_finish ──► gone
 *
 * TAKEN: from ASKED by control_take_over, and gone at once, or with the end of `ask`.
 */
enum session_state {
    SESSION_LISTENING,
    SESSION_ASKED,
    SESSION_ANSWERING,
    SESSION_ABANDONED,
    SESSION_TAKEN,
};

struct session {
    struct control_request request; /* first: what the answerer holds */
    struct control *control;
    struct list_node node; /* in control.sessions, longest idle first */
    struct stream *stream; /* NULL when abandoned */
    enum session_state state;
    bool peer_done; /* its FIN was seen */
    bool going_on;  /* session_go_on runs: an answer that comes at once is sent by it */
    bool failed;    /* a line could not be made */
    int64_t user;   /* of the operator; -1: not known */
    char line[CONTROL_LINE_MAX + 1];
    size_t line_bytes;
    char *output;
    size_t output_bytes, output_room, output_sent;
};

struct control {
    struct control_settings settings;
    struct listener *listener;
    struct list_node sessions;
    unsigned session_count, asked_count;
    bool rests;
};

static void session_free(struct session *session)
{
    list_remove(&session->node);
    session->control->session_count--;
    free(session->output);
    free(session);
}

/* The connection is over. What is asked is still answered, to nobody. */
static void session_leave(struct session *session)
{
    stream_release(session->stream);
    session->stream = NULL;
    if (session->state == SESSION_ASKED) {
        session->state = SESSION_ABANDONED;
    } else {
        session_free(session);
    }
}

/* ---- output ---- */

/* 0 or -ENOMEM. */
static int output_append(struct session *session, const char *text, size_t size)
{
    if (session->output_bytes + size > session->output_room) {
        size_t room = session->output_room == 0 ? 4096 : session->output_room;
        while (room < session->output_bytes + size) {
            room *= 2;
        }
        char *larger = realloc(session->output, room);
        if (larger == NULL) {
            return -ENOMEM;
        }
        session->output = larger;
        session->output_room = room;
    }
    memcpy(session->output + session->output_bytes, text, size);
    session->output_bytes += size;
    return 0;
}

/* Writes what there is; true: all of it is written. */
static bool output_drain(struct session *session)
{
    while (session->output_sent < session->output_bytes) {
        size_t left = session->output_bytes - session->output_sent;
        size_t piece = left < STREAM_WRITE_MAX ? left : STREAM_WRITE_MAX;
        int status =
            stream_write(session->stream, slice_of(session->output + session->output_sent, piece));
        if (status == -EPIPE) {
            session->output_sent = session->output_bytes; /* STREAM_CLOSED follows */
        } else if (status < 0) {
            return false;
        } else {
            session->output_sent += piece;
        }
    }
    session->output_sent = session->output_bytes = 0;
    if (session->output_room > 65536) {
        free(session->output);
        session->output = NULL;
        session->output_room = 0;
    }
    return true;
}

/* ---- input ---- */

/* Takes bytes up to a line's end. 1: a line is there; 0: not yet; -EMSGSIZE. */
static int read_line(struct session *session)
{
    struct slice piece;
    while (stream_peek(session->stream, &piece, 1) == 1 && piece.size > 0) {
        const uint8_t *end = memchr(piece.bytes, '\n', piece.size);
        size_t size = end != NULL ? (size_t)(end - piece.bytes) : piece.size;
        if (session->line_bytes + size > CONTROL_LINE_MAX) {
            return -EMSGSIZE;
        }
        memcpy(session->line + session->line_bytes, piece.bytes, size);
        session->line_bytes += size;
        stream_consume(session->stream, size + (end != NULL));
        if (end != NULL) {
            return 1;
        }
    }
    return 0;
}

static const char relay_expected[] =
    "expected status, queue "
    "list|show|body|summary|hold|release|flush|delete|bounce|reroute|suspend|"
    "resume|suspensions|jobs|job|cancel or "
    "net connections|neighbors|routes|trace|counters|capture";

static void session_ask(struct session *session)
{
    struct control *control = session->control;
    session->state = SESSION_ASKED;
    session->failed = false;
    control->asked_count++;
    int status =
        control_request_parse(&session->request, slice_of(session->line, session->line_bytes));
    session->line_bytes =
        0; /* the bytes stay, for the request's slices, until the next line is read */
    if (status < 0) {
        const char *expected = control->settings.expected;
        control_finish_error(&session->request, "bad-request",
                             expected != NULL ? expected : relay_expected);
    } else {
        control->settings.ask(control->settings.owner, &session->request);
    }
}

/* What is answered is written; true: the next line may be read. */
static bool session_listens(struct session *session)
{
    if (!output_drain(session) || session->state == SESSION_ASKED || session->control->rests) {
        return false;
    }
    session->state = SESSION_LISTENING;
    return true;
}

/* As far as it goes: writes, reads a line, asks, and again. The session may be gone afterwards. */
static void session_go_on(struct session *session)
{
    session->going_on = true;
    while (session_listens(session)) {
        int status = read_line(session);
        if (status <= 0) {
            session->going_on = false;
            if (status < 0) {
                stream_abort(session->stream);
                session_leave(session);
            } else if (session->peer_done) {
                stream_shut(session->stream);
                session_leave(session);
            }
            return;
        }
        session_ask(session);
        if (session->state == SESSION_TAKEN) {
            session_free(session);
            return;
        }
    }
    session->going_on = false;
}

static void session_notified(struct stream *stream, uint32_t events, void *owner)
{
    struct session *session = (struct session *)owner;
    check(session->stream == stream);
    if ((events & STREAM_CLOSED) != 0) {
        session_leave(session);
        return;
    }
    if ((events & STREAM_HALF_CLOSED) != 0) {
        session->peer_done = true;
    }
    session_go_on(session);
}

/* ---- connections ---- */

static struct session *idle_session(struct control *control)
{
    for (struct list_node *node = control->sessions.next; node != &control->sessions;
         node = node->next) {
        struct session *session = list_entry(node, struct session, node);
        if (session->state == SESSION_LISTENING) {
            return session;
        }
    }
    return NULL;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)listener;
    struct control *control = (struct control *)owner;
    if (control->session_count >= CONTROL_CONNECTIONS_MAX) {
        struct session *idle = idle_session(control);
        if (idle != NULL) {
            stream_abort(idle->stream);
            session_leave(idle);
        }
    }
    struct session *session = NULL;
    if (control->session_count < CONTROL_CONNECTIONS_MAX) {
        session = calloc(1, sizeof *session);
    }
    if (session == NULL) {
        stream_abort(stream);
        stream_release(stream);
        return;
    }
    session->control = control;
    session->stream = stream;
    session->state = SESSION_LISTENING;
    struct stream_facts facts;
    stream_facts(stream, &facts);
    session->user = facts.user_known ? (int64_t)facts.user : -1;
    list_init(&session->node);
    list_append(&control->sessions, &session->node);
    control->session_count++;
    stream->notify = session_notified;
    stream->session = session;
}

int control_open(struct control **made, const struct control_settings *settings)
{
    struct control *control = calloc(1, sizeof *control);
    if (control == NULL) {
        return -ENOMEM;
    }
    control->settings = *settings;
    list_init(&control->sessions);
    struct listen_request request = {.at = settings->at,
                                     .unix_mode = settings->unix_mode,
                                     .accepted = accepted,
                                     .owner = control};
    int status = settings->network->ops->listen(settings->network, &request, &control->listener);
    if (status < 0) {
        free(control);
        return status;
    }
    *made = control;
    return 0;
}

void control_close(struct control *control)
{
    check(control->asked_count == 0);
    control->settings.network->ops->unlisten(control->settings.network, control->listener);
    while (!list_empty(&control->sessions)) {
        struct session *session = list_entry(control->sessions.next, struct session, node);
        check(session->stream !=
              NULL); /* only what is asked lives on without one, and nothing is */
        stream_abort(session->stream);
        session_leave(session);
    }
    free(control);
}

bool control_abandoned(const struct control_request *request)
{
    const struct session *session = (const struct session *)(const void *)request;
    return session->state == SESSION_ABANDONED || session->peer_done;
}

int64_t control_user(const struct control_request *request)
{
    const struct session *session = (const struct session *)(const void *)request;
    return session->user;
}

void control_rest(struct control *control)
{
    control->rests = true;
}

unsigned control_pending(const struct control *control)
{
    return control->asked_count;
}

struct stream *control_take_over(struct control_request *request, bool *finished)
{
    struct session *session = (struct session *)(void *)request;
    struct stream *stream = session->stream;
    if (session->state == SESSION_ABANDONED) {
        return NULL;
    }
    check(session->state == SESSION_ASKED);
    *finished = session->peer_done;
    session->stream = NULL;
    session->state = SESSION_TAKEN;
    session->control->asked_count--;
    if (!session->going_on) {
        session_free(session);
    }
    return stream;
}

/* ---- answers ---- */

static struct session *session_of(struct control_request *request)
{
    return (struct session *)(void *)request;
}

void control_line(struct control_request *request, json_t *line)
{
    struct session *session = session_of(request);
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (session->state != SESSION_ABANDONED &&
        (text == NULL || output_append(session, text, strlen(text)) < 0 ||
         output_append(session, "\n", 1) < 0)) {
        session->failed = true;
    }
    free(text);
}

void control_flush(struct control_request *request)
{
    struct session *session = session_of(request);
    if (session->state == SESSION_ASKED) {
        output_drain(session); /* or when there is room */
    }
}

/* The last line was made: the session goes on, or away. */
static void finish(struct session *session)
{
    session->control->asked_count--;
    if (session->state == SESSION_ABANDONED) {
        session_free(session);
        return;
    }
    check(session->state == SESSION_ASKED);
    session->state = SESSION_ANSWERING;
    /* Move behind the others: those before have been idle longer. */
    list_remove(&session->node);
    list_append(&session->control->sessions, &session->node);
    if (!session->going_on) {
        session_go_on(session);
    }
}

void control_finish_with(struct control_request *request, const char *key, json_t *value)
{
    struct session *session = session_of(request);
    if (session->failed) {
        json_decref(value);
        control_finish_error(request, "failed", "the answer could not be made whole");
        return;
    }
    json_t *last = json_pack("{s:s}", "end", "ok");
    if (last != NULL && key != NULL) {
        json_object_set_new(last, key, value);
    } else {
        json_decref(value);
    }
    control_line(request, last);
    finish(session);
}

void control_finish(struct control_request *request)
{
    control_finish_with(request, NULL, NULL);
}

void control_finish_error(struct control_request *request, const char *code, const char *text)
{
    control_line(request, json_pack("{s:s,s:s,s:s}", "end", "error", "code", code, "text", text));
    finish(session_of(request));
}
