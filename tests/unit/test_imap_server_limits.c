/* The server's side of IMAP: what is bounded, how long it waits, encryption, what the owner is told beside. */
#include "tests/unit/imap_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct imap_talk talk;

/* `bytes` of a byte, cut in pieces of 1000. */
static void feed_many(uint8_t byte, size_t bytes)
{
    static uint8_t many[4 * 1024 * 1024];
    assert_true(bytes <= sizeof(many));
    memset(many, byte, bytes);
    imap_talk_feed(&talk, slice_of(many, bytes), 1000);
}

static void a_long_line_is_passed_over_and_its_tag_answered(void **state)
{
    (void)state;
    static const size_t most[] = {IMAP_COMMAND_BYTES_BEFORE_LOGIN, IMAP_COMMAND_BYTES_MAX};
    for (int logged_in = 0; logged_in < 2; logged_in++) {
        imap_talk_open(&talk);
        if (logged_in) {
            imap_talk_login(&talk);
        }
        imap_talk_text(&talk, "a NOOP ");
        feed_many('x', most[logged_in] - 9); /* CRLF belongs to it */
        imap_talk_text(&talk, "\r\n");
        imap_talk_expect(&talk, "as long as it may be",
                         "a BAD Unexpected text behind the arguments\n");
        imap_talk_text(&talk, "a NOOP ");
        feed_many('x', most[logged_in] - 8);
        imap_talk_text(&talk, "\r\nb NOOP\r\n");
        imap_talk_expect(&talk, "longer", "a BAD [LIMIT] Command is too long\nb OK Completed\n");
        assert_true(talk.peak <= 2 * most[logged_in] + 4096);
        imap_talk_close(&talk);
    }
}

static void a_long_line_in_one_piece_is_the_same(void **state)
{
    (void)state;
    static char line[IMAP_COMMAND_BYTES_MAX * 2];
    memset(line, 'x', sizeof(line));
    memcpy(line, "a NOOP ", 7);
    memcpy(line + sizeof(line) - 14, " {8+}\r\nc NOOP\r\n", 14);
    imap_talk_open(&talk);
    imap_talk_login(&talk);
    imap_talk_feed(&talk, slice_of(line, sizeof(line)), sizeof(line));
    imap_talk_text(&talk, "\n\r\nb NOOP\r\n");
    imap_talk_expect(&talk, "its literal is passed over too",
                     "a BAD [LIMIT] Command is too long\nb OK Completed\n");
    imap_talk_close(&talk);
}

static void a_line_without_an_end_ends_the_session(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    imap_talk_text(&talk, "a NOOP ");
    feed_many('x', IMAP_SKIP_BYTES_MAX + IMAP_COMMAND_BYTES_BEFORE_LOGIN + 2000);
    imap_talk_expect(&talk, "endless", "* BYE Command line is too long\n");
    assert_true(talk.closed && talk.peak <= 2 * IMAP_COMMAND_BYTES_BEFORE_LOGIN + 4096);
    imap_talk_close(&talk);
}

static void literals_count_in_the_command_and_are_never_allocated_ahead(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    imap_talk_text(&talk, "a LOGIN {4294967295}\r\nb LOGIN {99999999999999999999}\r\nc NOOP\r\n");
    imap_talk_expect(&talk, "it waits",
                     "a BAD [TOOBIG] Literal is too large\nb BAD [TOOBIG] Literal is too large\n"
                     "c OK Completed\n");
    imap_talk_text(&talk, "a LOGIN {9000+}\r\n");
    feed_many('x', 9000);
    imap_talk_text(&talk, " y\r\n");
    imap_talk_expect(&talk, "it does not wait",
                     "a BAD [TOOBIG] Literal is too large\n* BYE Too many errors\n");
    assert_true(talk.peak < 4096);
    imap_talk_close(&talk);
    imap_talk_open(&talk);
    imap_talk_text(&talk, "a LOGIN {4294967295+}\r\n");
    imap_talk_expect(&talk, "more than is passed over", "* BYE [TOOBIG] Literal is too large\n");
    assert_true(talk.closed);
    imap_talk_close(&talk);
    imap_talk_open(&talk);
    imap_talk_text(&talk, "a LOGIN {4000+}\r\n");
    feed_many('x', 4000);
    imap_talk_text(&talk, " {4200}\r\n");
    imap_talk_expect(&talk, "together too much", "a BAD [TOOBIG] Literal is too large\n");
    imap_talk_close(&talk);
}

static void with_literal_minus_only_small_ones_may_come_unasked(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    talk.settings.capabilities = ~(uint64_t)IMAP_CAP_LITERAL_PLUS;
    imap_talk_text(&talk, "a LOGIN {4096+}\r\n");
    feed_many('x', 4096);
    imap_talk_text(&talk, " b\r\nb LOGIN {4097+}\r\n");
    feed_many('x', 4097);
    imap_talk_text(&talk, " b\r\nc NOOP\r\n");
    imap_talk_expect(&talk, "4096",
                     "a NO [AUTHENTICATIONFAILED] No\nb BAD [TOOBIG] Literal is too large\n"
                     "c OK Completed\n");
    imap_talk_close(&talk);
}

static void bombs_of_sets_and_parentheses_are_bounded(void **state)
{
    (void)state;
    static char line[IMAP_COMMAND_BYTES_MAX];
    imap_talk_open(&talk);
    imap_talk_select(&talk);
    size_t size = (size_t)sprintf(line, "a FETCH 4294967295:*");
    while (size + 16 < sizeof(line)) {
        size += (size_t)sprintf(line + size, ",1:*");
    }
    size += (size_t)sprintf(line + size, " UID\r\n");
    imap_talk_feed(&talk, slice_of(line, size), size);
    imap_talk_expect(&talk, "a set", "* (a 1:* 1)\na OK Completed\n");
    size = (size_t)sprintf(line, "b SEARCH ");
    memset(line + size, '(', sizeof(line) - size);
    memcpy(line + sizeof(line) - 2, "\r\n", 2);
    imap_talk_feed(&talk, slice_of(line, sizeof(line)), sizeof(line));
    imap_talk_expect(&talk, "parentheses", "b BAD Search is nested too deep\n");
    size = (size_t)sprintf(line, "c SEARCH 1");
    while (size + 16 < sizeof(line)) {
        size += (size_t)sprintf(line + size, " 1");
    }
    size += (size_t)sprintf(line + size, "\r\n");
    imap_talk_feed(&talk, slice_of(line, size), size);
    imap_talk_expect(&talk, "keys", "c NO [LIMIT] Command is too complex\n");
    assert_true(talk.peak <= IMAP_TREE_BYTES_MAX + 2 * IMAP_COMMAND_BYTES_MAX);
    imap_talk_close(&talk);
}

static void an_exchange_has_long_lines_but_not_endless_ones(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    imap_talk_text(&talk, "a AUTHENTICATE SCRAM-SHA-256\r\n");
    feed_many('=', IMAP_AUTH_LINE_BYTES_MAX);
    imap_talk_text(&talk, "\r\nb NOOP\r\n");
    imap_talk_expect(&talk, "too long",
                     "+ d2hvPw==\na BAD [LIMIT] Command is too long\nb OK Completed\n");
    imap_talk_text(&talk, "a AUTHENTICATE SCRAM-SHA-256\r\n");
    feed_many('=', IMAP_AUTH_LINE_BYTES_MAX - 2);
    imap_talk_text(&talk, "\r\n");
    imap_talk_expect(&talk, "as long as it may be",
                     "+ d2hvPw==\na BAD Invalid base64\n(cancelled)\n");
    imap_talk_close(&talk);
}

static void idle_sessions_hold_nothing(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    assert_int_equal(imap_server_memory(&talk.server), 0);
    imap_talk_select(&talk);
    assert_int_equal(imap_server_memory(&talk.server), 0);
    imap_talk_text(&talk, "a IDLE\r\n");
    assert_int_equal(imap_server_memory(&talk.server), 0);
    assert_int_equal(talk.server.phase, IMAP_PHASE_IDLE);
    imap_talk_close(&talk);
}

static void nothing_said_in_the_clear_is_heard_when_encrypted(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    talk.settings.login_in_clear = false;
    imap_talk_text(&talk, "a CAPABILITY\r\nb LOGIN joe {4}\r\nc LOGIN joe good\r\n");
    imap_talk_expect(&talk, "in the clear",
                     "* CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE STARTTLS "
                     "LOGINDISABLED AUTH=SCRAM-SHA-256\na OK Completed\n"
                     "b NO [PRIVACYREQUIRED] Only when encrypted\n"
                     "c NO [PRIVACYREQUIRED] Only when encrypted\n");
    imap_talk_text(&talk,
                   "d STARTTLS\r\ne LOGIN joe good\r\n"); /* the owner throws away the rest */
    imap_talk_expect(&talk, "STARTTLS", "d OK Begin TLS now\n");
    assert_int_equal(talk.server.phase, IMAP_PHASE_SECURING);
    struct imap_event event;
    size_t used;
    assert_int_equal(imap_server_input(&talk.server, 0, slice_text("e NOOP\r\n"), &used, &event),
                     IMAP_WANT_TLS);
    assert_int_equal(used, 0);
    imap_server_secured(&talk.server, 0);
    imap_talk_text(&talk, "f CAPABILITY\r\ng STARTTLS\r\nh AUTHENTICATE PLAIN =\r\n");
    talk.output[300] = '\0';
    assert_non_null(strstr(talk.output, "ID ENABLE AUTH=PLAIN AUTH=SCRAM-SHA-256\nf OK Completed\n"
                                        "g BAD It is encrypted already\n* (initial )\nh OK"));
    imap_talk_close(&talk);
}

static void what_is_not_announced_is_not_known(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "a IDLE\r\n",
        "a NAMESPACE\r\n",
        "a MOVE 1 x\r\n",
        "a UID SORT (DATE) UTF-8 ALL\r\n",
        "a THREAD REFERENCES UTF-8 ALL\r\n",
        "a GETQUOTA x\r\n",
        "a GETACL x\r\n",
        "a GETMETADATA x /a\r\n",
        "a NOTIFY NONE\r\n",
        "a COMPRESS DEFLATE\r\n",
        "a UNAUTHENTICATE\r\n",
        "a REPLACE 1 x {1}\r\n",
        "a UNSELECT\r\n",
        "a CANCELUPDATE \"x\"\r\n",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        imap_talk_open(&talk);
        imap_talk_select(&talk);
        talk.settings.capabilities = 0;
        imap_talk_text(&talk, rows[i]);
        imap_talk_expect(&talk, rows[i], "a BAD Unknown command\n");
        imap_talk_close(&talk);
    }
    imap_talk_open(&talk);
    imap_talk_login(&talk);
    talk.settings.capabilities = 0;
    imap_talk_text(&talk, "a ENABLE CONDSTORE QRESYNC UTF8=ACCEPT IMAP4rev2\r\nb CAPABILITY\r\n"
                          "c APPEND x {1+}\r\na {1}\r\n");
    imap_talk_expect(&talk, "nothing",
                     "* ENABLED\na OK Completed\n"
                     "* CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID ENABLE APPENDLIMIT=100\n"
                     "b OK Completed\n* message mailbox=<x> flags=0 1\na|\n"
                     "c BAD One message at a time\n");
    assert_int_equal(talk.server.enabled, 0);
    imap_talk_close(&talk);
}

static void the_owner_learns_when_sequence_numbers_must_stay(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        bool may_expunge;
    } rows[] = {
        {"a NOOP\r\n", true},
        {"a CHECK\r\n", true},
        {"a FETCH 1 UID\r\n", false},
        {"a UID FETCH 1 UID\r\n", true},
        {"a STORE 1 FLAGS x\r\n", false},
        {"a UID STORE 1 FLAGS x\r\n", true},
        {"a SEARCH ALL\r\n", false},
        {"a UID SEARCH ALL\r\n", true},
        {"a SORT (DATE) UTF-8 ALL\r\n", false},
        {"a THREAD REFERENCES UTF-8 ALL\r\n", false},
        {"a EXPUNGE\r\n", true},
        {"a IDLE\r\n", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        imap_talk_open(&talk);
        imap_talk_select(&talk);
        imap_talk_text(&talk, rows[i].command);
        if (talk.may_expunge != rows[i].may_expunge) {
            fail_msg("%s", rows[i].command);
        }
        imap_talk_close(&talk);
    }
}

static void what_asks_for_mod_sequences_enables_condstore_once(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        bool enables;
    } rows[] = {
        {"a FETCH 1 MODSEQ\r\n", true},
        {"a FETCH 1 UID (CHANGEDSINCE 1)\r\n", true},
        {"a STORE 1 (UNCHANGEDSINCE 1) FLAGS x\r\n", true},
        {"a SEARCH MODSEQ 1\r\n", true},
        {"a STATUS x (HIGHESTMODSEQ)\r\n", true},
        {"a SELECT x (CONDSTORE)\r\n", true},
        {"a FETCH 1 UID\r\n", false},
        {"a SELECT x\r\n", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        imap_talk_open(&talk);
        imap_talk_select(&talk);
        imap_talk_text(&talk, rows[i].command);
        bool enabled = (talk.server.enabled & IMAP_ENABLED_CONDSTORE) != 0;
        if (talk.condstore_begins != rows[i].enables || enabled != rows[i].enables) {
            fail_msg("%s", rows[i].command);
        }
        imap_talk_text(&talk, rows[i].command);
        assert_false(talk.condstore_begins);
        imap_talk_close(&talk);
    }
}

static void time_is_short_before_login_and_long_after_it(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    assert_int_equal(imap_server_deadline(&talk.server), 180);
    talk.now_ns = 100;
    imap_talk_text(&talk, "a NO"); /* a piece is no sign of life */
    assert_int_equal(imap_server_deadline(&talk.server), 180);
    imap_talk_text(&talk, "OP\r\n");
    assert_int_equal(imap_server_deadline(&talk.server), 280);
    imap_talk_login(&talk);
    assert_int_equal(imap_server_deadline(&talk.server), 1900);
    talk.now_ns = 1000;
    imap_talk_text(&talk, "a IDLE\r\n");
    assert_int_equal(imap_server_deadline(&talk.server), 2800);
    talk.output_bytes = 0;
    imap_server_expire(&talk.server);
    imap_talk_text(&talk, "");
    imap_talk_expect(&talk, "idle", "* BYE Autologout, nothing came for too long\n");
    assert_true(talk.closed);
    assert_int_equal(imap_server_deadline(&talk.server), IMAP_SERVER_NEVER);
    imap_talk_close(&talk);
    imap_talk_open(&talk);
    imap_server_expire(&talk.server);
    imap_talk_text(&talk, "");
    imap_talk_expect(&talk, "before login", "* BYE Login took too long\n");
    imap_talk_close(&talk);
}

static void a_message_has_time_as_long_as_it_comes(void **state)
{
    (void)state;
    imap_talk_open(&talk);
    imap_talk_login(&talk);
    imap_talk_text(&talk, "a APPEND x {50}\r\n");
    talk.now_ns = 1000;
    imap_talk_text(&talk, "x");
    assert_int_equal(imap_server_deadline(&talk.server), 2800);
    talk.now_ns = 2000;
    imap_talk_text(&talk, "x");
    assert_int_equal(imap_server_deadline(&talk.server), 3800);
    imap_server_expire(&talk.server);
    assert_int_equal(talk.resets, 0);
    imap_talk_text(&talk, "");
    assert_int_equal(talk.resets, 1); /* what came is nothing */
    assert_true(talk.closed);
    imap_talk_close(&talk);
}

static void while_a_command_runs_nothing_is_taken_and_no_time_passes(void **state)
{
    (void)state;
    struct imap_event event;
    size_t used;
    struct slice input = slice_text("a CHECK\r\nb CHECK\r\n");
    imap_talk_open(&talk);
    imap_talk_select(&talk);
    assert_int_equal(imap_server_input(&talk.server, 0, input, &used, &event), IMAP_WANT_ANSWER);
    assert_int_equal(used, 9);
    assert_int_equal(event.kind, IMAP_EVENT_COMMAND);
    assert_int_equal(imap_server_deadline(&talk.server), IMAP_SERVER_NEVER);
    assert_int_equal(imap_server_input(&talk.server, 0, slice_from(input, 9), &used, &event),
                     IMAP_WANT_ANSWER);
    assert_int_equal(used, 0);
    assert_int_equal(event.kind, IMAP_EVENT_NONE);
    imap_server_bye(&talk.server, slice_text("UNAVAILABLE"), slice_text("Stopping"));
    imap_server_done(&talk.server, NULL); /* too late, and no harm */
    imap_talk_text(&talk, "");
    imap_talk_expect(&talk, "bye", "* BYE [UNAVAILABLE] Stopping\n");
    imap_talk_close(&talk);
}

static void what_the_owner_says_stays_one_line(void **state)
{
    (void)state;
    static char code[IMAP_CODE_BYTES_MAX + 1];
    static const struct {
        struct imap_answer answer;
        const char *output;
    } rows[] = {
        {{IMAP_NO, {(const uint8_t *)"X\r\n]", 4}, {(const uint8_t *)"a\r\n* OK \xff", 9}},
         "a NO [X???] a??* OK ?\n"},
        {{IMAP_OK, {NULL, 0}, {(const uint8_t *)"[ALERT] x", 9}}, "a OK ?ALERT] x\n"},
        {{IMAP_BAD, {NULL, 0}, {NULL, 0}}, "a BAD Invalid command\n"},
        {{IMAP_NO, {(const uint8_t *)code, sizeof(code)}, {(const uint8_t *)"long", 4}},
         "a NO long\n"},
    };
    memset(code, 'x', sizeof(code));
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct imap_event event;
        size_t used;
        imap_talk_open(&talk);
        imap_talk_select(&talk);
        imap_server_input(&talk.server, 0, slice_text("a CHECK\r\n"), &used, &event);
        imap_server_done(&talk.server, &rows[i].answer);
        imap_talk_text(&talk, "");
        imap_talk_expect(&talk, "an answer", rows[i].output);
        imap_talk_close(&talk);
    }
}

static void who_does_not_read_is_not_served(void **state)
{
    (void)state;
    struct imap_event event;
    size_t used = 1, rounds = 0;
    imap_talk_open(&talk);
    while (used > 0 && ++rounds < 1000) {
        imap_server_input(&talk.server, 0, slice_text("a CAPABILITY\r\n"), &used, &event);
    }
    assert_in_range(rounds, 10, 100);
    assert_in_range(imap_server_output(&talk.server).size, 4096, 8192);
    imap_server_sent(&talk.server, 4000);
    imap_server_input(&talk.server, 0, slice_text("a CAPABILITY\r\n"), &used, &event);
    assert_int_equal(used, 14);
    imap_talk_close(&talk);
}

static void an_owner_that_cannot_go_on_refuses_in_the_middle_of_a_line(void **state)
{
    (void)state;
    const struct imap_answer no = {IMAP_NO, slice_text("OVERQUOTA"), slice_text("Full")};
    imap_talk_open(&talk);
    imap_talk_login(&talk);
    imap_talk_text(&talk, "a APPEND x {1+}\r\na (\\Seen) {8");
    imap_server_refuse(&talk.server, &no);
    talk.messages = 0;
    imap_talk_text(&talk, "+}\r\nc NOOP\r\n\r\nb NOOP\r\n");
    imap_talk_expect(&talk, "what comes unasked is passed over",
                     "* message mailbox=<x> flags=0 1\naa NO [OVERQUOTA] Full\n"
                     "b OK Completed\n");
    assert_int_equal(talk.resets, 0);
    imap_talk_close(&talk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_line_is_passed_over_and_its_tag_answered),
        cmocka_unit_test(a_long_line_in_one_piece_is_the_same),
        cmocka_unit_test(a_line_without_an_end_ends_the_session),
        cmocka_unit_test(literals_count_in_the_command_and_are_never_allocated_ahead),
        cmocka_unit_test(with_literal_minus_only_small_ones_may_come_unasked),
        cmocka_unit_test(bombs_of_sets_and_parentheses_are_bounded),
        cmocka_unit_test(an_exchange_has_long_lines_but_not_endless_ones),
        cmocka_unit_test(idle_sessions_hold_nothing),
        cmocka_unit_test(nothing_said_in_the_clear_is_heard_when_encrypted),
        cmocka_unit_test(what_is_not_announced_is_not_known),
        cmocka_unit_test(the_owner_learns_when_sequence_numbers_must_stay),
        cmocka_unit_test(what_asks_for_mod_sequences_enables_condstore_once),
        cmocka_unit_test(time_is_short_before_login_and_long_after_it),
        cmocka_unit_test(a_message_has_time_as_long_as_it_comes),
        cmocka_unit_test(while_a_command_runs_nothing_is_taken_and_no_time_passes),
        cmocka_unit_test(what_the_owner_says_stays_one_line),
        cmocka_unit_test(who_does_not_read_is_not_served),
        cmocka_unit_test(an_owner_that_cannot_go_on_refuses_in_the_middle_of_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
