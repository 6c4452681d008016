#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* ── Crashes by chance ───────────────────────────────────────────────────────────────────────── */

static void some_mail_comes(struct post *post)
{
    uint32_t kind = post_below(post, 10);
    uint32_t length = kind < 6   ? post_below(post, 5000)
                      : kind < 9 ? post_below(post, 60000)
                                 : post_below(post, 700000);
    letter_begin(post, length + 1, 1 + post_below(post, RECIPIENTS_MAX));
}

static void some_mail_moves(struct post *post)
{
    for (uint32_t i = post->count > 60 ? post->count - 60 : 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        if (letter->fate != LETTER_OPEN || post_below(post, 2) == 0) {
            continue;
        }
        if (letter->sent < letter->length) {
            int status =
                letter_send(letter, 1 + post_below(post, post_below(post, 3) == 0 ? 300 : 90000));
            if (status != 0 && status != -EAGAIN) {
                spool_abort(letter->draft);
                letter->fate = LETTER_REFUSED;
            }
        } else if (post_below(post, 12) == 0) {
            spool_abort(letter->draft);
            letter->fate = LETTER_GONE;
        } else {
            letter_commit(letter);
        }
    }
}

static void some_mail_leaves(struct post *post)
{
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        bool old_one = letter->seed % 16 == 0; /* some wait long, and are copied forward */
        if (letter->fate != LETTER_ACCEPTED || post_below(post, old_one ? 400 : 12) != 0) {
            continue;
        }
        uint32_t index = post_below(post, letter->recipient_count);
        if (letter->state[index] == RECIPIENT_WAITING) {
            letter_finish(post, letter, index);
        }
    }
}

/* Everything so far is on the device. */
static void remember_settled(struct post *post)
{
    if (!post_rests(post, 3000)) {
        assert_true(log_is_short(post->rig.log)); /* not even notes fit on the disk */
        return;
    }
    for (uint32_t i = 0; i < post->count; i++) {
        memcpy(post->letters[i].settled, post->letters[i].state, RECIPIENTS_MAX);
    }
}

static void letter_check_found(struct post *post, struct letter *letter)
{
    uint32_t settled = 0;
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        settled += letter->settled[i] != RECIPIENT_WAITING;
    }
    assert_true(letter->fate == LETTER_ACCEPTED || letter->fate == LETTER_ASKED ||
                letter->fate == LETTER_GONE);
    assert_true(settled < letter->recipient_count);
    letter_check_envelope(letter);
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        enum recipient_state found = message_recipient_state(letter->message, i);
        assert_true(letter->settled[i] == RECIPIENT_WAITING || found == letter->settled[i]);
        assert_true(found == RECIPIENT_WAITING || found == letter->state[i]);
        letter->state[i] = letter->settled[i] = found;
    }
    assert_int_equal(letter_check_body(post, letter), 0);
    letter->fate = LETTER_ACCEPTED;
}

/* A crash has three answers: accepted: there; not answered: there, whole, or not; else: not there. */
static void check_answers(struct post *post, const bool *committed)
{
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        if (letter->found) {
            assert_true(committed[i]);
            letter_check_found(post, letter);
        } else {
            assert_int_not_equal(letter->fate, LETTER_ACCEPTED);
            letter->fate = LETTER_GONE;
        }
    }
}

static void live(struct post *post, uint32_t rounds)
{
    switch (post_below(post, 5)) {
    case 0:
        disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, post_below(post, 40), 1, -EIO);
        break;
    case 1:
        disk_fault_fail(post->rig.fault, DISK_FAULT_PREPARE, 0, 1 + post_below(post, 3), -ENOSPC);
        break;
    default:
        break;
    }
    for (uint32_t round = 0; round < rounds; round++) {
        if (post_below(post, 3) == 0 && post->count + 1 < LETTERS_MAX) {
            some_mail_comes(post);
        }
        some_mail_moves(post);
        some_mail_leaves(post);
        post_round(post);
        if (post_below(post, 150) == 0) {
            remember_settled(post);
        }
    }
}

/* Returns how many segments were freed between others. */
static uint64_t crash_lives(uint64_t seed)
{
    uint64_t between = 0;
    struct post *post = post_open(seed);
    post->rig.fault_settings.late_percent = post_below(post, 70);
    if (post_below(post, 3) == 0) {
        post->rig.fault_settings.capacity_bytes =
            (6 + post_below(post, 4)) * 8ull * LOG_FRAME_BYTES;
    }
    disk_fault_set(post->rig.fault, &post->rig.fault_settings);
    post->rig.settings.write_count_max = 1 + post_below(post, 6);
    post->settings.found_each_round = seed % 3; /* 0: all at once */
    bool *committed = calloc(LETTERS_MAX, sizeof(committed[0]));
    assert_non_null(committed);
    post_start(post);
    for (int life = 0; life < 8; life++) {
        live(post, post_below(post, 500));
        /* What was gone before it was committed, or refused, must not come back. */
        for (uint32_t i = 0; i < post->count; i++) {
            struct letter *letter = &post->letters[i];
            committed[i] = letter->fate == LETTER_ASKED || letter->fate == LETTER_ACCEPTED ||
                           (letter->fate == LETTER_GONE && letter->state[0] != RECIPIENT_WAITING);
        }
        between += log_counters(post->rig.log)->segments_freed_between;
        post_crash(post);
        post_start(post);
        while (spool_is_finding(post->spool)) {
            post_round(post);
        }
        check_answers(post, committed);
    }
    free(committed);
    post_close(post);
    return between;
}

static void no_crash_breaks_the_three_answers(void **state)
{
    (void)state;
    uint64_t between = 0;
    for (uint64_t seed = 1000; seed < 1036; seed++) {
        between += crash_lives(seed);
    }
    assert_true(between > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_crash_breaks_the_three_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
