/* maildir_scan: a folder as it is, also while others change it. */
#include "queue/mailbox/maildir_scan.h"
#include "engine/core/check.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    char path[64];
    int at;
    struct maildir_files files, system;
    struct world world;
    struct maildir_owner owner;
    struct maildir_box box;
    int64_t wall_s;
    const char *hidden;     /* the next listing does not show it */
    unsigned hidden_count;  /* in so many listings */
    unsigned syncs_to_fail; /* from the next on */
    void (*visit)(void *owner, const char *name);
    void *visit_owner;
};

static uint64_t now_ns(void *self)
{
    (void)self;
    return 1;
}

static int64_t wall_s(void *self)
{
    return ((struct fixture *)self)->wall_s;
}

static void no_random(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 0xab, count);
}

static void visit_shown(void *owner, const char *name)
{
    struct fixture *fixture = owner;
    if (fixture->hidden != NULL && fixture->hidden_count > 0 &&
        strncmp(name, fixture->hidden, strlen(fixture->hidden)) == 0) {
        fixture->hidden_count--;
        return;
    }
    fixture->visit(fixture->visit_owner, name);
}

static int list_hiding(void *self, int folder, void (*visit)(void *owner, const char *name),
                       void *owner)
{
    struct fixture *fixture = self;
    fixture->visit = visit;
    fixture->visit_owner = owner;
    return fixture->system.list(NULL, folder, visit_shown, fixture);
}

static int sync_failing(void *self, int number)
{
    struct fixture *fixture = self;
    if (fixture->syncs_to_fail > 0) {
        fixture->syncs_to_fail--;
        return -EIO;
    }
    return fixture->system.sync(NULL, number);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    check(fixture != NULL);
    strcpy(fixture->path, "/tmp/scan-test-XXXXXX");
    check(mkdtemp(fixture->path) != NULL);
    fixture->at = open(fixture->path, O_RDONLY | O_DIRECTORY);
    fixture->wall_s = 2000000000;
    maildir_system_files(&fixture->system);
    fixture->files = fixture->system;
    fixture->files.self = fixture;
    fixture->files.list = list_hiding;
    fixture->files.sync = sync_failing;
    fixture->world = (struct world){now_ns, wall_s, no_random, fixture};
    fixture->owner =
        (struct maildir_owner){&fixture->files, &fixture->world, "host.test", 77, 1, NULL};
    *state = fixture;
    return maildir_box_open(&fixture->box, &fixture->owner, fixture->at, ".");
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status;
    (void)type;
    (void)at;
    return remove(path);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    maildir_box_close(&fixture->box);
    close(fixture->at);
    nftw(fixture->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

static void put(struct fixture *fixture, const char *name, const char *text)
{
    int file = openat(fixture->at, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    check(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
}

static void move(struct fixture *fixture, const char *from, const char *to)
{
    check(renameat(fixture->at, from, fixture->at, to) == 0);
}

/* As "UID:FILE UID:FILE ...". */
static void assert_messages(struct fixture *fixture, const char *expected)
{
    char text[1024] = "";
    size_t used = 0;
    for (size_t i = 0; i < fixture->box.list.count; i++) {
        const struct maildir_uid *uid = &fixture->box.list.uids[i];
        if (uid->presence == MAILDIR_PRESENT) {
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s%u:%s%s", used > 0 ? " " : "",
                                 uid->uid, uid->in_new ? "new/" : "", uid->file);
            assert_int_equal(
                faccessat(uid->in_new ? fixture->box.new_folder : fixture->box.cur_folder,
                          uid->file, F_OK, 0),
                0);
        }
    }
    assert_string_equal(text, expected);
}

static void scan(struct fixture *fixture)
{
    assert_int_equal(maildir_box_scan(&fixture->box), 0);
    assert_int_equal(faccessat(fixture->at, MAILDIR_UIDLIST ".lock", F_OK, 0), -1);
}

static void new_mail_moves_to_cur_and_gets_uids_in_the_order_of_its_times(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "new/12.M1P1.h", "x\n");
    put(fixture, "cur/9.M1P1.h:2,S", "x\n");
    put(fixture, "new/11.M2P1.h", "x\n");
    scan(fixture);
    assert_messages(fixture, "1:9.M1P1.h:2,S 2:11.M2P1.h:2, 3:12.M1P1.h:2,");
    assert_int_equal(fixture->box.list.uidvalidity, 2000000000);
    scan(fixture);
    assert_messages(fixture, "1:9.M1P1.h:2,S 2:11.M2P1.h:2, 3:12.M1P1.h:2,");
}

static void a_second_server_sees_the_same_uids(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "new/12.M1P1.h", "x\n");
    scan(fixture);
    struct maildir_box other;
    assert_int_equal(maildir_box_open(&other, &fixture->owner, fixture->at, "."), 0);
    put(fixture, "new/13.M1P1.h", "x\n");
    assert_int_equal(maildir_box_scan(&other), 0);
    assert_int_equal(other.list.uidvalidity, fixture->box.list.uidvalidity);
    assert_int_equal(other.list.uids[1].uid, 2);
    maildir_box_close(&other);
    scan(fixture);
    assert_messages(fixture, "1:12.M1P1.h:2, 2:13.M1P1.h:2,");
}

static void what_one_listing_misses_is_not_gone(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "cur/1.h:2,", "x\n");
    put(fixture, "cur/2.h:2,", "x\n");
    scan(fixture);
    move(fixture, "cur/1.h:2,", "cur/1.h:2,S");
    fixture->hidden = "1.h";
    fixture->hidden_count = 1;
    scan(fixture);
    assert_int_equal(fixture->hidden_count, 0);
    assert_messages(fixture, "1:1.h:2,S 2:2.h:2,");
}

static void what_was_gone_and_comes_back_is_a_new_message(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "cur/1.h,S=2:2,S", "x\n");
    put(fixture, "cur/2.h:2,", "x\n");
    put(fixture, "cur/3.h:2,", "x\n");
    put(fixture, "cur/4.h:2,", "x\n");
    put(fixture, "cur/5.h:2,", "x\n");
    scan(fixture);
    move(fixture, "cur/1.h,S=2:2,S", "saved");
    scan(fixture);
    assert_messages(fixture, "2:2.h:2, 3:3.h:2, 4:4.h:2, 5:5.h:2,");
    move(fixture, "saved", "cur/1.h,S=2:2,S");
    scan(fixture);
    assert_messages(
        fixture, "2:2.h:2, 3:3.h:2, 4:4.h:2, 5:5.h:2, 6:2000000000.M000000P77.host.test,S=2:2,S");
}

static void two_messages_of_one_base_are_told_apart(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "cur/1.h:2,", "one\n");
    scan(fixture);
    put(fixture, "cur/1.h:2,S", "other\n");
    scan(fixture);
    assert_int_equal(fixture->box.renamed, 1);
    assert_int_equal(fixture->box.list.count, 2);
    assert_int_equal(fixture->box.list.uids[1].uid, 2);
    struct maildir_message one, other;
    assert_int_equal(maildir_box_message(&fixture->box, &fixture->box.list.uids[0], &one), 0);
    assert_int_equal(maildir_box_message(&fixture->box, &fixture->box.list.uids[1], &other), 0);
    assert_int_equal(one.bytes + other.bytes, 10);
}

static void two_links_to_one_message_become_one_when_nothing_has_changed_for_a_while(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "cur/1.h:2,", "one\n");
    check(linkat(fixture->at, "cur/1.h:2,", fixture->at, "cur/1.h:2,S", 0) == 0);
    scan(fixture);
    scan(fixture);
    assert_int_equal(fixture->box.list.count, 1);
    assert_int_equal(faccessat(fixture->at, "cur/1.h:2,", F_OK, 0) +
                         faccessat(fixture->at, "cur/1.h:2,S", F_OK, 0),
                     -1);
}

static void uids_that_are_not_durable_are_never_used(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "cur/1.h:2,", "x\n");
    scan(fixture);
    put(fixture, "cur/2.h:2,", "x\n");
    fixture->syncs_to_fail = 1;
    assert_int_equal(maildir_box_scan(&fixture->box), -EIO);
    assert_messages(fixture, "1:1.h:2,");
    scan(fixture);
    assert_int_equal(fixture->box.list.count, 2);
    assert_true(fixture->box.list.uids[1].uid >= 2);
}

static void flags_change_although_the_file_was_renamed_meanwhile(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "cur/1.h:2,", "x\n");
    put(fixture, "cur/2.h:2,", "x\n");
    scan(fixture);
    int junk = maildir_box_keyword(&fixture->box, slice_text("$Junk"));
    assert_int_equal(junk, 0);
    move(fixture, "cur/1.h:2,", "cur/1.h:2,T");
    assert_int_equal(maildir_box_set(&fixture->box, 1, MAILDIR_SEEN | MAILDIR_FLAGGED, 1u << junk),
                     0);
    assert_messages(fixture, "1:1.h:2,FSa 2:2.h:2,");
    assert_int_equal(maildir_box_expunge(&fixture->box, 2), 0);
    assert_messages(fixture, "1:1.h:2,FSa");
    assert_int_equal(maildir_box_set(&fixture->box, 2, 0, 0), -ENOENT);
    assert_int_equal(maildir_box_expunge(&fixture->box, 7), -ENOENT);
}

static void sizes_and_dates_are_those_of_the_file(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_message message;
    put(fixture, "cur/1.h:2,DR", "one\r\ntwo\nthree\n");
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1234567}};
    check(utimensat(fixture->at, "cur/1.h:2,DR", times, 0) == 0);
    scan(fixture);
    assert_int_equal(maildir_box_message(&fixture->box, &fixture->box.list.uids[0], &message), 0);
    assert_int_equal(message.bytes, 15);
    assert_int_equal(message.virtual_bytes, 17);
    assert_int_equal(message.internal_date_s, 1234567);
    assert_true(message.saved_s > 1234567);
    assert_int_equal(message.flags, MAILDIR_DRAFT | MAILDIR_REPLIED);
}

static void a_list_that_is_none_gives_all_uids_anew_under_another_uidvalidity(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "cur/1.h:2,", "x\n");
    put(fixture, MAILDIR_UIDLIST, "nonsense\n");
    scan(fixture);
    assert_messages(fixture, "1:1.h:2,");
    assert_int_equal(fixture->box.list.uidvalidity, 2000000000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_mail_moves_to_cur_and_gets_uids_in_the_order_of_its_times),
        TEST(a_second_server_sees_the_same_uids),
        TEST(what_one_listing_misses_is_not_gone),
        TEST(what_was_gone_and_comes_back_is_a_new_message),
        TEST(two_messages_of_one_base_are_told_apart),
        TEST(two_links_to_one_message_become_one_when_nothing_has_changed_for_a_while),
        TEST(uids_that_are_not_durable_are_never_used),
        TEST(flags_change_although_the_file_was_renamed_meanwhile),
        TEST(sizes_and_dates_are_those_of_the_file),
        TEST(a_list_that_is_none_gives_all_uids_anew_under_another_uidvalidity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
