/* The server machine and STARTTLS: RFC 3207. */
#include "tests/unit/smtp_script.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void starttls_is_answered_where_it_makes_sense(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("once", "EHLO c\r\nSTARTTLS\r\n", "220 250 220", ""),
        SCRIPT("too early", "STARTTLS\r\nQUIT\r\n", "220 503 221", ""),
        SCRIPT("with words", "EHLO c\r\nSTARTTLS now\r\nQUIT\r\n", "220 250 501 221", ""),
        SCRIPT("in a chunked message", ENVELOPE "BDAT 2\r\nhiSTARTTLS\r\nBDAT 0 LAST\r\nQUIT\r\n",
               "220 250 250 250 250 503 250 221", "hi\r\n|"),
    };
    static const struct smtp_script unknown =
        SCRIPT("not offered", "EHLO c\r\nSTARTTLS\r\nQUIT\r\n", "220 250 502 221", "");
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    smtp_scripts_check(&unknown, 1, &settings);
    settings.starttls = true;
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void what_follows_starttls_in_the_clear_is_never_looked_at(void **state)
{
    static struct smtp_script_run run;
    static const char text[] = "EHLO evil\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nQUIT\r\n";
    char codes[256];
    (void)state;
    smtp_script_settings(&run.settings);
    run.settings.starttls = true;
    smtp_script_play(&run, text, sizeof(text) - 1, SMTP_SCRIPT_WHOLE);
    smtp_script_codes(&run, codes);
    assert_string_equal(codes, "220 250 220");
    assert_int_equal(run.secured, 1);
}

static void what_was_said_in_the_clear_is_forgotten(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    struct smtp_event event;
    struct smtp_script_run run = {0};
    size_t used;
    (void)state;
    smtp_script_settings(&settings);
    settings.starttls = true;
    smtp_server_open(&server, &settings, 0);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    smtp_script_feed(&run, &server, slice_text("EHLO before\r\n"));
    assert_non_null(strstr(run.replies, "250-STARTTLS\r\n"));
    smtp_script_feed(&run, &server, slice_text("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"));
    assert_string_equal(smtp_server_protocol(&server), "ESMTP");
    smtp_script_feed(&run, &server, slice_text("STARTTLS\r\n"));
    assert_int_equal(run.secured, 1);
    assert_int_equal(run.resets, 1);
    assert_int_equal(smtp_server_helo(&server).size, 0);
    size_t before = run.replies_size;
    smtp_script_feed(&run, &server, slice_text("MAIL FROM:<a@b.test>\r\nEHLO after\r\n"));
    assert_memory_equal(run.replies + before, "503 5.5.1 Say hello first\r\n250-", 31);
    assert_null(strstr(run.replies + before, "STARTTLS"));
    assert_string_equal(smtp_server_protocol(&server), "ESMTPS");
    smtp_server_input(&server, 1, slice_text("STARTTLS\r\n"), &used, &event);
    assert_memory_equal(smtp_server_output(&server).bytes, "503 5.5.1 TLS is active already", 31);
}

static void where_tls_is_required_no_transaction_begins_in_the_clear(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("530",
               "NOOP\r\nEHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@x.test>\r\nVRFY a\r\nRSET\r\n",
               "220 250 250 530 530 530 250", ""),
        SCRIPT("a chunk is got past", "EHLO c\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\nQUIT\r\n",
               "220 250 503 250 221", ""),
        SCRIPT("DATA", "EHLO c\r\nDATA\r\n", "220 250 503", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.starttls = settings.tls_only = true;
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void where_required_tls_cannot_be_had_the_client_comes_again(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("454", "EHLO c\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nVRFY a\r\nQUIT\r\n",
               "220 250 454 454 454 221", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    settings.tls_only = true;
    smtp_scripts_check(scripts, sizeof(scripts) / sizeof(*scripts), &settings);
}

static void a_session_may_be_encrypted_from_the_start(void **state)
{
    struct smtp_server server;
    struct smtp_server_settings settings;
    struct smtp_script_run run = {0};
    (void)state;
    smtp_script_settings(&settings);
    settings.starttls = settings.tls_only = true;
    smtp_server_open(&server, &settings, 0);
    smtp_server_secured(&server, 1000);
    assert_int_equal(smtp_server_deadline(&server), 1300);
    smtp_script_feed(&run, &server, slice_of(NULL, 0));
    smtp_script_feed(&run, &server, slice_text("EHLO c\r\nMAIL FROM:<a@b.test>\r\n"));
    assert_null(strstr(run.replies, "STARTTLS"));
    assert_non_null(strstr(run.replies, "250 2.0.0 Ok\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starttls_is_answered_where_it_makes_sense),
        cmocka_unit_test(what_follows_starttls_in_the_clear_is_never_looked_at),
        cmocka_unit_test(what_was_said_in_the_clear_is_forgotten),
        cmocka_unit_test(where_tls_is_required_no_transaction_begins_in_the_clear),
        cmocka_unit_test(where_required_tls_cannot_be_had_the_client_comes_again),
        cmocka_unit_test(a_session_may_be_encrypted_from_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
