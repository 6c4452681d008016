#include "tests/unit/relay_fake.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

const struct endpoint relay_fake_address = {
    .family = ENDPOINT_IPV4, .port = 2525, .address = {127, 0, 0, 1}};

struct session {
    struct list_node node;
    struct relay_fake *relay;
    struct stream *stream;
    bool in_text, cut;
    bool refused; /* the recipient */
    size_t line_bytes, envelope_bytes, text_bytes;
    char line[4096], envelope[1024], text[RELAY_FAKE_BYTES];
};

static void session_free(struct session *session)
{
    list_remove(&session->node);
    stream_release(session->stream);
    free(session);
}

static bool begins(const char *line, const char *with)
{
    return strncmp(line, with, strlen(with)) == 0;
}

static bool is_refused(const struct session *session, const char *line)
{
    return session->relay->verb != NULL && begins(line, session->relay->verb);
}

static void say(struct session *session, const char *line, const char *usual)
{
    const char *answer = is_refused(session, line) ? session->relay->answer : usual;
    session->cut = session->cut || answer[0] == '\0';
    if (!session->cut) {
        check(stream_write(session->stream, slice_text(answer)) == 0);
    }
}

static void message_take(struct session *session)
{
    struct relay_fake *relay = session->relay;
    bool refused = relay->verb != NULL && strcmp(relay->verb, ".") == 0;
    if (!refused) {
        int size =
            snprintf(relay->taken + relay->taken_bytes, sizeof relay->taken - relay->taken_bytes,
                     "%.*s\n%.*s", (int)session->envelope_bytes, session->envelope,
                     (int)session->text_bytes, session->text);
        relay->taken_bytes += (size_t)size;
        check(relay->taken_bytes < sizeof relay->taken);
        relay->messages++;
    }
    session->in_text = false;
    session->text_bytes = session->envelope_bytes = 0;
    say(session, ".", "250 2.0.0 Ok\r\n");
}

static void path_take(struct session *session, const char *what, const char *line)
{
    const char *from = strchr(line, '<'), *to = strchr(line, '>');
    check(from != NULL && to != NULL);
    session->envelope_bytes +=
        (size_t)snprintf(session->envelope + session->envelope_bytes,
                         sizeof session->envelope - session->envelope_bytes, "%s%s %.*s",
                         session->envelope_bytes > 0 ? " " : "", what, (int)(to - from + 1), from);
}

static void command_take(struct session *session, const char *line)
{
    if (begins(line, "EHLO")) {
        say(session, line, "250-relay.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n");
    } else if (begins(line, "MAIL")) {
        session->envelope_bytes = 0;
        path_take(session, "FROM", line);
        say(session, line, "250 2.1.0 Ok\r\n");
    } else if (begins(line, "RCPT")) {
        path_take(session, "TO", line);
        session->refused = is_refused(session, line);
        say(session, line, "250 2.1.5 Ok\r\n");
    } else if (begins(line, "DATA")) {
        session->in_text = !session->refused;
        say(session, line, session->refused ? "554 5.5.1 No recipients\r\n" : "354 Go on\r\n");
    } else {
        say(session, line, begins(line, "QUIT") ? "221 2.0.0 Bye\r\n" : "250 2.0.0 Ok\r\n");
    }
}

static void line_take(struct session *session)
{
    session->line[session->line_bytes] = '\0';
    if (session->in_text && strcmp(session->line, ".\r\n") == 0) {
        message_take(session);
    } else if (session->in_text) {
        check(session->text_bytes + session->line_bytes < sizeof session->text);
        memcpy(session->text + session->text_bytes, session->line, session->line_bytes);
        session->text_bytes += session->line_bytes;
    } else {
        command_take(session, session->line);
    }
    session->line_bytes = 0;
}

static void notified(struct stream *stream, uint32_t events, void *owner)
{
    struct session *session = (struct session *)owner;
    struct slice piece;
    while (!session->cut && stream_peek(stream, &piece, 1) == 1) {
        for (size_t i = 0; i < piece.size && !session->cut; i++) {
            check(session->line_bytes + 1 < sizeof session->line);
            session->line[session->line_bytes++] = (char)piece.bytes[i];
            if (piece.bytes[i] == '\n') {
                line_take(session);
            }
        }
        stream_consume(stream, piece.size);
    }
    if (session->cut || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0) {
        if (session->cut) {
            stream_abort(stream);
        }
        session_free(session);
    }
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct relay_fake *relay = (struct relay_fake *)owner;
    struct session *session = (struct session *)calloc(1, sizeof *session);
    (void)listener;
    check(session != NULL);
    session->relay = relay;
    session->stream = stream;
    list_init(&session->node);
    list_append(&relay->sessions, &session->node);
    relay->connections++;
    stream->session = session;
    stream->notify = notified;
    say(session, "greeting", "220 relay.test ESMTP\r\n");
    if (session->cut) {
        stream_abort(stream);
        session_free(session);
    }
}

void relay_fake_open(struct relay_fake *relay, struct network *network)
{
    const struct listen_request request = {
        .at = relay_fake_address, .accepted = accepted, .owner = relay};
    *relay = (struct relay_fake){.network = network};
    list_init(&relay->sessions);
    check(network->ops->listen(network, &request, &relay->listener) == 0);
}

void relay_fake_close(struct relay_fake *relay)
{
    while (!list_empty(&relay->sessions)) {
        session_free(list_entry(relay->sessions.next, struct session, node));
    }
    relay->network->ops->unlisten(relay->network, relay->listener);
}
