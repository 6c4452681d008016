/* queue_summary: counts by name and age, bounded. */
#include "engine/relay/queue_summary.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define MINUTE 60u

static void recipients_are_counted_by_name_and_age(void **state)
{
    (void)state;
    struct queue_summary summary;
    assert_int_equal(queue_summary_open(&summary), 0);
    queue_summary_add(&summary, slice_text("b.test"), 4 * MINUTE, 1);
    queue_summary_add(&summary, slice_text("a.test"), 5 * MINUTE, 3);
    queue_summary_add(&summary, slice_text("B.TEST"), 1280 * MINUTE, 1); /* no case */
    queue_summary_add(&summary, slice_text("c.test"), 1279 * MINUTE, 2);
    queue_summary_sort(&summary);
    assert_int_equal(summary.row_count, 3);
    assert_string_equal(summary.rows[0].name, "a.test");
    assert_string_equal(summary.rows[1].name, "b.test"); /* as many as c: by name */
    assert_int_equal(summary.rows[0].ages[1], 3);
    assert_int_equal(summary.rows[1].count, 2);
    assert_int_equal(summary.rows[1].ages[0], 1);
    assert_int_equal(summary.rows[1].ages[9], 1);
    assert_int_equal(summary.rows[1].oldest_s, 1280 * MINUTE);
    assert_int_equal(summary.rows[2].ages[8], 2);
    assert_int_equal(summary.total.count, 7);
    assert_int_equal(summary.others.count, 0);
    queue_summary_close(&summary);
}

static void more_names_than_there_is_room_for_are_counted_together(void **state)
{
    (void)state;
    struct queue_summary summary;
    char name[32];
    assert_int_equal(queue_summary_open(&summary), 0);
    for (unsigned i = 0; i < QUEUE_SUMMARY_NAMES_MAX + 100; i++) {
        snprintf(name, sizeof(name), "%u.test", i);
        queue_summary_add(&summary, slice_text(name), 0, 2);
    }
    queue_summary_add(&summary, slice_text("7.test"), 0, 1); /* known before */
    assert_int_equal(summary.row_count, QUEUE_SUMMARY_NAMES_MAX);
    assert_int_equal(summary.others.count, 200);
    assert_int_equal(summary.total.count, 2 * (QUEUE_SUMMARY_NAMES_MAX + 100) + 1);
    queue_summary_sort(&summary);
    assert_string_equal(summary.rows[0].name, "7.test");
    queue_summary_close(&summary);
}

static void shards_are_added(void **state)
{
    (void)state;
    struct queue_summary sum, other;
    assert_int_equal(queue_summary_open(&sum), 0);
    assert_int_equal(queue_summary_open(&other), 0);
    queue_summary_add(&sum, slice_text("a"), 10, 1);
    queue_summary_add(&other, slice_text("a"), 400, 1);
    queue_summary_add(&other, slice_text(""), 0, 5);
    queue_summary_merge(&sum, &other);
    queue_summary_sort(&sum);
    assert_int_equal(sum.row_count, 2);
    assert_string_equal(sum.rows[0].name, "");
    assert_int_equal(sum.rows[1].count, 2);
    assert_int_equal(sum.rows[1].oldest_s, 400);
    assert_int_equal(sum.total.count, 7);
    queue_summary_close(&sum);
    queue_summary_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipients_are_counted_by_name_and_age),
        cmocka_unit_test(more_names_than_there_is_room_for_are_counted_together),
        cmocka_unit_test(shards_are_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
