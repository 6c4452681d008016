/*
 * mta_sts: a domain's promise that its mail hosts speak TLS with certificates one can check.
 *
 * The TXT record says that there is a policy and when it changes; the policy is a small text file.
 * Pure functions. A text that breaks the grammar is no policy; unknown fields are skipped.
 *
 * Source: RFC 8461 §3.1 (record), §3.2 (policy), §4.1 (matching).
 */
#pragma once
#include "proto/dns/name.h"

#define DNS_MTA_STS_ID_MAX 32
#define DNS_MTA_STS_PATTERNS_MAX 64u
#define DNS_MTA_STS_POLICY_BYTES_MAX 65536u
#define DNS_MTA_STS_AGE_MAX_S 31557600u /* a year; larger values count as this */

enum dns_mta_sts_mode { DNS_MTA_STS_NONE, DNS_MTA_STS_TESTING, DNS_MTA_STS_ENFORCE };

struct dns_mta_sts_policy {
    uint8_t mode; /* enum dns_mta_sts_mode */
    uint32_t max_age_s;
    uint32_t pattern_count;
    char patterns[DNS_MTA_STS_PATTERNS_MAX][DNS_NAME_BYTES]; /* "mx.example.org", "*.example.org" */
};

/* Is this TXT record one of MTA-STS ("v=STSv1;")? Several such records count as none. */
bool dns_mta_sts_is_record(struct slice text);
/* 0 and the id, or -EINVAL. */
int dns_mta_sts_read_record(struct slice text, char id[DNS_MTA_STS_ID_MAX + 1]);
/* 0 or -EINVAL. */
int dns_mta_sts_read_policy(struct slice text, struct dns_mta_sts_policy *policy);
/* "*." stands for exactly one label. host: lower case, without final dot. */
bool dns_mta_sts_pattern_matches(const char *pattern, const char *host);
