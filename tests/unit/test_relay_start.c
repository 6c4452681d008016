/* A start with a large queue: mail flows, and the operator is served, before all of it is filed. */
#include "engine/relay/relay_queue.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MAIL 3500u /* so many rounds file them that a session fits in */
static const char routes[] = "\n  - {match: \"*\", via: smtp, to: [\"192.0.2.1:25\"]}\n";

static void round_run(struct relay_rig *rig)
{
    rig->now_ns += 1000000;
    shard_round(&rig->shard);
}

static bool is_finding(struct relay_rig *rig)
{
    return spool_is_finding(relay_spool(rig->relay));
}

/* The process has just started with mail for a server that was down. */
static struct relay_rig *rig_started(void)
{
    struct relay_rig *rig = relay_rig_open(routes);
    rig_server_down(rig_serve(rig, "192.0.2.1:25"));
    for (unsigned i = 0; i < MAIL; i++) {
        rig_post_only(rig, "s@relay.test", "u@a.test");
    }
    rig_restart_only(rig);
    assert_true(is_finding(rig));
    assert_int_equal(rig_waiting(rig), 0);
    return rig;
}

static void the_first_is_delivered_before_the_last_is_filed(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_started();
    rig_server_up(&rig->servers[0]);
    while (rig->letter_count == 0) {
        assert_true(is_finding(rig));
        round_run(rig);
    }
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, MAIL);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

struct removal {
    struct queue_walk walk;
    struct relay *relay;
    struct relay_queue_tally tally;
    bool is_over;
};

static void removal_act(void *owner, const struct queue_group *group)
{
    struct removal *removal = owner;
    relay_queue_delete(removal->relay, group, &removal->tally);
}

static void removal_over(void *owner)
{
    ((struct removal *)owner)->is_over = true;
}

static void what_the_operator_deletes_is_all_that_was_found(void **state)
{
    static const struct queue_walk_ops ops = {.act = removal_act, .over = removal_over};
    static const struct queue_filter everything;
    (void)state;
    struct relay_rig *rig = rig_started();
    struct removal removal = {.relay = rig->relay};
    removal.walk = (struct queue_walk){.filter = &everything, .ops = &ops, .owner = &removal};
    assert_int_equal(queue_walk_start(relay_walks(rig->relay), &removal.walk), 0);
    while (is_finding(rig)) {
        round_run(rig);
        assert_true(removal.tally.done == 0 || !is_finding(rig));
    }
    rig_settle(rig);
    assert_true(removal.is_over);
    assert_int_equal(removal.tally.done, MAIL);
    assert_int_equal(removal.tally.busy, 0);
    relay_rig_close(rig);
}

static void a_walk_that_waits_for_the_start_ends_with_the_relay(void **state)
{
    static const struct queue_walk_ops ops = {.act = removal_act, .over = removal_over};
    static const struct queue_filter everything;
    (void)state;
    struct relay_rig *rig = rig_started();
    struct removal removal = {.relay = rig->relay};
    removal.walk = (struct queue_walk){.filter = &everything, .ops = &ops, .owner = &removal};
    assert_int_equal(queue_walk_start(relay_walks(rig->relay), &removal.walk), 0);
    relay_drain(rig->relay, rig->now_ns);
    round_run(rig);
    assert_true(removal.is_over);
    assert_int_equal(removal.tally.done, 0);
    relay_rig_close(rig);
}

static void a_flush_holds_for_what_is_filed_after_it(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open(routes);
    struct rig_server *server = rig_serve(rig, "192.0.2.1:25");
    snprintf(server->rcpt_reply, sizeof(server->rcpt_reply), "450 4.2.0 busy");
    for (unsigned i = 0; i < MAIL; i++) {
        rig_post(rig, "s@relay.test", "u@a.test");
    }
    snprintf(server->rcpt_reply, sizeof(server->rcpt_reply), "250 2.1.5 Ok");
    rig_restart_only(rig);
    assert_true(is_finding(rig));
    relay_flush_queue(rig->relay);
    for (unsigned i = 0; i < 20; i++) {
        rig_settle(rig);
    }
    assert_int_equal(rig->letter_count, MAIL); /* none waits for its time */
    relay_rig_close(rig);
}

static void message_note(void *owner, struct message *message)
{
    *(struct message **)owner = message;
}

static void what_is_not_filed_yet_is_shown_as_waiting(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_started();
    struct relay_recipient_view view;
    uint64_t cursor = 0;
    struct message *first = NULL;
    while (first == NULL) {
        cursor = spool_walk(relay_spool(rig->relay), cursor, message_note, &first);
    }
    relay_queue_view(rig->relay, first, 0, 1, &view);
    assert_true(view.found && !view.filed);
    rig_settle(rig);
    relay_queue_view(rig->relay, first, 0, 1, &view);
    assert_true(!view.found && view.filed);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_is_delivered_before_the_last_is_filed),
        cmocka_unit_test(what_the_operator_deletes_is_all_that_was_found),
        cmocka_unit_test(a_walk_that_waits_for_the_start_ends_with_the_relay),
        cmocka_unit_test(a_flush_holds_for_what_is_filed_after_it),
        cmocka_unit_test(what_is_not_filed_yet_is_shown_as_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
