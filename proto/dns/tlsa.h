/*
 * tlsa: which certificate or key a mail host must show, as its zone says.
 *
 * dns_tlsa_select keeps what an SMTP client can use: the answer to "are there usable records" decides
 * between authentication, mandatory encryption without it, and none (RFC 7672 §2.2).
 * Pure functions; the association data stays where the rdata lies.
 *
 * Source: RFC 6698 §2.1; RFC 7671 §9 (digest agility); RFC 7672 §3.1.
 */
#pragma once
#include "engine/core/slice.h"

enum dns_tlsa_usage {
    DNS_TLSA_PKIX_TA, /* 0 and 1: not for SMTP, RFC 7672 §3.1.3 */
    DNS_TLSA_PKIX_EE,
    DNS_TLSA_DANE_TA,
    DNS_TLSA_DANE_EE
};
enum dns_tlsa_selector { DNS_TLSA_CERTIFICATE, DNS_TLSA_PUBLIC_KEY };
enum dns_tlsa_matching { DNS_TLSA_FULL, DNS_TLSA_SHA256, DNS_TLSA_SHA512 };

#define DNS_TLSA_DATA_MAX 8192 /* of a full certificate; a longer one is unusable */

struct dns_tlsa {
    uint8_t usage;         /* enum dns_tlsa_usage */
    uint8_t selector;      /* enum dns_tlsa_selector */
    uint8_t matching_type; /* enum dns_tlsa_matching */
    struct slice data;     /* certificate association data; borrowed from the rdata */
};

/* 0, or -EINVAL when the rdata is none. Values that nobody has assigned are read, and unusable. */
int dns_tlsa_read(struct slice rdata, struct dns_tlsa *tlsa);

/* Can an SMTP client match a certificate by it? Usage 2 or 3, selector and matching type known, data
 * of the digest's size. */
bool dns_tlsa_usable(const struct dns_tlsa *tlsa);

/* Moves the usable ones to the front and leaves out the others, and those whose digest is weaker than
 * another's of the same usage and selector. Returns how many are left. */
size_t dns_tlsa_select(struct dns_tlsa *records, size_t count);
