#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/sched/retry.h"

#define SECOND 1000000000ull

static void wait_doubles_up_to_its_limit(void **state)
{
    (void)state;
    static const uint64_t wait_s[] = {300, 600, 1200, 2400, 4800, 9600, 14400, 14400, 14400};
    const struct retry_policy policy = {.first_ns = 300 * SECOND, .limit_ns = 14400 * SECOND};
    for (uint32_t attempts = 1; attempts <= 9; attempts++) {
        uint64_t due = retry_due(&policy, 5 * SECOND, attempts, 12345);
        assert_int_equal(due, (5 + wait_s[attempts - 1]) * SECOND);
    }
    assert_int_equal(retry_due(&policy, 0, UINT32_MAX, 0), 14400 * SECOND);
}

static void jitter_stays_in_its_bounds_and_below_the_limit(void **state)
{
    (void)state;
    const struct retry_policy policy = {
        .first_ns = 100 * SECOND, .limit_ns = 210 * SECOND, .spread_pct = 20};
    static const struct {
        uint32_t attempts;
        uint64_t least_s, most_s;
    } cases[] = {{1, 80, 120}, {2, 160, 210}, {3, 168, 210}, {9, 168, 210}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t lowest = retry_due(&policy, 0, cases[i].attempts, 0);
        uint64_t highest = retry_due(&policy, 0, cases[i].attempts, UINT32_MAX);
        assert_int_equal(lowest, cases[i].least_s * SECOND);
        assert_in_range(highest, cases[i].most_s * SECOND - SECOND, cases[i].most_s * SECOND);
        uint64_t before = lowest;
        for (uint32_t entropy = 1u << 20; entropy < UINT32_MAX - (1u << 20); entropy += 1u << 20) {
            uint64_t due = retry_due(&policy, 0, cases[i].attempts, entropy);
            assert_in_range(due, before, highest);
            before = due;
        }
    }
}

static void end_of_time_is_not_passed(void **state)
{
    (void)state;
    const struct retry_policy policy = {
        .first_ns = UINT64_MAX / 2, .limit_ns = UINT64_MAX, .spread_pct = 50};
    for (uint32_t attempts = 1; attempts < 70; attempts++) {
        assert_true(retry_due(&policy, UINT64_MAX - 2, attempts, UINT32_MAX) >= UINT64_MAX - 2);
        assert_true(retry_due(&policy, 0, attempts, 77) > 0);
    }
}

/* Of any sensible policy, tried by a relay that fails every time for a week. */
static void a_week_of_failures_has_as_many_attempts_as_the_policy_says(void **state)
{
    (void)state;
    const uint64_t week_ns = 7 * 24 * 3600 * SECOND;
    static const struct {
        struct retry_policy policy;
        uint32_t least, most; /* attempts in a week */
    } cases[] = {
        {{300 * SECOND, 14400 * SECOND, 0}, 47, 47},
        {{300 * SECOND, 14400 * SECOND, 20}, 45, 56},
        {{1200 * SECOND, 7 * 24 * 3600 * SECOND, 20}, 8, 10},
        {{SECOND, SECOND, 50}, 604000, 1300000},
        {{7 * 24 * 3600 * SECOND, 7 * 24 * 3600 * SECOND, 50}, 1, 2},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t now_ns = 1000 * week_ns, end_ns = now_ns + week_ns, random = i;
        uint32_t attempts = 0;
        while (now_ns < end_ns) {
            attempts++;
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint64_t due_ns =
                retry_due(&cases[i].policy, now_ns, attempts, (uint32_t)(random >> 32));
            uint64_t least_ns = cases[i].policy.first_ns / 100 * (100 - cases[i].policy.spread_pct);
            assert_in_range(due_ns - now_ns, least_ns, cases[i].policy.limit_ns);
            now_ns = due_ns;
        }
        assert_in_range(attempts, cases[i].least, cases[i].most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_doubles_up_to_its_limit),
        cmocka_unit_test(jitter_stays_in_its_bounds_and_below_the_limit),
        cmocka_unit_test(a_week_of_failures_has_as_many_attempts_as_the_policy_says),
        cmocka_unit_test(end_of_time_is_not_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
