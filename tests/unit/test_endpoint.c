#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/endpoint.h"
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

static struct endpoint parsed(const char *text)
{
    struct endpoint endpoint;
    assert_int_equal(endpoint_parse(&endpoint, slice_text(text)), 0);
    return endpoint;
}

static void what_is_formatted_is_what_was_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *formatted, *address;
    } rows[] = {
        {"192.0.2.1:25", "192.0.2.1:25", "192.0.2.1"},
        {"0.0.0.0:0", "0.0.0.0:0", "0.0.0.0"},
        {"127.0.0.1:65535", "127.0.0.1:65535", "127.0.0.1"},
        {"[2001:db8::1]:25", "[2001:db8::1]:25", "2001:db8::1"},
        {"[2001:DB8:0:0::1]:25", "[2001:db8::1]:25", "2001:db8::1"},
        {"[::]:25", "[::]:25", "::"},
        {"[fe80::1%1]:25", "[fe80::1%1]:25", "fe80::1%1"},
        {"[fe80::1%lo]:25", "[fe80::1%1]:25", "fe80::1%1"},
        {"[::ffff:192.0.2.1]:25", "192.0.2.1:25", "192.0.2.1"},
        {"unix:/run/x", "unix:/run/x", "/run/x"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[ENDPOINT_TEXT_MAX];
        struct endpoint endpoint = parsed(rows[i].text);
        assert_int_equal(endpoint_format(&endpoint, text), strlen(rows[i].formatted));
        assert_string_equal(text, rows[i].formatted);
        assert_int_equal(endpoint_format_address(&endpoint, text), strlen(rows[i].address));
        assert_string_equal(text, rows[i].address);
    }
}

static void what_is_no_endpoint_is_refused_and_nothing_is_changed(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "192.0.2.1",
        "192.0.2.1:",
        ":25",
        "192.0.2.1:65536",
        "192.0.2.1:000025",
        "192.0.2.1:+25",
        "192.0.2.1: 25",
        "192.0.2.1:25 ",
        "192.0.2:25",
        "192.0.2.256:25",
        "[192.0.2.1]:25",
        "192.0.2.1%1:25",
        "2001:db8::1:25",
        "[2001:db8::1]",
        "[2001:db8::1]25",
        "[2001:db8::1:25",
        "2001:db8::1]:25",
        "[]:25",
        "[fe80::1%]:25",
        "[fe80::1%0]:25",
        "[fe80::1%nothing]:25",
        "mx.example.org:25",
        "unix:",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000]:25",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct endpoint endpoint = {.family = ENDPOINT_UNIX, .path = "kept"};
        assert_int_equal(endpoint_parse(&endpoint, slice_text(rows[i])), -EINVAL);
        assert_string_equal(endpoint.path, "kept");
    }
}

static void a_nul_inside_is_refused(void **state)
{
    (void)state;
    struct endpoint endpoint;
    struct network_prefix prefix;
    assert_int_equal(endpoint_parse(&endpoint, slice_of("192.0.2.1\0:25", 13)), -EINVAL);
    assert_int_equal(endpoint_parse(&endpoint, slice_of("unix:/a\0b", 9)), -EINVAL);
    assert_int_equal(network_prefix_parse(&prefix, slice_of("192.0.2.1\0", 10)), -EINVAL);
}

static void a_unix_path_fits_up_to_107_bytes(void **state)
{
    (void)state;
    char text[5 + ENDPOINT_PATH_MAX + 2] = "unix:";
    char formatted[ENDPOINT_TEXT_MAX];
    memset(text + 5, 'p', ENDPOINT_PATH_MAX + 1);
    struct endpoint endpoint;
    assert_int_equal(endpoint_parse(&endpoint, slice_of(text, 5 + ENDPOINT_PATH_MAX + 1)), -EINVAL);
    assert_int_equal(endpoint_parse(&endpoint, slice_of(text, 5 + ENDPOINT_PATH_MAX)), 0);
    assert_int_equal(endpoint_format(&endpoint, formatted), 5 + ENDPOINT_PATH_MAX);
}

static void a_prefix_holds_its_network_only(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *endpoint;
        bool holds;
    } rows[] = {
        {"192.0.2.0/24", "192.0.2.255:1", true},
        {"192.0.2.0/24", "192.0.3.0:1", false},
        {"192.0.2.77/24", "192.0.2.1:1", true},
        {"10.0.0.0/9", "10.127.0.1:1", true},
        {"10.0.0.0/9", "10.128.0.1:1", false},
        {"10.0.0.1", "10.0.0.1:9", true},
        {"10.0.0.1", "10.0.0.2:9", false},
        {"0.0.0.0/0", "203.0.113.9:1", true},
        {"0.0.0.0/0", "[2001:db8::1]:1", false},
        {"::/0", "[2001:db8::1]:1", true},
        {"::/0", "203.0.113.9:1", false},
        {"2001:db8::/32", "[2001:db8:ffff::1]:1", true},
        {"2001:db8::/33", "[2001:db8:8000::1]:1", false},
        {"2001:db8::1/128", "[2001:db8::1]:1", true},
        {"10.0.0.0/8", "[::ffff:10.0.0.1]:1", true},
        {"::ffff:10.0.0.0/104", "10.0.0.1:1", true},
        {"::ffff:10.0.0.0/104", "11.0.0.1:1", false},
        {"fe80::%1/64", "[fe80::5%1]:1", true},
        {"fe80::%1/64", "[fe80::5%2]:1", false},
        {"fe80::/64", "[fe80::5%2]:1", true},
        {"0.0.0.0/0", "unix:/run/x", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct network_prefix prefix;
        struct endpoint endpoint = parsed(rows[i].endpoint);
        assert_int_equal(network_prefix_parse(&prefix, slice_text(rows[i].prefix)), 0);
        assert_int_equal(network_prefix_holds(&prefix, &endpoint), rows[i].holds);
    }
}

static void what_is_no_prefix_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",         "/8",          "10.0.0.0/",     "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8",
        "::/129",   "10.0.0/8",    "10.0.0.0/0008", "10.0.0.0/8 ", "example.org", "10.0.0.0:25",
        "[::1]/64", "10.0.0.0%1/8"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct network_prefix prefix;
        assert_int_equal(network_prefix_parse(&prefix, slice_text(rows[i])), -EINVAL);
    }
}

static void a_socket_address_goes_there_and_back(void **state)
{
    (void)state;
    static const char *const rows[] = {"192.0.2.1:25", "[2001:db8::1]:2525", "[fe80::1%3]:25",
                                       "unix:/run/x"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct endpoint before = parsed(rows[i]), after;
        struct sockaddr_storage address;
        socklen_t length = endpoint_to_sockaddr(&before, &address);
        assert_int_equal(endpoint_from_sockaddr(&after, (struct sockaddr *)&address, length), 0);
        assert_true(endpoint_equal(&before, &after));
    }
}

static void a_mapped_socket_address_is_ipv4(void **state)
{
    (void)state;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(25)};
    const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1};
    memcpy(&address.sin6_addr, mapped, 16);
    struct endpoint endpoint, expected = parsed("10.0.0.1:25");
    assert_int_equal(
        endpoint_from_sockaddr(&endpoint, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(endpoint_equal(&endpoint, &expected));
}

static void socket_addresses_that_are_short_or_strange_are_refused(void **state)
{
    (void)state;
    struct sockaddr_storage address = {.ss_family = AF_INET};
    struct endpoint endpoint;
    struct sockaddr *any = (struct sockaddr *)&address;
    assert_int_equal(endpoint_from_sockaddr(&endpoint, any, 1), -EINVAL);
    assert_int_equal(endpoint_from_sockaddr(&endpoint, any, 8), -EINVAL);
    address.ss_family = AF_INET6;
    assert_int_equal(endpoint_from_sockaddr(&endpoint, any, 16), -EINVAL);
    address.ss_family = AF_PACKET;
    assert_int_equal(endpoint_from_sockaddr(&endpoint, any, sizeof(address)), -EAFNOSUPPORT);
    address.ss_family = AF_UNIX;
    assert_int_equal(endpoint_from_sockaddr(&endpoint, any, 2), 0);
    assert_string_equal(endpoint.path, "");
}

static void loopback_is_known(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool loopback;
    } rows[] = {{"127.0.0.1:1", true},
                {"127.9.9.9:1", true},
                {"128.0.0.1:1", false},
                {"[::1]:1", true},
                {"[::2]:1", false},
                {"unix:/x", true},
                {"[::ffff:127.0.0.1]:1", true}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct endpoint endpoint = parsed(rows[i].text);
        assert_int_equal(endpoint_is_loopback(&endpoint), rows[i].loopback);
    }
}

static void equality_looks_at_what_matters(void **state)
{
    (void)state;
    struct endpoint a = parsed("192.0.2.1:25"), b = parsed("192.0.2.1:26");
    assert_true(endpoint_same_address(&a, &b));
    assert_false(endpoint_equal(&a, &b));
    struct endpoint c = parsed("[fe80::1%1]:25"), d = parsed("[fe80::1%2]:25");
    assert_false(endpoint_same_address(&c, &d));
    struct endpoint e = parsed("unix:/a"), f = parsed("unix:/b");
    assert_false(endpoint_equal(&e, &f));
    assert_false(endpoint_equal(&a, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_formatted_is_what_was_parsed),
        cmocka_unit_test(what_is_no_endpoint_is_refused_and_nothing_is_changed),
        cmocka_unit_test(a_nul_inside_is_refused),
        cmocka_unit_test(a_unix_path_fits_up_to_107_bytes),
        cmocka_unit_test(a_prefix_holds_its_network_only),
        cmocka_unit_test(what_is_no_prefix_is_refused),
        cmocka_unit_test(a_socket_address_goes_there_and_back),
        cmocka_unit_test(a_mapped_socket_address_is_ipv4),
        cmocka_unit_test(socket_addresses_that_are_short_or_strange_are_refused),
        cmocka_unit_test(loopback_is_known),
        cmocka_unit_test(equality_looks_at_what_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
