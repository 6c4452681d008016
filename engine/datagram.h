/*
 * datagram: a UDP socket, whatever carries it: our stack (engine/net/udp.h), later a kernel socket
 * beside it.
 *
 * All calls come from the owning shard; none blocks, none calls back before it returns. `notify` is
 * called from network_poll, once a round, when there is something to receive.
 */
#pragma once
#include "engine/core/endpoint.h"
#include <errno.h>

struct datagram {
    struct endpoint from; /* of an error: where it was to go */
    struct slice bytes;   /* borrowed until the next receive or close */
};

struct datagram_socket;

struct datagram_ops {
    /* 0; -EMSGSIZE: does not fit the link; -ENETUNREACH, -EDESTADDRREQ; -ENOBUFS: try again. */
    int (*send)(struct datagram_socket *, const struct endpoint *to, struct slice bytes);
    /* 1: a datagram; 0: none is there; -ECONNREFUSED, -EHOSTUNREACH...: what a router or the host has told
     * of a datagram that was sent to from; -ENOBUFS: one that came from there
     * is lost, memory is out. */
    int (*receive)(struct datagram_socket *, struct datagram *);
    void (*local)(const struct datagram_socket *, struct endpoint *);
    void (*close)(struct datagram_socket *);
};

struct datagram_socket {
    const struct datagram_ops *ops;
    void (*notify)(struct datagram_socket *, void *session);
    void *session;
};

struct datagram_request {
    struct endpoint at;   /* family ENDPOINT_NONE: any address; port 0: one is chosen at random */
    struct endpoint peer; /* whom alone it talks to; ENDPOINT_NONE: with everybody */
    void (*notify)(struct datagram_socket *, void *session);
    void *session;
};

/* `to` NULL: the peer. */
static inline int datagram_send(struct datagram_socket *socket, const struct endpoint *to,
                                struct slice bytes)
{
    return socket->ops->send(socket, to, bytes);
}
static inline int datagram_receive(struct datagram_socket *socket, struct datagram *datagram)
{
    return socket->ops->receive(socket, datagram);
}
static inline void datagram_local(const struct datagram_socket *socket, struct endpoint *local)
{
    socket->ops->local(socket, local);
}
static inline void datagram_close(struct datagram_socket *socket)
{
    socket->ops->close(socket);
}
