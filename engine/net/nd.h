/*
 * nd: Neighbor Discovery: questions for neighbours' Ethernet addresses, answers about ours,
 * duplicate address detection, routers.
 *
 *   nd         messages in and out
 *   nd_claim   our addresses: nobody else has them, everybody knows of them
 *   nd_router  what routers tell
 *
 * A message counts only when it has not passed a router (hop limit 255) and each of its options has
 * a length. Who is where, neighbour knows. Redirects are not listened to: anyone on the link could
 * send them.
 *
 * Where a port has several shards each of them has all addresses and hears what is sent to all
 * nodes, but only the first one speaks unasked.
 * Source: RFC 4861, RFC 4862, RFC 6980 (no fragments: the walk over extension headers has seen to
 * it), RFC 2464 (Ethernet).
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/net/ip.h"
#include "engine/net/own.h"

struct nd_claim {
    struct timer timer;
    uint64_t begin_ns; /* of asking: many hosts may have been switched on at once */
    uint32_t announced, asked, settled; /* how many of our addresses */
};

struct nd_router {
    struct timer solicit_timer, expiry_timer;
    uint32_t solicitations; /* sent without an answer */
    bool listens;
    bool heard;
};

/* nd.c */
/* A message of types 133 to 137, in a frame with nothing before it but Ethernet and IPv6. Stays the
 * caller's. */
void nd_input(struct stack *stack, struct rte_mbuf *frame);
/* Of such a message: the kernel beside us must not answer it too. */
bool nd_asks_for_us(const struct stack *stack, const struct rte_mbuf *frame);
/* All nodes, or the group that is asked about one of our addresses. */
bool nd_is_member(const struct stack *stack, const struct ip_address *group);
struct ip_address nd_group_of(const struct ip_address *address);
/* `mac`: where the neighbour was last; NULL: asks all who may be meant. */
void nd_solicit(struct stack *stack, const struct ip_address *target, const uint8_t *mac);
void nd_announce(struct stack *stack, const struct ip_address *own);
/* Has anybody this address? */
void nd_probe(struct stack *stack, const struct ip_address *own);
/* Ours on this link; NULL: it is not (yet) known to be nobody else's. */
const struct ip_address *nd_link_local(const struct stack *stack);

/* nd_claim.c */
void nd_claim_open(struct stack *stack);
void nd_claim_close(struct stack *stack);
/* Somebody at `mac` has or wants our address. */
void nd_claim_contested(struct stack *stack, uint32_t own_index, const uint8_t mac[6]);

/* nd_router.c */
struct nd_advertisement {
    struct ip_address from;
    const uint8_t *mac;     /* NULL: not told */
    uint32_t mtu;           /* 0: not told */
    uint16_t lifetime_s;    /* as a default router */
    const uint8_t *options; /* all of them, looked through for lengths */
    uint32_t options_bytes;
};
void nd_router_open(struct stack *stack);
void nd_router_close(struct stack *stack);
void nd_router_begin(struct stack *stack); /* our addresses are there: asks for routers */
void nd_router_advertised(struct stack *stack, const struct nd_advertisement *advertisement);
