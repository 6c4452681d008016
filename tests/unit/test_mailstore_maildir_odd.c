/* What lies in a Maildir and is no message, or not what its name says. */
#include "tests/unit/maildirs_rig.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void what_is_no_file_keeps_no_message_from_being_seen(void **state)
{
    struct maildirs_rig *fixture = *state;
    char path[512];
    maildirs_inbox(fixture);
    maildirs_path(fixture, "cur/1.folder:2,", path);
    assert_int_equal(mkdir(path, 0700), 0);
    maildirs_path(fixture, "new/2.link", path);
    assert_int_equal(symlink("nowhere", path), 0);
    maildirs_path(fixture, "cur/3.pipe:2,S", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    maildirs_put(fixture, "new/4.message", "M\n");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 9:0: 10:0: 11:1: 12:0:");
    assert_text(fixture, "INBOX", 12, "M\r\n");
}

static int read_failing(void *self, int at, const char *name)
{
    struct maildir_files files;
    maildir_system_files(&files);
    (void)self;
    return strncmp(name, "1.bad", 5) == 0 ? -EIO : files.open_file(NULL, at, name);
}

static void a_file_that_the_disk_does_not_give_keeps_no_other_back(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    fixture->files.open_file = read_failing;
    maildirs_put(fixture, "new/1.bad", "bad\n");
    maildirs_put(fixture, "new/4.message", "M\n");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 9:0: 10:0:");
    assert_text(fixture, "INBOX", 10, "M\r\n");
}

int main(void)
{
#define CASE(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, maildirs_set_up, maildirs_tear_down),                    \
    {                                                                                              \
#name "_with_many_users", name, maildirs_set_up_crowded, maildirs_tear_down, NULL          \
    }
    const struct CMUnitTest tests[] = {
        CASE(what_is_no_file_keeps_no_message_from_being_seen),
        CASE(a_file_that_the_disk_does_not_give_keeps_no_other_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
