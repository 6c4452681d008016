/* Mail that the operator sends to another next hop than its route's, in a whole relay. */
#include "engine/relay/relay_detour.h"
#include "engine/relay/relay_queue.h"
#include "engine/relay/relay_suspend.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MINUTE (60 * RIG_SECOND)
#define DOWN "\n  - {match: \"*\", via: smtp, to: [\"192.0.2.1:25\"]}\n"
#define OTHER "192.0.2.9:25" /* no route names it */

/* Server 0 is where the routes lead, and is down; server 1 is at OTHER; server 2 at 192.0.2.8:25. */
static struct relay_rig *open_down(const char *routes)
{
    struct relay_rig *rig = relay_rig_open(routes);
    rig_mx(rig, "a.test", 10, "mx.a.test", 3600);
    rig_mx(rig, "b.test", 10, "mx.b.test", 3600);
    rig_a(rig, "mx.a.test", "192.0.2.1", 3600);
    rig_a(rig, "mx.b.test", "192.0.2.1", 3600);
    rig_server_down(rig_serve(rig, "192.0.2.1:25"));
    rig_serve(rig, OTHER);
    rig_serve(rig, "192.0.2.8:25");
    return rig;
}

static void say(struct relay_rig *rig, const char *words, const char *to)
{
    struct operator_reroute said = {.since_wall_s = world_wall_s(&rig->world)};
    snprintf(said.words, sizeof(said.words), "%s", words);
    snprintf(said.to, sizeof(said.to), "%s", to);
    assert_int_equal(operator_orders_reroute(&rig->orders, &said), 0);
    assert_int_equal(relay_detour_remember(rig->relay, &said), 0);
    rig_pass(rig, 2 * RIG_SECOND); /* what comes from now on came later */
}

struct moving {
    struct relay_rig *rig;
    const char *to;
    struct relay_queue_tally tally;
};

static void move_all(void *owner, struct message *message)
{
    struct moving *moving = owner;
    uint32_t indexes[16], count = 0;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (message_recipient_state(message, i) == RECIPIENT_WAITING) {
            indexes[count++] = i;
        }
    }
    const struct queue_group group = {
        .message = message, .indexes = indexes, .count = count, .whole = true};
    relay_queue_reroute(moving->rig->relay, &group, moving->to, &moving->tally);
}

/* The job alone: all that waits goes there. */
static uint64_t reroute_all(struct relay_rig *rig, const char *to)
{
    struct moving moving = {.rig = rig, .to = to};
    spool_each(rig->relay->spool, move_all, &moving);
    rig_settle(rig);
    return moving.tally.done;
}

static void next_hops_are_read_in_each_form(void **state)
{
    static const struct {
        const char *text;
        bool good;
    } table[] = {
        {"192.0.2.9:25", true},
        {"192.0.2.9", true},
        {"smtp:192.0.2.9", true},
        {"smtp:[192.0.2.9]:25", true},
        {"smtp:[192.0.2.9]", true},
        {"[192.0.2.9]", true},
        {"[2001:db8::1]:2525", true},
        {"2001:db8::1", true},
        {"lmtp:[2001:db8::1]", true},
        {"unix:/run/lmtp", true},
        {"lmtp:unix:/run/lmtp", true},
        {"lmtp:192.0.2.9:24", true},
        {"", false},
        {"smtp:", false},
        {"mx.test", false},
        {"smtp:[mx.test]:25", false},
        {"192.0.2.9:0", false},
        {"192.0.2.9:70000", false},
        {"[192.0.2.9]x", false},
        {"[192.0.2.9", false},
        {"http:192.0.2.9", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (relay_detour_is_hop(table[i].text) != table[i].good) {
            fail_msg("'%s'", table[i].text);
        }
    }
}

static void mail_goes_to_a_next_hop_that_no_route_names(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(DOWN);
    rig_post(rig, "s@relay.test", "u@a.test v@b.test");
    assert_int_equal(reroute_all(rig, "smtp:[192.0.2.9]:25"), 2);
    assert_int_equal(rig->letter_count, 1);
    assert_int_equal(rig->letters[0].server, 1);
    assert_int_equal(rig_waiting(rig), 0);
    assert_true(rig_log_says(rig, "2 recipients go to smtp:[192.0.2.9]:25"));
    relay_rig_close(rig);
}

static void a_made_next_hop_has_the_limits_of_a_route_that_says_nothing(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down("\n  - {match: \"*\", via: smtp, to: [\"192.0.2.1:25\"], "
                                      "connections: 1, message_rate: 1/h}\n");
    struct relay_site *site = relay_detour_site(rig->relay, OTHER);
    assert_non_null(site);
    assert_int_equal(site->route->connections, 20);
    assert_int_equal(site->route->messages_per_connection, 1000);
    assert_int_equal(site->route->recipients_per_message, 100);
    assert_int_equal(site->route->message_rate.count, 0);
    assert_int_equal(site->route->tls.level, CONF_LEVEL_OPPORTUNISTIC);
    assert_true(site->route->pipelining);
    assert_ptr_equal(relay_detour_site(rig->relay, "smtp:" OTHER), site);
    assert_ptr_not_equal(relay_detour_site(rig->relay, "lmtp:" OTHER), site);
    /* One that a route names has that route's. */
    assert_int_equal(relay_detour_site(rig->relay, "192.0.2.1:25")->route->connections, 1);
    relay_rig_close(rig);
}

static void made_next_hops_end_when_nothing_waits_for_them(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(DOWN);
    char to[32];
    for (unsigned i = 0; i < 64; i++) {
        snprintf(to, sizeof(to), "192.0.2.%u:26", i + 1);
        assert_non_null(relay_detour_site(rig->relay, to));
    }
    assert_null(relay_detour_site(rig->relay, "192.0.2.77:26")); /* as many as there may be */
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_int_equal(reroute_all(rig, "192.0.2.1:26"), 1); /* nobody listens: it waits */
    rig_pass(rig, 30 * MINUTE);
    assert_non_null(relay_detour_site(rig->relay, "192.0.2.77:26"));
    assert_int_equal(rig->relay->detours.hop_count, 2);
    relay_rig_close(rig);
}

static void what_is_deferred_there_waits_for_it_over_a_reload(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(DOWN);
    rig_server_down(&rig->servers[1]);
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_int_equal(reroute_all(rig, OTHER), 1);
    rig_reload(rig, "\n  - {match: \"*\", via: smtp, to: [\"192.0.2.8:25\"]}\n");
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 0);
    rig_server_up(&rig->servers[1]);
    rig_pass(rig, 20 * MINUTE);
    assert_int_equal(rig->letter_count, 1);
    assert_int_equal(rig->letters[0].server, 1);
    relay_rig_close(rig);
}

static void after_a_restart_mail_goes_where_it_was_rerouted_and_later_mail_does_not(void **state)
{
    static const char *const routes[] = {DOWN, "\n  - {match: \"*\", via: mx}\n"};
    static const char *const words[] = {
        "domain=a.test",     "sender=s@relay.test recipient=u@A.test",
        "pattern=^u@",       "all older=1h",
        "site=192.0.2.1:25", "site=mx.a.test"};
    (void)state;
    for (unsigned i = 0; i < 2 * sizeof(words) / sizeof(words[0]); i++) {
        const char *said = words[i / 2];
        bool by_mx = i % 2 == 1, is_site = strncmp(said, "site=", 5) == 0;
        if (is_site && by_mx != (strcmp(said, "site=mx.a.test") == 0)) {
            continue;
        }
        struct relay_rig *rig = open_down(routes[i % 2]);
        rig_server_down(&rig->servers[1]);
        rig_post(rig, "s@relay.test", "u@a.test");
        rig_pass(rig, 61 * MINUTE);
        say(rig, said, OTHER);
        rig_post(rig, "s@relay.test", "u@a.test w@a.test");
        rig_restart(rig);
        rig_server_up(&rig->servers[1]);
        rig_pass(rig, 240 * MINUTE);
        if (rig->letter_count != 1) {
            fail_msg("%s: %u letters", said, rig->letter_count);
        }
        assert_int_equal(rig->letters[0].server, 1);
        assert_string_equal(rig->letters[0].recipients, "u@a.test");
        assert_int_equal(rig_waiting(rig), 2); /* the later ones, where the route leads */
        relay_rig_close(rig);
    }
}

static void of_a_message_only_the_recipients_that_were_meant_go_there_after_a_restart(void **state)
{
    static const char *const routes[] = {DOWN, "\n  - {match: \"*\", via: mx}\n"};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct relay_rig *rig = open_down(routes[i]);
        rig_post(rig, "s@relay.test", "u@a.test v@b.test w@a.test x@b.test");
        /* By the site too, so that it is asked when the site is known. */
        say(rig, i == 0 ? "pattern=^[uv]@" : "pattern=^[uv]@ site=mx.a.test", OTHER);
        rig_restart(rig);
        rig_pass(rig, 20 * MINUTE);
        assert_int_equal(rig->letter_count, 1);
        assert_string_equal(rig->letters[0].recipients, i == 0 ? "u@a.test v@b.test" : "u@a.test");
        assert_int_equal(rig_waiting(rig), i == 0 ? 2 : 3);
        relay_rig_close(rig);
    }
}

static void reroutes_are_followed_in_the_order_in_which_they_were_said(void **state)
{
    static const struct {
        const char *words[3], *to[3];
        int server; /* -1: it waits where the route leads */
    } table[] = {
        /* the later one of the same mail */
        {{"domain=a.test", "domain=a.test"}, {OTHER, "192.0.2.8:25"}, 2},
        /* sent on */
        {{"domain=a.test", "site=" OTHER}, {OTHER, "192.0.2.8:25"}, 2},
        /* what waited there before */
        {{"site=" OTHER, "domain=a.test"}, {"192.0.2.8:25", OTHER}, 1},
        /* to and fro: round and round it must not go */
        {{"site=192.0.2.1:25", "site=" OTHER, "site=192.0.2.1:25"},
         {OTHER, "192.0.2.1:25", "192.0.2.8:25"},
         2},
        /* back */
        {{"domain=a.test", "all"}, {OTHER, OPERATOR_TO_ROUTES}, -1},
        {{"all", "domain=a.test"}, {OPERATOR_TO_ROUTES, OTHER}, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct relay_rig *rig = open_down(DOWN);
        rig_post(rig, "s@relay.test", "u@a.test");
        for (unsigned j = 0; j < 3 && table[i].words[j] != NULL; j++) {
            say(rig, table[i].words[j], table[i].to[j]);
        }
        rig_restart(rig);
        rig_pass(rig, 20 * MINUTE);
        if ((int)rig->letter_count != (table[i].server >= 0)) {
            fail_msg("row %zu: %u letters", i, rig->letter_count);
        }
        assert_true(rig->letter_count == 0 || (int)rig->letters[0].server == table[i].server);
        relay_rig_close(rig);
    }
}

static void mail_that_is_given_back_goes_where_the_routes_lead(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(DOWN);
    rig_server_down(&rig->servers[1]);
    rig_post(rig, "s@relay.test", "u@a.test");
    say(rig, "all", OTHER);
    assert_int_equal(reroute_all(rig, OTHER), 1);
    rig_server_up(&rig->servers[0]);
    relay_flush_queue(rig->relay);
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 0);
    say(rig, "all", OPERATOR_TO_ROUTES);
    assert_int_equal(rig->relay->detours.count, 0); /* the other is forgotten */
    assert_int_equal(reroute_all(rig, OPERATOR_TO_ROUTES), 1);
    assert_int_equal(rig->letter_count, 1);
    assert_int_equal(rig->letters[0].server, 0);
    relay_rig_close(rig);
}

static void mail_that_is_given_back_and_has_no_route_any_more_is_returned(void **state)
{
    static const char *const senders[] = {"s@b.test", ""}; /* without a sender it is gone at once */
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct relay_rig *rig = open_down(DOWN);
        rig_server_down(&rig->servers[1]);
        rig_post(rig, senders[i], "u@a.test");
        assert_int_equal(reroute_all(rig, OTHER), 1);
        rig_reload(rig, "\n  - {match: b.test, via: smtp, to: [\"192.0.2.8:25\"]}\n");
        rig_settle(rig);
        assert_int_equal(rig_waiting(rig), 1);
        assert_int_equal(reroute_all(rig, OPERATOR_TO_ROUTES), 1);
        assert_int_equal(rig_waiting(rig), 0);
        assert_int_equal(rig->letter_count, i == 0);
        assert_true(rig->letter_count == 0 || rig->letters[0].server == 2);
        relay_rig_close(rig);
    }
}

static void when_the_route_of_the_next_hop_goes_mail_by_mx_still_goes_there(void **state)
{
    (void)state;
    const char *const with = "\n  - {match: c.test, via: smtp, to: [\"" OTHER "\"]}"
                             "\n  - {match: \"*\", via: mx}\n";
    struct relay_rig *rig = open_down(with);
    rig_server_down(&rig->servers[1]);
    rig_post(rig, "s@relay.test", "u@a.test");
    say(rig, "site=mx.a.test", OTHER);
    assert_int_equal(reroute_all(rig, OTHER), 1);
    rig_post(rig, "s@relay.test",
             "later@a.test"); /* so that it is known where its domain's mail goes */
    rig_reload(rig, "\n  - {match: \"*\", via: mx}\n");
    rig_settle(rig);
    rig_server_up(&rig->servers[0]);
    rig_server_up(&rig->servers[1]);
    rig_pass(rig, 30 * MINUTE);
    assert_int_equal(rig->letter_count, 2);
    assert_int_equal(rig_letter_for(rig, "u@a.test")->server, 1);
    assert_int_equal(rig_letter_for(rig, "later@a.test")->server, 0);
    relay_rig_close(rig);
}

static void a_shard_forgets_reroutes_of_mail_so_old_that_none_waits_and_keeps_no_more_than_the_file(
    void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(DOWN);
    struct operator_reroute said = {.to = OTHER};
    for (unsigned i = 0; i < OPERATOR_REROUTES_MAX + 1; i++) {
        said.since_wall_s = world_wall_s(&rig->world);
        snprintf(said.words, sizeof(said.words), "domain=d%u.test", i);
        assert_int_equal(relay_detour_remember(rig->relay, &said),
                         i < OPERATOR_REROUTES_MAX ? 0 : -ENOSPC);
    }
    rig_pass(rig, 7ull * 24 * 60 * MINUTE);
    said.since_wall_s = world_wall_s(&rig->world);
    assert_int_equal(relay_detour_remember(rig->relay, &said), 0);
    assert_int_equal(rig->relay->detours.count, 1);
    relay_rig_close(rig);
}

static void where_we_listen_is_told_from_other_next_hops(void **state)
{
    static const struct {
        const char *to;
        bool ours;
    } table[] = {
        {"192.0.2.70:25", true},     {"smtp:192.0.2.70", true},  {"192.0.2.70:26", false},
        {"192.0.2.71:25", false},    {"127.0.0.1:2525", true},   {"[::1]:2525", true},
        {"127.0.0.1:25", false},     {"192.0.2.70:2525", false}, {"lmtp:unix:/run/in", false},
        {OPERATOR_TO_ROUTES, false},
    };
    (void)state;
    struct relay_rig *rig = open_down(DOWN "listen:\n"
                                           "  - {name: one, address: [\"192.0.2.70:25\"]}\n"
                                           "  - {name: two, address: [\"0.0.0.0:2525\"]}\n");
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (relay_detour_is_ours(rig->relay, table[i].to) != table[i].ours) {
            fail_msg("'%s'", table[i].to);
        }
    }
    relay_rig_close(rig);
}

static void suspended_mail_waits_for_its_other_next_hop_too(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(DOWN);
    struct operator_suspension said = {.of = OPERATOR_OF_DOMAIN, .name = "a.test"};
    assert_int_equal(relay_suspend(rig->relay, &said, rig->now_ns + 10 * MINUTE), 0);
    rig_post(rig, "s@relay.test", "u@a.test");
    say(rig, "domain=a.test", OTHER);
    assert_int_equal(reroute_all(rig, OTHER), 1);
    assert_int_equal(rig->letter_count, 0);
    rig_pass(rig, 11 * MINUTE);
    assert_int_equal(rig->letter_count, 1);
    assert_int_equal(rig->letters[0].server, 1);
    relay_rig_close(rig);
}

static void words_that_are_none_are_passed_over_at_a_start(void **state)
{
    (void)state;
    struct relay_rig *rig = open_down(DOWN);
    const struct operator_reroute none[] = {{.words = "weather=fine", .to = OTHER},
                                            {.words = "domain=b.test", .to = "mx.test:25"}};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(relay_detour_remember(rig->relay, &none[i]), -EINVAL);
        assert_int_equal(operator_orders_reroute(&rig->orders, &none[i]), 0);
    }
    rig_post(rig, "s@relay.test", "u@a.test");
    say(rig, "domain=a.test", OTHER);
    rig_restart(rig);
    assert_true(rig_log_says(rig, "a reroute of 'weather=fine' to '" OTHER "' is passed over"));
    assert_true(rig_log_says(rig, "a reroute of 'domain=b.test' to 'mx.test:25' is passed over"));
    rig_pass(rig, 20 * MINUTE);
    assert_int_equal(rig->letter_count, 1); /* what comes behind them is followed */
    assert_int_equal(rig->letters[0].server, 1);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_hops_are_read_in_each_form),
        cmocka_unit_test(mail_goes_to_a_next_hop_that_no_route_names),
        cmocka_unit_test(a_made_next_hop_has_the_limits_of_a_route_that_says_nothing),
        cmocka_unit_test(made_next_hops_end_when_nothing_waits_for_them),
        cmocka_unit_test(what_is_deferred_there_waits_for_it_over_a_reload),
        cmocka_unit_test(after_a_restart_mail_goes_where_it_was_rerouted_and_later_mail_does_not),
        cmocka_unit_test(of_a_message_only_the_recipients_that_were_meant_go_there_after_a_restart),
        cmocka_unit_test(reroutes_are_followed_in_the_order_in_which_they_were_said),
        cmocka_unit_test(mail_that_is_given_back_goes_where_the_routes_lead),
        cmocka_unit_test(mail_that_is_given_back_and_has_no_route_any_more_is_returned),
        cmocka_unit_test(when_the_route_of_the_next_hop_goes_mail_by_mx_still_goes_there),
        cmocka_unit_test(
            a_shard_forgets_reroutes_of_mail_so_old_that_none_waits_and_keeps_no_more_than_the_file),
        cmocka_unit_test(where_we_listen_is_told_from_other_next_hops),
        cmocka_unit_test(suspended_mail_waits_for_its_other_next_hop_too),
        cmocka_unit_test(words_that_are_none_are_passed_over_at_a_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
