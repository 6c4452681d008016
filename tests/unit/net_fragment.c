#include "tests/unit/net_fragment.h"
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "engine/net/ip.h"
#include <netinet/in.h>

#define ETH_BYTES 14u
#define MORE_FRAGMENTS 0x2000u

uint8_t net_fragment_byte(uint64_t seed, uint32_t at)
{
    uint64_t mixed = (seed + at + 1) * 0x9e3779b97f4a7c15ull;
    return (uint8_t)(mixed >> 56 ^ mixed >> 24);
}

static void half_put(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint32_t ipv4_put(uint8_t *ip, const struct net_fragment *fragment)
{
    uint32_t header = IPV4_BYTES + fragment->option_bytes;
    memset(ip, 0, IPV4_BYTES);
    ip[0] = (uint8_t)(0x40 | header / 4);
    ip[1] = fragment->ecn;
    half_put(ip + 2, header + fragment->bytes);
    half_put(ip + 4, fragment->id);
    half_put(ip + 6, fragment->offset / 8 | (fragment->more ? MORE_FRAGMENTS : 0));
    ip[8] = 64;
    ip[9] = fragment->protocol;
    memcpy(ip + 12, &fragment->from.words[3], 4);
    memcpy(ip + 16, &fragment->to.words[3], 4);
    if (fragment->option_bytes > 0) {
        memcpy(ip + IPV4_BYTES, fragment->options, fragment->option_bytes);
    }
    uint16_t sum = checksum_finish(checksum_add(0, ip, header));
    memcpy(ip + 10, &sum, sizeof(sum));
    return header;
}

static uint32_t ipv6_put(uint8_t *ip, const struct net_fragment *fragment)
{
    uint32_t headers = fragment->option_bytes + 8;
    uint8_t *at = ip + IPV6_BYTES;
    memset(ip, 0, IPV6_BYTES);
    ip[0] = 0x60;
    ip[1] = (uint8_t)(fragment->ecn << 4);
    half_put(ip + 4, headers + fragment->bytes);
    ip[6] = fragment->option_bytes > 0 ? fragment->options_begin : IPPROTO_FRAGMENT;
    ip[7] = 64;
    memcpy(ip + 8, fragment->from.words, 16);
    memcpy(ip + 24, fragment->to.words, 16);
    if (fragment->option_bytes > 0) {
        memcpy(at, fragment->options, fragment->option_bytes);
        at += fragment->option_bytes;
    }
    at[0] = fragment->protocol;
    at[1] = 0;
    half_put(at + 2, fragment->offset | fragment->more);
    half_put(at + 4, fragment->id >> 16);
    half_put(at + 6, fragment->id);
    return IPV6_BYTES + headers;
}

uint32_t net_fragment_make(uint8_t frame[NET_FRAGMENT_FRAME_BYTES],
                           const struct net_fragment *fragment)
{
    static const uint8_t macs[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    bool ipv4 = ip_address_is_ipv4(&fragment->from);
    check(ETH_BYTES + IPV6_BYTES + fragment->option_bytes + 8 + fragment->bytes <=
          NET_FRAGMENT_FRAME_BYTES);
    memcpy(frame, macs, sizeof(macs));
    half_put(frame + 12, ipv4 ? 0x0800 : 0x86dd);
    uint32_t header = (ipv4 ? ipv4_put : ipv6_put)(frame + ETH_BYTES, fragment);
    memcpy(frame + ETH_BYTES + header, fragment->payload + fragment->offset, fragment->bytes);
    return ETH_BYTES + header + fragment->bytes;
}

static void checksum_put(uint8_t *packet, uint32_t at, uint32_t bytes,
                         const struct net_fragment *addresses, uint8_t protocol)
{
    uint64_t sum = protocol == IPPROTO_ICMP
                       ? 0
                       : ip_pseudo_sum(&addresses->from, &addresses->to, protocol, bytes);
    uint16_t checksum = checksum_finish(checksum_add(sum, packet, bytes));
    checksum = checksum == 0 ? 0xffff : checksum;
    memcpy(packet + at, &checksum, sizeof(checksum));
}

uint32_t net_datagram_make(uint8_t *datagram, const struct net_fragment *addresses,
                           uint16_t from_port, uint16_t to_port, uint32_t bytes, uint64_t seed)
{
    half_put(datagram, from_port);
    half_put(datagram + 2, to_port);
    half_put(datagram + 4, 8 + bytes);
    half_put(datagram + 6, 0);
    for (uint32_t i = 0; i < bytes; i++) {
        datagram[8 + i] = net_fragment_byte(seed, i);
    }
    checksum_put(datagram, 6, 8 + bytes, addresses, IPPROTO_UDP);
    return 8 + bytes;
}

uint32_t net_ping_make(uint8_t *ping, const struct net_fragment *addresses, uint32_t bytes,
                       uint64_t seed)
{
    bool ipv4 = ip_address_is_ipv4(&addresses->from);
    memset(ping, 0, 8);
    ping[0] = ipv4 ? 8 : 128;
    half_put(ping + 4, 0x1234);
    half_put(ping + 6, 1);
    for (uint32_t i = 0; i < bytes; i++) {
        ping[8 + i] = net_fragment_byte(seed, i);
    }
    checksum_put(ping, 2, 8 + bytes, addresses, ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    return 8 + bytes;
}
