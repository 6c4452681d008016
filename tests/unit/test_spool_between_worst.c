/* Segments between others, and the one moment or the one bad read that a rule is for. */
#include "queue/log/log_private.h"
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct post *post_without_copies(uint64_t seed)
{
    struct post *post = post_open(seed);
    post->settings.forward_bytes_min = UINT64_MAX; /* nothing is copied */
    post_start(post);
    return post;
}

/* What comes next goes to another segment. */
static void segment_ends(struct post *post)
{
    post_settle(post);
    assert_int_equal(log_seal(post->rig.log), 0);
}

/* Gone, as far as the log says too. */
static void letters_leave(struct post *post, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        letter_finish(post, &post->letters[i], 0);
    }
    post_settle(post);
}

/* ── What a start could not read ─────────────────────────────────────────────────────────────── */

/* The oldest segment holds [0] that stays, [1] and [2] that have left and [3] that waits: the commits of
 * the last two beside each other, a megabyte behind the first one's. */
static struct post *some_have_left_what_stays(uint64_t seed)
{
    struct post *post = post_without_copies(seed);
    letters_stay(post, 1, 900000, 1);
    letters_stay(post, 1, 300000, 1);
    letters_stay(post, 2, 3000, 1);
    segment_ends(post);
    letters_leave(post, 1, 2);
    letters_pass(post, 100, 40000);
    return post;
}

/* Does [0] live alone, since the rest of its segment was not read? Mail goes on then, and another start
 * reads all. */
static bool start_misses_some(struct post *post)
{
    bool misses = post->letters[0].found && post->found_count == 1;
    uint32_t passed = post->count;
    letters_pass(post, 250, 40000); /* five segments */
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 2);
    assert_true(post->letters[0].found && post->letters[3].found);
    assert_int_equal(letter_check_body(post, &post->letters[3]), 0);
    assert_true(passed < post->count);
    return misses;
}

/* Reads that fail while nothing says that anything was there. */
static void what_one_start_cannot_read_has_not_come_back_at_the_next(void **state)
{
    (void)state;
    uint32_t missed = 0;
    for (uint32_t skip = 2; skip < 32; skip++) {
        struct post *post = some_have_left_what_stays(skip);
        post_crash(post);
        /* Of four pieces of a megabyte that are read at once the first, and then each of its blocks. */
        disk_fault_fail(post->rig.fault, DISK_FAULT_READ, skip, 4 + 256, -EIO);
        int result = post_try_start(post);
        disk_fault_fail(post->rig.fault, DISK_FAULT_READ, 0, 0, 0);
        if (result == 0) {
            bool damaged = post_log_counters(post)->damaged_bytes > 0;
            missed += start_misses_some(post) && !damaged;
        }
        post_close(post);
    }
    assert_true(missed > 0);
}

static void blocks_flip(uint8_t *file, uint32_t last, uint32_t count)
{
    for (uint32_t i = 0; i < count * DISK_BLOCK_BYTES; i++) {
        file[last + DISK_BLOCK_BYTES - 1 - i] ^= 0x55;
    }
}

/* Reads that answer what is not there. */
static void what_one_start_reads_damaged_has_not_come_back_at_the_next(void **state)
{
    (void)state;
    struct post *post = some_have_left_what_stays(1);
    uint64_t bytes;
    post_crash(post);
    post_start(post);
    uint32_t at = (uint32_t)message_private(post->letters[3].message)->commit_lsn;
    at -= at % DISK_BLOCK_BYTES;
    post_crash(post);
    /* The blocks of both commits: the one that has left, and the one that waits. */
    uint8_t *file = disk_fault_bytes(post->rig.fault, "0/00000001.segment", &bytes);
    blocks_flip(file, at, 4);
    post_start(post);
    blocks_flip(file, at, 4);
    assert_true(post_log_counters(post)->damaged_bytes > 0);
    assert_true(start_misses_some(post));
    post_close(post);
}

/* ── Copies ──────────────────────────────────────────────────────────────────────────────────── */

/* Segments of which little lives: there is much to gain. */
static void log_becomes_loose(struct post *post)
{
    for (int i = 0; i < 10; i++) {
        letters_stay(post, 1, 50000, 1);
        letters_pass(post, 45, 40000);
    }
}

/* [0], alone in the oldest segment, is on the way to the newest. */
static void copy_of_the_first_begins(struct post *post)
{
    const struct spool_copy *copy = NULL;
    post->spool->settings.forward_bytes_min = 1;
    for (int round = 0; round < 1000 && (copy == NULL || !copy->in_flight); round++) {
        post_round(post);
        copy = message_copy(message_private(post->letters[0].message));
    }
    post->spool->settings.forward_bytes_min = UINT64_MAX;
    assert_true(copy != NULL && copy->in_flight);
}

/* Nothing but copies lies in a segment, and what was copied leaves; the first commits are still there. */
static void copies_that_have_left_leave_the_first_commits_dead(void **state)
{
    (void)state;
    struct post *post = post_without_copies(7);
    letters_stay(post, 200, 3000, 1);
    uint32_t head = log_head_sequence(post->rig.log), left = 0, staying = 210;
    assert_int_equal(letter_sequence(&post->letters[199]), head);
    log_becomes_loose(post);
    segment_ends(post);
    post->spool->settings.forward_bytes_min = 1;
    for (int round = 0; round < 1000 && post->spool->forward.in_flight == 0; round++) {
        post_round(post);
    }
    post->spool->settings.forward_bytes_min = UINT64_MAX;
    post_settle(post);
    assert_int_equal(log_head_sequence(post->rig.log), head);
    segment_ends(post);
    for (uint32_t i = 0; i < 200; i++) {
        struct letter *letter = &post->letters[i];
        if (letter_sequence(letter) != head || message_copy(message_private(letter->message))) {
            letter_finish(post, letter, 0);
            left++;
        }
    }
    assert_true(left > 0);
    letters_pass(post, 400, 40000);
    assert_int_equal(log_head_sequence(post->rig.log), head);
    post_restarts_with(post, staying - left);
    post_close(post);
}

/* Where the copy lies mail stays; where it is noted that it has left, none. */
static void what_leaves_while_its_copy_is_under_way_does_not_come_back_as_the_copy(void **state)
{
    (void)state;
    struct post *post = post_without_copies(8);
    letters_stay(post, 1, 3000, 1);
    struct letter *letter = &post->letters[0];
    uint32_t head = log_head_sequence(post->rig.log);
    segment_ends(post);
    log_becomes_loose(post);
    segment_ends(post);
    letters_stay(post, 1, 3000, 1);
    copy_of_the_first_begins(post);
    const struct spool_copy *copy = message_copy(message_private(letter->message));
    assert_int_equal(log_lsn_sequence(copy->place.lsn),
                     letter_sequence(&post->letters[post->count - 1]));
    assert_int_equal(log_seal(post->rig.log), 0);
    letter_finish(post, letter, 0);
    post_settle(post);
    assert_true(log_head_sequence(post->rig.log) > head);
    letters_pass(post, 400, 40000);
    assert_true(post_log_counters(post)->segments_freed_between > 3);
    post_restarts_with(post, 11);
    post_close(post);
}

/* ── What must be durable, or must not be void ───────────────────────────────────────────────── */

/* So long that it is never worth while to copy it. */
#define MOST_OF_A_SEGMENT 1600000u

/* [0] stays, and was tried once; `count` more are in its segment, and have left in the next one. Another follows. */
static struct post *some_have_left_in_the_second(uint64_t seed, uint32_t length, uint32_t count)
{
    struct post *post = post_without_copies(seed);
    letters_stay(post, 1, length, 1);
    for (uint32_t i = 0; i < count; i++) {
        letter_post(post, 500, 1);
    }
    segment_ends(post);
    assert_int_equal(log_head_sequence(post->rig.log), 1);
    spool_note_attempt(post->spool, post->letters[0].message, 5000);
    letters_leave(post, 1, count);
    segment_ends(post);
    assert_non_null(log_segment_live(post->rig.log, 2));
    return post;
}

/* No spare can be made but of what is freed. */
static void disk_becomes_full(struct post *post)
{
    disk_fault_fail(post->rig.fault, DISK_FAULT_PREPARE, 0, 1000, -ENOSPC);
}

static void disk_becomes_slow(struct post *post)
{
    post->rig.fault_settings.late_percent = 95;
    disk_fault_set(post->rig.fault, &post->rig.fault_settings);
}

static void rounds_until_one_is_freed(struct post *post)
{
    for (int i = 0; post_log_counters(post)->segments_freed_between == 0; i++) {
        assert_true(i < 5000);
        post_round(post);
    }
}

/* It is freed, its header is on the way to the disk, and the power fails. */
static void a_note_is_durable_elsewhere_before_its_segment_is_destroyed(void **state)
{
    (void)state;
    uint32_t destroyed = 0;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct post *post = some_have_left_in_the_second(seed, MOST_OF_A_SEGMENT, 5);
        disk_becomes_full(post);
        disk_becomes_slow(post);
        spool_note_attempt(post->spool, post->letters[0].message, 6000);
        rounds_until_one_is_freed(post);
        post_crash(post);
        post_start(post);
        assert_int_equal(post->found_count, 1);
        assert_int_equal(post->letters[0].message->attempts, 2);
        destroyed += log_segment_live(post->rig.log, 2) == NULL;
        post_close(post);
    }
    assert_true(destroyed > 5);
}

/* The same, when nothing in it is needed: since something later says more. */
static void what_makes_a_note_needless_is_durable_before_its_segment_is_destroyed(void **state)
{
    (void)state;
    uint32_t destroyed = 0;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct post *post = some_have_left_in_the_second(seed, MOST_OF_A_SEGMENT, 0);
        disk_becomes_full(post);
        disk_becomes_slow(post);
        spool_note_attempt(post->spool, post->letters[0].message, 6000);
        rounds_until_one_is_freed(post);
        post_crash(post);
        post_start(post);
        assert_int_equal(post->letters[0].message->attempts, 2);
        destroyed += log_segment_live(post->rig.log, 2) == NULL;
        post_close(post);
    }
    assert_true(destroyed > 5);
}

/* Notes are moved in several rounds, and the write with some of them fails. */
static void notes_that_a_failed_write_has_lost_are_moved_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 12; seed++) {
        struct post *post = some_have_left_in_the_second(seed, 100000, 1500);
        const struct spool_between *between = &post->spool->between;
        spool_note_attempt(post->spool, post->letters[0].message, 6000);
        for (int i = 0; between->state != BETWEEN_MOVES || between->at < 100; i++) {
            assert_true(i < 1000);
            post_round(post);
        }
        uint64_t failures = post_log_counters(post)->write_failures;
        disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
        for (int i = 0; log_segment_live(post->rig.log, 2) != NULL; i++) {
            assert_true(i < 5000);
            post_round(post);
        }
        assert_true(post_log_counters(post)->write_failures > failures);
        post->spool->rests = true; /* nothing else is freed */
        for (int i = 0; i < 3; i++) {
            segment_ends(post);
            spool_note_attempt(post->spool, post->letters[0].message, 7000);
        }
        post_settle(post);
        assert_int_equal(post->rig.log->freed_count, 0); /* it is destroyed */
        post_restarts_with(post, 1);
        post_close(post);
    }
}

/* What says more than a note waits in memory, since the disk refuses to write. */
static void a_note_stays_while_what_says_more_waits_for_the_disk(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct post *post = some_have_left_in_the_second(seed, MOST_OF_A_SEGMENT, 0);
        post->spool->rests = true; /* until there is mail behind it */
        letters_stay(post, 1, 3000, 1);
        post->spool->rests = false;
        disk_becomes_full(post);
        disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, 2, -EIO);
        spool_note_attempt(post->spool, post->letters[0].message, 6000);
        for (int i = 0; i < 500; i++) {
            post_round(post);
        }
        assert_int_equal(post_log_counters(post)->write_failures, 2);
        post_crash(post);
        post_start(post);
        assert_int_equal(post->found_count, 2);
        assert_true(post->letters[0].message->attempts >= 1);
        post_close(post);
    }
}

/* ── What keeps a segment for more than one reason ───────────────────────────────────────────── */

/* The write of a letter fails, and may have landed; where it is said that it is void mail goes on. */
static void letter_is_refused(struct post *post)
{
    struct letter *letter = letter_post(post, 2000, 1);
    disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    post_settle(post);
    assert_int_equal(letter->fate, LETTER_REFUSED);
}

/* What says so has a note on mail that stays, too. */
static void what_was_refused_does_not_come_back_when_notes_lie_with_what_says_so(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 12; seed++) {
        struct post *post = post_without_copies(seed);
        letters_stay(post, 1, 100000, 1);
        letter_is_refused(post);
        spool_note_attempt(post->spool, post->letters[0].message, 5000);
        letters_pass(post, 60, 40000);
        post_restarts_with(post, 1);
        letters_pass(post, 250, 40000);
        assert_true(post_log_counters(post)->segments_freed_between > 2);
        post_restarts_with(post, 1);
        assert_int_equal(post->letters[0].message->attempts, 1);
        post_close(post);
    }
}

/* Or a copy of what was in an older segment, which goes first. */
static void what_was_refused_does_not_come_back_when_copies_lie_with_what_says_so(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 12; seed++) {
        struct post *post = post_without_copies(seed);
        letters_stay(post, 1, 3000, 1);
        uint32_t head = log_head_sequence(post->rig.log);
        segment_ends(post);
        log_becomes_loose(post);
        letters_stay(post, 1, 3000, 1);
        letter_is_refused(post);
        copy_of_the_first_begins(post);
        assert_int_equal(
            log_lsn_sequence(message_copy(message_private(post->letters[0].message))->place.lsn),
            log_current_sequence(post->rig.log));
        post_settle(post);
        letter_finish(post, &post->letters[0], 0);
        letters_pass(post, 250, 40000);
        assert_true(log_head_sequence(post->rig.log) > head);
        post_restarts_with(post, 11);
        post_close(post);
    }
}

/* The block cannot be read that says what is void, in one of the files: no start believes what was refused. */
static void what_says_that_mail_was_refused_must_be_read_before_any_mail_is_believed(void **state)
{
    (void)state;
    uint32_t refused = 0;
    for (uint32_t i = 0; i < 24; i++) {
        struct post *post = post_without_copies(i + 1);
        letters_stay(post, 1, 100000, 1);
        letter_is_refused(post);
        letters_pass(post, 60, 40000);
        post_crash(post);
        const char *name = disk_fault_name(post->rig.fault, i % 6);
        if (name != NULL) {
            disk_fault_refuse_reads(post->rig.fault, name, DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
            assert_int_equal(post_try_start(post), -EIO);
            refused++;
        }
        disk_fault_mend(post->rig.fault);
        disk_fault_fail(post->rig.fault, DISK_FAULT_READ, i / 2, 1, -EIO); /* for a moment */
        post_start(post);
        assert_int_equal(post->found_count, 1);
        assert_true(post->letters[0].found);
        letters_pass(post, 250, 40000);
        assert_true(post_log_counters(post)->segments_freed_between > 0);
        post_restarts_with(post, 1);
        post_close(post);
    }
    assert_true(refused >= 12);
}

static void a_segment_with_too_many_notes_to_remember_stays(void **state)
{
    (void)state;
    struct post *post = post_open(9);
    post->settings.forward_bytes_min = UINT64_MAX;
    post->rig.settings.segment_bytes = 60 * LOG_FRAME_BYTES;
    post_start(post);
    letters_stay(post, 1001, 500, 1);
    assert_int_equal(letter_sequence(&post->letters[1000]), 1);
    segment_ends(post);
    letters_leave(post, 0, 1);
    for (uint32_t i = 0; i < 200000; i++) {
        spool_note_attempt(post->spool, post->letters[1 + i % 1000].message, 5000);
        if (i % 1000 == 0) {
            post_settle(post);
        }
    }
    assert_int_equal(log_current_sequence(post->rig.log), 2);
    for (int start = 0; start < 2; start++) {
        letters_pass(post, 500, 150000);
        assert_true(post_log_counters(post)->segments_freed_between > 0);
        post_restarts_with(post, 1000);
    }
    post_close(post);
}

/* A later version may know what it says, and of which mail. */
static void a_segment_with_a_record_of_unknown_type_stays(void **state)
{
    (void)state;
    struct post *post = post_without_copies(10);
    letters_stay(post, 1, 3000, 1);
    segment_ends(post);
    post->spool->rests = true; /* until it is a start that has found it */
    struct log_head head = {.type = 99, .flags = LOG_RESERVED, .tag = post->letters[0].id};
    struct slice content = slice_text("something");
    struct log_extent extent;
    assert_int_equal(log_append(post->rig.log, &head, &content, 1, &extent), 0);
    segment_ends(post);
    letters_stay(post, 1, 3000, 1);
    for (int start = 0; start < 2; start++) {
        post_restarts_with(post, 2);
        letters_pass(post, 250, 40000);
        assert_true(post_log_counters(post)->segments_freed_between > 0);
        assert_non_null(log_segment_live(post->rig.log, log_lsn_sequence(extent.lsn)));
    }
    post_close(post);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_start_cannot_read_has_not_come_back_at_the_next),
        cmocka_unit_test(what_one_start_reads_damaged_has_not_come_back_at_the_next),
        cmocka_unit_test(copies_that_have_left_leave_the_first_commits_dead),
        cmocka_unit_test(what_leaves_while_its_copy_is_under_way_does_not_come_back_as_the_copy),
        cmocka_unit_test(a_note_is_durable_elsewhere_before_its_segment_is_destroyed),
        cmocka_unit_test(what_makes_a_note_needless_is_durable_before_its_segment_is_destroyed),
        cmocka_unit_test(notes_that_a_failed_write_has_lost_are_moved_again),
        cmocka_unit_test(a_note_stays_while_what_says_more_waits_for_the_disk),
        cmocka_unit_test(what_was_refused_does_not_come_back_when_notes_lie_with_what_says_so),
        cmocka_unit_test(what_was_refused_does_not_come_back_when_copies_lie_with_what_says_so),
        cmocka_unit_test(what_says_that_mail_was_refused_must_be_read_before_any_mail_is_believed),
        cmocka_unit_test(a_segment_with_too_many_notes_to_remember_stays),
        cmocka_unit_test(a_segment_with_a_record_of_unknown_type_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
