/*
 * address: an IP address as the stack compares and hashes it: 16 bytes, IPv4 as ::ffff:a.b.c.d.
 */
#pragma once
#include "engine/core/endpoint.h"
#include <arpa/inet.h>

struct ip_address {
    uint32_t words[4]; /* network order */
};

static inline struct ip_address ip_address_of_ipv4(uint32_t network_order)
{
    return (struct ip_address){{0, 0, htonl(0xffff), network_order}};
}

static inline bool ip_address_equal(const struct ip_address *a, const struct ip_address *b)
{
    return ((a->words[3] ^ b->words[3]) | (a->words[2] ^ b->words[2]) |
            (a->words[1] ^ b->words[1]) | (a->words[0] ^ b->words[0])) == 0;
}

static inline bool ip_address_is_ipv4(const struct ip_address *address)
{
    return address->words[0] == 0 && address->words[1] == 0 && address->words[2] == htonl(0xffff);
}

static inline struct ip_address ip_address_of_ipv6(const uint8_t bytes[16])
{
    struct ip_address address;
    memcpy(address.words, bytes, sizeof(address.words));
    return address;
}

static inline bool ip_address_is_any(const struct ip_address *address)
{
    return (address->words[0] | address->words[1] | address->words[2] | address->words[3]) == 0;
}

static inline bool ip_address_is_link_local(const struct ip_address *address)
{
    return (address->words[0] & htonl(0xffc00000)) == htonl(0xfe800000);
}

static inline bool ip_address_is_multicast(const struct ip_address *address)
{
    return ip_address_is_ipv4(address) ? (ntohl(address->words[3]) >> 28) == 0xe
                                       : (ntohl(address->words[0]) >> 24) == 0xff;
}

/* Bits of a prefix are counted from the first of the 16 bytes: 96 more than IPv4 has them. */
#define IP_ADDRESS_IPV4_BITS 96u

static inline bool ip_address_in(const struct ip_address *address, const struct ip_address *prefix,
                                 unsigned bits)
{
    for (unsigned i = 0; i < 4 && bits > 0; i++) {
        uint32_t mask = bits >= 32 ? UINT32_MAX : htonl(UINT32_MAX << (32 - bits));
        if (((address->words[i] ^ prefix->words[i]) & mask) != 0) {
            return false;
        }
        bits -= bits < 32 ? bits : 32;
    }
    return true;
}

/* False: not an IP address. */
static inline bool ip_address_of_endpoint(struct ip_address *address,
                                          const struct endpoint *endpoint)
{
    if (endpoint->family == ENDPOINT_IPV4) {
        uint32_t word;
        memcpy(&word, endpoint->address, sizeof(word));
        *address = ip_address_of_ipv4(word);
        return true;
    }
    memcpy(address->words, endpoint->address, sizeof(address->words));
    return endpoint->family == ENDPOINT_IPV6;
}

static inline void endpoint_of_ip_address(struct endpoint *endpoint,
                                          const struct ip_address *address, uint16_t port)
{
    memset(endpoint, 0, sizeof(*endpoint));
    endpoint->port = port;
    if (ip_address_is_ipv4(address)) {
        endpoint->family = ENDPOINT_IPV4;
        memcpy(endpoint->address, &address->words[3], 4);
    } else {
        endpoint->family = ENDPOINT_IPV6;
        memcpy(endpoint->address, address->words, 16);
    }
}
