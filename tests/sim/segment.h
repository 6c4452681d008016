/*
 * segment: a TCP segment as it lies in a frame, read without any of the stack's code, since it is the
 * stack that is judged by it.
 */
#pragma once
#include "engine/net/tcp_scoreboard.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SEGMENT_FIN = 1,
    SEGMENT_SYN = 2,
    SEGMENT_RST = 4,
    SEGMENT_PSH = 8,
    SEGMENT_ACK = 16,
};
#define SEGMENT_NO_SCALE 0xffu

struct segment {
    uint8_t from[16], to[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint16_t from_port, to_port;
    uint32_t seq, ack;
    uint8_t flags;
    uint16_t window; /* as it stands */
    uint16_t mss;    /* 0: no option */
    uint8_t scale;   /* SEGMENT_NO_SCALE: no option */
    bool sack_permitted, has_timestamp;
    uint32_t ts_value, ts_echo;
    uint32_t sack_count;
    struct tcp_range sacks[4];
    const uint8_t *payload;
    uint32_t payload_bytes;
    uint32_t ip_bytes; /* of the whole packet */
    bool checksum_right;
};

/* False: no TCP segment. */
bool segment_read(struct segment *segment, const uint8_t *frame, uint32_t size);
