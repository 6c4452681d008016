/*
 * The server machine against scripts. Each script is run with its input cut in every way that matters, and must
 * give the same replies, the same body and the same envelope whatever the cut.
 */
#include "proto/smtp/server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT_BYTES (64 * 1024)

struct run {
    struct smtp_server_settings settings;
    char replies[TEXT_BYTES];
    size_t replies_size;
    char body[TEXT_BYTES]; /* of every message that was committed, each followed by "|" */
    size_t body_size;
    char draft[TEXT_BYTES];
    size_t draft_size;
    unsigned commits, resets, recipients, secured;
    bool closed;
};

static void settings_usual(struct smtp_server_settings *settings)
{
    *settings = (struct smtp_server_settings){
        .hostname = slice_text("mx.test"),
        .pipelining = true,
        .chunking = true,
        .smtputf8 = true,
        .message_bytes_max = 4096,
        .recipients_max = 3,
        .errors_max = 20,
        .junk_max = 100,
        .line_bytes_max = 1000,
        .header_bytes_max = 2000,
        .header_lines_max = 50,
        .hops_max = 5,
        .command_ns = 300,
        .data_ns = 180,
    };
}

static void output_take(struct run *run, struct smtp_server *server)
{
    struct slice output = smtp_server_output(server);
    assert_true(run->replies_size + output.size < TEXT_BYTES);
    memcpy(run->replies + run->replies_size, output.bytes, output.size);
    run->replies_size += output.size;
    smtp_server_sent(server, output.size);
}

static void event_take(struct run *run, struct smtp_server *server, const struct smtp_event *event)
{
    switch (event->kind) {
    case SMTP_EVENT_NONE:
    case SMTP_EVENT_HELO:
        break;
    case SMTP_EVENT_CONNECTED:
    case SMTP_EVENT_SENDER:
        smtp_server_verdict(server, NULL);
        run->recipients = 0;
        break;
    case SMTP_EVENT_RECIPIENT:
        if (slice_equal(event->path.local, slice_text("unknown"))) {
            smtp_server_verdict(server,
                                &(struct smtp_verdict){550, "5.1.1", slice_text("No such user")});
        } else {
            run->recipients++;
            smtp_server_verdict(server, NULL);
        }
        break;
    case SMTP_EVENT_BODY_BEGIN:
        run->draft_size = 0;
        break;
    case SMTP_EVENT_BODY:
        assert_true(event->body.size > 0);
        assert_true(run->draft_size + event->body.size < TEXT_BYTES);
        memcpy(run->draft + run->draft_size, event->body.bytes, event->body.size);
        run->draft_size += event->body.size;
        break;
    case SMTP_EVENT_BODY_END:
        run->commits++;
        memcpy(run->body + run->body_size, run->draft, run->draft_size);
        run->body_size += run->draft_size;
        run->body[run->body_size++] = '|';
        for (unsigned i = 0; i < (run->settings.lmtp ? run->recipients : 1); i++) {
            smtp_server_verdict(server, NULL);
        }
        break;
    case SMTP_EVENT_RESET:
        run->resets++;
        break;
    }
}

/* Feeds one piece as far as the machine takes it. */
static void piece_feed(struct run *run, struct smtp_server *server, struct slice piece)
{
    for (;;) {
        struct smtp_event event;
        size_t used = 0;
        enum smtp_want want = smtp_server_input(server, 1, piece, &used, &event);
        event_take(run, server, &event);
        piece = slice_from(piece, used);
        bool answered = smtp_server_output(server).size > 0;
        output_take(run, server);
        if (want == SMTP_WANT_CLOSE) {
            run->closed = true;
            return;
        }
        if (want == SMTP_WANT_TLS) {
            run->secured++;
            smtp_server_secured(server, 1);
            return; /* what else is in the piece came in the clear */
        }
        if (used == 0 && event.kind == SMTP_EVENT_NONE) {
            /* Who feeds it would wait for more now: only for room, or at the end. */
            assert_true(piece.size == 0 || answered);
            if (piece.size == 0) {
                return;
            }
        }
    }
}

enum { WHOLE = 0 };

/* cut WHOLE: in one piece; n: pieces of n bytes. */
static void script_run(struct run *run, const char *input, size_t size, size_t cut)
{
    struct smtp_server *server = malloc(sizeof(*server));
    struct smtp_server_settings settings = run->settings;
    memset(run, 0, sizeof(*run));
    run->settings = settings;
    smtp_server_open(server, &run->settings, 0);
    piece_feed(run, server, slice_of(NULL, 0));
    for (size_t at = 0; at < size && !run->closed;) {
        size_t step = cut == WHOLE || size - at < cut ? size - at : cut;
        char *copy = malloc(step); /* so that a read beyond it is seen */
        memcpy(copy, input + at, step);
        piece_feed(run, server, slice_of(copy, step));
        free(copy);
        at += step;
    }
    piece_feed(run, server, slice_of(NULL, 0));
    free(server);
}

/* The codes of the replies' last lines, "220 250 354". */
static void codes_of(const struct run *run, char *codes)
{
    const char *line = run->replies;
    codes[0] = '\0';
    while (line < run->replies + run->replies_size) {
        const char *end = strstr(line, "\r\n");
        assert_non_null(end);
        if (line[3] == ' ') {
            sprintf(codes + strlen(codes), "%s%.3s", codes[0] == '\0' ? "" : " ", line);
        }
        line = end + 2;
    }
}

struct script {
    const char *why, *input;
    size_t size;
    const char *codes, *body;
};
#define SCRIPT(why, input, codes, body)                                                            \
    {                                                                                              \
        why, input, sizeof(input) - 1, codes, body                                                 \
    }
#define ENVELOPE "EHLO c\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@x.test>\r\n"
#define SECOND "MAIL FROM:<evil@c>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nsecond\r\n.\r\nQUIT\r\n"

static void scripts_check(const struct script *scripts, size_t count,
                          const struct smtp_server_settings *settings)
{
    static struct run run;
    for (size_t i = 0; i < count; i++) {
        for (size_t cut = 0; cut <= scripts[i].size && cut < 40; cut++) {
            char codes[4096];
            run.settings = *settings;
            script_run(&run, scripts[i].input, scripts[i].size, cut);
            codes_of(&run, codes);
            run.body[run.body_size] = '\0';
            if (strcmp(codes, scripts[i].codes) != 0 || strcmp(run.body, scripts[i].body) != 0) {
                print_error("%s (cut %zu)\nreplies:\n%s\nbody: %s\n", scripts[i].why, cut,
                            run.replies, run.body);
            }
            assert_string_equal(codes, scripts[i].codes);
            assert_string_equal(run.body, scripts[i].body);
        }
    }
}

static void dialogues_get_their_replies_however_they_are_cut(void **state)
{
    static const struct script scripts[] = {
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
    settings_usual(&settings);
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void no_bare_newline_ends_a_message(void **state)
{
    static const struct script scripts[] = {
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
    settings_usual(&settings);
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void normalize_makes_one_message_of_lines(void **state)
{
#define REST "MAIL FROM:<evil@c>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nsecond\r\n|"
    static const struct script scripts[] = {
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
    settings_usual(&settings);
    settings.normalize = true;
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void chunks_are_joined_and_stay_in_sync(void **state)
{
    static const struct script scripts[] = {
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
        SCRIPT("DATA behind BDAT", ENVELOPE "BDAT 3\r\nx\r\nDATA\r\nBDAT 0 LAST\r\n",
               "220 250 250 250 250 503 250", "x\r\n|"),
        SCRIPT("RSET between chunks", ENVELOPE "BDAT 3\r\nx\r\nRSET\r\nDATA\r\n",
               "220 250 250 250 250 250 503", ""),
        SCRIPT("without RCPT", "EHLO c\r\nMAIL FROM:<a@c>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
               "220 250 250 554 250", ""),
        SCRIPT("without anything", "BDAT 6\r\nQUIT\r\nNOOP\r\n", "220 503 250", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    settings_usual(&settings);
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void a_chunk_of_unknown_size_ends_the_session(void **state)
{
    static const char *const sizes[] = {
        "", "-1", "x", "18446744073709551616", "1 FIRST", "99999999999999999999999"};
    static struct run run;
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char input[200];
        int size = snprintf(input, sizeof(input), ENVELOPE "BDAT %s\r\nQUIT\r\n", sizes[i]);
        char codes[256];
        settings_usual(&run.settings);
        script_run(&run, input, (size_t)size, WHOLE);
        codes_of(&run, codes);
        assert_string_equal(codes, "220 250 250 250 501 421");
        assert_true(run.closed);
    }
}

static void limits_are_answered_and_the_next_command_is_in_sync(void **state)
{
    static struct run run;
    static char input[TEXT_BYTES / 2];
    char codes[1024];
    (void)state;
    settings_usual(&run.settings);
    /* a line, a message, a header, hops, a command: each too long */
    int size =
        snprintf(input, sizeof(input), ENVELOPE "DATA\r\nS: x\r\n\r\n%01001d\r\n.\r\nNOOP\r\n", 0);
    script_run(&run, input, (size_t)size, 7);
    codes_of(&run, codes);
    assert_string_equal(codes, "220 250 250 250 354 552 250");

    size = snprintf(input, sizeof(input), ENVELOPE "DATA\r\nS: x\r\n\r\n");
    for (int i = 0; i < 5; i++) {
        size += snprintf(input + size, sizeof(input) - (size_t)size, "%0900d\r\n", 0);
    }
    size += snprintf(input + size, sizeof(input) - (size_t)size, ".\r\nNOOP\r\n");
    script_run(&run, input, (size_t)size, 7);
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
    script_run(&run, input, (size_t)size, 3);
    assert_non_null(strstr(run.replies, "554 5.4.6"));

    size = snprintf(input, sizeof(input), "EHLO %04000d\r\nNOOP\r\n", 0);
    for (size_t cut = 0; cut < 3; cut++) {
        script_run(&run, input, (size_t)size, cut * 1000);
        codes_of(&run, codes);
        assert_string_equal(codes, "220 500 250");
    }
}

static void errors_and_idle_commands_end_a_session(void **state)
{
    static struct run run;
    static char input[20000];
    (void)state;
    settings_usual(&run.settings);
    for (int i = 0; i < 2000; i++) {
        memcpy(input + i * 6, "FOOO\r\n", 6);
    }
    script_run(&run, input, 12000, WHOLE);
    assert_true(run.closed);
    assert_non_null(strstr(run.replies, "421 4.7.0"));
    for (int i = 0; i < 2000; i++) {
        memcpy(input + i * 6, "NOOP\r\n", 6);
    }
    script_run(&run, input, 12000, WHOLE);
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
    static struct run run;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char input[200];
        char codes[64];
        char wanted[64];
        int size = snprintf(input, sizeof(input), "EHLO c\r\nMAIL FROM:%s\r\n", rows[i].parameters);
        settings_usual(&run.settings);
        script_run(&run, input, (size_t)size, WHOLE);
        codes_of(&run, codes);
        snprintf(wanted, sizeof(wanted), "220 250 %s", rows[i].code);
        if (strcmp(codes, wanted) != 0) {
            print_error("%s: %s", rows[i].parameters, run.replies);
        }
        assert_string_equal(codes, wanted);
    }
}

static void control_octets_are_refused_in_commands(void **state)
{
    static const struct script scripts[] = {
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
    settings_usual(&settings);
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void lmtp_answers_once_for_each_recipient(void **state)
{
    static const struct script scripts[] = {
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
    settings_usual(&settings);
    settings.lmtp = true;
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void starttls_is_answered_where_it_makes_sense(void **state)
{
    static const struct script scripts[] = {
        SCRIPT("once", "EHLO c\r\nSTARTTLS\r\n", "220 250 220", ""),
        SCRIPT("too early", "STARTTLS\r\nQUIT\r\n", "220 503 221", ""),
        SCRIPT("with words", "EHLO c\r\nSTARTTLS now\r\nQUIT\r\n", "220 250 501 221", ""),
        SCRIPT("in a chunked message", ENVELOPE "BDAT 2\r\nhiSTARTTLS\r\nBDAT 0 LAST\r\nQUIT\r\n",
               "220 250 250 250 250 503 250 221", "hi\r\n|"),
    };
    static const struct script unknown =
        SCRIPT("not offered", "EHLO c\r\nSTARTTLS\r\nQUIT\r\n", "220 250 502 221", "");
    struct smtp_server_settings settings;
    (void)state;
    settings_usual(&settings);
    scripts_check(&unknown, 1, &settings);
    settings.starttls = true;
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void what_follows_starttls_in_the_clear_is_never_looked_at(void **state)
{
    static struct run run;
    static const char text[] = "EHLO evil\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nQUIT\r\n";
    char codes[256];
    (void)state;
    settings_usual(&run.settings);
    run.settings.starttls = true;
    script_run(&run, text, sizeof(text) - 1, WHOLE);
    codes_of(&run, codes);
    assert_string_equal(codes, "220 250 220");
    assert_int_equal(run.secured, 1);
}

static void what_was_said_in_the_clear_is_forgotten(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    struct smtp_event event;
    struct run run = {0};
    size_t used;
    (void)state;
    settings_usual(&settings);
    settings.starttls = true;
    smtp_server_open(&server, &settings, 0);
    piece_feed(&run, &server, slice_of(NULL, 0));
    piece_feed(&run, &server, slice_text("EHLO before\r\n"));
    assert_non_null(strstr(run.replies, "250-STARTTLS\r\n"));
    piece_feed(&run, &server, slice_text("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"));
    assert_string_equal(smtp_server_protocol(&server), "ESMTP");
    piece_feed(&run, &server, slice_text("STARTTLS\r\n"));
    assert_int_equal(run.secured, 1);
    assert_int_equal(run.resets, 1);
    assert_int_equal(smtp_server_helo(&server).size, 0);
    size_t before = run.replies_size;
    piece_feed(&run, &server, slice_text("MAIL FROM:<a@b.test>\r\nEHLO after\r\n"));
    assert_memory_equal(run.replies + before, "503 5.5.1 Say hello first\r\n250-", 31);
    assert_null(strstr(run.replies + before, "STARTTLS"));
    assert_string_equal(smtp_server_protocol(&server), "ESMTPS");
    smtp_server_input(&server, 1, slice_text("STARTTLS\r\n"), &used, &event);
    assert_memory_equal(smtp_server_output(&server).bytes, "503 5.5.1 TLS is active already", 31);
}

static void where_tls_is_required_no_transaction_begins_in_the_clear(void **state)
{
    static const struct script scripts[] = {
        SCRIPT("530",
               "NOOP\r\nEHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@x.test>\r\nVRFY a\r\nRSET\r\n",
               "220 250 250 530 530 530 250", ""),
        SCRIPT("a chunk is got past", "EHLO c\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\nQUIT\r\n",
               "220 250 503 250 221", ""),
        SCRIPT("DATA", "EHLO c\r\nDATA\r\n", "220 250 503", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    settings_usual(&settings);
    settings.starttls = settings.tls_only = true;
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void where_required_tls_cannot_be_had_the_client_comes_again(void **state)
{
    static const struct script scripts[] = {
        SCRIPT("454", "EHLO c\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nVRFY a\r\nQUIT\r\n",
               "220 250 454 454 454 221", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    settings_usual(&settings);
    settings.tls_only = true;
    scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void a_session_may_be_encrypted_from_the_start(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    struct run run = {0};
    (void)state;
    settings_usual(&settings);
    settings.starttls = settings.tls_only = true;
    smtp_server_open(&server, &settings, 0);
    smtp_server_secured(&server, 1000);
    assert_int_equal(smtp_server_deadline(&server), 1300);
    piece_feed(&run, &server, slice_of(NULL, 0));
    piece_feed(&run, &server, slice_text("EHLO c\r\nMAIL FROM:<a@b.test>\r\n"));
    assert_null(strstr(run.replies, "STARTTLS"));
    assert_non_null(strstr(run.replies, "250 2.0.0 Ok\r\n"));
}

static void time_runs_out_by_stage(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    struct smtp_event event;
    size_t used;
    (void)state;
    settings_usual(&settings);
    smtp_server_open(&server, &settings, 1000);
    assert_int_equal(smtp_server_deadline(&server), 1300);
    smtp_server_input(&server, 1000, slice_of(NULL, 0), &used, &event);
    smtp_server_verdict(&server, NULL);
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
    static struct run whole, cut;
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
        settings_usual(&whole.settings);
        whole.settings.normalize = rand() % 2;
        cut.settings = whole.settings;
        script_run(&whole, input, size, WHOLE);
        script_run(&cut, input, size, 1 + (size_t)rand() % 5);
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
        cmocka_unit_test(starttls_is_answered_where_it_makes_sense),
        cmocka_unit_test(what_follows_starttls_in_the_clear_is_never_looked_at),
        cmocka_unit_test(what_was_said_in_the_clear_is_forgotten),
        cmocka_unit_test(where_tls_is_required_no_transaction_begins_in_the_clear),
        cmocka_unit_test(where_required_tls_cannot_be_had_the_client_comes_again),
        cmocka_unit_test(a_session_may_be_encrypted_from_the_start),
        cmocka_unit_test(time_runs_out_by_stage),
        cmocka_unit_test(random_input_in_random_pieces_keeps_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
