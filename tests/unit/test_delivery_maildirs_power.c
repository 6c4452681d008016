/* What is filed into Maildirs over a loss of power: whoever was answered 250 has the message, whole. The files are real; what was
 * not synced is taken away from them. */
#include "engine/core/check.h"
#include "tests/unit/delivery_rig.h"
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, delivery_set_up_maildirs, delivery_tear_down)
#define RECIPIENTS_MAX 80u
#define UNSYNCED_MAX 4096u

/* A name in a folder, or with an empty name the text of a file, that is not on the disk. */
struct unsynced {
    dev_t device;
    ino_t inode;
    char name[256];
    char path[512]; /* of the folder */
};

static struct maildir_files real;
static struct unsynced unsynced[UNSYNCED_MAX];
static size_t unsynced_count;
static long until_failure; /* syncs that still succeed; negative: all do */
static bool failed;
static unsigned syncs, syncs_of_all;

static struct stat facts_of(int number)
{
    struct stat facts;
    check(fstat(number, &facts) == 0);
    return facts;
}

static void unsynced_add(int number, const char *name)
{
    const struct stat facts = facts_of(number);
    char link[64];
    check(unsynced_count < UNSYNCED_MAX);
    struct unsynced *one = &unsynced[unsynced_count++];
    *one = (struct unsynced){.device = facts.st_dev, .inode = facts.st_ino};
    snprintf(one->name, sizeof one->name, "%s", name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", number);
    check(readlink(link, one->path, sizeof one->path - 1) > 0);
}

static bool is_of(const struct unsynced *one, const struct stat *facts)
{
    return one->device == facts->st_dev && one->inode == facts->st_ino;
}

/* name NULL: all that is in the folder, or the file. */
static void unsynced_drop(int number, const char *name)
{
    const struct stat facts = facts_of(number);
    size_t kept = 0;
    for (size_t i = 0; i < unsynced_count; i++) {
        const struct unsynced *one = &unsynced[i];
        if (!is_of(one, &facts) || (name != NULL && strcmp(one->name, name) != 0)) {
            unsynced[kept++] = *one;
        }
    }
    unsynced_count = kept;
}

static bool text_is_synced(int at, const char *name)
{
    struct stat facts;
    bool synced = true;
    check(fstatat(at, name, &facts, AT_SYMLINK_NOFOLLOW) == 0);
    for (size_t i = 0; i < unsynced_count; i++) {
        synced = synced && !(unsynced[i].name[0] == '\0' && is_of(&unsynced[i], &facts));
    }
    return synced;
}

/* ---- The files ---- */

static bool sync_fails(void)
{
    bool now = until_failure == 0;
    failed = failed || now;
    until_failure -= until_failure >= 0;
    return now;
}

static int make_folder(void *self, int at, const char *name)
{
    int status = real.make_folder(self, at, name);
    if (status == 0) {
        unsynced_add(at, name);
    }
    return status;
}

static int make_file(void *self, int at, const char *name)
{
    int file = real.make_file(self, at, name);
    if (file >= 0) {
        unsynced_add(at, name);
    }
    return file;
}

static ssize_t write_some(void *self, int file, const void *bytes, size_t size)
{
    unsynced_drop(file, "");
    unsynced_add(file, "");
    return real.write(self, file, bytes, size);
}

static int put(int (*how)(void *self, int from_at, const char *from, int to_at, const char *to),
               void *self, const int at[2], const char *from, const char *to)
{
    bool message = to[0] >= '0' && to[0] <= '9';
    assert_true(!message || text_is_synced(at[0], from)); /* else the name could come without it */
    int status = how(self, at[0], from, at[1], to);
    if (status == 0) {
        unsynced_add(at[1], to);
    }
    return status;
}

static int link_one(void *self, int from_at, const char *from, int to_at, const char *to)
{
    return put(real.link, self, (int[2]){from_at, to_at}, from, to);
}

static int rename_one(void *self, int from_at, const char *from, int to_at, const char *to)
{
    int status = put(real.rename, self, (int[2]){from_at, to_at}, from, to);
    if (status == 0) {
        unsynced_drop(from_at, from);
    }
    return status;
}

static int replace(void *self, int at, const char *from, const char *to)
{
    int status = real.replace(self, at, from, to);
    if (status == 0) {
        unsynced_drop(at, from);
        unsynced_add(at, to);
    }
    return status;
}

static int remove_one(void *self, int at, const char *name)
{
    unsynced_drop(at, name);
    return real.remove(self, at, name);
}

static int remove_folder(void *self, int at, const char *name)
{
    unsynced_drop(at, name);
    return real.remove_folder(self, at, name);
}

static int sync_one(void *self, int number)
{
    (void)self;
    syncs++;
    if (sync_fails()) {
        return -EIO;
    }
    unsynced_drop(number, NULL);
    return 0;
}

static int sync_all(void *self, int folder)
{
    (void)self, (void)folder;
    syncs++;
    syncs_of_all++;
    if (sync_fails()) {
        return -EIO;
    }
    unsynced_count = 0;
    return 0;
}

static void files_wrap(bool sync_all_tells)
{
    struct maildir_files *files = lmtp_files();
    real = *files;
    files->make_folder = make_folder;
    files->make_file = make_file;
    files->write = write_some;
    files->link = link_one;
    files->rename = rename_one;
    files->replace = replace;
    files->remove = remove_one;
    files->remove_folder = remove_folder;
    files->sync = sync_one;
    files->sync_all = sync_all;
    files->sync_all_tells = sync_all_tells;
    unsynced_count = 0;
    until_failure = -1;
}

/* ---- The power ---- */

static int remove_visited(const char *path, const struct stat *facts, int type, struct FTW *at)
{
    (void)facts, (void)type, (void)at;
    return remove(path);
}

static void power_lose(void)
{
    for (size_t i = 0; i < unsynced_count; i++) {
        char path[800];
        snprintf(path, sizeof path, "%s/%s", unsynced[i].path, unsynced[i].name);
        if (unsynced[i].name[0] != '\0') {
            nftw(path, remove_visited, 8, FTW_DEPTH | FTW_PHYS);
        }
    }
    unsynced_count = 0;
}

/* Of his messages, each of which is whole. */
static size_t messages_of(unsigned user, char turn)
{
    static const char *const places[] = {"new", "cur", ".There/new", ".There/cur"};
    size_t count = 0;
    for (unsigned i = 0; i < 4; i++) {
        char pattern[512];
        glob_t found;
        snprintf(pattern, sizeof pattern, "%s/u%c%u/%s/[0-9]*", lmtp_maildirs(), turn, user,
                 places[i]);
        bool any = glob(pattern, 0, NULL, &found) == 0;
        for (size_t j = 0; any && j < found.gl_pathc; j++) {
            char text[4096] = "";
            int file = open(found.gl_pathv[j], O_RDONLY | O_CLOEXEC);
            check(file >= 0 && read(file, text, sizeof text - 1) > 0);
            close(file);
            assert_non_null(strstr(text, "\n\nbody\n"));
        }
        count += any ? found.gl_pathc : 0;
        globfree(&found);
    }
    return count;
}

/* The first has a script, the second a detail. stored: result. */
static void deliver(unsigned count, char turn, bool stored[RECIPIENTS_MAX])
{
    char recipients[RECIPIENTS_MAX * 32] = "", *at = recipients;
    for (unsigned i = 0; i < count; i++) {
        at += sprintf(at, "RCPT TO:<u%c%u%s@y>\r\n", turn, i, i == 1 ? "+There" : "");
    }
    const char *heard = lmtp_deliver_to(recipients, MESSAGE);
    for (unsigned i = 0; i < count; i++) {
        stored[i] = strncmp(heard, "250 ", 4) == 0;
        assert_true(stored[i] || strncmp(heard, "45", 2) == 0);
        heard = strchr(heard, '\n') + 1;
    }
    pop3_client_talk(&lmtp_rig, lmtp_client, "QUIT\r\n");
    pop3_rig_run(&lmtp_rig);
}

static void script_set(char turn)
{
    char user[16];
    snprintf(user, sizeof user, "u%c0", turn);
    lmtp_script_set(user, "require [\"fileinto\",\"mailbox\",\"copy\",\"imap4flags\"];"
                          "fileinto :copy :create :flags [\"\\\\Seen\",\"word\"] \"There\";");
}

static void delivered_survives(unsigned count, char turn)
{
    bool stored[RECIPIENTS_MAX];
    script_set(turn);
    syncs = syncs_of_all = 0;
    deliver(count, turn, stored);
    power_lose();
    for (unsigned i = 0; i < count; i++) {
        assert_true(stored[i]);
        assert_int_equal(messages_of(i, turn), i == 0 ? 2 : 1);
    }
}

static void what_is_answered_250_survives_a_loss_of_power(void **state)
{
    (void)state;
    files_wrap(true);
    delivered_survives(3, 'a');
    assert_int_equal(syncs_of_all, 0);
    delivered_survives(9, 'b');
    assert_true(syncs_of_all == 1);
    delivered_survives(RECIPIENTS_MAX, 'c');
    assert_true(syncs_of_all > 1 && syncs_of_all < 10);
    *lmtp_files() = real;
}

static void once_their_folders_are_there_many_recipients_cost_few_syncs(void **state)
{
    (void)state;
    files_wrap(true);
    delivered_survives(RECIPIENTS_MAX, 'a');
    bool stored[RECIPIENTS_MAX];
    syncs = 0;
    deliver(RECIPIENTS_MAX, 'a', stored);
    assert_in_range(syncs, 1, RECIPIENTS_MAX / 4);
    *lmtp_files() = real;
}

static void where_a_sync_of_all_tells_nothing_each_folder_is_synced(void **state)
{
    (void)state;
    files_wrap(false);
    delivered_survives(3, 'a');
    delivered_survives(RECIPIENTS_MAX, 'b');
    assert_int_equal(syncs_of_all, 0);
    *lmtp_files() = real;
}

/* False: none failed any more. What was refused is not there; and is, when it came again. */
static bool deliver_failing(unsigned count, long number, char turn)
{
    bool stored[RECIPIENTS_MAX], again[RECIPIENTS_MAX];
    bool first = number == 0;
    if (first) {
        script_set(turn);
    }
    until_failure = number;
    failed = false;
    deliver(count, turn, stored);
    until_failure = -1;
    for (unsigned i = 2; i < count; i++) {
        assert_int_equal(messages_of(i, turn), stored[i] ? 1 : 0);
    }
    deliver(count, turn, again);
    power_lose();
    for (unsigned i = 0; i < count; i++) {
        assert_true(again[i]);
        assert_true(messages_of(i, turn) >= (i == 0 ? 2u : 1u) + stored[i]);
    }
    return failed;
}

static void each_sync_fails(bool sync_all_tells)
{
    files_wrap(sync_all_tells);
    long number = 0;
    char command[160];
    while (deliver_failing(10, number, 'a')) {
        number++;
        *lmtp_files() = real;
        snprintf(command, sizeof command, "%s/ua[0-9]", lmtp_maildirs());
        glob_t found; /* each time they are new */
        check(glob(command, 0, NULL, &found) == 0);
        for (size_t i = 0; i < found.gl_pathc; i++) {
            nftw(found.gl_pathv[i], remove_visited, 8, FTW_DEPTH | FTW_PHYS);
        }
        globfree(&found);
        files_wrap(sync_all_tells);
    }
    assert_in_range(number, 10, 1000);
    *lmtp_files() = real;
}

static void where_a_sync_fails_250_is_said_of_what_survives(void **state)
{
    (void)state;
    each_sync_fails(true);
}

static void where_a_sync_of_one_folder_fails_250_is_said_of_what_survives(void **state)
{
    (void)state;
    each_sync_fails(false);
}

static void folders_that_a_look_has_made_survive_with_what_comes_into_them(void **state)
{
    (void)state;
    files_wrap(true);
    bool stored[RECIPIENTS_MAX];
    for (unsigned i = 0; i < 3; i++) {
        struct mailstore_user *user;
        struct told told;
        char name[16];
        snprintf(name, sizeof name, "ua%u", i);
        check(mailstore_user_open(lmtp_rig.store.store, slice_text(name), &user) == 0);
        assert_int_equal(mailstore_peek(lmtp_rig.store.store, user, told_init(&told)), 0);
        assert_int_equal(told_wait(&lmtp_rig.store, &told), 0);
        mailstore_user_close(lmtp_rig.store.store, user);
    }
    deliver(3, 'a', stored);
    power_lose();
    for (unsigned i = 0; i < 3; i++) {
        assert_true(stored[i]);
        assert_int_equal(messages_of(i, 'a'), 1);
    }
    *lmtp_files() = real;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_answered_250_survives_a_loss_of_power),
        TEST(once_their_folders_are_there_many_recipients_cost_few_syncs),
        TEST(where_a_sync_of_all_tells_nothing_each_folder_is_synced),
        TEST(folders_that_a_look_has_made_survive_with_what_comes_into_them),
        TEST(where_a_sync_fails_250_is_said_of_what_survives),
        TEST(where_a_sync_of_one_folder_fails_250_is_said_of_what_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
