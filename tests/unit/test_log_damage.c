/* What a start makes of a log that is damaged. */
#include "queue/log/log_private.h"
#include "tests/unit/log_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void damage_in_the_middle_is_reported_and_what_follows_is_kept(void **state)
{
    (void)state;
    struct scene *scene = scene_open(8);
    scene_start(scene);
    for (int i = 0; i < 50; i++) {
        scene_append(scene, 0, 4000);
        log_rig_settle(&scene->rig);
    }
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    uint32_t at = lsn_offset(scene->told[20].lsn);
    file[at + 500] ^= 4;
    scene_start(scene);
    assert_int_equal(scene->found_count, 49);
    assert_false(scene->found[20]);
    assert_true(scene->damaged_bytes >= 4000 && scene->damaged_bytes <= 8192);
    scene_close(scene);
}

/* Many notes share a block: they were all lost with one of them. */
static void a_flipped_bit_costs_its_record_and_no_other(void **state)
{
    (void)state;
    struct scene *scene = scene_open(22);
    scene_start(scene);
    for (int i = 0; i < 60; i++) {
        assert_non_null(scene_append(scene, 0, 8));
    }
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    uint32_t at = lsn_offset(scene->told[20].lsn);
    uint32_t record = lsn_offset(scene->told[21].lsn) - at;
    assert_int_equal(lsn_offset(scene->told[59].lsn) / DISK_BLOCK_BYTES, at / DISK_BLOCK_BYTES);
    for (uint32_t bit = 0; bit < record * 8; bit++) {
        uint64_t bytes;
        uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
        file[at + bit / 8] ^= (uint8_t)(1 << bit % 8);
        scene->damaged_bytes = 0;
        scene_start(scene);
        assert_int_equal(scene->found_count, 59);
        assert_false(scene->found[20]);
        assert_int_equal(scene->damaged_bytes, 0); /* one write: never said to be durable */
        log_rig_crash(&scene->rig);
        file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
        file[at + bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    scene_close(scene);
}

static void a_lost_sector_costs_the_records_that_it_holds(void **state)
{
    (void)state;
    struct scene *scene = scene_open(23);
    scene_start(scene);
    for (int i = 0; i < 60; i++) {
        assert_non_null(scene_append(scene, 0, 8));
    }
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    uint32_t sector = lsn_offset(scene->told[20].lsn) & ~511u;
    memset(file + sector, 0, 512);
    scene_start(scene);
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t at = lsn_offset(scene->told[i].lsn);
        bool lies_apart = at + sizeof(struct record_header) + 8 <= sector || at >= sector + 512;
        assert_int_equal(scene->found[i], lies_apart);
    }
    scene_close(scene);
}

/* Its sender may know how records look, and where his mail will lie, but not the log's id. */
static void a_damaged_body_brings_no_record_of_its_own(void **state)
{
    (void)state;
    struct scene *scene = scene_open(24);
    scene_start(scene);
    assert_non_null(scene_append(scene, 0, 8));
    uint8_t body[4 * sizeof(struct record_header)];
    uint64_t lsn = scene->told[0].lsn + record_bytes(8);
    struct record_header forged = {.lsn = lsn + 2 * sizeof(forged), .type = TYPE_MAIL, .tag = 0};
    uint64_t other_id = 0x1234;
    forged.crc = record_crc(record_seed(other_id), &forged);
    memset(body, 0xff, sizeof(body));
    memcpy(body + sizeof(forged), &forged, sizeof(forged));
    struct slice part = slice_of(body, sizeof(body));
    struct log_head head = {.type = TYPE_MAIL, .tag = 1};
    struct log_extent extent;
    assert_int_equal(log_append(scene->rig.log, &head, &part, 1, &extent), 0);
    assert_int_equal(extent.lsn, lsn);
    scene->count++;
    assert_non_null(scene_append(scene, 0, 8));
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    file[lsn_offset(lsn) + sizeof(struct record_header)] ^= 1;
    scene_start(scene);
    assert_int_equal(scene->found_count, 2);
    assert_true(scene->found[0] && scene->found[2]);
    scene_close(scene);
}

static void a_segment_whose_header_is_lost_is_placed_by_its_records(void **state)
{
    (void)state;
    struct scene *scene = scene_open(9);
    scene_start(scene);
    while (log_current_sequence(scene->rig.log) < 4) {
        scene_append(scene, 0, 50000);
        log_rig_settle(&scene->rig);
    }
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    disk_fault_bytes(scene->rig.fault, "3/00000002.segment", &bytes)[9] ^= 1;
    scene_start(scene);
    assert_int_equal(scene->found_count, scene->count);
    scene_close(scene);
}

static void any_bytes_in_a_segment_are_survived(void **state)
{
    (void)state;
    struct scene *scene = scene_open(16);
    scene_start(scene);
    while (log_current_sequence(scene->rig.log) < 3) {
        scene_append(scene, 0, scene_below(scene, 20000));
        log_rig_settle(&scene->rig);
    }
    log_rig_crash(&scene->rig);
    for (int round = 0; round < 30; round++) {
        for (uint32_t i = 0; disk_fault_name(scene->rig.fault, i) != NULL; i++) {
            uint64_t bytes;
            uint8_t *file =
                disk_fault_bytes(scene->rig.fault, disk_fault_name(scene->rig.fault, i), &bytes);
            for (int flips = 0; flips < 20 && bytes > 0; flips++) {
                file[scene_below(scene, (uint32_t)bytes)] ^= (uint8_t)(1 + scene_below(scene, 255));
            }
        }
        scene_start(scene);
        log_rig_crash(&scene->rig);
    }
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_in_the_middle_is_reported_and_what_follows_is_kept),
        cmocka_unit_test(a_flipped_bit_costs_its_record_and_no_other),
        cmocka_unit_test(a_lost_sector_costs_the_records_that_it_holds),
        cmocka_unit_test(a_damaged_body_brings_no_record_of_its_own),
        cmocka_unit_test(a_segment_whose_header_is_lost_is_placed_by_its_records),
        cmocka_unit_test(any_bytes_in_a_segment_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
