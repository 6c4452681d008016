/*
 * tls_report: how TLS to next hops went, by the domain whose policy it was, and by day: what a TLS-RPT
 * report counts. One a shard.
 *
 * Domains with the same hosts and the same demands share connections: what became of one is counted with
 * the domain whose answer from DNS is the newest.
 *
 * Today's and yesterday's rows are kept, of TLS_REPORT_ROWS domains together; what comes for more is
 * only in the totals, and `left_out` says how often. Nothing outlives the process.
 *
 * Source: RFC 8460 §4.2, §4.3 (result types).
 */
#pragma once
#include "engine/core/slice.h"
#include "engine/net/siphash.h"
#include "engine/relay/tls_policy.h"

#define TLS_REPORT_ROWS 1024u
#define TLS_REPORT_DOMAIN_MAX 255u

enum tls_result {
    TLS_RESULT_SUCCESS,
    TLS_RESULT_STARTTLS_NOT_SUPPORTED,
    TLS_RESULT_CERTIFICATE_HOST_MISMATCH,
    TLS_RESULT_CERTIFICATE_EXPIRED,
    TLS_RESULT_CERTIFICATE_NOT_TRUSTED,
    TLS_RESULT_VALIDATION_FAILURE,
    TLS_RESULT_TLSA_INVALID,
    TLS_RESULT_DNSSEC_INVALID,
    TLS_RESULT_DANE_REQUIRED,
    TLS_RESULT_STS_POLICY_FETCH_ERROR,
    TLS_RESULT_STS_POLICY_INVALID,
    TLS_RESULT_STS_WEBPKI_INVALID,
    TLS_RESULT_COUNT
};

struct tls_report_row {
    struct tls_report_row *next; /* in its chain */
    uint64_t hash;
    int64_t day;  /* since the epoch, UTC */
    uint8_t kind; /* enum tls_policy_kind */
    uint64_t counts[TLS_RESULT_COUNT];
    char domain[]; /* ends with NUL */
};

struct tls_report {
    struct siphash_key secret;
    int64_t day; /* of the newest row */
    uint32_t row_count;
    uint64_t totals[TLS_RESULT_COUNT];
    uint64_t left_out;
    struct tls_report_row *chains[TLS_REPORT_ROWS / 4];
};

/* secret: random. NULL: memory is short. */
struct tls_report *tls_report_open(const struct siphash_key *secret);
void tls_report_close(struct tls_report *report); /* NULL is fine */

void tls_report_add(struct tls_report *report, struct slice domain, enum tls_policy_kind kind,
                    enum tls_result result, int64_t wall_s);
/* In no order. */
void tls_report_each(const struct tls_report *report,
                     void (*visit)(void *owner, const struct tls_report_row *row), void *owner);

/* "starttls-not-supported", ...; "no-policy-found", "tlsa", "sts": as reports have them. */
const char *tls_result_name(enum tls_result result);
const char *tls_policy_kind_name(enum tls_policy_kind kind);
