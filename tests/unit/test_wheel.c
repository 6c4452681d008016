#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/wheel.h"
#include <stdlib.h>

#define MS WHEEL_TICK_NS

struct alarm {
    struct timer timer;
    struct wheel *wheel;
    uint64_t fired_ns;
    unsigned fired_count;
    struct alarm *other; /* what `act` works on */
    void (*act)(struct alarm *alarm, uint64_t now_ns);
};

static void alarm_fires(struct timer *timer, uint64_t now_ns)
{
    struct alarm *alarm = list_entry(&timer->node, struct alarm, timer.node);
    alarm->fired_ns = now_ns;
    alarm->fired_count++;
    if (alarm->act != NULL) {
        alarm->act(alarm, now_ns);
    }
}

static void alarm_init(struct alarm *alarm, struct wheel *wheel)
{
    *alarm = (struct alarm){.wheel = wheel};
    timer_init(&alarm->timer, alarm_fires);
}

static void a_timer_never_fires_early_and_at_most_a_tick_late(void **state)
{
    (void)state;
    static const uint64_t waits[] = {1,         MS - 1,      MS,          MS + 1,
                                     63 * MS,   64 * MS,     65 * MS,     4095 * MS + 7,
                                     4096 * MS, 4097 * MS,   262144 * MS, 86400000 * MS,
                                     5 * MS,    1000000 * MS};
    static const uint64_t starts[] = {0, 1, MS - 1, 63 * MS, 4095 * MS + 5, 123456789123456789};
    for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
        for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
            uint64_t due = starts[s] + waits[i];
            struct wheel *wheel = wheel_open(starts[s]);
            struct alarm alarm;
            alarm_init(&alarm, wheel);
            wheel_arm(wheel, &alarm.timer, due);
            /* Jumps as a sleeping shard does. */
            for (uint64_t next; (next = wheel_next_ns(wheel)) < due;) {
                assert_int_equal(wheel_run(wheel, next), 0);
            }
            assert_int_equal(wheel_run(wheel, due - 1), 0);
            assert_int_equal(wheel_run(wheel, due + MS), 1);
            assert_int_equal(alarm.fired_count, 1);
            assert_false(timer_armed(&alarm.timer));
            assert_true(wheel_next_ns(wheel) == WHEEL_NEVER);
            wheel_close(wheel);
        }
    }
}

static void thousands_of_timers_all_fire_in_their_tick(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    struct alarm *alarms = calloc(COUNT, sizeof(*alarms));
    struct wheel *wheel = wheel_open(12345678901);
    uint64_t now = 12345678901, random = 42;
    for (unsigned i = 0; i < COUNT; i++) {
        alarm_init(&alarms[i], wheel);
        random = random * 6364136223846793005u + 1442695040888963407u;
        wheel_arm(wheel, &alarms[i].timer, now + (random >> 20) % (300000 * MS >> (i % 12)));
    }
    for (unsigned i = 0; i < COUNT; i += 3) { /* taken back, or moved */
        if (i % 2 == 0) {
            wheel_disarm(wheel, &alarms[i].timer);
        } else {
            wheel_arm(wheel, &alarms[i].timer, now + i * MS);
        }
    }
    unsigned fired = 0, expected = 0;
    while (wheel_next_ns(wheel) != WHEEL_NEVER) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        now += (random >> 33) % (50 * MS);
        uint64_t promised = wheel_next_ns(wheel);
        unsigned count = wheel_run(wheel, now);
        assert_true(count == 0 || promised <= now);
        fired += count;
        for (unsigned i = 0; i < COUNT; i++) {
            bool late = timer_armed(&alarms[i].timer) && alarms[i].timer.due_ns + MS <= now;
            bool early = alarms[i].fired_count > 0 && alarms[i].fired_ns < alarms[i].timer.due_ns;
            assert_false(late || early);
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned once = i % 3 == 0 && i % 2 == 0 ? 0 : 1;
        assert_int_equal(alarms[i].fired_count, once);
        expected += once;
    }
    assert_int_equal(fired, expected);
    wheel_close(wheel);
    free(alarms);
}

static void a_time_that_is_over_fires_at_the_next_run(void **state)
{
    (void)state;
    struct wheel *wheel = wheel_open(1000 * MS);
    struct alarm alarm;
    alarm_init(&alarm, wheel);
    wheel_arm(wheel, &alarm.timer, 5);
    assert_true(wheel_next_ns(wheel) <= 1000 * MS);
    assert_int_equal(wheel_run(wheel, 1000 * MS), 1);
    wheel_close(wheel);
}

static void arm_again_at_once(struct alarm *alarm, uint64_t now_ns)
{
    wheel_arm(alarm->wheel, &alarm->timer, now_ns);
}

static void a_timer_that_arms_itself_for_now_does_not_hold_the_loop(void **state)
{
    (void)state;
    struct wheel *wheel = wheel_open(0);
    struct alarm alarm;
    alarm_init(&alarm, wheel);
    alarm.act = arm_again_at_once;
    wheel_arm(wheel, &alarm.timer, 0);
    for (unsigned i = 1; i < 10; i++) {
        unsigned fired = wheel_run(wheel, i * MS);
        assert_in_range(fired, 1, 2);
        assert_true(timer_armed(&alarm.timer));
    }
    wheel_close(wheel);
}

static void disarm_other(struct alarm *alarm, uint64_t now_ns)
{
    (void)now_ns;
    wheel_disarm(alarm->wheel, &alarm->other->timer);
}

static void a_timer_may_disarm_another_of_the_same_tick(void **state)
{
    (void)state;
    struct wheel *wheel = wheel_open(0);
    struct alarm first, second;
    alarm_init(&first, wheel);
    alarm_init(&second, wheel);
    first.act = disarm_other;
    first.other = &second;
    wheel_arm(wheel, &first.timer, 5 * MS);
    wheel_arm(wheel, &second.timer, 5 * MS);
    assert_int_equal(wheel_run(wheel, 6 * MS), 1);
    assert_int_equal(second.fired_count, 0);
    wheel_close(wheel);
}

static void free_self(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    free(list_entry(&timer->node, struct alarm, timer.node));
}

static void a_timer_may_free_what_it_is_in(void **state)
{
    (void)state;
    struct wheel *wheel = wheel_open(0);
    for (unsigned i = 0; i < 3; i++) {
        struct alarm *alarm = calloc(1, sizeof(*alarm));
        timer_init(&alarm->timer, free_self);
        wheel_arm(wheel, &alarm->timer, 5 * MS);
    }
    assert_int_equal(wheel_run(wheel, 5 * MS), 3);
    wheel_close(wheel);
}

static void never_is_never(void **state)
{
    (void)state;
    struct wheel *wheel = wheel_open(0);
    struct alarm alarm;
    alarm_init(&alarm, wheel);
    wheel_arm(wheel, &alarm.timer, 5 * MS);
    wheel_arm(wheel, &alarm.timer, WHEEL_NEVER);
    assert_false(timer_armed(&alarm.timer));
    assert_true(wheel_next_ns(wheel) == WHEEL_NEVER);
    wheel_arm(wheel, &alarm.timer, WHEEL_NEVER - 1);
    assert_int_equal(wheel_run(wheel, WHEEL_NEVER / 2), 0);
    assert_true(timer_armed(&alarm.timer));
    wheel_close(wheel);
    assert_false(timer_armed(&alarm.timer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_never_fires_early_and_at_most_a_tick_late),
        cmocka_unit_test(thousands_of_timers_all_fire_in_their_tick),
        cmocka_unit_test(a_time_that_is_over_fires_at_the_next_run),
        cmocka_unit_test(a_timer_that_arms_itself_for_now_does_not_hold_the_loop),
        cmocka_unit_test(a_timer_may_disarm_another_of_the_same_tick),
        cmocka_unit_test(a_timer_may_free_what_it_is_in),
        cmocka_unit_test(never_is_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
