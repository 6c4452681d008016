/* Limits that several shards share: what each gets of them, whatever comes in whatever order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/lease_scene.h"

/* ---- Connections at once ---- */

static void all_shards_together_have_no_more_than_the_limit_and_use_it_evenly(void **state)
{
    (void)state;
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 10});
    lease_scene_add_everywhere(scene, 5000);
    lease_scene_run(scene, 5000);
    assert_int_equal(scene->most_open, 10);
    unsigned all = 0;
    for (unsigned i = 0; i < 4; i++) {
        all += scene->parts[i].sent;
    }
    assert_true(all > 9500); /* of 10,000 that ten could send at 5 ms each */
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, all / 4 * 75 / 100, all / 4 * 125 / 100);
    }
    lease_scene_close(scene);
}

static void one_slot_goes_round_all_shards(void **state)
{
    (void)state;
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 1});
    lease_scene_add_everywhere(scene, 200);
    lease_scene_run(scene, 10000);
    assert_int_equal(scene->most_open, 1);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, 300,
                        600); /* of 2000 in all, and the time to connect */
    }
    lease_scene_run(scene, 10000);
    assert_int_equal(lease_scene_waiting_count(scene), 0);
    lease_scene_close(scene);
}

static void who_has_mail_alone_has_all_slots(void **state)
{
    (void)state;
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 8});
    for (unsigned turn = 0; turn < 8; turn++) {
        lease_scene_add(scene, turn % 4, 0, 1000);
        lease_scene_run(scene,
                        20); /* the slots of the one before, which are idle, have come over */
        unsigned sent = scene->parts[turn % 4].sent;
        lease_scene_run(scene, 500);
        assert_true(scene->parts[turn % 4].sent - sent >= 750); /* of 800 */
        lease_scene_run(scene, 200);
        assert_int_equal(lease_scene_waiting_count(scene), 0);
    }
    assert_int_equal(scene->most_open, 8);
    lease_scene_close(scene);
}

static void one_message_does_not_wait_behind_the_backlog_of_another_shard(void **state)
{
    (void)state;
    struct lease_scene *scene =
        lease_scene_open(2, &(struct sched_limits){.connection_count_max = 4});
    lease_scene_add(scene, 0, 0, 20000);
    lease_scene_run(scene, 1000);
    for (unsigned i = 0; i < 20; i++) {
        lease_scene_add(scene, 1, 1, 1);
        lease_scene_run(scene, 30); /* a message, the words, the connection, the message */
        assert_int_equal(scene->parts[1].waiting, 0);
        lease_scene_run(scene, 50);
    }
    assert_int_equal(scene->most_open, 4);
    assert_true(scene->parts[0].sent > 1600); /* of 2080: the others were back soon */
    lease_scene_close(scene);
}

static void words_are_few_while_nothing_changes(void **state)
{
    (void)state;
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 8});
    lease_scene_add_everywhere(scene, 3000);
    lease_scene_run(scene, 500);
    unsigned before = scene->word_count, sent = scene->sent_count;
    lease_scene_run(scene, 2000);
    assert_true(scene->sent_count - sent > 3000);
    assert_true(scene->word_count - before < (scene->sent_count - sent) / 10);
    lease_scene_close(scene);
}

static void a_limit_that_is_lowered_holds_soon_and_one_that_is_raised_is_used(void **state)
{
    (void)state;
    struct sched_limits limits = {.connection_count_max = 12};
    struct lease_scene *scene = lease_scene_open(3, &limits);
    lease_scene_add_everywhere(scene, 4000);
    lease_scene_run(scene, 300);
    assert_int_equal(lease_scene_open_count(scene), 12);
    limits.connection_count_max = 4;
    lease_book_set(scene->book, &limits, scene->now_ns);
    lease_scene_run(scene, 100);
    assert_true(lease_scene_open_count(scene) <= 4);
    limits.connection_count_max = 15;
    lease_book_set(scene->book, &limits, scene->now_ns);
    lease_scene_run(scene, 100);
    assert_int_equal(lease_scene_open_count(scene), 15);
    lease_scene_close(scene);
}

/* ---- Rates ---- */

static void check_rate(const struct lease_scene *scene, const struct rate *rate, unsigned extra)
{
    uint64_t interval_ns = rate->period_ns / rate->count;
    unsigned first = 0;
    for (unsigned last = 0; last < scene->sent_count; last++) {
        while (scene->sent_at[last] - scene->sent_at[first] > SECOND) {
            first++;
        }
        unsigned count = last - first + 1;
        assert_true(count <= (scene->sent_at[last] - scene->sent_at[first]) / interval_ns + 1 +
                                 rate->burst + extra);
    }
}

static void all_shards_together_send_at_the_rate(void **state)
{
    (void)state;
    const struct rate rate = {.count = 100, .period_ns = SECOND, .burst = 10};
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 20, .messages = rate});
    lease_scene_add_everywhere(scene, 1000);
    lease_scene_run(scene, 20000);
    assert_in_range(scene->sent_count, 1900, 2020);
    check_rate(scene, &rate, 4 * 2); /* a slice of each */
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, 400, 600);
    }
    lease_scene_close(scene);
}

static void a_slow_rate_is_shared_too(void **state)
{
    (void)state;
    const struct rate rate = {.count = 1, .period_ns = SECOND, .burst = 1};
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 20, .messages = rate});
    lease_scene_add_everywhere(scene, 100);
    lease_scene_run(scene, 2 * MINUTE_MS);
    assert_in_range(scene->sent_count, 108, 121);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, 20, 40);
    }
    lease_scene_close(scene);
}

static void tokens_that_one_shard_does_not_use_are_used_by_others(void **state)
{
    (void)state;
    const struct rate rate = {.count = 10, .period_ns = 10 * SECOND, .burst = 10};
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 20, .messages = rate});
    for (unsigned i = 0; i < 4; i++) {
        lease_scene_add(scene, i, 0, 1); /* each asks for a slice, and needs one */
    }
    lease_scene_run(scene, 30000);
    assert_int_equal(lease_scene_waiting_count(scene), 0);
    lease_scene_add(scene, 2, 0, 200);
    lease_scene_run(scene, MINUTE_MS);
    assert_in_range(scene->parts[2].sent, 63, 71); /* the burst, and one a second */
    lease_scene_close(scene);
}

static void connections_are_opened_at_the_rate_of_all(void **state)
{
    (void)state;
    const struct rate rate = {.count = 5, .period_ns = SECOND, .burst = 1};
    struct lease_scene *scene = lease_scene_open(
        4, &(struct sched_limits){.connection_count_max = 40, .connections = rate});
    lease_scene_add_everywhere(scene, 4000);
    lease_scene_run(scene, 5000);
    assert_in_range(scene->opened_count, 20, 31);
    lease_scene_close(scene);
}

/* ---- Coming and going ---- */

static void a_shard_that_leaves_leaves_all_to_the_others(void **state)
{
    (void)state;
    const struct sched_limits limits = {.connection_count_max = 3};
    struct lease_book *book = lease_book_open(2, &limits);
    struct lease_answer answer;
    const struct lease_word wants = {.slots_lacking = 3};
    lease_book_told(book, 0, &wants, 0);
    assert_true(lease_book_answer(book, 0, &answer));
    assert_int_equal(answer.slots_granted, 3);
    lease_book_told(book, 1, &wants, 0);
    assert_false(lease_book_answer(book, 1, &answer));
    assert_true(lease_book_answer(book, 0, &answer)); /* is asked for some */
    assert_int_equal(answer.slots_hard, 2);
    const struct lease_word leaves = {.slots_seen = 3, .leaves = true};
    lease_book_told(book, 0, &leaves, 0);
    assert_true(lease_book_answer(book, 1, &answer));
    assert_int_equal(answer.slots_granted, 3);
    assert_false(lease_book_unused(book));
    lease_book_told(book, 1, &leaves, 0);
    assert_true(lease_book_unused(book));
    lease_book_close(book);
}

static void what_is_under_way_is_not_granted_again(void **state)
{
    (void)state;
    const struct sched_limits limits = {.connection_count_max = 10};
    struct lease_book *book = lease_book_open(2, &limits);
    struct lease_answer answer;
    struct lease_word word = {.slots_lacking = 4};
    lease_book_told(book, 0, &word, 0);
    assert_true(lease_book_answer(book, 0, &answer));
    assert_int_equal(answer.slots_granted, 4);
    word.slots_lacking = 5; /* one more, said before the answer came */
    lease_book_told(book, 0, &word, 0);
    assert_true(lease_book_answer(book, 0, &answer));
    assert_int_equal(answer.slots_granted, 1);
    lease_book_close(book);
}

/* Whatever comes in whatever order: never more than the limit, and all is sent in the end. */
static void at_random_the_limit_holds_and_all_is_sent(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 300; seed++) {
        struct sched_limits limits = {.connection_count_max = 1 + seed % 7};
        if (seed % 3 == 0) {
            limits.messages = (struct rate){200, SECOND, 1 + seed % 20};
        }
        if (seed % 4 == 0) {
            limits.connections = (struct rate){20, SECOND, 1 + seed % 5};
        }
        struct lease_scene *scene = lease_scene_open(2 + seed % 5, &limits);
        scene->random = seed * 7919;
        scene->delay_ns = (1 + seed % 40) * MS;
        for (unsigned turn = 0; turn < 30; turn++) {
            unsigned shard = (unsigned)lease_scene_draw(scene, scene->shard_count);
            lease_scene_add(scene, shard, (unsigned)lease_scene_draw(scene, SITES),
                            (unsigned)lease_scene_draw(scene, 60));
            scene->takes_ns = (1 + lease_scene_draw(scene, 20)) * MS;
            lease_scene_run(scene, (unsigned)lease_scene_draw(scene, 200));
        }
        for (unsigned i = 0; i < 120 && lease_scene_waiting_count(scene) > 0; i++) {
            lease_scene_run(scene, 500);
        }
        assert_int_equal(lease_scene_waiting_count(scene), 0);
        assert_true(scene->most_open <= limits.connection_count_max);
        lease_scene_close(scene);
    }
}

/* ---- Connections of all sites ---- */

static void what_is_wished_is_granted_only_while_nobody_has_it(void **state)
{
    (void)state;
    const struct sched_limits limits = {.connection_count_max = 10};
    struct lease_book *book = lease_book_open(2, &limits);
    struct lease_answer answer;
    lease_book_told(book, 0, &(struct lease_word){.slots_wished = 5}, 0);
    assert_true(lease_book_answer(book, 0, &answer));
    assert_int_equal(answer.slots_granted, 5);
    lease_book_told(book, 1, &(struct lease_word){.slots_lacking = 2, .slots_wished = 9}, 0);
    assert_true(lease_book_answer(book, 1, &answer));
    assert_int_equal(answer.slots_granted, 5);         /* what is lacking, and what is left */
    assert_false(lease_book_answer(book, 0, &answer)); /* nothing is asked back for a wish */
    lease_book_told(book, 0, &(struct lease_word){.slots_given = 3, .slots_seen = 5}, 0);
    assert_false(lease_book_answer(book, 1, &answer)); /* nor is it remembered */
    lease_book_close(book);
}

static void who_has_mail_alone_has_all_connections_of_all_sites(void **state)
{
    (void)state;
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 100});
    lease_scene_limit_all(scene, 8, 2);
    for (unsigned turn = 0; turn < 8; turn++) {
        for (unsigned s = 0; s < SITES; s++) {
            lease_scene_add(scene, turn % 4, s, 400);
        }
        lease_scene_run(scene, 50);
        unsigned sent = scene->parts[turn % 4].sent;
        lease_scene_run(scene, 500);
        assert_true(scene->parts[turn % 4].sent - sent >= 600); /* of 800; sites take turns */
        lease_scene_run(scene, 1000);
        assert_int_equal(lease_scene_waiting_count(scene), 0);
    }
    assert_int_equal(scene->most_open, 8);
    lease_scene_close(scene);
}

static void all_sites_of_all_shards_share_evenly(void **state)
{
    (void)state;
    struct lease_scene *scene =
        lease_scene_open(4, &(struct sched_limits){.connection_count_max = 100});
    lease_scene_limit_all(scene, 2, 0); /* fewer than shards */
    lease_scene_add_everywhere(scene, 1000);
    lease_scene_run(scene, 5000);
    assert_int_equal(scene->most_open, 2);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, 350, 650); /* of 2000 */
    }
    lease_scene_close(scene);
}

/* A group of two and two for all, say: none waits for ever for what another shard holds for the other limit. */
static void two_limits_at_once_hold_and_all_is_sent(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 600; seed++) {
        struct sched_limits limits = {.connection_count_max = 1 + seed % 5};
        uint32_t most = 1 + seed / 5 % 6;
        struct lease_scene *scene = lease_scene_open(2 + seed % 4, &limits);
        scene->random = seed * 104729;
        scene->delay_ns = seed % 2 == 0 ? (1 + seed % 40) * MS : 0; /* in step, too */
        lease_scene_limit_all(scene, most, most / scene->shard_count);
        for (unsigned turn = 0; turn < 20; turn++) {
            unsigned shard = (unsigned)lease_scene_draw(scene, scene->shard_count);
            lease_scene_add(scene, shard, (unsigned)lease_scene_draw(scene, SITES),
                            (unsigned)lease_scene_draw(scene, 60));
            scene->takes_ns = (1 + lease_scene_draw(scene, 20)) * MS;
            lease_scene_run(scene, (unsigned)lease_scene_draw(scene, 200));
        }
        for (unsigned i = 0; i < 120 && lease_scene_waiting_count(scene) > 0; i++) {
            lease_scene_run(scene, 500);
        }
        if (lease_scene_waiting_count(scene) > 0) {
            fail_msg("seed %u: %u wait", seed, lease_scene_waiting_count(scene));
        }
        assert_true(scene->most_open <= most && scene->most_open <= limits.connection_count_max);
        lease_scene_close(scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_shards_together_have_no_more_than_the_limit_and_use_it_evenly),
        cmocka_unit_test(one_slot_goes_round_all_shards),
        cmocka_unit_test(who_has_mail_alone_has_all_slots),
        cmocka_unit_test(one_message_does_not_wait_behind_the_backlog_of_another_shard),
        cmocka_unit_test(words_are_few_while_nothing_changes),
        cmocka_unit_test(a_limit_that_is_lowered_holds_soon_and_one_that_is_raised_is_used),
        cmocka_unit_test(all_shards_together_send_at_the_rate),
        cmocka_unit_test(a_slow_rate_is_shared_too),
        cmocka_unit_test(tokens_that_one_shard_does_not_use_are_used_by_others),
        cmocka_unit_test(connections_are_opened_at_the_rate_of_all),
        cmocka_unit_test(a_shard_that_leaves_leaves_all_to_the_others),
        cmocka_unit_test(what_is_under_way_is_not_granted_again),
        cmocka_unit_test(at_random_the_limit_holds_and_all_is_sent),
        cmocka_unit_test(what_is_wished_is_granted_only_while_nobody_has_it),
        cmocka_unit_test(who_has_mail_alone_has_all_connections_of_all_sites),
        cmocka_unit_test(all_sites_of_all_shards_share_evenly),
        cmocka_unit_test(two_limits_at_once_hold_and_all_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
