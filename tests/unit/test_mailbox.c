/* mailbox: LMTP sessions into Maildirs, over the tests' network, on a shard that is driven by hand. */
#include "engine/core/check.h"
#include "engine/mailbox/mailbox.h"
#include "tests/unit/fake_network.h"
#include <dirent.h>
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
    struct maildir_files files;
    uint64_t now_ns;
    struct logger logger;
    struct shard shard;
    struct network *network;
    struct mailboxd_conf *conf;
    struct mailbox *mailbox;
    struct stream *client;
    char heard[65536];
    size_t heard_bytes;
    bool closed, deaf;
    unsigned drained;
};

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
    while (!fixture->deaf && stream_peek(stream, &piece, 1) == 1) {
        check(fixture->heard_bytes + piece.size < sizeof fixture->heard);
        memcpy(fixture->heard + fixture->heard_bytes, piece.bytes, piece.size);
        fixture->heard_bytes += piece.size;
        fixture->heard[fixture->heard_bytes] = '\0';
        stream_consume(stream, piece.size);
    }
    fixture->closed = fixture->closed || (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0;
}

static void all_drained(void *owner)
{
    ((struct fixture *)owner)->drained++;
}

static void open_service(struct fixture *fixture)
{
    struct mailbox_settings settings = {
        .conf = fixture->conf,
        .shard = &fixture->shard,
        .network = fixture->network,
        .files = &fixture->files,
        .process_id = 1,
        .stateless = true,
        .drained = all_drained,
        .owner = fixture,
    };
    check(mailbox_open(&fixture->mailbox, &settings) == 0);
    check(mailbox_listen(fixture->mailbox) == 0);
    mailbox_add_parts(fixture->mailbox);
    struct connect_request request = {.to = fixture->conf->listen[0].addresses[0]};
    check(fixture->network->ops->connect(fixture->network, &request, &fixture->client) == 0);
    fixture->client->notify = hear;
    fixture->client->session = fixture;
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    check(fixture != NULL);
    strcpy(fixture->folder, "/tmp/mailbox-test-XXXXXX");
    check(mkdtemp(fixture->folder) != NULL);
    fixture->world = (struct world){virtual_now, virtual_wall, no_random, fixture};
    maildir_system_files(&fixture->files);
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
    fixture->conf->store.path = fixture->folder;
    fixture->conf->store.durability = CONF_DURABILITY_NONE;
    fixture->conf->limits.pending_bytes = 256 << 10;
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
    if (fixture->mailbox != NULL) {
        mailbox_close(fixture->mailbox);
    }
    fixture->network->ops->close(fixture->network);
    shard_close(&fixture->shard);
    mailboxd_conf_free(fixture->conf);
    nftw(fixture->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* Rounds until `count` replies (last lines) were heard, or the connection is closed. The writer is a thread of its
 * own, so rounds may be idle; a real clock bounds the wait. */
static void hear_replies(struct fixture *fixture, unsigned count)
{
    time_t end = time(NULL) + 30;
    for (;;) {
        while (shard_round(&fixture->shard) > 0) {
        }
        unsigned replies = 0;
        for (const char *line = fixture->heard; *line != '\0';) {
            replies += strlen(line) > 3 && line[3] == ' ';
            const char *next = strstr(line, "\r\n");
            line = next != NULL ? next + 2 : line + strlen(line);
        }
        if (replies >= count || fixture->closed) {
            return;
        }
        assert_true(time(NULL) < end);
        sched_yield();
    }
}

static void say(struct fixture *fixture, const char *text)
{
    assert_int_equal(stream_write(fixture->client, slice_text(text)), 0);
}

/* Forgets what was heard so far, says the text, and hears that many replies. */
static void talk(struct fixture *fixture, const char *text, unsigned replies)
{
    fixture->heard_bytes = 0;
    fixture->heard[0] = '\0';
    say(fixture, text);
    hear_replies(fixture, replies);
}

static void greet(struct fixture *fixture)
{
    open_service(fixture);
    hear_replies(fixture, 1);
    assert_memory_equal(fixture->heard, "220 mail.test", 13);
    talk(fixture, "LHLO client.test\r\n", 1);
    assert_memory_equal(fixture->heard, "250-mail.test", 13);
}

static unsigned files_of(const struct fixture *fixture, const char *user, char *text, size_t size)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s/new", fixture->folder, user);
    DIR *files = opendir(path);
    unsigned count = 0;
    for (struct dirent *entry; files != NULL && (entry = readdir(files)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        count++;
        char name[700];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        FILE *file = text != NULL ? fopen(name, "r") : NULL;
        if (file != NULL) {
            text[fread(text, 1, size - 1, file)] = '\0';
            fclose(file);
        }
    }
    if (files != NULL) {
        closedir(files);
    }
    return count;
}

/* ---- tests ---- */

static void a_message_is_stored_with_its_trace_and_answered_after(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    char text[4096];
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x.test>\r\nRCPT TO:<Alice@y.test>\r\nDATA\r\n", 3);
    assert_non_null(strstr(fixture->heard, "\r\n354 "));
    talk(fixture, "Subject: hi\r\n\r\n..dot\r\n.\r\n", 1);
    assert_string_equal(fixture->heard, "250 2.0.0 Ok: stored\r\n");
    assert_int_equal(files_of(fixture, "alice", text, sizeof text), 1);
    assert_memory_equal(text,
                        "Return-Path: <a@x.test>\nDelivered-To: Alice@y.test\nReceived: ", 61);
    assert_non_null(strstr(text, "client.test"));
    assert_non_null(strstr(text, "LMTP id M000000P1Q0R07070707"));
    assert_string_equal(strstr(text, "Subject:"), "Subject: hi\n\n.dot\n");
    assert_null(strchr(text, '\r'));
}

static void each_recipient_has_a_reply_of_his_own_in_order(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    fixture->conf->users.quota_bytes = 600;
    greet(fixture);
    talk(fixture, "MAIL FROM:<>\r\nRCPT TO:<full@y>\r\nDATA\r\n", 3);
    char text[700];
    memset(text, 'x', sizeof text);
    strcpy(text + 380, "\r\n.\r\n");
    talk(fixture, text, 1);
    assert_string_equal(fixture->heard, "250 2.0.0 Ok: stored\r\n");
    talk(fixture,
         "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nRCPT TO:<\"../etc\"@y>\r\nRCPT "
         "TO:<full@y>\r\nRCPT TO:<bob@y>\r\n"
         "DATA\r\n",
         6);
    static const char replies[] =
        "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 User unknown\r\n250 2.1.5 Ok\r\n"
        "250 2.1.5 Ok\r\n354 ";
    assert_memory_equal(fixture->heard, replies, sizeof replies - 1);
    talk(fixture, text, 3);
    assert_string_equal(
        fixture->heard,
        "250 2.0.0 Ok: stored\r\n452 4.2.2 Mailbox is full\r\n250 2.0.0 Ok: stored\r\n");
    assert_int_equal(files_of(fixture, "alice", NULL, 0), 1);
    assert_int_equal(files_of(fixture, "full", NULL, 0), 1);
    assert_int_equal(files_of(fixture, "bob", NULL, 0), 1);
}

static void only_listed_users_exist_where_any_is_off(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    static const char *known[] = {"Alice", NULL};
    fixture->conf->users.any = false;
    fixture->conf->users.known = known;
    fixture->conf->users.known_count = 1;
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nRCPT TO:<bob@y>\r\n", 3);
    assert_string_equal(fixture->heard,
                        "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 User unknown\r\n");
}

static void more_recipients_than_the_machine_has_room_for_replies_are_all_answered(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { COUNT = 300 };
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\n", 1);
    for (int i = 0; i < COUNT; i++) {
        char line[64];
        snprintf(line, sizeof line, "RCPT TO:<user%d@y>\r\n", i);
        talk(fixture, line, 1);
        assert_memory_equal(fixture->heard, "250 ", 4);
    }
    talk(fixture, "DATA\r\n", 1);
    talk(fixture, "x\r\n.\r\nNOOP\r\n", COUNT + 1);
    const char *line = fixture->heard;
    for (int i = 0; i < COUNT; i++, line += 22) {
        assert_memory_equal(line, "250 2.0.0 Ok: stored\r\n", 22);
    }
    assert_memory_equal(line, "250 ", 4);
}

static void a_message_that_is_too_large_is_refused_for_each_recipient(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { COUNT = 100 };
    fixture->conf->limits.message_bytes = 1024;
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\n", 1);
    for (int i = 0; i < COUNT; i++) {
        talk(fixture, "RCPT TO:<user@y>\r\n", 1);
    }
    talk(fixture, "DATA\r\n", 1);
    char text[2000];
    memset(text, 'x', sizeof text);
    strcpy(text + 1900, "\r\n.\r\nNOOP\r\n");
    talk(fixture, text, COUNT + 1);
    unsigned refused = 0;
    for (const char *line = fixture->heard; memcmp(line, "552 ", 4) == 0;
         line = strstr(line, "\r\n") + 2) {
        refused++;
    }
    assert_int_equal(refused, COUNT);
    assert_int_equal(files_of(fixture, "user", NULL, 0), 0);
    talk(fixture, "RCPT TO:<user@y>\r\n", 1);
    assert_memory_equal(fixture->heard, "503 ", 4);
}

static void a_large_message_flows_through_little_memory(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    enum { LINES = 60000, LINE = 80 };
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nDATA\r\n", 3);
    fixture->heard_bytes = 0;
    fixture->heard[0] = '\0';
    char piece[100 * LINE + 1];
    for (int i = 0; i < 100; i++) {
        memset(piece + i * LINE, 'a' + i % 26, LINE - 2);
        memcpy(piece + i * LINE + LINE - 2, "\r\n", 2);
    }
    time_t end = time(NULL) + 60;
    for (int sent = 0; sent < LINES;) {
        if (stream_write(fixture->client, slice_of(piece, 100 * LINE)) == 0) {
            sent += 100;
        } else {
            sched_yield();
        }
        while (shard_round(&fixture->shard) > 0) {
        }
        assert_true(time(NULL) < end);
    }
    while (stream_write(fixture->client, slice_text(".\r\n")) != 0) {
        shard_round(&fixture->shard);
        assert_true(time(NULL) < end);
    }
    hear_replies(fixture, 1);
    assert_string_equal(fixture->heard, "250 2.0.0 Ok: stored\r\n");
    struct mailbox_counters counters = *mailbox_counters(fixture->mailbox);
    assert_int_equal(counters.delivered, 1);
}

static void a_client_that_goes_in_the_body_leaves_nothing(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nDATA\r\n", 3);
    say(fixture, "half a mess");
    shard_round(&fixture->shard);
    stream_abort(fixture->client);
    stream_release(fixture->client);
    while (shard_round(&fixture->shard) > 0) {
    }
    assert_int_equal(mailbox_counters(fixture->mailbox)->sessions, 0);
    mailbox_close(fixture->mailbox);
    fixture->mailbox = NULL;
    assert_int_equal(files_of(fixture, "alice", NULL, 0), 0);
    assert_int_equal(fake_network_streams(fixture->network), 0);
}

static void a_client_that_goes_before_the_answer_does_no_harm(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nDATA\r\n", 3);
    say(fixture, "whole\r\n.\r\n");
    shard_round(&fixture->shard);
    stream_abort(fixture->client);
    stream_release(fixture->client);
    shard_round(&fixture->shard);
    mailbox_close(fixture->mailbox);
    fixture->mailbox = NULL;
    assert_int_equal(files_of(fixture, "alice", NULL, 0), 1);
}

static void a_silent_client_is_told_421_after_its_time(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    fixture->heard_bytes = 0;
    fixture->now_ns += fixture->conf->timeouts.command + SECOND;
    hear_replies(fixture, 1);
    assert_memory_equal(fixture->heard, "421 ", 4);
    hear_replies(fixture, 2);
    assert_true(fixture->closed);
    assert_int_equal(mailbox_counters(fixture->mailbox)->sessions, 0);
}

static void a_message_that_drips_ends_and_leaves_nothing(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nDATA\r\n", 3);
    fixture->heard_bytes = 0;
    for (unsigned i = 0; i < 400 && !fixture->closed; i++) {
        say(fixture, "x");
        fixture->now_ns += SECOND;
        while (shard_round(&fixture->shard) > 0) {
        }
    }
    assert_true(fixture->closed);
    assert_memory_equal(fixture->heard, "421 4.4.2", 9);
    assert_int_equal(mailbox_counters(fixture->mailbox)->sessions, 0);
    assert_int_equal(files_of(fixture, "alice", NULL, 0), 0);
}

static void one_connection_too_many_is_refused(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    fixture->conf->limits.connections = 0;
    open_service(fixture);
    hear_replies(fixture, 1);
    assert_string_equal(fixture->heard, "421 4.3.2 Too many connections\r\n");
}

static void draining_ends_idle_sessions_with_421_and_waits_for_the_others(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\nRCPT TO:<alice@y>\r\nDATA\r\n", 3);
    mailbox_drain(fixture->mailbox, fixture->now_ns + 100 * SECOND);
    for (int i = 0; i < 10; i++) {
        fixture->now_ns += SECOND;
        shard_round(&fixture->shard);
    }
    assert_int_equal(fixture->drained, 0);
    talk(fixture, "x\r\n.\r\n", 1);
    assert_string_equal(fixture->heard, "250 2.0.0 Ok: stored\r\n");
    fixture->heard_bytes = 0;
    for (int i = 0; i < 10 && fixture->drained == 0; i++) {
        fixture->now_ns += SECOND;
        shard_round(&fixture->shard);
    }
    assert_memory_equal(fixture->heard, "421 ", 4);
    assert_int_equal(fixture->drained, 1);
}

static void draining_gives_up_at_the_deadline(void **state)
{
    struct fixture *fixture = (struct fixture *)*state;
    greet(fixture);
    talk(fixture, "MAIL FROM:<a@x>\r\n", 1);
    mailbox_drain(fixture->mailbox, fixture->now_ns + 5 * SECOND);
    for (int i = 0; i < 20 && fixture->drained == 0; i++) {
        fixture->now_ns += SECOND;
        shard_round(&fixture->shard);
    }
    assert_true(fixture->closed);
    assert_int_equal(fixture->drained, 1);
}

#define SERVICE_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(a_message_is_stored_with_its_trace_and_answered_after),
        SERVICE_TEST(each_recipient_has_a_reply_of_his_own_in_order),
        SERVICE_TEST(only_listed_users_exist_where_any_is_off),
        SERVICE_TEST(more_recipients_than_the_machine_has_room_for_replies_are_all_answered),
        SERVICE_TEST(a_message_that_is_too_large_is_refused_for_each_recipient),
        SERVICE_TEST(a_large_message_flows_through_little_memory),
        SERVICE_TEST(a_client_that_goes_in_the_body_leaves_nothing),
        SERVICE_TEST(a_client_that_goes_before_the_answer_does_no_harm),
        SERVICE_TEST(a_silent_client_is_told_421_after_its_time),
        SERVICE_TEST(a_message_that_drips_ends_and_leaves_nothing),
        SERVICE_TEST(one_connection_too_many_is_refused),
        SERVICE_TEST(draining_ends_idle_sessions_with_421_and_waits_for_the_others),
        SERVICE_TEST(draining_gives_up_at_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
