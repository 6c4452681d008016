#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/core/check.h"
#include "queue/sched/group.h"
#include "queue/sched/operator.h"
#include "queue/spool/spool.h"

#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)
#define START (1000 * SECOND)
#define SITES 6
#define MESSAGES 4000

static const struct sched_site_settings settings = {
    .connection_count_max = 100,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 4 * HOUR},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = HOUR},
    .expire_ns = 120 * HOUR,
};

static struct sched *sched;
static struct sched_group *group;
static struct sched_site *sites[SITES];
static struct message messages[MESSAGES];
static unsigned message_count;

static void open_with(const struct sched_limits *limits)
{
    struct sched_site_settings with = settings;
    assert_int_equal(sched_group_open(sched, limits, &group), 0);
    with.group = group;
    for (unsigned i = 0; i < SITES; i++) {
        sched_site_set(sites[i], &with);
    }
}

static int open_one(void **state)
{
    (void)state;
    memset(messages, 0, sizeof(messages));
    message_count = 0;
    group = NULL;
    sched = sched_open(1);
    for (unsigned i = 0; sched != NULL && i < SITES; i++) {
        if (sched_site_open(sched, &settings, &sites[i], &sites[i]) != 0) {
            return -1;
        }
    }
    return sched == NULL;
}

static int close_one(void **state)
{
    (void)state;
    sched_close(sched);
    if (group != NULL) {
        assert_int_equal(sched_group_site_count(group), 0);
        sched_group_close(group);
    }
    return 0;
}

static void add(struct sched_site *site, unsigned count)
{
    uint32_t index = 0;
    for (unsigned i = 0; i < count; i++) {
        check(message_count < MESSAGES);
        const struct sched_request request = {
            .message = &messages[message_count++], .indexes = &index, .count = 1, .due_ns = START};
        assert_int_equal(sched_add(site, &request, START), 0);
    }
}

static uint32_t open_wanted(struct sched_site *site, uint64_t now_ns)
{
    uint32_t wanted = sched_wants_connection(site, now_ns);
    for (uint32_t i = 0; i < wanted; i++) {
        sched_connection_started(site);
        sched_connection_opened(site);
    }
    return wanted;
}

static uint32_t connections(const struct sched_site *site)
{
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    return counts.connections;
}

static void look_at_all(uint64_t now_ns)
{
    for (struct sched_site *site; (site = sched_look(sched)) != NULL;) {
        open_wanted(site, now_ns);
    }
}

/* ---- Connections ---- */

static void sites_of_a_group_have_no_more_connections_than_it(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.connection_count_max = 10});
    for (unsigned i = 0; i < SITES; i++) {
        add(sites[i], 20);
    }
    assert_int_equal(open_wanted(sites[0], START), 10);
    for (unsigned i = 1; i < SITES; i++) {
        assert_int_equal(open_wanted(sites[i], START), 0);
        assert_int_equal(sched_site_next_due(sites[i], START), START + 120 * HOUR); /* no polling */
    }
    assert_int_equal(sched_group_connection_count(group), 10);
}

static void a_free_slot_goes_round_those_who_wait(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.connection_count_max = 3});
    for (unsigned i = 0; i < SITES; i++) {
        add(sites[i], 20);
        open_wanted(sites[i], START);
    }
    assert_int_equal(connections(sites[0]), 3);
    unsigned opened[SITES] = {0}, holder = 0;
    for (unsigned round = 0; round < 10 * SITES; round++) {
        while (connections(sites[holder]) == 0) {
            holder = (holder + 1) % SITES;
        }
        sched_connection_closed(sites[holder]);
        open_wanted(sites[holder], START); /* whoever just had it does not get it again */
        holder = (holder + 1) % SITES;
        for (struct sched_site *site; (site = sched_look(sched)) != NULL;) {
            opened[(struct sched_site **)sched_site_owner(site) - sites] +=
                open_wanted(site, START);
        }
        assert_int_equal(sched_group_connection_count(group), 3);
    }
    for (unsigned i = 0; i < SITES; i++) {
        assert_in_range(opened[i], 9, 11);
    }
}

static void the_limit_of_the_shard_holds_over_all_sites(void **state)
{
    (void)state;
    uint32_t total = 0;
    sched_set_connection_count_max(sched, 7);
    for (unsigned i = 0; i < SITES; i++) {
        add(sites[i], 3);
        total += open_wanted(sites[i], START);
    }
    assert_int_equal(total, 7);
    sched_set_connection_count_max(sched, 9);
    look_at_all(START);
    total = 0;
    for (unsigned i = 0; i < SITES; i++) {
        total += connections(sites[i]);
    }
    assert_int_equal(total, 9);
    sched_set_connection_count_max(sched, 0);
    look_at_all(START);
    for (unsigned i = 0; i < SITES; i++) {
        open_wanted(sites[i], START);
        assert_int_equal(connections(sites[i]), 3);
    }
}

/* A connection of each site between two messages, again and again; closed ones are opened by whose turn it is. */
static void serve(unsigned rounds, unsigned served[SITES])
{
    static unsigned sent[SITES][100]; /* on each connection */
    memset(sent, 0, sizeof(sent));
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < SITES; i++) {
            for (uint32_t j = 0; j < connections(sites[i]); j++) {
                struct sched_delivery *delivery = NULL;
                uint32_t count = sent[i][j]++;
                if (!sched_connection_surplus(sites[i], count)) {
                    delivery = sched_next(sites[i], START);
                }
                if (delivery != NULL) {
                    sched_done(delivery);
                    served[i]++;
                } else {
                    sched_connection_closed(sites[i]);
                    sent[i][j] = 0;
                    break;
                }
            }
            open_wanted(sites[i], START);
        }
        look_at_all(START);
    }
}

static void a_backlog_gives_connections_up_to_those_who_wait(void **state)
{
    (void)state;
    unsigned served[SITES] = {0};
    sched_set_connection_count_max(sched, 12);
    add(sites[0], 3000);
    assert_int_equal(open_wanted(sites[0], START), 12);
    for (unsigned i = 1; i < SITES; i++) {
        add(sites[i], 100);
        assert_int_equal(open_wanted(sites[i], START), 0);
    }
    serve(30, served);
    for (unsigned i = 1; i < SITES; i++) {
        assert_in_range(connections(sites[i]), 1, 4);
        assert_in_range(served[i], 25, 100);
    }
    serve(150, served);
    for (unsigned i = 1; i < SITES; i++) {
        assert_int_equal(served[i], 100);
    }
    assert_int_equal(connections(sites[0]), 12); /* nobody else wants them */
}

static void more_sites_than_connections_take_turns(void **state)
{
    (void)state;
    unsigned served[SITES] = {0};
    sched_set_connection_count_max(sched, 2);
    for (unsigned i = 0; i < SITES; i++) {
        add(sites[i], 600);
        open_wanted(sites[i], START);
    }
    serve(3 * SITES * SCHED_SLICE_MESSAGES / 2, served);
    unsigned least = MESSAGES, most = 0;
    for (unsigned i = 0; i < SITES; i++) {
        least = served[i] < least ? served[i] : least;
        most = served[i] > most ? served[i] : most;
    }
    assert_true(least >= 2 * SCHED_SLICE_MESSAGES);
    assert_true(most <= least + 2 * SCHED_SLICE_MESSAGES);
}

static void an_idle_connection_is_given_up_for_one_who_waits(void **state)
{
    (void)state;
    sched_set_connection_count_max(sched, 1);
    add(sites[0], 1);
    open_wanted(sites[0], START);
    sched_done(sched_next(sites[0], START));
    assert_false(sched_connection_surplus(sites[0], SCHED_CONNECTION_IDLE));
    add(sites[1], 1);
    assert_int_equal(open_wanted(sites[1], START), 0);
    assert_ptr_equal(sched_look(sched), sites[0]);
    assert_true(sched_connection_surplus(sites[0], SCHED_CONNECTION_IDLE));
    assert_false(sched_connection_surplus(sites[0], SCHED_CONNECTION_IDLE)); /* one is enough */
    sched_connection_closed(sites[0]);
    assert_ptr_equal(sched_look(sched), sites[1]);
    assert_int_equal(open_wanted(sites[1], START), 1);
}

static void a_slot_that_is_not_wanted_any_more_goes_to_the_next(void **state)
{
    (void)state;
    sched_set_connection_count_max(sched, 1);
    struct sched_delivery *served = NULL;
    for (unsigned i = 0; i < 3; i++) {
        add(sites[i], 1);
        open_wanted(sites[i], START);
        served = i == 0 ? sched_next(sites[0], START) : served;
    }
    sched_done(served);
    sched_delete(&messages[1]); /* what the second site wanted it for */
    sched_connection_closed(sites[0]);
    assert_ptr_equal(sched_look(sched), sites[1]);
    assert_int_equal(open_wanted(sites[1], START), 0);
    assert_ptr_equal(sched_look(sched), sites[2]);
    assert_int_equal(open_wanted(sites[2], START), 1);
}

static void a_site_that_closes_leaves_what_it_was_promised(void **state)
{
    (void)state;
    sched_set_connection_count_max(sched, 1);
    struct sched_delivery *served = NULL;
    for (unsigned i = 0; i < 3; i++) {
        add(sites[i], 1);
        open_wanted(sites[i], START);
        served = i == 0 ? sched_next(sites[0], START) : served;
    }
    sched_done(served);
    sched_connection_closed(sites[0]);
    sched_delete(&messages[1]);
    sched_site_close(sites[1]);
    sites[1] = sites[0];
    assert_ptr_equal(sched_look(sched), sites[2]);
    assert_int_equal(open_wanted(sites[2], START), 1);
}

static void a_dead_site_holds_no_connection_that_others_need(void **state)
{
    (void)state;
    sched_set_connection_count_max(sched, 1);
    add(sites[0], 100);
    add(sites[1], 1);
    assert_int_equal(sched_wants_connection(sites[0], START), 1);
    sched_connection_started(sites[0]);
    assert_int_equal(open_wanted(sites[1], START), 0);
    sched_connection_failed(sites[0], START, slice_text("refused"));
    assert_int_equal(sched_wants_connection(sites[0], START), 0);
    look_at_all(START);
    assert_int_equal(connections(sites[1]), 1);
    assert_int_equal(sched_site_next_due(sites[0], START), START + 60 * SECOND);
}

static void a_group_that_changes_counts_the_connections_there_are(void **state)
{
    (void)state;
    struct sched_site_settings without = settings;
    open_with(&(struct sched_limits){.connection_count_max = 4});
    add(sites[0], 10);
    add(sites[1], 10);
    assert_int_equal(open_wanted(sites[0], START), 4);
    assert_int_equal(open_wanted(sites[1], START), 0);
    sched_site_set(sites[0], &without);
    assert_int_equal(sched_group_connection_count(group), 0);
    look_at_all(START);
    assert_int_equal(sched_group_connection_count(group), 4);
    without.group = group;
    sched_site_set(sites[0], &without);
    uint32_t count = 4 + connections(sites[0]);
    assert_int_equal(sched_group_connection_count(group), count);
    assert_int_equal(open_wanted(sites[1], START), 0);
    sched_group_set(group, &(struct sched_limits){.connection_count_max = count + 1});
    look_at_all(START);
    assert_int_equal(sched_group_connection_count(group), count + 1);
}

/* ---- Rates ---- */

static void a_debt_at_one_rate_is_none_at_another(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.messages = {.count = 1, .period_ns = 1000 * HOUR}});
    add(sites[0], 5);
    open_wanted(sites[0], START);
    sched_done(sched_next(sites[0], START));
    assert_null(sched_next(sites[0], START + HOUR));
    sched_group_set(group, &(struct sched_limits){.messages = {.count = 1, .period_ns = SECOND}});
    sched_done(sched_next(sites[0], START + HOUR));
    assert_null(sched_next(sites[0], START + HOUR));
    assert_non_null(sched_next(sites[0], START + HOUR + SECOND));
}

static void messages_of_a_group_come_at_its_rate_and_none_polls(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){
        .messages = {.count = 10, .period_ns = SECOND, .burst = 5},
    });
    add(sites[0], 100);
    open_wanted(sites[0], START);
    uint64_t now_ns = START, count = 0, looks = 0;
    for (; count < 100; looks++) {
        for (struct sched_delivery *delivery; (delivery = sched_next(sites[0], now_ns)) != NULL;) {
            sched_done(delivery);
            count++;
            assert_true(count <= 5 + (now_ns - START) * 10 / SECOND);
        }
        uint64_t due_ns = sched_site_next_due(sites[0], now_ns);
        assert_true(due_ns > now_ns);
        now_ns = count < 100 ? due_ns : now_ns;
    }
    assert_int_equal(now_ns, START + 95 * SECOND / 10);
    assert_int_equal(looks, 96);
}

static void no_connections_are_opened_that_the_rate_leaves_idle(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.messages = {.count = 1, .period_ns = SECOND}});
    add(sites[0], 100);
    assert_true(sched_wants_connection(sites[0], START) > 0);
    sched_connection_started(sites[0]);
    sched_connection_opened(sites[0]);
    assert_non_null(sched_next(sites[0], START));
    assert_int_equal(sched_wants_connection(sites[0], START), 0);
    assert_int_equal(sched_site_next_due(sites[0], START), START + SECOND);
}

static void sites_share_the_rate_of_messages(void **state)
{
    (void)state;
    unsigned served[SITES] = {0};
    open_with(&(struct sched_limits){.messages = {.count = 10, .period_ns = SECOND}});
    add(sites[0], 1000);
    for (unsigned i = 1; i < SITES; i++) {
        add(sites[i], 200);
    }
    for (unsigned i = 0; i < SITES; i++) {
        sched_connection_started(sites[i]);
        sched_connection_opened(sites[i]);
    }
    uint64_t now_ns = START;
    for (unsigned step = 0; step < 600; step++) { /* the greedy one asks first, and twice */
        for (unsigned i = 0; i < SITES + 1; i++) {
            unsigned which = i % SITES;
            struct sched_delivery *delivery = sched_next(sites[which], now_ns);
            if (delivery != NULL) {
                sched_done(delivery);
                served[which]++;
            }
        }
        now_ns += SECOND / 10;
    }
    unsigned total = 0;
    for (unsigned i = 0; i < SITES; i++) {
        assert_in_range(served[i], 90, 110);
        total += served[i];
    }
    assert_int_equal(total, 600);
}

static void one_that_lost_its_mail_holds_a_token_back_for_one_interval_only(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.messages = {.count = 1, .period_ns = SECOND}});
    add(sites[0], 3);
    add(sites[1], 1);
    for (unsigned i = 0; i < 2; i++) {
        sched_connection_started(sites[i]);
        sched_connection_opened(sites[i]);
    }
    sched_done(sched_next(sites[0], START));
    assert_null(sched_next(sites[1], START)); /* waits first */
    assert_null(sched_next(sites[0], START));
    sched_delete(&messages[3]);
    assert_int_equal(sched_site_next_due(sites[0], START), START + 2 * SECOND);
    assert_null(sched_next(sites[0], START + SECOND));
    assert_non_null(sched_next(sites[0], START + 2 * SECOND));
    assert_non_null(sched_next(sites[0], START + 3 * SECOND));
}

static void a_site_without_a_connection_gets_its_turn_at_a_busy_rate(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.messages = {.count = 10, .period_ns = SECOND}});
    add(sites[0], 1000);
    add(sites[1], 1);
    sched_connection_started(sites[0]);
    sched_connection_opened(sites[0]);
    uint64_t now_ns = START;
    while (connections(sites[1]) == 0) {
        struct sched_delivery *delivery = sched_next(sites[0], now_ns); /* always the faster one */
        if (delivery != NULL) {
            sched_done(delivery);
        }
        open_wanted(sites[1], now_ns);
        uint64_t first_ns = sched_site_next_due(sites[0], now_ns);
        uint64_t second_ns = sched_site_next_due(sites[1], now_ns);
        now_ns = first_ns < second_ns ? first_ns : second_ns;
        assert_true(now_ns < START + SECOND);
    }
    for (; sched_next(sites[1], now_ns) == NULL; now_ns += SECOND / 10) {
        struct sched_delivery *delivery = sched_next(sites[0], now_ns);
        if (delivery != NULL) {
            sched_done(delivery);
        }
        assert_true(now_ns < START + 2 * SECOND);
    }
}

static void connections_are_opened_at_the_rate_of_the_group(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.connections = {.count = 2, .period_ns = SECOND, .burst = 3}});
    add(sites[0], 50);
    add(sites[1], 50);
    assert_int_equal(sched_wants_connection(sites[0], START), 3);
    assert_int_equal(open_wanted(sites[0], START), 3); /* asked twice, taken once */
    assert_int_equal(open_wanted(sites[0], START), 0);
    assert_int_equal(open_wanted(sites[1], START), 0);
    for (unsigned i = 0; i < 4; i++) { /* none is free */
        sched_next(sites[0], START);
    }
    uint64_t now_ns = START;
    unsigned opened[2] = {3, 0};
    for (unsigned i = 0; i < 20; i++) {
        uint64_t first_ns = sched_site_next_due(sites[0], now_ns);
        uint64_t second_ns = sched_site_next_due(sites[1], now_ns);
        now_ns = first_ns < second_ns ? first_ns : second_ns;
        assert_int_equal(now_ns, START + (i + 1) * SECOND / 2);
        for (unsigned j = 0; j < 2; j++) {
            uint32_t count = open_wanted(sites[j], now_ns);
            opened[j] += count;
            while (count-- > 0) {
                sched_next(sites[j], now_ns);
            }
        }
    }
    assert_int_equal(opened[0], 13);
    assert_int_equal(opened[1], 10);
}

static void deliveries_expire_behind_a_limit(void **state)
{
    (void)state;
    open_with(&(struct sched_limits){.connection_count_max = 1,
                                     .messages = {.count = 1, .period_ns = 1000 * HOUR}});
    add(sites[0], 2);
    add(sites[1], 1);
    open_wanted(sites[0], START);
    open_wanted(sites[1], START);
    sched_done(sched_next(sites[0], START)); /* the only token for six weeks */
    uint64_t now_ns = START + 120 * HOUR;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(sched_site_next_due(sites[i], START), now_ns);
        assert_null(sched_expired(sites[i], now_ns - 1));
        struct sched_delivery *delivery = sched_expired(sites[i], now_ns);
        assert_non_null(delivery);
        sched_done(delivery);
        assert_int_equal(sched_site_next_due(sites[i], now_ns), SCHED_NEVER);
    }
}

static void a_site_that_comes_back_gets_its_connections_step_by_step(void **state)
{
    (void)state;
    uint64_t now_ns = START + 60 * SECOND;
    add(sites[0], 500);
    assert_int_equal(sched_wants_connection(sites[0], START), 100);
    sched_connection_started(sites[0]);
    sched_connection_failed(sites[0], START, slice_text("refused"));
    for (unsigned most = 1; most < 128; most *= 2) {
        uint32_t wanted = sched_wants_connection(sites[0], now_ns);
        assert_int_equal(wanted + connections(sites[0]), most);
        sched_connection_started(sites[0]);
        sched_connection_opened(sites[0]);
    }
    assert_int_equal(sched_wants_connection(sites[0], now_ns) + connections(sites[0]), 100);
}

/* ---- Deliveries that are not begun ---- */

static void what_is_parked_or_moved_gives_its_token_back(void **state)
{
    (void)state;
    const struct sched_limits limits = {.messages = {.count = 1, .period_ns = 10 * SECOND}};
    open_with(&limits);
    add(sites[0], 3);
    assert_int_equal(open_wanted(sites[0], START), 1);
    struct sched_delivery *parked = sched_next(sites[0], START);
    sched_park(parked);
    struct sched_delivery *moved = sched_next(sites[0], START);
    assert_non_null(moved);
    sched_move(moved, sites[1]);
    struct sched_delivery *sent = sched_next(sites[0], START);
    assert_non_null(sent);
    sched_done(sent);
    sched_move(parked, sites[0]);
    assert_null(sched_next(sites[0], START + 9 * SECOND));
    assert_non_null(sched_next(sites[0], START + 10 * SECOND));
}

static void no_more_connections_are_opened_than_the_rate_of_messages_feeds(void **state)
{
    (void)state;
    const struct sched_limits slow = {.messages = {.count = 1, .period_ns = 10 * SECOND}};
    const struct sched_limits fast = {.messages = {.count = 20, .period_ns = SECOND}};
    open_with(&slow);
    add(sites[0], 50);
    assert_int_equal(sched_wants_connection(sites[0], START), 1);
    sched_connection_started(sites[0]);
    assert_int_equal(sched_wants_connection(sites[0], START), 0);
    assert_true(sched_site_next_due(sites[0], START) > START); /* nobody asks all the time */
    sched_connection_opened(sites[0]);
    assert_int_equal(sched_site_next_due(sites[0], START), 0);
    sched_group_set(group, &fast);
    assert_int_equal(open_wanted(sites[0], START),
                     20); /* with the first: a second's worth, and one */
}

static void connections_that_begin_while_others_fail_do_not_put_off_the_rest(void **state)
{
    struct sched_site_counts counts;
    (void)state;
    add(sites[0], 50);
    sched_connection_started(sites[0]);
    sched_connection_opened(sites[0]);
    assert_int_equal(sched_wants_connection(sites[0], START), 49);
    sched_connection_started(sites[0]);
    sched_connection_started(sites[0]);
    for (unsigned i = 0; i < 2; i++) {
        sched_connection_failed(sites[0], START, slice_text("421 too many connections"));
        assert_int_equal(sched_wants_connection(sites[0], START), 0);
    }
    sched_site_counts(sites[0], &counts);
    assert_true(counts.unreachable_until_ns > START);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_one, close_one)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sites_of_a_group_have_no_more_connections_than_it),
        TEST(a_free_slot_goes_round_those_who_wait),
        TEST(the_limit_of_the_shard_holds_over_all_sites),
        TEST(a_backlog_gives_connections_up_to_those_who_wait),
        TEST(more_sites_than_connections_take_turns),
        TEST(an_idle_connection_is_given_up_for_one_who_waits),
        TEST(a_slot_that_is_not_wanted_any_more_goes_to_the_next),
        TEST(a_site_that_closes_leaves_what_it_was_promised),
        TEST(a_dead_site_holds_no_connection_that_others_need),
        TEST(a_group_that_changes_counts_the_connections_there_are),
        TEST(a_debt_at_one_rate_is_none_at_another),
        TEST(messages_of_a_group_come_at_its_rate_and_none_polls),
        TEST(no_connections_are_opened_that_the_rate_leaves_idle),
        TEST(what_is_parked_or_moved_gives_its_token_back),
        TEST(no_more_connections_are_opened_than_the_rate_of_messages_feeds),
        TEST(sites_share_the_rate_of_messages),
        TEST(one_that_lost_its_mail_holds_a_token_back_for_one_interval_only),
        TEST(a_site_without_a_connection_gets_its_turn_at_a_busy_rate),
        TEST(connections_are_opened_at_the_rate_of_the_group),
        TEST(deliveries_expire_behind_a_limit),
        TEST(a_site_that_comes_back_gets_its_connections_step_by_step),
        TEST(connections_that_begin_while_others_fail_do_not_put_off_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
