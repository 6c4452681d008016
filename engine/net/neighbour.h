/*
 * neighbour: which Ethernet address an IP address of our networks has. ARP is here; the messages of
 * IPv6 are nd's.
 *
 *            first packet             answer
 *   FREE ───────────────► ASKED ───────────────► KNOWN ──┐ asked again when it has aged
 *                          │  ▲                    │  ▲──┘
 *              no answer   ▼  │ another packet     │ no answer
 *                        FAILED, a while ◄─────────┘
 *
 * Packets wait for the first answer: those of a burst of connections to one neighbour, and a bound for
 * all together. Only answers to our questions,
 * questions to us and announcements of neighbours that we already know are believed, and only for
 * addresses in our networks. A neighbour that has aged, or was learned from a question to us, is
 * asked where it was last before all are asked.
 * Source: RFC 826, RFC 5227 (announcements, conflicts), RFC 1122 §2.3.2 (ageing, rate, one packet
 * kept), RFC 4861 §7.3 (whose STALE, DELAY and PROBE are KNOWN here).
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/wheel.h"
#include "engine/net/address.h"
#include <rte_mbuf.h>

struct stack;

#define NEIGHBOUR_SETS 256u /* sets of NEIGHBOUR_WAYS; a full one forgets its oldest */
#define NEIGHBOUR_WAYS 4u
#define NEIGHBOUR_WAITING_MAX 64u      /* frames for one */
#define NEIGHBOUR_WAITING_ALL_MAX 512u /* frames for all */

enum neighbour_state { NEIGHBOUR_FREE, NEIGHBOUR_ASKED, NEIGHBOUR_KNOWN, NEIGHBOUR_FAILED };

struct neighbour {
    struct ip_address address;
    uint8_t mac[6];
    uint8_t state;         /* enum neighbour_state */
    uint8_t tries;         /* questions since the last answer */
    bool unproven;         /* KNOWN, but it has not answered yet: as if it had aged */
    bool wanted_elsewhere; /* the other shards are told when it is heard */
    uint8_t waiting_count;
    uint64_t confirmed_ns; /* the last answer */
    uint64_t asked_ns;     /* the last question */
    struct rte_mbuf *waiting[NEIGHBOUR_WAITING_MAX];
    struct list_node node; /* among those asked for */
};

struct neighbours {
    struct neighbour (*sets)[NEIGHBOUR_WAYS];
    struct list_node asked;
    struct timer timer;     /* repeats questions */
    uint32_t waiting_count; /* of all */
};

int neighbours_open(struct stack *stack);   /* 0 or -ENOMEM */
void neighbours_close(struct stack *stack); /* drops what waits */
/* Tells the network of an IPv4 address that it is ours. */
void neighbour_announce(struct stack *stack, const struct ip_address *own);

/* The entry of a next hop in our networks, made when there is none. Stays where it is, but may be
 * given to another address: compare before use. */
struct neighbour *neighbour_of(struct stack *stack, const struct ip_address *address);
/* Fills in the frame's target and sends it, or lets it wait. The frame is given. */
void neighbour_send(struct stack *stack, struct neighbour *neighbour, struct rte_mbuf *frame);
/* An ARP packet, its frame checked for length by the caller. Given. */
void neighbour_arp_input(struct stack *stack, struct rte_mbuf *frame);
/* RFC 4861 §7.2.3: it has asked for us, and told where it is. */
void neighbour_solicited(struct stack *stack, const struct ip_address *address,
                         const uint8_t mac[6]);
/* RFC 4861 §7.2.5. `mac` NULL: not told. */
enum neighbour_flag { NEIGHBOUR_CONFIRMS = 1, NEIGHBOUR_OVERRIDES = 2 };
void neighbour_advertised(struct stack *stack, const struct ip_address *address, const uint8_t *mac,
                          unsigned flags);
bool neighbour_has_failed(struct stack *stack, const struct ip_address *address);
/* Another shard, which does not ask by itself, wants to know it: told by share_neighbour, now or when it answers. */
void neighbour_wanted(struct stack *stack, const struct ip_address *address);
/* Another shard heard it. */
void neighbour_learn(struct stack *stack, const struct ip_address *address, const uint8_t mac[6]);
