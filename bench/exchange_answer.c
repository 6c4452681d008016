#include "bench/exchange.h"
#include "engine/core/check.h"
#include <stdlib.h>

struct answering {
    struct answerer *answerer;
    struct stream *stream;
    uint32_t received_bytes;
    struct list_node node;
};

struct answerer {
    struct exchange_settings settings;
    struct network *network;
    struct listener *listener;
    struct list_node answerings;
    struct exchange_counters counters;
    uint8_t reply[EXCHANGE_BYTES_MAX];
};

static void forget(struct answering *answering)
{
    stream_release(answering->stream);
    list_remove(&answering->node);
    free(answering);
}

static void request_read(struct answering *answering)
{
    struct answerer *answerer = answering->answerer;
    const struct exchange_settings *settings = &answerer->settings;
    struct slice slices[16];
    size_t count;
    while ((count = stream_peek(answering->stream, slices, 16)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            bytes += slices[i].size;
        }
        stream_consume(answering->stream, bytes);
        answerer->counters.bytes += bytes;
        answering->received_bytes += (uint32_t)bytes;
    }
    if (settings->kind == EXCHANGE_BULK) {
        answering->received_bytes = 0;
        return;
    }
    while (answering->received_bytes >= settings->request_bytes) {
        answering->received_bytes -= settings->request_bytes;
        int rc = stream_write(answering->stream, slice_of(answerer->reply, settings->reply_bytes));
        answerer->counters.exchanges += rc == 0;
        answerer->counters.failed += rc < 0 && rc != -EPIPE; /* a peer may go at any time */
        if (settings->kind == EXCHANGE_BRIEF) {
            stream_shut(answering->stream);
            break;
        }
    }
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    struct answering *answering = session;
    if (events & STREAM_READABLE) {
        request_read(answering);
    }
    if (events & STREAM_HALF_CLOSED) {
        stream_shut(stream);
    }
    if (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) {
        forget(answering);
    }
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct answerer *answerer = owner;
    struct answering *answering = calloc(1, sizeof(*answering));
    (void)listener;
    check(answering != NULL);
    answering->answerer = answerer;
    answering->stream = stream;
    list_init(&answering->node);
    list_append(&answerer->answerings, &answering->node);
    stream->notify = notified;
    stream->session = answering;
    answerer->counters.connections++;
}

int answerer_open(struct answerer **opened, struct network *network,
                  const struct exchange_settings *settings)
{
    struct answerer *answerer = calloc(1, sizeof(*answerer));
    if (answerer == NULL) {
        return -ENOMEM;
    }
    check(settings->reply_bytes <= EXCHANGE_BYTES_MAX);
    answerer->settings = *settings;
    answerer->network = network;
    list_init(&answerer->answerings);
    memset(answerer->reply, 'a', sizeof(answerer->reply));
    const struct listen_request request = {
        .at = settings->at, .accepted = accepted, .owner = answerer};
    int rc = network->ops->listen(network, &request, &answerer->listener);
    if (rc < 0) {
        free(answerer);
        return rc;
    }
    *opened = answerer;
    return 0;
}

void answerer_close(struct answerer *answerer)
{
    answerer->network->ops->unlisten(answerer->network, answerer->listener);
    while (!list_empty(&answerer->answerings)) {
        struct answering *answering = list_entry(answerer->answerings.next, struct answering, node);
        stream_abort(answering->stream);
        forget(answering);
    }
    free(answerer);
}

const struct exchange_counters *answerer_counters(const struct answerer *answerer)
{
    return &answerer->counters;
}
