/* Connections that fail before mail was sent: what the log and the queue say of those they were for. */
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROUTE "\n  - {match: \"*\", via: mx, tls: opportunistic}\n"
#define DEFERRED(to, relay, dsn, why)                                                              \
    "to=<" to ">, relay=" relay ", dsn=" dsn ", status=deferred (" why ")"
#define REFUSED(to) DEFERRED(to, "none", "4.4.1", "connect to 192.0.2.1:25: Connection refused")

static unsigned said(struct relay_rig *rig, const char *words)
{
    unsigned count = 0;
    rig_log_says(rig, words); /* reads what there is */
    for (const char *at = rig->log_text; (at = strstr(at, words)) != NULL; at++) {
        count++;
    }
    return count;
}

static struct relay_rig *open_down(const char *route)
{
    struct relay_rig *rig = rig_open_two(route);
    rig_server_down(&rig->servers[0]);
    return rig;
}

static void each_recipient_of_the_message_that_a_connection_was_for_has_its_line(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(ROUTE);
    rig_post(rig, "s@relay.test", "u@a.test v@a.test w@b.test");
    assert_true(rig_log_says(rig, REFUSED("u@a.test")));
    assert_true(rig_log_says(rig, REFUSED("v@a.test")));
    assert_int_equal(said(rig, "status=deferred"), 2);
    assert_int_equal(rig->relay->counters.deferred_unreached, 2);
    assert_int_equal(rig->relay->counters.deferred, 0); /* no server has judged it */
    relay_rig_close(rig);
}

static void
it_is_tried_and_told_of_again_after_the_rest_and_goes_when_the_server_is_back(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(ROUTE);
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_pass(rig, 3600 * RIG_SECOND);
    unsigned lines = said(rig, REFUSED("u@a.test"));
    assert_in_range(lines, 2, 60);
    assert_int_equal(rig->relay->counters.connections_out_failed, lines);
    rig_server_up(&rig->servers[0]);
    rig_pass(rig, 3600 * RIG_SECOND);
    assert_non_null(rig_letter_for(rig, "u@a.test"));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void while_a_host_is_left_that_was_not_tried_nothing_is_deferred(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(ROUTE);
    rig_mx(rig, "a.test", 20, "mx.b.test", 3600);
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_non_null(rig_letter_for(rig, "u@a.test"));
    assert_true(rig_log_says(rig, "connect to 192.0.2.1:25: Connection refused"));
    assert_int_equal(said(rig, "status=deferred"), 0);
    assert_int_equal(rig->relay->counters.deferred_unreached, 0);
    relay_rig_close(rig);
}

/* The others are told of by their site: the log of a dead one does not grow with its queue. */
static void a_backlog_has_one_line_for_each_connection_that_was_tried(void **state)
{
    (void)state;
    struct relay_rig *rig =
        open_down("\n  - {match: \"*\", via: mx, connections: 4, tls: opportunistic}\n");
    for (unsigned i = 0; i < 50; i++) {
        rig_post_only(rig, "s@relay.test", "u@a.test");
    }
    rig_settle(rig);
    unsigned first = said(rig, REFUSED("u@a.test"));
    assert_in_range(first, 1, 4);
    assert_int_equal(rig_waiting(rig), 50);
    for (uint64_t rests = 0; rests < 10; rests++) {
        uint64_t failed = rig->relay->counters.connections_out_failed;
        rig_pass(rig, 60 * RIG_SECOND);
        unsigned lines = said(rig, REFUSED("u@a.test"));
        assert_int_equal(lines - first, rig->relay->counters.connections_out_failed - failed);
        first = lines;
    }
    relay_rig_close(rig);
}

static void of_very_many_recipients_the_first_hundred_are_named(void **state)
{
    (void)state;
    char recipients[150 * 12], *at = recipients;
    struct relay_rig *rig = open_down(
        "\n  - {match: \"*\", via: mx, tls: opportunistic, recipients_per_message: 200}\n");
    for (unsigned i = 0; i < 150; i++) {
        at += sprintf(at, "%su%u@a.test", i == 0 ? "" : " ", i);
    }
    rig_post(rig, "s@relay.test", recipients);
    assert_int_equal(said(rig, "status=deferred (connect to"), 100);
    assert_true(rig_log_says(rig, ": 50 more recipients deferred for the same reason"));
    assert_int_equal(rig->relay->counters.deferred_unreached, 150);
    relay_rig_close(rig);
}

static void a_greeting_that_refuses_us_is_quoted_and_the_mail_waits(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(ROUTE);
    strcpy(rig->servers[0].greeting, "554 5.7.1 not you");
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_true(rig_log_says(rig, DEFERRED("u@a.test", "192.0.2.1:25", "4.7.1",
                                           "host 192.0.2.1:25 refused to talk to me: "
                                           "554 5.7.1 not you")));
    assert_int_equal(rig->relay->counters.connections_out_insecure, 0);
    assert_int_equal(rig_waiting(rig), 1);
    relay_rig_close(rig);
}

/* The message that waits, whoever looks at the queue. */
static struct slice reason_shown(struct relay_rig *rig)
{
    struct list_node *used = &rig->relay->sites.used;
    for (struct list_node *node = used->next; node != used; node = node->next) {
        const struct sched_delivery *delivery;
        struct sched_view view;
        if (sched_turns(list_entry(node, struct relay_site, node)->sched, &delivery, 1) == 1) {
            sched_view_delivery(delivery, &view);
            return view.reason;
        }
    }
    return slice_text("");
}

static void where_tls_is_required_and_not_offered_the_recipient_and_the_queue_say_so(void **state)
{
    (void)state;
    static const uint8_t secret[TLS_SECRET_BYTES] = {1};
    static struct relay_tls tls;
    struct relay_rig *rig = rig_open_two("\n  - {match: \"*\", via: mx, tls: required}\n");
    rig_post(rig, "s@relay.test", "u@b.test"); /* where there is no TLS on our side either */
    assert_true(rig_log_says(
        rig, DEFERRED("u@b.test", "none", "4.7.5", "TLS is required, but there is none here")));
    assert_int_equal(relay_tls_open(&tls, &rig->shard, rig->conf, secret), 0);
    rig->relay->tls = &tls;
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_true(rig_log_says(rig, DEFERRED("u@a.test", "192.0.2.1:25", "4.7.4",
                                           "TLS is required, but was not offered")));
    assert_true(
        slice_equal(reason_shown(rig), slice_text("4.7.4 TLS is required, but was not offered")) ||
        slice_equal(reason_shown(rig),
                    slice_text("4.7.5 TLS is required, but there is none here")));
    assert_int_equal(rig->relay->counters.connections_out_insecure, 2);
    assert_int_equal(rig->relay->counters.deferred_unreached, 2);
    relay_rig_close(rig);
    relay_tls_close(&tls);
}

static void what_we_break_off_ourselves_is_no_failure_of_the_message(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_two(ROUTE);
    strcpy(rig->servers[0].greeting, "220-a moment"); /* and nothing more */
    rig_post_only(rig, "s@relay.test", "u@a.test");
    rig_settle(rig);
    outbound_abort_all(rig->relay);
    assert_int_equal(said(rig, "status=deferred"), 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_recipient_of_the_message_that_a_connection_was_for_has_its_line),
        cmocka_unit_test(
            it_is_tried_and_told_of_again_after_the_rest_and_goes_when_the_server_is_back),
        cmocka_unit_test(while_a_host_is_left_that_was_not_tried_nothing_is_deferred),
        cmocka_unit_test(a_backlog_has_one_line_for_each_connection_that_was_tried),
        cmocka_unit_test(of_very_many_recipients_the_first_hundred_are_named),
        cmocka_unit_test(a_greeting_that_refuses_us_is_quoted_and_the_mail_waits),
        cmocka_unit_test(where_tls_is_required_and_not_offered_the_recipient_and_the_queue_say_so),
        cmocka_unit_test(what_we_break_off_ourselves_is_no_failure_of_the_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
