/* Dovecot's authentication protocol: what Postfix says, what it is told, and what ends the connection. */
#include "engine/auth/dovecot_socket.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static struct dovecot_socket socket;
static struct dovecot_event event;

#define HELLO "VERSION\t1\t1\nCPID\t123\n"

static void output_is(const char *text)
{
    struct slice output = dovecot_socket_output(&socket);
    if (!slice_equal(output, slice_text(text))) {
        fail_msg("%.*s", (int)output.size, (const char *)output.bytes);
    }
    dovecot_socket_sent(&socket, output.size);
}

static void open_one(void)
{
    const struct dovecot_facts facts = {
        .mechanisms = SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_SCRAM_SHA_1),
        .server_pid = 17,
        .connection_id = 4,
        .cookie = {0xde, 0xad},
    };
    dovecot_socket_open(&socket, &facts);
}

/* The last event that is none of "nothing". */
static enum dovecot_event_kind feed(const char *text, size_t step)
{
    struct slice input = slice_text(text);
    enum dovecot_event_kind kind = DOVECOT_NOTHING;
    while (input.size > 0) {
        size_t taken = dovecot_socket_input(&socket, slice_first(input, step), &event);
        input = slice_from(input, taken);
        kind = event.kind != DOVECOT_NOTHING ? event.kind : kind;
        if (kind == DOVECOT_ENDED || (kind != DOVECOT_NOTHING && input.size == 0) || taken == 0) {
            return kind;
        }
    }
    return kind;
}

static void the_server_says_first_what_it_can(void **state)
{
    (void)state;
    open_one();
    output_is("VERSION\t1\t2\nMECH\tSCRAM-SHA-1\nMECH\tPLAIN\tplaintext\nSPID\t17\nCUID\t4\n"
              "COOKIE\tdead0000000000000000000000000000\nDONE\n");
}

static void a_login_is_asked_and_answered_however_it_is_cut(void **state)
{
    static const size_t steps[] = {1, 7, 10000};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        open_one();
        dovecot_socket_sent(&socket, dovecot_socket_output(&socket).size);
        assert_int_equal(feed(HELLO
                              "AUTH\t7\tPLAIN\tservice=smtp\tsecured\trip=192.0.2.1\trport=99\t"
                              "lip=::1\tlport=25\tnologin\tx=a\1tb\tresp=AHRpbQBzZWNyZXQ=\n",
                              steps[i]),
                         DOVECOT_AUTH);
        assert_int_equal(event.id, 7);
        assert_true(slice_equal(event.mechanism, slice_text("PLAIN")));
        assert_true(slice_equal(event.service, slice_text("smtp")));
        assert_true(slice_equal(event.remote_ip, slice_text("192.0.2.1")));
        assert_true(slice_equal(event.local_ip, slice_text("::1")));
        assert_int_equal(event.remote_port, 99);
        assert_int_equal(event.local_port, 25);
        assert_true(event.secured && event.has_octets);
        assert_true(slice_equal(event.octets, slice_of("\0tim\0secret", 11)));
        dovecot_socket_ok(&socket, 7, slice_text("t\ti\nm"));
        output_is("OK\t7\tuser=t\1ti\1nm\n");
        dovecot_socket_fail(&socket, 8, slice_text("tom"), DOVECOT_WRONG);
        dovecot_socket_fail(&socket, 9, slice_of(NULL, 0), DOVECOT_TEMPORARY);
        output_is("FAIL\t8\tuser=tom\nFAIL\t9\ttemp\tcode=temp_fail\n");
    }
}

static void an_exchange_goes_on_and_may_be_cancelled(void **state)
{
    (void)state;
    open_one();
    dovecot_socket_sent(&socket, dovecot_socket_output(&socket).size);
    assert_int_equal(feed(HELLO "AUTH\t1\tPLAIN\tservice=imap\n", 99), DOVECOT_AUTH);
    assert_false(event.has_octets || event.secured);
    assert_true(dovecot_socket_continue(&socket, 1, slice_text("")));
    output_is("CONT\t1\t\n");
    assert_int_equal(feed("CONT\t1\tZm9v\n", 99), DOVECOT_ANSWER);
    assert_true(slice_equal(event.octets, slice_text("foo")));
    assert_int_equal(feed("CONT\t1\t\n", 99), DOVECOT_ANSWER);
    assert_int_equal(event.octets.size, 0);
    assert_int_equal(feed("CANCEL\t1\n", 99), DOVECOT_CANCEL);
    assert_int_equal(event.id, 1);
    assert_int_equal(feed("LATER\twhatever\n", 99), DOVECOT_NOTHING);
    assert_int_equal(feed("AUTH\t2\tPLAIN\tservice=imap\tresp=\n", 99), DOVECOT_AUTH);
    assert_true(event.has_octets);
    assert_int_equal(event.octets.size, 0);
}

static void who_breaks_the_protocol_is_left(void **state)
{
    static const char *const rows[] = {
        "AUTH\t1\tPLAIN\tservice=smtp\n",
        "CPID\t1\n",
        "VERSION\t2\t0\n",
        "VERSION\t1\n",
        HELLO "VERSION\t1\t1\n",
        HELLO "CPID\t1\n",
        HELLO "AUTH\n",
        HELLO "AUTH\tx\tPLAIN\tservice=smtp\n",
        HELLO "AUTH\t4294967296\tPLAIN\tservice=smtp\n",
        HELLO "AUTH\t1\t\tservice=smtp\n",
        HELLO "AUTH\t1\tPLAIN\n",
        HELLO "AUTH\t1\tPLAIN\tservice=smtp\trport=65536\n",
        HELLO "AUTH\t1\tPLAIN\tservice=smtp\tresp=!\n",
        HELLO "AUTH\t1\tPLAIN\tservice=smtp\tresp=Zm9v\tsecured\n",
        HELLO "CONT\t1\n",
        HELLO "CONT\t1\tZm9\n",
        HELLO "CANCEL\n",
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        open_one();
        if (feed(rows[i], 1) != DOVECOT_ENDED) {
            fail_msg("row %u was taken", i);
        }
        assert_int_equal(feed("CANCEL\t1\n", 99), DOVECOT_ENDED);
    }
}

static void a_line_or_a_challenge_that_is_too_long_is_not_taken(void **state)
{
    static char text[DOVECOT_LINE_BYTES_MAX + 2];
    (void)state;
    open_one();
    dovecot_socket_sent(&socket, dovecot_socket_output(&socket).size);
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 2] = '\n';
    assert_int_equal(feed(HELLO, 99), DOVECOT_NOTHING);
    assert_int_equal(feed(text, 1000), DOVECOT_NOTHING);
    text[sizeof(text) - 2] = 'a';
    assert_int_equal(feed(text, 1000), DOVECOT_ENDED);
    open_one();
    dovecot_socket_sent(&socket, dovecot_socket_output(&socket).size);
    assert_false(dovecot_socket_continue(&socket, 3, slice_of(text, DOVECOT_CHALLENGE_MAX + 1)));
    output_is("FAIL\t3\n");
    assert_true(dovecot_socket_continue(&socket, 3, slice_of(text, DOVECOT_CHALLENGE_MAX)));
    assert_false(dovecot_socket_has_room(&socket));
    assert_int_equal(dovecot_socket_input(&socket, slice_text(HELLO), &event), 0);
    dovecot_socket_sent(&socket, dovecot_socket_output(&socket).size);
    assert_int_equal(feed(HELLO, 99), DOVECOT_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_says_first_what_it_can),
        cmocka_unit_test(a_login_is_asked_and_answered_however_it_is_cut),
        cmocka_unit_test(an_exchange_goes_on_and_may_be_cancelled),
        cmocka_unit_test(who_breaks_the_protocol_is_left),
        cmocka_unit_test(a_line_or_a_challenge_that_is_too_long_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
