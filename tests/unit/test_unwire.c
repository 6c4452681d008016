/* unwire: dot-stuffing and line ends, whatever the cut. */
#include "queue/mailbox/unwire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct {
    const char *wire;
    size_t size;
    const char *file;
    size_t file_size;
    unsigned lone_lines;
} cases[] = {
#define CASE(wire, file, lone)                                                                     \
    {                                                                                              \
        wire, sizeof(wire) - 1, file, sizeof(file) - 1, lone                                       \
    }
    CASE("", "", 0),
    CASE("a\r\n", "a\n", 1),
    CASE("\r\n\r\n", "\n\n", 2),
    CASE("..\r\n", ".\n", 1),
    CASE("...\r\n..b\r\n", "..\n.b\n", 2),
    CASE("a.\r\n.b..\r\n", "a.\nb..\n", 2),
    CASE("a\n.b\n", "a\nb\n", 2),
    CASE("a\rb\r\n", "a\rb\n", 1),
    CASE("\r.\r\n", "\r.\n", 1),
    CASE("a\r\r\n", "a\r\n", 0),
    CASE("a\r\r\r\nb\r\n", "a\r\r\nb\n", 1),
    CASE("a\r", "a\r", 0),
    CASE("\r", "\r", 0),
    CASE("no end", "no end", 0),
    CASE("nul\0\r\n\0.\r\n", "nul\0\n\0.\n", 2),
};

static void every_case_comes_out_the_same_for_every_cut_and_every_room(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t cut = 0; cut <= cases[i].size; cut++) {
            for (size_t room = 2; room <= 8; room++) {
                struct unwire unwire = {0};
                uint8_t out[64];
                size_t used = 0;
                struct slice pieces[2] = {slice_of(cases[i].wire, cut),
                                          slice_of(cases[i].wire + cut, cases[i].size - cut)};
                for (int p = 0; p < 2; p++) {
                    while (pieces[p].size > 0) {
                        size_t taken = unwire_take(&unwire, &pieces[p], out + used, room);
                        assert_true(taken <= room);
                        used += taken;
                    }
                }
                used += unwire_end(&unwire, out + used);
                assert_int_equal(used, cases[i].file_size);
                assert_memory_equal(out, cases[i].file, used);
                assert_int_equal(unwire.bytes, used);
                assert_int_equal(unwire.lone_lines, cases[i].lone_lines);
            }
        }
    }
}

static void nothing_is_taken_without_room(void **state)
{
    (void)state;
    struct unwire unwire = {0};
    uint8_t out[2];
    struct slice wire = slice_text("abc");
    assert_int_equal(unwire_take(&unwire, &wire, out, 1), 0);
    assert_int_equal(wire.size, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_comes_out_the_same_for_every_cut_and_every_room),
        cmocka_unit_test(nothing_is_taken_without_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
