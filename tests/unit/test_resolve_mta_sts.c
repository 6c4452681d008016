#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/resolve_rig.h"
#include <errno.h>

#define DAY 86400

static void announce(struct resolve_rig *rig, const char *record)
{
    fake_dns_remove(&rig->dns, "_mta-sts.a.test", 0);
    if (record != NULL) {
        fake_dns_add(&rig->dns, "_mta-sts.a.test", DNS_TYPE_TXT, record);
    }
    resolve_forget(rig->resolve);
}

static void serve(struct resolve_rig *rig, const char *mode, unsigned max_age_s)
{
    char text[256];
    snprintf(text, sizeof(text),
             "version: STSv1\r\nmode: %s\r\nmx: mx.a.test\r\nmx: *.host.test\r\nmax_age: %u\r\n",
             mode, max_age_s);
    fake_dns_page(&rig->dns, "a.test", RESOLVE_FETCH_OK, text);
}

/* Two hosts: one that the policy names, one that it does not. */
static void make_domain(struct resolve_rig *rig)
{
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.a.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 mx.evil.test");
    fake_dns_add(&rig->dns, "mx.a.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(&rig->dns, "mx.evil.test", DNS_TYPE_A, "192.0.2.66");
    announce(rig, "v=STSv1; id=1;");
    serve(rig, "enforce", 30 * DAY);
}

static void expect_mode(struct resolve_rig *rig, enum dns_mta_sts_mode mode, const char *id)
{
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_int_equal(destination->mta_sts.mode, mode);
    assert_string_equal(destination->mta_sts.id, id);
    assert_false(destination->hosts[0].excluded);
    assert_int_equal(destination->hosts[1].excluded, mode == DNS_MTA_STS_ENFORCE);
    destination_drop(destination);
}

static void an_enforced_policy_excludes_hosts_that_it_does_not_name(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_int_equal(destination->mta_sts.mode, DNS_MTA_STS_ENFORCE);
    assert_string_equal(destination->mta_sts.id, "1");
    assert_int_equal(destination->mta_sts.max_age_s, 30 * DAY);
    assert_int_equal(destination->mta_sts.valid_until_s, rig->wall_s + 30 * DAY);
    assert_int_equal(destination->mta_sts.pattern_count, 2);
    assert_string_equal(destination->mta_sts.patterns[0], "mx.a.test");
    assert_string_equal(destination->mta_sts.patterns[1], "*.host.test");
    assert_int_equal(destination->host_count, 2);
    assert_false(destination->hosts[0].excluded);
    assert_true(destination->hosts[1].excluded);
    destination_drop(destination);
}

static void a_policy_in_test_excludes_nobody(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    serve(rig, "testing", 30 * DAY);
    expect_mode(rig, DNS_MTA_STS_TESTING, "1");
}

static void without_the_record_no_policy_is_fetched(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    announce(rig, NULL);
    expect_mode(rig, DNS_MTA_STS_NONE, "");
    announce(rig, "v=spf1 -all");
    expect_mode(rig, DNS_MTA_STS_NONE, "");
    announce(rig, "v=STSv1; id=;");
    expect_mode(rig, DNS_MTA_STS_NONE, "");
    assert_int_equal(rig->dns.fetched, 0);
}

static void two_records_count_as_none(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_add(&rig->dns, "_mta-sts.a.test", DNS_TYPE_TXT, "something else");
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    resolve_rig_reopen(rig);
    fake_dns_add(&rig->dns, "_mta-sts.a.test", DNS_TYPE_TXT, "v=STSv1; id=2;");
    expect_mode(rig, DNS_MTA_STS_NONE, "");
}

static void a_policy_is_fetched_once_while_its_id_stays(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    resolve_rig_pass(rig, DAY / 2);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    assert_int_equal(rig->dns.fetched, 1);
    serve(rig, "testing", 30 * DAY);
    announce(rig, "v=STSv1; id=2;");
    expect_mode(rig, DNS_MTA_STS_TESTING, "2");
    assert_int_equal(rig->dns.fetched, 2);
}

static void a_policy_survives_the_loss_of_its_record(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    announce(rig, NULL);
    resolve_rig_pass(rig, 30 * DAY - 1);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    fake_dns_fail(&rig->dns, "_mta-sts.a.test", DNS_TYPE_TXT, RESOLVE_ANSWER_FAILED);
    resolve_forget(rig->resolve);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    resolve_rig_pass(rig, 1);
    expect_mode(rig, DNS_MTA_STS_NONE, "");
}

static void a_policy_survives_a_fetch_that_fails(void **state)
{
    struct resolve_rig *rig = *state;
    static const struct {
        enum resolve_fetch_status status;
        const char *text;
        enum destination_mta_sts_failure failure;
    } cases[] = {
        {RESOLVE_FETCH_FAILED, NULL, DESTINATION_MTA_STS_FETCH_ERROR},
        {RESOLVE_FETCH_OK, "<html>not found</html>", DESTINATION_MTA_STS_INVALID},
        {RESOLVE_FETCH_CERTIFICATE_INVALID, NULL, DESTINATION_MTA_STS_WEBPKI_INVALID},
    };
    make_domain(rig);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    for (size_t i = 0; i < 3; i++) {
        char record[32];
        snprintf(record, sizeof(record), "v=STSv1; id=new%zu;", i);
        announce(rig, record);
        fake_dns_page(&rig->dns, "a.test", cases[i].status, cases[i].text);
        struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
        assert_int_equal(destination->mta_sts.mode, DNS_MTA_STS_ENFORCE);
        assert_string_equal(destination->mta_sts.id, "1");
        assert_int_equal(destination->mta_sts.failure, cases[i].failure);
        assert_true(destination->hosts[1].excluded);
        destination_drop(destination);
    }
    assert_int_equal(resolve_counters(rig->resolve)->mta_sts_failed, 3);
}

static void a_first_fetch_that_fails_leaves_no_policy_and_is_not_repeated_at_once(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_page(&rig->dns, "a.test", RESOLVE_FETCH_FAILED, NULL);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_int_equal(destination->mta_sts.mode, DNS_MTA_STS_NONE);
    assert_int_equal(destination->mta_sts.failure, DESTINATION_MTA_STS_FETCH_ERROR);
    destination_drop(destination);
    serve(rig, "enforce", DAY);
    resolve_rig_pass(rig, 299);
    resolve_forget(rig->resolve);
    expect_mode(rig, DNS_MTA_STS_NONE, "");
    assert_int_equal(rig->dns.fetched, 1);
    resolve_rig_pass(rig, 1);
    resolve_forget(rig->resolve);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
}

static void a_policy_in_use_is_renewed_every_day_and_nobody_waits_for_it(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    make_domain(rig);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    resolve_rig_pass(rig, DAY);
    resolve_forget(rig->resolve);
    assert_int_equal(rig_ask(rig, "a.test", &rig_tls, &query), -EINPROGRESS);
    while (query.done_count == 0) {
        assert_true(rig->dns.pending_count > 0);
        fake_dns_answer(&rig->dns);
    }
    assert_int_equal(rig->dns.fetch_count, 1);
    destination_drop(query.destination);
    fake_dns_answer_all(&rig->dns);
    resolve_forget(rig->resolve);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_int_equal(destination->mta_sts.valid_until_s, rig->wall_s + 30 * DAY);
    destination_drop(destination);
}

static void a_destination_expires_with_its_policy(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    serve(rig, "enforce", 100);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_int_equal(destination->expires_ns, rig->now_ns + 100 * RIG_SECOND);
    destination_drop(destination);
}

static void two_who_wait_for_one_policy_fetch_it_once(void **state)
{
    struct resolve_rig *rig = *state;
    struct resolve_options ipv4 = {.family = RESOLVE_IPV4_ONLY, .port = 25, .tls_policy = true};
    struct rig_query one, two;
    make_domain(rig);
    rig_ask(rig, "a.test", &rig_tls, &one);
    rig_ask(rig, "a.test", &ipv4, &two);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(rig->dns.fetched, 1);
    assert_int_equal(one.destination->mta_sts.mode, DNS_MTA_STS_ENFORCE);
    assert_int_equal(two.destination->mta_sts.mode, DNS_MTA_STS_ENFORCE);
    destination_drop(one.destination);
    destination_drop(two.destination);
}

static void a_fetch_that_the_backend_does_not_take_is_a_failed_one(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    make_domain(rig);
    rig_ask(rig, "a.test", &rig_plain, &query); /* so that the DNS is known */
    fake_dns_answer_all(&rig->dns);
    destination_drop(query.destination);
    rig_ask(rig, "a.test", &rig_tls, &query); /* TXT alone is asked for */
    rig->dns.refusing = true;
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(query.done_count, 0);
    resolve_rig_pass(rig, 1);
    assert_int_equal(query.done_count, 1);
    assert_int_equal(query.destination->mta_sts.failure, DESTINATION_MTA_STS_FETCH_ERROR);
    destination_drop(query.destination);
}

static void closing_during_a_fetch_cancels_it(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    make_domain(rig);
    rig_ask(rig, "a.test", &rig_tls, &query);
    while (rig->dns.pending_count > 0) {
        fake_dns_answer(&rig->dns);
    }
    assert_int_equal(rig->dns.fetch_count, 1);
    resolve_rig_reopen(rig);
    assert_int_equal(rig->dns.fetch_count, 0);
    assert_int_equal(query.done_count, 0);
}

static void a_policy_that_was_kept_holds_in_the_next_life(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    assert_int_equal(rig->dns.kept_count, 1);
    assert_string_equal(rig->dns.kept.domain, "a.test");
    resolve_rig_reopen(rig);
    resolve_remember_policy(rig->resolve, &rig->dns.kept);
    announce(rig, NULL);
    resolve_rig_pass(rig, 30 * DAY - 1);
    expect_mode(rig, DNS_MTA_STS_ENFORCE, "1");
    assert_int_equal(rig->dns.fetched, 1);
    resolve_rig_pass(rig, 1);
    expect_mode(rig, DNS_MTA_STS_NONE, "");
}

static void switched_off_nothing_is_asked(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    rig->settings.mta_sts = false;
    resolve_rig_reopen(rig);
    expect_mode(rig, DNS_MTA_STS_NONE, "");
    assert_int_equal(rig->dns.fetched, 0);
    assert_int_equal(rig->dns.asked, 5); /* MX, two hosts */
}

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, resolve_rig_open, resolve_rig_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(an_enforced_policy_excludes_hosts_that_it_does_not_name),
        RIG_TEST(a_policy_in_test_excludes_nobody),
        RIG_TEST(without_the_record_no_policy_is_fetched),
        RIG_TEST(two_records_count_as_none),
        RIG_TEST(a_policy_is_fetched_once_while_its_id_stays),
        RIG_TEST(a_policy_survives_the_loss_of_its_record),
        RIG_TEST(a_policy_survives_a_fetch_that_fails),
        RIG_TEST(a_first_fetch_that_fails_leaves_no_policy_and_is_not_repeated_at_once),
        RIG_TEST(a_policy_in_use_is_renewed_every_day_and_nobody_waits_for_it),
        RIG_TEST(a_destination_expires_with_its_policy),
        RIG_TEST(two_who_wait_for_one_policy_fetch_it_once),
        RIG_TEST(a_fetch_that_the_backend_does_not_take_is_a_failed_one),
        RIG_TEST(closing_during_a_fetch_cancels_it),
        RIG_TEST(a_policy_that_was_kept_holds_in_the_next_life),
        RIG_TEST(switched_off_nothing_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
