#include "tests/unit/fake_network.h"
#include "engine/core/check.h"
#include <stdlib.h>

/* What one write has brought; stays where it is until it is consumed, so that a sanitizer sees who looks too late. */
struct fake_piece {
    struct list_node node;
    size_t start, size;
    uint8_t bytes[];
};

struct fake_stream {
    struct stream stream; /* first */
    struct fake_network *network;
    struct fake_stream *peer; /* NULL: gone, or the handshake is not done */
    struct list_node node;
    struct endpoint remote;
    struct list_node pieces; /* received, not consumed */
    size_t size;
    bool stopped, shut, wants_room, released, connecting, closed;
};

struct listener {
    struct list_node node;
    struct listen_request request;
};

struct fake_network {
    struct network network; /* first */
    size_t room;
    struct endpoint client;
    struct list_node ready, streams, listeners;
    unsigned stream_count;
};

static struct fake_stream *of(const struct stream *stream)
{
    return (struct fake_stream *)(void *)(uintptr_t)stream;
}

static void raise_event(struct fake_stream *fake, uint32_t event)
{
    if (fake->released || (fake->closed && event != STREAM_CLOSED)) {
        return;
    }
    fake->stream.pending |= event;
    if (list_empty(&fake->stream.ready)) {
        list_append(&fake->network->ready, &fake->stream.ready);
    }
}

static void dispose(struct fake_stream *fake)
{
    list_remove(&fake->node);
    list_remove(&fake->stream.ready);
    if (fake->peer != NULL) {
        fake->peer->peer = NULL;
    }
    fake->network->stream_count--;
    for (struct list_node *node; (node = list_pop(&fake->pieces)) != NULL;) {
        free(list_entry(node, struct fake_piece, node));
    }
    free(fake);
}

static size_t fake_peek(struct stream *stream, struct slice *slices, size_t count)
{
    struct fake_stream *fake = of(stream);
    size_t found = 0;
    for (struct list_node *node = fake->pieces.next; node != &fake->pieces && found < count;
         node = node->next) {
        struct fake_piece *piece = list_entry(node, struct fake_piece, node);
        slices[found++] = slice_of(piece->bytes + piece->start, piece->size - piece->start);
    }
    return found;
}

static void fake_consume(struct stream *stream, size_t bytes)
{
    struct fake_stream *fake = of(stream);
    check(bytes <= fake->size);
    fake->size -= bytes;
    while (bytes > 0) {
        struct fake_piece *piece = list_entry(fake->pieces.next, struct fake_piece, node);
        size_t left = piece->size - piece->start;
        size_t taken = bytes < left ? bytes : left;
        piece->start += taken;
        bytes -= taken;
        if (piece->start == piece->size) {
            list_remove(&piece->node);
            free(piece);
        }
    }
    if (fake->peer != NULL && fake->peer->wants_room) {
        fake->peer->wants_room = false;
        raise_event(fake->peer, STREAM_WRITABLE);
    }
}

static int fake_write(struct stream *stream, struct slice bytes)
{
    struct fake_stream *fake = of(stream), *peer = fake->peer;
    if (fake->shut || fake->closed || peer == NULL) {
        return -EPIPE;
    }
    if (peer->size + bytes.size > fake->network->room) {
        check(bytes.size <= fake->network->room);
        fake->wants_room = true;
        return -EAGAIN;
    }
    if (bytes.size > 0) {
        struct fake_piece *piece = calloc(1, sizeof *piece + bytes.size);
        check(piece != NULL);
        piece->start = 0;
        piece->size = bytes.size;
        memcpy(piece->bytes, bytes.bytes, bytes.size);
        list_init(&piece->node);
        list_append(&peer->pieces, &piece->node);
        peer->size += bytes.size;
        if (!peer->stopped) {
            raise_event(peer, STREAM_READABLE);
        }
        raise_event(fake, STREAM_DRAINED);
    }
    return 0;
}

static int fake_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    (void)owner; /* copied at once, so nothing needs to be held */
    return fake_write(stream, bytes);
}

static size_t fake_queued(const struct stream *stream)
{
    (void)stream; /* the peer has it at once */
    return 0;
}

static size_t fake_unacknowledged(const struct stream *stream)
{
    const struct fake_stream *peer = of(stream)->peer;
    return peer != NULL ? peer->size : 0;
}

static void fake_read_stop(struct stream *stream)
{
    of(stream)->stopped = true;
}

static void fake_read_start(struct stream *stream)
{
    struct fake_stream *fake = of(stream);
    fake->stopped = false;
    if (fake->size > 0) {
        raise_event(fake, STREAM_READABLE);
    }
}

static void close_when_both_shut(struct fake_stream *fake)
{
    if (fake->shut && (fake->peer == NULL || fake->peer->shut) && !fake->closed) {
        raise_event(fake, STREAM_CLOSED);
        fake->closed = true;
        if (fake->peer != NULL && !fake->peer->closed) {
            raise_event(fake->peer, STREAM_CLOSED);
            fake->peer->closed = true;
        }
    }
}

static void fake_shut(struct stream *stream)
{
    struct fake_stream *fake = of(stream);
    if (!fake->shut) {
        fake->shut = true;
        if (fake->peer != NULL) {
            raise_event(fake->peer, STREAM_HALF_CLOSED);
        }
        close_when_both_shut(fake);
    }
}

static void fake_abort(struct stream *stream)
{
    struct fake_stream *fake = of(stream), *peer = fake->peer;
    if (fake->closed) {
        return;
    }
    raise_event(fake, STREAM_CLOSED);
    fake->closed = true;
    if (peer != NULL && !peer->closed) {
        peer->stream.error = -ECONNRESET;
        raise_event(peer, STREAM_CLOSED);
        peer->closed = true;
    }
}

static void fake_release(struct stream *stream)
{
    struct fake_stream *fake = of(stream);
    check(!fake->released);
    fake_shut(stream);
    fake->released = true;
    dispose(fake);
}

static void fake_facts(const struct stream *stream, struct stream_facts *facts)
{
    *facts = (struct stream_facts){.remote = of(stream)->remote, .transport = "test"};
}

static const struct stream_ops stream_operations = {
    .peek = fake_peek,
    .consume = fake_consume,
    .write = fake_write,
    .write_ref = fake_write_ref,
    .queued = fake_queued,
    .unacknowledged = fake_unacknowledged,
    .read_stop = fake_read_stop,
    .read_start = fake_read_start,
    .shut = fake_shut,
    .abort = fake_abort,
    .release = fake_release,
    .facts = fake_facts,
};

static struct fake_stream *make_stream(struct fake_network *network, const struct endpoint *remote)
{
    struct fake_stream *fake = calloc(1, sizeof *fake);
    check(fake != NULL);
    fake->stream.ops = &stream_operations;
    fake->network = network;
    fake->remote = *remote;
    list_init(&fake->stream.ready);
    list_init(&fake->node);
    list_init(&fake->pieces);
    list_append(&network->streams, &fake->node);
    network->stream_count++;
    return fake;
}

static int fake_listen(struct network *self, const struct listen_request *request,
                       struct listener **made)
{
    struct fake_network *network = (struct fake_network *)(void *)self;
    struct listener *listener = calloc(1, sizeof *listener);
    check(listener != NULL);
    listener->request = *request;
    list_init(&listener->node);
    list_append(&network->listeners, &listener->node);
    *made = listener;
    return 0;
}

static void fake_unlisten(struct network *self, struct listener *listener)
{
    (void)self;
    list_remove(&listener->node);
    free(listener);
}

static int fake_connect(struct network *self, const struct connect_request *request,
                        struct stream **stream)
{
    struct fake_network *network = (struct fake_network *)(void *)self;
    struct fake_stream *fake = make_stream(network, &request->to);
    fake->connecting = true;
    *stream = &fake->stream;
    return 0;
}

static bool same_place(const struct endpoint *a, const struct endpoint *b)
{
    return a->family == b->family && a->port == b->port && strcmp(a->path, b->path) == 0 &&
           memcmp(a->address, b->address, sizeof a->address) == 0;
}

static void finish_handshake(struct fake_network *network, struct fake_stream *fake)
{
    fake->connecting = false;
    for (struct list_node *node = network->listeners.next; node != &network->listeners;
         node = node->next) {
        struct listener *listener = list_entry(node, struct listener, node);
        if (same_place(&listener->request.at, &fake->remote)) {
            struct fake_stream *server = make_stream(network, &network->client);
            server->peer = fake;
            fake->peer = server;
            raise_event(fake, STREAM_CONNECTED);
            listener->request.accepted(listener->request.owner, listener, &server->stream);
            return;
        }
    }
    fake->stream.error = -ECONNREFUSED;
    raise_event(fake, STREAM_CLOSED);
    fake->closed = true;
}

static unsigned fake_poll(struct network *self, uint64_t now_ns)
{
    (void)now_ns;
    struct fake_network *network = (struct fake_network *)(void *)self;
    unsigned count = 0;
    struct list_node *next;
    for (struct list_node *node = network->streams.next; node != &network->streams; node = next) {
        next = node->next;
        struct fake_stream *fake = list_entry(node, struct fake_stream, node);
        if (fake->connecting) {
            finish_handshake(network, fake);
            count++;
        }
    }
    struct list_node ready;
    list_init(&ready);
    list_splice(&ready, &network->ready);
    for (struct list_node *node; (node = list_pop(&ready)) != NULL; count++) {
        struct stream *stream = list_entry(node, struct stream, ready);
        uint32_t events = stream->pending;
        stream->pending = 0;
        stream->notify(stream, events, stream->session);
    }
    return count;
}

static void fake_flush(struct network *self, uint64_t now_ns)
{
    (void)self;
    (void)now_ns;
}

static int fake_arm(struct network *self)
{
    (void)self;
    return -ENOTSUP;
}

static void fake_close(struct network *self)
{
    struct fake_network *network = (struct fake_network *)(void *)self;
    while (!list_empty(&network->streams)) {
        dispose(list_entry(network->streams.next, struct fake_stream, node));
    }
    while (!list_empty(&network->listeners)) {
        fake_unlisten(self, list_entry(network->listeners.next, struct listener, node));
    }
    free(network);
}

static const struct network_ops network_operations = {
    .listen = fake_listen,
    .unlisten = fake_unlisten,
    .connect = fake_connect,
    .poll = fake_poll,
    .flush = fake_flush,
    .arm = fake_arm,
    .close = fake_close,
};

struct network *fake_network_open(size_t room)
{
    struct fake_network *network = calloc(1, sizeof *network);
    check(network != NULL);
    network->network.ops = &network_operations;
    network->network.transport = "test";
    network->room = room;
    network->client.family = ENDPOINT_UNIX;
    list_init(&network->ready);
    list_init(&network->streams);
    list_init(&network->listeners);
    return &network->network;
}

void fake_network_run(struct network *network)
{
    unsigned rounds = 0;
    while (network->ops->poll(network, 0) > 0) {
        check(++rounds < 100000);
    }
}

unsigned fake_network_streams(const struct network *network)
{
    return ((const struct fake_network *)(const void *)network)->stream_count;
}

void fake_network_set_client(struct network *network, const struct endpoint *client)
{
    ((struct fake_network *)(void *)network)->client = *client;
}
