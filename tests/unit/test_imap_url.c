/* imap_url: which message, and which part of it, a URL of CATENATE names. */
#include "proto/imap/url.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* "mailbox validity uid parts.TEXT(fields)<first.bytes>" */
static void show(const struct imap_url *url, char *text, size_t room)
{
    static const char *const words[] = {"", "HEADER", "FIELDS", "NOT", "TEXT", "MIME"};
    int size = snprintf(text, room, "%.*s %u %u ", (int)url->mailbox.size,
                        (const char *)url->mailbox.bytes, url->uid_validity, url->uid);
    for (uint32_t i = 0; i < url->section.part_count; i++) {
        size += snprintf(text + size, room - (size_t)size, "%u.", url->section.parts[i]);
    }
    size += snprintf(text + size, room - (size_t)size, "%s", words[url->section.text]);
    for (uint32_t i = 0; i < url->section.fields.count; i++) {
        const struct slice *field = &url->section.fields.items[i];
        size += snprintf(text + size, room - (size_t)size, "(%.*s)", (int)field->size,
                         (const char *)field->bytes);
    }
    if (url->partial) {
        snprintf(text + size, room - (size_t)size, "<%u.%u>", url->first, url->bytes);
    }
}

static void a_url_names_a_message_or_a_part_of_it(void **state)
{
    static const struct {
        const char *text, *selected, *expected;
    } rows[] = {
        {"/INBOX;UIDVALIDITY=785799047/;UID=113330/;SECTION=1.5.9", "",
         "INBOX 785799047 113330 1.5.9."},
        {"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER", "", "Drafts 385759045 20 HEADER"},
        {"/inbox/;uid=5", "", "INBOX 0 5 "},
        {";UID=20", "a/b", "a/b 0 20 "},
        {"c/;UID=20", "a/b", "a/c 0 20 "},
        {"c/;UID=20", "a", "c 0 20 "},
        {"c;UIDVALIDITY=1/;UID=20", "", "c 1 20 "},
        {"/c/;UID=20", "a/b", "c 0 20 "},
        {"/a/b/c;UIDVALIDITY=4294967295/;UID=4294967295", "", "a/b/c 4294967295 4294967295 "},
        {"/a%2fb/;UID=1", "", "a/b 0 1 "},
        {"/%E6%97%A5%3B%20x/;UID=1", "", "\xe6\x97\xa5; x 0 1 "},
        {"/a/;UID=1/;SECTION=1.MIME", "", "a 0 1 1.MIME"},
        {"/a/;UID=1/;SECTION=2.HEADER.FIELDS%20(From%20%22X-A%22)", "",
         "a 0 1 2.FIELDS(From)(X-A)"},
        {"/a/;UID=1/;SECTION=HEADER.FIELDS.NOT (b)", "", "a 0 1 NOT(b)"},
        {"/a/;UID=1/;SECTION=TEXT/;PARTIAL=3.10", "", "a 0 1 TEXT<3.10>"},
        {"/a/;UID=1/;PARTIAL=0", "", "a 0 1 <0.0>"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct arena arena;
        struct imap_url url;
        char text[300];
        arena_open(&arena, 100000);
        const char *error =
            imap_url_read(&arena, slice_text(rows[i].text), slice_text(rows[i].selected), &url);
        if (error != NULL) {
            fail_msg("%s: %s", rows[i].text, error);
        }
        show(&url, text, sizeof(text));
        assert_string_equal(text, rows[i].expected);
        arena_close(&arena);
    }
}

static void what_names_no_message_of_ours_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "/",
        ";",
        "/a",
        "/a/",
        "a",
        "/a;UIDVALIDITY=1",
        "/a;UIDVALIDITY=1/",
        "/a;UIDVALIDITY=0/;UID=1",
        "/a;UIDVALIDITY=x/;UID=1",
        "/a;UIDVALIDITY=1;UID=1",
        "/a;UID=1",
        "/;UID=1",
        ";UID=1", /* nothing is selected */
        "/a/;UID=0",
        "/a/;UID=",
        "/a/;UID=4294967296",
        "/a/;UID=99999999999999999999999999",
        "/a/;UID=1x",
        "/a/;UID=1/",
        "/a/;UID=1/;SECTION=",
        "/a/;UID=1/;SECTION=1.0x",
        "/a/;UID=1/;SECTION=NONSENSE",
        "/a/;UID=1/;SECTION=1]",
        "/a/;UID=1/;SECTION=MIME",
        "/a/;UID=1/;PARTIAL=",
        "/a/;UID=1/;PARTIAL=1.0",
        "/a/;UID=1/;PARTIAL=x",
        "/a/;UID=1/;PARTIAL=1/;SECTION=1",
        "/a/;UID=1;EXPIRE=2026-01-01T00:00:00Z;URLAUTH=anonymous",
        "/a/;UID=1/;URLAUTH=user+fred:internal:91354a473744909de610943775f92038",
        "/a%/;UID=1",
        "/a%2/;UID=1",
        "/a%zz/;UID=1",
        "/a%00b/;UID=1",
        "/a%0ab/;UID=1",
        "/%ff/;UID=1",
        "/a//b/;UID=1",
        "/../b/;UID=1",
        "/a/%2e%2e/;UID=1",
        "//host/a/;UID=1",
        "imap://host/a/;UID=1",
        "IMAPS://host/a/;UID=1",
        "http://host/a",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct arena arena;
        struct imap_url url;
        arena_open(&arena, 100000);
        if (imap_url_read(&arena, slice_text(texts[i]), slice_of(NULL, 0), &url) == NULL) {
            fail_msg("%s is taken", texts[i]);
        }
        arena_close(&arena);
    }
}

static void memory_is_bounded_by_the_arena(void **state)
{
    struct arena arena;
    struct imap_url url;
    (void)state;
    arena_open(&arena, 100);
    assert_non_null(
        imap_url_read(&arena,
                      slice_text("/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/;UID=1"),
                      slice_of(NULL, 0), &url));
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_names_a_message_or_a_part_of_it),
        cmocka_unit_test(what_names_no_message_of_ours_is_refused),
        cmocka_unit_test(memory_is_bounded_by_the_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
