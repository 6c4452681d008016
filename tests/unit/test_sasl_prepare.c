/* SASLprep: what is taken by itself is what the library makes of it, octet by octet. */
#include "proto/sasl/prepare.h"
#include <gsasl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static void each_octet_in_a_name_becomes_what_the_library_makes_of_it(void **state)
{
    (void)state;
    for (unsigned octet = 1; octet < 256; octet++) {
        char text[] = "a b";
        char *expected = NULL;
        uint8_t room[8];
        struct slice prepared;
        text[1] = (char)octet;
        bool good = gsasl_saslprep(text, 0, &expected, NULL) == GSASL_OK;
        assert_int_equal(sasl_prepare(slice_text(text), room, sizeof(room), &prepared), good);
        if (good) {
            assert_true(slice_equal(prepared, slice_text(expected)));
        }
        gsasl_free(expected);
    }
}

static void texts_become_what_rfc_4013_says(void **state)
{
    static const struct {
        const char *text, *expected; /* NULL: refused */
    } rows[] = {
        {"", ""},
        {"USER", "USER"},
        {"user", "user"},
        {"I\xc2\xadX", "IX"},       /* a soft hyphen is mapped to nothing */
        {"\xc2\xaa", "a"},          /* by KC */
        {"\xe2\x85\xa8", "IX"},     /* a Roman numeral */
        {"a\xc2\xa0z", "a z"},      /* a space that is none */
        {"\x07", NULL},             /* a control character */
        {"\xd8\xa7\x31", NULL},     /* right to left, and ends otherwise */
        {"\xc2\xad", NULL},         /* nothing is left */
        {"a\xff", NULL},            /* not UTF-8 */
        {" ~!\"\\,=", " ~!\"\\,="}, /* printable ASCII */
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t room[16];
        struct slice prepared;
        bool good = sasl_prepare(slice_text(rows[i].text), room, sizeof(room), &prepared);
        assert_int_equal(good, rows[i].expected != NULL);
        if (good) {
            assert_true(slice_equal(prepared, slice_text(rows[i].expected)));
        }
    }
}

static void what_has_no_room_is_refused(void **state)
{
    static const char *const texts[] = {"abcde", "abcd\xc3\xa9"};
    uint8_t room[4];
    struct slice prepared;
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_false(sasl_prepare(slice_text(texts[i]), room, sizeof(room), &prepared));
    }
    assert_true(sasl_prepare(slice_text("abcd"), room, sizeof(room), &prepared));
    assert_int_equal(prepared.size, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_octet_in_a_name_becomes_what_the_library_makes_of_it),
        cmocka_unit_test(texts_become_what_rfc_4013_says),
        cmocka_unit_test(what_has_no_room_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
