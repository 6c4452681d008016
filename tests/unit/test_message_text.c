/* Text of messages as people read and search it. */
#include "proto/message/subject.h"
#include "proto/message/text.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unicase.h>
#include <cmocka.h>

static void fields_are_decoded(void **state)
{
    static const struct {
        const char *value, *text;
    } fields[] = {
        {"", ""},
        {"plain", "plain"},
        {"a\r\n b", "a b"},
        /* RFC 2047 §8 */
        {"=?ISO-8859-1?Q?a?=", "a"},
        {"=?ISO-8859-1?Q?a?= b", "a b"},
        {"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"},
        {"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"},
        {"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"},
        {"=?ISO-8859-1?Q?a_b?=", "a b"},
        {"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"},
        {"=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>", "Keith Moore <moore@cs.utk.edu>"},
        {"=?ISO-8859-1?Q?Patrik_F=E4ltstr=F6m?=", "Patrik F\303\244ltstr\303\266m"},
        {"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n "
         "=?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
         "If you can read this you understand the example."},
        /* RFC 2231 §5 */
        {"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"},
        {"=?utf-8?b?w6k=?=", "\303\251"},
        {"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "\346\227\245\346\234\254"},
        {"a=?utf-8?q?b?=c", "abc"},
        {"=?utf-8?q?a b?=", "a b"},
        {"raw \303\251", "raw \303\251"},
        /* broken */
        {"raw \351.", "raw \357\277\275."},
        {"raw \303", "raw \357\277\275"},
        {"=?utf-8?q?=E9?=", "\357\277\275"},
        {"=?x-nobody?q?a?=", "=?x-nobody?q?a?="},
        {"=?utf-8//TRANSLIT?q?a?=", "=?utf-8//TRANSLIT?q?a?="},
        {"=?utf-8?x?a?=", "=?utf-8?x?a?="},
        {"=?utf-8?q?a", "=?utf-8?q?a"},
        {"=?utf-8?q?a?", "=?utf-8?q?a?"},
        {"=?=?=?utf-8?q?a?=", "=?=?a"},
        {"=?utf-8?q?a=4?=", "a=4"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint8_t text[512];
        size_t size = text_of_field(slice_text(fields[i].value), text, sizeof(text) - 1);
        text[size] = '\0';
        assert_string_equal(text, fields[i].text);
    }
}

static void charsets_come_in_pieces(void **state)
{
    static const struct {
        const char *charset, *bytes, *text;
    } texts[] = {
        {"utf-8", "a\303\251\342\202\254\360\237\230\200z",
         "a\303\251\342\202\254\360\237\230\200z"},
        {"utf-8", "\342\202", "\357\277\275"},
        {"windows-1252", "\200 5", "\342\202\254 5"},
        {"shift_jis", "\223\372\226\173", "\346\227\245\346\234\254"},
        {"gb18030", "\201\060\201\060", "\302\200"},
        {"iso-2022-jp", "\033$BF|K\\\033(B.", "\346\227\245\346\234\254."},
        {"koi8-r", "\301", "\320\260"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (size_t step = 1; step < 6; step++) {
            struct charset_decoder decoder;
            uint8_t out[512];
            size_t size = 0;
            assert_int_equal(charset_open(&decoder, slice_text(texts[i].charset)), 0);
            for (struct slice rest = slice_text(texts[i].bytes); rest.size > 0;
                 rest = slice_from(rest, step)) {
                struct slice piece = slice_first(rest, step);
                while (piece.size > 0) {
                    size += charset_decode(&decoder, &piece, out + size, 64);
                }
            }
            size += charset_close(&decoder, out + size);
            out[size] = '\0';
            assert_string_equal(out, texts[i].text);
        }
    }
    struct charset_decoder decoder;
    assert_int_equal(charset_open(&decoder, slice_text("no such charset")), -EINVAL);
    assert_int_equal(charset_open(&decoder, slice_text("x-none")), -EINVAL);
    assert_int_equal(charset_open(&decoder, slice_text("")), -EINVAL);
}

static bool found(const char *text, const char *part)
{
    uint8_t a[256], b[256];
    size_t a_size, b_size;
    assert_int_equal(text_casemap(slice_text(text), a, sizeof(a), &a_size), 0);
    assert_int_equal(text_casemap(slice_text(part), b, sizeof(b), &b_size), 0);
    return text_contains(slice_of(a, a_size), slice_of(b, b_size));
}

static void text_is_found_in_any_case_and_composition(void **state)
{
    uint8_t out[4];
    size_t size;
    (void)state;
    assert_true(found("Hello World", "WORLD"));
    assert_true(found("\303\211t\303\251", "e\314\201T\303\211")); /* composed and not */
    assert_true(found("STRASSE", "stra\303\237e"));
    assert_true(found("\320\237\321\200\320\270", "\320\277\321\200"));
    assert_true(found("x", ""));
    assert_false(found("abc", "abd"));
    assert_false(found("ab", "abc"));
    assert_int_equal(text_casemap(slice_text("too long"), out, sizeof(out), &size), -E2BIG);
    assert_int_equal(text_casemap(slice_text("\377"), out, sizeof(out), &size), -EINVAL);
}

/* What Unicode says, which takes longer. */
static void ascii_is_mapped_as_unicode_says(void **state)
{
    uint8_t text[256], out[256], expected[1024];
    (void)state;
    for (unsigned first = 0; first < 128; first++) {
        for (unsigned i = 0; i < sizeof(text); i++) {
            text[i] = (uint8_t)((first + i * 37) % 128);
        }
        for (size_t bytes = 1; bytes <= sizeof(text); bytes += first + 1) {
            size_t size, wanted = sizeof(expected);
            assert_ptr_equal(u8_casefold(text, bytes, NULL, UNINORM_NFKD, expected, &wanted),
                             expected);
            assert_int_equal(text_casemap(slice_of(text, bytes), out, bytes, &size), 0);
            assert_int_equal(size, wanted);
            assert_memory_equal(out, expected, wanted);
            assert_int_equal(text_casemap(slice_of(text, bytes), out, bytes - 1, &size), -E2BIG);
            assert_int_equal(size, 0);
        }
    }
}

static void a_subject_is_left_with_its_base(void **state)
{
    static const struct {
        const char *subject, *base;
        bool is_reply;
    } subjects[] = {
        {"", "", false},
        {"hello", "hello", false},
        {"  a \t b  ", "a b", false},
        {"Re: hello", "hello", true},
        {"RE:hello", "hello", true},
        {"re : hello", "hello", true},
        {"Re[2]: hello", "hello", true},
        {"Re [2] : hello", "hello", true},
        {"Fwd: Re: fw: hello", "hello", true},
        {"[list] hello", "hello", false},
        {"[list] Re: hello", "hello", true},
        {"[a][b] [c] Re: [d] Fwd: hello", "hello", true},
        {"Re: [list] hello", "hello", true},
        {"[list]", "[list]", false},
        {"[a][b]", "[b]", false},
        {"Re: [list]", "[list]", true},
        {"hello (fwd)", "hello", true},
        {"hello (FWD) (fwd) ", "hello", true},
        {"[fwd: hello]", "hello", true},
        {"[Fwd: Re: [x] hello (fwd)]", "hello", true},
        {"Re:", "", true},
        {"Reply: x", "Reply: x", false},
        {"Research: x", "Research: x", false},
        {"[open x", "[open x", false},
        {"[a[b] x", "[a[b] x", false},
        {"fwd hello", "fwd hello", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
        uint8_t text[128];
        bool is_reply;
        memcpy(text, subjects[i].subject, strlen(subjects[i].subject));
        struct slice base = subject_base(text, strlen(subjects[i].subject), &is_reply);
        assert_int_equal(base.size, strlen(subjects[i].base));
        assert_memory_equal(base.bytes, subjects[i].base, base.size);
        assert_int_equal(is_reply, subjects[i].is_reply);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_decoded),
        cmocka_unit_test(charsets_come_in_pieces),
        cmocka_unit_test(text_is_found_in_any_case_and_composition),
        cmocka_unit_test(ascii_is_mapped_as_unicode_says),
        cmocka_unit_test(a_subject_is_left_with_its_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
