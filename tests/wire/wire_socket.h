/*
 * wire_socket: the calls of BSD sockets over a stack, as far as scripts need them.
 *
 * A call is an object: wire_call_try does what can be done now and says whether that was all. So a
 * call that blocks can wait for virtual time in a thread of its own (the plug-in) or beside the
 * script (the runner), and is finished at the very moment at which it may.
 *
 * Descriptors are real ones of the kernel (an eventfd each), because packetdrill closes what is left
 * by the kernel's close.
 */
#pragma once
#include "tests/wire/wire_host.h"
#include <poll.h>

#define WIRE_SOCKETS_MAX 64u

enum wire_socket_kind {
    WIRE_NEW,
    WIRE_LISTENING,
    WIRE_CONNECTING,
    WIRE_CONNECTED, /* once; also after it is over */
};

struct wire_socket {
    int fd; /* -1: accepted by the stack, not by the session */
    enum wire_socket_kind kind;
    int domain;
    bool in_use, nonblocking, reader_shut, writer_shut, half_closed, closed;
    bool linger_reset; /* SO_LINGER with a time of 0 */
    int error;         /* not told yet; -errno */
    struct endpoint bound;
    struct listener *listener;
    struct wire_socket *parent; /* while fd is -1 */
    struct stream *stream;
    struct wire_sockets *all;
};

struct wire_sockets {
    struct wire_host *host;
    struct wire_socket sockets[WIRE_SOCKETS_MAX];
};

enum wire_operation { WIRE_ACCEPT, WIRE_CONNECT, WIRE_READ, WIRE_WRITE, WIRE_POLL };

struct wire_call {
    enum wire_operation operation;
    int fd;
    int flags;            /* MSG_* of WIRE_READ, WIRE_WRITE */
    struct endpoint peer; /* to connect to; of whom was accepted */
    void *buffer;         /* WIRE_READ; NULL: bytes are thrown away */
    const void *bytes;    /* WIRE_WRITE; NULL: zeros */
    size_t size, done;
    struct pollfd *polled;
    uint64_t until_ns; /* of WIRE_POLL; WHEEL_NEVER: without end */
    bool begun, finished;
    ssize_t result; /* or -errno */
    uint64_t finished_ns;
};

void wire_sockets_open(struct wire_sockets *sockets, struct wire_host *host);
void wire_sockets_close(struct wire_sockets *sockets); /* what is left is aborted */
struct wire_socket *wire_socket_of(struct wire_sockets *sockets, int fd); /* NULL: none */

/* Does what can be done now. True: finished, and result is there. */
bool wire_call_try(struct wire_sockets *sockets, struct wire_call *call);

/* The calls that never wait. A descriptor, 0, or -errno. */
int wire_socket_make(struct wire_sockets *sockets, int domain, int type, int protocol);
int wire_socket_bind(struct wire_sockets *sockets, int fd, const struct endpoint *at);
int wire_socket_listen(struct wire_sockets *sockets, int fd);
int wire_socket_shutdown(struct wire_sockets *sockets, int fd, int how);
int wire_socket_shut(struct wire_sockets *sockets, int fd); /* close(2) */
int wire_socket_fcntl(struct wire_sockets *sockets, int fd, int command, int argument);
int wire_socket_ioctl(struct wire_sockets *sockets, int fd, unsigned long request, int *answer);

/* wire_option.c */
int wire_socket_set(struct wire_sockets *sockets, int fd, int level, int name, const void *value,
                    socklen_t bytes);
int wire_socket_get(struct wire_sockets *sockets, int fd, int level, int name, void *value,
                    socklen_t *bytes);
