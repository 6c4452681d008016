/* Kernel sockets over epoll, for where io_uring is not permitted. Level-triggered; interest is changed only when it differs. */
#include "engine/sock/sock_private.h"
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_A_ROUND 256
#define RECEIVES_A_ROUND 8 /* of one stream, so that others get their turn */

struct sock_epoll {
    struct sock_network base;
    int fd;
};

/* What an epoll entry points to begins with this: listeners and streams are told apart by the low bit. */
#define LISTENER_BIT 1u

static struct sock_epoll *epoll_of(struct sock_network *network)
{
    return list_entry(network, struct sock_epoll, base);
}

static void interest_set(struct sock_stream *s, uint32_t interest)
{
    struct sock_epoll *self = epoll_of(s->network);
    if (s->interest == interest || s->fd < 0) {
        return;
    }
    struct epoll_event event = {.events = interest, .data.ptr = s};
    int how = s->interest == 0 ? EPOLL_CTL_ADD : interest == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (epoll_ctl(self->fd, how, s->fd, &event) == 0) {
        s->interest = interest;
    } else if (how == EPOLL_CTL_ADD) {
        sock_received_end(s, -errno);
    }
}

static void receive_start(struct sock_stream *s)
{
    s->receiving = true;
    interest_set(s, s->interest | EPOLLIN);
}

static void receive_stop(struct sock_stream *s)
{
    s->receiving = false;
    interest_set(s, s->interest & ~(uint32_t)EPOLLIN);
}

/* One receive. False: nothing more now. */
static bool receive_once(struct sock_stream *s)
{
    struct sock_epoll *self = epoll_of(s->network);
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(self->base.settings.pool);
    if (mbuf == NULL) {
        self->base.counters.starved++;
        receive_stop(s);
        if (list_empty(&s->waits)) {
            list_append(&self->base.starved, &s->waits);
        }
        return false;
    }
    size_t room = rte_pktmbuf_tailroom(mbuf);
    ssize_t got = recv(s->fd, rte_pktmbuf_mtod(mbuf, void *), room, MSG_DONTWAIT);
    if (got <= 0) {
        int status = got == 0 ? 0 : -errno;
        rte_pktmbuf_free_seg(mbuf);
        if (status == -EAGAIN || status == -EINTR) {
            return false;
        }
        s->receiving = false;
        interest_set(s, s->interest & ~(uint32_t)EPOLLIN);
        sock_received_end(s, status);
        return false;
    }
    if (sock_received_small(s, rte_pktmbuf_mtod(mbuf, void *), (size_t)got)) {
        rte_pktmbuf_free_seg(mbuf);
    } else {
        sock_received(s, mbuf, (size_t)got);
    }
    return (size_t)got == room;
}

static void send_now(struct sock_stream *s)
{
    while (s->out_first != NULL && !s->over) {
        int flags;
        int count = sock_vectors_fill(s, &flags);
        s->message = (struct msghdr){.msg_iov = s->vectors, .msg_iovlen = (size_t)count};
        ssize_t sent = sendmsg(s->fd, &s->message, flags | MSG_DONTWAIT);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            interest_set(s, s->interest | EPOLLOUT);
            s->sending = true; /* until EPOLLOUT */
            return;
        }
        sock_sent(s, sent < 0 ? -errno : sent);
    }
    list_remove(&s->dirty);
}

static void connect_start(struct sock_stream *s, socklen_t length)
{
    if (connect(s->fd, (struct sockaddr *)&s->address, length) == 0) {
        sock_connected(s, 0);
    } else if (errno == EINPROGRESS) {
        interest_set(s, EPOLLOUT);
    } else {
        sock_connected(s, -errno); /* unix: -EAGAIN is a full backlog */
    }
}

static void requests_stop(struct sock_stream *s)
{
    s->receiving = s->sending = false;
    interest_set(s, 0);
    sock_settled(s);
}

static void accept_start(struct listener *listener)
{
    struct sock_epoll *self = epoll_of(listener->network);
    struct epoll_event event = {.events = EPOLLIN,
                                .data.u64 = (uint64_t)(uintptr_t)listener | LISTENER_BIT};
    listener->accepting = epoll_ctl(self->fd, EPOLL_CTL_ADD, listener->fd, &event) == 0;
    if (!listener->accepting) {
        wheel_arm(self->base.shard->wheel, &listener->retry,
                  self->base.shard->now_ns + SOCK_RETRY_NS);
    }
}

static void accept_pause(struct listener *listener)
{
    struct sock_epoll *self = epoll_of(listener->network);
    if (listener->accepting) {
        epoll_ctl(self->fd, EPOLL_CTL_DEL, listener->fd, NULL);
        listener->accepting = false;
    }
}

static void accept_stop(struct listener *listener)
{
    accept_pause(listener);
    close(listener->fd);
    listener->fd = -1;
}

static void accept_ready(struct listener *listener)
{
    struct sock_network *network = listener->network;
    for (unsigned i = 0; i < EVENTS_A_ROUND && !listener->closing; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            sock_accepted(listener, fd);
            continue;
        }
        if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
            network->counters.accept_failures++;
            accept_pause(listener); /* trying at once would spin */
            wheel_arm(network->shard->wheel, &listener->retry,
                      network->shard->now_ns + SOCK_RETRY_NS);
        }
        return;
    }
}

static void stream_ready(struct sock_stream *s, uint32_t events)
{
    if (s->connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int error = 0;
        socklen_t size = sizeof(error);
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        interest_set(s, 0);
        sock_connected(s, -error);
        return;
    }
    /* First what came, so that bytes before an error are not lost to it. */
    if (s->receiving && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
        for (unsigned i = 0; i < RECEIVES_A_ROUND && s->receiving && receive_once(s); i++) {
        }
        if (s->receiving) {
            events &= ~(uint32_t)(EPOLLERR | EPOLLHUP); /* receiving will come upon it */
        }
    }
    if (s->over) {
        return;
    }
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && s->sending) {
        s->sending = false;
        interest_set(s, s->interest & ~(uint32_t)EPOLLOUT);
        send_now(s);
    }
    if (s->over) {
        return;
    }
    if (events & EPOLLERR) {
        int error = 0;
        socklen_t size = sizeof(error);
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        sock_received_end(s, error > 0 ? -error : -ECONNRESET);
    } else if (events & EPOLLHUP) {
        /* Nobody reads now, and without interest the entry would not be reported for ever. Reading finds the end. */
        interest_set(s, 0);
    }
}

static void starved_resume(struct sock_epoll *self)
{
    while (!list_empty(&self->base.starved) &&
           rte_mempool_avail_count(self->base.settings.pool) > 0) {
        struct sock_stream *s =
            list_entry(list_pop(&self->base.starved), struct sock_stream, waits);
        if (sock_may_receive(s)) {
            receive_start(s);
        }
    }
}

static unsigned epoll_network_poll(struct sock_network *network, uint64_t now_ns)
{
    struct sock_epoll *self = epoll_of(network);
    struct epoll_event events[EVENTS_A_ROUND];
    (void)now_ns;
    if (!list_empty(&network->starved)) {
        starved_resume(self);
    }
    int count = epoll_wait(self->fd, events, EVENTS_A_ROUND, 0);
    for (int i = 0; i < count; i++) {
        uint64_t entry = events[i].data.u64;
        if (entry & LISTENER_BIT) {
            accept_ready((struct listener *)(uintptr_t)(entry & ~(uint64_t)LISTENER_BIT));
        } else {
            struct sock_stream *s = events[i].data.ptr;
            if (!s->over) {
                stream_ready(s, events[i].events);
            }
        }
    }
    return count > 0 ? (unsigned)count : 0;
}

static int epoll_network_arm(struct sock_network *network)
{
    return list_empty(&network->starved) ? epoll_of(network)->fd : -ENOTSUP;
}

static void epoll_network_close(struct sock_network *network)
{
    struct sock_epoll *self = epoll_of(network);
    sock_network_finish(network);
    close(self->fd);
    free(self);
}

static const struct sock_backend epoll_backend = {
    .receive_start = receive_start,
    .receive_stop = receive_stop,
    .send = send_now,
    .connect = connect_start,
    .stop = requests_stop,
    .accept_start = accept_start,
    .accept_stop = accept_stop,
    .poll = epoll_network_poll,
    .arm = epoll_network_arm,
    .close = epoll_network_close,
};

int sock_open_epoll(struct network **network, const struct sock_settings *settings)
{
    struct sock_epoll *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    sock_network_init(&self->base, &epoll_backend, settings);
    self->fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->fd < 0) {
        int status = -errno;
        free(self);
        return status;
    }
    *network = &self->base.network;
    return 0;
}
