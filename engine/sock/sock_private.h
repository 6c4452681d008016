/* sock_private: what both kernel networks share: streams, their queues and their life. */
#pragma once
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include "engine/sock/sock.h"
#include <rte_mbuf.h>
#include <sys/uio.h>

#define SOCK_CHUNK_BYTES 2048
#define SOCK_IOV_MAX 32
#define SOCK_RECEIVED_BYTES_MAX (256u * 1024) /* of one stream; then its peer must wait */
#define SOCK_RETRY_NS 100000000ull            /* after accept found no descriptor */

/* A part of what is to be sent: a copy in a chunk, or memory that a ref holds. */
struct sock_piece {
    struct sock_piece *next;
    const uint8_t *bytes;
    size_t size;
    struct ref *owner; /* NULL: the bytes are in `chunk` */
    uint8_t *chunk;
    size_t chunk_used;
};

struct sock_stream {
    struct stream stream;
    struct sock_network *network;
    struct list_node node;  /* in network->streams */
    struct list_node dirty; /* in network->dirty: has something to send or to shut */
    struct list_node waits; /* in network->starved, ->accepted or ->dead */
    int fd;
    bool connecting, peer_fin, fin_wanted, fin_sent, over, released, read_stopped, blocked, resumes;
    bool receiving, sending; /* a request is with the kernel */
    bool cancelling;
    uint8_t requests; /* how many are */
    uint8_t burst;    /* completions of the receive under way, as far as they matter */
    struct rte_mbuf *received_first, *received_last;
    size_t received_bytes;
    struct sock_piece *out_first, *out_last;
    size_t out_bytes;
    struct timer timer; /* of connecting, then of lingering */
    struct endpoint remote;
    struct uring_op receive_op, send_op, connect_op;
    struct msghdr message; /* of the send under way */
    struct iovec vectors[SOCK_IOV_MAX];
    struct sockaddr_storage address; /* of the connect under way */
    uint32_t interest;               /* epoll */
};

struct listener {
    struct list_node node;
    struct sock_network *network;
    struct listen_request request;
    int fd;
    struct uring_op accept_op;
    struct timer retry;
    bool accepting, closing;
    bool is_listener; /* epoll: tells the two kinds of objects apart */
};

/* What differs. All but open are never NULL. */
struct sock_backend {
    void (*receive_start)(struct sock_stream *);
    void (*receive_stop)(struct sock_stream *);
    void (*send)(struct sock_stream *); /* pieces are queued, nothing is being sent */
    void (*connect)(struct sock_stream *, socklen_t length);
    void (*stop)(struct sock_stream
                     *); /* let go of all requests; stream_settled follows when none is left */
    void (*accept_start)(struct listener *);
    void (*accept_stop)(struct listener *);
    unsigned (*poll)(struct sock_network *, uint64_t now_ns);
    int (*arm)(struct sock_network *);
    void (*close)(struct sock_network *);
};

struct sock_network {
    struct network network;
    const struct sock_backend *backend;
    struct sock_settings settings;
    struct shard *shard;
    struct list_node streams, dirty, ready, starved, accepted, dead, listeners;
    struct sock_stream *free_streams;
    struct sock_piece *free_pieces;
    struct sock_piece *free_chunks; /* pieces with a chunk */
    struct sock_counters counters;
    bool closing;
};

int sock_network_init(struct sock_network *network, const struct sock_backend *backend,
                      const struct sock_settings *settings);
void sock_network_finish(
    struct sock_network *network); /* frees what the freelists hold; every stream is gone */
unsigned sock_network_deliver(struct sock_network *network);

/* Between the streams and their network. NULL: no memory. */
struct sock_stream *sock_stream_new(struct sock_network *network, int fd);
void sock_stream_over(struct sock_stream *stream, int error); /* nothing more comes or goes */
void sock_tcp_options(int fd, int family);
void sock_network_flush(struct network *network, uint64_t now_ns);

/* From the backend. */
void sock_accepted(struct listener *listener, int fd);
/* As network_ops.adopt. */
int sock_adopt(struct sock_network *network, const struct listen_request *request, int fd);
void sock_connected(struct sock_stream *stream, int status);
void sock_received(struct sock_stream *stream, struct rte_mbuf *mbuf, size_t bytes);
/* Copies small input behind what is there already. False: there is no room; use sock_received. */
bool sock_received_small(struct sock_stream *stream, const void *bytes, size_t size);
void sock_received_end(struct sock_stream *stream, int status); /* 0: FIN; else the error */
void sock_sent(struct sock_stream *stream, ssize_t result);
void sock_settled(struct sock_stream *stream); /* after stop: no request is left */
bool sock_may_receive(const struct sock_stream *stream);
/* Fills stream->vectors; returns how many, and how to send them in *flags. */
int sock_vectors_fill(struct sock_stream *stream, int *flags);
