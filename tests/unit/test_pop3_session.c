/* POP3 sessions: the connection, who it is, and how it ends. test_pop3_maildrop.c has what is done with messages. */
#include "engine/mailbox/pop3_private.h"
#define DESK_ROOM 65536u
#define DESK_ACCEPTED pop3_accepted
#include "tests/unit/desk_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define GREETING "+OK mail.test POP3 ready\r\n"
#define LOGGED_IN "+OK Password?\r\n+OK Logged in\r\n"

static struct pop3_client *greeted(void)
{
    struct pop3_client *client = pop3_client_connect(&rig);
    assert_string_equal(talk(client, ""), GREETING);
    return client;
}

static struct pop3_client *logged_in(const char *user)
{
    struct pop3_client *client = greeted();
    char text[128];
    snprintf(text, sizeof(text), "USER %s\r\nPASS secret\r\n", user);
    assert_string_equal(talk(client, text), LOGGED_IN);
    return client;
}

static struct pop3_session *session_of(unsigned index)
{
    struct list_node *node = rig.mailbox.sessions.next;
    while (index-- > 0) {
        node = node->next;
    }
    return (struct pop3_session *)(void *)list_entry(node, struct session, node);
}

/* ---- Who it is ---- */

static void who_logs_in_sees_the_messages_that_there_are(void **state)
{
    char expected[256];
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("Subject: one\r\n\r\n1\r\n"));
    pop3_rig_deliver(&rig, "ann", slice_text("Subject: two\r\n\r\n22\r\n"));
    struct pop3_client *client = logged_in("Ann");
    assert_string_equal(talk(client, "STAT\r\nLIST\r\nLIST 2\r\n"),
                        "+OK 2 39\r\n+OK 2 messages (39 octets)\r\n1 19\r\n2 20\r\n.\r\n"
                        "+OK 2 20\r\n");
    uint32_t uidvalidity = pop3_rig_uidvalidity(&rig, "ann");
    snprintf(expected, sizeof(expected),
             "+OK 2 messages (39 octets)\r\n1 00000001%08x\r\n2 00000002%08x\r\n.\r\n", uidvalidity,
             uidvalidity);
    assert_string_equal(talk(client, "UIDL\r\n"), expected);
    assert_string_equal(talk(client, "QUIT\r\n"), "+OK Bye\r\n");
    assert_true(client->closed && !client->reset);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void who_has_no_inbox_yet_has_an_empty_maildrop(void **state)
{
    (void)state;
    struct pop3_client *client = logged_in("nobody");
    assert_string_equal(talk(client, "STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nRSET\r\nQUIT\r\n"),
                        "+OK 0 0\r\n+OK 0 messages (0 octets)\r\n.\r\n"
                        "+OK 0 messages (0 octets)\r\n.\r\n-ERR No such message\r\n+OK\r\n"
                        "+OK Bye\r\n");
    assert_true(client->closed);
}

static void what_a_login_comes_to_is_said_with_its_code(void **state)
{
    static const struct {
        const char *said, *heard;
    } cases[] = {
        {"PASS wrong\r\n", "-ERR [AUTH] Wrong name or password\r\n"},
        {"PASS unavailable\r\n", "-ERR [SYS/TEMP] This cannot be known now, try again later\r\n"},
        {"PASS busy\r\n", "-ERR [SYS/TEMP] Too busy, try again later\r\n"},
        {"PASS secret\r\n", "+OK Logged in\r\n"},
    };
    (void)state;
    struct pop3_client *client = greeted();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(talk(client, "USER ann\r\n"), "+OK Password?\r\n");
        assert_string_equal(talk(client, cases[i].said), cases[i].heard);
    }
}

static void a_name_that_can_have_no_maildrop_is_refused(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    assert_string_equal(talk(client, "USER ../ann\r\nPASS secret\r\n"),
                        "+OK Password?\r\n-ERR [SYS/PERM] The name is none that can have a "
                        "maildrop\r\n");
    assert_string_equal(
        talk(client, "USER aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                     "\r\nPASS secret\r\n"),
        "+OK Password?\r\n-ERR [AUTH] Longer than any that is right\r\n");
}

static void auth_takes_the_initial_response_or_asks_for_it(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    assert_string_equal(talk(client, "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"), "+OK Logged in\r\n");
    assert_string_equal(talk(client, "QUIT\r\n"), "+OK Bye\r\n");
    client = greeted();
    assert_string_equal(talk(client, "AUTH PLAIN\r\n"), "+ \r\n");
    assert_string_equal(talk(client, "AGFubgB3cm9uZw==\r\n"),
                        "-ERR [AUTH] Wrong name or password\r\n");
    assert_string_equal(talk(client, "AUTH PLAIN AGFubg==\r\n"),
                        "-ERR The mechanism has other rules\r\n");
    assert_string_equal(talk(client, "AUTH X-NONE\r\n"),
                        "-ERR Not here, or not without encryption\r\n");
    assert_string_equal(talk(client, "AUTH PLAIN\r\n"), "+ \r\n");
    assert_string_equal(talk(client, "AGFubgBzZWNyZXQ=\r\n"), "+OK Logged in\r\n");
}

/* RFC 5034 §4: +OK carries no octets of the mechanism. */
static void the_last_words_of_a_mechanism_are_answered_with_nothing(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    assert_string_equal(talk(client, "AUTH X-WORDS\r\n"), "+ d2hvPw==\r\n");
    assert_string_equal(talk(client, "YW5u\r\n"), "+ dj1wcm9vZg==\r\n");
    assert_string_equal(talk(client, "YW5u\r\n"), "-ERR The mechanism has other rules\r\n");
    assert_string_equal(talk(client, "STAT\r\n"), "-ERR Not now\r\n");
    assert_string_equal(talk(client, "AUTH X-WORDS\r\n"), "+ d2hvPw==\r\n");
    assert_string_equal(talk(client, "YW5u\r\n"), "+ dj1wcm9vZg==\r\n");
    assert_string_equal(talk(client, "*\r\n"), "-ERR Cancelled\r\n");
    assert_string_equal(talk(client, "AUTH X-WORDS\r\n"), "+ d2hvPw==\r\n");
    assert_string_equal(talk(client, "YW5u\r\n"), "+ dj1wcm9vZg==\r\n");
    assert_string_equal(talk(client, "\r\n"), "+OK Logged in\r\n");
}

/* The machine gives no event of it. */
static void an_exchange_that_ends_by_a_broken_line_is_forgotten(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    assert_string_equal(talk(client, "AUTH X-WORDS\r\n"), "+ d2hvPw==\r\n");
    assert_string_equal(talk(client, "YW5u\n"), "-ERR Lines end with CRLF\r\n");
    assert_string_equal(talk(client, "AUTH PLAIN\r\n"), "+ \r\n");
    assert_string_equal(talk(client, "AGFubgBzZWNyZXQ=\n"), "-ERR Lines end with CRLF\r\n");
    assert_int_equal(desk.attempts, 1);
    assert_string_equal(talk(client, "AUTH X-WORDS\r\n"), "+ d2hvPw==\r\n");
    assert_string_equal(talk(client, "YW5u\r\n"), "+ dj1wcm9vZg==\r\n");
    assert_string_equal(talk(client, "\n"), "-ERR Lines end with CRLF\r\n");
    assert_string_equal(talk(client, "AUTH PLAIN\r\n"), "+ \r\n");
    assert_string_equal(talk(client, "\r\n"), "-ERR The mechanism has other rules\r\n");
}

static void a_challenge_that_is_too_long_ends_the_exchange(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    assert_string_equal(talk(client, "AUTH X-LONG\r\n"),
                        "-ERR [AUTH] The exchange has grown too long\r\n");
    assert_int_equal(desk.attempts, 0);
    assert_string_equal(talk(client, "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"), "+OK Logged in\r\n");
}

static void who_goes_while_the_desk_is_asked_is_forgotten_by_it(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    desk.holds = true;
    assert_string_equal(talk(client, "USER ann\r\nPASS secret\r\nSTAT\r\n"), "+OK Password?\r\n");
    assert_int_equal(desk.attempts, 1);
    stream_abort(client->stream);
    pop3_rig_run(&rig);
    assert_int_equal(desk.attempts, 0);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void a_maildrop_is_one_sessions_at_a_time(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *first = logged_in("ann"), *second = greeted();
    assert_string_equal(talk(second, "USER ann\r\nPASS secret\r\n"),
                        "+OK Password?\r\n-ERR [IN-USE] Another session has the maildrop\r\n");
    assert_string_equal(talk(second, "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"),
                        "-ERR [IN-USE] Another session has the maildrop\r\n");
    logged_in("bob"); /* has one of his own */
    talk(first, "QUIT\r\n");
    assert_string_equal(talk(second, "USER ann\r\nPASS secret\r\n"), LOGGED_IN);
}

static void a_maildrop_is_everybodys_where_that_is_configured(void **state)
{
    (void)state;
    rig.mailbox.pop3_shared = true;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n1"));
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n2"));
    struct pop3_client *first = logged_in("ann"), *second = logged_in("ann");
    assert_string_equal(talk(first, "DELE 1\r\nQUIT\r\n"), "+OK Marked\r\n+OK Bye\r\n");
    assert_string_equal(talk(second, "STAT\r\nDELE 1\r\nDELE 2\r\nQUIT\r\n"),
                        "+OK 2 6\r\n+OK Marked\r\n+OK Marked\r\n+OK Bye\r\n");
    assert_int_equal(pop3_rig_count(&rig, "ann"), 0);
}

/* ---- What it may say ---- */

static void all_of_a_session_may_come_at_once(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("a: b\r\n\r\n1\r\n"));
    struct pop3_client *client = greeted();
    pop3_client_say(
        client, "USER ann\r\nPASS secret\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nNOOP\r\nQUIT\r\nSTAT\r\n");
    stream_shut(client->stream);
    assert_string_equal(talk(client, ""),
                        LOGGED_IN "+OK 1 11\r\n+OK 11 octets\r\na: b\r\n\r\n1\r\n.\r\n"
                                  "+OK Marked\r\n+OK\r\n+OK Bye\r\n");
    assert_true(client->closed && !client->reset);
    assert_int_equal(pop3_rig_count(&rig, "ann"), 0);
}

static void who_hangs_up_in_a_command_has_not_said_it(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann");
    assert_string_equal(talk(client, "DELE 1\r\nQUIT"), "+OK Marked\r\n");
    stream_shut(client->stream);
    pop3_rig_run(&rig);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    assert_int_equal(pop3_rig_count(&rig, "ann"), 1);
}

static void a_flood_of_commands_waits_for_the_client_to_take_the_replies(void **state)
{
    static char text[DESK_ROOM];
    size_t size = 0, total = 0;
    (void)state;
    while (size + 6 < sizeof(text)) {
        size += (size_t)sprintf(text + size, "CAPA\r\n");
    }
    struct pop3_client *client = greeted();
    client->deaf = true;
    for (size_t i = 0; i < 3; i++) {
        for (size_t at = 0; at < size; at += STREAM_WRITE_MAX) {
            struct slice part = slice_first(slice_of(text + at, size - at), STREAM_WRITE_MAX);
            total += stream_write(client->stream, part) == 0 ? part.size : 0;
            pop3_rig_run(&rig);
        }
    }
    assert_true(session_of(0)->dialogue.outbox.memory_bytes < 100000);
    assert_true(total < 3 * size); /* it was not read */
    pop3_client_listen(client);
    pop3_rig_run(&rig);
    assert_memory_equal(client->heard + client->heard_bytes - 5, "\r\n.\r\n", 5);
    assert_true(client->heard_bytes > total / 6 * 50);
}

static void whoever_errs_too_often_is_sent_away(void **state)
{
    (void)state;
    rig.conf->limits.errors = 3;
    struct pop3_client *client = greeted();
    assert_string_equal(talk(client, "X\r\nX\r\nX\r\nX\r\n"),
                        "-ERR No such command\r\n-ERR No such command\r\n-ERR No such command\r\n");
    assert_true(client->closed);
}

/* ---- TLS ---- */

static void stls_drops_what_was_said_in_the_clear_behind_it(void **state)
{
    (void)state;
    desk.clear = false;
    struct pop3_client *client = greeted();
    assert_non_null(strstr(talk(client, "CAPA\r\n"), "\r\nSTLS\r\nSASL X-WORDS\r\n"));
    assert_string_equal(talk(client, "USER ann\r\n"), "-ERR Not without encryption\r\n");
    assert_string_equal(talk(client, "STLS\r\nUSER mallory\r\n"), "+OK Begin TLS\r\n");
    pop3_client_secure(&rig, client);
    assert_string_equal(talk(client, ""), "");
    assert_string_equal(talk(client, "PASS secret\r\n"), "-ERR Not now\r\n");
    const char *capabilities = talk(client, "CAPA\r\n");
    assert_null(strstr(capabilities, "STLS"));
    assert_non_null(strstr(capabilities, "\r\nUSER\r\nSASL X-WORDS PLAIN\r\n"));
    assert_string_equal(talk(client, "STLS\r\n"), "-ERR It is encrypted\r\n");
    assert_string_equal(talk(client, "USER ann\r\nPASS secret\r\n"), LOGGED_IN);
    assert_string_equal(talk(client, "QUIT\r\n"), "+OK Bye\r\n");
    assert_true(client->closed && !client->reset);
}

static void tls_from_the_beginning_comes_before_the_greeting(void **state)
{
    (void)state;
    rig.door.tls = CONF_TLS_IMPLICIT;
    desk.clear = false;
    struct pop3_client *client = pop3_client_connect(&rig);
    assert_string_equal(talk(client, ""), "");
    pop3_client_secure(&rig, client);
    assert_string_equal(talk(client, ""), GREETING);
    assert_string_equal(talk(client, "USER ann\r\nPASS secret\r\n"), LOGGED_IN);
}

static void where_tls_is_required_nobody_logs_in_before(void **state)
{
    (void)state;
    rig.door.tls = CONF_TLS_REQUIRED;
    struct pop3_client *client = greeted();
    const char *capabilities = talk(client, "CAPA\r\n");
    assert_null(strstr(capabilities, "USER"));
    assert_null(strstr(capabilities, "SASL"));
    assert_string_equal(talk(client, "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"),
                        "-ERR Not here, or not without encryption\r\n");
    talk(client, "STLS\r\n");
    pop3_client_secure(&rig, client);
    assert_string_equal(talk(client, "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"), "+OK Logged in\r\n");
}

static void a_handshake_that_does_not_come_is_not_waited_for(void **state)
{
    (void)state;
    rig.door.tls = CONF_TLS_IMPLICIT;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    pop3_rig_pass(&rig, 59);
    assert_int_equal(rig.mailbox.counters.sessions, 1);
    pop3_rig_pass(&rig, 2);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    assert_true(client->reset);
}

static void noise_in_the_place_of_a_handshake_ends_the_session(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    talk(client, "STLS\r\n");
    talk(client, "this is no handshake at all\r\n");
    assert_true(client->closed);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void who_hangs_up_behind_stls_is_not_waited_for(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    pop3_client_say(client, "STLS\r\n");
    stream_shut(client->stream);
    assert_memory_equal(talk(client, ""), "+OK Begin TLS\r\n", 15); /* and an alert */
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void a_certificate_that_is_gone_when_stls_is_said_ends_the_session(void **state)
{
    (void)state;
    struct pop3_client *client = greeted();
    rig.mailbox.tls_server = NULL;
    talk(client, "STLS\r\n");
    assert_true(client->closed);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    client = greeted();
    assert_null(strstr(talk(client, "CAPA\r\n"), "STLS"));
}

/* ---- How it ends ---- */

static void who_says_nothing_for_ten_minutes_is_left_without_a_word(void **state)
{
    (void)state;
    pop3_rig_deliver(&rig, "ann", slice_text("\r\n"));
    struct pop3_client *client = logged_in("ann");
    assert_string_equal(talk(client, "DELE 1\r\n"), "+OK Marked\r\n");
    pop3_rig_pass(&rig, 590);
    assert_string_equal(talk(client, "NOOP\r\n"), "+OK\r\n");
    pop3_rig_pass(&rig, 598);
    assert_false(client->closed);
    pop3_rig_pass(&rig, 3);
    assert_true(client->closed && !client->reset);
    assert_string_equal(client->heard, "+OK\r\n");
    assert_int_equal(pop3_rig_count(&rig, "ann"), 1);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void the_service_ends_sessions_between_commands_and_lets_others_finish(void **state)
{
    static char text[400000];
    (void)state;
    memset(text, 'x', sizeof(text));
    pop3_rig_deliver(&rig, "ann", slice_of(text, sizeof(text)));
    struct pop3_client *busy = logged_in("ann"), *idle = logged_in("bob"), *half = greeted();
    talk(half, "QUI");
    busy->deaf = true;
    talk(busy, "RETR 1\r\n");
    rig.mailbox.draining = true;
    for (unsigned i = 3; i-- > 0;) {
        session_of(i)->dialogue.session.ops->drain(&session_of(i)->dialogue.session);
    }
    assert_string_equal(talk(idle, ""), "-ERR [SYS/TEMP] Service is ending\r\n");
    assert_true(idle->closed);
    assert_int_equal(rig.mailbox.counters.sessions, 2);
    busy->heard_bytes = 0;
    pop3_client_listen(busy);
    pop3_rig_run(&rig);
    assert_int_equal(busy->heard_bytes, strlen("+OK 400000 octets\r\n") + sizeof(text) + 5);
    assert_string_equal(talk(half, "T\r\n"), "+OK Bye\r\n");
    session_of(0)->dialogue.session.ops->drain(&session_of(0)->dialogue.session);
    assert_string_equal(talk(busy, ""), "-ERR [SYS/TEMP] Service is ending\r\n");
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    struct pop3_client *late = pop3_client_connect(&rig);
    assert_string_equal(talk(late, ""), "-ERR [SYS/TEMP] Service is ending\r\n");
    assert_true(late->closed);
}

static void who_would_be_one_too_many_is_told_so(void **state)
{
    (void)state;
    rig.conf->limits.connections = 1;
    greeted();
    struct pop3_client *second = pop3_client_connect(&rig);
    assert_string_equal(talk(second, ""), "-ERR [SYS/TEMP] Too many connections\r\n");
    assert_true(second->closed);
    assert_int_equal(rig.mailbox.counters.connections_refused, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_TLS(name) cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down_tls)
    const struct CMUnitTest tests[] = {
        TEST(who_logs_in_sees_the_messages_that_there_are),
        TEST(who_has_no_inbox_yet_has_an_empty_maildrop),
        TEST(what_a_login_comes_to_is_said_with_its_code),
        TEST(a_name_that_can_have_no_maildrop_is_refused),
        TEST(auth_takes_the_initial_response_or_asks_for_it),
        TEST(the_last_words_of_a_mechanism_are_answered_with_nothing),
        TEST(an_exchange_that_ends_by_a_broken_line_is_forgotten),
        TEST(a_challenge_that_is_too_long_ends_the_exchange),
        TEST(who_goes_while_the_desk_is_asked_is_forgotten_by_it),
        TEST(a_maildrop_is_one_sessions_at_a_time),
        TEST(a_maildrop_is_everybodys_where_that_is_configured),
        TEST(all_of_a_session_may_come_at_once),
        TEST(who_hangs_up_in_a_command_has_not_said_it),
        TEST(a_flood_of_commands_waits_for_the_client_to_take_the_replies),
        TEST(whoever_errs_too_often_is_sent_away),
        TEST_TLS(stls_drops_what_was_said_in_the_clear_behind_it),
        TEST_TLS(tls_from_the_beginning_comes_before_the_greeting),
        TEST_TLS(where_tls_is_required_nobody_logs_in_before),
        TEST_TLS(a_handshake_that_does_not_come_is_not_waited_for),
        TEST_TLS(noise_in_the_place_of_a_handshake_ends_the_session),
        TEST_TLS(who_hangs_up_behind_stls_is_not_waited_for),
        TEST_TLS(a_certificate_that_is_gone_when_stls_is_said_ends_the_session),
        TEST(who_says_nothing_for_ten_minutes_is_left_without_a_word),
        TEST(the_service_ends_sessions_between_commands_and_lets_others_finish),
        TEST(who_would_be_one_too_many_is_told_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
