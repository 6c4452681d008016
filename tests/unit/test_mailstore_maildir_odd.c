/* What lies in a Maildir and is no message, or not what its name says. */
#include "tests/unit/maildirs_rig.h"
#include <dirent.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    maildirs_expunge(fixture, "INBOX", 9); /* a folder stays where it is */
    maildirs_expunge(fixture, "INBOX", 11);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 10:0: 12:0:");
    assert_false(maildirs_has(fixture, "cur/3.pipe*"));
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

static void sizes_that_a_name_has_wrong_are_counted(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_put(fixture, "new/1.m,S=5,W=7", "longer\n\nthan\n");
    maildirs_put(fixture, "new/2.m,S=100,W=120", "shorter\n");
    maildirs_put(fixture, "new/3.m,W=2", "lesser\n");
    maildirs_put(fixture, "new/4.m,W=200", "greater\n");
    maildirs_look(fixture);
    assert_text(fixture, "INBOX", 9, "longer\r\n\r\nthan\r\n");
    assert_text(fixture, "INBOX", 10, "shorter\r\n");
    assert_text(fixture, "INBOX", 11, "lesser\r\n");
    assert_text(fixture, "INBOX", 12, "greater\r\n");
}

static void a_name_too_long_for_a_flag_keeps_no_other_flag_back(void **state)
{
    struct maildirs_rig *fixture = *state;
    char name[300];
    maildirs_inbox(fixture);
    snprintf(name, sizeof name, "cur/%0252d:2,", 1);
    maildirs_put(fixture, name, "M\n");
    maildirs_look(fixture);
    maildirs_flag(fixture, "INBOX", 9, MAILSTORE_SEEN, "");
    maildirs_flag(fixture, "INBOX", 3, MAILSTORE_FLAGGED, "");
    mailstore_rig_settle(&fixture->rig);
    maildirs_put(fixture, "new/4.message", "M\n");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:5: 7:4:home 9:1: 10:0:");
    assert_true(maildirs_has(fixture, "cur/a:2,FS"));
}

static void remake(struct maildirs_rig *fixture)
{
    maildirs_move(fixture, ".Old", "..removed");
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/cur/n:2,", "other\n");
    maildirs_put(fixture, ".Old/dovecot-uidlist",
                 "3 V1900000000 N2 G0123456789abcdef0123456789abcdef\n1 :n\n");
}

static void nothing_done(struct mailstore_waiter *waiter, int status)
{
    (void)waiter, (void)status;
}

static void of_a_folder_made_again_nothing_is_read_as_a_message_of_the_one_before(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "first\n");
    maildirs_look(fixture);
    remake(fixture);
    struct mailstore_box *box = maildirs_box(fixture, "Old");
    struct mailstore_text text;
    struct mailstore_fetch fetch = {.waiter.done = nothing_done};
    struct slice part;
    struct ref *owner;
    assert_int_equal(mailstore_box_open(store, box), 0);
    assert_int_equal(mailstore_text_open(store, box->entries[0].text, &text), 0);
    assert_int_equal(mailstore_read(store, &text, 0, &part, &owner, &fetch), -EINPROGRESS);
    while (fetch.private != NULL) {
        mailstore_rig_round(&fixture->rig);
    }
    assert_int_equal(mailstore_read(store, &text, 0, &part, &owner, &fetch), -EIO);
    mailstore_text_close(store, &text);
    mailstore_box_close(store, box);
}

#define LONG_LINES 20000u /* of eleven bytes: more than a piece that is read at a time */

/* Who was told how long a message is gets all of it. */
static void what_others_remove_is_read_to_its_end_by_who_has_begun(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    struct mailstore_text text = {0};
    struct mailstore_fetch fetch = {.waiter.done = nothing_done};
    char path[512];
    maildirs_inbox(fixture);
    maildirs_path(fixture, "cur/long:2,", path);
    FILE *file = fopen(path, "wx");
    for (unsigned i = 0; i < LONG_LINES; i++) {
        assert_true(fprintf(file, "%09u\n", i) == 10);
    }
    assert_int_equal(fclose(file), 0);
    maildirs_look(fixture);
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    assert_int_equal(mailstore_box_open(store, box), 0);
    assert_int_equal(mailstore_text_open(store, box->entries[2].text, &text), 0);
    mailstore_box_close(store, box);
    assert_int_equal(text.bytes, LONG_LINES * 11);
    uint32_t at = 0;
    for (unsigned turns = 0; at < text.bytes; turns++) {
        struct slice part;
        struct ref *owner;
        int status = mailstore_read(store, &text, at, &part, &owner, &fetch);
        if (status == -EINPROGRESS) {
            mailstore_rig_round(&fixture->rig);
            continue;
        }
        assert_int_equal(status, 0);
        char line[16];
        snprintf(line, sizeof line, "%09u\r\n", at / 11);
        size_t skipped = at % 11, size = part.size < 11 - skipped ? part.size : 11 - skipped;
        assert_memory_equal(part.bytes, line + skipped, size);
        if (at == 0) {
            assert_true(part.size < text.bytes);
            maildirs_take(fixture, "cur/long:2,");
            maildirs_look(fixture);
            assert_box(fixture, "INBOX", "3:1: 7:4:home");
        }
        at += (uint32_t)part.size;
        ref_drop(owner);
    }
    mailstore_text_close(store, &text);
    mailstore_rig_settle(&fixture->rig);
}

static void of_a_folder_made_again_nothing_is_copied_as_a_message_of_the_one_before(void **state)
{
    struct maildirs_rig *fixture = *state;
    const struct mailstore_uids all = {1, 100};
    struct mailstore_copy copy = {.uids = &all, .uid_count = 1, .mailbox = slice_text("INBOX")};
    struct told told;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "first\n");
    maildirs_look(fixture);
    remake(fixture);
    struct mailstore_box *box = maildirs_box(fixture, "Old");
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    assert_int_equal(mailstore_move(fixture->rig.store, box, &copy, told_init(&told)), 0);
    mailstore_box_close(fixture->rig.store, box);
    told_wait(&fixture->rig, &told);
    assert_int_equal(copy.source_count, 0);
    free(copy.sources);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    assert_box(fixture, "Old", "1:0:");
}

static int copy_to_inbox(struct maildirs_rig *fixture, const char *from)
{
    const struct mailstore_uids all = {1, 100};
    struct mailstore_copy copy = {.uids = &all, .uid_count = 1, .mailbox = slice_text("INBOX")};
    struct mailstore_box *box = maildirs_box(fixture, from);
    struct told told;
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    assert_int_equal(mailstore_copy(fixture->rig.store, box, &copy, told_init(&told)), 0);
    mailstore_box_close(fixture->rig.store, box);
    int status = told_wait(&fixture->rig, &told);
    assert_int_equal(copy.source_count, 0);
    free(copy.sources);
    return status;
}

static void where_nothing_is_copied_to_all_stays_as_it_is(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "first\n");
    maildirs_look(fixture);
    maildirs_take(fixture, ".Old/cur/m:2,");
    assert_int_equal(copy_to_inbox(fixture, "Old"), 0);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    assert_box(fixture, "Old", "");
    maildirs_put(fixture, ".Old/new/n", "next\n");
    maildirs_look(fixture);
    maildirs_move(fixture, ".Old", "..removed");
    assert_int_equal(copy_to_inbox(fixture, "Old"), 0);
}

static void pause_passing(void *self, uint64_t duration_ns)
{
    struct maildirs_rig *fixture = self;
    fixture->rig.rig.now_ns += duration_ns;
}

static void where_a_lock_is_met_all_stays_as_it_is(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "first\n");
    maildirs_look(fixture);
    fixture->files.pause = pause_passing;
    maildirs_put(fixture, "dovecot-uidlist.lock", "1:host.test");
    assert_int_equal(copy_to_inbox(fixture, "Old"), -ETIMEDOUT);
    maildirs_take(fixture, "dovecot-uidlist.lock");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
}

static int rename_elsewhere(void *self, int from_at, const char *from, int to_at, const char *to)
{
    struct maildirs_rig *fixture = self;
    struct maildir_files files;
    struct stat one, other, staging;
    maildir_system_files(&files);
    if (fstat(from_at, &one) == 0 && fstat(to_at, &other) == 0 &&
        stat(fixture->staging, &staging) == 0 && one.st_ino == staging.st_ino) {
        return -EXDEV;
    }
    return files.rename(NULL, from_at, from, to_at, to);
}

static void a_maildir_on_another_file_system_takes_what_is_appended(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    fixture->files.rename = rename_elsewhere;
    maildirs_append(fixture, "INBOX", slice_text("A\r\n"));
    assert_text(fixture, "INBOX", 9, "A\r\n");
    assert_box(fixture, "INBOX", "3:1: 7:4:home 9:1:");
    assert_false(maildirs_has(fixture, "tmp/*"));
}

static int no_link(void *self, int from_at, const char *from, int to_at, const char *to)
{
    (void)self, (void)from_at, (void)from, (void)to_at, (void)to;
    return -EPERM;
}

static int set_modified_failing(void *self, int at, const char *name, int64_t modified_s)
{
    struct maildirs_rig *fixture = self;
    struct maildir_files files;
    maildir_system_files(&files);
    return fixture->troubles++ == 0 ? files.set_modified(NULL, at, name, modified_s) : -ENOSPC;
}

static void of_a_copy_that_finds_no_room_nothing_is_left(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/cur/m:2,", "first\n");
    maildirs_put(fixture, ".Old/cur/n:2,", "other\n");
    maildirs_look(fixture);
    fixture->files.link = no_link;
    fixture->files.set_modified = set_modified_failing;
    assert_int_equal(copy_to_inbox(fixture, "Old"), -ENOSPC);
    assert_int_equal(fixture->troubles, 2);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    assert_false(maildirs_has(fixture, "tmp/*"));
}

static int link_after_rename(void *self, int from_at, const char *from, int to_at, const char *to)
{
    struct maildirs_rig *fixture = self;
    struct maildir_files files;
    maildir_system_files(&files);
    if (strcmp(from, "n:2,") == 0) {
        maildirs_move(fixture, ".Old/cur/n:2,", ".Old/cur/n:2,F");
    }
    return files.link(NULL, from_at, from, to_at, to);
}

static void what_gets_another_name_meanwhile_is_copied(void **state)
{
    struct maildirs_rig *fixture = *state;
    const struct mailstore_uids all = {1, 100};
    struct mailstore_copy copy = {.uids = &all, .uid_count = 1, .mailbox = slice_text("INBOX")};
    struct told told;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/cur/m:2,", "first\n");
    maildirs_put(fixture, ".Old/cur/n:2,", "other\n");
    maildirs_look(fixture);
    fixture->files.link = link_after_rename;
    struct mailstore_box *box = maildirs_box(fixture, "Old");
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    assert_int_equal(mailstore_copy(fixture->rig.store, box, &copy, told_init(&told)), 0);
    mailstore_box_close(fixture->rig.store, box);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_int_equal(copy.source_count, 1);
    assert_int_equal(copy.target_last - copy.target_first, 1);
    free(copy.sources);
    maildirs_look(fixture);
    assert_int_equal(maildirs_box(fixture, "INBOX")->count, 4);
    assert_text(fixture, "INBOX", copy.target_first, "first\r\n");
    assert_text(fixture, "INBOX", copy.target_last, "other\r\n");
}

static void subscribed_count(void *owner, struct slice name)
{
    (void)name;
    ++*(unsigned *)owner;
}

static void many_subscriptions_in_any_order_are_all_found(void **state)
{
    struct maildirs_rig *fixture = *state;
    static char text[3000 * 16];
    maildirs_inbox(fixture);
    for (unsigned each = 2; each < 4; each++) { /* each second, then each third */
        size_t used = (size_t)sprintf(text, "V\t2\n\nINBOX\nINBOX\n");
        for (unsigned i = 3000; i-- > 0;) {
            used += i % each == 0 ? (size_t)sprintf(text + used, "n%u\n", i * 7919 % 3000) : 0;
        }
        if (each == 3) {
            maildirs_take(fixture, "subscriptions");
        }
        maildirs_put(fixture, "subscriptions", text);
        maildirs_look(fixture);
        unsigned count = 0;
        mailstore_each_subscribed(fixture->user, subscribed_count, &count);
        assert_int_equal(count, 1 + 3000 / each);
        for (unsigned i = 0; i < 3000; i++) {
            sprintf(text, "n%u", i * 7919 % 3000);
            assert_int_equal(mailstore_is_subscribed(fixture->user, slice_text(text)),
                             i % each == 0);
        }
    }
}

static void a_look_waits_for_a_lock_for_seconds_and_a_change_for_minutes(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct told told;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "first\n");
    maildirs_look(fixture);
    fixture->files.pause = pause_passing;
    maildirs_put(fixture, "dovecot-uidlist.lock", "1:host.test");
    maildirs_put(fixture, "new/n", "other\n");
    uint64_t before_ns = fixture->rig.rig.now_ns;
    assert_int_equal(mailstore_refresh(fixture->rig.store, fixture->user, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), -ETIMEDOUT);
    assert_true(fixture->rig.rig.now_ns - before_ns < 10000000000);
    before_ns = fixture->rig.rig.now_ns;
    assert_int_equal(copy_to_inbox(fixture, "Old"), -ETIMEDOUT);
    assert_true(fixture->rig.rig.now_ns - before_ns > 120000000000);
    maildirs_take(fixture, "dovecot-uidlist.lock");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 9:0:");
}

static ssize_t write_failing(void *self, int file, const void *bytes, size_t size)
{
    (void)self, (void)file, (void)bytes, (void)size;
    return -ENOSPC;
}

static int sync_failing(void *self, int number)
{
    (void)self, (void)number;
    return -EIO;
}

static int append_to_inbox(struct maildirs_rig *fixture)
{
    struct mailstore_draft *draft;
    struct mailstore_place place = {.user = slice_text("ann"), .mailbox = slice_text("INBOX")};
    struct slice text = slice_text("A\r\n");
    struct told told;
    assert_int_equal(mailstore_begin(fixture->rig.store, &draft), 0);
    assert_int_equal(mailstore_append(draft, &text, 1), 0);
    assert_int_equal(mailstore_commit(draft, 0, &place, 1, told_init(&told)), 0);
    int status = told_wait(&fixture->rig, &told);
    return status != 0 ? status : place.status;
}

static void what_cannot_be_made_durable_is_refused_and_not_there(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct maildir_files files;
    maildir_system_files(&files);
    maildirs_inbox(fixture);
    fixture->files.write = write_failing;
    assert_int_equal(append_to_inbox(fixture), -ENOSPC);
    fixture->files.write = files.write;
    fixture->files.sync = sync_failing;
    assert_int_equal(append_to_inbox(fixture), -EIO);
    fixture->files.sync = files.sync;
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    assert_int_equal(append_to_inbox(fixture), 0);
    maildirs_look(fixture);
    assert_int_equal(maildirs_box(fixture, "INBOX")->count, 3);
    char path[512], pattern[600];
    glob_t found;
    maildirs_path(fixture, "../.tmp", path);
    snprintf(pattern, sizeof pattern, "%s/*", path);
    assert_int_equal(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
}

static int open_folder_failing(void *self, int at, const char *name)
{
    struct maildir_files files;
    maildir_system_files(&files);
    (void)self;
    return strcmp(name, ".Old") == 0 ? -EMFILE : files.open_folder(NULL, at, name);
}

static void what_is_not_seen_for_want_of_descriptors_has_not_gone(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct maildir_files files;
    struct told told;
    maildir_system_files(&files);
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "first\n");
    maildirs_look(fixture);
    uint64_t id = maildirs_box(fixture, "Old")->id;
    fixture->files.open_folder = open_folder_failing;
    maildirs_put(fixture, "new/n", "other\n");
    assert_int_equal(mailstore_refresh(fixture->rig.store, fixture->user, told_init(&told)), 0);
    told_wait(&fixture->rig, &told);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 9:0:");
    assert_non_null(maildirs_box(fixture, "Old"));
    fixture->files.open_folder = files.open_folder;
    maildirs_look(fixture);
    assert_int_equal(maildirs_box(fixture, "Old")->id, id);
    assert_box(fixture, "Old", "1:0:");
}

static unsigned descriptors_count(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

static void many_folders_keep_few_files_open(void **state)
{
    struct maildirs_rig *fixture = *state;
    char name[32];
    maildirs_inbox(fixture);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, ".F%02u", i);
        maildirs_folder(fixture, name);
        snprintf(name, sizeof name, ".F%02u/new/%u", i, i);
        maildirs_put(fixture, name, "M\n");
    }
    unsigned before = descriptors_count();
    maildirs_look(fixture);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "F%02u", i);
        assert_text(fixture, name, 1, "M\r\n");
        assert_int_equal(maildirs_append(fixture, name, slice_text("N\r\n")).uid, 2);
        maildirs_flag(fixture, name, 1, MAILSTORE_FLAGGED, "");
    }
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_true(descriptors_count() < before + 32);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "F%02u", i);
        assert_box(fixture, name, "1:4: 2:1:");
        snprintf(name, sizeof name, ".F%02u/cur/%u:2,F", i, i);
        assert_true(maildirs_has(fixture, name));
    }
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
        CASE(where_nothing_is_copied_to_all_stays_as_it_is),
        CASE(where_a_lock_is_met_all_stays_as_it_is),
        CASE(what_others_remove_is_read_to_its_end_by_who_has_begun),
        CASE(of_a_folder_made_again_nothing_is_read_as_a_message_of_the_one_before),
        CASE(of_a_folder_made_again_nothing_is_copied_as_a_message_of_the_one_before),
        CASE(sizes_that_a_name_has_wrong_are_counted),
        CASE(a_name_too_long_for_a_flag_keeps_no_other_flag_back),
        CASE(a_maildir_on_another_file_system_takes_what_is_appended),
        CASE(of_a_copy_that_finds_no_room_nothing_is_left),
        CASE(what_gets_another_name_meanwhile_is_copied),
        CASE(many_subscriptions_in_any_order_are_all_found),
        CASE(many_folders_keep_few_files_open),
        CASE(a_look_waits_for_a_lock_for_seconds_and_a_change_for_minutes),
        CASE(what_cannot_be_made_durable_is_refused_and_not_there),
        CASE(what_is_not_seen_for_want_of_descriptors_has_not_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
