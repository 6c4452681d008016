/* The server machine and AUTH: RFC 4954. */
#include "tests/unit/smtp_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define AUTH_TIM "AUTH PLAIN AHRpbQBzZWNyZXQ=\r\n"
#define TIM "AHRpbQBzZWNyZXQ="   /* NUL tim NUL secret */
#define WRONG "AHRpbQB3cm9uZw==" /* NUL tim NUL wrong */
#define SECRET "c2VjcmV0"
#define PACKETS_MAX 12

/* What the client sends, each packet when it has the answers to those before. */
struct dialogue {
    const char *why, *packets[PACKETS_MAX], *codes;
};

static struct smtp_script_run run;

/* Each packet in pieces of `cut` octets; the answers go out when it has come whole, as the relay has it. */
static void play(const struct dialogue *dialogue, const struct smtp_server_settings *settings,
                 enum smtp_auth demand, size_t cut)
{
    static struct smtp_server server;
    memset(&run, 0, sizeof(run));
    run.settings = *settings;
    smtp_server_open(&server, &run.settings, 0);
    smtp_server_offer_auth(&server, slice_text("PLAIN LOGIN"), demand);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    for (unsigned i = 0; i < PACKETS_MAX && dialogue->packets[i] != NULL && !run.closed; i++) {
        const char *text = dialogue->packets[i];
        for (size_t left = strlen(text); left > 0 && !run.closed;) {
            size_t step = cut == 0 || left < cut ? left : cut;
            char *copy = malloc(step); /* so that a read beyond it is seen */
            memcpy(copy, text, step);
            smtp_script_feed(&run, &server, slice_of(copy, step));
            free(copy);
            text += step;
            left -= step;
        }
    }
    free(run.lent);
}

static void dialogues_check(const struct dialogue *dialogues, size_t count,
                            const struct smtp_server_settings *settings, enum smtp_auth demand)
{
    char codes[512];
    for (size_t i = 0; i < count; i++) {
        for (size_t cut = 0; cut < 40; cut++) {
            play(&dialogues[i], settings, demand, cut);
            smtp_script_codes(&run, codes);
            if (strcmp(codes, dialogues[i].codes) != 0) {
                print_error("%s (cut %zu)\n%s\n", dialogues[i].why, cut, run.replies);
            }
            assert_string_equal(codes, dialogues[i].codes);
        }
    }
}
#define CHECK_ALL(dialogues, settings, demand)                                                     \
    dialogues_check(dialogues, sizeof(dialogues) / sizeof(*(dialogues)), settings, demand)

static void exchanges_end_with_their_verdict_however_they_are_cut(void **state)
{
    static const struct dialogue dialogues[] = {
        {"at once", {"EHLO c\r\n", "AUTH PLAIN " TIM "\r\n", "NOOP\r\n"}, "220 250 235 250"},
        {"in two steps", {"EHLO c\r\n", "AUTH PLAIN\r\n", TIM "\r\n"}, "220 250 334 235"},
        {"small letters", {"EHLO c\r\n", "auth PLAIN " TIM "\r\n"}, "220 250 235"},
        {"after HELO, too", {"HELO c\r\n", "AUTH PLAIN " TIM "\r\n"}, "220 250 235"},
        {"LOGIN",
         {"EHLO c\r\n", "AUTH LOGIN\r\n", "dGlt\r\n", SECRET "\r\n"},
         "220 250 334 334 235"},
        {"LOGIN with the name",
         {"EHLO c\r\n", "AUTH LOGIN dGlt\r\n", SECRET "\r\n"},
         "220 250 334 235"},
        {"wrong, then right",
         {"EHLO c\r\n", "AUTH PLAIN " WRONG "\r\n", "AUTH PLAIN " TIM "\r\n"},
         "220 250 535 235"},
        {"an empty initial response", {"EHLO c\r\n", "AUTH PLAIN =\r\n"}, "220 250 535"},
        {"an empty answer",
         {"EHLO c\r\n", "AUTH PLAIN\r\n", "\r\n", "NOOP\r\n"},
         "220 250 334 535 250"},
        {"given up", {"EHLO c\r\n", "AUTH PLAIN\r\n", "*\r\n", "NOOP\r\n"}, "220 250 334 501 250"},
        {"no base64",
         {"EHLO c\r\n", "AUTH PLAIN\r\n", "dGl\r\n", "NOOP\r\n"},
         "220 250 334 501 250"},
        {"no base64 at once", {"EHLO c\r\n", "AUTH PLAIN **\r\n", "NOOP\r\n"}, "220 250 501 250"},
        {"a command for an answer",
         {"EHLO c\r\n", "AUTH PLAIN\r\n", "QUIT now\r\n", "NOOP\r\n"},
         "220 250 334 501 250"},
        {"bare newline",
         {"EHLO c\r\n", "AUTH PLAIN\r\n", TIM "\n", "NOOP\r\n"},
         "220 250 334 500 250"},
        {"unknown", {"EHLO c\r\n", "AUTH KERBEROS_V4\r\n", "NOOP\r\n"}, "220 250 504 250"},
        {"no mechanism", {"EHLO c\r\n", "AUTH\r\n", "AUTH \r\n"}, "220 250 501 501"},
        {"too many words",
         {"EHLO c\r\n", "AUTH PLAIN " TIM " x\r\n", "AUTH PLAIN \r\n"},
         "220 250 501 501"},
        {"too early", {"AUTH PLAIN " TIM "\r\n"}, "220 503"},
        {"twice",
         {"EHLO c\r\n", "AUTH PLAIN " TIM "\r\n", "AUTH PLAIN " TIM "\r\n"},
         "220 250 235 503"},
        {"in a transaction",
         {"EHLO c\r\n", "MAIL FROM:<a@c>\r\n", "AUTH PLAIN " TIM "\r\n", "RCPT TO:<b@x>\r\n"},
         "220 250 250 503 250"},
        {"a challenge that has no room",
         {"EHLO c\r\n", "AUTH LOUD\r\n", "NOOP\r\n"},
         "220 250 535 250"},
        {"EHLO again keeps it",
         {"EHLO c\r\n", "AUTH PLAIN " TIM "\r\n", "EHLO c\r\n", "AUTH PLAIN " TIM "\r\n"},
         "220 250 235 250 503"},
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK_ALL(dialogues, &settings, SMTP_AUTH_OFFERED);
}

/* Who does not wait for the answer to AUTH may have sent a password where we see a command. */
static void nothing_may_follow_in_the_same_group(void **state)
{
    static const struct dialogue dialogues[] = {
        {"a command",
         {"EHLO c\r\n", "AUTH PLAIN " TIM "\r\nMAIL FROM:<a@c>\r\n", "NOOP\r\n"},
         "220 250 235 421"},
        {"a guessed answer", {"EHLO c\r\n", "AUTH PLAIN\r\n" TIM "\r\n"}, "220 250 334 421"},
        {"guessed answers",
         {"EHLO c\r\n", "AUTH LOGIN\r\n", "dGlt\r\n" SECRET "\r\n"},
         "220 250 334 334 421"},
        {"but it may follow",
         {"EHLO c\r\nNOOP\r\nAUTH PLAIN " TIM "\r\n", "NOOP\r\n"},
         "220 250 250 235 250"},
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    for (size_t i = 0; i < sizeof(dialogues) / sizeof(*dialogues); i++) {
        char codes[256];
        static struct smtp_server server;
        memset(&run, 0, sizeof(run));
        run.settings = settings;
        run.unsent = true;
        smtp_server_open(&server, &run.settings, 0);
        smtp_server_offer_auth(&server, slice_text("PLAIN"), SMTP_AUTH_OFFERED);
        for (unsigned p = 0; dialogues[i].packets[p] != NULL && !run.closed; p++) {
            smtp_script_feed(&run, &server, slice_text(dialogues[i].packets[p]));
            smtp_script_output(&run, &server);
        }
        smtp_script_codes(&run, codes);
        assert_string_equal(codes, dialogues[i].codes);
    }
}

static void where_it_is_demanded_no_mail_comes_before_it(void **state)
{
    static const struct dialogue dialogues[] = {
        {"every command",
         {"EHLO c\r\n", "NOOP\r\n", "RSET\r\n", "MAIL FROM:<a@c>\r\n", "RCPT TO:<a@c>\r\n",
          "VRFY a\r\n", "DATA\r\n", "QUIT\r\n"},
         "220 250 250 250 530 530 530 503 221"},
        {"afterwards",
         {"EHLO c\r\n", AUTH_TIM, "MAIL FROM:<a@c>\r\n", "RCPT TO:<b@x>\r\n", "DATA\r\n",
          "hi\r\n.\r\n"},
         "220 250 235 250 250 354 250"},
        {"not after a failure",
         {"EHLO c\r\n", "AUTH PLAIN " WRONG "\r\n", "MAIL FROM:<a@c>\r\n"},
         "220 250 535 530"},
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK_ALL(dialogues, &settings, SMTP_AUTH_DEMANDED);
}

static void where_tls_is_demanded_it_comes_first(void **state)
{
    static const struct dialogue dialogues[] = {
        {"in the clear", {"EHLO c\r\n", "AUTH PLAIN " TIM "\r\n"}, "220 250 530"},
        {"STARTTLS after it is none",
         {"EHLO c\r\n", "STARTTLS\r\n", "EHLO c\r\n", AUTH_TIM, "STARTTLS\r\n"},
         "220 250 220 250 235 503"},
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.starttls = settings.tls_only = true;
    CHECK_ALL(dialogues, &settings, SMTP_AUTH_OFFERED);
}

static void what_it_has_said_is_written_in_its_trace(void **state)
{
    static struct smtp_server server;
    struct smtp_server_settings settings;
    (void)state;
    memset(&run, 0, sizeof(run));
    smtp_script_settings(&settings);
    settings.starttls = true;
    smtp_server_open(&server, &settings, 0);
    smtp_server_offer_auth(&server, slice_of(NULL, 0), SMTP_AUTH_OFFERED);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    smtp_script_feed(&run, &server, slice_text("EHLO c\r\n"));
    assert_null(strstr(run.replies, "AUTH")); /* nothing could be used: it is not announced */
    smtp_script_feed(&run, &server, slice_text("STARTTLS\r\n"));
    smtp_server_offer_auth(&server, slice_text("PLAIN LOGIN"), SMTP_AUTH_OFFERED);
    smtp_script_feed(&run, &server, slice_text("EHLO c\r\n"));
    assert_non_null(strstr(run.replies, "250-AUTH PLAIN LOGIN\r\n"));
    assert_string_equal(smtp_server_protocol(&server), "ESMTPS");
    smtp_script_feed(&run, &server, slice_text("AUTH PLAIN " TIM "\r\n"));
    assert_string_equal(smtp_server_protocol(&server), "ESMTPSA");
    smtp_script_feed(&run, &server, slice_text("MAIL FROM:<a@b.test> SMTPUTF8\r\n"));
    assert_string_equal(smtp_server_protocol(&server), "UTF8SMTPSA");
}

/* "AUTH LONG" and so many octets, at once or as an answer. */
static const char *long_exchange(size_t octets, bool at_once, size_t cut)
{
    static char text[20000], codes[256];
    struct dialogue dialogue = {.packets = {"EHLO c\r\n"}};
    struct smtp_server_settings settings;
    smtp_script_settings(&settings);
    char *at = text + sprintf(text, "%s", at_once ? "AUTH LONG " : "");
    for (size_t i = 0; i < octets / 6; i++, at += 8) {
        memcpy(at, "b2N0ZXRz", 8);
    }
    memcpy(at, "\r\n", 3);
    dialogue.packets[1] = at_once ? text : "AUTH LOGIN\r\n";
    dialogue.packets[2] = at_once ? "NOOP\r\n" : text;
    play(&dialogue, &settings, SMTP_AUTH_OFFERED, cut);
    smtp_script_codes(&run, codes);
    return codes;
}

/* Tokens are longer than commands; RFC 4954 §4 wants 12,288 octets of base64. */
static void a_line_may_be_longer_than_a_command(void **state)
{
    static const size_t cuts[] = {0, 1, 2, 3, 4, 5, 6, 7, 500, 2000, 2047, 2048, 2049, 2050, 5000};
    (void)state;
    for (size_t i = 0; i < sizeof(cuts) / sizeof(*cuts); i++) {
        assert_string_equal(long_exchange(1200, true, cuts[i]), "220 250 235 250");
        assert_string_equal(long_exchange(3000, true, cuts[i]), "220 250 235 250");
        assert_int_equal(run.auth_ends, 0);
        assert_string_equal(long_exchange(9216, true, cuts[i]), "220 250 235 250");
        assert_string_equal(long_exchange(9216, false, cuts[i]), "220 250 334 334");
        assert_string_equal(long_exchange(9600, false, cuts[i]), "220 250 334 500");
        assert_non_null(strstr(run.replies, "500 5.5.6 "));
        assert_int_equal(run.auth_ends, 1);
        assert_string_equal(long_exchange(9600, true, cuts[i]), "220 250 500 250");
        assert_non_null(strstr(run.replies, "500 5.5.6 "));
    }
}

static void what_was_secret_is_not_left_behind(void **state)
{
    static const struct dialogue dialogues[] = {
        {"in one packet", {"EHLO c\r\n", "AUTH PLAIN " TIM "\r\n"}, ""},
        {"in two steps", {"EHLO c\r\n", "AUTH PLAIN\r\n", TIM "\r\n"}, ""},
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    for (unsigned i = 0; i < 4; i++) {
        static struct smtp_server server;
        memset(&run, 0, sizeof(run));
        run.settings = settings;
        smtp_server_open(&server, &run.settings, 0);
        smtp_server_offer_auth(&server, slice_text("PLAIN"), SMTP_AUTH_OFFERED);
        smtp_script_feed(&run, &server, slice_of(NULL, 0));
        for (unsigned p = 0; p < PACKETS_MAX && dialogues[i / 2].packets[p] != NULL; p++) {
            struct slice packet = slice_text(dialogues[i / 2].packets[p]);
            size_t first = i % 2 == 0 ? packet.size : packet.size - 3;
            smtp_script_feed(&run, &server, slice_first(packet, first));
            smtp_script_feed(&run, &server, slice_from(packet, first));
        }
        assert_non_null(strstr(run.replies, "235 "));
        assert_null(memmem(&server, sizeof(server), "secret", 6));
        assert_null(memmem(&server, sizeof(server), "AHRpbQ", 6));
    }
}

/* RFC 4954 §5. */
static void the_submitter_is_read_where_auth_is_known(void **state)
{
    static const struct smtp_script known[] = {
        SCRIPT("nobody", "EHLO c\r\nMAIL FROM:<a@c> AUTH=<>\r\n", "220 250 250", ""),
        SCRIPT("somebody", "EHLO c\r\nMAIL FROM:<a@c> AUTH=tim+40x.test\r\n", "220 250 250", ""),
        SCRIPT("no xtext", "EHLO c\r\nMAIL FROM:<a@c> AUTH=tim+4\r\n", "220 250 501", ""),
        SCRIPT("no value", "EHLO c\r\nMAIL FROM:<a@c> AUTH=\r\nMAIL FROM:<a@c> AUTH\r\n",
               "220 250 501 501", ""),
        SCRIPT("twice", "EHLO c\r\nMAIL FROM:<a@c> AUTH=<> AUTH=<>\r\n", "220 250 501", ""),
    };
    static const struct smtp_script unknown =
        SCRIPT("unknown", "EHLO c\r\nMAIL FROM:<a@c> AUTH=<>\r\n", "220 250 555", "");
    char codes[256];
    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        memset(&run, 0, sizeof(run));
        smtp_script_settings(&run.settings);
        run.auth = true;
        smtp_script_play(&run, known[i].input, known[i].size, SMTP_SCRIPT_WHOLE);
        smtp_script_codes(&run, codes);
        assert_string_equal(codes, known[i].codes);
    }
    smtp_scripts_check(&unknown, 1, &run.settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_end_with_their_verdict_however_they_are_cut),
        cmocka_unit_test(nothing_may_follow_in_the_same_group),
        cmocka_unit_test(where_it_is_demanded_no_mail_comes_before_it),
        cmocka_unit_test(where_tls_is_demanded_it_comes_first),
        cmocka_unit_test(what_it_has_said_is_written_in_its_trace),
        cmocka_unit_test(a_line_may_be_longer_than_a_command),
        cmocka_unit_test(what_was_secret_is_not_left_behind),
        cmocka_unit_test(the_submitter_is_read_where_auth_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
