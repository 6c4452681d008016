#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/dns/name.h"
#include <errno.h>

static const char label_63[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

static void text_becomes_lower_case_without_a_final_dot_or_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name; /* NULL: refused */
    } cases[] = {
        {"example.org", "example.org"},
        {"Example.ORG.", "example.org"},
        {"_25._tcp.mx", "_25._tcp.mx"},
        {"xn--bcher-kva.example", "xn--bcher-kva.example"},
        {"localhost", "localhost"},
        {".", ""},
        {"", NULL},
        {"..", NULL},
        {".example.org", NULL},
        {"example..org", NULL},
        {"example.org..", NULL},
        {"exa mple.org", NULL},
        {"b\303\274cher.example", NULL},
        {"a;b.example", NULL},
        {"*.example.org", NULL},
        {"[192.0.2.1]", NULL},
        {"a\r\nb", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[DNS_NAME_BYTES];
        int length = dns_name_from_text(slice_text(cases[i].text), name);
        if (cases[i].name == NULL) {
            assert_int_equal(length, -EINVAL);
        } else {
            assert_int_equal(length, strlen(cases[i].name));
            assert_string_equal(name, cases[i].name);
        }
    }
}

static void a_nul_in_a_name_is_refused(void **state)
{
    char name[DNS_NAME_BYTES];
    (void)state;
    assert_int_equal(dns_name_from_text(slice_of("a\0b.example", 11), name), -EINVAL);
}

static void labels_of_63_and_names_of_253_are_the_longest(void **state)
{
    char text[300], name[DNS_NAME_BYTES];
    (void)state;
    assert_int_equal(dns_name_from_text(slice_text(label_63), name), 63);
    snprintf(text, sizeof(text), "%sa", label_63);
    assert_int_equal(dns_name_from_text(slice_text(text), name), -EINVAL);
    snprintf(text, sizeof(text), "%s.%s.%s.%.61s", label_63, label_63, label_63, label_63);
    assert_int_equal(strlen(text), 253);
    assert_int_equal(dns_name_from_text(slice_text(text), name), 253);
    snprintf(text, sizeof(text), "%s.%s.%s.%.62s", label_63, label_63, label_63, label_63);
    assert_int_equal(dns_name_from_text(slice_text(text), name), -EINVAL);
}

static void a_name_on_the_wire_is_read_and_what_follows_left(void **state)
{
    char name[DNS_NAME_BYTES];
    size_t offset = 2;
    (void)state;
    assert_int_equal(
        dns_name_from_wire(slice_of("\0\12\2MX\7Example\3org\0rest", 22), &offset, name), 14);
    assert_string_equal(name, "mx.example.org");
    assert_int_equal(offset, 18);
    offset = 0;
    assert_int_equal(dns_name_from_wire(slice_of("\0", 1), &offset, name), 0);
    assert_string_equal(name, "");
    assert_int_equal(offset, 1);
}

static void a_wrong_name_on_the_wire_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *wire;
        size_t size;
        const char *why;
    } cases[] = {
        {"", 0, "nothing"},
        {"\3org", 4, "no end"},
        {"\4org", 4, "a label longer than what is there"},
        {"\300\0", 2, "a compression pointer to itself"},
        {"\2mx\300\0", 5, "a compression pointer to the beginning"},
        {"\100a\0", 3, "an extended label"},
        {"\3a.b\0", 5, "a dot within a label"},
        {"\3a\0b\0", 5, "a NUL within a label"},
        {"\3a b\0", 5, "a blank"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[DNS_NAME_BYTES];
        size_t offset = 0;
        assert_int_equal(dns_name_from_wire(slice_of(cases[i].wire, cases[i].size), &offset, name),
                         -EINVAL);
        assert_int_equal(offset, 0);
    }
}

static void the_longest_name_on_the_wire_takes_255_bytes(void **state)
{
    uint8_t wire[300];
    char name[DNS_NAME_BYTES];
    size_t offset = 0;
    (void)state;
    for (unsigned i = 0; i < 127; i++) {
        wire[2 * i] = 1;
        wire[2 * i + 1] = 'a';
    }
    wire[254] = 0;
    assert_int_equal(dns_name_from_wire(slice_of(wire, 255), &offset, name), 253);
    assert_int_equal(offset, 255);
    wire[254] = 1;
    wire[255] = 'a';
    wire[256] = 0;
    offset = 0;
    assert_int_equal(dns_name_from_wire(slice_of(wire, 257), &offset, name), -EINVAL);
}

static void a_prefix_that_makes_the_name_too_long_is_refused(void **state)
{
    char long_name[DNS_NAME_BYTES], name[DNS_NAME_BYTES];
    (void)state;
    assert_int_equal(dns_name_with_prefix("_25._tcp", "mx.example.org", name), 23);
    assert_string_equal(name, "_25._tcp.mx.example.org");
    snprintf(long_name, sizeof(long_name), "%s.%s.%s.%.52s", label_63, label_63, label_63,
             label_63);
    assert_int_equal(dns_name_with_prefix("_25._tcp", long_name, name), 253);
    snprintf(long_name, sizeof(long_name), "%s.%s.%s.%.53s", label_63, label_63, label_63,
             label_63);
    assert_int_equal(dns_name_with_prefix("_25._tcp", long_name, name), -EINVAL);
}

static void a_name_that_ends_in_a_number_is_an_address(void **state)
{
    (void)state;
    assert_true(dns_name_is_address("192.0.2.1"));
    assert_true(dns_name_is_address("42"));
    assert_false(dns_name_is_address("1.example"));
    assert_false(dns_name_is_address("2.0.192.in-addr.arpa"));
    assert_false(dns_name_is_address("example.4a"));
    assert_false(dns_name_is_address(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_becomes_lower_case_without_a_final_dot_or_is_refused),
        cmocka_unit_test(a_nul_in_a_name_is_refused),
        cmocka_unit_test(labels_of_63_and_names_of_253_are_the_longest),
        cmocka_unit_test(a_name_on_the_wire_is_read_and_what_follows_left),
        cmocka_unit_test(a_wrong_name_on_the_wire_is_refused),
        cmocka_unit_test(the_longest_name_on_the_wire_takes_255_bytes),
        cmocka_unit_test(a_prefix_that_makes_the_name_too_long_is_refused),
        cmocka_unit_test(a_name_that_ends_in_a_number_is_an_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
