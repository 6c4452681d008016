/* gradual_sort: in order, what is equal as it lay, and never more at once than it was told. */
#include "engine/core/gradual_sort.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

struct item {
    uint32_t key, place;
};

struct counting {
    size_t comparisons;
};

static int by_key(const void *left, const void *right, void *owner)
{
    const struct item *a = (const struct item *)left, *b = (const struct item *)right;
    ((struct counting *)owner)->comparisons++;
    return a->key < b->key ? -1 : a->key > b->key;
}

static uint64_t draw(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

/* Sorts by pieces of so many steps; returns how many pieces it took. */
static size_t sort_all(struct item *items, size_t count, size_t steps, struct counting *counting)
{
    struct gradual_sort sort;
    size_t pieces = 0, most = 0;
    assert_int_equal(gradual_sort_open(&sort, items, count, sizeof(items[0]), by_key, counting), 0);
    for (bool done = false; !done; pieces++) {
        size_t before = counting->comparisons, left = steps;
        done = gradual_sort_step(&sort, &left);
        assert_true(left <= steps);
        most = counting->comparisons - before > most ? counting->comparisons - before : most;
        assert_true(pieces < 64 * (count + 2) / steps + 64);
    }
    /* A run that is begun is sorted whole: 16 items, 120 comparisons. Of what lies in order nothing is moved alone. */
    assert_true(most <= 8 * steps + 240);
    gradual_sort_close(&sort);
    return pieces;
}

static void is_sorted(const struct item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        assert_true(items[i - 1].key < items[i].key ||
                    (items[i - 1].key == items[i].key && items[i - 1].place < items[i].place));
    }
}

static void any_number_of_items_comes_in_order_whatever_the_pieces_are(void **state)
{
    uint64_t random = 88172645463325252ull;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct item items[700];
        struct counting counting = {0};
        size_t count = draw(&random) % 700, keys = 1 + draw(&random) % 800;
        for (size_t i = 0; i < count; i++) {
            items[i] = (struct item){(uint32_t)(draw(&random) % keys), (uint32_t)i};
        }
        sort_all(items, count, 1 + draw(&random) % 100, &counting);
        is_sorted(items, count);
    }
}

#define MANY 100000u

static void what_is_in_order_already_costs_a_pass_of_comparisons(void **state)
{
    struct item *items = (struct item *)calloc(MANY, sizeof(*items));
    struct counting counting = {0};
    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        items[i] = (struct item){i / 3, i};
    }
    sort_all(items, MANY, 1000, &counting);
    is_sorted(items, MANY);
    assert_true(counting.comparisons < 2 * MANY);
    free(items);
}

static void the_opposite_order_costs_n_log_n(void **state)
{
    struct item *items = (struct item *)calloc(MANY, sizeof(*items));
    struct counting counting = {0};
    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        items[i] = (struct item){MANY - i, i};
    }
    assert_true(sort_all(items, MANY, 1000, &counting) > MANY / 1000);
    is_sorted(items, MANY);
    assert_true(counting.comparisons < 25 * MANY);
    free(items);
}

static void one_that_is_not_finished_leaves_nothing_behind(void **state)
{
    struct item items[100];
    struct counting counting = {0};
    struct gradual_sort sort;
    size_t steps = 150;
    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        items[i] = (struct item){100 - i, i};
    }
    assert_int_equal(gradual_sort_open(&sort, items, 100, sizeof(items[0]), by_key, &counting), 0);
    assert_false(gradual_sort_step(&sort, &steps));
    gradual_sort_close(&sort);
    gradual_sort_close(&sort);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_items_comes_in_order_whatever_the_pieces_are),
        cmocka_unit_test(what_is_in_order_already_costs_a_pass_of_comparisons),
        cmocka_unit_test(the_opposite_order_costs_n_log_n),
        cmocka_unit_test(one_that_is_not_finished_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
