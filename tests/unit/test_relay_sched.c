#include "queue/sched/group.h"
#include "queue/sched/operator.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MINUTE (60 * RIG_SECOND)

/* Domains a.test and b.test, each with its host. */
static struct relay_rig *open_two(const char *routes)
{
    struct relay_rig *rig = relay_rig_open(routes);
    rig_mx(rig, "a.test", 10, "mx.a.test", 3600);
    rig_mx(rig, "b.test", 10, "mx.b.test", 3600);
    rig_a(rig, "mx.a.test", "192.0.2.1", 3600);
    rig_a(rig, "mx.b.test", "192.0.2.2", 3600);
    rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    return rig;
}

static struct sched_site *site_of(struct relay_rig *rig, const char *host)
{
    struct list_node *used = &rig->relay->sites.used;
    for (struct list_node *node = used->next; node != used; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_site, node);
        if (site->destination != NULL &&
            slice_equal(slice_text(site->destination->hosts[0].name), slice_text(host))) {
            return site->sched;
        }
    }
    return NULL;
}

static void messages_go_at_the_rate_of_their_route(void **state)
{
    (void)state;
    struct relay_rig *rig =
        open_two("\n  - {match: \"*\", via: mx, message_rate: 2/m, message_burst: 3}\n");
    for (unsigned i = 0; i < 8; i++) {
        rig_post(rig, "s@relay.test", "u@a.test");
    }
    assert_int_equal(rig->letter_count, 3);
    rig_post(rig, "s@relay.test", "u@b.test"); /* other hosts have a rate of their own */
    assert_int_equal(rig->letter_count, 4);
    rig_pass(rig, 31 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 5);
    rig_pass(rig, 10 * MINUTE);
    assert_int_equal(rig->letter_count, 9);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(rig->relay->counters.deferred, 0); /* waiting for it is no attempt */
    relay_rig_close(rig);
}

static void a_rate_that_is_read_again_holds_at_once(void **state)
{
    (void)state;
    struct relay_rig *rig = open_two("\n  - {match: \"*\", via: mx, message_rate: 1/d}\n");
    for (unsigned i = 0; i < 5; i++) {
        rig_post(rig, "s@relay.test", "u@a.test");
    }
    assert_int_equal(rig->letter_count, 1);
    rig_reload(rig, "\n  - {match: \"*\", via: mx, message_rate: 2/m, message_burst: 2}\n");
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 3);
    rig_pass(rig, 31 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 4);
    rig_reload(rig, "\n  - {match: \"*\", via: mx}\n");
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 5);
    relay_rig_close(rig);
}

static void connections_are_opened_at_the_rate_of_their_route(void **state)
{
    (void)state;
    struct relay_rig *rig = open_two(
        "\n  - {match: \"*\", via: mx, connection_rate: 1/m, messages_per_connection: 1}\n");
    for (unsigned i = 0; i < 3; i++) {
        rig_post(rig, "s@relay.test", "u@a.test");
    }
    assert_int_equal(rig->letter_count, 1);
    rig_pass(rig, 61 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 2);
    rig_pass(rig, 61 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 3);
    assert_int_equal(rig->servers[0].connection_count, 3);
    relay_rig_close(rig);
}

static void sites_take_turns_for_the_connections_of_the_shard(void **state)
{
    (void)state;
    struct relay_rig *rig =
        open_two("\n  - {match: \"*\", via: mx}\nlimits: {connections_out: 1}\n");
    for (unsigned i = 0; i < 20; i++) {
        rig_post(rig, "s@relay.test", i % 2 == 0 ? "u@a.test" : "u@b.test");
        assert_int_equal(rig->letter_count, i + 1); /* the idle one gives its connection up */
        assert_int_equal(rig->relay->counters.sessions_out, 1);
    }
    relay_rig_close(rig);
}

static void a_backlog_of_one_sender_does_not_delay_another(void **state)
{
    (void)state;
    struct relay_rig *rig = open_two("\n  - {match: \"*\", via: mx, connections: 1}\n");
    rig_post(rig, "s@relay.test", "known@a.test");
    struct sched_site *site = site_of(rig, "mx.a.test");
    assert_int_equal(sched_site_suspend(site, SCHED_NEVER, slice_text("all together")), 0);
    for (unsigned i = 0; i < 50; i++) {
        rig_post_only(rig, "news@BULK.test", "u@a.test");
    }
    rig_post_only(rig, "s@small.test", "v@a.test");
    sched_site_resume(site);
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 52);
    assert_in_range(rig_letter_for(rig, "v@a.test") - rig->letters, 1, 4);
    relay_rig_close(rig);
}

static void after_a_restart_a_message_is_due_when_it_was(void **state)
{
    (void)state;
    struct relay_rig *rig = open_two("\n  - {match: \"*\", via: mx}\n");
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 busy");
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_pass(rig, 301 * RIG_SECOND); /* the second attempt; the third is ten minutes later */
    assert_int_equal(rig->relay->counters.deferred, 2);
    rig_pass(rig, 60 * RIG_SECOND);
    rig_restart(rig);
    strcpy(rig->servers[0].rcpt_reply, "250 2.1.5 Ok");
    rig_pass(rig, 500 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 0);
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 1);
    relay_rig_close(rig);
}

static void a_suspended_site_is_remembered_though_it_has_no_mail(void **state)
{
    (void)state;
    struct relay_rig *rig = open_two("\n  - {match: \"*\", via: mx}\n");
    rig_post(rig, "s@relay.test", "u@a.test");
    struct sched_site *site = site_of(rig, "mx.a.test");
    assert_non_null(site);
    uint64_t until_ns = rig->now_ns + 60 * MINUTE;
    assert_int_equal(sched_site_suspend(site, until_ns, slice_text("word")), 0);
    rig_pass(rig, 40 * MINUTE);
    assert_ptr_equal(site_of(rig, "mx.a.test"), site);
    rig_post(rig, "s@relay.test", "v@a.test");
    rig_pass(rig, 15 * MINUTE);
    assert_null(rig_letter_for(rig, "v@a.test"));
    rig_pass(rig, until_ns - rig->now_ns + RIG_SECOND);
    assert_non_null(rig_letter_for(rig, "v@a.test"));
    relay_rig_close(rig);
}

static void mail_of_a_suspended_site_is_filed_again_when_its_route_is_gone(void **state)
{
    (void)state;
    struct relay_rig *rig = open_two("\n  - {match: \"*\", via: mx}\n");
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_int_equal(sched_site_suspend(site_of(rig, "mx.a.test"), SCHED_NEVER, slice_text("word")),
                     0);
    rig_post(rig, "s@relay.test", "v@a.test");
    assert_int_equal(rig_waiting(rig), 1);
    rig_reload(rig, "\n  - {match: \"*\", to: [\"192.0.2.2:25\"]}\n");
    rig_settle(rig);
    assert_int_equal(rig_letter_for(rig, "v@a.test")->server, 1);
    relay_rig_close(rig);
}

static void a_backlog_that_grows_too_old_is_returned_a_part_in_each_round(void **state)
{
    (void)state;
    struct relay_rig *rig = open_two("\n  - {match: \"*\", via: mx}\n");
    rig_post(rig, "s@relay.test", "known@a.test");
    struct sched_site *site = site_of(rig, "mx.a.test");
    assert_int_equal(sched_site_suspend(site, SCHED_NEVER, slice_text("word")), 0);
    rig_server_down(&rig->servers[1]);
    for (unsigned i = 0; i < 200; i++) {
        rig_post_only(rig, "s@b.test", "u@a.test");
    }
    rig->now_ns += 5 * 86400 * RIG_SECOND + 60 * RIG_SECOND;
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    uint64_t before = counts.deliveries;
    for (unsigned i = 0; i < 200 && counts.deliveries > 0; i++) {
        shard_round(&rig->shard);
        rig->now_ns += 1000000;
        sched_site_counts(site, &counts);
        assert_true(before - counts.deliveries <= 64);
        before = counts.deliveries;
    }
    assert_int_equal(counts.deliveries, 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_at_the_rate_of_their_route),
        cmocka_unit_test(a_rate_that_is_read_again_holds_at_once),
        cmocka_unit_test(connections_are_opened_at_the_rate_of_their_route),
        cmocka_unit_test(sites_take_turns_for_the_connections_of_the_shard),
        cmocka_unit_test(a_backlog_of_one_sender_does_not_delay_another),
        cmocka_unit_test(after_a_restart_a_message_is_due_when_it_was),
        cmocka_unit_test(a_backlog_that_grows_too_old_is_returned_a_part_in_each_round),
        cmocka_unit_test(a_suspended_site_is_remembered_though_it_has_no_mail),
        cmocka_unit_test(mail_of_a_suspended_site_is_filed_again_when_its_route_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
