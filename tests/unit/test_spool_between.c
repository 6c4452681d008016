/* Segments between others: mail that stays, mail that leaves at once, and a start at any moment. */
#include "queue/log/log_private.h"
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void mail_that_leaves_uses_the_same_segments_again_beside_mail_that_stays(void **state)
{
    (void)state;
    struct post *post = post_open(1);
    post_start(post);
    letters_stay(post, 50, 100000, 1);
    letters_pass(post, 200, 40000);
    uint64_t prepared = post_log_counters(post)->segments_prepared;
    letters_pass(post, 1000, 40000); /* 40 MB, twenty segments */
    assert_int_equal(post_log_counters(post)->segments_prepared, prepared);
    assert_true(post_log_counters(post)->segments_freed_between >= 15);
    assert_int_equal(spool_counters(post->spool)->copied_forward_bytes, 0);
    assert_true(log_used_bytes(post->rig.log) <=
                spool_counters(post->spool)->live_bytes + 3ull * post->rig.settings.segment_bytes);
    post_restarts_with(post, 50);
    letters_pass(post, 200, 40000); /* as well after a start */
    assert_true(post_log_counters(post)->segments_freed_between >= 3);
    post_restarts_with(post, 50);
    post_close(post);
}

static void that_a_neighbour_of_mail_that_stays_has_left_is_never_forgotten(void **state)
{
    (void)state;
    struct post *post = post_open(2);
    post->settings.forward_bytes_min = UINT64_MAX; /* nothing is copied */
    post_start(post);
    for (int i = 0; i < 40; i++) { /* in each segment a few stay, and many will have left */
        letters_stay(post, 1, 60000, 1);
        letters_pass(post, 20, 3000);
    }
    letters_pass(post, 600, 40000);
    assert_true(post_log_counters(post)->segments_freed_between >= 8);
    assert_true(spool_counters(post->spool)->moved_notes > 100);
    for (int start = 0; start < 3; start++) {
        post_restarts_with(post, 40);
        letters_pass(post, 200, 40000);
        assert_true(post_log_counters(post)->segments_freed_between > 0);
    }
    post_close(post);
}

static void what_was_noted_of_mail_that_stays_outlives_the_segment_with_the_note(void **state)
{
    (void)state;
    struct post *post = post_open(3);
    post_start(post);
    letters_stay(post, 30, 100000, 3);
    for (uint32_t i = 0; i < 30; i++) {
        struct message *message = post->letters[i].message;
        for (uint32_t attempt = 0; attempt < i % 4; attempt++) {
            spool_note_attempt(post->spool, message, 5000 + i);
        }
        if (i % 3 == 0) {
            letter_finish(post, &post->letters[i], 1);
        }
        if (i % 5 == 0) {
            spool_recipient_finished(post->spool, message, 2, RECIPIENT_TELL_RELAYED);
        }
        if (i % 7 == 0) {
            spool_note_warned(post->spool, message, 0);
        }
        spool_note_held(post->spool, message, SPOOL_HELD);
        if (i % 2 == 0) {
            spool_note_held(post->spool, message, 0);
        }
        letters_pass(post, 20, 20000);
    }
    letters_pass(post, 400, 40000);
    assert_true(post_log_counters(post)->segments_freed_between >= 10);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 30);
    for (uint32_t i = 0; i < 30; i++) {
        const struct message *message = post->letters[i].message;
        assert_int_equal(message->attempts, i % 4);
        assert_int_equal(message->last_attempt_wall_s, i % 4 > 0 ? 5000 + i : 0);
        assert_int_equal(message_recipient_state(message, 0), RECIPIENT_WAITING);
        assert_int_equal(message_recipient_state(message, 1),
                         i % 3 == 0 ? RECIPIENT_DELIVERED : RECIPIENT_WAITING);
        assert_int_equal(message_recipient_state(message, 2),
                         i % 5 == 0 ? RECIPIENT_TELL_RELAYED : RECIPIENT_WAITING);
        assert_int_equal(message_warned(message, 0), i % 7 == 0);
        assert_int_equal(message_flags(message) & SPOOL_HELD, i % 2 == 0 ? 0 : SPOOL_HELD);
    }
    post_close(post);
}

static void a_segment_with_many_notes_stays_until_later_ones_say_more(void **state)
{
    (void)state;
    struct post *post = post_open(4);
    post->settings.forward_bytes_min = UINT64_MAX; /* nothing is copied */
    post_start(post);
    letters_stay(post, 4000, 200, 1);
    assert_int_equal(log_seal(post->rig.log), 0);
    for (uint32_t i = 0; i < 4000; i++) { /* 190 KB, more than a sixteenth of a segment */
        spool_note_attempt(post->spool, post->letters[i].message, 5000);
    }
    post_settle(post);
    uint32_t noted = log_current_sequence(post->rig.log);
    letters_pass(post, 600, 40000);
    assert_non_null(log_segment_live(post->rig.log, noted));
    assert_true(post_log_counters(post)->segments_freed_between >= 8);
    uint64_t moved = spool_counters(post->spool)->moved_notes;
    assert_true(moved < 1000);
    for (uint32_t i = 0; i < 4000; i++) {
        spool_note_attempt(post->spool, post->letters[i].message, 6000);
    }
    letters_pass(post, 1200, 40000);
    assert_null(log_segment_live(post->rig.log, noted));
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 4000);
    for (uint32_t i = 0; i < 4000; i++) {
        assert_int_equal(post->letters[i].message->attempts, 2);
    }
    post_close(post);
}

/* The failed write lies in a segment with mail that stays, and may have landed. */
static void mail_that_was_refused_does_not_come_back_when_what_said_so_is_old(void **state)
{
    (void)state;
    struct post *post = post_open(5);
    post->settings.forward_bytes_min = UINT64_MAX; /* nothing is copied */
    uint32_t refused = 0;
    post_start(post);
    for (int i = 0; i < 20; i++) {
        letters_stay(post, 1, 100000, 1);
        disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
        letters_pass(post, 1, 2000);
        refused += post->letters[post->count - 1].fate == LETTER_REFUSED;
        letters_pass(post, 60, 40000);
    }
    assert_true(refused >= 10);
    letters_pass(post, 600, 40000);
    assert_true(post_log_counters(post)->segments_freed_between > 0);
    post_restarts_with(post, 20);
    letters_pass(post, 600, 40000); /* nor when a start has read it */
    assert_true(post_log_counters(post)->segments_freed_between > 0);
    post_restarts_with(post, 20);
    post_close(post);
}

static void a_file_that_cannot_be_removed_is_not_believed_after_others_were_used_again(void **state)
{
    (void)state;
    struct post *post = post_open(6);
    post->rig.settings.recycled_count_max = 1; /* so that files are removed */
    post->settings.forward_bytes_min = UINT64_MAX;
    post_start(post);
    letters_stay(post, 30, 100000, 1);
    for (int i = 0; i < 20; i++) {
        disk_fault_fail(post->rig.fault, DISK_FAULT_REMOVE, 0, 1, -EIO);
        uint32_t first = post->count;
        for (int k = 0; k < 100; k++) { /* five segments at once */
            letter_post(post, 100000, 1);
            post_round(post);
        }
        post_settle(post);
        for (int k = 0; k < 100; k++) {
            letter_finish(post, &post->letters[first + (uint32_t)k], 0);
        }
        post_settle(post);
        letters_pass(post, 30, 40000);
    }
    assert_true(post_log_counters(post)->segments_freed_between >= 20);
    post_restarts_with(post, 30);
    post_close(post);
}

/* Copying forward goes on until a letter of the oldest segment lies elsewhere, and then no more. */
static void copy_some(struct post *post, uint32_t count)
{
    uint32_t head = log_head_sequence(post->rig.log), moved = 0;
    post->spool->settings.forward_bytes_min = 1;
    for (int round = 0; moved == 0 && round < 1000; round++) {
        post_round(post);
        for (uint32_t i = 0; i < count; i++) {
            moved += letter_sequence(&post->letters[i]) != head;
        }
    }
    post->spool->settings.forward_bytes_min = UINT64_MAX;
    post_settle(post);
    assert_true(moved > 0 && log_head_sequence(post->rig.log) == head);
}

/* Its first commit is still there when the segment with the second is dead. */
static void mail_that_was_copied_and_has_left_does_not_come_back_from_where_it_was(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        struct post *post = post_open(7);
        post->settings.forward_bytes_min = UINT64_MAX;
        post_start(post);
        letters_stay(post, 18, 100000, 1);
        uint32_t head = log_head_sequence(post->rig.log);
        for (int i = 0; i < 10; i++) {
            letters_stay(post, 1, 50000, 1);
            letters_pass(post, 45, 40000);
        }
        copy_some(post, 18);
        uint32_t left = 0;
        for (uint32_t i = 0; i < 18; i++) {
            if (letter_sequence(&post->letters[i]) != head) {
                letter_finish(post, &post->letters[i], 0);
                left++;
            }
        }
        letters_pass(post, 60, 40000);
        if (restart) {
            post_restarts_with(post, 28 - left);
        }
        letters_pass(post, 300, 40000);
        assert_true(post_log_counters(post)->segments_freed_between > 3);
        assert_int_equal(log_head_sequence(post->rig.log), head);
        post_restarts_with(post, 28 - left);
        post_close(post);
    }
}

/* 0; -errno: it refuses to start. */
static int start_with_failed_reads(struct post *post, uint32_t skip, uint32_t count)
{
    disk_fault_fail(post->rig.fault, DISK_FAULT_READ, skip, count, -EIO);
    int result = post_try_start(post);
    disk_fault_fail(post->rig.fault, DISK_FAULT_READ, 0, 0, 0);
    return result;
}

/* A start that cannot read the commit of what has left does not know what the notes on it are for. */
static void what_one_start_could_not_read_is_not_delivered_again_after_the_next(void **state)
{
    (void)state;
    uint32_t incomplete = 0;
    for (uint32_t i = 0; i < 60; i++) {
        struct post *post = post_open(i);
        post->settings.forward_bytes_min = UINT64_MAX; /* nothing is copied */
        post_start(post);
        for (int k = 0; k < 24; k++) { /* two segments */
            letters_stay(post, 1, 100000, 1);
            letters_pass(post, 20, 3000);
        }
        uint32_t before = post->count;
        post_crash(post);
        int result = start_with_failed_reads(post, i / 2, i % 2 == 0 ? 1 : 300);
        if (result == 0) {
            incomplete += post->found_count < 24;
            letters_pass(post, 250, 40000); /* five segments */
            post_crash(post);
        }
        post_start(post);
        for (uint32_t k = 0; k < before; k++) {
            assert_int_equal(post->letters[k].found, post->letters[k].fate == LETTER_ACCEPTED);
        }
        post_close(post);
    }
    assert_true(incomplete >= 3);
}

/* ── A start after any operation of the disk ─────────────────────────────────────────────────── */

struct life {
    struct post *post;
    uint64_t noted[LETTERS_MAX]; /* the end of the log when it was finished */
    uint64_t operations_max;
};

static bool life_is_over(const struct life *life)
{
    const struct disk_fault_counters *done = disk_fault_counters(life->post->rig.fault);
    return done->writes + done->prepares + done->removes >= life->operations_max;
}

static void life_leave(struct life *life, uint32_t i)
{
    struct letter *letter = &life->post->letters[i];
    if (letter->fate == LETTER_ACCEPTED) {
        letter_finish(life->post, letter, letter->recipient_count - 1);
        life->noted[i] = life->post->rig.log->end;
    }
}

/* Some stay, many leave; of those that stay some are tried. The power fails in the middle of it. */
static bool life_goes_on(struct life *life)
{
    struct post *post = life->post;
    for (uint32_t i = 0; i < 320; i++) {
        bool stays = i < 24 ? i % 2 == 0 : i % 50 == 0;
        struct letter *letter = letter_begin(post, stays ? 90000 : 60000, 1 + i % 3);
        assert_non_null(letter);
        while (letter->sent < letter->length) {
            letter_send(letter, 100000);
            post_round(post);
            if (life_is_over(life)) {
                return true;
            }
        }
        assert_int_equal(letter_commit(letter), 0);
        post_round(post);
        if (i >= POST_WINDOW) {
            struct letter *old = &post->letters[i - POST_WINDOW];
            bool old_stays =
                i - POST_WINDOW < 24 ? (i - POST_WINDOW) % 2 == 0 : (i - POST_WINDOW) % 50 == 0;
            for (uint32_t k = 0; old->fate == LETTER_ACCEPTED && k + 1 < old->recipient_count;
                 k++) {
                letter_finish(post, old, k);
            }
            if (!old_stays) {
                life_leave(life, i - POST_WINDOW);
            } else if (old->fate == LETTER_ACCEPTED) {
                spool_note_attempt(post->spool, old->message, 7000);
            }
        }
        if (life_is_over(life)) {
            return true;
        }
    }
    return false;
}

static void life_is_judged(struct life *life, uint64_t frontier)
{
    struct post *post = life->post;
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        bool left = letter->fate == LETTER_GONE && life->noted[i] != 0;
        if (letter->fate == LETTER_ACCEPTED) {
            assert_true(letter->found);
        } else if (left) {
            assert_true(!letter->found || life->noted[i] > frontier);
        } else {
            assert_true(letter->found || letter->fate == LETTER_GONE);
        }
        if (letter->found) {
            letter_check_envelope(letter);
            assert_int_equal(letter_check_body(post, letter), 0);
        }
    }
}

static bool life_ends_after(struct life *life, uint64_t operations)
{
    memset(life->noted, 0, sizeof(life->noted));
    life->post = post_open(operations);
    life->post->rig.settings.recycled_count_max = 1;
    life->post->rig.fault_settings.late_percent = operations % 60;
    disk_fault_set(life->post->rig.fault, &life->post->rig.fault_settings);
    life->operations_max = operations;
    post_start(life->post);
    bool over = life_goes_on(life);
    uint64_t frontier = life->post->rig.log->frontier;
    uint64_t between = post_log_counters(life->post)->segments_freed_between;
    bool *asked = calloc(LETTERS_MAX, sizeof(asked[0]));
    assert_non_null(asked);
    for (uint32_t i = 0; i < life->post->count; i++) {
        asked[i] = life->post->letters[i].fate == LETTER_ASKED;
    }
    post_crash(life->post);
    post_start(life->post);
    for (uint32_t i = 0; i < life->post->count; i++) {
        if (asked[i]) { /* there, whole, or not */
            life->post->letters[i].fate =
                life->post->letters[i].found ? LETTER_ACCEPTED : LETTER_GONE;
        }
    }
    free(asked);
    life_is_judged(life, frontier);
    assert_true(over || between > 0);
    post_close(life->post);
    return over;
}

static void a_start_after_any_operation_of_the_disk_finds_what_it_must_and_no_more(void **state)
{
    (void)state;
    struct life *life = calloc(1, sizeof(*life));
    assert_non_null(life);
    uint64_t operations = 1;
    while (life_ends_after(life, operations)) {
        operations++;
    }
    print_message("%llu starts\n", (unsigned long long)operations);
    assert_true(operations > 200);
    free(life);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_that_leaves_uses_the_same_segments_again_beside_mail_that_stays),
        cmocka_unit_test(that_a_neighbour_of_mail_that_stays_has_left_is_never_forgotten),
        cmocka_unit_test(what_was_noted_of_mail_that_stays_outlives_the_segment_with_the_note),
        cmocka_unit_test(a_segment_with_many_notes_stays_until_later_ones_say_more),
        cmocka_unit_test(mail_that_was_refused_does_not_come_back_when_what_said_so_is_old),
        cmocka_unit_test(
            a_file_that_cannot_be_removed_is_not_believed_after_others_were_used_again),
        cmocka_unit_test(mail_that_was_copied_and_has_left_does_not_come_back_from_where_it_was),
        cmocka_unit_test(what_one_start_could_not_read_is_not_delivered_again_after_the_next),
        cmocka_unit_test(a_start_after_any_operation_of_the_disk_finds_what_it_must_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
