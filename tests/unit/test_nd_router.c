/* Routers that say what they are good for, and routes that the configuration tells. */
#include "engine/net/icmp6.h"
#include "tests/unit/net_lone.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define OURS "fd00::1"
#define PEER "fd00::2"
#define ROUTER "fe80::99"

static struct net_lone lone;
static uint8_t frame[NET_LONE_BYTES];
static const char *const addresses[] = {OURS "/64", NULL};

static struct neighbour *known(const char *text)
{
    struct ip_address address = net_address(text);
    return neighbour_of(lone.stack, &address);
}

static void advertise(const char *from, uint16_t lifetime_s, uint32_t mtu, const char *prefix,
                      uint32_t valid_s)
{
    uint8_t bytes[16 + 8 + 8 + 32] = {ICMP6_ROUTER_ADVERTISEMENT};
    uint32_t word = htonl(mtu);
    bytes[6] = (uint8_t)(lifetime_s >> 8);
    bytes[7] = (uint8_t)lifetime_s;
    bytes[16] = 1;
    bytes[17] = 1;
    bytes[18] = 2;
    bytes[23] = 0x99;
    bytes[24] = 5;
    bytes[25] = 1;
    memcpy(bytes + 28, &word, 4);
    bytes[32] = 3;
    bytes[33] = 4;
    bytes[34] = 64;
    bytes[35] = 0xc0;
    word = htonl(valid_s);
    memcpy(bytes + 36, &word, 4);
    struct ip_address address = net_address(prefix);
    memcpy(bytes + 48, address.words, 16);
    const struct net_six packet = {.from = from,
                                   .to = "ff02::1",
                                   .next = IPPROTO_ICMPV6,
                                   .hop_limit = 255,
                                   .source_mac_last = 0x99,
                                   .payload = bytes,
                                   .bytes = sizeof(bytes)};
    net_lone_six(&lone, &packet);
}

static int goes(const char *to, const char *next_hop, const char *source)
{
    struct ip_address target = net_address(to), via = net_address(next_hop);
    struct ip_address from = net_address(source);
    struct ip_way way;
    int status = ip_route(lone.stack, &target, &way);
    return status < 0
               ? status
               : ip_address_equal(&way.next_hop, &via) && ip_address_equal(&way.source, &from);
}

static void a_router_is_used_for_as_long_as_it_says(void **state)
{
    (void)state;
    const struct stack_settings settings = {.skips_dad = true};
    net_lone_open(&lone, addresses, &settings);
    assert_true(net_lone_icmp6(&lone, ICMP6_ROUTER_SOLICITATION, frame) > 0);
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), -ENETUNREACH);
    advertise(ROUTER, 30, 1400, "fd77::", 60);
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), true);
    assert_int_equal(known(ROUTER)->mac[5], 0x99);
    assert_int_equal(goes("fd77::5", "fd77::5", OURS), true); /* on the link */
    struct ip_address far = net_address("2001:db8::1");
    assert_int_equal(ip_mtu(lone.stack, &far), 1400);
    net_lone_wait(&lone, 20 * SECOND_NS); /* it has been heard: not asked again */
    assert_int_equal(lone.count, 0);
    advertise(ROUTER, 30, 1000, "fd77::", 60); /* an MTU that no link has */
    assert_int_equal(ip_mtu(lone.stack, &far), 1400);
    net_lone_wait(&lone, 29 * SECOND_NS);
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), true);
    net_lone_wait(&lone, 2 * SECOND_NS);
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), -ENETUNREACH);
    assert_int_equal(goes("fd77::5", "fd77::5", OURS), true);
    net_lone_wait(&lone, 30 * SECOND_NS);
    assert_int_equal(goes("fd77::5", "fd77::5", OURS), -ENETUNREACH);
    advertise(ROUTER, 1800, 0, "fd77::", UINT32_MAX);
    advertise("fe80::98", 1800, 0, "fd77::", UINT32_MAX); /* a second one has to wait */
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), true);
    advertise("fe80::98", 0, 0, "fd78::", 0); /* and cannot take the first one's place away */
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), true);
    advertise(ROUTER, 0, 0, "fd77::", 0);
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), -ENETUNREACH);
    assert_int_equal(goes("fd77::5", "fd77::5", OURS), -ENETUNREACH);
    net_lone_close(&lone);
}

static void only_routers_of_the_link_are_heard_and_only_when_wanted(void **state)
{
    (void)state;
    const struct stack_settings settings = {.skips_dad = true};
    net_lone_open(&lone, addresses, &settings);
    advertise(PEER, 30, 0, "fd77::", 60); /* not by a link-local address */
    assert_int_equal(lone.stack->counters.nd_refused, 1);
    assert_int_equal(goes("2001:db8::1", ROUTER, OURS), -ENETUNREACH);
    net_lone_close(&lone);
    const struct stack_settings told = {.skips_dad = true, .gateway6 = net_endpoint("[fe80::1]:0")};
    net_lone_open(&lone, addresses, &told);
    assert_int_equal(net_lone_icmp6(&lone, ICMP6_ROUTER_SOLICITATION, frame), 0);
    advertise(ROUTER, 30, 1300, "fd77::", 60);
    assert_int_equal(goes("2001:db8::1", "fe80::1", OURS), true); /* and not from LOCAL */
    assert_int_equal(goes("fd77::5", "fe80::1", OURS), true);
    net_lone_close(&lone);
}

static void a_router_floods_nothing(void **state)
{
    (void)state;
    const struct stack_settings settings = {.skips_dad = true};
    char prefix[40];
    net_lone_open(&lone, addresses, &settings);
    uint32_t before = lone.stack->routes.count;
    for (unsigned i = 0; i < 500; i++) {
        snprintf(prefix, sizeof(prefix), "fd01:%x::", i);
        advertise(ROUTER, 1800, 0, prefix, 3600);
    }
    assert_int_equal(lone.stack->routes.count - before, 16);
    net_lone_close(&lone);
}

static void static_routes_lead_to_their_gateways(void **state)
{
    (void)state;
    static const char *const both[] = {"192.0.2.1/24", OURS "/64", "192.0.2.7/24", NULL};
    struct stack_route routes[3] = {{.via = net_endpoint("192.0.2.254:0")},
                                    {.via = net_endpoint("[fd00::254]:0")},
                                    {.via = net_endpoint("192.0.2.252:0")}};
    assert_int_equal(network_prefix_parse(&routes[0].to, slice_text("198.51.100.0/24")), 0);
    assert_int_equal(network_prefix_parse(&routes[1].to, slice_text("2001:db8::/32")), 0);
    assert_int_equal(network_prefix_parse(&routes[2].to, slice_text("198.51.100.128/25")), 0);
    struct stack_settings settings = {.skips_dad = true,
                                      .gateway = net_endpoint("192.0.2.253:0"),
                                      .routers = STACK_ROUTERS_IGNORED,
                                      .routes = routes,
                                      .route_count = 3};
    net_lone_open(&lone, both, &settings);
    assert_int_equal(goes("198.51.100.9", "192.0.2.254", "192.0.2.1"), true);
    assert_int_equal(goes("198.51.100.200", "192.0.2.252", "192.0.2.1"), true);
    assert_int_equal(goes("203.0.113.1", "192.0.2.253", "192.0.2.1"), true);
    assert_int_equal(goes("192.0.2.9", "192.0.2.9", "192.0.2.1"), true);
    assert_int_equal(goes("192.0.2.255", "192.0.2.255", "192.0.2.1"), -ENETUNREACH);
    assert_int_equal(goes("2001:db8:9::1", "fd00::254", OURS), true);
    assert_int_equal(goes("2001:db9::1", "fd00::254", OURS), -ENETUNREACH);
    net_lone_close(&lone);
    routes[1].via = net_endpoint("[2001:db8::254]:0"); /* no neighbour */
    assert_int_equal(net_lone_try(&lone, both, &settings), -EINVAL);
    routes[1].via = net_endpoint("192.0.2.254:0"); /* of another family */
    assert_int_equal(net_lone_try(&lone, both, &settings), -EINVAL);
    settings.route_count = 1;
    assert_int_equal(net_lone_try(&lone, both, &settings), 0);
    settings.gateway = net_endpoint("192.0.2.7:0"); /* ourselves */
    assert_int_equal(net_lone_try(&lone, both, &settings), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_router_is_used_for_as_long_as_it_says),
        cmocka_unit_test(only_routers_of_the_link_are_heard_and_only_when_wanted),
        cmocka_unit_test(a_router_floods_nothing),
        cmocka_unit_test(static_routes_lead_to_their_gateways),
    };
    return cmocka_run_group_tests(tests, net_lone_set_up, net_lone_tear_down);
}
