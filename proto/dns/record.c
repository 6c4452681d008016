#include "proto/dns/record.h"

#include <errno.h>

int dns_mx_read(struct slice rdata, struct dns_mx *mx)
{
    size_t offset = 2;
    if (rdata.size < 3) {
        return -EINVAL;
    }
    mx->preference = (uint16_t)(rdata.bytes[0] << 8 | rdata.bytes[1]);
    if (dns_name_from_wire(rdata, &offset, mx->exchange) < 0 || offset != rdata.size) {
        return -EINVAL;
    }
    return 0;
}

/* "This network", multicast and what is above it (class E, broadcast). */
static bool ipv4_is_host(const uint8_t *address)
{
    return address[0] != 0 && address[0] < 224;
}

/* Link-local ones would need a zone, which the DNS cannot say. */
static bool ipv6_is_host(const uint8_t *address)
{
    static const uint8_t unspecified[16];
    return memcmp(address, unspecified, 16) != 0 && address[0] != 0xff &&
           !(address[0] == 0xfe && (address[1] & 0xc0) == 0x80);
}

int dns_address_read(enum dns_type type, struct slice rdata, uint16_t port,
                     struct endpoint *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const uint8_t *ipv4 = rdata.bytes;
    if (rdata.size != (type == DNS_TYPE_AAAA ? 16u : 4u)) {
        return -EINVAL;
    }
    *address = (struct endpoint){.port = port};
    if (type == DNS_TYPE_AAAA && memcmp(rdata.bytes, mapped, sizeof(mapped)) == 0) {
        ipv4 = rdata.bytes + sizeof(mapped);
    } else if (type == DNS_TYPE_AAAA) {
        address->family = ENDPOINT_IPV6;
        memcpy(address->address, rdata.bytes, 16);
        return ipv6_is_host(address->address) ? 0 : -EINVAL;
    }
    address->family = ENDPOINT_IPV4;
    memcpy(address->address, ipv4, 4);
    return ipv4_is_host(address->address) ? 0 : -EINVAL;
}

int dns_txt_read(struct slice rdata, char *text, size_t size)
{
    size_t length = 0;
    if (rdata.size == 0) {
        return -EINVAL;
    }
    while (rdata.size > 0) {
        size_t part = rdata.bytes[0];
        if (part > rdata.size - 1) {
            return -EINVAL;
        }
        if (part > size - length) {
            return -EMSGSIZE;
        }
        if (part > 0) {
            memcpy(text + length, rdata.bytes + 1, part);
        }
        length += part;
        rdata = slice_from(rdata, 1 + part);
    }
    return (int)length;
}
