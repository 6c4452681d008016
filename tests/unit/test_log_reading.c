/* A log as it is at a moment, read while its own thread goes on. */
#include "queue/log/log_reading.h"
#include "tests/unit/log_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define RECORD_BYTES 50000u

struct found {
    struct scene *scene;
    uint32_t count;
    int answer; /* to the next record */
};

static int record_found(void *owner, const struct log_record *record)
{
    struct found *found = (struct found *)owner;
    const struct told *told = &found->scene->told[found->count++];
    assert_true(record->lsn == told->lsn && record->tag == told->tag);
    scene_fill(found->scene->content, told->tag, told->length);
    assert_true(slice_equal(record->content, slice_of(found->scene->content, told->length)));
    return found->answer;
}

static void append(struct scene *scene, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_non_null(scene_append(scene, 0, RECORD_BYTES));
        log_rig_settle(&scene->rig);
    }
}

static int scan(struct scene *scene, const struct log_reading *reading, struct found *found,
                struct log_reading_result *result)
{
    const struct log_visitor visitor = {.record = record_found, .owner = found};
    const struct log_folder_source source = {
        .disk = scene->rig.disk,
        .memory = aligned_alloc(DISK_BLOCK_BYTES, LOG_FOLDER_MEMORY_BYTES),
        .memory_bytes = LOG_FOLDER_MEMORY_BYTES};
    found->scene = scene;
    found->count = 0;
    assert_non_null(source.memory);
    int status = log_reading_scan(reading, &source, &visitor, result);
    free(source.memory);
    return status;
}

static void what_comes_later_is_not_part_of_it(void **state)
{
    struct found found = {.answer = 0};
    struct log_reading_result result;
    struct log_reading *reading, *other;
    (void)state;
    struct scene *scene = scene_open(31);
    scene_start(scene);
    append(scene, 130); /* some segments, and the beginning of one */
    uint32_t count = scene->count;
    assert_int_equal(log_reading_begin(scene->rig.log, &reading), 0);
    assert_int_equal(log_reading_begin(scene->rig.log, &other), -EBUSY);
    assert_true(log_reading_is_written(scene->rig.log, reading));
    append(scene, 60);
    assert_int_equal(scan(scene, reading, &found, &result), 0);
    assert_int_equal(found.count, count);
    assert_int_equal(result.scanned_bytes, reading->bytes);
    assert_int_equal(result.damaged_bytes + result.torn_bytes + result.unread_bytes, 0);
    found.answer = -ECANCELED;
    assert_int_equal(scan(scene, reading, &found, &result), -ECANCELED);
    assert_int_equal(found.count, 1);
    log_reading_end(scene->rig.log);
    free(reading);
    scene_close(scene);
}

static void it_is_written_when_all_that_was_appended_is(void **state)
{
    struct log_reading *reading;
    (void)state;
    struct scene *scene = scene_open(32);
    scene_start(scene);
    assert_non_null(scene_append(scene, 0, RECORD_BYTES));
    assert_int_equal(log_reading_begin(scene->rig.log, &reading), 0);
    assert_false(log_reading_is_written(scene->rig.log, reading));
    log_rig_settle(&scene->rig);
    assert_true(log_reading_is_written(scene->rig.log, reading));
    log_reading_end(scene->rig.log);
    free(reading);
    scene_close(scene);
}

static void its_segments_are_freed_when_it_has_ended_and_others_at_once(void **state)
{
    struct log_reading *reading;
    (void)state;
    struct scene *scene = scene_open(33);
    struct log *log;
    scene_start(scene);
    log = scene->rig.log;
    append(scene, 130);
    uint32_t last = log_current_sequence(log);
    assert_int_equal(log_reading_begin(log, &reading), 0);
    append(scene, 100);
    assert_true(log_current_sequence(log) > last + 1);
    assert_true(log_reading_keeps(log, last));
    assert_false(log_reading_keeps(log, last + 1));
    assert_int_equal(log_trim(log), -EBUSY);
    assert_int_equal(log_free_segment(log, last), -EBUSY);
    assert_int_equal(log_free_segment(log, last + 1), 0);
    log_reading_end(log);
    assert_int_equal(log_free_segment(log, last), 0);
    assert_int_equal(log_trim(log), 0);
    log_rig_settle(&scene->rig);
    free(reading);
    scene_close(scene);
}

static void a_segment_that_is_not_there_is_an_error(void **state)
{
    struct found found = {.answer = 0};
    struct log_reading_result result;
    struct log_reading *reading;
    (void)state;
    struct scene *scene = scene_open(34);
    scene_start(scene);
    append(scene, 130);
    assert_int_equal(log_reading_begin(scene->rig.log, &reading), 0);
    reading->segments[1].number = 999; /* gone */
    assert_true(scan(scene, reading, &found, &result) < 0);
    assert_true(found.count > 0 && found.count < scene->count);
    log_reading_end(scene->rig.log);
    free(reading);
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_later_is_not_part_of_it),
        cmocka_unit_test(it_is_written_when_all_that_was_appended_is),
        cmocka_unit_test(its_segments_are_freed_when_it_has_ended_and_others_at_once),
        cmocka_unit_test(a_segment_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
