/* What an IMAP server says, token by token. */
#include "proto/imap/response.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* The tokens: atoms as they are, texts between '', BAD as "!". */
static const struct {
    const char *response, *tokens;
} rows[] = {
    {"", ""},
    {"\r\n", ""},
    {"* OK [MAILBOXID (F01)] Ok\r\n", "* OK [MAILBOXID (F01)] Ok"},
    {"* 1 FETCH (UID 7 FLAGS (\\Seen $x))\r\n", "* 1 FETCH ( UID 7 FLAGS ( \\Seen $x ) )"},
    {"BODY[HEADER.FIELDS (A B)]<0> \"x\"", "BODY[HEADER.FIELDS (A B)]<0> 'x'"},
    {"\"a \\\"b\\\\c\" (\"\")", "'a \"b\\c' ( '' )"},
    {"({3}\r\na)\" x)", "( 'a)\"' x )"},
    {"~{2}\r\n\r\n~", "'\r\n' ~"},
    {"{0}\r\n)", "'' )"},
    {"{3}\r\nab", "!"},
    {"{99999999999999999999}\r\nab", "!"},
    {"{}\r\n", "!"},
    {"{1}x", "!"},
    {"\"no end", "!"},
    {"\"no end\\", "!"},
    {"\"no\r\nend\"", "!"},
    {"a[b", "!"},
    {"\x01", "!"},
};

static void responses_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice rest = slice_text(rows[i].response);
        char tokens[256] = "", text[128];
        struct imap_token token = {.kind = IMAP_TOKEN_ATOM};
        while (token.kind != IMAP_TOKEN_END && token.kind != IMAP_TOKEN_BAD) {
            token = imap_response_next(&rest);
            size_t size = imap_token_copy(&token, text);
            bool quotes = token.kind == IMAP_TOKEN_TEXT;
            size_t used = strlen(tokens);
            if (token.kind == IMAP_TOKEN_BAD) {
                snprintf(tokens + used, sizeof tokens - used, "%s!", used > 0 ? " " : "");
            } else if (token.kind != IMAP_TOKEN_END) {
                snprintf(tokens + used, sizeof tokens - used, "%s%s%.*s%s", used > 0 ? " " : "",
                         quotes ? "'" : "", (int)size, text, quotes ? "'" : "");
            }
        }
        assert_string_equal(tokens, rows[i].tokens);
    }
}

static void a_section_ends_with_its_bracket_whatever_is_in_it(void **state)
{
    struct slice rest = slice_text("(BODY[HEADER.FIELDS (A \"B\")]<0> NIL)");
    (void)state;
    assert_int_equal(imap_response_next(&rest).kind, IMAP_TOKEN_OPEN);
    assert_true(slice_equal(imap_response_next(&rest).bytes,
                            slice_text("BODY[HEADER.FIELDS (A \"B\")]<0>")));
    assert_true(slice_equal(imap_response_next(&rest).bytes, slice_text("NIL")));
}

static void a_value_is_a_token_or_a_whole_list(void **state)
{
    struct slice rest = slice_text(" (a (b {2}\r\n)) \")\") c) NIL \"x\" (y");
    struct slice value;
    (void)state;
    assert_true(imap_response_value(&rest, &value));
    assert_true(slice_equal(value, slice_text("(a (b {2}\r\n)) \")\") c)")));
    assert_true(imap_response_value(&rest, &value));
    assert_true(slice_equal(value, slice_text("NIL")));
    assert_true(imap_response_value(&rest, &value));
    assert_true(slice_equal(value, slice_text("\"x\"")));
    assert_false(imap_response_value(&rest, &value));
    rest = slice_text(")");
    assert_false(imap_response_value(&rest, &value));
}

static void a_line_says_whether_a_literal_follows(void **state)
{
    static const struct {
        const char *line;
        int64_t bytes; /* -1: none */
    } lines[] = {
        {"* 1 FETCH (BODY[] {12}\r\n", 12},
        {"{0}\r\n", 0},
        {"~{7}\r\n", 7},
        {"{3+}\r\n", 3},
        {"{3}\n", -1},
        {"{3}", -1},
        {"3}\r\n", -1},
        {"x {}\r\n", -1},
        {"\r\n", -1},
        {"", -1},
        {"{3 }\r\n", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        uint64_t bytes = 0;
        bool has = imap_response_literal(slice_text(lines[i].line), &bytes);
        assert_int_equal(has, lines[i].bytes >= 0);
        if (has) {
            assert_int_equal(bytes, lines[i].bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(responses_are_taken_apart),
        cmocka_unit_test(a_section_ends_with_its_bracket_whatever_is_in_it),
        cmocka_unit_test(a_value_is_a_token_or_a_whole_list),
        cmocka_unit_test(a_line_says_whether_a_literal_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
