/* What a connection must be, from what the route and the domain say. */
#include "engine/relay/tls_policy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const struct dns_tlsa records[] = {
    {DNS_TLSA_DANE_EE, DNS_TLSA_PUBLIC_KEY, DNS_TLSA_SHA256, {0}}};
static const char *route_names[] = {"hop.test", "other.test", NULL};

struct case_of {
    uint8_t level; /* of the route */
    bool implicit;
    uint8_t tlsa;  /* enum destination_tlsa */
    uint8_t mode;  /* enum dns_mta_sts_mode */
    bool excluded; /* by the MTA-STS policy */
    /* What must come of it. */
    uint8_t wanted;
    uint8_t kind;
    bool refused, testing;
};

enum { N = CONF_LEVEL_NONE, O = CONF_LEVEL_OPPORTUNISTIC, R = CONF_LEVEL_REQUIRED };
enum { V = CONF_LEVEL_VERIFIED, D = CONF_LEVEL_DANE };
enum { NO_RECORDS = DESTINATION_TLSA_NONE, USABLE = DESTINATION_TLSA_USABLE };
enum { UNUSABLE = DESTINATION_TLSA_UNUSABLE, FAILED = DESTINATION_TLSA_FAILED };
enum { SILENT = DNS_MTA_STS_NONE, TESTING = DNS_MTA_STS_TESTING, ENFORCE = DNS_MTA_STS_ENFORCE };
enum { ROUTE = TLS_POLICY_NONE, TLSA = TLS_POLICY_TLSA, STS = TLS_POLICY_STS };

static const struct endpoint tcp = {.family = ENDPOINT_IPV4, .port = 25};
static const struct endpoint local = {.family = ENDPOINT_UNIX, .path = "/run/lmtp"};

static void decide(const struct case_of *one, struct tls_policy *policy)
{
    static struct destination_host host;
    static struct destination destination;
    const struct conf_route route = {.tls = {.level = one->level, .implicit = one->implicit}};
    host = (struct destination_host){.name = "mx.example.org",
                                     .tlsa_base = "mx.example.org",
                                     .tlsa = one->tlsa,
                                     .tlsa_count = one->tlsa == USABLE,
                                     .tlsa_records = records,
                                     .excluded = one->excluded};
    destination = (struct destination){
        .domain = "example.org", .host_count = 1, .hosts = &host, .mta_sts.mode = one->mode};
    tls_policy_for(policy, &route, &tcp, &destination, 0);
}

static void check_rows(const struct case_of *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tls_policy policy;
        decide(&rows[i], &policy);
        if (policy.level != rows[i].wanted || policy.kind != rows[i].kind ||
            policy.refused != rows[i].refused || policy.testing != rows[i].testing) {
            print_error("row %zu: level %u, kind %u, refused %d, testing %d\n", i, policy.level,
                        policy.kind, policy.refused, policy.testing);
            fail();
        }
        assert_int_equal(policy.refused, policy.why != NULL);
        assert_int_equal(policy.record_count, policy.level == D);
    }
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static void a_domain_that_says_nothing_leaves_it_to_the_route(void **state)
{
    (void)state;
    static const struct case_of rows[] = {
        {N, false, NO_RECORDS, SILENT, false, N, ROUTE, false, false},
        {O, false, NO_RECORDS, SILENT, false, O, ROUTE, false, false},
        {R, false, NO_RECORDS, SILENT, false, R, ROUTE, false, false},
        {V, false, NO_RECORDS, SILENT, false, V, ROUTE, false, false},
        {O, true, NO_RECORDS, SILENT, false, R, ROUTE, false, false},
        {V, true, NO_RECORDS, SILENT, false, V, ROUTE, false, false},
    };
    CHECK_ROWS(rows);
}

static void dane_raises_every_level_but_none_and_is_never_downgraded(void **state)
{
    (void)state;
    static const struct case_of rows[] = {
        {N, false, USABLE, SILENT, false, N, ROUTE, false, false},
        {O, false, USABLE, SILENT, false, D, TLSA, false, false},
        {R, false, USABLE, SILENT, false, D, TLSA, false, false},
        {V, false, USABLE, SILENT, false, D, TLSA, false, false},
        {D, false, USABLE, SILENT, false, D, TLSA, false, false},
        /* RFC 7672 §2.2: unusable records still promise TLS. */
        {O, false, UNUSABLE, SILENT, false, R, TLSA, false, false},
        {R, false, UNUSABLE, SILENT, false, R, TLSA, false, false},
        {V, false, UNUSABLE, SILENT, false, V, TLSA, false, false},
        {D, false, UNUSABLE, SILENT, false, R, TLSA, false, false},
        /* §2.1.1: no answer is not "no records". */
        {N, false, FAILED, SILENT, false, N, ROUTE, false, false},
        {O, false, FAILED, SILENT, false, O, TLSA, true, false},
        {V, false, FAILED, SILENT, false, V, TLSA, true, false},
        {D, false, FAILED, SILENT, false, R, TLSA, true, false},
        /* Where the route requires it, "no records" will not do either. */
        {D, false, NO_RECORDS, SILENT, false, R, TLSA, true, false},
        {D, false, NO_RECORDS, ENFORCE, false, R, TLSA, true, false},
    };
    CHECK_ROWS(rows);
}

static void an_enforced_mta_sts_policy_wants_its_hosts_and_their_names_verified(void **state)
{
    (void)state;
    static const struct case_of rows[] = {
        {N, false, NO_RECORDS, ENFORCE, true, N, ROUTE, false, false},
        {O, false, NO_RECORDS, ENFORCE, false, V, STS, false, false},
        {R, false, NO_RECORDS, ENFORCE, false, V, STS, false, false},
        {V, false, NO_RECORDS, ENFORCE, false, V, STS, false, false},
        {O, false, NO_RECORDS, ENFORCE, true, O, STS, true, false},
        {V, false, NO_RECORDS, ENFORCE, true, V, STS, true, false},
        /* In testing nothing is refused. */
        {O, false, NO_RECORDS, TESTING, false, O, STS, false, true},
        {O, false, NO_RECORDS, TESTING, true, O, STS, false, true},
        {R, false, NO_RECORDS, TESTING, false, R, STS, false, true},
        {V, false, NO_RECORDS, TESTING, false, V, STS, false, false},
    };
    CHECK_ROWS(rows);
}

static void dane_comes_before_mta_sts(void **state)
{
    (void)state;
    static const struct case_of rows[] = {
        {O, false, USABLE, ENFORCE, false, D, TLSA, false, false},
        {O, false, USABLE, ENFORCE, true, D, TLSA, false, false},
        {O, false, FAILED, ENFORCE, false, O, TLSA, true, false},
        {O, false, UNUSABLE, ENFORCE, false, V, TLSA, false, false},
        {O, false, UNUSABLE, ENFORCE, true, R, STS, true, false},
    };
    CHECK_ROWS(rows);
}

static void the_names_are_the_routes_or_the_hosts(void **state)
{
    (void)state;
    struct tls_policy policy;
    const struct conf_route named = {.tls = {.level = V, .names = route_names, .names_count = 2}};
    tls_policy_for(&policy, &named, &tcp, NULL, 0);
    assert_int_equal(policy.name_count, 2);
    assert_string_equal(policy.server_name, "hop.test");
    const struct conf_route plain = {.tls = {.level = O}};
    tls_policy_for(&policy, &plain, &tcp, NULL, 0);
    assert_int_equal(policy.name_count, 0);
    assert_null(policy.server_name);
    decide(&(const struct case_of){.level = O}, &policy);
    assert_string_equal(policy.server_name, "mx.example.org");
    assert_int_equal(policy.name_count, 1);
    assert_string_equal(policy.names[0], "mx.example.org");
    decide(&(const struct case_of){.level = O, .tlsa = USABLE}, &policy);
    assert_string_equal(policy.server_name, "mx.example.org");
    assert_int_equal(policy.name_count, 1); /* not the domain's, whose connections others share */
    assert_string_equal(policy.names[0], "mx.example.org");
}

static void a_policy_of_the_domain_is_about_the_host_whatever_names_the_route_has(void **state)
{
    (void)state;
    struct tls_policy policy;
    const struct destination_host host = {.name = "mx.example.org"};
    const struct destination destination = {.domain = "example.org",
                                            .host_count = 1,
                                            .hosts = &host,
                                            .mta_sts.mode = DNS_MTA_STS_ENFORCE};
    struct conf_route route = {.tls = {.level = O, .names = route_names, .names_count = 2}};
    tls_policy_for(&policy, &route, &tcp, &destination, 0);
    assert_int_equal(policy.level, V);
    assert_int_equal(policy.name_count, 1);
    assert_string_equal(policy.names[0], "mx.example.org");
    route.tls.level = V; /* its own demand is for its own names */
    tls_policy_for(&policy, &route, &tcp, &destination, 0);
    assert_int_equal(policy.name_count, 2);
}

static void a_unix_socket_is_in_the_clear_unless_tls_is_asked_for(void **state)
{
    (void)state;
    static const uint8_t levels[] = {N, O, R, V}, wanted[] = {N, N, R, V};
    for (size_t i = 0; i < sizeof(levels); i++) {
        struct tls_policy policy;
        const struct conf_route route = {.tls = {.level = levels[i]}};
        tls_policy_for(&policy, &route, &local, NULL, 0);
        assert_int_equal(policy.level, wanted[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_domain_that_says_nothing_leaves_it_to_the_route),
        cmocka_unit_test(dane_raises_every_level_but_none_and_is_never_downgraded),
        cmocka_unit_test(an_enforced_mta_sts_policy_wants_its_hosts_and_their_names_verified),
        cmocka_unit_test(dane_comes_before_mta_sts),
        cmocka_unit_test(the_names_are_the_routes_or_the_hosts),
        cmocka_unit_test(a_policy_of_the_domain_is_about_the_host_whatever_names_the_route_has),
        cmocka_unit_test(a_unix_socket_is_in_the_clear_unless_tls_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
