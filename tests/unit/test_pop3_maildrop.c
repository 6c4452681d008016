/* POP3 sessions: what is read, and what is removed. test_pop3_session.c has the rest. */
#include "engine/mailbox/pop3_private.h"
#include "tests/unit/login_fake.h"
#include "tests/unit/pop3_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROOM 65536u
#define LARGE_BYTES 1000000u

static struct pop3_rig rig;
static struct login_desk desk;
static char large[LARGE_BYTES + 1];

static int set_up(void **state)
{
    (void)state;
    login_fake_open(&desk);
    pop3_rig_open(&rig, ROOM, NULL);
    rig.mailbox.logins = &desk;
    rig.logins_round = login_fake_round;
    pop3_rig_listen(&rig, pop3_accepted);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pop3_rig_close(&rig);
    return 0;
}

#define talk(client, text) pop3_client_talk(&rig, (client), (text))

static struct pop3_client *logged_in(const char *user)
{
    struct pop3_client *client = pop3_client_connect(&rig);
    char text[128];
    talk(client, "");
    snprintf(text, sizeof(text), "USER %s\r\nPASS secret\r\n", user);
    assert_string_equal(talk(client, text), "+OK Password?\r\n+OK Logged in\r\n");
    return client;
}

static struct pop3_session *session_of(void)
{
    return (struct pop3_session *)(void *)list_entry(rig.mailbox.sessions.next, struct session,
                                                     node);
}

/* Lines of all lengths, many of which begin with dots. */
static void large_make(void)
{
    size_t size = (size_t)sprintf(large, "Subject: large\r\n\r\n");
    for (uint32_t line = 0; size < LARGE_BYTES; line++) {
        uint32_t bytes = (line * 2654435761u >> 16) % 900;
        for (uint32_t i = 0; i < bytes && size < LARGE_BYTES - 2; i++) {
            large[size++] = i < line % 3 ? '.' : (char)('a' + (line + i) % 26);
        }
        large[size++] = '\r';
        large[size++] = '\n';
        if (size > LARGE_BYTES - 3) {
            break;
        }
    }
    large[size] = '\0';
}

/* What was heard behind "+OK ...", without stuffing, is `text`, and the message is whole. */
static void heard_is(struct pop3_client *client, const char *text)
{
    const char *line = strstr(client->heard, "\r\n");
    size_t at = 0, size = strlen(text);
    assert_memory_equal(client->heard, "+OK", 3);
    assert_non_null(line);
    for (line += 2; strcmp(line, ".\r\n") != 0; line = strchr(line, '\n') + 1) {
        assert_non_null(strchr(line, '\n'));
        line += *line == '.';
        size_t bytes = (size_t)(strchr(line, '\n') - line) + 1;
        assert_true(bytes <= size - at);
        assert_memory_equal(line, text + at, bytes);
        at += bytes;
    }
    assert_int_equal(at, size);
}

/* ---- Reading ---- */

static void messages_are_sent_with_dots_stuffed_and_their_last_line_ended(void **state)
{
    static const struct {
        const char *text, *said, *heard;
    } cases[] = {
        {"a: b\r\n\r\n.\r\n..x\r\n", "RETR 1\r\n",
         "+OK 16 octets\r\na: b\r\n\r\n..\r\n...x\r\n.\r\n"},
        {"a: b\r\n\r\ntorn", "RETR 2\r\n", "+OK 12 octets\r\na: b\r\n\r\ntorn\r\n.\r\n"},
        {"a: b\r\n\r\n1\r\n2\r\n3\r\n", "TOP 3 2\r\n", "+OK\r\na: b\r\n\r\n1\r\n2\r\n.\r\n"},
        {"a: b\r\n\r\n1\r\n", "TOP 4 0\r\n", "+OK\r\na: b\r\n\r\n.\r\n"},
        {"a: b\r\n\r\n1\r\n", "TOP 5 4294967294\r\n", "+OK\r\na: b\r\n\r\n1\r\n.\r\n"},
    };
    const size_t count = sizeof(cases) / sizeof(cases[0]);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        pop3_rig_deliver(&rig, "ann", slice_text(cases[i].text));
    }
    struct pop3_client *client = logged_in("ann");
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(talk(client, cases[i].said), cases[i].heard);
    }
}

static void a_large_message_costs_no_more_than_the_client_leaves_waiting(void **state)
{
    size_t memory_most = 0;
    (void)state;
    large_make();
    pop3_rig_deliver(&rig, "ann", slice_text(large));
    struct pop3_client *client = logged_in("ann");
    client->heard_bytes = 0;
    client->deaf = true;
    pop3_client_say(client, "RETR 1\r\nNOOP\r\n");
    for (unsigned i = 0; client->heard_bytes < strlen(large); i++) {
        pop3_rig_run(&rig);
        size_t memory = session_of()->dialogue.outbox.memory_bytes;
        memory_most = memory > memory_most ? memory : memory_most;
        pop3_client_listen(client);
        client->deaf = true;
        assert_true(i < 100);
    }
    pop3_client_listen(client);
    pop3_rig_run(&rig);
    assert_true(memory_most > 0 && memory_most < 100000);
    assert_int_equal(session_of()->dialogue.outbox.memory_bytes, 0);
    size_t end = strlen("+OK\r\n");
    assert_string_equal(client->heard + client->heard_bytes - end, "+OK\r\n");
    client->heard[client->heard_bytes - end] = '\0';
    heard_is(client, large);
}

static void who_takes_nothing_of_a_message_for_ten_minutes_is_cut_off(void **state)
{
    (void)state;
    large_make();
    pop3_rig_deliver(&rig, "ann", slice_text(large));
    struct pop3_client *client = logged_in("ann");
    client->deaf = true;
    talk(client, "RETR 1\r\n");
    pop3_rig_pass(&rig, 590);
    pop3_client_listen(client);
    client->deaf = true;
    pop3_rig_run(&rig);
    pop3_rig_pass(&rig, 590);
    assert_false(client->closed);
    pop3_rig_pass(&rig, 20);
    assert_true(client->reset);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void what_is_no_more_in_memory_is_fetched_from_the_disk(void **state)
{
    (void)state;
    large_make();
    pop3_rig_deliver(&rig, "ann", slice_text(large));
    pop3_rig_deliver(&rig, "ann", slice_text("a: b\r\n\r\nsmall\r\n"));
    pop3_rig_restart(&rig);
    struct pop3_client *client = logged_in("ann");
    talk(client, "RETR 1\r\n");
    assert_true(mailstore_counters(rig.store.store)->fetches > 0);
    heard_is(client, large);
    talk(client, "RETR 2\r\n");
    heard_is(client, "a: b\r\n\r\nsmall\r\n");
}

static void a_client_that_goes_while_its_message_is_fetched_leaves_nothing_behind(void **state)
{
    (void)state;
    large_make();
    pop3_rig_deliver(&rig, "ann", slice_text(large));
    pop3_rig_restart(&rig);
    struct pop3_client *client = logged_in("ann");
    disk_fault_hold(rig.store.rig.fault, true);
    pop3_client_say(client, "RETR 1\r\n");
    for (int i = 0; i < 5; i++) {
        pop3_rig_round(&rig);
    }
    assert_int_equal(session_of()->dialogue.state, POP3_SESSION_RETRIEVING);
    stream_abort(client->stream);
    pop3_rig_round(&rig);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    disk_fault_hold(rig.store.rig.fault, false);
}

/* Of the text's first extent, as another session would have it. */
static struct ref *fetch_buffer_take(uint64_t text_id)
{
    struct mailstore_text text = {0};
    struct told told;
    struct mailstore_fetch fetch = {.waiter = *told_init(&told)};
    struct slice bytes;
    struct ref *owner;
    int status = mailstore_text_open(rig.store.store, text_id, &text);
    assert_int_equal(status, 0);
    while ((status = mailstore_read(rig.store.store, &text, 0, &bytes, &owner, &fetch)) ==
           -EINPROGRESS) {
        mailstore_rig_round(&rig.store);
        mailstore_fetch_cancel(rig.store.store, &fetch);
    }
    assert_int_equal(status, 0);
    mailstore_text_close(rig.store.store, &text);
    return owner;
}

static void a_message_waits_while_the_memory_for_fetching_is_out(void **state)
{
    struct mailstore_user *user;
    struct ref *owners[8];
    unsigned count = 0;
    (void)state;
    large_make();
    for (unsigned i = 0; i < 8; i++) {
        pop3_rig_deliver(&rig, "bob", slice_first(slice_text(large), 60000));
    }
    pop3_rig_deliver(&rig, "ann", slice_text(large));
    pop3_rig_restart(&rig);
    assert_int_equal(mailstore_user_open(rig.store.store, slice_text("bob"), &user), 0);
    struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    assert_int_equal(mailstore_box_open(rig.store.store, box), 0);
    size_t buffers = rig.store.settings.fetch_memory_bytes / 2 / LOG_FRAME_BYTES;
    for (; count < buffers; count++) {
        owners[count] = fetch_buffer_take(box->entries[count].text);
    }
    mailstore_box_close(rig.store.store, box);
    mailstore_user_close(rig.store.store, user);
    struct pop3_client *client = logged_in("ann");
    assert_string_equal(talk(client, "RETR 1\r\n"), "");
    assert_int_equal(session_of()->dialogue.state, POP3_SESSION_RETRIEVING);
    while (count > 0) {
        ref_drop(owners[--count]);
    }
    pop3_rig_pass(&rig, 1);
    heard_is(client, large);
}

/* Where the log has these octets. */
static uint8_t *place_find(const char *octets)
{
    const char *name;
    for (uint32_t i = 0; (name = disk_fault_name(rig.store.rig.fault, i)) != NULL; i++) {
        uint64_t bytes;
        uint8_t *file = disk_fault_bytes(rig.store.rig.fault, name, &bytes);
        uint8_t *place = memmem(file, bytes, octets, strlen(octets));
        if (place != NULL) {
            return place;
        }
    }
    return NULL;
}

static void a_message_that_cannot_be_read_is_said_to_be_so(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("a: b\r\n\r\nwhat was here\r\n"));
    pop3_rig_deliver(&rig, "ann", slice_text("a: b\r\n\r\nanother\r\n"));
    pop3_rig_restart(&rig);
    struct pop3_client *client = logged_in("ann");
    *place_find("what was here") ^= 1;
    assert_string_equal(talk(client, "RETR 1\r\n"),
                        "-ERR [SYS/TEMP] The message cannot be read now\r\n");
    assert_string_equal(talk(client, "RETR 2\r\n"),
                        "+OK 17 octets\r\na: b\r\n\r\nanother\r\n.\r\n");
    *place_find("vhat was here") ^= 1;
    assert_string_equal(talk(client, "RETR 1\r\n"),
                        "+OK 23 octets\r\na: b\r\n\r\nwhat was here\r\n.\r\n");
}

/* The client must not take what it has for the whole, nor have it removed. */
static void a_message_that_breaks_off_ends_the_session_without_its_update(void **state)
{
    (void)state;
    large_make();
    memcpy(large + LARGE_BYTES - 100000, "what was here", 13);
    pop3_rig_deliver(&rig, "ann", slice_text(large));
    pop3_rig_restart(&rig);
    struct pop3_client *client = logged_in("ann");
    *place_find("what was here") ^= 1;
    talk(client, "RETR 1\r\nDELE 1\r\nQUIT\r\n");
    assert_true(client->closed);
    assert_memory_equal(client->heard, "+OK ", 4);
    assert_true(client->heard_bytes > LARGE_BYTES / 2);
    assert_null(strstr(client->heard, "\r\n.\r\n"));
    assert_null(strstr(client->heard, "Marked"));
    assert_int_equal(pop3_rig_count(&rig, "ann"), 1);
    assert_int_equal(pop3_rig_flags(&rig, "ann", 1), 0);
}

/* ---- Beside others ---- */

static void numbers_stay_when_others_remove_and_deliver(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    }
    struct pop3_client *client = logged_in("ann");
    pop3_rig_expunge(&rig, "ann", 2);
    pop3_rig_deliver(&rig, "ann", slice_text("new: 1\r\n\r\n"));
    assert_string_equal(talk(client, "STAT\r\nRETR 2\r\nTOP 2 1\r\nRETR 3\r\nRETR 4\r\n"),
                        "+OK 3 6\r\n-ERR Another session has removed the message\r\n"
                        "-ERR Another session has removed the message\r\n"
                        "+OK 2 octets\r\n\r\n.\r\n-ERR No such message\r\n");
    assert_string_equal(talk(client, "DELE 1\r\nDELE 2\r\nDELE 3\r\nQUIT\r\n"),
                        "+OK Marked\r\n+OK Marked\r\n+OK Marked\r\n+OK Bye\r\n");
    assert_int_equal(pop3_rig_flags(&rig, "ann", 4), 0); /* the range did not reach it */
    assert_int_equal(pop3_rig_count(&rig, "ann"), 1);
}

static void a_message_that_is_removed_while_it_is_sent_is_sent_whole(void **state)
{
    (void)state;
    large_make();
    pop3_rig_deliver(&rig, "ann", slice_text(large));
    struct pop3_client *client = logged_in("ann");
    client->deaf = true;
    talk(client, "RETR 1\r\n");
    pop3_rig_expunge(&rig, "ann", 1);
    pop3_rig_run(&rig);
    assert_int_equal(mailstore_counters(rig.store.store)->texts_dropped, 0);
    pop3_client_listen(client);
    pop3_rig_run(&rig);
    heard_is(client, large);
    assert_int_equal(mailstore_counters(rig.store.store)->texts_dropped, 1);
    assert_string_equal(talk(client, "QUIT\r\n"), "+OK Bye\r\n");
}

static void a_user_who_is_deleted_meanwhile_has_nothing_left_to_remove(void **state)
{
    struct mailstore_user *user;
    struct told told;
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann");
    assert_string_equal(talk(client, "RETR 1\r\n"), "+OK 2 octets\r\n\r\n.\r\n");
    assert_int_equal(mailstore_user_open(rig.store.store, slice_text("ann"), &user), 0);
    assert_int_equal(mailstore_user_delete(rig.store.store, user, told_init(&told)), 0);
    assert_int_equal(told_wait(&rig.store, &told), 0);
    mailstore_user_close(rig.store.store, user);
    assert_string_equal(talk(client, "RETR 2\r\nDELE 1\r\nQUIT\r\n"),
                        "-ERR Another session has removed the message\r\n+OK Marked\r\n+OK Bye"
                        "\r\n");
}

static void names_of_messages_stay_for_ever(void **state)
{
    char before[256];
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann");
    snprintf(before, sizeof(before), "%s", talk(client, "UIDL 2\r\n"));
    assert_string_equal(talk(client, "DELE 1\r\nQUIT\r\n"), "+OK Marked\r\n+OK Bye\r\n");
    pop3_rig_restart(&rig);
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    client = logged_in("ann");
    const char *after = talk(client, "UIDL 1\r\n");
    assert_string_equal(after + strlen("+OK 1 "), before + strlen("+OK 2 "));
    assert_string_not_equal(talk(client, "UIDL 2\r\n"), before);
}

/* ---- \Seen ---- */

static void what_was_retrieved_is_seen_when_the_session_is_over(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        pop3_rig_deliver(&rig, "ann", slice_text("a: b\r\n\r\n1\r\n"));
    }
    struct pop3_client *client = logged_in("ann");
    talk(client, "RETR 1\r\nTOP 2 9\r\nRETR 3\r\nRETR 4\r\nRETR 4\r\nDELE 3\r\n");
    uint64_t before = mailstore_counters(rig.store.store)->changes;
    talk(client, "QUIT\r\n");
    assert_int_equal(pop3_rig_flags(&rig, "ann", 1), MAILSTORE_SEEN);
    assert_int_equal(pop3_rig_flags(&rig, "ann", 2), 0);
    assert_int_equal(pop3_rig_flags(&rig, "ann", 3), -1);
    assert_int_equal(pop3_rig_flags(&rig, "ann", 4), MAILSTORE_SEEN);
    assert_int_equal(pop3_rig_flags(&rig, "ann", 5), 0);
    assert_int_equal(mailstore_counters(rig.store.store)->changes, before + 2);
}

static void it_is_seen_too_when_the_client_only_goes(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann");
    talk(client, "RETR 1\r\nRETR 2\r\nDELE 2\r\n");
    stream_abort(client->stream);
    pop3_rig_run(&rig);
    assert_int_equal(pop3_rig_flags(&rig, "ann", 1), MAILSTORE_SEEN);
    assert_int_equal(pop3_rig_flags(&rig, "ann", 2), MAILSTORE_SEEN); /* and it is still there */
}

/* ---- UPDATE ---- */

static void quit_is_answered_when_the_removal_is_durable(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    }
    struct pop3_client *client = logged_in("ann");
    talk(client, "DELE 1\r\nRSET\r\nDELE 2\r\nDELE 3\r\nDELE 5\r\n");
    client->heard_bytes = 0;
    client->heard[0] = '\0';
    disk_fault_hold(rig.store.rig.fault, true);
    pop3_client_say(client, "QUIT\r\n");
    for (int i = 0; i < 50; i++) {
        pop3_rig_round(&rig);
    }
    assert_string_equal(client->heard, "");
    disk_fault_hold(rig.store.rig.fault, false);
    while (client->heard[0] == '\0') {
        pop3_rig_round(&rig);
    }
    assert_string_equal(client->heard, "+OK Bye\r\n");
    pop3_rig_crash(&rig); /* right behind the answer */
    assert_int_equal(pop3_rig_count(&rig, "ann"), 3);
    for (uint32_t uid = 1; uid <= 6; uid++) {
        bool stays = uid == 1 || uid == 4 || uid == 6;
        assert_int_equal(pop3_rig_flags(&rig, "ann", uid), stays ? 0 : -1);
    }
}

static void a_removal_that_fails_is_said_and_removes_nothing(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann");
    talk(client, "DELE 1\r\n");
    pop3_rig_run(&rig);
    disk_fault_fail(rig.store.rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    assert_string_equal(talk(client, "QUIT\r\n"),
                        "-ERR [SYS/TEMP] The deleted messages are not removed\r\n");
    assert_true(client->closed);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    assert_int_equal(pop3_rig_count(&rig, "ann"), 1);
}

static void who_goes_without_quit_removes_nothing(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann");
    talk(client, "DELE 1\r\n");
    stream_shut(client->stream);
    pop3_rig_run(&rig);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    assert_int_equal(pop3_rig_count(&rig, "ann"), 1);
}

/* Another would still see what is about to go. */
static void
the_maildrop_is_taken_until_the_removal_is_durable_though_the_client_has_gone(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann"), *other = pop3_client_connect(&rig);
    talk(other, "");
    talk(client, "DELE 1\r\n");
    disk_fault_hold(rig.store.rig.fault, true);
    pop3_client_say(client, "QUIT\r\n");
    for (int i = 0; i < 5; i++) {
        pop3_rig_round(&rig);
    }
    stream_abort(client->stream);
    other->heard_bytes = 0;
    pop3_client_say(other, "USER ann\r\nPASS secret\r\n");
    for (int i = 0; i < 5; i++) {
        pop3_rig_round(&rig);
    }
    assert_string_equal(other->heard,
                        "+OK Password?\r\n-ERR [IN-USE] Another session has the maildrop\r\n");
    disk_fault_hold(rig.store.rig.fault, false);
    pop3_rig_run(&rig);
    assert_string_equal(talk(other, "USER ann\r\nPASS secret\r\nSTAT\r\n"),
                        "+OK Password?\r\n+OK Logged in\r\n+OK 0 0\r\n");
    assert_int_equal(rig.mailbox.counters.sessions, 1);
}

static void a_removal_that_was_begun_is_done_though_its_session_is_aborted(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    pop3_rig_deliver(&rig, "bob", slice_text("\r\n"));
    struct pop3_client *clients[] = {logged_in("ann"), logged_in("bob")};
    disk_fault_hold(rig.store.rig.fault, true);
    for (int i = 0; i < 2; i++) {
        pop3_client_say(clients[i], "DELE 1\r\nQUIT\r\n");
        for (int round = 0; round < 5; round++) {
            pop3_rig_round(&rig);
        }
    }
    stream_abort(clients[0]->stream); /* one that only waits for the store, and one that does not */
    pop3_rig_round(&rig);
    for (int i = 0; i < 2; i++) {
        struct session *session = &session_of()->dialogue.session;
        assert_true(session->ops->abort(session));
    }
    assert_true(list_empty(&rig.mailbox.sessions));
    disk_fault_hold(rig.store.rig.fault, false);
    pop3_rig_run(&rig);
    assert_true(clients[1]->reset);
    assert_int_equal(pop3_rig_count(&rig, "ann"), 0);
    assert_int_equal(pop3_rig_count(&rig, "bob"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(messages_are_sent_with_dots_stuffed_and_their_last_line_ended),
        TEST(a_large_message_costs_no_more_than_the_client_leaves_waiting),
        TEST(who_takes_nothing_of_a_message_for_ten_minutes_is_cut_off),
        TEST(what_is_no_more_in_memory_is_fetched_from_the_disk),
        TEST(a_client_that_goes_while_its_message_is_fetched_leaves_nothing_behind),
        TEST(a_message_waits_while_the_memory_for_fetching_is_out),
        TEST(a_message_that_cannot_be_read_is_said_to_be_so),
        TEST(a_message_that_breaks_off_ends_the_session_without_its_update),
        TEST(numbers_stay_when_others_remove_and_deliver),
        TEST(a_message_that_is_removed_while_it_is_sent_is_sent_whole),
        TEST(a_user_who_is_deleted_meanwhile_has_nothing_left_to_remove),
        TEST(names_of_messages_stay_for_ever),
        TEST(what_was_retrieved_is_seen_when_the_session_is_over),
        TEST(it_is_seen_too_when_the_client_only_goes),
        TEST(quit_is_answered_when_the_removal_is_durable),
        TEST(a_removal_that_fails_is_said_and_removes_nothing),
        TEST(who_goes_without_quit_removes_nothing),
        TEST(the_maildrop_is_taken_until_the_removal_is_durable_though_the_client_has_gone),
        TEST(a_removal_that_was_begun_is_done_though_its_session_is_aborted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
