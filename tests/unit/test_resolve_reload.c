/* Other servers and settings while questions are under way: what is asked anew, of whom, and what stays. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/core/check.h"
#include "tests/unit/resolve_rig.h"

#define POLICY "version: STSv1\r\nmode: enforce\r\nmx: mx.a.test\r\nmax_age: 604800\r\n"

/* The servers after the reload. */
static struct fake_dns *other;

static int open_two(void **state)
{
    other = calloc(1, sizeof(*other));
    check(other != NULL);
    fake_dns_open(other);
    return resolve_rig_open(state);
}

static int close_two(void **state)
{
    int status = resolve_rig_close(state);
    free(other);
    return status;
}

static void reload(struct resolve_rig *rig)
{
    rig->settings.backend = &other->backend;
    resolve_reload(rig->resolve, &rig->settings);
    assert_int_equal(rig->dns.pending_count, 0); /* those before may be closed now */
    assert_int_equal(rig->dns.fetch_count, 0);
}

/* The next round. */
static void begin(struct resolve_rig *rig)
{
    resolve_rig_pass(rig, 1);
}

static void two_answers(struct resolve_rig *rig)
{
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 old.test");
    fake_dns_add(&rig->dns, "old.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(other, "a.test", DNS_TYPE_MX, "10 new.test");
    fake_dns_add(other, "new.test", DNS_TYPE_A, "192.0.2.2");
    fake_dns_add(other, "old.test", DNS_TYPE_A, "192.0.2.3");
}

static void what_was_remembered_is_asked_of_those_of_now(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    two_answers(rig);
    struct destination *before = rig_resolve(rig, "a.test", &rig_plain);
    reload(rig);
    assert_int_equal(resolve_counters(rig->resolve)->cache_entries, 0);
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &query), -EINPROGRESS);
    fake_dns_answer_all(other);
    assert_string_equal(rig_hosts(query.destination), "10 new.test 192.0.2.2");
    assert_string_equal(rig_hosts(before), "10 old.test 192.0.2.1"); /* who has it keeps it */
    destination_drop(query.destination);
    destination_drop(before);
}

/* At each step: of what the old servers have said nothing gets into the answer. */
static void what_is_under_way_begins_anew_and_all_who_wait_are_told(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query first, second, late;
    two_answers(rig);
    for (unsigned step = 0; step < 2; step++) {
        rig->settings.backend = &rig->dns.backend;
        resolve_reload(rig->resolve, &rig->settings);
        assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &first), -EINPROGRESS);
        assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &second), -EINPROGRESS);
        if (step == 1) {
            fake_dns_answer(&rig->dns); /* old.test is asked for */
        }
        reload(rig);
        assert_int_equal(resolve_counters(rig->resolve)->outstanding, 0);
        assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &late), -EINPROGRESS);
        begin(rig);
        fake_dns_answer_all(other);
        assert_int_equal(first.done_count + second.done_count + late.done_count, 3);
        assert_string_equal(rig_hosts(first.destination), "10 new.test 192.0.2.2");
        assert_int_equal(resolve_counters(rig->resolve)->waiting, 0);
        destination_drop(first.destination);
        destination_drop(second.destination);
        destination_drop(late.destination);
    }
}

static void a_host_and_who_does_not_wait_any_more_begin_anew_too(void **state)
{
    struct resolve_rig *rig = *state;
    const struct resolve_options host = {.port = 26, .host_only = true};
    struct rig_query named, gone;
    two_answers(rig);
    assert_int_equal(rig_ask(rig, "old.test", &host, &named), -EINPROGRESS);
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &gone), -EINPROGRESS);
    reload(rig);
    reload(rig); /* before the first has begun */
    resolve_cancel(rig->resolve, &gone.query);
    begin(rig);
    fake_dns_answer_all(other);
    assert_string_equal(rig_hosts(named.destination), "0 old.test 192.0.2.3");
    assert_int_equal(gone.done_count, 0);
    destination_drop(named.destination);
}

static void a_resolve_that_ends_before_it_begins_anew_tells_nobody(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    assert_int_equal(rig_ask(rig, "a.test", &rig_tls, &query), -EINPROGRESS);
    reload(rig);
    resolve_rig_reopen(rig);
    begin(rig);
    assert_int_equal(query.done_count, 0);
}

/* There is no room to ask of those who would be asked: an answer all the same. */
static void servers_that_take_no_question_are_a_failure_and_no_silence(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &query), -EINPROGRESS);
    other->refusing = true;
    reload(rig);
    begin(rig);
    begin(rig);
    assert_int_equal(query.done_count, 1);
    assert_int_equal(query.destination->status, DESTINATION_TEMPORARY);
    destination_drop(query.destination);
}

/* ---- MTA-STS ---- */

static void with_policy(struct fake_dns *dns)
{
    fake_dns_add(dns, "a.test", DNS_TYPE_MX, "10 mx.a.test");
    fake_dns_add(dns, "mx.a.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(dns, "_mta-sts.a.test", DNS_TYPE_TXT, "v=STSv1; id=1");
    fake_dns_page(dns, "a.test", RESOLVE_FETCH_OK, POLICY);
}

static void a_policy_on_its_way_is_fetched_anew_and_one_that_is_known_stays(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    with_policy(&rig->dns);
    with_policy(other);
    assert_int_equal(rig_ask(rig, "a.test", &rig_tls, &query), -EINPROGRESS);
    fake_dns_answer(&rig->dns);
    fake_dns_answer(&rig->dns);
    assert_int_equal(rig->dns.fetch_count, 1);
    reload(rig);
    begin(rig);
    fake_dns_answer_all(other);
    assert_int_equal(query.destination->mta_sts.mode, DNS_MTA_STS_ENFORCE);
    assert_int_equal(other->fetched, 1);
    destination_drop(query.destination);
    /* Whoever can make us ask elsewhere cannot take it back. */
    fake_dns_remove(other, "_mta-sts.a.test", 0);
    resolve_reload(rig->resolve, &rig->settings);
    assert_int_equal(rig_ask(rig, "a.test", &rig_tls, &query), -EINPROGRESS);
    fake_dns_answer_all(other);
    assert_int_equal(query.destination->mta_sts.mode, DNS_MTA_STS_ENFORCE);
    destination_drop(query.destination);
}

static void policies_are_obeyed_as_long_as_the_settings_say_so(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    with_policy(&rig->dns);
    with_policy(other);
    destination_drop(rig_resolve(rig, "a.test", &rig_tls));
    for (unsigned on = 0; on < 2; on++) {
        rig->settings.mta_sts = on == 1;
        reload(rig);
        assert_int_equal(rig_ask(rig, "a.test", &rig_tls, &query), -EINPROGRESS);
        fake_dns_answer_all(other);
        assert_int_equal(query.destination->mta_sts.mode,
                         on ? DNS_MTA_STS_ENFORCE : DNS_MTA_STS_NONE);
        destination_drop(query.destination);
    }
}

/* ---- Other settings ---- */

static void times_and_bounds_are_those_of_now(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query queries[3];
    fake_dns_add(other, "a.test", DNS_TYPE_A, "192.0.2.1");
    rig->settings.ttl_max_ns = 60 * RIG_SECOND;
    rig->settings.outstanding_max = 1;
    rig->settings.waiting_max = 2;
    rig->settings.cache_bytes = 1; /* nothing is kept */
    reload(rig);
    assert_int_equal(rig_ask(rig, "b.test", &rig_plain, &queries[0]), -EINPROGRESS);
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &queries[1]), -EINPROGRESS);
    assert_int_equal(other->pending_count, 1);
    assert_int_equal(rig_ask(rig, "c.test", &rig_plain, &queries[2]), -ENOBUFS);
    fake_dns_answer_all(other);
    assert_true(queries[1].destination->expires_ns <= rig->now_ns + 60 * RIG_SECOND);
    assert_int_equal(resolve_counters(rig->resolve)->cache_entries, 0);
    destination_drop(queries[0].destination);
    destination_drop(queries[1].destination);
}

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, open_two, close_two)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(what_was_remembered_is_asked_of_those_of_now),
        RIG_TEST(what_is_under_way_begins_anew_and_all_who_wait_are_told),
        RIG_TEST(a_host_and_who_does_not_wait_any_more_begin_anew_too),
        RIG_TEST(a_resolve_that_ends_before_it_begins_anew_tells_nobody),
        RIG_TEST(servers_that_take_no_question_are_a_failure_and_no_silence),
        RIG_TEST(a_policy_on_its_way_is_fetched_anew_and_one_that_is_known_stays),
        RIG_TEST(policies_are_obeyed_as_long_as_the_settings_say_so),
        RIG_TEST(times_and_bounds_are_those_of_now),
    };
    return cmocka_run_group_tests_name("resolve_reload", tests, NULL, NULL);
}
