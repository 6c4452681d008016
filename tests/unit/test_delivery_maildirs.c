/* delivery_files: what deliveries leave in Maildirs, and what is answered when they cannot. */
#include "tests/unit/delivery_rig.h"
#include "engine/core/check.h"
#include "queue/mailbox/maildir.h"
#include "queue/mailbox/mailstore_files.h"
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

#define TROUBLE "451 4.3.0 The message could not be stored, try again later\r\n"
#define FULL "452 4.2.2 Mailbox is full\r\n"
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, delivery_set_up_maildirs, delivery_tear_down)

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
struct op *__real_op_new(struct user *user, enum op_kind kind, struct mailstore_waiter *waiter,
                         void *result);
struct op *__wrap_op_new(struct user *user, enum op_kind kind, struct mailstore_waiter *waiter,
                         void *result);
int __real_home_open(struct home **home, const struct maildir_owner *owner, const char *path,
                     const char *user);
int __wrap_home_open(struct home **home, const struct maildir_owner *owner, const char *path,
                     const char *user);

static long until_failure = -1; /* allocations that still succeed; negative: all do */
static bool puts_fail, homes_fail;

void *__wrap_calloc(size_t count, size_t size)
{
    bool fails = until_failure >= 0 && until_failure-- == 0;
    return fails ? NULL : __real_calloc(count, size);
}

struct op *__wrap_op_new(struct user *user, enum op_kind kind, struct mailstore_waiter *waiter,
                         void *result)
{
    bool fails = puts_fail && kind == OP_PUT;
    return fails ? NULL : __real_op_new(user, kind, waiter, result);
}

int __wrap_home_open(struct home **home, const struct maildir_owner *owner, const char *path,
                     const char *user)
{
    return homes_fail ? -ENOMEM : __real_home_open(home, owner, path, user);
}

/* How many files have such a name; *one: the last of them. */
static size_t files_of(const char *pattern, char one[512])
{
    char path[512];
    glob_t found;
    snprintf(path, sizeof path, "%s/%s", lmtp_maildirs(), pattern);
    size_t count = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    if (count > 0) {
        snprintf(one, 512, "%s", found.gl_pathv[count - 1]);
    }
    globfree(&found);
    return count;
}

static size_t count_of(const char *pattern)
{
    char one[512];
    return files_of(pattern, one);
}

static void file_make(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", lmtp_maildirs(), name);
    FILE *file = fopen(path, "wx");
    check(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void folder_make(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", lmtp_maildirs(), name);
    check(mkdir(path, 0700) == 0);
}

static void maildir_make(const char *name)
{
    static const char *const parts[] = {"", "/cur", "/new", "/tmp"};
    char part[300];
    for (unsigned i = 0; i < 4; i++) {
        snprintf(part, sizeof part, "%s%s", name, parts[i]);
        folder_make(part);
    }
}

static uint64_t sent_straight(void)
{
    struct maildir_counters counters;
    maildir_read_counters(lmtp_rig.mailbox.store, &counters);
    return counters.messages;
}

static void who_has_neither_script_nor_detail_is_delivered_to_straight(void **state)
{
    (void)state;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_int_equal(sent_straight(), 1);
    lmtp_script_set("bob", "keep;");
    assert_string_equal(lmtp_deliver_to("RCPT TO:<bob@y>\r\n", MESSAGE), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+x@y>\r\n", MESSAGE), STORED);
    assert_int_equal(sent_straight(), 1);
    assert_int_equal(count_of("ann/new/*"), 2);
    assert_int_equal(count_of("bob/new/*"), 1);
    assert_int_equal(count_of(".tubepost/tmp/*"), 0);
}

static void a_detail_is_a_folder_that_anybody_has_made(void **state)
{
    (void)state;
    maildir_make("ann");
    maildir_make("ann/.Lists.c");
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+Lists/c@y>\r\n", MESSAGE), STORED);
    assert_int_equal(count_of("ann/.Lists.c/new/*"), 1);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+Lists@y>\r\n", MESSAGE), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+Lists.c@y>\r\n", MESSAGE), STORED);
    assert_int_equal(count_of("ann/new/*"), 2);
    assert_int_equal(count_of("ann/.Lists*"), 1);
    assert_string_equal(lmtp_held("ann"), "INBOX () () Lists/c ()");
}

static void a_folder_that_is_a_link_or_no_maildir_is_not_delivered_into(void **state)
{
    char path[512];
    (void)state;
    maildir_make("ann");
    maildir_make("elsewhere");
    folder_make("ann/.Bare");
    snprintf(path, sizeof path, "%s/ann/.Link", lmtp_maildirs());
    check(symlink("../elsewhere", path) == 0);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+Link@y>\r\n", MESSAGE), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+Bare@y>\r\n", MESSAGE), STORED);
    assert_int_equal(count_of("ann/new/*"), 2);
    assert_int_equal(count_of("elsewhere/new/*") + count_of("ann/.Bare/*"), 0);
}

static void flags_are_letters_of_names_and_keywords_are_in_the_folders_list(void **state)
{
    char name[512], path[512], text[64] = "";
    (void)state;
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\",\"imap4flags\"];"
                           "addflag [\"\\\\Seen\", \"\\\\Flagged\", \"work\"];"
                           "fileinto :create \"There\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_int_equal(files_of("ann/.There/cur/*:2,FSa", name), 1);
    snprintf(path, sizeof path, "%s/ann/.There/dovecot-keywords", lmtp_maildirs());
    int file = open(path, O_RDONLY);
    assert_true(read(file, text, sizeof text - 1) > 0);
    close(file);
    assert_string_equal(text, "0 work\n");
    struct stat found;
    assert_int_equal(stat(name, &found), 0);
    char sizes[64];
    snprintf(sizes, sizeof sizes, ",S=%lld,W=", (long long)found.st_size);
    assert_non_null(strstr(name, sizes));
    assert_string_equal(lmtp_held("ann"), "There (SF work)");
}

static void what_a_script_files_does_not_exist_twice_on_the_disk(void **state)
{
    char name[512];
    struct stat found;
    (void)state;
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\",\"copy\"];"
                           "fileinto :create :copy \"There\";");
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\n", MESSAGE),
                        STORED STORED);
    assert_int_equal(files_of("ann/.There/new/*", name), 1);
    assert_int_equal(stat(name, &found), 0);
    assert_int_equal(found.st_nlink, 3);
    assert_int_equal(count_of("ann/new/*"), 1);
    assert_int_equal(count_of("bob/new/*"), 1);
}

static void a_mailbox_that_is_created_keeps_its_uidvalidity_when_it_is_seen(void **state)
{
    char path[512], text[128] = "", expected[64];
    (void)state;
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\"]; fileinto :create \"Made/here\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    snprintf(path, sizeof path, "%s/ann/.Made.here/dovecot-uidlist", lmtp_maildirs());
    int file = open(path, O_RDONLY);
    assert_true(read(file, text, sizeof text - 1) > 0);
    close(file);
    assert_string_equal(lmtp_held("ann"), "Made/here ()");
    struct mailstore_user *user;
    check(mailstore_user_open(lmtp_rig.store.store, slice_text("ann"), &user) == 0);
    const struct mailstore_box *box = mailstore_box_find(user, slice_text("Made/here"));
    snprintf(expected, sizeof expected, "3 V%u N1 ", box->uidvalidity);
    assert_memory_equal(text, expected, strlen(expected));
    mailstore_user_close(lmtp_rig.store.store, user);
}

static void a_name_that_no_folder_can_have_keeps_the_message(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\"]; fileinto :create \"a.b\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_non_null(strstr(lmtp_logged(), "no mailbox can have the name"));
}

static void a_script_that_asks_for_mailboxes_sees_what_others_have_made(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\"];"
                           "if mailboxexists \"Theirs\" { fileinto \"Theirs\"; }");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    maildir_make("ann/.Theirs");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX () Theirs ()");
}

static void a_quota_counts_what_others_have_put_there(void **state)
{
    (void)state;
    lmtp_script_set("ann", "keep;");
    lmtp_rig.conf->users.quota_bytes = 2000;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    static char large[2001];
    memset(large, 'x', sizeof large - 1);
    file_make("ann/cur/1.x:2,", large);
    assert_string_equal(lmtp_deliver(MESSAGE), FULL);
    lmtp_rig.conf->users.quota_bytes = 0;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
}

static void a_quota_counts_each_place_of_a_message(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\",\"copy\"];"
                           "fileinto :create :copy \"A\"; fileinto :create \"B\"; keep;");
    lmtp_rig.conf->users.quota_messages = 2;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX () A ()");
    assert_string_equal(lmtp_deliver(MESSAGE), FULL);
}

/* ---- Locks ---- */

static void time_passes(void *self, uint64_t duration_ns)
{
    (void)self;
    lmtp_rig.store.rig.now_ns += duration_ns;
    lmtp_rig.store.wall_s += duration_ns / 1000000000 + 1;
}

static bool everybody_lives(void *self, uint32_t process_id)
{
    (void)self, (void)process_id;
    return true;
}

static void a_lock_of_another_is_waited_for_by_a_keyword_without_a_letter_alone(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require \"imap4flags\"; addflag \"known\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    file_make("ann/dovecot-uidlist.lock", "5:host.test");
    lmtp_files()->pause = time_passes;
    lmtp_files()->process_lives = everybody_lives;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    lmtp_script_set("ann", "require \"imap4flags\"; addflag \"\\\\Seen\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    lmtp_script_set("ann", "require \"imap4flags\"; addflag \"another\";");
    assert_string_equal(lmtp_deliver(MESSAGE), TROUBLE);
    assert_int_equal(count_of("ann/cur/*"), 3);
    char path[512];
    assert_int_equal(files_of("ann/dovecot-uidlist.lock", path), 1);
    unlink(path);
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ( known) ( known) (S) ( another)");
}

/* ---- What goes wrong ---- */

static struct maildir_files real;
static int syncs_until_failure; /* of Maildirs' files and folders */

static int sync_failing(void *self, int number)
{
    return syncs_until_failure-- == 0 ? -EIO : real.sync(self, number);
}

static void what_could_not_be_synced_is_refused_and_is_not_there(void **state)
{
    (void)state;
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\",\"imap4flags\"];"
                           "fileinto :create :flags \"\\\\Seen\" \"There\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    maildir_system_files(&real);
    lmtp_files()->sync = sync_failing;
    for (int i = 0; i < 2; i++) { /* the file; the folder */
        syncs_until_failure = i;
        assert_string_equal(lmtp_deliver(MESSAGE), TROUBLE);
        assert_true(syncs_until_failure < 0);
        assert_int_equal(count_of("ann/.There/cur/*"), 1);
        assert_int_equal(count_of(".tubepost/tmp/*"), 0);
    }
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "There (S) (S)");
}

static void one_recipient_is_refused_and_the_others_have_it(void **state)
{
    (void)state;
    lmtp_script_set("ann", "keep;");
    file_make("bob", "no folder");
    assert_string_equal(
        lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\nRCPT TO:<zoe@y>\r\n", MESSAGE),
        STORED TROUBLE STORED);
    assert_int_equal(count_of("ann/new/*") + count_of("zoe/new/*"), 2);
    assert_int_equal(count_of(".tubepost/tmp/*"), 0);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status, (void)type, (void)at;
    return remove(path);
}

static int move_status;

static int no_rename(void *self, int from_at, const char *from, int to_at, const char *to)
{
    (void)self, (void)from_at, (void)from, (void)to_at, (void)to;
    return move_status;
}

/* Into tmp/ nothing is linked, and from there all can be. */
static int link_from_staging_fails(void *self, int from_at, const char *from, int to_at,
                                   const char *to)
{
    bool staged = strchr(from, '.') == NULL;
    return staged ? -EXDEV : real.link(self, from_at, from, to_at, to);
}

static void where_a_file_can_be_neither_renamed_nor_linked_its_bytes_are_copied(void **state)
{
    (void)state;
    lmtp_script_set("ann", "keep;");
    maildir_system_files(&real);
    move_status = -EINVAL;
    lmtp_files()->rename = no_rename;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    move_status = -EXDEV;
    lmtp_files()->link = link_from_staging_fails;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\n", MESSAGE),
                        STORED STORED);
    *lmtp_files() = real;
    assert_int_equal(count_of("ann/new/*"), 3);
    assert_int_equal(count_of("bob/new/*"), 1);
    assert_int_equal(count_of("*/tmp/*") + count_of(".tubepost/tmp/*"), 0);
    assert_string_equal(lmtp_held("ann"), "INBOX () () ()");
}

static int link_none(void *self, int from_at, const char *from, int to_at, const char *to)
{
    (void)self, (void)from_at, (void)from, (void)to_at, (void)to;
    return -EPERM;
}

static void where_nothing_can_be_linked_each_place_has_its_bytes(void **state)
{
    (void)state;
    lmtp_script_set("ann",
                    "require [\"fileinto\",\"mailbox\",\"copy\",\"imap4flags\"];"
                    "fileinto :create :copy \"A\"; fileinto :copy :flags \"\\\\Seen\" \"x\";");
    maildir_system_files(&real);
    lmtp_files()->link = link_none;
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\n", MESSAGE),
                        STORED STORED);
    *lmtp_files() = real;
    assert_int_equal(count_of("*/tmp/*") + count_of(".tubepost/tmp/*"), 0);
    assert_string_equal(lmtp_held("ann"), "INBOX () (S) A ()");
    assert_string_equal(lmtp_held("bob"), "INBOX ()");
}

static int rename_from_what_goes(void *self, int from_at, const char *from, int to_at,
                                 const char *to)
{
    char path[512], aside[512];
    snprintf(path, sizeof path, "%s/ann/.There/new", lmtp_maildirs());
    snprintf(aside, sizeof aside, "%s/ann/.There", lmtp_maildirs());
    if (strchr(from, '.') == NULL && rmdir(path) == 0) { /* a text, not a lock */
        assert_int_equal(nftw(aside, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    }
    return real.rename(self, from_at, from, to_at, to);
}

static void a_folder_that_goes_while_it_is_delivered_into_is_as_if_it_had_not_been(void **state)
{
    (void)state;
    maildir_system_files(&real);
    lmtp_deliver(MESSAGE);
    maildir_make("ann/.There");
    lmtp_files()->rename = rename_from_what_goes;
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+There@y>\r\n", MESSAGE), STORED);
    *lmtp_files() = real;
    assert_int_equal(count_of("ann/.There"), 0);
    assert_string_equal(lmtp_held("ann"), "INBOX () ()");
}

static void what_cannot_be_created_for_what_is_there_keeps_the_message(void **state)
{
    char path[512];
    (void)state;
    lmtp_deliver(MESSAGE);
    snprintf(path, sizeof path, "%s/ann/.Link", lmtp_maildirs());
    assert_int_equal(symlink("/tmp", path), 0);
    file_make("ann/.File", "");
    folder_make("ann/.Folder");
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\"]; fileinto :create \"Link\";"
                           "fileinto :create \"File\"; fileinto :create \"Folder\";");
    assert_string_equal(lmtp_deliver(MESSAGE), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX () () () ()");
}

static void locks_of_others_are_waited_for_once_in_a_delivery(void **state)
{
    static const char *const users[] = {"ann", "bob", "zoe"};
    char path[64];
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        lmtp_script_set(users[i], "require \"imap4flags\"; addflag \"word\";");
        maildir_make(users[i]);
        snprintf(path, sizeof path, "%s/dovecot-uidlist.lock", users[i]);
        file_make(path, "5:host.test");
    }
    lmtp_files()->pause = time_passes;
    lmtp_files()->process_lives = everybody_lives;
    uint64_t before_ns = lmtp_rig.store.rig.now_ns;
    assert_string_equal(
        lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\nRCPT TO:<zoe@y>\r\n", MESSAGE),
        TROUBLE TROUBLE TROUBLE);
    assert_in_range(lmtp_rig.store.rig.now_ns - before_ns, 5000000000u, 7000000000u);
}

/* ---- Without a session ---- */

static void nobody_is_told(struct delivery_text *text)
{
    (void)text;
    fail();
}

static void text_begin(struct delivery_text *text, const char *user, const char *detail)
{
    *text = (struct delivery_text){
        .mailbox = &lmtp_rig.mailbox, .room_came = nobody_is_told, .committed = nobody_is_told};
    text->recipients = calloc(1, sizeof text->recipients[0]);
    check(text->recipients != NULL && delivery_files.reserve(text, 1) == 0);
    text->recipient_count = 1;
    snprintf(text->recipients[0].user, sizeof text->recipients[0].user, "%s", user);
    snprintf(text->recipients[0].detail, sizeof text->recipients[0].detail, "%s", detail);
    assert_int_equal(delivery_files.begin(text), 0);
    assert_int_equal(delivery_files.append(text, slice_text(MESSAGE)), strlen(MESSAGE));
}

static void text_end(struct delivery_text *text)
{
    delivery_files.close(text);
    free(text->recipients);
    pop3_rig_run(&lmtp_rig);
    assert_int_equal(count_of(".tubepost/tmp/*"), 0);
}

static void who_is_closed_while_a_maildir_is_looked_at_delivers_nothing(void **state)
{
    struct delivery_text text;
    (void)state;
    lmtp_script_set("ann", "require \"mailbox\"; if mailboxexists \"x\" { discard; }");
    text_begin(&text, "ann", "");
    assert_int_equal(delivery_files.commit(&text), 0);
    assert_int_equal(text.looking, 1);
    text_end(&text);
    assert_int_equal(count_of("ann/new/*"), 0);
}

static void who_is_closed_behind_the_commit_is_not_told_and_it_is_stored(void **state)
{
    struct delivery_text text;
    (void)state;
    text_begin(&text, "ann", "x");
    assert_int_equal(delivery_files.commit(&text), 0);
    text_end(&text);
    assert_int_equal(count_of("ann/new/*"), 1);
}

static void what_is_aborted_leaves_nothing(void **state)
{
    struct delivery_text text;
    (void)state;
    text_begin(&text, "ann", "x");
    delivery_files.abort(&text);
    text_end(&text);
    assert_int_equal(count_of("ann/*"), 0);
}

#define TOLD 1000u

static void somebody_is_told(struct delivery_text *text)
{
    text->looking = TOLD; /* so that it is seen */
}

/* What the recipient is told, of a message that is filed and sent on. Allocations of the commit fail from this one on. */
static int status_without(long number)
{
    struct delivery_text text;
    text_begin(&text, "ann", "");
    text.committed = somebody_is_told;
    until_failure = number;
    int status = delivery_files.commit(&text);
    until_failure = until_failure < 0 ? -1 : -2;
    if (status == 0) {
        pop3_rig_run(&lmtp_rig);
        assert_int_equal(text.looking, TOLD);
    }
    status = text.recipients[0].status;
    text_end(&text);
    return status;
}

static void filing_and_sending_on(void)
{
    lmtp_script_set("ann", "require [\"fileinto\",\"mailbox\",\"copy\",\"imap4flags\"];"
                           "redirect :copy \"a@z\"; fileinto :create :flags \"work\" \"There\";");
}

static void
where_memory_is_short_at_the_commit_it_is_kept_or_nothing_is_stored_and_nothing_sent(void **state)
{
    (void)state;
    filing_and_sending_on();
    size_t kept = 0;
    long number = 0;
    until_failure = -1;
    for (; until_failure == -1; number++) {
        bool stored = status_without(number) == 0;
        bool filed = count_of("ann/.There/cur/*") == 1;
        kept += stored && !filed; /* as without a script */
        assert_int_equal(count_of("ann/new/*"), kept);
        assert_true(stored || !filed);
        assert_int_equal(lmtp_relay.messages, filed);
        assert_int_equal(lmtp_outgoing_left(), 0);
        assert_int_equal(filed, until_failure == -2);
    }
    assert_in_range(kept, 1, number - 2);
}

static void where_a_helper_has_no_memory_nothing_is_stored_and_nothing_sent(void **state)
{
    (void)state;
    filing_and_sending_on();
    homes_fail = true;
    assert_int_equal(status_without(-1), -ENOMEM);
    homes_fail = false;
    assert_int_equal(count_of("ann/*"), 0);
    assert_int_equal(lmtp_relay.messages, 0);
}

static void what_could_not_be_put_where_it_is_sent_from_comes_again(void **state)
{
    (void)state;
    filing_and_sending_on();
    puts_fail = true;
    assert_int_equal(status_without(-1), -ENOMEM);
    puts_fail = false;
    assert_int_equal(lmtp_relay.messages, 0);
    assert_int_equal(status_without(-1), 0);
    assert_int_equal(lmtp_relay.messages, 1);
    assert_int_equal(lmtp_outgoing_left(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_has_neither_script_nor_detail_is_delivered_to_straight),
        TEST(a_detail_is_a_folder_that_anybody_has_made),
        TEST(a_folder_that_is_a_link_or_no_maildir_is_not_delivered_into),
        TEST(flags_are_letters_of_names_and_keywords_are_in_the_folders_list),
        TEST(what_a_script_files_does_not_exist_twice_on_the_disk),
        TEST(a_mailbox_that_is_created_keeps_its_uidvalidity_when_it_is_seen),
        TEST(a_name_that_no_folder_can_have_keeps_the_message),
        TEST(a_script_that_asks_for_mailboxes_sees_what_others_have_made),
        TEST(a_quota_counts_what_others_have_put_there),
        TEST(a_quota_counts_each_place_of_a_message),
        TEST(a_lock_of_another_is_waited_for_by_a_keyword_without_a_letter_alone),
        TEST(what_could_not_be_synced_is_refused_and_is_not_there),
        TEST(one_recipient_is_refused_and_the_others_have_it),
        TEST(where_a_file_can_be_neither_renamed_nor_linked_its_bytes_are_copied),
        TEST(where_nothing_can_be_linked_each_place_has_its_bytes),
        TEST(a_folder_that_goes_while_it_is_delivered_into_is_as_if_it_had_not_been),
        TEST(what_cannot_be_created_for_what_is_there_keeps_the_message),
        TEST(locks_of_others_are_waited_for_once_in_a_delivery),
        TEST(who_is_closed_while_a_maildir_is_looked_at_delivers_nothing),
        TEST(who_is_closed_behind_the_commit_is_not_told_and_it_is_stored),
        TEST(what_is_aborted_leaves_nothing),
        TEST(where_memory_is_short_at_the_commit_it_is_kept_or_nothing_is_stored_and_nothing_sent),
        TEST(where_a_helper_has_no_memory_nothing_is_stored_and_nothing_sent),
        TEST(what_could_not_be_put_where_it_is_sent_from_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
