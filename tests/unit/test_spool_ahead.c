/* Bodies that are read one behind the other, from the disk. */
#include "queue/log/log_private.h"
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define LETTERS 60u
#define BODY_BYTES 4000u /* all lie in one piece of the log, or two */

/* Letters that have left the log's memory. */
static struct post *letters_on_the_disk(uint64_t seed)
{
    struct post *post = post_open(seed);
    post->settings.forward_bytes_min = UINT64_MAX; /* nothing is copied */
    post_start(post);
    for (uint32_t i = 0; i < LETTERS; i++) {
        letter_post(post, BODY_BYTES, 1);
        post_round(post);
    }
    for (uint32_t bytes = 0; bytes < 2 * LOG_MEMORY_BYTES_MIN; bytes += 200000) {
        letter_post(post, 200000, 1);
        post_round(post);
    }
    post_settle(post);
    assert_int_equal(spool_counters(post->spool)->fetches, 0);
    return post;
}

static void bodies_read_in_the_order_in_which_they_came_are_read_ahead(void **state)
{
    (void)state;
    struct post *post = letters_on_the_disk(1);
    for (uint32_t i = 0; i < LETTERS; i++) {
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
    }
    assert_true(spool_counters(post->spool)->fetches <= 4);
    post_close(post);
}

static void a_body_that_nobody_reads_on_from_is_read_alone(void **state)
{
    (void)state;
    struct post *post = letters_on_the_disk(2);
    for (uint32_t i = LETTERS; i-- > 0;) {
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
    }
    assert_true(spool_counters(post->spool)->fetches >= LETTERS); /* one is in two pieces */
    post_close(post);
}

/* A byte of its body is another one. */
static void letter_damage(struct post *post, const struct letter *letter)
{
    const struct spool_body *body = &message_private(letter->message)->body;
    assert_int_equal(body->kind, BODY_ONE);
    const struct log_segment *segment =
        log_segment_find(post->rig.log, log_lsn_sequence(body->at.lsn));
    char name[32];
    uint64_t bytes;
    log_segment_name(post->rig.log, segment->number, name);
    uint8_t *content = disk_fault_bytes(post->rig.fault, name, &bytes);
    assert_non_null(content);
    content[lsn_offset(body->at.lsn) + sizeof(struct record_header) + 100] ^= 1;
}

static void of_what_is_read_ahead_a_damaged_body_costs_itself_alone(void **state)
{
    (void)state;
    struct post *post = letters_on_the_disk(3);
    letter_damage(post, &post->letters[30]);
    for (int time = 0; time < 2; time++) {
        for (uint32_t i = 0; i < LETTERS; i++) {
            assert_int_equal(letter_check_body(post, &post->letters[i]), i == 30 ? -EIO : 0);
        }
    }
    assert_int_equal(spool_counters(post->spool)->fetch_failures, 2);
    post_close(post);
}

static void when_reading_ahead_fails_each_body_is_read_alone(void **state)
{
    (void)state;
    struct post *post = letters_on_the_disk(4);
    for (uint32_t failed = 1; failed < 8; failed++) {
        disk_fault_fail(post->rig.fault, DISK_FAULT_READ, 1, 1, -EIO);
        for (uint32_t i = 0; i < LETTERS; i += failed) {
            assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
        }
        for (uint32_t i = LETTERS; i < post->count; i++) { /* other bodies take the memory */
            assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
        }
    }
    post_close(post);
}

static void nobody_cares(struct spool_waiter *waiter, int status)
{
    (void)waiter, (void)status;
}

/* All at once, as deliveries do. */
static void those_who_ask_together_share_what_is_read(void **state)
{
    (void)state;
    struct post *post = letters_on_the_disk(5);
    struct spool_fetch fetches[LETTERS] = {0};
    struct slice bytes;
    struct ref *owner;
    disk_fault_hold(post->rig.fault, true);
    for (uint32_t i = 0; i < LETTERS; i++) {
        fetches[i].waiter.done = nobody_cares;
        assert_int_equal(
            spool_read(post->spool, post->letters[i].message, 0, &bytes, &owner, &fetches[i]),
            -EINPROGRESS);
    }
    assert_true(spool_counters(post->spool)->fetches <= 4);
    spool_fetch_cancel(post->spool, &fetches[7]);
    disk_fault_hold(post->rig.fault, false);
    post_settle(post);
    for (uint32_t i = 0; i < LETTERS; i++) {
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
    }
    assert_true(spool_counters(post->spool)->fetches <= 4);
    post_close(post);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_read_in_the_order_in_which_they_came_are_read_ahead),
        cmocka_unit_test(a_body_that_nobody_reads_on_from_is_read_alone),
        cmocka_unit_test(of_what_is_read_ahead_a_damaged_body_costs_itself_alone),
        cmocka_unit_test(when_reading_ahead_fails_each_body_is_read_alone),
        cmocka_unit_test(those_who_ask_together_share_what_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
