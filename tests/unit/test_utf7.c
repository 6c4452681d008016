/* utf7: names of mailboxes in modified UTF-7. */
#include "engine/core/utf7.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct pair {
    const char *utf8, *utf7;
};

static const struct pair pairs[] = {
    {"", ""},
    {"Sent", "Sent"},
    {"a&b", "a&-b"},
    {"&&", "&-&-"},
    {"~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", /* RFC 3501 §5.1.3 */
     "~peter/mail/&U,BTFw-/&ZeVnLIqe-"},
    {"Entw\xc3\xbcrfe", "Entw&APw-rfe"},
    {"\xc3\xa4&\xc3\xb6", "&AOQ-&-&APY-"},
    {"\xf0\x9f\x93\xa7", "&2D3c5w-"}, /* a pair of surrogates */
    {"\x01", "&AAE-"},
    {"\x7f", "&AH8-"},
    {"\xef\xbf\xbd\xef\xbf\xbd", "&,,3,,Q-"},
};

static void every_name_has_one_form_and_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        uint8_t out[128];
        struct slice utf8 = slice_text(pairs[i].utf8), utf7 = slice_text(pairs[i].utf7);
        ssize_t size = utf7_encode(utf8, out, sizeof out);
        assert_int_equal(size, utf7.size);
        assert_memory_equal(out, utf7.bytes, utf7.size);
        assert_true(utf7.size <= UTF7_ENCODED_BYTES_MAX(utf8.size));
        size = utf7_decode(utf7, out, sizeof out);
        assert_int_equal(size, utf8.size);
        assert_memory_equal(out, utf8.bytes, utf8.size);
    }
}

static void what_has_another_form_or_none_is_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "a&",            /* no end */
        "&Jjo",          /* no '-' */
        "&Jjo!",         /* not a digit */
        "&AGE-",         /* 'a' stands for itself */
        "&ACY-",         /* '&' is "&-" */
        "&U,BTFw-&ZeU-", /* two shifts that could be one */
        "&APx-",         /* padding bits that are not zero */
        "&APwA-",        /* a digit too many */
        "&A-",           /* less than a unit */
        "&2D0-",         /* half a pair */
        "&3Oc-",         /* the second half alone */
        "\xc3\xbc",      /* not encoded */
        "a\tb",          /* a control character as it is */
    };
    uint8_t out[64];
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(utf7_decode(slice_text(refused[i]), out, sizeof out), -EILSEQ);
    }
    assert_int_equal(utf7_decode(slice_text("a&AAA-"), out, sizeof out), -EINVAL); /* NUL */
}

static void what_is_not_utf8_is_not_encoded(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"};
    uint8_t out[64];
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(utf7_encode(slice_text(refused[i]), out, sizeof out), -EILSEQ);
    }
    assert_int_equal(utf7_encode(slice_of("a\0b", 3), out, sizeof out), -EILSEQ);
}

static void nothing_is_written_past_the_room(void **state)
{
    (void)state;
    uint8_t out[16];
    for (size_t room = 0; room < 12; room++) {
        memset(out, 0xee, sizeof out);
        assert_int_equal(utf7_encode(slice_text("Entw\xc3\xbcrfe"), out, room), -ENOBUFS);
        assert_int_equal(out[room], 0xee);
    }
    for (size_t room = 0; room < 9; room++) {
        memset(out, 0xee, sizeof out);
        assert_int_equal(utf7_decode(slice_text("Entw&APw-rfe"), out, room), -ENOBUFS);
        assert_int_equal(out[room], 0xee);
    }
    assert_int_equal(utf7_encode(slice_text("Entw\xc3\xbcrfe"), out, 12), 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_has_one_form_and_comes_back),
        cmocka_unit_test(what_has_another_form_or_none_is_refused),
        cmocka_unit_test(what_is_not_utf8_is_not_encoded),
        cmocka_unit_test(nothing_is_written_past_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
