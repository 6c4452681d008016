#include "bench/network_epoll_private.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct epoll_network *network_of(struct network *network)
{
    return list_entry(network, struct epoll_network, network);
}

static int socket_listen(const struct listen_request *request)
{
    struct sockaddr_storage address;
    socklen_t size = endpoint_to_sockaddr(&request->at, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (request->at.family == ENDPOINT_UNIX) {
        unlink(request->at.path);
    }
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 4096) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    if (request->at.family == ENDPOINT_UNIX && request->unix_mode != 0) {
        chmod(request->at.path, request->unix_mode);
    }
    return fd;
}

static int epoll_listen(struct network *base, const struct listen_request *request,
                        struct listener **listener)
{
    struct epoll_network *network = network_of(base);
    int fd = socket_listen(request);
    if (fd < 0) {
        return fd;
    }
    struct listener *made = calloc(1, sizeof(*made));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = made};
    if (made == NULL || epoll_ctl(network->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        close(fd);
        free(made);
        return -ENOMEM;
    }
    made->kind = CARRIER_LISTENER;
    made->fd = fd;
    made->request = *request;
    list_init(&made->every);
    list_append(&network->listeners, &made->every);
    *listener = made;
    return 0;
}

static void epoll_unlisten(struct network *base, struct listener *listener)
{
    (void)base;
    close(listener->fd);
    list_remove(&listener->every);
    free(listener);
}

static int epoll_connect(struct network *base, const struct connect_request *request,
                         struct stream **stream)
{
    struct epoll_network *network = network_of(base);
    struct sockaddr_storage address;
    socklen_t size = endpoint_to_sockaddr(&request->to, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    struct sockaddr_storage from;
    socklen_t from_size =
        request->from.family == ENDPOINT_NONE ? 0 : endpoint_to_sockaddr(&request->from, &from);
    if ((from_size > 0 && bind(fd, (struct sockaddr *)&from, from_size) < 0) ||
        (connect(fd, (struct sockaddr *)&address, size) < 0 && errno != EINPROGRESS)) {
        int error = -errno;
        close(fd);
        return error;
    }
    struct epoll_stream *s = epoll_stream_make(network, fd, EPOLLOUT);
    if (s == NULL) {
        close(fd);
        return -ENOMEM;
    }
    s->connect_deadline_ns = network->now_ns + request->timeout_ns;
    list_append(&network->connecting, &s->connecting);
    *stream = &s->stream;
    return 0;
}

static unsigned accept_some(struct epoll_network *network, struct listener *listener)
{
    unsigned count = 0;
    for (; count < ACCEPTS_MAX; count++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            break;
        }
        struct epoll_stream *s = epoll_stream_make(network, fd, EPOLLIN);
        if (s == NULL) {
            close(fd);
            break;
        }
        s->connected = true;
        listener->request.accepted(listener->request.owner, listener, &s->stream);
    }
    return count;
}

static void connect_timeouts(struct epoll_network *network)
{
    while (!list_empty(&network->connecting)) {
        struct epoll_stream *s =
            list_entry(network->connecting.next, struct epoll_stream, connecting);
        if (s->connect_deadline_ns > network->now_ns) {
            break;
        }
        epoll_stream_fail(s, -ETIMEDOUT);
    }
}

static unsigned epoll_poll(struct network *base, uint64_t now_ns)
{
    struct epoll_network *network = network_of(base);
    network->now_ns = now_ns;
    /* A session that was told of room in flush has written since: that is no time to sleep. */
    int patience_ms = list_empty(&network->dirty) ? network->patience_ms : 0;
    int count = epoll_wait(network->epoll_fd, network->events, EVENTS_MAX, patience_ms);
    for (int i = 0; i < count; i++) {
        enum carrier_kind *kind = network->events[i].data.ptr;
        if (*kind == CARRIER_LISTENER) {
            accept_some(network, (struct listener *)(void *)kind);
        } else {
            epoll_stream_event((struct epoll_stream *)(void *)kind, network->events[i].events);
        }
    }
    connect_timeouts(network);
    return count > 0 ? (unsigned)count : 0;
}

static void epoll_flush(struct network *base, uint64_t now_ns)
{
    struct epoll_network *network = network_of(base);
    network->now_ns = now_ns;
    struct list_node due;
    list_init(&due);
    list_splice(&due, &network->dirty);
    for (struct list_node *node; (node = list_pop(&due)) != NULL;) {
        struct epoll_stream *s = list_entry(node, struct epoll_stream, dirty);
        if (s->connected && !s->closed) {
            epoll_stream_transmit(s);
        }
    }
    for (struct list_node *node; (node = list_pop(&network->dead)) != NULL;) {
        epoll_stream_free(list_entry(node, struct epoll_stream, every));
    }
}

static int epoll_arm(struct network *base)
{
    return network_of(base)->epoll_fd;
}

static void epoll_close(struct network *base)
{
    struct epoll_network *network = network_of(base);
    for (struct list_node *node; (node = list_pop(&network->listeners)) != NULL;) {
        epoll_unlisten(base, list_entry(node, struct listener, every));
    }
    for (struct list_node *node; (node = list_pop(&network->streams)) != NULL;) {
        struct epoll_stream *s = list_entry(node, struct epoll_stream, every);
        s->released = true;
        epoll_stream_end(s);
    }
    for (struct list_node *node; (node = list_pop(&network->dead)) != NULL;) {
        epoll_stream_free(list_entry(node, struct epoll_stream, every));
    }
    close(network->epoll_fd);
    free(network);
}

static const struct network_ops epoll_network_ops = {
    .listen = epoll_listen,
    .unlisten = epoll_unlisten,
    .connect = epoll_connect,
    .poll = epoll_poll,
    .flush = epoll_flush,
    .arm = epoll_arm,
    .close = epoll_close,
};

int network_epoll_open(struct network **network)
{
    struct epoll_network *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (made->epoll_fd < 0) {
        int error = -errno;
        free(made);
        return error;
    }
    made->network = (struct network){.ops = &epoll_network_ops, .transport = "kernel"};
    list_init(&made->dirty);
    list_init(&made->streams);
    list_init(&made->listeners);
    list_init(&made->connecting);
    list_init(&made->dead);
    *network = &made->network;
    return 0;
}

void network_epoll_patience(struct network *network, int milliseconds)
{
    network_of(network)->patience_ms = milliseconds;
}
