#include "engine/sock/sock_private.h"
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct sock_stream *stream_of(struct stream *stream)
{
    return list_entry(stream, struct sock_stream, stream);
}

static struct sock_network *network_of(struct network *network)
{
    return list_entry(network, struct sock_network, network);
}

/* ---- Events ---- */

static void pend(struct sock_stream *s, uint32_t events)
{
    if (s->released) {
        return;
    }
    s->stream.pending |= events;
    if (list_empty(&s->stream.ready)) {
        list_append(&s->network->ready, &s->stream.ready);
    }
}

static void dirty(struct sock_stream *s)
{
    if (list_empty(&s->dirty)) {
        list_append(&s->network->dirty, &s->dirty);
    }
}

static void accepted_deliver(struct sock_network *network)
{
    for (struct list_node *node; (node = list_pop(&network->accepted)) != NULL;) {
        struct sock_stream *s = list_entry(node, struct sock_stream, waits);
        struct listener *listener = s->stream.session;
        s->stream.session = NULL;
        if (listener->closing || network->closing) {
            s->stream.ops->abort(&s->stream);
            s->stream.ops->release(&s->stream);
            continue;
        }
        network->counters.accepted++;
        listener->request.accepted(listener->request.owner, listener, &s->stream);
        if (!s->released && sock_may_receive(s)) {
            network->backend->receive_start(s);
        }
    }
}

static void stream_free(struct sock_stream *s)
{
    struct sock_network *network = s->network;
    network->counters.streams--;
    list_remove(&s->node);
    list_remove(&s->waits);
    list_remove(&s->dirty);
    list_remove(&s->stream.ready);
    *(struct sock_stream **)(void *)s = network->free_streams;
    network->free_streams = s;
}

unsigned sock_network_deliver(struct sock_network *network)
{
    unsigned count = 0;
    struct list_node ready;
    accepted_deliver(network);
    list_init(&ready);
    list_splice(&ready, &network->ready);
    for (struct list_node *node; (node = list_pop(&ready)) != NULL;) {
        struct stream *stream = list_entry(node, struct stream, ready);
        uint32_t events = stream->pending;
        stream->pending = 0;
        count++;
        if (stream_of(stream)->read_stopped) {
            events &= ~(uint32_t)STREAM_READABLE; /* read_start says it again */
        }
        if (events != 0 && !stream_of(stream)->released && stream->notify != NULL) {
            stream->notify(stream, events, stream->session);
        }
    }
    for (struct list_node *node; (node = list_pop(&network->dead)) != NULL;) {
        stream_free(list_entry(node, struct sock_stream, waits));
    }
    return count;
}

/* ---- What is received ---- */

bool sock_may_receive(const struct sock_stream *s)
{
    return !s->receiving && !s->connecting && !s->peer_fin && !s->over && !s->read_stopped &&
           s->received_bytes < SOCK_RECEIVED_BYTES_MAX;
}

static void received_drop(struct sock_stream *s)
{
    while (s->received_first != NULL) {
        struct rte_mbuf *next = s->received_first->next;
        s->received_first->next = NULL;
        rte_pktmbuf_free_seg(s->received_first);
        s->received_first = next;
    }
    s->received_last = NULL;
    s->received_bytes = 0;
}

static void received_count(struct sock_stream *s, size_t bytes)
{
    s->received_bytes += bytes;
    s->network->counters.bytes_in += bytes;
    s->network->counters.receives++;
    pend(s, STREAM_READABLE);
    if (s->received_bytes >= SOCK_RECEIVED_BYTES_MAX && s->receiving) {
        s->network->backend->receive_stop(s);
    }
}

void sock_received(struct sock_stream *s, struct rte_mbuf *mbuf, size_t bytes)
{
    if (s->released || s->over) {
        rte_pktmbuf_free_seg(mbuf);
        return;
    }
    mbuf->data_len = (uint16_t)bytes;
    mbuf->next = NULL;
    if (s->received_last != NULL) {
        s->received_last->next = mbuf;
    } else {
        s->received_first = mbuf;
    }
    s->received_last = mbuf;
    received_count(s, bytes);
}

bool sock_received_small(struct sock_stream *s, const void *bytes, size_t size)
{
    struct rte_mbuf *last = s->received_last;
    if (s->released || s->over) {
        return true; /* nobody reads it */
    }
    if (last == NULL || rte_pktmbuf_tailroom(last) < size) {
        return false;
    }
    memcpy(rte_pktmbuf_mtod_offset(last, void *, last->data_len), bytes, size);
    last->data_len = (uint16_t)(last->data_len + size);
    received_count(s, size);
    return true;
}

static size_t sock_peek(struct stream *stream, struct slice *slices, size_t count)
{
    size_t found = 0;
    for (struct rte_mbuf *mbuf = stream_of(stream)->received_first; mbuf != NULL && found < count;
         mbuf = mbuf->next) {
        slices[found++] = slice_of(rte_pktmbuf_mtod(mbuf, const void *), mbuf->data_len);
    }
    return found;
}

static void sock_consume(struct stream *stream, size_t bytes)
{
    struct sock_stream *s = stream_of(stream);
    check(bytes <= s->received_bytes);
    s->received_bytes -= bytes;
    while (bytes > 0) {
        struct rte_mbuf *first = s->received_first;
        if (bytes < first->data_len) {
            first->data_off = (uint16_t)(first->data_off + bytes);
            first->data_len = (uint16_t)(first->data_len - bytes);
            break;
        }
        bytes -= first->data_len;
        s->received_first = first->next;
        if (s->received_first == NULL) {
            s->received_last = NULL;
        }
        first->next = NULL;
        rte_pktmbuf_free_seg(first);
    }
    if (sock_may_receive(s)) {
        s->network->backend->receive_start(s);
    }
}

/* ---- The end of a stream ---- */

/* No further event; free as soon as the kernel holds nothing of it. */
static void stream_bury(struct sock_stream *s)
{
    wheel_disarm(s->network->shard->wheel, &s->timer);
    if (list_empty(&s->waits)) {
        list_append(&s->network->dead, &s->waits);
    }
}

static void pieces_drop(struct sock_stream *s);

/* Over in both directions. The descriptor is closed when no request uses it. */
void sock_stream_over(struct sock_stream *s, int error)
{
    if (s->over) {
        return;
    }
    s->over = true;
    s->connecting = false;
    s->stream.error = error;
    wheel_disarm(s->network->shard->wheel, &s->timer);
    list_remove(&s->waits); /* of the starved */
    s->network->backend->stop(s);
    pend(s, STREAM_CLOSED);
}

void sock_settled(struct sock_stream *s)
{
    check(s->over && s->requests == 0);
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
    }
    pieces_drop(s);
    if (s->released) {
        received_drop(s);
        stream_bury(s);
    }
}

static void both_ends_check(struct sock_stream *s)
{
    if (s->peer_fin && s->fin_sent) {
        sock_stream_over(s, 0);
    }
}

void sock_received_end(struct sock_stream *s, int status)
{
    if (s->over) {
        return;
    }
    if (status < 0) {
        sock_stream_over(s, status);
        return;
    }
    if (!s->peer_fin) {
        s->peer_fin = true;
        pend(s, STREAM_HALF_CLOSED);
        both_ends_check(s);
    }
}

static void stream_timer(struct timer *timer, uint64_t now_ns)
{
    struct sock_stream *s = list_entry(timer, struct sock_stream, timer);
    (void)now_ns;
    sock_stream_over(s, -ETIMEDOUT);
}

/* ---- What is sent ---- */

static struct sock_piece *piece_new(struct sock_network *network, bool chunk)
{
    struct sock_piece **list = chunk ? &network->free_chunks : &network->free_pieces;
    struct sock_piece *piece = *list;
    if (piece != NULL) {
        *list = piece->next;
        uint8_t *memory = piece->chunk;
        *piece = (struct sock_piece){.chunk = memory};
        return piece;
    }
    piece = calloc(1, sizeof(*piece) + (chunk ? SOCK_CHUNK_BYTES : 0));
    if (piece != NULL && chunk) {
        piece->chunk = (uint8_t *)(piece + 1);
    }
    return piece;
}

static void piece_free(struct sock_network *network, struct sock_piece *piece)
{
    struct sock_piece **list = piece->chunk != NULL ? &network->free_chunks : &network->free_pieces;
    if (piece->owner != NULL) {
        ref_drop(piece->owner);
        piece->owner = NULL;
    }
    piece->next = *list;
    *list = piece;
}

static void pieces_drop(struct sock_stream *s)
{
    while (s->out_first != NULL) {
        struct sock_piece *next = s->out_first->next;
        piece_free(s->network, s->out_first);
        s->out_first = next;
    }
    s->out_last = NULL;
    s->out_bytes = 0;
}

static void piece_append(struct sock_stream *s, struct sock_piece *piece)
{
    if (s->out_last != NULL) {
        s->out_last->next = piece;
    } else {
        s->out_first = piece;
    }
    s->out_last = piece;
}

static int write_check(struct sock_stream *s)
{
    if (s->over || s->fin_wanted || s->released) {
        return -EPIPE;
    }
    if (s->out_bytes >= STREAM_QUEUED_BYTES_MAX) {
        s->blocked = true;
        return -EAGAIN;
    }
    return 0;
}

static int sock_write(struct stream *stream, struct slice bytes)
{
    struct sock_stream *s = stream_of(stream);
    int status = bytes.size > STREAM_WRITE_MAX ? -EMSGSIZE : write_check(s);
    if (status < 0) {
        return status;
    }
    /* The chunks are taken before anything is copied, so that it is all or nothing. */
    struct sock_piece *last = s->out_last;
    size_t room = last != NULL && last->chunk != NULL && !s->sending
                      ? SOCK_CHUNK_BYTES - last->chunk_used
                      : 0;
    struct sock_piece *fresh = NULL;
    for (size_t have = room; have < bytes.size; have += SOCK_CHUNK_BYTES) {
        struct sock_piece *piece = piece_new(s->network, true);
        if (piece == NULL) {
            while (fresh != NULL) {
                struct sock_piece *next = fresh->next;
                piece_free(s->network, fresh);
                fresh = next;
            }
            s->blocked = true;
            return -ENOMEM;
        }
        piece->next = fresh;
        fresh = piece;
    }
    s->out_bytes += bytes.size;
    if (room > 0) {
        size_t size = bytes.size < room ? bytes.size : room;
        memcpy(last->chunk + last->chunk_used, bytes.bytes, size);
        last->chunk_used += size;
        last->size += size;
        bytes = slice_from(bytes, size);
    }
    while (fresh != NULL) {
        struct sock_piece *piece = fresh;
        size_t size = bytes.size < SOCK_CHUNK_BYTES ? bytes.size : SOCK_CHUNK_BYTES;
        fresh = piece->next;
        piece->next = NULL;
        memcpy(piece->chunk, bytes.bytes, size);
        piece->bytes = piece->chunk;
        piece->size = piece->chunk_used = size;
        piece_append(s, piece);
        bytes = slice_from(bytes, size);
    }
    dirty(s);
    return 0;
}

static int sock_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    struct sock_stream *s = stream_of(stream);
    int status = write_check(s);
    if (status < 0 || bytes.size == 0) {
        return status;
    }
    struct sock_piece *piece = piece_new(s->network, false);
    if (piece == NULL) {
        s->blocked = true;
        return -ENOMEM;
    }
    piece->bytes = bytes.bytes;
    piece->size = bytes.size;
    piece->owner = ref_take(owner);
    piece_append(s, piece);
    s->out_bytes += bytes.size;
    dirty(s);
    return 0;
}

/* The last bytes before our FIN wait for it, so that one segment carries both: the shutdown that follows when they
 * have been taken sends them. */
int sock_vectors_fill(struct sock_stream *s, int *flags)
{
    size_t bytes = 0;
    int count = 0;
    for (struct sock_piece *piece = s->out_first; piece != NULL && count < SOCK_IOV_MAX;
         piece = piece->next) {
        s->vectors[count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)piece->bytes, .iov_len = piece->size};
        bytes += piece->size;
    }
    *flags = MSG_NOSIGNAL | (s->fin_wanted && bytes == s->out_bytes ? MSG_MORE : 0);
    return count;
}

static void fin_send(struct sock_stream *s)
{
    if (!s->fin_sent && !s->over) {
        s->fin_sent = true;
        shutdown(s->fd, SHUT_WR);
        both_ends_check(s);
    }
}

void sock_sent(struct sock_stream *s, ssize_t result)
{
    if (s->over) {
        return;
    }
    if (result < 0) {
        sock_stream_over(s, (int)result);
        return;
    }
    s->network->counters.sends++;
    s->network->counters.bytes_out += (uint64_t)result;
    s->out_bytes -= (size_t)result;
    while (result > 0) {
        struct sock_piece *piece = s->out_first;
        check(piece != NULL); /* no more was sent than was queued */
        if ((size_t)result < piece->size) {
            piece->bytes += result;
            piece->size -= (size_t)result;
            break;
        }
        result -= (ssize_t)piece->size;
        s->out_first = piece->next;
        if (s->out_first == NULL) {
            s->out_last = NULL;
        }
        piece_free(s->network, piece);
    }
    if (s->blocked && s->out_bytes < STREAM_QUEUED_BYTES_MAX) {
        s->blocked = false;
        pend(s, STREAM_WRITABLE);
    }
    if (s->out_first != NULL) {
        dirty(s);
    } else {
        pend(s, STREAM_DRAINED);
        if (s->fin_wanted) {
            fin_send(s);
        }
    }
}

void sock_network_flush(struct network *network, uint64_t now_ns)
{
    struct sock_network *self = network_of(network);
    struct list_node now;
    (void)now_ns;
    list_init(&now);
    list_splice(&now, &self->dirty);
    for (struct list_node *node; (node = list_pop(&now)) != NULL;) {
        struct sock_stream *s = list_entry(node, struct sock_stream, dirty);
        if (s->over || s->sending || s->connecting) {
            continue;
        }
        if (s->out_first != NULL) {
            self->backend->send(s);
        } else if (s->fin_wanted) {
            fin_send(s);
        }
    }
}

/* ---- The other calls of a session ---- */

static size_t sock_queued(const struct stream *stream)
{
    return list_entry(stream, struct sock_stream, stream)->out_bytes;
}

static size_t sock_unacknowledged(const struct stream *stream)
{
    const struct sock_stream *s = list_entry(stream, struct sock_stream, stream);
    int with_kernel = 0;
    if (s->fd < 0 || s->over || ioctl(s->fd, SIOCOUTQ, &with_kernel) < 0) {
        with_kernel = 0;
    }
    return s->out_bytes + (size_t)with_kernel;
}

static void sock_read_stop(struct stream *stream)
{
    struct sock_stream *s = stream_of(stream);
    s->read_stopped = true;
    if (s->receiving) {
        s->network->backend->receive_stop(s);
    }
}

static void sock_read_start(struct stream *stream)
{
    struct sock_stream *s = stream_of(stream);
    s->read_stopped = false;
    if (s->received_bytes > 0) {
        pend(s, STREAM_READABLE);
    }
    if (sock_may_receive(s)) {
        s->network->backend->receive_start(s);
    }
}

static void sock_shut(struct stream *stream)
{
    struct sock_stream *s = stream_of(stream);
    s->fin_wanted = true;
    dirty(s);
}

static void sock_abort(struct stream *stream)
{
    struct sock_stream *s = stream_of(stream);
    if (!s->over) {
        const struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        sock_stream_over(s, -ECONNABORTED);
    }
}

static void sock_release(struct stream *stream)
{
    struct sock_stream *s = stream_of(stream);
    struct sock_network *network = s->network;
    check(!s->released);
    s->released = true;
    s->stream.session = NULL;
    s->stream.notify = NULL;
    list_remove(&s->stream.ready);
    received_drop(s);
    if (s->over) {
        if (s->requests == 0) {
            stream_bury(s);
        }
        return;
    }
    if (s->connecting) {
        sock_stream_over(s, -ECONNABORTED);
        return;
    }
    s->read_stopped = false;
    s->fin_wanted = true;
    dirty(s);
    wheel_arm(network->shard->wheel, &s->timer,
              network->shard->now_ns + network->settings.linger_ns);
    if (sock_may_receive(s)) {
        network->backend->receive_start(s);
    }
    both_ends_check(s);
}

static void sock_facts(const struct stream *stream, struct stream_facts *facts)
{
    const struct sock_stream *s = list_entry(stream, struct sock_stream, stream);
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    *facts = (struct stream_facts){.remote = s->remote, .transport = "kernel"};
    if (s->fd >= 0 && getsockname(s->fd, (struct sockaddr *)&address, &length) == 0) {
        endpoint_from_sockaddr(&facts->local, (struct sockaddr *)&address, length);
    }
    length = sizeof(address);
    if (s->remote.family == ENDPOINT_NONE && s->fd >= 0 &&
        getpeername(s->fd, (struct sockaddr *)&address, &length) == 0) {
        endpoint_from_sockaddr(&facts->remote, (struct sockaddr *)&address, length);
        ((struct sock_stream *)(uintptr_t)s)->remote = facts->remote; /* sessions ask again */
    }
    struct ucred peer;
    length = sizeof(peer);
    if (s->fd >= 0 && facts->local.family == ENDPOINT_UNIX &&
        getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
        facts->user_known = true;
        facts->user = peer.uid;
    }
}

static const struct stream_ops sock_stream_ops = {
    .peek = sock_peek,
    .consume = sock_consume,
    .write = sock_write,
    .write_ref = sock_write_ref,
    .queued = sock_queued,
    .unacknowledged = sock_unacknowledged,
    .read_stop = sock_read_stop,
    .read_start = sock_read_start,
    .shut = sock_shut,
    .abort = sock_abort,
    .release = sock_release,
    .facts = sock_facts,
};

/* ---- Making streams ---- */

struct sock_stream *sock_stream_new(struct sock_network *network, int fd)
{
    struct sock_stream *s = network->free_streams;
    if (s != NULL) {
        network->free_streams = *(struct sock_stream **)(void *)s;
        memset(s, 0, offsetof(struct sock_stream, vectors));
        s->interest = 0;
    } else {
        s = calloc(1, sizeof(*s));
        if (s == NULL) {
            return NULL;
        }
    }
    s->stream.ops = &sock_stream_ops;
    s->network = network;
    s->fd = fd;
    list_init(&s->stream.ready);
    list_init(&s->node);
    list_init(&s->dirty);
    list_init(&s->waits);
    timer_init(&s->timer, stream_timer);
    list_append(&network->streams, &s->node);
    network->counters.streams++;
    return s;
}

void sock_tcp_options(int fd, int family)
{
    int on = 1;
    if (family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
}

void sock_accepted(struct listener *listener, int fd)
{
    struct sock_network *network = listener->network;
    const struct listen_request *request = &listener->request;
    if (request->elsewhere != NULL && !listener->closing &&
        request->elsewhere(request->owner, fd)) {
        return;
    }
    struct sock_stream *s = sock_stream_new(network, fd);
    if (s == NULL) {
        network->counters.accept_failures++;
        close(fd);
        return;
    }
    s->stream.session = listener; /* until it is delivered */
    list_append(&network->accepted, &s->waits);
}

int sock_adopt(struct sock_network *network, const struct listen_request *request, int fd)
{
    struct sock_stream *s = network->closing ? NULL : sock_stream_new(network, fd);
    if (s == NULL) {
        network->counters.accept_failures++;
        close(fd);
        return -ENOMEM;
    }
    network->counters.accepted++;
    request->accepted(request->owner, NULL, &s->stream);
    if (!s->released && sock_may_receive(s)) {
        network->backend->receive_start(s);
    }
    return 0;
}

void sock_connected(struct sock_stream *s, int status)
{
    if (s->over) {
        return;
    }
    s->connecting = false;
    wheel_disarm(s->network->shard->wheel, &s->timer);
    if (status < 0) {
        sock_stream_over(s, status);
        return;
    }
    s->network->counters.connected++;
    pend(s, STREAM_CONNECTED);
    if (s->out_first != NULL || s->fin_wanted) {
        dirty(s);
    }
    if (sock_may_receive(s)) {
        s->network->backend->receive_start(s);
    }
}
