/* Sections of a message. Where RFCs leave it open, the answers are those of Dovecot 2.3. */
#include "proto/imap/section.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define PART_22 "Subject: deep\r\n\r\nthree"
#define PART_2_TEXT                                                                                \
    "--c\r\nContent-Type: a/b\r\n\r\ntwo\r\n--c\r\nContent-Type: message/rfc822\r\n\r\n" PART_22   \
    "\r\n--c--"
#define PART_2_HEADER "Subject: in\r\nContent-Type: multipart/x; boundary=c\r\n\r\n"
#define PART_3                                                                                     \
    "--d\r\nContent-Transfer-Encoding: base64\r\n\r\neHl6\r\n--d\r\n"                              \
    "Content-Transfer-Encoding: x-foo\r\n\r\neHl6\r\n--d--"
#define HEADER "From: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
#define TEXT                                                                                       \
    "pre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" PART_2_HEADER           \
        PART_2_TEXT "\r\n--b\r\nContent-Type: multipart/y; boundary=d\r\n\r\n" PART_3              \
    "\r\n--b--\r\n"

static struct arena arena;

static int open_arena(void **state)
{
    (void)state;
    arena_open(&arena, 1 << 20);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

static const struct message_part *tree_of(const char *text)
{
    struct structure structure;
    assert_int_equal(structure_open(&structure, &arena), 0);
    structure_feed(&structure, slice_text(text));
    return structure_finish(&structure);
}

/* "1.2.HEADER": numbers and what follows. */
static size_t numbers_of(const char *section, uint32_t numbers[8], enum section_text *text)
{
    size_t count = 0;
    char *end = (char *)section;
    while (*end >= '0' && *end <= '9') {
        numbers[count++] = (uint32_t)strtoul(end, &end, 10);
        end += *end == '.';
    }
    *text = *end == 'H'   ? SECTION_HEADER
            : *end == 'T' ? SECTION_TEXT
            : *end == 'M' ? SECTION_MIME
                          : SECTION_ALL;
    return count;
}

#define PLAIN_HEADER "Subject: s\r\n\r\n"
#define FORWARD_HEADER "Content-Type: message/rfc822\r\n\r\n"
#define FORWARD FORWARD_HEADER "Subject: in\r\n\r\nbody\r\n"

static void a_section_is_a_range_of_the_message(void **state)
{
    static const struct {
        const char *mail, *section, *bytes; /* NULL: there is none */
    } sections[] = {
        {HEADER TEXT, "", HEADER TEXT},
        {HEADER TEXT, "HEADER", HEADER},
        {HEADER TEXT, "TEXT", TEXT},
        {HEADER TEXT, "1", "one"},
        {HEADER TEXT, "1.MIME", "\r\n"},
        {HEADER TEXT, "1.HEADER", NULL},
        {HEADER TEXT, "1.TEXT", NULL},
        {HEADER TEXT, "1.1", "one"},
        {HEADER TEXT, "1.1.1", NULL},
        {HEADER TEXT, "1.2", NULL},
        {HEADER TEXT, "2", PART_2_HEADER PART_2_TEXT},
        {HEADER TEXT, "2.HEADER", PART_2_HEADER},
        {HEADER TEXT, "2.TEXT", PART_2_TEXT},
        {HEADER TEXT, "2.MIME", "Content-Type: message/rfc822\r\n\r\n"},
        {HEADER TEXT, "2.1", "two"},
        {HEADER TEXT, "2.1.MIME", "Content-Type: a/b\r\n\r\n"},
        {HEADER TEXT, "2.1.TEXT", NULL},
        {HEADER TEXT, "2.2", PART_22},
        {HEADER TEXT, "2.2.HEADER", "Subject: deep\r\n\r\n"},
        {HEADER TEXT, "2.2.TEXT", "three"},
        {HEADER TEXT, "2.2.1", "three"},
        {HEADER TEXT, "2.2.1.MIME", "Subject: deep\r\n\r\n"},
        {HEADER TEXT, "2.2.1.1", NULL},
        {HEADER TEXT, "2.2.2", NULL},
        {HEADER TEXT, "2.3", NULL},
        {HEADER TEXT, "3", PART_3},
        {HEADER TEXT, "3.MIME", "Content-Type: multipart/y; boundary=d\r\n\r\n"},
        {HEADER TEXT, "3.TEXT", NULL},
        {HEADER TEXT, "3.1", "eHl6"},
        {HEADER TEXT, "3.2", "eHl6"},
        {HEADER TEXT, "4", NULL},
        {HEADER TEXT, "0", NULL},
        {HEADER TEXT, "4294967295", NULL},
        {PLAIN_HEADER "body", "1", "body"},
        {PLAIN_HEADER "body", "1.MIME", PLAIN_HEADER},
        {PLAIN_HEADER "body", "1.TEXT", NULL},
        {PLAIN_HEADER "body", "1.1", NULL},
        {PLAIN_HEADER "body", "2", NULL},
        {PLAIN_HEADER "body", "0", NULL},
        {FORWARD, "1", "Subject: in\r\n\r\nbody\r\n"},
        {FORWARD, "1.MIME", FORWARD_HEADER},
        {FORWARD, "1.HEADER", "Subject: in\r\n\r\n"},
        {FORWARD, "1.TEXT", "body\r\n"},
        {FORWARD, "1.1", "body\r\n"},
        {FORWARD, "1.1.1", NULL},
        {FORWARD, "2", NULL},
        {"Content-Type: multipart/mixed\r\n\r\nbody", "1", NULL},
        {"Content-Type: multipart/mixed\r\n\r\nbody", "TEXT", "body"},
        {"", "", ""},
        {"", "1", ""},
        {"A: b", "HEADER", "A: b"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        uint32_t numbers[8];
        enum section_text text;
        struct section_range range;
        const char *mail = sections[i].mail, *bytes = sections[i].bytes;
        size_t count = numbers_of(sections[i].section, numbers, &text);
        bool found = section_find(tree_of(mail), numbers, count, text, &range);
        assert_int_equal(found, bytes != NULL);
        assert_int_equal(range.bytes, bytes != NULL ? strlen(bytes) : 0);
        assert_memory_equal(mail + range.offset, bytes != NULL ? bytes : "", range.bytes);
    }
}

static void a_partial_is_cut_to_what_is_there(void **state)
{
    static const struct {
        uint64_t first, bytes, offset, left;
    } partials[] = {{0, 5, 10, 5},          {3, 5, 13, 5},          {15, 9, 25, 5},
                    {20, 1, 30, 0},         {99, 1, 30, 0},         {0, 99, 10, 20},
                    {UINT64_MAX, 1, 30, 0}, {1, UINT64_MAX, 11, 19}};
    (void)state;
    for (size_t i = 0; i < sizeof(partials) / sizeof(partials[0]); i++) {
        struct section_range part =
            section_partial((struct section_range){10, 20}, partials[i].first, partials[i].bytes);
        assert_int_equal(part.offset, partials[i].offset);
        assert_int_equal(part.bytes, partials[i].left);
    }
}

static void fields_are_chosen_by_name(void **state)
{
    static const struct {
        const char *header;
        enum section_fields which;
        const char *written; /* of Subject and X-Y */
    } headers[] = {
        {"subject: s\r\nA: 1\r\nX-Y: a\r\n b\r\n\r\n", SECTION_FIELDS,
         "subject: s\r\nX-Y: a\r\n b\r\n\r\n"},
        {"subject: s\r\nA: 1\r\nX-Y: a\r\n b\r\n\r\n", SECTION_FIELDS_NOT, "A: 1\r\n\r\n"},
        {"X: 1\r\n\r\n", SECTION_FIELDS, "\r\n"},
        {"\r\n", SECTION_FIELDS, "\r\n"},
        {"X: 1\n\n", SECTION_FIELDS, "\r\n"},
        /* Without an empty line there is none behind them. */
        {"", SECTION_FIELDS, ""},
        {"Subject: cut", SECTION_FIELDS, "Subject: cut\r\n"},
        {"X-Y: 1\r\nX-Y: 2\r\n", SECTION_FIELDS, "X-Y: 1\r\nX-Y: 2\r\n"},
        {"no colon\r\nSubject: s\r\n", SECTION_FIELDS_NOT, "no colon\r\n"},
    };
    const struct slice names[] = {slice_text("SUBJECT"), slice_text("x-y")};
    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        struct imap_writer writer;
        imap_writer_open(&writer, 4096);
        section_fields_write(&writer, slice_text(headers[i].header), names, 2, headers[i].which);
        imap_write_bytes(&writer, slice_of("", 1));
        assert_string_equal(writer.bytes, headers[i].written);
        imap_writer_close(&writer);
    }
}

static void binary_takes_the_encoding_of_one_part_off(void **state)
{
    static const struct {
        const char *section;
        enum transfer_encoding encoding;
        bool found;
        uint64_t bytes; /* decoded */
    } parts[] = {
        {"1", TRANSFER_IDENTITY, true, 3},  {"2", TRANSFER_IDENTITY, true, 0},
        {"3", TRANSFER_IDENTITY, true, 0},  {"3.1", TRANSFER_BASE64, true, 3},
        {"3.2", TRANSFER_UNKNOWN, true, 0}, {"4", TRANSFER_IDENTITY, false, 0},
        {"", TRANSFER_IDENTITY, true, 0},
    };
    const struct message_part *root = tree_of(HEADER TEXT);
    (void)state;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        uint32_t numbers[8];
        enum section_text text;
        struct section_range range;
        enum transfer_encoding encoding;
        size_t count = numbers_of(parts[i].section, numbers, &text);
        assert_int_equal(section_binary(root, numbers, count, &range, &encoding), parts[i].found);
        assert_int_equal(encoding, parts[i].encoding);
        if (parts[i].bytes > 0) {
            struct transfer_decoder decoder;
            transfer_open(&decoder, encoding);
            uint64_t bytes = section_binary_bytes(
                &decoder, slice_of((HEADER TEXT) + range.offset, (size_t)range.bytes));
            assert_int_equal(bytes + section_binary_end(&decoder), parts[i].bytes);
        }
    }
}

static void the_size_is_that_of_all_pieces(void **state)
{
    struct transfer_decoder decoder;
    uint64_t bytes = 0;
    (void)state;
    transfer_open(&decoder, TRANSFER_QUOTED_PRINTABLE);
    bytes += section_binary_bytes(&decoder, slice_text("a=3"));
    bytes += section_binary_bytes(&decoder, slice_text("Db\r"));
    bytes += section_binary_end(&decoder);
    assert_int_equal(bytes, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_section_is_a_range_of_the_message),
        cmocka_unit_test(a_partial_is_cut_to_what_is_there),
        cmocka_unit_test(fields_are_chosen_by_name),
        cmocka_unit_test(binary_takes_the_encoding_of_one_part_off),
        cmocka_unit_test(the_size_is_that_of_all_pieces),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
