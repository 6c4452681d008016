/* A segment is freed, and the power fails before what says that its mail is gone is on the device. */
#include "queue/log/log_private.h"
#include "queue/spool/spool_reader.h"
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* As `tubepost spool check` sees it. Returns how many messages wait. */
static uint64_t nothing_is_broken(struct post *post)
{
    struct spool_reader *reader;
    assert_int_equal(
        spool_reader_open(&reader, post->rig.disk, 0, &(struct spool_reader_visitor){0}), 0);
    const struct spool_reader_facts *facts = spool_reader_facts(reader);
    uint64_t messages = facts->messages;
    assert_int_equal(facts->broken, 0);
    assert_int_equal(facts->damaged_bytes, 0);
    spool_reader_close(reader);
    return messages;
}

/* So long that it is never worth while to copy it. */
#define MOST_OF_A_SEGMENT 1600000u

/* [0]'s body lies alone in the oldest segment; its commit in the next one, with one that stays. The log wants
 * another spare, and the disk has none but what is freed. */
static struct post *body_lies_apart(uint64_t seed)
{
    struct post *post = post_open(seed);
    post->settings.forward_bytes_min = UINT64_MAX; /* nothing is copied */
    post_start(post);
    struct letter *letter = letter_begin(post, MOST_OF_A_SEGMENT, 1);
    assert_non_null(letter);
    while (letter->sent < letter->length) {
        letter_send(letter, 100000);
        post_round(post);
    }
    letters_pass(post, 3, 1000); /* its body is written */
    assert_int_equal(log_seal(post->rig.log), 0);
    assert_int_equal(letter_commit(letter), 0);
    letters_stay(post, 1, 3000, 1);
    assert_int_equal(letter->fate, LETTER_ACCEPTED);
    assert_int_equal(letter_sequence(letter), log_head_sequence(post->rig.log) + 1);
    disk_fault_fail(post->rig.fault, DISK_FAULT_PREPARE, 0, UINT32_MAX, -ENOSPC);
    assert_int_equal(log_seal(post->rig.log), 0);
    letters_stay(post, 1, 3000, 1);
    assert_true(post->rig.log->ready_count < LOG_READY_WANTED);
    return post;
}

static void disk_becomes_slow(struct post *post)
{
    post->rig.fault_settings.late_percent = 95;
    disk_fault_set(post->rig.fault, &post->rig.fault_settings);
}

/* [0] leaves, its segment is freed, and the power fails some rounds later. Was the segment destroyed? */
static bool it_leaves_and_the_power_fails(struct post *post, uint32_t rounds, uint64_t *failures)
{
    uint32_t first = log_head_sequence(post->rig.log);
    disk_becomes_slow(post);
    letter_finish(post, &post->letters[0], 0);
    for (uint32_t i = 0; i < rounds; i++) {
        post_round(post);
    }
    assert_null(log_segment_live(post->rig.log, first));
    *failures = post_log_counters(post)->write_failures;
    post_crash(post);
    nothing_is_broken(post);
    post_start(post);
    assert_true(post->letters[post->count - 1].found);
    bool destroyed = log_segment_live(post->rig.log, first) == NULL;
    if (post->letters[0].found) { /* nothing said yet that it has left: it is whole then */
        assert_int_equal(letter_check_body(post, &post->letters[0]), 0);
    }
    return destroyed;
}

static void a_body_is_destroyed_when_it_is_durable_that_its_message_has_left(void **state)
{
    (void)state;
    uint32_t destroyed = 0;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct post *post = body_lies_apart(seed);
        uint64_t failures;
        destroyed += it_leaves_and_the_power_fails(post, 1 + (uint32_t)seed * 3, &failures);
        post_close(post);
    }
    assert_true(destroyed > 5 && destroyed < 39);
}

/* The write of what says so fails, and another block has it in the end; `skip` more writes before. */
static void a_failed_write_keeps_what_is_freed_until_another_says_the_same(void **state)
{
    (void)state;
    uint32_t destroyed = 0, failed = 0;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct post *post = body_lies_apart(seed);
        uint64_t failures;
        disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, (uint32_t)seed % 2, 1, -EIO);
        destroyed += it_leaves_and_the_power_fails(post, 1 + (uint32_t)seed * 4, &failures);
        failed += failures > 0;
        post_close(post);
    }
    assert_true(destroyed > 5 && failed > 5);
}

/* A body that still comes keeps no block from the disk that the log needs to go on. */
static void what_is_freed_becomes_a_spare_though_nothing_more_is_written(void **state)
{
    (void)state;
    struct post *post = body_lies_apart(1);
    uint64_t recycled = post_log_counters(post)->segments_recycled;
    struct letter *open = letter_begin(post, 5000, 1);
    assert_non_null(open);
    assert_int_equal(letter_send(open, 4000), 0);
    letter_finish(post, &post->letters[0], 0);
    post_settle(post);
    assert_int_equal(post_log_counters(post)->segments_recycled, recycled + 1);
    assert_true(post->rig.log->frontier >= post->rig.log->end);
    post_close(post);
}

/* No spare is left and none can be made: what was freed is all that there is to write in. */
static void a_log_without_spares_goes_on_in_what_is_freed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 12; seed++) {
        struct post *post = body_lies_apart(seed);
        uint32_t spares = post->rig.log->ready_count;
        disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, spares + 1, -EIO);
        letter_finish(post, &post->letters[0], 0);
        for (int i = 0; i < 10000; i++) { /* some seconds */
            post_round(post);
        }
        assert_true(log_is_orderly(post->rig.log));
        letters_stay(post, 1, 3000, 1);
        assert_int_equal(post->letters[post->count - 1].fate, LETTER_ACCEPTED);
        post_crash(post);
        assert_int_equal(nothing_is_broken(post), 3);
        post_start(post);
        assert_false(post->letters[0].found);
        post_close(post);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_is_destroyed_when_it_is_durable_that_its_message_has_left),
        cmocka_unit_test(a_failed_write_keeps_what_is_freed_until_another_says_the_same),
        cmocka_unit_test(what_is_freed_becomes_a_spare_though_nothing_more_is_written),
        cmocka_unit_test(a_log_without_spares_goes_on_in_what_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
