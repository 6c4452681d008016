/*
 * Kernel sockets over the shard's io_uring: multishot accept, multishot receive into mbufs that are lent to the kernel
 * as provided buffers, one send a round for each stream.
 *
 * Traps that are minded here: a multishot request ends whenever a completion lacks IORING_CQE_F_MORE; -ENOBUFS is
 * normal when buffers are out, and arming again before some are back is a storm; one fast peer must not take all
 * buffers; a descriptor may be closed only when the last completion of its requests has come; after a burst the kernel
 * goes on without looking for an end that is there already (see receive_lull).
 */
#include "engine/sock/sock_private.h"
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUFFER_GROUP 1
#define SMALL_BYTES                                                                                \
    512 /* less than this is copied behind what is there, so that the buffer goes back at once */
#define CLOSE_ROUNDS_MAX 1000
#define BURST_COUNT                                                                                \
    32 /* completions of one receive after which Linux puts it off to a later turn */

struct sock_uring {
    struct sock_network base;
    struct uring *uring;
    struct io_uring_buf_ring *ring;
    unsigned buffer_count;
    struct rte_mbuf **lent; /* by buffer id */
    uint16_t *missing;      /* ids without an mbuf */
    unsigned missing_count;
    unsigned added_count; /* put in the ring, not yet shown to the kernel */
    bool ring_registered;
};

static struct sock_uring *uring_of(struct sock_network *network)
{
    return list_entry(network, struct sock_uring, base);
}

/* ---- Buffers ---- */

static size_t buffer_bytes(const struct rte_mbuf *mbuf)
{
    return (size_t)(mbuf->buf_len - RTE_PKTMBUF_HEADROOM);
}

static void buffer_lend(struct sock_uring *self, uint16_t id)
{
    struct rte_mbuf *mbuf = self->lent[id];
    io_uring_buf_ring_add(self->ring, rte_pktmbuf_mtod(mbuf, void *), (unsigned)buffer_bytes(mbuf),
                          id, io_uring_buf_ring_mask(self->buffer_count), (int)self->added_count++);
}

static void buffers_show(struct sock_uring *self)
{
    if (self->added_count > 0) {
        io_uring_buf_ring_advance(self->ring, (int)self->added_count);
        self->added_count = 0;
    }
}

/* Fills the places whose mbuf is with a stream now. */
static void buffers_refill(struct sock_uring *self)
{
    while (self->missing_count > 0) {
        struct rte_mbuf *mbuf = rte_pktmbuf_alloc(self->base.settings.pool);
        if (mbuf == NULL) {
            break;
        }
        uint16_t id = self->missing[--self->missing_count];
        self->lent[id] = mbuf;
        buffer_lend(self, id);
    }
    buffers_show(self);
}

static int buffers_open(struct sock_uring *self)
{
    unsigned count = self->base.settings.buffer_count;
    size_t bytes = count * sizeof(struct io_uring_buf);
    self->lent = calloc(count, sizeof(*self->lent));
    self->missing = calloc(count, sizeof(*self->missing));
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (self->lent == NULL || self->missing == NULL || memory == MAP_FAILED) {
        if (memory != MAP_FAILED) {
            munmap(memory, bytes);
        }
        return -ENOMEM;
    }
    self->ring = memory;
    self->buffer_count = count;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)memory, .ring_entries = count, .bgid = BUFFER_GROUP};
    int status = io_uring_register_buf_ring(&self->uring->ring, &registration, 0);
    if (status < 0) {
        return status;
    }
    self->ring_registered = true;
    io_uring_buf_ring_init(self->ring);
    for (unsigned id = count; id-- > 0;) {
        self->missing[self->missing_count++] = (uint16_t)id;
    }
    buffers_refill(self);
    return 0;
}

static void buffers_close(struct sock_uring *self)
{
    if (self->ring_registered) {
        io_uring_unregister_buf_ring(&self->uring->ring, BUFFER_GROUP);
    }
    for (unsigned id = 0; id < self->buffer_count; id++) {
        if (self->lent[id] != NULL) {
            rte_pktmbuf_free_seg(self->lent[id]);
        }
    }
    if (self->ring != NULL) {
        munmap(self->ring, self->buffer_count * sizeof(struct io_uring_buf));
    }
    free(self->lent);
    free(self->missing);
}

/* ---- Receiving ---- */

static void request_ended(struct sock_stream *s)
{
    s->requests--;
    if (s->over && s->requests == 0) {
        sock_settled(s);
    }
}

static void buffer_take(struct sock_uring *self, struct sock_stream *s, uint16_t id, size_t bytes)
{
    struct rte_mbuf *mbuf = self->lent[id];
    if (bytes < SMALL_BYTES && sock_received_small(s, rte_pktmbuf_mtod(mbuf, void *), bytes)) {
        buffer_lend(self, id);
        return;
    }
    self->lent[id] = NULL;
    self->missing[self->missing_count++] = id;
    sock_received(s, mbuf, bytes);
}

/* A multishot receive that Linux has put off goes on until the socket is empty, and then waits for an event. A FIN (unix)
 * or a reset (TCP) that came before the last bytes brings none any more; only a receive that is armed anew looks for
 * it. So after a burst, when the socket is empty, it is taken back, and what ends it arms it again. */
static void receive_lull(struct sock_stream *s, uint32_t cqe_flags)
{
    if (s->burst < BURST_COUNT) {
        s->burst++;
    }
    if (s->burst == BURST_COUNT && !(cqe_flags & IORING_CQE_F_SOCK_NONEMPTY) && !s->over) {
        s->network->backend->receive_stop(s);
    }
}

static void receive_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct sock_stream *s = list_entry(op, struct sock_stream, receive_op);
    struct sock_uring *self = uring_of(s->network);
    bool more = (cqe_flags & IORING_CQE_F_MORE) != 0;
    if (!more) {
        s->receiving = false;
        s->cancelling = false;
    }
    if (cqe_flags & IORING_CQE_F_BUFFER) {
        uint16_t id = (uint16_t)(cqe_flags >> IORING_CQE_BUFFER_SHIFT);
        if (result > 0) {
            buffer_take(self, s, id, (size_t)result);
        } else { /* chosen before the end or the error was found */
            buffer_lend(self, id);
        }
    }
    if (result == 0) {
        sock_received_end(s, 0);
    } else if (result == -ENOBUFS) {
        self->base.counters.starved++;
        if (!s->over && list_empty(&s->waits)) {
            list_append(&self->base.starved, &s->waits);
        }
    } else if (result < 0 && result != -ECANCELED) {
        sock_received_end(s, result);
    }
    if (more) {
        receive_lull(s, cqe_flags);
        return;
    }
    request_ended(s);
    if (list_empty(&s->waits) && sock_may_receive(s)) {
        s->network->backend->receive_start(s);
    }
}

static void receive_start(struct sock_stream *s)
{
    struct sock_uring *self = uring_of(s->network);
    struct io_uring_sqe *entry = uring_entry(self->uring, &s->receive_op);
    io_uring_prep_recv_multishot(entry, s->fd, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = BUFFER_GROUP;
    s->receive_op.done = receive_done;
    s->receiving = true;
    s->burst = 0;
    s->requests++;
}

static void receive_stop(struct sock_stream *s)
{
    struct sock_uring *self = uring_of(s->network);
    if (!s->cancelling) {
        s->cancelling = true;
        struct io_uring_sqe *entry = uring_entry(self->uring, NULL);
        io_uring_prep_cancel(entry, &s->receive_op, 0);
        io_uring_sqe_set_data(entry, NULL);
    }
}

/* Buffers are back: those who went without try again, as many as there are buffers. */
static void starved_resume(struct sock_uring *self)
{
    unsigned lent = self->buffer_count - self->missing_count;
    for (; lent > 0 && !list_empty(&self->base.starved); lent--) {
        struct sock_stream *s =
            list_entry(list_pop(&self->base.starved), struct sock_stream, waits);
        if (sock_may_receive(s)) {
            receive_start(s);
        }
    }
}

/* ---- Sending, connecting, stopping ---- */

static void send_start(struct sock_stream *s);

static void room_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct sock_stream *s = list_entry(op, struct sock_stream, send_op);
    (void)result; /* the send finds out */
    (void)cqe_flags;
    s->sending = false;
    if (!s->over) {
        send_start(s);
    }
    request_ended(s);
}

/* A send waits for room by itself, but only so many times: when other processors make it in small pieces, it may end with
 * nothing sent. Sending at once would spin while there is none. */
static void room_await(struct sock_stream *s)
{
    struct io_uring_sqe *entry = uring_entry(uring_of(s->network)->uring, &s->send_op);
    io_uring_prep_poll_add(entry, s->fd, POLLOUT);
    s->send_op.done = room_done;
}

static void send_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct sock_stream *s = list_entry(op, struct sock_stream, send_op);
    (void)cqe_flags;
    if (result == -EAGAIN && !s->over) {
        room_await(s); /* the request goes on */
        return;
    }
    s->sending = false;
    if (result != -ECANCELED) {
        sock_sent(s, result);
    }
    request_ended(s);
}

static void send_start(struct sock_stream *s)
{
    struct sock_uring *self = uring_of(s->network);
    int flags;
    int count = sock_vectors_fill(s, &flags);
    struct io_uring_sqe *entry = uring_entry(self->uring, &s->send_op);
    if (count == 1) {
        io_uring_prep_send(entry, s->fd, s->vectors[0].iov_base, s->vectors[0].iov_len,
                           flags | MSG_WAITALL);
    } else {
        s->message = (struct msghdr){.msg_iov = s->vectors, .msg_iovlen = (size_t)count};
        io_uring_prep_sendmsg(entry, s->fd, &s->message, flags | MSG_WAITALL);
    }
    s->send_op.done = send_done;
    s->sending = true;
    s->requests++;
}

static void connect_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct sock_stream *s = list_entry(op, struct sock_stream, connect_op);
    (void)cqe_flags;
    sock_connected(s, result == -ECANCELED ? -ETIMEDOUT : result);
    request_ended(s);
}

static void connect_start(struct sock_stream *s, socklen_t length)
{
    struct sock_uring *self = uring_of(s->network);
    struct io_uring_sqe *entry = uring_entry(self->uring, &s->connect_op);
    io_uring_prep_connect(entry, s->fd, (struct sockaddr *)&s->address, length);
    s->connect_op.done = connect_done;
    s->requests++;
}

static void requests_stop(struct sock_stream *s)
{
    struct sock_uring *self = uring_of(s->network);
    if (s->requests == 0) {
        sock_settled(s);
        return;
    }
    /* All requests on this descriptor, of whatever kind. */
    struct io_uring_sqe *entry = uring_entry(self->uring, NULL);
    io_uring_prep_cancel_fd(entry, s->fd, IORING_ASYNC_CANCEL_ALL);
    io_uring_sqe_set_data(entry, NULL);
}

/* ---- Accepting ---- */

static void accept_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct listener *listener = list_entry(op, struct listener, accept_op);
    struct sock_network *network = listener->network;
    if (!(cqe_flags & IORING_CQE_F_MORE)) {
        listener->accepting = false;
    }
    if (result >= 0) {
        if (listener->closing) {
            close(result);
        } else {
            sock_accepted(listener, result);
        }
    }
    if (listener->closing && !listener->accepting && listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
    if (listener->closing || listener->accepting) {
        return;
    }
    if (result >= 0 || result == -ECONNABORTED || result == -EINTR) {
        network->backend->accept_start(listener);
        return;
    }
    network->counters.accept_failures++; /* -EMFILE and the like: trying at once would spin */
    wheel_arm(network->shard->wheel, &listener->retry, network->shard->now_ns + SOCK_RETRY_NS);
}

static void accept_start(struct listener *listener)
{
    struct sock_uring *self = uring_of(listener->network);
    struct io_uring_sqe *entry = uring_entry(self->uring, &listener->accept_op);
    io_uring_prep_multishot_accept(entry, listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    listener->accept_op.done = accept_done;
    listener->accepting = true;
}

static void accept_stop(struct listener *listener)
{
    struct sock_uring *self = uring_of(listener->network);
    if (!listener->accepting) {
        close(listener->fd);
        listener->fd = -1;
        return;
    }
    struct io_uring_sqe *entry = uring_entry(self->uring, NULL);
    io_uring_prep_cancel(entry, &listener->accept_op, 0);
    io_uring_sqe_set_data(entry, NULL);
}

/* ---- The network ---- */

static unsigned uring_network_poll(struct sock_network *network, uint64_t now_ns)
{
    struct sock_uring *self = uring_of(network);
    (void)now_ns;
    unsigned work = uring_reap(self->uring);
    buffers_refill(self);
    if (!list_empty(&network->starved)) {
        starved_resume(self);
    }
    return work;
}

static int uring_network_arm(struct sock_network *network)
{
    /* Starved streams wait for mbufs, which come back when sessions consume: nothing wakes us for that but the clock. */
    return list_empty(&network->starved) ? SHARD_ARM_URING : -ENOTSUP;
}

static bool requests_left(const struct sock_network *network)
{
    for (const struct list_node *node = network->listeners.next; node != &network->listeners;
         node = node->next) {
        if (list_entry(node, struct listener, node)->accepting) {
            return true;
        }
    }
    for (const struct list_node *node = network->streams.next; node != &network->streams;
         node = node->next) {
        if (list_entry(node, struct sock_stream, node)->requests > 0) {
            return true;
        }
    }
    return false;
}

/* A send that the kernel is just trying again cannot be cancelled, and may wait for room once more. */
static void requests_stop_again(struct sock_network *network)
{
    for (struct list_node *node = network->streams.next; node != &network->streams;
         node = node->next) {
        struct sock_stream *s = list_entry(node, struct sock_stream, node);
        if (s->requests > 0) {
            requests_stop(s);
        }
    }
}

static void uring_network_close(struct sock_network *network)
{
    struct sock_uring *self = uring_of(network);
    for (unsigned i = 0; requests_left(network) && i < CLOSE_ROUNDS_MAX; i++) {
        uring_wait(self->uring, 10000000);
        uring_reap(self->uring);
        requests_stop_again(network);
    }
    sock_network_finish(network);
    buffers_close(self);
    free(self);
}

static const struct sock_backend uring_backend = {
    .receive_start = receive_start,
    .receive_stop = receive_stop,
    .send = send_start,
    .connect = connect_start,
    .stop = requests_stop,
    .accept_start = accept_start,
    .accept_stop = accept_stop,
    .poll = uring_network_poll,
    .arm = uring_network_arm,
    .close = uring_network_close,
};

int sock_open_uring(struct network **network, const struct sock_settings *settings)
{
    struct sock_uring *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    sock_network_init(&self->base, &uring_backend, settings);
    self->uring = settings->shard->uring;
    int status = buffers_open(self);
    if (status < 0) {
        buffers_close(self);
        free(self);
        return status;
    }
    *network = &self->base.network;
    return 0;
}
