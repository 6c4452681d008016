/*
 * icmp6: ICMPv6: echoes, errors in both directions, and the making of messages for those who speak
 * by it (nd, mld).
 *
 * Errors are answered at a bounded rate and never to groups or to other errors; those that arrive
 * count only when they quote a segment of ours, which TCP checks.
 * Source: RFC 4443, RFC 8201 (packet too big), RFC 5927 (what to believe).
 */
#pragma once
#include "engine/net/ip.h"

struct tcp_quote;

#define ICMP6_BYTES 8u

enum icmp6_type {
    ICMP6_UNREACHABLE = 1,
    ICMP6_TOO_BIG = 2,
    ICMP6_TIME_EXCEEDED = 3,
    ICMP6_PARAMETER_PROBLEM = 4,
    ICMP6_ECHO_REQUEST = 128,
    ICMP6_ECHO_REPLY = 129,
    ICMP6_LISTENER_QUERY = 130,
    ICMP6_ROUTER_SOLICITATION = 133,
    ICMP6_ROUTER_ADVERTISEMENT = 134,
    ICMP6_NEIGHBOR_SOLICITATION = 135,
    ICMP6_NEIGHBOR_ADVERTISEMENT = 136,
    ICMP6_REDIRECT = 137,
    ICMP6_LISTENER_REPORT = 143, /* MLDv2 */
};

enum icmp6_parameter_problem {
    ICMP6_WRONG_FIELD = 0,
    ICMP6_UNKNOWN_HEADER = 1,
    ICMP6_UNKNOWN_OPTION = 2,
    ICMP6_INCOMPLETE_CHAIN = 3, /* RFC 7112 */
};

/* A packet for us, its fixed header right before the message. Given. */
void icmp6_input(struct stack *stack, struct rte_mbuf *frame);
/* Of an error, whose checksum is right. False: it quotes no segment. */
bool icmp6_quote_read(const struct rte_mbuf *frame, struct tcp_quote *quote);

/* Both quote the frame, which stays the caller's. `pointer`: from the IPv6 header's begin. */
void icmp6_send_parameter_problem(struct stack *stack, const struct rte_mbuf *frame, uint8_t code,
                                  uint32_t pointer);
void icmp6_send_port_unreachable(struct stack *stack, const struct rte_mbuf *frame);
/* A first fragment, which is of no error. */
void icmp6_send_reassembly_time_exceeded(struct stack *stack, const struct rte_mbuf *frame);

/* A message of header->payload_bytes, zero but for its type. NULL: no buffer, counted. */
struct rte_mbuf *icmp6_message(struct stack *stack, struct ip_header *header, uint8_t type);
static inline uint8_t *icmp6_body(struct rte_mbuf *frame)
{
    return rte_pktmbuf_mtod_offset(frame, uint8_t *, 14u + IPV6_BYTES);
}
void icmp6_checksum_fill(struct rte_mbuf *frame);
/* To one of the link's hosts, or to a group when `mac` is NULL. The frame is given; its checksum
 * is there already. */
void icmp6_send_ready(struct stack *stack, struct rte_mbuf *frame, const uint8_t *mac);
static inline void icmp6_send_on_link(struct stack *stack, struct rte_mbuf *frame,
                                      const uint8_t *mac)
{
    icmp6_checksum_fill(frame);
    icmp6_send_ready(stack, frame, mac);
}
