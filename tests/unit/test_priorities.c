/* Whose mail goes first, as the operator says. */
#include "tests/unit/relay_rig.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_higher_goes_before_what_came_earlier),
        cmocka_unit_test(the_lower_is_not_starved),
        cmocka_unit_test(without_rules_all_are_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
