/*
 * stack_private: one stack's state, and the layers below TCP. Only engine/net includes this.
 *
 *   stack     opening, the round
 *   eth       frames to and from the port
 *   exception what is the kernel's
 *   neighbour Ethernet addresses of neighbours
 *   nd, mld   what IPv6 hosts, routers and switches tell each other
 *   own       our addresses
 *   route     networks and gateways
 *   siblings  the stacks of other ports
 *   ip        the way out, for both families
 *   reassembly, ip_fragment     datagrams larger than a frame
 *   ipv4, ipv6     which packets are for us
 *   icmp, icmp6    echo, and errors in both directions
 */
#pragma once
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include "engine/net/exception.h"
#include "engine/net/ip.h"
#include "engine/net/mld.h"
#include "engine/net/nd.h"
#include "engine/net/own.h"
#include "engine/net/reassembly.h"
#include "engine/net/route.h"
#include "engine/net/siblings.h"
#include "engine/net/stack.h"
#include "engine/net/tcp.h"
#include "engine/net/udp.h"
#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#define STACK_BURST 64u
#define STACK_TX_MAX 512u
#define STACK_CONTROL_RESERVE 64u /* places in the transmit queue that data never takes */
#define STACK_CONTROL_BYTES 256u  /* of a control mbuf: headers, options, and small replies */
#define ETH_BYTES 14u
#define MS_NS 1000000ull
#define SECOND_NS 1000000000ull

struct stack {
    struct network network; /* first: a stack is a network */
    struct port *port;
    uint16_t queue, shard_count;
    uint16_t mtu;
    uint16_t vlan; /* 0: untagged */
    uint16_t mtu6; /* of IPv6 packets; a router may make it smaller */
    enum stack_ecn ecn;
    uint64_t now_ns;
    const struct world *world;
    struct wheel *wheel;
    struct logger *logger;
    struct rte_mempool *pool;     /* payload that is copied */
    uint32_t buffers;             /* of the pool, that are for this stack */
    struct rte_mempool *control;  /* ARP, ICMP, segments without payload */
    struct rte_mempool *segments; /* headers and references of segments with payload */
    bool iova_is_address;

    struct stack_counters counters;
    struct rte_mbuf *leaving[STACK_TX_MAX];
    uint32_t leaving_count;
    struct exception exception;

    struct own own;
    bool ipv6; /* one of them is */
    bool skips_dad;
    uint32_t link_local; /* index of its address; any when there is no IPv6 */
    struct nd_claim claim;
    struct nd_router router;
    struct mld mld;
    struct routes routes;
    struct siblings siblings;
    struct siphash_key flow_key; /* of flow labels: RFC 6437 */
    struct neighbours neighbours;
    struct rss rss;
    uint32_t icmp_budget; /* ICMP messages that may still be sent in this second */
    uint64_t icmp_budget_ns;
    struct reassembly reassembly;

    struct stack_limits limits;
    int (*hand_over)(void *owner, struct rte_mbuf *frame);
    int (*ask_neighbour)(void *owner, const struct endpoint *address);
    void (*share_neighbour)(void *owner, const struct endpoint *address, const uint8_t mac[6]);
    void *owner;
    struct tcp tcp;
    struct udp udp;
    struct trace trace; /* of TCP's connections */
};

/* ip_setup.c */
int ip_setup(struct stack *stack, const struct stack_settings *settings); /* 0, -EINVAL */
/* What packets by way of a gateway come from. False: it is no neighbour. */
bool ip_source_for_gateway(const struct stack *stack, const struct ip_address *via,
                           struct ip_address *source);

static inline struct stack *stack_of(const struct network *network)
{
    return (struct stack *)(uintptr_t)network; /* its first member */
}

static inline uint32_t stack_now_ms(const struct stack *stack)
{
    return (uint32_t)(stack->now_ns / MS_NS);
}

/* eth.c */
unsigned eth_receive(struct stack *stack); /* a burst; returns how many frames */
/* A frame whose headers are complete; given. Dropped and counted when there is no room. */
void eth_send(struct stack *stack, struct rte_mbuf *frame);
/* The same without a tag of ours. */
void eth_send_as_it_is(struct stack *stack, struct rte_mbuf *frame);
/* Is there room for a frame with data? Otherwise what was to be sent waits for the next flush. */
bool eth_has_room(struct stack *stack);
void eth_flush(struct stack *stack);
/* Nobody else refers to its memory. */
bool eth_is_ours_alone(const struct rte_mbuf *frame);
/* The frame itself, or a copy where it is not ours alone. Given. NULL: no buffer, counted. */
struct rte_mbuf *eth_writable(struct stack *stack, struct rte_mbuf *frame);
/* An mbuf with `bytes` of uninitialised frame. NULL: counted. */
struct rte_mbuf *eth_control_frame(struct stack *stack, uint16_t bytes);

/* ipv4.c */
/* Reads a packet. True: a TCP segment for us, which the caller passes on; else the frame is dealt
 * with. */
bool ipv4_input(struct stack *stack, struct rte_mbuf *frame, struct tcp_segment *segment);
/* Header of a packet of `payload_bytes` after it. */
void ipv4_header_fill(struct rte_ipv4_hdr *ip, const struct ip_address *from,
                      const struct ip_address *to, uint8_t protocol, uint16_t payload_bytes);

/* icmp.c */
/* The budget of this second, for both families. */
bool icmp_may_send(struct stack *stack);
void icmp_input(struct stack *stack, struct rte_mbuf *frame);
/* Of an error, whose checksum is right. False: it quotes no segment. */
bool icmp_quote_read(const struct rte_mbuf *frame, struct tcp_quote *quote);
/* Tells the sender of a UDP packet that nobody is there. The frame stays the caller's. */
void icmp_send_port_unreachable(struct stack *stack, const struct rte_mbuf *frame);
/* The same of a first fragment whose others did not come. */
void icmp_send_reassembly_time_exceeded(struct stack *stack, const struct rte_mbuf *frame);
