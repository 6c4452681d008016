/* report: what the operator reads. */
#include "engine/control/report.h"
#include "engine/control/report_queue.h"
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

static void a_queue_is_printed_as_mailq_does(void **state)
{
    (void)state;
    setenv("TZ", "UTC", 1);
    struct queue_report report = {.out = open_print()};
    json_t *first = json_of(
        "{\"id\":\"0123456789ABC\",\"bytes\":4300,\"arrival\":1700000000,\"sender\":\"a@x\","
        "\"recipients\":["
        "{\"address\":\"b@y\",\"state\":\"deferred\",\"reason\":\"450 4.2.0 no\"},"
        "{\"address\":\"c@y\",\"state\":\"deferred\",\"reason\":\"450 4.2.0 no\"},"
        "{\"address\":\"d@y\",\"state\":\"active\"}]}");
    json_t *more = json_of("{\"id\":\"0123456789ABC\",\"recipients\":[{\"address\":\"e@y\"}]}");
    json_t *held = json_of("{\"id\":\"X\",\"bytes\":100,\"arrival\":1700000000,\"sender\":\"\","
                           "\"held\":true,\"recipients\":[]}");
    queue_report_message(&report, first);
    queue_report_message(&report, more);
    queue_report_message(&report, held);
    queue_report_end(&report);
    fclose(report.out);
    assert_string_equal(
        printed, "-Queue ID-     --Size-- ----Arrival Time---- -Sender/Recipient------------\n"
                 "0123456789ABC*     4300  Tue Nov 14 22:13:20 a@x\n"
                 "                                         (450 4.2.0 no)\n"
                 "                                         b@y\n"
                 "                                         c@y\n"
                 "                                         d@y\n"
                 "                                         e@y\n"
                 "\n"
                 "X!                  100  Tue Nov 14 22:13:20 MAILER-DAEMON\n"
                 "\n"
                 "-- 4 Kbytes in 2 Requests.\n");
    json_decref(first);
    json_decref(more);
    json_decref(held);
}

static void an_empty_queue_says_so(void **state)
{
    (void)state;
    struct queue_report report = {.out = open_print()};
    queue_report_end(&report);
    fclose(report.out);
    assert_string_equal(printed, "Mail queue is empty\n");
}

static void a_message_as_json_has_the_keys_of_postqueue(void **state)
{
    (void)state;
    FILE *out = open_print();
    json_t *message = json_of(
        "{\"id\":\"A\",\"bytes\":5,\"arrival\":7,\"sender\":\"\",\"attempts\":2,\"recipients\":["
        "{\"address\":\"b@y\",\"state\":\"deferred\",\"reason\":\"no\",\"site\":\"s\"},"
        "{\"address\":\"c@y\",\"state\":\"waiting\"}]}");
    queue_report_json(out, message);
    fclose(out);
    assert_string_equal(printed,
                        "{\"queue_name\":\"deferred\",\"queue_id\":\"A\",\"arrival_time\":7,"
                        "\"message_size\":5,\"forced_expire\":false,\"sender\":\"MAILER-DAEMON\","
                        "\"recipients\":[{\"address\":\"b@y\",\"delay_reason\":\"no\"},"
                        "{\"address\":\"c@y\"}]}\n");
    json_decref(message);
}

/* In 80 columns, whatever the numbers. */
static void a_summary_fits_the_screen(void **state)
{
    (void)state;
    struct summary_report report = {.out = open_print(), .by = "domain"};
    json_t *row = json_of("{\"name\":\"a.domain.with.a.name\",\"count\":12345678,"
                          "\"oldest_s\":8639999,\"ages\":[9999,10000,123456,999499,999500,0,"
                          "1000000,9949999,99999999,18446744]}");
    summary_report_line(&report, row);
    fclose(report.out);
    assert_string_equal(
        printed,
        "domain              T oldest    5   10   20   40   80  160  320  640 1280 1280+\n"
        "a.domain.with.a.name\n"
        "                  12M 99d23h 9999  10K 123K 999K 1.0M    0 1.0M 9.9M 100M   18M\n");
    json_decref(row);
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
    queue_report_json(out, list);
    summary_report_line(&(struct summary_report){.out = out, .by = "site"}, list);
    jobs_report_line(&(struct jobs_report){.out = out}, empty);
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
        cmocka_unit_test(a_queue_is_printed_as_mailq_does),
        cmocka_unit_test(a_message_as_json_has_the_keys_of_postqueue),
        cmocka_unit_test(a_summary_fits_the_screen),
        cmocka_unit_test(an_empty_queue_says_so),
        cmocka_unit_test(a_status_shows_counters_with_rates_and_gauges_without),
        cmocka_unit_test(answers_that_lack_everything_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
