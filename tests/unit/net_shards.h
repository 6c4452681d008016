/*
 * net_shards: several stacks behind one port whose hash is as the test wants it, a peer, 10.0.0.2, on the other end of
 * its wire, and talkers between them. One in a program. Virtual time.
 */
#pragma once
#include "engine/net/stack_private.h"
#include "tests/unit/net_pair.h"

#define NET_SHARDS_MAX 4u
#define NET_SHARDS_TALKERS 40u
#define NET_SHARDS_QUEUE 4096u
#define NET_SHARDS_WANDERING 4096u

enum net_shards_hash {
    HASH_AGREES,
    HASH_IS_ANOTHER, /* what the mbufs carry is not what the key gives */
    HASH_MISDEALS,   /* what they carry is right, but the table is not followed */
    HASH_UNKNOWN,    /* the port says nothing, and deals by another one */
};

struct net_shards_fifo {
    struct rte_mbuf *frames[NET_SHARDS_QUEUE];
    unsigned first, count;
};

struct net_shards_wandering {
    unsigned origin;
    struct rte_mbuf *frame;
};

struct net_shards;

struct net_shard {
    struct net_shards *rig;
    unsigned index;
    struct network *network;
    struct wheel *wheel;
};

struct net_shards {
    struct port port; /* several queues before the one of the link */
    enum net_shards_hash hash;
    unsigned shard_count;
    struct net_shard shards[NET_SHARDS_MAX];
    struct net_shards_fifo fifos[NET_SHARDS_MAX];
    struct net_shards_wandering wandering[NET_SHARDS_WANDERING];
    unsigned wandering_count;
    struct net_world world;
    struct net_link link;
    struct network *peer;
    struct wheel *peer_wheel;
    struct port *dealt; /* by port_deal; NULL: not */
};

extern struct net_shards net_shards;
extern struct rte_mempool *net_shards_pools[2];
/* Ours, the peer's; the first half we call. */
extern struct net_talker net_shards_talkers[2][2 * NET_SHARDS_TALKERS];

int net_shards_set_up(void **state); /* the EAL and the pools, once a program */
int net_shards_tear_down(void **state);

/* `dealt`: the port has one queue, and port_deal stands before it. */
void net_shards_open(unsigned shard_count, enum net_shards_hash hash, bool dealt);
void net_shards_close(void); /* checks that no buffer is left behind */
void net_shards_run(uint64_t for_ns);
void net_shards_put(unsigned queue, struct rte_mbuf *frame); /* it arrives there */
struct stream *net_shards_call(struct network *network, const char *to);
/* All talkers are opened; what they have said when time has passed. */
void net_shards_converse(void);
void net_shards_all_said(void);

uint64_t net_shards_sum(size_t offset); /* of a counter of all our shards */
#define NET_SHARDS_SUM(name) net_shards_sum(offsetof(struct stack_counters, name))
