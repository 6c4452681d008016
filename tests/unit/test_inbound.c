/* What clients do to a whole relay, on a clock of ours: docs/cases.md. */
#include "tests/unit/relay_rig_client.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define TO_A                                                                                       \
    "\n  - {match: a.test, via: mx, accept_from: anyone}\n"                                        \
    "  - {match: b.test, via: mx, accept_from: anyone}\n"
#define TO_A_AND_CLIENTS_ANYWHERE TO_A "  - {match: \"*\", via: mx}\nrelay_networks: [10.0.0.0/8]\n"
#define STRANGER "192.0.2.77:4000"
#define HELLO "EHLO c.test\r\n"
#define MAIL "MAIL FROM:<s@c.test>\r\nRCPT TO:<u@a.test>\r\n"
#define SECONDS(count) ((count)*RIG_SECOND)

static void assert_nobody_is_left(const struct relay_rig *rig)
{
    assert_int_equal(rig->relay->counters.sessions_in, 0);
    assert_true(list_empty(&rig->relay->inbounds));
}

static unsigned letters_of(const struct relay_rig *rig, const char *sender)
{
    unsigned count = 0;
    for (unsigned i = 0; i < rig->letter_count; i++) {
        count += strcmp(rig->letters[i].sender, sender) == 0;
    }
    return count;
}

/* ---- Who has gone ---- */

static void a_message_that_is_torn_leaves_nothing(void **state)
{
    static const char *const torn[] = {
        HELLO MAIL "DATA\r\nSubject: x\r\n\r\nhalf a line",
        HELLO MAIL "DATA\r\nSubject: x\r\n\r\nall of it\r\n",
        HELLO MAIL "DATA\r\nx\r\n.",
        HELLO MAIL "DATA\r\nx\r\n.\r",
        HELLO MAIL "BDAT 100 LAST\r\nSubject: x\r\n\r\nless than that",
        HELLO MAIL "BDAT 3\r\nx\r\n",
        HELLO MAIL "BDAT 3\r\nx\r\nBDAT 0 LAST",
    };
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A);
    for (unsigned i = 0; i < 2 * sizeof(torn) / sizeof(*torn); i++) {
        struct rig_client *client = rig_dial(rig, STRANGER);
        rig_say(client, torn[i / 2]);
        assert_false(client->closed);
        (i % 2 == 0 ? rig_tear : rig_hang_up)(client);
        assert_nobody_is_left(rig);
    }
    rig_restart(rig);
    rig_pass(rig, SECONDS(60));
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

/* The client is gone at each moment between its last octet and the answer. */
static void a_message_that_was_not_answered_is_there_whole_or_not_at_all(void **state)
{
    unsigned outcomes[2][2] = {{0}}; /* answered, there */
    (void)state;
    for (unsigned rounds = 0; rounds < 24; rounds++) {
        struct relay_rig *rig = rig_open_two(TO_A);
        struct rig_client *client = rig_dial(rig, STRANGER);
        rig_say(client, HELLO MAIL "DATA\r\n");
        assert_string_equal(rig_codes(client), "220 250 250 250 354");
        assert_true(rig_put(client, slice_text("Subject: whole\r\n\r\n1\r\n2\r\n.\r\n")));
        for (unsigned i = 0; i < rounds; i++) {
            rig->now_ns += 10000;
            shard_round(&rig->shard);
        }
        bool answered = client->size > 0;
        rig_tear(client);
        assert_nobody_is_left(rig);
        rig_pass(rig, SECONDS(60));
        assert_true(rig->letter_count == 1 || (rig->letter_count == 0 && !answered));
        if (rig->letter_count == 1) {
            assert_non_null(strstr(rig->letters[0].body, "\nSubject: whole\n\n1\n2\n"));
        }
        outcomes[answered][rig->letter_count]++;
        relay_rig_close(rig);
    }
    assert_true(outcomes[0][0] > 0 && outcomes[0][1] > 0 && outcomes[1][1] > 0);
}

/* ---- Who is slow ---- */

static void a_client_that_says_nothing_has_five_minutes(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A);
    struct rig_client *silent = rig_dial(rig, STRANGER);
    struct rig_client *began = rig_dial(rig, STRANGER);
    struct rig_client *in_body = rig_dial(rig, STRANGER);
    rig_say(began, HELLO MAIL "NOO");
    rig_say(in_body, HELLO MAIL "DATA\r\nSubject: x\r\n");
    rig_pass(rig, SECONDS(295));
    assert_false(silent->closed || began->closed || in_body->closed);
    rig_pass(rig, SECONDS(10));
    assert_true(silent->closed && began->closed && in_body->closed);
    assert_string_equal(rig_codes(silent), "220 421");
    assert_string_equal(rig_codes(began), "220 250 250 250 421");
    assert_string_equal(rig_codes(in_body), "220 250 250 250 354 421");
    assert_nobody_is_left(rig);
    rig_hang_up(silent);
    rig_hang_up(began);
    rig_hang_up(in_body);
    assert_int_equal(rig->letter_count, 0);
    relay_rig_close(rig);
}

static void an_octet_now_and_then_buys_no_time_for_a_command(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A);
    struct rig_client *client = rig_dial(rig, STRANGER);
    for (unsigned i = 0; i < 400 && !client->closed; i++) {
        rig_say(client, "E");
        rig_pass(rig, SECONDS(1));
    }
    assert_true(client->closed);
    assert_string_equal(rig_codes(client), "220 421");
    assert_nobody_is_left(rig);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static struct rig_client *octets_say(struct relay_rig *rig, unsigned seconds, const char *piece)
{
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_say(client, HELLO MAIL "DATA\r\n");
    for (unsigned i = 0; i < seconds && !client->closed; i++) {
        rig_say(client, piece);
        rig_pass(rig, SECONDS(1));
    }
    return client;
}

static void a_message_comes_at_a_least_rate_or_not_at_all(void **state)
{
    static char fast[502];
    (void)state;
    memset(fast, 'x', 499);
    fast[499] = '\r';
    fast[500] = '\n';
    struct relay_rig *rig = rig_open_two(TO_A);
    struct rig_client *client = octets_say(rig, 400, "x");
    assert_true(client->closed);
    assert_string_equal(rig_codes(client), "220 250 250 250 354 421");
    assert_nobody_is_left(rig);
    assert_int_equal(rig->relay->counters.timeouts_in, 1);
    assert_true(rig_log_says(rig, "smtp: timeout after DATA from 192.0.2.77:4000"));
    rig_hang_up(client);
    client = octets_say(rig, 400, fast);
    rig_say(client, ".\r\n");
    assert_string_equal(rig_codes(client), "220 250 250 250 354 250");
    rig_hang_up(client);
    relay_rig_close(rig);
    rig = rig_open_two(TO_A "limits: {data_rate_min: 0}\n");
    client = octets_say(rig, 400, "x");
    rig_say(client, "\r\n.\r\n");
    assert_string_equal(rig_codes(client), "220 250 250 250 354 250");
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void a_client_that_never_reads_holds_up_itself_alone_and_not_for_ever(void **state)
{
    static char commands[4000];
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A);
    struct rig_client *deaf = rig_dial(rig, STRANGER);
    rig_say(deaf, HELLO MAIL);
    deaf->reads = false;
    for (size_t i = 0; i + 20 <= sizeof(commands); i += 20) {
        memcpy(commands + i, "RCPT TO:<u@a.test>\r\n", 20);
    }
    unsigned refused = 0;
    for (unsigned i = 0; i < 2000 && refused < 3; i++) {
        refused += !rig_put(deaf, slice_of(commands, sizeof(commands)));
        rig_settle(rig);
    }
    assert_int_equal(refused, 3); /* replies wait for the client, and so its commands for us */
    struct rig_client *other = rig_dial(rig, STRANGER);
    rig_say(other, HELLO MAIL "DATA\r\nx\r\n.\r\nQUIT\r\n");
    assert_string_equal(rig_codes(other), "220 250 250 250 354 250 221");
    rig_hang_up(other);
    rig_pass(rig, SECONDS(320));
    assert_true(deaf->closed);
    assert_nobody_is_left(rig);
    rig_hang_up(deaf);
    assert_int_equal(letters_of(rig, "s@c.test"), 1);
    relay_rig_close(rig);
}

/* ---- Who does not wait ---- */

#define NOBODY HELLO "MAIL FROM:<s@c.test>\r\nRCPT TO:<u@nowhere.test>\r\nDATA\r\n"
#define COMMANDS "RSET\r\n" MAIL "DATA\r\n"

static void a_body_that_left_before_the_refusal_of_its_data_arrived_is_never_run(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A);
    struct rig_client *client = rig_dial(rig, STRANGER);
    client->reads = false;
    rig_say(client, NOBODY);
    assert_true(rig_put(client, slice_text(COMMANDS)));
    client->reads = true;
    rig_settle(rig);
    assert_string_equal(rig_codes(client), "220 250 250 554 554 421");
    assert_true(client->closed);
    assert_nobody_is_left(rig);
    rig_hang_up(client);
    client = rig_dial(rig, STRANGER); /* the same words behind the reply are commands */
    rig_say(client, NOBODY);
    rig_say(client, COMMANDS);
    assert_string_equal(rig_codes(client), "220 250 250 554 554 250 250 250 354");
    rig_hang_up(client);
    relay_rig_close(rig);
}

/* ---- What is left of a transaction ---- */

static void no_wish_of_an_abandoned_transaction_reaches_the_next_message(void **state)
{
    static const char *const ends[] = {
        "RSET\r\n",
        HELLO,
        "DATA\r\nx\ny\r\n.\r\n",
        "BDAT 3\r\nx\ny",
        "BDAT 3 LAST\r\nx\ny",
        "BDAT 3\r\nx\r\nRSET\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        struct relay_rig *rig = rig_open_two(TO_A);
        rig->servers[0].offers = rig->servers[1].offers = "DSN";
        struct rig_client *client = rig_dial(rig, STRANGER);
        rig_say(client, HELLO "MAIL FROM:<old@c.test> RET=HDRS ENVID=old BODY=8BITMIME\r\n"
                              "RCPT TO:<old@b.test> NOTIFY=NEVER ORCPT=rfc822;old@b.test\r\n");
        rig_say(client, ends[i]);
        rig_codes(client);
        rig_say(client, MAIL);
        rig_say(client, "DATA\r\n");
        rig_say(client, "new\r\n.\r\n");
        assert_string_equal(rig_codes(client), "250 250 354 250");
        rig_hang_up(client);
        rig_pass(rig, SECONDS(60));
        assert_int_equal(rig->letter_count, 1);
        assert_string_equal(rig->letters[0].sender, "s@c.test");
        assert_string_equal(rig->letters[0].recipients, "u@a.test");
        assert_null(strstr(rig->letters[0].mail, "ENVID"));
        assert_null(strstr(rig->letters[0].mail, "RET"));
        assert_null(strstr(rig->letters[0].rcpt, "NEVER"));
        assert_null(strstr(rig->letters[0].rcpt, "old"));
        assert_null(strstr(rig->letters[0].body, "x"));
        relay_rig_close(rig);
    }
}

/* ---- Who the client is ---- */

static void a_mapped_address_is_compared_as_ipv4(void **state)
{
    static const struct {
        const char *from, *codes;
    } rows[] = {{"10.0.0.1:4000", "220 250 250 250"},
                {"[::ffff:10.0.0.1]:4000", "220 250 250 250"},
                {"[::ffff:11.0.0.1]:4000", "220 250 250 554"},
                {"[::10.0.0.1]:4000", "220 250 250 554"},
                {STRANGER, "220 250 250 554"}};
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A_AND_CLIENTS_ANYWHERE);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct rig_client *client = rig_dial(rig, rows[i].from);
        rig_say(client, HELLO "MAIL FROM:<s@c.test>\r\nRCPT TO:<u@elsewhere.test>\r\n");
        assert_string_equal(rig_codes(client), rows[i].codes);
        rig_hang_up(client);
    }
    relay_rig_close(rig);
}

static void nobody_relays_or_is_traced_by_an_address_that_he_only_claims(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A_AND_CLIENTS_ANYWHERE);
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_say(client,
            HELLO "XCLIENT ADDR=10.0.0.1 NAME=in.test\r\n"
                  "EHLO 10.0.0.1\r\nMAIL FROM:<s@c.test>\r\nRCPT TO:<u@elsewhere.test>\r\n");
    assert_string_equal(rig_codes(client), "220 250 550 250 250 554");
    rig_say(client, "RCPT TO:<u@a.test>\r\nDATA\r\n");
    rig_say(client, "Received: from in.test ([10.0.0.1])\r\n\r\nx\r\n.\r\n");
    assert_string_equal(rig_codes(client), "250 354 250");
    rig_hang_up(client);
    rig_pass(rig, SECONDS(60));
    assert_int_equal(strncmp(rig->letters[0].body, "Received: from 10.0.0.1 ([192.0.2.77])\n", 39),
                     0);
    client = rig_dial(rig, STRANGER);
    rig_say(client, "PROXY TCP4 10.0.0.1 127.0.0.1 4000 25\r\n" HELLO);
    assert_string_equal(rig_codes(client), "220 554");
    assert_true(client->closed);
    rig_hang_up(client);
    relay_rig_close(rig);
}

static void commands_of_listed_clients_may_end_with_one_octet(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A "smtp: {bare_newline_networks: [198.51.100.0/24]}\n");
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_say(client, "EHLO c.test\nNOOP\nQUIT\r\n");
    assert_string_equal(rig_codes(client), "220 500 500 221");
    rig_hang_up(client);
    client = rig_dial(rig, "198.51.100.9:4000");
    rig_say(client, "EHLO c.test\nNOOP\nQUIT\n");
    assert_string_equal(rig_codes(client), "220 250 250 221");
    rig_hang_up(client);
    relay_rig_close(rig);
}

/* ---- What nobody can forge ---- */

static unsigned lines_with(const char *text, const char *words)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++) {
        count++;
    }
    return count;
}

static void assert_printable(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if ((uint8_t)*at < ' ' && *at != '\n' && *at != '\t') {
            fail_msg("octet %u in: %.200s", (uint8_t)*at, at > text + 100 ? at - 100 : text);
        }
    }
}

static void texts_of_clients_and_servers_forge_no_line(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_A);
    snprintf(rig->servers[0].rcpt_reply, sizeof(rig->servers[0].rcpt_reply),
             "550 5.1.1 \x1b[31m%%s%%n\r<b> \b\x07 relay: forged");
    struct rig_client *client = rig_dial(rig, STRANGER);
    rig_say(client, "EHLO %s%n%99999d(x)\r\nMAIL FROM:<%s%n@b.test>\r\n"
                    "RCPT TO:<{n}`s`@a.test>\r\nRCPT TO:<%x%n@nowhere.test>\r\n"
                    "RCPT TO:<a\rrelay: forged@a.test>\r\nRCPT TO:<\"\x1b[2J\"@a.test>\r\n");
    assert_string_equal(rig_codes(client), "220 250 250 250 554 501 501");
    rig_say(client, "DATA\r\n");
    rig_say(client, "Subject: x\r\n\r\nx\r\n.\r\n");
    assert_string_equal(rig_codes(client), "354 250");
    rig_hang_up(client);
    rig_pass(rig, SECONDS(60));
    assert_true(rig_log_says(rig, "to=<{n}`s`@a.test>"));
    assert_true(rig_log_says(rig, "<%x%n@nowhere.test>"));
    assert_printable(rig->log_text);
    assert_int_equal(lines_with(rig->log_text, "\nrelay: forged"), 0);
    const struct rig_letter *report = rig_letter_for(rig, "%s%n@b.test");
    assert_non_null(report);
    assert_string_equal(report->sender, "");
    assert_printable(report->body);
    assert_non_null(strstr(report->body, "rfc822; {n}`s`@a.test"));
    assert_non_null(strstr(report->body, "550 5.1.1 "));
    assert_non_null(strstr(report->body, "\nReceived: from %s%n%99999d?x? ([192.0.2.77])\n"));
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_is_torn_leaves_nothing),
        cmocka_unit_test(a_message_that_was_not_answered_is_there_whole_or_not_at_all),
        cmocka_unit_test(a_client_that_says_nothing_has_five_minutes),
        cmocka_unit_test(an_octet_now_and_then_buys_no_time_for_a_command),
        cmocka_unit_test(a_message_comes_at_a_least_rate_or_not_at_all),
        cmocka_unit_test(a_client_that_never_reads_holds_up_itself_alone_and_not_for_ever),
        cmocka_unit_test(a_body_that_left_before_the_refusal_of_its_data_arrived_is_never_run),
        cmocka_unit_test(no_wish_of_an_abandoned_transaction_reaches_the_next_message),
        cmocka_unit_test(a_mapped_address_is_compared_as_ipv4),
        cmocka_unit_test(nobody_relays_or_is_traced_by_an_address_that_he_only_claims),
        cmocka_unit_test(commands_of_listed_clients_may_end_with_one_octet),
        cmocka_unit_test(texts_of_clients_and_servers_forge_no_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
