#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/dns/mta_sts.h"
#include <errno.h>

static void a_record_is_one_with_the_version_first_and_an_id(void **state)
{
    (void)state;
    static const struct {
        const char *text, *id; /* NULL: invalid */
    } cases[] = {
        {"v=STSv1; id=20160831085700Z;", "20160831085700Z"},
        {"v=STSv1; id=1", "1"},
        {"v=STSv1;id=abc", "abc"},
        {"v=STSv1; id=1 ; ", "1"},
        {"v=STSv1; foo=bar; id=1; x.y-z_1=a/b", "1"},
        {"v=STSv1; id=1; id=2", "1"},
        {"v=STSv1; id=12345678901234567890123456789012", "12345678901234567890123456789012"},
        {"v=STSv1; id=123456789012345678901234567890123", NULL},
        {"v=STSv1; id=", NULL},
        {"v=STSv1; id=a-b", NULL},
        {"v=STSv1;", NULL},
        {"v=STSv1; foo=bar", NULL},
        {"v=STSv1 id=1", NULL},
        {"v=STSv1", NULL},
        {"v=STSv2; id=1", NULL},
        {"V=stsv1; id=1", NULL},
        {"id=1; v=STSv1;", NULL},
        {"v=STSv1; id=1; novalue", NULL},
        {"v=STSv1; id=1; empty=", NULL},
        {"v=STSv1; id=1; a=b=c", NULL},
        {"v=STSv1;; id=1", NULL},
        {"v=spf1 -all", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char id[DNS_MTA_STS_ID_MAX + 1];
        int status = dns_mta_sts_read_record(slice_text(cases[i].text), id);
        assert_int_equal(status, cases[i].id == NULL ? -EINVAL : 0);
        if (cases[i].id != NULL) {
            assert_string_equal(id, cases[i].id);
        }
    }
}

static void a_policy_is_read_with_either_line_end(void **state)
{
    static const char *const texts[] = {
        "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.Example.net\nmx: "
        "backupmx.example.com\nmax_age: 604800\n",
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmx: "
        "backupmx.example.com\r\nmax_age: 604800",
        "max_age:604800 \nmx:mail.example.com.\t\nmode:\tenforce\nmx:*.example.net\n"
        "mx:backupmx.example.com\nfuture_field: what it may be\nversion:STSv1\n\n",
    };
    static struct dns_mta_sts_policy policy;
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(dns_mta_sts_read_policy(slice_text(texts[i]), &policy), 0);
        assert_int_equal(policy.mode, DNS_MTA_STS_ENFORCE);
        assert_int_equal(policy.max_age_s, 604800);
        assert_int_equal(policy.pattern_count, 3);
        assert_string_equal(policy.patterns[0], "mail.example.com");
        assert_string_equal(policy.patterns[1], "*.example.net");
        assert_string_equal(policy.patterns[2], "backupmx.example.com");
    }
}

static void a_policy_that_lacks_or_garbles_a_field_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"version: STSv1\nmode: testing\nmx: a.test\nmax_age: 1\n", true},
        {"version: STSv1\nmode: none\nmax_age: 86400\n", true},
        {"version: STSv1\nmode: testing\nmode: enforce!\nmx: a.test\nmax_age: 1\n", true},
        {"version: STSv1\nmode: enforce\nmax_age: 1\n", false},
        {"mode: testing\nmx: a.test\nmax_age: 1\n", false},
        {"version: STSv1\nmx: a.test\nmax_age: 1\n", false},
        {"version: STSv1\nmode: testing\nmx: a.test\n", false},
        {"version: STSv2\nmode: testing\nmx: a.test\nmax_age: 1\n", false},
        {"version: STSv1\nmode: strict\nmx: a.test\nmax_age: 1\n", false},
        {"version: STSv1\nmode: testing\nmx: a.*.test\nmax_age: 1\n", false},
        {"version: STSv1\nmode: testing\nmx: *\nmax_age: 1\n", false},
        {"version: STSv1\nmode: testing\nmx: *.\nmax_age: 1\n", false},
        {"version: STSv1\nmode: testing\nmx: .test\nmax_age: 1\n", false},
        {"version: STSv1\nmode: testing\nmx:\nmax_age: 1\n", false},
        {"version: STSv1\nmode: testing\nmx: a.test\nmax_age: -1\n", false},
        {"version: STSv1\nmode: testing\nmx: a.test\nmax_age: 1d\n", false},
        {"version: STSv1\nmode: testing\nmx: a.test\nmax_age:\n", false},
        {"version: STSv1\nmode: testing\nmx: a.test\nmax_age: 12345678901\n", false},
        {"version: STSv1\nmode: testing\nmx: a.test\nmax_age: 1\nno colon\n", false},
        {"version: STSv1\nmode: testing\nmx: a.test\nmax_age: 1\n: nameless\n", false},
        {"<html>version: STSv1</html>", false},
        {"", false},
    };
    static struct dns_mta_sts_policy policy;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(dns_mta_sts_read_policy(slice_text(cases[i].text), &policy),
                         cases[i].valid ? 0 : -EINVAL);
    }
}

static void ages_beyond_a_year_count_as_a_year(void **state)
{
    static struct dns_mta_sts_policy policy;
    (void)state;
    assert_int_equal(dns_mta_sts_read_policy(
                         slice_text("version: STSv1\nmode: none\nmax_age: 9999999999\n"), &policy),
                     0);
    assert_int_equal(policy.max_age_s, DNS_MTA_STS_AGE_MAX_S);
}

static void a_policy_is_bounded_in_bytes_and_in_patterns(void **state)
{
    static struct dns_mta_sts_policy policy;
    static char text[DNS_MTA_STS_POLICY_BYTES_MAX + 1];
    size_t size = (size_t)sprintf(text, "version: STSv1\nmode: enforce\nmax_age: 1\n");
    (void)state;
    for (unsigned i = 0; i < DNS_MTA_STS_PATTERNS_MAX; i++) {
        size += (size_t)sprintf(text + size, "mx: a%u.test\n", i);
    }
    assert_int_equal(dns_mta_sts_read_policy(slice_of(text, size), &policy), 0);
    assert_int_equal(policy.pattern_count, DNS_MTA_STS_PATTERNS_MAX);
    memset(text + size, '\n', sizeof(text) - size);
    assert_int_equal(dns_mta_sts_read_policy(slice_of(text, sizeof(text) - 1), &policy), 0);
    assert_int_equal(dns_mta_sts_read_policy(slice_of(text, sizeof(text)), &policy), -EINVAL);
    size += (size_t)sprintf(text + size, "mx: more.test\n");
    assert_int_equal(dns_mta_sts_read_policy(slice_of(text, size), &policy), -EINVAL);
}

static void a_wildcard_stands_for_one_label(void **state)
{
    (void)state;
    assert_true(dns_mta_sts_pattern_matches("mail.example.com", "mail.example.com"));
    assert_false(dns_mta_sts_pattern_matches("mail.example.com", "a.mail.example.com"));
    assert_true(dns_mta_sts_pattern_matches("*.example.com", "mail.example.com"));
    assert_false(dns_mta_sts_pattern_matches("*.example.com", "example.com"));
    assert_false(dns_mta_sts_pattern_matches("*.example.com", ".example.com"));
    assert_false(dns_mta_sts_pattern_matches("*.example.com", "a.b.example.com"));
    assert_false(dns_mta_sts_pattern_matches("*.example.com", "mailexample.com"));
    assert_false(dns_mta_sts_pattern_matches("*.example.com", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_one_with_the_version_first_and_an_id),
        cmocka_unit_test(a_policy_is_read_with_either_line_end),
        cmocka_unit_test(a_policy_that_lacks_or_garbles_a_field_is_none),
        cmocka_unit_test(ages_beyond_a_year_count_as_a_year),
        cmocka_unit_test(a_policy_is_bounded_in_bytes_and_in_patterns),
        cmocka_unit_test(a_wildcard_stands_for_one_label),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
