/* maildir_uidlist, maildir_lock, maildir_keywords: what Dovecot keeps beside the messages, read and written. */
#include "engine/core/check.h"
#include "queue/mailbox/maildir_keywords.h"
#include "queue/mailbox/maildir_lock.h"
#include "queue/mailbox/maildir_uidlist.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define GUID "3085f01b7f11094c501100008c4a11c1"

struct fixture {
    char path[64];
    int at;
    struct maildir_files files;
    struct world world;
    struct maildir_owner owner;
    struct maildir_uidlist list;
    int64_t wall_s;
    uint64_t now_ns;
    bool lives;
};

static uint64_t now_ns(void *self)
{
    return ((struct fixture *)self)->now_ns;
}

static int64_t wall_s(void *self)
{
    return ((struct fixture *)self)->wall_s;
}

static void no_random(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static bool lives(void *self, uint32_t process_id)
{
    (void)process_id;
    return ((struct fixture *)self)->lives;
}

static void pause_passes(void *self, uint64_t duration_ns)
{
    struct fixture *fixture = self;
    fixture->now_ns += duration_ns;
    fixture->wall_s += (int64_t)(fixture->now_ns / 1000000000) -
                       (int64_t)((fixture->now_ns - duration_ns) / 1000000000);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    check(fixture != NULL);
    strcpy(fixture->path, "/tmp/uidlist-test-XXXXXX");
    check(mkdtemp(fixture->path) != NULL);
    fixture->at = open(fixture->path, O_RDONLY | O_DIRECTORY);
    maildir_system_files(&fixture->files);
    fixture->files.self = fixture;
    fixture->files.process_lives = lives;
    fixture->files.pause = pause_passes;
    fixture->world = (struct world){now_ns, wall_s, no_random, fixture};
    fixture->owner =
        (struct maildir_owner){&fixture->files, &fixture->world, "host.test", 77, 5000, NULL};
    maildir_uidlist_open(&fixture->list);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    maildir_uidlist_close(&fixture->list, &fixture->files);
    static const char *const names[] = {MAILDIR_UIDLIST, MAILDIR_UIDLIST ".lock",
                                        MAILDIR_UIDLIST ".tmp", MAILDIR_KEYWORDS};
    for (size_t i = 0; i < 4; i++) {
        unlinkat(fixture->at, names[i], 0);
    }
    close(fixture->at);
    int status = rmdir(fixture->path); /* nothing else was left there */
    free(fixture);
    return status;
}

static void put(struct fixture *fixture, const char *name, int flags, const char *text)
{
    int file = openat(fixture->at, name, O_WRONLY | O_CREAT | flags, 0600);
    check(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
}

static void assert_holds(struct fixture *fixture, const char *name, const char *text)
{
    char bytes[8192] = {0};
    int file = openat(fixture->at, name, O_RDONLY);
    assert_true(file >= 0 && read(file, bytes, sizeof bytes - 1) >= 0);
    close(file);
    assert_string_equal(bytes, text);
}

static int refresh(struct fixture *fixture)
{
    return maildir_uidlist_refresh(&fixture->list, &fixture->files, fixture->at);
}

/* ---- the list ---- */

static const char *const whole = "3 V1275660208 N25022 G" GUID " Pabc\n"
                                 "25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394\n"
                                 "25017 W2481 Zx :1276533073.M242911P3632.kurkku:2,F\n";

static void a_list_of_dovecots_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_uidlist *list = &fixture->list;
    put(fixture, MAILDIR_UIDLIST, 0, whole);
    assert_int_equal(refresh(fixture), 0);
    assert_int_equal(list->uidvalidity, 1275660208);
    assert_int_equal(list->uid_next, 25022);
    assert_string_equal(list->guid, GUID);
    assert_int_equal(list->count, 2);
    assert_false(list->must_rewrite);
    const struct maildir_uid *uid =
        maildir_uidlist_find(list, slice_text("1276533073.M242911P3632.kurkku"));
    assert_non_null(uid);
    assert_int_equal(uid->uid, 25017);
    assert_int_equal(maildir_uid_field(uid, 'W'), 2481);
    assert_true(maildir_uid_field(uid, 'S') == UINT64_MAX);
    assert_ptr_equal(maildir_uidlist_find_uid(list, 25017), uid);
    assert_null(maildir_uidlist_find_uid(list, 25007));
}

static void what_is_not_known_is_written_back(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, MAILDIR_UIDLIST, 0, whole);
    assert_int_equal(refresh(fixture), 0);
    assert_int_equal(maildir_uidlist_add(&fixture->list, slice_text("9.9.h")), 0);
    assert_int_equal(maildir_uidlist_replace(&fixture->list, &fixture->files, fixture->at), 0);
    assert_holds(fixture, MAILDIR_UIDLIST,
                 "3 V1275660208 N25023 G" GUID " Pabc\n"
                 "25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394\n"
                 "25017 W2481 Zx :1276533073.M242911P3632.kurkku\n25022 :9.9.h\n");
}

static void uids_are_appended_and_read_on(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, MAILDIR_UIDLIST, 0, "3 V5 N2 G" GUID "\n1 :a\n");
    assert_int_equal(refresh(fixture), 0);
    assert_int_equal(maildir_uidlist_add(&fixture->list, slice_text("b")), 0);
    assert_int_equal(maildir_uidlist_append(&fixture->list, &fixture->files, fixture->at, 1), 0);
    put(fixture, MAILDIR_UIDLIST, O_APPEND, "3 :c\n4 :d");
    assert_int_equal(refresh(fixture), 0);
    assert_holds(fixture, MAILDIR_UIDLIST, "3 V5 N2 G" GUID "\n1 :a\n2 :b\n3 :c\n4 :d");
    assert_int_equal(fixture->list.count, 3); /* the last line has no end yet */
    assert_int_equal(fixture->list.uid_next, 4);
    put(fixture, MAILDIR_UIDLIST, O_APPEND, "e\n");
    assert_int_equal(refresh(fixture), 0);
    assert_string_equal(fixture->list.uids[3].base, "de");
}

static void nothing_is_appended_to_half_a_line(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, MAILDIR_UIDLIST, 0, "3 V5 N2 G" GUID "\n1 :a\n2 :torn");
    assert_int_equal(refresh(fixture), 0);
    assert_int_equal(maildir_uidlist_add(&fixture->list, slice_text("b")), 0);
    assert_int_equal(maildir_uidlist_append(&fixture->list, &fixture->files, fixture->at, 1), 0);
    assert_holds(fixture, MAILDIR_UIDLIST, "3 V5 N3 G" GUID "\n1 :a\n2 :b\n");
}

static void a_replaced_file_is_read_anew_and_no_uid_is_given_again(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, MAILDIR_UIDLIST, 0, "3 V5 N9 G" GUID "\n1 :a\n");
    assert_int_equal(refresh(fixture), 0);
    put(fixture, "other", 0, "3 V5 N3 G" GUID "\n2 :b\n");
    assert_int_equal(renameat(fixture->at, "other", fixture->at, MAILDIR_UIDLIST), 0);
    assert_int_equal(refresh(fixture), 0);
    assert_null(maildir_uidlist_find(&fixture->list, slice_text("a")));
    assert_int_equal(fixture->list.uids[0].uid, 2);
    assert_int_equal(fixture->list.uid_next, 9);
}

static void version_1_is_read_and_becomes_version_3(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, MAILDIR_UIDLIST, 0, "1 123 9\n3 a\n7 b:2,S\n");
    assert_int_equal(refresh(fixture), 0);
    assert_true(fixture->list.must_rewrite);
    strcpy(fixture->list.guid, GUID);
    assert_int_equal(maildir_uidlist_append(&fixture->list, &fixture->files, fixture->at, 2), 0);
    assert_holds(fixture, MAILDIR_UIDLIST, "3 V123 N9 G" GUID "\n3 :a\n7 :b\n");
}

static void damaged_lines_cost_only_themselves(void **state)
{
    static const char *const lines[] = {"x",      "0 :z",           "4294967295 :z", "5 :",  "5",
                                        "5 :a/b", "99999999999 :z", "1 :below",      "6 W4", ""};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[256];
        int size = snprintf(text, sizeof text, "3 V5 N2 G" GUID "\n3 :a\n%s\n9 :b\n", lines[i]);
        assert_int_equal(maildir_uidlist_take(&fixture->list, slice_of(text, (size_t)size)), size);
        assert_int_equal(fixture->list.damaged, 1);
        assert_true(fixture->list.must_rewrite);
        assert_int_equal(fixture->list.count, 2);
        assert_int_equal(maildir_uidlist_find(&fixture->list, slice_text("b"))->uid, 9);
        assert_int_equal(fixture->list.uid_next, 10);
        maildir_uidlist_close(&fixture->list, &fixture->files);
    }
}

static void a_header_that_is_none_is_told(void **state)
{
    static const char *const headers[] = {"\n",      "2 1 1\n",   "3 V0 N1\n",           "3 V1\n",
                                          "3 N5\n",  "x V1 N1\n", "3 V99999999999 N1\n", "1 5\n",
                                          "3V1 N1\n"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        assert_int_equal(maildir_uidlist_take(&fixture->list, slice_text(headers[i])), -EBADMSG);
        maildir_uidlist_close(&fixture->list, &fixture->files);
    }
}

static void a_file_named_twice_has_its_last_uid(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, MAILDIR_UIDLIST, 0, "3 V5 N4 G" GUID "\n1 :a\n2 :b\n3 :a\n");
    assert_int_equal(refresh(fixture), 0);
    assert_int_equal(maildir_uidlist_find(&fixture->list, slice_text("a"))->uid, 3);
    assert_int_equal(maildir_uidlist_append(&fixture->list, &fixture->files, fixture->at, 3), 0);
    assert_holds(fixture, MAILDIR_UIDLIST, "3 V5 N4 G" GUID "\n2 :b\n3 :a\n");
}

static void the_last_uid_is_not_passed(void **state)
{
    struct fixture *fixture = *state;
    fixture->list.uid_next = UINT32_MAX;
    assert_int_equal(maildir_uidlist_add(&fixture->list, slice_text("a")), -EOVERFLOW);
    assert_int_equal(fixture->list.count, 0);
}

static void many_are_found_again(void **state)
{
    struct fixture *fixture = *state;
    char base[32];
    for (unsigned i = 0; i < 5000; i++) {
        int size = snprintf(base, sizeof base, "%u.M.h", i * 7919);
        assert_int_equal(maildir_uidlist_add(&fixture->list, slice_of(base, (size_t)size)), 0);
        fixture->list.uids[i].presence = i % 3 == 0 ? MAILDIR_GONE : MAILDIR_PRESENT;
    }
    maildir_uidlist_drop_gone(&fixture->list);
    for (unsigned i = 0; i < 5000; i++) {
        int size = snprintf(base, sizeof base, "%u.M.h", i * 7919);
        const struct maildir_uid *uid =
            maildir_uidlist_find(&fixture->list, slice_of(base, (size_t)size));
        assert_int_equal(uid == NULL ? 0 : uid->uid, i % 3 == 0 ? 0 : i + 1);
    }
}

/* ---- the lock ---- */

static struct maildir_lock lock_of(struct fixture *fixture)
{
    fixture->wall_s = fixture->wall_s == 0 ? time(NULL) : fixture->wall_s;
    return (struct maildir_lock){.owner = &fixture->owner,
                                 .at = fixture->at,
                                 .protected = MAILDIR_UIDLIST,
                                 .stale_s = MAILDIR_LOCK_STALE_S};
}

static void a_lock_tells_who_has_it_and_goes(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_lock lock = lock_of(fixture), other = lock_of(fixture);
    assert_int_equal(maildir_lock_try(&lock), 0);
    assert_holds(fixture, MAILDIR_UIDLIST ".lock", "77:host.test");
    assert_int_equal(maildir_lock_try(&other), -EAGAIN);
    assert_true(maildir_lock_holds(&lock));
    maildir_lock_release(&lock);
    assert_int_equal(maildir_lock_try(&other), 0);
    maildir_lock_release(&other);
}

static void the_lock_of_a_dead_process_is_void_and_of_a_living_one_never(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_lock lock = lock_of(fixture);
    put(fixture, MAILDIR_UIDLIST ".lock", 0, "4711:host.test");
    fixture->wall_s += 10;
    fixture->lives = true;
    assert_int_equal(maildir_lock_take(&lock, 1000), -ETIMEDOUT);
    fixture->lives = false;
    assert_int_equal(maildir_lock_try(&lock), 0);
    maildir_lock_release(&lock);
}

static void our_own_lock_is_void_when_it_is_older_than_we(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_lock lock = lock_of(fixture);
    put(fixture, MAILDIR_UIDLIST ".lock", 0, "77:host.test");
    fixture->lives = true;
    fixture->wall_s += 10;
    assert_int_equal(maildir_lock_take(&lock, 1000), -ETIMEDOUT); /* another thread's */
    fixture->owner.started_wall_s = fixture->wall_s;
    assert_int_equal(maildir_lock_try(&lock), 0);
    maildir_lock_release(&lock);
}

static void the_lock_of_another_host_is_void_when_nothing_changes_for_two_minutes(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_lock lock = lock_of(fixture);
    put(fixture, MAILDIR_UIDLIST ".lock", 0, "4711:elsewhere.test");
    int64_t began_s = fixture->wall_s;
    assert_int_equal(maildir_lock_take(&lock, MAILDIR_LOCK_PATIENCE_S), 0);
    assert_in_range(fixture->wall_s - began_s, MAILDIR_LOCK_STALE_S, MAILDIR_LOCK_PATIENCE_S);
    maildir_lock_release(&lock);
}

static void who_hurries_waits_for_no_lock(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_lock lock = lock_of(fixture);
    atomic_bool hurries = true;
    fixture->owner.hurries = &hurries;
    put(fixture, MAILDIR_UIDLIST ".lock", 0, "4711:elsewhere.test");
    uint64_t before_ns = fixture->now_ns;
    assert_int_equal(maildir_lock_take(&lock, MAILDIR_LOCK_PATIENCE_S), -ETIMEDOUT);
    assert_int_equal(fixture->now_ns, before_ns);
    assert_int_equal(unlinkat(fixture->at, MAILDIR_UIDLIST ".lock", 0), 0);
    assert_int_equal(maildir_lock_take(&lock, MAILDIR_LOCK_PATIENCE_S), 0);
    maildir_lock_release(&lock);
}

static void a_lock_that_was_taken_from_us_is_not_removed(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_lock lock = lock_of(fixture);
    assert_int_equal(maildir_lock_try(&lock), 0);
    put(fixture, "other", 0, "1:other");
    assert_int_equal(renameat(fixture->at, "other", fixture->at, MAILDIR_UIDLIST ".lock"), 0);
    assert_false(maildir_lock_holds(&lock));
    maildir_lock_release(&lock);
    assert_holds(fixture, MAILDIR_UIDLIST ".lock", "1:other");
}

/* ---- keywords ---- */

static void keywords_are_read_and_added(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_keywords keywords;
    put(fixture, MAILDIR_KEYWORDS, 0, "0 $Forwarded\njunk\n2 $Junk\n26 no\n3 $junk\n4 a b\nx y\n");
    assert_int_equal(maildir_keywords_read(&keywords, &fixture->files, fixture->at), 0);
    assert_int_equal(maildir_keywords_find(&keywords, slice_text("$JUNK")), 2);
    assert_string_equal(keywords.names[3], "");
    assert_int_equal(maildir_keywords_add(&keywords, slice_text("$MDNSent")), 1);
    assert_int_equal(maildir_keywords_add(&keywords, slice_text("a b")), -EINVAL);
    assert_int_equal(maildir_keywords_write(&keywords, &fixture->files, fixture->at, 1), 0);
    assert_holds(fixture, MAILDIR_KEYWORDS, "0 $Forwarded\n1 $MDNSent\n2 $Junk\n");
}

static void the_time_of_the_keywords_moves_on_with_each_change(void **state)
{
    struct fixture *fixture = *state;
    struct maildir_keywords keywords = {0};
    assert_int_equal(maildir_keywords_read(&keywords, &fixture->files, fixture->at), 0);
    for (int i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "k%d", i);
        maildir_keywords_add(&keywords, slice_text(name));
        assert_int_equal(maildir_keywords_write(&keywords, &fixture->files, fixture->at, 1000), 0);
        struct maildir_file_facts facts;
        assert_int_equal(fixture->files.facts(fixture, fixture->at, MAILDIR_KEYWORDS, &facts), 0);
        assert_int_equal(facts.modified_s, 1000 + i);
    }
}

static void there_are_26_keywords_and_lost_ones_get_a_name(void **state)
{
    (void)state;
    struct maildir_keywords keywords = {0};
    maildir_keywords_take(&keywords, slice_text("0 unknown-1\n"));
    maildir_keywords_complete(&keywords, 1u << 1 | 1u << 25);
    assert_string_equal(keywords.names[1], "unknown-1?");
    assert_string_equal(keywords.names[25], "unknown-25");
    for (int i = 0; i < 23; i++) {
        char name[8];
        snprintf(name, sizeof name, "k%d", i);
        assert_int_equal(maildir_keywords_add(&keywords, slice_text(name)), 2 + i);
    }
    assert_int_equal(maildir_keywords_add(&keywords, slice_text("more")), -ENOSPC);
    assert_int_equal(maildir_keywords_add(&keywords, slice_text("K5")), 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_list_of_dovecots_is_read),
        TEST(what_is_not_known_is_written_back),
        TEST(uids_are_appended_and_read_on),
        TEST(nothing_is_appended_to_half_a_line),
        TEST(a_replaced_file_is_read_anew_and_no_uid_is_given_again),
        TEST(version_1_is_read_and_becomes_version_3),
        TEST(damaged_lines_cost_only_themselves),
        TEST(a_header_that_is_none_is_told),
        TEST(a_file_named_twice_has_its_last_uid),
        TEST(the_last_uid_is_not_passed),
        TEST(many_are_found_again),
        TEST(a_lock_tells_who_has_it_and_goes),
        TEST(the_lock_of_a_dead_process_is_void_and_of_a_living_one_never),
        TEST(our_own_lock_is_void_when_it_is_older_than_we),
        TEST(the_lock_of_another_host_is_void_when_nothing_changes_for_two_minutes),
        TEST(who_hurries_waits_for_no_lock),
        TEST(a_lock_that_was_taken_from_us_is_not_removed),
        TEST(keywords_are_read_and_added),
        TEST(the_time_of_the_keywords_moves_on_with_each_change),
        cmocka_unit_test(there_are_26_keywords_and_lost_ones_get_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
