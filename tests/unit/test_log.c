#include "queue/log/log_private.h"
#include "tests/unit/log_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* ── Tests ───────────────────────────────────────────────────────────────────────────────────── */

static void a_waiter_runs_when_its_bytes_are_durable_and_not_before(void **state)
{
    (void)state;
    struct scene *scene = scene_open(1);
    scene->rig.fault_settings.late_percent = 0;
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    scene_start(scene);
    struct told *told = scene_append(scene, 0, 1000);
    assert_non_null(told);
    disk_fault_hold(scene->rig.fault, true);
    log_rig_round(&scene->rig);
    log_rig_round(&scene->rig);
    assert_false(told->done);
    disk_fault_hold(scene->rig.fault, false);
    log_rig_round(&scene->rig);
    assert_true(told->done);
    assert_int_equal(told->status, 0);
    scene_close(scene);
}

static void what_is_durable_is_found_after_a_crash(void **state)
{
    (void)state;
    struct scene *scene = scene_open(2);
    scene_start(scene);
    for (int i = 0; i < 100; i++) {
        assert_non_null(scene_append(scene, 0, 100 + (uint32_t)i * 37));
    }
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    scene_start(scene);
    assert_int_equal(scene->found_count, 100);
    assert_int_equal(scene->damaged_bytes, 0);
    scene_close(scene);
}

/* Whichever reads of a start fail: it is refused, or what comes after it leaves alone what could not be
 * read. */
static void reads_that_fail_at_a_start_cost_no_mail(void **state)
{
    static const uint32_t failing[] = {1, 2, 8, 40, UINT32_MAX};
    unsigned refused = 0, served = 0;
    (void)state;
    for (uint32_t i = 0; i < 5 * 30; i++) {
        struct scene *scene = scene_open(100 + i);
        scene_start(scene);
        for (unsigned j = 0; j < 40; j++) {
            assert_non_null(scene_append(scene, 0, 60000));
            log_rig_settle(&scene->rig);
        }
        log_rig_crash(&scene->rig);
        disk_fault_fail(scene->rig.fault, DISK_FAULT_READ, i / 5, failing[i % 5], -EIO);
        int status = log_rig_start(&scene->rig, NULL);
        disk_fault_fail(scene->rig.fault, DISK_FAULT_READ, 0, 0, 0);
        refused += status < 0;
        served += status == 0;
        for (unsigned j = 0; j < 60 && status == 0; j++) {
            scene_append(scene, 0, 60000);
            log_rig_settle(&scene->rig);
        }
        if (status == 0) {
            log_rig_crash(&scene->rig);
        }
        scene_start(scene);
        assert_int_equal(scene->found_count, scene->count);
        scene_close(scene);
    }
    assert_true(refused > 0 && served > 0);
}

/* How many reads the disk had been asked for when the first record was looked at. */
struct asked {
    struct disk_fault *fault;
    uint64_t reads;
};

static int asked_record(void *owner, const struct log_record *record)
{
    struct asked *asked = owner;
    (void)record;
    asked->reads = asked->reads != 0 ? asked->reads : disk_fault_counters(asked->fault)->reads;
    return 0;
}

static void at_a_start_the_next_segment_is_being_read_while_one_is_looked_at(void **state)
{
    (void)state;
    struct scene *scene = scene_open(15);
    struct log_rig *rig = &scene->rig;
    const uint32_t whole_segment = rig->settings.segment_bytes >> 20; /* reads of 1 MiB */
    scene_start(scene);
    while (log_current_sequence(rig->log) < 2) {
        assert_non_null(scene_append(scene, 0, 60000));
        log_rig_settle(rig);
    }
    log_rig_crash(rig);
    assert_int_equal(log_open(&rig->log, &rig->settings), 0);
    uint64_t before = disk_fault_counters(rig->fault)->reads;
    struct asked asked = {.fault = rig->fault};
    const struct log_visitor visitor = {.record = asked_record, .owner = &asked};
    assert_int_equal(log_recover(rig->log, &visitor), 0);
    assert_true(asked.reads - before > whole_segment);
    scene_close(scene);
}

static void commits_share_a_write_while_one_is_in_flight(void **state)
{
    (void)state;
    struct scene *scene = scene_open(3);
    scene_start(scene);
    log_rig_settle(&scene->rig);
    uint64_t before = log_counters(scene->rig.log)->writes;
    scene_append(scene, 0, 100);
    disk_fault_hold(scene->rig.fault, true);
    log_rig_round(&scene->rig);
    for (int i = 0; i < 20; i++) {
        scene_append(scene, 0, 100);
        log_rig_round(&scene->rig);
    }
    disk_fault_hold(scene->rig.fault, false);
    log_rig_settle(&scene->rig);
    assert_int_equal(log_counters(scene->rig.log)->writes - before, 2);
    for (uint32_t i = 0; i < scene->count; i++) {
        assert_true(scene->told[i].done && scene->told[i].status == 0);
    }
    scene_close(scene);
}

static void body_bytes_grow_the_newest_record(void **state)
{
    (void)state;
    struct scene *scene = scene_open(4);
    scene_start(scene);
    struct log_head head = {.type = TYPE_MAIL, .flags = LOG_BODY, .tag = 0};
    struct log_extent first = {0}, next;
    scene_fill(scene->content, 0, 5000);
    uint8_t body[5000];
    memcpy(body, scene->content, sizeof(body));
    struct slice part = slice_of(body, sizeof(body));
    for (uint32_t at = 0; at < 5000; at += 100) {
        struct slice piece = slice_of(body, at + 100);
        assert_int_equal(log_room(scene->rig.log, 100, 0), 0);
        assert_int_equal(
            log_append_body(scene->rig.log, &head, &piece, 1, at, at > 0 ? &first : NULL, &next),
            100);
        assert_true(at == 0 || next.lsn == first.lsn);
        first = next;
    }
    assert_int_equal(first.length, 5000);
    scene->told[0] = (struct told){.tag = 0, .length = 5000};
    scene->count = 1;
    scene_append(scene, 0, 10);
    log_rig_settle(&scene->rig);
    struct slice content;
    struct ref *owner;
    assert_int_equal(log_read(scene->rig.log, &first, &content, &owner), 0);
    assert_true(slice_equal(content, part));
    ref_drop(owner);
    log_rig_crash(&scene->rig);
    scene_start(scene);
    assert_int_equal(scene->found_count, 2);
    scene_close(scene);
}

static void appends_wait_for_memory_and_are_told_of_room(void **state)
{
    (void)state;
    struct scene *scene = scene_open(5);
    scene_start(scene);
    disk_fault_hold(scene->rig.fault, true);
    while (scene_append(scene, 0, 60000) != NULL) {
        log_rig_round(&scene->rig);
    }
    assert_int_equal(log_room(scene->rig.log, 60000, 0), -EAGAIN);
    struct told room = {.waiter.done = told_done};
    log_when_room(scene->rig.log, &room.waiter);
    log_rig_round(&scene->rig);
    assert_false(room.done);
    disk_fault_hold(scene->rig.fault, false);
    log_rig_settle(&scene->rig);
    assert_true(room.done);
    assert_int_equal(log_room(scene->rig.log, 60000, 0), 0);
    scene_close(scene);
}

static void a_frame_that_is_read_is_not_used_again(void **state)
{
    (void)state;
    struct scene *scene = scene_open(6);
    scene_start(scene);
    struct told *told = scene_append(scene, 0, 3000);
    struct log_extent extent = {.lsn = told->lsn, .length = 3000};
    struct slice content;
    struct ref *owner;
    log_rig_settle(&scene->rig);
    assert_int_equal(log_read(scene->rig.log, &extent, &content, &owner), 0);
    for (int i = 0; i < 200; i++) {
        if (log_room(scene->rig.log, 60000, 0) == 0) {
            scene_append(scene, 0, 60000);
        }
        log_rig_settle(&scene->rig);
    }
    scene_fill(scene->content, told->tag, 3000);
    assert_memory_equal(content.bytes, scene->content, 3000);
    ref_drop(owner);
    for (int i = 0; i < 200; i++) {
        scene_append(scene, 0, 60000);
        log_rig_settle(&scene->rig);
    }
    assert_int_equal(log_read(scene->rig.log, &extent, &content, &owner), -ENOENT);
    scene_close(scene);
}

static void a_record_is_fetched_from_the_disk_and_verified(void **state)
{
    (void)state;
    struct scene *scene = scene_open(7);
    scene_start(scene);
    struct told *told = scene_append(scene, 0, 3000);
    struct log_extent extent = {.lsn = told->lsn, .length = 3000};
    log_rig_settle(&scene->rig);
    struct log_fetch fetch;
    struct slice content;
    assert_int_equal(log_fetch_begin(scene->rig.log, &extent, &fetch), 0);
    uint64_t bytes;
    uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    assert_non_null(file);
    uint8_t *memory = file + fetch.offset;
    assert_int_equal(log_fetch_verify(scene->rig.log, &fetch, memory, &content), 0);
    scene_fill(scene->content, told->tag, 3000);
    assert_memory_equal(content.bytes, scene->content, 3000);
    memory[100] ^= 1;
    assert_int_equal(log_fetch_verify(scene->rig.log, &fetch, memory, &content), -EIO);
    log_fetch_end(scene->rig.log, &fetch);
    scene_close(scene);
}

static void stale_records_of_a_recycled_segment_are_not_found(void **state)
{
    (void)state;
    struct scene *scene = scene_open(10);
    scene_start(scene);
    while (log_current_sequence(scene->rig.log) < 12) {
        scene_append(scene, 0, 30000);
        log_rig_settle(&scene->rig);
        while (log_head_sequence(scene->rig.log) + 1 < log_current_sequence(scene->rig.log) &&
               log_trim(scene->rig.log) == 0) {
        }
    }
    assert_true(log_counters(scene->rig.log)->segments_recycled > 5);
    assert_true(log_counters(scene->rig.log)->segments_prepared < 7);
    uint32_t head = log_head_sequence(scene->rig.log);
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    scene_start(scene);
    uint32_t oldest = UINT32_MAX;
    for (uint32_t i = 0; i < scene->count; i++) {
        if (log_lsn_sequence(scene->told[i].lsn) >= head) {
            assert_true(scene->found[i]);
        }
        if (scene->found[i] && log_lsn_sequence(scene->told[i].lsn) < oldest) {
            oldest = log_lsn_sequence(scene->told[i].lsn);
        }
    }
    /* Freed ones that were not written again may come back, but without a gap. */
    for (uint32_t i = 0; i < scene->count; i++) {
        assert_true(scene->found[i] == (log_lsn_sequence(scene->told[i].lsn) >= oldest));
    }
    scene_close(scene);
}

static void freed_segments_are_destroyed_in_order(void **state)
{
    (void)state;
    for (uint64_t seed = 40; seed < 60; seed++) {
        struct scene *scene = scene_open(seed);
        uint32_t last = 14 + scene_below(scene, 10);
        scene->rig.settings.recycled_count_max = 1 + scene_below(scene, 8);
        scene_start(scene);
        while (log_current_sequence(scene->rig.log) < last) {
            scene_append(scene, 0, 60000);
            log_rig_settle(&scene->rig);
            if (log_head_sequence(scene->rig.log) + 5 < log_current_sequence(scene->rig.log)) {
                for (int i = 0; i < 4; i++) {
                    assert_int_equal(log_trim(scene->rig.log), 0);
                }
            }
        }
        while (log_trim(scene->rig.log) == 0) {
        }
        for (uint32_t rounds = scene_below(scene, 12); rounds > 0; rounds--) {
            log_rig_round(&scene->rig);
        }
        log_rig_crash(&scene->rig);
        scene_start(scene);
        uint32_t oldest = UINT32_MAX;
        for (uint32_t i = 0; i < scene->count; i++) {
            uint32_t sequence = log_lsn_sequence(scene->told[i].lsn);
            oldest = scene->found[i] && sequence < oldest ? sequence : oldest;
        }
        for (uint32_t i = 0; i < scene->count; i++) {
            assert_true(scene->found[i] == (log_lsn_sequence(scene->told[i].lsn) >= oldest));
        }
        scene_close(scene);
    }
}

static void a_failed_write_voids_what_follows_and_a_new_segment_goes_on(void **state)
{
    (void)state;
    struct scene *scene = scene_open(11);
    scene_start(scene);
    struct told *before = scene_append(scene, 0, 1000);
    log_rig_settle(&scene->rig);
    disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    struct told *failed = scene_append(scene, 0, 1000);
    struct told *note = scene_append(scene, LOG_KEPT | LOG_RESERVED, 50);
    log_rig_settle(&scene->rig);
    assert_true(before->done && before->status == 0);
    assert_true(failed->done && failed->status == -EIO);
    struct told *after = scene_append(scene, 0, 1000);
    log_rig_settle(&scene->rig);
    assert_true(after->done && after->status == 0);
    struct log_extent extent = {.lsn = before->lsn, .length = 1000};
    struct slice content;
    struct ref *owner;
    assert_int_equal(log_read(scene->rig.log, &extent, &content, &owner), 0);
    ref_drop(owner);
    assert_true(log_is_void(scene->rig.log, failed->lsn));
    assert_false(log_is_void(scene->rig.log, before->lsn));
    log_rig_crash(&scene->rig);
    scene_start(scene);
    assert_true(scene->found[before->tag] && scene->found[note->tag] && scene->found[after->tag]);
    assert_false(scene->found[failed->tag]);
    scene_close(scene);
}

static void a_disk_that_keeps_failing_refuses_and_serves_again_when_it_can(void **state)
{
    (void)state;
    struct scene *scene = scene_open(12);
    scene_start(scene);
    scene_append(scene, 0, 1000);
    log_rig_settle(&scene->rig);
    disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 1000000, -EIO);
    struct told *failed = scene_append(scene, 0, 1000);
    struct told *note = scene_append(scene, LOG_KEPT | LOG_RESERVED, 50);
    for (int i = 0; i < 5000; i++) { /* five seconds */
        log_rig_round(&scene->rig);
    }
    assert_true(failed->done && failed->status == -EIO);
    assert_int_equal(log_room(scene->rig.log, 1000, 0), -EIO);
    /* It does not fill the disk with segments it cannot use. */
    assert_true(log_counters(scene->rig.log)->segments_prepared < 16);
    disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 0, 0);
    for (int i = 0; i < 3000; i++) {
        log_rig_round(&scene->rig);
    }
    struct told *after = scene_append(scene, 0, 1000);
    assert_non_null(after);
    log_rig_settle(&scene->rig);
    assert_true(after->done && after->status == 0);
    log_rig_crash(&scene->rig);
    scene_start(scene);
    assert_true(scene->found[0] && scene->found[note->tag] && scene->found[after->tag]);
    assert_false(scene->found[failed->tag]);
    scene_close(scene);
}

static void who_asked_for_a_late_answer_is_not_refused_what_a_crash_may_revive(void **state)
{
    uint32_t revived = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct scene *scene = scene_open(seed);
        scene_start(scene);
        log_refuse_late(scene->rig.log);
        scene_append(scene, 0, 1000);
        log_rig_settle(&scene->rig);
        disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 1000000, -EIO);
        struct told *failed = scene_append(scene, 0, 1000);
        for (int i = 0; i < 3000; i++) {
            log_rig_round(&scene->rig);
        }
        assert_true(log_is_broken(scene->rig.log));
        assert_false(failed->done);
        if (seed % 2 == 0) {
            disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 0, 0);
            for (int i = 0; i < 3000; i++) {
                log_rig_round(&scene->rig);
            }
            assert_true(failed->done && failed->status == -EIO);
        }
        log_rig_crash(&scene->rig);
        disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 0, 0);
        scene_start(scene);
        assert_true(scene->found[0]);
        assert_true(!scene->found[failed->tag] || !failed->done);
        revived += scene->found[failed->tag];
        scene_close(scene);
    }
    assert_true(revived > 0);
}

static void a_full_disk_refuses_mail_keeps_room_for_notes_and_recovers(void **state)
{
    (void)state;
    struct scene *scene = scene_open(13);
    scene->rig.fault_settings.capacity_bytes = 5 * 8 * LOG_FRAME_BYTES;
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    scene_start(scene);
    int result;
    while ((result = log_room(scene->rig.log, 50000, 0)) != -ENOSPC) {
        if (result == 0) {
            scene_append(scene, 0, 50000);
        }
        log_rig_settle(&scene->rig);
    }
    assert_true(log_is_short(scene->rig.log));
    for (int i = 0; i < 400; i++) {
        assert_non_null(scene_append(scene, LOG_KEPT | LOG_RESERVED, 1000));
        log_rig_settle(&scene->rig);
    }
    assert_int_equal(log_room(scene->rig.log, 50000, 0), -ENOSPC);
    log_rig_settle(&scene->rig);
    while (log_trim(scene->rig.log) == 0) {
    }
    log_rig_settle(&scene->rig);
    assert_int_equal(log_room(scene->rig.log, 50000, 0), 0);
    assert_false(log_is_short(scene->rig.log));
    scene_close(scene);
}

static void after_a_start_on_a_full_disk_old_records_are_there_and_mail_is_refused(void **state)
{
    (void)state;
    struct scene *scene = scene_open(14);
    scene_start(scene);
    scene_append(scene, 0, 5000);
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    scene->rig.fault_settings.capacity_bytes = 1;
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    scene_start(scene);
    assert_int_equal(scene->found_count, 1);
    /* The spares of before are recycled. */
    assert_int_equal(log_room(scene->rig.log, 5000, 0), 0);
    scene_close(scene);
}

static void a_folder_of_another_log_is_left_alone(void **state)
{
    (void)state;
    struct scene *scene = scene_open(15);
    scene_start(scene);
    scene_append(scene, 0, 5000);
    log_rig_settle(&scene->rig);
    uint64_t bytes;
    uint8_t *own = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    uint8_t *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, own, bytes);
    log_rig_crash(&scene->rig);
    struct segment_header header;
    memcpy(&header, copy, sizeof(header));
    header.log_id ^= 5;
    header.crc = crc32c(0, &header, offsetof(struct segment_header, crc));
    memcpy(copy, &header, sizeof(header));
    assert_int_equal(disk_fault_put(scene->rig.fault, "3/00000077.segment", slice_of(copy, bytes)),
                     0);
    scene_start(scene);
    assert_int_equal(scene->found_count, 1);
    log_rig_settle(&scene->rig);
    uint8_t *left = disk_fault_bytes(scene->rig.fault, "3/00000077.segment", &bytes);
    assert_non_null(left);
    assert_memory_equal(left, copy, bytes);
    free(copy);
    scene_close(scene);
}

/* Appends, fails, crashes and recovers by chance: nothing that was promised is ever missing, nothing
 * that was refused comes back, and no sequence is used twice. */
static void crash_rounds(uint64_t seed, enum log_durability durability)
{
    struct scene *scene = scene_open(seed);
    uint32_t sequence_max = 0;
    scene->rig.fault_settings.late_percent = scene_below(scene, 80);
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    scene->rig.settings.durability = durability;
    scene->rig.settings.write_count_max = 1 + scene_below(scene, 6);
    for (int life = 0; life < 6; life++) {
        scene_start(scene);
        for (uint32_t i = 0; i < scene->count && durability == LOG_DURABLE; i++) {
            struct told *told = &scene->told[i];
            bool trimmed = log_lsn_sequence(told->lsn) < log_head_sequence(scene->rig.log);
            if (told->done && told->status == 0 && !trimmed) {
                assert_true(scene->found[i]);
            }
            assert_false(told->done && told->status != 0 && scene->found[i]);
        }
        assert_int_equal(scene->damaged_bytes, 0); /* what was never promised is no damage */
        int rounds = (int)scene_below(scene, 60);
        if (scene_below(scene, 3) == 0) {
            disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, scene_below(scene, 10), 1, -EIO);
        }
        for (int round = 0; round < rounds; round++) {
            for (uint32_t n = scene_below(scene, 6); n > 0; n--) {
                scene_append(scene, scene_below(scene, 4) == 0 ? LOG_KEPT | LOG_RESERVED : 0,
                             scene_below(scene, 8) == 0 ? scene_below(scene, CONTENT_MAX)
                                                        : scene_below(scene, 3000));
            }
            log_rig_round(&scene->rig);
            uint32_t current = log_current_sequence(scene->rig.log);
            assert_true(current == 0 || current >= sequence_max);
            sequence_max = current > sequence_max ? current : sequence_max;
        }
        log_rig_crash(&scene->rig);
        sequence_max++;
    }
    scene_close(scene);
}

static void no_crash_loses_what_was_promised_or_revives_what_was_refused(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 200; seed++) {
        crash_rounds(seed, LOG_DURABLE);
    }
}

static void without_durability_no_crash_makes_recovery_fail(void **state)
{
    (void)state;
    for (uint64_t seed = 500; seed < 520; seed++) {
        crash_rounds(seed, LOG_RELAXED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_waiter_runs_when_its_bytes_are_durable_and_not_before),
        cmocka_unit_test(what_is_durable_is_found_after_a_crash),
        cmocka_unit_test(reads_that_fail_at_a_start_cost_no_mail),
        cmocka_unit_test(at_a_start_the_next_segment_is_being_read_while_one_is_looked_at),
        cmocka_unit_test(commits_share_a_write_while_one_is_in_flight),
        cmocka_unit_test(body_bytes_grow_the_newest_record),
        cmocka_unit_test(appends_wait_for_memory_and_are_told_of_room),
        cmocka_unit_test(a_frame_that_is_read_is_not_used_again),
        cmocka_unit_test(a_record_is_fetched_from_the_disk_and_verified),
        cmocka_unit_test(stale_records_of_a_recycled_segment_are_not_found),
        cmocka_unit_test(freed_segments_are_destroyed_in_order),
        cmocka_unit_test(a_failed_write_voids_what_follows_and_a_new_segment_goes_on),
        cmocka_unit_test(a_disk_that_keeps_failing_refuses_and_serves_again_when_it_can),
        cmocka_unit_test(who_asked_for_a_late_answer_is_not_refused_what_a_crash_may_revive),
        cmocka_unit_test(a_full_disk_refuses_mail_keeps_room_for_notes_and_recovers),
        cmocka_unit_test(after_a_start_on_a_full_disk_old_records_are_there_and_mail_is_refused),
        cmocka_unit_test(a_folder_of_another_log_is_left_alone),
        cmocka_unit_test(no_crash_loses_what_was_promised_or_revives_what_was_refused),
        cmocka_unit_test(without_durability_no_crash_makes_recovery_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
