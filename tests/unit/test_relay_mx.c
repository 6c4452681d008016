#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MX_ROUTE "\n  - {match: \"*\", via: mx}\n"

/* Two hosts of one domain, the first preferred. */
static struct relay_rig *open_pair(void)
{
    struct relay_rig *rig = relay_rig_open(MX_ROUTE);
    rig_mx(rig, "a.test", 10, "mx1.a.test", 300);
    rig_mx(rig, "a.test", 20, "mx2.a.test", 300);
    rig_a(rig, "mx1.a.test", "192.0.2.1", 300);
    rig_a(rig, "mx2.a.test", "192.0.2.2", 300);
    rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    return rig;
}

static void mail_goes_to_the_best_host(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_post(rig, "s@relay.test", "u@a.test");
    const struct rig_letter *letter = rig_letter_for(rig, "u@a.test");
    assert_non_null(letter);
    assert_int_equal(letter->server, 0);
    assert_int_equal(rig->servers[1].connection_count, 0);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void the_next_host_is_tried_when_the_best_cannot_be_reached(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_server_down(&rig->servers[0]);
    rig_post(rig, "s@relay.test", "u@a.test");
    const struct rig_letter *letter = rig_letter_for(rig, "u@a.test");
    assert_non_null(letter);
    assert_int_equal(letter->server, 1);
    /* Later the best is the best again. */
    rig_server_up(&rig->servers[0]);
    rig_pass(rig, 120 * RIG_SECOND);
    rig_post(rig, "s@relay.test", "v@a.test");
    letter = rig_letter_for(rig, "v@a.test");
    assert_non_null(letter);
    assert_int_equal(letter->server, 0);
    relay_rig_close(rig);
}

static void a_host_that_greets_with_an_error_is_left_for_the_next(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    strcpy(rig->servers[0].greeting, "421 4.3.2 go away");
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_non_null(rig_letter_for(rig, "u@a.test"));
    assert_int_equal(rig_letter_for(rig, "u@a.test")->server, 1);
    assert_int_equal(rig->servers[0].connection_count, 1);
    relay_rig_close(rig);
}

static void hosts_of_equal_preference_share_the_connections(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open(
        "\n  - {match: \"*\", via: mx, messages_per_connection: 1, connections: 1}\n");
    for (unsigned i = 1; i <= 3; i++) {
        char host[32], address[32], at[32];
        snprintf(host, sizeof(host), "mx%u.a.test", i);
        snprintf(address, sizeof(address), "192.0.2.%u", i);
        snprintf(at, sizeof(at), "192.0.2.%u:25", i);
        rig_mx(rig, "a.test", i < 3 ? 10 : 20, host, 300);
        rig_a(rig, host, address, 300);
        rig_serve(rig, at);
    }
    for (unsigned i = 0; i < 10; i++) {
        rig_post(rig, "s@relay.test", "u@a.test");
    }
    assert_int_equal(rig->letter_count, 10);
    assert_int_equal(rig->servers[0].connection_count, 5);
    assert_int_equal(rig->servers[1].connection_count, 5);
    assert_int_equal(rig->servers[2].connection_count, 0);
    relay_rig_close(rig);
}

static void a_worse_host_has_its_turn_however_many_better_ones_are_dead(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open(MX_ROUTE);
    for (unsigned i = 0; i < 90; i++) {
        char host[32], address[32];
        snprintf(host, sizeof(host), "mx%u.a.test", i);
        snprintf(address, sizeof(address), "192.0.2.%u", i + 1);
        rig_mx(rig, "a.test", 1 + i, host, 300);
        rig_a(rig, host, address, 300);
    }
    rig_serve(rig, "192.0.2.90:25");
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_pass(rig, 10 * RIG_SECOND);
    assert_non_null(rig_letter_for(rig, "u@a.test"));
    relay_rig_close(rig);
}

static void mail_waits_while_the_addresses_of_its_hosts_cannot_be_learned(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 later");
    rig_post(rig, "s@relay.test", "u@a.test");
    for (unsigned i = 1; i <= 2; i++) {
        char host[32];
        snprintf(host, sizeof(host), "mx%u.a.test", i);
        rig_dns_status(rig, host, DNS_TYPE_A, RESOLVE_ANSWER_FAILED);
        rig_dns_status(rig, host, DNS_TYPE_AAAA, RESOLVE_ANSWER_FAILED);
    }
    rig_pass(rig, 600 * RIG_SECOND);
    assert_true(rig_log_says(rig, "to=<u@a.test>, relay=none, dsn=4.4.3, status=deferred ("));
    assert_int_equal(rig_waiting(rig), 1);
    relay_rig_close(rig);
}

static void a_domain_without_mx_records_is_its_own_host(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open(MX_ROUTE);
    rig_a(rig, "plain.test", "192.0.2.7", 300);
    rig_serve(rig, "192.0.2.7:25");
    rig_post(rig, "s@relay.test", "u@plain.test");
    assert_non_null(rig_letter_for(rig, "u@plain.test"));
    relay_rig_close(rig);
}

static void recipients_of_a_message_are_grouped_by_domain(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_mx(rig, "b.test", 10, "mx1.a.test", 300);
    rig_mx(rig, "b.test", 20, "mx2.a.test", 300);
    for (unsigned round = 0; round < 2; round++) { /* asked for, then known */
        rig_post(rig, "s@relay.test", "u@a.test v@b.test w@A.test x@b.test");
        assert_non_null(rig_letter_for(rig, "u@a.test w@A.test"));
        assert_non_null(rig_letter_for(rig, "v@b.test x@b.test"));
        assert_int_equal(rig->letter_count, 2 * (round + 1));
    }
    relay_rig_close(rig);
}

static void a_hundred_domains_with_the_same_hosts_share_a_site_and_its_connections(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open("\n  - {match: \"*\", via: mx, connections: 2}\n");
    rig_a(rig, "mx.host.test", "192.0.2.1", 300);
    rig_serve(rig, "192.0.2.1:25");
    for (unsigned i = 0; i < 100; i++) {
        char name[64];
        snprintf(name, sizeof(name), "d%u.test", i);
        rig_mx(rig, name, 10, "mx.host.test", 300);
        snprintf(name, sizeof(name), "u@d%u.test", i);
        rig_post_only(rig, "s@relay.test", name);
    }
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 100);
    assert_true(rig->servers[0].connection_count <= 2);
    assert_int_equal(rig->relay->sites.count, 2); /* the lobby and this one */
    relay_rig_close(rig);
}

/* ---- When DNS says no ---- */

static void a_domain_that_does_not_exist_is_returned_to_the_sender(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_post(rig, "s@a.test", "u@nowhere.test");
    const struct rig_letter *report = rig_letter_for(rig, "s@a.test");
    assert_non_null(report);
    assert_string_equal(report->sender, "");
    assert_non_null(strstr(report->body, "5.1.2"));
    assert_true(rig_log_says(rig, "to=<u@nowhere.test>, relay=none, dsn=5.1.2, status=bounced ("));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void each_permanent_trouble_has_its_own_status(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_mx(rig, "null.test", 0, "", 300);
    rig_mx(rig, "homeless.test", 10, "nowhere.homeless.test", 300);
    rig_mx(rig, "loop.test", 10, "relay.test", 300);
    rig_a(rig, "relay.test", "192.0.2.99", 300);
    static const char *const cases[][2] = {
        {"u@null.test", "5.1.10"},   {"u@homeless.test", "5.4.4"}, {"u@loop.test", "5.4.6"},
        {"u@[192.0.2.9", "5.1.2"},   {"u@[127.0.0.1]", "5.4.6"},   {"u@[IPv6:::1]", "5.4.6"},
        {"u@[10.0.0.1:25]", "5.1.2"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char words[128];
        rig_post(rig, "s@a.test", cases[i][0]);
        snprintf(words, sizeof(words), "to=<%s>, relay=none, dsn=%s, status=bounced (", cases[i][0],
                 cases[i][1]);
        if (!rig_log_says(rig, words)) {
            fail_msg("not said: %s", words);
        }
        assert_int_equal(rig_waiting(rig), 0);
        assert_int_equal(rig->letter_count, i + 1);
    }
    relay_rig_close(rig);
}

static void without_an_answer_mail_waits_and_is_tried_by_the_retry_policy(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_dns_status(rig, "late.test", DNS_TYPE_MX, RESOLVE_ANSWER_FAILED);
    rig_post(rig, "s@a.test", "u@late.test");
    assert_true(rig_log_says(rig, "to=<u@late.test>, relay=none, dsn=4.4.3, status=deferred ("));
    assert_int_equal(rig_waiting(rig), 1);
    rig_pass(rig, 290 * RIG_SECOND);
    rig_dns_forget(rig, "late.test");
    rig_mx(rig, "late.test", 10, "mx1.a.test", 300);
    assert_int_equal(rig->letter_count, 0);
    rig_pass(rig, 20 * RIG_SECOND);
    assert_non_null(rig_letter_for(rig, "u@late.test"));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void without_an_answer_for_days_mail_is_returned(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_dns_status(rig, "never.test", DNS_TYPE_MX, RESOLVE_ANSWER_FAILED);
    rig_post(rig, "s@a.test", "u@never.test");
    rig_pass(rig, 5 * 86400 * RIG_SECOND);
    const struct rig_letter *report = rig_letter_for(rig, "s@a.test");
    assert_non_null(report);
    assert_non_null(strstr(report->body, "4.4.7"));
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void a_domain_that_is_slow_to_answer_holds_up_nobody_and_is_asked_once(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_post(rig, "s@relay.test", "u@a.test"); /* known now */
    unsigned questions = rig->question_count;
    rig->dns_held = true;
    rig_post(rig, "s@relay.test", "u@slow.test");
    rig_post(rig, "s@relay.test", "v@slow.test");
    rig_post(rig, "s@relay.test", "v@a.test");
    assert_non_null(rig_letter_for(rig, "v@a.test"));
    assert_true(rig->question_count > questions);
    questions = rig->question_count;
    rig_post(rig, "s@relay.test", "w@slow.test");
    assert_int_equal(rig->question_count, questions);
    rig_mx(rig, "slow.test", 10, "mx2.a.test", 300);
    rig->dns_held = false;
    rig_settle(rig);
    assert_non_null(rig_letter_for(rig, "u@slow.test"));
    assert_non_null(rig_letter_for(rig, "v@slow.test"));
    assert_non_null(rig_letter_for(rig, "w@slow.test"));
    relay_rig_close(rig);
}

static void questions_without_room_are_asked_later(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig->resolve_settings.waiting_max = 3;
    rig_restart(rig);
    rig->dns_held = true;
    for (unsigned i = 0; i < 10; i++) {
        char name[64];
        snprintf(name, sizeof(name), "r%u.test", i);
        rig_mx(rig, name, 10, "mx1.a.test", 300);
        snprintf(name, sizeof(name), "u@r%u.test", i);
        rig_post(rig, "s@relay.test", name);
    }
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig_waiting(rig), 10);
    rig->dns_held = false;
    rig_pass(rig, RIG_SECOND);
    assert_int_equal(rig->letter_count, 10);
    relay_rig_close(rig);
}

/* ---- When the answer changes ---- */

static void after_its_time_the_answer_is_asked_for_again(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_dns_forget(rig, "a.test");
    rig_mx(rig, "a.test", 10, "mx2.a.test", 300);
    rig_pass(rig, 100 * RIG_SECOND);
    rig_post(rig, "s@relay.test", "v@a.test");
    assert_int_equal(rig_letter_for(rig, "v@a.test")->server, 0); /* it holds still */
    rig_pass(rig, 250 * RIG_SECOND);
    rig_post(rig, "s@relay.test", "w@a.test");
    assert_int_equal(rig_letter_for(rig, "w@a.test")->server, 1);
    relay_rig_close(rig);
}

static void mail_that_waits_for_a_dead_host_follows_its_domain(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig_mx(rig, "b.test", 10, "mx9.b.test", 300);
    rig_a(rig, "mx9.b.test", "192.0.2.9", 300);
    rig_mx(rig, "c.test", 10, "mx9.b.test", 100000);
    for (unsigned i = 0; i < 600; i++) {
        rig_post_only(rig, "s@relay.test", i % 2 == 0 ? "u@b.test" : "u@c.test");
    }
    rig_settle(rig);
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig_waiting(rig), 600);
    rig_dns_forget(rig, "b.test");
    rig_mx(rig, "b.test", 10, "mx1.a.test", 300);
    rig_pass(rig, 7200 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 300); /* those of the domain that has moved */
    assert_non_null(rig_letter_for(rig, "u@b.test"));
    assert_null(rig_letter_for(rig, "u@c.test"));
    assert_int_equal(rig_waiting(rig), 300);
    rig_serve(rig, "192.0.2.9:25");
    rig_pass(rig, 7200 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 600);
    relay_rig_close(rig);
}

static void mail_that_a_server_deferred_follows_its_domain(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 greylisted");
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_true(rig_log_says(rig, "status=deferred (450 4.2.0 greylisted)"));
    rig_dns_forget(rig, "a.test");
    rig_mx(rig, "a.test", 10, "mx2.a.test", 300);
    rig_pass(rig, 400 * RIG_SECOND);
    const struct rig_letter *letter = rig_letter_for(rig, "u@a.test");
    assert_non_null(letter);
    assert_int_equal(letter->server, 1);
    relay_rig_close(rig);
}

static void mail_whose_domain_is_asked_for_survives_a_reload_and_a_restart(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    rig->dns_held = true;
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_reload(rig, "\n  - {match: \"*\", via: mx, port: 26}\n");
    rig_post(rig, "s@relay.test", "v@a.test");
    rig_serve(rig, "192.0.2.1:26");
    rig->dns_held = false;
    rig_settle(rig);
    assert_int_equal(rig_letter_for(rig, "u@a.test")->server, 2);
    assert_int_equal(rig_letter_for(rig, "v@a.test")->server, 2);
    assert_true(list_empty(&rig->relay->sites.retired));
    rig->dns_held = true;
    rig_pass(rig, 400 * RIG_SECOND);
    rig_post(rig, "s@relay.test", "w@a.test");
    assert_null(rig_letter_for(rig, "w@a.test"));
    rig_restart(rig);
    rig->dns_held = false;
    rig_settle(rig);
    assert_non_null(rig_letter_for(rig, "w@a.test"));
    relay_rig_close(rig);
}

static void after_a_restart_what_was_tried_waits_for_its_time(void **state)
{
    (void)state;
    struct relay_rig *rig = open_pair();
    strcpy(rig->servers[0].rcpt_reply, "450 4.2.0 later");
    rig_mx(rig, "b.test", 10, "mx1.a.test", 300);
    rig_post(rig, "s@relay.test", "u@a.test v@b.test w@a.test");
    assert_int_equal(rig_waiting(rig), 3);
    rig_pass(rig, 100 * RIG_SECOND);
    unsigned connections = rig->servers[0].connection_count;
    strcpy(rig->servers[0].rcpt_reply, "250 2.1.5 Ok");
    rig_restart(rig);
    rig_pass(rig, 150 * RIG_SECOND);
    assert_int_equal(rig->servers[0].connection_count, connections);
    assert_int_equal(rig_waiting(rig), 3);
    rig_pass(rig, 400 * RIG_SECOND); /* the message was tried twice: once for each domain */
    assert_non_null(rig_letter_for(rig, "u@a.test w@a.test")); /* still by domain */
    assert_non_null(rig_letter_for(rig, "v@b.test"));
    relay_rig_close(rig);
}

/* ---- Routes ---- */

static void discarded_mail_is_gone_and_told_of(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open("\n  - {match: void.test, via: discard}\n");
    rig_post(rig, "s@relay.test", "u@void.test v@void.test");
    assert_true(
        rig_log_says(rig, "to=<v@void.test>, relay=none, dsn=2.0.0, status=sent (discarded)"));
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(spool_counters(relay_spool(rig->relay))->live_messages, 0);
    rig_restart(rig);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void mail_that_a_route_refuses_by_now_is_returned_with_its_words(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open("\n  - {match: gone.test, to: [\"192.0.2.50:25\"]}\n"
                                           "  - {match: s.test, to: [\"192.0.2.1:25\"]}\n");
    rig_serve(rig, "192.0.2.1:25");
    rig_post(rig, "me@s.test", "u@gone.test");
    assert_int_equal(rig_waiting(rig), 1);
    rig_reload(rig, "\n  - {match: gone.test, via: error, reply: \"550 5.1.6 They have moved\"}\n"
                    "  - {match: s.test, to: [\"192.0.2.1:25\"]}\n");
    const struct rig_letter *report = rig_letter_for(rig, "me@s.test");
    assert_non_null(report);
    assert_non_null(strstr(report->body, "They have moved"));
    assert_non_null(strstr(report->body, "5.1.6"));
    assert_true(list_empty(&rig->relay->sites.retired));
    relay_rig_close(rig);
}

static void an_address_literal_is_gone_to_as_it_stands(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open(MX_ROUTE);
    rig_serve(rig, "192.0.2.44:25");
    rig_serve(rig, "[2001:db8::44]:25");
    rig_post(rig, "s@relay.test", "u@[192.0.2.44]");
    rig_post(rig, "s@relay.test", "v@[IPv6:2001:db8::44]");
    assert_int_equal(rig_letter_for(rig, "u@[192.0.2.44]")->server, 0);
    assert_int_equal(rig_letter_for(rig, "v@[IPv6:2001:db8::44]")->server, 1);
    rig_reload(rig, "\n  - {match: \"*\", via: mx, address_literals: false}\n");
    rig_post(rig, "", "w@[192.0.2.44]");
    assert_true(rig_log_says(rig, "to=<w@[192.0.2.44]>, relay=none, dsn=5.1.2, status=bounced ("));
    relay_rig_close(rig);
}

static void each_route_has_its_own_name_and_sites(void **state)
{
    (void)state;
    struct relay_rig *rig =
        relay_rig_open("\n  - {match: a.test, via: mx, hostname: out.relay.test}\n"
                       "  - {match: \"*\", via: mx}\n");
    rig_a(rig, "mx.a.test", "192.0.2.1", 300);
    rig_mx(rig, "a.test", 10, "mx.a.test", 300);
    rig_mx(rig, "b.test", 10, "mx.a.test", 300);
    struct rig_server *server = rig_serve(rig, "192.0.2.1:25");
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_string_equal(server->helo, "out.relay.test");
    rig_post(rig, "s@relay.test", "u@b.test");
    assert_string_equal(server->helo, "relay.test");
    relay_rig_close(rig);
}

/* One message in ten seconds. */
static struct relay_rig *rig_open_rated(void)
{
    struct relay_rig *rig = relay_rig_open("\n  - {match: \"*\", via: mx, message_rate: 6/1m}\n");
    rig_a(rig, "mx.a.test", "192.0.2.1", 3600);
    rig_mx(rig, "a.test", 10, "mx.a.test", 3600);
    rig_mx(rig, "b.test", 10, "mx.a.test", 3600);
    rig_serve(rig, "192.0.2.1:25");
    return rig;
}

static void a_rate_holds_for_all_that_leads_to_the_same_hosts(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_rated();
    for (unsigned i = 0; i < 20; i++) {
        rig_post(rig, "s@relay.test", i % 2 == 0 ? "u@a.test" : "u@b.test");
    }
    assert_in_range(rig->letter_count, 1, 2);
    rig_pass(rig, 50 * RIG_SECOND);
    assert_in_range(rig->letter_count, 5, 7); /* one in ten seconds */
    rig_pass(rig, 200 * RIG_SECOND);
    assert_int_equal(rig->letter_count, 20);
    relay_rig_close(rig);
}

static void one_senders_backlog_does_not_hold_up_another(void **state)
{
    (void)state;
    struct relay_rig *rig = rig_open_rated();
    for (unsigned i = 0; i < 100; i++) {
        rig_post_only(rig, "s@bulk.test", "u@a.test");
    }
    rig_post(rig, "s@other.test", "v@a.test");
    rig_pass(rig, 40 * RIG_SECOND);
    assert_non_null(rig_letter_for(rig, "v@a.test"));
    assert_true(rig->letter_count < 10);
    relay_rig_close(rig);
}

/* ---- Sites ---- */

static void sites_are_made_for_mail_and_closed_when_they_are_unused(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open("\n  - {match: a.test, to: [\"192.0.2.1:25\"]}\n"
                                           "  - {match: b.test, to: [\"192.0.2.2:25\"]}\n");
    rig_serve(rig, "192.0.2.1:25");
    assert_int_equal(rig->relay->sites.count, 0);
    rig_post(rig, "s@relay.test", "u@a.test");
    rig_post(rig, "s@relay.test", "u@b.test"); /* nobody listens there */
    assert_int_equal(rig->relay->sites.count, 2);
    rig_pass(rig, 2 * RELAY_SITE_UNUSED_NS);
    assert_int_equal(rig->relay->sites.count, 1);
    assert_int_equal(rig_waiting(rig), 1);
    rig_post(rig, "s@relay.test", "v@a.test");
    assert_non_null(rig_letter_for(rig, "v@a.test"));
    relay_rig_close(rig);
}

static void a_thousand_sites_are_each_found_again(void **state)
{
    (void)state;
    enum { SITES = 1000 };
    static char routes[SITES * 64];
    size_t used = 0;
    for (unsigned i = 0; i < SITES; i++) {
        used += (size_t)snprintf(routes + used, sizeof(routes) - used,
                                 "\n  - {match: s%u.test, to: [\"192.0.2.1:25\"]}", i);
    }
    struct relay_rig *rig = relay_rig_open(routes);
    rig_serve(rig, "192.0.2.1:25");
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < SITES; i++) {
            char recipient[64];
            snprintf(recipient, sizeof(recipient), "u@s%u.test", i);
            rig_post_only(rig, "s@relay.test", recipient);
        }
        rig_settle(rig);
        assert_int_equal(rig->letter_count, SITES * (round + 1));
        assert_int_equal(rig->relay->sites.count, SITES);
    }
    relay_rig_close(rig);
}

static void a_site_goes_on_over_a_reload_when_its_route_leads_where_it_led(void **state)
{
    (void)state;
    struct relay_rig *rig = relay_rig_open("\n  - {match: a.test, to: [\"192.0.2.1:25\"]}\n");
    rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    rig_post(rig, "s@relay.test", "u@a.test");
    const struct list_node *site = rig->relay->sites.used.next;
    rig_reload(rig, "\n  - {match: b.test, via: discard}\n"
                    "  - {match: a.test, to: [\"192.0.2.1:25\"], connections: 3}\n");
    rig_post(rig, "s@relay.test", "v@a.test");
    assert_int_equal(rig_letter_for(rig, "v@a.test")->server, 0);
    assert_int_equal(rig->relay->sites.count, 1);
    assert_ptr_equal(rig->relay->sites.used.next, site);
    rig_reload(rig, "\n  - {match: a.test, to: [\"192.0.2.2:25\"]}\n");
    rig_post(rig, "s@relay.test", "w@a.test");
    assert_int_equal(rig_letter_for(rig, "w@a.test")->server, 1);
    assert_true(list_empty(&rig->relay->sites.retired));
    relay_rig_close(rig);
}

static void a_message_to_hundreds_of_domains_reaches_each(void **state)
{
    (void)state;
    enum { DOMAINS = 300 };
    static char recipients[DOMAINS * 40];
    struct relay_rig *rig = relay_rig_open(MX_ROUTE);
    rig_serve(rig, "192.0.2.1:25");
    size_t used = 0;
    rig_a(rig, "mx.test", "192.0.2.1", 300);
    for (unsigned i = 0; i < DOMAINS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "m%u.test", i);
        rig_mx(rig, name, 10, "mx.test", 300);
    }
    for (unsigned i = 0; i < 2 * DOMAINS; i++) { /* two of each, apart */
        used += (size_t)snprintf(recipients + used, sizeof(recipients) - used, "%sr%u@m%u.test",
                                 i == 0 ? "" : " ", i, i % DOMAINS);
    }
    for (unsigned round = 0; round < 2; round++) {
        rig_post(rig, "s@relay.test", recipients);
        rig_pass(rig, 10 * RIG_SECOND);
        assert_int_equal(rig->letter_count, DOMAINS * (round + 1));
        assert_non_null(rig_letter_for(rig, "r7@m7.test r307@m7.test"));
    }
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_goes_to_the_best_host),
        cmocka_unit_test(the_next_host_is_tried_when_the_best_cannot_be_reached),
        cmocka_unit_test(a_host_that_greets_with_an_error_is_left_for_the_next),
        cmocka_unit_test(hosts_of_equal_preference_share_the_connections),
        cmocka_unit_test(a_worse_host_has_its_turn_however_many_better_ones_are_dead),
        cmocka_unit_test(mail_waits_while_the_addresses_of_its_hosts_cannot_be_learned),
        cmocka_unit_test(a_domain_without_mx_records_is_its_own_host),
        cmocka_unit_test(recipients_of_a_message_are_grouped_by_domain),
        cmocka_unit_test(a_hundred_domains_with_the_same_hosts_share_a_site_and_its_connections),
        cmocka_unit_test(a_domain_that_does_not_exist_is_returned_to_the_sender),
        cmocka_unit_test(each_permanent_trouble_has_its_own_status),
        cmocka_unit_test(without_an_answer_mail_waits_and_is_tried_by_the_retry_policy),
        cmocka_unit_test(without_an_answer_for_days_mail_is_returned),
        cmocka_unit_test(a_domain_that_is_slow_to_answer_holds_up_nobody_and_is_asked_once),
        cmocka_unit_test(questions_without_room_are_asked_later),
        cmocka_unit_test(after_its_time_the_answer_is_asked_for_again),
        cmocka_unit_test(mail_that_waits_for_a_dead_host_follows_its_domain),
        cmocka_unit_test(mail_that_a_server_deferred_follows_its_domain),
        cmocka_unit_test(mail_whose_domain_is_asked_for_survives_a_reload_and_a_restart),
        cmocka_unit_test(after_a_restart_what_was_tried_waits_for_its_time),
        cmocka_unit_test(a_rate_holds_for_all_that_leads_to_the_same_hosts),
        cmocka_unit_test(one_senders_backlog_does_not_hold_up_another),
        cmocka_unit_test(discarded_mail_is_gone_and_told_of),
        cmocka_unit_test(mail_that_a_route_refuses_by_now_is_returned_with_its_words),
        cmocka_unit_test(an_address_literal_is_gone_to_as_it_stands),
        cmocka_unit_test(each_route_has_its_own_name_and_sites),
        cmocka_unit_test(sites_are_made_for_mail_and_closed_when_they_are_unused),
        cmocka_unit_test(a_thousand_sites_are_each_found_again),
        cmocka_unit_test(a_site_goes_on_over_a_reload_when_its_route_leads_where_it_led),
        cmocka_unit_test(a_message_to_hundreds_of_domains_reaches_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
