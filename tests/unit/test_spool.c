#include "tests/unit/log_rig.h"
#include "queue/log/log_private.h"
#include "queue/spool/spool_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define LETTERS_MAX 20000u
#define RECIPIENTS_MAX 6u

/*
 * What the test knows of a message: a letter.
 *   OPEN: being received   ASKED: committed, not answered   ACCEPTED: 250   REFUSED   GONE
 */
enum fate { LETTER_OPEN, LETTER_ASKED, LETTER_ACCEPTED, LETTER_REFUSED, LETTER_GONE };
struct letter {
    struct spool_waiter durable;
    struct spool_draft *draft;
    struct message *message;
    uint64_t id, seed;
    uint32_t length, sent;
    uint32_t recipient_count;
    uint8_t state[RECIPIENTS_MAX];   /* as told to the spool */
    uint8_t settled[RECIPIENTS_MAX]; /* of that, durable for sure */
    enum fate fate;
    int status;
    bool found;
};

struct post {
    struct log_rig rig;
    struct spool *spool;
    struct spool_settings settings;
    struct letter *letters;
    uint32_t count;
    uint32_t found_count;
    uint64_t random;
    uint64_t reading_failures;
};

static uint32_t below(struct post *post, uint32_t limit)
{
    post->random = post->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((post->random >> 33) % limit);
}

static struct post *post_open(uint64_t seed)
{
    struct post *post = calloc(1, sizeof(*post));
    assert_non_null(post);
    post->letters = calloc(LETTERS_MAX, sizeof(post->letters[0]));
    assert_non_null(post->letters);
    post->random = seed;
    post->settings = (struct spool_settings){.message_bytes_max = 64u * 1024 * 1024,
                                             .draft_count_max = 1000,
                                             .fetch_memory_bytes = 2u * 1024 * 1024,
                                             .forward_bytes_min = 1};
    log_rig_open(&post->rig, seed);
    post->rig.settings.shard = 0;
    return post;
}

static uint8_t body_byte(const struct letter *letter, uint32_t at)
{
    return (uint8_t)((letter->seed * 31 + at * 7 + (at >> 8) * 13 + (at >> 16)) % 251);
}

static struct letter *letter_by_id(struct post *post, uint64_t id)
{
    for (uint32_t i = 0; i < post->count; i++) {
        if (post->letters[i].id == id) {
            return &post->letters[i];
        }
    }
    return NULL;
}

static void letter_found(void *owner, struct message *message)
{
    struct post *post = owner;
    struct letter *letter = letter_by_id(post, message->id);
    assert_non_null(letter);
    assert_false(letter->found);
    letter->found = true;
    letter->message = message;
    post->found_count++;
}

static void start(struct post *post)
{
    post->found_count = 0;
    for (uint32_t i = 0; i < post->count; i++) {
        post->letters[i].found = false;
        post->letters[i].message = NULL;
    }
    assert_int_equal(log_open(&post->rig.log, &post->rig.settings), 0);
    assert_int_equal(spool_open(&post->spool, post->rig.log, &post->settings, letter_found, post),
                     0);
}

static void a_round(struct post *post)
{
    post->rig.now_ns += 1000000;
    post->rig.disk->ops->reap(post->rig.disk);
    log_round(post->rig.log, post->rig.now_ns);
    spool_round(post->spool);
    log_flush(post->rig.log);
    post->rig.disk->ops->submit(post->rig.disk);
}

static bool comes_to_rest(struct post *post, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        a_round(post);
        if (log_is_quiet(post->rig.log) && disk_fault_pending(post->rig.fault) == 0 &&
            spool_round(post->spool) == 0) {
            return true;
        }
    }
    return false;
}

static void settle(struct post *post)
{
    assert_true(comes_to_rest(post, 20000));
}

/* The process dies: what was in memory is gone, and freed only for the sake of the sanitizer. */
static void crash(struct post *post)
{
    disk_fault_crash(post->rig.fault);
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        if (letter->fate == LETTER_OPEN) {
            spool_abort(letter->draft);
            letter->fate = LETTER_GONE;
        } else if (letter->fate == LETTER_ASKED) {
            struct spool_message *message = message_private(letter->message);
            if (message->draft != NULL) {
                spool_abort(message->draft);
            }
            spool_message_free(post->spool, message);
        }
    }
    post->spool->pending_first = NULL;
    post->spool->forward.in_flight = 0;
    for (uint64_t i = 0; i < post->spool->table.bucket_count; i++) {
        for (struct spool_message *message = post->spool->table.buckets[i]; message != NULL;
             message = message->next) {
            if (message->copy != NULL) {
                message->copy->in_flight = false;
            }
        }
    }
    spool_close(post->spool);
    post->spool = NULL;
    log_rig_crash(&post->rig);
}

static void post_close(struct post *post)
{
    if (post->spool != NULL) {
        crash(post);
    }
    log_rig_close(&post->rig);
    free(post->letters);
    free(post);
}

/* ── Letters ─────────────────────────────────────────────────────────────────────────────────── */

static struct letter *letter_begin(struct post *post, uint32_t length, uint32_t recipient_count)
{
    assert_true(post->count < LETTERS_MAX);
    struct letter *letter = &post->letters[post->count];
    *letter = (struct letter){
        .seed = post->count + 1, .length = length, .recipient_count = recipient_count};
    if (spool_begin(post->spool, &letter->draft) != 0) {
        return NULL;
    }
    letter->id = spool_draft_id(letter->draft);
    for (uint32_t i = 0; i < post->count; i++) {
        assert_int_not_equal(post->letters[i].id, letter->id); /* for ever */
    }
    post->count++;
    return letter;
}

static int letter_send(struct letter *letter, uint32_t bytes)
{
    static uint8_t body[1024 * 1024];
    if (bytes > letter->length - letter->sent) {
        bytes = letter->length - letter->sent;
    }
    for (uint32_t i = 0; i < bytes; i++) {
        body[i] = body_byte(letter, letter->sent + i);
    }
    struct slice parts[2] = {slice_of(body, bytes / 2),
                             slice_of(body + bytes / 2, bytes - bytes / 2)};
    int result = spool_append(letter->draft, parts, 2);
    if (result == 0) {
        letter->sent += bytes;
    }
    return result;
}

static void letter_durable(struct spool_waiter *waiter, int status)
{
    struct letter *letter = list_entry(waiter, struct letter, durable);
    assert_int_equal(letter->fate, LETTER_ASKED);
    letter->fate = status == 0 ? LETTER_ACCEPTED : LETTER_REFUSED;
    letter->status = status;
}

static int letter_commit(struct letter *letter)
{
    struct slice paths[RECIPIENTS_MAX];
    char texts[RECIPIENTS_MAX][40];
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        snprintf(texts[i], sizeof(texts[i]), "r%u-%llu@example.org", i,
                 (unsigned long long)letter->seed);
        paths[i] = slice_text(texts[i]);
    }
    struct envelope envelope = {.reverse_path = slice_text("sender@example.net"),
                                .flags = SPOOL_8BITMIME,
                                .arrival_wall_s = 1000 + (int64_t)letter->seed};
    letter->fate = LETTER_ASKED;
    letter->durable.done = letter_durable;
    int status = spool_commit(letter->draft, &envelope, paths, letter->recipient_count,
                              &letter->message, &letter->durable);
    if (status != 0) {
        letter->fate = LETTER_REFUSED;
        letter->status = status;
    }
    return status;
}

static struct letter *letter_post(struct post *post, uint32_t length, uint32_t recipient_count)
{
    struct letter *letter = letter_begin(post, length, recipient_count);
    assert_non_null(letter);
    while (letter->sent < length) {
        int status = letter_send(letter, 100000);
        if (status != 0) {
            assert_int_equal(status, -EAGAIN);
            a_round(post);
        }
    }
    assert_int_equal(letter_commit(letter), 0);
    return letter;
}

static void letter_finish(struct post *post, struct letter *letter, uint32_t index)
{
    letter->state[index] = RECIPIENT_DELIVERED;
    bool last = letter->message->waiting_count == 1;
    spool_recipient_finished(post->spool, letter->message, index, RECIPIENT_DELIVERED);
    if (last) {
        letter->fate = LETTER_GONE;
        letter->message = NULL;
    }
}

struct reading {
    struct spool_fetch fetch;
    bool done;
};

static void reading_done(struct spool_waiter *waiter, int status)
{
    struct spool_fetch *fetch = list_entry(waiter, struct spool_fetch, waiter);
    (void)status;
    list_entry(fetch, struct reading, fetch)->done = true;
}

/* 0 when the body is what was sent, byte by byte; or what spool_read answered. */
static int letter_check_body(struct post *post, struct letter *letter)
{
    struct reading reading = {.fetch.waiter.done = reading_done};
    assert_int_equal(letter->message->body_bytes, letter->length);
    for (uint64_t offset = 0; offset < letter->length;) {
        struct slice bytes;
        struct ref *owner;
        int result =
            spool_read(post->spool, letter->message, offset, &bytes, &owner, &reading.fetch);
        if (result == -EAGAIN || result == -EINPROGRESS) {
            a_round(post);
            continue;
        }
        if (result != 0) {
            return result;
        }
        assert_true(bytes.size > 0 && bytes.size <= letter->length - offset);
        for (size_t i = 0; i < bytes.size; i++) {
            if (bytes.bytes[i] != body_byte(letter, (uint32_t)(offset + i))) {
                fail_msg("byte %zu of %u differs", (size_t)offset + i, letter->length);
            }
        }
        offset += bytes.size;
        ref_drop(owner);
    }
    return 0;
}

static void letter_check_envelope(const struct letter *letter)
{
    const struct message *message = letter->message;
    char text[40];
    assert_int_equal(message->recipient_count, letter->recipient_count);
    assert_true(slice_equal(message->envelope.reverse_path, slice_text("sender@example.net")));
    assert_int_equal(message->envelope.flags, SPOOL_8BITMIME);
    assert_int_equal(message->envelope.arrival_wall_s, 1000 + (int64_t)letter->seed);
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        snprintf(text, sizeof(text), "r%u-%llu@example.org", i, (unsigned long long)letter->seed);
        assert_true(slice_equal(message->recipients[i].forward_path, slice_text(text)));
    }
}

/* ── Receiving and reading ───────────────────────────────────────────────────────────────────── */

static void a_committed_message_reads_back_from_memory_and_after_a_restart(void **state)
{
    (void)state;
    struct post *post = post_open(1);
    uint32_t lengths[] = {1, 100, 255, 256, 4096, 5000, 100000, 262144, 900000};
    start(post);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        letter_post(post, lengths[i], 1 + (uint32_t)i % 3);
    }
    settle(post);
    for (uint32_t i = 0; i < post->count; i++) {
        assert_int_equal(post->letters[i].fate, LETTER_ACCEPTED);
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
        letter_check_envelope(&post->letters[i]);
    }
    crash(post);
    start(post);
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
    start(post);
    for (int i = 0; i < 20; i++) {
        letters[i] = letter_begin(post, 60000, 1);
    }
    for (uint32_t at = 0; at < 60000; at += 37) {
        for (int i = 0; i < 20; i++) {
            while (letter_send(letters[i], 37) != 0) {
                a_round(post);
            }
        }
    }
    for (int i = 0; i < 20; i++) {
        assert_true(letters[i]->draft->body.extent_count < 100);
        assert_int_equal(letter_commit(letters[i]), 0);
    }
    settle(post);
    crash(post);
    start(post);
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
    start(post);
    struct letter *letter = letter_post(post, 40u * 1024 * 1024, 2);
    settle(post);
    assert_int_equal(letter->fate, LETTER_ACCEPTED);
    assert_true(message_private(letter->message)->body.extent_count < 400);
    assert_int_equal(letter_check_body(post, letter), 0);
    post_close(post);
}

static void a_message_above_the_limit_is_refused(void **state)
{
    (void)state;
    struct post *post = post_open(4);
    post->settings.message_bytes_max = 5000;
    start(post);
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
    start(post);
    letter = letter_begin(post, 1000, 1);
    letter_send(letter, 1000);
    uint32_t count = 6000;
    struct slice *paths = calloc(count, sizeof(paths[0]));
    char *texts = calloc(count, 64);
    assert_non_null(paths);
    assert_non_null(texts);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(texts + i * 64, 64, "a-rather-long-name-of-recipient-number-%u@example.org", i);
        paths[i] = slice_text(texts + i * 64);
    }
    struct envelope envelope = {.reverse_path = slice_text("")};
    letter->durable.done = letter_durable;
    letter->fate = LETTER_ASKED;
    assert_int_equal(
        spool_commit(letter->draft, &envelope, paths, count, &letter->message, &letter->durable),
        0);
    settle(post);
    spool_recipient_finished(post->spool, letter->message, 77, RECIPIENT_FAILED);
    settle(post);
    crash(post);
    start(post);
    assert_int_equal(post->found_count, 1);
    assert_int_equal(letter->message->recipient_count, count);
    assert_int_equal(letter->message->waiting_count, count - 1);
    assert_int_equal(letter->message->recipients[77].state, RECIPIENT_FAILED);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(slice_equal(letter->message->recipients[i].forward_path, paths[i]));
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
    start(post);
    for (int i = 0; i < 50; i++) {
        struct letter *letter = letter_begin(post, 30000, 1);
        letter_send(letter, 30000);
        a_round(post);
        spool_abort(letter->draft);
        letter->fate = LETTER_GONE;
    }
    settle(post);
    assert_int_equal(spool_counters(post->spool)->live_bytes, 0);
    assert_int_equal(spool_counters(post->spool)->drafts, 0);
    crash(post);
    start(post);
    assert_int_equal(post->found_count, 0);
    post_close(post);
}

static void drafts_have_a_limit(void **state)
{
    (void)state;
    struct post *post = post_open(7);
    post->settings.draft_count_max = 3;
    start(post);
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
    start(post);
    struct letter *letter = letter_post(post, 5000, 1);
    settle(post);
    struct message *message = letter->message;
    spool_message_hold(message);
    letter_finish(post, letter, 0);
    assert_null(spool_find(post->spool, letter->id));
    assert_int_equal(message->recipients[0].state, RECIPIENT_DELIVERED);
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
    start(post);
    struct letter *letter = letter_post(post, 5000, 1);
    settle(post);
    spool_note_attempt(post->spool, letter->message, 5000);
    spool_note_attempt(post->spool, letter->message, 6000);
    settle(post);
    crash(post);
    start(post);
    assert_int_equal(letter->message->attempts, 2);
    assert_int_equal(letter->message->last_attempt_wall_s, 6000);
    post_close(post);
}

static void a_damaged_body_is_an_error_and_its_neighbours_are_not(void **state)
{
    (void)state;
    struct post *post = post_open(10);
    start(post);
    struct letter *good = letter_post(post, 5000, 1);
    struct letter *bad = letter_post(post, 5000, 1);
    settle(post);
    crash(post);
    start(post);
    uint64_t lsn = message_private(bad->message)->body.extents[0].lsn;
    uint64_t bytes;
    disk_fault_bytes(post->rig.fault, "0/00000001.segment", &bytes)[lsn_offset(lsn) + 777] ^= 1;
    assert_int_equal(letter_check_body(post, bad), -EIO);
    assert_int_equal(letter_check_body(post, good), 0);
    crash(post);
    start(post);
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

static void what_lives_in_a_dead_log_is_copied_forward_and_the_log_stays_short(void **state)
{
    (void)state;
    struct post *post = post_open(11);
    struct letter *keep[8];
    start(post);
    for (int i = 0; i < 8; i++) {
        keep[i] = letter_post(post, 30000, 2);
        settle(post);
    }
    letter_finish(post, keep[0], 1);
    struct letter *slow = letter_begin(post, 30000, 1);
    letter_send(slow, 10000);
    for (int i = 0; i < 1500; i++) {
        struct letter *letter = letter_post(post, 40000, 1);
        settle(post);
        letter_finish(post, letter, 0);
        post->count--; /* nothing more to know of it */
    }
    settle(post);
    /* 60 MiB went through; what lives is 300 KB */
    assert_true(log_used_bytes(post->rig.log) <= 6 * post->rig.settings.segment_bytes);
    assert_true(spool_counters(post->spool)->copied_forward_bytes > 0);
    slow = &post->letters[8];
    letter_send(slow, 20000);
    assert_int_equal(letter_commit(slow), 0);
    settle(post);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(letter_check_body(post, keep[i]), 0);
    }
    crash(post);
    start(post);
    assert_int_equal(post->found_count, 9);
    assert_int_equal(keep[0]->message->recipients[1].state, RECIPIENT_DELIVERED);
    assert_int_equal(keep[0]->message->waiting_count, 1);
    for (int i = 0; i < 9; i++) {
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
    start(post);
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
        settle(post);
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
            settle(post);
        }
    }
    assert_true(accepted > 100);
    settle(post);
    struct letter *letter = letter_post(post, 50000, 1);
    settle(post);
    assert_int_equal(letter->fate, LETTER_ACCEPTED);
    crash(post);
    start(post);
    assert_int_equal(post->found_count, 1);
    post_close(post);
}

static void commits_wait_for_room_and_are_not_refused(void **state)
{
    (void)state;
    struct post *post = post_open(13);
    start(post);
    disk_fault_hold(post->rig.fault, true);
    struct letter *letters[200];
    int count = 0;
    for (; count < 200; count++) {
        letters[count] = letter_begin(post, 200000, 1);
        if (letter_send(letters[count], 200000) != 0) {
            break;
        }
        a_round(post);
    }
    assert_true(count > 5 && count < 200);
    for (int i = 0; i < count; i++) {
        assert_int_equal(letter_commit(letters[i]), 0);
    }
    disk_fault_hold(post->rig.fault, false);
    settle(post);
    for (int i = 0; i < count; i++) {
        assert_int_equal(letters[i]->fate, LETTER_ACCEPTED);
    }
    assert_int_equal(letter_send(letters[count], 200000), 0);
    post_close(post);
}

/* ── Failures ────────────────────────────────────────────────────────────────────────────────── */

static void a_draft_whose_bytes_were_lost_is_refused_at_its_commit(void **state)
{
    (void)state;
    struct post *post = post_open(14);
    start(post);
    struct letter *before = letter_post(post, 3000, 1);
    settle(post);
    struct letter *draft = letter_begin(post, 400000, 1);
    letter_send(draft, 300000); /* more than a frame: some of it is written at once */
    disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    letter_finish(post, before, 0);
    settle(post);
    assert_int_equal(letter_send(draft, 100000), 0);
    assert_int_equal(letter_commit(draft), -EIO);
    struct letter *after = letter_post(post, 3000, 1);
    settle(post);
    assert_int_equal(after->fate, LETTER_ACCEPTED);
    crash(post);
    start(post);
    assert_int_equal(post->found_count, 1);
    assert_true(after->found);
    post_close(post);
}

/* ── Other shards' folders ───────────────────────────────────────────────────────────────────── */

static void messages_of_a_shard_that_is_no_more_are_adopted_once(void **state)
{
    (void)state;
    struct post *post = post_open(15);
    post->rig.settings.shard = 3;
    start(post);
    for (int i = 0; i < 30; i++) {
        letter_post(post, 100 + (uint32_t)i * 9000, 2);
        settle(post);
    }
    letter_finish(post, &post->letters[4], 0);
    letter_finish(post, &post->letters[5], 0);
    letter_finish(post, &post->letters[5], 1);
    settle(post);
    crash(post);
    post->rig.settings.shard = 1;
    start(post);
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
    settle(post);
    crash(post);
    start(post);
    assert_int_equal(post->found_count, 29);
    assert_int_equal(spool_adopt(post->spool, 2), 0);
    assert_int_equal(post->found_count, 29);
    settle(post);
    crash(post);
    /* The shard comes back: letter_begin checks that it never makes an id twice. */
    post->rig.settings.shard = 3;
    start(post);
    assert_int_equal(post->found_count, 0);
    for (int i = 0; i < 40; i++) {
        letter_post(post, 100, 1);
    }
    settle(post);
    post_close(post);
}

/* Each life of the relay ends in the middle of adopting, some operations further than the one before. */
static void adopting_goes_on_after_any_crash_and_never_doubles(void **state)
{
    (void)state;
    struct post *post = post_open(16);
    post->rig.settings.shard = 2;
    start(post);
    for (int i = 0; i < 12; i++) {
        letter_post(post, 20000, 1);
    }
    settle(post);
    crash(post);
    post->rig.settings.shard = 0;
    int status = -1;
    for (uint32_t skip = 0; status != 0 && skip < 400; skip++) {
        start(post);
        assert_true(post->found_count == 0 || post->found_count == 12);
        enum disk_fault_kind kind = skip % 3 == 0   ? DISK_FAULT_WRITE
                                    : skip % 3 == 1 ? DISK_FAULT_REMOVE
                                                    : DISK_FAULT_PREPARE;
        disk_fault_fail(post->rig.fault, kind, skip / 3, 1000000, -EIO);
        status = spool_adopt(post->spool, 1);
        crash(post);
    }
    assert_int_equal(status, 0);
    start(post);
    spool_adopt(post->spool, 1);
    assert_int_equal(post->found_count, 12);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(letter_check_body(post, &post->letters[i]), 0);
    }
    post_close(post);
}

/* ── Crashes by chance ───────────────────────────────────────────────────────────────────────── */

static void some_mail_comes(struct post *post)
{
    uint32_t kind = below(post, 10);
    uint32_t length = kind < 6   ? below(post, 5000)
                      : kind < 9 ? below(post, 60000)
                                 : below(post, 700000);
    letter_begin(post, length + 1, 1 + below(post, RECIPIENTS_MAX));
}

static void some_mail_moves(struct post *post)
{
    for (uint32_t i = post->count > 60 ? post->count - 60 : 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        if (letter->fate != LETTER_OPEN || below(post, 2) == 0) {
            continue;
        }
        if (letter->sent < letter->length) {
            int status = letter_send(letter, 1 + below(post, below(post, 3) == 0 ? 300 : 90000));
            if (status != 0 && status != -EAGAIN) {
                spool_abort(letter->draft);
                letter->fate = LETTER_REFUSED;
            }
        } else if (below(post, 12) == 0) {
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
        if (letter->fate != LETTER_ACCEPTED || below(post, old_one ? 400 : 12) != 0) {
            continue;
        }
        uint32_t index = below(post, letter->recipient_count);
        if (letter->state[index] == RECIPIENT_WAITING) {
            letter_finish(post, letter, index);
        }
    }
}

/* Everything so far is on the device. */
static void remember_settled(struct post *post)
{
    if (!comes_to_rest(post, 3000)) {
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
        uint8_t found = letter->message->recipients[i].state;
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
    switch (below(post, 5)) {
    case 0:
        disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, below(post, 40), 1, -EIO);
        break;
    case 1:
        disk_fault_fail(post->rig.fault, DISK_FAULT_PREPARE, 0, 1 + below(post, 3), -ENOSPC);
        break;
    default:
        break;
    }
    for (uint32_t round = 0; round < rounds; round++) {
        if (below(post, 3) == 0 && post->count + 1 < LETTERS_MAX) {
            some_mail_comes(post);
        }
        some_mail_moves(post);
        some_mail_leaves(post);
        a_round(post);
        if (below(post, 150) == 0) {
            remember_settled(post);
        }
    }
}

static void crash_lives(uint64_t seed)
{
    struct post *post = post_open(seed);
    post->rig.fault_settings.late_percent = below(post, 70);
    if (below(post, 3) == 0) {
        post->rig.fault_settings.capacity_bytes = (6 + below(post, 4)) * 8ull * LOG_FRAME_BYTES;
    }
    disk_fault_set(post->rig.fault, &post->rig.fault_settings);
    post->rig.settings.write_count_max = 1 + below(post, 6);
    bool *committed = calloc(LETTERS_MAX, sizeof(committed[0]));
    assert_non_null(committed);
    start(post);
    for (int life = 0; life < 8; life++) {
        live(post, below(post, 500));
        /* What was gone before it was committed, or refused, must not come back. */
        for (uint32_t i = 0; i < post->count; i++) {
            struct letter *letter = &post->letters[i];
            committed[i] = letter->fate == LETTER_ASKED || letter->fate == LETTER_ACCEPTED ||
                           (letter->fate == LETTER_GONE && letter->state[0] != RECIPIENT_WAITING);
        }
        crash(post);
        start(post);
        check_answers(post, committed);
    }
    free(committed);
    post_close(post);
}

static void no_crash_breaks_the_three_answers(void **state)
{
    (void)state;
    for (uint64_t seed = 1000; seed < 1036; seed++) {
        crash_lives(seed);
    }
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
        cmocka_unit_test(commits_wait_for_room_and_are_not_refused),
        cmocka_unit_test(a_draft_whose_bytes_were_lost_is_refused_at_its_commit),
        cmocka_unit_test(messages_of_a_shard_that_is_no_more_are_adopted_once),
        cmocka_unit_test(adopting_goes_on_after_any_crash_and_never_doubles),
        cmocka_unit_test(no_crash_breaks_the_three_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
