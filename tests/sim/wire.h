/*
 * wire: what anybody who listens can tell of a TCP that does wrong. Sees every frame twice: as the
 * stack hands it to its port, and as another stack takes it from its own.
 *
 * For each connection: no byte is sent twice with two values; nothing outside of the window that has
 * reached the sender; nothing beyond what was sent before but the next byte, nothing behind FIN; no
 * larger segment than the peer bears; no acknowledgement of what has not arrived, nor one that goes
 * back; no SACK of what has not arrived; no window that is taken back; timestamps on each segment, and
 * never older ones. Checksums are right.
 *
 * Sources: RFC 9293 §3.4, §3.8.6; RFC 2018; RFC 2883; RFC 7323 §3.2, §4.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/net/tcp_scoreboard.h"
#include "engine/net/tcp_table.h"
#include <stdbool.h>
#include <stdint.h>

struct sim;

#define SIM_FLOWS_MAX 1024u

struct sim_flow;

struct sim_wire {
    struct sim *sim;
    struct sim_flow *flows; /* SIM_FLOWS_MAX */
    uint32_t flow_count;
    uint32_t last; /* found */
    uint64_t generation;
    uint64_t segments, payload_bytes, retransmitted_bytes;
};

void sim_wire_open(struct sim_wire *wire, struct sim *sim);
void sim_wire_close(struct sim_wire *wire);
/* Returns a tag that says to which life of a connection the frame belongs. */
uint64_t sim_wire_sent(struct sim_wire *wire, unsigned host, const uint8_t *frame, uint32_t size);
void sim_wire_delivered(struct sim_wire *wire, unsigned host, const uint8_t *frame, uint32_t size,
                        uint64_t tag);
/* The one who was asked has forgotten the handshake, since no acknowledgement of its SYN,ACK reached it
 * in the 63 s that it waits: a reset is the answer to all that comes later (RFC 9293 §3.10.7.1). */
bool sim_wire_given_up(const struct sim_wire *wire, const struct endpoint *opener,
                       const struct endpoint *asked);
/* Of what the tuple's local end has sent since its SYN of this number: may it believe that the other
 * end has these bytes? True too when nothing is known of them. */
bool sim_wire_has_arrived(struct sim_wire *wire, const struct tcp_tuple *tuple, uint32_t iss,
                          struct tcp_range range);
/* The host has lost its memory: nothing is known of its connections any more. */
void sim_wire_forget(struct sim_wire *wire, unsigned host);
