/* What a start reads of the log beside an index, and what it makes of an index that is of no use. */
#include "queue/log/log_private.h"
#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define LETTER_BYTES 150000u

/* What the cleaner knows of the segments, as text; of the heap. */
static char *books_dump(struct mailstore_rig *rig)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    struct log *log = rig->rig.log;
    for (uint32_t sequence = log_head_sequence(log); sequence != 0;
         sequence = log_segment_after(log, sequence)) {
        const struct segment_books *books = segment_books(rig->store, sequence);
        uint64_t live = log_segment_live(log, sequence)->bytes;
        if (live > 0 || books->state_bytes > 0) {
            fprintf(to, "%u: %llu of texts, %llu of changes\n", sequence, (unsigned long long)live,
                    (unsigned long long)books->state_bytes);
        }
    }
    fclose(to);
    return text;
}

static void letters(struct mailstore_rig *rig, const char *user, uint32_t count)
{
    for (uint32_t i = 1; i <= count; i++) {
        struct mailstore_place place = {0};
        assert_int_equal(rig_deliver(rig, user, "", i, LETTER_BYTES, &place), 0);
    }
    mailstore_rig_settle(rig);
}

struct state {
    char *rows, *books;
};

static struct state state_of(struct mailstore_rig *rig)
{
    return (struct state){.rows = rig_dump(rig), .books = books_dump(rig)};
}

/* Is it what it was? */
static void state_check(struct mailstore_rig *rig, struct state *before)
{
    struct state after = state_of(rig);
    assert_string_equal(before->rows, after.rows);
    assert_string_equal(before->books, after.books);
    free(after.rows);
    free(after.books);
}

static void state_free(struct state *before)
{
    free(before->rows);
    free(before->books);
}

static void a_start_reads_what_the_index_does_not_have(void **state)
{
    struct mailstore_rig *rig = *state;
    const uint64_t segment = rig->rig.settings.segment_bytes;
    letters(rig, "ann", 100);
    uint64_t used = log_used_bytes(rig->rig.log);
    assert_true(used >= 7 * segment);
    struct state before = state_of(rig);
    mailstore_rig_stop(rig);
    uint64_t read = disk_fault_counters(rig->rig.fault)->read_bytes;
    assert_int_equal(mailstore_rig_start(rig), 0);
    read = disk_fault_counters(rig->rig.fault)->read_bytes - read;
    /* The last one, the spares, and two blocks of each. */
    assert_true(read <= (2 + LOG_SEGMENTS_RESERVED) * segment + 32 * 2 * DISK_BLOCK_BYTES);
    assert_int_equal(mailstore_counters(rig->store)->rebuilds, 0);
    assert_int_equal(mailstore_counters(rig->store)->replayed_records, 0);
    state_check(rig, &before);

    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(box->count, 100);
    for (uint32_t i = 0; i < box->count; i++) {
        assert_true(rig_text_is(rig, box->entries[i].text, i + 1, LETTER_BYTES));
    }
    leave(rig, box);
    state_free(&before);
}

static void what_follows_the_index_is_done_again_and_counted(void **state)
{
    struct mailstore_rig *rig = *state;
    const uint64_t segment = rig->rig.settings.segment_bytes;
    letters(rig, "ann", 60);
    restart(rig, true);
    letters(rig, "bob", 40);
    struct state before = state_of(rig);
    mailstore_rig_crash(rig);
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_true(mailstore_counters(rig->store)->replayed_records > 0);
    uint64_t scanned = log_counters(rig->rig.log)->scanned_bytes;
    state_check(rig, &before);
    restart(rig, false);
    assert_true(scanned + 3 * segment < log_counters(rig->rig.log)->scanned_bytes);
    state_check(rig, &before);
    state_free(&before);
}

/* The index is written while the log is read, too. */
static void a_start_that_was_broken_off_is_no_loss_to_the_next(void **state)
{
    struct mailstore_rig *rig = *state;
    char name[32];
    letters(rig, "ann", 50);
    restart(rig, true);
    rig->settings.index_changes_max = 100000;
    restart(rig, true);
    letters(rig, "bob", 60);
    struct log *log = rig->rig.log;
    uint32_t last = log_segment_find(log, log_current_sequence(log))->number;
    struct state before = state_of(rig);
    mailstore_rig_crash(rig);
    rig->settings.index_changes_max = 20;
    snprintf(name, sizeof(name), "%u/%08u.segment", rig->rig.settings.shard, last);
    disk_fault_refuse_reads(rig->rig.fault, name, 300000, 1);
    assert_int_equal(mailstore_rig_start(rig), -EIO);
    log_rig_crash(&rig->rig);
    disk_fault_mend(rig->rig.fault);
    assert_int_equal(mailstore_rig_start(rig), 0);
    /* The index was further than when the first start began. */
    assert_true(mailstore_counters(rig->store)->replayed_records < 60);
    state_check(rig, &before);
    state_free(&before);
}

/* The disk refuses what only the texts of old mail need. */
static void a_segment_that_the_index_stands_for_need_not_be_read(void **state)
{
    struct mailstore_rig *rig = *state;
    char name[32];
    letters(rig, "ann", 40);
    struct state before = state_of(rig);
    mailstore_rig_stop(rig);
    snprintf(name, sizeof(name), "%u/%08u.segment", rig->rig.settings.shard, 1u);
    disk_fault_refuse_reads(rig->rig.fault, name, 300000, 1);
    assert_int_equal(mailstore_rig_start(rig), 0);
    state_check(rig, &before);
    mailstore_rig_stop(rig);
    mailstore_rig_forget_index(rig);
    assert_int_equal(mailstore_rig_start(rig), -EIO);
    log_rig_crash(&rig->rig);
    disk_fault_mend(rig->rig.fault);
    assert_int_equal(mailstore_rig_start(rig), 0);
    state_check(rig, &before);
    state_free(&before);
}

/* A row that cannot be what was written, found when a change that follows needs it. */
static void an_index_that_fails_while_the_log_is_read_is_made_anew(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_uids first = {1, 1};
    struct mailstore_expunge expunge = {.uids = &first, .uid_count = 1};
    struct told told;
    struct key key;
    letters(rig, "ann", 20);
    mailstore_rig_stop(rig);
    assert_int_equal(mailstore_rig_start(rig), 0);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    key_begin(&key, ROW_TEXT);
    key_u64(&key, box->entries[0].text);
    assert_int_equal(index_put(rig->store->index, key_slice(&key), slice_text("?")), 0);
    assert_int_equal(mailstore_checkpoint(rig->store), 0);
    mailstore_rig_settle(rig);
    assert_int_equal(mailstore_expunge(rig->store, box, &expunge, told_init(&told)), 0);
    mailstore_rig_settle(rig);
    assert_int_equal(mailstore_state(rig->store), -EIO);
    assert_false(told.done);
    leave(rig, box);
    mailstore_rig_crash(rig);
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_int_equal(mailstore_counters(rig->store)->rebuilds, 1);
    box = box_of(rig, user_of(rig, "ann"), "INBOX");
    assert_int_equal(box->count, 19);
    assert_int_equal(box->entries[0].uid, 2);
    leave(rig, box);
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(a_start_reads_what_the_index_does_not_have),
        SCENE(what_follows_the_index_is_done_again_and_counted),
        SCENE(a_start_that_was_broken_off_is_no_loss_to_the_next),
        SCENE(a_segment_that_the_index_stands_for_need_not_be_read),
        SCENE(an_index_that_fails_while_the_log_is_read_is_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
