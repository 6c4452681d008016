/* report: what the operator reads. */
#include "engine/control/report.h"
#include "engine/core/check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char printed[8192];

static FILE *open_print(void)
{
    memset(printed, 0, sizeof printed);
    FILE *out = fmemopen(printed, sizeof printed - 1, "w");
    check(out != NULL);
    return out;
}

static json_t *json_of(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    check(json != NULL);
    return json;
}

static void sizes_are_short(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0"},       {1023, "1023"},    {1024, "1.0K"},    {4300, "4.2K"},
        {10240, "10K"}, {1 << 20, "1.0M"}, {1048575, "1.0M"}, {UINT64_MAX, "16E"},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char text[REPORT_SIZE_BYTES];
        assert_string_equal(report_size(sizes[i].bytes, text), sizes[i].text);
    }
}

static void a_queue_is_printed_with_its_recipients_and_a_sum(void **state)
{
    (void)state;
    setenv("TZ", "UTC", 1);
    struct queue_report report = {.out = open_print()};
    json_t *first = json_of(
        "{\"id\":\"0123456789ABC\",\"bytes\":4300,\"arrival\":1700000000,\"sender\":\"a@x\","
        "\"attempts\":2,\"due_s\":60,\"reason\":\"450 4.2.0 busy\",\"recipients\":["
        "{\"address\":\"b@y\",\"state\":\"waiting\",\"reason\":\"450 no\"},"
        "{\"address\":\"c@y\",\"state\":\"waiting\"}]}");
    json_t *second = json_of("{\"id\":\"X\",\"bytes\":100,\"arrival\":1700000000,\"sender\":\"\"}");
    queue_report_message(&report, first);
    queue_report_message(&report, second);
    queue_report_end(&report);
    fclose(report.out);
    assert_string_equal(printed, "ID              Size Arrival             Sender, recipients\n"
                                 "0123456789ABC   4.2K 2023-11-14 22:13:20 a@x\n"
                                 "    (450 4.2.0 busy)\n"
                                 "    next attempt in 60 s, 2 made\n"
                                 "    waiting   b@y (450 no)\n"
                                 "    waiting   c@y\n"
                                 "X                100 2023-11-14 22:13:20 <>\n"
                                 "-- 4.3K in 2 messages\n");
    json_decref(first);
    json_decref(second);
}

static void an_empty_queue_says_so(void **state)
{
    (void)state;
    struct queue_report report = {.out = open_print()};
    queue_report_end(&report);
    fclose(report.out);
    assert_string_equal(printed, "The queue is empty.\n");
}

static void a_status_shows_counters_with_rates_and_gauges_without(void **state)
{
    (void)state;
    FILE *out = open_print();
    json_t *earlier = json_of("{\"counters\":{\"spool\":{\"committed\":100}}}");
    json_t *status = json_of("{\"hostname\":\"mx.test\",\"pid\":7,\"uptime_s\":90061,"
                             "\"counters\":{\"spool\":{\"committed\":300,\"aborted\":1}},"
                             "\"gauges\":{\"connections\":5,\"transport\":\"kernel\"}}");
    status_report(out, status, earlier, 2.0);
    fclose(out);
    assert_non_null(strstr(printed, "mx.test, process 7, up 1d 01:01:01\ncounters\n"));
    assert_non_null(
        strstr(printed,
               "spool.committed                                           300          100.0/s\n"));
    assert_non_null(
        strstr(printed, "spool.aborted                                               1\n"));
    assert_non_null(
        strstr(printed, "now\n  connections                                                 5\n"));
    assert_non_null(
        strstr(printed, "  transport                                              kernel\n"));
    json_decref(earlier);
    json_decref(status);
}

static void answers_that_lack_everything_do_no_harm(void **state)
{
    (void)state;
    FILE *out = open_print();
    json_t *empty = json_of("{}"), *list = json_of("[1]");
    struct queue_report report = {.out = out};
    queue_report_message(&report, empty);
    queue_report_message(&report, list);
    message_report(out, empty);
    message_report(out, list);
    status_report(out, list, empty, 1);
    fclose(out);
    json_decref(empty);
    json_decref(list);
    assert_int_equal(report.message_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_short),
        cmocka_unit_test(a_queue_is_printed_with_its_recipients_and_a_sum),
        cmocka_unit_test(an_empty_queue_says_so),
        cmocka_unit_test(a_status_shows_counters_with_rates_and_gauges_without),
        cmocka_unit_test(answers_that_lack_everything_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
