#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/dns/record.h"
#include "proto/dns/tlsa.h"
#include <errno.h>

static void an_mx_record_is_read_whole_or_not_at_all(void **state)
{
    struct dns_mx mx;
    (void)state;
    assert_int_equal(dns_mx_read(slice_of("\1\2\2mx\4test\0", 11), &mx), 0);
    assert_int_equal(mx.preference, 258);
    assert_string_equal(mx.exchange, "mx.test");
    assert_int_equal(dns_mx_read(slice_of("\0\0\0", 3), &mx), 0);
    assert_string_equal(mx.exchange, "");
    for (size_t size = 0; size < 11; size++) {
        assert_int_equal(dns_mx_read(slice_of("\1\2\2mx\4test\0", size), &mx), -EINVAL);
    }
    assert_int_equal(dns_mx_read(slice_of("\1\2\2mx\4test\0\0", 12), &mx), -EINVAL);
}

static void addresses_that_a_mail_host_can_have_are_read(void **state)
{
    (void)state;
    static const struct {
        enum dns_type type;
        const char *rdata;
        size_t size;
        const char *text; /* NULL: refused */
    } cases[] = {
        {DNS_TYPE_A, "\300\0\2\1", 4, "192.0.2.1:25"},
        {DNS_TYPE_A, "\177\0\0\1", 4, "127.0.0.1:25"},
        {DNS_TYPE_AAAA, " \1\15\270\0\0\0\0\0\0\0\0\0\0\0\1", 16, "[2001:db8::1]:25"},
        {DNS_TYPE_AAAA, "\0\0\0\0\0\0\0\0\0\0\377\377\300\0\2\1", 16, "192.0.2.1:25"},
        {DNS_TYPE_A, "\300\0\2", 3, NULL},
        {DNS_TYPE_A, "\300\0\2\1\1", 5, NULL},
        {DNS_TYPE_A, " \1\15\270\0\0\0\0\0\0\0\0\0\0\0\1", 16, NULL},
        {DNS_TYPE_AAAA, "\300\0\2\1", 4, NULL},
        {DNS_TYPE_A, "\0\0\0\0", 4, NULL},
        {DNS_TYPE_A, "\340\0\0\1", 4, NULL},
        {DNS_TYPE_A, "\377\377\377\377", 4, NULL},
        {DNS_TYPE_AAAA, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, NULL},
        {DNS_TYPE_AAAA, "\0\0\0\0\0\0\0\0\0\0\377\377\0\0\0\0", 16, NULL},
        {DNS_TYPE_AAAA, "\377\2\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, NULL},
        {DNS_TYPE_AAAA, "\376\200\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct endpoint address;
        char text[ENDPOINT_TEXT_MAX];
        int status =
            dns_address_read(cases[i].type, slice_of(cases[i].rdata, cases[i].size), 25, &address);
        assert_int_equal(status, cases[i].text == NULL ? -EINVAL : 0);
        if (cases[i].text != NULL) {
            endpoint_format(&address, text);
            assert_string_equal(text, cases[i].text);
        }
    }
}

static void the_strings_of_a_txt_record_are_one_text(void **state)
{
    char text[16];
    (void)state;
    assert_int_equal(dns_txt_read(slice_of("\3abc\0\2de", 8), text, sizeof(text)), 5);
    assert_memory_equal(text, "abcde", 5);
    assert_int_equal(dns_txt_read(slice_of("\0", 1), text, sizeof(text)), 0);
    assert_int_equal(dns_txt_read(slice_of("", 0), text, sizeof(text)), -EINVAL);
    assert_int_equal(dns_txt_read(slice_of("\4abc", 4), text, sizeof(text)), -EINVAL);
    assert_int_equal(dns_txt_read(slice_of("\3abc\3de", 7), text, sizeof(text)), -EINVAL);
}

static void a_txt_record_of_64_kib_does_not_fit_and_is_refused(void **state)
{
    static uint8_t rdata[65536];
    char text[512];
    (void)state;
    memset(rdata, 255, sizeof(rdata));
    assert_int_equal(dns_txt_read(slice_of(rdata, sizeof(rdata)), text, sizeof(text)), -EMSGSIZE);
    assert_int_equal(dns_txt_read(slice_of(rdata, sizeof(rdata)), NULL, 0), -EMSGSIZE);
    assert_int_equal(dns_txt_read(slice_of(rdata, 2 * 256), text, 510), 510);
    assert_int_equal(dns_txt_read(slice_of(rdata, 2 * 256), text, 509), -EMSGSIZE);
}

/* ---- TLSA ---- */

static uint8_t digest[DNS_TLSA_DATA_MAX + 1];

static struct dns_tlsa tlsa_of(uint8_t usage, uint8_t selector, uint8_t matching_type, size_t size)
{
    return (struct dns_tlsa){.usage = usage,
                             .selector = selector,
                             .matching_type = matching_type,
                             .data = slice_of(digest, size)};
}

static void a_tlsa_record_without_data_is_refused(void **state)
{
    struct dns_tlsa tlsa;
    (void)state;
    assert_int_equal(dns_tlsa_read(slice_of("\3\1\1x", 4), &tlsa), 0);
    assert_int_equal(tlsa.usage, DNS_TLSA_DANE_EE);
    assert_int_equal(tlsa.selector, DNS_TLSA_PUBLIC_KEY);
    assert_int_equal(tlsa.matching_type, DNS_TLSA_SHA256);
    assert_int_equal(tlsa.data.size, 1);
    for (size_t size = 0; size < 4; size++) {
        assert_int_equal(dns_tlsa_read(slice_of("\3\1\1x", size), &tlsa), -EINVAL);
    }
}

static void an_smtp_client_uses_usages_2_and_3_of_known_form(void **state)
{
    (void)state;
    static const struct {
        uint8_t usage, selector, matching_type;
        uint16_t size;
        bool usable;
    } cases[] = {
        {3, 1, 1, 32, true},    {2, 0, 1, 32, true},    {3, 0, 2, 64, true},  {2, 0, 0, 900, true},
        {3, 1, 0, 1, true},     {0, 0, 1, 32, false},   {1, 1, 1, 32, false}, {4, 1, 1, 32, false},
        {255, 1, 1, 32, false}, {3, 2, 1, 32, false},   {3, 1, 3, 32, false}, {3, 1, 1, 31, false},
        {3, 1, 1, 33, false},   {3, 1, 1, 64, false},   {3, 1, 2, 32, false}, {3, 1, 0, 0, false},
        {3, 0, 0, 8192, true},  {3, 0, 0, 8193, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dns_tlsa tlsa =
            tlsa_of(cases[i].usage, cases[i].selector, cases[i].matching_type, cases[i].size);
        assert_int_equal(dns_tlsa_usable(&tlsa), cases[i].usable);
    }
}

static void the_strongest_digest_of_each_usage_and_selector_is_kept(void **state)
{
    struct dns_tlsa records[] = {
        tlsa_of(3, 1, 1, 32), /* outdone by the SHA-512 that follows */
        tlsa_of(1, 1, 2, 64), /* unusable: outdoes nobody */
        tlsa_of(3, 1, 2, 64), tlsa_of(3, 1, 2, 64),
        tlsa_of(3, 1, 1, 32), /* outdone by the one before */
        tlsa_of(3, 1, 0, 90), /* full data is beside the contest */
        tlsa_of(3, 0, 1, 32), /* another selector */
        tlsa_of(2, 1, 1, 32), /* another usage */
        tlsa_of(2, 0, 2, 63), /* broken: outdoes nobody */
        tlsa_of(2, 0, 1, 32),
    };
    static const uint8_t expected[][3] = {{3, 1, 2}, {3, 1, 2}, {3, 1, 0},
                                          {3, 0, 1}, {2, 1, 1}, {2, 0, 1}};
    (void)state;
    assert_int_equal(dns_tlsa_select(records, sizeof(records) / sizeof(records[0])), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(records[i].usage, expected[i][0]);
        assert_int_equal(records[i].selector, expected[i][1]);
        assert_int_equal(records[i].matching_type, expected[i][2]);
    }
}

static void records_of_which_none_is_usable_leave_none(void **state)
{
    struct dns_tlsa records[] = {tlsa_of(0, 1, 1, 32), tlsa_of(3, 7, 1, 32)};
    (void)state;
    assert_int_equal(dns_tlsa_select(records, 2), 0);
    assert_int_equal(dns_tlsa_select(records, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_mx_record_is_read_whole_or_not_at_all),
        cmocka_unit_test(addresses_that_a_mail_host_can_have_are_read),
        cmocka_unit_test(the_strings_of_a_txt_record_are_one_text),
        cmocka_unit_test(a_txt_record_of_64_kib_does_not_fit_and_is_refused),
        cmocka_unit_test(a_tlsa_record_without_data_is_refused),
        cmocka_unit_test(an_smtp_client_uses_usages_2_and_3_of_known_form),
        cmocka_unit_test(the_strongest_digest_of_each_usage_and_selector_is_kept),
        cmocka_unit_test(records_of_which_none_is_usable_leave_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
