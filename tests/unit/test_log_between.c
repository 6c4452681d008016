/* What forbids that a segment between others is freed, and in which order freed ones are destroyed. */
#include "queue/log/log_private.h"
#include "tests/unit/log_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* Segments 1 to `last`, something in each; the last one is appended to. */
static struct scene *scene_with_segments(uint64_t seed, uint32_t last)
{
    struct scene *scene = scene_open(seed);
    scene->rig.settings.recycled_count_max = 1;
    scene_start(scene);
    while (log_current_sequence(scene->rig.log) < last) {
        assert_non_null(scene_append(scene, 0, 60000));
        log_rig_settle(&scene->rig);
    }
    return scene;
}

static void a_segment_is_not_freed_while_another_that_it_speaks_of_is_in_use(void **state)
{
    (void)state;
    struct scene *scene = scene_with_segments(1, 6);
    struct log *log = scene->rig.log;
    log_segment_live(log, 4)->kept_for = 2;
    assert_int_equal(log_free_segment(log, 4), -EBUSY);
    assert_int_equal(log_trim(log), 0);
    assert_int_equal(log_free_segment(log, 4), -EBUSY);
    assert_int_equal(log_trim(log), 0);
    assert_int_equal(log_free_segment(log, 4), 0);
    assert_null(log_segment_live(log, 4));
    assert_int_equal(log_counters(log)->segments_freed_between, 1);
    scene_close(scene);
}

static void the_newest_segment_is_not_freed_nor_one_that_is_read(void **state)
{
    (void)state;
    struct scene *scene = scene_with_segments(2, 4);
    struct log *log = scene->rig.log;
    assert_int_equal(log_free_segment(log, 4), -EBUSY);
    assert_int_equal(log_seal(log), 0);
    log_rig_settle(&scene->rig);
    assert_int_equal(log_free_segment(log, 4), -EBUSY);
    struct log_extent extent = {.length = scene->told[0].length};
    for (uint32_t i = 0; log_lsn_sequence(extent.lsn) < 2; i++) {
        extent.lsn = scene->told[i].lsn;
    }
    struct log_fetch fetch;
    assert_int_equal(log_fetch_begin(log, &extent, &fetch), 0);
    assert_int_equal(log_free_segment(log, 2), -EBUSY);
    log_fetch_end(log, &fetch);
    assert_int_equal(log_free_segment(log, 2), 0);
    scene_close(scene);
}

/* Whether what its owner has appended is where it will be cannot be said then. */
static void
no_segment_between_others_is_freed_after_a_failed_write_until_all_is_in_its_place(void **state)
{
    (void)state;
    uint32_t draining = 0, waiting = 0, broken = 0;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct scene *scene = scene_with_segments(seed, 4);
        struct log *log = scene->rig.log;
        uint64_t now_ns = scene->rig.now_ns;
        for (int i = 0; i < 10; i++) {
            scene_append(scene, i % 2 == 0 ? LOG_KEPT | LOG_RESERVED : 0, 60000);
        }
        disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, seed % 2 == 0 ? 1 : 8, -EIO);
        log_flush(log);
        for (int i = 0; i < 8000; i++) {
            scene->rig.disk->ops->reap(scene->rig.disk);
            bool waits = log->stash.used < log->stash.size;
            if (log->state != LOG_RUNNING || waits) {
                assert_false(log_is_orderly(log));
                assert_int_equal(log_free_segment(log, 2), -EBUSY);
            }
            draining += log->state == LOG_DRAINING && !waits;
            broken += log->state == LOG_BROKEN;
            waiting += log->state == LOG_RUNNING && waits;
            log_round(log, now_ns += 1000000);
            log_flush(log);
        }
        assert_true(log_is_orderly(log));
        assert_int_equal(log_free_segment(log, 2), 0);
        scene->rig.now_ns = now_ns;
        scene_close(scene);
    }
    assert_true(draining > 0 && waiting > 0 && broken > 0);
}

/* So much that it fills more than the segment that says what is void. */
static void segments_with_what_was_appended_again_are_kept_until_they_are_the_oldest(void **state)
{
    (void)state;
    struct scene *scene = scene_with_segments(4, 3);
    struct log *log = scene->rig.log;
    for (int i = 0; i < 48; i++) {
        assert_non_null(scene_append(scene, LOG_KEPT | LOG_RESERVED, 60000));
    }
    disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    log_flush(log);
    log_rig_settle(&scene->rig);
    uint32_t first = 5, last = log_current_sequence(log);
    assert_true(last >= 6);
    assert_int_equal(log_seal(log), 0);
    scene_append(scene, 0, 100);
    log_rig_settle(&scene->rig);
    for (uint32_t sequence = first; sequence <= last; sequence++) {
        assert_int_equal(log_segment_live(log, sequence)->kept_for, sequence - 1);
        assert_int_equal(log_free_segment(log, sequence), -EBUSY);
    }
    scene_close(scene);
}

/* From the oldest on, though one cannot be removed for a while. */
static void freed_segments_are_destroyed_in_order_when_a_removal_fails(void **state)
{
    (void)state;
    uint32_t some_were_destroyed = 0;
    for (uint64_t seed = 20; seed < 60; seed++) {
        struct scene *scene = scene_with_segments(seed, 12);
        disk_fault_fail(scene->rig.fault, DISK_FAULT_REMOVE, seed % 4, 1, -EIO);
        for (uint32_t sequence = 2; sequence < 10; sequence++) {
            assert_int_equal(log_free_segment(scene->rig.log, sequence), 0);
        }
        for (uint32_t rounds = scene_below(scene, 40) + (seed % 2) * 1000; rounds > 0; rounds--) {
            log_rig_round(&scene->rig);
        }
        log_rig_crash(&scene->rig);
        scene_start(scene);
        uint32_t oldest = 10;
        for (uint32_t i = 0; i < scene->count; i++) {
            uint32_t sequence = log_lsn_sequence(scene->told[i].lsn);
            oldest = sequence > 1 && scene->found[i] && sequence < oldest ? sequence : oldest;
        }
        for (uint32_t i = 0; i < scene->count; i++) {
            uint32_t sequence = log_lsn_sequence(scene->told[i].lsn);
            assert_int_equal(scene->found[i], sequence == 1 || sequence >= oldest);
        }
        some_were_destroyed += oldest > 2;
        scene_close(scene);
    }
    assert_true(some_were_destroyed > 5);
}

static void a_file_that_cannot_be_removed_is_tried_once_a_second(void **state)
{
    (void)state;
    struct scene *scene = scene_with_segments(5, 8);
    disk_fault_fail(scene->rig.fault, DISK_FAULT_REMOVE, 0, 1000, -EIO);
    for (uint32_t sequence = 2; sequence < 7; sequence++) {
        assert_int_equal(log_free_segment(scene->rig.log, sequence), 0);
    }
    uint64_t removes = disk_fault_counters(scene->rig.fault)->removes;
    for (int i = 0; i < 5000; i++) {
        log_rig_round(&scene->rig);
    }
    removes = disk_fault_counters(scene->rig.fault)->removes - removes;
    assert_true(removes >= 4 && removes <= 6);
    disk_fault_fail(scene->rig.fault, DISK_FAULT_REMOVE, 0, 0, 0);
    for (int i = 0; i < 2000; i++) {
        log_rig_round(&scene->rig);
    }
    assert_int_equal(scene->rig.log->suspect_count, 0);
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_is_not_freed_while_another_that_it_speaks_of_is_in_use),
        cmocka_unit_test(the_newest_segment_is_not_freed_nor_one_that_is_read),
        cmocka_unit_test(
            no_segment_between_others_is_freed_after_a_failed_write_until_all_is_in_its_place),
        cmocka_unit_test(segments_with_what_was_appended_again_are_kept_until_they_are_the_oldest),
        cmocka_unit_test(freed_segments_are_destroyed_in_order_when_a_removal_fails),
        cmocka_unit_test(a_file_that_cannot_be_removed_is_tried_once_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
