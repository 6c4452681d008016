#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/resolve/resolve_private.h"
#include "tests/unit/resolve_rig.h"
#include <errno.h>

/* How many questions it takes to resolve this now. */
static unsigned questions_for(struct resolve_rig *rig, const char *domain)
{
    unsigned before = rig->dns.asked;
    destination_drop(rig_resolve(rig, domain, &rig_plain));
    return rig->dns.asked - before;
}

static void what_is_known_is_answered_at_once(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &query), -EINPROGRESS);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(query.done_count, 1);
    destination_drop(query.destination);
    assert_int_equal(rig_ask(rig, "A.TEST", &rig_plain, &query), 0);
    assert_int_equal(query.done_count, 0);
    assert_string_equal(rig_hosts(query.destination), "0 a.test 192.0.2.1");
    destination_drop(query.destination);
    assert_int_equal(resolve_counters(rig->resolve)->queries, 2);
    assert_int_equal(resolve_counters(rig->resolve)->hits, 1);
}

static void answers_live_for_their_ttl(void **state)
{
    struct resolve_rig *rig = *state;
    rig->dns.ttl_s = 300;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 a.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_AAAA, "2001:db8::1");
    rig->dns.ttl_s = 100;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    assert_int_equal(questions_for(rig, "a.test"), 3);
    resolve_rig_pass(rig, 99);
    assert_int_equal(questions_for(rig, "a.test"), 0);
    resolve_rig_pass(rig, 1);
    assert_int_equal(questions_for(rig, "a.test"), 1); /* A alone is too old */
    resolve_rig_pass(rig, 200);
    assert_int_equal(questions_for(rig, "a.test"), 3);
}

static void a_destination_says_when_it_expires(void **state)
{
    struct resolve_rig *rig = *state;
    rig->dns.ttl_s = 300;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 a.test");
    rig->dns.ttl_s = 200;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    assert_int_equal(destination->expires_ns, rig->now_ns + 200 * RIG_SECOND);
    destination_drop(destination);
}

static void the_ttl_is_kept_between_its_floor_and_its_cap(void **state)
{
    struct resolve_rig *rig = *state;
    rig->settings.ttl_min_ns = 10 * RIG_SECOND;
    rig->settings.ttl_max_ns = 1000 * RIG_SECOND;
    resolve_rig_reopen(rig);
    rig->dns.ttl_s = 0;
    fake_dns_add(&rig->dns, "short.test", DNS_TYPE_MX, "0 .");
    rig->dns.ttl_s = 4000000000u;
    fake_dns_add(&rig->dns, "long.test", DNS_TYPE_MX, "0 .");
    assert_int_equal(questions_for(rig, "short.test"), 1);
    assert_int_equal(questions_for(rig, "long.test"), 1);
    resolve_rig_pass(rig, 9);
    assert_int_equal(questions_for(rig, "short.test"), 0);
    resolve_rig_pass(rig, 1);
    assert_int_equal(questions_for(rig, "short.test"), 1);
    resolve_rig_pass(rig, 989);
    assert_int_equal(questions_for(rig, "long.test"), 0);
    resolve_rig_pass(rig, 1);
    assert_int_equal(questions_for(rig, "long.test"), 1);
}

static void what_does_not_exist_is_known_for_the_ttl_of_its_denial(void **state)
{
    struct resolve_rig *rig = *state;
    rig->dns.negative_ttl_s = 60;
    assert_int_equal(questions_for(rig, "a.test"), 1);
    resolve_rig_pass(rig, 59);
    assert_int_equal(questions_for(rig, "a.test"), 0);
    resolve_rig_pass(rig, 1);
    rig->dns.negative_ttl_s = 86400;
    assert_int_equal(questions_for(rig, "a.test"), 1);
    resolve_rig_pass(rig, 599);
    assert_int_equal(questions_for(rig, "a.test"), 0);
    resolve_rig_pass(rig, 1); /* the cap of denials */
    assert_int_equal(questions_for(rig, "a.test"), 1);
}

static void a_failure_is_known_for_a_short_time_only(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_fail(&rig->dns, "a.test", DNS_TYPE_MX, RESOLVE_ANSWER_FAILED);
    assert_int_equal(questions_for(rig, "a.test"), 1);
    resolve_rig_pass(rig, 29);
    assert_int_equal(questions_for(rig, "a.test"), 0);
    fake_dns_remove(&rig->dns, "a.test", 0);
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    resolve_rig_pass(rig, 1);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    assert_string_equal(rig_hosts(destination), "0 a.test 192.0.2.1");
    destination_drop(destination);
    assert_int_equal(resolve_counters(rig->resolve)->failures, 1);
}

static void a_destination_that_is_held_outlives_its_expiry_and_the_cache(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    resolve_forget(rig->resolve);
    resolve_rig_pass(rig, 100000);
    assert_string_equal(rig_hosts(destination), "0 a.test 192.0.2.1");
    destination_drop(destination);
    assert_int_equal(questions_for(rig, "a.test"), 3);
}

/* ---- Many who ask the same ---- */

static void one_question_is_asked_however_many_wait(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query queries[50];
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &queries[i]), -EINPROGRESS);
    }
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(rig->dns.asked, 3);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(queries[i].done_count, 1);
        assert_ptr_equal(queries[i].destination, queries[0].destination);
        destination_drop(queries[i].destination);
    }
}

static void two_domains_with_one_host_ask_for_its_address_once(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query one, two;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.test");
    fake_dns_add(&rig->dns, "b.test", DNS_TYPE_MX, "10 mx.test");
    fake_dns_add(&rig->dns, "mx.test", DNS_TYPE_A, "192.0.2.1");
    rig_ask(rig, "a.test", &rig_plain, &one);
    rig_ask(rig, "b.test", &rig_plain, &two);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(rig->dns.asked, 4); /* MX, MX, A, AAAA */
    assert_string_equal(rig_hosts(one.destination), "10 mx.test 192.0.2.1");
    assert_string_equal(rig_hosts(two.destination), "10 mx.test 192.0.2.1");
    destination_drop(one.destination);
    destination_drop(two.destination);
}

static void a_cancelled_query_is_never_told(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query kept, cancelled;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    rig_ask(rig, "a.test", &rig_plain, &cancelled);
    rig_ask(rig, "a.test", &rig_plain, &kept);
    resolve_cancel(rig->resolve, &cancelled.query);
    resolve_cancel(rig->resolve, &cancelled.query);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(cancelled.done_count, 0);
    assert_int_equal(kept.done_count, 1);
    destination_drop(kept.destination);
    assert_int_equal(resolve_counters(rig->resolve)->waiting, 0);
}

static void what_nobody_waits_for_any_more_is_learned_all_the_same(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    rig_ask(rig, "a.test", &rig_plain, &query);
    resolve_cancel(rig->resolve, &query.query);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &query), 0);
    destination_drop(query.destination);
}

static struct resolve_rig *asked_again_rig;
static struct rig_query asked_again, cancelled_meanwhile;

static void ask_again_when_done(struct resolve_query *query, struct destination *destination)
{
    (void)query;
    destination_drop(destination);
    resolve_cancel(asked_again_rig->resolve, &cancelled_meanwhile.query);
    assert_int_equal(rig_ask(asked_again_rig, "a.test", &rig_plain, &asked_again), 0);
    destination_drop(asked_again.destination);
    assert_int_equal(rig_ask(asked_again_rig, "b.test", &rig_plain, &asked_again), -EINPROGRESS);
}

static void done_may_ask_and_cancel(void **state)
{
    struct resolve_query query = {.done = ask_again_when_done};
    struct destination *destination;
    struct resolve_rig *rig = asked_again_rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    resolve_destination(rig->resolve, slice_text("a.test"), &rig_plain, &query, &destination);
    rig_ask(rig, "a.test", &rig_plain, &cancelled_meanwhile);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(cancelled_meanwhile.done_count, 0);
    assert_int_equal(asked_again.done_count, 1);
    destination_drop(asked_again.destination);
}

/* ---- Bounds ---- */

static void questions_beyond_the_limit_wait_their_turn(void **state)
{
    struct resolve_rig *rig = *state;
    static struct rig_query queries[100];
    rig->settings.outstanding_max = 7;
    resolve_rig_reopen(rig);
    for (unsigned i = 0; i < 100; i++) {
        char domain[32];
        snprintf(domain, sizeof(domain), "d%u.test", i);
        fake_dns_add(&rig->dns, domain, DNS_TYPE_A, "192.0.2.1");
        assert_int_equal(rig_ask(rig, domain, &rig_plain, &queries[i]), -EINPROGRESS);
    }
    assert_int_equal(resolve_counters(rig->resolve)->outstanding, 7);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(rig->dns.pending_max, 7);
    assert_int_equal(resolve_counters(rig->resolve)->outstanding, 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(queries[i].done_count, 1);
        destination_drop(queries[i].destination);
    }
}

static void queries_beyond_the_limit_are_refused(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query one, two, three;
    rig->settings.waiting_max = 2;
    resolve_rig_reopen(rig);
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &one), -EINPROGRESS);
    assert_int_equal(rig_ask(rig, "b.test", &rig_plain, &two), -EINPROGRESS);
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &three), -ENOBUFS);
    assert_int_equal(resolve_counters(rig->resolve)->refused, 1);
    fake_dns_answer_all(&rig->dns);
    destination_drop(one.destination);
    destination_drop(two.destination);
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &three), 0);
    destination_drop(three.destination);
}

static void a_backend_that_takes_no_question_makes_mail_wait(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query query;
    rig->dns.refusing = true;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    assert_int_equal(rig_ask(rig, "a.test", &rig_plain, &query), -EINPROGRESS);
    assert_int_equal(query.done_count, 0);
    resolve_rig_pass(rig, 1);
    assert_int_equal(query.done_count, 1);
    assert_int_equal(query.destination->status, DESTINATION_TEMPORARY);
    destination_drop(query.destination);
    rig->dns.refusing = false; /* and is asked again at the next occasion */
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    assert_int_equal(destination->status, DESTINATION_OK);
    destination_drop(destination);
}

static void the_cache_stays_within_its_bytes_and_forgets_the_unused(void **state)
{
    struct resolve_rig *rig = *state;
    rig->settings.cache_bytes = 64 * 1024;
    resolve_rig_reopen(rig);
    fake_dns_add(&rig->dns, "used.test", DNS_TYPE_MX, "0 .");
    destination_drop(rig_resolve(rig, "used.test", &rig_plain));
    for (unsigned i = 0; i < 1000; i++) {
        char domain[32];
        snprintf(domain, sizeof(domain), "d%u.test", i);
        destination_drop(rig_resolve(rig, domain, &rig_plain));
        assert_in_range(resolve_counters(rig->resolve)->cache_bytes, 1, 64 * 1024);
        assert_int_equal(questions_for(rig, "used.test"), 0);
    }
    assert_true(resolve_counters(rig->resolve)->evicted > 1000);
    assert_int_equal(questions_for(rig, "d999.test"), 0);
    assert_int_equal(questions_for(rig, "d0.test"), 1);
}

static void an_answer_of_ten_thousand_records_is_cut(void **state)
{
    static struct slice records[10000];
    static const struct answer_lives lives = {.ttl_max_ns = RIG_SECOND};
    struct resolve_answer from = {.records = records, .record_count = 10000};
    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        records[i] = slice_of("\300\0\2\1", 4);
    }
    struct answer *answer = answer_new(&from, &lives, 0);
    assert_int_equal(answer->is.record_count, ANSWER_RECORDS_MAX);
    assert_memory_equal(answer->is.records[ANSWER_RECORDS_MAX - 1].bytes, "\300\0\2\1", 4);
    answer_drop(answer);
}

static void closing_forgets_those_who_wait(void **state)
{
    struct resolve_rig *rig = *state;
    struct rig_query one, two, query;
    fake_dns_add(&rig->dns, "b.test", DNS_TYPE_MX, "10 mx.b.test");
    rig_ask(rig, "a.test", &rig_plain, &one);
    rig_ask(rig, "b.test", &rig_tls, &two);
    fake_dns_answer(&rig->dns);
    destination_drop(one.destination);
    fake_dns_answer(&rig->dns);
    rig->dns.refusing = true;
    rig_ask(rig, "c.test", &rig_tls, &query);
    rig->dns.refusing = false;
    resolve_rig_reopen(rig);
    assert_int_equal(rig->dns.pending_count, 0);
    resolve_rig_pass(rig, 10);
    assert_int_equal(two.done_count + query.done_count, 0);
    assert_null(query.query.resolution);
}

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, resolve_rig_open, resolve_rig_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(what_is_known_is_answered_at_once),
        RIG_TEST(answers_live_for_their_ttl),
        RIG_TEST(a_destination_says_when_it_expires),
        RIG_TEST(the_ttl_is_kept_between_its_floor_and_its_cap),
        RIG_TEST(what_does_not_exist_is_known_for_the_ttl_of_its_denial),
        RIG_TEST(a_failure_is_known_for_a_short_time_only),
        RIG_TEST(a_destination_that_is_held_outlives_its_expiry_and_the_cache),
        RIG_TEST(one_question_is_asked_however_many_wait),
        RIG_TEST(two_domains_with_one_host_ask_for_its_address_once),
        RIG_TEST(a_cancelled_query_is_never_told),
        RIG_TEST(what_nobody_waits_for_any_more_is_learned_all_the_same),
        RIG_TEST(done_may_ask_and_cancel),
        RIG_TEST(questions_beyond_the_limit_wait_their_turn),
        RIG_TEST(queries_beyond_the_limit_are_refused),
        RIG_TEST(a_backend_that_takes_no_question_makes_mail_wait),
        RIG_TEST(the_cache_stays_within_its_bytes_and_forgets_the_unused),
        cmocka_unit_test(an_answer_of_ten_thousand_records_is_cut),
        RIG_TEST(closing_forgets_those_who_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
