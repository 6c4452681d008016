#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/system_world.h"
#include <string.h>
#include <time.h>

static void the_monotonic_clock_never_goes_back(void **state)
{
    (void)state;
    struct world world;
    system_world_fill(&world);
    uint64_t before = world_now_ns(&world);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t now = world_now_ns(&world);
        assert_true(now >= before);
        before = now;
    }
}

static void the_wall_clock_is_the_kernels(void **state)
{
    (void)state;
    struct world world;
    system_world_fill(&world);
    int64_t before = time(NULL) - 1; /* time(2) reads a coarser clock */
    int64_t wall = world_wall_s(&world);
    assert_true(before <= wall && wall <= time(NULL) + 1);
}

static void random_bytes_fill_all_and_differ(void **state)
{
    (void)state;
    struct world world;
    system_world_fill(&world);
    /* More than getrandom gives in one go when a signal comes; each 32 bytes must have been filled.
     */
    static uint8_t bytes[1000][32], zero[32];
    world_random(&world, bytes, sizeof(bytes));
    for (unsigned i = 0; i < 1000; i++) {
        assert_memory_not_equal(bytes[i], zero, sizeof(zero));
        assert_true(i == 0 || memcmp(bytes[i], bytes[i - 1], sizeof(zero)) != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_monotonic_clock_never_goes_back),
        cmocka_unit_test(the_wall_clock_is_the_kernels),
        cmocka_unit_test(random_bytes_fill_all_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
