/*
 * tcp_frame: the frame of one segment: a header from the connection's template, and payload copied
 * or pointed to where it lies in the send queue.
 */
#pragma once
#include "engine/net/tcp.h"

struct tcp_departure { /* what is to be sent */
    uint32_t seq;
    uint32_t bytes; /* of payload; may come out fewer, when it lies in too many pieces */
    uint8_t flags;
    bool ect;               /* a router may mark it: RFC 3168 */
    uint16_t segment_bytes; /* the port cuts it into segments of so much payload; 0: it is one */
};

/* How much of the payload one frame can hold: pieces are bounded. */
uint32_t tcp_frame_fit(struct tcp_conn *conn, uint32_t offset,
                       const struct tcp_departure *departure);
/* Payload of one frame that the port cuts into segments itself (TSO); 0: it does not. */
uint32_t tcp_frame_super(const struct tcp_conn *conn);
/* Complete but for the neighbour's address; window and acknowledgement as of now. `offset` of the
 * payload in the send queue. NULL: no buffers, counted. */
struct rte_mbuf *tcp_frame_build(struct tcp_conn *conn, const struct tcp_departure *departure,
                                 uint32_t offset);
/* Room that options beyond the template take from a full segment now. */
uint32_t tcp_frame_options(const struct tcp_conn *conn);
