/*
 * udp: UDP sockets of a stack, for resolvers.
 *
 * Bounded: sockets, datagrams that wait in one and in all. A port that is not given is drawn at random
 * (RFC 6056 §3.3.1, RFC 5452 §9.2: a forger must guess it), for a socket with a peer among those whose
 * answers come to this shard. What comes to another shard all the same is handed over as TCP's frames
 * are, at a bounded rate; what is beyond it is dropped.
 * Datagrams are never sent in fragments: DNS says in EDNS how much fits (RFC 9715). Those that came in
 * fragments are copied together when they are received.
 * Source: RFC 768, RFC 8200 §8.1, RFC 1122 §4.1, RFC 4113 (counters).
 */
#pragma once
#include "engine/core/list.h"
#include "engine/datagram.h"
#include "engine/net/tcp_table.h"
#include "engine/stream.h"
#include <rte_mbuf.h>

#define UDP_SOCKETS_MAX 4096u     /* of one stack; more: -ENFILE */
#define UDP_WAITING_MAX 64u       /* datagrams in one socket; more are dropped and counted */
#define UDP_WAITING_ALL_MAX 1024u /* buffers in all of them */
#define UDP_ERRORS_MAX 4u         /* reports that wait in one; more are dropped */
#define UDP_HANDED_OVER_MAX 4096u /* in one second */
#define UDP_CHAINS 1024u
#define UDP_HEADER_BYTES 8u

struct stack;
struct udp_socket;

struct udp {
    struct udp_socket *chains[UDP_CHAINS]; /* by local port */
    struct list_node ready;                /* those with something to receive */
    uint32_t socket_count;
    uint32_t waiting_count; /* buffers */
    uint32_t handed_over;   /* in this second */
    uint64_t handed_over_ns;
};

/* -EADDRNOTAVAIL: no address of ours, or no port is free; -EADDRINUSE; -EAFNOSUPPORT; -ENETUNREACH;
 * -ENFILE; -ENOMEM. `network` is a stack. */
int udp_open(struct network *network, const struct datagram_request *request,
             struct datagram_socket **socket);

/* ---- from the stack ---- */

void udp_setup(struct stack *stack);
void udp_close_all(struct stack *stack);
unsigned udp_deliver(struct stack *stack); /* the round's notifications */
/* True: it is dealt with. False: nobody is there, which its sender may be told; the frame stays the
 * caller's. `may_hand_over`: it was not received by another shard first. */
bool udp_input(struct stack *stack, struct rte_mbuf *frame, bool may_hand_over);
/* A frame that stack.hand_over was given: is it UDP? And when no shard has a socket for it. */
bool udp_is_datagram(const struct rte_mbuf *frame);
void udp_refuse(struct stack *stack, struct rte_mbuf *frame); /* the frame stays the caller's */
bool udp_knows(struct stack *stack, const struct tcp_tuple *tuple); /* it is of a socket here */
/* An ICMP message quotes a datagram of this tuple. */
void udp_input_unreachable(struct stack *stack, const struct tcp_tuple *tuple, int error);
