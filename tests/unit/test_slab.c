#include "engine/net/slab.h"
#include "tests/unit/net_link.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void as_many_objects_as_the_bound_allows_and_no_more(void **state)
{
    (void)state;
    static const uint32_t bounds[] = {1, 2, 1023, 1024, 1025, 5000};
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        struct slab slab;
        bool *seen = calloc(bounds[i], sizeof(bool));
        assert_int_equal(slab_open(&slab, 64, bounds[i]), 0);
        for (uint32_t j = 0; j < bounds[i]; j++) {
            uint32_t index = slab_take(&slab);
            assert_in_range(index, 0, bounds[i] - 1);
            assert_false(seen[index]);
            seen[index] = true;
        }
        assert_int_equal(slab_take(&slab), SLAB_NONE);
        assert_int_equal(slab.used, bounds[i]);
        slab_give(&slab, 0);
        assert_int_equal(slab_take(&slab), 0);
        assert_int_equal(slab_take(&slab), SLAB_NONE);
        slab_close(&slab);
        free(seen);
    }
}

static void objects_of_any_size_do_not_touch_each_other(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {4, 12, 60, 64, 200, 1024, 40000, 70000, 200000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct slab slab;
        uint32_t indexes[20];
        assert_int_equal(slab_open(&slab, sizes[i], 20), 0);
        for (uint32_t j = 0; j < 20; j++) {
            indexes[j] = slab_take(&slab);
            assert_int_not_equal(indexes[j], SLAB_NONE);
            memset(slab_at(&slab, indexes[j]), (int)j + 1, sizes[i]);
            if (sizes[i] % 64 == 0) {
                assert_int_equal((uintptr_t)slab_at(&slab, indexes[j]) % 64, 0);
            }
        }
        for (uint32_t j = 0; j < 20; j++) {
            const uint8_t *bytes = slab_at(&slab, indexes[j]);
            assert_int_equal(bytes[0], j + 1);
            assert_int_equal(bytes[sizes[i] - 1], j + 1);
            assert_memory_equal(bytes, bytes + 1, sizes[i] - 1);
        }
        slab_close(&slab);
    }
}

static void taking_and_giving_in_any_order_loses_none(void **state)
{
    (void)state;
    enum { MAX = 3000 };
    static uint32_t held[MAX];
    struct slab slab;
    uint64_t random = 5;
    uint32_t count = 0;
    assert_int_equal(slab_open(&slab, 128, MAX), 0);
    for (unsigned i = 0; i < 100000; i++) {
        bool up = net_random_below(&random, 100) < (i / 10000 % 2 == 0 ? 70u : 30u);
        if (up) {
            uint32_t index = slab_take(&slab);
            assert_int_equal(index == SLAB_NONE, count == MAX);
            if (index != SLAB_NONE) {
                *(uint32_t *)slab_at(&slab, index) = ~index;
                held[count++] = index;
            }
        } else if (count > 0) {
            uint32_t at = net_random_below(&random, count), index = held[at];
            assert_int_equal(*(uint32_t *)slab_at(&slab, index), ~index);
            held[at] = held[--count];
            slab_give(&slab, index);
        }
        assert_int_equal(slab.used, count);
    }
    slab_close(&slab);
}

static void memory_is_only_taken_as_it_is_needed_and_is_new_at_first(void **state)
{
    (void)state;
    struct slab slab;
    assert_int_equal(slab_open(&slab, 1024, 1000000), 0);
    assert_int_equal(slab.block_count, 0);
    uint32_t index = slab_take(&slab);
    assert_int_equal(slab.block_count, 1);
    const uint8_t *bytes = slab_at(&slab, index);
    for (unsigned i = 4; i < 1024; i++) { /* after the number of the next free one */
        assert_int_equal(bytes[i], 0);
    }
    slab_close(&slab);
    slab_close(&slab); /* again does no harm */
    assert_int_equal(slab.block_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_objects_as_the_bound_allows_and_no_more),
        cmocka_unit_test(objects_of_any_size_do_not_touch_each_other),
        cmocka_unit_test(taking_and_giving_in_any_order_loses_none),
        cmocka_unit_test(memory_is_only_taken_as_it_is_needed_and_is_new_at_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
