/* Content transfer encodings. */
#include "proto/message/transfer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* What comes out of text that is fed `step` bytes at a time. */
static size_t decode(const char *text, enum transfer_encoding encoding, size_t step, uint8_t *out,
                     bool *broken)
{
    struct transfer_decoder decoder;
    size_t size = 0;
    transfer_open(&decoder, encoding);
    for (struct slice rest = slice_text(text); rest.size > 0; rest = slice_from(rest, step)) {
        struct slice piece = slice_first(rest, step);
        while (piece.size > 0) {
            size += transfer_decode(&decoder, &piece, out + size, TRANSFER_ROOM_MIN);
        }
    }
    size += transfer_close(&decoder, out + size);
    *broken = decoder.broken;
    return size;
}

static void encodings_are_taken_off(void **state)
{
    static const struct {
        enum transfer_encoding encoding;
        bool broken;
        const char *text, *decoded;
    } bodies[] = {
        {TRANSFER_BASE64, false, "", ""},
        {TRANSFER_BASE64, false, "YQ==", "a"},
        {TRANSFER_BASE64, false, "YWI=\r\n", "ab"},
        {TRANSFER_BASE64, false, "YWJj\r\nZGVm\r\n", "abcdef"},
        {TRANSFER_BASE64, false, "YW\r\n Jj", "abc"},
        {TRANSFER_BASE64, true, "YW*Jj", "abc"},
        {TRANSFER_BASE64, true, "YWI", "ab"},       /* no padding */
        {TRANSFER_BASE64, false, "YQ==Yg==", "ab"}, /* two of them */
        {TRANSFER_BASE64, false, "+/+/", "\373\377\277"},
        {TRANSFER_QUOTED_PRINTABLE, false, "a=3Db=c3=a9", "a=b\303\251"},
        {TRANSFER_QUOTED_PRINTABLE, false, "one=\r\ntwo\r\n", "onetwo\r\n"},
        {TRANSFER_QUOTED_PRINTABLE, false, "one=\ntwo\n", "onetwo\n"},
        {TRANSFER_QUOTED_PRINTABLE, false, "one= \t\r\ntwo", "onetwo"},
        {TRANSFER_QUOTED_PRINTABLE, false, "one  \t\r\ntwo ", "one\r\ntwo"},
        {TRANSFER_QUOTED_PRINTABLE, false, "one =20\r\n", "one  \r\n"},
        {TRANSFER_QUOTED_PRINTABLE, false, "a\rb", "a\rb"},
        {TRANSFER_QUOTED_PRINTABLE, true, "a=ZZ=4", "a=ZZ=4"},
        {TRANSFER_QUOTED_PRINTABLE, true, "a=4\r\nb", "a=4\r\nb"},
        {TRANSFER_QUOTED_PRINTABLE, true, "a==3D", "a==3D"},
        {TRANSFER_QUOTED_PRINTABLE, false, "a=", "a"},
        {TRANSFER_IDENTITY, false, "a=3D\r\n ", "a=3D\r\n "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        for (size_t step = 1; step < 9; step++) {
            uint8_t out[1024];
            bool broken;
            size_t size = decode(bodies[i].text, bodies[i].encoding, step, out, &broken);
            out[size] = '\0';
            assert_string_equal(out, bodies[i].decoded);
            assert_int_equal(broken, bodies[i].broken);
        }
    }
}

static void more_blanks_than_a_line_may_have_are_kept(void **state)
{
    char text[1001];
    uint8_t out[2048];
    bool broken;
    (void)state;
    memset(text, ' ', 999);
    text[999] = 'x';
    text[1000] = '\0';
    assert_int_equal(decode(text, TRANSFER_QUOTED_PRINTABLE, 1000, out, &broken), 1000);
    assert_memory_equal(out, text, 1000);
}

static void encodings_are_known_by_name(void **state)
{
    (void)state;
    assert_int_equal(transfer_encoding_of(slice_text("BASE64")), TRANSFER_BASE64);
    assert_int_equal(transfer_encoding_of(slice_text("Quoted-Printable")),
                     TRANSFER_QUOTED_PRINTABLE);
    assert_int_equal(transfer_encoding_of(slice_text("8bit")), TRANSFER_IDENTITY);
    assert_int_equal(transfer_encoding_of(slice_text("x-uuencode")), TRANSFER_UNKNOWN);
    assert_int_equal(transfer_encoding_of(slice_text("")), TRANSFER_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodings_are_taken_off),
        cmocka_unit_test(more_blanks_than_a_line_may_have_are_kept),
        cmocka_unit_test(encodings_are_known_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
