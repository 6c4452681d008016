/* Who is told what of his mail, and when (RFC 3461): whole relays on a clock of ours. */
#include "engine/relay/bounce.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define HOUR (3600 * RIG_SECOND)
#define BY_MX "\n  - {match: \"*\", via: mx}\n"

static void post(struct relay_rig *rig, const struct rig_wishes *wishes, const char *recipients)
{
    rig_post_wanting(rig, wishes, "s@b.test", recipients);
    rig_pass(rig, 60 * RIG_SECOND);
}

static unsigned reports(const struct relay_rig *rig)
{
    unsigned count = 0;
    for (unsigned i = 0; i < rig->letter_count; i++) {
        count += strcmp(rig->letters[i].recipients, "s@b.test") == 0;
    }
    return count;
}

static void assert_holds(const struct rig_letter *letter, const char *text)
{
    assert_non_null(letter);
    if (strstr(letter->body, text) == NULL) {
        fail_msg("the report does not hold\n%s\nbut is\n%s", text, letter->body);
    }
}

static void assert_lacks(const struct rig_letter *letter, const char *text)
{
    assert_non_null(letter);
    if (strstr(letter->body, text) != NULL) {
        fail_msg("the report holds\n%s\n%s", text, letter->body);
    }
}

/* ---- Success ---- */

static void success_at_a_server_without_dsn_is_reported_as_relayed(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    post(rig,
         &(struct rig_wishes){
             .envid = "QQ+3D1", .orcpt = "rfc822;first+2Bx@c.test", .notify = SPOOL_NOTIFY_SUCCESS},
         "u@a.test");
    assert_int_equal(reports(rig), 1);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_string_equal(report->sender, "");
    assert_holds(report, "Subject: Successful Mail Delivery Report\n");
    assert_holds(report, "\nOriginal-Envelope-Id: QQ=1\n");
    assert_holds(report, "\nOriginal-Recipient: rfc822; first+x@c.test\n");
    assert_holds(report, "\nFinal-Recipient: rfc822; u@a.test\n");
    assert_holds(report, "\nAction: relayed\nStatus: 2.0.0\nRemote-MTA: dns; mx.a.test\n");
    assert_holds(report, "<u@a.test>: relayed: host mx.a.test[192.0.2.1] said: 250 2.0.0 taken\n");
    assert_holds(report, "\nDiagnostic-Code: smtp; 250 2.0.0 taken\n");
    assert_holds(report, "\nSubject: a letter\n");
    assert_lacks(report, "Hello.");
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.success_reports, 1);
    assert_true(rig_log_says(rig, ": sender delivery status notification: "));
    relay_rig_close(rig);
}

static void a_server_with_dsn_is_told_the_wishes_and_reports_itself(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    rig->servers[0].offers = "DSN";
    post(rig,
         &(struct rig_wishes){.envid = "QQ+3D1",
                              .orcpt = "rfc822;o@c.test",
                              .ret = SPOOL_RET_HDRS,
                              .notify = SPOOL_NOTIFY_SUCCESS | SPOOL_NOTIFY_DELAY},
         "u@a.test");
    assert_int_equal(reports(rig), 0);
    const struct rig_letter *letter = rig_letter_for(rig, "u@a.test");
    assert_non_null(letter);
    assert_string_equal(letter->mail, "MAIL FROM:<s@b.test> RET=HDRS ENVID=QQ+3D1");
    assert_string_equal(letter->rcpt,
                        "RCPT TO:<u@a.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@c.test");
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void a_recipient_without_an_original_address_gets_its_own(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    rig->servers[0].offers = "DSN";
    post(rig, &(struct rig_wishes){0}, "u+x@a.test");
    const struct rig_letter *letter = rig_letter_for(rig, "u+x@a.test");
    assert_non_null(letter);
    assert_string_equal(letter->rcpt, "RCPT TO:<u+x@a.test> ORCPT=rfc822;u+2Bx@a.test");
    relay_rig_close(rig);
}

static void success_over_lmtp_is_delivery(void **state)
{
    (void)state;
    struct relay_rig *rig =
        rig_open_two("\n  - {match: a.test, to: [192.0.2.1:25], via: lmtp}" BY_MX);
    post(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS}, "u@a.test");
    assert_int_equal(reports(rig), 1);
    assert_holds(rig_letter_for(rig, "s@b.test"), "\nAction: delivered\n");
    assert_holds(rig_letter_for(rig, "s@b.test"), "\nRemote-MTA: dns; [192.0.2.1]\n");
    relay_rig_close(rig);
}

static void recipients_that_are_served_together_share_a_report(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    post(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS}, "u@a.test v@a.test w@a.test");
    assert_int_equal(reports(rig), 1);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_holds(report, "\nFinal-Recipient: rfc822; u@a.test\n");
    assert_holds(report, "\nFinal-Recipient: rfc822; w@a.test\n");
    relay_rig_close(rig);
}

static void what_is_discarded_is_reported_once(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two("\n  - {match: a.test, via: discard}" BY_MX);
    post(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS}, "u@a.test v@a.test");
    assert_int_equal(reports(rig), 1);
    assert_holds(rig_letter_for(rig, "s@b.test"), "\nFinal-Recipient: rfc822; v@a.test\n");
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void nobody_is_told_of_success_who_has_not_asked(void **state)
{
    static const uint8_t others[] = {0, SPOOL_NOTIFY_NEVER, SPOOL_NOTIFY_FAILURE,
                                     SPOOL_NOTIFY_FAILURE | SPOOL_NOTIFY_DELAY};
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    for (size_t i = 0; i < sizeof(others); i++) {
        post(rig, &(struct rig_wishes){.notify = others[i]}, "u@a.test");
    }
    rig_post_wanting(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS}, "", "u@a.test");
    rig_pass(rig, HOUR);
    assert_int_equal(rig->letter_count, 5);
    assert_int_equal(reports(rig), 0);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void an_address_that_stands_for_several_is_reported_as_expanded(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    post(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS, .expanded = true},
         "list@a.test");
    assert_int_equal(rig->letter_count, 1); /* nobody delivers to it */
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_holds(report, "\nFinal-Recipient: rfc822; list@a.test\n");
    assert_holds(report, "\nAction: expanded\n");
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void what_nobody_has_sent_is_not_reported_as_expanded(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    rig_post_wanting(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS, .expanded = true},
                     "", "list@a.test u@a.test");
    rig_pass(rig, HOUR);
    assert_int_equal(rig->letter_count, 1);
    assert_int_equal(rig->relay->counters.success_reports, 0);
    assert_int_equal(rig->relay->counters.double_bounces, 0);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void message_see(void *owner, struct message *message)
{
    struct message **seen = owner;
    *seen = message;
}

/* The process dies when a server has taken the mail and the report is not durable. */
static void a_crash_before_the_report_repeats_the_report_and_not_the_mail(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    struct message *message = NULL;
    rig_server_down(&rig->servers[0]);
    rig_post_wanting(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_SUCCESS}, "s@b.test",
                     "u@a.test v@a.test");
    rig_pass(rig, 60 * RIG_SECOND);
    spool_each(relay_spool(rig->relay), message_see, &message);
    assert_non_null(message);
    assert_int_equal(sched_delete(message), 0);
    spool_recipient_finished(relay_spool(rig->relay), message, 0, RECIPIENT_TELL_RELAYED);
    rig_settle(rig);
    rig_server_up(&rig->servers[0]);
    rig_restart(rig);
    rig_pass(rig, 2 * HOUR);
    assert_int_equal(rig_waiting(rig), 0);
    assert_non_null(rig_letter_for(rig, "v@a.test")); /* alone */
    assert_null(rig_letter_for(rig, "u@a.test"));
    assert_int_equal(reports(rig), 2);
    unsigned of_the_crash = 0;
    for (unsigned i = 0; i < rig->letter_count; i++) {
        of_the_crash += strstr(rig->letters[i].body, "<u@a.test>: relayed: the answer is "
                                                     "not known any more\n") != NULL;
    }
    assert_int_equal(of_the_crash, 1);
    assert_int_equal(rig->letter_count, 3);
    relay_rig_close(rig);
}

/* ---- Failure ---- */

static void mail_whose_route_is_gone_at_a_start_is_returned(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    rig_server_down(&rig->servers[0]);
    rig_post(rig, "s@b.test", "u@a.test");
    rig_post(rig, "", "v@a.test");
    for (unsigned i = 0; i < 200; i++) {
        rig_post_only(rig, "s@b.test", "w@a.test");
    }
    rig_restart_with(rig, "\n  - {match: b.test, via: mx}\n");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(reports(rig), 201);
    assert_holds(rig_letter_for(rig, "s@b.test"), "No route to the recipient's domain");
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.double_bounces, 1);
    relay_rig_close(rig);
}

static void who_does_not_want_to_hear_of_failure_does_not(void **state)
{
    static const uint8_t deaf[] = {SPOOL_NOTIFY_NEVER, SPOOL_NOTIFY_SUCCESS,
                                   SPOOL_NOTIFY_SUCCESS | SPOOL_NOTIFY_DELAY};
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    for (size_t i = 0; i < sizeof(deaf); i++) {
        post(rig, &(struct rig_wishes){.notify = deaf[i]}, "u@a.test");
    }
    assert_int_equal(reports(rig), 0);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.failed, 3);
    post(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_FAILURE, .orcpt = "rfc822;o@c.test"},
         "u@a.test");
    assert_int_equal(reports(rig), 1);
    assert_holds(rig_letter_for(rig, "s@b.test"),
                 "\nOriginal-Recipient: rfc822; o@c.test\nFinal-Recipient: rfc822; u@a.test\n");
    relay_rig_close(rig);
}

static void a_report_makes_no_report_of_its_own(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig->servers[1].offers = "DSN";
    post(rig, &(struct rig_wishes){.notify = 0}, "u@a.test");
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_non_null(report);
    assert_string_equal(report->rcpt, "RCPT TO:<s@b.test> NOTIFY=NEVER ORCPT=rfc822;s@b.test");
    relay_rig_close(rig);
}

/* ---- What comes back ---- */

#define LETTER "Subject: a letter\r\n\r\nHello.\r\n..stuffed\r\n"

static const struct rig_letter *failure_of(struct relay_rig *rig, const struct rig_wishes *wishes,
                                           const char *sender)
{
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig->letter_count = 0;
    rig_post_wanting(rig, wishes, sender, "u@a.test");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 1);
    assert_int_equal(rig_waiting(rig), 0);
    return &rig->letters[0];
}

static void failed_mail_comes_back_whole_where_it_is_small_and_nobody_minds(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX "bounce: {full_bytes_max: 100}\n");
    static char large[400] = "Subject: large\r\n\r\n";
    const struct rig_letter *report =
        failure_of(rig, &(struct rig_wishes){.body = LETTER}, "s@b.test");
    assert_holds(report, "\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\n"
                         "Subject: a letter\n\nHello.\n..stuffed\n\n--=_");
    report =
        failure_of(rig, &(struct rig_wishes){.body = LETTER, .ret = SPOOL_RET_HDRS}, "s@b.test");
    assert_holds(report, "\nContent-Type: text/rfc822-headers\n");
    assert_lacks(report, "Hello.");
    for (size_t i = strlen(large); i + 4 < sizeof(large); i += 4) {
        memcpy(large + i, "xx\r\n", 4);
    }
    report =
        failure_of(rig, &(struct rig_wishes){.body = large, .ret = SPOOL_RET_FULL}, "s@b.test");
    assert_holds(report, "\nContent-Type: text/rfc822-headers\n");
    assert_lacks(report, "xx\n");
    relay_rig_close(rig);
}

#define EIGHT_BIT "Subject: a letter\r\n\r\nGr\374\337e.\r\n"

static void what_comes_back_is_labelled_by_what_it_holds(void **state)
{
    static const char whole_8bit[] =
        "\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: a letter\n";
    static const char whole_7bit[] =
        "\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: a letter\n";
    static const char header[] = "\nContent-Type: text/rfc822-headers\nContent-Transfer-Encoding: "
                                 "7bit\n\nSubject: a letter\n";
    static const struct {
        const char *body;
        uint32_t flags;
        uint8_t ret;
        const char *holds, *why;
    } cases[] = {
        {EIGHT_BIT, SPOOL_8BITMIME, SPOOL_RET_FULL, whole_8bit, "declared, and asked for"},
        {EIGHT_BIT, SPOOL_8BITMIME, SPOOL_RET_NONE, whole_8bit, "declared"},
        {EIGHT_BIT, 0, SPOOL_RET_NONE, whole_8bit, "not declared, not asked for"},
        {EIGHT_BIT, 0, SPOOL_RET_FULL, whole_8bit, "not declared, and asked for"},
        {EIGHT_BIT, 0, SPOOL_RET_HDRS, header, "not wanted"},
        {LETTER, SPOOL_8BITMIME, SPOOL_RET_NONE, whole_7bit, "declared, and not there"},
    };
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    rig->servers[0].offers = rig->servers[1].offers = "8BITMIME";
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct rig_wishes wishes = {
            .body = cases[i].body, .flags = cases[i].flags, .ret = cases[i].ret};
        const struct rig_letter *report = failure_of(rig, &wishes, "s@b.test");
        assert_holds(report, cases[i].holds);
        assert_int_equal(strstr(report->mail, " BODY=8BITMIME") != NULL,
                         cases[i].holds == whole_8bit);
    }
    relay_rig_close(rig);
}

/* A letter of which so much is 8-bit text. */
static char *eight_bit_letter(size_t bytes)
{
    static const char head[] = "Subject: gr\374n\r\nX-Long: line\r\n\r\n";
    char *body = malloc(sizeof(head) + bytes + 2);
    assert_non_null(body);
    memcpy(body, head, sizeof(head) - 1);
    memset(body + sizeof(head) - 1, '\337', bytes);
    for (size_t i = 62; i + 2 < bytes; i += 64) {
        memcpy(body + sizeof(head) - 1 + i, "\r\n", 2);
    }
    strcpy(body + sizeof(head) - 1 + bytes, "\r\n");
    return body;
}

static void a_report_that_a_server_cannot_take_whole_goes_again_with_the_header(void **state)
{
    static const size_t sizes[] = {100, 40000, 3000000};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct relay_rig *rig = rig_open_two(BY_MX "bounce: {full_bytes_max: 10M}\n");
        char *body = eight_bit_letter(sizes[i]);
        rig->servers[0].offers = "8BITMIME"; /* not the one of the way back */
        const struct rig_letter *report =
            failure_of(rig, &(struct rig_wishes){.body = body}, "s@b.test");
        assert_string_equal(report->sender, "");
        assert_string_equal(report->mail, "MAIL FROM:<>");
        assert_holds(report, "\nFinal-Recipient: rfc822; u@a.test\nAction: failed\n");
        assert_holds(report, "\n\n--=_");
        assert_holds(report, "\nContent-Type: text/rfc822-headers; charset=unknown-8bit\n"
                             "Content-Transfer-Encoding: quoted-printable\n\n"
                             "Subject: gr=FCn\nX-Long: line\n\n--=_");
        assert_lacks(report, "\337");
        const char *end = strrchr(report->body, '_'); /* "--=_...--" is that of the first part */
        char boundary[40];
        snprintf(boundary, sizeof(boundary), "\n--=%.33s\n", end);
        assert_holds(report, boundary);
        assert_string_equal(end + 33, "--\n");
        assert_int_equal(rig->relay->counters.bounces, 1);
        assert_int_equal(rig->relay->counters.failed, 1);
        assert_int_equal(rig->relay->counters.double_bounces, 0);
        assert_true(rig_log_says(rig, ": sent again without the message"));
        assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 0);
        free(body);
        relay_rig_close(rig);
    }
}

static void a_report_that_is_cut_goes_to_those_only_whose_server_cannot_take_it(void **state)
{
    (void)state;
    struct relay_rig *rig =
        rig_open_two(BY_MX "rewrite: {aliases: ['inline:{{s=s@a.test, s@b.test, t@b.test}}']}\n");
    rig->servers[0].offers = "8BITMIME";
    rig_post_wanting(rig, &(struct rig_wishes){.body = EIGHT_BIT}, "s@relay.test", "u@none.test");
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 2);
    assert_holds(rig_letter_for(rig, "s@a.test"), "\nGr\374\337e.\n");
    assert_holds(rig_letter_for(rig, "s@b.test t@b.test"), "\nContent-Type: text/rfc822-headers\n");
    assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 0);
    relay_rig_close(rig);
}

static void a_report_is_cut_after_a_restart_and_is_refused_once_more_only(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig_server_down(&rig->servers[1]);
    rig_post_wanting(rig, &(struct rig_wishes){.body = EIGHT_BIT}, "s@b.test", "u@a.test");
    rig_pass(rig, 60 * RIG_SECOND);
    rig_restart(rig);
    strcpy(rig->servers[1].rcpt_reply, "554 5.6.0 Not that either");
    rig_server_up(&rig->servers[1]);
    rig_pass(rig, 2 * HOUR);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig->relay->counters.bounces, 0); /* since the start */
    assert_int_equal(rig->relay->counters.double_bounces, 1);
    assert_true(rig_log_says(rig, ": double bounce, dropped: to=<s@b.test>"));
    assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 0);
    relay_rig_close(rig);
}

static void a_report_may_be_larger_than_mail(void **state)
{
    (void)state;
    struct relay_rig *rig =
        rig_open_two("\n  - {match: \"*\", via: mx, recipients_per_message: 1000}\n"
                     "limits: {message_bytes: 1K}\n");
    char recipients[20000];
    size_t used = 0;
    for (unsigned i = 0; i < BOUNCE_RECIPIENTS_MAX + 1; i++) {
        used += (size_t)snprintf(recipients + used, sizeof(recipients) - used, "user%u@a.test ", i);
    }
    recipients[used - 1] = '\0';
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig_post(rig, "s@b.test", recipients);
    rig_pass(rig, HOUR);
    assert_int_equal(reports(rig), 2);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

enum { LARGE = 3 * 1024 * 1024 };

static char *large_letter(void)
{
    char *body = malloc(LARGE + 1);
    assert_non_null(body);
    memset(body, 'x', LARGE);
    for (size_t i = 62; i < LARGE; i += 64) {
        memcpy(body + i, "\r\n", 2);
    }
    memcpy(body, "S: large\r\n\r\n", 12);
    body[LARGE] = '\0';
    return body;
}

static void a_large_message_comes_back_whole(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX "bounce: {full_bytes_max: 10M}\n");
    char *body = large_letter();
    uint64_t before = rig->relay->counters.bytes_out;
    failure_of(rig, &(struct rig_wishes){.body = body, .ret = SPOOL_RET_FULL}, "s@b.test");
    assert_in_range(rig->relay->counters.bytes_out - before, LARGE + 1000, LARGE + 3000);
    free(body);
    relay_rig_close(rig);
}

static void internationalised_mail_comes_back_whole_to_those_who_read_it(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    const struct rig_wishes wishes = {
        .body = LETTER, .flags = SPOOL_SMTPUTF8 | SPOOL_8BITMIME, .ret = SPOOL_RET_FULL};
    const struct rig_letter *report = failure_of(rig, &wishes, "s@b.test");
    assert_holds(report, "\nContent-Type: message/global-headers\n");
    assert_lacks(report, "Hello.");
    relay_rig_close(rig);
}

/* ---- Delay ---- */

static void a_delay_is_told_once_even_over_a_restart(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX "bounce: {delay_warning: 2h}\n");
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 Mailbox busy");
    rig_post(rig, "s@b.test", "u@a.test");
    rig_pass(rig, HOUR);
    assert_int_equal(reports(rig), 0);
    rig_pass(rig, 2 * HOUR);
    assert_int_equal(reports(rig), 1);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_holds(report, "Subject: Delayed Mail (still being retried)\n");
    assert_holds(report, "\nAction: delayed\nStatus: 4.4.7\n");
    assert_holds(report, "Mailbox busy");
    assert_holds(report, "\nWill-Retry-Until: ");
    assert_true(rig_log_says(rig, ": sender delay notification: "));
    rig_restart(rig);
    rig_pass(rig, 20 * HOUR);
    assert_int_equal(reports(rig), 1);
    assert_int_equal(rig_waiting(rig), 1);
    strcpy(rig->servers[0].rcpt_reply, "250 2.1.5 Ok");
    rig_pass(rig, 5 * HOUR);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(reports(rig), 1);
    relay_rig_close(rig);
}

static void by_default_only_those_who_ask_are_told_of_a_delay(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 Mailbox busy");
    rig_post_wanting(rig, &(struct rig_wishes){0}, "s@b.test", "u@a.test");
    rig_post_wanting(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_FAILURE}, "s@b.test",
                     "v@a.test");
    rig_pass(rig, 10 * HOUR);
    assert_int_equal(reports(rig), 0);
    rig_post_wanting(rig, &(struct rig_wishes){.notify = SPOOL_NOTIFY_DELAY}, "s@b.test",
                     "w@a.test");
    rig_pass(rig, 3 * HOUR);
    assert_int_equal(reports(rig), 0);
    rig_pass(rig, 2 * HOUR);
    assert_int_equal(reports(rig), 1);
    assert_holds(rig_letter_for(rig, "s@b.test"), "\nFinal-Recipient: rfc822; w@a.test\n");
    relay_rig_close(rig);
}

static void a_delay_of_mail_from_nobody_is_told_nobody(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX "bounce: {delay_warning: 2h}\n");
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 Mailbox busy");
    rig_post(rig, "", "u@a.test");
    rig_pass(rig, 10 * HOUR);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(bounce_count(rig->relay), 0);
    relay_rig_close(rig);
}

/* ---- The end of the relay ---- */

static void step(struct relay_rig *rig)
{
    rig->now_ns += 1000000;
    shard_round(&rig->shard);
}

static void no_report_is_begun_while_the_relay_ends(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX "bounce: {full_bytes_max: 10M}\n");
    char *body = large_letter(); /* its report would take several rounds */
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig_post_wanting(rig, &(struct rig_wishes){.body = body, .ret = SPOOL_RET_FULL}, "s@b.test",
                     "u@a.test");
    free(body);
    while (rig->relay->counters.deliveries == 0) {
        step(rig);
    }
    relay_drain(rig->relay, rig->now_ns + 60 * RIG_SECOND);
    while (!relay_drained(rig->relay)) {
        step(rig);
    }
    assert_int_equal(rig->relay->counters.failed, 1);
    assert_int_equal(bounce_count(rig->relay), 0);
    rig_restart(rig);
    rig_pass(rig, HOUR);
    assert_int_equal(reports(rig), 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void a_report_that_was_under_way_when_the_relay_ended_is_not_repeated(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "550 5.1.1 No such user");
    rig_post_only(rig, "s@b.test", "u@a.test");
    while (bounce_count(rig->relay) == 0) {
        step(rig);
    }
    relay_drain(rig->relay, rig->now_ns + 60 * RIG_SECOND);
    rig_settle(rig);
    rig_restart(rig);
    rig_pass(rig, HOUR);
    assert_int_equal(reports(rig), 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_at_a_server_without_dsn_is_reported_as_relayed),
        cmocka_unit_test(a_server_with_dsn_is_told_the_wishes_and_reports_itself),
        cmocka_unit_test(a_recipient_without_an_original_address_gets_its_own),
        cmocka_unit_test(success_over_lmtp_is_delivery),
        cmocka_unit_test(recipients_that_are_served_together_share_a_report),
        cmocka_unit_test(what_is_discarded_is_reported_once),
        cmocka_unit_test(nobody_is_told_of_success_who_has_not_asked),
        cmocka_unit_test(an_address_that_stands_for_several_is_reported_as_expanded),
        cmocka_unit_test(what_nobody_has_sent_is_not_reported_as_expanded),
        cmocka_unit_test(a_crash_before_the_report_repeats_the_report_and_not_the_mail),
        cmocka_unit_test(mail_whose_route_is_gone_at_a_start_is_returned),
        cmocka_unit_test(who_does_not_want_to_hear_of_failure_does_not),
        cmocka_unit_test(a_report_makes_no_report_of_its_own),
        cmocka_unit_test(failed_mail_comes_back_whole_where_it_is_small_and_nobody_minds),
        cmocka_unit_test(what_comes_back_is_labelled_by_what_it_holds),
        cmocka_unit_test(a_report_that_a_server_cannot_take_whole_goes_again_with_the_header),
        cmocka_unit_test(a_report_that_is_cut_goes_to_those_only_whose_server_cannot_take_it),
        cmocka_unit_test(a_report_is_cut_after_a_restart_and_is_refused_once_more_only),
        cmocka_unit_test(a_report_may_be_larger_than_mail),
        cmocka_unit_test(a_large_message_comes_back_whole),
        cmocka_unit_test(no_report_is_begun_while_the_relay_ends),
        cmocka_unit_test(a_report_that_was_under_way_when_the_relay_ended_is_not_repeated),
        cmocka_unit_test(internationalised_mail_comes_back_whole_to_those_who_read_it),
        cmocka_unit_test(a_delay_is_told_once_even_over_a_restart),
        cmocka_unit_test(by_default_only_those_who_ask_are_told_of_a_delay),
        cmocka_unit_test(a_delay_of_mail_from_nobody_is_told_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
