#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/sched/rate.h"

#define SECOND 1000000000ull
#define START (1000 * SECOND)

/* Takes one when it is due; returns when that was. */
static uint64_t take_next(const struct rate *rate, struct rate_bucket *bucket, uint64_t now_ns)
{
    uint64_t due_ns = rate_due(rate, bucket);
    now_ns = due_ns > now_ns ? due_ns : now_ns;
    assert_int_equal(rate_available(rate, bucket, now_ns, 1), 1);
    rate_take(rate, bucket, now_ns, 1);
    return now_ns;
}

static void tokens_come_evenly_and_not_earlier(void **state)
{
    (void)state;
    const struct rate rate = {.count = 4, .period_ns = SECOND};
    struct rate_bucket bucket = {0};
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t due_ns = START + i * SECOND / 4;
        if (i > 0) {
            assert_int_equal(rate_available(&rate, &bucket, due_ns - 1, 9), 0);
        }
        assert_int_equal(take_next(&rate, &bucket, START), due_ns);
    }
}

static void a_burst_is_saved_up_and_no_more(void **state)
{
    (void)state;
    const struct rate rate = {.count = 60, .period_ns = 60 * SECOND, .burst = 5};
    struct rate_bucket bucket = {0};
    assert_int_equal(rate_available(&rate, &bucket, START, 100), 5);
    assert_int_equal(rate_available(&rate, &bucket, START, 3), 3);
    rate_take(&rate, &bucket, START, 5);
    assert_int_equal(rate_available(&rate, &bucket, START, 100), 0);
    assert_int_equal(rate_due(&rate, &bucket), START + SECOND);
    assert_int_equal(rate_available(&rate, &bucket, START + 3 * SECOND, 100), 3);
    assert_int_equal(rate_available(&rate, &bucket, START + 3600 * SECOND, 100), 5);
}

static void in_no_time_do_more_come_than_the_rate_and_its_burst(void **state)
{
    (void)state;
    const struct rate rate = {.count = 7, .period_ns = 3 * SECOND, .burst = 4};
    struct rate_bucket bucket = {0};
    uint64_t taken = 0, random = 1;
    for (uint64_t now_ns = START; now_ns < START + 3000 * SECOND;) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        now_ns += (random >> 33) % SECOND;
        uint32_t count = rate_available(&rate, &bucket, now_ns, (uint32_t)(random >> 60));
        rate_take(&rate, &bucket, now_ns, count);
        taken += count;
        assert_true(taken <= 4 + (now_ns - START) * 7 / (3 * SECOND) + 1);
    }
    assert_in_range(taken, 5000, 7004); /* nor much less, when somebody always wants some */
}

static void without_a_limit_there_is_always_one(void **state)
{
    (void)state;
    const struct rate rate = {0};
    struct rate_bucket bucket = {0};
    assert_int_equal(rate_available(&rate, &bucket, 0, 1000), 1000);
    rate_take(&rate, &bucket, START, 1000);
    assert_int_equal(rate_due(&rate, &bucket), 0);
    assert_int_equal(rate_available(&rate, &bucket, START, UINT32_MAX), UINT32_MAX);
}

static void the_slowest_and_the_fastest_rates_do_not_overflow(void **state)
{
    (void)state;
    const struct rate fast = {.count = UINT32_MAX, .period_ns = 1, .burst = UINT32_MAX};
    const struct rate slow = {.count = 1, .period_ns = UINT64_MAX / 2, .burst = UINT32_MAX};
    struct rate_bucket bucket = {0};
    assert_int_equal(rate_available(&fast, &bucket, START, 10), 10);
    rate_take(&fast, &bucket, START, 10);
    assert_int_equal(rate_available(&fast, &bucket, START + 10, 10), 10);
    bucket.full_ns = 0;
    assert_int_equal(rate_available(&slow, &bucket, START, 10), 10);
    rate_take(&slow, &bucket, START, 10); /* never full again */
    assert_int_equal(bucket.full_ns, UINT64_MAX - 1);
    assert_true(rate_due(&slow, &bucket) <= START);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_come_evenly_and_not_earlier),
        cmocka_unit_test(a_burst_is_saved_up_and_no_more),
        cmocka_unit_test(in_no_time_do_more_come_than_the_rate_and_its_burst),
        cmocka_unit_test(without_a_limit_there_is_always_one),
        cmocka_unit_test(the_slowest_and_the_fastest_rates_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
