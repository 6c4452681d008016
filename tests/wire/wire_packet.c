#include "tests/wire/wire_packet.h"
#include "engine/net/checksum.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define IPV4_HEADER 20u
#define IPV6_HEADER 40u
#define TCP_HEADER 20u
#define ICMP_HEADER 8u
#define QUOTED_BYTES 8u
#define HOPS 255u

static void half_put(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void word_put(uint8_t *at, uint32_t value)
{
    half_put(at, value >> 16);
    half_put(at + 2, value);
}

static uint32_t half_at(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t word_at(const uint8_t *at)
{
    return half_at(at) << 16 | half_at(at + 2);
}

static uint32_t header_bytes(const struct wire_path *path)
{
    return path->ipv6 ? IPV6_HEADER : IPV4_HEADER;
}

static void ip_put(const struct wire_path *path, bool inbound, uint8_t protocol, uint32_t bytes,
                   uint8_t ecn, uint8_t *ip)
{
    const uint8_t *from = inbound ? path->remote : path->local;
    const uint8_t *to = inbound ? path->local : path->remote;
    memset(ip, 0, header_bytes(path));
    if (path->ipv6) {
        ip[0] = 0x60;
        ip[1] = (uint8_t)(ecn << 4);
        half_put(ip + 4, bytes);
        ip[6] = protocol;
        ip[7] = HOPS;
        memcpy(ip + 8, from, 16);
        memcpy(ip + 24, to, 16);
        return;
    }
    ip[0] = 0x45;
    ip[1] = ecn;
    half_put(ip + 2, IPV4_HEADER + bytes);
    ip[8] = HOPS;
    ip[9] = protocol;
    memcpy(ip + 12, from, 4);
    memcpy(ip + 16, to, 4);
    uint16_t sum = checksum_finish(checksum_add(0, ip, IPV4_HEADER));
    memcpy(ip + 10, &sum, sizeof(sum));
}

/* Of the upper layer with its pseudo header: 0 when the checksum in it is right. */
static uint16_t upper_sum(bool ipv6, const uint8_t *ip, const uint8_t *upper, uint32_t bytes,
                          uint8_t protocol)
{
    uint64_t sum = htons(protocol) + (uint64_t)htons((uint16_t)bytes);
    sum = ipv6 ? checksum_add(sum, ip + 8, 32) : checksum_add(sum, ip + 12, 8);
    return checksum_finish(checksum_add(sum, upper, bytes));
}

uint32_t wire_packet_segment(const struct wire_path *path, const struct wire_segment *segment,
                             uint8_t *packet)
{
    uint32_t tcp_header = TCP_HEADER + segment->option_bytes;
    uint32_t bytes = tcp_header + segment->bytes;
    uint8_t *tcp = packet + header_bytes(path);
    ip_put(path, true, IPPROTO_TCP, bytes, segment->ecn < 0 ? 0 : (uint8_t)segment->ecn, packet);
    memset(tcp, 0, bytes);
    half_put(tcp, segment->from_port != 0 ? segment->from_port : path->remote_port);
    half_put(tcp + 2, segment->to_port != 0 ? segment->to_port : path->local_port);
    word_put(tcp + 4, segment->seq);
    word_put(tcp + 8, segment->ack);
    tcp[12] = (uint8_t)(tcp_header / 4 << 4);
    tcp[13] = segment->flags;
    half_put(tcp + 14, (uint32_t)segment->window);
    half_put(tcp + 18, segment->urgent);
    memcpy(tcp + TCP_HEADER, segment->options, segment->option_bytes);
    uint16_t sum = upper_sum(path->ipv6, packet, tcp, bytes, IPPROTO_TCP);
    memcpy(tcp + 16, &sum, sizeof(sum));
    return header_bytes(path) + bytes;
}

uint32_t wire_packet_message(const struct wire_path *path, const struct wire_message *message,
                             uint8_t *packet)
{
    uint8_t *icmp = packet + header_bytes(path), *quote = icmp + ICMP_HEADER;
    uint8_t *tcp = quote + header_bytes(path);
    uint32_t bytes = ICMP_HEADER + header_bytes(path) + QUOTED_BYTES;
    uint8_t protocol = path->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    ip_put(path, true, protocol, bytes, 0, packet);
    memset(icmp, 0, bytes);
    icmp[0] = message->type;
    icmp[1] = message->code;
    word_put(icmp + 4, message->mtu);
    ip_put(path, false, IPPROTO_TCP, TCP_HEADER + message->bytes, 0, quote);
    half_put(tcp, path->local_port);
    half_put(tcp + 2, path->remote_port);
    word_put(tcp + 4, message->seq);
    uint16_t sum = path->ipv6 ? upper_sum(true, packet, icmp, bytes, protocol)
                              : checksum_finish(checksum_add(0, icmp, bytes));
    memcpy(icmp + 2, &sum, sizeof(sum));
    return header_bytes(path) + bytes;
}

/* Is it between the two of the path? The stack's address may have been its own choice. */
static bool addresses_right(struct wire_path *path, const uint8_t *ip, bool opening)
{
    uint32_t size = path->ipv6 ? 16 : 4, at = path->ipv6 ? 8 : 12;
    if (opening) {
        memcpy(path->local, ip + at, size);
    }
    return memcmp(ip + at, path->local, size) == 0 &&
           memcmp(ip + at + size, path->remote, size) == 0;
}

static const char *defect_of(const struct wire_path *path, const uint8_t *ip, uint32_t bytes)
{
    uint32_t header = header_bytes(path);
    const uint8_t *tcp = ip + header;
    uint32_t tcp_header = bytes >= header + TCP_HEADER ? tcp[12] / 16u * 4u : 0;
    uint32_t told = path->ipv6 ? IPV6_HEADER + half_at(ip + 4) : half_at(ip + 2);
    if (told != bytes) {
        return "its IP header tells another size";
    }
    if (tcp_header < TCP_HEADER || header + tcp_header > bytes) {
        return "its TCP header has a wrong size";
    }
    if (!path->ipv6 && checksum_finish(checksum_add(0, ip, IPV4_HEADER)) != 0) {
        return "its IP checksum is wrong";
    }
    if (upper_sum(path->ipv6, ip, tcp, bytes - header, IPPROTO_TCP) != 0) {
        return "its TCP checksum is wrong";
    }
    for (uint32_t i = header + tcp_header; i < bytes; i++) {
        if (ip[i] != 0) {
            return "its payload is not what was written";
        }
    }
    return NULL;
}

enum wire_packet_kind wire_packet_read(struct wire_path *path, const uint8_t *packet,
                                       uint32_t bytes, struct wire_segment *segment,
                                       const char **why)
{
    uint32_t header = header_bytes(path), version = path->ipv6 ? 6 : 4;
    const uint8_t *tcp = packet + header;
    if (bytes < header || packet[0] >> 4 != version || packet[path->ipv6 ? 6 : 9] != IPPROTO_TCP) {
        return WIRE_PACKET_OTHER;
    }
    *why = defect_of(path, packet, bytes);
    if (*why != NULL) {
        return WIRE_PACKET_BROKEN;
    }
    bool opening = (tcp[13] & 0x12u) == 2 && path->local_port == 0;
    if (!addresses_right(path, packet, opening) || half_at(tcp + 2) != path->remote_port) {
        return WIRE_PACKET_OTHER;
    }
    if (opening) {
        path->local_port = (uint16_t)half_at(tcp);
    }
    if (half_at(tcp) != path->local_port) {
        return WIRE_PACKET_OTHER;
    }
    uint32_t tcp_header = tcp[12] / 16u * 4u;
    *segment = (struct wire_segment){.flags = tcp[13],
                                     .seq = word_at(tcp + 4),
                                     .bytes = bytes - header - tcp_header,
                                     .ack = word_at(tcp + 8),
                                     .window = (int32_t)half_at(tcp + 14),
                                     .urgent = (uint16_t)half_at(tcp + 18),
                                     .option_bytes = (uint8_t)(tcp_header - TCP_HEADER)};
    segment->ecn = (int8_t)((path->ipv6 ? packet[1] >> 4 : packet[1]) & 3);
    memcpy(segment->options, tcp + TCP_HEADER, segment->option_bytes);
    return WIRE_PACKET_OURS;
}

static void option_print(const uint8_t *option, uint32_t size, char *text, size_t room)
{
    switch (option[0]) {
    case 2:
        snprintf(text, room, "mss %u", half_at(option + 2));
        break;
    case 3:
        snprintf(text, room, "wscale %u", option[2]);
        break;
    case 4:
        snprintf(text, room, "sackOK");
        break;
    case 5:
        snprintf(text, room, "sack");
        for (uint32_t i = 2; i + 8 <= size; i += 8) {
            size_t length = strlen(text);
            snprintf(text + length, room - length, " %u:%u", word_at(option + i),
                     word_at(option + i + 4));
        }
        break;
    case 8:
        snprintf(text, room, "TS val %u ecr %u", word_at(option + 2), word_at(option + 6));
        break;
    default:
        snprintf(text, room, "%u", option[0]);
        break;
    }
}

static void options_print(const struct wire_segment *segment, char *text, size_t room)
{
    uint32_t at = 0;
    while (at < segment->option_bytes) {
        const uint8_t *option = segment->options + at;
        uint32_t size = option[0] <= 1 || at + 1 >= segment->option_bytes ? 1 : option[1];
        char one[128] = "nop";
        size_t length = strlen(text);
        if (option[0] == 0) {
            snprintf(one, sizeof(one), "eol");
        } else if (option[0] != 1) {
            option_print(option, size, one, sizeof(one));
        }
        snprintf(text + length, room - length, "%s%s", at == 0 ? " <" : ",", one);
        at += size > 0 ? size : 1;
    }
    size_t length = strlen(text);
    snprintf(text + length, room - length, "%s",
             segment->option_bytes > 0 ? ">"
             : segment->any_options    ? " <...>"
                                       : "");
}

void wire_segment_print(const struct wire_segment *segment, char *text)
{
    static const char letters[] = "FSRP.UEW";
    static const char *const ecns[] = {"", "[ect1] ", "[ect0] ", "[ce] "};
    char flags[9] = "", more[32] = "", urgent[16] = "";
    unsigned count = 0;
    for (unsigned i = 0; i < 8; i++) {
        if ((segment->flags & 1u << i) != 0) {
            flags[count++] = letters[i];
        }
    }
    flags[count] = '\0';
    if (segment->window >= 0) {
        snprintf(more, sizeof(more), " win %d", segment->window);
    }
    if (segment->urgent > 0) {
        snprintf(urgent, sizeof(urgent), " urg %u", segment->urgent);
    }
    snprintf(text, WIRE_SEGMENT_TEXT, "%s %s%s %u:%u(%u) ack %u%s%s", segment->inbound ? "<" : ">",
             segment->ecn > 0 ? ecns[segment->ecn] : "", count > 0 ? flags : "-", segment->seq,
             segment->seq + segment->bytes, segment->bytes, segment->ack, more, urgent);
    options_print(segment, text, WIRE_SEGMENT_TEXT);
}
