/* How TLS went, by domain, policy and day. */
#include "engine/relay/tls_report.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define DAY 86400

static const struct siphash_key secret = {{1, 2}};

struct search {
    const char *domain;
    uint8_t kind;
    int64_t day;
    const struct tls_report_row *found;
    unsigned rows;
};

static void look(void *owner, const struct tls_report_row *row)
{
    struct search *search = owner;
    search->rows++;
    if (strcmp(row->domain, search->domain) == 0 && row->kind == search->kind &&
        row->day == search->day) {
        assert_null(search->found);
        search->found = row;
    }
}

static uint64_t count_of(const struct tls_report *report, const char *domain, uint8_t kind,
                         int64_t day, enum tls_result result)
{
    struct search search = {.domain = domain, .kind = kind, .day = day};
    tls_report_each(report, look, &search);
    return search.found == NULL ? 0 : search.found->counts[result];
}

static void each_domain_policy_and_day_is_counted_by_itself(void **state)
{
    (void)state;
    struct tls_report *report = tls_report_open(&secret);
    const struct slice a = slice_text("a.test"), b = slice_text("b.test");
    for (unsigned i = 0; i < 3; i++) {
        tls_report_add(report, a, TLS_POLICY_STS, TLS_RESULT_SUCCESS, 10 * DAY + 5);
    }
    tls_report_add(report, a, TLS_POLICY_STS, TLS_RESULT_CERTIFICATE_EXPIRED, 10 * DAY + 9);
    tls_report_add(report, a, TLS_POLICY_TLSA, TLS_RESULT_SUCCESS, 10 * DAY + 9);
    tls_report_add(report, b, TLS_POLICY_STS, TLS_RESULT_SUCCESS, 10 * DAY + 9);
    tls_report_add(report, a, TLS_POLICY_STS, TLS_RESULT_SUCCESS, 11 * DAY);
    assert_int_equal(count_of(report, "a.test", TLS_POLICY_STS, 10, TLS_RESULT_SUCCESS), 3);
    assert_int_equal(count_of(report, "a.test", TLS_POLICY_STS, 10, TLS_RESULT_CERTIFICATE_EXPIRED),
                     1);
    assert_int_equal(count_of(report, "a.test", TLS_POLICY_TLSA, 10, TLS_RESULT_SUCCESS), 1);
    assert_int_equal(count_of(report, "b.test", TLS_POLICY_STS, 10, TLS_RESULT_SUCCESS), 1);
    assert_int_equal(count_of(report, "a.test", TLS_POLICY_STS, 11, TLS_RESULT_SUCCESS), 1);
    assert_int_equal(report->totals[TLS_RESULT_SUCCESS], 6);
    tls_report_close(report);
}

static void the_day_before_yesterday_is_forgotten(void **state)
{
    (void)state;
    struct tls_report *report = tls_report_open(&secret);
    const struct slice a = slice_text("a.test");
    for (int64_t day = 5; day < 8; day++) {
        tls_report_add(report, a, TLS_POLICY_NONE, TLS_RESULT_SUCCESS, day * DAY);
    }
    assert_int_equal(report->row_count, 2);
    assert_int_equal(count_of(report, "a.test", TLS_POLICY_NONE, 5, TLS_RESULT_SUCCESS), 0);
    assert_int_equal(count_of(report, "a.test", TLS_POLICY_NONE, 6, TLS_RESULT_SUCCESS), 1);
    assert_int_equal(report->totals[TLS_RESULT_SUCCESS], 3);
    tls_report_close(report);
}

static void too_many_domains_are_in_the_totals_only(void **state)
{
    (void)state;
    enum { MORE = 100 };
    struct tls_report *report = tls_report_open(&secret);
    for (unsigned i = 0; i < TLS_REPORT_ROWS + MORE; i++) {
        char domain[300];
        memset(domain, 'x', sizeof(domain));
        int size = snprintf(domain, sizeof(domain), "%u", i);
        domain[size] = 'x'; /* longer than any domain is: cut, and still told apart */
        tls_report_add(report, slice_of(domain, sizeof(domain)), TLS_POLICY_NONE,
                       TLS_RESULT_SUCCESS, DAY);
    }
    assert_int_equal(report->row_count, TLS_REPORT_ROWS);
    assert_int_equal(report->left_out, MORE);
    assert_int_equal(report->totals[TLS_RESULT_SUCCESS], TLS_REPORT_ROWS + MORE);
    tls_report_add(report, slice_text("new.test"), TLS_POLICY_NONE, TLS_RESULT_SUCCESS, 3 * DAY);
    assert_int_equal(report->row_count, 1);
    tls_report_close(report);
}

static void results_are_called_as_in_rfc_8460(void **state)
{
    (void)state;
    assert_string_equal(tls_result_name(TLS_RESULT_STARTTLS_NOT_SUPPORTED),
                        "starttls-not-supported");
    assert_string_equal(tls_result_name(TLS_RESULT_VALIDATION_FAILURE), "validation-failure");
    assert_string_equal(tls_result_name(TLS_RESULT_STS_WEBPKI_INVALID), "sts-webpki-invalid");
    assert_string_equal(tls_policy_kind_name(TLS_POLICY_NONE), "no-policy-found");
    assert_string_equal(tls_policy_kind_name(TLS_POLICY_TLSA), "tlsa");
    assert_string_equal(tls_policy_kind_name(TLS_POLICY_STS), "sts");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_domain_policy_and_day_is_counted_by_itself),
        cmocka_unit_test(the_day_before_yesterday_is_forgotten),
        cmocka_unit_test(too_many_domains_are_in_the_totals_only),
        cmocka_unit_test(results_are_called_as_in_rfc_8460),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
