/* What a start makes of a log that the disk does not give it whole, and what the next one has then. */
#include "queue/log/log_private.h"
#include "queue/spool/spool_reader.h"
#include "tests/unit/post_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define NAME_BYTES 64

/* ── The disk ────────────────────────────────────────────────────────────────────────────────── */

/* The file that holds this segment of a shard. False: none does. */
static bool segment_name(struct post *post, uint32_t shard, uint32_t sequence,
                         char name[static NAME_BYTES])
{
    const char *at;
    char folder[16];
    snprintf(folder, sizeof(folder), "%u/", shard);
    for (uint32_t i = 0; (at = disk_fault_name(post->rig.fault, i)) != NULL; i++) {
        struct segment_header header;
        uint64_t bytes;
        memcpy(&header, disk_fault_bytes(post->rig.fault, at, &bytes), sizeof(header));
        if (header.magic == SEGMENT_MAGIC && header.sequence == sequence &&
            strncmp(at, folder, strlen(folder)) == 0) {
            snprintf(name, NAME_BYTES, "%s", at);
            return true;
        }
    }
    return false;
}

/* Its records, or some of them. */
static void segment_refuse(struct post *post, uint32_t shard, uint32_t sequence, uint64_t from,
                           uint64_t bytes)
{
    char name[NAME_BYTES];
    assert_true(segment_name(post, shard, sequence, name));
    disk_fault_refuse_reads(post->rig.fault, name, from, bytes);
}

struct told {
    uint64_t bytes;
    uint32_t count;
    struct log_unread last;
};

static void unread_told(void *owner, const struct log_unread *what)
{
    struct told *told = owner;
    told->bytes += what->bytes;
    told->count++;
    told->last = *what;
}

static uint64_t files_digest(struct post *post)
{
    uint64_t digest = 0;
    const char *name;
    for (uint32_t i = 0; (name = disk_fault_name(post->rig.fault, i)) != NULL; i++) {
        uint64_t bytes;
        const uint8_t *content = disk_fault_bytes(post->rig.fault, name, &bytes);
        digest = digest * 31 + crc32c(0, content, bytes);
    }
    return digest;
}

/* ── Mail ────────────────────────────────────────────────────────────────────────────────────── */

/* All that was accepted and has not left is there, whole; nothing that has left is. */
static void all_is_there(struct post *post)
{
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        assert_int_equal(letter->found, letter->fate == LETTER_ACCEPTED);
        if (letter->found) {
            letter_check_envelope(letter);
            assert_int_equal(letter_check_body(post, letter), 0);
        }
    }
}

/* Mail that stays, small and over more than one segment, among mail that has left; some of it was tried. */
static void letters_come(struct post *post)
{
    for (uint32_t i = 0; i < 10; i++) {
        letters_stay(post, 1, i == 4 ? 3000000 : 90000, 2);
        letters_pass(post, 12, 20000);
        if (i > 2) { /* said a segment later */
            spool_note_attempt(post->spool, post->letters[(i - 3) * 13].message, 5000);
            letter_finish(post, &post->letters[(i - 3) * 13], 0);
        }
    }
    post_settle(post);
}

/* What is found is delivered but for a few, also what a part that cannot be read said had left. */
static uint32_t letters_leave(struct post *post, uint32_t stay_every)
{
    uint32_t again = 0;
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        if (!letter->found || i % stay_every == 0) {
            continue;
        }
        again += letter->fate == LETTER_GONE;
        while (letter->message != NULL) {
            uint32_t index = 0;
            while (message_recipient_state(letter->message, index) != RECIPIENT_WAITING) {
                index++;
            }
            letter_finish(post, letter, index);
        }
    }
    post_settle(post);
    return again;
}

/* ── One start cannot read it ────────────────────────────────────────────────────────────────── */

#define BEHIND (2 * DISK_BLOCK_BYTES) /* what places a segment lies before */

struct refusal {
    uint64_t from, bytes;
};
static const struct refusal refusals[] = {
    {BEHIND, 8 * LOG_FRAME_BYTES - BEHIND},
    {BEHIND, DISK_BLOCK_BYTES},
    {3 * LOG_FRAME_BYTES, 3 * LOG_FRAME_BYTES},
    {7 * LOG_FRAME_BYTES, LOG_FRAME_BYTES},
};

/* Mail is there, some of `sequence` cannot be read at a start, and mail goes on. Then all can be read again.
 * Returns how many letters the first start has missed. */
static uint32_t life_with(struct post *post, uint32_t sequence, const struct refusal *refusal)
{
    struct told told = {0};
    uint32_t missed = 0, before = post->count;
    post->rig.settings.unread = unread_told;
    post->rig.settings.unread_owner = &told;
    segment_refuse(post, 0, sequence, refusal->from, refusal->bytes);
    post_start(post);
    assert_int_equal(told.bytes, refusal->bytes);
    assert_int_equal(post_log_counters(post)->unread_bytes, refusal->bytes);
    assert_int_equal(post_log_counters(post)->damaged_bytes, 0);
    for (uint32_t i = 0; i < before; i++) {
        missed += post->letters[i].fate == LETTER_ACCEPTED && !post->letters[i].found;
    }
    letters_leave(post, 26);
    letters_stay(post, 3, 50000, 2);
    letters_pass(post, 250, 40000); /* five segments */
    assert_true(post_log_counters(post)->segments_freed_between >= 3);
    assert_true(post_log_counters(post)->segments_prepared <= 5);
    assert_int_equal(spool_counters(post->spool)->copied_forward_bytes, 0);
    post_crash(post);
    disk_fault_mend(post->rig.fault);
    told = (struct told){0};
    post_start(post);
    assert_int_equal(told.count, 0);
    assert_int_equal(post_log_counters(post)->segments_held, 0);
    all_is_there(post);
    return missed;
}

static void life_goes_on(struct post *post, bool all)
{
    uint32_t stay = all ? 1 : 4;
    for (uint32_t i = 0; i < post->count; i++) {
        if (post->letters[i].fate == LETTER_ACCEPTED && i % stay == 0) {
            post->letters[i].found = true;
        }
    }
    letters_leave(post, 1000000);
    letters_pass(post, 300, 40000);
    assert_true(post_log_counters(post)->segments_freed > 5);
    post_crash(post);
    post_start(post);
    all_is_there(post);
}

static void mail_of_the_oldest_segment_that_one_start_cannot_read_is_there_at_the_next(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct post *post = post_open(i + 1);
        post_start(post);
        letters_come(post);
        uint32_t oldest = log_head_sequence(post->rig.log);
        post_crash(post);
        uint32_t missed = life_with(post, oldest, &refusals[i]);
        assert_true(i != 0 || missed > 0);
        life_goes_on(post, true); /* and its segments are freed, now that all is known */
        assert_true(log_head_sequence(post->rig.log) > oldest);
        post_close(post);
    }
}

static void mail_of_any_segment_that_one_start_cannot_read_is_there_at_the_next(void **state)
{
    (void)state;
    uint32_t missed = 0, segments = 0;
    for (uint32_t at = 0;; at++) {
        struct post *post = post_open(at + 1);
        post->settings.forward_bytes_min = UINT64_MAX; /* so that there are some between others */
        post_start(post);
        letters_come(post);
        uint32_t sequence = log_head_sequence(post->rig.log);
        for (uint32_t i = 0; i < at && sequence != 0; i++) {
            sequence = log_segment_after(post->rig.log, sequence);
        }
        post_crash(post);
        if (sequence == 0) {
            post_close(post);
            break;
        }
        segments++;
        missed += life_with(post, sequence, &refusals[at % 2 * 2]);
        post->spool->settings.forward_bytes_min = 1;
        life_goes_on(post, false);
        post_close(post);
    }
    assert_true(segments >= 4 && missed >= 8);
}

/* Two starts in a row, each with another segment. */
static void what_was_held_by_two_starts_is_there_at_the_third(void **state)
{
    (void)state;
    struct post *post = post_open(3);
    post_start(post);
    letters_come(post);
    uint32_t oldest = log_head_sequence(post->rig.log);
    uint32_t newer = log_segment_after(post->rig.log, oldest);
    post_crash(post);
    segment_refuse(post, 0, oldest, refusals[0].from, refusals[0].bytes);
    post_start(post);
    letters_leave(post, 26);
    letters_pass(post, 120, 40000);
    post_crash(post);
    disk_fault_mend(post->rig.fault);
    life_with(post, newer, &refusals[0]);
    post_close(post);
}

/* Its commit lies in the segment that cannot be read, all of its body in the one before, in which nothing
 * else lives. */
static void a_body_stays_whose_commit_one_start_cannot_read(void **state)
{
    (void)state;
    struct post *post = post_open(4);
    post_start(post);
    struct letter *letter = letter_begin(post, 100000, 1);
    assert_non_null(letter);
    assert_int_equal(letter_send(letter, 100000), 0);
    letters_pass(post, 3, 1000); /* its body is written */
    assert_int_equal(log_seal(post->rig.log), 0);
    letters_pass(post, 3, 1000); /* what is needed to place it lies before */
    assert_int_equal(letter_commit(letter), 0);
    post_settle(post);
    assert_int_equal(letter->fate, LETTER_ACCEPTED);
    assert_int_equal(letter_sequence(letter), 2);
    post_crash(post);
    segment_refuse(post, 0, 2, BEHIND, 8 * LOG_FRAME_BYTES - BEHIND);
    post_start(post);
    assert_false(letter->found);
    letters_pass(post, 120, 40000);
    assert_non_null(log_segment_live(post->rig.log, 1));
    post_crash(post);
    disk_fault_mend(post->rig.fault);
    post_start(post);
    all_is_there(post);
    assert_true(letter->found);
    post_close(post);
}

/* What a failed write has left, and what says so lies elsewhere. */
static void what_counts_for_nothing_need_not_be_read(void **state)
{
    (void)state;
    struct post *post = post_open(5);
    post_start(post);
    letters_stay(post, 5, 50000, 1);
    uint32_t end = lsn_offset(post->rig.log->end);
    disk_fault_fail(post->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    letter_post(post, 50000, 1);
    post_settle(post);
    assert_int_equal(log_current_sequence(post->rig.log), 2);
    post_crash(post);
    end = block_up(end);
    segment_refuse(post, 0, 1, end, 8 * LOG_FRAME_BYTES - end);
    post_start(post);
    assert_int_equal(post_log_counters(post)->unread_bytes, 0);
    assert_int_equal(post_log_counters(post)->segments_held, 0);
    all_is_there(post);
    post_close(post);
}

/* ── One start cannot place it ───────────────────────────────────────────────────────────────── */

static void
a_segment_that_cannot_be_opened_or_placed_ends_the_start_and_nothing_is_freed(void **state)
{
    (void)state;
    for (uint32_t way = 0; way < 3; way++) {
        struct post *post = post_open(way + 1);
        struct told told = {0};
        char name[NAME_BYTES], expected[NAME_BYTES];
        post->rig.settings.unread = unread_told;
        post->rig.settings.unread_owner = &told;
        post_start(post);
        letters_come(post);
        uint32_t oldest = log_head_sequence(post->rig.log);
        post_crash(post);
        assert_true(segment_name(post, 0, oldest, name));
        uint64_t digest = files_digest(post);
        if (way == 0) {
            disk_fault_refuse_open(post->rig.fault, name);
        } else {
            disk_fault_refuse_reads(post->rig.fault, name, (way - 1) * DISK_BLOCK_BYTES,
                                    DISK_BLOCK_BYTES);
        }
        assert_int_equal(post_try_start(post), -EIO);
        assert_int_equal(told.count, 1);
        assert_int_equal(told.last.error, -EIO);
        assert_int_equal(told.last.bytes, way == 0 ? 0 : DISK_BLOCK_BYTES);
        snprintf(expected, sizeof(expected), "%u/%08u.segment", told.last.shard, told.last.number);
        assert_string_equal(expected, name);
        assert_int_equal(files_digest(post), digest);
        disk_fault_mend(post->rig.fault);
        post_start(post);
        all_is_there(post);
        post_close(post);
    }
}

/* Its header is damaged, so that only its records could tell where it belongs. */
static void a_segment_without_header_of_which_some_cannot_be_read_ends_the_start(void **state)
{
    (void)state;
    struct post *post = post_open(1);
    char name[NAME_BYTES];
    uint64_t bytes;
    post_start(post);
    letters_come(post);
    uint32_t oldest = log_head_sequence(post->rig.log);
    post_crash(post);
    assert_true(segment_name(post, 0, oldest, name));
    disk_fault_bytes(post->rig.fault, name, &bytes)[9] ^= 1;
    disk_fault_refuse_reads(post->rig.fault, name, 5 * LOG_FRAME_BYTES, DISK_BLOCK_BYTES);
    assert_int_equal(post_try_start(post), -EIO);
    disk_fault_mend(post->rig.fault);
    post_start(post);
    all_is_there(post);
    post_close(post);
}

/* ── Who looks ───────────────────────────────────────────────────────────────────────────────── */

static void a_reader_says_what_cannot_be_read_and_calls_it_no_damage(void **state)
{
    (void)state;
    struct post *post = post_open(1);
    struct told told = {0};
    const struct spool_reader_visitor visitor = {.unread = unread_told, .owner = &told};
    struct spool_reader *reader;
    post_start(post);
    letters_stay(post, 30, 50000, 1);
    uint32_t oldest = log_head_sequence(post->rig.log);
    post_crash(post);
    segment_refuse(post, 0, oldest, LOG_FRAME_BYTES, DISK_BLOCK_BYTES);
    segment_refuse(post, 0, oldest, LOG_FRAME_BYTES + DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    segment_refuse(post, 0, oldest, 5 * LOG_FRAME_BYTES, DISK_BLOCK_BYTES);
    assert_int_equal(spool_reader_open(&reader, post->rig.disk, 0, &visitor), 0);
    const struct spool_reader_facts *facts = spool_reader_facts(reader);
    assert_int_equal(facts->unread_bytes, 3 * DISK_BLOCK_BYTES);
    assert_int_equal(facts->damaged_bytes, 0);
    assert_int_equal(facts->messages, 30);
    assert_true(facts->broken >= 1 && facts->broken <= 4);
    assert_int_equal(told.count, 2); /* what lies together is told at once */
    assert_int_equal(told.last.offset, 5 * LOG_FRAME_BYTES);
    assert_int_equal(told.bytes, facts->unread_bytes);
    spool_reader_close(reader);
    post_close(post);
}

/* The disk refuses when it is to be delivered. */
static void a_body_that_cannot_be_read_for_a_while_is_an_error_and_no_loss(void **state)
{
    (void)state;
    struct post *post = post_open(2);
    post_start(post);
    letters_stay(post, 40, 60000, 1);
    post_crash(post);
    post_start(post);
    struct letter *letter = &post->letters[5];
    uint32_t sequence = letter_sequence(letter);
    segment_refuse(post, 0, sequence, BEHIND, 8 * LOG_FRAME_BYTES - BEHIND);
    assert_int_equal(letter_check_body(post, letter), -EIO);
    assert_int_equal(letter_check_body(post, letter), -EIO);
    letters_pass(post, 200, 40000); /* copying forward meets it too */
    assert_non_null(log_segment_live(post->rig.log, sequence));
    disk_fault_mend(post->rig.fault);
    assert_int_equal(letter_check_body(post, letter), 0);
    post_restarts_with(post, 40);
    post_close(post);
}

/* ── Folders of shards that are no more ──────────────────────────────────────────────────────── */

/* As many stay in shard 1's folder as in ours. */
static struct post *two_shards(uint64_t seed)
{
    struct post *post = post_open(seed);
    for (uint32_t shard = 2; shard-- > 0;) {
        post->rig.settings.shard = shard;
        post_start(post);
        letters_stay(post, 20, 60000, 1);
        letters_pass(post, 30, 20000);
        if (shard == 1) {
            post_crash(post);
            for (uint32_t i = 0; i < post->count; i++) {
                post->letters[i].message = NULL;
            }
        }
    }
    return post;
}

static uint32_t found_of(const struct post *post, uint32_t first, uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = first; i < first + count; i++) {
        found += post->letters[i].found;
    }
    return found;
}

static void a_folder_that_cannot_be_read_whole_is_adopted_whole_by_another_start(void **state)
{
    (void)state;
    struct told told = {0};
    struct post *post = two_shards(1);
    post_crash(post);
    post->rig.settings.unread = unread_told;
    post->rig.settings.unread_owner = &told;
    segment_refuse(post, 1, 1, BEHIND, LOG_FRAME_BYTES);
    for (int start = 0; start < 2; start++) {
        post_start(post);
        assert_int_equal(spool_adopt(post->spool, 1), -EIO);
        assert_int_equal(told.last.shard, 1);
        assert_int_equal(found_of(post, 0, 20), 0);
        letters_pass(post, 120, 40000);
        post_crash(post);
    }
    disk_fault_mend(post->rig.fault);
    post_start(post);
    assert_int_equal(spool_adopt(post->spool, 1), 0);
    all_is_there(post);
    post_crash(post);
    post_start(post);
    all_is_there(post);
    post_close(post);
}

/* A crash has come between adopting and removing the folder, and our copies cannot be read: what was
 * delivered of the folder then would come back with them. */
static void nothing_is_adopted_while_a_copy_of_it_may_be_unread(void **state)
{
    (void)state;
    struct post *post = two_shards(2);
    post_crash(post);
    post_start(post);
    assert_int_equal(log_seal(post->rig.log), 0);
    disk_fault_fail(post->rig.fault, DISK_FAULT_PREPARE, 0, 1000, -EIO); /* it stays */
    assert_true(spool_adopt(post->spool, 1) < 0);
    disk_fault_fail(post->rig.fault, DISK_FAULT_PREPARE, 0, 0, 0);
    uint32_t copies = letter_sequence(&post->letters[0]);
    post_crash(post);
    segment_refuse(post, 0, copies, BEHIND, 8 * LOG_FRAME_BYTES - BEHIND);
    post_start(post);
    assert_int_equal(found_of(post, 0, 1), 0);
    assert_int_equal(spool_adopt(post->spool, 1), -EIO);
    letters_leave(post, 7);
    letters_pass(post, 200, 40000);
    post_crash(post);
    disk_fault_mend(post->rig.fault);
    post_start(post);
    assert_int_equal(spool_adopt(post->spool, 1), 0);
    all_is_there(post);
    post_close(post);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            mail_of_the_oldest_segment_that_one_start_cannot_read_is_there_at_the_next),
        cmocka_unit_test(mail_of_any_segment_that_one_start_cannot_read_is_there_at_the_next),
        cmocka_unit_test(what_was_held_by_two_starts_is_there_at_the_third),
        cmocka_unit_test(a_body_stays_whose_commit_one_start_cannot_read),
        cmocka_unit_test(what_counts_for_nothing_need_not_be_read),
        cmocka_unit_test(
            a_segment_that_cannot_be_opened_or_placed_ends_the_start_and_nothing_is_freed),
        cmocka_unit_test(a_segment_without_header_of_which_some_cannot_be_read_ends_the_start),
        cmocka_unit_test(a_reader_says_what_cannot_be_read_and_calls_it_no_damage),
        cmocka_unit_test(a_body_that_cannot_be_read_for_a_while_is_an_error_and_no_loss),
        cmocka_unit_test(a_folder_that_cannot_be_read_whole_is_adopted_whole_by_another_start),
        cmocka_unit_test(nothing_is_adopted_while_a_copy_of_it_may_be_unread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
