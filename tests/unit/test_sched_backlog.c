#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "queue/sched/group.h"
#include "queue/spool/spool.h"

#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define START (1000 * SECOND)
#define MANY 1000000u
#define FEW 200u

static const struct sched_site_settings settings = {
    .connection_count_max = 20,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 4 * HOUR, .spread_pct = 20},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = HOUR},
    .expire_ns = 5 * DAY,
    .delay_ns = 4 * DAY,
};

static struct message *messages;
static struct sched *sched;
static struct sched_site *dead, *healthy;

static int open_all(void **state)
{
    (void)state;
    messages = calloc(MANY, sizeof(*messages));
    sched = sched_open(1);
    return messages == NULL || sched == NULL ||
           sched_site_open(sched, &settings, &dead, &dead) != 0 ||
           sched_site_open(sched, &settings, &healthy, &healthy) != 0;
}

static int close_all(void **state)
{
    (void)state;
    sched_close(sched);
    free(messages);
    return 0;
}

static void add(struct sched_site *site, struct message *message, uint64_t sender, uint64_t now_ns)
{
    uint32_t index = 0;
    const struct sched_request request = {
        .message = message, .indexes = &index, .count = 1, .due_ns = now_ns, .sender = sender};
    assert_int_equal(sched_add(site, &request, now_ns), 0);
}

/* Each failed once, with an answer of its own that is longer than what is kept. */
static void defer_many(void)
{
    for (uint32_t i = 0; i < MANY; i++) {
        char reason[128];
        int size =
            snprintf(reason, sizeof(reason),
                     "450 4.7.1 <user%07u@dead.test> greylisted, try again in %u seconds", i, i);
        add(dead, &messages[i], i % 10000, START);
        struct sched_delivery *delivery = sched_next(dead, START);
        assert_int_equal(sched_defer(delivery, START + i, sched_indexes(delivery), 1,
                                     slice_of(reason, (size_t)size)),
                         SCHED_DEFERRED);
    }
}

static void a_million_that_were_deferred_cost_200_bytes_each_at_most(void **state)
{
    (void)state;
    defer_many();
    assert_in_range(sched_memory_bytes(sched) / MANY, 100, 200);
    sched_flush(sched); /* O(1) */
    assert_int_equal(sched_next(dead, START + HOUR)->attempts, 1);
    uint64_t count = 1;
    for (struct sched_delivery *delivery; (delivery = sched_next(dead, START)) != NULL; count++) {
        sched_done(delivery);
    }
    assert_int_equal(count, MANY);
    assert_int_equal(sched_recipient_count(sched), 1);
}

static void a_million_that_are_ready_of_a_million_senders_cost_200_bytes_each_at_most(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        add(dead, &messages[i], (uint64_t)i << 20, START);
    }
    assert_in_range(sched_memory_bytes(sched) / MANY, 100, 200);
}

/* How often a site that cannot be reached must be looked at until `end_ns`; nothing else is done to it. */
static unsigned look_until(struct sched_site *site, uint64_t now_ns, uint64_t end_ns)
{
    unsigned looks = 0;
    struct sched_site_counts before, after;
    for (; now_ns < end_ns; looks++) {
        sched_site_counts(site, &before);
        assert_null(sched_expired(site, now_ns));
        assert_null(sched_delayed(site, now_ns));
        for (uint32_t wanted = sched_wants_connection(site, now_ns); wanted > 0; wanted--) {
            sched_connection_started(site);
            sched_connection_failed(site, now_ns, slice_text("refused"));
        }
        sched_site_counts(site, &after);
        assert_true(after.ready - before.ready <= 64); /* what a look may do at most */
        uint64_t due_ns = sched_site_next_due(site, now_ns);
        assert_true(due_ns > now_ns);
        now_ns = due_ns;
    }
    return looks;
}

static void a_million_for_a_dead_site_are_looked_at_as_seldom_as_a_few(void **state)
{
    unsigned looks[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        uint32_t count = i == 0 ? FEW : MANY;
        for (uint32_t j = 0; j < count; j++) {
            add(dead, &messages[j], j % 1000, START);
        }
        looks[i] = look_until(dead, START, START + DAY);
        close_all(state);
        assert_int_equal(open_all(state), 0);
    }
    assert_int_equal(looks[0], looks[1]);
    assert_in_range(looks[0], 20, 40);
}

/* A healthy site delivers one message a second; returns how often it had to be looked at. */
static unsigned serve(uint64_t from_ns)
{
    unsigned looks = 0;
    struct message message = {0};
    sched_connection_started(healthy);
    sched_connection_opened(healthy);
    for (uint64_t now_ns = from_ns; now_ns < from_ns + 1000 * SECOND; now_ns += SECOND) {
        add(healthy, &message, 1, now_ns);
        while (sched_site_next_due(healthy, now_ns) == 0) {
            looks++;
            struct sched_delivery *delivery = sched_next(healthy, now_ns);
            assert_ptr_equal(delivery->message, &message); /* at once, and nothing else */
            sched_done(delivery);
            assert_int_equal(sched_wants_connection(healthy, now_ns), 0);
        }
        assert_int_equal(sched_site_next_due(healthy, now_ns), SCHED_NEVER);
    }
    sched_connection_closed(healthy);
    return looks;
}

static void a_million_for_a_dead_site_cost_the_others_nothing(void **state)
{
    (void)state;
    unsigned alone = serve(START + HOUR);
    defer_many();
    struct sched_site_counts before, after;
    sched_connection_started(dead);
    sched_connection_failed(dead, START, slice_text("refused"));
    sched_site_counts(dead, &before);
    assert_int_equal(serve(START + HOUR), alone);
    assert_int_equal(alone, 1000);
    sched_site_counts(dead, &after);
    assert_int_equal(after.ready, before.ready); /* nobody touched it meanwhile */
    assert_null(sched_look(sched));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_million_that_were_deferred_cost_200_bytes_each_at_most),
        TEST(a_million_that_are_ready_of_a_million_senders_cost_200_bytes_each_at_most),
        TEST(a_million_for_a_dead_site_are_looked_at_as_seldom_as_a_few),
        TEST(a_million_for_a_dead_site_cost_the_others_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
