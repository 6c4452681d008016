#include "tests/wire/wire_socket.h"
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CONNECT_NS (3600 * SECOND_NS) /* the script decides how long it waits */

void wire_sockets_open(struct wire_sockets *sockets, struct wire_host *host)
{
    memset(sockets, 0, sizeof(*sockets));
    sockets->host = host;
}

struct wire_socket *wire_socket_of(struct wire_sockets *sockets, int fd)
{
    for (unsigned i = 0; fd >= 0 && i < WIRE_SOCKETS_MAX; i++) {
        if (sockets->sockets[i].in_use && sockets->sockets[i].fd == fd) {
            return &sockets->sockets[i];
        }
    }
    return NULL;
}

static struct wire_socket *socket_add(struct wire_sockets *sockets, int domain, int fd)
{
    for (unsigned i = 0; i < WIRE_SOCKETS_MAX; i++) {
        struct wire_socket *socket = &sockets->sockets[i];
        if (!socket->in_use) {
            *socket =
                (struct wire_socket){.fd = fd, .domain = domain, .in_use = true, .all = sockets};
            return socket;
        }
    }
    return NULL;
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    struct wire_socket *socket = session;
    if ((events & STREAM_CONNECTED) != 0) {
        socket->kind = WIRE_CONNECTED;
    }
    socket->half_closed |= (events & STREAM_HALF_CLOSED) != 0;
    if ((events & STREAM_CLOSED) != 0) {
        socket->closed = true;
        socket->error = stream->error;
    }
}

static void attach(struct wire_socket *socket, struct stream *stream)
{
    socket->stream = stream;
    stream->notify = notified;
    stream->session = socket;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct wire_socket *parent = owner;
    struct wire_socket *socket = socket_add(parent->all, parent->domain, -1);
    (void)listener;
    check(socket != NULL);
    socket->parent = parent;
    socket->kind = WIRE_CONNECTED;
    attach(socket, stream);
}

int wire_socket_make(struct wire_sockets *sockets, int domain, int type, int protocol)
{
    if (domain != AF_INET && domain != AF_INET6) {
        return -EAFNOSUPPORT;
    }
    if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM ||
        (protocol != 0 && protocol != IPPROTO_TCP)) {
        return -EPROTONOSUPPORT;
    }
    int fd = eventfd(0, EFD_CLOEXEC);
    struct wire_socket *socket = fd < 0 ? NULL : socket_add(sockets, domain, fd);
    if (socket == NULL) {
        close(fd);
        return -EMFILE;
    }
    socket->nonblocking = (type & SOCK_NONBLOCK) != 0;
    return fd;
}

int wire_socket_bind(struct wire_sockets *sockets, int fd, const struct endpoint *at)
{
    struct wire_socket *socket = wire_socket_of(sockets, fd);
    if (socket == NULL) {
        return -EBADF;
    }
    if (socket->kind != WIRE_NEW || socket->bound.family != ENDPOINT_NONE) {
        return -EINVAL;
    }
    socket->bound = *at;
    return wire_host_address(sockets->host, at);
}

int wire_socket_listen(struct wire_sockets *sockets, int fd)
{
    struct wire_socket *socket = wire_socket_of(sockets, fd);
    if (socket == NULL) {
        return -EBADF;
    }
    if (socket->kind == WIRE_LISTENING) {
        return 0;
    }
    if (socket->kind != WIRE_NEW || socket->bound.family == ENDPOINT_NONE) {
        return -EINVAL;
    }
    struct network *network = sockets->host->network;
    const struct listen_request request = {
        .at = socket->bound, .accepted = accepted, .owner = socket};
    int status = network->ops->listen(network, &request, &socket->listener);
    socket->kind = status < 0 ? socket->kind : WIRE_LISTENING;
    return status;
}

static bool finish(struct wire_call *call, uint64_t now_ns, ssize_t result)
{
    call->finished = true;
    call->finished_ns = now_ns;
    call->result = result;
    return true;
}

static bool would_block(const struct wire_sockets *sockets, const struct wire_socket *socket,
                        struct wire_call *call)
{
    if (socket->nonblocking || (call->flags & MSG_DONTWAIT) != 0) {
        return finish(call, sockets->host->now_ns, -EAGAIN);
    }
    return false;
}

static bool try_accept(struct wire_sockets *sockets, struct wire_socket *socket,
                       struct wire_call *call)
{
    uint64_t now_ns = sockets->host->now_ns;
    struct stream_facts facts;
    if (socket->kind != WIRE_LISTENING) {
        return finish(call, now_ns, -EINVAL);
    }
    for (unsigned i = 0; i < WIRE_SOCKETS_MAX; i++) {
        struct wire_socket *child = &sockets->sockets[i];
        if (child->in_use && child->fd < 0 && child->parent == socket) {
            child->fd = eventfd(0, EFD_CLOEXEC);
            check(child->fd >= 0);
            child->parent = NULL;
            stream_facts(child->stream, &facts);
            call->peer = facts.remote;
            return finish(call, now_ns, child->fd);
        }
    }
    return would_block(sockets, socket, call);
}

static int error_take(struct wire_socket *socket)
{
    int error = socket->error;
    socket->error = 0;
    return error;
}

static int connect_begin(struct wire_sockets *sockets, struct wire_socket *socket,
                         const struct wire_call *call)
{
    struct wire_host *host = sockets->host;
    const struct connect_request request = {
        .to = call->peer, .from = socket->bound, .timeout_ns = CONNECT_NS};
    struct stream *stream = NULL;
    int status = wire_host_default_address(host, (enum endpoint_family)call->peer.family);
    status = status < 0 ? status : host->network->ops->connect(host->network, &request, &stream);
    if (status == 0) {
        attach(socket, stream);
        socket->kind = WIRE_CONNECTING;
    }
    return status;
}

static bool try_connect(struct wire_sockets *sockets, struct wire_socket *socket,
                        struct wire_call *call)
{
    uint64_t now_ns = sockets->host->now_ns;
    if (!call->begun) {
        call->begun = true;
        if (socket->kind == WIRE_CONNECTED && !socket->closed) {
            return finish(call, now_ns, -EISCONN);
        }
        if (socket->kind == WIRE_CONNECTING && !socket->closed) {
            return finish(call, now_ns, -EALREADY);
        }
        if (socket->kind != WIRE_NEW) {
            int error = error_take(socket);
            return finish(call, now_ns, error != 0 ? error : -ECONNABORTED);
        }
        int status = connect_begin(sockets, socket, call);
        if (status < 0 || socket->nonblocking) {
            return finish(call, now_ns, status < 0 ? status : -EINPROGRESS);
        }
    }
    if (socket->closed) {
        int error = error_take(socket);
        return finish(call, now_ns, error != 0 ? error : -ECONNABORTED);
    }
    return socket->kind == WIRE_CONNECTED ? finish(call, now_ns, 0) : false;
}

static size_t received_bytes(const struct wire_socket *socket)
{
    struct slice slices[512];
    size_t count =
        socket->stream == NULL ? 0 : stream_peek(socket->stream, slices, RTE_DIM(slices));
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += slices[i].size;
    }
    return bytes;
}

static void read_some(struct wire_socket *socket, struct wire_call *call)
{
    struct slice slices[512];
    size_t count = stream_peek(socket->stream, slices, RTE_DIM(slices)), taken = 0;
    for (size_t i = 0; i < count && call->done < call->size; i++) {
        struct slice part = slice_first(slices[i], call->size - call->done);
        if (call->buffer != NULL && part.size > 0) {
            memcpy((uint8_t *)call->buffer + call->done, part.bytes, part.size);
        }
        call->done += part.size;
        taken += part.size;
    }
    if ((call->flags & MSG_PEEK) == 0 && taken > 0) {
        stream_consume(socket->stream, taken);
    }
}

static bool try_read(struct wire_sockets *sockets, struct wire_socket *socket,
                     struct wire_call *call)
{
    uint64_t now_ns = sockets->host->now_ns;
    if (socket->stream == NULL) {
        return finish(call, now_ns, -ENOTCONN);
    }
    read_some(socket, call);
    bool waits = (call->flags & MSG_WAITALL) != 0 && call->done < call->size;
    if (call->done > 0 && !(waits && !socket->half_closed && !socket->closed)) {
        return finish(call, now_ns, (ssize_t)call->done);
    }
    if (socket->closed && socket->error != 0) {
        return finish(call, now_ns, error_take(socket));
    }
    if (socket->half_closed || socket->closed || socket->reader_shut || call->size == 0) {
        return finish(call, now_ns, 0);
    }
    return would_block(sockets, socket, call);
}

static int write_some(struct wire_socket *socket, struct wire_call *call)
{
    static const uint8_t zeros[STREAM_WRITE_MAX];
    int status = 0;
    while (call->done < call->size && status == 0) {
        size_t left = call->size - call->done;
        size_t part = left < STREAM_WRITE_MAX ? left : STREAM_WRITE_MAX;
        const void *bytes = call->bytes == NULL ? zeros : (const uint8_t *)call->bytes + call->done;
        status = stream_write(socket->stream, slice_of(bytes, part));
        call->done += status == 0 ? part : 0;
    }
    return status;
}

static bool try_write(struct wire_sockets *sockets, struct wire_socket *socket,
                      struct wire_call *call)
{
    uint64_t now_ns = sockets->host->now_ns;
    if (socket->stream == NULL || socket->kind == WIRE_CONNECTING) {
        return finish(call, now_ns, socket->stream == NULL ? -EPIPE : -EAGAIN);
    }
    if (socket->closed && socket->error != 0) {
        return finish(call, now_ns, error_take(socket));
    }
    if (socket->closed || socket->writer_shut) {
        return finish(call, now_ns, -EPIPE);
    }
    int status = write_some(socket, call);
    if (call->done == call->size || (status < 0 && status != -EAGAIN && status != -ENOMEM)) {
        return finish(call, now_ns,
                      call->done > 0 || call->size == 0 ? (ssize_t)call->done : status);
    }
    if (call->done > 0 && (socket->nonblocking || (call->flags & MSG_DONTWAIT) != 0)) {
        return finish(call, now_ns, (ssize_t)call->done);
    }
    return would_block(sockets, socket, call);
}

static bool has_child(const struct wire_sockets *sockets, const struct wire_socket *parent)
{
    for (unsigned i = 0; i < WIRE_SOCKETS_MAX; i++) {
        if (sockets->sockets[i].in_use && sockets->sockets[i].parent == parent) {
            return true;
        }
    }
    return false;
}

static short events_of(const struct wire_sockets *sockets, const struct wire_socket *socket)
{
    int events = 0;
    if (socket->kind == WIRE_LISTENING) {
        return has_child(sockets, socket) ? POLLIN | POLLRDNORM : 0;
    }
    if (received_bytes(socket) > 0 || socket->half_closed || socket->closed ||
        socket->reader_shut) {
        events |= POLLIN | POLLRDNORM;
    }
    if (socket->half_closed || socket->reader_shut) {
        events |= POLLRDHUP;
    }
    if (socket->kind == WIRE_CONNECTED || socket->closed) {
        events |= POLLOUT | POLLWRNORM;
    }
    if (socket->closed || (socket->half_closed && socket->writer_shut)) {
        events |= POLLHUP;
    }
    return (short)(events | (socket->error != 0 ? POLLERR : 0));
}

static bool try_poll(struct wire_sockets *sockets, struct wire_call *call)
{
    ssize_t ready = 0;
    for (size_t i = 0; i < call->size; i++) {
        struct pollfd *polled = &call->polled[i];
        const struct wire_socket *socket = wire_socket_of(sockets, polled->fd);
        int wanted = polled->events | POLLERR | POLLHUP;
        polled->revents = socket == NULL ? POLLNVAL : (short)(events_of(sockets, socket) & wanted);
        ready += polled->revents != 0;
    }
    bool over = sockets->host->now_ns >= call->until_ns;
    return ready > 0 || over ? finish(call, sockets->host->now_ns, ready) : false;
}

bool wire_call_try(struct wire_sockets *sockets, struct wire_call *call)
{
    struct wire_socket *socket = wire_socket_of(sockets, call->fd);
    if (call->finished) {
        return true;
    }
    if (call->operation == WIRE_POLL) {
        return try_poll(sockets, call);
    }
    if (socket == NULL) {
        return finish(call, sockets->host->now_ns, -EBADF);
    }
    switch (call->operation) {
    case WIRE_ACCEPT:
        return try_accept(sockets, socket, call);
    case WIRE_CONNECT:
        return try_connect(sockets, socket, call);
    case WIRE_READ:
        return try_read(sockets, socket, call);
    case WIRE_WRITE:
        return try_write(sockets, socket, call);
    case WIRE_POLL:
        break;
    }
    return true;
}

int wire_socket_shutdown(struct wire_sockets *sockets, int fd, int how)
{
    struct wire_socket *socket = wire_socket_of(sockets, fd);
    if (socket == NULL) {
        return -EBADF;
    }
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
        return -EINVAL;
    }
    if (socket->kind != WIRE_CONNECTED || socket->closed) {
        return -ENOTCONN;
    }
    socket->reader_shut |= how != SHUT_WR;
    if (how != SHUT_RD && !socket->writer_shut) {
        socket->writer_shut = true;
        stream_shut(socket->stream);
    }
    return 0;
}

/* RFC 1122 §4.2.2.13: a session that closes and has not read all must not look satisfied. */
static void stream_end(struct wire_socket *socket)
{
    if (socket->stream == NULL) {
        return;
    }
    if (!socket->closed && (socket->linger_reset || received_bytes(socket) > 0)) {
        stream_abort(socket->stream);
    }
    stream_release(socket->stream);
    socket->stream = NULL;
}

int wire_socket_shut(struct wire_sockets *sockets, int fd)
{
    struct wire_socket *socket = wire_socket_of(sockets, fd);
    struct network *network = sockets->host->network;
    if (socket == NULL) {
        return -EBADF;
    }
    for (unsigned i = 0; i < WIRE_SOCKETS_MAX; i++) {
        struct wire_socket *child = &sockets->sockets[i];
        if (child->in_use && child->parent == socket) { /* nobody will ever accept it */
            child->linger_reset = true;
            stream_end(child);
            child->in_use = false;
        }
    }
    if (socket->listener != NULL) {
        network->ops->unlisten(network, socket->listener);
    }
    stream_end(socket);
    close(socket->fd);
    socket->in_use = false;
    return 0;
}

void wire_sockets_close(struct wire_sockets *sockets)
{
    for (unsigned i = 0; i < WIRE_SOCKETS_MAX; i++) {
        struct wire_socket *socket = &sockets->sockets[i];
        if (socket->in_use && socket->fd >= 0) {
            socket->linger_reset = true;
            wire_socket_shut(sockets, socket->fd);
        }
    }
}

int wire_socket_fcntl(struct wire_sockets *sockets, int fd, int command, int argument)
{
    struct wire_socket *socket = wire_socket_of(sockets, fd);
    if (socket == NULL) {
        return -EBADF;
    }
    switch (command) {
    case F_GETFL:
        return O_RDWR | (socket->nonblocking ? O_NONBLOCK : 0);
    case F_SETFL:
        socket->nonblocking = (argument & O_NONBLOCK) != 0;
        return 0;
    default:
        return -EINVAL;
    }
}

int wire_socket_ioctl(struct wire_sockets *sockets, int fd, unsigned long request, int *answer)
{
    const struct wire_socket *socket = wire_socket_of(sockets, fd);
    if (socket == NULL) {
        return -EBADF;
    }
    const struct tcp_conn *conn = (const struct tcp_conn *)socket->stream; /* its first member */
    if (conn == NULL || answer == NULL) {
        return -EINVAL;
    }
    switch (request) {
    case SIOCINQ: /* FIONREAD */
        *answer = (int)received_bytes(socket);
        return 0;
    case SIOCOUTQ:
        *answer = (int)conn->queue.bytes;
        return 0;
    default:
        return -EINVAL;
    }
}
