/* What comes of a client and what goes, in the clear of the stream or compressed, and what follows from it. */
#include "engine/mailbox/imap_session.h"

#define SLICES 8
#define COMMANDS_A_RUN 16 /* then the other sessions have their turn */

/* ---- Compression ---- */

/* RFC 4978 §3: the answer is the last that is sent as it is, and the command the last that is heard so. */
void imap_compress(struct imap_session *session)
{
    struct compression *compression = compression_new();
    if (compression == NULL) {
        imap_session_refuse(session, -ENOMEM);
        return;
    }
    imap_session_ok(session);
    compression_begin(compression, &session->outbox, imap_session_now_ns(session));
    session->compression = compression;
}

static size_t input_peek(struct imap_session *session, struct slice *slices, size_t count)
{
    if (session->compression == NULL) {
        return stream_peek(session->stream, slices, count);
    }
    int status = compression_peek(session->compression, session->stream, &slices[0]);
    if (status != 0) {
        imap_server_bye(&session->server,
                        status == -ENOMEM ? slice_text("UNAVAILABLE") : slice_of(NULL, 0),
                        status == -ENOMEM ? slice_text("Out of memory")
                                          : slice_text("This cannot be inflated"));
        imap_session_output(session);
        imap_append_reset(session);
        session->state = IMAP_SESSION_CLOSING;
    }
    return slices[0].size > 0;
}

static void input_consume(struct imap_session *session, size_t bytes)
{
    if (session->compression != NULL) {
        compression_consume(session->compression, bytes);
        session_counters(&session->session)->bytes_in += bytes;
    } else {
        session_consume(&session->session, session->stream, bytes);
    }
}

/* ---- Input ---- */

static void event_take(struct imap_session *session, const struct imap_event *event)
{
    switch (event->kind) {
    case IMAP_EVENT_NONE:
        return;
    case IMAP_EVENT_COMMAND:
        if (!session->session.of_service) { /* it was counted where the client has said it */
            session_counters(&session->session)->commands++;
        }
        imap_command_run(session, event);
        return;
    case IMAP_EVENT_RESPONSE:
        imap_login_answer(session, event->bytes);
        return;
    case IMAP_EVENT_CANCELLED:
        imap_login_cancelled(session);
        return;
    case IMAP_EVENT_IDLE_DONE:
        session->idling = false;
        session->may_expunge = true;
        if (!imap_abroad_idle_done(session)) {
            imap_session_ok(session);
        }
        return;
    case IMAP_EVENT_MESSAGE:
        imap_append_message(session, event->append);
        return;
    case IMAP_EVENT_MESSAGE_BYTES:
        if (!imap_append_bytes(session, event->bytes)) {
            session->state = IMAP_SESSION_HELD;
            imap_session_retry(session);
        }
        return;
    case IMAP_EVENT_MESSAGE_URL:
        imap_append_url(session, event->bytes);
        return;
    case IMAP_EVENT_MESSAGE_END:
        imap_append_end(session);
        return;
    case IMAP_EVENT_APPEND_RESET:
        imap_append_reset(session);
        return;
    }
}

/* Feeds one slice; returns how much of it is done with. *more: the next may follow. */
static size_t slice_feed(struct imap_session *session, struct slice input, unsigned *budget,
                         bool *more)
{
    const struct compression *compression = session->compression;
    size_t done = 0;
    while (!outbox_is_full(&session->outbox) && *budget > 0) {
        size_t used = 0;
        struct imap_event event = {.kind = IMAP_EVENT_NONE};
        enum imap_want want = imap_server_input(&session->server, imap_session_now_ns(session),
                                                slice_from(input, done), &used, &event);
        bool said = imap_server_output(&session->server).size > 0;
        imap_session_output(session);
        if (event.kind != IMAP_EVENT_NONE) {
            event_take(session, &event);
            imap_session_output(session);
            *budget -= 1;
        }
        if (session->state == IMAP_SESSION_HELD) {
            imap_append_held(session, used);
            break;
        }
        done += used;
        if (want == IMAP_WANT_CLOSE || want == IMAP_WANT_TLS) {
            session->state = want == IMAP_WANT_CLOSE ? IMAP_SESSION_CLOSING : IMAP_SESSION_SECURING;
        }
        if (session->state != IMAP_SESSION_READING) {
            break;
        }
        if (session->compression != compression) { /* what follows is to be inflated */
            imap_session_later(session);
            break;
        }
        if (used == 0 && event.kind == IMAP_EVENT_NONE && !said) {
            *more = *more && done == input.size; /* it wants more bytes */
            return done;
        }
    }
    *more = false;
    if (session->state == IMAP_SESSION_READING && *budget == 0) {
        imap_session_later(session);
    }
    return done;
}

void imap_input_take(struct imap_session *session)
{
    const struct compression *compression = session->compression;
    unsigned budget = COMMANDS_A_RUN;
    bool more = true;
    while (more && session->state == IMAP_SESSION_READING) {
        struct slice slices[SLICES];
        size_t count = input_peek(session, slices, SLICES);
        size_t consumed = 0;
        if (count == 0 && session->state == IMAP_SESSION_READING) {
            slice_feed(session, slice_of(NULL, 0), &budget, &more); /* events without input */
            return;
        }
        for (size_t i = 0; i < count && more && session->state == IMAP_SESSION_READING; i++) {
            consumed += slice_feed(session, slices[i], &budget, &more);
        }
        if (session->compression != compression) {
            session_consume(&session->session, session->stream, consumed);
            return;
        }
        input_consume(session, consumed);
        more = more && consumed > 0;
    }
}

void imap_input_drop(struct imap_session *session)
{
    struct slice slice;
    while (stream_peek(session->stream, &slice, 1) > 0) {
        stream_consume(session->stream, slice.size);
    }
}

/* The store may take now what it did not. */
void imap_input_held(struct imap_session *session)
{
    size_t used = imap_append_resume(session);
    if (used == 0) {
        imap_session_retry(session);
        return;
    }
    session->state = IMAP_SESSION_READING;
    imap_session_output(session);
    input_consume(session, used);
}

bool imap_input_is_empty(struct imap_session *session)
{
    struct slice left;
    return stream_peek(session->stream, &left, 1) == 0 && input_peek(session, &left, 1) == 0;
}

size_t imap_output_waits(const struct imap_session *session)
{
    return session->outbox.bytes +
           (session->compression != NULL ? compression_unsent(session->compression) : 0);
}

int imap_output_send(struct imap_session *session)
{
    if (session->compression == NULL) {
        return session_flush(&session->session, &session->outbox, session->stream);
    }
    size_t before = session->outbox.bytes;
    int status = compression_flush(session->compression, &session->outbox, session->stream);
    session_counters(&session->session)->bytes_out += before - session->outbox.bytes;
    return status;
}
