/*
 * outgoing_session: one connection to the relay, and letters over it, one after the other.
 *
 *             outgoing_take        smtp_client            bytes of the store, stuffed
 *   ready ───────────────► here ◄─────────────► stream ◄──────────────────────────── here
 */
#include "engine/mailbox/outgoing_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define BUFFER_BYTES 16384u
#define FETCH_RETRY_NS 10000000ull /* fetch memory was out */
#define CONNECT_NS (30ull * 1000000000ull)
#define FIRST_LINE "Return-Path:"

struct outgoing_session {
    struct list_node node; /* in outgoing->sessions */
    struct outgoing *outgoing;
    struct stream *stream;
    struct timer timer;
    bool lost;
    /* The letter. */
    struct outgoing_item *item; /* NULL: none now */
    struct outgoing_letter letter;
    uint8_t *record; /* owned: what the letter's slices point into */
    struct smtp_client_recipient recipient;
    bool judged; /* `item` is not ours any more */
    /* Its body. */
    struct mailstore_text text;
    bool text_is_open;
    struct mailstore_fetch fetch;
    bool fetching;
    uint32_t offset; /* of the text: what has been read */
    bool words_given;
    bool skips_line;  /* the text's first, Return-Path: */
    bool inside_line; /* bytes of this line have gone: a dot is a dot */
    size_t buffered;
    uint8_t buffer[BUFFER_BYTES];
    struct smtp_client client;
};

enum step { STEP_AGAIN, STEP_WAIT, STEP_ENDED };

static enum step session_run(struct outgoing_session *session);

/* ---- The letter ---- */

static void letter_close(struct outgoing_session *session)
{
    struct mailstore *store = session->outgoing->store;
    if (session->fetching) {
        mailstore_fetch_cancel(store, &session->fetch);
        session->fetching = false;
    }
    if (session->text_is_open) {
        mailstore_text_close(store, &session->text);
        session->text_is_open = false;
    }
    session->text = (struct mailstore_text){0};
    free(session->record);
    session->record = NULL;
    session->item = NULL;
}

/* False: this one cannot be sent; *unread: nor can the next, now. */
static bool letter_open(struct outgoing_session *session, struct outgoing_item *item)
{
    struct outgoing *outgoing = session->outgoing;
    int status = outgoing_read(outgoing, item, &session->letter, &session->record);
    bool with_text = (session->letter.flags & OUTGOING_WORDS_ALONE) == 0;
    if (status == 0 && session->letter.text != 0 && with_text) {
        status = mailstore_text_open(outgoing->store, session->letter.text, &session->text);
        session->text_is_open = status == 0;
    }
    if (status != 0) {
        logger_line(outgoing->shard->logger, LOGGER_ERROR, "outgoing: a letter cannot be read: %s",
                    strerror(-status));
        letter_close(session);
        outgoing_defer(outgoing, item);
        return false;
    }
    session->item = item;
    session->judged = session->words_given = session->inside_line = false;
    session->skips_line = false;
    session->offset = 0;
    session->buffered = 0;
    session->fetch = (struct mailstore_fetch){0};
    return true;
}

/* The next letter begins. False: there is none. */
static bool letter_begin(struct outgoing_session *session)
{
    struct outgoing *outgoing = session->outgoing;
    struct outgoing_item *item = NULL;
    while ((item = outgoing_take(outgoing)) != NULL && !letter_open(session, item)) {
    }
    if (item == NULL) {
        return false;
    }
    session->recipient =
        (struct smtp_client_recipient){.forward_path = session->letter.forward_path};
    const struct smtp_client_message message = {
        .reverse_path = session->letter.reverse_path,
        .flags = ((session->letter.flags & OUTGOING_8BITMIME) != 0 ? SMTP_CLIENT_8BITMIME : 0u) |
                 ((session->letter.flags & OUTGOING_SMTPUTF8) != 0 ? SMTP_CLIENT_SMTPUTF8 : 0u),
        .recipient_count = 1,
        .body_bytes = session->letter.words.size + session->text.bytes,
        .recipients = &session->recipient,
    };
    smtp_client_begin(&session->client, &message, outgoing->shard->now_ns);
    return true;
}

static void result_log(const struct outgoing_session *session,
                       const struct smtp_client_result *result, const char *what)
{
    struct slice user = session->letter.user, to = session->letter.forward_path;
    logger_line(session->outgoing->shard->logger,
                result->outcome == SMTP_CLIENT_ACCEPTED ? LOGGER_INFO : LOGGER_WARNING,
                "outgoing: user=<%.*s>, to=<%.*s>, status=%s (%u %.*s)", (int)user.size,
                (const char *)user.bytes, (int)to.size, (const char *)to.bytes, what,
                (unsigned)result->code, (int)result->text.size, (const char *)result->text.bytes);
}

static void result_take(struct outgoing_session *session, const struct smtp_client_result *result)
{
    struct outgoing *outgoing = session->outgoing;
    struct outgoing_item *item = session->item;
    check(item != NULL && !session->judged);
    session->judged = true;
    switch ((enum smtp_client_outcome)result->outcome) {
    case SMTP_CLIENT_ACCEPTED:
        result_log(session, result, "sent");
        outgoing_sent(outgoing, item);
        return;
    case SMTP_CLIENT_TEMPORARY:
        result_log(session, result, "deferred");
        outgoing_defer(outgoing, item);
        return;
    case SMTP_CLIENT_PERMANENT:
        result_log(session, result, item->text != 0 && !item->words_alone ? "kept" : "dropped");
        outgoing_refused(outgoing, item);
        return;
    }
}

/* ---- Its body ---- */

/* Takes off *piece what fits into the buffer. */
static void piece_stuff(struct outgoing_session *session, struct slice *piece)
{
    const uint8_t *at = piece->bytes, *end = at + piece->size;
    while (at < end && session->buffered + 2 <= BUFFER_BYTES) {
        if (!session->inside_line && *at == '.') {
            session->buffer[session->buffered++] = '.';
        }
        session->inside_line = *at != '\n';
        session->buffer[session->buffered++] = *at++;
    }
    *piece = slice_from(*piece, (size_t)(at - piece->bytes));
}

/* Without its Return-Path:, which is for the end of a message's way (RFC 5321 §4.4). */
static void first_line_skip(struct outgoing_session *session, struct slice *piece)
{
    struct slice name = slice_text(FIRST_LINE);
    if (session->offset == 0) {
        session->skips_line = slice_equal_nocase(slice_first(*piece, name.size), name);
    }
    if (session->skips_line) {
        const uint8_t *end = (const uint8_t *)memchr(piece->bytes, '\n', piece->size);
        session->skips_line = end == NULL;
        *piece = slice_from(*piece, end != NULL ? (size_t)(end - piece->bytes) + 1 : piece->size);
    }
}

static void fetched(struct mailstore_waiter *waiter, int status)
{
    struct outgoing_session *session = list_entry(waiter, struct outgoing_session, fetch.waiter);
    (void)status; /* mailstore_read says it again */
    session->fetching = false;
    session_run(session);
}

/* Fills the buffer from the text. 0; -EINPROGRESS, -EAGAIN: later; another: it cannot be read. */
static int text_take(struct outgoing_session *session)
{
    struct outgoing *outgoing = session->outgoing;
    struct slice piece;
    struct ref *owner;
    session->fetch.waiter.done = fetched;
    int status = mailstore_read(outgoing->store, &session->text, session->offset, &piece, &owner,
                                &session->fetch);
    if (status != 0) {
        session->fetching = status == -EINPROGRESS;
        return status;
    }
    size_t size = piece.size;
    first_line_skip(session, &piece);
    piece_stuff(session, &piece);
    session->offset += (uint32_t)(size - piece.size);
    ref_drop(owner);
    return 0;
}

static void words_take(struct outgoing_session *session)
{
    /* They are at most OUTGOING_WORDS_BYTES_MAX, and stuffed already. */
    struct slice rest = slice_from(session->letter.words, session->offset);
    struct slice piece = slice_first(rest, BUFFER_BYTES);
    if (piece.size > 0) {
        memcpy(session->buffer, piece.bytes, piece.size);
    }
    session->buffered = piece.size;
    session->offset += (uint32_t)piece.size;
    session->words_given = piece.size == rest.size;
    session->offset = session->words_given ? 0 : session->offset;
}

static uint64_t body_left(const struct outgoing_session *session)
{
    if (session->item == NULL || session->judged) {
        return 0;
    }
    uint64_t words = session->words_given ? 0 : session->letter.words.size - session->offset;
    uint32_t offset = session->words_given ? session->offset : 0;
    return words + (session->text_is_open ? session->text.bytes - offset : 0) + session->buffered;
}

static void body_broken(struct outgoing_session *session, int status)
{
    logger_line(session->outgoing->shard->logger, LOGGER_ERROR,
                "outgoing: a message cannot be read: %s", strerror(-status));
    session->lost = true;
    smtp_client_closed(&session->client, "the message could not be read");
    stream_abort(session->stream);
}

/* True: all of it is written. */
static bool body_pump(struct outgoing_session *session)
{
    for (;;) {
        if (session->lost || session->fetching) {
            return false;
        }
        if (session->buffered > 0 &&
            stream_write(session->stream, slice_of(session->buffer, session->buffered)) < 0) {
            return false;
        }
        session->buffered = 0;
        int status = 0;
        if (!session->words_given) {
            words_take(session);
        } else if (session->text_is_open && session->offset < session->text.bytes) {
            status = text_take(session);
        } else if (session->inside_line) { /* it ends within a line: only BDAT can bring that */
            memcpy(session->buffer, "\r\n", 2);
            session->buffered = 2;
            session->inside_line = false;
        } else {
            smtp_client_body_sent(&session->client, session->outgoing->shard->now_ns);
            return true;
        }
        if (status == -EAGAIN) {
            wheel_arm(session->outgoing->shard->wheel, &session->timer,
                      session->outgoing->shard->now_ns + FETCH_RETRY_NS);
        } else if (status < 0 && status != -EINPROGRESS) {
            body_broken(session, status);
        }
        if (status < 0) {
            return false;
        }
    }
}

/* ---- The dialogue ---- */

static bool output_write(struct outgoing_session *session)
{
    for (;;) {
        struct slice output = smtp_client_output(&session->client);
        if (output.size == 0) {
            return true;
        }
        if (!session->lost && stream_write(session->stream, output) < 0) {
            return false;
        }
        smtp_client_output_sent(&session->client, session->outgoing->shard->now_ns);
    }
}

static void session_end(struct outgoing_session *session)
{
    struct outgoing *outgoing = session->outgoing;
    const struct smtp_client_result *failure = smtp_client_failure(&session->client);
    char why[SMTP_REPLY_TEXT_MAX + 1] = "";
    bool failed = failure != NULL;
    if (failed) {
        size_t size =
            failure->text.size < SMTP_REPLY_TEXT_MAX ? failure->text.size : SMTP_REPLY_TEXT_MAX;
        memcpy(why, failure->text.bytes, size);
        why[size] = '\0';
        stream_abort(session->stream); /* what is queued may be half of what will be sent again */
    }
    check(session->item == NULL || session->judged);
    letter_close(session);
    wheel_disarm(outgoing->shard->wheel, &session->timer);
    stream_release(session->stream);
    list_remove(&session->node);
    outgoing->session_count--;
    free(session);
    if (failed && !outgoing->aborted) {
        outgoing_relay_fails(outgoing, why);
    }
    outgoing_pump(outgoing);
}

static enum step message_next(struct outgoing_session *session)
{
    outgoing_relay_works(session->outgoing);
    letter_close(session);
    if (!letter_begin(session)) {
        smtp_client_quit(&session->client, session->outgoing->shard->now_ns);
    }
    return STEP_AGAIN;
}

static enum step session_step(struct outgoing_session *session)
{
    struct slice input;
    struct smtp_client_result result;
    size_t used = 0;
    if (stream_peek(session->stream, &input, 1) == 0) {
        input = slice_of(NULL, 0);
    }
    enum smtp_client_want want = smtp_client_input(
        &session->client, session->outgoing->shard->now_ns, input, &used, &result);
    if (want == SMTP_CLIENT_WANT_RESULT) {
        result_take(session, &result); /* its text may lie in the input */
    }
    if (used > 0) {
        stream_consume(session->stream, used);
    }
    bool written = output_write(session);
    switch (want) {
    case SMTP_CLIENT_WANT_INPUT:
        return used > 0 ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_RESULT:
        return STEP_AGAIN;
    case SMTP_CLIENT_WANT_BODY:
        return written && body_pump(session) ? STEP_AGAIN : STEP_WAIT;
    case SMTP_CLIENT_WANT_MESSAGE:
        return message_next(session);
    case SMTP_CLIENT_WANT_TLS: /* it was not asked for */
    case SMTP_CLIENT_WANT_CLOSE:
        session_end(session);
        return STEP_ENDED;
    }
    return STEP_WAIT;
}

static void progress_note(struct outgoing_session *session)
{
    smtp_client_left(&session->client, body_left(session) + stream_queued(session->stream),
                     session->outgoing->shard->now_ns);
}

static void timer_set(struct outgoing_session *session)
{
    uint64_t due_ns = smtp_client_deadline(&session->client);
    if (due_ns != SMTP_CLIENT_NEVER &&
        (!timer_armed(&session->timer) || session->timer.due_ns > due_ns)) {
        wheel_arm(session->outgoing->shard->wheel, &session->timer, due_ns);
    }
}

static enum step session_run(struct outgoing_session *session)
{
    enum step step;
    progress_note(session);
    do {
        step = session_step(session);
    } while (step == STEP_AGAIN);
    if (step == STEP_WAIT) {
        progress_note(session);
        timer_set(session);
    }
    return step;
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct outgoing_session *session = list_entry(timer, struct outgoing_session, timer);
    progress_note(session);
    if (smtp_client_deadline(&session->client) <= now_ns) {
        smtp_client_expire(&session->client, now_ns);
    }
    session_run(session);
}

static void session_notified(struct stream *stream, uint32_t events, void *owner)
{
    struct outgoing_session *session = (struct outgoing_session *)owner;
    const char *why =
        stream->error < 0 ? strerror(-stream->error) : "the relay closed the connection";
    if ((events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0) {
        session->lost = session->lost || (events & STREAM_CLOSED) != 0;
        if (session_run(session) == STEP_ENDED) { /* what it has said before comes first */
            return;
        }
        smtp_client_closed(&session->client, why);
    }
    session_run(session);
}

/* ---- Life ---- */

bool outgoing_session_open(struct outgoing *outgoing)
{
    struct outgoing_session *session = (struct outgoing_session *)calloc(1, sizeof *session);
    const struct connect_request request = {.to = outgoing->conf.relay, .timeout_ns = CONNECT_NS};
    int status = session != NULL ? outgoing->network->ops->connect(outgoing->network, &request,
                                                                   &session->stream)
                                 : -ENOMEM;
    outgoing->counters.connections++;
    if (status != 0) {
        free(session);
        outgoing_relay_fails(outgoing, strerror(-status));
        return false;
    }
    session->outgoing = outgoing;
    session->stream->session = session;
    session->stream->notify = session_notified;
    timer_init(&session->timer, timer_fired);
    list_init(&session->node);
    list_append(&outgoing->sessions, &session->node);
    outgoing->session_count++;
    smtp_client_open(&session->client, &outgoing->client_settings, outgoing->shard->now_ns);
    timer_set(session);
    return true;
}

void outgoing_session_abort_all(struct outgoing *outgoing)
{
    while (!list_empty(&outgoing->sessions)) {
        struct outgoing_session *session =
            list_entry(outgoing->sessions.next, struct outgoing_session, node);
        session->lost = true;
        stream_abort(session->stream);
        smtp_client_closed(&session->client, "we are ending");
        session_run(session);
    }
}
