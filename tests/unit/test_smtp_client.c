/*
 * The client, by transcripts. A transcript holds what the server says (S:), what the owner does
 * (>), and what must come of it: commands (C:), results (R:), what the machine wants (W:). Each one
 * runs with the server's bytes in one piece, byte by byte, and cut in two at every place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/smtp/client.h"

#define SECOND 1000000000ull
#define RECIPIENTS_MAX 200

struct script {
    const char *name;
    const char *transcript;
    const char *reverse_path; /* NULL: sender@a.test */
    const char *recipients;   /* separated by '|'; NULL: one@b.test */
    uint64_t body_bytes;
    uint32_t flags;
    bool lmtp;
    bool no_pipelining;
    bool in_one_piece; /* what is proven depends on bytes that come together */
};

struct run {
    struct smtp_client client;
    struct smtp_client_settings settings;
    struct smtp_client_message message;
    struct smtp_client_recipient recipients[RECIPIENTS_MAX];
    uint64_t now_ns;
    char trace[16384];
    size_t trace_bytes;
    int last_want;
    bool write_blocked;
};

static void trace(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void trace(struct run *run, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof(run->trace) - run->trace_bytes;
    int written = vsnprintf(run->trace + run->trace_bytes, room, format, arguments);
    va_end(arguments);
    assert_true(written >= 0 && (size_t)written < room);
    run->trace_bytes += (size_t)written;
}

static void trace_result(struct run *run, const struct smtp_client_result *result)
{
    static const char *const outcomes[] = {"accepted", "temporary", "permanent"};
    static const char *const stages[] = {"greeting", "hello", "mail", "rcpt", "data",
                                         "body",     "dot",   "rset", "quit", "idle"};
    char status[SMTP_STATUS_TEXT_MAX];
    smtp_status_format(&result->status, status);
    trace(run, "R: %u %s %u %s at %s%s%s%s%s: %.*s\n", result->index, outcomes[result->outcome],
          result->code, status, stages[result->stage],
          result->flags & SMTP_CLIENT_MAY_BE_DUPLICATE ? " maybe-duplicate" : "",
          result->flags & SMTP_CLIENT_SUSPECT_PIPELINING ? " suspect-pipelining" : "",
          result->flags & SMTP_CLIENT_DECIDED_HERE ? " here" : "",
          result->flags & SMTP_CLIENT_CONNECTION_FAILED ? " connection" : "",
          (int)result->text.size, (const char *)result->text.bytes);
}

static void trace_output(struct run *run)
{
    struct slice out;
    while (!run->write_blocked && (out = smtp_client_output(&run->client)).size > 0) {
        const uint8_t *line = out.bytes, *end = out.bytes + out.size;
        assert_true(out.size >= 2 && memcmp(end - 2, "\r\n", 2) == 0);
        while (line < end) {
            const uint8_t *next = memchr(line, '\n', (size_t)(end - line));
            trace(run, "C: %.*s\n", (int)(next - line - 1), (const char *)line);
            line = next + 1;
        }
        smtp_client_output_sent(&run->client, run->now_ns);
    }
}

/* Feeds bytes until they are used and the machine waits. */
static void drive(struct run *run, struct slice input)
{
    static const char *const wants[] = {"input", "message", "body", "result", "close"};
    for (;;) {
        struct smtp_client_result result;
        size_t used;
        int want = (int)smtp_client_input(&run->client, run->now_ns, input, &used, &result);
        assert_true(used <= input.size);
        input = slice_from(input, used);
        if (want == SMTP_CLIENT_WANT_RESULT) {
            trace_result(run, &result);
            continue;
        }
        trace_output(run);
        if (want != run->last_want && want != SMTP_CLIENT_WANT_INPUT) {
            trace(run, "W: %s\n", wants[want]);
            const struct smtp_client_result *failure = smtp_client_failure(&run->client);
            if (want == SMTP_CLIENT_WANT_CLOSE && failure != NULL) {
                trace_result(run, failure);
            }
        }
        run->last_want = want;
        if (input.size == 0) {
            return;
        }
    }
}

static void act(struct run *run, struct slice action)
{
    if (slice_equal(action, slice_text("begin"))) {
        smtp_client_begin(&run->client, &run->message, run->now_ns);
    } else if (slice_equal(action, slice_text("body"))) {
        smtp_client_body_sent(&run->client, SMTP_CLIENT_PART, run->now_ns);
        smtp_client_body_sent(&run->client, SMTP_CLIENT_LAST, run->now_ns);
    } else if (slice_equal(action, slice_text("quit"))) {
        smtp_client_quit(&run->client, run->now_ns);
    } else if (slice_equal(action, slice_text("lost"))) {
        smtp_client_closed(&run->client, "connection lost");
    } else if (slice_equal(action, slice_text("wait"))) {
        run->now_ns = smtp_client_deadline(&run->client);
        smtp_client_expire(&run->client, run->now_ns);
    } else if (slice_equal(action, slice_text("block"))) {
        run->write_blocked = true;
    } else {
        fail_msg("no such action: %.*s", (int)action.size, (const char *)action.bytes);
    }
    drive(run, slice_of("", 0));
}

enum cut { CUT_NOWHERE, CUT_EVERYWHERE, CUT_ONCE };

static void serve(struct run *run, struct slice bytes, enum cut cut, size_t at)
{
    if (cut == CUT_EVERYWHERE) {
        for (size_t i = 0; i < bytes.size; i++) {
            drive(run, slice_of(bytes.bytes + i, 1));
        }
    } else if (cut == CUT_ONCE && at < bytes.size) {
        drive(run, slice_first(bytes, at));
        drive(run, slice_from(bytes, at));
    } else {
        drive(run, bytes);
    }
}

static void run_open(struct run *run, const struct script *script)
{
    memset(run, 0, sizeof(*run));
    memset(&run->client, 0xa5, sizeof(run->client));
    run->now_ns = 1000 * SECOND;
    run->settings = (struct smtp_client_settings){
        .hostname = slice_text("relay.test"),
        .lmtp = script->lmtp,
        .pipelining = !script->no_pipelining,
        .greeting_ns = 300 * SECOND,
        .reply_ns = 301 * SECOND,
        .data_start_ns = 120 * SECOND,
        .data_block_ns = 180 * SECOND,
        .data_end_ns = 600 * SECOND,
        .quit_ns = 10 * SECOND,
    };
    run->message = (struct smtp_client_message){
        .reverse_path =
            slice_text(script->reverse_path != NULL ? script->reverse_path : "sender@a.test"),
        .flags = script->flags,
        .body_bytes = script->body_bytes != 0 ? script->body_bytes : 1234,
        .recipients = run->recipients,
    };
    const char *list = script->recipients != NULL ? script->recipients : "one@b.test";
    for (;;) {
        size_t size = strcspn(list, "|");
        assert_true(run->message.recipient_count < RECIPIENTS_MAX);
        run->recipients[run->message.recipient_count++].forward_path = slice_of(list, size);
        if (list[size] == '\0') {
            break;
        }
        list += size + 1;
    }
    run->last_want = -1;
    smtp_client_open(&run->client, &run->settings, run->now_ns);
}

/* Lines that begin with "S: ", as the server sends them. */
static const char *server_lines(const char *line, char *wire, size_t *bytes)
{
    *bytes = 0;
    while (strncmp(line, "S:", 2) == 0) {
        const char *end = strchr(line, '\n');
        size_t skip = line[2] == ' ' ? 3 : 2, size = (size_t)(end - line) - skip;
        memcpy(wire + *bytes, line + skip, size);
        memcpy(wire + *bytes + size, "\r\n", 2);
        *bytes += size + 2;
        line = end + 1;
    }
    return line;
}

static void play(const struct script *script, enum cut cut, size_t at)
{
    static struct run run;
    run_open(&run, script);
    drive(&run, slice_of("", 0));
    const char *line = script->transcript;
    while (*line != '\0') {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        if (strncmp(line, "S:", 2) == 0) {
            char wire[8192];
            size_t bytes;
            const char *after = server_lines(line, wire, &bytes);
            trace(&run, "%.*s", (int)(after - line), line);
            serve(&run, slice_of(wire, bytes), cut, at);
            line = after;
            continue;
        }
        if (*line == '>') {
            trace(&run, "%.*s\n", (int)(end - line), line);
            run.last_want = -1;
            act(&run, slice_of(line + 2, (size_t)(end - line) - 2));
        }
        line = end + 1;
    }
    if (strcmp(run.trace, script->transcript) != 0) {
        print_error("%s, cut %d at %zu\n--- expected\n%s--- got\n%s", script->name, (int)cut, at,
                    script->transcript, run.trace);
        fail();
    }
}

static void play_all(const struct script *scripts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        play(&scripts[i], CUT_NOWHERE, 0);
        if (scripts[i].in_one_piece) {
            continue;
        }
        play(&scripts[i], CUT_EVERYWHERE, 0);
        for (size_t at = 1; at < 120; at++) {
            play(&scripts[i], CUT_ONCE, at);
        }
    }
}
#define PLAY(scripts) play_all(scripts, sizeof(scripts) / sizeof((scripts)[0]))

#define GREET "S: 220 b.test ESMTP\nC: EHLO relay.test\n"
#define PLAIN GREET "S: 250 b.test\nW: message\n> begin\n"
#define PIPE GREET "S: 250-b.test\nS: 250 PIPELINING\nW: message\n> begin\n"
#define LMTP_PIPE                                                                                  \
    "S: 220 b.test LMTP\nC: LHLO relay.test\nS: 250-b.test\nS: 250 PIPELINING\nW: message\n> "     \
    "begin\n"
#define ENVELOPE "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<one@b.test>\n"
#define TO_BODY PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nW: body\n"
#define TO_DOT TO_BODY "> body\nC: .\n"
#define THREE "one@b.test|two@b.test|three@b.test"
#define ENVELOPE_3                                                                                 \
    "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<one@b.test>\nC: RCPT TO:<two@b.test>\nC: RCPT "     \
    "TO:<three@b.test>\n"                                                                          \
    "C: DATA\n"

static void message_is_sent_and_the_connection_used_again(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {.name = "one command at a time",
         .transcript = PLAIN "C: MAIL FROM:<sender@a.test>\n"
                             "S: 250 2.1.0 ok\n"
                             "C: RCPT TO:<one@b.test>\n"
                             "S: 250 2.1.5 ok\n"
                             "C: DATA\n"
                             "S: 354 go on\n"
                             "W: body\n"
                             "> body\n"
                             "C: .\n"
                             "S: 250 2.0.0 queued as 1A\n"
                             "R: 0 accepted 250 2.0.0 at dot: 2.0.0 queued as 1A\n"
                             "W: message\n"
                             "> begin\n"
                             "C: MAIL FROM:<sender@a.test>\n"
                             "S: 250 ok\n"
                             "C: RCPT TO:<one@b.test>\n"
                             "S: 251 will forward\n"
                             "C: DATA\n"
                             "S: 354\n"
                             "W: body\n"
                             "> body\n"
                             "C: .\n"
                             "S: 250\n"
                             "R: 0 accepted 250 2.0.0 at dot: \n"
                             "W: message\n"
                             "> quit\n"
                             "C: QUIT\n"
                             "S: 221 bye\n"
                             "W: close\n"},
        {.name = "pipelined",
         .transcript = TO_DOT "S: 250 ok\nR: 0 accepted 250 2.0.0 at dot: ok\nW: message\n"
                              "> begin\n" ENVELOPE "C: DATA\n"},
        {.name = "pipelining is not used where it is switched off",
         .no_pipelining = true,
         .transcript = PIPE "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\n"},
        {.name = "the null reverse-path",
         .reverse_path = "",
         .transcript = PLAIN "C: MAIL FROM:<>\n"},
        {.name = "every parameter that the server knows",
         .flags = SMTP_CLIENT_8BITMIME | SMTP_CLIENT_SMTPUTF8,
         .transcript = GREET
         "S: 250-b.test\nS: 250-SIZE 5000\nS: 250-8BitMIME\nS: 250-smtputf8\nS: 250 XYZZY 1 2\n"
         "W: message\n> begin\n"
         "C: MAIL FROM:<sender@a.test> SIZE=1234 BODY=8BITMIME SMTPUTF8\n"},
    };
    PLAY(scripts);
}

static void each_recipient_has_its_own_fate(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {.name = "SMTP, pipelined",
         .recipients = THREE,
         .transcript = PIPE ENVELOPE_3
         "S: 250 ok\nS: 450 4.2.0 busy\nS: 250 ok\nS: 550 5.1.1 nobody\nS: 354 go\n"
         "R: 0 temporary 450 4.2.0 at rcpt: 4.2.0 busy\n"
         "R: 2 permanent 550 5.1.1 at rcpt: 5.1.1 nobody\n"
         "W: body\n> body\nC: .\nS: 250 ok\n"
         "R: 1 accepted 250 2.0.0 at dot: ok\nW: message\n"},
        {.name = "LMTP answers once for each recipient taken, in order",
         .lmtp = true,
         .recipients = THREE,
         .transcript = LMTP_PIPE ENVELOPE_3
         "S: 250 ok\nS: 250 ok\nS: 550 5.1.1 nobody\nS: 250 ok\nS: 354 go\n"
         "R: 1 permanent 550 5.1.1 at rcpt: 5.1.1 nobody\n"
         "W: body\n> body\nC: .\nS: 250 2.0.0 stored\nS: 452 4.2.2 full\n"
         "R: 0 accepted 250 2.0.0 at dot: 2.0.0 stored\n"
         "R: 2 temporary 452 4.2.2 at dot: 4.2.2 full\nW: message\n"},
        {.name = "552 to RCPT is too many recipients, unless its status says otherwise",
         .recipients = THREE,
         .transcript = PIPE ENVELOPE_3
         "S: 250 ok\nS: 552 too many\nS: 552 5.2.2 over quota\nS: 552 5.5.3 too many\nS: 554 none\n"
         "R: 0 temporary 552 5.0.0 at rcpt: too many\n"
         "R: 1 permanent 552 5.2.2 at rcpt: 5.2.2 over quota\n"
         "R: 2 temporary 552 5.5.3 at rcpt: 5.5.3 too many\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "a status of another class than the code is not believed",
         .transcript = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 450 5.7.1 go away\n"
                             "R: 0 temporary 450 4.0.0 at mail: 5.7.1 go away\nW: message\n"},
    };
    PLAY(scripts);
}

static void refusal_of_a_command_is_the_fate_of_all(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {.name = "MAIL, one at a time: no reset is needed",
         .recipients = "one@b.test|two@b.test",
         .transcript = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 550-5.7.1 not\nS: 550 5.7.1 you\n"
                             "R: 0 permanent 550 5.7.1 at mail: 5.7.1 not you\n"
                             "R: 1 permanent 550 5.7.1 at mail: 5.7.1 not you\nW: message\n"
                             "> begin\nC: MAIL FROM:<sender@a.test>\n"},
        {.name = "MAIL, pipelined: the other replies are passed over",
         .transcript = PIPE ENVELOPE
         "C: DATA\nS: 451 4.3.0 later\nR: 0 temporary 451 4.3.0 at mail: 4.3.0 later\n"
         "> block\nS: 503 no\nS: 503 no\nW: message\n"},
        {.name = "MAIL, pipelined, and yet 354: only the dot can follow",
         .transcript =
             PIPE ENVELOPE "C: DATA\nS: 550 no\nR: 0 permanent 550 5.0.0 at mail: no\n"
                           "S: 503 no\nS: 354 go\nC: .\nS: 554 no recipients\nW: message\n"},
        {.name = "all RCPT, pipelined, DATA refused: reset",
         .transcript = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 550 no\nS: 503 none\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "all RCPT, pipelined, and yet 354: only the dot, and its answer means nothing",
         .transcript = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 550 no\nS: 354 go\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nC: .\nS: 250 queued\nW: message\n"},
        {.name = "all RCPT, one at a time: no DATA, reset",
         .transcript =
             PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\nS: 450 busy\n"
                   "R: 0 temporary 450 4.0.0 at rcpt: busy\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "DATA after a recipient was taken",
         .transcript = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 250 ok\nS: 554 5.6.0 no\n"
         "R: 0 permanent 554 5.6.0 at data: 5.6.0 no\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "the dot",
         .transcript =
             TO_DOT "S: 554 5.7.1 spam\nR: 0 permanent 554 5.7.1 at dot: 5.7.1 spam\nW: message\n"},
        {.name = "RSET refused: the connection is given up, after all results",
         .transcript =
             PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 450 no\nS: 503 none\n"
                           "R: 0 temporary 450 4.0.0 at rcpt: no\nC: RSET\nS: 500 what\nW: close\n"
                           "R: 0 temporary 0 4.5.0 at rset connection: RSET refused\n"},
        {.name = "LMTP: 354 without a recipient is against RFC 2033",
         .lmtp = true,
         .transcript = LMTP_PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 550 no\nS: 354 go\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nW: close\n"
         "R: 0 temporary 0 4.5.0 at data suspect-pipelining connection: DATA accepted "
         "without recipients\n"},
    };
    PLAY(scripts);
}

static void greeting_and_hello_decide_whether_the_server_can_be_used(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {.name = "greeting of several lines",
         .transcript = "S: 220-a\nS: 220 b\nC: EHLO relay.test\n"},
        {.name = "554 instead of a greeting",
         .transcript = "S: 554 5.3.2 no service\nC: QUIT\nW: close\n"
                       "R: 0 permanent 554 5.3.2 at greeting connection: 5.3.2 no service\n"},
        {.name = "421 instead of a greeting",
         .transcript =
             "S: 421 busy\nW: close\nR: 0 temporary 421 4.0.0 at greeting connection: busy\n"},
        {.name = "EHLO unknown: HELO, and nothing is believed of EHLO",
         .transcript = GREET
         "S: 500-b.test\nS: 500 PIPELINING\nC: HELO relay.test\nS: 250-b.test\nS: 250 PIPELINING\n"
         "W: message\n> begin\nC: MAIL FROM:<sender@a.test>\n"},
        {.name = "neither EHLO nor HELO",
         .transcript =
             GREET "S: 502 what\nC: HELO relay.test\nS: 550 5.7.1 you again\nC: QUIT\nW: close\n"
                   "R: 0 permanent 550 5.7.1 at hello connection: 5.7.1 you again\n"},
        {.name = "EHLO later",
         .transcript = GREET "S: 450 4.3.2 later\nC: QUIT\nW: close\n"
                             "R: 0 temporary 450 4.3.2 at hello connection: 4.3.2 later\n"},
        {.name = "LHLO has nothing to fall back to",
         .lmtp = true,
         .transcript = "S: 220 b\nC: LHLO relay.test\nS: 500 what\nC: QUIT\nW: close\n"
                       "R: 0 permanent 500 5.0.0 at hello connection: what\n"},
        {.name = "no greeting in time",
         .transcript =
             "> wait\nW: close\nR: 0 temporary 0 4.4.2 at greeting connection: timed out\n"},
    };
    PLAY(scripts);
}

static void what_the_server_cannot_take_is_not_tried(void **state)
{
    (void)state;
    static const struct script scripts[] = {
        {.name = "larger than SIZE",
         .body_bytes = 5001,
         .transcript = GREET
         "S: 250-b.test\nS: 250 SIZE 5000\nW: message\n> begin\n"
         "R: 0 permanent 0 5.3.4 at mail here: the message is larger than the server takes\n"
         "W: message\n"},
        {.name = "as large as SIZE",
         .body_bytes = 5000,
         .transcript = GREET "S: 250-b.test\nS: 250 SIZE 5000\nW: message\n> begin\n"
                             "C: MAIL FROM:<sender@a.test> SIZE=5000\n"},
        {.name = "SIZE without, with zero, or with too large a number: no limit is known",
         .body_bytes = 5000,
         .transcript = GREET
         "S: 250-b.test\nS: 250-SIZE 0\nS: 250-SIZE 99999999999999999999999\nS: 250 SIZE\n"
         "W: message\n> begin\nC: MAIL FROM:<sender@a.test> SIZE=5000\n"},
        {.name = "8-bit text",
         .flags = SMTP_CLIENT_8BITMIME,
         .transcript = PLAIN "R: 0 permanent 0 5.6.3 at mail here: the message needs 8BITMIME, "
                             "which the server does not "
                             "offer\nW: message\n"},
        {.name = "a message that needs SMTPUTF8",
         .flags = SMTP_CLIENT_SMTPUTF8,
         .transcript = PLAIN "R: 0 permanent 0 5.6.7 at mail here: the message needs SMTPUTF8, "
                             "which the server does not "
                             "offer\nW: message\n"},
        {.name = "one address of two needs SMTPUTF8",
         .recipients = "j\303\266rg@b.test|two@b.test",
         .transcript =
             PLAIN "R: 0 permanent 0 5.6.7 at rcpt here: the address needs SMTPUTF8, which the "
                   "server does not "
                   "offer\nC: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<two@b.test>\n"},
        {.name = "an address that needs SMTPUTF8, and may have it",
         .recipients = "j\303\266rg@b.test",
         .transcript = GREET "S: 250-b.test\nS: 250 SMTPUTF8\nW: message\n> begin\nC: MAIL "
                             "FROM:<sender@a.test> SMTPUTF8\n"
                             "S: 250 ok\nC: RCPT TO:<j\303\266rg@b.test>\n"},
    };
    PLAY(scripts);
}

static void addresses_cannot_carry_commands(void **state)
{
    (void)state;
#define BAD "permanent 0 5.1.3 at rcpt here: the address cannot be written in SMTP\n"
    static const struct script scripts[] = {
        {.name = "recipients",
         .recipients =
             "a\r\nRSET@b|b\n@b|c\x7f@b|d> NOTIFY=NEVER@b|e@b>|\"f|\"g\\|h i@b||\"j\\\x01\"@b|\t@b",
         .transcript =
             PLAIN "R: 0 " BAD "R: 1 " BAD "R: 2 " BAD "R: 3 " BAD "R: 4 " BAD "R: 5 " BAD
                   "R: 6 " BAD "R: 7 " BAD "R: 8 " BAD "R: 9 " BAD "R: 10 " BAD "W: message\n"},
        {.name = "what looks odd but is an address",
         .recipients = "\"a> b\\\"\"@b|`id`@b|;@b|%s@b|\\\\srv@b|@x,@y:c@b",
         .transcript = PIPE
         "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<\"a> b\\\"\"@b>\nC: RCPT TO:<`id`@b>\n"
         "C: RCPT TO:<;@b>\nC: RCPT TO:<%s@b>\nC: RCPT TO:<\\\\srv@b>\nC: RCPT TO:<@x,@y:c@b>\n"
         "C: DATA\n"},
        {.name = "the sender",
         .reverse_path = "a@b> SIZE=1",
         .transcript = PLAIN
         "R: 0 permanent 0 5.1.7 at mail here: the sender's address cannot be written in SMTP\n"
         "W: message\n"},
    };
    PLAY(scripts);
}

static void loss_of_the_connection_is_temporary_at_every_stage(void **state)
{
    (void)state;
#define LOST(stage) "R: 0 temporary 0 4.4.2 at " stage " connection: connection lost\n"
    static const struct script scripts[] = {
        {.name = "greeting", .transcript = "> lost\nW: close\n" LOST("greeting")},
        {.name = "hello", .transcript = GREET "> lost\nW: close\n" LOST("hello")},
        {.name = "idle",
         .transcript = GREET "S: 250 b\nW: message\n> lost\nW: close\n" LOST("idle")},
        {.name = "mail",
         .transcript =
             PLAIN "C: MAIL FROM:<sender@a.test>\n> lost\n" LOST("mail") "W: close\n" LOST("mail")},
        {.name = "rcpt",
         .no_pipelining = true,
         .transcript = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\n"
                             "> lost\n" LOST("rcpt") "W: close\n" LOST("rcpt")},
        {.name = "a recipient judged is not judged again",
         .recipients = "one@b.test|two@b.test",
         .transcript = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\nS: 550 no\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nC: RCPT TO:<two@b.test>\n> lost\n"
         "R: 1 temporary 0 4.4.2 at rcpt connection: connection lost\nW: close\n" LOST("rcpt")},
        {.name = "body", .transcript = TO_BODY "> lost\n" LOST("body") "W: close\n" LOST("body")},
        {.name = "the dot has left: the server may have the message",
         .transcript = TO_DOT
         "> lost\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\nW: close\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\n"},
        {.name = "the dot was never written",
         .transcript =
             TO_BODY "> block\nW: body\n> body\n> lost\n" LOST("dot") "W: close\n" LOST("dot")},
        {.name = "half of the answer to the dot is none",
         .in_one_piece = true,
         .transcript = TO_DOT
         "S: 250-2.0.0 ok\n> lost\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\nW: close\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\n"},
        {.name = "LMTP, after one of two answers",
         .lmtp = true,
         .recipients = "one@b.test|two@b.test",
         .transcript = LMTP_PIPE
         "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<one@b.test>\nC: RCPT TO:<two@b.test>\nC: DATA\n"
         "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nW: body\n> body\nC: .\nS: 250 ok\n"
         "R: 0 accepted 250 2.0.0 at dot: ok\n> lost\n"
         "R: 1 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\nW: close\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\n"},
        {.name = "after QUIT that is as good as 221",
         .transcript = GREET "S: 250 b\nW: message\n> quit\nC: QUIT\n> lost\nW: close\n"},
    };
    PLAY(scripts);
}

static void silence_ends_with_the_time_limit_of_its_stage(void **state)
{
    (void)state;
    static const struct {
        const char *transcript;
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
        static struct run run;
        const struct script script = {.name = "deadline", .transcript = cases[i].transcript};
        play(&script, CUT_NOWHERE, 0);
        run_open(&run, &script);
        drive(&run, slice_of("", 0));
        for (const char *line = script.transcript; *line != '\0';) {
            char wire[1024];
            size_t bytes;
            const char *after = server_lines(line, wire, &bytes);
            const char *end = strchr(line, '\n');
            if (bytes > 0) {
                drive(&run, slice_of(wire, bytes));
            } else if (*line == '>') {
                act(&run, slice_of(line + 2, (size_t)(end - line) - 2));
            }
            line = bytes > 0 ? after : end + 1;
        }
        uint64_t expected =
            cases[i].wait_s > 0 ? run.now_ns + cases[i].wait_s * SECOND : SMTP_CLIENT_NEVER;
        assert_int_equal(smtp_client_deadline(&run.client), expected);
        smtp_client_expire(&run.client, expected - 1); /* too early: nothing */
        run.last_want = -1;
        size_t before = run.trace_bytes;
        drive(&run, slice_of("", 0));
        assert_null(strstr(run.trace + before, "close"));
    }
}

static void a_line_now_and_then_does_not_move_the_deadline(void **state)
{
    (void)state;
    static struct run run;
    const struct script script = {.name = "slow"};
    run_open(&run, &script);
    uint64_t deadline = smtp_client_deadline(&run.client);
    for (int i = 0; i < 100; i++) {
        run.now_ns += SECOND;
        drive(&run, slice_text("220-still here\r\n"));
        assert_int_equal(smtp_client_deadline(&run.client), deadline);
    }
}

static void broken_dialogue_is_temporary_and_closes(void **state)
{
    (void)state;
#define BROKEN(at, text)                                                                           \
    "R: 0 temporary 0 4.5.0 at " at ": " text "\nW: close\nR: 0 temporary 0 4.5.0 at " at          \
    ": " text "\n"
    static const struct script scripts[] = {
        {.name = "a code that is none",
         .transcript = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 25x ok\n" BROKEN("mail connection", "malformed reply")},
        {.name = "a blank in the code",
         .transcript = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 2 50 ok\n" BROKEN("mail connection", "malformed reply")},
        {.name = "an empty line",
         .transcript = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS:\n" BROKEN("mail connection", "malformed reply")},
        {.name = "a code that changes inside a reply",
         .transcript = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250-ok\nS: 550 no\n" BROKEN(
             "mail connection", "malformed reply")},
        {.name = "after the dot: the server may have the message",
         .transcript =
             TO_DOT "S: 999 ok\n" BROKEN("dot maybe-duplicate connection", "malformed reply")},
        {.name = "3xx to RCPT, pipelined: suspicious",
         .transcript = PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 354 go\n" BROKEN(
             "rcpt suspect-pipelining connection", "reply out of step")},
        {.name = "250 to DATA, pipelined: suspicious",
         .transcript = PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" BROKEN(
             "data suspect-pipelining connection", "reply to DATA out of step")},
        {.name = "no answer to pipelined commands: suspicious",
         .transcript = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\n> wait\n"
         "R: 0 temporary 0 4.4.2 at rcpt suspect-pipelining connection: timed out\nW: close\n"
         "R: 0 temporary 0 4.4.2 at rcpt suspect-pipelining connection: timed out\n"},
        {.name = "an answer to no command, while idle",
         .transcript = GREET "S: 250 b\nW: message\nS: 250 ok\nW: close\n"
                             "R: 0 temporary 0 4.5.0 at idle connection: reply to no command\n"},
        {.name = "answers before their commands",
         .in_one_piece = true,
         .transcript = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nS: 250 ok\n" BROKEN(
             "rcpt connection", "reply to no command")},
        {.name = "greeting and answer to EHLO in one",
         .in_one_piece = true,
         .transcript = "S: 220 b\nS: 250 b\nW: close\n"
                       "R: 0 temporary 0 4.5.0 at hello connection: reply to no command\n"},
        {.name = "421 anywhere is the fate of all who wait",
         .recipients = "one@b.test|two@b.test",
         .transcript = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\nS: 421 4.3.2 down\n"
         "R: 0 temporary 421 4.3.2 at rcpt connection: 4.3.2 down\n"
         "R: 1 temporary 421 4.3.2 at rcpt connection: 4.3.2 down\nW: close\n"
         "R: 0 temporary 421 4.3.2 at rcpt connection: 4.3.2 down\n"},
        {.name = "421 to the dot is an answer: no duplicate",
         .transcript =
             TO_DOT "S: 421 down\nR: 0 temporary 421 4.0.0 at dot connection: down\nW: close\n"
                    "R: 0 temporary 421 4.0.0 at dot connection: down\n"},
        {.name = "421 while idle",
         .transcript = GREET "S: 250 b\nW: message\nS: 421 idle too long\nW: close\n"
                             "R: 0 temporary 421 4.0.0 at idle connection: idle too long\n"},
        {.name = "refusal in the middle of the body is believed",
         .transcript = TO_BODY
         "S: 552 5.3.4 too big\n"
         "R: 0 permanent 552 5.3.4 at body connection: 5.3.4 too big\nW: close\n"
         "R: 0 permanent 552 5.3.4 at body connection: 5.3.4 too big\n> body\nW: close\n"
         "R: 0 permanent 552 5.3.4 at body connection: 5.3.4 too big\n"},
        {.name = "acceptance in the middle of the body is not",
         .transcript = TO_BODY "S: 250 ok\n" BROKEN("body connection", "reply to no command")},
        {.name = "LMTP: more answers than recipients",
         .lmtp = true,
         .transcript = LMTP_PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nW: body\n> body\nC: .\n"
         "S: 250 ok\nR: 0 accepted 250 2.0.0 at dot: ok\nW: message\nS: 250 ok\nW: close\n"
         "R: 0 temporary 0 4.5.0 at idle connection: reply to no command\n"},
    };
    PLAY(scripts);
}

static void many_recipients_go_out_as_room_allows_and_none_twice(void **state)
{
    (void)state;
    static struct run run;
    static char paths[RECIPIENTS_MAX][64];
    const struct script script = {.name = "many", .lmtp = true};
    run_open(&run, &script);
    run.message.recipient_count = RECIPIENTS_MAX;
    for (unsigned i = 0; i < RECIPIENTS_MAX; i++) {
        int size = snprintf(paths[i], sizeof(paths[i]), "user%u@department.example.test", i);
        run.recipients[i].forward_path = slice_of(paths[i], (size_t)size);
    }
    drive(&run, slice_text("220 b\r\n"));
    drive(&run, slice_text("250-b\r\n250 PIPELINING\r\n"));
    smtp_client_begin(&run.client, &run.message, run.now_ns);
    drive(&run, slice_of("", 0));
    for (unsigned i = 0; i < RECIPIENTS_MAX; i++) {
        char line[128];
        snprintf(line, sizeof(line), "C: RCPT TO:<%.60s>\n", paths[i]);
        char *found = strstr(run.trace, line);
        assert_non_null(found);
        assert_null(strstr(found + 1, line));
    }
    assert_string_equal(run.trace + run.trace_bytes - 8, "C: DATA\n");
    drive(&run, slice_text("250 ok\r\n"));
    for (unsigned i = 0; i < RECIPIENTS_MAX; i++) {
        drive(&run, slice_text(i % 3 == 0 ? "550 no\r\n" : "250 ok\r\n"));
    }
    run.trace_bytes = 0;
    drive(&run, slice_text("354 go\r\n"));
    assert_string_equal(run.trace, "W: body\n");
    smtp_client_body_sent(&run.client, SMTP_CLIENT_LAST, run.now_ns);
    drive(&run, slice_of("", 0));
    for (unsigned i = 0; i < RECIPIENTS_MAX; i++) {
        if (i % 3 == 0) {
            continue;
        }
        char expected[64];
        run.trace_bytes = 0;
        drive(&run, slice_text("250 ok\r\n"));
        snprintf(expected, sizeof(expected), "R: %u accepted 250 2.0.0 at dot: ok\n", i);
        assert_memory_equal(run.trace, expected, strlen(expected));
    }
    assert_true(smtp_client_idle(&run.client));
}

static void loss_before_a_message_is_begun_is_told_to_the_message(void **state)
{
    (void)state;
    static struct run run;
    const struct script script = {.name = "late"};
    run_open(&run, &script);
    drive(&run, slice_text("220 b\r\n"));
    drive(&run, slice_text("250 b\r\n"));
    smtp_client_closed(&run.client, "connection lost");
    smtp_client_begin(&run.client, &run.message, run.now_ns);
    run.trace_bytes = 0;
    drive(&run, slice_of("", 0));
    assert_string_equal(run.trace,
                        "R: 0 temporary 0 4.4.2 at mail connection: connection lost\nW: close\n"
                        "R: 0 temporary 0 4.4.2 at mail connection: connection lost\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_is_sent_and_the_connection_used_again),
        cmocka_unit_test(each_recipient_has_its_own_fate),
        cmocka_unit_test(refusal_of_a_command_is_the_fate_of_all),
        cmocka_unit_test(greeting_and_hello_decide_whether_the_server_can_be_used),
        cmocka_unit_test(what_the_server_cannot_take_is_not_tried),
        cmocka_unit_test(addresses_cannot_carry_commands),
        cmocka_unit_test(loss_of_the_connection_is_temporary_at_every_stage),
        cmocka_unit_test(silence_ends_with_the_time_limit_of_its_stage),
        cmocka_unit_test(a_line_now_and_then_does_not_move_the_deadline),
        cmocka_unit_test(broken_dialogue_is_temporary_and_closes),
        cmocka_unit_test(many_recipients_go_out_as_room_allows_and_none_twice),
        cmocka_unit_test(loss_before_a_message_is_begun_is_told_to_the_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
