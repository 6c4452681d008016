/* sets: what is a set of message numbers, how it is kept, and what it costs. */
#include "proto/imap/sets.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* What a set is when there are `largest` messages, as text. */
static void set_print(const struct imap_set *set, uint32_t largest, char *out, size_t room)
{
    struct imap_set_walk walk = {0, 0};
    struct imap_range range;
    size_t at = 0;
    out[0] = '\0';
    while (imap_set_next(set, largest, &walk, &range)) {
        at += (size_t)snprintf(out + at, room - at, "%s%u:%u", at > 0 ? "," : "", range.first,
                               range.last);
    }
}

static void sets_are_ranges_in_order(void **state)
{
    static const struct {
        const char *text;
        uint32_t largest;
        const char *ranges;
    } rows[] = {
        {"1", 9, "1:1"},
        {"5:2", 9, "2:5"},
        {"1,3,2", 9, "1:3"},
        {"1:4,2:3,9,7:8", 9, "1:4,7:9"},
        {"1:4,2:3", 3, "1:3"},
        {"2,2,2,2", 9, "2:2"},
        {"5", 3, ""},
        {"5", 0, ""},
        {"*", 9, "9:9"},
        {"*", 0, ""},
        {"*:*", 9, "9:9"},
        {"4:*", 9, "4:9"},
        {"*:4", 9, "4:9"},
        {"12:*", 9, "9:9"},
        {"2,12:*", 9, "2:2,9:9"},
        {"8,12:*", 9, "8:9"},
        {"1:2,4:*,6", 9, "1:2,4:9"},
        {"3:*,4:*,1", 9, "1:1,3:9"},
        {"1:*,1:*,*", 9, "1:9"},
        {"6:7,2:*", 9, "2:9"},
        {"4294967295", 4294967295u, "4294967295:4294967295"},
        {"4294967295,*", 4294967295u, "4294967295:4294967295"},
        {"1:4294967295", 7, "1:7"},
        {"4294967294:4294967295,4294967295", 4294967295u, "4294967294:4294967295"},
        {"4294967295:*", 5, "5:5"},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena;
        struct imap_set set;
        size_t used;
        char out[256];
        arena_open(&arena, 1u << 16);
        print_message("%s\n", rows[i].text);
        assert_int_equal(imap_set_read(&arena, slice_text(rows[i].text), &used, &set),
                         IMAP_SET_GOOD);
        assert_int_equal(used, strlen(rows[i].text));
        set_print(&set, rows[i].largest, out, sizeof(out));
        assert_string_equal(out, rows[i].ranges);
        arena_close(&arena);
    }
}

static void what_is_no_set_is_refused(void **state)
{
    static const char *const rows[] = {
        "",     "0",   "01", "a",    ",",  "1,",         ",1",           "1:",
        ":1",   "1:0", "-1", "1,,2", "**", "4294967296", "1:4294967296", "99999999999999999999",
        "1:*:", "1,a"};
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena;
        struct imap_set set;
        size_t used;
        arena_open(&arena, 1u << 16);
        enum imap_set_result result = imap_set_read(&arena, slice_text(rows[i]), &used, &set);
        if (result == IMAP_SET_GOOD && used == strlen(rows[i])) {
            fail_msg("%s", rows[i]);
        }
        arena_close(&arena);
    }
}

static void the_saved_result_is_a_set_of_its_own(void **state)
{
    (void)state;
    struct arena arena;
    struct imap_set set;
    size_t used;
    arena_open(&arena, 1u << 16);
    assert_int_equal(imap_set_read(&arena, slice_text("$ x"), &used, &set), IMAP_SET_GOOD);
    assert_true(set.saved && used == 1 && set.count == 0 && set.open_from == 0);
    arena_close(&arena);
}

/* Random sets against a plain table of what is in them. */
static void sets_hold_what_their_text_says(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        char text[256];
        size_t size = 0;
        uint32_t largest = (uint32_t)(rand() % 40);
        bool in[64] = {false};
        for (int element = rand() % 6; element >= 0; element--) {
            uint32_t ends[2] = {(uint32_t)(rand() % 45), (uint32_t)(rand() % 45)}, real[2];
            for (int i = 0; i < 2; i++) {
                char number[12] = "*";
                if (ends[i] > 0) {
                    snprintf(number, sizeof(number), "%u", ends[i]);
                }
                real[i] = ends[i] > 0 ? ends[i] : largest;
                size += (size_t)snprintf(text + size, sizeof(text) - size, "%s%s", i > 0 ? ":" : "",
                                         number);
            }
            size +=
                (size_t)snprintf(text + size, sizeof(text) - size, "%s", element > 0 ? "," : "");
            uint32_t low = real[0] < real[1] ? real[0] : real[1];
            uint32_t high = real[0] < real[1] ? real[1] : real[0];
            for (uint32_t number = low; number <= high; number++) {
                in[number] = true;
            }
        }
        struct arena arena;
        struct imap_set set;
        size_t used;
        arena_open(&arena, 1u << 16);
        assert_int_equal(imap_set_read(&arena, slice_text(text), &used, &set), IMAP_SET_GOOD);
        uint64_t count = 0;
        bool walked[64] = {false};
        struct imap_set_walk walk = {0, 0};
        struct imap_range range;
        uint32_t before = 0;
        while (imap_set_next(&set, largest, &walk, &range)) {
            assert_true(range.first > before && range.last >= range.first && range.last <= largest);
            before = range.last;
            for (uint32_t number = range.first; number <= range.last; number++) {
                walked[number] = true;
            }
        }
        for (uint32_t number = 1; number < 64; number++) {
            bool wanted = number <= largest && in[number];
            count += wanted;
            if (imap_set_contains(&set, number, largest) != wanted || walked[number] != wanted) {
                fail_msg("%s: %u of %u", text, number, largest);
            }
        }
        assert_false(imap_set_contains(&set, 0, largest));
        assert_int_equal(imap_set_numbers(&set, largest), count);
        arena_close(&arena);
    }
}

static void a_bomb_of_ranges_costs_its_own_size(void **state)
{
    (void)state;
    static char text[64 * 1024];
    size_t size = 0;
    while (size + 8 < sizeof(text)) {
        size += (size_t)sprintf(text + size, "1:*,9:1,");
    }
    struct arena arena;
    struct imap_set set;
    size_t used;
    arena_open(&arena, 8 * sizeof(text));
    assert_int_equal(imap_set_read(&arena, slice_of(text, size - 1), &used, &set), IMAP_SET_GOOD);
    assert_int_equal(used, size - 1);
    assert_int_equal(set.count, 1);
    assert_int_equal(set.open_from, 1);
    arena_close(&arena);
    arena_open(&arena, 2048);
    assert_int_equal(imap_set_read(&arena, slice_of(text, size - 1), &used, &set), IMAP_SET_MEMORY);
    arena_close(&arena);
}

static void ranges_of_partial_are_read(void **state)
{
    static const struct {
        const char *text;
        size_t used;
        struct imap_partial partial;
    } rows[] = {
        {"1:100", 5, {false, 1, 100}},
        {"500:400", 7, {false, 400, 500}},
        {"-1:-30", 6, {true, 1, 30}},
        {"-30:-1 x", 6, {true, 1, 30}},
        {"1:-1", 0, {0}},
        {"-1:1", 0, {0}},
        {"1", 0, {0}},
        {"0:1", 0, {0}},
        {"1:", 0, {0}},
        {"-:-1", 0, {0}},
        {"1:*", 0, {0}},
        {"4294967296:1", 0, {0}},
        {"", 0, {0}},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct imap_partial partial = {0};
        print_message("%s\n", rows[i].text);
        assert_int_equal(imap_partial_read(slice_text(rows[i].text), &partial), rows[i].used);
        if (rows[i].used > 0) {
            assert_int_equal(partial.from_end, rows[i].partial.from_end);
            assert_int_equal(partial.first, rows[i].partial.first);
            assert_int_equal(partial.last, rows[i].partial.last);
        }
    }
}

static void a_set_is_within_when_all_that_is_written_is_there(void **state)
{
    static const struct {
        const char *text;
        uint32_t count;
        bool within;
    } rows[] = {
        {"1", 1, true},
        {"1", 0, false},
        {"2", 1, false},
        {"1:3", 3, true},
        {"1:3", 2, false},
        {"3:1", 2, false},
        {"*", 1, true},
        {"*", 0, false},
        {"1:*", 1, true},
        {"1:*", 0, false},
        {"2:*", 1, false},
        {"*:2", 1, false},
        {"5:*,9", 8, false},
        {"5:*,9", 9, true},
        {"5:*,9:*", 8, false},
        {"1:8,9:10", 9, false},
        {"4294967295:*", 9, false},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena;
        struct imap_set set;
        size_t used;
        arena_open(&arena, 10000);
        assert_int_equal(imap_set_read(&arena, slice_text(rows[i].text), &used, &set),
                         IMAP_SET_GOOD);
        if (imap_set_is_within(&set, rows[i].count) != rows[i].within) {
            fail_msg("%s of %u", rows[i].text, rows[i].count);
        }
        arena_close(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_is_within_when_all_that_is_written_is_there),
        cmocka_unit_test(sets_are_ranges_in_order),
        cmocka_unit_test(what_is_no_set_is_refused),
        cmocka_unit_test(the_saved_result_is_a_set_of_its_own),
        cmocka_unit_test(sets_hold_what_their_text_says),
        cmocka_unit_test(a_bomb_of_ranges_costs_its_own_size),
        cmocka_unit_test(ranges_of_partial_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
