#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "queue/sched/operator.h"
#include "queue/spool/spool.h"

#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)
#define START (1000 * SECOND)
#define MANY 2000

static const struct sched_site_settings settings = {
    .connection_count_max = 3,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 4 * HOUR},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = HOUR},
    .expire_ns = 120 * HOUR,
};

static struct sched *sched;
static struct sched_site *site;
static struct message messages[MANY];

static int open_one(void **state)
{
    (void)state;
    memset(messages, 0, sizeof(messages));
    sched = sched_open(1);
    return sched == NULL || sched_site_open(sched, &settings, NULL, &site) != 0;
}

static int close_one(void **state)
{
    (void)state;
    sched_close(sched);
    return 0;
}

static void add(struct message *message, uint64_t sender, uint8_t priority)
{
    uint32_t index = 0;
    const struct sched_request request = {.message = message,
                                          .indexes = &index,
                                          .count = 1,
                                          .due_ns = START,
                                          .sender = sender,
                                          .priority = priority};
    assert_int_equal(sched_add(site, &request, START), 0);
}

static struct sched_delivery *next(void)
{
    struct sched_delivery *delivery = sched_next(site, START);
    assert_non_null(delivery);
    return delivery;
}

static void the_backlog_of_one_sender_does_not_delay_another(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        add(&messages[i], 1, 0);
    }
    add(&messages[1000], 2, 0);
    add(&messages[1001], 2, 0);
    static const uint64_t order[] = {1, 2, 1, 2, 1, 1, 1};
    for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        struct sched_delivery *delivery = next();
        assert_int_equal(delivery->sender, order[i]);
        sched_done(delivery);
    }
}

static void what_came_back_due_shares_the_turns_too(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) { /* all deferred, and due again when the other comes */
        add(&messages[i], 1, 0);
        struct sched_delivery *delivery = next();
        sched_defer(delivery, START, sched_indexes(delivery), 1, slice_text("450"));
    }
    uint64_t now_ns = START + HOUR;
    assert_non_null(sched_next(site, now_ns));
    add(&messages[1000], 2, 0);
    assert_int_equal(sched_next(site, now_ns)->sender, 1);
    assert_int_equal(sched_next(site, now_ns)->sender, 2);
}

static void the_mail_of_one_sender_keeps_its_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        add(&messages[i], i % 3, 0);
    }
    unsigned count[3] = {0};
    for (unsigned i = 0; i < 300; i++) {
        struct sched_delivery *delivery = next();
        assert_ptr_equal(delivery->message,
                         &messages[delivery->sender + 3 * count[delivery->sender]]);
        count[delivery->sender]++;
        assert_in_range(count[delivery->sender], i / 3, i / 3 + 1);
        sched_done(delivery);
    }
}

static void higher_priorities_go_first_and_lower_ones_get_their_share(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        add(&messages[i], 1, (uint8_t)(i / 500));
    }
    unsigned count[SCHED_PRIORITY_COUNT] = {0}, waited[SCHED_PRIORITY_COUNT] = {0};
    for (unsigned i = 0; i < 400; i++) {
        struct sched_delivery *delivery = next();
        for (unsigned j = 0; j < SCHED_PRIORITY_COUNT; j++) {
            waited[j] = j == delivery->priority ? 0 : waited[j] + 1;
            assert_true(waited[j] < SCHED_PRIORITY_SHARE + SCHED_PRIORITY_COUNT);
        }
        count[delivery->priority]++;
        sched_done(delivery);
    }
    assert_true(count[3] > 300);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(count[i] >= 400 / (SCHED_PRIORITY_SHARE + SCHED_PRIORITY_COUNT));
    }
}

static void one_message_of_high_priority_overtakes_a_backlog(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        add(&messages[i], i, SCHED_PRIORITY_NORMAL);
    }
    sched_done(next());
    add(&messages[1000], 7, SCHED_PRIORITY_COUNT - 1);
    assert_ptr_equal(next()->message, &messages[1000]);
}

static void ten_thousand_senders_come_and_go_and_each_gets_its_turn(void **state)
{
    (void)state;
    enum { SENDERS = 10000, ROUNDS = 3 };
    struct message *all = calloc(SENDERS * ROUNDS, sizeof(*all));
    assert_non_null(all);
    for (unsigned i = 0; i < SENDERS * ROUNDS; i++) { /* the table grows meanwhile */
        add(&all[i], (uint64_t)(i % SENDERS) << 40, 0);
    }
    uint64_t memory_bytes = sched_memory_bytes(sched);
    for (unsigned i = 0; i < SENDERS * ROUNDS; i++) {
        struct sched_delivery *delivery = next();
        assert_int_equal(delivery->sender >> 40, i % SENDERS);
        sched_done(delivery);
    }
    assert_null(sched_next(site, START));
    assert_true(sched_memory_bytes(sched) < memory_bytes / 4); /* the table stays */
    for (unsigned i = 0; i < SENDERS * ROUNDS; i++) {          /* what was there is enough again */
        add(&all[i], (uint64_t)i % SENDERS, 0);
    }
    assert_true(sched_memory_bytes(sched) <= memory_bytes);
    free(all);
}

static void any_one_leaves_its_queue_wherever_it_stands(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 900; i++) {
        add(&messages[i], i % 7, (uint8_t)(i % 4));
    }
    for (unsigned i = 0; i < 900; i += 2) {
        assert_int_equal(sched_delete(&messages[(i * 11) % 900 / 2 * 2]), 0);
    }
    for (unsigned i = 0; i < 450; i++) {
        struct sched_delivery *delivery = next();
        assert_int_equal((delivery->message - messages) % 2, 1);
        sched_done(delivery);
    }
    assert_null(sched_next(site, START));
    assert_int_equal(sched_recipient_count(sched), 0);
}

static void a_sender_has_queues_of_its_own_in_each_site(void **state)
{
    (void)state;
    struct sched_site *sites[20];
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(sched_site_open(sched, &settings, NULL, &sites[i]), 0);
        site = sites[i];
        for (unsigned j = 0; j < 4; j++) {
            add(&messages[4 * i + j], 5, 0);
        }
    }
    for (unsigned i = 0; i < 20; i++) {
        site = sites[i];
        for (unsigned j = 0; j < 4; j++) {
            assert_ptr_equal(next()->message, &messages[4 * i + j]);
        }
        assert_null(sched_next(site, START));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_one, close_one)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_backlog_of_one_sender_does_not_delay_another),
        TEST(what_came_back_due_shares_the_turns_too),
        TEST(the_mail_of_one_sender_keeps_its_order),
        TEST(higher_priorities_go_first_and_lower_ones_get_their_share),
        TEST(one_message_of_high_priority_overtakes_a_backlog),
        TEST(ten_thousand_senders_come_and_go_and_each_gets_its_turn),
        TEST(any_one_leaves_its_queue_wherever_it_stands),
        TEST(a_sender_has_queues_of_its_own_in_each_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
