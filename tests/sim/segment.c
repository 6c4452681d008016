#include "tests/sim/segment.h"
#include "engine/net/checksum.h"
#include <string.h>

#define ETH_BYTES 14u

static uint32_t word(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint16_t half(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void option_read(struct segment *segment, const uint8_t *at, uint32_t size)
{
    if (at[0] == 2 && size == 4) {
        segment->mss = half(at + 2);
    } else if (at[0] == 3 && size == 3) {
        segment->scale = at[2];
    } else if (at[0] == 4 && size == 2) {
        segment->sack_permitted = true;
    } else if (at[0] == 8 && size == 10) {
        segment->has_timestamp = true;
        segment->ts_value = word(at + 2);
        segment->ts_echo = word(at + 6);
    } else if (at[0] == 5) {
        for (uint32_t i = 2; i + 8 <= size && segment->sack_count < 4; i += 8) {
            segment->sacks[segment->sack_count++] =
                (struct tcp_range){word(at + i), word(at + i + 4)};
        }
    }
}

static void options_read(struct segment *segment, const uint8_t *at, uint32_t size)
{
    while (size > 0 && at[0] != 0) {
        uint32_t here = at[0] == 1 ? 1 : size > 1 ? at[1] : 0;
        if (here == 0 || here > size || (at[0] != 1 && here < 2)) {
            return;
        }
        if (at[0] != 1) {
            option_read(segment, at, here);
        }
        at += here;
        size -= here;
    }
}

static bool tcp_read(struct segment *segment, const uint8_t *tcp, uint32_t size)
{
    uint32_t header = size >= 20 ? tcp[12] / 16u * 4 : 0;
    if (header < 20 || header > size) {
        return false;
    }
    segment->from_port = half(tcp);
    segment->to_port = half(tcp + 2);
    segment->seq = word(tcp + 4);
    segment->ack = word(tcp + 8);
    segment->flags = tcp[13];
    segment->window = half(tcp + 14);
    segment->scale = SEGMENT_NO_SCALE;
    options_read(segment, tcp + 20, header - 20);
    segment->payload = tcp + header;
    segment->payload_bytes = size - header;
    return true;
}

static bool ipv4_read(struct segment *segment, const uint8_t *ip, uint32_t size)
{
    if (size < 20 || ip[0] != 0x45 || ip[9] != 6 || half(ip + 2) > size || half(ip + 2) < 20 ||
        (half(ip + 6) & 0x3fff) != 0) {
        return false;
    }
    segment->ip_bytes = half(ip + 2);
    uint32_t tcp_bytes = segment->ip_bytes - 20;
    segment->from[10] = segment->from[11] = segment->to[10] = segment->to[11] = 0xff;
    memcpy(segment->from + 12, ip + 12, 4);
    memcpy(segment->to + 12, ip + 16, 4);
    uint8_t pseudo[12];
    memcpy(pseudo, ip + 12, 8);
    pseudo[8] = 0;
    pseudo[9] = 6;
    pseudo[10] = (uint8_t)(tcp_bytes >> 8);
    pseudo[11] = (uint8_t)tcp_bytes;
    uint64_t sum = checksum_add(0, pseudo, sizeof(pseudo));
    segment->checksum_right = checksum_finish(checksum_add(sum, ip + 20, tcp_bytes)) == 0 &&
                              checksum_finish(checksum_add(0, ip, 20)) == 0;
    return tcp_read(segment, ip + 20, tcp_bytes);
}

static bool ipv6_read(struct segment *segment, const uint8_t *ip, uint32_t size)
{
    if (size < 40 || ip[0] >> 4 != 6 || ip[6] != 6 || half(ip + 4) + 40u > size) {
        return false;
    }
    uint32_t tcp_bytes = half(ip + 4);
    segment->ip_bytes = tcp_bytes + 40;
    memcpy(segment->from, ip + 8, 16);
    memcpy(segment->to, ip + 24, 16);
    uint8_t pseudo[8] = {0, 0, (uint8_t)(tcp_bytes >> 8), (uint8_t)tcp_bytes, 0, 0, 0, 6};
    uint64_t sum = checksum_add(checksum_add(0, ip + 8, 32), pseudo, sizeof(pseudo));
    segment->checksum_right = checksum_finish(checksum_add(sum, ip + 40, tcp_bytes)) == 0;
    return tcp_read(segment, ip + 40, tcp_bytes);
}

bool segment_read(struct segment *segment, const uint8_t *frame, uint32_t size)
{
    memset(segment, 0, sizeof(*segment));
    if (size < ETH_BYTES) {
        return false;
    }
    switch (half(frame + 12)) {
    case 0x0800:
        return ipv4_read(segment, frame + ETH_BYTES, size - ETH_BYTES);
    case 0x86dd:
        return ipv6_read(segment, frame + ETH_BYTES, size - ETH_BYTES);
    default:
        return false;
    }
}
