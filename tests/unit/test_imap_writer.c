/* The syntax of IMAP responses. */
#include "proto/imap/writer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static struct imap_writer writer;

static int open_writer(void **state)
{
    (void)state;
    imap_writer_open(&writer, 1 << 20);
    return 0;
}

static int close_writer(void **state)
{
    (void)state;
    imap_writer_close(&writer);
    return 0;
}

static void written(const char *expected)
{
    struct slice bytes = imap_writer_bytes(&writer);
    assert_false(writer.failed);
    assert_int_equal(bytes.size, strlen(expected));
    assert_memory_equal(bytes.bytes, expected, bytes.size);
    imap_writer_reset(&writer);
}

static void strings_are_quoted_when_they_may_be(void **state)
{
    static const struct {
        const char *text, *plain, *utf8;
    } strings[] = {
        {"", "\"\"", "\"\""},
        {"a b", "\"a b\"", "\"a b\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\"", "\"a\\\"b\\\\c\""},
        {"\"", "\"\\\"\"", "\"\\\"\""},
        {"a\tb", "\"a\tb\"", "\"a\tb\""},
        {"a\r\nb", "{4}\r\na\r\nb", "{4}\r\na\r\nb"},
        {"a\nb", "{3}\r\na\nb", "{3}\r\na\nb"},
        {"\303\251", "{2}\r\n\303\251", "\"\303\251\""},
        {"\351", "{1}\r\n\351", "{1}\r\n\351"}, /* no UTF-8 */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        imap_write_string(&writer, slice_text(strings[i].text));
        written(strings[i].plain);
        writer.utf8 = true;
        imap_write_nstring(&writer, slice_text(strings[i].text));
        written(strings[i].utf8);
        writer.utf8 = false;
    }
    imap_write_nstring(&writer, slice_of(NULL, 0));
    written("NIL");
    imap_write_string(&writer, slice_of("a\0b", 3));
    written("{3}\r\na\200b");
}

static void a_long_string_is_a_literal(void **state)
{
    char text[IMAP_QUOTED_BYTES_MAX + 2];
    (void)state;
    memset(text, 'x', sizeof(text));
    imap_write_string(&writer, slice_of(text, IMAP_QUOTED_BYTES_MAX));
    assert_int_equal(writer.bytes[0], '"');
    imap_writer_reset(&writer);
    imap_write_astring(&writer, slice_of(text, IMAP_QUOTED_BYTES_MAX + 1));
    assert_int_equal(writer.bytes[0], '{');
    imap_writer_reset(&writer);
}

static void names_are_atoms_when_they_may_be(void **state)
{
    static const struct {
        const char *text, *written;
    } names[] = {
        {"INBOX", "INBOX"},
        {"a/b.c]", "a/b.c]"},
        {"&AOk-", "&AOk-"},
        {"", "\"\""},
        {"a b", "\"a b\""},
        {"a%", "\"a%\""},
        {"a*", "\"a*\""},
        {"(a", "\"(a\""},
        {"a{1}", "\"a{1}\""},
        {"nil", "\"nil\""},
        {"a\\b", "\"a\\\\b\""},
        {"a\177", "\"a\177\""},
        {"\303\251", "{2}\r\n\303\251"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        imap_write_astring(&writer, slice_text(names[i].text));
        written(names[i].written);
    }
}

static void dates_have_the_zone_of_the_message(void **state)
{
    static const struct {
        int64_t wall_s;
        int zone_min;
        const char *written;
    } dates[] = {
        {837596665, -420, "\"17-Jul-1996 02:44:25 -0700\""}, /* RFC 3501 §6.4.5 */
        {0, 0, "\" 1-Jan-1970 00:00:00 +0000\""},
        {0, -30, "\"31-Dec-1969 23:30:00 -0030\""},
        {1785575100, 330, "\" 1-Aug-2026 14:35:00 +0530\""},
        {INT64_MAX / 2, 0, "\"31-Dec-9999 23:59:59 +0000\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
        imap_write_internal_date(&writer, dates[i].wall_s, dates[i].zone_min);
        written(dates[i].written);
    }
}

static void lists_and_numbers_are_written(void **state)
{
    const struct slice flags[] = {slice_text("\\Seen"), slice_text("$Forwarded")};
    const uint32_t numbers[] = {1, 2, 3, 7, 9, 10, UINT32_MAX - 1, UINT32_MAX};
    (void)state;
    imap_write_flags(&writer, flags, 2);
    written("(\\Seen $Forwarded)");
    imap_write_flags(&writer, NULL, 0);
    written("()");
    imap_write_sequence_set(&writer, numbers, 8);
    written("1:3,7,9:10,4294967294:4294967295");
    imap_write_sequence_set(&writer, numbers + 3, 1);
    written("7");
    imap_write_number(&writer, UINT64_MAX);
    written("18446744073709551615");
    imap_write_literal8_head(&writer, 12);
    written("~{12}\r\n");
}

static void the_bound_is_kept_and_remembered(void **state)
{
    struct imap_writer small;
    (void)state;
    imap_writer_open(&small, 10);
    imap_write(&small, "12345");
    imap_write(&small, "678901");
    assert_true(small.failed);
    imap_write(&small, "6");
    assert_int_equal(small.size, 5);
    imap_writer_reset(&small);
    imap_write(&small, "1234567890");
    assert_false(small.failed);
    assert_int_equal(small.size, 10);
    imap_writer_close(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_quoted_when_they_may_be),
        cmocka_unit_test(a_long_string_is_a_literal),
        cmocka_unit_test(names_are_atoms_when_they_may_be),
        cmocka_unit_test(dates_have_the_zone_of_the_message),
        cmocka_unit_test(lists_and_numbers_are_written),
        cmocka_unit_test(the_bound_is_kept_and_remembered),
    };
    return cmocka_run_group_tests(tests, open_writer, close_writer);
}
