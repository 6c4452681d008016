/* Clients that speak before they are greeted, against a whole relay on a clock of ours. */
#include "tests/unit/relay_rig_client.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define LISTEN(more)                                                                               \
    "\n  - {match: a.test, via: mx, accept_from: anyone}\n"                                        \
    "relay_networks: [10.0.0.0/8]\n"                                                               \
    "listen: [{name: in, address: [\"127.0.0.1:2525\"]" more "}]\n"
#define WAITS(action) LISTEN(", greet_wait: 6s, greet_action: " action)
#define STRANGER "192.0.2.77:4000"
#define HELLO "EHLO c.test\r\n"
#define MAIL "MAIL FROM:<s@c.test>\r\nRCPT TO:<u@a.test>\r\n"
#define SECONDS(count) ((count)*RIG_SECOND)

static void who_waits_is_greeted_when_the_wait_is_over(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(WAITS("drop"));
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_pass(rig, SECONDS(5));
    assert_string_equal(rig_codes(client), "");
    rig_pass(rig, SECONDS(2));
    assert_string_equal(rig_codes(client), "220");
    rig_say(client, HELLO MAIL "DATA\r\n");
    rig_say(client, "x\r\n.\r\nQUIT\r\n");
    assert_string_equal(rig_codes(client), "250 250 250 354 250 221");
    assert_int_equal(rig->relay->counters.connections_pregreet, 0);
    rig_hang_up(client);
    /* The wait is ours: the client's five minutes begin behind it. */
    client = rig_dial(rig, STRANGER);
    rig_pass(rig, SECONDS(6 + 298));
    assert_false(client->closed);
    rig_pass(rig, SECONDS(4));
    assert_true(client->closed);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void nobody_waits_unless_the_listener_says_so(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTEN(""));
    struct rig_client *client = rig_dial(rig, STRANGER);
    assert_string_equal(rig_codes(client), "220");
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void who_talks_early_is_noted_and_may_go_on_where_that_is_ignored(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(WAITS("ignore"));
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_pass(rig, SECONDS(2));
    rig_say(client, HELLO MAIL "DATA\r\n");
    rig_say(client, "x\r\n.\r\n");
    assert_string_equal(rig_codes(client), "220 250 250 250 354 250"); /* in order, at once */
    assert_int_equal(rig->relay->counters.connections_pregreet, 1);
    assert_true(rig_log_says(rig, "smtp: PREGREET 61 after 2.0"));
    assert_true(rig_log_says(rig, "from [192.0.2.77]:4000: EHLO c.test"));
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void who_talks_early_writes_to_nobody_where_that_is_enforced(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(WAITS("enforce"));
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_say(client, HELLO MAIL "DATA\r\n");
    assert_string_equal(rig_codes(client), "220 250 250 550 554");
    rig_say(client, "RSET\r\n" HELLO MAIL);
    assert_string_equal(rig_codes(client), "250 250 250 550");
    assert_true(rig_log_says(rig, "reject: RCPT: 550 5.5.1 Protocol error; to=<u@a.test>"));
    rig_hang_up(client);
    client = rig_dial(rig, STRANGER); /* the next connection is judged anew */
    rig_pass(rig, SECONDS(7));
    rig_say(client, HELLO MAIL);
    assert_string_equal(rig_codes(client), "220 250 250 250");
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void who_talks_early_is_closed_with_521_where_that_drops(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(WAITS("drop"));
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_say(client, HELLO MAIL);
    assert_memory_equal(client->replies, "521 5.5.1 Protocol error\r\n", 26);
    assert_string_equal(rig_codes(client), "521");
    assert_true(client->closed);
    assert_int_equal(rig->relay->counters.sessions_in, 0);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void clients_of_ours_are_greeted_at_once_and_may_talk_as_they_like(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(WAITS("drop"));
    struct rig_client *client = rig_dial(rig, "10.1.2.3:4000");
    assert_string_equal(rig_codes(client), "220");
    rig_hang_up(client);
    assert_int_equal(rig->relay->counters.connections_pregreet, 0);
    relay_rig_close(rig);
}

static void what_is_said_early_forges_no_line(void **state)
{
    static char text[4000];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    memcpy(text, "a\r\nrelay: forged\x1b[2J%s%n", 24);
    struct relay_rig *rig = rig_open_two(WAITS("drop"));
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_say(client, text);
    assert_true(rig_log_says(rig, "PREGREET 3999 after"));
    assert_null(strstr(rig->log_text, "\nrelay: forged"));
    assert_null(strchr(rig->log_text, '\x1b'));
    assert_null(strstr(rig->log_text, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void who_goes_while_it_waits_leaves_nothing(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(WAITS("enforce"));
    for (unsigned i = 0; i < 2; i++) {
        struct rig_client *client = rig_dial(rig, STRANGER);
        assert_int_equal(rig->relay->counters.sessions_in, 1);
        (i == 0 ? rig_tear : rig_hang_up)(client);
        assert_int_equal(rig->relay->counters.sessions_in, 0);
    }
    relay_rig_close(rig);
}

static void a_relay_that_ends_lets_nobody_wait(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(WAITS("drop"));
    struct rig_client *client = rig_dial(rig, STRANGER);
    relay_drain(rig->relay, rig->now_ns + SECONDS(60));
    rig_settle(rig);
    assert_string_equal(rig_codes(client), "421");
    assert_true(client->closed);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void a_reload_changes_how_clients_are_greeted_from_then_on(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(LISTEN(""));
    struct rig_client *before = rig_dial(rig, STRANGER);
    assert_string_equal(rig_codes(before), "220");
    rig_reload(rig, WAITS("drop"));
    struct rig_client *client = rig_dial(rig, STRANGER);
    assert_string_equal(rig_codes(client), "");
    rig_reload(rig, LISTEN("")); /* who waits already, waits by what held when it came */
    rig_say(client, HELLO);
    assert_string_equal(rig_codes(client), "521");
    rig_hang_up(client);
    rig_say(before, HELLO MAIL);
    assert_string_equal(rig_codes(before), "250 250 250");
    rig_hang_up(before);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_is_greeted_when_the_wait_is_over),
        cmocka_unit_test(nobody_waits_unless_the_listener_says_so),
        cmocka_unit_test(who_talks_early_is_noted_and_may_go_on_where_that_is_ignored),
        cmocka_unit_test(who_talks_early_writes_to_nobody_where_that_is_enforced),
        cmocka_unit_test(who_talks_early_is_closed_with_521_where_that_drops),
        cmocka_unit_test(clients_of_ours_are_greeted_at_once_and_may_talk_as_they_like),
        cmocka_unit_test(what_is_said_early_forges_no_line),
        cmocka_unit_test(who_goes_while_it_waits_leaves_nothing),
        cmocka_unit_test(a_relay_that_ends_lets_nobody_wait),
        cmocka_unit_test(a_reload_changes_how_clients_are_greeted_from_then_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
