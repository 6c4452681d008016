/* What domains demand of TLS, through a whole relay by MX: only the mail of who demands it waits. */
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROUTE(level) "\n  - {match: \"*\", via: mx, tls: " level "}\n"
#define POLICY(mode, host) "version: STSv1\r\nmode: " mode "\r\nmx: " host "\r\nmax_age: 86400\r\n"

static struct relay_tls tls;
static const uint8_t secret[TLS_SECRET_BYTES] = {1};

/* healthy.test and strict.test have the same hosts, which do not offer TLS. */
static struct relay_rig *open_neighbours(const char *route)
{
    struct relay_rig *rig = relay_rig_open(route);
    rig->resolve_settings.mta_sts = true;
    rig_restart(rig);
    assert_int_equal(relay_tls_open(&tls, &rig->shard, rig->conf, secret), 0);
    rig->relay->tls = &tls;
    rig_mx(rig, "healthy.test", 10, "mx.hosts.test", 300);
    rig_mx(rig, "strict.test", 10, "mx.hosts.test", 300);
    rig_a(rig, "mx.hosts.test", "192.0.2.1", 300);
    rig_serve(rig, "192.0.2.1:25");
    return rig;
}

static void close_neighbours(struct relay_rig *rig)
{
    relay_rig_close(rig);
    relay_tls_close(&tls);
}

/* Posts to both; is that to strict.test delivered? That to its neighbour is, whatever strict.test says. */
static bool strict_is_delivered(struct relay_rig *rig)
{
    rig_post(rig, "s@relay.test", "u@strict.test");
    rig_post(rig, "s@relay.test", "u@healthy.test");
    assert_non_null(rig_letter_for(rig, "u@healthy.test"));
    bool delivered = rig_letter_for(rig, "u@strict.test") != NULL;
    assert_int_equal(rig_waiting(rig), delivered ? 0 : 1);
    return delivered;
}

static void a_policy_that_names_other_hosts_holds_up_its_own_domain_only(void **state)
{
    (void)state;
    struct relay_rig *rig = open_neighbours(ROUTE("opportunistic"));
    rig_policy(rig, "strict.test", POLICY("enforce", "mx.elsewhere.test"));
    assert_false(strict_is_delivered(rig));
    assert_true(rig_log_says(rig, "dsn=4.7.5, status=deferred (the domain's MTA-STS policy does "
                                  "not name this host)"));
    close_neighbours(rig);
}

static void a_policy_that_is_enforced_is_not_served_in_the_clear(void **state)
{
    (void)state;
    struct relay_rig *rig = open_neighbours(ROUTE("opportunistic"));
    rig_policy(rig, "strict.test", POLICY("enforce", "*.hosts.test"));
    assert_false(strict_is_delivered(rig));
    assert_true(rig_log_says(rig, "4.7.4 TLS is required, but was not offered"));
    close_neighbours(rig);
}

static void a_policy_in_testing_refuses_nothing(void **state)
{
    (void)state;
    struct relay_rig *rig = open_neighbours(ROUTE("opportunistic"));
    rig_policy(rig, "strict.test", POLICY("testing", "mx.elsewhere.test"));
    assert_true(strict_is_delivered(rig));
    close_neighbours(rig);
}

static void a_policy_that_cannot_be_fetched_is_none(void **state)
{
    (void)state;
    struct relay_rig *rig = open_neighbours(ROUTE("opportunistic"));
    rig_policy(rig, "strict.test", POLICY("enforce", "mx.elsewhere.test"));
    rig->policy_domain = NULL;
    assert_true(strict_is_delivered(rig));
    close_neighbours(rig);
}

/* Of strict.test the MX records are validated, of its neighbour they are not: RFC 7672 §2.2.1. */
static struct relay_rig *open_secure(const char *route)
{
    struct relay_rig *rig = open_neighbours(route);
    rig->secure_below = "hosts.test";
    rig_dns_forget(rig, "strict.test");
    rig_mx(rig, "strict.hosts.test", 10, "mx.hosts.test", 300);
    return rig;
}

static bool secure_is_delivered(struct relay_rig *rig)
{
    rig_post(rig, "s@relay.test", "u@strict.hosts.test");
    rig_post(rig, "s@relay.test", "u@healthy.test");
    assert_non_null(rig_letter_for(rig, "u@healthy.test"));
    return rig_letter_for(rig, "u@strict.hosts.test") != NULL;
}

static void a_host_with_tlsa_records_gets_no_mail_of_secure_domains_in_the_clear(void **state)
{
    (void)state;
    struct relay_rig *rig = open_secure(ROUTE("opportunistic"));
    rig_tlsa(rig, "_25._tcp.mx.hosts.test");
    assert_false(secure_is_delivered(rig));
    assert_true(rig_log_says(rig, "4.7.4 TLS is required, but was not offered"));
    close_neighbours(rig);
}

static void without_tlsa_records_a_secure_domain_is_as_any_other(void **state)
{
    (void)state;
    struct relay_rig *rig = open_secure(ROUTE("opportunistic"));
    assert_true(secure_is_delivered(rig));
    close_neighbours(rig);
}

static void a_host_whose_records_cannot_be_looked_up_is_passed_over(void **state)
{
    (void)state;
    struct relay_rig *rig = open_secure(ROUTE("opportunistic"));
    rig_dns_status(rig, "_25._tcp.mx.hosts.test", DNS_TYPE_TLSA, RESOLVE_ANSWER_FAILED);
    assert_false(secure_is_delivered(rig));
    assert_true(rig_log_says(rig, "dsn=4.7.5, status=deferred (the host's TLSA records cannot be "
                                  "looked up)"));
    /* Another host can be. */
    rig_mx(rig, "two.hosts.test", 10, "mx.hosts.test", 300);
    rig_mx(rig, "two.hosts.test", 20, "mx2.hosts.test", 300);
    rig_a(rig, "mx2.hosts.test", "192.0.2.2", 300);
    rig_serve(rig, "192.0.2.2:25");
    rig_post(rig, "s@relay.test", "u@two.hosts.test");
    const struct rig_letter *letter = rig_letter_for(rig, "u@two.hosts.test");
    assert_non_null(letter);
    assert_int_equal(letter->server, 1);
    close_neighbours(rig);
}

static void dane_wins_over_a_policy_that_does_not_name_the_host(void **state)
{
    (void)state;
    struct relay_rig *rig = open_secure(ROUTE("opportunistic"));
    rig_tlsa(rig, "_25._tcp.mx.hosts.test");
    rig_policy(rig, "strict.hosts.test", POLICY("enforce", "mx.elsewhere.test"));
    assert_false(secure_is_delivered(rig));
    assert_false(rig_log_says(rig, "does not name this host"));
    assert_true(rig_log_says(rig, "4.7.4 TLS is required, but was not offered"));
    close_neighbours(rig);
}

static void a_route_that_requires_dane_uses_no_host_without_records(void **state)
{
    (void)state;
    struct relay_rig *rig = open_secure(ROUTE("dane"));
    rig_post(rig, "s@relay.test", "u@strict.hosts.test");
    rig_post(rig, "s@relay.test", "u@healthy.test");
    assert_int_equal(rig_waiting(rig), 2);
    assert_int_equal(rig->servers[0].connection_count, 0);
    assert_true(rig_log_says(rig, "dsn=4.7.5, status=deferred (the host has no TLSA records, which "
                                  "the route requires)"));
    close_neighbours(rig);
}

static void a_route_without_tls_asks_nobody_what_they_demand(void **state)
{
    (void)state;
    struct relay_rig *rig = open_neighbours(ROUTE("none"));
    rig_policy(rig, "strict.test", POLICY("enforce", "mx.elsewhere.test"));
    assert_true(strict_is_delivered(rig));
    close_neighbours(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_that_names_other_hosts_holds_up_its_own_domain_only),
        cmocka_unit_test(a_policy_that_is_enforced_is_not_served_in_the_clear),
        cmocka_unit_test(a_policy_in_testing_refuses_nothing),
        cmocka_unit_test(a_policy_that_cannot_be_fetched_is_none),
        cmocka_unit_test(a_host_with_tlsa_records_gets_no_mail_of_secure_domains_in_the_clear),
        cmocka_unit_test(without_tlsa_records_a_secure_domain_is_as_any_other),
        cmocka_unit_test(a_host_whose_records_cannot_be_looked_up_is_passed_over),
        cmocka_unit_test(dane_wins_over_a_policy_that_does_not_name_the_host),
        cmocka_unit_test(a_route_that_requires_dane_uses_no_host_without_records),
        cmocka_unit_test(a_route_without_tls_asks_nobody_what_they_demand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
