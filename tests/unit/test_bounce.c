#include "engine/relay/bounce.h"
#include "queue/sched/operator.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define DAY (86400 * RIG_SECOND)
#define LIFETIME (5 * DAY + 60 * RIG_SECOND)

#define BY_MX "\n  - {match: \"*\", via: mx}\n"
#define TO_POSTMASTER(address) BY_MX "bounce: {double: postmaster, postmaster: " address "}\n"

static void refuse(struct relay_rig *rig, unsigned server)
{
    strcpy(rig->servers[server].rcpt_reply, "550 5.1.1 No such user");
}

static struct relay_site *site_of(struct relay_rig *rig, const char *host)
{
    struct list_node *used = &rig->relay->sites.used;
    for (struct list_node *node = used->next; node != used; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (site->destination != NULL &&
            slice_equal(slice_text(site->destination->hosts[0].name), slice_text(host))) {
            return site;
        }
    }
    return NULL;
}

/* ---- Mail whose time is over ---- */

static void expired_mail_is_returned_with_the_last_answer(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 Mailbox busy");
    rig_post(rig, "s@b.test", "u@a.test");
    rig_pass(rig, LIFETIME);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_non_null(report);
    assert_non_null(strstr(report->body, "the last answer was: 450 "));
    assert_non_null(strstr(report->body, "Mailbox busy"));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void expired_mail_that_was_never_tried_is_not_returned_with_an_empty_answer(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    rig_post(rig, "s@b.test", "known@a.test");
    struct relay_site *site = site_of(rig, "mx.a.test");
    assert_non_null(site);
    assert_int_equal(sched_site_suspend(site->sched, SCHED_NEVER, slice_text("word")), 0);
    rig_post(rig, "s@b.test", "u@a.test");
    rig_pass(rig, LIFETIME);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_non_null(report);
    assert_non_null(strstr(report->body, "no answer of a server is known"));
    assert_null(strstr(report->body, "the last answer was"));
    relay_rig_close(rig);
}

static void a_server_that_talks_nonsense_is_not_quoted_with_a_code_of_zero(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    strcpy(rig->servers[0].rcpt_reply, "nonsense");
    rig_post(rig, "s@b.test", "u@a.test");
    assert_true(rig_log_says(rig, "status=deferred ("));
    assert_false(rig_log_says(rig, "status=deferred (0 "));
    rig_pass(rig, LIFETIME);
    const struct rig_letter *report = rig_letter_for(rig, "s@b.test");
    assert_non_null(report);
    assert_non_null(strstr(report->body, "the last answer was: "));
    assert_null(strstr(report->body, "the last answer was: 0 "));
    relay_rig_close(rig);
}

static void the_words_on_expiry_fit_however_long_the_answer_is(void **state)
{
    (void)state;
    char answer[1000];
    memset(answer, 'x', sizeof(answer));
    struct relay_outcome failure;
    memset(&failure, 0xff, sizeof(failure));
    bounce_expired(&failure, 7, slice_of(answer, sizeof(answer)));
    assert_int_equal(failure.index, 7);
    assert_int_equal(failure.code, 0);
    assert_string_equal(failure.remote, "");
    assert_int_equal(strlen(failure.text), sizeof(failure.text) - 1);
}

/* ---- Reports that cannot be delivered ---- */

static void a_report_that_is_refused_is_dropped(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(BY_MX);
    refuse(rig, 0);
    rig_post(rig, "s@a.test", "u@a.test");
    rig_pass(rig, DAY);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.bounces, 1);
    assert_int_equal(rig->relay->counters.double_bounces, 1);
    assert_true(rig_log_says(rig, "double bounce, dropped: to=<s@a.test>"));
    relay_rig_close(rig);
}

static void a_report_that_is_refused_goes_to_the_postmaster_from_nobody(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_POSTMASTER("chief@b.test"));
    refuse(rig, 0);
    rig_post(rig, "s@a.test", "u@a.test");
    rig_pass(rig, DAY);
    assert_int_equal(rig->letter_count, 1);
    const struct rig_letter *report = rig_letter_for(rig, "chief@b.test");
    assert_non_null(report);
    assert_string_equal(report->sender, "");
    assert_non_null(strstr(report->body, "To: <chief@b.test>"));
    assert_non_null(strstr(report->body, "Final-Recipient: rfc822; s@a.test"));
    assert_int_equal(rig_waiting(rig), 0);
    assert_true(rig_log_says(rig, "double bounce, reported to the postmaster: to=<s@a.test>"));
    relay_rig_close(rig);
}

static void a_report_to_the_postmaster_that_is_refused_is_the_end(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_POSTMASTER("chief@a.test"));
    refuse(rig, 0);
    rig_post(rig, "s@a.test", "u@a.test");
    rig_pass(rig, DAY);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.bounces, 2);
    assert_int_equal(rig->relay->counters.double_bounces, 2);
    assert_true(rig_log_says(rig, "double bounce, dropped: to=<chief@a.test>"));
    relay_rig_close(rig);
}

static void a_report_to_the_postmaster_is_known_as_one_after_a_restart(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_POSTMASTER("chief@b.test"));
    refuse(rig, 0);
    strcpy(rig->servers[1].rcpt_reply, "450 4.2.0 busy");
    rig_post(rig, "s@a.test", "u@a.test");
    assert_int_equal(rig_waiting(rig), 1);
    rig_restart(rig);
    refuse(rig, 1);
    rig_pass(rig, DAY);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig->relay->counters.bounces, 0); /* since the start */
    assert_true(rig_log_says(rig, "double bounce, dropped: to=<chief@b.test>"));
    relay_rig_close(rig);
}

static void mail_of_others_from_nobody_is_never_reported_on(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(TO_POSTMASTER("chief@b.test"));
    refuse(rig, 0);
    rig_post(rig, "", "u@a.test");
    rig_pass(rig, DAY);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.bounces, 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expired_mail_is_returned_with_the_last_answer),
        cmocka_unit_test(expired_mail_that_was_never_tried_is_not_returned_with_an_empty_answer),
        cmocka_unit_test(a_server_that_talks_nonsense_is_not_quoted_with_a_code_of_zero),
        cmocka_unit_test(the_words_on_expiry_fit_however_long_the_answer_is),
        cmocka_unit_test(a_report_that_is_refused_is_dropped),
        cmocka_unit_test(a_report_that_is_refused_goes_to_the_postmaster_from_nobody),
        cmocka_unit_test(a_report_to_the_postmaster_that_is_refused_is_the_end),
        cmocka_unit_test(a_report_to_the_postmaster_is_known_as_one_after_a_restart),
        cmocka_unit_test(mail_of_others_from_nobody_is_never_reported_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
