/* delivery_shards: LMTP sessions whose recipients are of several shards, with their scripts; who is cut, and who ends. */
#include "engine/core/check.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/remembered.h"
#include "engine/mailbox/sieve_scripts.h"
#include "tests/unit/relay_fake.h"
#include "tests/unit/shards_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define STORED "250 2.0.0 Ok: stored\r\n"
#define MESSAGE "Subject: s\r\n\r\n..dot\r\nbody\r\n"

static int set_up(void **state)
{
    (void)state;
    shards_rig_open(3, 11, NULL);
    shards_rig.late_percent = 40;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < shards_rig.count; i++) {
        struct mailbox *mailbox = &shards_rig.shards[i].mailbox;
        sieve_scripts_close(mailbox->scripts);
        if (mailbox->outgoing != NULL) {
            outgoing_abort(mailbox->outgoing);
        }
    }
    shards_rig_run();
    for (unsigned i = 0; i < shards_rig.count; i++) {
        outgoing_close(shards_rig.shards[i].mailbox.outgoing);
        remembered_close(shards_rig.shards[i].mailbox.remembered);
    }
    shards_rig_close();
    return 0;
}

static const char *user(unsigned shard, unsigned number)
{
    return shards_rig.shards[shard].users[number];
}

static void script_set(unsigned shard, const char *name, const char *text)
{
    struct mailbox *mailbox = &shards_rig.shards[shard].mailbox;
    struct mailstore_rig *store = &shards_rig.shards[shard].store;
    const struct mailstore_property rows[] = {
        {.key = slice_text(SIEVE_SCRIPT_KEY "main"), .value = slice_text(text)},
        {.key = slice_text(SIEVE_ACTIVE_KEY), .value = slice_text("main")}};
    struct mailstore_user *owner;
    struct told told;
    if (mailbox->scripts == NULL) {
        check(sieve_scripts_open(&mailbox->scripts, store->store, 2) == 0);
    }
    check(mailstore_user_open(store->store, slice_text(name), &owner) == 0);
    for (size_t i = 0; i < 2; i++) {
        check(mailstore_property_set(store->store, owner, &rows[i], told_init(&told)) == 0);
        check(told_wait(store, &told) == 0);
    }
    mailstore_user_close(store->store, owner);
}

/* To these users; ends with NULL. What MAIL to DATA take. */
static const char *envelope(const char *const *users)
{
    static char text[4096];
    char *at = text + sprintf(text, "MAIL FROM:<boss@x.test>\r\n");
    for (; *users != NULL; users++) {
        at += sprintf(at, "RCPT TO:<%s@y>\r\n", *users);
    }
    sprintf(at, "DATA\r\n");
    return text;
}

static void greet(void)
{
    shards_rig_connect();
    shards_rig_talk("");
    shards_rig_talk("LHLO client.test\r\n");
}

static const char *deliver(const char *const *users, const char *message)
{
    assert_non_null(strstr(shards_rig_talk(envelope(users)), "354 "));
    shards_rig_say(message);
    return shards_rig_talk(".\r\n");
}

struct held {
    unsigned count;
    char text[65536];
};

static void held_take(void *owner, struct slice mailbox, struct slice text)
{
    struct held *held = (struct held *)owner;
    (void)mailbox;
    check(text.size < sizeof held->text);
    held->count++;
    memcpy(held->text, text.bytes, text.size);
    held->text[text.size] = '\0';
}

/* The last message of a user; how many he has: *count. */
static const char *held(unsigned shard, const char *name, unsigned *count)
{
    static struct held one;
    one.count = 0;
    one.text[0] = '\0';
    for (unsigned i = 0; i < shards_rig.count; i++) {
        unsigned before = one.count;
        shards_rig_each(i, name, held_take, &one);
        assert_true(i == shard || one.count == before);
    }
    *count = one.count;
    return one.text;
}

static unsigned held_count(unsigned shard, const char *name)
{
    unsigned count;
    held(shard, name, &count);
    return count;
}

static void all_have_it_with_one_trace_each_on_his_shard(void **state)
{
    const char *const users[] = {user(1, 0), user(0, 0), user(2, 0), user(1, 1), NULL};
    static const unsigned shards[] = {1, 0, 2, 1};
    char first[65536] = "";
    (void)state;
    greet();
    assert_string_equal(deliver(users, MESSAGE), STORED STORED STORED STORED);
    for (size_t i = 0; users[i] != NULL; i++) {
        unsigned count;
        const char *text = held(shards[i], users[i], &count);
        assert_int_equal(count, 1);
        assert_memory_equal(text, "Return-Path: <boss@x.test>\r\nReceived: from client.test", 53);
        assert_non_null(strstr(text, " id 80"));
        assert_string_equal(strstr(text, "Subject:"), "Subject: s\r\n\r\n.dot\r\nbody\r\n");
        assert_true(i == 0 || strcmp(first, text) == 0);
        strcpy(first, text);
    }
    assert_string_equal(deliver(users, MESSAGE), STORED STORED STORED STORED);
    unsigned count;
    assert_string_not_equal(held(1, users[0], &count), first); /* another id */
    assert_int_equal(count, 2);
}

static void one_recipient_of_another_shard_is_named_in_his_message(void **state)
{
    const char *const users[] = {user(2, 0), NULL};
    char line[64];
    unsigned count;
    (void)state;
    greet();
    assert_string_equal(deliver(users, MESSAGE), STORED);
    snprintf(line, sizeof line, "\r\nDelivered-To: %s@y\r\n", users[0]);
    assert_non_null(strstr(held(2, users[0], &count), line));
    assert_int_equal(count, 1);
}

static void what_is_for_the_sessions_own_shard_goes_straight(void **state)
{
    const char *const users[] = {user(0, 0), user(0, 1), NULL};
    (void)state;
    greet();
    assert_string_equal(deliver(users, MESSAGE), STORED STORED);
    assert_int_equal(shards_rig.notes, 0);
    assert_int_equal(held_count(0, users[0]), 1);
    assert_int_equal(held_count(0, users[1]), 1);
}

static void who_goes_before_the_text_wakes_no_other_shard(void **state)
{
    const char *const users[] = {user(0, 0), user(1, 0), NULL};
    (void)state;
    greet();
    assert_non_null(strstr(shards_rig_talk(envelope(users)), "354 "));
    stream_abort(shards_rig.client);
    shards_rig_run();
    assert_int_equal(shards_rig.notes, 0);
    assert_true(list_empty(&shards_rig.shards[0].mailbox.sessions));
    assert_int_equal(shards_rig.shards[0].mailbox.spread_count, 0);
}

static void scripts_of_each_shard_are_run_there_and_their_words_reach_the_client(void **state)
{
    const char *const users[] = {user(0, 0), user(1, 0), user(2, 0), user(1, 1), NULL};
    static const char *const answers = STORED "550 5.7.1 not from you\r\n"
                                              "550 5.7.1 nor from me\r\n" STORED;
    (void)state;
    script_set(1, users[1], "require \"ereject\"; ereject \"not from you\";");
    script_set(2, users[2], "require \"ereject\"; ereject \"nor from me\";");
    script_set(1, users[3], "if header :is \"subject\" \"s\" { keep; } else { discard; }");
    greet();
    assert_string_equal(deliver(users, MESSAGE), answers);
    assert_string_equal(deliver(users, MESSAGE), answers);
    assert_int_equal(held_count(0, users[0]), 2);
    assert_int_equal(held_count(1, users[1]), 0);
    assert_int_equal(held_count(2, users[2]), 0);
    assert_int_equal(held_count(1, users[3]), 2);
}

static void redirects_open(struct mailbox *mailbox, struct relay_fake *relay)
{
    const struct outgoing_settings settings = {
        .shard = mailbox->shard, .network = shards_rig.network, .store = mailbox->texts};
    const struct outgoing_conf conf = {.hostname = slice_text("mail.test"),
                                       .relay = relay_fake_address,
                                       .keep_trying_ns = 86400ull * 1000000000ull};
    relay_fake_open(relay, shards_rig.network);
    check(outgoing_open(&mailbox->outgoing, &settings, &conf) == 0);
}

static void redirects_end(struct mailbox *mailbox, struct relay_fake *relay)
{
    outgoing_abort(mailbox->outgoing);
    shards_rig_run();
    relay_fake_close(relay);
}

/* Delivered-To: in front of the text is ours then, on whichever shard he is. */
static void what_the_only_recipient_of_another_shard_redirects_is_no_loop(void **state)
{
    static struct relay_fake relay;
    struct mailbox *mailbox = &shards_rig.shards[1].mailbox;
    const char *const users[] = {user(1, 0), NULL};
    char message[200];
    (void)state;
    redirects_open(mailbox, &relay);
    script_set(1, users[0], "redirect \"a@z\";");
    greet();
    assert_string_equal(deliver(users, MESSAGE), STORED);
    assert_int_equal(relay.messages, 1);
    assert_int_equal(held_count(1, users[0]), 0);
    snprintf(message, sizeof message, "Delivered-To: %s@y\r\n" MESSAGE, users[0]);
    assert_string_equal(deliver(users, message), STORED);
    assert_int_equal(relay.messages, 1);
    assert_int_equal(held_count(1, users[0]), 1);
    redirects_end(mailbox, &relay);
}

/* Delivered-To: in front of the text is the sender's when the message has other recipients on other shards. */
static void a_redirect_that_loops_is_seen_though_its_shard_has_but_one_recipient(void **state)
{
    static struct relay_fake relay;
    struct mailbox *mailbox = &shards_rig.shards[1].mailbox;
    const char *const users[] = {user(1, 0), user(0, 0), NULL};
    char message[200];
    (void)state;
    redirects_open(mailbox, &relay);
    script_set(1, users[0], "redirect \"a@z\";");
    greet();
    assert_string_equal(deliver(users, MESSAGE), STORED STORED);
    assert_int_equal(relay.messages, 1);
    assert_int_equal(held_count(1, users[0]), 0);
    snprintf(message, sizeof message, "Delivered-To: %s@y\r\n" MESSAGE, users[0]);
    assert_string_equal(deliver(users, message), STORED STORED);
    assert_int_equal(relay.messages, 1);
    assert_int_equal(held_count(1, users[0]), 1);
    redirects_end(mailbox, &relay);
}

static void a_client_that_is_cut_in_any_round_leaves_nothing_behind(void **state)
{
    (void)state;
    for (unsigned rounds = 0; rounds < 60; rounds++) {
        const char *const users[] = {user(1, 0), user(0, 0), user(2, 0), NULL};
        const bool whole = rounds % 3 != 0;
        unsigned before = held_count(0, users[1]);
        static char message[50000];
        char *at = message + sprintf(message, "Subject: s\r\n\r\n");
        for (int i = 0; i < 700; i++) {
            at += sprintf(at, "..%060d\r\n", i);
        }
        greet();
        shards_rig_say(envelope(users));
        shards_rig_say(message);
        shards_rig_say(whole ? ".\r\n" : "");
        for (unsigned i = 0; i < rounds; i++) {
            shards_rig_round();
        }
        stream_abort(shards_rig.client);
        stream_release(shards_rig.client);
        shards_rig.client = NULL;
        shards_rig_run();
        for (unsigned i = 0; i < shards_rig.count; i++) {
            const struct mailbox *mailbox = &shards_rig.shards[i].mailbox;
            assert_true(list_empty(&mailbox->sessions) && list_empty(&mailbox->parts));
            assert_int_equal(mailbox->spread_count, 0);
            assert_int_equal(mailstore_counters(mailbox->texts)->drafts, 0);
        }
        assert_in_range(held_count(0, users[1]), before, before + whole);
        /* What was committed was committed for all, since no store has failed. */
        assert_int_equal(held_count(0, users[1]), held_count(1, users[0]));
        assert_int_equal(held_count(0, users[1]), held_count(2, users[2]));
    }
    assert_in_range(held_count(0, user(0, 0)), 1, 59);
}

/* Of the session, or of a recipient: mailbox_close, in whatever order. */
static void shards_that_end_while_a_session_is_busy_leave_nothing_behind(void **state)
{
    (void)state;
    for (unsigned rounds = 0; rounds < 60; rounds++) {
        const char *const users[] = {user(1, 0), user(0, 0), user(2, 0), NULL};
        if (rounds > 0) {
            shards_rig_close();
            set_up(NULL);
        }
        greet();
        shards_rig_say(envelope(users));
        shards_rig_say(MESSAGE);
        shards_rig_say(rounds % 4 == 0 ? "" : ".\r\n");
        for (unsigned i = 0; i < rounds / 3; i++) {
            shards_rig_round();
        }
        shards_rig_end(rounds % 3);
        for (unsigned i = 0; i < rounds / 2; i++) {
            shards_rig_round();
        }
        shards_rig_end((rounds + 1) % 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(all_have_it_with_one_trace_each_on_his_shard),
        TEST(one_recipient_of_another_shard_is_named_in_his_message),
        TEST(what_is_for_the_sessions_own_shard_goes_straight),
        TEST(who_goes_before_the_text_wakes_no_other_shard),
        TEST(scripts_of_each_shard_are_run_there_and_their_words_reach_the_client),
        TEST(what_the_only_recipient_of_another_shard_redirects_is_no_loop),
        TEST(a_redirect_that_loops_is_seen_though_its_shard_has_but_one_recipient),
        TEST(a_client_that_is_cut_in_any_round_leaves_nothing_behind),
        TEST(shards_that_end_while_a_session_is_busy_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
