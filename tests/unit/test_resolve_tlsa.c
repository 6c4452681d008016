#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/resolve_rig.h"

#define DIGEST "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define USABLE "3 1 1 " DIGEST

/* A domain with one host, in zones of their own: a.test and host.test. */
static void make_domain(struct resolve_rig *rig)
{
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.host.test");
    fake_dns_add(&rig->dns, "mx.host.test", DNS_TYPE_A, "192.0.2.1");
}

static struct destination *resolve_one(struct resolve_rig *rig, enum destination_tlsa tlsa)
{
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_int_equal(destination->status, DESTINATION_OK);
    assert_int_equal(destination->host_count, 1);
    assert_int_equal(destination->hosts[0].tlsa, tlsa);
    assert_int_equal(destination->hosts[0].tlsa_count > 0, tlsa == DESTINATION_TLSA_USABLE);
    return destination;
}

static void validated_records_of_a_host_must_be_matched(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, "0 0 1 " DIGEST);
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_USABLE);
    const struct destination_host *host = &destination->hosts[0];
    assert_true(destination->mx_secure);
    assert_true(host->secure);
    assert_string_equal(host->tlsa_base, "mx.host.test");
    assert_int_equal(host->tlsa_count, 1);
    assert_int_equal(host->tlsa_records[0].usage, DNS_TLSA_DANE_EE);
    assert_int_equal(host->tlsa_records[0].data.size, 32);
    assert_int_equal(host->tlsa_records[0].data.bytes[31], 0x1f);
    destination_drop(destination);
}

static void the_records_belong_to_the_port(void **state)
{
    struct resolve_rig *rig = *state;
    const struct resolve_options options = {.port = 587, .tls_policy = true, .host_only = true};
    make_domain(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    struct destination *destination = rig_resolve(rig, "mx.host.test", &options);
    assert_int_equal(destination->hosts[0].tlsa, DESTINATION_TLSA_NONE);
    destination_drop(destination);
    fake_dns_add(&rig->dns, "_587._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    resolve_forget(rig->resolve);
    destination = rig_resolve(rig, "mx.host.test", &options);
    assert_int_equal(destination->hosts[0].tlsa, DESTINATION_TLSA_USABLE);
    destination_drop(destination);
}

static void records_of_which_none_is_usable_still_require_tls(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, "1 1 1 " DIGEST);
    destination_drop(resolve_one(rig, DESTINATION_TLSA_UNUSABLE));
}

static void malformed_records_still_require_tls(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add_raw(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, slice_of("\3\1", 2));
    destination_drop(resolve_one(rig, DESTINATION_TLSA_UNUSABLE));
}

static void a_host_without_records_is_not_concerned(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_sign(&rig->dns, "test");
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_NONE);
    assert_true(destination->hosts[0].secure);
    destination_drop(destination);
}

static void records_below_unvalidated_mx_records_are_not_asked_for(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_sign(&rig->dns, "host.test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_NONE);
    assert_false(destination->mx_secure);
    assert_false(destination->hosts[0].secure);
    assert_int_equal(rig->dns.asked, 4); /* MX, TXT, A, AAAA */
    destination_drop(destination);
}

static void records_of_unvalidated_addresses_are_not_asked_for(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_sign(&rig->dns, "a.test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_NONE);
    assert_true(destination->mx_secure);
    assert_false(destination->hosts[0].secure);
    assert_int_equal(rig->dns.asked, 4);
    destination_drop(destination);
}

static void a_lookup_that_fails_takes_the_host_out_for_now(void **state)
{
    struct resolve_rig *rig = *state;
    static const enum resolve_answer_status failures[] = {RESOLVE_ANSWER_FAILED,
                                                          RESOLVE_ANSWER_BOGUS};
    make_domain(rig);
    fake_dns_sign(&rig->dns, "test");
    for (size_t i = 0; i < 2; i++) {
        fake_dns_remove(&rig->dns, "_25._tcp.mx.host.test", 0);
        fake_dns_fail(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, failures[i]);
        resolve_forget(rig->resolve);
        struct destination *destination = resolve_one(rig, DESTINATION_TLSA_FAILED);
        assert_int_equal(destination->expires_ns, rig->now_ns + 30 * RIG_SECOND);
        destination_drop(destination);
    }
}

static void the_domain_itself_as_host_has_records_too(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(&rig->dns, "_25._tcp.a.test", DNS_TYPE_TLSA, USABLE);
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_USABLE);
    assert_true(destination->implicit_mx);
    assert_true(destination->mx_secure);
    destination_drop(destination);
}

/* ---- Aliases: RFC 7672 §2.2.2 ---- */

static void make_alias(struct resolve_rig *rig)
{
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.host.test");
    fake_dns_add(&rig->dns, "mx.host.test", DNS_TYPE_CNAME, "real.other.test");
    fake_dns_add(&rig->dns, "real.other.test", DNS_TYPE_A, "192.0.2.1");
}

static void the_end_of_validated_aliases_is_the_base_domain(void **state)
{
    struct resolve_rig *rig = *state;
    make_alias(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add(&rig->dns, "_25._tcp.real.other.test", DNS_TYPE_TLSA, USABLE);
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, "1 1 1 " DIGEST);
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_USABLE);
    assert_string_equal(destination->hosts[0].tlsa_base, "real.other.test");
    assert_string_equal(destination->hosts[0].name, "mx.host.test");
    destination_drop(destination);
}

static void without_records_there_those_of_the_first_name_count(void **state)
{
    struct resolve_rig *rig = *state;
    make_alias(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_USABLE);
    assert_string_equal(destination->hosts[0].tlsa_base, "mx.host.test");
    destination_drop(destination);
}

static void a_failure_at_the_end_is_not_made_good_by_the_first_name(void **state)
{
    struct resolve_rig *rig = *state;
    make_alias(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_fail(&rig->dns, "_25._tcp.real.other.test", DNS_TYPE_TLSA, RESOLVE_ANSWER_FAILED);
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    destination_drop(resolve_one(rig, DESTINATION_TLSA_FAILED));
}

static void a_validated_alias_into_an_unsigned_zone_leaves_the_first_name(void **state)
{
    struct resolve_rig *rig = *state;
    make_alias(rig);
    fake_dns_sign(&rig->dns, "a.test");
    fake_dns_sign(&rig->dns, "host.test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    fake_dns_add(&rig->dns, "_25._tcp.real.other.test", DNS_TYPE_TLSA, "3 1 2 00");
    struct destination *destination = resolve_one(rig, DESTINATION_TLSA_USABLE);
    assert_string_equal(destination->hosts[0].tlsa_base, "mx.host.test");
    assert_false(destination->hosts[0].secure);
    destination_drop(destination);
}

static void an_alias_whose_own_lookup_fails_takes_the_host_out(void **state)
{
    struct resolve_rig *rig = *state;
    make_alias(rig);
    fake_dns_sign(&rig->dns, "a.test");
    struct rig_query query;
    rig_ask(rig, "a.test", &rig_tls, &query);
    while (rig->dns.pending[0]->type != DNS_TYPE_CNAME) {
        fake_dns_answer(&rig->dns);
    }
    fake_dns_remove(&rig->dns, "mx.host.test", 0);
    fake_dns_fail(&rig->dns, "mx.host.test", DNS_TYPE_CNAME, RESOLVE_ANSWER_BOGUS);
    fake_dns_answer_all(&rig->dns);
    assert_int_equal(query.destination->hosts[0].tlsa, DESTINATION_TLSA_FAILED);
    destination_drop(query.destination);
}

static void without_the_wish_for_tls_nothing_of_it_is_asked(void **state)
{
    struct resolve_rig *rig = *state;
    make_domain(rig);
    fake_dns_sign(&rig->dns, "test");
    fake_dns_add(&rig->dns, "_25._tcp.mx.host.test", DNS_TYPE_TLSA, USABLE);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    assert_int_equal(destination->hosts[0].tlsa, DESTINATION_TLSA_NONE);
    assert_int_equal(rig->dns.asked, 3);
    destination_drop(destination);
}

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, resolve_rig_open, resolve_rig_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(validated_records_of_a_host_must_be_matched),
        RIG_TEST(the_records_belong_to_the_port),
        RIG_TEST(records_of_which_none_is_usable_still_require_tls),
        RIG_TEST(malformed_records_still_require_tls),
        RIG_TEST(a_host_without_records_is_not_concerned),
        RIG_TEST(records_below_unvalidated_mx_records_are_not_asked_for),
        RIG_TEST(records_of_unvalidated_addresses_are_not_asked_for),
        RIG_TEST(a_lookup_that_fails_takes_the_host_out_for_now),
        RIG_TEST(the_domain_itself_as_host_has_records_too),
        RIG_TEST(the_end_of_validated_aliases_is_the_base_domain),
        RIG_TEST(without_records_there_those_of_the_first_name_count),
        RIG_TEST(a_failure_at_the_end_is_not_made_good_by_the_first_name),
        RIG_TEST(a_validated_alias_into_an_unsigned_zone_leaves_the_first_name),
        RIG_TEST(an_alias_whose_own_lookup_fails_takes_the_host_out),
        RIG_TEST(without_the_wish_for_tls_nothing_of_it_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
