/*
 * tcp_mtu: how large a packet a path takes: what was found for each destination, kept for ten minutes, and
 * the search by packets that are larger than those known to arrive.
 *
 * Where routers tell (RFC 1191, RFC 8201), their word is kept. Where they are silent, full segments
 * vanish: after a few timeouts the size falls to a plateau that nearly every path takes, and is
 * searched upwards from there. A probe that is lost three times was too large. What lies between the
 * bounds is halved; ten minutes after the end a larger size is tried again.
 * Pure arithmetic. Sizes in the search are payload of a segment.
 * Source: RFC 4821 §7, RFC 8899 §5 (names), RFC 8201 §4 and §5.2 (ageing).
 */
#pragma once
#include "engine/net/address.h"
#include <stdbool.h>
#include <stdint.h>

#define TCP_MTU_SETS 64u /* sets of TCP_MTU_WAYS destinations; a full one forgets its oldest */
#define TCP_MTU_WAYS 4u
#define TCP_MTU_AGE_NS (600ull * 1000000000ull)

struct tcp_mtu_entry {
    struct ip_address to;
    uint64_t until_ns; /* 0: free */
    uint16_t mtu;
};

struct tcp_mtu_cache {
    struct tcp_mtu_entry entries[TCP_MTU_SETS][TCP_MTU_WAYS];
};

/* hash: any, of the address alone. 0: nothing is known. */
uint16_t tcp_mtu_cache_find(const struct tcp_mtu_cache *cache, const struct ip_address *to,
                            uint32_t hash, uint64_t now_ns);
void tcp_mtu_cache_keep(struct tcp_mtu_cache *cache, const struct ip_address *to, uint32_t hash,
                        uint16_t mtu, uint64_t now_ns);

struct tcp_mtu_search {
    uint16_t low;   /* what arrives */
    uint16_t high;  /* the largest that may; low: the search is over */
    uint16_t max;   /* what the link and the peer take */
    uint16_t probe; /* under way; 0: none */
    uint32_t probe_seq;
    uint8_t lost;      /* probes of this size */
    bool largest_next; /* try `high` itself first */
    uint64_t next_ns;  /* no probe before */
};

/* size: what segments have now; <= max. */
void tcp_mtu_search_open(struct tcp_mtu_search *search, uint16_t size, uint16_t max,
                         uint64_t now_ns);
/* The size to try now; 0: none. */
uint16_t tcp_mtu_search_next(struct tcp_mtu_search *search, uint64_t now_ns);
void tcp_mtu_search_sent(struct tcp_mtu_search *search, uint32_t seq, uint16_t size);
void tcp_mtu_search_arrived(struct tcp_mtu_search *search, uint64_t now_ns);
void tcp_mtu_search_lost(struct tcp_mtu_search *search, uint64_t now_ns);
/* A router has told what its link takes. */
void tcp_mtu_search_told(struct tcp_mtu_search *search, uint16_t size, uint64_t now_ns);
/* Segments of the present size vanish: down to `size`, and up again from there. */
void tcp_mtu_search_black_hole(struct tcp_mtu_search *search, uint16_t size, uint64_t now_ns);

/* The next smaller MTU that links have, for routers that do not tell theirs (RFC 1191 §7.1). */
uint16_t tcp_mtu_plateau(uint16_t below);
