/* maildir: messages into Maildirs: whole, to every recipient, or refused. */
#include "queue/mailbox/maildir.h"
#include "queue/mailbox/maildir_private.h"
#include "engine/core/check.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* A store in a folder of its own, a clock that stands, and a descriptor that tells of completions.
 */
struct fixture {
    char path[64];
    struct maildir *store;
    struct world world;
    struct maildir_files files;
    int wake_fd;
    uint32_t random;
};

static uint64_t still_now(void *self)
{
    (void)self;
    return 1234567000;
}

static int64_t still_wall(void *self)
{
    (void)self;
    return 1700000000;
}

static void count_up(void *self, void *bytes, size_t count)
{
    struct fixture *fixture = (struct fixture *)self;
    memset(bytes, 0, count);
    fixture->random++;
    memcpy(bytes, &fixture->random, count < 4 ? count : 4);
}

static void wake(void *owner)
{
    struct fixture *fixture = (struct fixture *)owner;
    uint64_t one = 1;
    check(write(fixture->wake_fd, &one, sizeof one) == sizeof one);
}

static struct maildir_settings settings_of(struct fixture *fixture)
{
    return (struct maildir_settings){
        .path = fixture->path,
        .hostname = "host.test",
        .world = &fixture->world,
        .files = &fixture->files,
        .process_id = 77,
        .durable = true,
        .pending_bytes_max = 1 << 20,
        .wake = wake,
        .owner = fixture,
    };
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    check(fixture != NULL);
    strcpy(fixture->path, "/tmp/maildir-test-XXXXXX");
    check(mkdtemp(fixture->path) != NULL);
    fixture->world = (struct world){still_now, still_wall, count_up, fixture};
    maildir_system_files(&fixture->files);
    fixture->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct maildir_settings settings = settings_of(fixture);
    *state = fixture;
    return maildir_open(&fixture->store, &settings);
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
    struct fixture *fixture = (struct fixture *)*state;
    if (fixture->store != NULL) {
        maildir_close(fixture->store);
    }
    close(fixture->wake_fd);
    nftw(fixture->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

static void reopen(struct fixture *fixture, const struct maildir_settings *settings)
{
    maildir_close(fixture->store);
    fixture->store = NULL;
    assert_int_equal(maildir_open(&fixture->store, settings), 0);
}

/* ---- delivering ---- */

struct counted_commit {
    struct maildir_commit commit;
    unsigned done;
};

static void commit_done(struct maildir_waiter *waiter)
{
    ((struct counted_commit *)(void *)waiter)->done++;
}

static void name_users(struct maildir_delivery *deliveries, const char *const *users,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(user_name_of_mailbox(slice_text(users[i]), deliveries[i].user), 0);
        deliveries[i].status = 1;
    }
}

static void wait_once(struct fixture *fixture)
{
    maildir_flush(fixture->store);
    struct pollfd wait = {.fd = fixture->wake_fd, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 20000), 1);
    uint64_t count;
    assert_int_equal(read(fixture->wake_fd, &count, sizeof count), sizeof count);
    maildir_reap(fixture->store);
}

static void append_all(struct fixture *fixture, struct maildir_draft *draft, struct slice wire)
{
    while (wire.size > 0) {
        ssize_t taken = maildir_append(draft, wire);
        assert_true(taken >= 0);
        wire = slice_from(wire, (size_t)taken);
        if (wire.size > 0) {
            wait_once(fixture);
        }
    }
}

static void deliver(struct fixture *fixture, const char *wire, struct maildir_delivery *deliveries,
                    uint32_t count)
{
    struct maildir_draft *draft = NULL;
    struct counted_commit commit = {
        .commit = {.waiter = {.done = commit_done}, .deliveries = deliveries, .count = count}};
    assert_int_equal(maildir_begin(fixture->store, &draft), 0);
    append_all(fixture, draft, slice_text(wire));
    maildir_commit(draft, &commit.commit);
    while (commit.done == 0) {
        wait_once(fixture);
    }
    assert_int_equal(commit.done, 1);
}

static int deliver_to(struct fixture *fixture, const char *wire, const char *user)
{
    struct maildir_delivery delivery;
    name_users(&delivery, &user, 1);
    deliver(fixture, wire, &delivery, 1);
    return delivery.status;
}

/* ---- looking ---- */

/* The files of a folder; the name of the last one. */
static unsigned files_in(const struct fixture *fixture, const char *folder, char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fixture->path, folder);
    DIR *files = opendir(path);
    unsigned count = 0;
    for (struct dirent *entry; files != NULL && (entry = readdir(files)) != NULL;) {
        if (entry->d_name[0] != '.') {
            count++;
            if (name != NULL) {
                snprintf(name, 256, "%s", entry->d_name);
            }
        }
    }
    if (files != NULL) {
        closedir(files);
    }
    return count;
}

static void assert_file_holds(const struct fixture *fixture, const char *folder, const char *name,
                              const char *text)
{
    char path[512], bytes[4096];
    snprintf(path, sizeof path, "%s/%s/%s", fixture->path, folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(bytes, text, size);
}

/* ---- tests ---- */

static void a_message_lies_in_new_with_its_sizes_in_the_name(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    char name[256];
    assert_int_equal(deliver_to(fixture, "Subject: x\r\n\r\n..dot\r\nend\r\n", "alice@example.org"),
                     0);
    assert_int_equal(files_in(fixture, "alice/new", name), 1);
    assert_string_equal(name, "1700000000.M234567P77Q0R00000001.host.test,S=21,W=25");
    assert_file_holds(fixture, "alice/new", name, "Subject: x\n\n.dot\nend\n");
    assert_int_equal(files_in(fixture, "alice/cur", NULL), 0);
    assert_int_equal(files_in(fixture, "alice/tmp", NULL), 0);
    assert_int_equal(files_in(fixture, ".staging", NULL), 0);
}

static void
each_recipient_gets_the_message_and_one_who_cannot_does_not_harm_the_others(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    char path[128];
    snprintf(path, sizeof path, "%s/file", fixture->path);
    assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
    snprintf(path, sizeof path, "%s/link", fixture->path);
    assert_int_equal(symlink("/tmp", path), 0);
    static const char *const users[] = {"a@x", "file@x", "link@x", "b@x"};
    struct maildir_delivery deliveries[4];
    name_users(deliveries, users, 4);
    deliver(fixture, "x\r\n", deliveries, 4);
    assert_int_equal(deliveries[0].status, 0);
    assert_int_equal(deliveries[1].status, -ENOTDIR);
    assert_true(deliveries[2].status == -ELOOP || deliveries[2].status == -ENOTDIR);
    assert_int_equal(deliveries[3].status, 0);
    assert_int_equal(files_in(fixture, "a/new", NULL), 1);
    assert_int_equal(files_in(fixture, "b/new", NULL), 1);
    assert_int_equal(access("/tmp/new", F_OK), -1);
    assert_int_equal(files_in(fixture, ".staging", NULL), 0);
}

static void when_the_last_recipient_cannot_nothing_stays_in_staging(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    char path[128];
    snprintf(path, sizeof path, "%s/file", fixture->path);
    assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
    static const char *const users[] = {"a@x", "file@x"};
    struct maildir_delivery deliveries[2];
    name_users(deliveries, users, 2);
    deliver(fixture, "x\r\n", deliveries, 2);
    assert_int_equal(deliveries[0].status, 0);
    assert_int_equal(deliveries[1].status, -ENOTDIR);
    assert_int_equal(files_in(fixture, ".staging", NULL), 0);
}

static void the_same_user_twice_gets_one_copy_and_two_good_answers(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const char *const users[] = {"a@x", "A+tag@y", "a@z"};
    struct maildir_delivery deliveries[3];
    name_users(deliveries, users, 3);
    deliver(fixture, "x\r\n", deliveries, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(deliveries[i].status, 0);
    }
    assert_int_equal(files_in(fixture, "a/new", NULL), 1);
    assert_int_equal(files_in(fixture, ".staging", NULL), 0);
}

static void more_recipients_than_descriptors_are_delivered_in_parts(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { COUNT = 450 };
    struct maildir_delivery *deliveries = calloc(COUNT, sizeof *deliveries);
    assert_non_null(deliveries);
    for (int i = 0; i < COUNT; i++) {
        snprintf(deliveries[i].user, USER_NAME_BYTES, "user%d", i);
        deliveries[i].status = 1;
    }
    deliver(fixture, "x\r\n", deliveries, COUNT);
    for (int i = 0; i < COUNT; i++) {
        char folder[64];
        assert_int_equal(deliveries[i].status, 0);
        snprintf(folder, sizeof folder, "user%d/new", i);
        assert_int_equal(files_in(fixture, folder, NULL), 1);
    }
    free(deliveries);
}

static void messages_that_wait_together_are_committed_in_one_batch(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { COUNT = 30 };
    struct counted_commit commits[COUNT];
    struct maildir_delivery deliveries[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct maildir_draft *draft = NULL;
        commits[i] = (struct counted_commit){
            .commit = {.waiter = {.done = commit_done}, .deliveries = &deliveries[i], .count = 1}};
        snprintf(deliveries[i].user, USER_NAME_BYTES, "user%d", i % 10);
        assert_int_equal(maildir_begin(fixture->store, &draft), 0);
        append_all(fixture, draft, slice_text("hello\r\n"));
        maildir_commit(draft, &commits[i].commit);
    }
    for (int i = 0; i < COUNT; i++) {
        while (commits[i].done == 0) {
            wait_once(fixture);
        }
        assert_int_equal(deliveries[i].status, 0);
    }
    struct maildir_counters counters;
    maildir_read_counters(fixture->store, &counters);
    assert_int_equal(counters.messages, COUNT);
    assert_int_equal(counters.deliveries, COUNT);
    assert_int_equal(counters.batches, 1);
    assert_true(counters.syncs < COUNT);
    assert_int_equal(files_in(fixture, "user3/new", NULL), 3);
}

static unsigned room_told;

static void room_is_there(struct maildir_waiter *waiter)
{
    (void)waiter;
    room_told++;
}

static void text_beyond_the_pending_bytes_waits_for_room(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { SIZE = 3 << 20 };
    uint8_t *text = malloc(SIZE);
    assert_non_null(text);
    memset(text, 'x', SIZE);
    struct maildir_draft *draft = NULL;
    struct maildir_delivery delivery = {.user = "a", .status = 1};
    struct counted_commit commit = {
        .commit = {.waiter = {.done = commit_done}, .deliveries = &delivery, .count = 1}};
    assert_int_equal(maildir_begin(fixture->store, &draft), 0);
    ssize_t taken = maildir_append(draft, slice_of(text, SIZE));
    assert_true(taken > 900000 && taken <= 1 << 20);
    struct maildir_waiter waiter = {.done = room_is_there};
    room_told = 0;
    maildir_when_room(fixture->store, &waiter);
    wait_once(fixture);
    assert_int_equal(room_told, 1);
    append_all(fixture, draft, slice_of(text + taken, SIZE - (size_t)taken));
    maildir_commit(draft, &commit.commit);
    while (commit.done == 0) {
        wait_once(fixture);
    }
    free(text);
    char name[256], path[512];
    assert_int_equal(files_in(fixture, "a/new", name), 1);
    snprintf(path, sizeof path, "%s/a/new/%s", fixture->path, name);
    struct stat file;
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_size, SIZE);
}

/* Each has a chunk: what is received has it to itself until its end. */
static void no_more_messages_are_received_at_once_than_have_memory(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { MOST = (1 << 20) / MAILDIR_CHUNK_BYTES };
    struct maildir_draft *drafts[MOST], *another = NULL;
    for (unsigned i = 0; i < MOST; i++) {
        assert_int_equal(maildir_begin(fixture->store, &drafts[i]), 0);
        assert_int_equal(maildir_append(drafts[i], slice_text("text\r\n")), 6);
    }
    assert_int_equal(maildir_begin(fixture->store, &another), -ENOBUFS);
    maildir_abort(drafts[0]);
    wait_once(fixture);
    assert_int_equal(maildir_begin(fixture->store, &another), 0);
    assert_int_equal(maildir_append(another, slice_text("text\r\n")), 6);
    maildir_abort(another);
    for (unsigned i = 1; i < MOST; i++) {
        maildir_abort(drafts[i]);
    }
    wait_once(fixture);
}

static void an_aborted_message_leaves_nothing(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct maildir_draft *draft = NULL;
    static uint8_t text[100000];
    assert_int_equal(maildir_begin(fixture->store, &draft), 0);
    append_all(fixture, draft, slice_of(text, sizeof text));
    wait_once(fixture);
    assert_int_equal(files_in(fixture, ".staging", NULL), 1);
    maildir_abort(draft);
    wait_once(fixture);
    assert_int_equal(files_in(fixture, ".staging", NULL), 0);
}

static void a_write_that_fails_is_told_and_the_store_goes_on(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    small = before;
    small.rlim_cur = 50000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct maildir_draft *draft = NULL;
    static uint8_t text[200000];
    ssize_t taken = 0;
    struct maildir_delivery delivery = {.user = "a", .status = 1};
    struct counted_commit commit = {
        .commit = {.waiter = {.done = commit_done}, .deliveries = &delivery, .count = 1}};
    int status = maildir_begin(fixture->store, &draft);
    if (status == 0) {
        taken = maildir_append(draft, slice_of(text, sizeof text));
        maildir_commit(draft, &commit.commit);
        while (commit.done == 0) {
            wait_once(fixture);
        }
    }
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, 0);
    assert_int_equal(taken, sizeof text);
    assert_int_equal(delivery.status, -EFBIG);
    assert_int_equal(files_in(fixture, "a/new", NULL), 0);
    assert_int_equal(files_in(fixture, ".staging", NULL), 0);
    assert_int_equal(deliver_to(fixture, "x\r\n", "a@x"), 0);
}

static void what_a_crash_left_in_staging_is_removed_at_start(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    char path[128];
    snprintf(path, sizeof path, "%s/.staging/1.left", fixture->path);
    assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
    struct maildir_settings settings = settings_of(fixture);
    reopen(fixture, &settings);
    assert_int_equal(access(path, F_OK), -1);
}

static void each_shard_has_a_staging_folder_of_its_own(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct maildir_settings settings = settings_of(fixture);
    struct maildir *second = NULL, *third = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/.staging/1.coming", fixture->path);
    assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
    settings.shard = 1;
    assert_int_equal(maildir_open(&second, &settings), 0);
    assert_int_equal(access(path, F_OK), 0); /* the first one's is left alone */
    snprintf(path, sizeof path, "%s/.staging.1", fixture->path);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(maildir_open(&third, &settings), -EBUSY);
    maildir_close(second);
}

static void a_second_process_is_refused(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct maildir_settings settings = settings_of(fixture);
    struct maildir *second = NULL;
    assert_int_equal(maildir_open(&second, &settings), -EBUSY);
}

static void a_user_over_quota_is_refused_until_mail_is_deleted(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct maildir_settings settings = settings_of(fixture);
    settings.quota_bytes = 10;
    reopen(fixture, &settings);
    char name[256], path[512];
    assert_int_equal(deliver_to(fixture, "1234567\r\n", "a@x"), 0);
    assert_int_equal(deliver_to(fixture, "123\r\n", "a@x"), -EDQUOT);
    assert_int_equal(deliver_to(fixture, "1\r\n", "a@x"), 0);
    assert_int_equal(deliver_to(fixture, "\r\n", "a@x"), -EDQUOT);
    assert_int_equal(deliver_to(fixture, "123\r\n", "b@x"), 0);
    assert_int_equal(files_in(fixture, "a/new", name), 2);
    assert_int_equal(files_in(fixture, ".staging", NULL), 0);
    snprintf(path, sizeof path, "%s/a/new/%s", fixture->path, name);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(deliver_to(fixture, "\r\n", "a@x"), 0);
    /* Told by the folder, not by memory. */
    reopen(fixture, &settings);
    assert_int_equal(deliver_to(fixture, "12345678\r\n", "a@x"), -EDQUOT);
}

static void a_folder_that_is_removed_under_us_is_made_again(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    assert_int_equal(deliver_to(fixture, "x\r\n", "a@x"), 0);
    char path[128];
    snprintf(path, sizeof path, "%s/a", fixture->path);
    assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(deliver_to(fixture, "x\r\n", "a@x"), 0);
    assert_int_equal(files_in(fixture, "a/new", NULL), 1);
}

static void closing_finishes_what_was_committed(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct maildir_draft *draft = NULL;
    struct maildir_delivery delivery = {.user = "a", .status = 1};
    struct counted_commit commit = {
        .commit = {.waiter = {.done = commit_done}, .deliveries = &delivery, .count = 1}};
    assert_int_equal(maildir_begin(fixture->store, &draft), 0);
    append_all(fixture, draft, slice_text("x\r\n"));
    maildir_commit(draft, &commit.commit);
    maildir_close(fixture->store);
    fixture->store = NULL;
    assert_int_equal(commit.done, 0);
    assert_int_equal(files_in(fixture, "a/new", NULL), 1);
}

#define STORE_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_message_lies_in_new_with_its_sizes_in_the_name),
        STORE_TEST(each_recipient_gets_the_message_and_one_who_cannot_does_not_harm_the_others),
        STORE_TEST(when_the_last_recipient_cannot_nothing_stays_in_staging),
        STORE_TEST(the_same_user_twice_gets_one_copy_and_two_good_answers),
        STORE_TEST(more_recipients_than_descriptors_are_delivered_in_parts),
        STORE_TEST(messages_that_wait_together_are_committed_in_one_batch),
        STORE_TEST(text_beyond_the_pending_bytes_waits_for_room),
        STORE_TEST(no_more_messages_are_received_at_once_than_have_memory),
        STORE_TEST(an_aborted_message_leaves_nothing),
        STORE_TEST(a_write_that_fails_is_told_and_the_store_goes_on),
        STORE_TEST(what_a_crash_left_in_staging_is_removed_at_start),
        STORE_TEST(each_shard_has_a_staging_folder_of_its_own),
        STORE_TEST(a_second_process_is_refused),
        STORE_TEST(a_user_over_quota_is_refused_until_mail_is_deleted),
        STORE_TEST(a_folder_that_is_removed_under_us_is_made_again),
        STORE_TEST(closing_finishes_what_was_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
