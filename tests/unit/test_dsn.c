#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "proto/dsn/cut.h"
#include "proto/dsn/dsn.h"

#define REPORT_BYTES_MAX 400000

struct report_bytes {
    char bytes[REPORT_BYTES_MAX];
    size_t size;
    unsigned fail_after; /* calls; 0: never */
    unsigned calls;
};

static int keep(void *owner, struct slice bytes)
{
    struct report_bytes *kept = owner;
    kept->calls++;
    if (kept->fail_after != 0 && kept->calls > kept->fail_after) {
        return -28;
    }
    assert_true(bytes.size > 0 && kept->size + bytes.size < sizeof(kept->bytes));
    memcpy(kept->bytes + kept->size, bytes.bytes, bytes.size);
    kept->size += bytes.size;
    kept->bytes[kept->size] = '\0';
    return 0;
}

static struct report_bytes built;

static const struct dsn_recipient one_refused = {
    .forward_path = {(const uint8_t *)"nobody@b.test", 13},
    .status = {5, 1, 1},
    .remote_mta = {(const uint8_t *)"mx.b.test", 9},
    .code = 550,
    .text = {(const uint8_t *)"5.1.1 no such user", 18},
};

static struct dsn_report report_of(const struct dsn_recipient *recipients, size_t count,
                                   const struct slice *original)
{
    return (struct dsn_report){
        .hostname = slice_text("relay.test"),
        .reverse_path = slice_text("sender@a.test"),
        .message_id = slice_text("00000000000B1"),
        .queue_id = slice_text("00000000000A1"),
        .arrival_wall_s = 1785575100,
        .expires_wall_s = 1785575100 + 5 * 86400,
        .now_wall_s = 1785575100 + 3600,
        .random = {0xde, 0xad, 0xbe, 0xef},
        .recipients = recipients,
        .recipient_count = count,
        .original = original,
        .original_count = original != NULL ? 1 : 0,
    };
}

/* Builds it, and checks what holds for each: CRLF lines, none too long, no lone dot, only one
 * boundary end. */
static void build(const struct dsn_report *report)
{
    memset(&built, 0, sizeof(built));
    assert_int_equal(dsn_build(report, keep, &built), 0);
    size_t line_bytes = 0;
    for (size_t i = 0; i < built.size; i++) {
        if (built.bytes[i] == '\n') {
            assert_true(i > 0 && built.bytes[i - 1] == '\r');
            assert_false(line_bytes == 2 && built.bytes[i - 2] == '.');
            assert_true(line_bytes <= 999);
            line_bytes = 0;
            continue;
        }
        assert_true(built.bytes[i] != '\r' || built.bytes[i + 1] == '\n');
        assert_true((uint8_t)built.bytes[i] >= ' ' || strchr("\r\t", built.bytes[i]) != NULL);
        assert_true(built.bytes[i] != 0x7f && built.bytes[i] != 0);
        if (line_bytes == 0 && built.bytes[i] == '.') {
            assert_int_equal(built.bytes[i + 1], '.');
        }
        line_bytes++;
    }
    assert_int_equal(line_bytes, 0);
    static const char end[] = "\r\n--=_deadbeef000000000000000000000000--\r\n";
    char *found = strstr(built.bytes, end);
    assert_non_null(found);
    assert_int_equal(found - built.bytes, built.size - strlen(end));
}

static void assert_holds(const char *text)
{
    if (strstr(built.bytes, text) == NULL) {
        fail_msg("the report does not hold\n%s\nbut is\n%s", text, built.bytes);
    }
}

static void assert_lacks(const char *text)
{
    if (strstr(built.bytes, text) != NULL) {
        fail_msg("the report holds\n%s\n%s", text, built.bytes);
    }
}

static void refused_recipient_is_reported_to_the_byte(void **state)
{
    (void)state;
    struct slice original = slice_text("Received: x\r\nSubject: hi\r\n\r\nbody is private\r\n");
    struct dsn_report report = report_of(&one_refused, 1, &original);
    build(&report);
    assert_string_equal(built.bytes,
                        "From: Mail Delivery System <MAILER-DAEMON@relay.test>\r\n"
                        "To: <sender@a.test>\r\n"
                        "Subject: Undelivered Mail Returned to Sender\r\n"
                        "Date: Sat, 01 Aug 2026 10:05:00 +0000\r\n"
                        "Message-ID: <00000000000B1@relay.test>\r\n"
                        "Auto-Submitted: auto-replied\r\n"
                        "MIME-Version: 1.0\r\n"
                        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                        "\tboundary=\"=_deadbeef000000000000000000000000\"\r\n"
                        "\r\n"
                        "This is a message in MIME format.\r\n"
                        "\r\n"
                        "--=_deadbeef000000000000000000000000\r\n"
                        "Content-Description: Notification\r\n"
                        "Content-Type: text/plain; charset=us-ascii\r\n"
                        "Content-Transfer-Encoding: 7bit\r\n"
                        "\r\n"
                        "This is the mail system at host relay.test.\r\n"
                        "\r\n"
                        "Your message could not be delivered to the recipients below, and will\r\n"
                        "not be tried again.\r\n"
                        "\r\n"
                        "<nobody@b.test>: host mx.b.test said: 550 5.1.1 no such user\r\n"
                        "\r\n"
                        "--=_deadbeef000000000000000000000000\r\n"
                        "Content-Description: Delivery report\r\n"
                        "Content-Type: message/delivery-status\r\n"
                        "\r\n"
                        "Reporting-MTA: dns; relay.test\r\n"
                        "X-Tubepost-Queue-ID: 00000000000A1\r\n"
                        "Arrival-Date: Sat, 01 Aug 2026 09:05:00 +0000\r\n"
                        "\r\n"
                        "Final-Recipient: rfc822; nobody@b.test\r\n"
                        "Action: failed\r\n"
                        "Status: 5.1.1\r\n"
                        "Remote-MTA: dns; mx.b.test\r\n"
                        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
                        "\r\n"
                        "--=_deadbeef000000000000000000000000\r\n"
                        "Content-Description: Header of the message\r\n"
                        "Content-Type: text/rfc822-headers\r\n"
                        "Content-Transfer-Encoding: 7bit\r\n"
                        "\r\n"
                        "Received: x\r\n"
                        "Subject: hi\r\n"
                        "\r\n"
                        "--=_deadbeef000000000000000000000000--\r\n");
    assert_int_equal(dsn_needs(&report), 0);
}

static void what_we_decided_ourselves_names_no_host(void **state)
{
    (void)state;
    struct dsn_recipient recipient = {.forward_path = slice_text("a@b.test"),
                                      .status = {5, 4, 7},
                                      .text = slice_text("delivery time expired")};
    struct dsn_report report = report_of(&recipient, 1, NULL);
    build(&report);
    assert_holds("\r\n<a@b.test>: delivery time expired\r\n");
    assert_holds("Status: 5.4.7\r\nDiagnostic-Code: X-Tubepost; delivery time expired\r\n");
    assert_lacks("Remote-MTA");
}

static void delayed_message_is_reported_as_delayed(void **state)
{
    (void)state;
    struct dsn_recipient recipient = one_refused;
    recipient.action = DSN_DELAYED;
    struct dsn_report report = report_of(&recipient, 1, NULL);
    build(&report);
    assert_holds("Subject: Delayed Mail (still being retried)\r\n");
    assert_holds("Action: delayed\r\n");
    assert_holds("Will-Retry-Until: Thu, 06 Aug 2026 09:05:00 +0000\r\n");
    assert_holds("it will be tried until Thu, 06 Aug 2026 09:05:00 +0000.\r\n");
}

static void every_recipient_has_a_group_of_fields(void **state)
{
    (void)state;
    struct dsn_recipient recipients[] = {one_refused, one_refused, one_refused};
    recipients[1].forward_path = slice_text("second@b.test");
    recipients[2].forward_path = slice_text("third@b.test");
    struct dsn_report report = report_of(recipients, 3, NULL);
    build(&report);
    assert_holds("no such user\r\n\r\nFinal-Recipient: rfc822; second@b.test\r\n");
    assert_holds("no such user\r\n\r\nFinal-Recipient: rfc822; third@b.test\r\n");
}

static void peers_cannot_write_lines_headers_parts_or_escapes(void **state)
{
    (void)state;
    static const char hostile[] =
        "x\r\nBcc: v@c\r\n\r\n--=_deadbeef000000000000000000000000--\n\033[2Jy\x7f\xc2\x9b"
        "31m";
    struct slice bytes = slice_of(hostile, sizeof(hostile)); /* with its NUL */
    struct dsn_recipient recipient = {.forward_path = bytes,
                                      .status = {5, 0, 0},
                                      .remote_mta = bytes,
                                      .code = 550,
                                      .text = bytes};
    struct dsn_report report = report_of(&recipient, 1, &bytes);
    report.reverse_path = bytes;
    report.queue_id = bytes;
    report.message_id = bytes;
    build(&report);
    for (const char *line = built.bytes; line != NULL; line = strstr(line + 1, "\r\nBcc:")) {
        /* only in the returned header, where the sender wrote it */
        assert_true(line == built.bytes || strstr(line, "text/rfc822-headers") == NULL);
    }
    assert_lacks("\033");
    assert_lacks("\xc2\x9b");
}

static void original_is_cut_at_the_empty_line_wherever_slices_end(void **state)
{
    (void)state;
    static const char original[] = "A: 1\r\n..B: dot\r\n\tfolded\r\nC: 3\r\n\r\nBODY\r\n";
    static struct report_bytes whole;
    struct slice all = slice_of(original, strlen(original));
    struct dsn_report report = report_of(&one_refused, 1, &all);
    build(&report);
    assert_holds("7bit\r\n\r\nA: 1\r\n..B: dot\r\n\tfolded\r\nC: 3\r\n\r\n--=_");
    assert_lacks("BODY");
    whole = built;
    for (size_t cut = 0; cut <= all.size; cut++) {
        struct slice pieces[2] = {slice_first(all, cut), slice_from(all, cut)};
        report.original = pieces;
        report.original_count = 2;
        build(&report);
        assert_string_equal(built.bytes, whole.bytes);
    }
}

static void original_that_is_odd_is_returned_as_far_as_it_goes(void **state)
{
    (void)state;
    static const struct {
        const char *original, *expected, *why;
    } cases[] = {
        {"", "headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\r\n--=_", "nothing at hand"},
        {"\r\nBODY\r\n", "headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\r\n--=_",
         "no header at all"},
        {"A: 1\r\nB: 2", "7bit\r\n\r\nA: 1\r\nB: 2\r\n\r\n--=_", "cut short in a line"},
        {"A: 1\r\nB: 2\r\n", "7bit\r\n\r\nA: 1\r\nB: 2\r\n\r\n--=_", "a message without body"},
        {"A: a\rb\r\r\nB: c\nC: d\r\n", "7bit\r\n\r\nA: a?b?\r\nB: c\r\nC: d\r\n\r\n--=_",
         "lone CR, lone LF"},
        {"S: gr\374n \r\n", "quoted-printable\r\n\r\nS: gr=FCn=20\r\n\r\n--=_",
         "8-bit, blank at the end"},
        {"S: \303\274=\r\n..\r\n", "quoted-printable\r\n\r\nS: =C3=BC=3D\r\n..\r\n\r\n--=_",
         "a lone dot"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice original = slice_text(cases[i].original);
        struct dsn_report report = report_of(&one_refused, 1, &original);
        build(&report);
        assert_holds(cases[i].expected);
    }
}

static void endless_header_is_cut_at_a_line_and_at_the_bound(void **state)
{
    (void)state;
    static char many[200000], one[200000];
    for (size_t i = 0; i < sizeof(many); i += 40) {
        memset(many + i, 'x', 40);
        many[i + 1] = ':';
        many[i + 38] = '\r';
        many[i + 39] = '\n';
    }
    memset(one, 'a', sizeof(one));
    struct slice original = slice_of(many, sizeof(many));
    struct dsn_report report = report_of(&one_refused, 1, &original);
    build(&report);
    assert_in_range(built.size, DSN_ORIGINAL_BYTES_MAX, DSN_ORIGINAL_BYTES_MAX + 3000);
    assert_holds("xxxx\r\n\r\n--=_deadbeef000000000000000000000000--\r\n");
    original = slice_of(one, sizeof(one));
    build(&report); /* one line of 200,000 bytes: quoted-printable breaks it */
    assert_in_range(built.size, DSN_ORIGINAL_BYTES_MAX, DSN_ORIGINAL_BYTES_MAX * 11 / 10);
}

static void internationalised_addresses_are_written_as_rfc_6533_says(void **state)
{
    (void)state;
    struct dsn_recipient recipient = one_refused;
    recipient.forward_path = slice_text("j\303\266rg+x@b\303\274.test");
    recipient.text = slice_text("kein Postfach f\303\274r J\303\266rg");
    struct dsn_report report = report_of(&recipient, 1, NULL);
    build(&report);
    assert_holds("Final-Recipient: utf-8; j\\x{F6}rg\\x{2B}x@b\\x{FC}.test\r\n");
    assert_holds("Diagnostic-Code: smtp; 550 kein Postfach f??r J??rg\r\n");
    assert_holds("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
                 "quoted-printable\r\n");
    assert_holds("\r\n<j=C3=B6rg+x@b=C3=BC.test>: host mx.b.test said: 550 kein Postfach "
                 "f=C3=BCr=\r\n J=C3=B6rg\r\n");
    assert_int_equal(dsn_needs(&report), 0);
    report.reverse_path = slice_text("s\303\266nder@a.test");
    build(&report);
    assert_holds("\r\nTo: <s\303\266nder@a.test>\r\n");
    assert_int_equal(dsn_needs(&report), DSN_NEEDS_8BITMIME | DSN_NEEDS_SMTPUTF8);
}

static void addresses_are_written_whole(void **state)
{
    (void)state;
    char path[321], orcpt[501], expected[600];
    memset(path, 'p', sizeof(path));
    memset(orcpt, 'o', sizeof(orcpt));
    path[320] = orcpt[500] = '\0';
    memcpy(orcpt, "rfc822;", 7);
    struct dsn_recipient recipient = one_refused;
    recipient.forward_path = slice_text(path);
    recipient.orcpt = slice_text(orcpt);
    char reply[400];
    memset(reply, 'r', sizeof(reply));
    recipient.text = recipient.remote_mta = recipient.remote_address =
        slice_of(reply, sizeof(reply));
    struct dsn_report report = report_of(&recipient, 1, NULL);
    report.reverse_path = slice_text(path);
    build(&report); /* which sees that no line is too long */
    snprintf(expected, sizeof(expected), "\r\nFinal-Recipient: rfc822; %s\r\n", path);
    assert_holds(expected);
    snprintf(expected, sizeof(expected), "\r\nOriginal-Recipient: rfc822; %s\r\n", orcpt + 7);
    assert_holds(expected);
    snprintf(expected, sizeof(expected), "\r\nTo: <%s>\r\n", path);
    assert_holds(expected);
}

static void a_header_says_what_it_is_written_in(void **state)
{
    static const struct {
        const char *original, *type;
    } cases[] = {
        {"S: hi\r\n\r\n\374", "headers\r\n"},
        {"S: gr\303\274n\r\n\r\n", "headers; charset=utf-8\r\n"},
        {"S: gr\303\274n \360\237\230\200\r\n\r\n", "headers; charset=utf-8\r\n"},
        {"S: gr\374n\r\n\r\n", "headers; charset=unknown-8bit\r\n"},
        {"S: \303\274 \303\r\n\r\n", "headers; charset=unknown-8bit\r\n"},
        {"S: cut \303", "headers; charset=unknown-8bit\r\n"},
        {"S: \355\240\200\r\n\r\n", "headers; charset=unknown-8bit\r\n"}, /* a surrogate */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice all = slice_text(cases[i].original);
        for (size_t cut = 0; cut <= all.size; cut++) {
            struct slice pieces[2] = {slice_first(all, cut), slice_from(all, cut)};
            struct dsn_report report = report_of(&one_refused, 1, pieces);
            report.original_count = 2;
            build(&report);
            assert_holds(cases[i].type);
        }
    }
}

static void first_failure_to_write_ends_it(void **state)
{
    (void)state;
    struct dsn_report report = report_of(&one_refused, 1, NULL);
    build(&report);
    unsigned calls = built.calls;
    assert_true(calls > 2);
    for (unsigned i = 1; i < calls; i++) {
        memset(&built, 0, sizeof(built));
        built.fail_after = i;
        assert_int_equal(dsn_build(&report, keep, &built), -28);
        assert_int_equal(built.calls, i + 1);
    }
}

/* As dsn_build makes it, of a report with all of the original, read in pieces of so many bytes. */
static void assert_cut(struct dsn_report *report, size_t piece)
{
    static struct report_bytes whole, again;
    struct dsn_cut cut = {0};
    whole.size = again.size = 0;
    report->full = report->full_is_8bit = true;
    assert_int_equal(dsn_begin(report, keep, &whole), 0);
    size_t begin = whole.size;
    assert_int_equal(keep(&whole, report->original[0]), 0);
    assert_int_equal(dsn_end(report, keep, &whole), 0);
    for (size_t at = 0; at < whole.size; at += piece) {
        dsn_cut_read(&cut, slice_first(slice_of(whole.bytes + at, whole.size - at), piece));
    }
    assert_true(cut.found);
    assert_int_equal(cut.original_begin, begin);
    assert_memory_equal(cut.random, report->random, sizeof(cut.random));
    memcpy(again.bytes, whole.bytes, cut.report_bytes);
    again.size = cut.report_bytes;
    report->full = report->full_is_8bit = false;
    assert_int_equal(dsn_end_header(report, keep, &again), 0);
    build(report);
    assert_int_equal(again.size, built.size);
    assert_memory_equal(again.bytes, built.bytes, built.size);
}

static void a_report_can_be_cut_before_its_original(void **state)
{
    static const char *const replies[] = {
        "5.1.1 no such user", "\tboundary=\"=_00000000000000000000000000000000\"",
        "--=_deadbeef000000000000000000000000", "Post f\303\274r niemand"};
    static const char *const originals[] = {
        "Subject: gr\374n\r\n\r\n\337\r\n",
        "Subject: x\r\n\r\n--=_deadbeef000000000000000000000000\r\n\r\n\337\r\n", "\r\n\337\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        for (size_t j = 0; j < sizeof(originals) / sizeof(originals[0]); j++) {
            struct slice original = slice_text(originals[j]);
            struct dsn_recipient recipient = one_refused;
            recipient.text = slice_text(replies[i]);
            struct dsn_report report = report_of(&recipient, 1, &original);
            assert_cut(&report, 1);
            assert_cut(&report, 7);
            assert_cut(&report, 100000);
        }
    }
}

static void what_is_no_report_with_an_original_is_not_cut(void **state)
{
    static const char *const texts[] = {"", "Subject: x\r\n\r\nText\r\n",
                                        "\tboundary=\"=_0\"\r\n--=_0\r\n--=_0\r\n--=_0\r\n\r\n",
                                        "\tboundary=\"=_DEADBEEF000000000000000000000000\"\r\n"
                                        "--=_DEADBEEF000000000000000000000000\r\n"
                                        "--=_DEADBEEF000000000000000000000000\r\n"
                                        "--=_DEADBEEF000000000000000000000000\r\n\r\n",
                                        "\tboundary=\"=_deadbeef000000000000000000000000\"\r\n"
                                        "--=_deadbeef000000000000000000000000\r\n"
                                        "--=_deadbeef000000000000000000000000\r\n\r\nfields\r\n"
                                        "--=_deadbeef000000000000000000000000--\r\n\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct dsn_cut cut = {0};
        dsn_cut_read(&cut, slice_text(texts[i]));
        assert_false(cut.found);
    }
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "--print") == 0) { /* for a reader, or another parser */
        struct slice original =
            slice_text("From: a@a.test\r\nSubject: gr\303\274n\r\n..dot: 1\r\n\r\nbody\r\n");
        struct dsn_recipient recipients[] = {one_refused, one_refused};
        recipients[1].forward_path = slice_text("j\303\266rg@b.test");
        recipients[1].text = slice_text("5.1.1 unbekannt: J\303\266rg");
        struct dsn_report report = report_of(recipients, 2, &original);
        build(&report);
        fwrite(built.bytes, 1, built.size, stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_recipient_is_reported_to_the_byte),
        cmocka_unit_test(what_we_decided_ourselves_names_no_host),
        cmocka_unit_test(delayed_message_is_reported_as_delayed),
        cmocka_unit_test(every_recipient_has_a_group_of_fields),
        cmocka_unit_test(peers_cannot_write_lines_headers_parts_or_escapes),
        cmocka_unit_test(original_is_cut_at_the_empty_line_wherever_slices_end),
        cmocka_unit_test(original_that_is_odd_is_returned_as_far_as_it_goes),
        cmocka_unit_test(endless_header_is_cut_at_a_line_and_at_the_bound),
        cmocka_unit_test(internationalised_addresses_are_written_as_rfc_6533_says),
        cmocka_unit_test(addresses_are_written_whole),
        cmocka_unit_test(a_report_can_be_cut_before_its_original),
        cmocka_unit_test(what_is_no_report_with_an_original_is_not_cut),
        cmocka_unit_test(a_header_says_what_it_is_written_in),
        cmocka_unit_test(first_failure_to_write_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
