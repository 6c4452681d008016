/*
 * net_lone: one stack on a wire whose other end the test plays frame by frame, of either family.
 * Virtual time. Whatever the stack sends is kept until it is taken.
 */
#pragma once
#include "engine/net/stack_private.h"
#include "tests/unit/net_link.h"

#define NET_LONE_FRAMES 4096u
#define NET_LONE_BYTES 1600u

struct net_lone {
    struct net_world world;
    struct net_link link;
    struct wheel *wheel;
    struct network *network;
    struct stack *stack;
    unsigned in_use[2]; /* of the pools, when it was opened */
    uint8_t (*frames)[NET_LONE_BYTES];
    uint32_t *sizes;
    unsigned first, count;
};

int net_lone_set_up(void **state); /* the EAL and two pools, once a program */
int net_lone_tear_down(void **state);

/* `addresses`: texts, the last NULL. What of `settings` is given stays; NULL: all defaults. */
void net_lone_open(struct net_lone *lone, const char *const *addresses,
                   const struct stack_settings *settings);
int net_lone_try(struct net_lone *lone, const char *const *addresses,
                 const struct stack_settings *settings); /* what stack_open says; closed again */
void net_lone_close(struct net_lone *lone);              /* checks that no buffer is left behind */
void net_lone_round(struct net_lone *lone);
void net_lone_wait(struct net_lone *lone, uint64_t ns);
void net_lone_inject(struct net_lone *lone, const void *frame, uint32_t size); /* and a round */
uint32_t net_lone_take(struct net_lone *lone, uint8_t *frame); /* the oldest; 0: none */
void net_lone_forget(struct net_lone *lone);

struct ip_address net_address(const char *text);

/* An IPv6 packet from our end, Ethernet address 2::2, to one or to a group. */
struct net_six {
    const char *from, *to;
    uint8_t next;              /* behind the fixed header */
    uint8_t hop_limit;         /* 0: 64 */
    uint8_t source_mac_last;   /* 0: 2 */
    const uint8_t *extensions; /* before the payload */
    uint32_t extension_bytes;
    uint8_t protocol; /* of the payload; its checksum is filled in for ICMPv6 and TCP. 0: as next */
    const uint8_t *payload;
    uint32_t bytes;
};
uint32_t net_six_make(uint8_t *frame, const struct net_six *packet);
void net_lone_six(struct net_lone *lone, const struct net_six *packet); /* made and injected */
/* The next ICMPv6 message of this type, others dropped; its size, 0: none. Checksums are checked. */
uint32_t net_lone_icmp6(struct net_lone *lone, uint8_t type, uint8_t *frame);
/* TCP over IPv6 by hand. */
void net_lone_tcp(struct net_lone *lone, const struct net_six *packet,
                  const struct rte_tcp_hdr *tcp, const char *text);
/* The next segment; false: none. *text is what it carries, in the frame. */
bool net_lone_segment(struct net_lone *lone, uint8_t *frame, struct rte_tcp_hdr *tcp,
                      struct slice *text);
