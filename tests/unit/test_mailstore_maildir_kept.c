/* What is kept after expunge of Maildirs, and comes back. */
#include "tests/unit/maildirs_rig.h"
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define KEEP_S 1000u

static int set_up(struct maildirs_rig *fixture)
{
    fixture->rig.settings.keep_expunged_s = KEEP_S;
    maildirs_start_again(fixture, mailstore_rig_stop);
    maildirs_inbox(fixture);
    return 0;
}

static int set_up_alone(void **state)
{
    maildirs_set_up(state);
    return set_up(*state);
}

static int set_up_crowded(void **state)
{
    maildirs_set_up_crowded(state);
    return set_up(*state);
}

/* Their uids from *first on; returns how many have come back. */
static uint32_t restore(struct maildirs_rig *fixture, const char *name, uint32_t *first)
{
    const struct mailstore_uids all = {1, UINT32_MAX};
    struct mailstore_restore change = {.uids = &all, .uid_count = 1};
    struct told told;
    assert_int_equal(mailstore_restore(fixture->rig.store, maildirs_box(fixture, name), &change,
                                       told_init(&told)),
                     0);
    assert_false(told.done);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    *first = change.first;
    assert_int_equal(change.last,
                     change.restored_count > 0 ? change.first + change.restored_count - 1 : 0);
    return change.restored_count;
}

static void kept_count(void *owner, const struct mailstore_entry *entry)
{
    (void)entry;
    ++*(unsigned *)owner;
}

static unsigned kept(struct maildirs_rig *fixture, const char *name)
{
    unsigned count = 0;
    assert_int_equal(
        mailstore_expunged(fixture->rig.store, maildirs_box(fixture, name), kept_count, &count), 0);
    return count;
}

static void settle(struct maildirs_rig *fixture)
{
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
}

static void what_is_expunged_comes_back_with_flags_keywords_and_date_and_another_uid(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore_place place =
        maildirs_append(fixture, "INBOX", slice_text("S: c\r\n\r\nc\r\n"));
    maildirs_flag(fixture, "INBOX", place.uid, MAILSTORE_FLAGGED | MAILSTORE_DELETED, "third");
    maildirs_expunge(fixture, "INBOX", place.uid);
    settle(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    assert_int_equal(fixture->user->totals.messages, 2);
    assert_false(maildirs_has(fixture, "cur/*:2,*c"));
    assert_true(maildirs_has(fixture, "tubepost-kept/*"));
    assert_int_equal(kept(fixture, "INBOX"), 1);
    uint32_t first;
    assert_int_equal(restore(fixture, "INBOX", &first), 1);
    assert_int_equal(first, place.uid + 1);
    settle(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 10:5:third");
    assert_text(fixture, "INBOX", first, "S: c\r\n\r\nc\r\n");
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    assert_int_equal(mailstore_entry_find(box, first)->internal_s, 1000000000);
    mailstore_box_close(fixture->rig.store, box);
    assert_int_equal(fixture->user->totals.messages, 3);
    assert_int_equal(kept(fixture, "INBOX"), 0);
    assert_false(maildirs_has(fixture, "tubepost-kept"));
    assert_int_equal(restore(fixture, "INBOX", &first), 0);
}

static void it_is_no_mailbox_and_goes_when_its_time_is_over(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_expunge(fixture, "INBOX", 7);
    settle(fixture);
    assert_null(mailstore_box_next(fixture->user, maildirs_box(fixture, "INBOX")));
    fixture->rig.wall_s += KEEP_S - 10;
    settle(fixture);
    assert_true(maildirs_has(fixture, "tubepost-kept/*"));
    assert_int_equal(kept(fixture, "INBOX"), 1);
    fixture->rig.wall_s += 100;
    settle(fixture);
    assert_int_equal(kept(fixture, "INBOX"), 0);
    settle(fixture);
    assert_false(maildirs_has(fixture, "tubepost-kept"));
    assert_box(fixture, "INBOX", "3:1:");
}

/* Of what is kept. */
static int remove_keeping(void *self, int at, const char *name)
{
    struct maildir_files files;
    (void)self;
    maildir_system_files(&files);
    return strlen(name) == 33 && name[16] == '-' ? -EIO : files.remove(NULL, at, name);
}

static void what_a_crash_has_left_of_what_is_over_goes_with_the_next_look(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct maildir_files files = fixture->files;
    maildirs_expunge(fixture, "INBOX", 7);
    settle(fixture);
    fixture->files.remove = remove_keeping;
    fixture->rig.wall_s += KEEP_S + 100;
    settle(fixture);
    assert_int_equal(kept(fixture, "INBOX"), 0);
    assert_true(maildirs_has(fixture, "tubepost-kept/*"));
    fixture->files = files;
    maildirs_start_again(fixture, mailstore_rig_crash);
    settle(fixture);
    assert_int_equal(kept(fixture, "INBOX"), 0);
    assert_false(maildirs_has(fixture, "tubepost-kept"));
    assert_box(fixture, "INBOX", "3:1:");
}

/* Its time is over while the service does not run, and the user is not there when it does. */
static void what_is_over_goes_also_of_who_is_not_there(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_expunge(fixture, "INBOX", 7);
    settle(fixture);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    fixture->rig.wall_s += KEEP_S + 100;
    assert_int_equal(mailstore_rig_start(&fixture->rig), 0);
    for (unsigned i = 0; i < 300; i++) {
        mailstore_rig_round(&fixture->rig);
    }
    assert_false(maildirs_has(fixture, "tubepost-kept"));
    assert_int_equal(mailstore_user_open(fixture->rig.store, slice_text("ann"), &fixture->user), 0);
    assert_int_equal(kept(fixture, "INBOX"), 0);
}

static void what_is_kept_outlives_a_start_and_the_index(void **state)
{
    struct maildirs_rig *fixture = *state;
    uint32_t first;
    maildirs_expunge(fixture, "INBOX", 3);
    settle(fixture);
    maildirs_start_again(fixture, mailstore_rig_stop);
    settle(fixture);
    maildirs_expunge(fixture, "INBOX", 7);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_forget_index(&fixture->rig);
    maildirs_user_open(fixture);
    settle(fixture);
    assert_int_equal(restore(fixture, "INBOX", &first), 2);
    settle(fixture);
    assert_box(fixture, "INBOX", "9:1: 10:4:home");
    assert_text(fixture, "INBOX", 10, "B\r\n\r\nyy\r\n");
}

/* Of a name in cur/. */
static int remove_refusing(void *self, int at, const char *name)
{
    struct maildir_files files;
    (void)self;
    maildir_system_files(&files);
    return strstr(name, ":2,") != NULL ? -EIO : files.remove(NULL, at, name);
}

/* Its link is there, and its name in the mailbox too. */
static void a_crash_before_it_has_left_the_mailbox_neither_loses_it_nor_brings_it_back(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct maildir_files files = fixture->files;
    uint32_t first;
    fixture->files.remove = remove_refusing;
    maildirs_expunge(fixture, "INBOX", 7);
    for (unsigned i = 0; i < 200; i++) {
        mailstore_rig_round(&fixture->rig);
    }
    assert_true(maildirs_has(fixture, "cur/b:2,Fb"));
    assert_true(maildirs_has(fixture, "tubepost-kept/*"));
    fixture->files = files;
    maildirs_start_again(fixture, mailstore_rig_crash);
    settle(fixture);
    assert_box(fixture, "INBOX", "3:1:");
    assert_false(maildirs_has(fixture, "cur/b*"));
    assert_int_equal(restore(fixture, "INBOX", &first), 1);
    assert_text(fixture, "INBOX", first, "B\r\n\r\nyy\r\n");
}

static void what_has_not_left_the_mailbox_yet_comes_back_once(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    struct mailstore_text text = {0};
    uint32_t first;
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    assert_int_equal(
        mailstore_text_open(fixture->rig.store, mailstore_entry_find(box, 7)->text, &text), 0);
    mailstore_box_close(fixture->rig.store, box);
    maildirs_expunge(fixture, "INBOX", 7); /* somebody reads it: its file stays */
    maildirs_look(fixture);
    assert_true(maildirs_has(fixture, "cur/b:2,Fb"));
    assert_int_equal(restore(fixture, "INBOX", &first), 1);
    assert_box(fixture, "INBOX", "3:1: 9:4:home");
    mailstore_text_close(fixture->rig.store, &text);
    settle(fixture);
    assert_false(maildirs_has(fixture, "cur/b*"));
    assert_false(maildirs_has(fixture, "tubepost-kept/*"));
    assert_box(fixture, "INBOX", "3:1: 9:4:home");
    assert_text(fixture, "INBOX", 9, "B\r\n\r\nyy\r\n");
}

static int link_refusing(void *self, int from_at, const char *from, int to_at, const char *to)
{
    (void)self, (void)from_at, (void)from, (void)to_at, (void)to;
    return -EPERM;
}

static void where_there_are_no_links_the_bytes_are_kept(void **state)
{
    struct maildirs_rig *fixture = *state;
    uint32_t first;
    fixture->files.link = link_refusing;
    maildirs_expunge(fixture, "INBOX", 3);
    maildirs_expunge(fixture, "INBOX", 7);
    settle(fixture);
    assert_false(maildirs_has(fixture, "cur/*"));
    assert_int_equal(restore(fixture, "INBOX", &first), 2);
    settle(fixture);
    assert_box(fixture, "INBOX", "9:1: 10:4:home");
    assert_text(fixture, "INBOX", 9, "A\r\n\r\nx\r\n");
    assert_false(maildirs_has(fixture, "tubepost-kept/*"));
}

static void a_mailbox_that_is_deleted_takes_what_was_kept_of_it_along(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct told told;
    maildirs_folder(fixture, ".To");
    maildirs_look(fixture);
    struct mailstore_place place = maildirs_append(fixture, "To", slice_text("M\r\n"));
    maildirs_expunge(fixture, "To", place.uid);
    maildirs_expunge(fixture, "INBOX", 3);
    settle(fixture);
    glob_t found;
    char pattern[512];
    maildirs_path(fixture, "tubepost-kept/*", pattern);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 2);
    globfree(&found);
    assert_int_equal(
        mailstore_box_delete(fixture->rig.store, maildirs_box(fixture, "To"), told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    settle(fixture);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    globfree(&found);
}

/* The numbers of another state may be those of other messages. */
static void what_another_state_has_kept_stays_until_its_time_is_over(void **state)
{
    struct maildirs_rig *fixture = *state;
    char path[512], name[512];
    maildirs_expunge(fixture, "INBOX", 7);
    settle(fixture);
    glob_t found;
    maildirs_path(fixture, "tubepost-kept/*", path);
    assert_int_equal(glob(path, 0, NULL, &found), 0);
    snprintf(name, sizeof name, "tubepost-kept/0123456789abcdef%s",
             strrchr(found.gl_pathv[0], '/') + 17);
    maildirs_path(fixture, name, path);
    assert_int_equal(link(found.gl_pathv[0], path), 0);
    globfree(&found);
    maildirs_put(fixture, "tubepost-kept/not ours", "x");
    fixture->rig.wall_s = (uint64_t)time(NULL);
    maildirs_start_again(fixture, mailstore_rig_stop);
    settle(fixture);
    assert_true(maildirs_has(fixture, name));
    fixture->rig.wall_s += KEEP_S + 1000;
    maildirs_start_again(fixture, mailstore_rig_stop);
    settle(fixture);
    assert_false(maildirs_has(fixture, name));
    assert_true(maildirs_has(fixture, "tubepost-kept/not ours"));
}

/* As after a state that was put back, whose numbers come again. */
static void a_name_that_another_message_has_there_is_given_to_the_one_that_comes(void **state)
{
    struct maildirs_rig *fixture = *state;
    char name[512];
    glob_t found;
    uint32_t first;
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    uint64_t text = mailstore_entry_find(box, 7)->text;
    mailstore_box_close(fixture->rig.store, box);
    maildirs_expunge(fixture, "INBOX", 3);
    settle(fixture);
    char pattern[512];
    maildirs_path(fixture, "tubepost-kept/*", pattern);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    snprintf(name, sizeof name, "tubepost-kept/%.17s%016llx", strrchr(found.gl_pathv[0], '/') + 1,
             (unsigned long long)text);
    globfree(&found);
    maildirs_put(fixture, name, "another's");
    maildirs_expunge(fixture, "INBOX", 7);
    settle(fixture);
    assert_int_equal(restore(fixture, "INBOX", &first), 2);
    assert_text(fixture, "INBOX", first + 1, "B\r\n\r\nyy\r\n");
}

static int open_refusing(void *self, int at, const char *name)
{
    struct maildir_files files;
    (void)self;
    maildir_system_files(&files);
    return name[0] == 'b' ? -EACCES : files.open_file(NULL, at, name);
}

static void a_file_that_cannot_be_kept_now_stays_and_holds_back_no_other(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct maildir_files files = fixture->files;
    uint32_t first;
    fixture->files.link = link_refusing;
    fixture->files.open_file = open_refusing;
    maildirs_expunge(fixture, "INBOX", 3);
    maildirs_expunge(fixture, "INBOX", 7);
    for (unsigned i = 0; i < 200; i++) {
        mailstore_rig_round(&fixture->rig);
    }
    assert_false(maildirs_has(fixture, "cur/a*"));
    assert_true(maildirs_has(fixture, "cur/b:2,Fb"));
    assert_box(fixture, "INBOX", "");
    fixture->files = files;
    fixture->rig.wall_s += 10;
    settle(fixture);
    assert_false(maildirs_has(fixture, "cur/*"));
    assert_int_equal(restore(fixture, "INBOX", &first), 2);
}

int main(void)
{
#define CASE(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, set_up_alone, maildirs_tear_down),                       \
    {                                                                                              \
#name "_with_many_users", name, set_up_crowded, maildirs_tear_down, NULL                   \
    }
    const struct CMUnitTest tests[] = {
        CASE(what_is_expunged_comes_back_with_flags_keywords_and_date_and_another_uid),
        CASE(it_is_no_mailbox_and_goes_when_its_time_is_over),
        CASE(what_a_crash_has_left_of_what_is_over_goes_with_the_next_look),
        CASE(what_is_over_goes_also_of_who_is_not_there),
        CASE(what_is_kept_outlives_a_start_and_the_index),
        CASE(a_crash_before_it_has_left_the_mailbox_neither_loses_it_nor_brings_it_back),
        CASE(what_has_not_left_the_mailbox_yet_comes_back_once),
        CASE(where_there_are_no_links_the_bytes_are_kept),
        CASE(a_mailbox_that_is_deleted_takes_what_was_kept_of_it_along),
        CASE(what_another_state_has_kept_stays_until_its_time_is_over),
        CASE(a_name_that_another_message_has_there_is_given_to_the_one_that_comes),
        CASE(a_file_that_cannot_be_kept_now_stays_and_holds_back_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
