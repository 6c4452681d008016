/* What the operator does to single deliveries that wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "queue/sched/sched.h"
#include "queue/spool/spool.h"

#define SECOND 1000000000ull
#define START (1000 * SECOND)

static const struct sched_site_settings settings = {
    .connection_count_max = 3,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 4000 * SECOND},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = 3600 * SECOND},
    .expire_ns = 400000 * SECOND,
};

static struct sched *sched;
static struct sched_site *site;

static int open_one(void **state)
{
    (void)state;
    sched = sched_open(1);
    return sched == NULL || sched_site_open(sched, &settings, &site, &site) != 0;
}

static int close_one(void **state)
{
    (void)state;
    sched_close(sched);
    return 0;
}

static struct sched_delivery *add(struct message *message, uint32_t count, uint64_t due_ns)
{
    static const uint32_t indexes[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const struct sched_request request = {
        .message = message, .indexes = indexes, .count = count, .due_ns = due_ns};
    assert_int_equal(sched_add(site, &request, START), 0);
    return message->owner;
}

static void recipients_leave_a_delivery_that_waits_and_the_others_go(void **state)
{
    (void)state;
    struct message ready = {0}, later = {0};
    const uint32_t keep[] = {1, 4};
    add(&ready, 5, START);
    add(&later, 5, START + SECOND);
    assert_int_equal(sched_withdraw(ready.owner, keep, 2), 0);
    assert_int_equal(sched_withdraw(later.owner, keep, 2), 0);
    assert_int_equal(sched_recipient_count(sched), 4);
    struct sched_delivery *delivery = sched_next(site, START);
    assert_ptr_equal(delivery->message, &ready);
    assert_int_equal(delivery->count, 2);
    assert_memory_equal(sched_indexes(delivery), keep, sizeof(keep));
    assert_null(sched_next(site, START)); /* the other one is due when it was */
    sched_done(delivery);
    delivery = sched_next(site, START + SECOND);
    assert_ptr_equal(delivery->message, &later);
    assert_memory_equal(sched_indexes(delivery), keep, sizeof(keep));
    sched_done(delivery);
}

static void a_delivery_without_recipients_is_gone(void **state)
{
    (void)state;
    struct message messages[3] = {0};
    add(&messages[0], 3, START);
    add(&messages[1], 1, START + SECOND);
    add(&messages[2], 1, START);
    assert_int_equal(sched_withdraw(messages[0].owner, NULL, 0), 0);
    assert_int_equal(sched_withdraw(messages[1].owner, NULL, 0), 0);
    assert_null(messages[0].owner);
    assert_null(messages[1].owner);
    assert_int_equal(sched_recipient_count(sched), 1);
    struct sched_delivery *delivery = sched_next(site, START + 2 * SECOND);
    assert_ptr_equal(delivery->message, &messages[2]);
    assert_null(sched_next(site, START + 2 * SECOND));
    sched_done(delivery);
}

static void a_delivery_under_way_is_left_alone(void **state)
{
    (void)state;
    struct message message = {0};
    add(&message, 3, START);
    struct sched_delivery *delivery = sched_next(site, START);
    assert_int_equal(sched_withdraw(delivery, NULL, 0), -EBUSY);
    assert_int_equal(sched_hurry(delivery), -EBUSY);
    assert_int_equal(delivery->count, 3);
    sched_done(delivery);
}

static void a_delivery_that_is_hurried_is_due_and_its_site_is_tried(void **state)
{
    (void)state;
    struct message messages[2] = {0};
    add(&messages[0], 1, START + 500 * SECOND);
    add(&messages[1], 1, START + 400 * SECOND);
    sched_connection_started(site);
    sched_connection_failed(site, START, slice_text("refused"));
    assert_int_equal(sched_hurry(messages[0].owner), 0);
    assert_int_equal(sched_hurry(messages[0].owner), 0); /* once more does no harm */
    assert_int_equal(sched_wants_connection(site, START), 1);
    struct sched_delivery *delivery = sched_next(site, START);
    assert_ptr_equal(delivery->message, &messages[0]);
    assert_null(sched_next(site, START));
    sched_done(delivery);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(recipients_leave_a_delivery_that_waits_and_the_others_go,
                                        open_one, close_one),
        cmocka_unit_test_setup_teardown(a_delivery_without_recipients_is_gone, open_one, close_one),
        cmocka_unit_test_setup_teardown(a_delivery_under_way_is_left_alone, open_one, close_one),
        cmocka_unit_test_setup_teardown(a_delivery_that_is_hurried_is_due_and_its_site_is_tried,
                                        open_one, close_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
