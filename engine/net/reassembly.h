/*
 * reassembly: fragments of IPv4 and IPv6 put together, within bounds.
 *
 * ipv4 and ipv6 bring each fragment whose header is right and whose address is ours. What comes back
 * is the whole datagram behind the headers of its first fragment, a chain of the fragments' buffers;
 * their IP header is mended by the caller. Checksums that the port looked at were of one frame, so
 * those of a datagram are always looked at in software.
 *
 * Bounded: buffers of one datagram, datagrams, and the buffers of all together by a part of the pool.
 * When a bound is reached, the sender that holds most loses his oldest: a flood from few hosts
 * presses on these alone, one from everywhere shortens the time that all have, the oldest first. A
 * sender is an IPv4 address or an IPv6 network of 64 bits, found by a keyed hash, so that nobody
 * can choose whose room he shares.
 *
 * Fragments that overlap ruin their datagram and what still comes of it (RFC 5722, for IPv4 too);
 * exact repetitions are the wire's and pass unnoticed. What is not whole after 30 s (IPv4, whose
 * identification soon returns: RFC 4963) or 60 s (IPv6) is given up, and its sender told when the
 * first fragment was here. There, all headers must stand (RFC 7112, RFC 1858).
 *
 * A port hashes fragments by their addresses, so those of one datagram meet on one shard; what is whole
 * goes on to its own as any other packet that came to the wrong one.
 * Source: RFC 791 §3.2, RFC 8200 §4.5, RFC 1122 §3.3.2, RFC 3168 §5.3 (marks), RFC 4293 (counters).
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/wheel.h"
#include "engine/net/ip.h"
#include "engine/net/slab.h"

#define REASSEMBLY_DATAGRAMS_MAX 512u
#define REASSEMBLY_SENDERS 64u       /* that are told apart */
#define REASSEMBLY_OF_SENDER_MAX 64u /* datagrams */
#define REASSEMBLY_MBUFS_MAX 128u    /* of one datagram */

struct reassembly_fragment {
    struct ip_address from, to;
    uint32_t id;
    uint32_t offset, bytes; /* of its payload, which is not empty */
    uint32_t
        header_bytes; /* before the payload, Ethernet's included; in the frame's first buffer */
    uint8_t protocol; /* IPv4: part of the datagram's name */
    uint8_t ecn;
    bool more;   /* it is not the last */
    bool untold; /* the first of something whose sender is never told of errors */
};

struct reassembly_sender {
    struct list_node datagrams; /* the oldest first */
    uint32_t datagram_count, mbuf_count;
};

struct reassembly {
    struct slab datagrams;
    struct reassembly_sender senders[REASSEMBLY_SENDERS];
    struct list_node waiting4, waiting6; /* the oldest, which is due first, first */
    struct timer timer;
    uint32_t mbuf_count; /* of all */
};

struct stack;

int reassembly_open(struct stack *stack); /* 0, -ENOMEM */
void reassembly_close(struct stack *stack);

/* The frame is given. Returns the whole datagram, or NULL: it is not whole (yet). Then *fragment's
 * header_bytes are those before the datagram's payload, and its ecn is the datagram's. */
struct rte_mbuf *reassembly_add(struct stack *stack, struct rte_mbuf *frame,
                                struct reassembly_fragment *fragment);

/* Does the first fragment hold the header of `protocol`, which begins at `at`, whole? If so, *untold says
 * whether it is an ICMP error. */
bool reassembly_first_holds(const struct rte_mbuf *frame, uint32_t at, uint8_t protocol,
                            bool *untold);
