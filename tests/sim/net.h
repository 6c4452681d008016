/*
 * net: a switch, and a cable to it for each host; every way of a cable has a speed, a delay, a queue
 * that drops what does not fit, and faults of its own. The seed decides all of it.
 *
 * A port reads a frame that it was given some time later, as a device does by DMA: a stack that touches
 * it meanwhile is found out. Received frames come in chains of mbufs now and then.
 */
#pragma once
#include "tests/unit/net_link.h"

#define SIM_HOSTS_MAX 8u
#define SIM_RING_MAX 1024u
#define SIM_FRAME_BYTES_MAX 9216u
#define SIM_PER_FRAMES 10000u /* chances are of so many frames */

struct sim_wire;
struct sim_net;

/* One way of a cable. */
struct sim_way {
    uint64_t bits_per_s;  /* 0: no bound */
    uint32_t queue_bytes; /* that wait for the cable; further ones are dropped. 0: no bound */
    uint64_t delay_ns;
    uint32_t lost, repeated, reordered, corrupted;
    uint64_t reorder_ns;               /* of those reordered: up to so much later */
    uint32_t burst_begins, burst_ends; /* Gilbert and Elliott's bad state, in which */
    uint32_t burst_lost;               /* so many are lost */
    uint16_t mtu;                      /* of IP; longer ones are dropped. 0: no bound */
    bool mtu_told;                     /* by ICMP, as a router would */
    /* The net's. */
    uint64_t free_ns;
    bool bad;
};

enum sim_direction { SIM_UP, SIM_DOWN };

struct sim_given { /* a frame that the port has taken and not yet read */
    struct rte_mbuf *frame;
    uint64_t read_ns;
    uint64_t digest;
    uint64_t tag; /* sim_wire's */
};

struct sim_flight;
struct sim_heap { /* the soonest first */
    struct sim_flight **flights;
    uint32_t count, room;
};

struct sim_port {
    struct port port;
    struct sim_net *net;
    unsigned host;
    struct rte_mempool *pool; /* received into */
    struct sim_way ways[2];   /* enum sim_direction */
    struct sim_heap arriving;
    struct sim_given given[SIM_RING_MAX];
    uint32_t given_first, given_count;
    uint32_t ring_frames; /* that it takes until it has read some; 0: SIM_RING_MAX */
    uint64_t dma_ns;      /* until it reads what it was given: up to this */
    uint32_t chained;     /* of 10,000 received: come as a chain */
    bool plugged;         /* false: the host is gone */
    uint64_t life;        /* frames of an earlier one are not delivered */
};

struct sim_net {
    struct sim_port ports[SIM_HOSTS_MAX];
    unsigned host_count;
    bool cut[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* from, to */
    struct sim_heap switching;
    const struct net_world *world;
    struct sim_wire *wire; /* sees every frame */
    uint64_t random, serial;
    uint64_t frames, lost;
    /* For the test of the tests: may change a frame on its way, and make its checksums right again. */
    bool (*filter)(void *owner, unsigned from, uint8_t *frame, uint32_t size);
    void *filter_owner;
};

void sim_net_open(struct sim_net *net, const struct net_world *world, uint64_t seed,
                  unsigned host_count, struct rte_mempool *const *pools);
void sim_net_close(struct sim_net *net);
void sim_net_plug(struct sim_net *net, unsigned host);
/* What it was given and what is on its way to it is gone; what it sends from now on too. */
void sim_net_unplug(struct sim_net *net, unsigned host);
/* The ports read what is due, the switch passes on. Called for each step of time. */
void sim_net_run(struct sim_net *net);
uint64_t sim_net_next_ns(const struct sim_net *net);                   /* of ports and switch */
uint64_t sim_net_arrival_ns(const struct sim_net *net, unsigned host); /* UINT64_MAX: none */
/* Frames that are anywhere on their way. */
uint32_t sim_net_flying(const struct sim_net *net);
