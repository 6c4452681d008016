#include "bench/sink.h"
#include "bench/journal.h"
#include "bench/scan.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include <stdlib.h>

#define SINK_RECIPIENTS_MAX 1000u /* more: 452 4.5.3, RFC 5321 §4.5.3.1.10 */
#define SINK_NOBODY UINT32_MAX    /* a recipient that no source has made up */
#define SINK_SLICES 8u

/*
 *             MAIL, RCPT                    354
 *  COMMANDS ──────────────► COMMANDS ──────────────► MESSAGE (until CRLF.CRLF) ──► COMMANDS
 *                               └── BDAT n ──► CHUNK (n octets) ──► COMMANDS
 */
enum sink_state { SINK_COMMANDS, SINK_MESSAGE, SINK_CHUNK };

struct sink_session {
    struct sink *sink;
    struct stream *stream;
    struct list_node every;
    enum sink_state state;
    bool sender, closing, line_long, chunked;
    uint32_t line_bytes;
    uint32_t recipient_count;
    bool chunk_last;
    uint64_t chunk_left;
    struct scan scan;
    struct letter_proof proof;
    uint8_t *held; /* replies that the stream had no room for */
    size_t held_bytes;
    uint8_t line[SMTP_COMMAND_BYTES_MAX];
    uint32_t recipients[SINK_RECIPIENTS_MAX];
};

struct sink {
    struct network *network;
    const struct world *world;
    struct sink_settings settings;
    struct sink_counters counters;
    struct histogram latency;
    struct journal received;
    struct listener *listeners[SINK_LISTENERS_MAX];
    struct list_node sessions;
    struct tally tallies[SINK_RUNS_MAX];
    unsigned tally_count;
    uint8_t *out; /* replies of the call that is running */
    size_t out_bytes, out_room;
};

static void say(struct sink *sink, const char *reply)
{
    size_t size = strlen(reply);
    if (sink->out_bytes + size > sink->out_room) {
        size_t room = (sink->out_bytes + size) * 2;
        uint8_t *out = realloc(sink->out, room);
        check(out != NULL);
        sink->out = out;
        sink->out_room = room;
    }
    memcpy(sink->out + sink->out_bytes, reply, size);
    sink->out_bytes += size;
}

static void say_wrong(struct sink *sink, const char *reply)
{
    sink->counters.wrong++;
    say(sink, reply);
}

static void transaction_reset(struct sink_session *session)
{
    session->sender = false;
    session->chunked = false;
    session->recipient_count = 0;
    session->state = SINK_COMMANDS;
}

static struct tally *tally_of(struct sink *sink, const struct letter_claim *claim)
{
    for (unsigned i = 0; i < sink->tally_count; i++) {
        if (sink->tallies[i].run == claim->run) {
            return &sink->tallies[i];
        }
    }
    if (sink->tally_count == SINK_RUNS_MAX || claim->recipient_count == 0) {
        return NULL;
    }
    struct tally *tally = &sink->tallies[sink->tally_count++];
    tally_open(tally, claim->run, claim->recipient_count);
    return tally;
}

static void deliveries_mark(struct sink_session *session)
{
    struct sink *sink = session->sink;
    const struct letter_claim *claim = &session->proof.claim;
    struct tally *tally = tally_of(sink, claim);
    for (uint32_t i = 0; i < session->recipient_count; i++) {
        if (tally == NULL ||
            tally_mark(tally, claim->sequence, session->recipients[i]) == TALLY_REFUSED) {
            sink->counters.unmarked++;
        }
    }
}

static void message_record(struct sink_session *session, bool holds)
{
    const struct letter_proof *proof = &session->proof;
    struct journal *journal = &session->sink->received;
    if (journal->fd < 0) {
        return;
    }
    journal_line(journal, "%016lx %lu %08x %lu %s", proof->claim.run, proof->claim.sequence,
                 proof->crc32c, proof->body_bytes, holds ? "ok" : "bad");
    for (uint32_t i = 0; i < session->recipient_count; i++) {
        journal_line(journal, " %d", (int)session->recipients[i]);
    }
    journal_line(journal, "\n");
}

static void message_end(struct sink_session *session)
{
    struct sink *sink = session->sink;
    struct sink_counters *counters = &sink->counters;
    struct letter_proof *proof = &session->proof;
    bool holds = letter_proof_holds(proof);
    counters->messages++;
    counters->recipients += session->recipient_count;
    counters->bytes += proof->content_bytes;
    counters->bare_lf += session->scan.bare_lf_count;
    if (!proof->claimed) {
        counters->foreign++;
    } else if (!holds) {
        counters->damaged++;
        message_record(session, holds);
    } else {
        counters->proven++;
        deliveries_mark(session);
        message_record(session, holds);
        uint64_t now_ns = world_now_ns(sink->world);
        histogram_record(&sink->latency,
                         now_ns > proof->claim.sent_ns ? now_ns - proof->claim.sent_ns : 0);
    }
    uint32_t replies = sink->settings.lmtp ? session->recipient_count : 1; /* RFC 2033 §4.2 */
    for (uint32_t i = 0; i < replies; i++) {
        say(sink, "250 2.0.0 taken\r\n");
    }
    transaction_reset(session);
}

static void message_content(void *owner, struct slice content)
{
    struct sink_session *session = owner;
    letter_proof_take(&session->proof, content);
}

static void message_begin(struct sink_session *session)
{
    letter_proof_begin(&session->proof);
    scan_begin(&session->scan, message_content, session);
}

/* "r17@...": 17. */
static uint32_t recipient_of(struct slice path)
{
    uint32_t index = 0;
    size_t at = 2;
    if (path.size < 4 || path.bytes[0] != '<' || path.bytes[1] != 'r') {
        return SINK_NOBODY;
    }
    for (; at < path.size && path.bytes[at] >= '0' && path.bytes[at] <= '9' && at < 9; at++) {
        index = index * 10 + (path.bytes[at] - '0');
    }
    return at > 2 && at < path.size && path.bytes[at] == '@' ? index : SINK_NOBODY;
}

static void command_hello(struct sink_session *session, bool extended)
{
    transaction_reset(session);
    say(session->sink,
        extended ? "250-sink.bench.example\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-8BITMIME\r\n"
                   "250-SMTPUTF8\r\n250-CHUNKING\r\n250 ENHANCEDSTATUSCODES\r\n"
                 : "250 sink.bench.example\r\n");
}

static void command_rcpt(struct sink_session *session, struct slice line)
{
    struct sink *sink = session->sink;
    if (!session->sender) {
        say_wrong(sink, "503 5.5.1 MAIL first\r\n");
    } else if (session->recipient_count == SINK_RECIPIENTS_MAX) {
        say(sink, "452 4.5.3 too many recipients\r\n");
    } else {
        session->recipients[session->recipient_count++] =
            recipient_of(slice_from(line, strlen("RCPT TO:")));
        say(sink, "250 2.1.5 ok\r\n");
    }
}

static void command_data(struct sink_session *session)
{
    if (session->recipient_count == 0 || session->chunked) {
        say_wrong(session->sink, "503 5.5.1 RCPT first, and no BDAT\r\n");
        return;
    }
    message_begin(session);
    session->state = SINK_MESSAGE;
    say(session->sink, "354 go on\r\n");
}

static void chunk_end(struct sink_session *session)
{
    session->state = SINK_COMMANDS;
    if (session->chunk_last) {
        message_end(session);
    } else {
        say(session->sink, "250 2.0.0 octets received\r\n");
    }
}

static void command_bdat(struct sink_session *session, struct slice line)
{
    struct slice rest = slice_from(line, strlen("BDAT "));
    uint64_t size = 0;
    size_t at = 0;
    for (; at < rest.size && at < 15 && rest.bytes[at] >= '0' && rest.bytes[at] <= '9'; at++) {
        size = size * 10 + (rest.bytes[at] - '0');
    }
    if (at == 0 || session->recipient_count == 0) {
        /* The octets that follow cannot be told from commands: nothing but the end is safe. */
        say_wrong(session->sink, "503 5.5.1 RCPT first\r\n");
        session->closing = true;
        return;
    }
    if (!session->chunked) {
        message_begin(session);
        session->chunked = true;
    }
    session->chunk_last = slice_equal_nocase(slice_from(rest, at), slice_text(" LAST"));
    session->chunk_left = size;
    session->state = SINK_CHUNK;
    if (size == 0) {
        chunk_end(session);
    }
}

static bool verb_is(struct slice line, const char *verb)
{
    return slice_equal_nocase(slice_first(line, strlen(verb)), slice_text(verb));
}

static void command(struct sink_session *session, struct slice line)
{
    struct sink *sink = session->sink;
    if (verb_is(line, "MAIL FROM:")) {
        transaction_reset(session);
        session->sender = true;
        say(sink, "250 2.1.0 ok\r\n");
    } else if (verb_is(line, "RCPT TO:")) {
        command_rcpt(session, line);
    } else if (verb_is(line, "DATA")) {
        command_data(session);
    } else if (verb_is(line, "BDAT ")) {
        command_bdat(session, line);
    } else if (verb_is(line, sink->settings.lmtp ? "LHLO" : "EHLO")) {
        command_hello(session, true);
    } else if (verb_is(line, "HELO") && !sink->settings.lmtp) {
        command_hello(session, false);
    } else if (verb_is(line, "RSET")) {
        transaction_reset(session);
        say(sink, "250 2.0.0 ok\r\n");
    } else if (verb_is(line, "NOOP")) {
        say(sink, "250 2.0.0 ok\r\n");
    } else if (verb_is(line, "QUIT")) {
        say(sink, "221 2.0.0 bye\r\n");
        session->closing = true;
    } else {
        say_wrong(sink, "500 5.5.2 not known here\r\n");
    }
}

/* Takes bytes up to the end of a line; runs it when it is whole. */
static size_t take_line(struct sink_session *session, struct slice input)
{
    const uint8_t *feed = memchr(input.bytes, '\n', input.size);
    size_t size = feed != NULL ? (size_t)(feed - input.bytes) + 1 : input.size;
    if (feed != NULL && session->line_bytes == 0 && size >= 2 && size <= sizeof(session->line) &&
        feed[-1] == '\r') {
        command(session, slice_of(input.bytes, size - 2)); /* whole in the input: where it lies */
        return size;
    }
    if (session->line_bytes + size > sizeof(session->line)) {
        session->line_long = true;
    } else {
        memcpy(session->line + session->line_bytes, input.bytes, size);
        session->line_bytes += (uint32_t)size;
    }
    if (feed != NULL) {
        uint32_t bytes = session->line_bytes;
        bool whole = !session->line_long && bytes >= 2 && session->line[bytes - 2] == '\r';
        session->line_bytes = 0;
        session->line_long = false;
        if (whole) {
            command(session, slice_of(session->line, bytes - 2));
        } else {
            say_wrong(session->sink, "500 5.5.2 too long, or no CRLF\r\n");
        }
    }
    return size;
}

static size_t take(struct sink_session *session, struct slice input)
{
    size_t used = 0;
    bool ended;
    switch (session->state) {
    case SINK_COMMANDS:
        used = take_line(session, input);
        break;
    case SINK_MESSAGE:
        used = scan_take(&session->scan, input, &ended);
        if (ended) {
            message_end(session);
        }
        break;
    case SINK_CHUNK:
        input = slice_first(input, session->chunk_left);
        letter_proof_take(&session->proof, input);
        used = input.size;
        session->chunk_left -= used;
        if (session->chunk_left == 0) {
            chunk_end(session);
        }
        break;
    }
    return used;
}

/* Hands replies to the stream; what has no room is held, and nothing is read until it is gone. */
static void replies_send(struct sink_session *session, struct slice replies)
{
    while (replies.size > 0) {
        struct slice part = slice_first(replies, STREAM_WRITE_MAX);
        int rc = stream_write(session->stream, part);
        if (rc == -EPIPE) {
            return;
        }
        if (rc < 0) {
            session->held = malloc(replies.size);
            check(session->held != NULL);
            memcpy(session->held, replies.bytes, replies.size);
            session->held_bytes = replies.size;
            stream_read_stop(session->stream);
            return;
        }
        replies = slice_from(replies, part.size);
    }
    if (session->closing) {
        stream_shut(session->stream);
    }
}

static void held_send(struct sink_session *session)
{
    uint8_t *held = session->held;
    size_t bytes = session->held_bytes;
    session->held = NULL;
    session->held_bytes = 0;
    stream_read_start(session->stream);
    replies_send(session, slice_of(held, bytes));
    free(held);
}

static void session_read(struct sink_session *session)
{
    struct slice slices[SINK_SLICES];
    size_t count;
    session->sink->out_bytes = 0;
    while (!session->closing && (count = stream_peek(session->stream, slices, SINK_SLICES)) > 0) {
        size_t used = 0;
        for (size_t i = 0; i < count; i++) {
            struct slice input = slices[i];
            used += input.size;
            while (input.size > 0 && !session->closing) {
                input = slice_from(input, take(session, input));
            }
        }
        stream_consume(session->stream, used);
    }
    if (session->sink->out_bytes > 0) {
        replies_send(session, slice_of(session->sink->out, session->sink->out_bytes));
    }
}

static void session_end(struct sink_session *session)
{
    struct sink_counters *counters = &session->sink->counters;
    counters->torn += session->state != SINK_COMMANDS;
    counters->sessions_open--;
    stream_release(session->stream);
    list_remove(&session->every);
    free(session->held);
    free(session);
}

static void session_notify(struct stream *stream, uint32_t events, void *owner)
{
    struct sink_session *session = owner;
    (void)stream;
    if (events & STREAM_CLOSED) {
        session_end(session);
        return;
    }
    if ((events & STREAM_WRITABLE) && session->held != NULL) {
        held_send(session);
    }
    if ((events & (STREAM_READABLE | STREAM_WRITABLE | STREAM_HALF_CLOSED)) &&
        session->held == NULL) {
        session_read(session);
    }
    if (events & STREAM_HALF_CLOSED) {
        session->closing = true;
        stream_shut(session->stream);
    }
}

static void session_begin(void *owner, struct listener *listener, struct stream *stream)
{
    struct sink *sink = owner;
    (void)listener;
    struct sink_session *session = malloc(sizeof(*session));
    check(session != NULL);
    memset(session, 0, offsetof(struct sink_session, line));
    session->sink = sink;
    session->stream = stream;
    list_init(&session->every);
    list_append(&sink->sessions, &session->every);
    stream->notify = session_notify;
    stream->session = session;
    sink->counters.connections++;
    sink->counters.sessions_open++;
    replies_send(session, slice_text("220 sink.bench.example ESMTP\r\n"));
}

int sink_open(struct sink **sink, struct network *network, const struct world *world,
              const struct sink_settings *settings)
{
    struct sink *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    made->network = network;
    made->world = world;
    made->settings = *settings;
    journal_open(&made->received, settings->received_fd);
    list_init(&made->sessions);
    for (unsigned i = 0; i < settings->listen_count; i++) {
        struct listen_request request = {
            .at = settings->listen[i], .unix_mode = 0666, .accepted = session_begin, .owner = made};
        int rc = network->ops->listen(network, &request, &made->listeners[i]);
        if (rc < 0) {
            made->settings.listen_count = i;
            sink_close(made);
            return rc;
        }
    }
    *sink = made;
    return 0;
}

void sink_round(struct sink *sink)
{
    if (sink->received.used > 0) {
        journal_flush(&sink->received);
    }
}

void sink_close(struct sink *sink)
{
    sink_round(sink);
    for (unsigned i = 0; i < sink->settings.listen_count; i++) {
        sink->network->ops->unlisten(sink->network, sink->listeners[i]);
    }
    for (struct list_node *node; !list_empty(&sink->sessions);) {
        node = sink->sessions.next;
        session_end(list_entry(node, struct sink_session, every));
    }
    for (unsigned i = 0; i < sink->tally_count; i++) {
        tally_close(&sink->tallies[i]);
    }
    free(sink->out);
    free(sink);
}

const struct sink_counters *sink_counters(const struct sink *sink)
{
    return &sink->counters;
}

const struct histogram *sink_latency(const struct sink *sink)
{
    return &sink->latency;
}

void sink_deliveries(const struct sink *sink, uint64_t *different, uint64_t *repeated,
                     uint64_t *missing)
{
    *different = *repeated = *missing = 0;
    for (unsigned i = 0; i < sink->tally_count; i++) {
        *different += sink->tallies[i].seen_count;
        *repeated += sink->tallies[i].repeated_count;
        *missing += tally_missing(&sink->tallies[i]);
    }
}
