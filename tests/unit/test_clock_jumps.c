/* The clock of dates is set, back or ahead: what it decides, and what not. */
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define BY_MX "\n  - {match: \"*\", via: mx}\n"
#define HOUR_S ((int64_t)3600)
#define DAY_S (24 * HOUR_S)
#define DAY (86400 * RIG_SECOND)

static const int64_t jumps_s[] = {-HOUR_S, 365 * DAY_S, -365 * DAY_S};
#define JUMPS (sizeof(jumps_s) / sizeof(jumps_s[0]))

/* A letter that was put off just now. */
static struct relay_rig *open_deferred(void)
{
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 busy");
    rig_post(rig, "s@b.test", "u@a.test");
    assert_int_equal(rig->relay->counters.deferred, 1);
    return rig;
}

static void the_next_attempt_comes_when_it_was_to_come(void **state)
{
    (void)state;
    for (size_t i = 0; i < JUMPS; i++) {
        struct relay_rig *rig = open_deferred();
        rig_pass(rig, 100 * RIG_SECOND);
        rig->wall_jump_s = jumps_s[i];
        rig_pass(rig, 190 * RIG_SECOND);
        assert_int_equal(rig->relay->counters.deferred, 1);
        rig_pass(rig, 15 * RIG_SECOND);
        assert_int_equal(rig->relay->counters.deferred, 2);
        relay_rig_close(rig);
    }
}

static void mail_is_returned_when_its_time_is_over_and_not_before(void **state)
{
    (void)state;
    for (size_t i = 0; i < JUMPS; i++) {
        struct relay_rig *rig = open_deferred();
        rig_pass(rig, DAY);
        rig->wall_jump_s = jumps_s[i];
        rig_pass(rig, 4 * DAY - 3600 * RIG_SECOND);
        assert_int_equal(rig_waiting(rig), 1);
        rig_pass(rig, 2 * 3600 * RIG_SECOND);
        assert_int_equal(rig_waiting(rig), 0);
        assert_non_null(rig_letter_for(rig, "s@b.test"));
        relay_rig_close(rig);
    }
}

/* Then there are only dates to go by: of the arrival and of the last attempt. */
static void after_a_restart_mail_is_tried_before_it_is_returned(void **state)
{
    (void)state;
    for (size_t i = 0; i < JUMPS; i++) {
        struct relay_rig *rig = open_deferred();
        rig_pass(rig, 100 * RIG_SECOND);
        rig->wall_jump_s = jumps_s[i];
        strcpy(rig->servers[0].rcpt_reply, "250 2.1.5 Ok");
        rig_restart(rig);
        rig_pass(rig, 305 * RIG_SECOND); /* the longest that it may wait after one failure */
        assert_non_null(rig_letter_for(rig, "u@a.test"));
        assert_null(rig_letter_for(rig, "s@b.test"));
        assert_int_equal(rig_waiting(rig), 0);
        relay_rig_close(rig);
    }
}

static void after_a_restart_with_the_clock_set_back_mail_still_comes_to_its_end(void **state)
{
    (void)state;
    struct relay_rig *rig = open_deferred();
    rig->wall_jump_s = -365 * DAY_S;
    rig_restart(rig);
    rig_pass(rig, 5 * DAY - 3600 * RIG_SECOND);
    assert_int_equal(rig_waiting(rig), 1);
    rig_pass(rig, 2 * 3600 * RIG_SECOND);
    assert_non_null(rig_letter_for(rig, "s@b.test"));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void dates_are_those_of_the_clock(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 busy");
    rig_post(rig, "s@b.test", "u@a.test"); /* in November 2023 */
    rig->wall_jump_s = 365 * DAY_S;
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 gone");
    rig_pass(rig, 305 * RIG_SECOND);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_non_null(report);
    assert_non_null(strstr(report->body, "\nDate: Wed, 13 Nov 2024 "));
    assert_non_null(strstr(report->body, "\nArrival-Date: Tue, 14 Nov 2023 "));
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_attempt_comes_when_it_was_to_come),
        cmocka_unit_test(mail_is_returned_when_its_time_is_over_and_not_before),
        cmocka_unit_test(after_a_restart_mail_is_tried_before_it_is_returned),
        cmocka_unit_test(after_a_restart_with_the_clock_set_back_mail_still_comes_to_its_end),
        cmocka_unit_test(dates_are_those_of_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
