/* RET, ENVID, NOTIFY and ORCPT: read, written, taken by the server and passed on by the client. */
#include "tests/unit/smtp_script.h"
#include "tests/unit/smtp_transcript.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* ---- Values ---- */

static void xtext_goes_both_ways(void **state)
{
    static const struct {
        const char *plain, *xtext;
    } pairs[] = {{"a@b.test", "a@b.test"},
                 {"QQ=314+159", "QQ+3D314+2B159"},
                 {"two words", "two+20words"},
                 {"\377\n", "+FF+0A"},
                 {"", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct slice plain = slice_text(pairs[i].plain), xtext = slice_text(pairs[i].xtext);
        char text[64];
        uint8_t bytes[64];
        assert_int_equal(smtp_xtext_encode(plain, text, sizeof(text)), xtext.size);
        assert_true(slice_equal(slice_of(text, xtext.size), xtext));
        assert_int_equal(smtp_xtext_decode(xtext, bytes), plain.size);
        assert_true(slice_equal(slice_of(bytes, plain.size), plain));
    }
    char few[2] = {'x', 'x'};
    assert_int_equal(smtp_xtext_encode(slice_text("+"), few, sizeof(few)), 3);
    assert_true(few[0] == 'x' && few[1] == 'x');
}

static void what_is_no_xtext_is_not_decoded(void **state)
{
    static const char *const wrong[] = {"a=b", "+", "+4", "+4g", "+ff", "a b", "\t", "\303\244"};
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint8_t bytes[16];
        assert_int_equal(smtp_xtext_decode(slice_text(wrong[i]), bytes), -1);
    }
}

static void notify_is_never_alone_or_each_of_the_others_once(void **state)
{
    static const struct {
        const char *value;
        uint8_t notify; /* 0: wrong */
        const char *written;
    } values[] = {
        {"NEVER", 1, "NEVER"},
        {"success", 2, "SUCCESS"},
        {"Failure,DELAY", 12, "FAILURE,DELAY"},
        {"DELAY,SUCCESS,FAILURE", 14, "SUCCESS,FAILURE,DELAY"},
        {"SUCCESS,DELAY", 10, "SUCCESS,DELAY"},
        {"", 0, ""},
        {"NEVER,FAILURE", 0, ""},
        {"FAILURE,FAILURE", 0, ""},
        {"FAILURE,", 0, ""},
        {",FAILURE", 0, ""},
        {"FAILURE DELAY", 0, ""},
        {"ALWAYS", 0, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        uint8_t notify;
        bool good = smtp_notify_parse(slice_text(values[i].value), &notify);
        assert_int_equal(good, values[i].notify != 0);
        if (good) {
            assert_int_equal(notify, values[i].notify);
            assert_string_equal(smtp_notify_text(notify), values[i].written);
        }
    }
}

static void an_envelope_id_is_printable_and_short(void **state)
{
    char text[SMTP_ENVID_BYTES_MAX + 2];
    (void)state;
    memset(text, 'x', sizeof(text));
    assert_true(smtp_envid_valid(slice_of(text, SMTP_ENVID_BYTES_MAX)));
    assert_false(smtp_envid_valid(slice_of(text, SMTP_ENVID_BYTES_MAX + 1)));
    assert_true(smtp_envid_valid(slice_text("QQ+20314159")));
    assert_false(smtp_envid_valid(slice_text("")));
    assert_false(
        smtp_envid_valid(slice_text("a+0D+0ABcc:"))); /* would be a header line of the report */
    assert_false(smtp_envid_valid(slice_text("a=b")));
}

static void an_original_recipient_has_a_type_and_xtext(void **state)
{
    char text[SMTP_ORCPT_BYTES_MAX + 2] = "rfc822;";
    struct slice type, xtext;
    (void)state;
    memset(text + 7, 'x', sizeof(text) - 7);
    assert_true(smtp_orcpt_valid(slice_of(text, SMTP_ORCPT_BYTES_MAX), false));
    assert_false(smtp_orcpt_valid(slice_of(text, SMTP_ORCPT_BYTES_MAX + 1), false));
    assert_true(smtp_orcpt_valid(slice_text("rfc822;a+2Bb@c.test"), false));
    assert_true(smtp_orcpt_valid(slice_text("utf-8;j\\x{F6}rg@c.test"), false));
    assert_false(smtp_orcpt_valid(slice_text("utf-8;j\303\266rg@c.test"), false));
    assert_true(smtp_orcpt_valid(slice_text("utf-8;j\303\266rg@c.test"), true));
    assert_false(smtp_orcpt_valid(slice_text("utf-8;j\303@c.test"), true));
    assert_false(smtp_orcpt_valid(slice_text("rfc822;j\303\266rg@c.test"), true));
    assert_false(smtp_orcpt_valid(slice_text("rfc822;"), false));
    assert_false(smtp_orcpt_valid(slice_text("a@b"), false));
    assert_false(smtp_orcpt_valid(slice_text(";a@b"), false));
    assert_false(smtp_orcpt_valid(slice_text("rfc822;a+0Ab"), false));
    assert_false(smtp_orcpt_valid(slice_text("rfc 822;a"), false));
    smtp_orcpt_split(slice_text("X.400;C=us;x"), &type, &xtext);
    assert_true(slice_equal(type, slice_text("X.400")) && slice_equal(xtext, slice_text("C=us;x")));
}

/* ---- The server ---- */

#define MAIL "EHLO c\r\nMAIL FROM:<a@c.test>"
#define RCPT MAIL "\r\nRCPT TO:<b@x.test>"

static void the_server_takes_what_is_right_and_says_what_is_wrong(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("all of them",
               MAIL " RET=HDRS ENVID=QQ+3D1 SIZE=3\r\nRCPT TO:<b@x.test> NOTIFY=SUCCESS,DELAY "
                    "ORCPT=rfc822;b@x.test\r\n",
               "220 250 250 250", ""),
        SCRIPT("small letters", MAIL " ret=full\r\nRCPT TO:<b@x> notify=never\r\n",
               "220 250 250 250", ""),
        SCRIPT("RET", MAIL " RET=ALL\r\n", "220 250 501", ""),
        SCRIPT("RET without a value", MAIL " RET\r\n", "220 250 501", ""),
        SCRIPT("RET twice", MAIL " RET=FULL RET=FULL\r\n", "220 250 501", ""),
        SCRIPT("ENVID", MAIL " ENVID=a=b\r\n", "220 250 501", ""),
        SCRIPT("an empty ENVID", MAIL " ENVID=\r\n", "220 250 501", ""),
        SCRIPT("NOTIFY", RCPT " NOTIFY=NEVER,DELAY\r\n", "220 250 250 501", ""),
        SCRIPT("NOTIFY twice", RCPT " NOTIFY=DELAY NOTIFY=DELAY\r\n", "220 250 250 501", ""),
        SCRIPT("ORCPT", RCPT " ORCPT=b@x.test\r\n", "220 250 250 501", ""),
        SCRIPT("each at its command", RCPT " RET=FULL\r\n", "220 250 250 555", ""),
        SCRIPT("a wrong one leaves the transaction as it was",
               RCPT " NOTIFY=\r\nRCPT TO:<b@x.test>\r\nDATA\r\n", "220 250 250 501 250 354", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.dsn = true;
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void without_the_extension_nothing_of_it_is_known(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("MAIL", MAIL " RET=FULL\r\n", "220 250 555", ""),
        SCRIPT("RCPT", RCPT " NOTIFY=NEVER\r\n", "220 250 250 555", ""),
    };
    struct smtp_script_run *run = calloc(1, sizeof(*run));
    (void)state;
    assert_non_null(run);
    smtp_script_settings(&run->settings);
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &run->settings);
    smtp_script_play(run, "EHLO c\r\n", 8, SMTP_SCRIPT_WHOLE);
    assert_null(strstr(run->replies, "DSN"));
    run->replies_size = 0;
    run->settings.dsn = true;
    smtp_script_play(run, "EHLO c\r\n", 8, SMTP_SCRIPT_WHOLE);
    assert_non_null(strstr(run->replies, "250-DSN\r\n"));
    free(run);
}

/* Feeds one command; returns its event. */
static struct smtp_event command(struct smtp_server *server, const char *line)
{
    struct smtp_event event = {.kind = SMTP_EVENT_NONE};
    struct slice rest = slice_text(line);
    while (rest.size > 0 && event.kind == SMTP_EVENT_NONE) {
        size_t used = 0;
        smtp_server_input(server, 1, rest, &used, &event);
        rest = slice_from(rest, used);
        smtp_server_sent(server, smtp_server_output(server).size);
    }
    if (event.kind == SMTP_EVENT_CONNECTED) {
        smtp_server_verdict(server, NULL);
        return command(server, line);
    }
    return event;
}

static void an_event_says_what_the_client_wants_and_the_next_one_nothing_of_it(void **state)
{
    struct smtp_server_settings settings;
    struct smtp_server server;
    struct smtp_event event;
    (void)state;
    smtp_script_settings(&settings);
    settings.dsn = true;
    smtp_server_open(&server, &settings, 1);
    assert_int_equal(command(&server, "EHLO c\r\n").kind, SMTP_EVENT_HELO);
    event = command(&server, "MAIL FROM:<a@c> RET=HDRS ENVID=QQ+3D1\r\n");
    assert_int_equal(event.kind, SMTP_EVENT_SENDER);
    assert_int_equal(event.ret, SMTP_RET_HDRS);
    assert_true(slice_equal(event.envid, slice_text("QQ+3D1")));
    smtp_server_verdict(&server, NULL);
    event = command(&server, "RCPT TO:<b@x> ORCPT=rfc822;o@x NOTIFY=DELAY\r\n");
    assert_int_equal(event.kind, SMTP_EVENT_RECIPIENT);
    assert_int_equal(event.notify, SMTP_NOTIFY_DELAY);
    assert_true(slice_equal(event.orcpt, slice_text("rfc822;o@x")));
    smtp_server_verdict(&server, NULL);
    event = command(&server, "RCPT TO:<c@x>\r\n");
    assert_int_equal(event.kind, SMTP_EVENT_RECIPIENT);
    assert_int_equal(event.notify, 0);
    assert_int_equal(event.orcpt.size, 0);
}

/* ---- The client ---- */

#define GREET "S: 220 b.test ESMTP\nC: EHLO relay.test\n"

static void wishes_go_on_to_a_server_that_knows_them(void **state)
{
    static const struct transcript transcripts[] = {
        {.name = "all of them",
         .envid = "QQ+3D1",
         .ret = SMTP_RET_FULL,
         .orcpt = "rfc822;o@x",
         .notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE,
         .recipients = "one@b.test|two@b.test",
         .lines = GREET "S: 250-b.test\nS: 250-PIPELINING\nS: 250 DSN\nW: message\n> begin\n"
                        "C: MAIL FROM:<sender@a.test> RET=FULL ENVID=QQ+3D1\n"
                        "C: RCPT TO:<one@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@x\n"
                        "C: RCPT TO:<two@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@x\n"
                        "C: DATA\n"},
        {.name = "none are invented",
         .lines = GREET "S: 250-b.test\nS: 250 DSN\nW: message\n> begin\n"
                        "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\n"},
        {.name = "one that does not know them gets none",
         .envid = "QQ+3D1",
         .ret = SMTP_RET_HDRS,
         .orcpt = "rfc822;o@x",
         .notify = SMTP_NOTIFY_NEVER,
         .lines = GREET "S: 250 b.test\nW: message\n> begin\n"
                        "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\n"},
        {.name = "what would be a command of its own is not sent",
         .envid = "a\r\nRSET",
         .orcpt = "rfc822;o@x\r\nQUIT",
         .notify = SMTP_NOTIFY_DELAY,
         .lines = GREET
         "S: 250-b.test\nS: 250 DSN\nW: message\n> begin\n"
         "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test> NOTIFY=DELAY\n"},
    };
    (void)state;
    PLAY(transcripts);
}

static void an_original_recipient_is_made_of_an_address(void **state)
{
    static const struct {
        const char *mailbox, *orcpt;
    } cases[] = {
        {"u@a.test", "rfc822;u@a.test"},
        {"u+x=1@a.test", "rfc822;u+2Bx+3D1@a.test"},
        {"\"a b\"@c.test", "rfc822;\"a+20b\"@c.test"},
        {"j\303\266rg+x@b\303\274.test", "utf-8;j\\x{F6}rg\\x{2B}x@b\\x{FC}.test"},
        {"\360\237\230\200\\@b.test", "utf-8;\\x{1F600}\\x{5C}@b.test"},
        {"bad\377@b.test", ""},
        {"", ""},
    };
    char orcpt[SMTP_ORCPT_BYTES_MAX], large[SMTP_ORCPT_BYTES_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice made = slice_of(orcpt, smtp_orcpt_make(slice_text(cases[i].mailbox), orcpt));
        assert_int_equal(made.size, strlen(cases[i].orcpt));
        assert_memory_equal(orcpt, cases[i].orcpt, made.size);
        assert_true(made.size == 0 || smtp_orcpt_valid(made, false));
    }
    memset(large, '=', sizeof(large));
    assert_int_equal(smtp_orcpt_make(slice_of(large, 164), orcpt), 7 + 3 * 164);
    assert_int_equal(smtp_orcpt_make(slice_of(large, 165), orcpt), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xtext_goes_both_ways),
        cmocka_unit_test(what_is_no_xtext_is_not_decoded),
        cmocka_unit_test(notify_is_never_alone_or_each_of_the_others_once),
        cmocka_unit_test(an_envelope_id_is_printable_and_short),
        cmocka_unit_test(an_original_recipient_has_a_type_and_xtext),
        cmocka_unit_test(an_original_recipient_is_made_of_an_address),
        cmocka_unit_test(the_server_takes_what_is_right_and_says_what_is_wrong),
        cmocka_unit_test(without_the_extension_nothing_of_it_is_known),
        cmocka_unit_test(an_event_says_what_the_client_wants_and_the_next_one_nothing_of_it),
        cmocka_unit_test(wishes_go_on_to_a_server_that_knows_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
