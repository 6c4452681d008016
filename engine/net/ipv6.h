/*
 * ipv6: which IPv6 packets are for us, and what lies behind their extension headers.
 *
 * Hop-by-hop and destination options are walked (known ones are none: each is skipped or refused as
 * its first two bits say), a routing header that has been used up is passed over, any other ends
 * the packet. Headers are bounded in number and bytes. What is passed on has none any more: they
 * are cut out, so that whoever follows finds the payload right behind the fixed header. Fragments are
 * kept until their datagram is whole; an atomic one is whole by itself.
 * Source: RFC 8200 §4, RFC 5095 (routing type 0), RFC 8504 §5.3 (bounds), RFC 6946 (atomic fragments),
 * RFC 6980 (none of neighbor discovery), RFC 7112 (all headers in the first).
 */
#pragma once
#include "engine/net/tcp.h"

/* The frame is given. True: a TCP segment for us, which the caller passes on; else the frame is
 * dealt with. `to_group`: its Ethernet address is a multicast one. */
bool ipv6_input(struct stack *stack, struct rte_mbuf *frame, bool to_group,
                struct tcp_segment *segment);
