/* The fields of a header. */
#include "proto/message/header.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

/* "[name|value]..." and what lies behind the header. */
static void walk(const char *text, char found[512])
{
    struct slice rest = slice_text(text);
    struct header_field field;
    size_t used = 0;
    found[0] = '\0';
    while (header_next(&rest, &field)) {
        used += (size_t)snprintf(found + used, 512 - used, "[%.*s|%.*s]", (int)field.name.size,
                                 (const char *)field.name.bytes, (int)field.value.size,
                                 field.value.size > 0 ? (const char *)field.value.bytes : "");
    }
    snprintf(found + used, 512 - used, "%.*s", (int)rest.size,
             rest.size > 0 ? (const char *)rest.bytes : "");
}

static void fields_are_walked_until_the_empty_line(void **state)
{
    static const struct {
        const char *text, *found;
    } headers[] = {
        {"A: 1\r\nB: 2\r\n\r\nbody", "[A|1][B|2]body"},
        {"A: 1\nB: 2\n\nbody", "[A|1][B|2]body"},
        {"A: 1\r\n\tx\r\n y\r\nB:2\r\n\r\n", "[A|1\r\n\tx\r\n y][B|2]"},
        {"A: 1\n x\nB:2", "[A|1\n x][B|2]"},
        {"A \t: 1\r\n\r\n", "[A|1]"},
        {"A:\r\nB: \r\n\r\nb", "[A|][B|]b"},
        {"A:\r\n 1\r\n\r\nb", "[A|\r\n 1]b"},
        {"no colon\r\nA: 1\r\n\r\n", "[|no colon][A|1]"},
        {"From x y\nA: 1\n", "[|From x y][A|1]"},
        {" blank first: x\r\nA: 1\r\n", "[| blank first: x][A|1]"},
        {": no name\r\nA: 1\r\n", "[|no name][A|1]"},
        {"no colon\r\n here: x\r\n\r\n", "[|no colon\r\n here: x]"},
        {"A: 1\r\n \r\nB: 2\r\n\r\n", "[A|1\r\n ][B|2]"}, /* a line of blanks is no empty line */
        {"A: a\rb\r\n\r\n", "[A|a\rb]"},                  /* a CR alone ends no line */
        {"A: 1\r", "[A|1\r]"},
        {"\r\nbody", "body"},
        {"\nbody", "body"},
        {"", ""},
        {"A", "[|A]"},
        {"A:", "[A|]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        char found[512];
        walk(headers[i].text, found);
        assert_string_equal(found, headers[i].found);
    }
}

static void a_field_is_found_by_its_name_in_any_case(void **state)
{
    struct slice header =
        slice_text("To: a\r\nRECEIVED: 1\r\nto: b\r\nReceived: 2\r\n\r\nTo: body\r\n");
    struct header_field field;
    (void)state;
    assert_true(header_find(header, slice_text("received"), &field));
    assert_true(slice_equal(field.value, slice_text("1")));
    assert_true(slice_equal(field.whole, slice_text("RECEIVED: 1\r\n")));
    struct slice rest = header;
    assert_true(header_find_next(&rest, slice_text("TO"), &field));
    assert_true(slice_equal(field.value, slice_text("a")));
    assert_true(header_find_next(&rest, slice_text("TO"), &field));
    assert_true(slice_equal(field.value, slice_text("b")));
    assert_false(header_find_next(&rest, slice_text("TO"), &field)); /* never in the body */
    assert_false(header_find(header, slice_text("T"), &field));
}

static void folding_goes_and_its_blanks_stay(void **state)
{
    static const struct {
        const char *value, *text;
    } values[] = {
        {"a b", "a b"},   {"a\r\n b", "a b"},     {"a\n\tb", "a\tb"}, {"\r\n a\r\n  b", " a  b"},
        {"a\rb", "a\rb"}, {"a\r\r\n b", "a\r b"}, {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        uint8_t text[64];
        size_t size = header_unfold(slice_text(values[i].value), text, sizeof(text));
        assert_true(slice_equal(slice_of(text, size), slice_text(values[i].text)));
        for (size_t room = 0; room < size; room++) {
            assert_int_equal(header_unfold(slice_text(values[i].value), text, room), room);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_walked_until_the_empty_line),
        cmocka_unit_test(a_field_is_found_by_its_name_in_any_case),
        cmocka_unit_test(folding_goes_and_its_blanks_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
