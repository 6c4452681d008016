/*
 * net_pair: two stacks, one wire, virtual time; and talkers, sessions that send a known stream of
 * bytes while they check the one they receive.
 *
 * Byte number n of a talker's stream depends on its seed and n alone, so that any byte that is
 * missing, repeated or changed is found where it happens.
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/net/stack.h"
#include "tests/unit/net_link.h"

struct net_host {
    struct network *network;
    struct wheel *wheel;
    struct rte_mempool *pool;
};

struct net_pair {
    struct net_world world;
    struct net_link link;
    struct net_host hosts[2];
};

struct net_pair_settings {
    uint64_t seed;
    struct net_faults faults;
    bool tx_segments[2];
    bool tso[2];   /* with checksums; for ports with tx_segments */
    uint16_t mtu;  /* 0: 1500 */
    uint16_t vlan; /* 0: none */
    bool routed;   /* each is the other's gateway: what comes from anywhere is answered */
    bool ipv6;     /* fd00::1/64 and fd00::2/64 too */
    struct stack_limits limits[2];
};

/* Pools for hosts of this program, made once; the EAL must run. 0 or -1. */
int net_pools_open(struct rte_mempool *pools[2], unsigned mbufs);

/* Hosts are 10.0.0.1/24 and 10.0.0.2/24. */
void net_pair_open(struct net_pair *pair, const struct net_pair_settings *settings,
                   struct rte_mempool *const pools[2]);
void net_pair_close(struct net_pair *pair);
/* The next moment at which something happens: both hosts make a round. False: nothing ever will. */
bool net_pair_step(struct net_pair *pair, uint64_t at_most_ns);
void net_pair_run(struct net_pair *pair, uint64_t for_ns);

struct net_endpoint_text {
    const char *text;
};
struct endpoint net_endpoint(const char *text);

struct net_talker {
    struct stream *stream; /* NULL: not yet, or released */
    struct net_world *world;
    uint64_t seed_out, seed_in;
    uint64_t to_send, sent;
    uint64_t to_receive, received;
    uint64_t random;
    uint32_t events; /* all that were told */
    int error;
    bool shut, half_closed, closed, connected, wrong;
    bool holds_back;     /* reads only now and then */
    bool close_first;    /* releases as soon as all is written and read */
    uint32_t references; /* not yet dropped */
    struct net_talker_reference *free;
};

void net_talker_open(struct net_talker *talker, struct net_world *world, uint64_t seed,
                     unsigned side, uint64_t to_send, uint64_t to_receive);
void net_talker_attach(struct net_talker *talker, struct stream *stream);
/* Reads and writes on; for talkers that hold back, called now and then. */
void net_talker_go(struct net_talker *talker);
bool net_talker_done(const struct net_talker *talker);
uint8_t net_byte(uint64_t seed, uint64_t offset);
