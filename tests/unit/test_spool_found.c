/* What a start has found is given a part in each round. */
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define LETTERS 40u
#define EACH_ROUND 16u

/* A start after so many letters, each to so many. */
static struct post *post_started(uint64_t seed, uint32_t recipient_count)
{
    struct post *post = post_open(seed);
    post_start(post);
    for (uint32_t i = 0; i < LETTERS; i++) {
        letter_post(post, 3000, recipient_count);
    }
    post_settle(post);
    post_crash(post);
    post->settings.found_each_round = EACH_ROUND;
    post_start(post);
    return post;
}

static void a_start_gives_what_it_has_found_a_part_in_each_round_in_order_of_arrival(void **state)
{
    (void)state;
    struct post *post = post_started(1, 1);
    for (uint32_t given = 0; given < LETTERS;) {
        assert_int_equal(post->found_count, given);
        assert_true(spool_is_finding(post->spool));
        post_round(post);
        given = given + EACH_ROUND < LETTERS ? given + EACH_ROUND : LETTERS;
        for (uint32_t i = 0; i < LETTERS; i++) {
            assert_true(post->letters[i].found == (i < given));
        }
    }
    assert_false(spool_is_finding(post->spool));
    post_round(post);
    assert_int_equal(post->found_count, LETTERS);
    post_close(post);
}

static void a_message_of_many_recipients_counts_as_so_many(void **state)
{
    (void)state;
    struct post *post = post_started(2, 5);
    post_round(post);
    assert_int_equal(post->found_count, 4); /* the last of them began within the bound */
    post_close(post);
}

static void what_is_not_given_yet_counts_in_the_log_and_in_memory(void **state)
{
    (void)state;
    struct spool_fill before, after;
    struct post *post = post_started(3, 1);
    spool_fill(post->spool, &before);
    assert_int_equal(spool_counters(post->spool)->live_messages, LETTERS);
    while (spool_is_finding(post->spool)) {
        post_round(post);
    }
    spool_fill(post->spool, &after);
    assert_true(before.live_bytes >= LETTERS * 3000);
    assert_int_equal(before.live_bytes, after.live_bytes);
    assert_int_equal(before.memory_bytes, after.memory_bytes);
    post_close(post);
}

static void mail_that_is_accepted_meanwhile_is_not_found(void **state)
{
    (void)state;
    struct post *post = post_started(4, 1);
    struct letter *letter = letter_post(post, 3000, 1);
    post_settle(post);
    assert_int_equal(letter->fate, LETTER_ACCEPTED);
    assert_int_equal(post->found_count, LETTERS);
    assert_false(letter->found);
    post_close(post);
}

static void a_message_that_is_gone_before_its_turn_is_not_given(void **state)
{
    (void)state;
    struct post *post = post_started(5, 1);
    struct letter *last = &post->letters[LETTERS - 1];
    last->message = spool_find(post->spool, last->id);
    letter_finish(post, last, 0);
    post_settle(post);
    assert_int_equal(post->found_count, LETTERS - 1);
    assert_false(last->found);
    assert_int_equal(spool_counters(post->spool)->live_messages, LETTERS - 1);
    post_close(post);
}

static void what_was_not_given_is_found_by_the_next_start(void **state)
{
    (void)state;
    struct post *post = post_started(6, 1);
    post_round(post);
    post_crash(post);
    post->settings.found_each_round = 0;
    post_start(post);
    assert_int_equal(post->found_count, LETTERS);
    assert_false(spool_is_finding(post->spool));
    post_close(post);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_gives_what_it_has_found_a_part_in_each_round_in_order_of_arrival),
        cmocka_unit_test(a_message_of_many_recipients_counts_as_so_many),
        cmocka_unit_test(what_is_not_given_yet_counts_in_the_log_and_in_memory),
        cmocka_unit_test(mail_that_is_accepted_meanwhile_is_not_found),
        cmocka_unit_test(a_message_that_is_gone_before_its_turn_is_not_given),
        cmocka_unit_test(what_was_not_given_is_found_by_the_next_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
