/*
 * policy_record: an MTA-STS policy of a domain as it lies in a file between two lives of the process.
 *
 * Binary, with its length and a checksum before it: what is damaged is told from what is not. Pure functions.
 */
#pragma once
#include "proto/dns/mta_sts.h"

/* length, checksum, fetched, max_age, mode, count; then domain, id and patterns, each behind its length */
#define POLICY_RECORD_BYTES_MAX                                                                    \
    (4 + 4 + 8 + 4 + 1 + 1 + (2 + DNS_MTA_STS_PATTERNS_MAX) * (1 + DNS_NAME_MAX))

struct policy_record {
    char domain[DNS_NAME_BYTES];
    char id[DNS_MTA_STS_ID_MAX + 1];
    int64_t fetched_s; /* of the wall clock */
    struct dns_mta_sts_policy policy;
};

/* Returns the bytes written. */
size_t policy_record_write(const struct policy_record *record,
                           uint8_t bytes[POLICY_RECORD_BYTES_MAX]);
/* Reads the first record and moves *bytes behind it. -EINVAL: damaged, and so is whatever follows. */
int policy_record_read(struct slice *bytes, struct policy_record *record);
