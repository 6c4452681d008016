/* What is filed into Maildirs while each call of the disk fails in turn: 250 is said of what is there, whole, and nothing else is left behind. */
#include "engine/core/check.h"
#include "tests/unit/delivery_rig.h"
#include <dirent.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, delivery_set_up_maildirs, delivery_tear_down)
#define SCRIPT                                                                                     \
    "require [\"fileinto\",\"mailbox\",\"copy\",\"imap4flags\"];"                                  \
    "fileinto :create :flags [\"\\\\Seen\",\"word\"] \"There\";"

static struct maildir_files real;
static long until_failure; /* calls that still succeed; negative: all do */
static int failure;
static bool lasts, failed; /* all that follow fail too; one has */

static bool fails(void)
{
    bool now = until_failure == 0;
    failed = failed || now;
    until_failure -= until_failure > 0 || (now && !lasts);
    return now;
}

static int open_root(void *self, const char *path)
{
    return fails() ? failure : real.open_root(self, path);
}

static int open_folder(void *self, int at, const char *name)
{
    return fails() ? failure : real.open_folder(self, at, name);
}

static int make_folder(void *self, int at, const char *name)
{
    return fails() ? failure : real.make_folder(self, at, name);
}

static int make_file(void *self, int at, const char *name)
{
    return fails() ? failure : real.make_file(self, at, name);
}

static ssize_t write_some(void *self, int file, const void *bytes, size_t size)
{
    return fails() ? failure : real.write(self, file, bytes, size);
}

static int link_one(void *self, int from_at, const char *from, int to_at, const char *to)
{
    return fails() ? failure : real.link(self, from_at, from, to_at, to);
}

static int rename_one(void *self, int from_at, const char *from, int to_at, const char *to)
{
    return fails() ? failure : real.rename(self, from_at, from, to_at, to);
}

static int replace(void *self, int at, const char *from, const char *to)
{
    return fails() ? failure : real.replace(self, at, from, to);
}

static int open_file(void *self, int at, const char *name)
{
    return fails() ? failure : real.open_file(self, at, name);
}

static ssize_t read_some(void *self, int file, uint64_t from, void *bytes, size_t size)
{
    return fails() ? failure : real.read(self, file, from, bytes, size);
}

static int sync_one(void *self, int number)
{
    return fails() ? failure : real.sync(self, number);
}

static void files_break(void)
{
    struct maildir_files *files = lmtp_files();
    real = *files;
    files->open_root = open_root;
    files->open_folder = open_folder;
    files->make_folder = make_folder;
    files->make_file = make_file;
    files->write = write_some;
    files->link = link_one;
    files->rename = rename_one;
    files->replace = replace;
    files->open_file = open_file;
    files->read = read_some;
    files->sync = sync_one;
}

static size_t count_of(const char *pattern)
{
    char path[512];
    glob_t found;
    snprintf(path, sizeof path, "%s/%s", lmtp_maildirs(), pattern);
    size_t count = glob(path, GLOB_PERIOD, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static unsigned open_files(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    check(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

static size_t messages(const char *user)
{
    static const char *const places[] = {"new/[0-9]*", "cur/[0-9]*", ".There/new/[0-9]*",
                                         ".There/cur/[0-9]*"};
    char pattern[128];
    size_t count = 0;
    for (unsigned i = 0; i < 4; i++) {
        snprintf(pattern, sizeof pattern, "%s/%s", user, places[i]);
        count += count_of(pattern);
    }
    return count;
}

/* False: nothing failed any more. */
static bool deliver_failing(long number, unsigned turn)
{
    char recipients[160], user[3][32];
    for (unsigned i = 0; i < 3; i++) { /* of whom there is nothing yet */
        snprintf(user[i], sizeof user[i], "%c%ut%ld", 'a' + (char)i, turn, number);
    }
    lmtp_script_set(user[0], SCRIPT);
    lmtp_script_set(user[2], "require \"copy\"; redirect :copy \"a@z\";");
    snprintf(recipients, sizeof recipients,
             "RCPT TO:<%s@y>\r\nRCPT TO:<%s@y>\r\nRCPT TO:<%s@y>\r\n", user[0], user[1], user[2]);
    until_failure = number;
    failed = false;
    const char *heard = lmtp_deliver_to(recipients, MESSAGE);
    until_failure = -1;
    for (unsigned i = 0; i < 3; i++) {
        bool stored = strncmp(heard, "250 ", 4) == 0;
        if (!stored) {
            assert_memory_equal(heard, "45", 2);
        }
        size_t count = messages(user[i]);
        assert_true(count == 1 || (count == 0 && !stored));
        /* It may be there and not be answered so: where its text was to be sent, and was not. */
        assert_true(stored || count == 0 || i == 2);
        heard = strchr(heard, '\n') + 1;
    }
    assert_int_equal(count_of(".tubepost/tmp/[0-9a-f]*"), 0);
    assert_int_equal(count_of("*/tmp/[0-9]*"), 0);
    pop3_rig_run(&lmtp_rig);
    return failed;
}

static void each_call_fails(int status, unsigned turn)
{
    files_break();
    failure = status;
    until_failure = -1;
    long number = 0;
    unsigned before = open_files();
    while (deliver_failing(number, turn)) {
        number++;
    }
    assert_in_range(number, 30, 1000);
    assert_true(open_files() <= before + 16); /* what is sent has a Maildir that stays open */
    *lmtp_files() = real;
}

static void where_the_disk_fails_once_250_is_said_of_what_is_there(void **state)
{
    (void)state;
    each_call_fails(-EIO, 0);
}

static void where_the_disk_is_full_once_250_is_said_of_what_is_there(void **state)
{
    (void)state;
    each_call_fails(-ENOSPC, 1);
}

static void where_the_disk_fails_from_then_on_250_is_said_of_what_is_there(void **state)
{
    (void)state;
    lasts = true;
    each_call_fails(-EIO, 2);
    lasts = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(where_the_disk_fails_once_250_is_said_of_what_is_there),
        TEST(where_the_disk_is_full_once_250_is_said_of_what_is_there),
        TEST(where_the_disk_fails_from_then_on_250_is_said_of_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
