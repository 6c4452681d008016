/* A start that begins at a place in the log: what lies before is not read, and is there all the same. */
#include "tests/unit/log_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define RECORD_BYTES 50000u

struct found {
    uint64_t first, last;
    uint32_t count;
};

static int record_found(void *owner, const struct log_record *record)
{
    struct found *found = (struct found *)owner;
    assert_true(record->lsn > found->last);
    found->first = found->count++ == 0 ? record->lsn : found->first;
    found->last = record->lsn;
    return 0;
}

static void start_from(struct scene *scene, uint64_t lsn, struct found *found)
{
    const struct log_visitor visitor = {.from = lsn, .record = record_found, .owner = found};
    *found = (struct found){0};
    assert_int_equal(log_rig_start(&scene->rig, &visitor), 0);
}

/* So many segments are begun, all durable. */
static struct scene *segments_fill(uint64_t seed, uint32_t count)
{
    struct scene *scene = scene_open(seed);
    scene_start(scene);
    while (log_current_sequence(scene->rig.log) < count) {
        assert_non_null(scene_append(scene, 0, RECORD_BYTES));
        log_rig_settle(&scene->rig);
    }
    return scene;
}

static uint32_t count_from(const struct scene *scene, uint32_t sequence)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < scene->count; i++) {
        count += log_lsn_sequence(scene->told[i].lsn) >= sequence;
    }
    return count;
}

static bool record_is_there(struct scene *scene, const struct told *told)
{
    static uint8_t memory[LOG_FRAME_BYTES];
    struct log_extent extent = {.lsn = told->lsn, .length = told->length};
    struct log_fetch fetch;
    struct slice content;
    assert_int_equal(log_fetch_begin(scene->rig.log, &extent, &fetch), 0);
    uint64_t bytes = 0;
    char name[32];
    snprintf(name, sizeof(name), "3/%08u.segment", log_lsn_sequence(told->lsn));
    memcpy(memory, disk_fault_bytes(scene->rig.fault, name, &bytes) + fetch.offset, fetch.bytes);
    int status = log_fetch_verify(scene->rig.log, &fetch, memory, &content);
    log_fetch_end(scene->rig.log, &fetch);
    scene_fill(scene->content, told->tag, told->length);
    return status == 0 && memcmp(content.bytes, scene->content, told->length) == 0;
}

static void segments_before_the_place_are_not_read(void **state)
{
    struct found found;
    (void)state;
    struct scene *scene = segments_fill(21, 8);
    const uint64_t segment = scene->rig.settings.segment_bytes;
    uint64_t from = scene->told[scene->count - count_from(scene, 6) + 5].lsn;
    log_rig_crash(&scene->rig);
    start_from(scene, 0, &found);
    assert_int_equal(found.count, scene->count);
    uint64_t all = log_counters(scene->rig.log)->scanned_bytes;
    log_rig_crash(&scene->rig);

    uint64_t before = disk_fault_counters(scene->rig.fault)->read_bytes;
    start_from(scene, from, &found);
    uint64_t read = disk_fault_counters(scene->rig.fault)->read_bytes - before;
    uint64_t headers = 32 * 2 * DISK_BLOCK_BYTES; /* two blocks of each file */
    assert_true(log_counters(scene->rig.log)->scanned_bytes == all - 5 * segment);
    assert_true(read <= all - 5 * segment + headers);
    assert_int_equal(log_lsn_sequence(found.first), 6);
    assert_true(found.first < from);
    assert_int_equal(found.count, count_from(scene, 6));
    assert_true(record_is_there(scene, &scene->told[0]));

    struct told *more = scene_append(scene, 0, RECORD_BYTES);
    assert_non_null(more);
    log_rig_settle(&scene->rig);
    assert_true(more->done && more->status == 0);
    log_rig_crash(&scene->rig);
    start_from(scene, 0, &found);
    assert_int_equal(found.count, scene->count);
    scene_close(scene);
}

static void a_segment_that_was_not_read_is_freed_as_ever(void **state)
{
    struct found found;
    (void)state;
    struct scene *scene = segments_fill(22, 5);
    log_rig_crash(&scene->rig);
    start_from(scene, (uint64_t)4 << 32, &found);
    assert_int_equal(log_head_sequence(scene->rig.log), 1);
    assert_int_equal(log_free_segment(scene->rig.log, 2), 0);
    assert_int_equal(log_trim(scene->rig.log), 0);
    assert_int_equal(log_head_sequence(scene->rig.log), 3);
    for (uint32_t i = 0; i < 100; i++) {
        assert_non_null(scene_append(scene, 0, RECORD_BYTES));
        log_rig_settle(&scene->rig);
    }
    assert_true(log_counters(scene->rig.log)->segments_recycled > 0);
    log_rig_crash(&scene->rig);
    start_from(scene, 0, &found);
    assert_int_equal(found.count, count_from(scene, 3));
    scene_close(scene);
}

static void a_place_behind_the_end_leaves_the_newest_to_be_read(void **state)
{
    struct found found;
    (void)state;
    struct scene *scene = segments_fill(23, 4);
    log_rig_crash(&scene->rig);
    start_from(scene, (uint64_t)1000 << 32, &found);
    assert_true(log_counters(scene->rig.log)->scanned_bytes == scene->rig.settings.segment_bytes);
    assert_true(record_is_there(scene, &scene->told[scene->count - 1]));
    assert_non_null(scene_append(scene, 0, RECORD_BYTES));
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    start_from(scene, 0, &found);
    assert_int_equal(found.count, scene->count);
    scene_close(scene);
}

/* A segment of which all is void holds nothing, read or not. */
static void what_is_void_before_the_place_stays_void(void **state)
{
    struct found found;
    (void)state;
    struct scene *scene = segments_fill(24, 2);
    uint32_t refused = 0;
    while (log_current_sequence(scene->rig.log) < 8) {
        disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, scene_below(scene, 20), 1, -EIO);
        for (uint32_t i = 0; i < 20; i++) {
            scene_append(scene, 0, RECORD_BYTES);
            log_rig_settle(&scene->rig);
        }
    }
    disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 0, 0);
    scene_append(scene, 0, RECORD_BYTES);
    log_rig_settle(&scene->rig);
    for (uint32_t i = 0; i < scene->count; i++) {
        refused += scene->told[i].status != 0;
    }
    assert_true(refused > 0);
    log_rig_crash(&scene->rig);
    start_from(scene, (uint64_t)8 << 32, &found);
    for (uint32_t i = 0; i < scene->count; i++) {
        assert_true(scene->told[i].status == 0 || log_is_void(scene->rig.log, scene->told[i].lsn));
    }
    log_rig_crash(&scene->rig);
    start_from(scene, 0, &found);
    assert_int_equal(found.count, scene->count - refused);
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_before_the_place_are_not_read),
        cmocka_unit_test(a_segment_that_was_not_read_is_freed_as_ever),
        cmocka_unit_test(a_place_behind_the_end_leaves_the_newest_to_be_read),
        cmocka_unit_test(what_is_void_before_the_place_stays_void),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
