#include "engine/relay/address_parts.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct row {
    const char *address;
    char extension;
    const char *parts; /* user, tag, domain */
    const char *why;
} rows[] = {
    {"jo+tag@a.test", '+', "jo|+tag|a.test", "a tag"},
    {"jo+tag@a.test", 0, "jo+tag||a.test", "there are no tags"},
    {"jo+tag@a.test", '-', "jo+tag||a.test", "another character"},
    {"jo+a+b@a.test", '+', "jo|+a+b|a.test", "the first one begins it"},
    {"jo+@a.test", '+', "jo|+|a.test", "of no characters"},
    {"+tag@a.test", '+', "+tag||a.test", "a tag needs a user"},
    {"+a+b@a.test", '+', "+a|+b|a.test", "and has one here"},
    {"\"jo+tag\"@a.test", '+', "\"jo+tag\"||a.test", "what is quoted has none"},
    {"\"a@b\"@a.test", '+', "\"a@b\"||a.test", "the last @ counts"},
    {"jo+tag", '+', "jo|+tag|", "no domain"},
    {"jo@", '+', "jo||", "an empty one"},
    {"", '+', "||", "nothing"},
    {"@a.test", '+', "||a.test", "nobody"},
    {"owner-list@a.test", '-', "owner-list||a.test", "the owner of a list"},
    {"Owner-List-x@a.test", '-', "Owner-List-x||a.test", "in any case, and of any name"},
    {"list-request@a.test", '-', "list-request||a.test", "the administrator of a list"},
    {"my-list-REQUEST", '-', "my-list-REQUEST||", "in any case, without a domain"},
    {"owner-list+x@a.test", '+', "owner-list|+x|a.test", "they are split at another character"},
    {"list+request@a.test", '+', "list|+request|a.test", "and this is no such name"},
    {"owners-list@a.test", '-', "owners|-list|a.test", "nor is this"},
    {"list-requests@a.test", '-', "list|-requests|a.test", "nor this"},
    {"-request@a.test", '-', "-request||a.test", "a tag needs a user"},
    {"list-tag@a.test", '-', "list|-tag|a.test", "a tag"},
};

static void addresses_are_taken_apart_as_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[128];
        struct address_parts parts =
            address_parts_of(slice_text(rows[i].address), rows[i].extension);
        snprintf(text, sizeof(text), "%.*s|%.*s|%.*s", (int)parts.user.size,
                 (const char *)parts.user.bytes, (int)parts.tag.size, (const char *)parts.tag.bytes,
                 (int)parts.domain.size, (const char *)parts.domain.bytes);
        if (strcmp(text, rows[i].parts) != 0) {
            print_error("%s (%s): %s\n", rows[i].address, rows[i].why, text);
        }
        assert_string_equal(text, rows[i].parts);
        assert_int_equal(parts.local.size, parts.user.size + parts.tag.size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_taken_apart_as_the_table_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
