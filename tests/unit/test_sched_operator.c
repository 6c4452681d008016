#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "queue/sched/group.h"
#include "queue/sched/operator.h"
#include "queue/spool/spool.h"

#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define START (1000 * SECOND)
#define MANY 1000

static const struct sched_site_settings settings = {
    .connection_count_max = 3,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 4 * HOUR},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = HOUR},
    .expire_ns = 5 * DAY,
    .delay_ns = 4 * HOUR,
};

static struct sched *sched;
static struct sched_site *site, *other;
static struct message messages[MANY];

static int open_one(void **state)
{
    (void)state;
    memset(messages, 0, sizeof(messages));
    sched = sched_open(1);
    return sched == NULL || sched_site_open(sched, &settings, NULL, &site) != 0 ||
           sched_site_open(sched, &settings, NULL, &other) != 0;
}

static int close_one(void **state)
{
    (void)state;
    sched_close(sched);
    return 0;
}

static void add(struct sched_site *to, struct message *message, uint64_t sender, uint64_t now_ns)
{
    uint32_t index = 0;
    const struct sched_request request = {
        .message = message, .indexes = &index, .count = 1, .due_ns = now_ns, .sender = sender};
    assert_int_equal(sched_add(to, &request, now_ns), 0);
}

static enum sched_defer defer_one(struct sched_delivery *delivery, uint64_t now_ns)
{
    return sched_defer(delivery, now_ns, sched_indexes(delivery), delivery->count,
                       slice_text("450 later"));
}

static struct sched_view view_of(const struct message *message)
{
    struct sched_view view;
    assert_true(sched_view(message, 0, &view));
    return view;
}

static void connect_one(struct sched_site *to)
{
    sched_connection_started(to);
    sched_connection_opened(to);
}

/* ---- Hold ---- */

static void a_held_message_is_never_due_and_does_not_expire(void **state)
{
    (void)state;
    connect_one(site);
    add(site, &messages[0], 0, START);
    sched_hold(&messages[0]);
    assert_true(sched_held(&messages[0]));
    assert_null(sched_next(site, START + 100 * DAY));
    assert_null(sched_expired(site, START + 100 * DAY));
    assert_null(sched_delayed(site, START + 100 * DAY));
    sched_flush(sched);
    assert_null(sched_next(site, START + 100 * DAY));
    assert_int_equal(sched_site_next_due(site, START + 100 * DAY), SCHED_NEVER);
    assert_true(view_of(&messages[0]).held);
    assert_int_equal(view_of(&messages[0]).next_attempt_ns, SCHED_NEVER);
}

static void a_released_message_is_tried_however_old_it_is_then_expires(void **state)
{
    (void)state;
    connect_one(site);
    add(site, &messages[0], 0, START);
    sched_hold(&messages[0]);
    uint64_t now_ns = START + 100 * DAY;
    sched_release(&messages[0], now_ns);
    assert_false(sched_held(&messages[0]));
    assert_ptr_equal(sched_look(sched), site);
    assert_null(sched_expired(site, now_ns));
    assert_int_equal(sched_site_next_due(site, now_ns), 0);
    struct sched_delivery *delivery = sched_next(site, now_ns);
    assert_ptr_equal(delivery->message, &messages[0]);
    assert_int_equal(defer_one(delivery, now_ns), SCHED_DEFERRED);
    assert_ptr_equal(sched_delayed(site, now_ns), delivery);
    assert_int_equal(sched_site_next_due(site, now_ns), now_ns + 300 * SECOND);
    delivery = sched_next(site, now_ns + 300 * SECOND);
    assert_int_equal(defer_one(delivery, now_ns + 300 * SECOND), SCHED_EXPIRED);
    sched_done(delivery);
}

static void a_released_message_is_due_when_it_was(void **state)
{
    (void)state;
    add(site, &messages[0], 0, START);
    defer_one(sched_next(site, START), START);
    sched_hold(&messages[0]);
    sched_release(&messages[0], START + SECOND);
    assert_null(sched_next(site, START + 300 * SECOND - 1));
    assert_non_null(sched_next(site, START + 300 * SECOND));
}

static void a_message_held_while_it_is_delivered_is_held_when_it_comes_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        add(site, &messages[i], 0, START);
    }
    struct sched_delivery *deferred = sched_next(site, START);
    struct sched_delivery *returned = sched_next(site, START);
    struct sched_delivery *moved = sched_next(site, START);
    struct sched_delivery *done = sched_next(site, START);
    for (unsigned i = 0; i < 4; i++) {
        sched_hold(&messages[i]);
    }
    assert_int_equal(defer_one(deferred, START + 10 * DAY), SCHED_DEFERRED);
    sched_return(returned, sched_indexes(returned), 1);
    sched_move(moved, other);
    sched_done(done);
    assert_null(sched_next(site, START + 20 * DAY));
    assert_null(sched_next(other, START + 20 * DAY));
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    assert_int_equal(counts.held, 2);
    assert_int_equal(counts.active, 0);
    for (unsigned i = 0; i < 3; i++) {
        sched_release(&messages[i], START + 20 * DAY);
    }
    assert_ptr_equal(sched_next(site, START + 20 * DAY)->message, &messages[0]);
    assert_ptr_equal(sched_next(site, START + 20 * DAY)->message, &messages[1]);
    assert_ptr_equal(sched_next(other, START + 20 * DAY)->message, &messages[2]);
}

static void a_held_message_is_held_after_a_restart_and_can_be_deleted(void **state)
{
    (void)state;
    uint32_t index = 0;
    const struct sched_request request = {.message = &messages[0],
                                          .indexes = &index,
                                          .count = 1,
                                          .due_ns = START,
                                          .age_ns = 30 * DAY,
                                          .held = true};
    assert_int_equal(sched_add(site, &request, START), 0);
    assert_null(sched_next(site, START + DAY));
    assert_null(sched_expired(site, START + DAY));
    assert_int_equal(sched_delete(&messages[0]), 0);
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    assert_int_equal(counts.held + counts.deliveries, 0);
}

/* ---- Sites ---- */

static void what_waits_for_a_suspended_site_counts_no_attempt_and_comes_when_it_ends(void **state)
{
    (void)state;
    struct sched_suspension_view view;
    uint64_t until_ns = START + 300 * SECOND;
    connect_one(site);
    add(site, &messages[0], 0, START);
    assert_int_equal(sched_site_suspend(site, until_ns, slice_text("too fast")), 0);
    add(site, &messages[1], 0, START + 299 * SECOND); /* late, and not put off */
    assert_null(sched_next(site, until_ns - 1));
    assert_int_equal(sched_wants_connection(site, until_ns - 1), 0);
    assert_int_equal(sched_site_next_due(site, START), until_ns);
    assert_true(sched_site_suspension(site, until_ns - 1, &view));
    assert_int_equal(view.until_ns, until_ns);
    assert_true(slice_equal(view.reason, slice_text("too fast")));
    assert_true(view_of(&messages[1]).suspended);
    assert_int_equal(view_of(&messages[1]).next_attempt_ns, until_ns);
    sched_flush(sched);
    assert_null(sched_next(site, until_ns - 1));
    assert_false(sched_site_suspension(site, until_ns, &view));
    assert_int_equal(sched_site_next_due(site, until_ns), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct sched_delivery *delivery = sched_next(site, until_ns);
        assert_ptr_equal(delivery->message, &messages[i]);
        assert_int_equal(delivery->attempts, 0);
    }
    assert_false(view_of(&messages[1]).suspended);
}

static void a_resumed_site_goes_on_at_once(void **state)
{
    (void)state;
    add(site, &messages[0], 0, START);
    assert_int_equal(sched_site_suspend(site, SCHED_NEVER, slice_text("")), 0);
    while (sched_look(sched) != NULL) {
    }
    assert_int_equal(sched_site_next_due(site, START), START + 4 * HOUR); /* delayed */
    sched_site_resume(site);
    assert_ptr_equal(sched_look(sched), site);
    assert_int_equal(sched_wants_connection(site, START), 1);
    assert_non_null(sched_next(site, START));
}

static void deliveries_expire_while_their_site_is_suspended(void **state)
{
    (void)state;
    add(site, &messages[0], 0, START);
    assert_int_equal(sched_site_suspend(site, SCHED_NEVER, slice_text("")), 0);
    uint64_t now_ns = START + 5 * DAY;
    assert_non_null(sched_delayed(site, now_ns));
    assert_int_equal(sched_site_next_due(site, now_ns - 1), now_ns);
    assert_int_equal(sched_site_next_due(site, now_ns), 0);
    struct sched_delivery *delivery = sched_expired(site, now_ns);
    assert_ptr_equal(delivery->message, &messages[0]);
    sched_done(delivery);
    assert_int_equal(sched_site_next_due(site, now_ns), SCHED_NEVER);
}

/* ---- Senders ---- */

static void a_suspended_sender_waits_in_all_sites_and_the_others_go_on(void **state)
{
    (void)state;
    struct sched_site *sites[] = {site, other};
    struct sched_suspension_view view;
    uint64_t until_ns = START + 300 * SECOND;
    for (unsigned i = 0; i < 2; i++) {
        connect_one(sites[i]);
        add(sites[i], &messages[4 * i], 1, START);
        add(sites[i], &messages[4 * i + 1], 2, START);
    }
    assert_int_equal(sched_sender_suspend(sched, 1, until_ns, slice_text("complaints")), 0);
    assert_true(sched_sender_suspension(sched, 1, START, &view));
    assert_true(slice_equal(view.reason, slice_text("complaints")));
    assert_false(sched_sender_suspension(sched, 2, START, &view));
    for (unsigned i = 0; i < 2; i++) {
        struct sched_site_counts counts;
        add(sites[i], &messages[4 * i + 2], 1, START + 299 * SECOND);
        assert_int_equal(sched_next(sites[i], START)->sender, 2);
        assert_null(sched_next(sites[i], until_ns - 1));
        assert_int_equal(sched_wants_connection(sites[i], until_ns - 1), 0);
        assert_int_equal(sched_site_next_due(sites[i], START), until_ns);
        sched_site_counts(sites[i], &counts);
        assert_int_equal(counts.ready, 2);
        assert_int_equal(counts.blocked, 2);
        assert_true(view_of(&messages[4 * i]).suspended);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(sched_site_next_due(sites[i], until_ns), 0);
        assert_ptr_equal(sched_next(sites[i], until_ns)->message, &messages[4 * i]);
        assert_ptr_equal(sched_next(sites[i], until_ns)->message, &messages[4 * i + 2]);
        assert_null(sched_next(sites[i], until_ns));
    }
    assert_false(sched_sender_suspension(sched, 1, until_ns, &view));
}

static void a_resumed_sender_goes_on_at_once(void **state)
{
    (void)state;
    add(site, &messages[0], 1, START);
    assert_int_equal(sched_sender_suspend(sched, 1, SCHED_NEVER, slice_text("")), 0);
    assert_int_equal(sched_sender_suspend(sched, 1, START + DAY, slice_text("again")), 0);
    add(site, &messages[1], 1, START);
    assert_null(sched_next(site, START));
    while (sched_look(sched) != NULL) {
    }
    sched_sender_resume(sched, 1);
    assert_ptr_equal(sched_look(sched), site);
    assert_null(sched_look(sched)); /* the other has nothing of it */
    assert_ptr_equal(sched_next(site, START)->message, &messages[0]);
    assert_ptr_equal(sched_next(site, START)->message, &messages[1]);
    sched_sender_resume(sched, 1);
}

static void deliveries_expire_while_their_sender_is_suspended(void **state)
{
    (void)state;
    add(site, &messages[0], 1, START);
    assert_int_equal(sched_sender_suspend(sched, 1, SCHED_NEVER, slice_text("")), 0);
    assert_null(sched_expired(site, START + 5 * DAY - 1));
    sched_done(sched_expired(site, START + 5 * DAY));
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    assert_int_equal(counts.ready + counts.blocked + counts.deliveries, 0);
}

static void each_suspension_ends_when_it_says(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        add(site, &messages[i], i, START);
        assert_int_equal(sched_sender_suspend(sched, i, START + (100 - i) * SECOND, slice_text("")),
                         0);
    }
    for (unsigned i = 1; i <= 100; i++) {
        uint64_t now_ns = START + i * SECOND;
        assert_null(sched_next(site, now_ns - 1));
        assert_ptr_equal(sched_next(site, now_ns)->message, &messages[100 - i]);
        assert_int_equal(sched_site_next_due(site, now_ns),
                         i < 100 ? now_ns + SECOND : START + 4 * HOUR);
    }
}

static void suspended_senders_are_listed_and_are_not_more_than_their_limit(void **state)
{
    (void)state;
    struct sched_suspension_view view;
    uint64_t sum = 0, position = 0;
    for (uint64_t i = 1; i <= SCHED_SENDERS_SUSPENDED_MAX; i++) {
        assert_int_equal(sched_sender_suspend(sched, i, SCHED_NEVER, slice_text("x")), 0);
    }
    assert_int_equal(sched_sender_suspend(sched, 0, SCHED_NEVER, slice_text("x")), -ENOSPC);
    assert_int_equal(sched_sender_suspend(sched, 5, START, slice_text("y")), 0);
    while (sched_suspended_sender_next(sched, &position, &view)) {
        sum += view.sender;
        assert_true(slice_equal(view.reason, slice_text(view.sender == 5 ? "y" : "x")));
    }
    assert_int_equal(sum, (uint64_t)SCHED_SENDERS_SUSPENDED_MAX *
                              (SCHED_SENDERS_SUSPENDED_MAX + 1ull) / 2);
}

/* ---- Delays ---- */

static void a_delayed_delivery_is_told_of_once_wherever_it_waits(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        add(site, &messages[i], i, START + i * SECOND);
    }
    defer_one(sched_next(site, START), START);               /* 0: later */
    struct sched_delivery *active = sched_next(site, START); /* 1 */
    assert_int_equal(sched_sender_suspend(sched, 2, SCHED_NEVER, slice_text("")), 0);
    assert_int_equal(sched_site_suspend(site, SCHED_NEVER, slice_text("")), 0);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t due_ns = START + i * SECOND + 4 * HOUR;
        assert_null(sched_delayed(site, due_ns - 1));
        assert_ptr_equal(sched_delayed(site, due_ns)->message, &messages[i]);
        assert_null(sched_delayed(site, due_ns));
    }
    sched_move(active, other);
    assert_null(sched_delayed(other, START + DAY));
    assert_null(sched_delayed(site, START + DAY));
}

static void one_whose_sender_knows_already_is_passed_over(void **state)
{
    (void)state;
    uint32_t index = 0;
    for (unsigned i = 0; i < MANY; i++) { /* every 300th is not known of */
        const struct sched_request request = {.message = &messages[i],
                                              .indexes = &index,
                                              .count = 1,
                                              .due_ns = START,
                                              .age_ns = DAY,
                                              .delayed = i % 300 != 299};
        assert_int_equal(sched_add(site, &request, START), 0);
    }
    unsigned count = 0;
    for (unsigned calls = 0; sched_site_next_due(site, START) == 0 && calls < 30; calls++) {
        struct sched_delivery *delivery = sched_delayed(site, START);
        if (delivery != NULL) {
            count++;
            assert_int_equal((delivery->message - messages) % 300, 299);
        }
    }
    assert_int_equal(count, 3);
}

/* ---- Walks ---- */

static unsigned walk_count(struct sched_walk *walk, unsigned seen[MANY])
{
    unsigned count = 0;
    memset(seen, 0, MANY * sizeof(*seen));
    for (struct sched_delivery *delivery; (delivery = sched_walk_next(walk)) != NULL; count++) {
        seen[delivery->message - messages]++;
    }
    sched_walk_end(walk);
    return count;
}

static void a_walk_sees_each_delivery_of_a_site_in_any_state(void **state)
{
    (void)state;
    struct sched_walk walk;
    unsigned seen[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        add(i % 5 == 4 ? other : site, &messages[i], i % 7, START);
        if (i % 3 == 0) {
            sched_hold(&messages[i]);
        }
    }
    defer_one(sched_next(site, START), START);
    assert_non_null(sched_next(site, START));
    sched_walk_begin_site(&walk, site);
    assert_int_equal(walk_count(&walk, seen), MANY / 5 * 4);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(seen[i], i % 5 != 4);
    }
    sched_walk_begin(&walk, sched);
    assert_int_equal(walk_count(&walk, seen), MANY);
    unsigned count = 0;
    for (struct sched_site *at = NULL; (at = sched_site_next(sched, at)) != NULL; count++) {
        assert_true(at == site || at == other);
    }
    assert_int_equal(count, 2);
}

/* Between two steps deliveries are finished, deferred, held, moved, added; by the walk too. */
static void play(bool of_site, uint64_t seed)
{
    struct sched_walk walk, beside;
    unsigned seen[MANY] = {0};
    bool touched[MANY] = {0};
    uint64_t random = seed;
    for (unsigned i = 0; i < MANY / 2; i++) {
        add(site, &messages[i], i % 7, START);
    }
    if (of_site) {
        sched_walk_begin_site(&walk, site);
        sched_walk_begin_site(&beside, site);
    } else {
        sched_walk_begin(&walk, sched);
        sched_walk_begin(&beside, sched);
    }
    unsigned added = MANY / 2;
    for (struct sched_delivery *delivery; (delivery = sched_walk_next(&walk)) != NULL;) {
        seen[delivery->message - messages]++;
        sched_walk_next(&beside);
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        unsigned chosen = (unsigned)(random >> 33) % (MANY / 2), kind = (unsigned)(random >> 60);
        touched[chosen] = true;
        if (kind < 4) {
            sched_delete(kind < 2 ? delivery->message : &messages[chosen]);
        } else if (kind < 6) {
            sched_hold(&messages[chosen]);
        } else if (kind < 8) {
            sched_release(&messages[chosen], START);
        } else if (kind < 10 && (delivery = sched_next(site, START)) != NULL) {
            touched[delivery->message - messages] = true;
            sched_move(delivery, other);
        } else if (kind < 12 && added < MANY) {
            add(site, &messages[added++], 3, START);
        } else if (kind < 14 && (delivery = sched_next(site, START)) != NULL) {
            defer_one(delivery, START);
        }
    }
    sched_walk_end(&walk);
    sched_walk_end(&beside);
    for (unsigned i = 0; i < MANY / 2; i++) {
        assert_true(seen[i] == 1 || touched[i]);
    }
}

static void what_is_there_all_the_time_is_seen_once_whatever_else_is_done(void **state)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        play(seed % 2 == 0, seed);
        close_one(state);
        assert_int_equal(open_one(state), 0);
    }
}

static void a_walk_ends_with_its_site(void **state)
{
    (void)state;
    struct sched_walk walk;
    add(site, &messages[0], 0, START);
    sched_walk_begin_site(&walk, other);
    sched_site_close(other);
    assert_null(sched_walk_next(&walk));
    sched_walk_end(&walk);
}

/* ---- Evicted ---- */

static void a_site_is_emptied_of_all_that_waits_whatever_for(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        add(site, &messages[i], i, START);
    }
    assert_non_null(sched_next(site, START));
    defer_one(sched_next(site, START), START);
    sched_hold(&messages[2]);
    assert_int_equal(sched_sender_suspend(sched, 3, SCHED_NEVER, slice_text("")), 0);
    assert_int_equal(sched_site_suspend(site, SCHED_NEVER, slice_text("")), 0);
    unsigned count = 0;
    for (struct sched_delivery *delivery; (delivery = sched_evict(site)) != NULL; count++) {
        sched_move(delivery, other);
    }
    assert_int_equal(count, 9);
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    assert_int_equal(counts.deliveries, 1);
    assert_int_equal(counts.active, 1);
    sched_site_counts(other, &counts);
    assert_int_equal(counts.deliveries, 9);
    assert_int_equal(counts.active, 0);
    assert_int_equal(counts.held, 1);
    assert_int_equal(counts.blocked, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_one, close_one)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_held_message_is_never_due_and_does_not_expire),
        TEST(a_released_message_is_tried_however_old_it_is_then_expires),
        TEST(a_released_message_is_due_when_it_was),
        TEST(a_message_held_while_it_is_delivered_is_held_when_it_comes_back),
        TEST(a_held_message_is_held_after_a_restart_and_can_be_deleted),
        TEST(what_waits_for_a_suspended_site_counts_no_attempt_and_comes_when_it_ends),
        TEST(a_resumed_site_goes_on_at_once),
        TEST(deliveries_expire_while_their_site_is_suspended),
        TEST(a_suspended_sender_waits_in_all_sites_and_the_others_go_on),
        TEST(a_resumed_sender_goes_on_at_once),
        TEST(deliveries_expire_while_their_sender_is_suspended),
        TEST(each_suspension_ends_when_it_says),
        TEST(suspended_senders_are_listed_and_are_not_more_than_their_limit),
        TEST(a_delayed_delivery_is_told_of_once_wherever_it_waits),
        TEST(one_whose_sender_knows_already_is_passed_over),
        TEST(a_walk_sees_each_delivery_of_a_site_in_any_state),
        TEST(what_is_there_all_the_time_is_seen_once_whatever_else_is_done),
        TEST(a_walk_ends_with_its_site),
        TEST(a_site_is_emptied_of_all_that_waits_whatever_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
