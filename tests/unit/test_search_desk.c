/*
 * search_desk: SEARCH answers the same with the index and without, whatever the mail is and whatever the index has: none,
 * some, all, what was expunged since, or rubbish.
 */
#include "engine/mailbox/search_private.h"
#include "tests/unit/imap_rig.h"
#include "tests/unit/search_mail.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_ID 77u

struct fixture {
    struct imap_rig *rig;
    struct search_desk *desk;
    char folder[64];
    bool deaf; /* the desk's work stands still */
};

static unsigned desk_poll(void *self, uint64_t now_ns)
{
    struct fixture *fixture = (struct fixture *)self;
    return fixture->desk != NULL && !fixture->deaf ? search_desk_poll(fixture->desk, now_ns) : 0;
}

static void desk_open(struct fixture *fixture)
{
    const struct search_desk_settings settings = {.shard = &fixture->rig->shard,
                                                  .texts = fixture->rig->store.store,
                                                  .folder = fixture->folder,
                                                  .log_id = LOG_ID,
                                                  .driven = true};
    assert_int_equal(search_desk_open(&fixture->desk, &settings), 0);
    fixture->rig->mailbox.searches = fixture->desk;
}

static void desk_close(struct fixture *fixture)
{
    fixture->rig->mailbox.searches = NULL;
    search_desk_close(fixture->desk);
    fixture->desk = NULL;
}

static int open_all(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    assert_int_equal(imap_rig_open(state), 0);
    fixture.rig = (struct imap_rig *)*state;
    strcpy(fixture.folder, "/tmp/tubepost-searches-XXXXXX");
    assert_non_null(mkdtemp(fixture.folder));
    const struct shard_part part = {.name = "search", .self = &fixture, .poll = desk_poll};
    shard_add(&fixture.rig->shard, &part);
    desk_open(&fixture);
    *state = &fixture;
    return 0;
}

static void each_file(const struct fixture *fixture, void (*visit)(const char *path))
{
    DIR *files = opendir(fixture->folder);
    assert_non_null(files);
    for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", fixture->folder, entry->d_name);
        if (entry->d_name[0] != '.') {
            visit(path);
        }
    }
    closedir(files);
}

static void remove_file(const char *path)
{
    assert_int_equal(unlink(path), 0);
}

static int close_all(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct imap_rig *rig = fixture->rig;
    while (!list_empty(&rig->mailbox.sessions)) {
        struct session *session = list_entry(rig->mailbox.sessions.next, struct session, node);
        check(session->ops->abort(session));
    }
    desk_close(fixture);
    each_file(fixture, remove_file);
    assert_int_equal(rmdir(fixture->folder), 0);
    *state = rig;
    return imap_rig_close(state);
}

/* ---- The index comes to know ---- */

static bool desk_is_at_rest(const struct fixture *fixture)
{
    const struct search_desk *desk = fixture->desk;
    bool dirty = desk->pass.state != SEARCH_PASS_NONE || desk->found.count > 0;
    for (struct list_node *node = desk->keepers.next; node != &desk->keepers; node = node->next) {
        dirty = dirty || list_entry(node, struct search_keeper, node)->dirty;
    }
    return !dirty;
}

static void indexed(struct fixture *fixture)
{
    for (unsigned round = 0; !desk_is_at_rest(fixture); round++) {
        assert_true(round < 400000);
        rig_round(fixture->rig);
    }
}

static struct search_desk_counters counted(const struct fixture *fixture)
{
    struct search_desk_counters counters;
    search_desk_counters(fixture->desk, &counters);
    return counters;
}

/* ---- Equal answers ---- */

static char *asked(struct fixture *fixture, struct slice command, struct search_desk *desk)
{
    struct imap_client *client = &fixture->rig->clients[0];
    fixture->rig->mailbox.searches = desk;
    say_bytes(fixture->rig, 0, command);
    hear(fixture->rig, 0, "q ");
    fixture->rig->mailbox.searches = fixture->desk;
    return strdup(client->heard);
}

static void both_ask(struct fixture *fixture, struct search_mail *mail, const char *when)
{
    struct slice command = search_mail_query(mail);
    char *scan = asked(fixture, command, NULL);
    char *index = asked(fixture, command, fixture->desk);
    if (strcmp(scan, index) != 0) {
        fail_msg("seed %llu, %s:\n%.*s scan:  %sindex: %s", (unsigned long long)mail->seed, when,
                 (int)command.size, (const char *)command.bytes, scan, index);
    }
    free(scan);
    free(index);
}

static void many_ask(struct fixture *fixture, struct search_mail *mail, unsigned count,
                     const char *when)
{
    for (unsigned i = 0; i < count; i++) {
        both_ask(fixture, mail, when);
    }
}

static void deliver(struct fixture *fixture, struct search_mail *mail, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        append(fixture->rig, 0, i % 5 == 4 ? "Other" : "INBOX", search_mail_next(mail));
    }
}

static void spoil_file(const char *path)
{
    struct stat found;
    int file = open(path, O_RDWR);
    assert_true(file >= 0 && fstat(file, &found) == 0);
    for (off_t at = 100; at < found.st_size; at += 1024) {
        assert_int_equal(pwrite(file, "rubbish that nobody wrote there", 31, at), 31);
    }
    close(file);
}

static void clip_file(const char *path)
{
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(truncate(path, found.st_size / 3), 0);
}

/* What may happen to the files while nobody looks. */
static void (*const mishaps[])(const char *path) = {NULL, remove_file, spoil_file, clip_file};

static void seed_run(struct fixture *fixture, uint64_t seed)
{
    struct search_mail *mail = search_mail_open(seed);
    struct imap_rig *rig = fixture->rig;
    log_in(rig, 0);
    talk(rig, 0, "c CREATE Other\r\n", "");
    deliver(fixture, mail, 20);
    talk(rig, 0, "s SELECT INBOX\r\n", "OK");
    many_ask(fixture, mail, 10, "while it is not indexed");
    indexed(fixture);
    many_ask(fixture, mail, 60, "when it is indexed");
    deliver(fixture, mail, 8);
    talk(rig, 0, "f STORE 2:5 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "e EXPUNGE\r\n", "OK");
    many_ask(fixture, mail, 20, "when some have come and gone");
    indexed(fixture);
    many_ask(fixture, mail, 20, "when that is indexed");
    desk_close(fixture);
    void (*mishap)(const char *) = mishaps[seed % (sizeof(mishaps) / sizeof(mishaps[0]))];
    if (mishap != NULL) {
        each_file(fixture, mishap);
    }
    desk_open(fixture);
    many_ask(fixture, mail, 20, "after a restart");
    indexed(fixture);
    many_ask(fixture, mail, 20, "some time after it");
    talk(rig, 0, "d STORE 1:* +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "x EXPUNGE\r\n", "OK");
    talk(rig, 0, "o LOGOUT\r\n", "OK");
    search_mail_close(mail);
    stream_release(rig->clients[0].stream);
    rig->clients[0].stream = NULL;
}

static void with_the_index_and_without_answers_are_equal(void **state)
{
    const char *seeds = getenv("SEEDS"), *first = getenv("SEED");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) : 10;
    for (uint64_t seed = from; seed < from + count; seed++) {
        seed_run((struct fixture *)*state, seed);
    }
}

/* ---- What it is for ---- */

static void nothing(void *owner)
{
    *(bool *)owner = true;
}

/* How many of the messages of INBOX it excludes for this word; -1: it does not help. */
static int excluded(struct fixture *fixture, const char *word)
{
    struct mailstore *store = fixture->rig->store.store;
    const struct search_wanted wanted = {slice_text(word), SEARCH_IN_HEADER | SEARCH_IN_BODY};
    struct mailstore_user *user;
    bool answered = false;
    int count = 0;
    assert_int_equal(mailstore_user_open(store, slice_text("alice"), &user), 0);
    const struct search_asker asker = {nothing, &answered, UINT32_MAX};
    struct search_question *question = search_desk_ask(fixture->desk, user, &wanted, 1, &asker);
    if (question == NULL) {
        count = -1;
    } else {
        for (unsigned i = 0; i < 100 && !answered; i++) {
            rig_round(fixture->rig);
        }
        assert_true(answered);
        struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
        assert_int_equal(mailstore_box_open(store, box), 0);
        for (uint32_t i = 0; i < box->count; i++) {
            count += search_question_excludes(question, 0, box->entries[i].text);
        }
        mailstore_box_close(store, box);
    }
    search_question_end(question);
    mailstore_user_close(store, user);
    return count;
}

static void three_letters(struct fixture *fixture)
{
    log_in(fixture->rig, 0);
    append(fixture->rig, 0, "INBOX", "Subject: one\r\n\r\nneedle in the hay\r\n");
    append(fixture->rig, 0, "INBOX", "Subject: needle\r\n\r\nhay\r\n");
    append(fixture->rig, 0, "INBOX", "Subject: three\r\n\r\nhay\r\n");
}

static void messages_without_the_word_need_not_be_read(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    three_letters(fixture);
    assert_int_equal(excluded(fixture, "needle"), 0); /* nothing is indexed */
    indexed(fixture);
    assert_int_equal(counted(fixture).texts_added, 3);
    assert_int_equal(excluded(fixture, "needle"), 1);
    assert_int_equal(excluded(fixture, "nowhere"), 3);
    assert_int_equal(excluded(fixture, "ne"), -1); /* too short to tell */
    append(fixture->rig, 0, "INBOX", "Subject: four\r\n\r\nx\r\n");
    assert_int_equal(excluded(fixture, "nowhere"), 3);
    indexed(fixture);
    assert_int_equal(excluded(fixture, "nowhere"), 4);
    assert_int_equal(counted(fixture).answer_bytes, 0);
}

static void what_is_expunged_leaves_the_index(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    three_letters(fixture);
    excluded(fixture, "needle");
    indexed(fixture);
    talk(fixture->rig, 0, "s SELECT INBOX\r\n", "OK");
    talk(fixture->rig, 0, "m COPY 1 INBOX\r\n", "OK");
    talk(fixture->rig, 0, "f STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(fixture->rig, 0, "e EXPUNGE\r\n", "OK");
    indexed(fixture);
    assert_int_equal(counted(fixture).texts_dropped,
                     1); /* the other one is still there as a copy */
    talk(fixture->rig, 0, "d STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    desk_close(fixture); /* what happens meanwhile is found out at the next start */
    talk(fixture->rig, 0, "x EXPUNGE\r\n", "OK");
    desk_open(fixture);
    indexed(fixture);
    assert_int_equal(counted(fixture).texts_dropped, 2);
    assert_int_equal(counted(fixture).questions, 0);
}

static void an_index_of_another_log_or_of_the_future_is_removed(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct search_ids users = {0};
    struct search_thread thread = {.log_id = LOG_ID};
    uint64_t applied = mailstore_applied(fixture->rig->store.store);
    three_letters(fixture);
    excluded(fixture, "needle");
    indexed(fixture);
    desk_close(fixture);
    assert_int_equal(search_thread_open(&thread, fixture->folder, UINT64_MAX, &users), 0);
    assert_int_equal(users.count, 1);
    search_thread_close(&thread);
    /* The log is what it was before the messages came: ids that it gives out now were others' once. */
    users.count = 0;
    assert_int_equal(search_thread_open(&thread, fixture->folder, applied, &users), 0);
    search_thread_close(&thread);
    assert_int_equal(users.count, 0);
    desk_open(fixture);
    assert_int_equal(excluded(fixture, "nowhere"), 0);
    indexed(fixture);
    assert_int_equal(excluded(fixture, "nowhere"), 3);
    desk_close(fixture);
    thread.log_id = LOG_ID + 1;
    assert_int_equal(search_thread_open(&thread, fixture->folder, UINT64_MAX, &users), 0);
    search_thread_close(&thread);
    assert_int_equal(users.count, 0);
    free(users.ids);
    desk_open(fixture);
}

static void a_session_that_ends_while_the_index_is_asked_leaves_nothing(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct imap_rig *rig = fixture->rig;
    three_letters(fixture);
    for (unsigned rounds = 0; rounds < 3; rounds++) {
        log_in(rig, 1);
        talk(rig, 1, "s SELECT INBOX\r\n", "OK");
        fixture->deaf = true;
        say(rig, 1, "q SEARCH BODY needle\r\n");
        rig_rounds(rig, 5);
        expect_not(rig, 1, "q OK");
        stream_abort(rig->clients[1].stream);
        stream_release(rig->clients[1].stream);
        rig->clients[1].stream = NULL;
        rig_rounds(rig, 5);
        fixture->deaf = false;
        rig_rounds(rig, 5);
        assert_int_equal(rig->mailbox.counters.sessions, 1);
    }
    assert_int_equal(counted(fixture).questions, 3);
    fixture->deaf = true; /* and one that the desk ends with */
    say(rig, 0, "s SELECT INBOX\r\nq SEARCH BODY needle\r\n");
    rig_rounds(rig, 5);
}

static void a_folder_that_cannot_be_written_costs_the_index_only(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    three_letters(fixture);
    talk(fixture->rig, 0, "s SELECT INBOX\r\n", "OK");
    assert_int_equal(rmdir(fixture->folder), 0);
    talk(fixture->rig, 0, "q SEARCH BODY needle\r\n", "OK");
    expect(fixture->rig, 0, "* SEARCH 1\r\n");
    for (unsigned i = 0; i < 100 && counted(fixture).failures == 0; i++) {
        rig_round(fixture->rig);
    }
    assert_int_equal(counted(fixture).failures, 1);
    assert_int_equal(mkdir(fixture->folder, 0700), 0);
    indexed(fixture); /* a minute later */
    assert_int_equal(excluded(fixture, "nowhere"), 3);
}

static void a_text_too_long_for_the_index_is_looked_at_each_time(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    size_t size = SEARCH_READ_BYTES_MAX + 1000;
    char *letter = (char *)malloc(size + 1);
    assert_non_null(letter);
    int head = sprintf(letter, "Subject: long\r\n\r\n");
    for (size_t i = (size_t)head; i < size; i++) {
        letter[i] = i % 70 == 69 ? '\n' : 'x';
    }
    strcpy(letter + size - 10, "needle\r\n");
    three_letters(fixture);
    append(fixture->rig, 0, "INBOX", letter);
    free(letter);
    talk(fixture->rig, 0, "s SELECT INBOX\r\n", "OK");
    excluded(fixture, "needle");
    indexed(fixture);
    assert_int_equal(excluded(fixture, "nowhere"), 3);
    talk(fixture->rig, 0, "q SEARCH BODY needle\r\n", "OK");
    expect(fixture->rig, 0, "* SEARCH 1 4\r\n");
}

#define SMALL_LETTERS 100u
#define LARGE_LETTERS 6u /* more than the log has memory for */
#define LARGE_BYTES (1u << 20)

/* What lies about a block that cannot be read is read together with it. */
static void of_a_disk_that_refuses_a_block_no_other_text_is_missing_in_the_index(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct mailstore_rig *store = &fixture->rig->store;
    char *letter = (char *)malloc(LARGE_BYTES + 1), name[32];
    assert_non_null(letter);
    log_in(fixture->rig, 0);
    for (unsigned i = 0; i < SMALL_LETTERS + LARGE_LETTERS; i++) {
        size_t size = i < SMALL_LETTERS ? 1000 : LARGE_BYTES;
        memset(letter, 'x', size);
        memcpy(letter, "Subject: x\r\n\r\n", 14);
        letter[size] = '\0';
        append(fixture->rig, 0, "INBOX", letter);
    }
    snprintf(name, sizeof(name), "%u/%08u.segment", store->rig.settings.shard, 1u);
    disk_fault_refuse_reads(store->rig.fault, name, 12ull * 4096, 1);
    excluded(fixture, "needle");
    indexed(fixture);
    uint64_t added = counted(fixture).texts_added;
    uint64_t failures = mailstore_counters(store->store)->fetch_failures;
    disk_fault_mend(store->rig.fault);
    assert_in_range(failures, 1, 5); /* those that lie in it, each read alone */
    assert_int_equal(added, SMALL_LETTERS + LARGE_LETTERS - failures);
    free(letter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)
        TEST(with_the_index_and_without_answers_are_equal),
        TEST(messages_without_the_word_need_not_be_read),
        TEST(what_is_expunged_leaves_the_index),
        TEST(an_index_of_another_log_or_of_the_future_is_removed),
        TEST(a_session_that_ends_while_the_index_is_asked_leaves_nothing),
        TEST(a_folder_that_cannot_be_written_costs_the_index_only),
        TEST(a_text_too_long_for_the_index_is_looked_at_each_time),
        TEST(of_a_disk_that_refuses_a_block_no_other_text_is_missing_in_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
