/*
 * names: what may be a mailbox name, how it is written, which pattern matches it; sets of numbers beside it are in
 * test_imap_sets.
 */
#include "proto/imap/names.h"
#include <stdarg.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

static void names_are_read_into_their_one_form(void **state)
{
    static const struct {
        const char *sent;
        bool utf8;
        enum imap_name_fault fault;
        const char *name;
    } rows[] = {
        {"INBOX", false, IMAP_NAME_GOOD, "INBOX"},
        {"inBox", false, IMAP_NAME_GOOD, "INBOX"},
        {"inbox/Old", false, IMAP_NAME_GOOD, "INBOX/Old"},
        {"inboxes", false, IMAP_NAME_GOOD, "inboxes"},
        {"a/inbox", false, IMAP_NAME_GOOD, "a/inbox"},
        {"a/b/", false, IMAP_NAME_GOOD, "a/b"},
        {"~peter/mail/&U,BTFw-/&ZeVnLIqe-", false, IMAP_NAME_GOOD,
         "~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"Entw&APw-rfe", false, IMAP_NAME_GOOD, "Entw\xc3\xbcrfe"},
        {"a&-b", false, IMAP_NAME_GOOD, "a&b"},
        {"&2D3cAA-", false, IMAP_NAME_GOOD, "\xf0\x9f\x90\x80"},
        {"Entw\xc3\xbcrfe", true, IMAP_NAME_GOOD, "Entw\xc3\xbcrfe"},
        {"&APw-", true, IMAP_NAME_GOOD, "&APw-"},
        {"Entw\xc3\xbcrfe", false, IMAP_NAME_ENCODING, ""},
        {"\xff", true, IMAP_NAME_ENCODING, ""},
        {"\xed\xa0\x80", true, IMAP_NAME_ENCODING, ""},
        {"&", false, IMAP_NAME_ENCODING, ""},
        {"&APw", false, IMAP_NAME_ENCODING, ""},
        {"&AGE-", false, IMAP_NAME_ENCODING, ""},      /* 'a' needs none */
        {"&APw-&APw-", false, IMAP_NAME_ENCODING, ""}, /* one run says it */
        {"&APx-", false, IMAP_NAME_ENCODING, ""},      /* bits behind the last unit */
        {"&APwA-", false, IMAP_NAME_ENCODING, ""},     /* a digit too many */
        {"&A-", false, IMAP_NAME_ENCODING, ""},
        {"&2D0-", false, IMAP_NAME_ENCODING, ""},    /* half a pair */
        {"&3AA-", false, IMAP_NAME_ENCODING, ""},    /* the other half */
        {"&U/BTFw-", false, IMAP_NAME_ENCODING, ""}, /* base64 of MIME */
        {"&AAA-", false, IMAP_NAME_CHARACTER, ""},   /* NUL */
        {"&AAo-", false, IMAP_NAME_CHARACTER, ""},
        {"a\nb", false, IMAP_NAME_CHARACTER, ""},
        {"a\x7f", false, IMAP_NAME_CHARACTER, ""},
        {"\xc2\x85", true, IMAP_NAME_CHARACTER, ""},
        {"\xe2\x80\xa8", true, IMAP_NAME_CHARACTER, ""},
        {"", false, IMAP_NAME_LEVEL, ""},
        {"/", false, IMAP_NAME_LEVEL, ""},
        {"/a", false, IMAP_NAME_LEVEL, ""},
        {"a//b", false, IMAP_NAME_LEVEL, ""},
        {"a//", false, IMAP_NAME_LEVEL, ""},
        {".", false, IMAP_NAME_LEVEL, ""},
        {"..", false, IMAP_NAME_LEVEL, ""},
        {"../../x", false, IMAP_NAME_LEVEL, ""},
        {"INBOX/../other", false, IMAP_NAME_LEVEL, ""},
        {"&AC4ALg-", false, IMAP_NAME_ENCODING, ""}, /* ".." in disguise */
        {"...", false, IMAP_NAME_GOOD, "..."},
        {"~root", false, IMAP_NAME_GOOD, "~root"},
        {"a*b%c", false, IMAP_NAME_GOOD, "a*b%c"},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena;
        struct slice name;
        arena_open(&arena, 1u << 16);
        print_message("%s\n", rows[i].sent);
        assert_int_equal(imap_name_read(&arena, slice_text(rows[i].sent), rows[i].utf8, &name),
                         rows[i].fault);
        assert_true(slice_equal(name, slice_text(rows[i].name)));
        arena_close(&arena);
    }
}

static void a_name_with_nul_is_none(void **state)
{
    (void)state;
    struct arena arena;
    struct slice name;
    arena_open(&arena, 1u << 16);
    assert_int_equal(imap_name_read(&arena, slice_of("a\0b", 3), true, &name), IMAP_NAME_CHARACTER);
    assert_int_equal(imap_name_read(&arena, slice_of("a\0b", 3), false, &name),
                     IMAP_NAME_CHARACTER);
    arena_close(&arena);
}

static void names_too_long_or_too_deep_are_refused(void **state)
{
    (void)state;
    char text[IMAP_MAILBOX_BYTES_MAX * 5];
    struct arena arena;
    struct slice name;
    arena_open(&arena, 1u << 20);
    memset(text, 'x', sizeof(text));
    assert_int_equal(
        imap_name_read(&arena, slice_of(text, IMAP_MAILBOX_LEVEL_BYTES_MAX), false, &name),
        IMAP_NAME_GOOD);
    assert_int_equal(
        imap_name_read(&arena, slice_of(text, IMAP_MAILBOX_LEVEL_BYTES_MAX + 1), false, &name),
        IMAP_NAME_LONG);
    for (size_t i = 1; i < sizeof(text); i += 2) {
        text[i] = '/';
    }
    assert_int_equal(
        imap_name_read(&arena, slice_of(text, IMAP_MAILBOX_LEVELS_MAX * 2 - 1), false, &name),
        IMAP_NAME_GOOD);
    assert_int_equal(
        imap_name_read(&arena, slice_of(text, IMAP_MAILBOX_LEVELS_MAX * 2 + 1), false, &name),
        IMAP_NAME_LONG);
    assert_int_equal(imap_name_read(&arena, slice_of(text, sizeof(text)), false, &name),
                     IMAP_NAME_LONG);
    arena_close(&arena);
}

/* Every character there is, alone and between others, comes back as it was. */
static void modified_utf7_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct arena arena;
    arena_open(&arena, 1u << 16);
    for (uint32_t character = 0x20; character < 0x110000;
         character += character < 0x3000 ? 1 : 97) {
        if ((character >= 0xd800 && character < 0xe000) || character == 0x7f) {
            continue;
        }
        uint8_t text[16] = "a";
        size_t size = 1;
        for (int twice = 0; twice < 2; twice++) {
            if (character < 0x80) {
                text[size++] = (uint8_t)character;
            } else if (character < 0x800) {
                text[size++] = (uint8_t)(0xc0 | character >> 6);
                text[size++] = (uint8_t)(0x80 | (character & 0x3f));
            } else if (character < 0x10000) {
                text[size++] = (uint8_t)(0xe0 | character >> 12);
                text[size++] = (uint8_t)(0x80 | (character >> 6 & 0x3f));
                text[size++] = (uint8_t)(0x80 | (character & 0x3f));
            } else {
                text[size++] = (uint8_t)(0xf0 | character >> 18);
                text[size++] = (uint8_t)(0x80 | (character >> 12 & 0x3f));
                text[size++] = (uint8_t)(0x80 | (character >> 6 & 0x3f));
                text[size++] = (uint8_t)(0x80 | (character & 0x3f));
            }
        }
        struct slice utf7, back;
        assert_true(imap_utf8_valid(slice_of(text, size)));
        assert_true(imap_utf7_encode(&arena, slice_of(text, size), &utf7));
        for (size_t i = 0; i < utf7.size; i++) {
            assert_in_range(utf7.bytes[i], 0x20, 0x7e);
        }
        assert_int_equal(imap_utf7_decode(&arena, utf7, &back), IMAP_NAME_GOOD);
        assert_true(slice_equal(back, slice_of(text, size)));
        arena_reset(&arena);
    }
    arena_close(&arena);
}

static void patterns_match_names(void **state)
{
    static const struct {
        const char *reference, *pattern, *name;
        bool matches;
    } rows[] = {
        {"", "*", "a/b/c", true},
        {"", "%", "a", true},
        {"", "%", "a/b", false},
        {"", "%/%", "a/b", true},
        {"", "%/%", "a", false},
        {"a/", "%", "a/b", true},
        {"a/", "%", "a/b/c", false},
        {"a/", "*", "a/b/c", true},
        {"a/", "*", "a", false},
        {"a", "*", "a", true},
        {"", "a*c", "a/b/c", true},
        {"", "a%c", "a/b/c", false},
        {"", "a%c", "abbc", true},
        {"", "a%c", "ac", true},
        {"", "a*", "b", false},
        {"", "", "a", false},
        {"", "inbox", "INBOX", true},
        {"", "InB%", "INBOX/x", false},
        {"", "inb*", "INBOX/x", true},
        {"", "inbox/X", "INBOX/x", false},
        {"", "A", "a", false},
        {"", "*%*", "a/b", true},
        {"", "%%", "a", true},
        {"", "%*x", "a/bx", true},
        {"", "%a/%b", "xa/yb", true},
        {"", "%a/%b", "xac/yb", false},
        {"", "%a%b", "aab", true},
        {"", "*a%", "b/ba/a", true},
        {"", "*ab%c", "ab/abxc", true},
        {"", "*ab%c", "ab/abx/c", false},
        {"", "&APw-*", "\xc3\xbcx", true},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena;
        struct slice pattern;
        arena_open(&arena, 1u << 16);
        print_message("%s %s %s\n", rows[i].reference, rows[i].pattern, rows[i].name);
        assert_int_equal(imap_pattern_read(&arena, slice_text(rows[i].reference),
                                           slice_text(rows[i].pattern), false, &pattern),
                         IMAP_NAME_GOOD);
        assert_int_equal(imap_pattern_match(pattern, slice_text(rows[i].name)), rows[i].matches);
        arena_close(&arena);
    }
}

/* Against the definition, all short patterns with all short names. */
static bool matches_by_definition(const char *pattern, const char *name)
{
    if (*pattern == '\0') {
        return *name == '\0';
    }
    if (*pattern != '*' && *pattern != '%') {
        return *pattern == *name && matches_by_definition(pattern + 1, name + 1);
    }
    for (;; name++) {
        if (matches_by_definition(pattern + 1, name)) {
            return true;
        }
        if (*name == '\0' || (*pattern == '%' && *name == '/')) {
            return false;
        }
    }
}

static void matching_is_what_its_definition_says(void **state)
{
    (void)state;
    static const char pattern_alphabet[] = {'\0', 'a', 'b', '/', '*', '%'};
    static const char name_alphabet[] = {'\0', 'a', 'b', '/'};
    struct arena arena;
    arena_open(&arena, 1u << 16);
    for (unsigned p = 0; p < 6 * 6 * 6 * 6 * 6; p++) {
        char pattern[8] = {0};
        size_t at = 0;
        for (unsigned rest = p; rest > 0; rest /= 6) {
            pattern[at] = pattern_alphabet[rest % 6];
            at += pattern[at] != '\0';
        }
        struct slice read;
        arena_reset(&arena);
        assert_int_equal(
            imap_pattern_read(&arena, slice_of("", 0), slice_text(pattern), true, &read),
            IMAP_NAME_GOOD);
        for (unsigned n = 0; n < 4 * 4 * 4 * 4; n++) {
            char name[8] = {0};
            at = 0;
            for (unsigned rest = n; rest > 0; rest /= 4) {
                name[at] = name_alphabet[rest % 4];
                at += name[at] != '\0';
            }
            if (imap_pattern_match(read, slice_text(name)) !=
                matches_by_definition(pattern, name)) {
                fail_msg("%s against %s", pattern, name);
            }
        }
    }
    arena_close(&arena);
}

static void a_pattern_of_wildcards_is_one_wildcard(void **state)
{
    (void)state;
    struct arena arena;
    struct slice pattern;
    arena_open(&arena, 1u << 16);
    imap_pattern_read(&arena, slice_text("%*%*%*%*"), slice_text("%*%*"), false, &pattern);
    assert_true(slice_equal(pattern, slice_text("*")));
    imap_pattern_read(&arena, slice_text("%%"), slice_text("%a**"), false, &pattern);
    assert_true(slice_equal(pattern, slice_text("%a*")));
    arena_close(&arena);
}

static void a_pattern_is_bounded_as_a_name_is(void **state)
{
    (void)state;
    char text[IMAP_MAILBOX_BYTES_MAX + 1];
    struct arena arena;
    struct slice pattern;
    arena_open(&arena, 1u << 16);
    memset(text, 'x', sizeof(text));
    assert_int_equal(imap_pattern_read(&arena, slice_of(text, sizeof(text) - 1), slice_of("", 0),
                                       false, &pattern),
                     IMAP_NAME_GOOD);
    assert_true(imap_pattern_match(pattern, slice_of(text, sizeof(text) - 1)));
    assert_int_equal(
        imap_pattern_read(&arena, slice_of(text, sizeof(text)), slice_of("", 0), true, &pattern),
        IMAP_NAME_LONG);
    assert_int_equal(imap_pattern_read(&arena, slice_text("a\nb"), slice_of("", 0), true, &pattern),
                     IMAP_NAME_CHARACTER);
    arena_close(&arena);
}

static void without_memory_there_is_no_name(void **state)
{
    (void)state;
    struct arena arena;
    struct slice name;
    arena_open(&arena, 64);
    assert_int_equal(imap_name_read(&arena, slice_text("a"), false, &name), IMAP_NAME_GOOD);
    arena_reset(&arena);
    assert_int_equal(
        imap_name_read(&arena, slice_text("abcdefghijklmnopqrstuvwxyzabcdefghij"), false, &name),
        IMAP_NAME_MEMORY);
    assert_int_equal(
        imap_name_read(&arena,
                       slice_text("abcdefghijklmnopqrstuvwxyzabcdefghijabcdefghijklmnopqrstuvwxyz"),
                       true, &name),
        IMAP_NAME_MEMORY);
    assert_int_equal(imap_pattern_read(&arena, slice_text("abcdefghijklmnopqrstuvwxyzabcdefghij"),
                                       slice_text("abcdefghijklmnopqrstuvwxyz"), true, &name),
                     IMAP_NAME_MEMORY);
    assert_true(imap_name_has_wildcard(slice_text("a%")) &&
                imap_name_has_wildcard(slice_text("*")));
    assert_false(imap_name_has_wildcard(slice_text("a")) ||
                 imap_name_has_wildcard(slice_of(NULL, 0)));
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_into_their_one_form),
        cmocka_unit_test(a_name_with_nul_is_none),
        cmocka_unit_test(names_too_long_or_too_deep_are_refused),
        cmocka_unit_test(modified_utf7_is_read_as_it_was_written),
        cmocka_unit_test(patterns_match_names),
        cmocka_unit_test(matching_is_what_its_definition_says),
        cmocka_unit_test(a_pattern_of_wildcards_is_one_wildcard),
        cmocka_unit_test(a_pattern_is_bounded_as_a_name_is),
        cmocka_unit_test(without_memory_there_is_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
