#include "engine/net/rss.h"
#include "engine/core/check.h"
#include <errno.h>
#include <netinet/in.h>
#include <rte_thash.h>
#include <string.h>

#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_IPV6 0x86ddu
#define ETHERTYPE_VLAN 0x8100u
#define IPV4_HEADER_BYTES 20u
#define IPV6_HEADER_BYTES 40u
#define ICMP_HEADER_BYTES 8u

/* 0x6d5a repeated: the only kind of key by which source and target can be exchanged. */
#define KEY_16                                                                                     \
    0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a
const uint8_t rss_key_symmetric[RSS_KEY_BYTES_MAX] = {KEY_16, KEY_16, KEY_16, KEY_16};

static void key_load(struct rss *rss, const uint8_t *key, unsigned key_bytes)
{
    memset(rss->key, 0, sizeof(rss->key));
    for (unsigned i = 0; i < key_bytes; i++) {
        rss->key[i / 4] |= (uint32_t)key[i] << (24 - 8 * (i % 4));
    }
}

void rss_init(struct rss *rss, uint16_t queue_count)
{
    check(queue_count > 0);
    memset(rss, 0, sizeof(*rss));
    rss->mode = queue_count == 1 ? RSS_PROVEN : RSS_UNKNOWN;
    rss->queue_count = queue_count;
    rss->table_count = RSS_TABLE_MAX;
    key_load(rss, rss_key_symmetric, RSS_KEY_BYTES_MAX);
    for (unsigned i = 0; i < RSS_TABLE_MAX; i++) {
        rss->table[i] = (uint16_t)(i % queue_count);
    }
}

int rss_claim(struct rss *rss, const uint8_t *key, unsigned key_bytes, const uint16_t *table,
              unsigned table_count)
{
    if (key_bytes < RSS_KEY_BYTES || table_count == 0 || table_count > RSS_TABLE_MAX ||
        (table_count & (table_count - 1)) != 0) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < table_count; i++) {
        if (table[i] >= rss->queue_count) {
            return -EINVAL;
        }
    }
    key_load(rss, key, key_bytes < RSS_KEY_BYTES_MAX ? key_bytes : RSS_KEY_BYTES_MAX);
    memcpy(rss->table, table, table_count * sizeof(table[0]));
    rss->table_count = (uint16_t)table_count;
    rss->agreed_count = 0;
    rss->mode = rss->queue_count == 1 ? RSS_PROVEN : RSS_CLAIMED;
    return 0;
}

static uint32_t word_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

uint32_t rss_hash(const struct rss *rss, const struct rss_tuple *arriving)
{
    uint32_t words[9];
    unsigned count = 0;
    unsigned address_words = arriving->ipv6 ? 4 : 1;
    for (unsigned i = 0; i < address_words; i++) {
        words[count++] = word_at(arriving->source + 4 * i);
    }
    for (unsigned i = 0; i < address_words; i++) {
        words[count++] = word_at(arriving->target + 4 * i);
    }
    if (arriving->source_port != 0 || arriving->target_port != 0) {
        words[count++] = (uint32_t)arriving->source_port << 16 | arriving->target_port;
    }
    return rte_softrss_be(words, count, (const uint8_t *)rss->key);
}

uint16_t rss_queue_of_hash(const struct rss *rss, uint32_t hash)
{
    return rss->table[hash & (rss->table_count - 1u)];
}

uint16_t rss_queue_of(const struct rss *rss, const struct rss_tuple *arriving)
{
    return rss->queue_count == 1 ? 0 : rss_queue_of_hash(rss, rss_hash(rss, arriving));
}

enum rss_mode rss_observe(struct rss *rss, const struct rss_tuple *arriving, uint32_t hash,
                          uint16_t queue)
{
    switch (rss->mode) {
    case RSS_UNKNOWN:
    case RSS_PROVEN:
        break;
    case RSS_CLAIMED:
        if (rss_hash(rss, arriving) != hash || rss_queue_of_hash(rss, hash) != queue) {
            rss->mode = RSS_UNKNOWN;
        } else if (++rss->agreed_count >= RSS_PROOF_COUNT) {
            rss->mode = RSS_PROVEN;
        }
        break;
    }
    return rss->mode;
}

static uint16_t short_at(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void ports_of(struct rss_tuple *tuple, uint8_t protocol, const uint8_t *payload,
                     uint32_t bytes)
{
    if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && bytes >= 4) {
        tuple->source_port = short_at(payload);
        tuple->target_port = short_at(payload + 2);
    }
}

static void turn_round(struct rss_tuple *tuple)
{
    struct rss_tuple quoted = *tuple;
    memcpy(tuple->source, quoted.target, sizeof(tuple->source));
    memcpy(tuple->target, quoted.source, sizeof(tuple->target));
    tuple->source_port = quoted.target_port;
    tuple->target_port = quoted.source_port;
}

/* RFC 792 and 4443: destination unreachable, source quench, time exceeded, parameter problem;
 * ICMPv6 errors are below 128. */
static bool icmp_is_error(uint8_t protocol, uint8_t type)
{
    if (protocol == IPPROTO_ICMPV6) {
        return type < 128;
    }
    return protocol == IPPROTO_ICMP && (type == 3 || type == 4 || type == 11 || type == 12);
}

static bool tuple_of_ipv4(struct rss_tuple *tuple, const uint8_t *packet, uint32_t bytes,
                          uint8_t *protocol, uint32_t *payload_at)
{
    if (bytes < IPV4_HEADER_BYTES || packet[0] >> 4 != 4) {
        return false;
    }
    uint32_t header_bytes = (packet[0] & 15u) * 4u;
    if (header_bytes < IPV4_HEADER_BYTES || header_bytes > bytes) {
        return false;
    }
    memcpy(tuple->source, packet + 12, 4);
    memcpy(tuple->target, packet + 16, 4);
    *payload_at = header_bytes;
    bool fragment = (short_at(packet + 6) & 0x3fffu) != 0;
    *protocol = fragment ? IPPROTO_FRAGMENT : packet[9];
    return true;
}

static bool tuple_of_ipv6(struct rss_tuple *tuple, const uint8_t *packet, uint32_t bytes,
                          uint8_t *protocol, uint32_t *payload_at)
{
    if (bytes < IPV6_HEADER_BYTES || packet[0] >> 4 != 6) {
        return false;
    }
    tuple->ipv6 = true;
    memcpy(tuple->source, packet + 8, 16);
    memcpy(tuple->target, packet + 24, 16);
    *payload_at = IPV6_HEADER_BYTES;
    *protocol = packet[6];
    return true;
}

static bool tuple_of_packet(struct rss_tuple *tuple, const uint8_t *packet, uint32_t bytes,
                            bool quoted)
{
    memset(tuple, 0, sizeof(*tuple));
    if (bytes == 0) {
        return false;
    }
    uint8_t protocol;
    uint32_t at;
    bool found = packet[0] >> 4 == 6 ? tuple_of_ipv6(tuple, packet, bytes, &protocol, &at)
                                     : tuple_of_ipv4(tuple, packet, bytes, &protocol, &at);
    if (!found) {
        return false;
    }
    ports_of(tuple, protocol, packet + at, bytes - at);
    if (!quoted && bytes - at > ICMP_HEADER_BYTES && icmp_is_error(protocol, packet[at])) {
        struct rss_tuple inner;
        if (tuple_of_packet(&inner, packet + at + ICMP_HEADER_BYTES, bytes - at - ICMP_HEADER_BYTES,
                            true)) {
            turn_round(&inner);
            *tuple = inner;
        }
    }
    return true;
}

bool rss_tuple_of_frame(struct rss_tuple *tuple, const uint8_t *frame, uint32_t bytes)
{
    uint32_t at = 12;
    if (bytes < at + 2) {
        return false;
    }
    uint16_t type = short_at(frame + at);
    if (type == ETHERTYPE_VLAN && bytes >= at + 6) {
        at += 4;
        type = short_at(frame + at);
    }
    if (type != ETHERTYPE_IPV4 && type != ETHERTYPE_IPV6) {
        return false;
    }
    return tuple_of_packet(tuple, frame + at + 2, bytes - at - 2, false);
}
