#include "tests/unit/relay_rig_client.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static void client_notify(struct stream *stream, uint32_t events, void *session)
{
    struct rig_client *client = session;
    struct slice slice;
    while (client->reads && stream_peek(stream, &slice, 1) > 0) {
        assert_true(client->size + slice.size < sizeof(client->replies));
        memcpy(client->replies + client->size, slice.bytes, slice.size);
        client->size += slice.size;
        client->replies[client->size] = '\0';
        stream_consume(stream, slice.size);
    }
    client->closed = client->closed || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0;
}

struct rig_client *rig_dial(struct relay_rig *rig, const char *from)
{
    struct rig_client *client = calloc(1, sizeof(*client));
    struct connect_request request = {0};
    struct endpoint address;
    assert_non_null(client);
    if (rig->relay->listener_count == 0) {
        assert_int_equal(relay_listen(rig->relay), 0);
    }
    assert_int_equal(endpoint_parse(&address, slice_text(from)), 0);
    fake_network_set_client(rig->network, &address);
    request.to = rig->relay->listeners[0].at;
    client->rig = rig;
    client->reads = true;
    assert_int_equal(rig->network->ops->connect(rig->network, &request, &client->stream), 0);
    client->stream->session = client;
    client->stream->notify = client_notify;
    rig_settle(rig);
    return client;
}

bool rig_put(struct rig_client *client, struct slice bytes)
{
    return stream_write(client->stream, bytes) == 0;
}

void rig_send(struct rig_client *client, struct slice bytes)
{
    while (bytes.size > 0 && !client->closed) {
        struct slice piece = slice_first(bytes, 4096);
        if (rig_put(client, piece)) {
            bytes = slice_from(bytes, piece.size);
        }
        rig_settle(client->rig);
    }
}

void rig_say(struct rig_client *client, const char *text)
{
    rig_send(client, slice_text(text));
}

const char *rig_codes(struct rig_client *client)
{
    static char codes[4096];
    size_t used = 0;
    for (char *line = client->replies; line < client->replies + client->size;) {
        char *end = strstr(line, "\r\n");
        assert_non_null(end);
        if (line[3] == ' ') {
            used += (size_t)snprintf(codes + used, sizeof(codes) - used, "%s%.3s",
                                     used > 0 ? " " : "", line);
            assert_true(used < sizeof(codes));
        }
        line = end + 2;
    }
    codes[used] = '\0';
    client->size = 0;
    return codes;
}

void rig_hang_up(struct rig_client *client)
{
    struct relay_rig *rig = client->rig;
    stream_release(client->stream);
    free(client);
    rig_settle(rig);
}

void rig_tear(struct rig_client *client)
{
    stream_abort(client->stream);
    rig_hang_up(client);
}
