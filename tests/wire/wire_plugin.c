#include "tests/wire/wire_plugin.h"
#include "tests/wire/wire_socket.h"
#include <pthread.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SILENCE_NS (3600 * SECOND_NS) /* until a stack that sends nothing is given up */

/* Calls of a script that block come from a second thread: it sleeps, and the first, which moves the
 * clock, finishes the call for it at the moment at which it may be. */
struct plugin {
    struct wire_host host;
    struct wire_sockets sockets;
    pthread_mutex_t lock;
    pthread_cond_t finished;
    pthread_t first;
    struct wire_call *waiting;
};

static struct plugin *plugin; /* packetdrill has one stack in a process */
/* When the call that this thread blocked in has ended: what it is told when it asks the clock next,
 * though the other thread may have moved on. */
static _Thread_local uint64_t ended_ns;

static bool settled(void *owner)
{
    struct plugin *self = owner;
    struct wire_call *call = self->waiting;
    if (call == NULL) {
        return false;
    }
    size_t done = call->done;
    if (wire_call_try(&self->sockets, call)) {
        self->waiting = NULL;
        pthread_cond_broadcast(&self->finished);
        return true;
    }
    return call->done != done;
}

/* As libc answers. */
static ssize_t answer(ssize_t result)
{
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static uint64_t deadline(const struct plugin *self, uint64_t until_ns)
{
    const struct wire_call *call = self->waiting;
    bool sooner = call != NULL && call->operation == WIRE_POLL && call->until_ns < until_ns;
    return sooner ? call->until_ns : until_ns;
}

static ssize_t call_run(struct plugin *self, struct wire_call *call)
{
    pthread_mutex_lock(&self->lock);
    bool finished = wire_call_try(&self->sockets, call);
    if (!finished) {
        self->waiting = call;
    }
    wire_host_round(&self->host);
    uint64_t until_ns = self->host.now_ns + SILENCE_NS;
    while (!call->finished && pthread_equal(self->first, pthread_self()) != 0 &&
           self->host.now_ns < until_ns) {
        wire_host_step(&self->host, deadline(self, until_ns));
    }
    while (!call->finished && pthread_equal(self->first, pthread_self()) == 0) {
        pthread_cond_wait(&self->finished, &self->lock);
    }
    if (!call->finished) {
        self->waiting = NULL;
        call->result = -ETIMEDOUT;
    } else if (!finished) {
        ended_ns = call->finished_ns;
    }
    pthread_mutex_unlock(&self->lock);
    return answer(call->result);
}

/* A call that never waits, between two rounds. */
#define AT_ONCE(self, expression)                                                                  \
    pthread_mutex_lock(&(self)->lock);                                                             \
    int result = (expression);                                                                     \
    wire_host_round(&(self)->host);                                                                \
    pthread_mutex_unlock(&(self)->lock);                                                           \
    return (int)answer(result)

static void plugin_free(void *self)
{
    struct plugin *own = self;
    own->waiting = NULL;
    wire_sockets_close(&own->sockets);
    wire_host_close(&own->host);
    plugin = NULL;
    free(own);
}

static int plugin_socket(void *self, int domain, int type, int protocol)
{
    struct plugin *own = self;
    AT_ONCE(own, wire_socket_make(&own->sockets, domain, type, protocol));
}

static int plugin_bind(void *self, int fd, const struct sockaddr *at, socklen_t bytes)
{
    struct plugin *own = self;
    struct endpoint endpoint;
    if (endpoint_from_sockaddr(&endpoint, at, bytes) < 0) {
        return (int)answer(-EINVAL);
    }
    AT_ONCE(own, wire_socket_bind(&own->sockets, fd, &endpoint));
}

static int plugin_listen(void *self, int fd, int backlog)
{
    struct plugin *own = self;
    (void)backlog;
    AT_ONCE(own, wire_socket_listen(&own->sockets, fd));
}

static int plugin_accept(void *self, int fd, struct sockaddr *peer, socklen_t *bytes)
{
    struct wire_call call = {.operation = WIRE_ACCEPT, .fd = fd};
    int status = (int)call_run(self, &call);
    if (status >= 0 && peer != NULL && bytes != NULL) {
        struct sockaddr_storage address;
        socklen_t size = endpoint_to_sockaddr(&call.peer, &address);
        memcpy(peer, &address, size < *bytes ? size : *bytes);
        *bytes = size;
    }
    return status;
}

static int plugin_connect(void *self, int fd, const struct sockaddr *to, socklen_t bytes)
{
    struct wire_call call = {.operation = WIRE_CONNECT, .fd = fd};
    if (endpoint_from_sockaddr(&call.peer, to, bytes) < 0) {
        return (int)answer(-EAFNOSUPPORT);
    }
    return (int)call_run(self, &call);
}

static ssize_t plugin_recv(void *self, int fd, void *buffer, size_t size, int flags)
{
    struct wire_call call = {
        .operation = WIRE_READ, .fd = fd, .flags = flags, .buffer = buffer, .size = size};
    return call_run(self, &call);
}

static ssize_t plugin_read(void *self, int fd, void *buffer, size_t size)
{
    return plugin_recv(self, fd, buffer, size, 0);
}

static ssize_t plugin_recvfrom(void *self, int fd, void *buffer, size_t size, int flags,
                               struct sockaddr *from, socklen_t *bytes)
{
    if (from != NULL && bytes != NULL) {
        *bytes = 0; /* as of a connected socket */
    }
    return plugin_recv(self, fd, buffer, size, flags);
}

static size_t parts_size(const struct iovec *parts, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    return size;
}

static ssize_t receive_parts(void *self, int fd, const struct iovec *parts, size_t count, int flags)
{
    size_t size = parts_size(parts, count), at = 0;
    uint8_t *bytes = malloc(size + 1);
    ssize_t got = bytes == NULL ? answer(-ENOMEM) : plugin_recv(self, fd, bytes, size, flags);
    for (size_t i = 0; got > 0 && i < count && at < (size_t)got; i++) {
        size_t left = (size_t)got - at;
        size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
        memcpy(parts[i].iov_base, bytes + at, part);
        at += part;
    }
    free(bytes);
    return got;
}

static ssize_t plugin_readv(void *self, int fd, const struct iovec *parts, int count)
{
    return receive_parts(self, fd, parts, (size_t)count, 0);
}

static ssize_t plugin_recvmsg(void *self, int fd, struct msghdr *message, int flags)
{
    message->msg_controllen = 0;
    message->msg_flags = 0;
    return receive_parts(self, fd, message->msg_iov, message->msg_iovlen, flags);
}

static ssize_t plugin_send(void *self, int fd, const void *bytes, size_t size, int flags)
{
    struct wire_call call = {
        .operation = WIRE_WRITE, .fd = fd, .flags = flags, .bytes = bytes, .size = size};
    return call_run(self, &call);
}

static ssize_t plugin_write(void *self, int fd, const void *bytes, size_t size)
{
    return plugin_send(self, fd, bytes, size, 0);
}

static ssize_t plugin_sendto(void *self, int fd, const void *bytes, size_t size, int flags,
                             const struct sockaddr *to, socklen_t to_bytes)
{
    (void)to; /* of a connected socket it says nothing */
    (void)to_bytes;
    return plugin_send(self, fd, bytes, size, flags);
}

static ssize_t send_parts(void *self, int fd, const struct iovec *parts, size_t count, int flags)
{
    size_t size = parts_size(parts, count), at = 0;
    uint8_t *bytes = malloc(size + 1);
    for (size_t i = 0; bytes != NULL && i < count; i++) {
        memcpy(bytes + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    ssize_t sent = bytes == NULL ? answer(-ENOMEM) : plugin_send(self, fd, bytes, size, flags);
    free(bytes);
    return sent;
}

static ssize_t plugin_writev(void *self, int fd, const struct iovec *parts, int count)
{
    return send_parts(self, fd, parts, (size_t)count, 0);
}

static ssize_t plugin_sendmsg(void *self, int fd, const struct msghdr *message, int flags)
{
    return send_parts(self, fd, message->msg_iov, message->msg_iovlen, flags);
}

static int plugin_fcntl(void *self, int fd, int command, ...)
{
    struct plugin *own = self;
    va_list list;
    va_start(list, command);
    int argument = va_arg(list, int);
    va_end(list);
    AT_ONCE(own, wire_socket_fcntl(&own->sockets, fd, command, argument));
}

static int plugin_ioctl(void *self, int fd, unsigned long request, ...)
{
    struct plugin *own = self;
    va_list list;
    va_start(list, request);
    int *place = va_arg(list, int *);
    va_end(list);
    AT_ONCE(own, wire_socket_ioctl(&own->sockets, fd, request, place));
}

static int plugin_close(void *self, int fd)
{
    struct plugin *own = self;
    AT_ONCE(own, wire_socket_shut(&own->sockets, fd));
}

static int plugin_shutdown(void *self, int fd, int how)
{
    struct plugin *own = self;
    AT_ONCE(own, wire_socket_shutdown(&own->sockets, fd, how));
}

static int plugin_getsockopt(void *self, int fd, int level, int name, void *value, socklen_t *bytes)
{
    struct plugin *own = self;
    AT_ONCE(own, wire_socket_get(&own->sockets, fd, level, name, value, bytes));
}

static int plugin_setsockopt(void *self, int fd, int level, int name, const void *value,
                             socklen_t bytes)
{
    struct plugin *own = self;
    AT_ONCE(own, wire_socket_set(&own->sockets, fd, level, name, value, bytes));
}

static int plugin_poll(void *self, struct pollfd *polled, nfds_t count, int timeout_ms)
{
    struct plugin *own = self;
    struct wire_call call = {
        .operation = WIRE_POLL, .fd = -1, .polled = polled, .size = count, .until_ns = WHEEL_NEVER};
    if (timeout_ms >= 0) {
        call.until_ns = own->host.now_ns + (uint64_t)timeout_ms * MS_NS;
    }
    return (int)call_run(self, &call);
}

static int plugin_netdev_send(void *self, const void *packet, size_t bytes)
{
    struct plugin *own = self;
    pthread_mutex_lock(&own->lock);
    wire_host_send(&own->host, packet, (uint32_t)bytes);
    pthread_mutex_unlock(&own->lock);
    return 0;
}

/* packetdrill waits here without end for a packet that it expects. */
static int plugin_netdev_receive(void *self, void *packet, size_t *size, long long *time_us)
{
    struct plugin *own = self;
    struct wire_departure departure;
    pthread_mutex_lock(&own->lock);
    uint64_t until_ns = own->host.now_ns + SILENCE_NS;
    bool taken = wire_host_take(&own->host, &departure);
    while (!taken && own->host.now_ns < until_ns) {
        wire_host_step(&own->host, deadline(own, until_ns));
        taken = wire_host_take(&own->host, &departure);
    }
    pthread_mutex_unlock(&own->lock);
    if (!taken) {
        fprintf(stderr, "tubepost: a packet is expected, and the stack will send none\n");
        exit(EXIT_FAILURE);
    }
    *size = departure.bytes < *size ? departure.bytes : *size;
    memcpy(packet, departure.packet, *size);
    *time_us = (long long)(departure.sent_ns / 1000);
    free(departure.packet);
    return 0;
}

static int plugin_usleep(void *self, useconds_t us)
{
    struct plugin *own = self;
    pthread_mutex_lock(&own->lock);
    uint64_t until_ns = own->host.now_ns + us * 1000ull;
    while (own->host.now_ns < until_ns) {
        wire_host_step(&own->host, deadline(own, until_ns));
    }
    pthread_mutex_unlock(&own->lock);
    return 0;
}

/* The last microseconds before an event are waited for by asking again and again, so each question
 * takes one. */
static int plugin_gettimeofday(void *self, struct timeval *now, struct timezone *zone)
{
    struct plugin *own = self;
    (void)zone;
    pthread_mutex_lock(&own->lock);
    uint64_t now_ns = ended_ns;
    if (now_ns == 0) {
        wire_host_step(&own->host, own->host.now_ns + 1000);
        now_ns = own->host.now_ns;
    }
    ended_ns = 0;
    pthread_mutex_unlock(&own->lock);
    now->tv_sec = (time_t)(now_ns / SECOND_NS);
    now->tv_usec = (suseconds_t)(now_ns % SECOND_NS / 1000);
    return 0;
}

static int plugin_epoll_create(void *self, int size)
{
    (void)self;
    (void)size;
    return (int)answer(-ENOSYS);
}

static int plugin_epoll_ctl(void *self, int epoll, int operation, int fd, struct epoll_event *event)
{
    (void)self, (void)epoll, (void)operation, (void)fd, (void)event;
    return (int)answer(-ENOSYS);
}

static int plugin_epoll_wait(void *self, int epoll, struct epoll_event *events, int max,
                             int timeout_ms)
{
    (void)self, (void)epoll, (void)events, (void)max, (void)timeout_ms;
    return (int)answer(-ENOSYS);
}

static int plugin_pipe(void *self, int fds[2])
{
    (void)self, (void)fds;
    return (int)answer(-ENOSYS);
}

static int plugin_splice(void *self, int from, off_t *from_offset, int to, off_t *to_offset,
                         size_t size, unsigned int flags)
{
    (void)self, (void)from, (void)from_offset, (void)to, (void)to_offset, (void)size, (void)flags;
    return (int)answer(-ENOSYS);
}

static const struct packetdrill_interface filled = {
    .free = plugin_free,
    .socket = plugin_socket,
    .bind = plugin_bind,
    .listen = plugin_listen,
    .accept = plugin_accept,
    .connect = plugin_connect,
    .read = plugin_read,
    .readv = plugin_readv,
    .recv = plugin_recv,
    .recvfrom = plugin_recvfrom,
    .recvmsg = plugin_recvmsg,
    .write = plugin_write,
    .writev = plugin_writev,
    .send = plugin_send,
    .sendto = plugin_sendto,
    .sendmsg = plugin_sendmsg,
    .fcntl = plugin_fcntl,
    .ioctl = plugin_ioctl,
    .close = plugin_close,
    .shutdown = plugin_shutdown,
    .getsockopt = plugin_getsockopt,
    .setsockopt = plugin_setsockopt,
    .poll = plugin_poll,
    .netdev_send = plugin_netdev_send,
    .netdev_receive = plugin_netdev_receive,
    .usleep = plugin_usleep,
    .gettimeofday = plugin_gettimeofday,
    .epoll_create = plugin_epoll_create,
    .epoll_ctl = plugin_epoll_ctl,
    .epoll_wait = plugin_epoll_wait,
    .pipe = plugin_pipe,
    .splice = plugin_splice,
};

static void give_up(const char *why, const char *what)
{
    fprintf(stderr, "tubepost: %s%s\n", why, what);
    exit(EXIT_FAILURE);
}

__attribute__((visibility("default"))) void
packetdrill_interface_init(const char *flags, struct packetdrill_interface *table)
{
    struct wire_settings settings;
    const char *culprit = "";
    munlockall(); /* packetdrill has locked what is and what will be; the EAL reserves a lot */
    wire_settings_default(&settings);
    if (wire_settings_parse(&settings, flags, &culprit) < 0) {
        give_up("--so_flags: not understood: ", culprit);
    }
    plugin = calloc(1, sizeof(*plugin));
    int status = plugin == NULL ? -ENOMEM : wire_host_open(&plugin->host, &settings);
    if (status < 0) {
        give_up("cannot start: ", strerror(-status));
    }
    wire_sockets_open(&plugin->sockets, &plugin->host);
    pthread_mutex_init(&plugin->lock, NULL);
    pthread_cond_init(&plugin->finished, NULL);
    plugin->first = pthread_self();
    plugin->host.settled = settled;
    plugin->host.owner = plugin;
    *table = filled;
    table->self = plugin;
}

/* The blocks of code in a script read struct tcp_info by the kernel's getsockopt. When this object is
 * preloaded as well (LD_PRELOAD), they are answered here. */
__attribute__((visibility("default"))) int getsockopt(int fd, int level, int name, void *value,
                                                      socklen_t *bytes)
{
    if (plugin != NULL && wire_socket_of(&plugin->sockets, fd) != NULL) {
        return plugin_getsockopt(plugin, fd, level, name, value, bytes);
    }
    return (int)syscall(SYS_getsockopt, fd, level, name, value, bytes);
}
