/*
 * wire_packet: segments and ICMP messages of a script as IP packets, and back.
 */
#pragma once
#include "tests/wire/wire_script.h"

#define WIRE_PACKET_ROOM 65600u

struct wire_path { /* of the connection under test */
    bool ipv6;
    uint8_t local[16], remote[16]; /* the stack's, the script's; IPv4 in the first 4 */
    uint16_t local_port, remote_port;
};

/* A segment from the script's side, numbers as the stack counts them, its payload zeros. The size. */
uint32_t wire_packet_segment(const struct wire_path *path, const struct wire_segment *segment,
                             uint8_t *packet);
/* An ICMP message to the stack that quotes the first 8 bytes of its segment at message->seq. */
uint32_t wire_packet_message(const struct wire_path *path, const struct wire_message *message,
                             uint8_t *packet);

enum wire_packet_kind {
    WIRE_PACKET_OURS,
    WIRE_PACKET_OTHER, /* of no interest to the script */
    WIRE_PACKET_BROKEN,
};
/* What the stack has sent. Of a SYN without ACK the local port is learned. BROKEN: *why says it. */
enum wire_packet_kind wire_packet_read(struct wire_path *path, const uint8_t *packet,
                                       uint32_t bytes, struct wire_segment *segment,
                                       const char **why);

/* As in a script. `text` holds WIRE_SEGMENT_TEXT. */
#define WIRE_SEGMENT_TEXT 320u
void wire_segment_print(const struct wire_segment *segment, char *text);
