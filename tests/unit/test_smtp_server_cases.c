/* The server machine and inputs that have broken other servers, row by row of docs/cases.md. */
#include "tests/unit/smtp_flood.h"
#include "tests/unit/smtp_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- The end of a message ---- */

static void a_nul_ends_no_message_where_newlines_are_normalized(void **state)
{
    static const struct {
        const char *text, *stored;
        size_t text_bytes, stored_bytes;
    } rows[] = {{"x\r\n\0.\r\ny\r\n.\r\n", "x\r\n\0.\r\ny\r\n|", 14, 11},
                {"x\r\n.\0\r\ny\r\n.\r\n", "x\r\n.\0\r\ny\r\n|", 14, 11},
                {"x\n\0.\n.\0\ny\r\n.\r\n", "x\r\n\0.\r\n..\0\r\ny\r\n|", 14, 16}};
    static struct smtp_script_run run;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char input[200];
        size_t size = (size_t)snprintf(input, sizeof(input), ENVELOPE "DATA\r\n");
        memcpy(input + size, rows[i].text, rows[i].text_bytes);
        size += rows[i].text_bytes;
        for (size_t cut = 0; cut < size; cut++) {
            smtp_script_settings(&run.settings);
            run.settings.normalize = true;
            smtp_script_play(&run, input, size, cut);
            assert_int_equal(run.commits, 1);
            assert_int_equal(run.body_size, rows[i].stored_bytes);
            assert_memory_equal(run.body, rows[i].stored, rows[i].stored_bytes);
        }
    }
}

static void the_end_of_data_is_found_however_it_is_cut(void **state)
{
    static const char good[] = ENVELOPE "DATA\r\nx.\r\n.\r\nNOOP\r\n";
    static struct smtp_script_run run;
    struct smtp_server server;
    char codes[256];
    (void)state;
    for (size_t first = 0; first < sizeof(good); first++) {
        for (size_t second = first; second < sizeof(good); second++) {
            memset(&run, 0, sizeof(run));
            smtp_script_settings(&run.settings);
            smtp_server_open(&server, &run.settings, 0);
            smtp_script_feed(&run, &server, slice_of(NULL, 0));
            smtp_script_feed(&run, &server, slice_of(good, first));
            smtp_script_feed(&run, &server, slice_of(good + first, second - first));
            smtp_script_feed(&run, &server, slice_of(good + second, sizeof(good) - 1 - second));
            smtp_script_codes(&run, codes);
            assert_string_equal(codes, "220 250 250 250 354 250 250");
            assert_memory_equal(run.body, "x.\r\n|", 5);
        }
    }
}

static void lines_are_kept_to_the_byte(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("a line of an escaped dot", ENVELOPE "DATA\r\n..\r\n.\r\n",
               "220 250 250 250 354 250", "..\r\n|"),
        SCRIPT("a dot behind text ends nothing", ENVELOPE "DATA\r\nx.\r\n.\r\n",
               "220 250 250 250 354 250", "x.\r\n|"),
        SCRIPT("no CRLF before the dot: it is no end",
               ENVELOPE "DATA\r\nx.\r\nMAIL FROM:<a@c>\r\n.\r\nNOOP\r\n",
               "220 250 250 250 354 250 250", "x.\r\nMAIL FROM:<a@c>\r\n|"),
        SCRIPT("blanks and dots", ENVELOPE "DATA\r\n . \r\n. \r\n.\t\r\n.\r\n",
               "220 250 250 250 354 250", " . \r\n. \r\n.\t\r\n|"),
        SCRIPT("a chunk whose last line has no end", ENVELOPE "BDAT 2 LAST\r\n..NOOP\r\n",
               "220 250 250 250 250 250", "...\r\n|"),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(scripts, &settings);
}

/* ---- Command lines ---- */

static void listed_clients_may_end_commands_with_one_octet_and_never_a_message(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("LF", "EHLO c\nNOOP\nMAIL FROM:<a@c>\nQUIT\n", "220 250 250 250 221", ""),
        SCRIPT("CR", "EHLO c\rNOOP\rMAIL FROM:<a@c>\rQUIT\r", "220 250 250 250 221", ""),
        SCRIPT("CRLF", "EHLO c\r\nNOOP\r\nMAIL FROM:<a@c>\r\nQUIT\r\n", "220 250 250 250 221", ""),
        SCRIPT("mixed", "EHLO c\rNOOP\r\nNOOP\nNOOP\r\nQUIT\n", "220 250 250 250 250 221", ""),
        SCRIPT("empty lines", "EHLO c\r\n\r\n\n\rNOOP\n", "220 250 500 500 500 250", ""),
        SCRIPT("the text is as of others",
               "EHLO c\nMAIL FROM:<a@c>\nRCPT TO:<b@x>\nDATA\nx\n.\nMAIL FROM:<b@c>\r\n.\r\nQUIT\n",
               "220 250 250 250 354 550 221", ""),
        SCRIPT("DATA in CRLF", ENVELOPE "DATA\r\nx\r\n.\r\nQUIT\n", "220 250 250 250 354 250 221",
               "x\r\n|"),
        SCRIPT("a chunk", ENVELOPE "BDAT 3 LAST\r\nx\r\nQUIT\n", "220 250 250 250 250 221",
               "x\r\n|"),
    };
    static struct smtp_script_run run;
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(*scripts); i++) {
        for (size_t cut = 0; cut <= scripts[i].size; cut++) {
            char codes[256];
            smtp_script_settings(&run.settings);
            run.bare_lines = true;
            smtp_script_play(&run, scripts[i].input, scripts[i].size, cut);
            smtp_script_codes(&run, codes);
            run.body[run.body_size] = '\0';
            assert_string_equal(codes, scripts[i].codes);
            assert_string_equal(run.body, scripts[i].body);
        }
    }
}

static void a_line_of_a_mebibyte_is_one_refusal(void **state)
{
    static char piece[1 << 16];
    (void)state;
    memset(piece, 'x', sizeof(piece));
    struct smtp_flood *flood = smtp_flood_open();
    for (unsigned i = 0; i < 16; i++) {
        smtp_flood_feed(flood, slice_of(piece, sizeof(piece)));
    }
    assert_int_equal(flood->codes[500], 0); /* it has not ended */
    smtp_flood_say(flood, "\r\nNOOP\r\n" ENVELOPE "DATA\r\nSubject: x\r\n\r\n");
    assert_int_equal(flood->codes[500], 1);
    assert_int_equal(flood->codes[354], 1);
    for (unsigned i = 0; i < 16; i++) {
        smtp_flood_feed(flood, slice_of(piece, sizeof(piece)));
    }
    smtp_flood_say(flood, "\r\n.\r\nNOOP\r\n");
    assert_int_equal(flood->codes[552], 1);
    assert_int_equal(flood->codes[250], 1 + 3 + 1);
    assert_int_equal(flood->commits, 0);
    free(flood);
}

static void octets_that_are_not_ascii_are_for_smtputf8_only(void **state)
{
#define UTF8_MAIL "EHLO c\r\nMAIL FROM:<\xc3\xa4@c> SMTPUTF8\r\n"
    static const struct smtp_script offered[] = {
        SCRIPT("a sender", UTF8_MAIL "NOOP\r\n", "220 250 250 250", ""),
        SCRIPT("a recipient", UTF8_MAIL "RCPT TO:<\xc3\xb6@\xc3\xbc.test>\r\n", "220 250 250 250",
               ""),
        SCRIPT("a recipient who was not announced",
               "EHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<\xc3\xb6@x>\r\nNOOP\r\n",
               "220 250 250 553 250", ""),
        SCRIPT("the next transaction must say it again",
               UTF8_MAIL "RSET\r\nMAIL FROM:<a@c>\r\nRCPT TO:<\xc3\xb6@x>\r\n",
               "220 250 250 250 250 553", ""),
        SCRIPT("no UTF-8",
               UTF8_MAIL "RCPT TO:<\xff@x>\r\nRCPT TO:<\xc0\xaf@x>\r\nRCPT "
                         "TO:<\xed\xa0\x80@x>\r\nRCPT TO:<\xf5\x80\x80\x80@x>\r\n",
               "220 250 250 501 501 501 501", ""),
        SCRIPT("control octets",
               UTF8_MAIL "RCPT TO:<a\0b@x>\r\nRCPT TO:<a\x7f@x>\r\nRCPT TO:<\"\t\"@x>\r\nNOOP\r\n",
               "220 250 250 501 501 501 250", ""),
        SCRIPT("names", "EHLO \xff\r\nEHLO a\x7f\r\nHELO a\0b\r\nEHLO \xc3\xa4.test\r\n",
               "220 501 501 501 250", ""),
        SCRIPT("verbs", "EHLO c\r\nN\xc3\xb6OP\r\nNO\0P\r\n\x80\xff\r\nNOOP\r\n",
               "220 250 500 500 500 250", ""),
    };
    static const struct smtp_script withheld[] = {
        SCRIPT("the parameter is not known", UTF8_MAIL "MAIL FROM:<a@c> SMTPUTF8\r\nNOOP\r\n",
               "220 250 555 555 250", ""),
        SCRIPT("without it", "EHLO c\r\nMAIL FROM:<\xc3\xa4@c>\r\nNOOP\r\n", "220 250 553 250", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(offered, &settings);
    settings.smtputf8 = false;
    CHECK(withheld, &settings);
}

/* ---- DATA and BDAT ---- */

static void a_body_behind_a_refused_data_is_never_run(void **state)
{
#define NOBODY "EHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<unknown@x>\r\nDATA\r\n"
#define EVIL "RSET\r\nMAIL FROM:<evil@c>\r\nRCPT TO:<b@x>\r\nDATA\r\nx\r\n.\r\n"
    static const struct smtp_script scripts[] = {
        SCRIPT("no recipient", NOBODY "Subject: x\r\n" EVIL, "220 250 250 550 554 421", ""),
        SCRIPT("no transaction", "EHLO c\r\nDATA\r\nSubject: x\r\n" EVIL, "220 250 503 421", ""),
        SCRIPT("no hello", "DATA\r\nSubject: x\r\n" EVIL, "220 503 421", ""),
        SCRIPT("DATA with words", ENVELOPE "DATA now\r\nSubject: x\r\n" EVIL,
               "220 250 250 250 501 421", ""),
        SCRIPT("an empty line", NOBODY "\r\n" EVIL, "220 250 250 550 554 421", ""),
        SCRIPT("a bare newline", NOBODY "hello\n" EVIL, "220 250 250 550 554 421", ""),
        SCRIPT("a tab", NOBODY "From\tx\r\n" EVIL, "220 250 250 550 554 421", ""),
        SCRIPT("the end alone", NOBODY ".\r\n" EVIL, "220 250 250 550 554 421", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(scripts, &settings);
    settings.tls_only = settings.starttls = true;
    static const struct smtp_script secured[] = {
        SCRIPT("where TLS is required", "EHLO c\r\nDATA\r\nSubject: x\r\n" EVIL, "220 250 503 421",
               ""),
    };
    CHECK(secured, &settings);
}

/* However it comes, it was on its way before the client can have heard of the refusal. */
static void
what_comes_before_a_refusal_of_data_is_sent_is_text_even_if_it_looks_like_commands(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("no recipient", NOBODY EVIL, "220 250 250 550 554 421", ""),
        SCRIPT("no transaction", "EHLO c\r\nDATA\r\n" EVIL, "220 250 503 421", ""),
        SCRIPT("DATA with words", ENVELOPE "DATA now\r\n" EVIL, "220 250 250 250 501 421", ""),
        SCRIPT("between chunks", ENVELOPE "BDAT 3\r\nx\r\nDATA\r\n" EVIL,
               "220 250 250 250 250 503 421", ""),
        SCRIPT("DATA that ends with LF alone", ENVELOPE "DATA\n" EVIL, "220 250 250 250 500 421",
               ""),
    };
    static struct smtp_script_run run;
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(*scripts); i++) {
        for (size_t cut = 0; cut <= scripts[i].size; cut++) {
            char codes[256];
            smtp_script_settings(&run.settings);
            run.unsent = true;
            smtp_script_play(&run, scripts[i].input, scripts[i].size, cut);
            smtp_script_codes(&run, codes);
            assert_string_equal(codes, scripts[i].codes);
            assert_int_equal(run.commits, 0);
        }
    }
}

static void a_client_that_waits_goes_on_behind_a_refused_data(void **state)
{
    static struct smtp_script_run run;
    struct smtp_server server;
    char codes[256];
    (void)state;
    smtp_script_settings(&run.settings);
    smtp_server_open(&server, &run.settings, 0);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    smtp_script_feed(&run, &server, slice_text(NOBODY));
    smtp_script_feed(&run, &server, slice_text("RSET\r\nFOO\r\n" ENVELOPE "DATA\r\n"));
    smtp_script_feed(&run, &server, slice_text("x\r\n.\r\n"));
    smtp_script_feed(&run, &server, slice_text(ENVELOPE "BDAT 3\r\ny\r\nDATA\r\n"));
    smtp_script_feed(&run, &server, slice_text("BDAT 0 LAST\r\n"));
    smtp_script_codes(&run, codes);
    assert_string_equal(codes,
                        "220 250 250 550 554 250 500 250 250 250 354 250 250 250 250 250 503 250");
    assert_memory_equal(run.body, "x\r\n|y\r\n|", 8);
}

static void chunks_at_odd_places_are_consumed(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("an empty message", ENVELOPE "BDAT 0 LAST\r\nNOOP\r\n", "220 250 250 250 250 250",
               "|"),
        SCRIPT("empty chunks", ENVELOPE "BDAT 0\r\nBDAT 0\r\nBDAT 3 LAST\r\nx\r\nNOOP\r\n",
               "220 250 250 250 250 250 250 250", "x\r\n|"),
        SCRIPT("behind a message", ENVELOPE "DATA\r\nx\r\n.\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
               "220 250 250 250 354 250 503 250", "x\r\n|"),
        SCRIPT("behind the last chunk",
               ENVELOPE "BDAT 3 LAST\r\nx\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
               "220 250 250 250 250 503 250", "x\r\n|"),
        SCRIPT("in the text of DATA", ENVELOPE "DATA\r\nBDAT 9 LAST\r\n.\r\nNOOP\r\n",
               "220 250 250 250 354 250 250", "BDAT 9 LAST\r\n|"),
        SCRIPT("DATA with its text between chunks",
               ENVELOPE "BDAT 3\r\nx\r\nDATA\r\nSubject: y\r\nRSET\r\n",
               "220 250 250 250 250 503 421", ""),
        SCRIPT("MAIL and RCPT between chunks",
               ENVELOPE "BDAT 3\r\nx\r\nMAIL FROM:<d@c>\r\nRCPT TO:<e@x>\r\nBDAT 0 LAST\r\n",
               "220 250 250 250 250 503 503 250", "x\r\n|"),
        SCRIPT("a bad chunk ends the transaction",
               ENVELOPE "BDAT 3\r\nx\nyBDAT 3 LAST\r\nz\r\nRCPT TO:<b@x>\r\nNOOP\r\n",
               "220 250 250 250 550 503 503 250", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(scripts, &settings);
}

static void newlines_of_chunks_are_normalized_across_their_borders(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("in a chunk", ENVELOPE "BDAT 8 LAST\r\nx\n.\n.y\nzNOOP\r\n",
               "220 250 250 250 250 250", "x\r\n..\r\n..y\r\nz\r\n|"),
        SCRIPT("CR and LF in two", ENVELOPE "BDAT 2\r\nx\rBDAT 2 LAST\r\n\nyNOOP\r\n",
               "220 250 250 250 250 250 250", "x\r\ny\r\n|"),
        SCRIPT("a bare CR at a border", ENVELOPE "BDAT 2\r\nx\rBDAT 2 LAST\r\n.yNOOP\r\n",
               "220 250 250 250 250 250 250", "x\r\n..y\r\n|"),
        SCRIPT("a bare CR at the end", ENVELOPE "BDAT 2 LAST\r\nx\rNOOP\r\n",
               "220 250 250 250 250 250", "x\r\n|"),
        SCRIPT("a bare LF at the end", ENVELOPE "BDAT 2\r\nx\nBDAT 0 LAST\r\nNOOP\r\n",
               "220 250 250 250 250 250 250", "x\r\n|"),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.normalize = true;
    CHECK(scripts, &settings);
}

static void lmtp_answers_for_each_recipient_of_chunks_and_with_503_for_none(void **state)
{
#define LMTP_ENVELOPE                                                                              \
    "LHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@x>\r\nRCPT TO:<unknown@x>\r\nRCPT TO:<d@x>\r\n"
    static const struct smtp_script scripts[] = {
        SCRIPT("taken", LMTP_ENVELOPE "BDAT 3\r\nx\r\nBDAT 0 LAST\r\nNOOP\r\n",
               "220 250 250 250 550 250 250 250 250 250", "x\r\n|"),
        SCRIPT("refused at the end", LMTP_ENVELOPE "BDAT 3 LAST\r\nx\nyNOOP\r\n",
               "220 250 250 250 550 250 550 550 250", ""),
        SCRIPT("refused before it", LMTP_ENVELOPE "BDAT 3\r\nx\nyRCPT TO:<b@x>\r\nNOOP\r\n",
               "220 250 250 250 550 250 550 503 250", ""),
        SCRIPT(
            "nobody, by BDAT",
            "LHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<unknown@x>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
            "220 250 250 550 503 250", ""),
        SCRIPT("nobody, by DATA", "LHLO c\r\nMAIL FROM:<a@c>\r\nRCPT TO:<unknown@x>\r\nDATA\r\n",
               "220 250 250 550 503", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.lmtp = true;
    CHECK(scripts, &settings);
}

static void a_chunk_above_the_size_limit_is_read_to_its_end(void **state)
{
    static const char *const ends[] = {"", " LAST"};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        char command[64];
        struct smtp_flood *flood = smtp_flood_open();
        smtp_flood_say(flood, ENVELOPE);
        snprintf(command, sizeof(command), "BDAT %u%s\r\n", 6 * 100000, ends[i]);
        smtp_flood_say(flood, command);
        smtp_flood_repeat(flood, "QUIT\r\n", 100000);
        assert_int_equal(flood->codes[552], 1);
        assert_int_equal(flood->codes[221], 0);
        assert_int_equal(flood->commits, 0);
        assert_int_equal(flood->resets, 1);
        smtp_flood_say(flood, "DATA\r\n");
        assert_int_equal(flood->codes[503], 1);
        smtp_flood_say(flood, "QUIT\r\n");
        assert_int_equal(flood->codes[221], 1);
        free(flood);
    }
}

/* ---- Numbers ---- */

static void a_hundred_thousand_commands_meet_a_limit(void **state)
{
    (void)state;
    struct smtp_flood *flood = smtp_flood_open();
    smtp_flood_say(flood, "EHLO c\r\nMAIL FROM:<a@c>\r\n");
    smtp_flood_repeat(flood, "RCPT TO:<b@x.test>\r\n", 100000);
    assert_int_equal(flood->codes[250], 2 + 3); /* recipients_max */
    assert_int_equal(flood->codes[452], 100000 - 3);
    smtp_flood_say(flood, "DATA\r\nx\r\n.\r\n");
    assert_int_equal(flood->commits, 1);
    smtp_flood_repeat(flood, "NOOP\r\n", 100000);
    assert_true(flood->closed);
    assert_true(flood->codes[250] <= 2 + 3 + 1 + flood->settings.junk_max);
    assert_int_equal(flood->codes[421], 1);
    free(flood);
    flood = smtp_flood_open();
    smtp_flood_repeat(flood, "WRONG\r\n", 100000);
    assert_true(flood->closed);
    assert_int_equal(flood->codes[500], flood->settings.errors_max);
    assert_int_equal(flood->codes[421], 1);
    free(flood);
}

static void what_comes_before_each_message_is_counted_anew(void **state)
{
    (void)state;
    struct smtp_flood *flood = smtp_flood_open();
    smtp_flood_say(flood, "EHLO c\r\n");
    smtp_flood_repeat(
        flood, "RSET\r\nNOOP\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@x>\r\nDATA\r\nx\r\n.\r\n", 1000);
    assert_int_equal(flood->commits, 1000);
    assert_false(flood->closed);
    smtp_flood_repeat(flood, "EHLO c\r\n", 100000);
    assert_true(flood->closed);
    assert_int_equal(flood->codes[421], 1);
    assert_true(flood->codes[250] <= 1 + 5 * 1000 + flood->settings.junk_max);
    free(flood);
}

static void messages_that_are_refused_count_as_errors(void **state)
{
    static const char *const bodies[] = {"DATA\r\nx\ny\r\n.\r\n", "BDAT 3 LAST\r\nx\ny",
                                         "BDAT 3\r\nx\ny"};
    static const struct smtp_script at_once[] = {
        SCRIPT("what follows is not read", ENVELOPE "DATA\r\nx\ny\r\n.\r\nNOOP\r\nRSET\r\n",
               "220 250 250 250 354 550 421", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.errors_max = 1;
    CHECK(at_once, &settings);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
        char message[100];
        struct smtp_flood *flood = smtp_flood_open();
        snprintf(message, sizeof(message), "MAIL FROM:<a@c>\r\nRCPT TO:<b@x>\r\n%s", bodies[i]);
        smtp_flood_say(flood, "EHLO c\r\n");
        smtp_flood_repeat(flood, message, 100000);
        assert_true(flood->closed);
        assert_int_equal(flood->codes[550], flood->settings.errors_max);
        assert_int_equal(flood->codes[421], 1);
        assert_int_equal(flood->resets, flood->settings.errors_max);
        free(flood);
    }
}

static void a_size_that_lies_changes_nothing(void **state)
{
    (void)state;
    struct smtp_flood *flood = smtp_flood_open();
    smtp_flood_say(flood, "EHLO c\r\nMAIL FROM:<a@c> SIZE=1\r\nRCPT TO:<b@x>\r\nDATA\r\n\r\n");
    smtp_flood_repeat(flood, "as long as it may be\r\n", 100);
    smtp_flood_say(flood, ".\r\n");
    assert_int_equal(flood->commits, 1);
    smtp_flood_say(flood, "MAIL FROM:<a@c> SIZE=1\r\nRCPT TO:<b@x>\r\nDATA\r\n\r\n");
    smtp_flood_repeat(flood, "longer than it may be\r\n", 1000);
    smtp_flood_say(flood, ".\r\nNOOP\r\n");
    assert_int_equal(flood->codes[552], 1);
    assert_int_equal(flood->commits, 1);
    assert_int_equal(flood->codes[250], 1 + 2 + 1 + 2 + 1);
    free(flood);
}

static void headers_are_bounded(void **state)
{
    static const struct {
        const char *what, *start, *line;
        unsigned count;
        unsigned code;
    } rows[] = {
        {"100,000 lines", "", "X-a: b\r\n", 100000, 552},
        {"10 MiB in one field", "Subject: x\r\n", " 0123456789 0123456789 0123456789\r\n", 300000,
         552},
        {"10 MiB in one line", "Subject: ", "0123456789", 1000000, 552},
        {"100 hops", "", "Received: by x\r\n", 100, 554},
        {"100 hops, folded", "", "received: by\r\n x\r\n", 100, 554},
        {"no header", "", "\r\n", 1, 250},
        {"no header and no empty line", "hello, world\r\n", "this is text\r\n", 20, 250},
        {"fields without colon", "Subject\r\nFrom a b\r\n", "To\r\n", 10, 250},
        {"a field that begins with a blank", " Subject: x\r\n", ": \r\n", 10, 250},
        {"hops in the text", "Subject: x\r\n\r\n", "Received: by x\r\n", 100, 250},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct smtp_flood *flood = smtp_flood_open();
        smtp_flood_say(flood, ENVELOPE "DATA\r\n");
        smtp_flood_say(flood, rows[i].start);
        smtp_flood_repeat(flood, rows[i].line, rows[i].count);
        smtp_flood_say(flood, "\r\n\r\n.\r\n");
        if (flood->codes[rows[i].code] != (rows[i].code == 250 ? 4 : 1)) {
            print_error("%s\n", rows[i].what);
        }
        assert_int_equal(flood->codes[rows[i].code], rows[i].code == 250 ? 4 : 1);
        assert_int_equal(flood->commits, rows[i].code == 250);
        smtp_flood_say(flood, "QUIT\r\n");
        assert_int_equal(flood->codes[221], 1);
        free(flood);
    }
}

/* ---- Ways out of a transaction ---- */

static void however_a_transaction_ended_nothing_of_it_is_left(void **state)
{
#define AFTER "RCPT TO:<b@x>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"
    static const struct smtp_script scripts[] = {
        SCRIPT("taken", ENVELOPE "DATA\r\nx\r\n.\r\n" AFTER, "220 250 250 250 354 250 503 503 250",
               "x\r\n|"),
        SCRIPT("refused at the end", ENVELOPE "DATA\r\nx\ny\r\n.\r\n" AFTER,
               "220 250 250 250 354 550 503 503 250", ""),
        SCRIPT("RSET", ENVELOPE "RSET\r\n" AFTER, "220 250 250 250 250 503 503 250", ""),
        SCRIPT("EHLO", ENVELOPE "EHLO d\r\n" AFTER, "220 250 250 250 250 503 503 250", ""),
        SCRIPT("HELO", ENVELOPE "HELO d\r\n" AFTER, "220 250 250 250 250 503 503 250", ""),
        SCRIPT("a failed chunk", ENVELOPE "BDAT 3\r\nx\ny" AFTER, "220 250 250 250 550 503 503 250",
               ""),
        SCRIPT("a failed last chunk", ENVELOPE "BDAT 3 LAST\r\nx\ny" AFTER,
               "220 250 250 250 550 503 503 250", ""),
        SCRIPT("RSET between chunks", ENVELOPE "BDAT 3\r\nx\r\nRSET\r\n" AFTER,
               "220 250 250 250 250 250 503 503 250", ""),
        SCRIPT("EHLO between chunks", ENVELOPE "BDAT 3\r\nx\r\nEHLO d\r\n" AFTER,
               "220 250 250 250 250 250 503 503 250", ""),
        SCRIPT("BDAT without recipients", "EHLO c\r\nMAIL FROM:<a@c>\r\nBDAT 1\r\nx" AFTER,
               "220 250 250 554 503 503 250", ""),
        SCRIPT("a verdict is of its own message only",
               ENVELOPE
               "DATA\r\nx\ny\r\n.\r\nMAIL FROM:<a@c>\r\nRCPT TO:<b@x>\r\nDATA\r\nz\r\n.\r\n",
               "220 250 250 250 354 550 250 250 354 250", "z\r\n|"),
    };
    static const struct smtp_script closed[] = {
        SCRIPT("421", ENVELOPE "DATA\r\nx\r\n.\r\nMAIL FROM:<a@c>\r\n" AFTER,
               "220 250 250 250 354 250 421", "x\r\n|"),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(scripts, &settings);
    settings.messages_max = 1;
    CHECK(closed, &settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nul_ends_no_message_where_newlines_are_normalized),
        cmocka_unit_test(the_end_of_data_is_found_however_it_is_cut),
        cmocka_unit_test(lines_are_kept_to_the_byte),
        cmocka_unit_test(listed_clients_may_end_commands_with_one_octet_and_never_a_message),
        cmocka_unit_test(a_line_of_a_mebibyte_is_one_refusal),
        cmocka_unit_test(octets_that_are_not_ascii_are_for_smtputf8_only),
        cmocka_unit_test(a_body_behind_a_refused_data_is_never_run),
        cmocka_unit_test(
            what_comes_before_a_refusal_of_data_is_sent_is_text_even_if_it_looks_like_commands),
        cmocka_unit_test(a_client_that_waits_goes_on_behind_a_refused_data),
        cmocka_unit_test(chunks_at_odd_places_are_consumed),
        cmocka_unit_test(newlines_of_chunks_are_normalized_across_their_borders),
        cmocka_unit_test(lmtp_answers_for_each_recipient_of_chunks_and_with_503_for_none),
        cmocka_unit_test(a_chunk_above_the_size_limit_is_read_to_its_end),
        cmocka_unit_test(a_hundred_thousand_commands_meet_a_limit),
        cmocka_unit_test(what_comes_before_each_message_is_counted_anew),
        cmocka_unit_test(messages_that_are_refused_count_as_errors),
        cmocka_unit_test(a_size_that_lies_changes_nothing),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(however_a_transaction_ended_nothing_of_it_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
