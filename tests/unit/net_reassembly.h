/*
 * net_reassembly: a stack, 10.0.0.1 and fd00::1, with a UDP socket of each family, and a peer, 10.0.0.2 and fd00::2, who
 * sends fragments. One in a program. Virtual time.
 */
#pragma once
#include "tests/unit/net_fragment.h"
#include "tests/unit/net_lone.h"

#define NET_PORT 5353 /* of the sockets */
#define NET_PACKET_MAX 65535u
#define NET_REASSEMBLY_WAIT (61 * SECOND_NS) /* then all is given up */

extern struct net_lone net_lone;
extern struct datagram_socket *net_sockets[2];  /* of IPv4 and IPv6 */
extern uint8_t net_packet[NET_PACKET_MAX + 64]; /* that is cut */

void net_reassembly_open(const struct stack_settings *settings); /* NULL: all defaults */
void net_reassembly_close(void);
const struct stack_counters *net_reassembly_counters(void);
uint32_t net_reassembly_mbufs(void); /* that are kept */

/* UDP, of net_packet. */
struct net_fragment net_between(const char *from, bool ipv6, uint32_t id);
struct net_fragment net_of_peer(bool ipv6, uint32_t id);
void net_part(const struct net_fragment *of, uint32_t offset, uint32_t bytes, bool more);
/* Part `index` of `size` bytes that are cut every `step` bytes; all of them. */
void net_step(const struct net_fragment *of, uint32_t index, uint32_t size, uint32_t step);
void net_steps(const struct net_fragment *of, uint32_t size, uint32_t step);

/* From port 9. */
void net_expect_datagram(bool ipv6, uint32_t bytes, uint64_t seed);
void net_expect_no_datagram(void);
