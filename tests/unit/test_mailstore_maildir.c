/* What others do in Maildirs, as the mailbox store shows it. */
#include "tests/unit/maildirs_rig.h"
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void what_lies_in_a_maildir_has_its_uids_flags_and_keywords(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    assert_int_equal(maildirs_box(fixture, "INBOX")->uidvalidity, 1234567);
    assert_int_equal(maildirs_box(fixture, "INBOX")->uidnext, 9);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    assert_text(fixture, "INBOX", 3, "A\r\n\r\nx\r\n");
    assert_text(fixture, "INBOX", 7, "B\r\n\r\nyy\r\n");
}

static void what_others_add_flag_and_remove_is_taken_in(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_put(fixture, "new/c", "C\n");
    maildirs_move(fixture, "cur/a:2,S", "cur/a:2,STa");
    maildirs_take(fixture, "cur/b:2,Fb");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:9:work 9:0:");
    assert_text(fixture, "INBOX", 9, "C\r\n");
}

static void what_nobody_reads_stays_new_to_others(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct told told;
    maildirs_inbox(fixture);
    maildirs_look(fixture);
    maildirs_put(fixture, "new/c", "C\n");
    assert_int_equal(mailstore_peek(fixture->rig.store, fixture->user, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_true(maildirs_has(fixture, "new/c"));
    assert_text(fixture, "INBOX", 9, "C\r\n");
    maildirs_flag(fixture, "INBOX", 9, MAILSTORE_SEEN, "work");
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_false(maildirs_has(fixture, "new/c"));
    assert_true(maildirs_has(fixture, "cur/c:2,S*"));
    maildirs_put(fixture, "new/d", "D\n");
    maildirs_look(fixture);
    assert_true(maildirs_has(fixture, "cur/d:2,"));
    assert_text(fixture, "INBOX", 10, "D\r\n");
}

static void folders_and_subscriptions_of_others_are_mailboxes(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Sent.2024");
    maildirs_folder(fixture, ".&AOQ-");
    maildirs_folder(fixture, "..nothing");
    maildirs_put(fixture, "subscriptions", "V\t2\n\nSent\t2024\nINBOX\n");
    maildirs_look(fixture);
    assert_non_null(maildirs_box(fixture, "Sent/2024"));
    assert_non_null(maildirs_box(fixture, "\xc3\xa4"));
    assert_int_equal(fixture->user->totals.boxes, 3);
    assert_true(mailstore_is_subscribed(fixture->user, slice_text("Sent/2024")));
    assert_true(mailstore_is_subscribed(fixture->user, slice_text("INBOX")));
}

/* ".NAME" is made at this moment, as far as the store's clock says. */
static void folder_begin(const struct maildirs_rig *fixture, const char *name, const char *part)
{
    char path[512], below[768];
    const struct timespec now[2] = {{.tv_sec = (time_t)fixture->rig.wall_s},
                                    {.tv_sec = (time_t)fixture->rig.wall_s}};
    maildirs_path(fixture, name, path);
    snprintf(below, sizeof below, "%s/%s", path, part);
    assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
    assert_int_equal(mkdir(below, 0700), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, now, 0), 0);
}

static void a_folder_that_another_is_making_is_there_when_it_is_whole(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    folder_begin(fixture, ".Made", "cur");
    folder_begin(fixture, ".Left", "cur");
    maildirs_look(fixture);
    assert_false(maildirs_has(fixture, ".Made/new"));
    assert_null(maildirs_box(fixture, "Made"));
    folder_begin(fixture, ".Made", "new");
    maildirs_look(fixture);
    assert_false(maildirs_has(fixture, ".Made/tmp"));
    folder_begin(fixture, ".Made", "tmp");
    maildirs_look(fixture);
    assert_non_null(maildirs_box(fixture, "Made"));
    assert_null(maildirs_box(fixture, "Left"));
    fixture->rig.wall_s += 10; /* whoever began it comes no more */
    maildirs_look(fixture);
    assert_non_null(maildirs_box(fixture, "Left"));
    assert_true(maildirs_has(fixture, ".Left/tmp"));
}

static void what_goes_and_comes_back_has_another_uid(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_move(fixture, "cur/a:2,S", "tmp/away");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "7:4:home");
    maildirs_start_again(fixture, mailstore_rig_stop); /* nobody remembers but the store */
    maildirs_move(fixture, "tmp/away", "cur/a:2,S");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "7:4:home 9:1:");
    assert_text(fixture, "INBOX", 9, "A\r\n\r\nx\r\n");
}

static void a_list_from_before_gives_no_uid_again(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_put(fixture, "new/c", "C\n");
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:4:home 9:0:");
    maildirs_start_again(fixture, mailstore_rig_stop);
    maildirs_take(fixture, "dovecot-uidlist");
    maildirs_put(fixture, "dovecot-uidlist", LIST);
    maildirs_put(fixture, "new/d", "D\n");
    maildirs_look(fixture);
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
    for (uint32_t i = 2; i < box->count; i++) {
        assert_true(box->entries[i].uid > 9); /* 9 may be either's, so it is nobody's */
    }
    mailstore_box_close(fixture->rig.store, box);
    assert_int_equal(box->count, 4);
}

static void another_uidvalidity_is_another_mailbox(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    uint64_t id = maildirs_box(fixture, "INBOX")->id;
    maildirs_take(fixture, "dovecot-uidlist");
    maildirs_put(fixture, "dovecot-uidlist",
                 "3 V7654321 N3 G0123456789abcdef0123456789abcdef\n2 :b\n");
    maildirs_look(fixture);
    assert_int_equal(maildirs_box(fixture, "INBOX")->uidvalidity, 7654321);
    assert_true(maildirs_box(fixture, "INBOX")->id != id);
    assert_box(fixture, "INBOX", "2:4:home 3:1:");
}

static void a_folder_that_others_rename_stays_the_mailbox_that_it_was(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "M\n");
    maildirs_look(fixture);
    uint64_t id = maildirs_box(fixture, "Old")->id, modseq = maildirs_box(fixture, "Old")->modseq;
    maildirs_move(fixture, ".Old", ".New.er");
    maildirs_put(fixture, ".New.er/new/n", "N\n");
    maildirs_look(fixture);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_null(maildirs_box(fixture, "Old"));
    assert_int_equal(maildirs_box(fixture, "New/er")->id, id);
    assert_true(maildirs_box(fixture, "New/er")->modseq > modseq);
    assert_box(fixture, "New/er", "1:0: 2:0:");
}

static void a_state_that_was_lost_is_made_again_from_the_maildir(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_flag(fixture, "INBOX", 3, MAILSTORE_DRAFT, "");
    uint64_t modseq = maildirs_box(fixture, "INBOX")->modseq;
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_close(&fixture->rig);
    mailstore_rig_open(&fixture->rig, 2);
    fixture->rig.settings.maildirs = &fixture->maildirs;
    fixture->rig.wall_s += 60;
    maildirs_user_open(fixture);
    assert_null(maildirs_box(fixture, "INBOX"));
    maildirs_look(fixture);
    assert_int_equal(maildirs_box(fixture, "INBOX")->uidvalidity, 1234567);
    assert_box(fixture, "INBOX", "3:17: 7:4:home");
    /* Who has seen the old one asks from there, and is not told that nothing has changed. */
    assert_true(maildirs_box(fixture, "INBOX")->modseq > modseq);
    assert_true(maildirs_box(fixture, "INBOX")->modseq_floor > modseq);
}

static void an_index_that_was_lost_is_built_from_the_log(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_append(fixture, "INBOX", slice_text("D\r\n"));
    maildirs_flag(fixture, "INBOX", 7, MAILSTORE_SEEN, "new");
    mailstore_rig_settle(&fixture->rig);
    maildirs_expunge(fixture, "INBOX", 3);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    maildirs_user_open(fixture);
    char *before = rig_dump(&fixture->rig);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_forget_index(&fixture->rig);
    maildirs_user_open(fixture);
    char *after = rig_dump(&fixture->rig);
    assert_string_equal(after, before);
    free(before);
    free(after);
    assert_text(fixture, "INBOX", 9, "D\r\n");
}

static void a_snapshot_says_where_texts_lie(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    for (int i = 0; i < 3000; i++) { /* so much that a snapshot is less */
        const struct mailstore_uids uids = {3, 3};
        struct mailstore_flags change = {.uids = &uids,
                                         .uid_count = 1,
                                         .op = i % 2 ? MAILSTORE_ADD : MAILSTORE_REMOVE,
                                         .flags = MAILSTORE_DRAFT,
                                         .unchanged_since = MAILSTORE_ALWAYS};
        struct told told;
        assert_int_equal(mailstore_flags(fixture->rig.store, maildirs_box(fixture, "INBOX"),
                                         &change, told_init(&told)),
                         0);
        told_wait(&fixture->rig, &told);
    }
    mailstore_rig_settle(&fixture->rig);
    assert_true(mailstore_counters(fixture->rig.store)->snapshots > 0);
    mailstore_user_close(fixture->rig.store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_forget_index(&fixture->rig);
    maildirs_user_open(fixture);
    assert_text(fixture, "INBOX", 3, "A\r\n\r\nx\r\n");
    assert_text(fixture, "INBOX", 7, "B\r\n\r\nyy\r\n");
}

static void what_a_crash_has_left_of_a_folder_goes(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, "..1700000000.M000001P5.host.test");
    maildirs_put(fixture, "..1700000000.M000001P5.host.test/cur/m", "M\n");
    maildirs_folder(fixture, "..others");
    mailstore_rig_settle(&fixture->rig);
    maildirs_start_again(fixture, mailstore_rig_stop);
    maildirs_look(fixture);
    assert_false(maildirs_has(fixture, "..1*"));
    assert_true(maildirs_has(fixture, "..others"));
    assert_int_equal(fixture->user->totals.boxes, 1);
}

static void a_folder_that_was_removed_and_made_again_is_another_mailbox(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/m", "M\n");
    maildirs_look(fixture);
    uint64_t id = maildirs_box(fixture, "Old")->id;
    maildirs_move(fixture, ".Old", "..removed");
    maildirs_folder(fixture, ".Old");
    maildirs_put(fixture, ".Old/new/n", "other\n");
    maildirs_put(fixture, ".Old/dovecot-uidlist",
                 "3 V1900000000 N1 G0123456789abcdef0123456789abcdef\n");
    maildirs_look(fixture);
    assert_true(maildirs_box(fixture, "Old")->id != id);
    assert_int_equal(maildirs_box(fixture, "Old")->uidvalidity, 1900000000);
    assert_box(fixture, "Old", "1:0:");
    assert_text(fixture, "Old", 1, "other\r\n");
}

static void trouble_is_told_once_and_what_was_known_stays(void **state)
{
    struct maildirs_rig *fixture = *state;
    char path[512];
    maildirs_inbox(fixture);
    maildirs_move(fixture, "cur", "away");
    maildirs_put(fixture, "cur", "a file, where a folder should be");
    for (int i = 0; i < 3; i++) {
        struct told told;
        assert_int_equal(mailstore_refresh(fixture->rig.store, fixture->user, told_init(&told)), 0);
        assert_true(told_wait(&fixture->rig, &told) < 0);
    }
    assert_int_equal(fixture->troubles, 1);
    assert_int_equal(fixture->trouble, -ENOTDIR);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
    maildirs_path(fixture, "cur", path);
    assert_int_equal(unlink(path), 0);
    maildirs_move(fixture, "away", "cur");
    maildirs_look(fixture);
    assert_int_equal(fixture->troubles, 2);
    assert_int_equal(fixture->trouble, 0);
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
}

static void folders_that_are_as_they_were_are_not_read_again(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".Sent");
    fixture->rig.wall_s = (uint64_t)time(NULL) + 100; /* no time is of this second */
    maildirs_look(fixture);
    char path[512];
    const struct timespec before[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    maildirs_path(fixture, ".Sent/new", path); /* what comes is of another second */
    assert_int_equal(utimensat(AT_FDCWD, path, before, 0), 0);
    maildirs_look(fixture);
    fixture->lists = 0;
    maildirs_look(fixture);
    assert_int_equal(fixture->lists, 1); /* of folders */
    maildirs_put(fixture, ".Sent/new/m", "M\n");
    maildirs_look(fixture);
    assert_true(fixture->lists > 2);
    assert_box(fixture, "Sent", "1:0:");
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
}

int main(void)
{
#define CASE(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, maildirs_set_up, maildirs_tear_down),                    \
    {                                                                                              \
#name "_with_many_users", name, maildirs_set_up_crowded, maildirs_tear_down, NULL          \
    }
    const struct CMUnitTest tests[] = {
        CASE(what_lies_in_a_maildir_has_its_uids_flags_and_keywords),
        CASE(what_others_add_flag_and_remove_is_taken_in),
        CASE(what_nobody_reads_stays_new_to_others),
        CASE(folders_and_subscriptions_of_others_are_mailboxes),
        CASE(a_folder_that_another_is_making_is_there_when_it_is_whole),
        CASE(what_goes_and_comes_back_has_another_uid),
        CASE(a_list_from_before_gives_no_uid_again),
        CASE(another_uidvalidity_is_another_mailbox),
        CASE(a_folder_that_others_rename_stays_the_mailbox_that_it_was),
        CASE(a_state_that_was_lost_is_made_again_from_the_maildir),
        CASE(an_index_that_was_lost_is_built_from_the_log),
        CASE(a_snapshot_says_where_texts_lie),
        CASE(what_a_crash_has_left_of_a_folder_goes),
        CASE(a_folder_that_was_removed_and_made_again_is_another_mailbox),
        CASE(trouble_is_told_once_and_what_was_known_stays),
        CASE(folders_that_are_as_they_were_are_not_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
