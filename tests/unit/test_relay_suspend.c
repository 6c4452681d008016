/* What the operator has suspended, in a whole relay. */
#include "engine/relay/relay_queue.h"
#include "engine/relay/relay_suspend.h"
#include "queue/sched/operator.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MINUTE (60 * RIG_SECOND)
#define ONE_HOP "\n  - {match: \"*\", via: smtp, to: [\"192.0.2.1:25\"], connections: 1}\n"

/* All domains at one next hop. */
static struct relay_rig *open_one(void)
{
    struct relay_rig *rig = relay_rig_open(ONE_HOP);
    rig_serve(rig, "192.0.2.1:25");
    return rig;
}

static struct operator_suspension said(uint8_t of, const char *name)
{
    struct operator_suspension suspension = {.of = of};
    snprintf(suspension.name, sizeof(suspension.name), "%s", name);
    strcpy(suspension.reason, "word");
    return suspension;
}

static void suspend(struct relay_rig *rig, uint8_t of, const char *name, uint64_t for_ns)
{
    const struct operator_suspension suspension = said(of, name);
    assert_int_equal(relay_suspend(rig->relay, &suspension, rig->now_ns + for_ns), 0);
}

/* Written down, as it was said now, for the next start. */
static void note(struct relay_rig *rig, uint8_t of, const char *name, uint64_t for_ns)
{
    struct operator_suspension suspension = said(of, name);
    suspension.until_wall_s = world_wall_s(&rig->world) + (int64_t)(for_ns / RIG_SECOND);
    assert_int_equal(operator_orders_suspend(&rig->orders, &suspension), 0);
}

static void resume(struct relay_rig *rig, uint8_t of, const char *name)
{
    const struct operator_suspension like = said(of, name);
    assert_int_equal(relay_resume(rig->relay, &like), 1);
    rig_settle(rig);
}

/* Of the only message that waits: its first recipient. */
static void find_one(void *owner, struct message *message)
{
    *(struct message **)owner = message;
}

static struct relay_recipient_view view_of_one(struct relay_rig *rig)
{
    struct message *message = NULL;
    struct relay_recipient_view view;
    spool_each(rig->relay->spool, find_one, &message);
    assert_non_null(message);
    relay_queue_view(rig->relay, message, 0, 1, &view);
    return view;
}

static void of_domains_that_share_a_site_only_the_suspended_one_waits(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    suspend(rig, OPERATOR_OF_DOMAIN, "A.test", 10 * MINUTE);
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_int_equal(rig->servers[0].connection_count, 0); /* there is nothing to connect for */
    rig_post(rig, "s@relay.test", "v@b.test");
    rig_post(rig, "s@relay.test", "w@below.a.test");
    assert_int_equal(rig->letter_count, 2);
    assert_int_equal(rig_waiting(rig), 1);
    rig_pass(rig, 10 * MINUTE - RIG_SECOND);
    assert_int_equal(rig->letter_count, 2);
    rig_pass(rig, 2 * RIG_SECOND);
    assert_non_null(rig_letter_for(rig, "u@a.test"));
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.deferred, 0); /* no attempt was counted */
    relay_rig_close(rig);
}

static void of_a_message_to_several_domains_the_others_recipients_go(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    suspend(rig, OPERATOR_OF_DOMAIN, ".two.test", 10 * MINUTE);
    suspend(rig, OPERATOR_OF_DOMAIN, "three.test", 20 * MINUTE);
    rig_post(rig, "s@relay.test", "a@one.test b@x.two.test c@three.test d@one.test e@y.two.test");
    assert_int_equal(rig->letter_count, 1);
    assert_string_equal(rig->letters[0].recipients, "a@one.test d@one.test");
    assert_int_equal(rig_waiting(rig), 3);
    rig_pass(rig, 11 * MINUTE);
    assert_int_equal(rig->letter_count, 2);
    assert_non_null(rig_letter_for(rig, "b@x.two.test e@y.two.test"));
    rig_pass(rig, 10 * MINUTE);
    assert_non_null(rig_letter_for(rig, "c@three.test"));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void domains_with_the_same_mail_exchangers_are_suspended_one_by_one(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open("\n  - {match: \"*\", via: mx}\n");
    rig_mx(rig, "a.test", 10, "mx.host.test", 3600);
    rig_mx(rig, "b.test", 10, "mx.host.test", 3600);
    rig_a(rig, "mx.host.test", "192.0.2.1", 3600);
    rig_serve(rig, "192.0.2.1:25");
    rig_post(rig, "s@relay.test", "known@a.test");
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 10 * MINUTE);
    rig_post(rig, "s@relay.test", "u@a.test v@b.test");
    assert_int_equal(rig->letter_count, 2);
    assert_non_null(rig_letter_for(rig, "v@b.test"));
    resume(rig, OPERATOR_OF_DOMAIN, "a.test");
    assert_non_null(rig_letter_for(rig, "u@a.test"));
    relay_rig_close(rig);
}

static void mail_is_suspended_by_recipient_sender_and_pattern(void **state)
{
    static const struct {
        uint8_t of;
        const char *name, *sender, *suspended, *other;
    } table[] = {
        {OPERATOR_OF_RECIPIENT, "U@a.test", "s@x.test", "u@a.test", "v@a.test"},
        {OPERATOR_OF_PATTERN, "^u.@", "s@x.test", "u7@a.test", "u77@a.test"},
        {OPERATOR_OF_SENDER, "S@x.test", "s@x.test", "u@a.test", NULL},
        {OPERATOR_OF_SENDER, ".test", "s@x.test", "u@a.test", NULL},
        {OPERATOR_OF_SENDER, "X.test", "s@x.test", "u@a.test", NULL},
        {OPERATOR_OF_PATTERN, "^s@", "s@x.test", "u@a.test", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct relay_rig *rig = open_one();
        suspend(rig, table[i].of, table[i].name, 10 * MINUTE);
        rig_post(rig, table[i].sender, table[i].suspended);
        rig_post(rig, "t@y.other", "w@a.test");
        assert_int_equal(rig->letter_count, 1);
        if (table[i].other != NULL) {
            rig_post(rig, table[i].sender, table[i].other);
            assert_int_equal(rig->letter_count, 2);
        }
        assert_int_equal(rig_waiting(rig), 1);
        assert_true(view_of_one(rig).suspended);
        assert_in_range(view_of_one(rig).next_attempt_s, 590, 600);
        resume(rig, table[i].of, table[i].name);
        assert_non_null(rig_letter_for(rig, table[i].suspended));
        relay_rig_close(rig);
    }
}

static void a_pattern_that_is_none_is_refused(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    uint32_t count;
    const struct operator_suspension suspension = said(OPERATOR_OF_PATTERN, "(");
    assert_int_equal(relay_suspend(rig->relay, &suspension, rig->now_ns + MINUTE), -EINVAL);
    relay_suspensions(rig->relay, &count);
    assert_int_equal(count, 0);
    relay_rig_close(rig);
}

static void a_backlog_of_a_suspended_domain_leaves_the_way_free(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    rig_server_down(&rig->servers[0]);
    rig_post(rig, "s@x.test", "first@a.test"); /* the site rests: what follows waits there */
    for (unsigned i = 0; i < 400; i++) {
        rig_post_only(rig, "s@x.test", "u@a.test");
    }
    rig_post_only(rig, "s@x.test", "v@b.test"); /* of the same sender, behind all of them */
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 60 * MINUTE);
    rig_server_up(&rig->servers[0]);
    relay_flush_queue(rig->relay);
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 1);
    assert_non_null(rig_letter_for(rig, "v@b.test"));
    rig_post(rig, "s@x.test", "w@b.test");
    assert_int_equal(rig->letter_count, 2);
    relay_flush_queue(rig->relay); /* does not end it */
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 2);
    rig_pass(rig, 61 * MINUTE);
    assert_int_equal(rig->letter_count, 403);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void what_was_deferred_is_tried_when_it_is_due_and_not_suspended(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 busy");
    rig_post(rig, "s@relay.test", "u@a.test"); /* due again in five minutes */
    assert_int_equal(rig->relay->counters.deferred, 1);
    strcpy(rig->servers[0].rcpt_reply, "250 2.1.5 Ok");
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 2 * MINUTE);
    assert_true(view_of_one(rig).suspended);
    rig_pass(rig, 3 * MINUTE);
    assert_int_equal(rig->letter_count, 0); /* the end of a suspension is no flush */
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 10 * MINUTE);
    rig_pass(rig, 9 * MINUTE);
    assert_int_equal(rig->letter_count, 0);
    rig_pass(rig, 2 * MINUTE);
    assert_int_equal(rig->letter_count, 1);
    relay_rig_close(rig);
}

static void suspended_mail_is_told_of_and_expires_as_ever(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 30ull * 86400 * RIG_SECOND);
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_pass(rig, 5 * 86400 * RIG_SECOND + MINUTE);
    assert_int_equal(rig->letter_count, 1);
    assert_non_null(rig_letter_for(rig, "s@relay.test"));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void suspending_again_moves_the_end(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    uint32_t count;
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 10 * MINUTE);
    rig_post(rig, "s@relay.test", "u@a.test");
    suspend(rig, OPERATOR_OF_DOMAIN, "a.TEST", 20 * MINUTE);
    relay_suspensions(rig->relay, &count);
    assert_int_equal(count, 1);
    rig_pass(rig, 15 * MINUTE);
    assert_int_equal(rig->letter_count, 0);
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", MINUTE); /* sooner than it was to end */
    rig_pass(rig, MINUTE + RIG_SECOND);
    assert_int_equal(rig->letter_count, 1);
    relay_suspensions(rig->relay, &count);
    assert_int_equal(count, 0);
    relay_rig_close(rig);
}

static void suspended_mail_follows_the_routes_of_the_time_when_it_ends(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    rig_serve(rig, "192.0.2.2:25");
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 10 * MINUTE);
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_reload(rig, "\n  - {match: \"*\", via: smtp, to: [\"192.0.2.2:25\"]}\n");
    rig_settle(rig);
    assert_int_equal(rig_waiting(rig), 1);
    rig_pass(rig, 11 * MINUTE);
    assert_int_equal(rig_letter_for(rig, "u@a.test")->server, 1);
    relay_rig_close(rig);
}

static void held_mail_of_a_suspended_domain_waits_for_both_words(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    struct message *message = NULL;
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 10 * MINUTE);
    rig_post(rig, "s@relay.test", "u@a.test");
    spool_each(rig->relay->spool, find_one, &message);
    uint32_t index = 0;
    struct relay_queue_tally tally = {0};
    const struct queue_group group = {
        .message = message, .indexes = &index, .count = 1, .whole = true};
    relay_queue_hold(rig->relay, &group, &tally);
    rig_pass(rig, 11 * MINUTE);
    assert_int_equal(rig->letter_count, 0);
    relay_queue_release(rig->relay, &group, &tally);
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 1);
    relay_rig_close(rig);
}

static void a_suspension_goes_on_after_a_restart_for_what_is_left_of_it(void **state)
{
    static const struct {
        uint8_t of;
        const char *name;
    } table[] = {{OPERATOR_OF_SITE, "192.0.2.1:25"},  {OPERATOR_OF_SENDER, "x.test"},
                 {OPERATOR_OF_SENDER, "s@x.test"},    {OPERATOR_OF_DOMAIN, "a.test"},
                 {OPERATOR_OF_RECIPIENT, "u@a.test"}, {OPERATOR_OF_PATTERN, "u@a"}};
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct relay_rig *rig = open_one();
        uint32_t count;
        suspend(rig, table[i].of, table[i].name, 60 * MINUTE);
        note(rig, table[i].of, table[i].name, 60 * MINUTE);
        rig_post(rig, "s@x.test", "u@a.test");
        rig_pass(rig, 20 * MINUTE);
        rig_restart(rig);
        assert_string_equal(relay_suspensions(rig->relay, &count)->said.name, table[i].name);
        assert_int_equal(count, 1);
        rig_post(rig, "s@x.test", "u@a.test");
        rig_pass(rig, 39 * MINUTE);
        assert_int_equal(rig->letter_count, 0);
        rig_pass(rig, 2 * MINUTE);
        assert_int_equal(rig->letter_count, 2);
        relay_suspensions(rig->relay, &count);
        assert_int_equal(count, 0);
        relay_rig_close(rig);
    }
}

static void a_suspension_that_ends_while_the_relay_is_down_is_over(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    uint32_t count;
    suspend(rig, OPERATOR_OF_DOMAIN, "a.test", 60 * MINUTE);
    suspend(rig, OPERATOR_OF_SITE, "192.0.2.1:25", 60 * MINUTE);
    note(rig, OPERATOR_OF_DOMAIN, "a.test", 0);
    note(rig, OPERATOR_OF_SITE, "192.0.2.1:25", 0);
    rig_post(rig, "s@x.test", "u@a.test");
    assert_int_equal(rig->letter_count, 0);
    rig_restart(rig);
    assert_int_equal(rig->letter_count, 1);
    relay_suspensions(rig->relay, &count);
    assert_int_equal(count, 0);
    relay_rig_close(rig);
}

static void a_restart_with_suspended_mail_that_was_tried_before_keeps_its_backoff(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one();
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 busy");
    rig_post(rig, "s@relay.test", "u@a.test");
    strcpy(rig->servers[0].rcpt_reply, "250 2.1.5 Ok");
    note(rig, OPERATOR_OF_DOMAIN, "a.test", 2 * MINUTE);
    rig_restart(rig);
    assert_true(view_of_one(rig).suspended);
    rig_pass(rig, 4 * MINUTE);
    assert_int_equal(rig->letter_count, 0);
    rig_pass(rig, 2 * MINUTE);
    assert_int_equal(rig->letter_count, 1);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_domains_that_share_a_site_only_the_suspended_one_waits),
        cmocka_unit_test(of_a_message_to_several_domains_the_others_recipients_go),
        cmocka_unit_test(domains_with_the_same_mail_exchangers_are_suspended_one_by_one),
        cmocka_unit_test(mail_is_suspended_by_recipient_sender_and_pattern),
        cmocka_unit_test(a_pattern_that_is_none_is_refused),
        cmocka_unit_test(a_backlog_of_a_suspended_domain_leaves_the_way_free),
        cmocka_unit_test(what_was_deferred_is_tried_when_it_is_due_and_not_suspended),
        cmocka_unit_test(suspended_mail_is_told_of_and_expires_as_ever),
        cmocka_unit_test(suspending_again_moves_the_end),
        cmocka_unit_test(suspended_mail_follows_the_routes_of_the_time_when_it_ends),
        cmocka_unit_test(held_mail_of_a_suspended_domain_waits_for_both_words),
        cmocka_unit_test(a_suspension_goes_on_after_a_restart_for_what_is_left_of_it),
        cmocka_unit_test(a_suspension_that_ends_while_the_relay_is_down_is_over),
        cmocka_unit_test(a_restart_with_suspended_mail_that_was_tried_before_keeps_its_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
