/* mailbox: LMTP sessions into the service's own store, which now and then has no room, or refuses. */
#include "engine/core/check.h"
#include "engine/mailbox/delivery_quota.h"
#include "engine/mailbox/mailbox_private.h"
#include "engine/mailbox/outgoing.h"
#include "queue/mailbox/maildir_files.h"
#include "queue/mailbox/mailstore.h"
#include "tests/unit/fake_network.h"
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND 1000000000ull

struct fixture {
    char folder[64];
    struct world world;
    uint64_t now_ns;
    struct logger logger;
    struct shard shard;
    struct network *network;
    struct mailboxd_conf *conf;
    struct mailbox *mailbox;
    struct stream *client;
    char heard[65536];
    size_t heard_bytes;
    unsigned drained;
};

/* ---- a store that says no so often ---- */

static unsigned begins_put_off, appends_put_off;
static int begin_error, append_error, commit_error;
static bool commit_untold; /* who commits hears no more of it */

int __real_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft);
int __wrap_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft);
int __real_mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count);
int __wrap_mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count);
int __real_mailstore_commit(struct mailstore_draft *draft, uint64_t thread,
                            struct mailstore_place *places, uint32_t count,
                            struct mailstore_waiter *waiter);
int __wrap_mailstore_commit(struct mailstore_draft *draft, uint64_t thread,
                            struct mailstore_place *places, uint32_t count,
                            struct mailstore_waiter *waiter);

int __wrap_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft)
{
    if (begins_put_off > 0) {
        begins_put_off--;
        return -EAGAIN;
    }
    return begin_error != 0 ? begin_error : __real_mailstore_begin(store, draft);
}

int __wrap_mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count)
{
    if (appends_put_off > 0 && appends_put_off-- % 2 == 0) { /* every other one */
        return -EAGAIN;
    }
    return append_error != 0 ? append_error : __real_mailstore_append(draft, parts, count);
}

int __wrap_mailstore_commit(struct mailstore_draft *draft, uint64_t thread,
                            struct mailstore_place *places, uint32_t count,
                            struct mailstore_waiter *waiter)
{
    if (commit_error != 0) {
        mailstore_abort(draft); /* it is given in any case */
        return commit_error;
    }
    if (commit_untold) {
        mailstore_abort(draft);
        return 0;
    }
    return __real_mailstore_commit(draft, thread, places, count, waiter);
}

/* ---- the service, driven by hand ---- */

static uint64_t virtual_now(void *self)
{
    return ((struct fixture *)self)->now_ns;
}

static int64_t virtual_wall(void *self)
{
    (void)self;
    return 1700000000;
}

static void no_random(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static unsigned network_poll(void *self, uint64_t now_ns)
{
    return ((struct network *)self)->ops->poll(self, now_ns);
}

static void hear(struct stream *stream, uint32_t events, void *owner)
{
    struct fixture *fixture = (struct fixture *)owner;
    struct slice piece;
    (void)events;
    while (stream_peek(stream, &piece, 1) == 1) {
        check(fixture->heard_bytes + piece.size < sizeof fixture->heard);
        memcpy(fixture->heard + fixture->heard_bytes, piece.bytes, piece.size);
        fixture->heard_bytes += piece.size;
        fixture->heard[fixture->heard_bytes] = '\0';
        stream_consume(stream, piece.size);
    }
}

static void all_drained(void *owner)
{
    ((struct fixture *)owner)->drained++;
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    check(fixture != NULL);
    begins_put_off = appends_put_off = 0;
    begin_error = append_error = commit_error = 0;
    commit_untold = false;
    strcpy(fixture->folder, "/tmp/mailbox-test-XXXXXX");
    check(mkdtemp(fixture->folder) != NULL);
    fixture->world = (struct world){virtual_now, virtual_wall, no_random, fixture};
    fixture->now_ns = SECOND;
    logger_open(&fixture->logger, -1, LOGGER_ERROR);
    struct shard_settings settings = {
        .count = 1, .cpu = -1, .world = &fixture->world, .logger = &fixture->logger};
    check(shard_open(&fixture->shard, &settings) == 0);
    fixture->network = fake_network_open(65536);
    struct shard_part part = {.name = "network", .self = fixture->network, .poll = network_poll};
    shard_add(&fixture->shard, &part);
    struct conf_report report;
    check(mailboxd_conf_load(&fixture->conf, NULL, "mail.test", &report) == 0);
    struct mailboxd_conf *conf = fixture->conf;
    conf->store.path = fixture->folder;
    conf->store.format = CONF_STORE_LOG;
    conf->store.segment_bytes = 2 << 20;
    conf->store.memory_bytes = 8 << 20;
    conf->store.free_min_bytes = 0;
    struct mailbox_settings service = {.conf = conf,
                                       .shard = &fixture->shard,
                                       .network = fixture->network,
                                       .drained = all_drained,
                                       .owner = fixture};
    check(mailbox_open(&fixture->mailbox, &service) == 0);
    check(mailbox_listen(fixture->mailbox) == 0);
    mailbox_add_parts(fixture->mailbox);
    struct connect_request request = {.to = conf->listen[0].addresses[0]};
    check(fixture->network->ops->connect(fixture->network, &request, &fixture->client) == 0);
    fixture->client->notify = hear;
    fixture->client->session = fixture;
    *state = fixture;
    return 0;
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
    mailbox_close(fixture->mailbox);
    fixture->network->ops->close(fixture->network);
    shard_close(&fixture->shard);
    mailboxd_conf_free(fixture->conf);
    nftw(fixture->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* Says it, and rounds until there are so many replies; the disk has threads, so a real clock bounds the wait. */
static void talk(struct fixture *fixture, const char *text, unsigned replies)
{
    time_t end = time(NULL) + 30;
    fixture->heard_bytes = 0;
    fixture->heard[0] = '\0';
    if (*text != '\0') {
        assert_int_equal(stream_write(fixture->client, slice_text(text)), 0);
    }
    for (;;) {
        shard_round(&fixture->shard);
        unsigned heard = 0;
        for (const char *line = fixture->heard; *line != '\0';) {
            heard += strlen(line) > 3 && line[3] == ' ';
            const char *next = strstr(line, "\r\n");
            line = next != NULL ? next + 2 : line + strlen(line);
        }
        if (heard >= replies) {
            return;
        }
        assert_true(time(NULL) < end);
        sched_yield();
    }
}

static void greet(struct fixture *fixture)
{
    talk(fixture, "", 1);
    talk(fixture, "LHLO client.test\r\n", 1);
}

#define ENVELOPE "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nRCPT TO:<bob@y>\r\nDATA\r\n"
#define TEXT "Subject: x\r\n\r\n..dot\r\n.\r\n"

/* The newest text of a user's INBOX; its bytes are the heap's. NULL: he has none. */
static char *newest(struct fixture *fixture, const char *name, uint32_t *count)
{
    struct mailstore *store = fixture->mailbox->texts;
    struct mailstore_user *user;
    assert_int_equal(mailstore_user_open(store, slice_text(name), &user), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    *count = box == NULL ? 0 : box->count;
    char *whole = NULL;
    if (*count > 0) {
        assert_int_equal(mailstore_box_open(store, box), 0);
        struct mailstore_text text = {0};
        struct slice bytes;
        struct ref *owner;
        struct mailstore_fetch fetch = {0};
        assert_int_equal(mailstore_text_open(store, box->entries[*count - 1].text, &text), 0);
        assert_int_equal(mailstore_read(store, &text, 0, &bytes, &owner, &fetch), 0);
        assert_int_equal(bytes.size, text.bytes);
        whole = strndup((const char *)bytes.bytes, bytes.size);
        ref_drop(owner);
        mailstore_text_close(store, &text);
        mailstore_box_close(store, box);
    }
    mailstore_user_close(store, user);
    return whole;
}

static void assert_stored(struct fixture *fixture, const char *user, uint32_t messages)
{
    uint32_t count;
    char *text = newest(fixture, user, &count);
    assert_int_equal(count, messages);
    assert_non_null(text);
    assert_memory_equal(text, "Return-Path: <a@x>\r\nReceived: from client.test", 46);
    assert_string_equal(strstr(text, "Subject:"), "Subject: x\r\n\r\n.dot\r\n");
    free(text);
}

/* ---- tests ---- */

static void a_message_waits_until_the_store_can_begin_it_and_take_it(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    begins_put_off = 3;
    appends_put_off = 8;
    talk(fixture, ENVELOPE, 4);
    talk(fixture, TEXT, 2);
    assert_string_equal(fixture->heard, "250 2.0.0 Ok: stored\r\n250 2.0.0 Ok: stored\r\n");
    assert_int_equal(begins_put_off, 0);
    assert_in_range(appends_put_off, 0, 7);
    assert_stored(fixture, "alice", 1);
    assert_stored(fixture, "bob", 1);
}

static void a_commit_that_is_refused_at_once_is_told_to_each_and_the_session_goes_on(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    talk(fixture, ENVELOPE, 4);
    commit_error = -ENOSPC;
    talk(fixture, TEXT "NOOP\r\n", 3);
    assert_string_equal(fixture->heard, "452 4.3.1 Insufficient system storage\r\n"
                                        "452 4.3.1 Insufficient system storage\r\n"
                                        "250 2.0.0 Ok\r\n");
    commit_error = 0;
    talk(fixture, ENVELOPE, 4);
    talk(fixture, TEXT, 2);
    assert_string_equal(fixture->heard, "250 2.0.0 Ok: stored\r\n250 2.0.0 Ok: stored\r\n");
    assert_stored(fixture, "bob", 1);
}

static void a_store_that_is_full_or_broken_is_told_by_its_code(void **state)
{
    static const struct {
        int *error, status;
        const char *told;
    } rows[] = {
        {&begin_error, -ENOSPC, "452 4.3.1 Insufficient system storage\r\n"},
        {&begin_error, -EIO, "451 4.3.0 The message could not be stored, try again later\r\n"},
        {&append_error, -ENOSPC, "452 4.3.1 Insufficient system storage\r\n"},
        {&append_error, -EFBIG, "451 4.3.0 The message could not be stored, try again later\r\n"},
    };
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        *rows[i].error = rows[i].status;
        talk(fixture, ENVELOPE, 4);
        talk(fixture, TEXT, 2);
        char twice[200];
        snprintf(twice, sizeof twice, "%s%s", rows[i].told, rows[i].told);
        assert_string_equal(fixture->heard, twice);
        *rows[i].error = 0;
    }
    talk(fixture, ENVELOPE, 4);
    talk(fixture, TEXT, 2);
    assert_stored(fixture, "alice", 1);
}

static void a_client_that_goes_while_its_message_is_committed_does_no_harm(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    uint32_t count = 0;
    greet(fixture);
    talk(fixture, ENVELOPE, 4);
    assert_int_equal(stream_write(fixture->client, slice_text(TEXT)), 0);
    time_t end = time(NULL) + 30;
    while (mailstore_counters(fixture->mailbox->texts)->texts_committed == 0) {
        shard_round(&fixture->shard);
        assert_true(time(NULL) < end);
    }
    stream_abort(fixture->client);
    while (count == 0) {
        shard_round(&fixture->shard);
        free(newest(fixture, "alice", &count));
        assert_true(time(NULL) < end);
    }
    while (!list_empty(&fixture->mailbox->sessions)) {
        shard_round(&fixture->shard);
        assert_true(time(NULL) < end);
    }
    assert_int_equal(mailbox_counters(fixture->mailbox)->sessions, 0);
}

static void a_drain_ends_when_all_is_on_the_disk(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    talk(fixture, ENVELOPE, 4);
    mailbox_drain(fixture->mailbox, fixture->now_ns + 60 * SECOND);
    talk(fixture, TEXT, 2);
    assert_memory_equal(fixture->heard, "250 2.0.0 Ok: stored\r\n250 2.0.0 Ok: stored\r\n", 44);
    time_t end = time(NULL) + 30;
    while (fixture->drained == 0) {
        fixture->now_ns += SECOND / 100;
        shard_round(&fixture->shard);
        assert_true(time(NULL) < end);
    }
    assert_true(list_empty(&fixture->mailbox->sessions));
    assert_true(mailstore_is_quiet(fixture->mailbox->texts));
    assert_stored(fixture, "alice", 1);
}

static void a_drain_ends_at_the_deadline_though_the_store_never_tells(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    commit_untold = true;
    greet(fixture);
    talk(fixture, ENVELOPE, 4);
    assert_int_equal(stream_write(fixture->client, slice_text(TEXT)), 0);
    shard_round(&fixture->shard);
    mailbox_drain(fixture->mailbox, fixture->now_ns + 60 * SECOND);
    for (int i = 0; i < 59 * 50; i++) {
        fixture->now_ns += SECOND / 50;
        shard_round(&fixture->shard);
    }
    assert_int_equal(fixture->drained, 0);
    time_t end = time(NULL) + 30;
    while (fixture->drained == 0) {
        fixture->now_ns += SECOND / 50;
        shard_round(&fixture->shard);
        assert_true(time(NULL) < end);
    }
    assert_false(
        list_empty(&fixture->mailbox->sessions)); /* one waits still: tear_down closes over it */
}

int __wrap_quota_ledger_open(struct quota_ledger **ledger, struct mailbox *mailbox);

int __wrap_quota_ledger_open(struct quota_ledger **ledger, struct mailbox *mailbox)
{
    (void)ledger, (void)mailbox;
    return -ENOMEM;
}

static void what_scripts_have_opened_does_not_run_on_when_maildirs_cannot_be_opened(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    struct mailboxd_conf conf = *fixture->conf;
    struct mailbox *mailbox = NULL;
    struct maildir_files files;
    char folder[96];
    snprintf(folder, sizeof folder, "%s/maildirs", fixture->folder);
    conf.store.path = folder;
    conf.store.format = CONF_STORE_MAILDIR;
    maildir_system_files(&files);
    const struct mailbox_settings service = {.conf = &conf,
                                             .shard = &fixture->shard,
                                             .network = fixture->network,
                                             .files = &files,
                                             .process_id = 1};
    for (unsigned i = 0; i < 2; i++) { /* and the folder is free again */
        assert_int_equal(mailbox_open(&mailbox, &service), -ENOMEM);
        fixture->now_ns += OUTGOING_RETRY_NS_MAX; /* no timer of what is sent is left */
        shard_round(&fixture->shard);
    }
    assert_null(mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_message_waits_until_the_store_can_begin_it_and_take_it),
        TEST(a_commit_that_is_refused_at_once_is_told_to_each_and_the_session_goes_on),
        TEST(a_store_that_is_full_or_broken_is_told_by_its_code),
        TEST(a_client_that_goes_while_its_message_is_committed_does_no_harm),
        TEST(a_drain_ends_when_all_is_on_the_disk),
        TEST(a_drain_ends_at_the_deadline_though_the_store_never_tells),
        TEST(what_scripts_have_opened_does_not_run_on_when_maildirs_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
