/* maildir_name: names of message files and folders. */
#include "queue/mailbox/maildir_name.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NONE MAILDIR_SIZE_UNKNOWN

struct read_case {
    const char *file, *base;
    uint64_t bytes, virtual_bytes;
    unsigned flags;
    uint32_t keywords;
};

static const struct read_case reads[] = {
    {"1276528487.M364837P9451.kurkku,S=1355,W=1394:2,",
     "1276528487.M364837P9451.kurkku,S=1355,W=1394", 1355, 1394, 0, 0},
    {"1.M1P2.h:2,DFPRST", "1.M1P2.h", NONE, NONE, 63, 0},
    {"1.2.h,S=5:2,Sbz", "1.2.h,S=5", 5, NONE, MAILDIR_SEEN, 1u << 1 | 1u << 25},
    {"1.2.h", "1.2.h", NONE, NONE, 0, 0},
    {"1.2.h:1,S", "1.2.h", NONE, NONE, 0, 0},                /* another kind of info */
    {"1.2.h:2,SX,Ra", "1.2.h", NONE, NONE, MAILDIR_SEEN, 0}, /* behind a comma nothing is a flag */
    {"1.2.h,W=7,S=6:2,S", "1.2.h,W=7,S=6", 6, 7, MAILDIR_SEEN, 0}, /* any order */
    {"1.2.h,S=6x:2,S", "1.2.h,S=6x", NONE, NONE, MAILDIR_SEEN, 0}, /* not a number */
    {"1.2.h,S=:2,", "1.2.h,S=", NONE, NONE, 0, 0},
    {"1.2.h,S=99999999999999999999999:2,", "1.2.h,S=99999999999999999999999", NONE, NONE, 0, 0},
    {"a:b:2,F", "a", NONE, NONE, MAILDIR_FLAGGED,
     0}, /* base to the first, flags behind the last colon */
};

static void the_parts_of_a_name_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        struct maildir_name name;
        assert_int_equal(maildir_name_read(slice_text(reads[i].file), &name), 0);
        assert_true(slice_equal(name.base, slice_text(reads[i].base)));
        assert_int_equal(name.bytes, reads[i].bytes);
        assert_int_equal(name.virtual_bytes, reads[i].virtual_bytes);
        assert_int_equal(name.flags, reads[i].flags);
        assert_int_equal(name.keywords, reads[i].keywords);
    }
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {"", ":2,S", ".hidden", "a/b", "a\nb", "a\rb"};
    struct maildir_name name;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(maildir_name_read(slice_text(refused[i]), &name), -EINVAL);
    }
    assert_int_equal(maildir_name_read(slice_of("a\0b", 3), &name), -EINVAL);
}

struct write_case {
    const char *file;
    unsigned flags;
    uint32_t keywords;
    const char *written;
};

static const struct write_case writes[] = {
    {"1.2.h", 0, 0, "1.2.h:2,"},
    {"1.2.h:2,S", MAILDIR_SEEN | MAILDIR_DRAFT, 0, "1.2.h:2,DS"},
    {"1.2.h,S=4:2,Sa", 63, 1u << 25 | 1, "1.2.h,S=4:2,DFPRSTaz"},
    {"1.2.h:2,SX", MAILDIR_TRASHED, 1, "1.2.h:2,TXa"},      /* not known: kept, in its place */
    {"1.2.h:2,S,U=4", MAILDIR_FLAGGED, 0, "1.2.h:2,F,U=4"}, /* behind the comma: kept */
    {"1.2.h:1,x", MAILDIR_SEEN, 0, "1.2.h:2,S"},            /* info of another kind has no place */
};

static void flags_change_and_the_rest_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        char out[MAILDIR_FILE_NAME_MAX];
        ssize_t size = maildir_name_write(slice_text(writes[i].file), writes[i].flags,
                                          writes[i].keywords, out);
        assert_int_equal(size, strlen(writes[i].written));
        assert_memory_equal(out, writes[i].written, (size_t)size);
    }
    char out[MAILDIR_FILE_NAME_MAX], file[MAILDIR_FILE_NAME_MAX];
    memset(file, 'x', sizeof file);
    assert_int_equal(maildir_name_write(slice_of(file, 252), 0, 0, out), 255);
    assert_int_equal(maildir_name_write(slice_of(file, 252), MAILDIR_SEEN, 0, out), -ENAMETOOLONG);
}

static void messages_are_in_the_order_of_their_times(void **state)
{
    (void)state;
    static const char *const ordered[] = {"9.1.h",      "10.0.h", "10.M5P1.h:2,S", "10.M000040P1.h",
                                          "10.M40P2.a", "11.a.h", "11.b.h:2,T"};
    for (size_t i = 0; i < 7; i++) {
        for (size_t k = 0; k < 7; k++) {
            int order = maildir_name_order(slice_text(ordered[i]), slice_text(ordered[k]));
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
    }
    assert_int_equal(maildir_name_order(slice_text("1.2.h:2,S"), slice_text("1.2.h")), 0);
}

static void names_of_one_microsecond_differ(void **state)
{
    (void)state;
    struct maildir_namer namer = {.process_id = 7, .hostname = "h:o/s,t"};
    char out[MAILDIR_FILE_NAME_MAX + 1];
    assert_true(maildir_namer_next(&namer, 1999999, 10, 12, out) > 0);
    assert_string_equal(out, "1.M999999P7.h_o_s_t,S=10,W=12");
    assert_true(maildir_namer_next(&namer, 1999999, NONE, NONE, out) > 0);
    assert_string_equal(out, "2.M000000P7.h_o_s_t");
    assert_true(maildir_namer_next(&namer, 5, NONE, NONE, out) > 0); /* the clock was set back */
    assert_string_equal(out, "2.M000001P7.h_o_s_t");
}

struct folder_case {
    const char *mailbox, *folder;
};

static const struct folder_case folders[] = {
    {"INBOX", ""},
    {"Sent", ".Sent"},
    {"Sent/2024", ".Sent.2024"},
    {"INBOX/Work", ".INBOX.Work"},
    {"Entw\xc3\xbcrfe/\xe5\x8f\xb0\xe5\x8c\x97", ".Entw&APw-rfe.&U,BTFw-"},
    {"a&b", ".a&-b"},
    {"inboxes", ".inboxes"},
};

static void folders_are_named_as_maildirpp_has_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char out[MAILDIR_FILE_NAME_MAX * 2];
        ssize_t size = maildir_folder_write(slice_text(folders[i].mailbox), out);
        assert_int_equal(size, strlen(folders[i].folder));
        assert_string_equal(out, folders[i].folder);
        size = maildir_folder_read(slice_text(folders[i].folder), out);
        assert_int_equal(size, strlen(folders[i].mailbox));
        assert_memory_equal(out, folders[i].mailbox, (size_t)size);
    }
    char out[MAILDIR_FILE_NAME_MAX + 1];
    assert_int_equal(maildir_folder_write(slice_text("iNbOx/Work"), out), 11);
    assert_string_equal(out, ".INBOX.Work");
}

static void folders_that_could_be_others_are_refused(void **state)
{
    (void)state;
    static const char *const mailboxes[] = {"", "/", "a//b", "a/", "/a", "a.b", "..", "\xff"};
    static const char *const names[] = {".", "..", ".a.", "a", ".a..b", ".a/b", ".&AGE-", "cur"};
    char out[MAILDIR_FILE_NAME_MAX * 2];
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(maildir_folder_write(slice_text(mailboxes[i]), out), -EINVAL);
        assert_int_equal(maildir_folder_read(slice_text(names[i]), out), -EINVAL);
    }
    char wide[300];
    memset(wide, 'a', sizeof wide);
    assert_int_equal(maildir_folder_write(slice_of(wide, 254), out), 255);
    assert_int_equal(maildir_folder_write(slice_of(wide, 255), out), -ENAMETOOLONG);
    assert_int_equal(maildir_folder_write(slice_of(wide, 300), out), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parts_of_a_name_are_read),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(flags_change_and_the_rest_stays),
        cmocka_unit_test(messages_are_in_the_order_of_their_times),
        cmocka_unit_test(names_of_one_microsecond_differ),
        cmocka_unit_test(folders_are_named_as_maildirpp_has_it),
        cmocka_unit_test(folders_that_could_be_others_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
