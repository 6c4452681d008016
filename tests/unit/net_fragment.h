/*
 * net_fragment: packets by hand and the fragments of them, of both families, to a stack whose port has the
 * Ethernet address 2::1.
 */
#pragma once
#include "engine/net/address.h"

#define NET_FRAGMENT_FRAME_BYTES 1600u

struct net_fragment {
    struct ip_address from, to;
    uint32_t id;
    uint8_t protocol; /* of the payload; in IPv6 of what follows the fragment header */
    uint8_t ecn;
    const uint8_t *payload; /* the whole packet's, of which `offset` and `bytes` choose */
    uint32_t offset, bytes;
    bool more;
    const uint8_t *options; /* IPv4: of the header; IPv6: headers before the fragment header */
    uint32_t option_bytes;  /* a multiple of 4, or of 8 */
    uint8_t options_begin;  /* IPv6: what the first of them is */
};

/* Returns the frame's size. */
uint32_t net_fragment_make(uint8_t frame[NET_FRAGMENT_FRAME_BYTES],
                           const struct net_fragment *fragment);

/* A UDP datagram of `bytes` of payload, which byte_at makes of the seed; returns its size, header included. */
uint32_t net_datagram_make(uint8_t *datagram, const struct net_fragment *addresses,
                           uint16_t from_port, uint16_t to_port, uint32_t bytes, uint64_t seed);
/* An echo request, of ICMP or ICMPv6. */
uint32_t net_ping_make(uint8_t *ping, const struct net_fragment *addresses, uint32_t bytes,
                       uint64_t seed);
uint8_t net_fragment_byte(uint64_t seed, uint32_t at);
