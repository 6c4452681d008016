/*
 * exception: packets that are not ours go to the kernel by way of a second port, a TAP interface
 * beside the one that we own, and what the kernel sends comes back: so that ssh on the same card and
 * the same address works on.
 *
 * To the kernel alone, what is broadcast, multicast or sent to our Ethernet address, and is
 *   - of another Ethernet type than IP and ARP, or of another VLAN, whose tag it keeps;
 *   - a packet to an IP address or a group that is not one of ours;
 *   - of a protocol that we do not speak, with whatever stands before it;
 *   - a TCP segment of no connection and to no listener, of this shard or another: where there would
 *     be a RST. At the port of a listener all is ours;
 *   - a datagram to a port without a socket: where its sender would be told so. With several shards
 *     those that are too many to be looked for in all (udp.h) are lost;
 *   - an ICMP message of other kinds than ours, or an error that quotes nothing of ours.
 * To both: ARP, but for questions after our addresses; Neighbor Discovery, with the same exception;
 * multicast listener queries.
 * To us alone: questions after our addresses and echo requests to them, and all that is malformed as
 * far as we have to look. What has the tag of our VLAN is without it when the kernel sees it, and gets
 * it when the kernel sends; untagged frames of such a port are refused. Only what IEEE 802.1Q §8.6.3
 * keeps within the link (LLDP, LACP) never has a tag, and passes both ways without.
 *
 * Where a frame is copied to all shards (port_deal), the first one passes it on. Datagrams that were
 * reassembled go out whole when the TAP's MTU lets them; fragments of other protocols than TCP, UDP and
 * ICMP as they came.
 *
 * Bounds: in one round EXCEPTION_OUT_MAX frames to the kernel, since each costs a system call there;
 * and from it EXCEPTION_IN_MAX, but never more than half of the places that are free in our transmit
 * queue for data, so that neither our data nor control frames wait for the kernel's. What is too much
 * for the way out is lost, as in a card's ring; what the way in has no room for waits in the TAP.
 * Counters: exception_out, exception_in, exception_lost.
 *
 * A frame for the kernel may be shared with others and is never written to. One whose checksum the port
 * left unfinished (RTE_MBUF_F_RX_L4_CKSUM_NONE) is finished in a copy: a TAP carries complete frames.
 * Frames larger than the TAP's MTU are lost: no port of ours is asked to coalesce (LRO), and
 * our own coalescing joins segments of known connections only.
 */
#pragma once
#include <rte_mbuf.h>
#include <stdbool.h>

#define EXCEPTION_OUT_MAX 64u
#define EXCEPTION_IN_MAX 32u

struct port;
struct stack;

struct exception {
    struct port *port; /* NULL: there is no kernel beside us */
    uint32_t leaving_count;
    struct rte_mbuf *leaving[EXCEPTION_OUT_MAX];
};

/* True: the frame is the kernel's, or lost; given. False: there is no kernel, or it gets no such frame,
 * which stays the caller's. It begins with its Ethernet header. */
bool exception_give(struct stack *stack, struct rte_mbuf *frame);
/* Of one that is of another VLAN than ours, or of none. */
bool exception_give_foreign(struct stack *stack, struct rte_mbuf *frame);
/* The same of a frame that we go on reading. */
void exception_copy(struct stack *stack, const struct rte_mbuf *frame);
/* What the kernel sends, into our transmit queue; returns how many frames. */
unsigned exception_poll(struct stack *stack);
void exception_flush(struct stack *stack);
void exception_close(struct stack *stack);
