/*
 * ip: what IPv4 and IPv6 have in common for those above them: ways out, headers, checksums.
 *
 * What differs lies in ipv4 and ipv6. Only engine/net includes this.
 */
#pragma once
#include "engine/net/address.h"
#include <rte_mbuf.h>

#define IPV4_BYTES 20u
#define IPV6_BYTES 40u
#define IPV6_MTU_MIN 1280u /* RFC 8200 §5: what every link carries */

struct stack;

struct ip_way {
    struct ip_address source;   /* ours in that network */
    struct ip_address next_hop; /* the target itself, or a gateway */
};
/* 0 or -ENETUNREACH. */
int ip_route(const struct stack *stack, const struct ip_address *to, struct ip_way *way);
bool ip_is_ours(const struct stack *stack, const struct ip_address *address);
/* A host of one of our networks, as far as its address tells. */
bool ip_is_on_link(const struct stack *stack, const struct ip_address *address);
/* What a packet may say that it comes from: no martian, none of ours, no network's broadcast. */
bool ip_may_come_from(const struct stack *stack, const struct ip_address *address);
/* Never a peer: multicast, loopback, unspecified, reserved. */
bool ip_is_martian(const struct ip_address *address);
uint16_t ip_mtu(const struct stack *stack, const struct ip_address *peer);

static inline uint32_t ip_header_bytes(const struct ip_address *peer)
{
    return ip_address_is_ipv4(peer) ? IPV4_BYTES : IPV6_BYTES;
}

struct ip_header {
    const struct ip_address *from, *to;
    uint16_t payload_bytes;
    uint8_t protocol;
    uint8_t hop_limit;   /* 0: the usual */
    uint32_t flow_label; /* IPv6 only */
};
/* Writes Ethernet and IP header, all but the target's Ethernet address. Returns where the payload
 * begins. */
void *ip_header_fill(const struct stack *stack, uint8_t *frame, const struct ip_header *header);
/* The checksum's sum over the pseudo-header, to which the payload's is added. */
uint64_t ip_pseudo_sum(const struct ip_address *from, const struct ip_address *to, uint8_t protocol,
                       uint32_t payload_bytes);
/* To a peer, by its route. The frame is given. False: no route, counted. */
bool ip_send(struct stack *stack, const struct ip_address *to, struct rte_mbuf *frame);

/* ip_fragment.c */
/* The same of a packet without options or extension headers that may be larger than the MTU: then it
 * leaves in fragments. Only echoes do, whose size the asker has chosen. */
bool ip_send_any_size(struct stack *stack, const struct ip_address *to, struct rte_mbuf *frame);
