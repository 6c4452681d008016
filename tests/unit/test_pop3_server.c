/* The POP3 machine: what RFC 1939 and its extensions say, and any cut of the same octets. */
#include "proto/pop3/server.h"
#include "engine/core/check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MESSAGES 3u
static const char *const texts[MESSAGES] = {
    "Subject: one\r\n\r\nfirst\r\n.second\r\n..\r\n.\r\n",
    "Subject: two\r\nX: y\r\n\r\n\r\nbody",
    "Subject: three\r\n",
};
static const char *const names[MESSAGES] = {"whqtswO00WBw418f9t5JxYwZ", "QhdPYR:00WBw1Ph7x7", "c"};

static struct pop3_server_settings settings = {
    .greeting = {(const uint8_t *)"POP3 ready", 10},
    .sasl_clear = {(const uint8_t *)"SCRAM-SHA-1", 11},
    .sasl_secure = {(const uint8_t *)"SCRAM-SHA-1 PLAIN", 17},
    .clear_login = true,
    .stls = true,
    .errors_max = 8,
    .idle_ns = 100,
};

struct session {
    struct pop3_server server;
    struct pop3_message messages[MESSAGES];
    struct pop3_maildrop maildrop;
    char said[16384]; /* by the server */
    size_t bytes;
    unsigned updates, cancels, retrieve_refusals;
    size_t piece_bytes; /* messages are fed so */
    bool break_message;
    enum pop3_want want;
};

static void send_output(struct session *session)
{
    struct slice output = pop3_server_output(&session->server);
    check(session->bytes + output.size < sizeof(session->said));
    memcpy(session->said + session->bytes, output.bytes, output.size);
    session->bytes += output.size;
    session->said[session->bytes] = '\0';
    pop3_server_sent(&session->server, output.size);
}

static void message_send(struct session *session, uint32_t index)
{
    struct slice whole = slice_text(texts[index]), piece;
    while (whole.size > 0 && !pop3_server_message_enough(&session->server)) {
        struct slice part = slice_first(whole, session->piece_bytes);
        whole = slice_from(whole, part.size);
        while (pop3_server_piece(&session->server, &part, &piece)) {
            check(piece.size > 0 && session->bytes + piece.size < sizeof(session->said));
            memcpy(session->said + session->bytes, piece.bytes, piece.size);
            session->bytes += piece.size;
        }
    }
    if (session->break_message) {
        pop3_server_message_broken(&session->server);
    } else {
        pop3_server_message_end(&session->server);
    }
}

static void answer(struct session *session, const struct pop3_event *event)
{
    const struct pop3_verdict wrong = {POP3_ERR, "AUTH", slice_text("No")};
    switch (event->kind) {
    case POP3_EVENT_NONE:
        return;
    case POP3_EVENT_AUTH_CANCEL:
        session->cancels++;
        return;
    case POP3_EVENT_UPDATE:
        session->updates++;
        pop3_server_verdict(&session->server, NULL);
        return;
    case POP3_EVENT_CONNECTED:
        pop3_server_verdict(&session->server, NULL);
        return;
    case POP3_EVENT_LOGIN:
        if (slice_equal(event->user, slice_text("mrose")) &&
            slice_equal(event->password, slice_text("tan staaf"))) {
            pop3_server_admit(&session->server, &session->maildrop);
        } else {
            pop3_server_verdict(&session->server, &wrong);
        }
        return;
    case POP3_EVENT_AUTH:
        if (event->has_octets && slice_equal(event->octets, slice_of("\0tim\0secret", 11))) {
            pop3_server_admit(&session->server, &session->maildrop);
        } else if (!event->has_octets || event->octets.size == 0) {
            pop3_server_challenge(&session->server,
                                  slice_text(event->has_octets ? "empty" : "none"));
        } else {
            pop3_server_verdict(&session->server, &wrong);
        }
        return;
    case POP3_EVENT_AUTH_ANSWER:
        if (slice_equal(event->octets, slice_text("good"))) {
            pop3_server_admit(&session->server, &session->maildrop);
        } else {
            pop3_server_verdict(&session->server, &wrong);
        }
        return;
    case POP3_EVENT_RETRIEVE:
        pop3_server_verdict(&session->server, NULL);
        return;
    }
}

/* Until nothing more comes of it. */
static void feed(struct session *session, struct slice input)
{
    uint32_t index = 0;
    for (;;) {
        struct pop3_event event;
        size_t used;
        session->want = pop3_server_input(&session->server, 5, input, &used, &event);
        assert_true(used <= input.size);
        if (event.kind == POP3_EVENT_RETRIEVE) {
            index = event.message;
        }
        answer(session, &event);
        size_t before = session->bytes;
        send_output(session);
        input = slice_from(input, used);
        if (session->want == POP3_WANT_MESSAGE) {
            message_send(session, index);
            send_output(session);
        } else if (session->want == POP3_WANT_TLS) {
            pop3_server_secured(&session->server, 5);
            return; /* what came in the clear is thrown away */
        } else if (session->want == POP3_WANT_CLOSE ||
                   (used == 0 && event.kind == POP3_EVENT_NONE && session->bytes == before)) {
            assert_true(session->want == POP3_WANT_CLOSE || input.size == 0);
            return;
        }
    }
}

static void begin(struct session *session)
{
    memset(session, 0, sizeof(*session));
    for (unsigned i = 0; i < MESSAGES; i++) {
        session->messages[i] =
            (struct pop3_message){.bytes = strlen(texts[i]), .uidl = slice_text(names[i])};
    }
    session->maildrop = (struct pop3_maildrop){session->messages, MESSAGES};
    session->piece_bytes = 4096;
    pop3_server_open(&session->server, &settings, 0);
    feed(session, slice_of(NULL, 0));
}

static void talk(struct session *session, const char *commands, const char *replies)
{
    session->bytes = 0;
    session->said[0] = '\0';
    feed(session, slice_text(commands));
    assert_string_equal(session->said, replies);
}

#define LOGIN "USER mrose\r\nPASS tan staaf\r\n"
#define LOGIN_REPLIES "+OK Password?\r\n+OK Logged in\r\n"

static void begin_logged_in(struct session *session)
{
    begin(session);
    talk(session, LOGIN, LOGIN_REPLIES);
}

static void the_session_of_rfc_1939_goes_as_it_is_written_there(void **state)
{
    struct session session;
    (void)state;
    begin(&session);
    assert_string_equal(session.said, "+OK POP3 ready\r\n");
    talk(&session, LOGIN, LOGIN_REPLIES);
    talk(&session, "STAT\r\n", "+OK 3 83\r\n");
    talk(&session, "LIST\r\n", "+OK 3 messages (83 octets)\r\n1 39\r\n2 28\r\n3 16\r\n.\r\n");
    talk(&session, "RETR 1\r\n",
         "+OK\r\nSubject: one\r\n\r\nfirst\r\n..second\r\n...\r\n..\r\n.\r\n");
    talk(&session, "DELE 1\r\n", "+OK Marked\r\n");
    talk(&session, "RETR 2\r\n", "+OK\r\nSubject: two\r\nX: y\r\n\r\n\r\nbody\r\n.\r\n");
    talk(&session, "DELE 2\r\nQUIT\r\n", "+OK Marked\r\n+OK Bye\r\n");
    assert_int_equal(session.want, POP3_WANT_CLOSE);
    assert_int_equal(session.updates, 1);
    assert_true(session.messages[0].deleted && session.messages[1].deleted);
    assert_false(session.messages[2].deleted);
    pop3_server_close(&session.server);
}

static void commands_have_their_replies(void **state)
{
    static const struct {
        const char *command, *reply;
    } rows[] = {
        {"LIST 2\r\n", "+OK 2 28\r\n"},
        {"LIST 4\r\n", "-ERR No such message\r\n"},
        {"LIST 0\r\n", "-ERR No such message\r\n"},
        {"LIST x\r\n", "-ERR A message number is wanted\r\n"},
        {"UIDL\r\n",
         "+OK 3 messages (83 octets)\r\n1 whqtswO00WBw418f9t5JxYwZ\r\n2 QhdPYR:00WBw1Ph7x7\r\n3 "
         "c\r\n.\r\n"},
        {"UIDL 2\r\n", "+OK 2 QhdPYR:00WBw1Ph7x7\r\n"},
        {"TOP 1 0\r\n", "+OK\r\nSubject: one\r\n\r\n.\r\n"},
        {"TOP 1 2\r\n", "+OK\r\nSubject: one\r\n\r\nfirst\r\n..second\r\n.\r\n"},
        {"TOP 1 99\r\n", "+OK\r\nSubject: one\r\n\r\nfirst\r\n..second\r\n...\r\n..\r\n.\r\n"},
        {"TOP 2 1\r\n", "+OK\r\nSubject: two\r\nX: y\r\n\r\n\r\n.\r\n"},
        {"TOP 3 0\r\n", "+OK\r\nSubject: three\r\n.\r\n"},
        {"TOP 1\r\n", "-ERR TOP wants a message and how many lines\r\n"},
        {"dele 2\r\n", "+OK Marked\r\n"},
        {"DELE 2\r\n", "-ERR No such message\r\n"},
        {"RETR 2\r\n", "-ERR No such message\r\n"},
        {"STAT\r\n", "+OK 2 55\r\n"},
        {"LIST\r\n", "+OK 2 messages (55 octets)\r\n1 39\r\n3 16\r\n.\r\n"},
        {"RSET\r\n", "+OK\r\n"},
        {"STAT\r\n", "+OK 3 83\r\n"},
        {"NOOP\r\n", "+OK\r\n"},
        {"LAST\r\n", "-ERR No such command\r\n"},
        {"USER mrose\r\n", "-ERR Not now\r\n"},
        {"RETR 99999999999999999999\r\n", "-ERR A message number is wanted\r\n"},
        {"RETR 1x\r\n", "-ERR A message number is wanted\r\n"},
    };
    struct session session;
    (void)state;
    begin_logged_in(&session);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        session.server.errors = 0;
        talk(&session, rows[i].command, rows[i].reply);
    }
    assert_int_equal(session.updates, 0);
    pop3_server_close(&session.server);
}

/* RFC 2449 §6.6: many commands at once, each answered in order; and octet by octet the same. */
static void octet_by_octet_is_the_same_as_all_at_once(void **state)
{
    static const char commands[] =
        "CAPA\r\nUSER mrose\r\nPASS wrong\r\nUSER mrose\r\nPASS tan "
        "staaf\r\nSTAT\r\nLIST\r\nUIDL\r\n"
        "RETR 1\r\nTOP 2 1\r\nRETR 3\r\nDELE 3\r\nBAD\r\nRETR 3\r\nQUIT\r\n";
    static struct session whole, cut;
    (void)state;
    begin(&whole);
    feed(&whole, slice_text(commands));
    begin(&cut);
    cut.piece_bytes = 1;
    for (size_t i = 0; i < sizeof(commands) - 1; i++) {
        char octet = commands[i];
        feed(&cut, slice_of(&octet, 1));
    }
    assert_string_equal(whole.said, cut.said);
    assert_int_equal(whole.updates, 1);
    assert_int_equal(cut.updates, 1);
    pop3_server_close(&whole.server);
    pop3_server_close(&cut.server);
}

static void a_wrong_password_says_so_and_the_name_is_to_be_given_again(void **state)
{
    struct session session;
    (void)state;
    begin(&session);
    talk(&session, "PASS tan staaf\r\n", "-ERR Not now\r\n");
    talk(&session, "USER mrose\r\nPASS x\r\n", "+OK Password?\r\n-ERR [AUTH] No\r\n");
    talk(&session, "PASS tan staaf\r\n", "-ERR Not now\r\n");
    talk(&session, "STAT\r\n", "-ERR Not now\r\n");
    talk(&session, LOGIN, LOGIN_REPLIES);
    pop3_server_close(&session.server);
}

static void an_exchange_carries_challenges_and_answers(void **state)
{
    struct session session;
    (void)state;
    begin(&session);
    talk(&session, "AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n", "+OK Logged in\r\n");
    pop3_server_close(&session.server);
    begin(&session);
    talk(&session, "AUTH X\r\n", "+ bm9uZQ==\r\n");
    talk(&session, "*\r\n", "-ERR Cancelled\r\n");
    assert_int_equal(session.cancels, 1);
    talk(&session, "AUTH X =\r\n", "+ ZW1wdHk=\r\n");
    talk(&session, "bad!\r\n", "-ERR This is no base64\r\n");
    assert_int_equal(session.cancels, 2);
    talk(&session, "AUTH X bad!\r\n", "-ERR The initial response is no base64\r\n");
    talk(&session, "AUTH\r\n", "+OK\r\nSCRAM-SHA-1\r\n.\r\n");
    talk(&session, "AUTH X\r\nQUIT\r\n", "+ bm9uZQ==\r\n-ERR [AUTH] No\r\n"); /* base64 too */
    talk(&session, "AUTH X\r\nZ29vZA==\r\n", "+ bm9uZQ==\r\n+OK Logged in\r\n");
    pop3_server_close(&session.server);
}

static void only_lines_of_an_exchange_may_be_long(void **state)
{
    static char line[POP3_EXCHANGE_BYTES_MAX + 64];
    struct session session;
    (void)state;
    begin(&session);
    memset(line, 'A', sizeof(line));
    memcpy(line, "AUTH X ", 7);
    strcpy(line + 8007, "\r\n");
    talk(&session, line, "-ERR [AUTH] No\r\n");
    memset(line, 'A', sizeof(line));
    strcpy(line + 8000, "\r\n");
    talk(&session, "AUTH X\r\n", "+ bm9uZQ==\r\n");
    talk(&session, line, "-ERR [AUTH] No\r\n");
    memset(line, 'A', sizeof(line));
    strcpy(line + POP3_EXCHANGE_BYTES_MAX + 4, "\r\nNOOP\r\n");
    talk(&session, "AUTH X\r\n", "+ bm9uZQ==\r\n");
    talk(&session, line, "-ERR Line too long\r\n-ERR Not now\r\n");
    memset(line, 'A', sizeof(line));
    memcpy(line, "USER ", 5);
    strcpy(line + POP3_COMMAND_BYTES_MAX, "\r\nUSER x\r\n");
    talk(&session, line, "-ERR Line too long\r\n+OK Password?\r\n");
    pop3_server_close(&session.server);
}

static void stls_forgets_what_was_said_in_the_clear(void **state)
{
    struct session session;
    (void)state;
    begin(&session);
    talk(&session, "USER mrose\r\nSTLS\r\nUSER eve\r\n", "+OK Password?\r\n+OK Begin TLS\r\n");
    talk(&session, "PASS tan staaf\r\n", "-ERR Not now\r\n");
    talk(&session, "STLS\r\n", "-ERR It is encrypted\r\n");
    talk(&session, "CAPA\r\n",
         "+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE "
         "NEVER\r\nUSER\r\n"
         "SASL SCRAM-SHA-1 PLAIN\r\n.\r\n");
    talk(&session, LOGIN, LOGIN_REPLIES);
    talk(&session, "STLS\r\n", "-ERR Not now\r\n");
    pop3_server_close(&session.server);
}

static void no_password_is_taken_in_the_clear_unless_that_is_wanted(void **state)
{
    struct session session;
    (void)state;
    settings.clear_login = false;
    settings.sasl_clear.size = 0;
    begin(&session);
    talk(&session, "USER mrose\r\n", "-ERR Not without encryption\r\n");
    talk(&session, "AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n",
         "-ERR Not here, or not without encryption\r\n");
    talk(&session, "CAPA\r\n",
         "+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE "
         "NEVER\r\nSTLS\r\n.\r\n");
    settings.clear_login = true;
    settings.sasl_clear.size = 11;
    pop3_server_close(&session.server);
}

static void too_many_errors_end_the_session_without_update(void **state)
{
    struct session session;
    (void)state;
    begin_logged_in(&session);
    talk(&session, "DELE 1\r\n", "+OK Marked\r\n");
    for (unsigned i = 0; i < settings.errors_max; i++) {
        assert_int_equal(session.want, POP3_WANT_INPUT);
        talk(&session, "WHAT\r\n", "-ERR No such command\r\n");
    }
    assert_int_equal(session.want, POP3_WANT_CLOSE);
    assert_int_equal(session.updates, 0);
    pop3_server_close(&session.server);
}

static void a_client_that_says_nothing_is_left_without_a_word_and_without_update(void **state)
{
    struct session session;
    (void)state;
    begin_logged_in(&session);
    talk(&session, "DELE 1\r\n", "+OK Marked\r\n");
    assert_int_equal(pop3_server_deadline(&session.server), 105);
    pop3_server_progress(&session.server, 50);
    assert_int_equal(pop3_server_deadline(&session.server), 150);
    pop3_server_expire(&session.server);
    talk(&session, "QUIT\r\n", "");
    assert_int_equal(session.want, POP3_WANT_CLOSE);
    assert_int_equal(session.updates, 0);
    pop3_server_close(&session.server);
}

static void a_client_that_does_not_log_in_has_less_time(void **state)
{
    struct session session;
    (void)state;
    settings.login_ns = 30;
    begin(&session);
    assert_int_equal(pop3_server_deadline(&session.server), 35);
    talk(&session, "USER mrose\r\n", "+OK Password?\r\n");
    assert_int_equal(pop3_server_deadline(&session.server), 35);
    talk(&session, "PASS tan staaf\r\nNOOP\r\n", "+OK Logged in\r\n+OK\r\n");
    assert_int_equal(pop3_server_deadline(&session.server), 105);
    settings.login_ns = 0;
    pop3_server_close(&session.server);
}

static void a_message_that_cannot_be_read_to_its_end_has_no_end(void **state)
{
    struct session session;
    (void)state;
    begin_logged_in(&session);
    session.break_message = true;
    talk(&session, "RETR 3\r\nQUIT\r\n", "+OK\r\nSubject: three\r\n");
    assert_int_equal(session.want, POP3_WANT_CLOSE);
    assert_int_equal(session.updates, 0);
    pop3_server_close(&session.server);
}

static void what_does_not_end_with_crlf_is_no_command(void **state)
{
    struct session session;
    (void)state;
    begin_logged_in(&session);
    talk(&session, "NOOP\nNOOP\r\n\r\n",
         "-ERR Lines end with CRLF\r\n+OK\r\n-ERR No such command\r\n");
    pop3_server_close(&session.server);
}

/* A listing that does not fit waits for room; nothing of it is lost. */
static void a_long_listing_comes_in_parts(void **state)
{
    enum { COUNT = 2000 };
    static struct pop3_message messages[COUNT];
    static char said[COUNT * 20];
    struct pop3_maildrop maildrop = {messages, COUNT};
    struct pop3_server server;
    struct pop3_event event;
    struct slice input = slice_text("LIST\r\nNOOP\r\n");
    size_t used, bytes = 0;
    unsigned rounds = 0, lines = 0;
    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        messages[i] = (struct pop3_message){.bytes = i, .uidl = slice_text("u")};
    }
    pop3_server_open(&server, &settings, 0);
    pop3_server_input(&server, 1, input, &used, &event);
    pop3_server_verdict(&server, NULL);
    pop3_server_input(&server, 1, slice_text("USER a\r\n"), &used, &event);
    pop3_server_input(&server, 1, slice_text("PASS b\r\n"), &used, &event);
    pop3_server_admit(&server, &maildrop);
    do {
        pop3_server_input(&server, 1, input, &used, &event);
        input = slice_from(input, used);
        struct slice output = pop3_server_output(&server);
        size_t some = output.size < 500 ? output.size : 500; /* the peer takes some at a time */
        memcpy(said + bytes, output.bytes, some);
        bytes += some;
        pop3_server_sent(&server, some);
        rounds++;
    } while (pop3_server_output(&server).size > 0 || input.size > 0);
    for (size_t i = 0; i < bytes; i++) {
        lines += said[i] == '\n';
    }
    assert_int_equal(lines, 4 + COUNT + 1 + 1);
    assert_memory_equal(said + bytes - 27, "1999 1998\r\n2000 1999\r\n.\r\n+OK\r\n" + 3, 27);
    assert_true(rounds > 20);
    pop3_server_close(&server);
}

static void the_owner_can_turn_a_client_away(void **state)
{
    const struct pop3_verdict no = {POP3_ERR_CLOSE, "SYS/TEMP", slice_text("Come back later")};
    struct pop3_server server;
    struct pop3_event event;
    size_t used;
    (void)state;
    pop3_server_open(&server, &settings, 0);
    assert_int_equal(pop3_server_input(&server, 1, slice_of(NULL, 0), &used, &event),
                     POP3_WANT_VERDICT);
    pop3_server_verdict(&server, &no);
    assert_true(slice_equal(pop3_server_output(&server),
                            slice_text("-ERR [SYS/TEMP] Come back later\r\n")));
    assert_int_equal(pop3_server_input(&server, 1, slice_of(NULL, 0), &used, &event),
                     POP3_WANT_CLOSE);
    pop3_server_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_session_of_rfc_1939_goes_as_it_is_written_there),
        cmocka_unit_test(commands_have_their_replies),
        cmocka_unit_test(octet_by_octet_is_the_same_as_all_at_once),
        cmocka_unit_test(a_wrong_password_says_so_and_the_name_is_to_be_given_again),
        cmocka_unit_test(an_exchange_carries_challenges_and_answers),
        cmocka_unit_test(only_lines_of_an_exchange_may_be_long),
        cmocka_unit_test(stls_forgets_what_was_said_in_the_clear),
        cmocka_unit_test(no_password_is_taken_in_the_clear_unless_that_is_wanted),
        cmocka_unit_test(too_many_errors_end_the_session_without_update),
        cmocka_unit_test(a_client_that_says_nothing_is_left_without_a_word_and_without_update),
        cmocka_unit_test(a_client_that_does_not_log_in_has_less_time),
        cmocka_unit_test(a_message_that_cannot_be_read_to_its_end_has_no_end),
        cmocka_unit_test(what_does_not_end_with_crlf_is_no_command),
        cmocka_unit_test(a_long_listing_comes_in_parts),
        cmocka_unit_test(the_owner_can_turn_a_client_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
