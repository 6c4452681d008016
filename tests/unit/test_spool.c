#include "tests/unit/post_rig.h"
#include "queue/log/log_private.h"
#include "queue/spool/spool_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* ── Receiving and reading ───────────────────────────────────────────────────────────────────── */

static void a_committed_message_reads_back_from_memory_and_after_a_restart(void **state)
{
    (void)state;
    struct post *post = post_open(1);
    uint32_t lengths[] = {1, 100, 255, 256, 4096, 5000, 100000, 262144, 900000};
    post_start(post);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        letter_post(post, lengths[i], 1 + (uint32_t)i % 3);
    }
    post_settle(post);
    for (uint32_t i = 0; i < post->count; i++) {
        assert_int_equal(post->letters[i].fate, LETTER_ACCEPTED);
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
        letter_check_envelope(&post->letters[i]);
    }
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, post->count);
    for (uint32_t i = 0; i < post->count; i++) {
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
        letter_check_envelope(&post->letters[i]);
    }
    assert_true(spool_counters(post->spool)->fetches > 0);
    post_close(post);
}

static void a_body_in_crumbs_between_others_stays_whole_and_small_in_books(void **state)
{
    (void)state;
    struct post *post = post_open(2);
    struct letter *letters[20];
    post_start(post);
    for (int i = 0; i < 20; i++) {
        letters[i] = letter_begin(post, 60000, 1);
    }
    for (uint32_t at = 0; at < 60000; at += 37) {
        for (int i = 0; i < 20; i++) {
            while (letter_send(letters[i], 37) != 0) {
                post_round(post);
            }
        }
    }
    for (int i = 0; i < 20; i++) {
        assert_true(letters[i]->draft->extent_count < 100);
        assert_int_equal(letter_commit(letters[i]), 0);
    }
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(letter_check_body(post, letters[i]), 0);
    }
    post_close(post);
}

static void a_large_message_goes_through_little_memory(void **state)
{
    (void)state;
    struct post *post = post_open(3);
    post_start(post);
    struct letter *letter = letter_post(post, 40u * 1024 * 1024, 2);
    post_settle(post);
    assert_int_equal(letter->fate, LETTER_ACCEPTED);
    struct extent_list extents;
    body_extents(&message_private(letter->message)->body, &extents);
    assert_true(extents.count < 400);
    assert_int_equal(letter_check_body(post, letter), 0);
    post_close(post);
}

static void a_message_above_the_limit_is_refused(void **state)
{
    (void)state;
    struct post *post = post_open(4);
    post->settings.message_bytes_max = 5000;
    post_start(post);
    struct letter *letter = letter_begin(post, 6000, 1);
    assert_int_equal(letter_send(letter, 5000), 0);
    assert_int_equal(letter_send(letter, 1), -EFBIG);
    post_close(post);
}

static void an_envelope_larger_than_a_record_survives(void **state)
{
    (void)state;
    struct post *post = post_open(5);
    struct letter *letter;
    post_start(post);
    letter = letter_begin(post, 1000, 1);
    letter_send(letter, 1000);
    uint32_t count = 6000;
    struct envelope_recipient *paths = calloc(count, sizeof(paths[0]));
    char *texts = calloc(count, 64);
    assert_non_null(paths);
    assert_non_null(texts);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(texts + i * 64, 64, "a-rather-long-name-of-recipient-number-%u@example.org", i);
        paths[i].forward_path = slice_text(texts + i * 64);
    }
    struct envelope envelope = {.reverse_path = slice_text("")};
    letter->durable.done = letter_durable;
    letter->fate = LETTER_ASKED;
    assert_int_equal(
        spool_commit(letter->draft, &envelope, paths, count, &letter->message, &letter->durable),
        0);
    post_settle(post);
    spool_recipient_finished(post->spool, letter->message, 77, RECIPIENT_FAILED);
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 1);
    assert_int_equal(letter->message->recipient_count, count);
    assert_int_equal(letter->message->waiting_count, count - 1);
    assert_int_equal(message_recipient_state(letter->message, 77), RECIPIENT_FAILED);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(slice_equal(message_forward_path(letter->message, i), paths[i].forward_path));
    }
    assert_int_equal(letter_check_body(post, letter), 0);
    free(paths);
    free(texts);
    post_close(post);
}

static void an_aborted_message_leaves_nothing(void **state)
{
    (void)state;
    struct post *post = post_open(6);
    post_start(post);
    for (int i = 0; i < 50; i++) {
        struct letter *letter = letter_begin(post, 30000, 1);
        letter_send(letter, 30000);
        post_round(post);
        spool_abort(letter->draft);
        letter->fate = LETTER_GONE;
    }
    post_settle(post);
    assert_int_equal(spool_counters(post->spool)->live_bytes, 0);
    assert_int_equal(spool_counters(post->spool)->drafts, 0);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 0);
    post_close(post);
}

static void drafts_have_a_limit(void **state)
{
    (void)state;
    struct post *post = post_open(7);
    post->settings.draft_count_max = 3;
    post_start(post);
    for (int i = 0; i < 3; i++) {
        assert_non_null(letter_begin(post, 10, 1));
    }
    struct spool_draft *draft;
    assert_int_equal(spool_begin(post->spool, &draft), -EAGAIN);
    post_close(post);
}

static void a_message_that_is_held_outlives_its_last_recipient(void **state)
{
    (void)state;
    struct post *post = post_open(8);
    post_start(post);
    struct letter *letter = letter_post(post, 5000, 1);
    post_settle(post);
    struct message *message = letter->message;
    spool_message_hold(message);
    letter_finish(post, letter, 0);
    assert_null(spool_find(post->spool, letter->id));
    assert_int_equal(message_recipient_state(message, 0), RECIPIENT_DELIVERED);
    letter->message = message;
    assert_int_equal(letter_check_body(post, letter), 0);
    spool_message_release(post->spool, message);
    assert_int_equal(spool_counters(post->spool)->live_bytes, 0);
    post_close(post);
}

static void attempts_are_remembered(void **state)
{
    (void)state;
    struct post *post = post_open(9);
    post_start(post);
    struct letter *letter = letter_post(post, 5000, 1);
    post_settle(post);
    spool_note_attempt(post->spool, letter->message, 5000);
    spool_note_attempt(post->spool, letter->message, 6000);
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_int_equal(letter->message->attempts, 2);
    assert_int_equal(letter->message->last_attempt_wall_s, 6000);
    post_close(post);
}

static void a_damaged_body_is_an_error_and_its_neighbours_are_not(void **state)
{
    (void)state;
    struct post *post = post_open(10);
    post_start(post);
    struct letter *good = letter_post(post, 5000, 1);
    struct letter *bad = letter_post(post, 5000, 1);
    post_settle(post);
    post_crash(post);
    post_start(post);
    struct extent_list extents;
    body_extents(&message_private(bad->message)->body, &extents);
    uint64_t lsn = extents.first[0].lsn;
    uint64_t bytes;
    disk_fault_bytes(post->rig.fault, "0/00000001.segment", &bytes)[lsn_offset(lsn) + 777] ^= 1;
    assert_int_equal(letter_check_body(post, bad), -EIO);
    assert_int_equal(letter_check_body(post, good), 0);
    post_crash(post);
    post_start(post);
    assert_true(good->found);
    assert_false(bad->found);
    post_close(post);
}

static void the_ids_text_reads_back_and_takes_what_people_type(void **state)
{
    (void)state;
    uint64_t ids[] = {0, 1, 31, 32, 0x0123456789abcdefull, UINT64_MAX};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char text[MESSAGE_ID_TEXT];
        uint64_t id = 42;
        message_id_format(ids[i], text);
        assert_int_equal(strlen(text), 13);
        assert_int_equal(message_id_parse(slice_text(text), &id), 0);
        assert_true(id == ids[i]);
    }
    uint64_t id;
    assert_int_equal(message_id_parse(slice_text("0000000000olI"), &id), 0);
    assert_true(id == 33);
    assert_int_equal(message_id_parse(slice_text("000000000000"), &id), -EINVAL);
    assert_int_equal(message_id_parse(slice_text("Z000000000000"), &id), -EINVAL);
    assert_int_equal(message_id_parse(slice_text("000000000000U"), &id), -EINVAL);
    assert_int_equal(message_id_parse(slice_of("000000\000000000", 13), &id), -EINVAL);
}

/* ── Space ───────────────────────────────────────────────────────────────────────────────────── */

static void message_count_bytes(void *owner, struct message *message)
{
    *(uint64_t *)owner += message_bytes(message_private(message));
}

static void memory_is_what_messages_take(struct post *post)
{
    uint64_t bytes = 0;
    spool_each(post->spool, message_count_bytes, &bytes);
    assert_int_equal(post->spool->memory_bytes, bytes);
}

static void what_lives_in_a_dead_log_is_copied_forward_and_the_log_stays_short(void **state)
{
    (void)state;
    struct post *post = post_open(11);
    struct letter *keep[8];
    uint32_t stayed = 0;
    post_start(post);
    for (int i = 0; i < 8; i++) {
        keep[i] = letter_post(post, 30000, 2);
        post_settle(post);
    }
    letter_finish(post, keep[0], 1);
    struct letter *slow = letter_begin(post, 30000, 1);
    letter_send(slow, 10000);
    for (int i = 0; i < 1500; i++) {
        struct letter *letter = letter_post(post, 40000, 1);
        post_settle(post);
        if (i % 45 == 0) {
            stayed++; /* so that no segment is wholly dead */
            continue;
        }
        letter_finish(post, letter, 0);
        post->count--; /* nothing more to know of it */
    }
    post_settle(post);
    /* 60 MiB went through; what lives is 1.6 MB */
    assert_true(log_used_bytes(post->rig.log) <= 7 * post->rig.settings.segment_bytes);
    assert_true(spool_counters(post->spool)->copied_forward_bytes > 0);
    memory_is_what_messages_take(post);
    slow = &post->letters[8];
    letter_send(slow, 20000);
    assert_int_equal(letter_commit(slow), 0);
    post_settle(post);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(letter_check_body(post, keep[i]), 0);
    }
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 9 + stayed);
    assert_int_equal(message_recipient_state(keep[0]->message, 1), RECIPIENT_DELIVERED);
    assert_int_equal(keep[0]->message->waiting_count, 1);
    for (uint32_t i = 0; i < 9 + stayed; i++) {
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
        letter_check_envelope(&post->letters[i]);
    }
    post_close(post);
}

static void a_full_disk_refuses_mail_and_serves_again_when_messages_leave(void **state)
{
    (void)state;
    struct post *post = post_open(12);
    post->rig.fault_settings.capacity_bytes = 6 * post->rig.settings.segment_bytes;
    disk_fault_set(post->rig.fault, &post->rig.fault_settings);
    post_start(post);
    int status = 0;
    while (status == 0 || status == -EAGAIN) {
        struct letter *letter = letter_begin(post, 50000, 1);
        if (letter == NULL) {
            break;
        }
        status = letter_send(letter, 50000);
        if (status == 0) {
            status = letter_commit(letter);
        } else {
            spool_abort(letter->draft);
            letter->fate = LETTER_GONE;
        }
        post_settle(post);
    }
    struct letter *refused = letter_begin(post, 50000, 1);
    if (refused != NULL) {
        assert_int_equal(letter_send(refused, 50000), -ENOSPC);
        spool_abort(refused->draft);
        refused->fate = LETTER_GONE;
    }
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < post->count; i++) {
        if (post->letters[i].fate == LETTER_ACCEPTED) {
            accepted++;
            assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
            letter_finish(post, &post->letters[i], 0);
            post_settle(post);
        }
    }
    assert_true(accepted > 100);
    post_settle(post);
    struct letter *letter = letter_post(post, 50000, 1);
    post_settle(post);
    assert_int_equal(letter->fate, LETTER_ACCEPTED);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 1);
    post_close(post);
}

static void removed(struct disk_done *done, int result)
{
    (void)done;
    assert_int_equal(result, 0);
}

static void file_remove(struct post *post, const char *name)
{
    struct disk_done done = {.run = removed};
    post->rig.disk->ops->remove(post->rig.disk, name, &done);
    while (disk_fault_pending(post->rig.fault) > 0) {
        post->rig.disk->ops->reap(post->rig.disk);
    }
}

static void a_start_without_any_spare_still_keeps_notes_and_makes_no_id_twice(void **state)
{
    (void)state;
    struct post *post = post_open(17);
    post_start(post);
    for (int i = 0; i < 5; i++) {
        letter_post(post, 3000, 1);
    }
    post_settle(post);
    post_crash(post);
    file_remove(post, "0/00000002.segment");
    file_remove(post, "0/00000003.segment");
    post->rig.fault_settings.capacity_bytes = 1;
    disk_fault_set(post->rig.fault, &post->rig.fault_settings);
    post_start(post);
    struct spool_draft *draft;
    assert_int_equal(spool_begin(post->spool, &draft), -ENOSPC);
    letter_finish(post, &post->letters[2], 0);
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 4);
    assert_false(post->letters[2].found);
    post->rig.fault_settings.capacity_bytes = 0;
    disk_fault_set(post->rig.fault, &post->rig.fault_settings);
    for (int i = 0; i < 3000; i++) {
        post_round(post);
    }
    for (int i = 0; i < 20; i++) {
        letter_post(post, 3000, 1);
    }
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 24);
    post_close(post);
}

static void commits_wait_for_room_and_are_not_refused(void **state)
{
    (void)state;
    struct post *post = post_open(13);
    post_start(post);
    disk_fault_hold(post->rig.fault, true);
    struct letter *letters[201];
    int count = 0;
    for (; count < 200; count++) {
        letters[count] = letter_begin(post, 200000, 1);
        if (letter_send(letters[count], 200000) != 0) {
            break;
        }
        post_round(post);
    }
    assert_true(count > 5 && count < 200);
    for (int i = 0; i < count; i++) {
        assert_int_equal(letter_commit(letters[i]), 0);
    }
    disk_fault_hold(post->rig.fault, false);
    post_settle(post);
    for (int i = 0; i < count; i++) {
        assert_int_equal(letters[i]->fate, LETTER_ACCEPTED);
    }
    memory_is_what_messages_take(post);
    assert_int_equal(letter_send(letters[count], 200000), 0);
    post_close(post);
}

/* ── Failures ────────────────────────────────────────────────────────────────────────────────── */

static void a_draft_whose_bytes_were_lost_is_refused_at_its_commit(void **state)
{
    (void)state;
    struct post *post = post_open(14);
    post_start(post);
    struct letter *before = letter_post(post, 3000, 1);
    post_settle(post);
    struct letter *draft = letter_begin(post, 400000, 1);
    letter_send(draft, 300000); /* more than a frame: some of it is written at once */
    disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    letter_finish(post, before, 0);
    post_settle(post);
    assert_int_equal(letter_send(draft, 100000), 0);
    assert_int_equal(letter_commit(draft), -EIO);
    struct letter *after = letter_post(post, 3000, 1);
    post_settle(post);
    assert_int_equal(after->fate, LETTER_ACCEPTED);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 1);
    assert_true(after->found);
    memory_is_what_messages_take(post);
    post_close(post);
}

/* ── Other shards' folders ───────────────────────────────────────────────────────────────────── */

static void messages_of_a_shard_that_is_no_more_are_adopted_once(void **state)
{
    (void)state;
    struct post *post = post_open(15);
    post->rig.settings.shard = 3;
    post_start(post);
    for (int i = 0; i < 30; i++) {
        letter_post(post, 100 + (uint32_t)i * 9000, 2);
        post_settle(post);
    }
    letter_finish(post, &post->letters[4], 0);
    letter_finish(post, &post->letters[5], 0);
    letter_finish(post, &post->letters[5], 1);
    post_settle(post);
    post_crash(post);
    post->rig.settings.shard = 1;
    post_start(post);
    assert_int_equal(post->found_count, 0);
    assert_int_equal(spool_adopt(post->spool, 2), 0);
    assert_int_equal(post->found_count, 29);
    assert_int_equal(post->letters[4].message->waiting_count, 1);
    for (uint32_t i = 0; i < post->count; i++) {
        if (post->letters[i].found) {
            assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
            letter_check_envelope(&post->letters[i]);
        }
    }
    assert_int_equal(spool_adopt(post->spool, 2), 0);
    assert_int_equal(post->found_count, 29);
    post_settle(post);
    post_crash(post);
    post_start(post);
    assert_int_equal(post->found_count, 29);
    assert_int_equal(spool_adopt(post->spool, 2), 0);
    assert_int_equal(post->found_count, 29);
    post_settle(post);
    post_crash(post);
    /* The shard comes back: letter_begin checks that it never makes an id twice. */
    post->rig.settings.shard = 3;
    post_start(post);
    assert_int_equal(post->found_count, 0);
    for (int i = 0; i < 40; i++) {
        letter_post(post, 100, 1);
    }
    post_settle(post);
    post_close(post);
}

/* Each life of the relay ends in the middle of adopting, some operations further than the one before. */
static void adopting_goes_on_after_any_crash_and_never_doubles(void **state)
{
    (void)state;
    struct post *post = post_open(16);
    post->rig.settings.shard = 2;
    post_start(post);
    for (int i = 0; i < 12; i++) {
        letter_post(post, 20000, 1);
    }
    post_settle(post);
    post_crash(post);
    post->rig.settings.shard = 0;
    int status = -1;
    for (uint32_t skip = 0; status != 0 && skip < 400; skip++) {
        post_start(post);
        assert_true(post->found_count == 0 || post->found_count == 12);
        enum disk_fault_kind kind = skip % 3 == 0   ? DISK_FAULT_WRITE
                                    : skip % 3 == 1 ? DISK_FAULT_REMOVE
                                                    : DISK_FAULT_PREPARE;
        disk_fault_fail(post->rig.fault, kind, skip / 3, 1000000, -EIO);
        status = spool_adopt(post->spool, 1);
        post_crash(post);
    }
    assert_int_equal(status, 0);
    post_start(post);
    spool_adopt(post->spool, 1);
    assert_int_equal(post->found_count, 12);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
    }
    post_close(post);
}

/* ── What the sender wants to hear ───────────────────────────────────────────────────────────── */

static void that_the_sender_was_warned_is_remembered(void **state)
{
    (void)state;
    struct post *post = post_open(17);
    post_start(post);
    struct letter *letter = letter_post(post, 1000, 3);
    post_settle(post);
    spool_note_warned(post->spool, letter->message, 1);
    post_settle(post);
    for (int life = 0; life < 2; life++) {
        post_crash(post);
        post_start(post);
        letter_check_envelope(letter);
        assert_false(message_warned(letter->message, 0));
        assert_true(message_warned(letter->message, 1));
        assert_false(message_warned(letter->message, 2));
    }
    post_close(post);
}

static int no_part(void *owner, const struct log_extent *extent, struct slice *content)
{
    (void)owner;
    (void)extent;
    (void)content;
    return -EINVAL;
}

/* Byte by byte what was written before reports could be asked for. */
static void a_commit_from_before_there_were_envelope_ids_is_read(void **state)
{
    (void)state;
    static const uint8_t old[] = {
        0,    0,    0,    0,    0,   0,   0,   0,             /* no body */
        0x00, 0x31, 0x7a, 0x6b, 0,   0,   0,   0,             /* arrival 1803170048 */
        0x01, 0x31, 0x7a, 0x6b, 0,   0,   0,   0,             /* last attempt */
        2,    0,    0,    0,                                  /* attempts */
        1,    0,    1,    0,                                  /* 8BITMIME, held */
        2,    0,    0,    0,    0,   0,   0,   0,             /* recipients, extents */
        22,   0,    0,    0,    0,   0,   0,   0,             /* bytes of the blob; no parts */
        3,    0,    'a',  '@',  'b',                          /* reverse-path */
        0,    0,    3,    0,    'c', '@', 'd',                /* waits */
        1,    0,    6,    0,    'e', '@', 'f', '.', 'g', 'h', /* delivered */
    };
    struct spool_store store;
    assert_int_equal(store_open(&store), 0);
    const struct commit_source source = {.id = 5,
                                         .store = &store,
                                         .record = {.lsn = 99, .length = sizeof(old)},
                                         .content = slice_of(old, sizeof(old)),
                                         .part = no_part};
    struct spool_message *private;
    assert_int_equal(commit_read(&source, &private), 0);
    const struct message *message = &private->message;
    assert_int_equal(message->id, 5);
    assert_int_equal(message->attempts, 2);
    assert_int_equal(message->last_attempt_wall_s, 1803170049);
    assert_int_equal(message_arrival_wall_s(message), 1803170048);
    assert_int_equal(message_flags(message), SPOOL_8BITMIME | SPOOL_HELD);
    assert_int_equal(message_ret(message), SPOOL_RET_NONE);
    assert_int_equal(message_envid(message).size, 0);
    assert_true(slice_equal(message_reverse_path(message), slice_text("a@b")));
    assert_int_equal(message->recipient_count, 2);
    assert_int_equal(message->waiting_count, 1);
    assert_true(slice_equal(message_forward_path(message, 0), slice_text("c@d")));
    assert_true(slice_equal(message_forward_path(message, 1), slice_text("e@f.gh")));
    assert_int_equal(message_recipient_state(message, 1), RECIPIENT_DELIVERED);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(message_notify(message, i), 0);
        assert_int_equal(message_orcpt(message, i).size, 0);
        assert_false(message_warned(message, i));
    }
    message_free(private);
    store_close(&store);
}

/* Its blob is all path: there is no room for those that it counts. */
static void a_commit_that_counts_more_recipients_than_it_has_is_none(void **state)
{
    (void)state;
    uint8_t record[48 + 106] = {0};
    record[32] = 20;  /* recipients */
    record[40] = 106; /* bytes of the blob: no reverse-path, then one recipient */
    record[48 + 4] = 100;
    memset(record + 48 + 6, 'x', 100);
    struct spool_store store;
    assert_int_equal(store_open(&store), 0);
    const struct commit_source source = {.id = 5,
                                         .store = &store,
                                         .record = {.lsn = 99, .length = sizeof(record)},
                                         .content = slice_of(record, sizeof(record)),
                                         .part = no_part};
    struct spool_message *message;
    assert_int_equal(commit_read(&source, &message), -EINVAL);
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_committed_message_reads_back_from_memory_and_after_a_restart),
        cmocka_unit_test(a_body_in_crumbs_between_others_stays_whole_and_small_in_books),
        cmocka_unit_test(a_large_message_goes_through_little_memory),
        cmocka_unit_test(a_message_above_the_limit_is_refused),
        cmocka_unit_test(an_envelope_larger_than_a_record_survives),
        cmocka_unit_test(an_aborted_message_leaves_nothing),
        cmocka_unit_test(drafts_have_a_limit),
        cmocka_unit_test(a_message_that_is_held_outlives_its_last_recipient),
        cmocka_unit_test(attempts_are_remembered),
        cmocka_unit_test(a_damaged_body_is_an_error_and_its_neighbours_are_not),
        cmocka_unit_test(the_ids_text_reads_back_and_takes_what_people_type),
        cmocka_unit_test(what_lives_in_a_dead_log_is_copied_forward_and_the_log_stays_short),
        cmocka_unit_test(a_full_disk_refuses_mail_and_serves_again_when_messages_leave),
        cmocka_unit_test(a_start_without_any_spare_still_keeps_notes_and_makes_no_id_twice),
        cmocka_unit_test(commits_wait_for_room_and_are_not_refused),
        cmocka_unit_test(a_draft_whose_bytes_were_lost_is_refused_at_its_commit),
        cmocka_unit_test(messages_of_a_shard_that_is_no_more_are_adopted_once),
        cmocka_unit_test(adopting_goes_on_after_any_crash_and_never_doubles),
        cmocka_unit_test(that_the_sender_was_warned_is_remembered),
        cmocka_unit_test(a_commit_from_before_there_were_envelope_ids_is_read),
        cmocka_unit_test(a_commit_that_counts_more_recipients_than_it_has_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
