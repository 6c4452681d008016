/*
 * sock: kernel sockets as streams: IPv4, IPv6 and unix, one network a shard.
 *
 * Two implementations of struct network (engine/stream.h): over the shard's io_uring, and over epoll where io_uring
 * is not permitted. Received bytes lie in mbufs of the shard's pool until they are consumed; what is written goes out
 * in one call a round, replies and referenced memory together.
 *
 * Listeners on IP addresses set SO_REUSEPORT, so that every shard has one of its own and the kernel deals out the
 * connections. A path can be bound once: its listener may give connections to other shards' networks, which adopt them.
 */
#pragma once
#include "engine/shard/shard.h"
#include "engine/stream.h"
#include <rte_mempool.h>

struct sock_settings {
    struct shard
        *shard; /* borrowed, as long as the network: its clock, wheel, logger and io_uring */
    struct rte_mempool *pool; /* where received bytes lie; borrowed */
    unsigned backlog;         /* 0: 4096 */
    unsigned
        buffer_count;   /* io_uring: receive buffers lent to the kernel, a power of two; 0: 1024 */
    uint64_t linger_ns; /* for a released stream to send its rest and see the peer's FIN; 0: 30 s */
};

/* 0 or -errno. shard->uring must be there for the first. */
int sock_open_uring(struct network **network, const struct sock_settings *settings);
int sock_open_epoll(struct network **network, const struct sock_settings *settings);

struct sock_counters {
    uint64_t accepted, connected, accept_failures;
    uint64_t bytes_in, bytes_out, receives, sends;
    uint64_t starved; /* receive buffers were all lent or held */
    uint32_t streams; /* now */
};
const struct sock_counters *sock_counters(const struct network *network);
