#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/smtp/extensions.h"
#include "proto/smtp/path.h"
#include "proto/smtp/reply_parser.h"

/* Feeds all of it, in two pieces; returns the last step. *used: bytes of it that were taken. */
static enum smtp_reply_step feed(struct smtp_reply_parser *parser, struct slice input, size_t cut,
                                 size_t *used)
{
    struct slice pieces[2] = {slice_first(input, cut), slice_from(input, cut)};
    enum smtp_reply_step step = SMTP_REPLY_MORE;
    *used = 0;
    for (unsigned i = 0; i < 2; i++) {
        while (pieces[i].size > 0 && (step == SMTP_REPLY_MORE || step == SMTP_REPLY_LINE)) {
            size_t taken;
            step = smtp_reply_parser_input(parser, pieces[i], &taken);
            *used += taken;
            pieces[i] = slice_from(pieces[i], taken);
        }
    }
    return step;
}

static void replies_are_read_wherever_they_are_cut(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        enum smtp_reply_step step;
        unsigned code;
        const char *status, *text, *why;
    } cases[] = {
        {"250 ok\r\n", SMTP_REPLY_COMPLETE, 250, "2.0.0", "ok", "one line"},
        {"250\r\n", SMTP_REPLY_COMPLETE, 250, "2.0.0", "", "no text at all"},
        {"250 \r\n", SMTP_REPLY_COMPLETE, 250, "2.0.0", "", "no text"},
        {"250\n", SMTP_REPLY_COMPLETE, 250, "2.0.0", "", "LF alone"},
        {"550-5.1.1 no\r\n550 5.1.1 body\r\n", SMTP_REPLY_COMPLETE, 550, "5.1.1", "5.1.1 no body",
         "two lines"},
        {"550-\r\n550-a\n550 b\r\n", SMTP_REPLY_COMPLETE, 550, "5.0.0", "a b",
         "an empty first line"},
        {"450 5.7.1 x\r\n", SMTP_REPLY_COMPLETE, 450, "4.0.0", "5.7.1 x", "classes disagree"},
        {"450 4.7.1\r\n", SMTP_REPLY_COMPLETE, 450, "4.7.1", "4.7.1", "nothing but a status"},
        {"450 4.7.1x\r\n", SMTP_REPLY_COMPLETE, 450, "4.0.0", "4.7.1x", "no status"},
        {"450 4.7777.1 x\r\n", SMTP_REPLY_COMPLETE, 450, "4.0.0", "4.7777.1 x",
         "numbers have three digits"},
        {"250 a\tb\033[2J\177\r\n", SMTP_REPLY_COMPLETE, 250, "2.0.0", "a b?[2J?", "controls"},
        {"250 a\rb\r\r\n", SMTP_REPLY_COMPLETE, 250, "2.0.0", "a?b?", "CR inside is text"},
        {"250 \303\274\302\233\300\200\355\240\200\360\220\200\r\n", SMTP_REPLY_COMPLETE, 250,
         "2.0.0", "\303\274??????????", "UTF-8; C1, overlong, surrogate, cut short"},
        {"25", SMTP_REPLY_MORE, 0, NULL, NULL, "not yet"},
        {"250 ok\r", SMTP_REPLY_MORE, 0, NULL, NULL, "not yet"},
        {"250-ok\r\n", SMTP_REPLY_LINE, 0, NULL, NULL, "not yet"},
        {"199 x\r\n", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "below 200"},
        {"600 x\r\n", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "above 599"},
        {"25x", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "no digit"},
        {"2 50", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "a blank"},
        {"2500 x", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "four digits"},
        {"\r\n", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "an empty line"},
        {" 250 x", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "a blank before"},
        {"250\rx", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "CR without LF after the code"},
        {"250-a\r\n251 b", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "the code changes"},
        {"250-a\r\n\r\n", SMTP_REPLY_MALFORMED, 0, NULL, NULL, "an empty line inside"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice input = slice_text(cases[i].input);
        for (size_t cut = 0; cut <= input.size; cut++) {
            struct smtp_reply_parser parser;
            size_t used;
            memset(&parser, 0xa5, sizeof(parser));
            smtp_reply_parser_init(&parser);
            enum smtp_reply_step step = feed(&parser, input, cut, &used);
            if (step != cases[i].step) {
                fail_msg("%s: step %d", cases[i].why, (int)step);
            }
            if (step == SMTP_REPLY_COMPLETE) {
                char status[SMTP_STATUS_TEXT_MAX];
                smtp_status_format(&parser.status, status);
                assert_int_equal(used, input.size);
                assert_int_equal(parser.code, cases[i].code);
                assert_string_equal(status, cases[i].status);
                struct slice text = smtp_reply_parser_text(&parser);
                assert_true(slice_equal(text, slice_text(cases[i].text)));
            }
        }
    }
}

static void bytes_after_a_reply_are_left_alone(void **state)
{
    (void)state;
    struct smtp_reply_parser parser;
    size_t used;
    smtp_reply_parser_init(&parser);
    struct slice input = slice_text("250 one\r\n354 two\r\n");
    assert_int_equal(smtp_reply_parser_input(&parser, input, &used), SMTP_REPLY_COMPLETE);
    assert_int_equal(used, 9);
    assert_false(smtp_reply_parser_inside(&parser));
    assert_int_equal(smtp_reply_parser_input(&parser, slice_from(input, used), &used),
                     SMTP_REPLY_COMPLETE);
    assert_int_equal(parser.code, 354);
    assert_true(slice_equal(smtp_reply_parser_text(&parser), slice_text("two")));
}

static void a_reply_that_has_begun_is_known(void **state)
{
    (void)state;
    static const char input[] = "250-a\r\n250 b\r\n";
    struct smtp_reply_parser parser;
    size_t used;
    smtp_reply_parser_init(&parser);
    for (size_t i = 0; i + 1 < sizeof(input); i++) {
        assert_int_equal(smtp_reply_parser_inside(&parser), i > 0);
        smtp_reply_parser_input(&parser, slice_of(input + i, 1), &used);
    }
    assert_false(smtp_reply_parser_inside(&parser));
}

static void endless_lines_and_replies_are_cut_off(void **state)
{
    (void)state;
    static const char code[4] = {'2', '5', '0', ' '};
    static char line[1 << 20];
    struct smtp_reply_parser parser;
    size_t used;
    memset(line, 'x', sizeof(line));
    memcpy(line, code, sizeof(code));
    smtp_reply_parser_init(&parser);
    assert_int_equal(smtp_reply_parser_input(&parser, slice_of(line, sizeof(line)), &used),
                     SMTP_REPLY_MALFORMED);

    smtp_reply_parser_init(&parser);
    size_t fed = 0;
    while (smtp_reply_parser_input(&parser, slice_of(line + fed, 1), &used) == SMTP_REPLY_MORE) {
        fed++;
    }
    assert_in_range(fed, SMTP_REPLY_LINE_BYTES_MAX, SMTP_REPLY_LINE_BYTES_MAX + 8);

    smtp_reply_parser_init(&parser);
    unsigned lines = 1;
    while (smtp_reply_parser_input(&parser, slice_text("250-more\r\n"), &used) == SMTP_REPLY_LINE) {
        lines++;
    }
    assert_int_equal(lines, SMTP_REPLY_LINES_MAX);
    assert_int_equal(smtp_reply_parser_input(&parser, slice_text("250 ok\r\n"), &used),
                     SMTP_REPLY_MALFORMED);
}

static void of_a_long_text_the_beginning_is_kept(void **state)
{
    (void)state;
    struct smtp_reply_parser parser;
    static const char code[4] = {'2', '5', '0', ' '}, end[4] = {'\303', '\274', '\r', '\n'};
    char input[600];
    size_t used;
    for (size_t length = 250; length < 262; length++) { /* the last character may be cut in two */
        memcpy(input, code, sizeof(code));
        memset(input + 4, 'a', length);
        memcpy(input + 4 + length, end, sizeof(end));
        smtp_reply_parser_init(&parser);
        assert_int_equal(smtp_reply_parser_input(&parser, slice_of(input, length + 8), &used),
                         SMTP_REPLY_COMPLETE);
        struct slice text = smtp_reply_parser_text(&parser);
        assert_int_equal(text.size,
                         length + 2 < SMTP_REPLY_TEXT_MAX ? length + 2 : SMTP_REPLY_TEXT_MAX);
        assert_true(length != 255 || text.bytes[255] == '?');
    }
}

static void extensions_are_read_without_regard_to_case(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        uint32_t extensions;
        uint64_t size_limit;
    } cases[] = {
        {"PIPELINING", SMTP_EXTENSION_PIPELINING, 7},
        {"pipelining x", SMTP_EXTENSION_PIPELINING, 7},
        {"PIPELININGX", 0, 7},
        {"XPIPELINING", 0, 7},
        {"SIZE 1000", SMTP_EXTENSION_SIZE, 1000},
        {"size", SMTP_EXTENSION_SIZE, 0},
        {"SIZE 18446744073709551615", SMTP_EXTENSION_SIZE,
         0}, /* more than we can count: no limit */
        {"SIZE -1", SMTP_EXTENSION_SIZE, 0},
        {"SIZE 10 20", SMTP_EXTENSION_SIZE, 0},
        {"SIZE=10", 0, 7},
        {"", 0, 7},
        {" ", 0, 7},
        {"EnhancedStatusCodes", SMTP_EXTENSION_STATUS, 7},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t extensions = 0;
        uint64_t size_limit = 7;
        smtp_extension_read(slice_text(cases[i].line), &extensions, &size_limit);
        assert_int_equal(extensions, cases[i].extensions);
        assert_int_equal(size_limit, cases[i].size_limit);
    }
}

static void paths_are_written_only_when_they_stay_paths(void **state)
{
    (void)state;
    char longest[SMTP_ADDRESS_BYTES_MAX + 1];
    bool ascii;
    memset(longest, 'a', sizeof(longest));
    assert_true(smtp_path_writable(slice_of(longest, sizeof(longest) - 1), &ascii));
    assert_false(smtp_path_writable(slice_of(longest, sizeof(longest)), &ascii));
    assert_true(smtp_path_writable(slice_text(""), &ascii));
    assert_true(ascii);
    assert_true(smtp_path_writable(slice_text("\303\274@b"), &ascii));
    assert_false(ascii);
    assert_false(smtp_path_writable(slice_of("a\0b", 3), &ascii));
    assert_false(smtp_path_writable(slice_text("a@b> X"), &ascii));
    assert_true(smtp_path_writable(slice_text("\"a@b> X\"@c"), &ascii));
    assert_false(smtp_path_writable(slice_text("\"a\\"), &ascii));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_read_wherever_they_are_cut),
        cmocka_unit_test(bytes_after_a_reply_are_left_alone),
        cmocka_unit_test(a_reply_that_has_begun_is_known),
        cmocka_unit_test(endless_lines_and_replies_are_cut_off),
        cmocka_unit_test(of_a_long_text_the_beginning_is_kept),
        cmocka_unit_test(extensions_are_read_without_regard_to_case),
        cmocka_unit_test(paths_are_written_only_when_they_stay_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
