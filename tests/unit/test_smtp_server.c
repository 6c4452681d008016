/* The server machine: commands, bodies, limits. */
#include "tests/unit/smtp_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND "MAIL FROM:<evil@c>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nsecond\r\n.\r\nQUIT\r\n"

static void dialogues_get_their_replies_however_they_are_cut(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("one message", ENVELOPE "DATA\r\nS: x\r\n\r\nhi\r\n.\r\nQUIT\r\n",
               "220 250 250 250 354 250 221", "S: x\r\n\r\nhi\r\n|"),
        SCRIPT("two messages",
               ENVELOPE
               "DATA\r\n1\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n2\r\n.\r\n",
               "220 250 250 250 354 250 250 250 354 250", "1\r\n|2\r\n|"),
        SCRIPT("an empty message", ENVELOPE "DATA\r\n.\r\n", "220 250 250 250 354 250", "|"),
        SCRIPT("dots stay stuffed", ENVELOPE "DATA\r\n..\r\n...\r\n..a\r\n.b\r\n.\r\n",
               "220 250 250 250 354 250", "..\r\n...\r\n..a\r\n.b\r\n|"),
        SCRIPT("commands in the body are text", ENVELOPE "DATA\r\nQUIT\r\nRSET\r\n.\r\n",
               "220 250 250 250 354 250", "QUIT\r\nRSET\r\n|"),
        SCRIPT("RSET ends it", ENVELOPE "RSET\r\nRCPT TO:<b@x.test>\r\nDATA\r\n",
               "220 250 250 250 250 503 503", ""),
        SCRIPT("EHLO ends it", ENVELOPE "EHLO d\r\nRCPT TO:<b@x.test>\r\n",
               "220 250 250 250 250 503", ""),
        SCRIPT("order", "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n", "220 503 503 503", ""),
        SCRIPT("MAIL twice", "EHLO c\r\nMAIL FROM:<a@c>\r\nMAIL FROM:<a@c>\r\n", "220 250 250 503",
               ""),
        SCRIPT("no valid recipient", "EHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<unknown@x>\r\nDATA\r\n",
               "220 250 250 550 554", ""),
        SCRIPT("HELO", "HELO c\r\nMAIL FROM:<a@c>\r\n", "220 250 250", ""),
        SCRIPT("names", "EHLO\r\nEHLO  \r\nHELO a b\r\nEHLO ok\r\n", "220 501 501 501 250", ""),
        SCRIPT("case", "ehlo c\r\nmail from:<a@c>\r\nRcPt tO:<b@x>\r\n", "220 250 250 250", ""),
        SCRIPT("a blank behind the colon", "EHLO c\r\nMAIL FROM: <a@c>\r\n", "220 250 250", ""),
        SCRIPT("recipients are limited",
               ENVELOPE "RCPT TO:<c@x>\r\nRCPT TO:<d@x>\r\nRCPT TO:<e@x>\r\nRSET\r\n",
               "220 250 250 250 250 250 452 250", ""),
        SCRIPT("the small ones",
               "NOOP\r\nNOOP x\r\nVRFY a\r\nVRFY\r\nEXPN a\r\nHELP\r\nRSET\r\nRSET "
               "x\r\nFOO\r\n\r\nAUTH PLAIN\r\nSTARTTLS\r\n",
               "220 250 250 252 501 502 214 250 501 500 500 502 502", ""),
        SCRIPT("LHLO is not SMTP", "LHLO c\r\n", "220 500", ""),
        SCRIPT("bare newlines end no command line", "NOOP\nNOOP\r\nNO\rOP\r\nNOOP\r\n",
               "220 500 250 500 250", ""),
        SCRIPT("HTTP", "GET / HTTP/1.1\r\nHost: x\r\nMAIL FROM:<a@b>\r\n", "220 554", ""),
        SCRIPT("QUIT behind the dot", ENVELOPE "DATA\r\nx\r\n.\r\nQUIT\r\nMAIL FROM:<a@b>\r\n",
               "220 250 250 250 354 250 221", "x\r\n|"),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void no_bare_newline_ends_a_message(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("LF . LF", ENVELOPE "DATA\r\nx\n.\n" SECOND, "220 250 250 250 354 550 221", ""),
        SCRIPT("LF . CRLF", ENVELOPE "DATA\r\nx\n.\r\n" SECOND, "220 250 250 250 354 550 221", ""),
        SCRIPT("CRLF . LF", ENVELOPE "DATA\r\nx\r\n.\n" SECOND, "220 250 250 250 354 550 221", ""),
        SCRIPT("CR . CR", ENVELOPE "DATA\r\nx\r.\r" SECOND, "220 250 250 250 354 550 221", ""),
        SCRIPT("CRLF . CR", ENVELOPE "DATA\r\nx\r\n.\r" SECOND, "220 250 250 250 354 550 221", ""),
        SCRIPT("CR . CRLF", ENVELOPE "DATA\r\nx\r.\r\n" SECOND, "220 250 250 250 354 550 221", ""),
        SCRIPT("CRLF NUL . CRLF", ENVELOPE "DATA\r\nx\r\n\0.\r\n" SECOND,
               "220 250 250 250 354 550 221", ""),
        SCRIPT("CRLF . NUL CRLF", ENVELOPE "DATA\r\nx\r\n.\0\r\n" SECOND,
               "220 250 250 250 354 550 221", ""),
        SCRIPT("CR CRLF . CRLF", ENVELOPE "DATA\r\nx\r\r\n.\r\nQUIT\r\n",
               "220 250 250 250 354 550 221", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void normalize_makes_one_message_of_lines(void **state)
{
#define REST "MAIL FROM:<evil@c>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nsecond\r\n|"
    static const struct smtp_script scripts[] = {
        SCRIPT("LF . LF", ENVELOPE "DATA\r\nx\n.\n" SECOND, "220 250 250 250 354 250 221",
               "x\r\n..\r\n" REST),
        SCRIPT("LF . CRLF", ENVELOPE "DATA\r\nx\n.\r\n" SECOND, "220 250 250 250 354 250 221",
               "x\r\n..\r\n" REST),
        SCRIPT("CRLF . LF", ENVELOPE "DATA\r\nx\r\n.\n" SECOND, "220 250 250 250 354 250 221",
               "x\r\n..\r\n" REST),
        SCRIPT("CR . CR", ENVELOPE "DATA\r\nx\r.\r" SECOND, "220 250 250 250 354 250 221",
               "x\r\n..\r\n" REST),
        SCRIPT("CRLF . CR", ENVELOPE "DATA\r\nx\r\n.\r" SECOND, "220 250 250 250 354 250 221",
               "x\r\n..\r\n" REST),
        SCRIPT("CR . CRLF", ENVELOPE "DATA\r\nx\r.\r\n" SECOND, "220 250 250 250 354 250 221",
               "x\r\n..\r\n" REST),
        SCRIPT("plain", ENVELOPE "DATA\r\na\r\n..b\r\nc\nd\r\n.\r\n", "220 250 250 250 354 250",
               "a\r\n..b\r\nc\r\nd\r\n|"),
        SCRIPT("dots behind a bare LF", ENVELOPE "DATA\r\na\n..b\n.c\r\n.\r\n",
               "220 250 250 250 354 250", "a\r\n...b\r\n..c\r\n|"),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.normalize = true;
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void chunks_are_joined_and_stay_in_sync(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("one chunk", ENVELOPE "BDAT 5 LAST\r\nx\r\n\r\nQUIT\r\n", "220 250 250 250 250 221",
               "x\r\n\r\n|"),
        SCRIPT("exact", ENVELOPE "BDAT 3 LAST\r\nx\r\nQUIT\r\n", "220 250 250 250 250 221",
               "x\r\n|"),
        SCRIPT("dots are stuffed here",
               ENVELOPE "BDAT 6\r\n.\r\n..xBDAT 5 LAST\r\n\r\n.\r\nQUIT\r\n",
               "220 250 250 250 250 250 221", "..\r\n...x\r\n..\r\n|"),
        SCRIPT("no line end at the end", ENVELOPE "BDAT 1 LAST\r\nxQUIT\r\n",
               "220 250 250 250 250 221", "x\r\n|"),
        SCRIPT("an empty last chunk", ENVELOPE "BDAT 3\r\nx\r\nBDAT 0 LAST\r\n",
               "220 250 250 250 250 250", "x\r\n|"),
        SCRIPT("CR and LF in two chunks", ENVELOPE "BDAT 2\r\nx\rBDAT 1 LAST\r\n\nNOOP\r\n",
               "220 250 250 250 250 250 250", "x\r\n|"),
        SCRIPT("bare newlines", ENVELOPE "BDAT 3 LAST\r\nx\nyNOOP\r\n", "220 250 250 250 550 250",
               ""),
        SCRIPT("DATA behind BDAT", ENVELOPE "BDAT 3\r\nx\r\nDATA\r\n", "220 250 250 250 250 503",
               ""),
        SCRIPT("RSET between chunks", ENVELOPE "BDAT 3\r\nx\r\nRSET\r\nDATA\r\n",
               "220 250 250 250 250 250 503", ""),
        SCRIPT("without RCPT", "EHLO c\r\nMAIL FROM:<a@c>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
               "220 250 250 554 250", ""),
        SCRIPT("without anything", "BDAT 6\r\nQUIT\r\nNOOP\r\n", "220 503 250", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void a_chunk_of_unknown_size_ends_the_session(void **state)
{
    static const char *const sizes[] = {"",
                                        "-1",
                                        "x",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "1 FIRST",
                                        "1 LAST 2",
                                        "1=2",
                                        "1 LAST=2",
                                        "+1",
                                        "99999999999999999999999"};
    static struct smtp_script_run run;
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char input[200];
        int size = snprintf(input, sizeof(input), ENVELOPE "BDAT %s\r\nQUIT\r\n", sizes[i]);
        char codes[256];
        smtp_script_settings(&run.settings);
        for (size_t cut = 0; cut < 30;
             cut++) { /* also where the chunk comes later than its command */
            smtp_script_play(&run, input, (size_t)size, cut);
            smtp_script_codes(&run, codes);
            assert_string_equal(codes, "220 250 250 250 501 421");
            assert_true(run.closed);
        }
    }
}

static void limits_are_answered_and_the_next_command_is_in_sync(void **state)
{
    static struct smtp_script_run run;
    static char input[SMTP_SCRIPT_TEXT_BYTES / 2];
    char codes[1024];
    (void)state;
    smtp_script_settings(&run.settings);
    /* a line, a message, a header, hops, a command: each too long */
    int size =
        snprintf(input, sizeof(input), ENVELOPE "DATA\r\nS: x\r\n\r\n%01001d\r\n.\r\nNOOP\r\n", 0);
    smtp_script_play(&run, input, (size_t)size, 7);
    smtp_script_codes(&run, codes);
    assert_string_equal(codes, "220 250 250 250 354 552 250");

    size = snprintf(input, sizeof(input), ENVELOPE "DATA\r\nS: x\r\n\r\n");
    for (int i = 0; i < 5; i++) {
        size += snprintf(input + size, sizeof(input) - (size_t)size, "%0900d\r\n", 0);
    }
    size += snprintf(input + size, sizeof(input) - (size_t)size, ".\r\nNOOP\r\n");
    smtp_script_play(&run, input, (size_t)size, 7);
    assert_non_null(strstr(run.replies, "552 5.3.4"));
    assert_int_equal(run.commits, 0);
    assert_int_equal(run.resets, 1);

    size = snprintf(input, sizeof(input), ENVELOPE "DATA\r\n");
    for (int i = 0; i < 6; i++) {
        size +=
            snprintf(input + size, sizeof(input) - (size_t)size, "rEceived: by x\r\n\tfolded\r\n");
    }
    size += snprintf(input + size, sizeof(input) - (size_t)size,
                     "\r\nReceived: in the body\r\n.\r\nNOOP\r\n");
    smtp_script_play(&run, input, (size_t)size, 3);
    assert_non_null(strstr(run.replies, "554 5.4.6"));

    size = snprintf(input, sizeof(input), "EHLO %04000d\r\nNOOP\r\n", 0);
    for (size_t cut = 0; cut < 3; cut++) {
        smtp_script_play(&run, input, (size_t)size, cut * 1000);
        smtp_script_codes(&run, codes);
        assert_string_equal(codes, "220 500 250");
    }
}

static void errors_and_idle_commands_end_a_session(void **state)
{
    static struct smtp_script_run run;
    static char input[20000];
    (void)state;
    smtp_script_settings(&run.settings);
    for (int i = 0; i < 2000; i++) {
        memcpy(input + i * 6, "FOOO\r\n", 6);
    }
    smtp_script_play(&run, input, 12000, SMTP_SCRIPT_WHOLE);
    assert_true(run.closed);
    assert_non_null(strstr(run.replies, "421 4.7.0"));
    for (int i = 0; i < 2000; i++) {
        memcpy(input + i * 6, "NOOP\r\n", 6);
    }
    smtp_script_play(&run, input, 12000, SMTP_SCRIPT_WHOLE);
    assert_true(run.closed);
    assert_non_null(strstr(run.replies, "421 4.7.0"));
}

static void mail_parameters_are_judged(void **state)
{
    static const struct {
        const char *parameters, *code;
    } rows[] = {
        {"<a@c>", "250"},
        {"<> SIZE=4096", "250"},
        {"<a@c> SIZE=4097", "552"},
        {"<a@c> SIZE=-1", "501"},
        {"<a@c> SIZE=", "501"},
        {"<a@c> SIZE=1 SIZE=1", "501"},
        {"<a@c> SIZE=99999999999999999999", "552"},
        {"<a@c> SIZE=999999999999999999999", "501"},
        {"<a@c> BODY=8BITMIME", "250"},
        {"<a@c> body=7bit", "250"},
        {"<a@c> BODY=BINARYMIME", "501"},
        {"<a@c> FOO", "555"},
        {"<a@c> FOO=BAR", "555"},
        {"<a@c>x", "501"},
        {"<a@c> SMTPUTF8", "250"},
        {"<a@c> SMTPUTF8=1", "501"},
        {"<\xc3\xa4@c> SMTPUTF8", "250"},
        {"<\xc3\xa4@c>", "553"},
        {"<\xff@c> SMTPUTF8", "501"},
        {"<\xed\xa0\x80@c> SMTPUTF8", "501"},
        {"a@c", "501"},
        {"<a@c", "501"},
        {"", "501"},
        {"<a b@c>", "501"},
        {"<\"a b\"@c>", "250"},
        {"<\"a@c>", "501"},
        {"<a@b@c>", "501"},
        {"<a@c.>", "501"},
        {"<a@.c>", "501"},
        {"<a@>", "501"},
        {"<@c>", "501"},
        {"<a@[192.0.2.1]>", "250"},
        {"<a@[]>", "501"},
        {"<@x,@y:a@c>", "250"},
        {"<@x:>", "501"},
        {"<;id;@c>", "501"},
        {"<`id`@c>", "250"},
        {"<${run{id}}@c>", "250"},
        {"<|/bin/sh@c>", "250"},
        {"<\"a\\", "501"},
        {"<root>", "501"},
        {"<postmaster>", "250"},
    };
    static struct smtp_script_run run;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char input[200];
        char codes[64];
        char wanted[64];
        int size = snprintf(input, sizeof(input), "EHLO c\r\nMAIL FROM:%s\r\n", rows[i].parameters);
        smtp_script_settings(&run.settings);
        smtp_script_play(&run, input, (size_t)size, SMTP_SCRIPT_WHOLE);
        smtp_script_codes(&run, codes);
        snprintf(wanted, sizeof(wanted), "220 250 %s", rows[i].code);
        if (strcmp(codes, wanted) != 0) {
            print_error("%s: %s", rows[i].parameters, run.replies);
        }
        assert_string_equal(codes, wanted);
    }
}

static void control_octets_are_refused_in_commands(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("NUL in an address", "EHLO c\r\nMAIL FROM:<a\0b@c>\r\nNOOP\r\n", "220 250 501 250",
               ""),
        SCRIPT("control in an address", "EHLO c\r\nMAIL FROM:<a\x01@c>\r\nNOOP\r\n",
               "220 250 501 250", ""),
        SCRIPT("escape in a name", "EHLO \x1b[31m\r\nNOOP\r\n", "220 501 250", ""),
        SCRIPT("newline in quotes", "EHLO c\r\nMAIL FROM:<\"a\nb\"@c>\r\nNOOP\r\n",
               "220 250 500 500 250", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void lmtp_answers_once_for_each_recipient(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("three",
               "LHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@x>\r\nRCPT TO:<unknown@x>\r\nRCPT "
               "TO:<d@x>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n",
               "220 250 250 250 550 250 354 250 250 250", "x\r\n|"),
        SCRIPT("refused",
               "LHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@x>\r\nRCPT "
               "TO:<d@x>\r\nDATA\r\nx\ny\r\n.\r\nNOOP\r\n",
               "220 250 250 250 250 354 550 550 250", ""),
        SCRIPT("EHLO", "EHLO c\r\nHELO c\r\n", "220 500 500", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.lmtp = true;
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void time_runs_out_by_stage(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    struct smtp_event event;
    size_t used;
    (void)state;
    smtp_script_settings(&settings);
    smtp_server_open(&server, &settings, 1000);
    assert_int_equal(smtp_server_deadline(&server), 1300);
    smtp_server_input(&server, 1000, slice_of(NULL, 0), &used, &event);
    smtp_server_verdict(&server, NULL);
    smtp_server_input(&server, 1000, slice_of(NULL, 0), &used, &event);
    /* a byte now and then does not extend the time for a command */
    smtp_server_input(&server, 1200, slice_text("N"), &used, &event);
    assert_int_equal(smtp_server_deadline(&server), 1300);
    smtp_server_input(&server, 1250, slice_text("OOP\r\n"), &used, &event);
    assert_int_equal(smtp_server_deadline(&server), 1550);
    smtp_server_expire(&server, 1550);
    assert_memory_equal(strstr((const char *)smtp_server_output(&server).bytes, "421"), "421 4.4.2",
                        9);
    assert_int_equal(smtp_server_input(&server, 1550, slice_text("NOOP\r\n"), &used, &event),
                     SMTP_WANT_CLOSE);
}

/* RFC 5321 §4.5.3.2 bounds each wait, and so a message of enough pieces may take for ever. */
static void a_message_has_the_time_that_its_octets_bring_and_no_more(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    static struct smtp_script_run run;
    struct smtp_event event;
    size_t used;
    (void)state;
    smtp_script_settings(&settings);
    run.settings = settings;
    settings.octet_ns = 2;
    smtp_server_open(&server, &settings, 0);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    smtp_script_feed(&run, &server, slice_text(ENVELOPE "DATA\r\n"));
    assert_int_equal(smtp_server_deadline(&server), 1 + 180);
    smtp_server_input(&server, 101, slice_text("1234567890"), &used, &event);
    assert_int_equal(smtp_server_deadline(&server), 181 + 20);
    smtp_server_input(&server, 171, slice_text("1234567890"), &used, &event);
    assert_int_equal(smtp_server_deadline(&server), 181 + 40);
    smtp_server_waited(&server, 1000); /* for our disk */
    assert_int_equal(smtp_server_deadline(&server), 1221);
    smtp_server_input(&server, 1190, slice_text("1"), &used, &event);
    assert_int_equal(smtp_server_deadline(&server), 1223);
    char long_piece[90];
    memset(long_piece, 'x', sizeof(long_piece));
    smtp_server_input(&server, 1200, slice_of(long_piece, sizeof(long_piece)), &used, &event);
    assert_int_equal(smtp_server_deadline(&server), 1200 + 180); /* never beyond that */
    smtp_server_input(&server, 1300, slice_text("\r\n.\r\n"), &used, &event);
    while (event.kind != SMTP_EVENT_BODY_END) {
        smtp_server_input(&server, 1300, slice_text(".\r\n"), &used, &event);
    }
    assert_int_equal(smtp_server_deadline(&server), SMTP_SERVER_NEVER);
    smtp_server_verdict(&server, NULL); /* we took our time: the client has all of its own */
    smtp_server_input(&server, 9000, slice_of(NULL, 0), &used, &event);
    assert_int_equal(smtp_server_deadline(&server), 9000 + 300);
}

static void chunks_share_the_time_of_their_message(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    static struct smtp_script_run run;
    struct smtp_event event;
    size_t used;
    uint64_t now = 1;
    (void)state;
    smtp_script_settings(&settings);
    run.settings = settings;
    settings.octet_ns = 2;
    smtp_server_open(&server, &settings, 0);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    smtp_script_feed(&run, &server, slice_text(ENVELOPE));
    for (unsigned i = 0; smtp_server_deadline(&server) > now; i++) {
        struct slice chunk = slice_text("BDAT 1\r\nx");
        assert_true(i < 20);
        while (chunk.size > 0) {
            smtp_server_input(&server, now, chunk, &used, &event);
            chunk = slice_from(chunk, used);
        }
        smtp_server_sent(&server, smtp_server_output(&server).size);
        now += 20;
    }
    assert_true(now > 150 && now < 250);
    smtp_server_expire(&server, now);
    assert_memory_equal(smtp_server_output(&server).bytes, "421 4.4.2", 9);
    /* Octets that are thrown away are no better. */
    smtp_server_open(&server, &settings, 0);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    smtp_script_feed(&run, &server, slice_text("EHLO c\r\nBDAT 100000\r\n"));
    for (now = 1; now < 182; now += 20) {
        smtp_server_input(&server, now, slice_text("x"), &used, &event);
    }
    assert_true(smtp_server_deadline(&server) <= 1 + 180 + 2 * 10);
}

static void random_input_in_random_pieces_keeps_the_rules(void **state)
{
    static const char *const words[] = {"EHLO c\r\n",
                                        "MAIL FROM:<a@c>\r\n",
                                        "RCPT TO:<b@x>\r\n",
                                        "DATA\r\n",
                                        "x\r\n",
                                        ".\r\n",
                                        "\r",
                                        "\n",
                                        ".",
                                        "BDAT 7\r\n",
                                        "BDAT 3 LAST\r\n",
                                        "RSET\r\n",
                                        "NOOP\r\n",
                                        "STARTTLS\r\n",
                                        "\0",
                                        "..\r\n"};
    static struct smtp_script_run whole, cut;
    (void)state;
    srand(11);
    for (int round = 0; round < 3000; round++) {
        char input[400];
        size_t size = 0;
        for (int i = rand() % 24; i > 0; i--) {
            const char *word = words[(size_t)rand() % (sizeof(words) / sizeof(*words))];
            size_t length = word[0] == '\0' ? 1 : strlen(word);
            memcpy(input + size, word, length);
            size += length;
        }
        smtp_script_settings(&whole.settings);
        whole.settings.normalize = rand() % 2;
        cut.settings = whole.settings;
        whole.bare_lines = cut.bare_lines = rand() % 4 == 0;
        smtp_script_play(&whole, input, size, SMTP_SCRIPT_WHOLE);
        smtp_script_play(&cut, input, size, 1 + (size_t)rand() % 5);
        /* DATA or BDAT refused with input behind it ends a session; that depends on what has arrived. */
        if (strstr(whole.replies, "synchronization") == NULL &&
            strstr(cut.replies, "synchronization") == NULL) {
            assert_string_equal(whole.replies, cut.replies);
            assert_int_equal(whole.body_size, cut.body_size);
            assert_memory_equal(whole.body, cut.body, whole.body_size);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dialogues_get_their_replies_however_they_are_cut),
        cmocka_unit_test(no_bare_newline_ends_a_message),
        cmocka_unit_test(normalize_makes_one_message_of_lines),
        cmocka_unit_test(chunks_are_joined_and_stay_in_sync),
        cmocka_unit_test(a_chunk_of_unknown_size_ends_the_session),
        cmocka_unit_test(limits_are_answered_and_the_next_command_is_in_sync),
        cmocka_unit_test(errors_and_idle_commands_end_a_session),
        cmocka_unit_test(mail_parameters_are_judged),
        cmocka_unit_test(control_octets_are_refused_in_commands),
        cmocka_unit_test(lmtp_answers_once_for_each_recipient),
        cmocka_unit_test(time_runs_out_by_stage),
        cmocka_unit_test(a_message_has_the_time_that_its_octets_bring_and_no_more),
        cmocka_unit_test(chunks_share_the_time_of_their_message),
        cmocka_unit_test(random_input_in_random_pieces_keeps_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
