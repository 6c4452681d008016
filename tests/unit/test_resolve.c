#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/resolve_rig.h"
#include <errno.h>

static void expect_failure(const struct destination *destination, enum destination_status status,
                           uint16_t code, const char *enhanced)
{
    char text[16];
    assert_string_equal(destination_status_name(destination->status),
                        destination_status_name(status));
    snprintf(text, sizeof(text), "%u.%u.%u", destination->enhanced_class,
             destination->enhanced_subject, destination->enhanced_detail);
    assert_string_equal(text, enhanced);
    assert_int_equal(destination->reply_code, code);
    assert_int_equal(destination->host_count, 0);
    assert_int_equal(destination->site_key, 0);
    assert_true(strlen(destination->text) > 0);
}

static void hosts_come_by_preference_with_their_addresses(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 backup.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 MX.a.test");
    fake_dns_add(&rig->dns, "mx.a.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(&rig->dns, "mx.a.test", DNS_TYPE_AAAA, "2001:db8::1");
    fake_dns_add(&rig->dns, "backup.test", DNS_TYPE_A, "192.0.2.2");
    struct destination *destination = rig_resolve(rig, "A.Test.", &rig_plain);
    assert_int_equal(destination->status, DESTINATION_OK);
    assert_string_equal(destination->domain, "a.test");
    assert_string_equal(rig_hosts(destination),
                        "10 mx.a.test 2001:db8::1 192.0.2.1; 20 backup.test 192.0.2.2");
    assert_int_equal(destination->hosts[0].addresses[0].port, 25);
    assert_false(destination->implicit_mx);
    assert_false(destination->mx_secure);
    assert_int_not_equal(destination->site_key, 0);
    destination_drop(destination);
}

static void a_domain_without_mx_records_is_its_own_host(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    assert_string_equal(rig_hosts(destination), "0 a.test 192.0.2.1");
    assert_true(destination->implicit_mx);
    destination_drop(destination);
}

static void a_domain_that_does_not_exist_fails_for_good(void **state)
{
    struct destination *destination = rig_resolve(*state, "nowhere.test", &rig_plain);
    expect_failure(destination, DESTINATION_NO_DOMAIN, 550, "5.1.2");
    assert_non_null(strstr(destination->text, "nowhere.test"));
    destination_drop(destination);
}

static void a_null_mx_refuses_mail_whatever_addresses_there_are(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "0 .");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    expect_failure(destination, DESTINATION_NULL_MX, 556, "5.1.10");
    destination_drop(destination);
}

static void mx_hosts_without_address_do_not_make_the_domain_its_own_host(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.a.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    expect_failure(destination, DESTINATION_NO_ADDRESS, 550, "5.4.4");
    destination_drop(destination);
}

static void malformed_mx_records_do_not_make_the_domain_its_own_host(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add_raw(&rig->dns, "a.test", DNS_TYPE_MX, slice_of("\0\12\300\14", 4));
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    expect_failure(destination, DESTINATION_NO_ADDRESS, 550, "5.4.4");
    assert_int_equal(resolve_counters(rig->resolve)->malformed, 1);
    destination_drop(destination);
}

static void a_failed_mx_lookup_waits_and_does_not_try_the_domain(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_fail(&rig->dns, "a.test", DNS_TYPE_MX, RESOLVE_ANSWER_FAILED);
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    expect_failure(destination, DESTINATION_TEMPORARY, 451, "4.4.3");
    assert_int_equal(rig->dns.asked, 1);
    destination_drop(destination);
}

static void a_bogus_answer_waits_and_says_so(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_fail(&rig->dns, "a.test", DNS_TYPE_MX, RESOLVE_ANSWER_BOGUS);
    fake_dns_add(&rig->dns, "b.test", DNS_TYPE_MX, "10 mx.b.test");
    fake_dns_fail(&rig->dns, "mx.b.test", DNS_TYPE_A, RESOLVE_ANSWER_BOGUS);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    expect_failure(destination, DESTINATION_BOGUS, 451, "4.7.0");
    destination_drop(destination);
    destination = rig_resolve(rig, "b.test", &rig_plain);
    expect_failure(destination, DESTINATION_BOGUS, 451, "4.7.0");
    destination_drop(destination);
}

static void a_host_whose_lookup_failed_leaves_the_others(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.a.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 backup.test");
    fake_dns_fail(&rig->dns, "mx.a.test", DNS_TYPE_A, RESOLVE_ANSWER_FAILED);
    fake_dns_add(&rig->dns, "backup.test", DNS_TYPE_A, "192.0.2.2");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    assert_string_equal(rig_hosts(destination), "10 mx.a.test !; 20 backup.test 192.0.2.2");
    destination_drop(destination);
}

static void when_every_lookup_failed_mail_waits(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.a.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 gone.test");
    fake_dns_fail(&rig->dns, "mx.a.test", DNS_TYPE_A, RESOLVE_ANSWER_FAILED);
    fake_dns_fail(&rig->dns, "mx.a.test", DNS_TYPE_AAAA, RESOLVE_ANSWER_FAILED);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    expect_failure(destination, DESTINATION_TEMPORARY, 451, "4.4.3");
    destination_drop(destination);
}

static void one_family_that_fails_leaves_the_other(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_fail(&rig->dns, "a.test", DNS_TYPE_AAAA, RESOLVE_ANSWER_FAILED);
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    assert_string_equal(rig_hosts(destination), "0 a.test 192.0.2.1");
    destination_drop(destination);
}

static void aliases_of_domains_and_of_hosts_are_followed(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "alias.test", DNS_TYPE_CNAME, "a.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.a.test");
    fake_dns_add(&rig->dns, "mx.a.test", DNS_TYPE_CNAME, "real.test");
    fake_dns_add(&rig->dns, "real.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "alias.test", &rig_plain);
    assert_string_equal(rig_hosts(destination), "10 mx.a.test 192.0.2.1");
    destination_drop(destination);
}

/* ---- Loops ---- */

static void our_own_name_and_what_is_behind_it_are_cut_off(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 better.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 equal.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 us.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "30 worse.test");
    fake_dns_add(&rig->dns, "better.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(&rig->dns, "equal.test", DNS_TYPE_A, "192.0.2.2");
    fake_dns_add(&rig->dns, "us.test", DNS_TYPE_A, "192.0.2.3");
    fake_dns_add(&rig->dns, "worse.test", DNS_TYPE_A, "192.0.2.4");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_string_equal(rig_hosts(destination), "10 better.test 192.0.2.1");
    destination_drop(destination);
}

static void the_best_host_being_ourselves_is_a_loop(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 us.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 other.test");
    fake_dns_add(&rig->dns, "other.test", DNS_TYPE_A, "192.0.2.4");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    expect_failure(destination, DESTINATION_LOOP, 554, "5.4.6");
    destination_drop(destination);
}

static void our_own_address_under_another_name_is_a_loop(void **state)
{
    struct resolve_rig *rig = *state;
    struct endpoint own[2];
    assert_int_equal(endpoint_parse(&own[0], slice_text("192.0.2.9:25")), 0);
    assert_int_equal(endpoint_parse(&own[1], slice_text("[2001:db8::9]:2525")), 0);
    rig->settings.own = own;
    rig->settings.own_count = 2;
    resolve_rig_reopen(rig);
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.9");
    fake_dns_add(&rig->dns, "b.test", DNS_TYPE_AAAA, "2001:db8::9");
    fake_dns_add(&rig->dns, "c.test", DNS_TYPE_MX, "10 mx.c.test");
    fake_dns_add(&rig->dns, "c.test", DNS_TYPE_MX, "20 a.test");
    fake_dns_add(&rig->dns, "mx.c.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    expect_failure(destination, DESTINATION_LOOP, 554, "5.4.6");
    destination_drop(destination);
    destination = rig_resolve(rig, "b.test", &rig_plain); /* we listen there, on another port */
    assert_string_equal(rig_hosts(destination), "0 b.test 2001:db8::9");
    destination_drop(destination);
    destination = rig_resolve(rig, "c.test", &rig_plain);
    assert_string_equal(rig_hosts(destination), "10 mx.c.test 192.0.2.1");
    destination_drop(destination);
    destination = rig_resolve(rig, "[192.0.2.9]", &rig_plain);
    expect_failure(destination, DESTINATION_LOOP, 554, "5.4.6");
    destination_drop(destination);
}

/* Whoever has the domain decides what its MX host's address is: 127.0.0.1 would be us, or whatever trusts this machine. */
static void a_loopback_address_at_a_port_where_we_listen_is_a_loop(void **state)
{
    struct resolve_rig *rig = *state;
    const struct resolve_options elsewhere = {.port = 2525};
    struct endpoint own;
    assert_int_equal(endpoint_parse(&own, slice_text("192.0.2.9:25")), 0);
    rig->settings.own = &own;
    rig->settings.own_count = 1;
    resolve_rig_reopen(rig);
    static const char *const addresses[] = {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"};
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        bool ipv4 = strchr(addresses[i], ':') == NULL;
        char domain[32];
        snprintf(domain, sizeof(domain), "d%zu.test", i);
        fake_dns_add(&rig->dns, domain, DNS_TYPE_MX, "10 us.d.test");
        fake_dns_remove(&rig->dns, "us.d.test", 0);
        fake_dns_add(&rig->dns, "us.d.test", ipv4 ? DNS_TYPE_A : DNS_TYPE_AAAA, addresses[i]);
        resolve_rig_pass(rig, 86400);
        struct destination *destination = rig_resolve(rig, domain, &rig_plain);
        expect_failure(destination, DESTINATION_LOOP, 554, "5.4.6");
        destination_drop(destination);
    }
    struct destination *destination = rig_resolve(rig, "d0.test", &elsewhere);
    assert_int_equal(destination->status, DESTINATION_OK);
    destination_drop(destination);
    destination = rig_resolve(rig, "[127.0.0.2]", &rig_plain);
    expect_failure(destination, DESTINATION_LOOP, 554, "5.4.6");
    destination_drop(destination);
}

static void addresses_of_no_host_are_none(void **state)
{
    struct resolve_rig *rig = *state;
    static const char *const addresses[] = {"0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1",
                                            "::",      "ff02::1", "::ffff:0.0.0.0",  "fe80::1"};
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        bool ipv4 = strchr(addresses[i], ':') == NULL;
        char domain[32];
        snprintf(domain, sizeof(domain), "d%zu.test", i);
        fake_dns_add(&rig->dns, domain, ipv4 ? DNS_TYPE_A : DNS_TYPE_AAAA, addresses[i]);
        struct destination *destination = rig_resolve(rig, domain, &rig_plain);
        expect_failure(destination, DESTINATION_NO_ADDRESS, 550, "5.4.4");
        destination_drop(destination);
    }
}

/* ---- Families ---- */

static void the_family_preference_orders_addresses(void **state)
{
    struct resolve_rig *rig = *state;
    static const struct {
        enum resolve_family family;
        const char *hosts;
    } cases[] = {
        {RESOLVE_ANY, "0 a.test 2001:db8::1 192.0.2.1"},
        {RESOLVE_IPV4_FIRST, "0 a.test 192.0.2.1 2001:db8::1"},
        {RESOLVE_IPV6_FIRST, "0 a.test 2001:db8::1 192.0.2.1"},
        {RESOLVE_IPV4_ONLY, "0 a.test 192.0.2.1"},
        {RESOLVE_IPV6_ONLY, "0 a.test 2001:db8::1"},
    };
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_AAAA, "2001:db8::1");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct resolve_options options = {.family = cases[i].family, .port = 25};
        struct destination *destination = rig_resolve(rig, "a.test", &options);
        assert_string_equal(rig_hosts(destination), cases[i].hosts);
        destination_drop(destination);
    }
}

static void a_family_that_may_not_be_used_is_not_asked_for(void **state)
{
    struct resolve_rig *rig = *state;
    struct resolve_options options = {.family = RESOLVE_IPV6_ONLY, .port = 25};
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &options);
    expect_failure(destination, DESTINATION_NO_ADDRESS, 550, "5.4.4");
    assert_int_equal(rig->dns.asked, 2); /* MX, AAAA */
    destination_drop(destination);
}

static void many_addresses_leave_room_for_both_families(void **state)
{
    struct resolve_rig *rig = *state;
    for (unsigned i = 1; i <= 40; i++) {
        char text[32];
        snprintf(text, sizeof(text), "192.0.2.%u", i);
        fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, text);
    }
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_AAAA, "2001:db8::1");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_AAAA, "2001:db8::2");
    struct resolve_options options = {.family = RESOLVE_IPV4_FIRST, .port = 25};
    struct destination *destination = rig_resolve(rig, "a.test", &options);
    assert_int_equal(destination->hosts[0].address_count, DNS_ADDRESSES_MAX);
    for (unsigned i = 0; i < DNS_ADDRESSES_MAX; i++) {
        assert_int_equal(destination->hosts[0].addresses[i].family,
                         i < 14 ? ENDPOINT_IPV4 : ENDPOINT_IPV6);
    }
    destination_drop(destination);
}

/* ---- Names ---- */

static void names_are_looked_up_in_a_labels(void **state)
{
    struct resolve_rig *rig = *state;
    fake_dns_add(&rig->dns, "xn--bcher-kva.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "B\303\274cher.Test", &rig_plain);
    assert_string_equal(destination->domain, "xn--bcher-kva.test");
    assert_string_equal(rig_hosts(destination), "0 xn--bcher-kva.test 192.0.2.1");
    destination_drop(destination);
}

static void what_is_no_domain_name_fails_without_a_question(void **state)
{
    struct resolve_rig *rig = *state;
    static const char *const wrong[] = {
        "",
        ".",
        "a..test",
        "-\303\274-.test",
        "a b.test",
        "192.0.2.1",
        "a.42",
        "[192.0.2]",
        "[]",
        "[IPv6:192.0.2.1]",
        "[2001:db8::1]",
        "[fe80::1%eth0]",
        "[192.0.2.0/24]",
        "\377.test",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct destination *destination = rig_resolve(rig, wrong[i], &rig_plain);
        expect_failure(destination, DESTINATION_BAD_NAME, 550, "5.1.2");
        destination_drop(destination);
    }
    assert_int_equal(rig->dns.asked, 0);
}

static void an_address_literal_is_its_own_host(void **state)
{
    struct resolve_rig *rig = *state;
    struct destination *destination = rig_resolve(rig, "[192.0.2.1]", &rig_tls);
    assert_string_equal(rig_hosts(destination), "0 [192.0.2.1] 192.0.2.1");
    assert_int_equal(destination->hosts[0].addresses[0].port, 25);
    destination_drop(destination);
    destination = rig_resolve(rig, "[ipv6:2001:DB8::1]", &rig_tls);
    assert_string_equal(rig_hosts(destination), "0 [ipv6:2001:db8::1] 2001:db8::1");
    destination_drop(destination);
    assert_int_equal(rig->dns.asked, 0);
}

static void a_host_is_looked_up_without_its_mx_records(void **state)
{
    struct resolve_rig *rig = *state;
    struct resolve_options options = {.port = 587, .host_only = true};
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 mx.a.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &options);
    assert_string_equal(rig_hosts(destination), "0 a.test 192.0.2.1");
    assert_int_equal(destination->hosts[0].addresses[0].port, 587);
    destination_drop(destination);
}

/* A filter, or a mail store, beside the relay. */
static void a_host_of_our_name_is_ourselves_only_where_we_listen(void **state)
{
    struct resolve_rig *rig = *state;
    struct resolve_options options = {.port = 10025, .host_only = true};
    struct endpoint own;
    assert_int_equal(endpoint_parse(&own, slice_text("192.0.2.99:25")), 0);
    rig->settings.own = &own;
    rig->settings.own_count = 1;
    resolve_rig_reopen(rig);
    fake_dns_add(&rig->dns, "us.test", DNS_TYPE_A, "192.0.2.99");
    struct destination *destination = rig_resolve(rig, "us.test", &options);
    assert_string_equal(rig_hosts(destination), "0 us.test 192.0.2.99");
    destination_drop(destination);
    options.port = 25;
    destination = rig_resolve(rig, "us.test", &options);
    assert_int_equal(destination->status, DESTINATION_LOOP);
    destination_drop(destination);
}

/* ---- Sites ---- */

static void domains_with_the_same_hosts_are_one_site(void **state)
{
    struct resolve_rig *rig = *state;
    static const struct {
        const char *domain, *first, *second;
    } cases[] = {
        {"a.test", "10 one.test", "20 two.test"},   {"b.test", "5 One.test", "50 two.test"},
        {"c.test", "20 one.test", "10 two.test"},   {"d.test", "10 one.test", "10 two.test"},
        {"e.test", "10 one.test", "20 three.test"},
    };
    struct destination *destinations[5];
    for (size_t i = 0; i < 5; i++) {
        fake_dns_add(&rig->dns, cases[i].domain, DNS_TYPE_MX, cases[i].first);
        fake_dns_add(&rig->dns, cases[i].domain, DNS_TYPE_MX, cases[i].second);
    }
    fake_dns_add(&rig->dns, "one.test", DNS_TYPE_A, "192.0.2.1");
    fake_dns_add(&rig->dns, "two.test", DNS_TYPE_A, "192.0.2.2");
    for (size_t i = 0; i < 5; i++) {
        destinations[i] = rig_resolve(rig, cases[i].domain, &rig_plain);
        assert_int_equal(destination_same_site(destinations[0], destinations[i]), i < 2);
        assert_int_equal(destinations[0]->site_key == destinations[i]->site_key, i < 2);
    }
    struct resolve_options options = {.family = RESOLVE_ANY, .port = 26};
    struct destination *elsewhere = rig_resolve(rig, "a.test", &options);
    assert_false(destination_same_site(destinations[0], elsewhere));
    assert_int_not_equal(destinations[0]->site_key, elsewhere->site_key);
    destination_drop(elsewhere);
    for (size_t i = 0; i < 5; i++) {
        destination_drop(destinations[i]);
    }
}

static void each_delivery_may_try_equals_in_another_order(void **state)
{
    struct resolve_rig *rig = *state;
    unsigned first[4] = {0};
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 one.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "10 two.test");
    fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, "20 three.test");
    fake_dns_add(&rig->dns, "one.test", DNS_TYPE_A, "192.0.2.1");
    struct destination *destination = rig_resolve(rig, "a.test", &rig_plain);
    for (uint64_t random = 0; random < 100; random++) {
        uint8_t order[DNS_EXCHANGERS_MAX];
        destination_order(destination, random, order);
        assert_int_equal(order[2], 2);
        first[order[0]]++;
    }
    assert_in_range(first[0], 30, 70);
    assert_in_range(first[1], 30, 70);
    destination_drop(destination);
}

static void a_hundred_hosts_with_sixteen_addresses_each_are_the_most(void **state)
{
    struct resolve_rig *rig = *state;
    for (unsigned i = 0; i < 120; i++) {
        char text[64];
        snprintf(text, sizeof(text), "%u mx%u.test", i, i);
        fake_dns_add(&rig->dns, "a.test", DNS_TYPE_MX, text);
    }
    for (unsigned i = 0; i < 30; i++) {
        char text[64];
        snprintf(text, sizeof(text), "192.0.2.%u", i);
        fake_dns_add(&rig->dns, "mx0.test", DNS_TYPE_A, text);
    }
    struct destination *destination = rig_resolve(rig, "a.test", &rig_tls);
    assert_int_equal(destination->host_count, DNS_EXCHANGERS_MAX);
    assert_int_equal(destination->hosts[0].address_count, DNS_ADDRESSES_MAX);
    destination_drop(destination);
}

#define RIG_TEST(test) cmocka_unit_test_setup_teardown(test, resolve_rig_open, resolve_rig_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(hosts_come_by_preference_with_their_addresses),
        RIG_TEST(a_domain_without_mx_records_is_its_own_host),
        RIG_TEST(a_domain_that_does_not_exist_fails_for_good),
        RIG_TEST(a_null_mx_refuses_mail_whatever_addresses_there_are),
        RIG_TEST(mx_hosts_without_address_do_not_make_the_domain_its_own_host),
        RIG_TEST(malformed_mx_records_do_not_make_the_domain_its_own_host),
        RIG_TEST(a_failed_mx_lookup_waits_and_does_not_try_the_domain),
        RIG_TEST(a_bogus_answer_waits_and_says_so),
        RIG_TEST(a_host_whose_lookup_failed_leaves_the_others),
        RIG_TEST(when_every_lookup_failed_mail_waits),
        RIG_TEST(one_family_that_fails_leaves_the_other),
        RIG_TEST(aliases_of_domains_and_of_hosts_are_followed),
        RIG_TEST(our_own_name_and_what_is_behind_it_are_cut_off),
        RIG_TEST(the_best_host_being_ourselves_is_a_loop),
        RIG_TEST(our_own_address_under_another_name_is_a_loop),
        RIG_TEST(a_loopback_address_at_a_port_where_we_listen_is_a_loop),
        RIG_TEST(addresses_of_no_host_are_none),
        RIG_TEST(the_family_preference_orders_addresses),
        RIG_TEST(a_family_that_may_not_be_used_is_not_asked_for),
        RIG_TEST(many_addresses_leave_room_for_both_families),
        RIG_TEST(names_are_looked_up_in_a_labels),
        RIG_TEST(what_is_no_domain_name_fails_without_a_question),
        RIG_TEST(an_address_literal_is_its_own_host),
        RIG_TEST(a_host_is_looked_up_without_its_mx_records),
        RIG_TEST(a_host_of_our_name_is_ourselves_only_where_we_listen),
        RIG_TEST(domains_with_the_same_hosts_are_one_site),
        RIG_TEST(each_delivery_may_try_equals_in_another_order),
        RIG_TEST(a_hundred_hosts_with_sixteen_addresses_each_are_the_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
