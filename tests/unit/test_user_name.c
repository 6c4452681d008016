/* user_name: from a recipient to a folder's name, never out of the store. */
#include "queue/mailbox/user_name.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define TEN "0123456789"

static const struct {
    const char *mailbox;
    size_t size;
    const char *name; /* NULL: refused */
} cases[] = {
#define CASE(mailbox, name)                                                                        \
    {                                                                                              \
        mailbox, sizeof(mailbox) - 1, name                                                         \
    }
    CASE("alice@example.org", "alice"),
    CASE("alice", "alice"),
    CASE("Alice.B@EXAMPLE.ORG", "alice.b"),
    CASE("alice+lists@example.org", "alice"),
    CASE("+x@example.org", "+x"),
    CASE("\"a b\"@example.org", "a b"),
    CASE("\"a\\\"b\"@example.org", "a\"b"),
    CASE("\"a@b\"@example.org", "a@b"),
    CASE("j\xc3\xbcrgen@example.org", "j\xc3\xbcrgen"),
    CASE("~root@example.org", "~root"),
    CASE("*)(uid=*@example.org", "*)(uid=*"),
    CASE("' OR 1=1--@example.org", "' or 1=1--"),
    CASE("a..b@example.org", "a..b"),
    CASE(TEN TEN TEN TEN TEN TEN "1234@example.org", TEN TEN TEN TEN TEN TEN "1234"),
    /* never a path */
    CASE("..@example.org", NULL),
    CASE(".@example.org", NULL),
    CASE(".staging@example.org", NULL),
    CASE("../x@example.org", NULL),
    CASE("a/../b@example.org", NULL),
    CASE("/etc/passwd@example.org", NULL),
    CASE("a\\b@example.org", NULL),
    CASE("\"..\"@example.org", NULL),
    CASE("\"\\..\"@example.org", NULL),
    CASE("\"a/b\"@example.org", NULL),
    CASE("..+x@example.org", NULL),
    /* never a strange name */
    CASE("", NULL),
    CASE("@example.org", NULL),
    CASE("\"\"@example.org", NULL),
    CASE("a\0b@example.org", NULL),
    CASE("\"a\\\0b\"@example.org", NULL),
    CASE("a\nb@example.org", NULL),
    CASE("a\x7f@example.org", NULL),
    CASE("a\x1b[2J@example.org", NULL),
    CASE("\xff@example.org", NULL),
    CASE("\xc0\xaf@example.org", NULL), /* overlong '/' */
    CASE("\xe0\x80\xaf@example.org", NULL),
    CASE("\xf0\x80\x80\xaf@example.org", NULL),
    CASE("\xed\xa0\x80@example.org", NULL),     /* a surrogate */
    CASE("\xf4\x90\x80\x80@example.org", NULL), /* beyond U+10FFFF */
    CASE("\xc2\x85@example.org", NULL),         /* NEL */
    CASE("a\xc3@example.org", NULL),            /* cut short */
    CASE("\"open@example.org", NULL),
    CASE("\"a\"b@example.org", NULL),
    CASE("\"a\\", NULL),
    CASE(TEN TEN TEN TEN TEN TEN "12345@example.org", NULL),
};

static void every_mailbox_is_a_plain_name_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[USER_NAME_BYTES];
        int status = user_name_of_mailbox(slice_of(cases[i].mailbox, cases[i].size), name);
        if (status != (cases[i].name == NULL ? -EINVAL : 0)) {
            print_error("%s: %d\n", cases[i].mailbox, status);
        }
        assert_int_equal(status, cases[i].name == NULL ? -EINVAL : 0);
        if (cases[i].name != NULL) {
            assert_string_equal(name, cases[i].name);
        }
    }
}

static void what_stands_behind_the_plus_names_a_mailbox_of_the_user_or_nothing(void **state)
{
    static const struct {
        const char *mailbox, *detail;
    } rows[] = {
        {"alice@example.org", ""},
        {"alice", ""},
        {"alice+Lists@example.org", "Lists"},
        {"Alice+Lists/Rust", "Lists/Rust"},
        {"alice+a+b@example.org", "a+b"},
        {"\"a b+Work @ home\"@example.org", "Work @ home"},
        {"alice+j\xc3\xbcrgen@example.org", "j\xc3\xbcrgen"},
        {"+x@example.org", ""},
        {"+x+y@example.org", "y"},
        /* none that a mailbox could have */
        {"alice+@example.org", ""},
        {"alice+/a@example.org", ""},
        {"alice+a/@example.org", ""},
        {"alice+a//b@example.org", ""},
        {"alice+\xff@example.org", ""},
        {"alice+a\x7f@example.org", ""},
        {"alice+a\xc3@example.org", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char detail[USER_NAME_BYTES], name[USER_NAME_BYTES];
        memset(detail, 'x', sizeof detail);
        user_detail_of_mailbox(slice_text(rows[i].mailbox), detail);
        assert_string_equal(detail, rows[i].detail);
        assert_int_equal(user_name_of_mailbox(slice_text(rows[i].mailbox), name), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stands_behind_the_plus_names_a_mailbox_of_the_user_or_nothing),
        cmocka_unit_test(every_mailbox_is_a_plain_name_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
