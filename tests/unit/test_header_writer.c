#include "proto/message/header_writer.h"
#include "proto/message/text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const char *written(const char *value, bool mailbox)
{
    static char text[8192];
    size_t (*write)(struct slice, struct slice, uint8_t *, size_t) =
        mailbox ? header_write_mailbox : header_write;
    size_t size = write(slice_text("X"), slice_text(value), (uint8_t *)text, sizeof text - 1);
    text[size] = '\0';
    return text;
}

static void fields_are_written_as_they_can_be_sent(void **state)
{
    static const struct {
        const char *value, *field;
    } rows[] = {
        {"", "X: \r\n"},
        {"one two", "X: one two\r\n"},
        {"  one  two ", "X: one  two\r\n"},
        {"caf\xc3\xa9", "X: =?utf-8?q?caf=C3=A9?=\r\n"},
        {"a_b \xc3\xa9?", "X: =?utf-8?q?a=5Fb_=C3=A9=3F?=\r\n"},
        {"a\r\nBcc: b", "X: =?utf-8?q?a__Bcc=3A_b?=\r\n"},
        {"=?utf-8?q?x?=", "X: =?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=\r\n"},
        {"\xff", "X: =?utf-8?q?=FF?=\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(written(rows[i].value, false), rows[i].field);
    }
}

static void of_a_mailbox_only_the_name_is_encoded(void **state)
{
    (void)state;
    assert_string_equal(written("a@b", true), "X: a@b\r\n");
    assert_string_equal(written("<a@b>", true), "X: <a@b>\r\n");
    assert_string_equal(written("Ann B <a@b>", true), "X: Ann B <a@b>\r\n");
    assert_string_equal(written("\"Ann, B\" <a@b>", true), "X: \"Ann, B\" <a@b>\r\n");
    assert_string_equal(written("\"\xc3\x89va\" <a@b>", true), "X: =?utf-8?q?=C3=89va?= <a@b>\r\n");
}

static size_t longest_line(const char *text)
{
    size_t longest = 0;
    for (const char *end; (end = strstr(text, "\r\n")) != NULL; text = end + 2) {
        longest = (size_t)(end - text) > longest ? (size_t)(end - text) : longest;
    }
    return longest;
}

static void long_values_are_folded_and_say_the_same_when_they_are_read(void **state)
{
    char value[4000] = "", read[8192];
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        char *at = value;
        for (int i = 0; i < 200; i++) {
            at += sprintf(at, kind == 0 ? "word%d " : "w\xc3\xa9rd%d ", i);
        }
        at[-1] = '\0';
        const char *field = written(value, false);
        assert_in_range(longest_line(field), 1, 76);
        struct slice rest = slice_of(field + 3, strlen(field) - 5);
        size_t size = text_of_field(rest, (uint8_t *)read, sizeof read);
        assert_int_equal(size, strlen(value));
        assert_memory_equal(read, value, size);
    }
}

static void a_word_that_no_line_holds_is_cut_into_encoded_words(void **state)
{
    char value[3001];
    (void)state;
    memset(value, 'a', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    assert_in_range(longest_line(written(value, false)), 1, 76);
}

static void what_does_not_fit_is_not_written(void **state)
{
    uint8_t out[8];
    (void)state;
    assert_int_equal(header_write(slice_text("X"), slice_text("abc"), out, 8), 8);
    assert_int_equal(header_write(slice_text("X"), slice_text("abcd"), out, 8), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_written_as_they_can_be_sent),
        cmocka_unit_test(of_a_mailbox_only_the_name_is_encoded),
        cmocka_unit_test(long_values_are_folded_and_say_the_same_when_they_are_read),
        cmocka_unit_test(a_word_that_no_line_holds_is_cut_into_encoded_words),
        cmocka_unit_test(what_does_not_fit_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
