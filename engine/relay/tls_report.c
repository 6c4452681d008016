#include "engine/relay/tls_report.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define CHAINS (TLS_REPORT_ROWS / 4)
#define DAY_S 86400

struct tls_report *tls_report_open(const struct siphash_key *secret)
{
    struct tls_report *report = calloc(1, sizeof(*report));
    if (report != NULL) {
        report->secret = *secret;
    }
    return report;
}

/* Those of days before `day`. */
static void rows_forget(struct tls_report *report, int64_t day)
{
    for (unsigned i = 0; i < CHAINS; i++) {
        struct tls_report_row **at = &report->chains[i];
        while (*at != NULL) {
            struct tls_report_row *row = *at;
            if (row->day < day) {
                *at = row->next;
                free(row);
                report->row_count--;
            } else {
                at = &row->next;
            }
        }
    }
}

void tls_report_close(struct tls_report *report)
{
    if (report != NULL) {
        rows_forget(report, INT64_MAX);
        free(report);
    }
}

static uint64_t hash_of(const struct tls_report *report, struct slice domain, uint8_t kind,
                        int64_t day)
{
    uint64_t words[2 + (TLS_REPORT_DOMAIN_MAX + 1) / 8] = {(uint64_t)day, kind};
    for (size_t i = 0; i < domain.size; i++) {
        words[2 + i / 8] |= (uint64_t)domain.bytes[i] << 8 * (i % 8);
    }
    return siphash(&report->secret, words, sizeof(words) / sizeof(words[0]));
}

/* NULL: there is no room. */
static struct tls_report_row *row_for(struct tls_report *report, struct slice domain, uint8_t kind,
                                      int64_t day)
{
    uint64_t hash = hash_of(report, domain, kind, day);
    struct tls_report_row **chain = &report->chains[hash % CHAINS];
    for (struct tls_report_row *row = *chain; row != NULL; row = row->next) {
        if (row->hash == hash && row->day == day && row->kind == kind &&
            slice_equal(domain, slice_text(row->domain))) {
            return row;
        }
    }
    struct tls_report_row *made =
        report->row_count < TLS_REPORT_ROWS ? calloc(1, sizeof(*made) + domain.size + 1) : NULL;
    if (made != NULL) {
        made->hash = hash;
        made->day = day;
        made->kind = kind;
        memcpy(made->domain, domain.bytes, domain.size);
        made->next = *chain;
        *chain = made;
        report->row_count++;
    }
    return made;
}

void tls_report_add(struct tls_report *report, struct slice domain, enum tls_policy_kind kind,
                    enum tls_result result, int64_t wall_s)
{
    int64_t day = wall_s / DAY_S;
    check(result < TLS_RESULT_COUNT);
    report->totals[result]++;
    if (day > report->day) {
        report->day = day;
        rows_forget(report, day - 1);
    }
    struct tls_report_row *row =
        row_for(report, slice_first(domain, TLS_REPORT_DOMAIN_MAX), (uint8_t)kind, day);
    if (row == NULL) {
        report->left_out++;
        return;
    }
    row->counts[result]++;
}

void tls_report_each(const struct tls_report *report,
                     void (*visit)(void *owner, const struct tls_report_row *row), void *owner)
{
    for (unsigned i = 0; i < CHAINS; i++) {
        for (const struct tls_report_row *row = report->chains[i]; row != NULL; row = row->next) {
            visit(owner, row);
        }
    }
}

const char *tls_result_name(enum tls_result result)
{
    static const char *const names[TLS_RESULT_COUNT] = {
        "success",
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-expired",
        "certificate-not-trusted",
        "validation-failure",
        "tlsa-invalid",
        "dnssec-invalid",
        "dane-required",
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
    };
    return names[result];
}

const char *tls_policy_kind_name(enum tls_policy_kind kind)
{
    return kind == TLS_POLICY_TLSA ? "tlsa" : kind == TLS_POLICY_STS ? "sts" : "no-policy-found";
}
