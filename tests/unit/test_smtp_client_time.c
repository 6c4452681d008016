/* How long the client waits for a server: see smtp_transcript.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/smtp_stages.h"
#include "tests/unit/smtp_transcript.h"

static void silence_ends_with_the_time_limit_of_its_stage(void **state)
{
    (void)state;
    static const struct {
        const char *lines;
        uint64_t wait_s;
    } cases[] = {
        {"", 300},
        {GREET, 301},
        {PIPE ENVELOPE "C: DATA\n", 301},
        {PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 250 ok\n", 120},
        {TO_BODY, 180},
        {TO_DOT, 600},
        {GREET "S: 250 b\nW: message\n> quit\nC: QUIT\n", 10},
        {GREET "S: 250 b\nW: message\n", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        static struct transcript_run run;
        const struct transcript transcript = {.name = "deadline", .lines = cases[i].lines};
        transcript_play_all(&transcript, 1);
        transcript_open(&run, &transcript);
        transcript_drive(&run, slice_of("", 0));
        for (const char *line = transcript.lines; *line != '\0';) {
            char wire[1024];
            size_t bytes;
            const char *after = transcript_server_lines(line, wire, &bytes);
            const char *end = strchr(line, '\n');
            if (bytes > 0) {
                transcript_drive(&run, slice_of(wire, bytes));
            } else if (*line == '>') {
                transcript_act(&run, slice_of(line + 2, (size_t)(end - line) - 2));
            }
            line = bytes > 0 ? after : end + 1;
        }
        uint64_t expected =
            cases[i].wait_s > 0 ? run.now_ns + cases[i].wait_s * SECOND : SMTP_CLIENT_NEVER;
        assert_int_equal(smtp_client_deadline(&run.client), expected);
        smtp_client_expire(&run.client, expected - 1); /* too early: nothing */
        run.last_want = -1;
        size_t before = run.trace_bytes;
        transcript_drive(&run, slice_of("", 0));
        assert_null(strstr(run.trace + before, "close"));
    }
}

static void the_time_for_the_answer_to_the_dot_begins_when_the_server_has_the_message(void **state)
{
    (void)state;
    static struct transcript_run run;
    const struct transcript transcript = {.name = "slow window"};
    const struct smtp_client *client = &run.client;
    transcript_open(&run, &transcript);
    transcript_drive(&run, slice_text("220 b\r\n"));
    transcript_drive(&run, slice_text("250-b\r\n250 PIPELINING\r\n"));
    transcript_act(&run, slice_text("begin"));
    transcript_drive(&run, slice_text("250 ok\r\n250 ok\r\n354 go\r\n"));
    transcript_act(&run, slice_text("body"));
    assert_int_equal(client->state, SMTP_CLIENT_DOT);
    smtp_client_left(&run.client, 500000, run.now_ns);
    uint64_t written_ns = run.now_ns;
    assert_int_equal(smtp_client_deadline(client), written_ns + 180 * SECOND);
    for (uint64_t left = 480000; left > 0; left -= 20000) { /* more than an hour in all */
        run.now_ns += 170 * SECOND;
        smtp_client_left(&run.client, left, run.now_ns);
        assert_int_equal(smtp_client_deadline(client), run.now_ns + 180 * SECOND);
    }
    uint64_t last_ns = run.now_ns;
    run.now_ns += 100 * SECOND;
    smtp_client_left(&run.client, 20000, run.now_ns); /* nothing has gone meanwhile */
    assert_int_equal(smtp_client_deadline(client), last_ns + 180 * SECOND);
    smtp_client_left(&run.client, 0, run.now_ns);
    assert_int_equal(smtp_client_deadline(client), run.now_ns + 600 * SECOND);
}

/* A window that opens by a byte a minute would else hold the connection for as many minutes as the message has bytes. */
static void a_server_that_takes_a_byte_now_and_then_gains_no_time(void **state)
{
    (void)state;
    static struct transcript_run run;
    const struct transcript transcript = {.name = "a byte a minute"};
    uint64_t left = 1000000;
    transcript_open(&run, &transcript);
    transcript_drive(&run, slice_text("220 b\r\n"));
    transcript_drive(&run, slice_text("250-b\r\n250 PIPELINING\r\n"));
    transcript_act(&run, slice_text("begin"));
    smtp_client_left(&run.client, left, run.now_ns);
    transcript_drive(&run, slice_text("250 ok\r\n250 ok\r\n354 go\r\n"));
    uint64_t deadline = run.now_ns + 180 * SECOND;
    for (unsigned minute = 1; minute < 3; minute++) {
        run.now_ns += 60 * SECOND;
        smtp_client_left(&run.client, --left, run.now_ns);
        assert_int_equal(smtp_client_deadline(&run.client), deadline);
    }
    /* What has gone in crumbs counts together. */
    left -= SMTP_CLIENT_BLOCK_BYTES - 3;
    smtp_client_left(&run.client, left, run.now_ns);
    assert_int_equal(smtp_client_deadline(&run.client), deadline);
    smtp_client_left(&run.client, --left, run.now_ns);
    deadline = run.now_ns + 180 * SECOND;
    assert_int_equal(smtp_client_deadline(&run.client), deadline);
    run.now_ns = deadline;
    smtp_client_left(&run.client, --left, run.now_ns);
    run.trace_bytes = 0;
    smtp_client_expire(&run.client, run.now_ns);
    transcript_drive(&run, slice_of("", 0));
    assert_non_null(strstr(run.trace, "R: 0 temporary 0 4.4.2 at body connection: timed out\n"));
}

static void a_line_now_and_then_does_not_move_the_deadline(void **state)
{
    (void)state;
    static struct transcript_run run;
    const struct transcript transcript = {.name = "slow"};
    transcript_open(&run, &transcript);
    uint64_t deadline = smtp_client_deadline(&run.client);
    for (int i = 0; i < 100; i++) {
        run.now_ns += SECOND;
        transcript_drive(&run, slice_text("220-still here\r\n"));
        assert_int_equal(smtp_client_deadline(&run.client), deadline);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_ends_with_the_time_limit_of_its_stage),
        cmocka_unit_test(the_time_for_the_answer_to_the_dot_begins_when_the_server_has_the_message),
        cmocka_unit_test(a_server_that_takes_a_byte_now_and_then_gains_no_time),
        cmocka_unit_test(a_line_now_and_then_does_not_move_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
