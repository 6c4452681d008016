/* Which network an address lies in, which addresses are ours. */
#include "engine/net/own.h"
#include "engine/net/route.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct routes routes;
static struct own own;

static struct ip_address address(const char *text)
{
    struct network_prefix prefix;
    struct ip_address made;
    assert_int_equal(network_prefix_parse(&prefix, slice_text(text)), 0);
    assert_true(ip_address_of_endpoint(&made, &prefix.address));
    return made;
}

/* `to` is "prefix/length". */
static int add(const char *to, const char *via, enum route_origin origin)
{
    struct network_prefix prefix;
    assert_int_equal(network_prefix_parse(&prefix, slice_text(to)), 0);
    struct route route = {.prefix = address(to), .origin = (uint8_t)origin};
    route.length = (uint8_t)(prefix.length + (ip_address_is_ipv4(&route.prefix) ? 96 : 0));
    if (via != NULL) {
        route.via = address(via);
    }
    return routes_add(&routes, &route);
}

static bool goes_by(const char *to, const char *via)
{
    struct ip_address target = address(to), gateway = address(via);
    const struct route *route = routes_find(&routes, &target);
    return route != NULL && ip_address_equal(&route->via, &gateway);
}

static void the_longest_prefix_wins_whatever_the_order(void **state)
{
    (void)state;
    routes.count = 0;
    assert_int_equal(add("0.0.0.0/0", "10.0.0.1", ROUTE_STATIC), 0);
    assert_int_equal(add("198.51.100.128/25", "10.0.0.3", ROUTE_STATIC), 0);
    assert_int_equal(add("198.51.100.0/24", "10.0.0.2", ROUTE_STATIC), 0);
    assert_int_equal(add("198.51.100.200/32", "10.0.0.4", ROUTE_STATIC), 0);
    assert_true(goes_by("192.0.2.1", "10.0.0.1"));
    assert_true(goes_by("198.51.100.1", "10.0.0.2"));
    assert_true(goes_by("198.51.100.129", "10.0.0.3"));
    assert_true(goes_by("198.51.100.200", "10.0.0.4"));
}

static void the_families_do_not_mix(void **state)
{
    (void)state;
    routes.count = 0;
    assert_int_equal(add("::/0", "fd00::9", ROUTE_STATIC), 0);
    struct ip_address ipv4 = address("192.0.2.1");
    assert_null(routes_find(&routes, &ipv4));
    assert_int_equal(add("0.0.0.0/0", "10.0.0.1", ROUTE_STATIC), 0);
    assert_true(goes_by("2001:db8::1", "fd00::9"));
    assert_true(goes_by("192.0.2.1", "10.0.0.1"));
    assert_int_equal(add("2001:db8::/33", "fd00::8", ROUTE_STATIC), 0);
    assert_true(goes_by("2001:db8:7fff::1", "fd00::8"));
    assert_true(goes_by("2001:db8:8000::1", "fd00::9"));
}

static void the_operators_word_counts_more_than_a_routers(void **state)
{
    (void)state;
    routes.count = 0;
    assert_int_equal(add("::/0", "fe80::1", ROUTE_ADVERTISED), 0);
    assert_int_equal(add("::/0", "fe80::2", ROUTE_STATIC), 0);
    assert_int_equal(add("::/0", "fe80::3", ROUTE_STATIC), -EEXIST);
    assert_true(goes_by("2001:db8::1", "fe80::2"));
    const struct route advertised = {.origin = ROUTE_ADVERTISED};
    struct route *found = routes_same(&routes, &advertised);
    assert_non_null(found);
    routes_remove(&routes, found);
    assert_null(routes_same(&routes, &advertised));
    assert_true(goes_by("2001:db8::1", "fe80::2"));
}

static void the_table_is_bounded(void **state)
{
    (void)state;
    char text[40];
    routes.count = 0;
    for (unsigned i = 0; i < ROUTES_MAX; i++) {
        snprintf(text, sizeof(text), "10.%u.%u.0/24", i / 256, i % 256);
        assert_int_equal(add(text, NULL, ROUTE_CONNECTED), 0);
    }
    assert_int_equal(add("11.0.0.0/8", NULL, ROUTE_CONNECTED), -ENOSPC);
}

static void a_thousand_addresses_are_all_found_and_no_other(void **state)
{
    (void)state;
    memset(&own, 0, sizeof(own));
    for (uint32_t i = 0; i < OWN_MAX; i++) {
        struct ip_address one = i % 2 == 0 ? ip_address_of_ipv4(htonl(0x0a000000 + i))
                                           : (struct ip_address){{htonl(0xfd000000), 0, 0, i}};
        assert_int_equal(own_add(&own, &one, 128, OWN_PREFERRED), 0);
        assert_int_equal(own_add(&own, &one, 128, OWN_PREFERRED), -EEXIST);
    }
    struct ip_address more = address("192.0.2.1");
    assert_int_equal(own_add(&own, &more, 128, OWN_PREFERRED), -ENOSPC);
    for (uint32_t i = 0; i < 2 * OWN_MAX; i++) {
        struct ip_address ipv4 = ip_address_of_ipv4(htonl(0x0a000000 + i));
        struct ip_address ipv6 = {{htonl(0xfd000000), 0, 0, i}};
        assert_int_equal(own_has(&own, &ipv4), i < OWN_MAX && i % 2 == 0);
        assert_int_equal(own_has(&own, &ipv6), i < OWN_MAX && i % 2 == 1);
    }
}

static void an_address_is_ours_when_it_is_known_to_be_nobody_elses(void **state)
{
    (void)state;
    memset(&own, 0, sizeof(own));
    struct ip_address one = address("fd00::1");
    assert_int_equal(own_add(&own, &one, 64, OWN_TENTATIVE), 0);
    assert_int_equal(own.tentative_count, 1);
    assert_false(own_has(&own, &one));
    own_set_state(&own, own_find(&own, &one), OWN_PREFERRED);
    assert_int_equal(own.tentative_count, 0);
    assert_true(own_has(&own, &one));
    own_set_state(&own, 0, OWN_DUPLICATE);
    assert_false(own_has(&own, &one));
    assert_int_equal(own_find(&own, &one), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_prefix_wins_whatever_the_order),
        cmocka_unit_test(the_families_do_not_mix),
        cmocka_unit_test(the_operators_word_counts_more_than_a_routers),
        cmocka_unit_test(the_table_is_bounded),
        cmocka_unit_test(a_thousand_addresses_are_all_found_and_no_other),
        cmocka_unit_test(an_address_is_ours_when_it_is_known_to_be_nobody_elses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
