#include "bench/network_epoll_private.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static struct epoll_stream *self_of(const struct stream *stream)
{
    return list_entry(stream, struct epoll_stream, stream);
}

static void watch(struct epoll_stream *s, uint32_t wanted)
{
    if (s->watched != wanted && s->fd >= 0) {
        struct epoll_event event = {.events = wanted, .data.ptr = s};
        check(epoll_ctl(s->network->epoll_fd, EPOLL_CTL_MOD, s->fd, &event) == 0);
        s->watched = wanted;
    }
}

static void pieces_drop(struct epoll_stream *s)
{
    for (uint32_t i = s->piece_at; i < s->piece_count; i++) {
        if (s->pieces[i].owner != NULL) {
            ref_drop(s->pieces[i].owner);
        }
    }
    s->piece_at = s->piece_count = 0;
    s->copied_bytes = 0;
}

/* The descriptor goes at once, the memory at the end of the round: its events may still be in the
 * array. */
void epoll_stream_end(struct epoll_stream *s)
{
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
    }
    pieces_drop(s);
    list_remove(&s->dirty);
    list_remove(&s->connecting);
    s->closed = true;
    if (s->released) {
        list_remove(&s->every);
        list_append(&s->network->dead, &s->every);
    }
}

static void tell(struct epoll_stream *s, uint32_t events)
{
    if (!s->released && s->stream.notify != NULL) {
        s->stream.notify(&s->stream, events, s->stream.session);
    }
}

void epoll_stream_fail(struct epoll_stream *s, int error)
{
    if (s->closed) {
        return;
    }
    s->stream.error = error;
    epoll_stream_end(s);
    tell(s, STREAM_CLOSED);
}

static size_t epoll_peek(struct stream *stream, struct slice *slices, size_t count)
{
    struct epoll_stream *s = self_of(stream);
    size_t found = 0;
    if (s->kept_bytes > 0 && found < count) {
        slices[found++] = slice_of(s->kept + s->kept_at, s->kept_bytes);
    }
    if (s->fresh.size > 0 && found < count) {
        slices[found++] = s->fresh;
    }
    return found;
}

static void epoll_consume(struct stream *stream, size_t bytes)
{
    struct epoll_stream *s = self_of(stream);
    size_t of_kept = bytes < s->kept_bytes ? bytes : s->kept_bytes;
    s->kept_at += of_kept;
    s->kept_bytes -= of_kept;
    check(bytes - of_kept <= s->fresh.size);
    s->fresh = slice_from(s->fresh, bytes - of_kept);
}

static void mark_dirty(struct epoll_stream *s)
{
    if (list_empty(&s->dirty)) {
        list_append(&s->network->dirty, &s->dirty);
    }
}

static int epoll_write(struct stream *stream, struct slice bytes)
{
    struct epoll_stream *s = self_of(stream);
    if (bytes.size > STREAM_WRITE_MAX) {
        return -EMSGSIZE;
    }
    if (s->closed || s->shut_wanted) {
        return -EPIPE;
    }
    if (s->piece_count == PIECES_MAX || bytes.size > sizeof(s->copied) - s->copied_bytes) {
        s->wants_room = true;
        return -EAGAIN;
    }
    uint8_t *to = s->copied + s->copied_bytes;
    memcpy(to, bytes.bytes, bytes.size);
    s->copied_bytes += bytes.size;
    struct piece *last = s->piece_count > s->piece_at ? &s->pieces[s->piece_count - 1] : NULL;
    if (last != NULL && last->bytes + last->size == to) {
        last->size += bytes.size;
    } else {
        s->pieces[s->piece_count++] = (struct piece){.bytes = to, .size = bytes.size};
    }
    mark_dirty(s);
    return 0;
}

static int epoll_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    struct epoll_stream *s = self_of(stream);
    if (s->closed || s->shut_wanted) {
        return -EPIPE;
    }
    if (s->piece_count == PIECES_MAX) {
        s->wants_room = true;
        return -EAGAIN;
    }
    s->pieces[s->piece_count++] =
        (struct piece){.bytes = bytes.bytes, .size = bytes.size, .owner = ref_take(owner)};
    mark_dirty(s);
    return 0;
}

static size_t epoll_queued(const struct stream *stream)
{
    const struct epoll_stream *s = self_of(stream);
    size_t bytes = 0;
    for (uint32_t i = s->piece_at; i < s->piece_count; i++) {
        bytes += s->pieces[i].size;
    }
    return bytes;
}

static void epoll_read_stop(struct stream *stream)
{
    struct epoll_stream *s = self_of(stream);
    s->reading = false;
    watch(s, s->watched & ~(uint32_t)EPOLLIN);
}

static void epoll_read_start(struct stream *stream)
{
    struct epoll_stream *s = self_of(stream);
    s->reading = true;
    if (s->connected) {
        watch(s, s->watched | EPOLLIN);
    }
}

static void epoll_shut(struct stream *stream)
{
    struct epoll_stream *s = self_of(stream);
    s->shut_wanted = true;
    mark_dirty(s);
}

static void epoll_abort(struct stream *stream)
{
    struct epoll_stream *s = self_of(stream);
    struct linger reset = {.l_onoff = 1};
    if (!s->closed) {
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        epoll_stream_fail(s, -ECONNABORTED);
    }
}

static void epoll_release(struct stream *stream)
{
    struct epoll_stream *s = self_of(stream);
    s->released = true;
    if (s->closed || !s->connected) {
        epoll_stream_end(s);
        return;
    }
    s->shut_wanted = true;
    mark_dirty(s);
}

static void epoll_facts(const struct stream *stream, struct stream_facts *facts)
{
    const struct epoll_stream *s = self_of(stream);
    struct sockaddr_storage address;
    *facts = (struct stream_facts){.transport = "kernel"};
    socklen_t size = sizeof(address);
    if (getsockname(s->fd, (struct sockaddr *)&address, &size) == 0) {
        endpoint_from_sockaddr(&facts->local, (struct sockaddr *)&address, size);
    }
    size = sizeof(address);
    if (getpeername(s->fd, (struct sockaddr *)&address, &size) == 0) {
        endpoint_from_sockaddr(&facts->remote, (struct sockaddr *)&address, size);
    }
}

static const struct stream_ops epoll_stream_ops = {
    .peek = epoll_peek,
    .consume = epoll_consume,
    .write = epoll_write,
    .write_ref = epoll_write_ref,
    .queued = epoll_queued,
    .unacknowledged = epoll_queued, /* no session of ours asks for more */
    .read_stop = epoll_read_stop,
    .read_start = epoll_read_start,
    .shut = epoll_shut,
    .abort = epoll_abort,
    .release = epoll_release,
    .facts = epoll_facts,
};

struct epoll_stream *epoll_stream_make(struct epoll_network *network, int fd, uint32_t watched)
{
    struct epoll_stream *s = malloc(sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    memset(s, 0, offsetof(struct epoll_stream, copied)); /* the rest is touched when it is used */
    s->kind = CARRIER_STREAM;
    s->fd = fd;
    s->network = network;
    s->stream.ops = &epoll_stream_ops;
    s->reading = true;
    s->watched = watched;
    list_init(&s->dirty);
    list_init(&s->every);
    list_init(&s->connecting);
    list_init(&s->stream.ready);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
               sizeof(one)); /* fails on unix sockets, which never wait */
    struct epoll_event event = {.events = watched, .data.ptr = s};
    if (epoll_ctl(network->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(s);
        return NULL;
    }
    list_append(&network->streams, &s->every);
    return s;
}

/* Puts what the session has left of `fresh` behind what was kept before. */
static bool keep_rest(struct epoll_stream *s)
{
    size_t rest = s->fresh.size;
    if (s->kept_bytes == 0) {
        s->kept_at = 0;
    }
    if (s->kept_at + s->kept_bytes + rest > s->kept_room) {
        size_t room = (s->kept_bytes + rest) * 2;
        uint8_t *kept = malloc(room);
        if (kept == NULL) {
            return false;
        }
        if (s->kept_bytes > 0) {
            memcpy(kept, s->kept + s->kept_at, s->kept_bytes);
        }
        free(s->kept);
        s->kept = kept;
        s->kept_room = room;
        s->kept_at = 0;
    }
    memcpy(s->kept + s->kept_at + s->kept_bytes, s->fresh.bytes, rest);
    s->kept_bytes += rest;
    return true;
}

static void receive(struct epoll_stream *s)
{
    ssize_t got = recv(s->fd, s->network->scratch, SCRATCH_BYTES, 0);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            epoll_stream_fail(s, -errno);
        }
        return;
    }
    if (got == 0 && (s->shut_done || s->peer_done)) {
        epoll_stream_fail(s, s->shut_done ? 0 : -ECONNRESET);
        return;
    }
    if (got == 0) {
        s->peer_done = true;
        s->reading = false;
        watch(s, s->watched & ~(uint32_t)EPOLLIN);
        tell(s, STREAM_HALF_CLOSED);
        return;
    }
    if (s->released) {
        return; /* read and dropped, so that the close is no reset */
    }
    s->fresh = slice_of(s->network->scratch, (size_t)got);
    tell(s, STREAM_READABLE);
    if (s->fresh.size > 0 && !s->released && !s->closed && !keep_rest(s)) {
        epoll_stream_fail(s, -ENOMEM);
    }
    s->fresh.size = 0;
}

static void connected(struct epoll_stream *s)
{
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        epoll_stream_fail(s, -error);
        return;
    }
    s->connected = true;
    list_remove(&s->connecting);
    watch(s, s->reading ? EPOLLIN : 0);
    tell(s, STREAM_CONNECTED);
}

void epoll_stream_transmit(struct epoll_stream *s)
{
    while (s->piece_at < s->piece_count) {
        struct iovec parts[PIECES_MAX];
        uint32_t count = 0;
        for (uint32_t i = s->piece_at; i < s->piece_count; i++) {
            parts[count++] =
                (struct iovec){(void *)(uintptr_t)s->pieces[i].bytes, s->pieces[i].size};
        }
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
        /* The shutdown below sends the last bytes with the FIN. */
        ssize_t sent = sendmsg(s->fd, &message, MSG_NOSIGNAL | (s->shut_wanted ? MSG_MORE : 0));
        if (sent < 0) {
            if (errno == EAGAIN) {
                watch(s, s->watched | EPOLLOUT);
            } else if (errno != EINTR) {
                epoll_stream_fail(s, -errno);
            }
            return;
        }
        while (sent > 0 && (size_t)sent >= s->pieces[s->piece_at].size) {
            struct piece *piece = &s->pieces[s->piece_at++];
            sent -= (ssize_t)piece->size;
            if (piece->owner != NULL) {
                ref_drop(piece->owner);
            }
        }
        if (sent > 0) {
            s->pieces[s->piece_at].bytes += sent;
            s->pieces[s->piece_at].size -= (size_t)sent;
        }
    }
    s->piece_at = s->piece_count = 0;
    s->copied_bytes = 0;
    watch(s, s->watched & ~(uint32_t)EPOLLOUT);
    if (s->shut_wanted && !s->shut_done) {
        shutdown(s->fd, SHUT_WR);
        s->shut_done = true;
        if (s->peer_done) {
            epoll_stream_fail(s, 0);
            return;
        }
    }
    if (s->wants_room) {
        s->wants_room = false;
        tell(s, STREAM_WRITABLE);
    }
}

void epoll_stream_event(struct epoll_stream *s, uint32_t events)
{
    if (s->closed) {
        return;
    }
    if (!s->connected) {
        connected(s);
        return;
    }
    if (events & EPOLLOUT) {
        epoll_stream_transmit(s);
    }
    if (!s->closed && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        receive(s);
    }
}

void epoll_stream_free(struct epoll_stream *s)
{
    list_remove(&s->every);
    free(s->kept);
    free(s);
}
