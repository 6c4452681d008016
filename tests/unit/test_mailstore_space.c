#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* ── Restart ─────────────────────────────────────────────────────────────────────────────────── */

static void all_is_there_after_a_restart_with_and_without_the_index(void **state)
{
    struct mailstore_rig *rig = *state;
    deliver(rig, "ann", 70);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    struct slice name = slice_text("work");
    struct mailstore_flags flags = {.flags = MAILSTORE_FLAGGED,
                                    .keywords = &name,
                                    .keyword_count = 1,
                                    .unchanged_since = MAILSTORE_ALWAYS};
    assert_int_equal(flag(rig, box, 10, 40, &flags), 0);
    assert_int_equal(expunge(rig, box, 20, 30), 0);
    assert_int_equal(create(rig, box->user, "Sent"), 0);
    leave(rig, box);
    char *before = rig_dump(rig);
    restart(rig, true);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(after);
    restart(rig, false);
    assert_int_equal(mailstore_counters(rig->store)->rebuilds, 1);
    after = rig_dump(rig);
    assert_string_equal(before, after);
    free(after);
    free(before);
    box = box_of(rig, user_of(rig, "ann"), "INBOX");
    for (uint32_t i = 0; i < box->count; i++) {
        uint32_t uid = box->entries[i].uid;
        assert_true(rig_text_is(rig, box->entries[i].text, uid, 99 + uid));
    }
    leave(rig, box);
}

static void an_index_of_an_earlier_day_is_not_believed_when_the_log_was_cleaned(void **state)
{
    (void)state;
    struct mailstore_rig *rig = (struct mailstore_rig *)*state;
    char command[300], copy[128];
    snprintf(copy, sizeof(copy), "%s.old", rig->index);
    rig->settings.clean_bytes_min = 1;
    restart(rig, true);
    deliver(rig, "ann", 5);
    restart(rig, true);
    snprintf(command, sizeof(command), "cp %s %s", rig->index, copy);
    assert_int_equal(system(command), 0);
    struct mailstore_place place = {0};
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(rig_deliver(rig, "bob", "", 100 + i, 200000, &place), 0);
        struct mailstore_box *box = box_of(rig, user_of(rig, "bob"), "INBOX");
        assert_int_equal(expunge(rig, box, 1, UINT32_MAX), 0);
        leave(rig, box);
    }
    mailstore_rig_settle(rig);
    assert_true(mailstore_counters(rig->store)->segments_cleaned > 0);
    char *before = rig_dump(rig);
    mailstore_rig_stop(rig);
    snprintf(command, sizeof(command), "mv %s %s", copy, rig->index);
    assert_int_equal(system(command), 0);
    assert_int_equal(mailstore_rig_start(rig), 0);
    assert_int_equal(mailstore_counters(rig->store)->rebuilds, 1);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void a_damaged_index_is_made_anew(void **state)
{
    struct mailstore_rig *rig = *state;
    deliver(rig, "ann", 40);
    char *before = rig_dump(rig);
    mailstore_rig_stop(rig);
    FILE *file = fopen(rig->index, "w");
    fputs("this is no index", file);
    fclose(file);
    assert_int_equal(mailstore_rig_start(rig), 0);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

/* ── Space ───────────────────────────────────────────────────────────────────────────────────── */

static void space_comes_back_while_old_mail_stays(void **state)
{
    struct mailstore_rig *rig = *state;
    struct mailstore_place place = {0};
    rig->settings.clean_bytes_min = 1;
    restart(rig, true);
    deliver(rig, "old", 20);
    for (uint32_t i = 0; i < 600; i++) {
        assert_int_equal(rig_deliver(rig, "pop", "", i, 100000, &place), 0);
        struct mailstore_box *box = box_of(rig, user_of(rig, "pop"), "INBOX");
        assert_int_equal(expunge(rig, box, 1, UINT32_MAX), 0);
        leave(rig, box);
        if (i % 10 == 0) {
            assert_int_equal(rig_deliver(rig, "old", "", 1000 + i, 3000, &place), 0);
        }
    }
    mailstore_rig_settle(rig);
    assert_true(log_used_bytes(rig->rig.log) <= 8ull * rig->rig.settings.segment_bytes);
    assert_true(mailstore_counters(rig->store)->segments_cleaned > 15);
    char *before = rig_dump(rig);
    restart(rig, false);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
    struct mailstore_box *box = box_of(rig, user_of(rig, "old"), "INBOX");
    assert_int_equal(box->count, 80);
    for (uint32_t i = 0; i < 60; i++) {
        assert_true(rig_text_is(rig, box->entries[20 + i].text, 1000 + i * 10, 3000));
    }
    leave(rig, box);
}

static void changes_of_flags_alone_do_not_fill_the_log(void **state)
{
    struct mailstore_rig *rig = *state;
    rig->settings.clean_bytes_min = 1;
    restart(rig, true);
    deliver(rig, "ann", 200);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    struct mailstore_uids uids[200];
    for (uint32_t i = 0; i < 200; i++) {
        uids[i] = (struct mailstore_uids){i + 1, i + 1};
    }
    for (uint32_t i = 0; i < 20000; i++) {
        struct told told;
        struct mailstore_flags flags = {.uids = uids,
                                        .uid_count = 200,
                                        .op = i % 2 == 0 ? MAILSTORE_ADD : MAILSTORE_REMOVE,
                                        .flags = MAILSTORE_SEEN,
                                        .unchanged_since = MAILSTORE_ALWAYS};
        assert_int_equal(mailstore_flags(rig->store, box, &flags, told_init(&told)), 0);
        assert_int_equal(told_wait(rig, &told), 0);
    }
    leave(rig, box);
    mailstore_rig_settle(rig);
    assert_true(mailstore_counters(rig->store)->snapshots > 10);
    assert_true(log_used_bytes(rig->rig.log) <= 10ull * rig->rig.settings.segment_bytes);
    char *before = rig_dump(rig);
    restart(rig, false);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

/* ── Large ones ──────────────────────────────────────────────────────────────────────────────── */

static void a_change_larger_than_a_record_is_whole_or_not_at_all(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    deliver(rig, "ann", 1);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    struct mailstore_uids uids = {1, UINT32_MAX};
    for (int i = 0; i < 14; i++) { /* 16,384 messages */
        struct mailstore_copy copy = {
            .uids = &uids, .uid_count = 1, .mailbox = slice_text("INBOX")};
        assert_int_equal(mailstore_copy(rig->store, box, &copy, told_init(&told)), 0);
        assert_int_equal(told_wait(rig, &told), 0);
        free(copy.sources);
    }
    assert_int_equal(box->count, 1 << 14);
    leave(rig, box);
    char *before = rig_dump(rig);
    restart(rig, false);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void the_parts_of_a_large_change_are_carried_when_their_segment_is_freed(void **state)
{
    struct mailstore_rig *rig = *state;
    struct told told;
    rig->settings.clean_bytes_min = 1;
    restart(rig, true);
    deliver(rig, "ann", 1);
    struct mailstore_box *box = box_of(rig, user_of(rig, "ann"), "INBOX");
    struct mailstore_uids uids = {1, UINT32_MAX};
    for (uint32_t i = 0; i < 14; i++) {
        struct mailstore_copy copy = {
            .uids = &uids, .uid_count = 1, .mailbox = slice_text("INBOX")};
        assert_int_equal(mailstore_copy(rig->store, box, &copy, told_init(&told)), 0);
        assert_int_equal(told_wait(rig, &told), 0);
        free(copy.sources);
    }
    leave(rig, box);
    for (uint32_t i = 0; i < 100; i++) { /* what lies beside them is dead soon */
        struct mailstore_place place = {0};
        assert_int_equal(rig_deliver(rig, "pop", "", i, 200000, &place), 0);
        box = box_of(rig, user_of(rig, "pop"), "INBOX");
        assert_int_equal(expunge(rig, box, 1, UINT32_MAX), 0);
        leave(rig, box);
    }
    mailstore_rig_settle(rig);
    assert_true(mailstore_counters(rig->store)->carried_records > 0);
    char *before = rig_dump(rig);
    restart(rig, false);
    char *after = rig_dump(rig);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, mailstore_scene_open, mailstore_scene_close)
    const struct CMUnitTest tests[] = {
        SCENE(all_is_there_after_a_restart_with_and_without_the_index),
        SCENE(an_index_of_an_earlier_day_is_not_believed_when_the_log_was_cleaned),
        SCENE(a_damaged_index_is_made_anew),
        SCENE(space_comes_back_while_old_mail_stays),
        SCENE(changes_of_flags_alone_do_not_fill_the_log),
        SCENE(a_change_larger_than_a_record_is_whole_or_not_at_all),
        SCENE(the_parts_of_a_large_change_are_carried_when_their_segment_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
