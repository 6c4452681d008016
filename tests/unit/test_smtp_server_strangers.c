/* The server machine, what it does not offer, and clients that are none: docs/cases.md. */
#include "tests/unit/smtp_flood.h"
#include "tests/unit/smtp_script.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void nothing_is_disclosed(void **state)
{
    static struct smtp_script_run run;
    static const char *const addresses[] = {
        "root", "b@x.test", "unknown@x.test", "<unknown@x.test>", "\"; id\"", "%s%n"};
    static char first[SMTP_SCRIPT_TEXT_BYTES];
    static const struct smtp_script scripts[] = {
        SCRIPT("EXPN", "EHLO c\r\nEXPN staff\r\nEXPN\r\nNOOP\r\n", "220 250 502 502 250", ""),
        SCRIPT("HELP", "HELP me %s%n `id` \xff\r\nHELP \x1b[2J\r\nNOOP\r\n", "220 214 501 250", ""),
        SCRIPT("VRFY with control octets", "VRFY a\0b\r\nVRFY \x1b\r\nNOOP\r\n", "220 501 501 250",
               ""),
    };
    (void)state;
    for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++) {
        char input[100];
        int size = snprintf(input, sizeof(input), "EHLO c\r\nVRFY %s\r\n", addresses[i]);
        smtp_script_settings(&run.settings);
        smtp_script_play(&run, input, (size_t)size, SMTP_SCRIPT_WHOLE);
        assert_non_null(strstr(run.replies, "\r\n252 "));
        if (i == 0) {
            memcpy(first, run.replies, sizeof(first));
        }
        assert_string_equal(run.replies, first);
    }
    CHECK(scripts, &run.settings);
}

static void auth_is_refused_in_sync_and_nothing_of_it_is_looked_at(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("with a first response", "EHLO c\r\nAUTH PLAIN AGEAYg==\r\nNOOP\r\n",
               "220 250 502 250", ""),
        SCRIPT("bad base64", "EHLO c\r\nAUTH PLAIN ====\r\nAUTH PLAIN \"';--\r\nNOOP\r\n",
               "220 250 502 502 250", ""),
        SCRIPT("a dialogue that was not begun",
               "EHLO c\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\n*\r\nNOOP\r\n",
               "220 250 502 500 500 500 250", ""),
        SCRIPT("twice", "EHLO c\r\nAUTH PLAIN AGEAYg==\r\nAUTH PLAIN AGEAYg==\r\nNOOP\r\n",
               "220 250 502 502 250", ""),
        SCRIPT("inside a transaction", ENVELOPE "AUTH PLAIN eABhAGI=\r\nDATA\r\nx\r\n.\r\n",
               "220 250 250 250 502 354 250", "x\r\n|"),
        SCRIPT("between chunks", ENVELOPE "BDAT 3\r\nx\r\nAUTH PLAIN AGEAYg==\r\nBDAT 0 LAST\r\n",
               "220 250 250 250 250 503 250", "x\r\n|"),
        SCRIPT("NULs", "EHLO c\r\nAUTH PLAIN \0a\0b\r\nNOOP\r\n", "220 250 501 250", ""),
        SCRIPT("as a parameter of MAIL", "EHLO c\r\nMAIL FROM:<a@c> AUTH=<>\r\nNOOP\r\n",
               "220 250 555 250", ""),
    };
    static char piece[1 << 16];
    struct smtp_server_settings settings;
    static struct smtp_script_run run;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(scripts, &settings);
    run.settings = settings;
    smtp_script_play(&run, "EHLO c\r\n", 8, SMTP_SCRIPT_WHOLE);
    assert_null(strstr(run.replies, "AUTH"));
    memset(piece, 'A', sizeof(piece));
    struct smtp_flood *flood = smtp_flood_open();
    smtp_flood_say(flood, "EHLO c\r\nAUTH PLAIN ");
    for (unsigned i = 0; i < 16; i++) {
        smtp_flood_feed(flood, slice_of(piece, sizeof(piece)));
    }
    smtp_flood_say(flood, "\r\nNOOP\r\n");
    assert_int_equal(flood->codes[500], 1);
    assert_int_equal(flood->codes[250], 2);
    smtp_flood_repeat(flood, "AUTH PLAIN AGEAYg==\r\n",
                      1000); /* as an error each, so not a thousand times */
    assert_true(flood->closed);
    assert_true(flood->codes[502] < flood->settings.errors_max);
    free(flood);
}

static void auth_in_the_clear_is_refused_where_tls_is_required(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("before STARTTLS", "EHLO c\r\nAUTH PLAIN AGEAYg==\r\nAUTH LOGIN\r\nNOOP\r\n",
               "220 250 530 530 250", ""),
        SCRIPT("other commands", "EHLO c\r\nEXPN a\r\nETRN a\r\nXCLIENT ADDR=[::1]\r\nNOOP\r\n",
               "220 250 530 530 550 250", ""),
    };
    static const char together[] = "EHLO c\r\nSTARTTLS\r\nAUTH PLAIN AGEAYg==\r\n";
    static struct smtp_script_run run;
    char codes[256];
    (void)state;
    smtp_script_settings(&run.settings);
    run.settings.starttls = run.settings.tls_only = true;
    CHECK(scripts, &run.settings);
    smtp_script_play(&run, together, sizeof(together) - 1, SMTP_SCRIPT_WHOLE);
    smtp_script_codes(&run, codes);
    assert_string_equal(codes, "220 250 220");
    assert_int_equal(run.secured, 1);
}

static void other_protocols_get_one_answer_and_no_more(void **state)
{
#define FIELDS "Host: x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@x>\r\n\r\n"
    static const struct smtp_script scripts[] = {
        SCRIPT("GET", "GET / HTTP/1.1\r\n" FIELDS, "220 554", ""),
        SCRIPT("get", "get / HTTP/1.1\r\n" FIELDS, "220 554", ""),
        SCRIPT("POST", "POST /x HTTP/1.0\r\n" FIELDS, "220 554", ""),
        SCRIPT("PUT", "PUT /x HTTP/1.0\r\n" FIELDS, "220 554", ""),
        SCRIPT("CONNECT", "CONNECT x:25 HTTP/1.1\r\n" FIELDS, "220 554", ""),
        SCRIPT("OPTIONS", "OPTIONS * HTTP/1.1\r\n" FIELDS, "220 554", ""),
        SCRIPT("in a session", "EHLO c\r\nGET / HTTP/1.1\r\n" FIELDS, "220 250 554", ""),
        SCRIPT("between chunks", ENVELOPE "BDAT 3\r\nx\r\nPOST / HTTP/1.1\r\n" FIELDS,
               "220 250 250 250 250 554", ""),
        SCRIPT("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\nMAIL FROM:<a@b>\r\n",
               "220 554", ""),
        SCRIPT("PROXY", "PROXY TCP4 10.0.0.1 10.0.0.2 1 25\r\nEHLO c\r\n", "220 554", ""),
        SCRIPT("PROXY without end", "PROXY TCP4 10.0.0.1\r\nEHLO c\r\n", "220 554", ""),
        SCRIPT("PROXY of a wrong family", "PROXY UNIX a b\r\nEHLO c\r\n", "220 554", ""),
        SCRIPT("PROXY, version 2",
               "\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x19"
               "EHLO c\r\n",
               "220 500 500 554", ""),
        SCRIPT("PROXY, version 2, with a length that lies",
               "\r\n\r\n\0\r\nQUIT\n!\x21\xff\xff\x20\xff\xff"
               "EHLO c\r\n",
               "220 500 500 554", ""),
        SCRIPT("other binaries", "\0\0\0\x10\r\nEHLO c\r\n", "220 554", ""),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(scripts, &settings);
}

static void a_stranger_speaks_for_nobody_else(void **state)
{
    static const struct smtp_script scripts[] = {
        SCRIPT("XCLIENT", "EHLO c\r\nXCLIENT NAME=a.test ADDR=10.0.0.1\r\nNOOP\r\n",
               "220 250 550 250", ""),
        SCRIPT("XFORWARD", "EHLO c\r\nXFORWARD ADDR=10.0.0.1\r\nNOOP\r\n", "220 250 550 250", ""),
        SCRIPT("alone", "EHLO c\r\nXCLIENT\r\nXCLIENT LOGIN=root\r\nNOOP\r\n",
               "220 250 550 550 250", ""),
        SCRIPT("inside a transaction", ENVELOPE "XCLIENT ADDR=[::1]\r\nDATA\r\nx\r\n.\r\n",
               "220 250 250 250 550 354 250", "x\r\n|"),
    };
    struct smtp_server_settings settings;
    (void)state;
    smtp_script_settings(&settings);
    CHECK(scripts, &settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_disclosed),
        cmocka_unit_test(auth_is_refused_in_sync_and_nothing_of_it_is_looked_at),
        cmocka_unit_test(auth_in_the_clear_is_refused_where_tls_is_required),
        cmocka_unit_test(other_protocols_get_one_answer_and_no_more),
        cmocka_unit_test(a_stranger_speaks_for_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
