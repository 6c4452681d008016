#include "engine/sock/sock_private.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG_DEFAULT 4096
#define BUFFERS_DEFAULT 1024
#define LINGER_DEFAULT_NS (30ull * 1000000000ull)

static struct sock_network *network_of(struct network *network)
{
    return list_entry(network, struct sock_network, network);
}

static int source_bind(int fd, const struct endpoint *from)
{
    struct sockaddr_storage address;
    socklen_t length = endpoint_to_sockaddr(from, &address);
    int on = 1;
    if (from->family == ENDPOINT_NONE) {
        return 0;
    }
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return bind(fd, (struct sockaddr *)&address, length) < 0 ? -errno : 0;
}

static int network_connect(struct network *network, const struct connect_request *request,
                           struct stream **stream)
{
    struct sock_network *self = network_of(network);
    struct sockaddr_storage address;
    socklen_t length = endpoint_to_sockaddr(&request->to, &address);
    if (length == 0) {
        return -EINVAL;
    }
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int status = source_bind(fd, &request->from);
    struct sock_stream *s = status < 0 ? NULL : sock_stream_new(self, fd);
    if (s == NULL) {
        close(fd);
        return status < 0 ? status : -ENOMEM;
    }
    sock_tcp_options(fd, address.ss_family);
    s->remote = request->to;
    s->connecting = true;
    s->address = address;
    wheel_arm(self->shard->wheel, &s->timer, self->shard->now_ns + request->timeout_ns);
    self->backend->connect(s, length);
    *stream = &s->stream;
    return 0;
}

/* A path that is left over from a process that is gone may be taken; one that somebody serves may not. */
static int unix_path_clear(const struct endpoint *at)
{
    struct sockaddr_storage address;
    struct stat found;
    if (lstat(at->path, &found) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(found.st_mode)) {
        return -EEXIST;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    socklen_t length = endpoint_to_sockaddr(at, &address);
    /* Only this answer says that nobody is there: another type of socket answers -EPROTOTYPE, a full backlog -EAGAIN. */
    bool gone = connect(fd, (struct sockaddr *)&address, length) < 0 && errno == ECONNREFUSED;
    close(fd);
    if (!gone) {
        return -EADDRINUSE;
    }
    return unlink(at->path) < 0 ? -errno : 0;
}

static int listener_bind(int fd, const struct listen_request *request)
{
    struct sockaddr_storage address;
    socklen_t length = endpoint_to_sockaddr(&request->at, &address);
    int on = 1;
    if (request->at.family == ENDPOINT_UNIX) {
        int status = unix_path_clear(&request->at);
        if (status < 0) {
            return status;
        }
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        sock_tcp_options(fd, address.ss_family); /* those that it accepts have them from it */
    }
    if (request->at.family == ENDPOINT_IPV6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(fd, (struct sockaddr *)&address, length) < 0) {
        return -errno;
    }
    if (request->at.family == ENDPOINT_UNIX && request->unix_mode != 0 &&
        chmod(request->at.path, request->unix_mode) < 0) {
        return -errno;
    }
    return 0;
}

static void accept_retry(struct timer *timer, uint64_t now_ns)
{
    struct listener *listener = list_entry(timer, struct listener, retry);
    (void)now_ns;
    if (!listener->accepting && !listener->closing) {
        listener->network->backend->accept_start(listener);
    }
}

static int network_listen(struct network *network, const struct listen_request *request,
                          struct listener **opened)
{
    struct sock_network *self = network_of(network);
    int family = request->at.family == ENDPOINT_UNIX   ? AF_UNIX
                 : request->at.family == ENDPOINT_IPV6 ? AF_INET6
                                                       : AF_INET;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int status = listener_bind(fd, request);
    if (status == 0 && listen(fd, (int)self->settings.backlog) < 0) {
        status = -errno;
    }
    struct listener *listener = status < 0 ? NULL : calloc(1, sizeof(*listener));
    if (listener == NULL) {
        close(fd);
        return status < 0 ? status : -ENOMEM;
    }
    listener->network = self;
    listener->request = *request;
    listener->fd = fd;
    listener->is_listener = true;
    timer_init(&listener->retry, accept_retry);
    list_init(&listener->node);
    list_append(&self->listeners, &listener->node);
    self->backend->accept_start(listener);
    *opened = listener;
    return 0;
}

static void network_unlisten(struct network *network, struct listener *listener)
{
    struct sock_network *self = network_of(network);
    check(!listener->closing);
    listener->closing = true;
    wheel_disarm(self->shard->wheel, &listener->retry);
    if (listener->request.at.family == ENDPOINT_UNIX) {
        unlink(listener->request.at.path);
    }
    self->backend->accept_stop(
        listener); /* frees it at the network's end: streams may still point to it */
}

static int network_adopt(struct network *network, const struct listen_request *request, int fd)
{
    return sock_adopt(network_of(network), request, fd);
}

static unsigned network_poll(struct network *network, uint64_t now_ns)
{
    struct sock_network *self = network_of(network);
    unsigned work = self->backend->poll(self, now_ns);
    return work + sock_network_deliver(self);
}

static int network_arm(struct network *network)
{
    struct sock_network *self = network_of(network);
    if (!list_empty(&self->ready) || !list_empty(&self->accepted) || !list_empty(&self->dirty) ||
        !list_empty(&self->dead)) {
        return -EAGAIN;
    }
    return self->backend->arm(self);
}

static void network_close(struct network *network)
{
    struct sock_network *self = network_of(network);
    self->closing = true;
    for (struct list_node *node = self->listeners.next; node != &self->listeners;
         node = node->next) {
        struct listener *listener = list_entry(node, struct listener, node);
        if (!listener->closing) {
            network_unlisten(network, listener);
        }
    }
    for (struct list_node *node = self->streams.next; node != &self->streams;) {
        struct sock_stream *s = list_entry(node, struct sock_stream, node);
        node = node->next;
        /* What was written is with the kernel by now, or its time is over. */
        sock_stream_over(s, -ECONNABORTED);
        if (!s->released) {
            s->stream.ops->release(&s->stream);
        }
    }
    self->backend->close(self);
}

static const struct network_ops sock_network_ops = {
    .listen = network_listen,
    .unlisten = network_unlisten,
    .connect = network_connect,
    .adopt = network_adopt,
    .poll = network_poll,
    .flush = sock_network_flush,
    .arm = network_arm,
    .close = network_close,
};

int sock_network_init(struct sock_network *network, const struct sock_backend *backend,
                      const struct sock_settings *settings)
{
    network->network = (struct network){.ops = &sock_network_ops, .transport = "kernel"};
    network->backend = backend;
    network->settings = *settings;
    network->shard = settings->shard;
    if (network->settings.backlog == 0) {
        network->settings.backlog = BACKLOG_DEFAULT;
    }
    if (network->settings.buffer_count == 0) {
        network->settings.buffer_count = BUFFERS_DEFAULT;
    }
    if (network->settings.linger_ns == 0) {
        network->settings.linger_ns = LINGER_DEFAULT_NS;
    }
    list_init(&network->streams);
    list_init(&network->dirty);
    list_init(&network->ready);
    list_init(&network->starved);
    list_init(&network->accepted);
    list_init(&network->dead);
    list_init(&network->listeners);
    return 0;
}

void sock_network_finish(struct sock_network *network)
{
    sock_network_deliver(network);
    check(list_empty(&network->streams));
    while (network->free_streams != NULL) {
        struct sock_stream *s = network->free_streams;
        network->free_streams = *(struct sock_stream **)(void *)s;
        free(s);
    }
    struct sock_piece **lists[] = {&network->free_pieces, &network->free_chunks};
    for (size_t i = 0; i < 2; i++) {
        while (*lists[i] != NULL) {
            struct sock_piece *piece = *lists[i];
            *lists[i] = piece->next;
            free(piece);
        }
    }
    for (struct list_node *node; (node = list_pop(&network->listeners)) != NULL;) {
        free(list_entry(node, struct listener, node));
    }
}

const struct sock_counters *sock_counters(const struct network *network)
{
    return &list_entry(network, struct sock_network, network)->counters;
}
