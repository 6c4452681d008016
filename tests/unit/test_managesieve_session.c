/* ManageSieve sessions: the connection, who it is, his scripts in the store, and how it ends. */
#include "engine/mailbox/managesieve_session.h"
#define DESK_ROOM 262144u
#define DESK_ACCEPTED managesieve_accepted
#include "tests/unit/desk_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define ANN "AUTHENTICATE \"PLAIN\" \"AGFubgBzZWNyZXQ=\"\r\n"

static void assert_begins(const char *text, const char *begin)
{
    if (strncmp(text, begin, strlen(begin)) != 0) {
        fail_msg("\"%s\" does not begin with \"%s\"", text, begin);
    }
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, text);
    }
}

static struct pop3_client *logged_in(void)
{
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    assert_begins(talk(client, ANN), "OK");
    return client;
}

/* ---- The connection ---- */

static void the_greeting_says_what_scripts_and_clients_may_use(void **state)
{
    static const char *const names[] = {"fileinto",  "reject",     "ereject",   "vacation",
                                        "body",      "editheader", "duplicate", "vacation-seconds",
                                        "variables", "regex",      "include"};
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    const char *heard = talk(client, "");
    assert_begins(heard, "\"IMPLEMENTATION\" ");
    const char *sieve = strstr(heard, "\"SIEVE\" \"");
    assert_non_null(sieve);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_has(sieve, names[i]);
    }
    assert_null(strstr(sieve, "enotify"));
    assert_has(heard, "\"SASL\" \"X-WORDS PLAIN\"\r\n");
    assert_has(heard, "\"VERSION\" \"1.0\"\r\n");
    assert_null(strstr(heard, "STARTTLS"));
    assert_has(talk(client, "CAPABILITY\r\n"), "\"SIEVE\"");
    assert_begins(talk(client, "LOGOUT\r\n"), "OK");
    assert_true(client->closed);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void tls_begins_behind_starttls_and_what_was_said_is_said_again(void **state)
{
    (void)state;
    desk.clear = false;
    struct pop3_client *client = pop3_client_connect(&rig);
    const char *heard = talk(client, "");
    assert_has(heard, "\"STARTTLS\"\r\n");
    assert_null(strstr(heard, "PLAIN"));
    assert_begins(talk(client, "STARTTLS\r\n"), "OK");
    pop3_client_secure(&rig, client);
    heard = talk(client, "");
    assert_has(heard, "PLAIN");
    assert_null(strstr(heard, "STARTTLS"));
    assert_begins(talk(client, ANN), "OK");
    assert_begins(talk(client, "LOGOUT\r\n"), "OK");
}

static void what_is_sent_behind_starttls_in_the_clear_is_never_done(void **state)
{
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    const char *heard = talk(client, "STARTTLS\r\nLOGOUT\r\n");
    assert_begins(heard, "OK");
    assert_null(strstr(heard + 2, "OK"));
}

static void a_service_that_ends_says_so_to_who_is_between_commands(void **state)
{
    (void)state;
    struct pop3_client *client = logged_in();
    struct session *session = list_entry(rig.mailbox.sessions.next, struct session, node);
    session->ops->drain(session);
    assert_begins(talk(client, ""), "BYE");
    assert_true(client->closed);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

static void who_says_nothing_is_let_go(void **state)
{
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    pop3_rig_pass(&rig, 3600);
    assert_true(client->closed);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

/* ---- Who it is ---- */

static void nothing_of_scripts_is_done_before_the_login(void **state)
{
    static const char *const commands[] = {"LISTSCRIPTS",        "PUTSCRIPT \"a\" \"keep;\"",
                                           "GETSCRIPT \"a\"",    "SETACTIVE \"a\"",
                                           "DELETESCRIPT \"a\"", "RENAMESCRIPT \"a\" \"b\"",
                                           "HAVESPACE \"a\" 1",  "CHECKSCRIPT \"keep;\""};
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char line[128];
        snprintf(line, sizeof line, "%s\r\n", commands[i]);
        assert_begins(talk(client, line), "NO");
    }
}

static void a_wrong_password_and_a_directory_that_is_down_are_no_login(void **state)
{
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    /* ann, "wrong"; ann, "unavailable" */
    assert_begins(talk(client, "AUTHENTICATE \"PLAIN\" \"AGFubgB3cm9uZw==\"\r\n"), "NO");
    assert_begins(talk(client, "AUTHENTICATE \"PLAIN\" \"AGFubgB1bmF2YWlsYWJsZQ==\"\r\n"),
                  "NO (TRYLATER)");
    assert_begins(talk(client, "AUTHENTICATE \"NONE\"\r\n"), "NO");
    assert_begins(talk(client, "LISTSCRIPTS\r\n"), "NO");
    assert_begins(talk(client, ANN), "OK");
    assert_begins(talk(client, ANN), "NO");
    assert_begins(talk(client, "LISTSCRIPTS\r\n"), "OK");
}

static void an_exchange_of_steps_is_a_login_and_can_be_given_up(void **state)
{
    (void)state;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    assert_has(talk(client, "AUTHENTICATE \"X-WORDS\"\r\n"), "d2hvPw=="); /* who? */
    assert_begins(talk(client, "\"*\"\r\n"), "NO");
    assert_has(talk(client, "AUTHENTICATE \"X-WORDS\"\r\n"), "d2hvPw==");
    assert_has(talk(client, "\"YW5u\"\r\n"), "dj1wcm9vZg=="); /* v=proof */
    assert_begins(talk(client, "\"\"\r\n"), "OK");
    assert_begins(talk(client, "LISTSCRIPTS\r\n"), "OK");
}

static void a_client_that_goes_while_the_desk_is_asked_leaves_nothing(void **state)
{
    (void)state;
    desk.holds = true;
    struct pop3_client *client = pop3_client_connect(&rig);
    talk(client, "");
    talk(client, ANN);
    assert_int_equal(desk.attempts, 1);
    stream_abort(client->stream);
    pop3_rig_run(&rig);
    assert_int_equal(desk.attempts, 0);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
}

/* ---- His scripts ---- */

static void scripts_are_put_listed_shown_renamed_and_deleted(void **state)
{
    (void)state;
    struct pop3_client *client = logged_in();
    assert_string_equal(talk(client, "LISTSCRIPTS\r\n"), "OK\r\n");
    assert_begins(talk(client, "PUTSCRIPT \"a\" {5+}\r\nkeep;\r\n"), "OK");
    assert_begins(talk(client, "PUTSCRIPT \"b\" \"discard;\"\r\n"), "OK");
    assert_begins(talk(client, "SETACTIVE \"a\"\r\n"), "OK");
    assert_string_equal(talk(client, "LISTSCRIPTS\r\n"), "\"a\" ACTIVE\r\n\"b\"\r\nOK\r\n");
    assert_has(talk(client, "GETSCRIPT \"b\"\r\n"), "discard;\r\nOK");
    assert_begins(talk(client, "DELETESCRIPT \"a\"\r\n"), "NO (ACTIVE)");
    assert_begins(talk(client, "RENAMESCRIPT \"a\" \"b\"\r\n"), "NO (ALREADYEXISTS)");
    assert_begins(talk(client, "RENAMESCRIPT \"a\" \"c\"\r\n"), "OK");
    assert_begins(talk(client, "DELETESCRIPT \"b\"\r\n"), "OK");
    assert_begins(talk(client, "GETSCRIPT \"b\"\r\n"), "NO (NONEXISTENT)");
    assert_string_equal(talk(client, "LISTSCRIPTS\r\n"), "\"c\" ACTIVE\r\nOK\r\n");
    talk(client, "LOGOUT\r\n");
    pop3_rig_crash(&rig);
    client = logged_in();
    assert_string_equal(talk(client, "LISTSCRIPTS\r\n"), "\"c\" ACTIVE\r\nOK\r\n");
    assert_has(talk(client, "GETSCRIPT \"c\"\r\n"), "keep;");
    assert_begins(talk(client, "SETACTIVE \"\"\r\n"), "OK");
    assert_string_equal(talk(client, "LISTSCRIPTS\r\n"), "\"c\"\r\nOK\r\n");
}

static void a_script_that_is_wrong_is_refused_with_the_place_and_the_old_one_stays(void **state)
{
    (void)state;
    struct pop3_client *client = logged_in();
    talk(client, "PUTSCRIPT \"a\" \"keep;\"\r\n");
    assert_begins(talk(client, "PUTSCRIPT \"a\" {14+}\r\nkeep;\r\nif bad;\r\n"), "NO \"line 2");
    assert_has(talk(client, "GETSCRIPT \"a\"\r\n"), "keep;");
    assert_begins(talk(client, "CHECKSCRIPT \"keep\"\r\n"), "NO \"line 1");
    assert_begins(talk(client, "CHECKSCRIPT \"require \\\"body\\\"; keep;\"\r\n"), "OK");
    assert_begins(talk(client, "CHECKSCRIPT \"require \\\"enotify\\\";\"\r\n"), "NO");
    assert_string_equal(talk(client, "LISTSCRIPTS\r\n"), "\"a\"\r\nOK\r\n");
}

static void commands_are_understood_however_they_are_cut(void **state)
{
    static const char text[] =
        "PUTSCRIPT \"a\" {5+}\r\nkeep;\r\nSETACTIVE \"a\"\r\nLISTSCRIPTS\r\n";
    (void)state;
    struct pop3_client *client = logged_in();
    talk(client, "");
    for (size_t i = 0; text[i] != '\0'; i++) {
        const char piece[2] = {text[i], '\0'};
        pop3_client_say(client, piece);
        pop3_rig_run(&rig);
    }
    assert_has(client->heard, "\"a\" ACTIVE\r\nOK\r\n");
}

static void commands_that_come_at_once_are_answered_in_order(void **state)
{
    (void)state;
    struct pop3_client *client = logged_in();
    const char *heard = talk(client, "PUTSCRIPT \"a\" \"keep;\"\r\nPUTSCRIPT \"b\" \"keep\"\r\n"
                                     "SETACTIVE \"a\"\r\nLISTSCRIPTS\r\nNOOP \"x\"\r\n");
    assert_begins(heard, "OK");
    assert_has(heard, "\r\nNO \"line 1");
    assert_has(heard, "\"a\" ACTIVE\r\nOK\r\nOK (TAG \"x\")");
}

static void too_large_and_too_many_are_refused_and_the_session_goes_on(void **state)
{
    static char text[80000];
    char name[64];
    (void)state;
    struct pop3_client *client = logged_in();
    int size = sprintf(text, "PUTSCRIPT \"a\" {70000+}\r\n");
    memset(text + size, '#', 70000);
    strcpy(text + size + 70000, "\r\n");
    assert_begins(talk(client, text), "NO (QUOTA/MAXSIZE)");
    assert_begins(talk(client, "HAVESPACE \"a\" 70000\r\n"), "NO (QUOTA/MAXSIZE)");
    assert_begins(talk(client, "HAVESPACE \"a\" 60000\r\n"), "OK");
    for (unsigned i = 0; i < MANAGESIEVE_SCRIPTS_MAX; i++) {
        snprintf(name, sizeof name, "PUTSCRIPT \"n%u\" \"keep;\"\r\n", i);
        assert_begins(talk(client, name), "OK");
    }
    assert_begins(talk(client, "PUTSCRIPT \"a\" \"keep;\"\r\n"), "NO (QUOTA/MAXSCRIPTS)");
    assert_begins(talk(client, "HAVESPACE \"a\" 1\r\n"), "NO (QUOTA/MAXSCRIPTS)");
    assert_begins(talk(client, "PUTSCRIPT \"n1\" \"discard;\"\r\n"), "OK");
}

static void a_change_whose_client_has_gone_is_done(void **state)
{
    (void)state;
    struct pop3_client *client = logged_in();
    pop3_client_say(client, "PUTSCRIPT \"a\" \"keep;\"\r\n");
    for (int round = 0; round < 2; round++) {
        pop3_rig_round(&rig);
    }
    stream_abort(client->stream);
    pop3_rig_run(&rig);
    assert_int_equal(rig.mailbox.counters.sessions, 0);
    client = logged_in();
    assert_string_equal(talk(client, "LISTSCRIPTS\r\n"), "\"a\"\r\nOK\r\n");
}

static void each_user_has_his_own_scripts(void **state)
{
    (void)state;
    struct pop3_client *client = logged_in();
    talk(client, "PUTSCRIPT \"a\" \"keep;\"\r\n");
    struct pop3_client *bob = pop3_client_connect(&rig);
    talk(bob, "");
    assert_begins(talk(bob, "AUTHENTICATE \"PLAIN\" \"AGJvYgBzZWNyZXQ=\"\r\n"), "OK");
    assert_string_equal(talk(bob, "LISTSCRIPTS\r\n"), "OK\r\n");
    assert_begins(talk(bob, "GETSCRIPT \"a\"\r\n"), "NO (NONEXISTENT)");
    assert_begins(talk(client, "UNAUTHENTICATE\r\n"), "OK");
    assert_begins(talk(client, "LISTSCRIPTS\r\n"), "NO");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_TLS(name) cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down_tls)
        TEST(the_greeting_says_what_scripts_and_clients_may_use),
        TEST_TLS(tls_begins_behind_starttls_and_what_was_said_is_said_again),
        TEST_TLS(what_is_sent_behind_starttls_in_the_clear_is_never_done),
        TEST(a_service_that_ends_says_so_to_who_is_between_commands),
        TEST(who_says_nothing_is_let_go),
        TEST(nothing_of_scripts_is_done_before_the_login),
        TEST(a_wrong_password_and_a_directory_that_is_down_are_no_login),
        TEST(an_exchange_of_steps_is_a_login_and_can_be_given_up),
        TEST(a_client_that_goes_while_the_desk_is_asked_leaves_nothing),
        TEST(scripts_are_put_listed_shown_renamed_and_deleted),
        TEST(a_script_that_is_wrong_is_refused_with_the_place_and_the_old_one_stays),
        TEST(commands_are_understood_however_they_are_cut),
        TEST(commands_that_come_at_once_are_answered_in_order),
        TEST(too_large_and_too_many_are_refused_and_the_session_goes_on),
        TEST(a_change_whose_client_has_gone_is_done),
        TEST(each_user_has_his_own_scripts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
