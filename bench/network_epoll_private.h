/*
 * network_epoll_private: what network_epoll.c (descriptors, connections, rounds) and epoll_stream.c
 * (bytes of one connection) share.
 */
#pragma once
#include "bench/network_epoll.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include <sys/epoll.h>

#define EVENTS_MAX 512
#define SCRATCH_BYTES (256u * 1024)
#define PIECES_MAX 32u
#define ACCEPTS_MAX 64 /* a round, so that a flood of them starves nobody */

enum carrier_kind { CARRIER_LISTENER, CARRIER_STREAM };

struct piece {
    const uint8_t *bytes;
    size_t size;
    struct ref *owner; /* NULL: in `copied` */
};

struct epoll_stream {
    enum carrier_kind kind; /* first: an epoll event points here */
    int fd;
    struct stream stream;
    struct epoll_network *network;
    struct list_node dirty;      /* has something to send */
    struct list_node every;      /* all streams of the network */
    struct list_node connecting; /* by deadline */
    uint64_t connect_deadline_ns;
    uint32_t watched; /* EPOLLIN, EPOLLOUT */
    bool reading, connected, shut_wanted, shut_done, peer_done, closed, released, wants_room;
    struct slice fresh; /* in the network's scratch, only while notify runs */
    uint8_t *kept;      /* what the session left */
    size_t kept_at, kept_bytes, kept_room;
    struct piece pieces[PIECES_MAX];
    uint32_t piece_at, piece_count;
    size_t copied_bytes;
    uint8_t copied[STREAM_WRITE_MAX * 2];
};

struct listener {
    enum carrier_kind kind;
    int fd;
    struct listen_request request;
    struct list_node every;
};

struct epoll_network {
    struct network network;
    int epoll_fd;
    int patience_ms;
    uint64_t now_ns;
    struct list_node dirty, streams, listeners, connecting, dead;
    struct epoll_event events[EVENTS_MAX];
    uint8_t scratch[SCRATCH_BYTES];
};

/* NULL: no memory; the descriptor stays the caller's. */
struct epoll_stream *epoll_stream_make(struct epoll_network *network, int fd, uint32_t watched);
/* What epoll said of its descriptor. */
void epoll_stream_event(struct epoll_stream *s, uint32_t events);
/* Sends what is queued. */
void epoll_stream_transmit(struct epoll_stream *s);
/* Over, and the session is told. */
void epoll_stream_fail(struct epoll_stream *s, int error);
/* Over, untold; its memory goes when it is released and the round ends. */
void epoll_stream_end(struct epoll_stream *s);
void epoll_stream_free(struct epoll_stream *s);
