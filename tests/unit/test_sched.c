#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/sched_one.h"

/* ---- Deliveries ---- */

static void deliveries_come_out_in_the_order_they_came(void **state)
{
    (void)state;
    struct message messages[100] = {0};
    for (unsigned i = 0; i < 100; i++) {
        add(&messages[i], i, START);
    }
    for (unsigned i = 0; i < 100; i++) {
        struct sched_delivery *delivery = sched_next(site, START);
        assert_ptr_equal(delivery->message, &messages[i]);
        assert_int_equal(delivery->count, 1);
        assert_int_equal(sched_indexes(delivery)[0], i);
        sched_done(delivery);
        assert_null(messages[i].owner);
    }
    assert_null(sched_next(site, START));
    assert_int_equal(sched_recipient_count(sched), 0);
}

static void deferred_delivery_comes_back_when_it_is_due_and_waits_longer_each_time(void **state)
{
    (void)state;
    struct message message = {0};
    uint64_t now = START, wait = 300 * SECOND;
    add(&message, 7, now);
    for (unsigned attempts = 1; attempts < 6; attempts++, wait *= 2) {
        struct sched_delivery *delivery = sched_next(site, now);
        assert_non_null(delivery);
        assert_int_equal(defer_all(delivery, now, "busy"), SCHED_DEFERRED);
        assert_int_equal(delivery->attempts, attempts);
        assert_int_equal(sched_site_next_due(site, now), now + wait);
        assert_null(sched_next(site, now + wait - 1));
        now += wait;
    }
}

static void attempts_are_counted_up_to_a_limit_and_never_from_the_beginning(void **state)
{
    (void)state;
    struct message message = {0};
    const uint32_t index = 0;
    const struct sched_request request = {.message = &message,
                                          .indexes = &index,
                                          .count = 1,
                                          .attempts = UINT32_MAX,
                                          .due_ns = START,
                                          .priority = SCHED_PRIORITY_COUNT - 1};
    assert_int_equal(sched_add(site, &request, START), 0);
    struct sched_delivery *delivery = sched_next(site, START);
    assert_int_equal(delivery->attempts, SCHED_ATTEMPTS_MAX);
    assert_int_equal(defer_all(delivery, START, "busy"), SCHED_DEFERRED);
    assert_int_equal(delivery->attempts, SCHED_ATTEMPTS_MAX);
    assert_int_equal(delivery->priority, SCHED_PRIORITY_COUNT - 1);
    assert_int_equal(sched_site_next_due(site, START), START + 4 * HOUR);
}

static void only_the_recipients_that_wait_come_back(void **state)
{
    (void)state;
    struct message message = {0};
    const uint32_t indexes[] = {10, 11, 12, 13, 14, 15};
    const struct sched_request request = {
        .message = &message, .indexes = indexes, .count = 6, .due_ns = START};
    assert_int_equal(sched_add(site, &request, START), 0);
    assert_int_equal(sched_recipient_count(sched), 6);
    struct sched_delivery *delivery = sched_next(site, START);
    const uint32_t *own = sched_indexes(delivery);
    sched_defer(delivery, START, own + 1, 4,
                slice_text("x")); /* a part of its own, in its own memory */
    delivery = sched_next(site, START + HOUR);
    assert_int_equal(delivery->count, 4);
    assert_memory_equal(sched_indexes(delivery), indexes + 1, 4 * sizeof(*indexes));
    sched_defer(delivery, START + HOUR, sched_indexes(delivery) + 2, 2, slice_text("x"));
    delivery = sched_next(site, START + 2 * HOUR);
    assert_memory_equal(sched_indexes(delivery), indexes + 3, 2 * sizeof(*indexes));
    sched_return(delivery, sched_indexes(delivery) + 1, 1);
    delivery = sched_next(site, START + 2 * HOUR);
    assert_int_equal(sched_indexes(delivery)[0], 14);
    assert_int_equal(sched_recipient_count(sched), 1);
    sched_done(delivery);
    assert_int_equal(sched_recipient_count(sched), 0);
}

static void returned_delivery_is_next_and_no_attempt_is_counted(void **state)
{
    (void)state;
    struct message messages[2] = {0};
    add(&messages[0], 0, START);
    add(&messages[1], 0, START);
    struct sched_delivery *delivery = sched_next(site, START);
    sched_return(delivery, sched_indexes(delivery), 1);
    delivery = sched_next(site, START);
    assert_ptr_equal(delivery->message, &messages[0]);
    assert_int_equal(delivery->attempts, 0);
}

static void delivery_that_waits_from_before_a_restart_is_due_when_it_says(void **state)
{
    (void)state;
    struct message message = {0};
    const uint32_t index = 0;
    const struct sched_request request = {.message = &message,
                                          .indexes = &index,
                                          .count = 1,
                                          .attempts = 3,
                                          .due_ns = START + HOUR,
                                          .age_ns = DAY};
    assert_int_equal(sched_add(site, &request, START), 0);
    assert_null(sched_next(site, START + HOUR - 1));
    struct sched_delivery *delivery = sched_next(site, START + HOUR);
    assert_int_equal(delivery->attempts, 3);
    assert_int_equal(delivery->expires_ns, START + 4 * DAY);
    defer_all(delivery, START + HOUR, "x");
    assert_int_equal(delivery->due_ns, START + HOUR + 8 * 300 * SECOND); /* the fourth failure */
}

/* ---- Age ---- */

static void delivery_is_given_up_when_its_time_is_over_and_tried_once_more_just_then(void **state)
{
    (void)state;
    struct message message = {0};
    uint64_t now = START;
    enum sched_defer answer = SCHED_DEFERRED;
    add(&message, 0, now);
    connect_one();
    struct sched_delivery *delivery = NULL;
    for (unsigned attempts = 0; attempts < 100 && answer == SCHED_DEFERRED; attempts++) {
        delivery = sched_next(site, now);
        assert_non_null(delivery);
        answer = defer_all(delivery, now, "busy");
        if (answer == SCHED_DEFERRED) {
            now = sched_site_next_due(site, now);
        }
    }
    assert_int_equal(answer, SCHED_EXPIRED);
    assert_int_equal(now, START + 5 * DAY);
    assert_int_equal(sched_indexes(delivery)[0], 0);
    sched_done(delivery);
    assert_int_equal(sched_site_next_due(site, now), SCHED_NEVER);
}

static void deliveries_expire_though_their_site_cannot_be_reached(void **state)
{
    (void)state;
    struct message messages[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        add(&messages[i], i, START + i * HOUR);
    }
    sched_connection_started(site);
    sched_connection_failed(site, START + 5 * DAY, slice_text("refused"));
    assert_null(sched_expired(site, START + 5 * DAY - 1));
    for (unsigned i = 0; i < 3; i++) {
        uint64_t now = START + 5 * DAY + i * HOUR;
        struct sched_delivery *delivery = sched_expired(site, now);
        assert_ptr_equal(delivery->message, &messages[i]);
        struct slice reason = sched_reason(delivery);
        assert_true(slice_equal(reason, slice_text("refused")));
        sched_done(delivery);
        assert_null(sched_expired(site, now));
    }
}

static void expired_one_that_cannot_be_returned_expires_again_later(void **state)
{
    (void)state;
    struct message message = {0};
    add(&message, 0, START);
    uint64_t now = START + 5 * DAY;
    struct sched_delivery *delivery = sched_expired(site, now);
    assert_int_equal(defer_all(delivery, now, "no room for the report"), SCHED_DEFERRED);
    assert_null(sched_expired(site, now));
    assert_int_equal(sched_site_next_due(site, now), now + 300 * SECOND);
    delivery = sched_expired(site, now + 300 * SECOND);
    assert_non_null(delivery);
    sched_return(delivery, sched_indexes(delivery), 1);
    assert_null(sched_expired(site, now + 300 * SECOND));
    assert_non_null(sched_expired(site, now + 600 * SECOND));
}

static void message_that_is_too_old_after_a_restart_gets_an_attempt(void **state)
{
    (void)state;
    struct message message = {0};
    const uint32_t index = 0;
    const struct sched_request request = {
        .message = &message, .indexes = &index, .count = 1, .due_ns = START, .age_ns = 400 * DAY};
    assert_int_equal(sched_add(site, &request, START), 0);
    assert_null(sched_expired(site, START));
    assert_non_null(sched_next(site, START));
}

/* ---- Connections ---- */

static void connections_follow_the_queue_up_to_their_limit(void **state)
{
    (void)state;
    struct message messages[5] = {0};
    assert_int_equal(sched_wants_connection(site, START), 0);
    add(&messages[0], 0, START);
    assert_int_equal(sched_site_next_due(site, START), 0);
    assert_int_equal(sched_wants_connection(site, START), 1);
    sched_connection_started(site);
    assert_int_equal(sched_wants_connection(site, START), 0); /* it will take the one */
    for (unsigned i = 1; i < 5; i++) {
        add(&messages[i], 0, START);
    }
    assert_int_equal(sched_wants_connection(site, START), 2); /* three in all */
    sched_connection_opened(site);
    assert_int_equal(sched_site_next_due(site, START), 0); /* it is free */
    struct sched_delivery *delivery = sched_next(site, START);
    assert_int_equal(sched_wants_connection(site, START), 2);
    sched_connection_started(site);
    sched_connection_started(site);
    assert_int_equal(sched_wants_connection(site, START), 0);
    assert_int_equal(sched_site_next_due(site, START),
                     START + 5 * DAY); /* all are busy: only age can matter */
    sched_done(delivery);
    assert_int_equal(sched_site_next_due(site, START), 0);
}

static void idle_connection_serves_before_another_is_opened(void **state)
{
    (void)state;
    struct message message = {0};
    connect_one();
    add(&message, 0, START);
    assert_int_equal(sched_wants_connection(site, START), 0);
    assert_int_equal(sched_site_next_due(site, START), 0);
}

static void site_that_cannot_be_reached_rests_longer_each_time(void **state)
{
    (void)state;
    struct message messages[5] = {0};
    for (unsigned i = 0; i < 5; i++) {
        add(&messages[i], 0, START);
    }
    uint64_t now = START;
    for (unsigned i = 0; i < 3; i++) { /* three at once, one failure */
        sched_connection_started(site);
    }
    for (unsigned i = 0; i < 3; i++) {
        sched_connection_failed(site, now, slice_text("refused"));
    }
    static const uint64_t wait_s[] = {60, 120, 240, 480, 960, 1920, 3600, 3600};
    for (unsigned i = 0; i < sizeof(wait_s) / sizeof(wait_s[0]); i++) {
        assert_int_equal(sched_wants_connection(site, now), 0);
        assert_int_equal(sched_site_next_due(site, now), now + wait_s[i] * SECOND);
        now += wait_s[i] * SECOND;
        assert_int_equal(sched_site_next_due(site, now), 0);
        assert_int_equal(sched_wants_connection(site, now), 1); /* one tries for all */
        sched_connection_started(site);
        assert_int_equal(sched_wants_connection(site, now), 0);
        sched_connection_failed(site, now, slice_text("refused"));
    }
    now += HOUR;
    connect_one();
    assert_int_equal(sched_wants_connection(site, now), 1); /* it works: two now, then all */
    connect_one();
    assert_int_equal(sched_wants_connection(site, now), 1);
    struct sched_site_counts counts;
    sched_site_counts(site, &counts);
    assert_int_equal(counts.unreachable_until_ns, 0);
    assert_int_equal(counts.reason.size, 0);
}

static void every_address_is_tried_before_the_site_rests(void **state)
{
    (void)state;
    struct message messages[5] = {0};
    struct sched_site_settings three = settings;
    three.address_count = 3;
    sched_site_set(site, &three);
    for (unsigned i = 0; i < 5; i++) {
        add(&messages[i], 0, START);
    }
    assert_int_equal(sched_wants_connection(site, START), 3);
    for (unsigned i = 0; i < 3; i++) {
        sched_connection_started(site);
        sched_connection_failed(site, START, slice_text("refused"));
        assert_int_equal(sched_wants_connection(site, START), i < 2 ? 1 : 0);
    }
}

/* Connections that fail together: what the last of them returns. */
static uint32_t fail_together(unsigned count)
{
    uint32_t tried = 0;
    for (unsigned i = 0; i < count; i++) {
        sched_connection_started(site);
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(tried, 0);
        tried = sched_connection_failed(site, START, slice_text("refused"));
    }
    return tried;
}

static void a_site_that_rests_says_how_many_deliveries_were_tried(void **state)
{
    (void)state;
    struct message messages[5] = {0};
    struct sched_site_settings two = settings;
    two.address_count = 2;
    sched_site_set(site, &two);
    for (unsigned i = 0; i < 5; i++) {
        add(&messages[i], 0, START);
    }
    assert_int_equal(fail_together(3), 0); /* another address is left */
    assert_int_equal(fail_together(1), 3); /* one has tried it for all */
    sched_site_flush(site);
    assert_int_equal(fail_together(1), 0);
    assert_int_equal(fail_together(1), 1); /* those of before the rest were told of */
    sched_site_flush(site);
    connect_one();
    assert_int_equal(fail_together(1), 0);
    assert_int_equal(fail_together(1), 0); /* the one that is open goes on with them */
}

static void whose_turn_it_is_can_be_seen_without_taking_it(void **state)
{
    (void)state;
    static const struct {
        uint64_t sender;
        uint8_t priority;
    } rows[] = {{1, 1}, {1, 1}, {1, 1}, {2, 1}, {3, 0}, {4, 3}, {4, 3}};
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    const struct sched_delivery *turns[ROWS + 1], *again[ROWS];
    struct message messages[ROWS] = {0};
    const uint32_t index = 0;
    for (unsigned i = 0; i < ROWS; i++) {
        const struct sched_request request = {.message = &messages[i],
                                              .indexes = &index,
                                              .count = 1,
                                              .sender = rows[i].sender,
                                              .priority = rows[i].priority,
                                              .due_ns = START};
        assert_int_equal(sched_add(site, &request, START), 0);
    }
    assert_int_equal(sched_turns(site, turns, 3), 3);
    assert_int_equal(sched_turns(site, turns, ROWS + 1), ROWS);
    assert_int_equal(sched_turns(site, again, ROWS), ROWS);
    assert_memory_equal(turns, again, sizeof(again));
    for (unsigned i = 0; i < ROWS; i++) {
        assert_ptr_equal(sched_next(site, START), turns[i]);
    }
    assert_int_equal(sched_turns(site, turns, ROWS), 0);
}

static void refused_connection_beside_open_ones_pauses_and_ends_with_them(void **state)
{
    (void)state;
    struct message messages[5] = {0};
    for (unsigned i = 0; i < 5; i++) {
        add(&messages[i], 0, START);
    }
    connect_one();
    struct sched_delivery *delivery = sched_next(site, START);
    sched_connection_started(site);
    sched_connection_failed(site, START, slice_text("421 too many connections"));
    assert_int_equal(sched_wants_connection(site, START), 0);
    sched_done(delivery);
    delivery = sched_next(site, START); /* the open one goes on */
    assert_non_null(delivery);
    sched_done(delivery);
    sched_connection_closed(site);
    assert_int_equal(sched_wants_connection(site, START), 1);
}

/* ---- The operator ---- */

static void flush_makes_everything_due_and_tries_sites_that_rest(void **state)
{
    (void)state;
    static struct message messages[500];
    memset(messages, 0, sizeof(messages));
    for (unsigned i = 0; i < 500; i++) {
        add(&messages[i], 0, START);
        defer_all(sched_next(site, START), START, "busy");
    }
    sched_connection_started(site);
    sched_connection_failed(site, START, slice_text("refused"));
    assert_null(sched_next(site, START));
    sched_flush(sched);
    assert_int_equal(sched_site_next_due(site, START), 0);
    assert_int_equal(sched_wants_connection(site, START), 1); /* it may be away still */
    unsigned count = 0;
    for (struct sched_delivery *delivery; (delivery = sched_next(site, START)) != NULL; count++) {
        if (count % 2 == 0) {
            sched_done(delivery);
        } else {
            defer_all(delivery, START, "busy"); /* not due again by the same flush */
        }
        if (count == 100) {
            sched_flush(sched); /* while the first is under way: 50 come again */
        }
    }
    assert_int_equal(count, 550);
}

static void deleted_message_is_gone_wherever_it_waits(void **state)
{
    (void)state;
    static struct message messages[300];
    memset(messages, 0, sizeof(messages));
    for (unsigned i = 0; i < 300; i++) {
        add(&messages[i], 0, START);
        add(&messages[i], 1, START);
        defer_all(sched_next(site, START), START + i, "busy"); /* half are ready, half wait */
        if (i == 99) {
            assert_int_equal(sched_delete(&messages[0]), 0); /* the root of the heap */
        }
        if (i == 199) {
            sched_site_flush(site);
            assert_int_equal(sched_delete(&messages[1]), 0);
        }
    }
    for (unsigned i = 2; i < 300; i += 2) {
        assert_int_equal(sched_delete(&messages[i]), 0);
        assert_null(messages[i].owner);
    }
    assert_int_equal(sched_recipient_count(sched), 2 * 149);
    unsigned count = 0;
    for (struct sched_delivery *delivery; (delivery = sched_next(site, START + DAY)) != NULL;
         count++) {
        assert_int_equal((delivery->message - messages) % 2, 1);
        sched_done(delivery);
    }
    assert_int_equal(count, 2 * 149);
}

static void message_that_is_being_delivered_is_not_deleted(void **state)
{
    (void)state;
    struct message message = {0};
    add(&message, 0, START);
    add(&message, 1, START);
    struct sched_delivery *delivery = sched_next(site, START);
    assert_int_equal(sched_delete(&message), -EBUSY);
    assert_int_equal(sched_recipient_count(sched), 2);
    sched_done(delivery);
    assert_int_equal(sched_delete(&message), 0);
}

static void view_says_when_and_why(void **state)
{
    (void)state;
    struct message message = {0};
    struct sched_view view;
    assert_false(sched_view(&message, 0, &view));
    add(&message, 4, START);
    add(&message, 5, START);
    struct sched_delivery *delivery = sched_next(site, START);
    assert_true(sched_view(&message, 4, &view));
    assert_true(view.active);
    defer_all(delivery, START, "450 4.2.0 busy");
    assert_true(sched_view(&message, 4, &view));
    assert_false(view.active);
    assert_int_equal(view.next_attempt_ns, START + 300 * SECOND);
    assert_int_equal(view.attempts, 1);
    assert_true(slice_equal(view.reason, slice_text("450 4.2.0 busy")));
    assert_true(sched_view(&message, 5, &view));
    assert_int_equal(view.next_attempt_ns, 0);
    assert_int_equal(view.reason.size, 0);
    assert_false(sched_view(&message, 6, &view));
    sched_connection_started(site);
    sched_connection_failed(site, START + 280 * SECOND, slice_text("refused"));
    assert_true(sched_view(&message, 4, &view));
    assert_int_equal(view.next_attempt_ns, START + 340 * SECOND);
    assert_true(slice_equal(view.reason, slice_text("refused")));
}

static void long_reason_is_cut(void **state)
{
    (void)state;
    struct message message = {0};
    char text[5000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    add(&message, 0, START);
    struct sched_delivery *delivery = sched_next(site, START);
    defer_all(delivery, START, text);
    assert_int_equal(sched_reason(delivery).size, SCHED_REASON_BYTES_MAX);
    sched_connection_started(site);
    sched_connection_failed(site, START, slice_text(text));
    assert_int_equal(sched_reason(delivery).size, SCHED_REASON_BYTES_MAX);
}

/* ---- All together ---- */

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % below;
}

/* Does what a relay does, in random order, and counts along. */
static void play(uint64_t seed)
{
    enum { MESSAGES = 200, ACTIVE_MAX = 8 };
    static struct message messages[MESSAGES];
    struct sched_delivery *active[ACTIVE_MAX];
    unsigned active_count = 0, waiting = 0;
    uint64_t now = START;
    random_state = seed;
    memset(messages, 0, sizeof(messages));
    for (unsigned step = 0; step < 5000; step++) {
        struct message *message = &messages[draw(MESSAGES)];
        unsigned kind = draw(10), chosen = active_count > 0 ? draw(active_count) : 0;
        now += draw(2) == 0 ? 0 : draw(200) * SECOND;
        if (kind < 3 && message->owner == NULL) {
            const uint32_t indexes[] = {0, 1, 2, 3};
            const struct sched_request request = {.message = message,
                                                  .indexes = indexes,
                                                  .count = 1 + draw(4),
                                                  .due_ns = now + draw(3) * 100 * SECOND,
                                                  .age_ns = draw(6) * DAY};
            assert_int_equal(sched_add(site, &request, now), 0);
            waiting += request.count;
        } else if (kind < 6 && active_count < ACTIVE_MAX) {
            struct sched_delivery *delivery =
                draw(4) == 0 ? sched_expired(site, now) : sched_next(site, now);
            if (delivery != NULL) {
                active[active_count++] = delivery;
            }
        } else if (kind < 9 && active_count > 0) {
            struct sched_delivery *delivery = active[chosen];
            uint32_t kept = draw(delivery->count + 1);
            waiting -= delivery->count - kept;
            if (kept == 0) {
                sched_done(delivery);
            } else if (draw(3) == 0) {
                sched_return(delivery, sched_indexes(delivery), kept);
            } else if (sched_defer(delivery, now, sched_indexes(delivery), kept, slice_text("x")) ==
                       SCHED_EXPIRED) {
                waiting -= kept;
                sched_done(delivery);
            }
            active[chosen] = active[--active_count];
        } else if (kind == 9) {
            if (draw(20) == 0) {
                sched_flush(sched);
            }
            const struct sched_delivery *delivery = message->owner;
            uint32_t count = delivery != NULL ? delivery->count : 0;
            waiting -= sched_delete(message) == 0 ? count : 0;
        }
        assert_int_equal(sched_recipient_count(sched), waiting);
    }
}

static void nothing_is_lost_or_doubled_whatever_is_done(void **state)
{
    for (uint64_t seed = 1; seed <= 100; seed++) {
        play(seed);
        close_one(state);
        assert_int_equal(open_one(state), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(deliveries_come_out_in_the_order_they_came),
        TEST(deferred_delivery_comes_back_when_it_is_due_and_waits_longer_each_time),
        TEST(attempts_are_counted_up_to_a_limit_and_never_from_the_beginning),
        TEST(only_the_recipients_that_wait_come_back),
        TEST(returned_delivery_is_next_and_no_attempt_is_counted),
        TEST(delivery_that_waits_from_before_a_restart_is_due_when_it_says),
        TEST(delivery_is_given_up_when_its_time_is_over_and_tried_once_more_just_then),
        TEST(deliveries_expire_though_their_site_cannot_be_reached),
        TEST(expired_one_that_cannot_be_returned_expires_again_later),
        TEST(message_that_is_too_old_after_a_restart_gets_an_attempt),
        TEST(connections_follow_the_queue_up_to_their_limit),
        TEST(idle_connection_serves_before_another_is_opened),
        TEST(site_that_cannot_be_reached_rests_longer_each_time),
        TEST(every_address_is_tried_before_the_site_rests),
        TEST(a_site_that_rests_says_how_many_deliveries_were_tried),
        TEST(whose_turn_it_is_can_be_seen_without_taking_it),
        TEST(refused_connection_beside_open_ones_pauses_and_ends_with_them),
        TEST(flush_makes_everything_due_and_tries_sites_that_rest),
        TEST(deleted_message_is_gone_wherever_it_waits),
        TEST(message_that_is_being_delivered_is_not_deleted),
        TEST(view_says_when_and_why),
        TEST(long_reason_is_cut),
        TEST(nothing_is_lost_or_doubled_whatever_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
