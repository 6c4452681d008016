/*
 * tcp_states_rig: what the parts of fuzz_tcp_states share: a stack behind a port of our own, the peer's
 * view of its connections, and the sessions.
 */
#pragma once
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include <stdlib.h>

#define FLOWS 8u
#define STREAMS_MAX 64u
#define QUEUE_MAX 128u
#define RIG_VLAN 42u
#define HOST_FLOW 5u /* the one that the stack itself opens */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct flow { /* as the peer sees it */
    uint16_t local_port, remote_port;
    uint32_t expects; /* the stack's next byte */
    uint32_t sends;   /* what the stack expects next */
    uint32_t first;   /* of the bytes that are sent: after the SYN */
    uint32_t ts;      /* the stack's newest timestamp */
    bool timestamps, seen_syn;
};

struct shadow { /* of a connection, at the step before */
    struct tcp_tuple tuple;
    uint32_t iss, irs, rcv_nxt, snd_una, snd_max;
    bool live;
};

struct session {
    struct stream *stream;
    uint64_t read, written;
};

struct rig {
    struct port port; /* first */
    struct world world;
    uint64_t now_ns, random;
    struct wheel *wheel;
    struct network *network;
    struct stack *stack;
    struct rte_mbuf *arriving[QUEUE_MAX], *given[1024];
    unsigned arriving_count, given_count;
    struct flow flows[FLOWS];
    struct session sessions[STREAMS_MAX];
    struct shadow *shadows;
    uint32_t shadow_count;
    unsigned references;
    bool ipv6;
    struct ip_address local, peer; /* of the flows */
    bool dirty; /* raw frames were sent: what was received is no longer ours to foresee */
    bool blocked, closing;
};

struct input {
    const uint8_t *at, *end;
};

static inline uint8_t take(struct input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

static inline uint16_t take_word(struct input *input)
{
    uint8_t high = take(input);
    return (uint16_t)(high << 8 | take(input));
}

/* Byte number `offset` of any stream, in either direction. */
static inline uint8_t pattern(uint64_t offset)
{
    return (uint8_t)(offset * 31 + (offset >> 8) * 7);
}

/* Between the headers of Ethernet and of TCP. */
static inline uint32_t rig_ip_bytes(const struct rig *rig)
{
    return ip_header_bytes(&rig->peer);
}

struct tcp_conn *conn_of_ports(struct rig *rig, uint16_t local, uint16_t remote);

/* tcp_states_frames.c: what comes from the network, as the input says. */
extern struct rte_mempool *receive_pool;
void segment_arrives(struct rig *rig, struct input *input);
void raw_arrives(struct rig *rig, struct input *input);
void icmp_arrives(struct rig *rig, struct input *input);
/* ARP's or Neighbor Discovery's, as the rig's family has it. */
void neighbour_arrives(struct rig *rig, struct input *input, uint8_t how);

/* tcp_states_checks.c */
void everything_is_sane(struct rig *rig);
void device_reads(struct rig *rig); /* frames that were given to it; each must be whole */
