/* Deliveries that go to another site, or wait without a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/sched_one.h"

static void a_delivery_that_moves_keeps_its_attempts_reason_and_age(void **state)
{
    (void)state;
    struct sched_site *other;
    struct message old = {0}, young = {0}, middle = {0};
    struct sched_view view;
    assert_int_equal(sched_site_open(sched, &settings, NULL, &other), 0);
    add(&old, 0, START);
    add(&young, 0, START + 20 * SECOND);
    uint32_t index = 0;
    const struct sched_request request = {
        .message = &middle, .indexes = &index, .count = 1, .due_ns = START + 10 * SECOND};
    assert_int_equal(sched_add(other, &request, START + 10 * SECOND), 0);
    uint64_t now_ns = START + 30 * SECOND;
    struct sched_delivery *first = sched_next(other, now_ns);
    assert_int_equal(defer_all(first, now_ns, "450 later"), SCHED_DEFERRED);
    now_ns += HOUR;
    assert_ptr_equal(sched_next(other, now_ns), first);
    sched_move(first, site);
    assert_true(sched_view(&middle, 0, &view));
    assert_int_equal(view.attempts, 1);
    assert_false(view.active);
    assert_int_equal(view.reason.size, strlen("450 later"));
    struct sched_site_counts counts;
    sched_site_counts(other, &counts);
    assert_int_equal(counts.deliveries + counts.recipients + counts.active, 0);
    sched_site_close(other);
    sched_site_counts(site, &counts);
    assert_int_equal(counts.deliveries, 3);
    assert_int_equal(counts.ready, 3);
    /* It expires between those that are older and younger. */
    struct message *order[] = {&old, &middle, &young};
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at_ns = START + i * 10 * SECOND + 5 * DAY;
        assert_null(sched_expired(site, at_ns - 1));
        struct sched_delivery *expired = sched_expired(site, at_ns);
        assert_non_null(expired);
        assert_ptr_equal(expired->message, order[i]);
        sched_done(expired);
    }
}

static void those_that_move_find_their_place_by_age_wherever_it_is(void **state)
{
    (void)state;
    enum { COUNT = 60 };
    static struct message messages[COUNT];
    struct sched_site *other;
    memset(messages, 0, sizeof(messages));
    assert_int_equal(sched_site_open(sched, &settings, NULL, &other), 0);
    for (uint32_t i = 0; i < COUNT; i++) { /* every third waits elsewhere, in another order */
        uint32_t index = 0, number = i % 3 == 0 ? (i * 7) % COUNT : i;
        const struct sched_request request = {.message = &messages[number],
                                              .indexes = &index,
                                              .count = 1,
                                              .due_ns = START,
                                              .age_ns = (COUNT - number) * SECOND};
        assert_int_equal(sched_add(i % 3 == 0 ? other : site, &request, START), 0);
    }
    struct sched_delivery *delivery;
    for (unsigned i = 0; (delivery = sched_next(other, START)) != NULL; i++) {
        struct message *message = delivery->message;
        sched_move(delivery, site);
        if (i % 4 == 3) { /* the one that came last leaves, and comes again */
            uint32_t index = 0;
            const struct sched_request request = {.message = message,
                                                  .indexes = &index,
                                                  .count = 1,
                                                  .due_ns = START,
                                                  .age_ns = (uint64_t)(&messages[COUNT] - message) *
                                                            SECOND};
            assert_int_equal(sched_delete(message), 0);
            assert_int_equal(sched_add(other, &request, START), 0);
        }
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        delivery = sched_expired(site, START + 6 * DAY);
        assert_non_null(delivery);
        assert_ptr_equal(delivery->message, &messages[i]);
        sched_done(delivery);
    }
    assert_null(sched_expired(site, START + 6 * DAY));
}

static void a_parked_delivery_occupies_no_connection(void **state)
{
    (void)state;
    struct message messages[2] = {{0}};
    add(&messages[0], 0, START);
    connect_one();
    struct sched_delivery *parked = sched_next(site, START);
    sched_park(parked);
    add(&messages[1], 0, START);
    assert_int_equal(sched_wants_connection(site, START), 0); /* the one that is open serves it */
    assert_int_equal(sched_site_next_due(site, START), 0);
    assert_int_equal(sched_delete(&messages[0]), -EBUSY);
    assert_null(sched_expired(site, START + 5 * DAY - 1));
    struct sched_delivery *other = sched_next(site, START);
    assert_ptr_equal(other->message, &messages[1]);
    sched_done(other);
    sched_move(parked, site); /* goes on where it was */
    assert_ptr_equal(sched_next(site, START), parked);
    sched_park(parked);
    assert_int_equal(defer_all(parked, START, "no answer"), SCHED_DEFERRED);
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    assert_int_equal(counts.active, 0);
    parked = sched_next(site, START + DAY);
    sched_park(parked);
    assert_int_equal(defer_all(parked, START + 6 * DAY, "no answer"), SCHED_EXPIRED);
    sched_done(parked);
    sched_site_counts(site, &counts);
    assert_int_equal(counts.active + counts.deliveries, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_delivery_that_moves_keeps_its_attempts_reason_and_age),
        TEST(those_that_move_find_their_place_by_age_wherever_it_is),
        TEST(a_parked_delivery_occupies_no_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
