/*
 * arena: pieces lie apart and stay, a bound is a bound, and a reset gives back all but one small block.
 */
#include "engine/core/arena.h"
#include <stdalign.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

static void pieces_are_zeroed_aligned_and_stay_where_they_are(void **state)
{
    (void)state;
    struct arena arena;
    arena_open(&arena, 1u << 20);
    uint8_t *pieces[500];
    for (size_t i = 0; i < 500; i++) {
        pieces[i] = arena_take(&arena, i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        for (size_t j = 0; j < i; j++) {
            assert_int_equal(pieces[i][j], 0);
        }
        memset(pieces[i], (int)(i & 0xff), i);
    }
    for (size_t i = 0; i < 500; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_equal(pieces[i][j], i & 0xff);
        }
    }
    arena_close(&arena);
}

static void it_never_holds_more_than_its_bound(void **state)
{
    (void)state;
    struct arena arena;
    arena_open(&arena, 10000);
    size_t taken = 0;
    while (arena_take(&arena, 100) != NULL) {
        taken++;
        assert_true(arena.bytes <= 10000);
    }
    assert_in_range(taken, 60, 100);
    assert_null(arena_take(&arena, 100));
    arena_close(&arena);
}

static void a_piece_as_large_as_the_bound_or_the_address_space_is_refused(void **state)
{
    (void)state;
    struct arena arena;
    arena_open(&arena, 4096);
    assert_null(arena_take(&arena, 4096));
    assert_null(arena_take(&arena, SIZE_MAX));
    assert_null(arena_take_array(&arena, SIZE_MAX / 2, 4));
    assert_int_equal(arena.bytes, 0);
    assert_non_null(arena_take_array(&arena, 16, 4));
    arena_close(&arena);
}

static void a_reset_keeps_one_small_block_and_the_bound_counts_anew(void **state)
{
    (void)state;
    struct arena arena;
    arena_open(&arena, 200000);
    for (int round = 0; round < 10; round++) {
        assert_non_null(arena_take(&arena, 16));
        assert_non_null(arena_take(&arena, 150000));
        assert_null(arena_take(&arena, 150000));
        arena_reset(&arena);
        assert_in_range(arena.bytes, 1, 1024);
    }
    arena_close(&arena);
    assert_int_equal(arena.bytes, 0);
    assert_non_null(arena_take(&arena, 1));
    arena_close(&arena);
}

static void a_copy_is_apart_from_what_it_was_made_of(void **state)
{
    (void)state;
    struct arena arena;
    arena_open(&arena, 4096);
    char text[] = "INBOX";
    struct slice copy;
    assert_true(arena_copy(&arena, slice_text(text), &copy));
    text[0] = 'X';
    assert_true(slice_equal(copy, slice_text("INBOX")));
    assert_true(arena_copy(&arena, slice_of(NULL, 0), &copy));
    assert_int_equal(copy.size, 0);
    arena_close(&arena);
    arena_open(&arena, 8);
    assert_false(arena_copy(&arena, slice_text("INBOX"), &copy));
    assert_int_equal(copy.size, 0);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_zeroed_aligned_and_stay_where_they_are),
        cmocka_unit_test(it_never_holds_more_than_its_bound),
        cmocka_unit_test(a_piece_as_large_as_the_bound_or_the_address_space_is_refused),
        cmocka_unit_test(a_reset_keeps_one_small_block_and_the_bound_counts_anew),
        cmocka_unit_test(a_copy_is_apart_from_what_it_was_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
