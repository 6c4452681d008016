/*
 * net_beside: stacks of one or several shards between a wire and a kernel that the test plays both, a
 * frame at a time, of either family. Virtual time. Our end is 10.0.0.1/24 and fd00::1/64 at 2::1, the
 * other one 10.0.0.2 and fd00::2 at 2::2.
 */
#pragma once
#include "engine/net/stack_private.h"
#include "tests/unit/net_link.h"

#define BESIDE_SHARDS_MAX 4u
#define BESIDE_FRAMES 512u
#define BESIDE_BYTES 2048u

struct beside_port { /* either of the two */
    struct port port;
    struct rte_mbuf *in[BESIDE_SHARDS_MAX][BESIDE_FRAMES];
    unsigned in_first[BESIDE_SHARDS_MAX], in_count[BESIDE_SHARDS_MAX];
    uint8_t out[BESIDE_FRAMES][BESIDE_BYTES];
    uint32_t out_bytes[BESIDE_FRAMES];
    uint16_t out_queue[BESIDE_FRAMES];
    unsigned out_count;
    unsigned room; /* frames that it still takes */
    int armed;     /* what its arm says */
};

struct beside_settings {
    unsigned shards; /* 0: 1 */
    bool dealt;      /* one queue only, by port_deal; else a queue each, with a hash nobody knows */
    bool alone;      /* no kernel */
    uint16_t vlan;
};

struct beside {
    struct net_world world;
    struct beside_port wire, kernel;
    struct port *dealt;
    unsigned shards;
    struct wheel *wheels[BESIDE_SHARDS_MAX];
    struct network *networks[BESIDE_SHARDS_MAX];
    struct rte_mempool *pools[2]; /* the stacks' data; what ports receive into */
    unsigned in_use[2];
    struct {
        unsigned origin;
        struct rte_mbuf *frame;
    } wandering[BESIDE_FRAMES];
    unsigned wandering_count;
    struct stream *accepted;
};

int beside_set_up(void **state);
int beside_tear_down(void **state);
/* Listens at port 25 of all addresses; neighbours are known. */
void beside_open(struct beside *beside, const struct beside_settings *settings);
void beside_close(struct beside *beside); /* checks that no buffer is left behind */
void beside_round(struct beside *beside); /* until nothing moves */
/* In the next round. Returns the mbuf, which is the port's. */
struct rte_mbuf *beside_put(struct beside *beside, struct beside_port *port, unsigned queue,
                            const void *frame, uint32_t bytes);
void beside_forget(struct beside *beside); /* what went out so far */
uint64_t beside_sum(const struct beside *beside, size_t counter_offset);
#define BESIDE_SUM(beside, name) beside_sum(beside, offsetof(struct stack_counters, name))

/* A packet from `from` to `to`, whose text tells the family, with the payload's checksum filled in.
 * Returns its size. To our Ethernet address, or the group's. */
struct beside_packet {
    const char *from, *to;
    uint8_t protocol;
    const void *payload;
    uint32_t bytes;
    const void *extensions; /* of IPv6, the last of which names the protocol */
    uint32_t extension_bytes;
    uint8_t first_extension;
    uint8_t hop_limit; /* 0: 64 */
};
uint32_t beside_make(uint8_t *frame, const struct beside_packet *packet);
/* From the other end's port 4000, say, to one of ours; family 0: IPv4, 1: IPv6. */
uint32_t beside_segment(uint8_t *frame, unsigned family, uint16_t from_port, uint16_t to_port,
                        uint8_t flags);
uint32_t beside_datagram(uint8_t *frame, unsigned family, uint16_t to_port, const char *text);
