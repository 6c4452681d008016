/* The servers of a relay_rig: each takes mail as it is told to. */
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct rig_session {
    struct rig_server *server;
    struct stream *stream;
    bool in_body;
    size_t size;
    char line[8192];
    struct rig_letter letter;
};

static void session_reply(struct rig_session *session, const char *text)
{
    char line[256];
    int size = snprintf(line, sizeof(line), "%s\r\n", text);
    stream_write(session->stream, slice_of(line, (size_t)size));
}

static void path_take(const char *line, char *into)
{
    const char *from = strchr(line, '<'), *to = strchr(line, '>');
    size_t used = strlen(into);
    assert_true(from != NULL && to != NULL);
    snprintf(into + used, RIG_TEXT - used, "%s%.*s", used > 0 ? " " : "", (int)(to - from - 1),
             from + 1);
}

static void body_line(struct rig_session *session)
{
    struct relay_rig *rig = session->server->rig;
    if (strcmp(session->line, ".") != 0) {
        size_t used = strlen(session->letter.body);
        snprintf(session->letter.body + used, sizeof(session->letter.body) - used, "%.500s\n",
                 session->line);
        return;
    }
    session->in_body = false;
    assert_true(rig->letter_count < RIG_LETTERS);
    rig->letters[rig->letter_count++] = session->letter;
    session_reply(session, "250 2.0.0 taken");
}

/* False: the session is over. */
static bool session_line(struct rig_session *session)
{
    struct rig_server *server = session->server;
    const char *line = session->line;
    if (session->in_body) {
        body_line(session);
    } else if (strncmp(line, "EHLO ", 5) == 0 || strncmp(line, "LHLO ", 5) == 0) {
        snprintf(server->helo, sizeof(server->helo), "%.90s", line + 5);
        char last[100];
        if (server->offers != NULL) {
            session_reply(session, "250-server.test");
        }
        snprintf(last, sizeof(last), "250 %s",
                 server->offers != NULL ? server->offers : "server.test");
        session_reply(session, last);
    } else if (strncmp(line, "MAIL", 4) == 0) {
        session->letter.sender[0] = session->letter.recipients[0] = session->letter.body[0] = '\0';
        path_take(line, session->letter.sender);
        snprintf(session->letter.mail, sizeof(session->letter.mail), "%.250s", line);
        session_reply(session, "250 2.1.0 Ok");
    } else if (strncmp(line, "RCPT", 4) == 0) {
        if (server->rcpt_reply[0] == '2') {
            path_take(line, session->letter.recipients);
            snprintf(session->letter.rcpt, sizeof(session->letter.rcpt), "%.250s", line);
        }
        session_reply(session, server->rcpt_reply);
    } else if (strncmp(line, "DATA", 4) == 0) {
        session->in_body = session->letter.recipients[0] != '\0';
        session_reply(session, session->in_body ? "354 go on" : "554 5.5.1 nobody to take it");
    } else if (strncmp(line, "QUIT", 4) == 0) {
        session_reply(session, "221 bye");
        return false;
    } else {
        session_reply(session, "250 Ok");
    }
    return true;
}

static void session_end(struct rig_session *session)
{
    stream_release(session->stream);
    free(session);
}

static void session_notify(struct stream *stream, uint32_t events, void *owner)
{
    struct rig_session *session = owner;
    struct slice slice;
    while (stream_peek(stream, &slice, 1) > 0) {
        const uint8_t *end = memchr(slice.bytes, '\n', slice.size);
        size_t size = end != NULL ? (size_t)(end - slice.bytes) + 1 : slice.size;
        assert_true(session->size + size < sizeof(session->line));
        memcpy(session->line + session->size, slice.bytes, size);
        session->size += size;
        stream_consume(stream, size);
        if (end == NULL) {
            continue;
        }
        session->line[session->size - 2] = '\0';
        session->size = 0;
        if (!session_line(session)) {
            session_end(session);
            return;
        }
    }
    if (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) {
        session_end(session);
    }
}

static void server_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct rig_server *server = owner;
    struct relay_rig *rig = server->rig;
    struct rig_session *session = calloc(1, sizeof(*session));
    (void)listener;
    assert_non_null(session);
    session->server = server;
    session->stream = stream;
    session->letter.server = (unsigned)(server - rig->servers);
    session->letter.connection = rig->connection_count++;
    server->connection_count++;
    stream->session = session;
    stream->notify = session_notify;
    session_reply(session, server->greeting);
}

void rig_server_up(struct rig_server *server)
{
    struct network *network = server->rig->network;
    const struct listen_request request = {
        .at = server->at, .accepted = server_accepted, .owner = server};
    assert_int_equal(network->ops->listen(network, &request, &server->listener), 0);
}

void rig_server_down(struct rig_server *server)
{
    struct network *network = server->rig->network;
    network->ops->unlisten(network, server->listener);
    server->listener = NULL;
}

struct rig_server *rig_serve(struct relay_rig *rig, const char *address)
{
    assert_true(rig->server_count < RIG_SERVERS);
    struct rig_server *server = &rig->servers[rig->server_count++];
    *server = (struct rig_server){
        .rig = rig, .greeting = "220 server.test ESMTP", .rcpt_reply = "250 2.1.5 Ok"};
    assert_int_equal(endpoint_parse(&server->at, slice_text(address)), 0);
    rig_server_up(server);
    return server;
}

const struct rig_letter *rig_letter_for(const struct relay_rig *rig, const char *recipients)
{
    for (unsigned i = rig->letter_count; i-- > 0;) {
        if (strcmp(rig->letters[i].recipients, recipients) == 0) {
            return &rig->letters[i];
        }
    }
    return NULL;
}

struct relay_rig *rig_open_two(const char *routes)
{
    struct relay_rig *rig = relay_rig_open(routes);
    rig_mx(rig, "a.test", 10, "mx.a.test", 30 * 86400);
    rig_mx(rig, "b.test", 10, "mx.b.test", 30 * 86400);
    rig_a(rig, "mx.a.test", "192.0.2.1", 30 * 86400);
    rig_a(rig, "mx.b.test", "192.0.2.2", 30 * 86400);
    rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    return rig;
}
