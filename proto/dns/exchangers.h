/*
 * exchangers: in which order the hosts of a domain are tried.
 *
 * Collects MX records, best preference first, and cuts off what would send mail in a circle.
 * Pure: the random bits that order equals are handed in; equal input, equal answer.
 *
 * Source: RFC 5321 §5.1; RFC 7505 (null MX); RFC 974 (loops).
 */
#pragma once
#include "proto/dns/record.h"

#define DNS_EXCHANGERS_MAX 100u /* of one domain; of more the best preferences are kept */
#define DNS_ADDRESSES_MAX 16u   /* of one host; more are not used */

struct dns_exchangers {
    struct dns_mx mx[DNS_EXCHANGERS_MAX];
    uint32_t count;
    uint32_t refused_count; /* records that were malformed or beyond the limit */
    bool has_null;          /* "." was among them */
};

void dns_exchangers_open(struct dns_exchangers *exchangers);
/* One MX record. A host that is there twice keeps its better preference. */
void dns_exchangers_add(struct dns_exchangers *exchangers, struct slice rdata);
/* RFC 7505: the domain takes no mail. "." beside real hosts is ignored. */
bool dns_exchangers_null(const struct dns_exchangers *exchangers);
/* Sorts by preference, then name, so that equal sets are equal. */
void dns_exchangers_sort(struct dns_exchangers *exchangers);
/* Mail is at a host of this preference already: it and all that is equal or worse goes (sorted
 * before). Returns how many are left. */
uint32_t dns_exchangers_cut(struct dns_exchangers *exchangers, uint16_t preference);

/* An order to try `count` hosts in, whose ascending preferences are given: shuffled among equals.
 * random: the state of the shuffle, any 64 bits. */
void dns_exchangers_shuffle(const uint16_t *preferences, uint32_t count, uint64_t random,
                            uint8_t *order);
