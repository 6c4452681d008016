/*
 * stack: our TCP/IP over one queue of a port: a struct network for one shard.
 *
 * Owned and called by one shard alone; shares nothing with the stacks of other shards but the port.
 * Where a frame or a neighbour concerns another shard, the hooks of the settings say so; what they
 * do with it (a message between shards) is the owner's business.
 *
 * Behind it: eth (frames in and out), neighbour (ARP), nd, mld, ip, ipv4, ipv6, icmp, icmp6,
 * tcp_* (a file for each part). Each address that is configured is answered for; there is no forwarding.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/core/logger.h"
#include "engine/core/wheel.h"
#include "engine/core/world.h"
#include "engine/net/port.h"
#include "engine/net/stack_counters.h"
#include "engine/stream.h"
#include <rte_mempool.h>

#define STACK_ADDRESSES_MAX 1024

enum stack_congestion { STACK_CUBIC, STACK_NEWRENO };

/* Zero: the default beside it. Counts are of this shard, divided where several stacks share it. */
struct stack_limits {
    uint32_t connection_max; /* 65536; above: SYNs are not answered, connect says -ENOBUFS */
    uint32_t half_open_max;  /* 8192; above: SYN cookies */
    uint32_t time_wait_max;  /* 65536; above: the oldest is forgotten */
    uint32_t orphan_max;     /* 4096 released but lingering; above: the oldest is reset */
    uint32_t listener_max;   /* 64; above: listen says -ENOSPC */
    /* 4 MiB, or what a quarter of the buffers holds: what the window of a connection may grow to
     * when its session reads as fast as that. */
    uint32_t receive_window_bytes;
    /* half of the pool: received but unread. Above the half of it windows open by four segments only,
     * above three quarters nothing early is kept, above seven eighths SYNs are not answered; all of
     * it: data is dropped, once nothing early is left to be dropped for it. */
    uint32_t held_mbuf_max;
    uint64_t user_timeout_ns;       /* 300 s without an answer while data waits: -ETIMEDOUT */
    uint64_t linger_ns;             /* 60 s in which a released stream gets on by nothing */
    uint64_t fin_wait_2_ns;         /* 60 s that the peer may take to close after us */
    uint64_t time_wait_ns;          /* 60 s */
    uint64_t keepalive_idle_ns;     /* 120 s of silence before the first probe; UINT64_MAX: none */
    uint64_t keepalive_interval_ns; /* 30 s between probes */
    uint32_t keepalive_probes;      /* 4 without an answer: -ETIMEDOUT */
    uint16_t port_first, port_last; /* 32768..60999: source ports of outgoing connections */
    uint8_t congestion;             /* enum stack_congestion: how much may be under way */
    bool nagle; /* small segments wait for the acknowledgement of those before; sessions that write
                   whole replies gain nothing by it */
};

enum stack_ecn {                   /* RFC 3168 */
                 STACK_ECN_ACCEPT, /* for peers that ask; as Linux does it by default */
                 STACK_ECN_ASK,    /* outgoing connections ask too */
                 STACK_ECN_OFF,
};

enum stack_routers { /* whose advertisements tell of gateways, prefixes and the MTU */
                     STACK_ROUTERS_FOR_WANT, /* when no gateway of IPv6 is given */
                     STACK_ROUTERS_HEARD,
                     STACK_ROUTERS_IGNORED,
};

struct stack_route {
    struct network_prefix to;
    struct endpoint via; /* a neighbour */
};

struct stack_settings {
    struct port *port;    /* borrowed, as long as the stack; facts.rss is copied */
    uint16_t queue;       /* the shard's queue of it, and the shard's index */
    uint16_t shard_count; /* 0 counts as 1 */
    /* What is not ours goes to the kernel by this one, and the kernel's frames leave by ours: see
     * exception.h. Borrowed, with a queue for each shard. NULL: it is refused, as by a host alone. */
    struct port *exception;
    const struct world *world;
    struct wheel *wheel;
    struct logger *logger;    /* may be NULL */
    struct rte_mempool *pool; /* data: what write copies, and segments that carry it. The port may
                                  receive into the same pool. Control frames come from a pool of
                                  the stack's own */
    /* How many stacks, one for each port, share the pool and the defaults of limits; 0 counts as 1. */
    uint16_t pool_share;
    const struct network_prefix *addresses; /* ours, each with its network's length; copied */
    uint32_t address_count;                 /* 1..STACK_ADDRESSES_MAX */
    /* The next hops for all other networks, of either family; ENDPOINT_NONE: only our networks are
     * reached, and those that routes name. */
    struct endpoint gateway, gateway6;
    const struct stack_route *routes; /* copied */
    uint32_t route_count;
    enum stack_routers routers;
    uint16_t vlan;  /* 1..4094: the tag of all that leaves and may enter; 0: none */
    bool skips_dad; /* IPv6 addresses are used at once: nobody else can have them */
    uint16_t mtu;   /* 0: the port's */
    enum stack_ecn ecn;
    struct stack_limits limits;

    /* A TCP segment, a UDP datagram or an ICMP error that belongs to no connection and no socket of this
     * shard, when there are more shards: the hook may take it (0) and have the other shards try
     * stack_frame_take in turn, and this one stack_frame_refuse in the end; or fail (-errno): then it
     * is dropped, and comes again. NULL: there is nobody else, and it is refused at once. */
    int (*hand_over)(void *owner, struct rte_mbuf *frame);
    /* Asks the one shard that resolves neighbours for all, by stack_neighbour_wanted; it answers by
     * its share_neighbour. 0; -errno: asked here after all. NULL: this shard resolves by itself. The
     * owner must be the shard whose queue gets what has no hash: ARP and Neighbor Discovery. */
    int (*ask_neighbour)(void *owner, const struct endpoint *address);
    /* A neighbour was learned here; the others may be told by stack_neighbour_learn. May be NULL. */
    void (*share_neighbour)(void *owner, const struct endpoint *address, const uint8_t mac[6]);
    void *owner;
};

/* 0 and a network that is the caller's until network->ops->close; -EINVAL: addresses, MTU or ports
 * make no sense; -ENOMEM. Streams that are left when it is closed are ended without a word to the
 * session. */
int stack_open(struct network **network, const struct stack_settings *settings);

/* On the shard that a handed over frame was passed to. True: it concerns a connection here and is
 * taken. False: it is still the caller's, who asks the next shard. */
bool stack_frame_take(struct network *network, struct rte_mbuf *frame);
/* No shard knew it: answered with RST where TCP wants one, and freed. */
void stack_frame_refuse(struct network *network, struct rte_mbuf *frame);
void stack_neighbour_wanted(struct network *network, const struct endpoint *address);
void stack_neighbour_learn(struct network *network, const struct endpoint *address,
                           const uint8_t mac[6]);

/* The stacks of all ports of a shard, itself among them, borrowed until the next call: what arrives
 * for the address of one of them is its, and comes from nobody else. See networks. */
void stack_siblings_set(struct network *network, struct network *const *stacks, unsigned count);
/* Ours, though it may not yet be known to be nobody else's. */
bool stack_has_address(const struct network *network, const struct endpoint *address);
/* Of the route to it, to be compared with another stack's: the longest prefix, then the link itself,
 * then what the operator says; -ENETUNREACH. */
int stack_route_rank(const struct network *network, const struct endpoint *to);

/* What ends the sleep when the kernel sends, as port_ops.arm. -EINVAL: there is no exception. */
int stack_arm_exception(struct network *network);

const struct stack_counters *stack_counters(const struct network *network);
