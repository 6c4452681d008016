#include "tests/unit/log_rig.h"
#include "queue/log/log_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define TYPE_MAIL 20
#define TYPE_NOTE 21
#define CONTENT_MAX 65536

/* What recovery is compared with: every record that was appended, its content made from its tag. */
struct told {
    struct log_waiter waiter;
    uint64_t lsn;
    uint64_t tag;
    uint32_t length;
    bool done, waits;
    int status;
};

struct scene {
    struct log_rig rig;
    struct told *told;
    uint32_t count, capacity;
    /* Found by recovery. */
    uint32_t found_count;
    uint64_t found_lsn;
    uint64_t damaged_bytes;
    bool *found;
    uint8_t content[CONTENT_MAX];
    uint64_t random;
};

static uint32_t below(struct scene *scene, uint32_t limit)
{
    scene->random = scene->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((scene->random >> 33) % limit);
}

static struct scene *scene_open(uint64_t seed)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    scene->capacity = 200000;
    scene->told = calloc(scene->capacity, sizeof(scene->told[0]));
    scene->found = calloc(scene->capacity, sizeof(scene->found[0]));
    scene->random = seed;
    log_rig_open(&scene->rig, seed);
    return scene;
}

static void scene_close(struct scene *scene)
{
    log_rig_close(&scene->rig);
    free(scene->told);
    free(scene->found);
    free(scene);
}

static void fill(uint8_t *bytes, uint64_t tag, uint32_t length)
{
    uint64_t state = tag * 0x9e3779b97f4a7c15ull + 1;
    for (uint32_t i = 0; i < length; i++) {
        state = state * 6364136223846793005ull + 1;
        bytes[i] = (uint8_t)(state >> 56);
    }
}

static void told_done(struct log_waiter *waiter, int status)
{
    struct told *told = list_entry(waiter, struct told, waiter);
    assert_false(told->done);
    told->done = true;
    told->status = status;
}

static struct told *append(struct scene *scene, uint8_t flags, uint32_t length)
{
    struct told *told = &scene->told[scene->count];
    struct log_head head = {
        .type = flags & LOG_KEPT ? TYPE_NOTE : TYPE_MAIL, .flags = flags, .tag = scene->count};
    struct log_extent extent;
    fill(scene->content, head.tag, length);
    struct slice parts[2] = {slice_of(scene->content, length / 3),
                             slice_of(scene->content + length / 3, length - length / 3)};
    int result = log_append(scene->rig.log, &head, parts, 2, &extent);
    if (result != 0) {
        return NULL;
    }
    *told = (struct told){.lsn = extent.lsn, .tag = head.tag, .length = length};
    told->waiter.done = told_done;
    if (!(flags & LOG_KEPT)) {
        told->waits = true;
        log_when_durable(scene->rig.log, &told->waiter);
    }
    scene->count++;
    assert_true(scene->count < scene->capacity);
    return told;
}

static int found_record(void *owner, const struct log_record *record)
{
    struct scene *scene = owner;
    assert_true(record->lsn > scene->found_lsn);
    scene->found_lsn = record->lsn;
    assert_true(record->tag < scene->count);
    struct told *told = &scene->told[record->tag];
    assert_int_equal(record->content.size, told->length);
    fill(scene->content, told->tag, told->length);
    assert_memory_equal(record->content.bytes, scene->content, told->length);
    scene->found[record->tag] = true;
    scene->found_count++;
    return 0;
}

static void found_damaged(void *owner, uint64_t lsn, uint64_t bytes)
{
    struct scene *scene = owner;
    (void)lsn;
    scene->damaged_bytes += bytes;
}

static void start(struct scene *scene)
{
    struct log_visitor visitor = {.record = found_record, .damaged = found_damaged, .owner = scene};
    scene->found_count = 0;
    scene->found_lsn = 0;
    memset(scene->found, 0, scene->capacity);
    assert_int_equal(log_rig_start(&scene->rig, &visitor), 0);
}

/* ── Tests ───────────────────────────────────────────────────────────────────────────────────── */

static void a_waiter_runs_when_its_bytes_are_durable_and_not_before(void **state)
{
    (void)state;
    struct scene *scene = scene_open(1);
    scene->rig.fault_settings.late_percent = 0;
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    start(scene);
    struct told *told = append(scene, 0, 1000);
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
    start(scene);
    for (int i = 0; i < 100; i++) {
        assert_non_null(append(scene, 0, 100 + (uint32_t)i * 37));
    }
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    start(scene);
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
        start(scene);
        for (unsigned j = 0; j < 40; j++) {
            assert_non_null(append(scene, 0, 60000));
            log_rig_settle(&scene->rig);
        }
        log_rig_crash(&scene->rig);
        disk_fault_fail(scene->rig.fault, DISK_FAULT_READ, i / 5, failing[i % 5], -EIO);
        int status = log_rig_start(&scene->rig, NULL);
        disk_fault_fail(scene->rig.fault, DISK_FAULT_READ, 0, 0, 0);
        refused += status < 0;
        served += status == 0;
        for (unsigned j = 0; j < 60 && status == 0; j++) {
            append(scene, 0, 60000);
            log_rig_settle(&scene->rig);
        }
        if (status == 0) {
            log_rig_crash(&scene->rig);
        }
        start(scene);
        assert_int_equal(scene->found_count, scene->count);
        scene_close(scene);
    }
    assert_true(refused > 0 && served > 0);
}

static void commits_share_a_write_while_one_is_in_flight(void **state)
{
    (void)state;
    struct scene *scene = scene_open(3);
    start(scene);
    log_rig_settle(&scene->rig);
    uint64_t before = log_counters(scene->rig.log)->writes;
    append(scene, 0, 100);
    disk_fault_hold(scene->rig.fault, true);
    log_rig_round(&scene->rig);
    for (int i = 0; i < 20; i++) {
        append(scene, 0, 100);
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
    start(scene);
    struct log_head head = {.type = TYPE_MAIL, .flags = LOG_BODY, .tag = 0};
    struct log_extent first = {0}, next;
    fill(scene->content, 0, 5000);
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
    append(scene, 0, 10);
    log_rig_settle(&scene->rig);
    struct slice content;
    struct ref *owner;
    assert_int_equal(log_read(scene->rig.log, &first, &content, &owner), 0);
    assert_true(slice_equal(content, part));
    ref_drop(owner);
    log_rig_crash(&scene->rig);
    start(scene);
    assert_int_equal(scene->found_count, 2);
    scene_close(scene);
}

static void appends_wait_for_memory_and_are_told_of_room(void **state)
{
    (void)state;
    struct scene *scene = scene_open(5);
    start(scene);
    disk_fault_hold(scene->rig.fault, true);
    while (append(scene, 0, 60000) != NULL) {
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
    start(scene);
    struct told *told = append(scene, 0, 3000);
    struct log_extent extent = {.lsn = told->lsn, .length = 3000};
    struct slice content;
    struct ref *owner;
    log_rig_settle(&scene->rig);
    assert_int_equal(log_read(scene->rig.log, &extent, &content, &owner), 0);
    for (int i = 0; i < 200; i++) {
        if (log_room(scene->rig.log, 60000, 0) == 0) {
            append(scene, 0, 60000);
        }
        log_rig_settle(&scene->rig);
    }
    fill(scene->content, told->tag, 3000);
    assert_memory_equal(content.bytes, scene->content, 3000);
    ref_drop(owner);
    for (int i = 0; i < 200; i++) {
        append(scene, 0, 60000);
        log_rig_settle(&scene->rig);
    }
    assert_int_equal(log_read(scene->rig.log, &extent, &content, &owner), -ENOENT);
    scene_close(scene);
}

static void a_record_is_fetched_from_the_disk_and_verified(void **state)
{
    (void)state;
    struct scene *scene = scene_open(7);
    start(scene);
    struct told *told = append(scene, 0, 3000);
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
    fill(scene->content, told->tag, 3000);
    assert_memory_equal(content.bytes, scene->content, 3000);
    memory[100] ^= 1;
    assert_int_equal(log_fetch_verify(scene->rig.log, &fetch, memory, &content), -EIO);
    log_fetch_end(scene->rig.log, &fetch);
    scene_close(scene);
}

static void damage_in_the_middle_is_reported_and_what_follows_is_kept(void **state)
{
    (void)state;
    struct scene *scene = scene_open(8);
    start(scene);
    for (int i = 0; i < 50; i++) {
        append(scene, 0, 4000);
        log_rig_settle(&scene->rig);
    }
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    uint32_t at = lsn_offset(scene->told[20].lsn);
    file[at + 500] ^= 4;
    start(scene);
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
    start(scene);
    for (int i = 0; i < 60; i++) {
        assert_non_null(append(scene, 0, 8));
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
        start(scene);
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
    start(scene);
    for (int i = 0; i < 60; i++) {
        assert_non_null(append(scene, 0, 8));
    }
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    uint32_t sector = lsn_offset(scene->told[20].lsn) & ~511u;
    memset(file + sector, 0, 512);
    start(scene);
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
    start(scene);
    assert_non_null(append(scene, 0, 8));
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
    assert_non_null(append(scene, 0, 8));
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    uint8_t *file = disk_fault_bytes(scene->rig.fault, "3/00000001.segment", &bytes);
    file[lsn_offset(lsn) + sizeof(struct record_header)] ^= 1;
    start(scene);
    assert_int_equal(scene->found_count, 2);
    assert_true(scene->found[0] && scene->found[2]);
    scene_close(scene);
}

static void a_segment_whose_header_is_lost_is_placed_by_its_records(void **state)
{
    (void)state;
    struct scene *scene = scene_open(9);
    start(scene);
    while (log_current_sequence(scene->rig.log) < 4) {
        append(scene, 0, 50000);
        log_rig_settle(&scene->rig);
    }
    log_rig_crash(&scene->rig);
    uint64_t bytes;
    disk_fault_bytes(scene->rig.fault, "3/00000002.segment", &bytes)[9] ^= 1;
    start(scene);
    assert_int_equal(scene->found_count, scene->count);
    scene_close(scene);
}

static void stale_records_of_a_recycled_segment_are_not_found(void **state)
{
    (void)state;
    struct scene *scene = scene_open(10);
    start(scene);
    while (log_current_sequence(scene->rig.log) < 12) {
        append(scene, 0, 30000);
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
    start(scene);
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
        uint32_t last = 14 + below(scene, 10);
        scene->rig.settings.recycled_count_max = 1 + below(scene, 8);
        start(scene);
        while (log_current_sequence(scene->rig.log) < last) {
            append(scene, 0, 60000);
            log_rig_settle(&scene->rig);
            if (log_head_sequence(scene->rig.log) + 5 < log_current_sequence(scene->rig.log)) {
                for (int i = 0; i < 4; i++) {
                    assert_int_equal(log_trim(scene->rig.log), 0);
                }
            }
        }
        while (log_trim(scene->rig.log) == 0) {
        }
        for (uint32_t rounds = below(scene, 12); rounds > 0; rounds--) {
            log_rig_round(&scene->rig);
        }
        log_rig_crash(&scene->rig);
        start(scene);
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
    start(scene);
    struct told *before = append(scene, 0, 1000);
    log_rig_settle(&scene->rig);
    disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    struct told *failed = append(scene, 0, 1000);
    struct told *note = append(scene, LOG_KEPT | LOG_RESERVED, 50);
    log_rig_settle(&scene->rig);
    assert_true(before->done && before->status == 0);
    assert_true(failed->done && failed->status == -EIO);
    struct told *after = append(scene, 0, 1000);
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
    start(scene);
    assert_true(scene->found[before->tag] && scene->found[note->tag] && scene->found[after->tag]);
    assert_false(scene->found[failed->tag]);
    scene_close(scene);
}

static void a_disk_that_keeps_failing_refuses_and_serves_again_when_it_can(void **state)
{
    (void)state;
    struct scene *scene = scene_open(12);
    start(scene);
    append(scene, 0, 1000);
    log_rig_settle(&scene->rig);
    disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, 0, 1000000, -EIO);
    struct told *failed = append(scene, 0, 1000);
    struct told *note = append(scene, LOG_KEPT | LOG_RESERVED, 50);
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
    struct told *after = append(scene, 0, 1000);
    assert_non_null(after);
    log_rig_settle(&scene->rig);
    assert_true(after->done && after->status == 0);
    log_rig_crash(&scene->rig);
    start(scene);
    assert_true(scene->found[0] && scene->found[note->tag] && scene->found[after->tag]);
    assert_false(scene->found[failed->tag]);
    scene_close(scene);
}

static void a_full_disk_refuses_mail_keeps_room_for_notes_and_recovers(void **state)
{
    (void)state;
    struct scene *scene = scene_open(13);
    scene->rig.fault_settings.capacity_bytes = 5 * 8 * LOG_FRAME_BYTES;
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    start(scene);
    int result;
    while ((result = log_room(scene->rig.log, 50000, 0)) != -ENOSPC) {
        if (result == 0) {
            append(scene, 0, 50000);
        }
        log_rig_settle(&scene->rig);
    }
    assert_true(log_is_short(scene->rig.log));
    for (int i = 0; i < 400; i++) {
        assert_non_null(append(scene, LOG_KEPT | LOG_RESERVED, 1000));
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
    start(scene);
    append(scene, 0, 5000);
    log_rig_settle(&scene->rig);
    log_rig_crash(&scene->rig);
    scene->rig.fault_settings.capacity_bytes = 1;
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    start(scene);
    assert_int_equal(scene->found_count, 1);
    /* The spares of before are recycled. */
    assert_int_equal(log_room(scene->rig.log, 5000, 0), 0);
    scene_close(scene);
}

static void a_folder_of_another_log_is_left_alone(void **state)
{
    (void)state;
    struct scene *scene = scene_open(15);
    start(scene);
    append(scene, 0, 5000);
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
    start(scene);
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
    scene->rig.fault_settings.late_percent = below(scene, 80);
    disk_fault_set(scene->rig.fault, &scene->rig.fault_settings);
    scene->rig.settings.durability = durability;
    scene->rig.settings.write_count_max = 1 + below(scene, 6);
    for (int life = 0; life < 6; life++) {
        start(scene);
        for (uint32_t i = 0; i < scene->count && durability == LOG_DURABLE; i++) {
            struct told *told = &scene->told[i];
            bool trimmed = log_lsn_sequence(told->lsn) < log_head_sequence(scene->rig.log);
            if (told->done && told->status == 0 && !trimmed) {
                assert_true(scene->found[i]);
            }
            assert_false(told->done && told->status != 0 && scene->found[i]);
        }
        assert_int_equal(scene->damaged_bytes, 0); /* what was never promised is no damage */
        int rounds = (int)below(scene, 60);
        if (below(scene, 3) == 0) {
            disk_fault_fail(scene->rig.fault, DISK_FAULT_WRITE, below(scene, 10), 1, -EIO);
        }
        for (int round = 0; round < rounds; round++) {
            for (uint32_t n = below(scene, 6); n > 0; n--) {
                append(scene, below(scene, 4) == 0 ? LOG_KEPT | LOG_RESERVED : 0,
                       below(scene, 8) == 0 ? below(scene, CONTENT_MAX) : below(scene, 3000));
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

static void any_bytes_in_a_segment_are_survived(void **state)
{
    (void)state;
    struct scene *scene = scene_open(16);
    start(scene);
    while (log_current_sequence(scene->rig.log) < 3) {
        append(scene, 0, below(scene, 20000));
        log_rig_settle(&scene->rig);
    }
    log_rig_crash(&scene->rig);
    for (int round = 0; round < 30; round++) {
        for (uint32_t i = 0; disk_fault_name(scene->rig.fault, i) != NULL; i++) {
            uint64_t bytes;
            uint8_t *file =
                disk_fault_bytes(scene->rig.fault, disk_fault_name(scene->rig.fault, i), &bytes);
            for (int flips = 0; flips < 20 && bytes > 0; flips++) {
                file[below(scene, (uint32_t)bytes)] ^= (uint8_t)(1 + below(scene, 255));
            }
        }
        start(scene);
        log_rig_crash(&scene->rig);
    }
    scene_close(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_waiter_runs_when_its_bytes_are_durable_and_not_before),
        cmocka_unit_test(what_is_durable_is_found_after_a_crash),
        cmocka_unit_test(reads_that_fail_at_a_start_cost_no_mail),
        cmocka_unit_test(commits_share_a_write_while_one_is_in_flight),
        cmocka_unit_test(body_bytes_grow_the_newest_record),
        cmocka_unit_test(appends_wait_for_memory_and_are_told_of_room),
        cmocka_unit_test(a_frame_that_is_read_is_not_used_again),
        cmocka_unit_test(a_record_is_fetched_from_the_disk_and_verified),
        cmocka_unit_test(damage_in_the_middle_is_reported_and_what_follows_is_kept),
        cmocka_unit_test(a_flipped_bit_costs_its_record_and_no_other),
        cmocka_unit_test(a_lost_sector_costs_the_records_that_it_holds),
        cmocka_unit_test(a_damaged_body_brings_no_record_of_its_own),
        cmocka_unit_test(a_segment_whose_header_is_lost_is_placed_by_its_records),
        cmocka_unit_test(stale_records_of_a_recycled_segment_are_not_found),
        cmocka_unit_test(freed_segments_are_destroyed_in_order),
        cmocka_unit_test(a_failed_write_voids_what_follows_and_a_new_segment_goes_on),
        cmocka_unit_test(a_disk_that_keeps_failing_refuses_and_serves_again_when_it_can),
        cmocka_unit_test(a_full_disk_refuses_mail_keeps_room_for_notes_and_recovers),
        cmocka_unit_test(after_a_start_on_a_full_disk_old_records_are_there_and_mail_is_refused),
        cmocka_unit_test(a_folder_of_another_log_is_left_alone),
        cmocka_unit_test(no_crash_loses_what_was_promised_or_revives_what_was_refused),
        cmocka_unit_test(without_durability_no_crash_makes_recovery_fail),
        cmocka_unit_test(any_bytes_in_a_segment_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
