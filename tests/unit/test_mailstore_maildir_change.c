/* What the mailbox store changes, as it is in Maildirs. */
#include "tests/unit/maildirs_rig.h"
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void flags_that_both_have_changed_are_merged(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    const struct mailstore_uids uids = {7, 7};
    struct mailstore_flags change = {.uids = &uids,
                                     .uid_count = 1,
                                     .op = MAILSTORE_REPLACE,
                                     .flags = MAILSTORE_SEEN,
                                     .unchanged_since = MAILSTORE_ALWAYS};
    struct told told;
    mailstore_flags(fixture->rig.store, maildirs_box(fixture, "INBOX"), &change, told_init(&told));
    maildirs_move(fixture, "cur/b:2,Fb", "cur/b:2,FRab"); /* before ours is in the Maildir */
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:1: 7:3:work"); /* \Seen, \Answered; without \Flagged, home */
    assert_true(maildirs_has(fixture, "cur/b:2,RSa"));
}

static void flags_and_expunges_are_written_and_keywords_get_letters(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_flag(fixture, "INBOX", 3, MAILSTORE_DELETED, "third");
    maildirs_expunge(fixture, "INBOX", 7);
    mailstore_rig_settle(&fixture->rig);
    assert_true(maildirs_has(fixture, "cur/a:2,STc"));
    assert_false(maildirs_has(fixture, "cur/b*"));
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:9:third");
}

static void what_a_crash_came_before_is_written_by_the_next_start(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    fixture->rig.store->rests = true; /* nothing is written by itself */
    const struct mailstore_uids three = {3, 3}, seven = {7, 7};
    struct mailstore_flags flags = {.uids = &three,
                                    .uid_count = 1,
                                    .op = MAILSTORE_ADD,
                                    .flags = MAILSTORE_FLAGGED,
                                    .unchanged_since = MAILSTORE_ALWAYS};
    struct mailstore_expunge expunge = {.uids = &seven, .uid_count = 1};
    struct told one, other;
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    mailstore_flags(fixture->rig.store, box, &flags, told_init(&one));
    mailstore_expunge(fixture->rig.store, box, &expunge, told_init(&other));
    while (!one.done || !other.done) { /* the log's part of a round alone */
        fixture->rig.rig.now_ns += 1000000;
        fixture->rig.rig.disk->ops->reap(fixture->rig.rig.disk);
        log_round(fixture->rig.rig.log, fixture->rig.rig.now_ns);
        log_flush(fixture->rig.rig.log);
        fixture->rig.rig.disk->ops->submit(fixture->rig.rig.disk);
    }
    assert_true(maildirs_has(fixture, "cur/b:2,Fb"));
    maildirs_start_again(fixture, mailstore_rig_crash);
    assert_box(fixture, "INBOX", "3:5:");
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "3:5:");
    assert_true(maildirs_has(fixture, "cur/a:2,FS"));
    assert_false(maildirs_has(fixture, "cur/b*"));
}

/* What is appended, as it lies in the file, and as it is read again. */
static void a_message_becomes_a_file_with_plain_line_ends(void **state)
{
    static const struct {
        const char *text, *file, *read;
    } rows[] = {
        {"S: 1\r\n\r\na\r\n", "S: 1\n\na\n", "S: 1\r\n\r\na\r\n"},
        {"no end", "no end", "no end"},
        {"lone\nlf", "lone\nlf", "lone\r\nlf"},
        {"lone\rcr\r", "lone\rcr\r", "lone\rcr\r"},
        {"two\r\r\nof them", "two\r\r\nof them", "two\r\r\nof them"},
        {"\r\n\n\r\n", "\n\n\n", "\r\n\r\n\r\n"},
    };
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char pattern[128], path[512], got[64] = "";
        struct mailstore_place place = maildirs_append(fixture, "INBOX", slice_text(rows[i].text));
        assert_int_equal(place.uid, 9 + i);
        assert_int_equal(place.uidvalidity, 1234567);
        snprintf(pattern, sizeof pattern, "cur/*,S=%zu,W=%zu:2,S", strlen(rows[i].file),
                 strlen(rows[i].read));
        glob_t found;
        maildirs_path(fixture, pattern, path);
        assert_int_equal(glob(path, 0, NULL, &found), 0);
        FILE *file = fopen(found.gl_pathv[found.gl_pathc - 1], "r");
        got[fread(got, 1, sizeof got - 1, file)] = 0;
        fclose(file);
        struct stat facts;
        assert_int_equal(stat(found.gl_pathv[found.gl_pathc - 1], &facts), 0);
        assert_int_equal(facts.st_mtime, 1000000000);
        globfree(&found);
        assert_string_equal(got, rows[i].file);
        assert_text(fixture, "INBOX", place.uid, rows[i].read);
    }
}

static void copies_share_their_file_and_a_move_leaves_nothing(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".To");
    maildirs_look(fixture);
    const struct mailstore_uids all = {1, 100};
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    for (int moves = 0; moves < 2; moves++) {
        struct mailstore_copy copy = {.uids = &all, .uid_count = 1, .mailbox = slice_text("To")};
        struct told told;
        assert_int_equal(mailstore_box_open(fixture->rig.store, box), 0);
        int status = moves ? mailstore_move(fixture->rig.store, box, &copy, told_init(&told))
                           : mailstore_copy(fixture->rig.store, box, &copy, told_init(&told));
        mailstore_box_close(fixture->rig.store, box);
        assert_int_equal(status, 0);
        assert_int_equal(told_wait(&fixture->rig, &told), 0);
        assert_int_equal(copy.source_count, 2);
        assert_int_equal(copy.target_first, 1 + 2 * moves);
        assert_int_equal(copy.target_last, 2 + 2 * moves);
        free(copy.sources);
    }
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "");
    assert_box(fixture, "To", "1:1: 2:4:home 3:1: 4:4:home");
    assert_text(fixture, "To", 4, "B\r\n\r\nyy\r\n");
    assert_false(maildirs_has(fixture, "cur/*"));
}

static void a_message_that_is_read_keeps_its_file_until_then(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    maildirs_inbox(fixture);
    struct mailstore_box *box = maildirs_box(fixture, "INBOX");
    struct mailstore_text text = {0};
    assert_int_equal(mailstore_box_open(store, box), 0);
    assert_int_equal(mailstore_text_open(store, mailstore_entry_find(box, 3)->text, &text), 0);
    mailstore_box_close(store, box);
    maildirs_expunge(fixture, "INBOX", 3);
    maildirs_look(fixture);
    assert_box(fixture, "INBOX", "7:4:home");
    assert_true(maildirs_has(fixture, "cur/a:2,S"));
    mailstore_text_close(store, &text);
    maildirs_look(fixture);
    assert_false(maildirs_has(fixture, "cur/a*"));
    assert_box(fixture, "INBOX", "7:4:home");
}

static void what_a_maildir_cannot_do_is_refused(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    struct told told;
    maildirs_inbox(fixture);
    struct mailstore_create create = {.mailbox = slice_text("a.b")};
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)),
                     -EINVAL);
    struct mailstore_box *inbox = maildirs_box(fixture, "INBOX");
    assert_int_equal(mailstore_box_delete(store, inbox, told_init(&told)), -EOPNOTSUPP);
    create.mailbox = slice_text("Here");
    maildirs_put(fixture, ".Here", "a file");
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)), 0);
    assert_true(told_wait(&fixture->rig, &told) < 0);
    assert_null(maildirs_box(fixture, "Here"));
}

static void mailboxes_are_made_renamed_subscribed_and_deleted_there(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    struct told told;
    maildirs_inbox(fixture);
    struct mailstore_create create = {
        .mailbox = slice_text("One"), .subscribe = true, .special_use = 4};
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_int_equal(create.uidvalidity, maildirs_box(fixture, "One")->uidvalidity);
    assert_int_equal(maildirs_box(fixture, "One")->special_use, 4);
    assert_true(maildirs_has(fixture, ".One/cur"));
    uint64_t id = maildirs_box(fixture, "One")->id;
    assert_int_equal(mailstore_box_rename(store, maildirs_box(fixture, "One"), slice_text("Two/a"),
                                          told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    maildirs_look(fixture);
    assert_int_equal(maildirs_box(fixture, "Two/a")->id, id);
    assert_true(maildirs_has(fixture, ".Two.a/cur"));
    assert_true(mailstore_is_subscribed(fixture->user, slice_text("One")));
    assert_int_equal(mailstore_box_delete(store, maildirs_box(fixture, "Two/a"), told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    maildirs_look(fixture);
    assert_null(maildirs_box(fixture, "Two/a"));
    assert_false(maildirs_has(fixture, ".*wo*"));
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_int_equal(mailstore_box_create(store, fixture->user, &create, told_init(&told)),
                     -EEXIST);
}

static void inbox_renamed_is_empty_and_its_messages_are_in_the_new_mailbox(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    struct told told;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".INBOX.Below");
    maildirs_look(fixture);
    struct mailstore_box *inbox = maildirs_box(fixture, "INBOX");
    uint64_t id = inbox->id;
    const struct mailstore_property comment = {
        .box = inbox, .key = slice_text("comment"), .value = slice_text("mine")};
    assert_int_equal(mailstore_property_set(store, fixture->user, &comment, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    maildirs_flag(fixture, "INBOX", 3, MAILSTORE_FLAGGED, "third");
    maildirs_put(fixture, "new/c", "C\n\nz\n"); /* comes meanwhile */
    assert_int_equal(mailstore_box_rename(store, inbox, slice_text("old/mail"), told_init(&told)),
                     0);
    assert_false(told.done);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_box(fixture, "old/mail", "1:5:third 2:4:home");
    assert_text(fixture, "old/mail", 2, "B\r\n\r\nyy\r\n");
    assert_box(fixture, "INBOX", "9:0:");
    assert_int_equal(maildirs_box(fixture, "INBOX")->id, id);
    assert_int_equal(maildirs_box(fixture, "INBOX")->uidvalidity, 1234567);
    assert_non_null(maildirs_box(fixture, "INBOX/Below"));
    assert_false(maildirs_has(fixture, "cur/[ab]*"));
    struct mailstore_property found = {.box = maildirs_box(fixture, "old/mail"),
                                       .key = slice_text("comment")};
    assert_int_equal(mailstore_property_get(store, fixture->user, &found), 0);
    assert_int_equal(found.value.size, 4);
    free((void *)(uintptr_t)found.value.bytes);
    assert_int_equal(mailstore_names_rename(store, fixture->user, slice_text("INBOX"),
                                            slice_text("old/mail"), told_init(&told)),
                     -EEXIST);
    maildirs_expunge(fixture, "INBOX", 9);
    assert_int_equal(mailstore_box_rename(store, maildirs_box(fixture, "INBOX"),
                                          slice_text("empty"), told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_box(fixture, "empty", "");
    mailstore_user_close(store, fixture->user);
    mailstore_rig_stop(&fixture->rig);
    mailstore_rig_forget_index(&fixture->rig);
    maildirs_user_open(fixture);
    maildirs_look(fixture);
    assert_box(fixture, "old/mail", "1:5:third 2:4:home");
    assert_box(fixture, "INBOX", "");
}

static int link_full(void *self, int from_at, const char *from, int to_at, const char *to)
{
    (void)self, (void)from_at, (void)from, (void)to_at, (void)to;
    return -ENOSPC;
}

static void inbox_whose_messages_find_no_room_elsewhere_stays_as_it_was(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct told told;
    struct maildir_files files = fixture->files;
    maildirs_inbox(fixture);
    fixture->files.link = link_full;
    assert_int_equal(mailstore_box_rename(fixture->rig.store, maildirs_box(fixture, "INBOX"),
                                          slice_text("old"), told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), -ENOSPC);
    fixture->files = files;
    maildirs_look(fixture);
    assert_null(maildirs_box(fixture, "old"));
    assert_false(maildirs_has(fixture, ".old"));
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
}

static struct maildirs_rig *filed_into; /* while INBOX is renamed */

static int link_full_and_filed(void *self, int from_at, const char *from, int to_at, const char *to)
{
    struct maildir_files files;
    if (strstr(to, ":2,") == NULL) { /* a lock */
        maildir_system_files(&files);
        return files.link(self, from_at, from, to_at, to);
    }
    maildirs_put(filed_into, ".old/new/x", "X\n\nx\n");
    return -ENOSPC;
}

static void what_is_filed_into_a_mailbox_that_inbox_could_not_be_renamed_to_stays(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct told told;
    struct maildir_files files = fixture->files;
    maildirs_inbox(fixture);
    filed_into = fixture;
    fixture->files.link = link_full_and_filed;
    assert_int_equal(mailstore_box_rename(fixture->rig.store, maildirs_box(fixture, "INBOX"),
                                          slice_text("old"), told_init(&told)),
                     0);
    assert_int_equal(told_wait(&fixture->rig, &told), -ENOSPC);
    fixture->files = files;
    maildirs_look(fixture);
    assert_box(fixture, "old", "1:0:");
    assert_text(fixture, "old", 1, "X\r\n\r\nx\r\n");
    assert_box(fixture, "INBOX", "3:1: 7:4:home");
}

static struct mailstore_draft *draft_of(struct maildirs_rig *fixture, const char *text)
{
    struct mailstore_draft *draft;
    const struct slice bytes = slice_text(text);
    assert_int_equal(mailstore_begin(fixture->rig.store, &draft), 0);
    assert_int_equal(mailstore_append(draft, &bytes, 1), 0);
    return draft;
}

/* Asked for in one round: what was asked for first is done first, and the other finds it there. */
static void two_at_the_edge_of_a_quota_do_not_both_succeed(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    maildirs_inbox(fixture);
    struct mailstore_box *inbox = maildirs_box(fixture, "INBOX");
    const struct mailstore_uids three = {3, 3};
    struct mailstore_place places[2];
    struct mailstore_copy copy = {
        .uids = &three, .uid_count = 1, .mailbox = slice_text("INBOX"), .quota_messages = 3};
    struct told told[3];
    for (unsigned i = 0; i < 2; i++) {
        places[i] = (struct mailstore_place){
            .user = slice_text("ann"), .mailbox = slice_text("INBOX"), .quota_messages = 3};
        struct mailstore_draft *draft = draft_of(fixture, "M\r\n");
        assert_int_equal(mailstore_commit(draft, 0, &places[i], 1, told_init(&told[i])), 0);
    }
    assert_int_equal(fixture->user->coming.messages, 2);
    assert_int_equal(mailstore_box_open(store, inbox), 0);
    assert_int_equal(mailstore_copy(store, inbox, &copy, told_init(&told[2])), 0);
    mailstore_box_close(store, inbox);
    assert_int_equal(told_wait(&fixture->rig, &told[0]), 0);
    assert_int_equal(told_wait(&fixture->rig, &told[1]), 0);
    assert_int_equal(told_wait(&fixture->rig, &told[2]), -EDQUOT);
    assert_int_equal(places[0].status, 0);
    assert_int_equal(places[1].status, -EDQUOT);
    assert_int_equal(fixture->user->totals.messages, 3);
    assert_int_equal(fixture->user->coming.messages, 0);
    assert_int_equal(fixture->user->coming.bytes, 0);
    free(copy.sources);
    struct mailstore_draft *draft = draft_of(fixture, "M\r\n");
    assert_int_equal(mailstore_commit(draft, 0, &places[0], 1, told_init(&told[0])), -EDQUOT);
    mailstore_rig_settle(&fixture->rig);
    maildirs_look(fixture);
    assert_int_equal(fixture->user->totals.messages, 3);
}

/* What has become of one more message, where so many are allowed. */
static int appended(struct maildirs_rig *fixture, uint64_t quota_messages)
{
    struct told told;
    struct mailstore_place place = {.user = slice_text("ann"),
                                    .mailbox = slice_text("INBOX"),
                                    .quota_bytes = 1000,
                                    .quota_messages = quota_messages};
    struct mailstore_draft *draft = draft_of(fixture, "M\r\n");
    assert_int_equal(mailstore_commit(draft, 0, &place, 1, told_init(&told)), 0);
    assert_int_equal(told_wait(&fixture->rig, &told), 0);
    assert_int_equal(fixture->user->coming.bytes, fixture->user->coming.messages * 3);
    return place.status;
}

static int copied(struct maildirs_rig *fixture, uint32_t uid, uint64_t quota_messages)
{
    struct mailstore *store = fixture->rig.store;
    struct mailstore_box *inbox = maildirs_box(fixture, "INBOX");
    const struct mailstore_uids uids = {uid, uid};
    struct mailstore_copy copy = {.uids = &uids,
                                  .uid_count = 1,
                                  .mailbox = slice_text("INBOX"),
                                  .quota_messages = quota_messages};
    struct told told;
    assert_int_equal(mailstore_box_open(store, inbox), 0);
    int status = mailstore_copy(store, inbox, &copy, told_init(&told));
    mailstore_box_close(store, inbox);
    status = status == 0 ? told_wait(&fixture->rig, &told) : status;
    free(copy.sources);
    return status;
}

/* One comes past the store. */
static void comes(struct maildirs_rig *fixture)
{
    assert_int_equal(mailstore_comes(fixture->rig.store, fixture->user, 3), 0);
}

static void came(struct maildirs_rig *fixture, const char *name)
{
    if (name != NULL) {
        maildirs_put(fixture, name, "M\n");
    }
    mailstore_came(fixture->rig.store, slice_text("ann"), 3, name != NULL);
}

static void what_is_delivered_and_not_found_yet_counts_for_what_is_appended_and_copied(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture); /* two */
    maildirs_look(fixture);
    comes(fixture);
    assert_int_equal(appended(fixture, 3), -EDQUOT);
    assert_int_equal(copied(fixture, 3, 3), -EDQUOT);
    assert_int_equal(appended(fixture, 4), 0);
    came(fixture, "new/5.c.x");
    assert_int_equal(appended(fixture, 4), -EDQUOT);
    assert_int_equal(fixture->user->totals.messages, 4);
    assert_int_equal(fixture->user->coming.messages, 0);
    comes(fixture);
    came(fixture, NULL); /* it was refused */
    assert_int_equal(copied(fixture, 3, 5), 0);
    assert_int_equal(fixture->user->totals.messages, 5);
    assert_int_equal(fixture->user->coming.bytes, 0);
}

static void the_last_room_is_not_refused_to_who_appends_for_what_is_counted_twice(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    comes(fixture);
    maildirs_put(fixture, "new/5.c.x", "M\n");
    maildirs_look(fixture);
    mailstore_came(fixture->rig.store, slice_text("ann"), 3, true);
    assert_int_equal(fixture->user->totals.messages, 3);
    assert_int_equal(fixture->user->coming.messages, 1);
    assert_int_equal(appended(fixture, 4), 0);
    assert_int_equal(fixture->user->totals.messages, 4);
    assert_int_equal(fixture->user->coming.messages, 0);
}

static unsigned lists_failed;

static int list_failing(void *self, int folder, void (*visit)(void *owner, const char *name),
                        void *owner)
{
    (void)self, (void)folder, (void)visit, (void)owner;
    lists_failed++;
    return -EIO;
}

static void who_cannot_be_looked_at_is_refused_by_what_is_known(void **state)
{
    struct maildirs_rig *fixture = *state;
    const struct maildir_files whole = fixture->files;
    maildirs_inbox(fixture);
    maildirs_look(fixture);
    comes(fixture);
    came(fixture, "new/5.c.x");
    fixture->files.list = list_failing;
    lists_failed = 0;
    assert_int_equal(appended(fixture, 3), -EDQUOT);
    assert_int_equal(lists_failed, 1);
    assert_int_equal(fixture->user->totals.messages, 2);
    fixture->files = whole;
    assert_int_equal(appended(fixture, 3), -EDQUOT);
    assert_int_equal(fixture->user->totals.messages, 3);
    assert_int_equal(appended(fixture, 4), 0);
}

static void what_comes_goes_into_the_folder_that_has_the_name_now(void **state)
{
    struct maildirs_rig *fixture = *state;
    maildirs_inbox(fixture);
    maildirs_folder(fixture, ".To");
    maildirs_look(fixture);
    maildirs_move(fixture, ".To", "..removed");
    maildirs_folder(fixture, ".To");
    struct mailstore_place place = maildirs_append(fixture, "To", slice_text("M\r\n"));
    assert_true(maildirs_has(fixture, ".To/cur/*"));
    assert_int_equal(place.uidvalidity, maildirs_box(fixture, "To")->uidvalidity);
    assert_text(fixture, "To", place.uid, "M\r\n");
}

static void what_comes_past_the_store_is_counted_until_a_look_has_found_it(void **state)
{
    struct maildirs_rig *fixture = *state;
    struct mailstore *store = fixture->rig.store;
    const struct mailstore_totals *coming = &fixture->user->coming;
    struct slice ann = slice_text("ann");
    assert_int_equal(mailstore_comes(store, fixture->user, 10), 0);
    maildirs_look(fixture);
    assert_int_equal(coming->messages, 1); /* it is not there yet */
    mailstore_came(store, ann, 10, false);
    assert_int_equal(coming->messages + coming->bytes, 0);
    assert_int_equal(mailstore_comes(store, fixture->user, 10), 0);
    mailstore_came(store, ann, 10, true);
    assert_int_equal(coming->bytes, 10);
    maildirs_look(fixture);
    assert_int_equal(coming->messages + coming->bytes, 0);
    assert_int_equal(mailstore_comes(store, fixture->user, 10), 0);
    assert_int_equal(mailstore_comes(store, fixture->user, 10), 0);
    mailstore_came(store, ann, 10, true);
    mailstore_user_close(store, fixture->user); /* nobody looks any more */
    for (unsigned i = 0; i < 2; i++) {
        fixture->rig.wall_s += 100;
        mailstore_rig_settle(&fixture->rig);
        assert_int_equal(mailstore_user_open(store, ann, &fixture->user), 0);
        assert_int_equal(fixture->user->coming.messages, i == 0 ? 2 : 0);
        mailstore_user_close(store, fixture->user);
        if (i == 0) {
            mailstore_came(store, ann, 10, true);
        }
    }
    assert_int_equal(mailstore_user_open(store, ann, &fixture->user), 0);
}

int main(void)
{
#define CASE(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, maildirs_set_up, maildirs_tear_down),                    \
    {                                                                                              \
#name "_with_many_users", name, maildirs_set_up_crowded, maildirs_tear_down, NULL          \
    }
    const struct CMUnitTest tests[] = {
        CASE(flags_that_both_have_changed_are_merged),
        CASE(flags_and_expunges_are_written_and_keywords_get_letters),
        CASE(what_a_crash_came_before_is_written_by_the_next_start),
        CASE(a_message_becomes_a_file_with_plain_line_ends),
        CASE(copies_share_their_file_and_a_move_leaves_nothing),
        CASE(a_message_that_is_read_keeps_its_file_until_then),
        CASE(what_a_maildir_cannot_do_is_refused),
        CASE(inbox_renamed_is_empty_and_its_messages_are_in_the_new_mailbox),
        CASE(inbox_whose_messages_find_no_room_elsewhere_stays_as_it_was),
        CASE(what_is_filed_into_a_mailbox_that_inbox_could_not_be_renamed_to_stays),
        CASE(two_at_the_edge_of_a_quota_do_not_both_succeed),
        CASE(what_is_delivered_and_not_found_yet_counts_for_what_is_appended_and_copied),
        CASE(the_last_room_is_not_refused_to_who_appends_for_what_is_counted_twice),
        CASE(who_cannot_be_looked_at_is_refused_by_what_is_known),
        CASE(what_comes_past_the_store_is_counted_until_a_look_has_found_it),
        CASE(what_comes_goes_into_the_folder_that_has_the_name_now),
        CASE(mailboxes_are_made_renamed_subscribed_and_deleted_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
