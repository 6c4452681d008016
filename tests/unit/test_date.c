#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "proto/message/date.h"

static void known_moments_are_written_as_rfc_5322_says(void **state)
{
    (void)state;
    static const struct {
        int64_t wall_s;
        const char *text;
    } cases[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 +0000"},
        {951782399, "Mon, 28 Feb 2000 23:59:59 +0000"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 +0000"},
        {1785575100, "Sat, 01 Aug 2026 09:05:00 +0000"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 +0000"}, /* no leap year */
        {-1, "Wed, 31 Dec 1969 23:59:59 +0000"},
        {INT64_MAX, "Fri, 31 Dec 9999 23:59:59 +0000"},
        {INT64_MIN, "Sat, 01 Jan 0000 00:00:00 +0000"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[MESSAGE_DATE_TEXT];
        assert_int_equal(message_date_format(cases[i].wall_s, text), 31);
        assert_string_equal(text, cases[i].text);
    }
}

static void every_day_of_four_centuries_agrees_with_the_c_library(void **state)
{
    (void)state;
    for (int64_t day = -146097 / 2; day < 146097 / 2; day++) {
        time_t wall_s = (time_t)(day * 86400 + (day * 7919) % 86400);
        struct tm tm;
        char expected[64], text[MESSAGE_DATE_TEXT];
        assert_non_null(gmtime_r(&wall_s, &tm));
        strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S +0000", &tm);
        message_date_format(wall_s, text);
        assert_string_equal(text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_moments_are_written_as_rfc_5322_says),
        cmocka_unit_test(every_day_of_four_centuries_agrees_with_the_c_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
