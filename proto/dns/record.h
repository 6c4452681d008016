/*
 * record: reads the rdata of the types that mail routing asks for.
 *
 * rdata is what a resolver hands over: one record's data, names unpacked. A record that is too short,
 * too long or malformed is refused as a whole with -EINVAL; the caller leaves it out and counts it.
 * Pure functions; nothing is kept.
 *
 * Source: RFC 1035 §3.3.9 (MX), §3.3.14 (TXT), §3.4.1 (A); RFC 3596 (AAAA).
 */
#pragma once
#include "engine/core/endpoint.h"
#include "proto/dns/name.h"

enum dns_type {
    DNS_TYPE_A = 1,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_MX = 15,
    DNS_TYPE_TXT = 16,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_TLSA = 52,
};

struct dns_mx {
    uint16_t preference;
    char exchange[DNS_NAME_BYTES]; /* "": the root, RFC 7505's null MX */
};

/* 0 or -EINVAL. */
int dns_mx_read(struct slice rdata, struct dns_mx *mx);

/* type: DNS_TYPE_A or DNS_TYPE_AAAA. Mapped IPv4 becomes IPv4; addresses that no mail host can have
 * (unspecified, multicast, broadcast) are refused. 0 or -EINVAL. */
int dns_address_read(enum dns_type type, struct slice rdata, uint16_t port,
                     struct endpoint *address);

/* The character strings put together (RFC 8461 §3.1, RFC 7208 §3.3). Returns the length; -EINVAL;
 * -EMSGSIZE when it is longer than `size`. text may be NULL when size is 0. */
int dns_txt_read(struct slice rdata, char *text, size_t size);
