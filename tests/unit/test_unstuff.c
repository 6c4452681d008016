/*
 * unstuff: what SMTP has put in front of dots is gone, wherever the pieces are cut, and nothing else is.
 */
#include "queue/mailbox/unstuff.h"
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

static const struct {
    const char *wire, *plain, *why;
} rows[] = {
    {"", "", "nothing"},
    {"a\r\n", "a\r\n", "a line"},
    {"..a\r\n", ".a\r\n", "a line that begins with a dot"},
    {"..\r\n", ".\r\n", "a line that is a dot"},
    {"....\r\n", "...\r\n", "only the first of many"},
    {"a..b\r\n..\r\n..", "a..b\r\n.\r\n.", "dots inside stay"},
    {".a\r\n", "a\r\n",
     "a client that has not stuffed: the server takes one off (RFC 5321 §4.5.2)"},
    {"a\r\n\r\n..b\r\n", "a\r\n\r\n.b\r\n", "behind an empty line"},
    {"a\r..b\r\n", "a\r..b\r\n", "a CR alone ends no line"},
    {".", "", "a dot alone"},
};

/* `step` bytes at a time, into room for `room` parts. */
static size_t plain_of(const char *wire, size_t step, size_t room, char *plain)
{
    struct unstuff unstuff = {0};
    struct slice whole = slice_text(wire), parts[4];
    size_t used = 0;
    while (whole.size > 0) {
        struct slice piece = slice_first(whole, step);
        whole = slice_from(whole, piece.size);
        while (piece.size > 0) {
            size_t before = piece.size, count = unstuff_take(&unstuff, &piece, parts, room);
            assert_true(piece.size < before);
            for (size_t i = 0; i < count; i++) {
                assert_true(parts[i].size > 0);
                memcpy(plain + used, parts[i].bytes, parts[i].size);
                used += parts[i].size;
            }
        }
    }
    return used;
}

static void dots_are_taken_off_wherever_the_pieces_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t step = 1; step <= strlen(rows[i].wire) + 1; step++) {
            for (size_t room = 1; room <= 4; room++) {
                char plain[64];
                size_t size = plain_of(rows[i].wire, step, room, plain);
                assert_int_equal(size, strlen(rows[i].plain));
                assert_memory_equal(plain, rows[i].plain, size);
            }
        }
    }
}

static void a_text_without_dots_is_one_part_and_where_it_lay(void **state)
{
    (void)state;
    const char *text = "Subject: a.b\r\n\r\nline\r\nline.\r\n";
    struct unstuff unstuff = {0};
    struct slice wire = slice_text(text), parts[2];
    assert_int_equal(unstuff_take(&unstuff, &wire, parts, 2), 1);
    assert_ptr_equal(parts[0].bytes, text);
    assert_int_equal(parts[0].size, strlen(text));
    assert_int_equal(wire.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dots_are_taken_off_wherever_the_pieces_are_cut),
        cmocka_unit_test(a_text_without_dots_is_one_part_and_where_it_lay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
