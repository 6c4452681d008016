/* Whose mail goes first, as the operator says. */
#include "tests/unit/relay_rig_client.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROUTE "\n  - {match: \"*\", via: mx, connections: 1}\n"
#define RULES                                                                                      \
    "priorities:\n  - {sender: news.test, priority: low}\n  - {sender: alarm@b.test, priority: "   \
    "urgent}\n  - {sender: \"/^vip/\", priority: high}\n  - {sender: \"<>\", priority: low}\n"

static struct relay_rig *open_one(const char *conf)
{
    struct relay_rig *rig = relay_rig_open(conf);
    rig_mx(rig, "a.test", 10, "mx.a.test", 30 * 86400);
    rig_a(rig, "mx.a.test", "192.0.2.1", 30 * 86400);
    rig_serve(rig, "192.0.2.1:25");
    rig->dns_held = true; /* so that all wait together */
    return rig;
}

static void posted(struct relay_rig *rig, const char *sender, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        rig_post_only(rig, sender, "u@a.test");
    }
}

/* How many of the sender's letters are among the first ones. */
static unsigned among_first(const struct relay_rig *rig, const char *sender, unsigned first)
{
    unsigned count = 0;
    for (unsigned i = 0; i < first && i < rig->letter_count; i++) {
        count += strcmp(rig->letters[i].sender, sender) == 0;
    }
    return count;
}

static void all_of_it(struct relay_rig *rig, unsigned count)
{
    rig->dns_held = false;
    rig_pass(rig, 60 * RIG_SECOND);
    assert_int_equal(rig->letter_count, count);
}

static void the_higher_goes_before_what_came_earlier(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one(ROUTE RULES);
    posted(rig, "daily@news.test", 40);
    posted(rig, "", 5);
    posted(rig, "s@b.test", 5);
    posted(rig, "vip@b.test", 5);
    posted(rig, "alarm@b.test", 5);
    all_of_it(rig, 60);
    assert_int_equal(among_first(rig, "alarm@b.test", 5), 5);
    assert_int_equal(among_first(rig, "vip@b.test", 10), 5);
    assert_in_range(among_first(rig, "s@b.test", 17), 4, 5);
    relay_rig_close(rig);
}

static void the_lower_is_not_starved(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one(ROUTE RULES);
    posted(rig, "daily@news.test", 5);
    posted(rig, "alarm@b.test", 100);
    all_of_it(rig, 105);
    assert_in_range(among_first(rig, "daily@news.test", 50), 2, 4);
    relay_rig_close(rig);
}

static void without_rules_all_are_alike(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one(ROUTE);
    posted(rig, "daily@news.test", 10);
    posted(rig, "alarm@b.test", 10);
    all_of_it(rig, 20);
    assert_in_range(among_first(rig, "daily@news.test", 10), 4, 6); /* in turns */
    relay_rig_close(rig);
}

/* Letters of this sender, by a client at this address. */
static void sent(struct relay_rig *rig, const char *client, const char *sender, unsigned count)
{
    char commands[300], from[60];
    snprintf(from, sizeof(from), "%s:4000", client);
    snprintf(commands, sizeof(commands),
             "MAIL FROM:<%s>\r\nRCPT TO:<u@a.test>\r\nDATA\r\nS: x\r\n\r\n.\r\n", sender);
    struct rig_client *dialled = rig_dial(rig, from);
    rig_say(dialled, "EHLO c.test\r\n");
    rig_codes(dialled);
    for (unsigned i = 0; i < count; i++) {
        rig_say(dialled, commands);
        assert_string_equal(rig_codes(dialled), "250 250 354 250");
    }
    rig_hang_up(dialled);
}

#define OPEN_ROUTE "\n  - {match: a.test, via: mx, accept_from: anyone, connections: 1}\n"
#define CLIENTS                                                                                    \
    OPEN_ROUTE                                                                                     \
    "priorities:\n  - {client: [192.0.2.0/24, 2001:db8::/32], priority: low}\n"                    \
    "  - {client: [192.0.2.64/28], priority: urgent}\n  - {client: [192.0.2.70], priority: "       \
    "normal}\n  - {sender: vip@b.test, priority: urgent}\n"                                        \
    "listen: [{name: a, address: [\"127.0.0.1:2525\"], priority: high}]\n"

static void the_clients_network_counts_then_the_listener(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one(CLIENTS);
    sent(rig, "192.0.2.1", "bulk@b.test", 30);
    sent(rig, "[2001:db8::9]", "bulk6@b.test", 5);
    sent(rig, "192.0.2.70", "one@b.test", 5);
    sent(rig, "198.51.100.1", "other@b.test", 5);
    sent(rig, "192.0.2.65", "alarm@b.test", 5);
    all_of_it(rig, 50);
    assert_int_equal(among_first(rig, "alarm@b.test", 5), 5);
    assert_int_equal(among_first(rig, "other@b.test", 10), 5);
    assert_in_range(among_first(rig, "one@b.test", 17), 4, 5);
    relay_rig_close(rig);
}

static void the_senders_row_counts_before_the_clients(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one(CLIENTS);
    sent(rig, "192.0.2.1", "bulk@b.test", 30);
    sent(rig, "192.0.2.1", "vip@b.test", 5);
    sent(rig, "198.51.100.1", "other@b.test", 5);
    all_of_it(rig, 40);
    assert_int_equal(among_first(rig, "vip@b.test", 5), 5);
    relay_rig_close(rig);
}

static void what_a_message_came_with_stays_with_it(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one(CLIENTS);
    sent(rig, "192.0.2.1", "bulk@b.test", 30);
    sent(rig, "198.51.100.1", "other@b.test", 5);
    rig_restart_with(rig, OPEN_ROUTE); /* which knows of no priorities */
    sent(rig, "192.0.2.1", "late@b.test", 5);
    all_of_it(rig, 40);
    assert_int_equal(among_first(rig, "other@b.test", 5), 5);
    assert_in_range(among_first(rig, "late@b.test", 11), 4, 5);
    relay_rig_close(rig);
}

static void a_reload_counts_for_the_next_transaction(void **state)
{
    (void)state;
    struct relay_rig *rig = open_one(CLIENTS);
    sent(rig, "198.51.100.1", "before@b.test", 10);
    sent(rig, "192.0.2.1", "bulk@b.test", 10);
    rig_reload(rig,
               OPEN_ROUTE "priorities: [{client: [192.0.2.1], priority: urgent}]\n"
                          "listen: [{name: a, address: [\"127.0.0.1:2525\"], priority: low}]\n");
    sent(rig, "198.51.100.1", "after@b.test", 10);
    sent(rig, "192.0.2.1", "urgent@b.test", 10);
    all_of_it(rig, 40);
    assert_int_equal(among_first(rig, "urgent@b.test", 10), 10);
    assert_in_range(among_first(rig, "before@b.test", 22), 9, 10);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_higher_goes_before_what_came_earlier),
        cmocka_unit_test(the_lower_is_not_starved),
        cmocka_unit_test(without_rules_all_are_alike),
        cmocka_unit_test(the_clients_network_counts_then_the_listener),
        cmocka_unit_test(the_senders_row_counts_before_the_clients),
        cmocka_unit_test(what_a_message_came_with_stays_with_it),
        cmocka_unit_test(a_reload_counts_for_the_next_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
