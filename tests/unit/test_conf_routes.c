/* conf: which route takes a recipient, and what the file says of each. */
#include "engine/conf/conf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static struct relay_conf *load_good(const char *text)
{
    static struct conf_report report;
    struct relay_conf *conf = NULL;
    char name[] = "/tmp/route-test-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    int status = relay_conf_load(&conf, name, "relay.test", &report);
    unlink(name);
    if (status != 0) {
        print_error("refused: %s\n%s\n", report.problems[0], text);
    }
    assert_int_equal(status, 0);
    return conf;
}

static void a_route_is_found_by_address_then_domain_then_what_is_above_then_pattern(void **state)
{
    (void)state;
    struct relay_conf *conf =
        load_good("hostname: mx.example.net\n"
                  "routes:\n"
                  "  - {match: \"*\", to: [\"127.0.0.1:9\"]}\n"
                  "  - {match: \"/^ab+@/\", to: [\"127.0.0.1:7\"]}\n"
                  "  - {match: \"/@(x|y)[.]test$/i\", to: [\"127.0.0.1:8\"]}\n"
                  "  - {match: Example.org, to: [\"127.0.0.1:1\"]}\n"
                  "  - {match: .example.org, to: [\"127.0.0.1:2\"]}\n"
                  "  - {match: .deep.example.org, to: [\"127.0.0.1:3\"]}\n"
                  "  - {match: \"[192.0.2.1]\", to: [\"127.0.0.1:4\"]}\n"
                  "  - {match: mx.example.net, to: [\"127.0.0.1:5\"]}\n"
                  "  - {match: Chief@Example.org, to: [\"127.0.0.1:6\"]}\n");
    static const struct {
        const char *mailbox;
        int port;
    } cases[] = {
        {"a@example.org", 1},
        {"a@EXAMPLE.ORG", 1},
        {"chief@example.ORG", 6},
        {"a@a.example.org", 2},
        {"chief@a.example.org", 2},
        {"a@a.b.Example.Org", 2},
        {"a@deep.example.org", 2},
        {"a@a.deep.example.org", 3},
        {"abb@example.org", 1},
        {"abb@elsewhere.test", 7},
        {"ABB@elsewhere.test", 9},
        {"a@X.Test", 8},
        {"abb@x.test", 7},
        {"a@x.test\n", 9},
        {"a@.example.org", 9},
        {"a@badexample.org", 9},
        {"a@example.org.evil", 9},
        {"a@[192.0.2.1]", 4},
        {"postmaster", 5},
        {"", 5},
        {"a@org", 9},
        {"\"a@example.org\"@x.y", 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct conf_route *route = relay_conf_route(conf, slice_text(cases[i].mailbox));
        assert_non_null(route);
        assert_int_equal(route->to[0].port, cases[i].port);
    }
    relay_conf_free(conf);

    conf = load_good("routes: [{match: a.test, to: [\"127.0.0.1:1\"]}]");
    assert_null(relay_conf_route(conf, slice_text("x@b.test")));
    relay_conf_free(conf);
}

/* RFC 5890 §2.3.2.1: the two forms are equivalent. */
static void a_domain_in_u_labels_and_in_a_labels_is_one(void **state)
{
    (void)state;
    struct relay_conf *conf =
        load_good("routes:\n"
                  "  - {match: bücher.example, to: [\"127.0.0.1:1\"]}\n"
                  "  - {match: .xn--mnchen-3ya.example, to: [\"127.0.0.1:2\"]}\n"
                  "  - {match: chef@xn--mnchen-3ya.example, to: [\"127.0.0.1:3\"]}\n"
                  "  - {match: jürgen@bücher.example, to: [\"127.0.0.1:4\"]}\n"
                  "  - {match: \"*\", to: [\"127.0.0.1:9\"]}\n"
                  "priorities:\n"
                  "  - {sender: xn--bcher-kva.example, priority: high}\n"
                  "  - {sender: .bücher.example, priority: low}\n");
    static const struct {
        const char *mailbox;
        int port;
    } cases[] = {
        {"a@bücher.example", 1},
        {"a@xn--bcher-kva.example", 1},
        {"a@XN--Bcher-KVA.example", 1},
        {"a@BÜCHER.example", 1},
        {"a@x.münchen.example", 2},
        {"a@x.xn--mnchen-3ya.example", 2},
        {"a@münchen.example", 9},
        {"chef@münchen.example", 3},
        {"jürgen@xn--bcher-kva.example", 4},
        {"jürgen@bücher.example", 4},
        {"xn--jrgen-kva@bücher.example", 1}, /* a local part has no other form */
        {"a@\xff\xfe.example", 9},
        {"a@bucher.example", 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct conf_route *route = relay_conf_route(conf, slice_text(cases[i].mailbox));
        assert_non_null(route);
        if (route->to[0].port != cases[i].port) {
            fail_msg("%s: %u", cases[i].mailbox, route->to[0].port);
        }
    }
    assert_int_equal(
        relay_conf_priority(conf, slice_text("a@bücher.example"), CONF_PRIORITY_NORMAL),
        CONF_PRIORITY_HIGH);
    assert_int_equal(
        relay_conf_priority(conf, slice_text("a@a.xn--bcher-kva.example"), CONF_PRIORITY_NORMAL),
        CONF_PRIORITY_LOW);
    relay_conf_free(conf);
}

static void a_pattern_that_takes_too_many_steps_does_not_match(void **state)
{
    (void)state;
    struct relay_conf *conf = load_good("routes: [{match: \"/^(a+)+@b$/\", via: discard}]");
    assert_non_null(relay_conf_route(conf, slice_text("aaaaaaaaaaaaaaa@b")));
    assert_null(relay_conf_route(
        conf, slice_text("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@c")));
    relay_conf_free(conf);
}

static void strangers_may_send_where_a_route_names_the_domain_and_not_by_mx(void **state)
{
    (void)state;
    struct relay_conf *conf =
        load_good("routes:\n"
                  "  - {match: a.test, to: [\"127.0.0.1:1\"]}\n"
                  "  - {match: u@a.test, via: discard}\n"
                  "  - {match: b.test, via: mx}\n"
                  "  - {match: c.test, via: mx, accept_from: anyone}\n"
                  "  - {match: d.test, via: lmtp, to: [\"unix:/d\"], accept_from: clients}\n"
                  "  - {match: /@e/, via: discard}\n"
                  "  - {match: /@f/, via: discard, accept_from: anyone}\n"
                  "  - {match: \"*\", via: discard}\n");
    static const bool anyone[] = {true, true, false, true, false, false, true, false};
    for (size_t i = 0; i < sizeof anyone / sizeof anyone[0]; i++) {
        assert_int_equal(conf->routes[i].accept_from,
                         anyone[i] ? CONF_ACCEPT_ANYONE : CONF_ACCEPT_CLIENTS);
    }
    relay_conf_free(conf);
}

static void an_error_route_has_its_reply_in_parts(void **state)
{
    (void)state;
    struct relay_conf *conf =
        load_good("routes: [{match: a.test, via: error, reply: \"551 5.1.6 Gone to <b@c.test>\"}]");
    assert_int_equal(conf->routes[0].reply_code, 551);
    assert_string_equal(conf->routes[0].reply_status, "5.1.6");
    assert_string_equal(conf->routes[0].reply_text, "Gone to <b@c.test>");
    relay_conf_free(conf);
}

static void the_source_of_an_mx_route_decides_the_family(void **state)
{
    (void)state;
    struct relay_conf *conf =
        load_good("routes: [{match: a.test, via: mx, source: 192.0.2.1}, {match: b.test, via: mx, "
                  "source: \"2001:db8::1\"}, {match: c.test, via: mx, port: 26, family: "
                  "ipv6_first, hostname: out.example.org}]");
    assert_int_equal(conf->routes[0].family, CONF_FAMILY_IPV4);
    assert_int_equal(conf->routes[0].port, 25);
    assert_int_equal(conf->routes[1].family, CONF_FAMILY_IPV6);
    assert_int_equal(conf->routes[2].family, CONF_FAMILY_IPV6_FIRST);
    assert_int_equal(conf->routes[2].port, 26);
    assert_string_equal(conf->routes[2].hostname, "out.example.org");
    relay_conf_free(conf);
}

static void rates_are_so_many_in_a_time(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t count;
        uint64_t period_ms;
        uint32_t burst;
    } cases[] = {
        {"message_rate: 600/1h", 600, 3600000, 1},
        {"message_rate: 3/500ms", 3, 500, 1},
        {"message_rate: 100/s", 100, 1000, 10},
        {"message_rate: 1000000/m", 1000000, 60000, 1666},
        {"message_rate: 1/d", 1, 86400000, 1},
        {"message_rate: 7/h, message_burst: 50", 7, 3600000, 50},
        {"message_burst: 50", 0, 0, 50},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "routes: [{match: a.test, via: mx, %s}]", cases[i].text);
        struct relay_conf *conf = load_good(text);
        const struct conf_rate *rate = &conf->routes[0].message_rate;
        assert_int_equal(rate->count, cases[i].count);
        assert_int_equal(rate->period_ns, cases[i].period_ms * 1000000);
        assert_int_equal(rate->burst, cases[i].burst);
        assert_int_equal(conf->routes[0].connection_rate.count, 0);
        relay_conf_free(conf);
    }
}

static void thousands_of_routes_load_and_are_found(void **state)
{
    (void)state;
    enum { ROUTES = 2000 };
    static char text[ROUTES * 64];
    size_t used = (size_t)snprintf(text, sizeof(text), "routes:\n");
    for (int i = 0; i < ROUTES; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used,
                                 "  - {match: d%d.test, to: [\"127.0.0.1:%d\"]}\n", i, 1 + i);
    }
    struct relay_conf *conf = load_good(text);
    for (int i = 0; i < ROUTES; i++) {
        char mailbox[32];
        int size = snprintf(mailbox, sizeof(mailbox), "u@d%d.test", i);
        const struct conf_route *route = relay_conf_route(conf, slice_of(mailbox, (size_t)size));
        assert_non_null(route);
        assert_int_equal(route->to[0].port, 1 + i);
    }
    relay_conf_free(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_route_is_found_by_address_then_domain_then_what_is_above_then_pattern),
        cmocka_unit_test(a_domain_in_u_labels_and_in_a_labels_is_one),
        cmocka_unit_test(a_pattern_that_takes_too_many_steps_does_not_match),
        cmocka_unit_test(strangers_may_send_where_a_route_names_the_domain_and_not_by_mx),
        cmocka_unit_test(an_error_route_has_its_reply_in_parts),
        cmocka_unit_test(the_source_of_an_mx_route_decides_the_family),
        cmocka_unit_test(rates_are_so_many_in_a_time),
        cmocka_unit_test(thousands_of_routes_load_and_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
