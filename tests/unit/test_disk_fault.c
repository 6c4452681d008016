#include "engine/disk/disk_fault.h"
#include "engine/disk/disk_tear.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define FILE_BYTES (64u * 1024)

struct call {
    struct disk_done done;
    int result;
    unsigned order; /* 0: not reported */
    unsigned *count;
};

static void call_done(struct disk_done *done, int result)
{
    struct call *call = (struct call *)(void *)done;
    assert_int_equal(call->order, 0);
    call->result = result;
    call->order = ++*call->count;
}

struct bench {
    struct disk_fault *fault;
    struct disk *disk;
    uint8_t *memory;
    unsigned count;
};

static void bench_open(struct bench *bench, const struct disk_fault_settings *settings)
{
    *bench = (struct bench){.fault = disk_fault_open(settings)};
    assert_non_null(bench->fault);
    bench->disk = disk_fault_disk(bench->fault);
    bench->memory = aligned_alloc(DISK_BLOCK_BYTES, FILE_BYTES);
    assert_non_null(bench->memory);
    memset(bench->memory, 0x5a, FILE_BYTES);
}

static void bench_close(struct bench *bench)
{
    disk_fault_close(bench->fault);
    free(bench->memory);
}

static struct call call_new(struct bench *bench)
{
    return (struct call){.done.run = call_done, .count = &bench->count};
}

static void reap_all(struct bench *bench)
{
    for (int i = 0; i < 1000 && disk_fault_pending(bench->fault) > 0; i++) {
        bench->disk->ops->reap(bench->disk);
    }
    assert_int_equal(disk_fault_pending(bench->fault), 0);
}

static int prepare(struct bench *bench, const char *name)
{
    struct call call = call_new(bench);
    bench->disk->ops->prepare(bench->disk, name, FILE_BYTES, &call.done);
    reap_all(bench);
    return call.result;
}

static int write_block(struct bench *bench, int file, uint32_t block, uint32_t flags)
{
    struct call call = call_new(bench);
    bench->disk->ops->write(bench->disk, file, bench->memory, DISK_BLOCK_BYTES,
                            (uint64_t)block * DISK_BLOCK_BYTES, flags, &call.done);
    reap_all(bench);
    return call.result;
}

/* How many sectors of a block hold what write_block wrote. */
static unsigned sectors_written(struct bench *bench, const char *name, uint32_t block)
{
    uint64_t bytes;
    const uint8_t *file = disk_fault_bytes(bench->fault, name, &bytes);
    unsigned count = 0;
    assert_non_null(file);
    for (uint32_t at = 0; at < DISK_BLOCK_BYTES; at += DISK_TEAR_SECTOR_BYTES) {
        count += memcmp(file + (size_t)block * DISK_BLOCK_BYTES + at, bench->memory,
                        DISK_TEAR_SECTOR_BYTES) == 0;
    }
    return count;
}

static void a_prepared_file_is_zeros_and_is_listed(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, &(struct disk_fault_settings){.seed = 1});
    assert_true(prepare(&bench, "3/00000001.segment") >= 0);
    uint64_t bytes;
    const uint8_t *file = disk_fault_bytes(bench.fault, "3/00000001.segment", &bytes);
    assert_int_equal(bytes, FILE_BYTES);
    for (uint32_t i = 0; i < FILE_BYTES; i++) {
        assert_int_equal(file[i], 0);
    }
    assert_string_equal(disk_fault_name(bench.fault, 0), "3/00000001.segment");
    assert_null(disk_fault_name(bench.fault, 1));
    bench_close(&bench);
}

static void a_durable_write_survives_a_crash_whole(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct bench bench;
        bench_open(&bench, &(struct disk_fault_settings){.seed = seed, .late_percent = 50});
        int file = prepare(&bench, "0/1");
        assert_int_equal(write_block(&bench, file, 2, DISK_DURABLE), 0);
        disk_fault_crash(bench.fault);
        assert_int_equal(sectors_written(&bench, "0/1", 2), 8);
        bench_close(&bench);
    }
}

static void a_write_that_is_not_durable_may_survive_in_part(void **state)
{
    (void)state;
    unsigned lost = 0, kept = 0;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct bench bench;
        bench_open(&bench, &(struct disk_fault_settings){.seed = seed});
        int file = prepare(&bench, "0/1");
        write_block(&bench, file, 2, 0);
        assert_int_equal(sectors_written(&bench, "0/1", 2), 8);
        disk_fault_crash(bench.fault);
        unsigned sectors = sectors_written(&bench, "0/1", 2);
        lost += 8 - sectors;
        kept += sectors;
        bench_close(&bench);
    }
    assert_true(lost > 50 && kept > 50);
}

static void a_write_under_way_at_a_crash_is_torn_and_never_reported(void **state)
{
    (void)state;
    unsigned torn = 0;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct bench bench;
        bench_open(&bench, &(struct disk_fault_settings){.seed = seed});
        int file = prepare(&bench, "0/1");
        struct call call = call_new(&bench);
        unsigned before = bench.count;
        bench.disk->ops->write(bench.disk, file, bench.memory, DISK_BLOCK_BYTES, 0, DISK_DURABLE,
                               &call.done);
        disk_fault_crash(bench.fault);
        bench.disk->ops->reap(bench.disk);
        assert_int_equal(bench.count, before);
        unsigned sectors = sectors_written(&bench, "0/1", 0);
        torn += sectors > 0 && sectors < 8;
        bench_close(&bench);
    }
    assert_true(torn > 10);
}

/* Of a write that nobody was told of: none of it, all of it, or torn, with sectors that are neither what was
 * there nor what was written. And what is torn stays so over another crash. */
static void a_torn_write_leaves_stale_and_spoiled_sectors_for_good(void **state)
{
    (void)state;
    unsigned none = 0, whole = 0, stale = 0, spoiled = 0;
    uint8_t zeros[DISK_TEAR_SECTOR_BYTES] = {0}, after[DISK_BLOCK_BYTES];
    for (uint64_t seed = 1; seed < 120; seed++) {
        struct bench bench;
        bench_open(&bench, &(struct disk_fault_settings){.seed = seed});
        int file = prepare(&bench, "0/1");
        struct call call = call_new(&bench);
        bench.disk->ops->write(bench.disk, file, bench.memory, DISK_BLOCK_BYTES, 0, DISK_DURABLE,
                               &call.done);
        disk_fault_crash(bench.fault);
        uint64_t bytes;
        const uint8_t *content = disk_fault_bytes(bench.fault, "0/1", &bytes);
        unsigned landed = sectors_written(&bench, "0/1", 0), old = 0;
        for (uint32_t at = 0; at < DISK_BLOCK_BYTES; at += DISK_TEAR_SECTOR_BYTES) {
            old += memcmp(content + at, zeros, DISK_TEAR_SECTOR_BYTES) == 0;
        }
        none += old == 8;
        whole += landed == 8;
        stale += landed > 0 && old > 0;
        spoiled += landed + old < 8;
        memcpy(after, content, DISK_BLOCK_BYTES);
        disk_fault_crash(bench.fault);
        assert_memory_equal(disk_fault_bytes(bench.fault, "0/1", &bytes), after, DISK_BLOCK_BYTES);
        bench_close(&bench);
    }
    assert_true(none > 10 && whole > 10 && stale > 10 && spoiled > 10);
}

static void completions_come_in_another_order(void **state)
{
    (void)state;
    unsigned swapped = 0;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct bench bench;
        bench_open(&bench, &(struct disk_fault_settings){.seed = seed, .late_percent = 20});
        int file = prepare(&bench, "0/1");
        struct call first = call_new(&bench), second = call_new(&bench);
        bench.disk->ops->write(bench.disk, file, bench.memory, DISK_BLOCK_BYTES, 0, DISK_DURABLE,
                               &first.done);
        bench.disk->ops->write(bench.disk, file, bench.memory, DISK_BLOCK_BYTES, 4096, DISK_DURABLE,
                               &second.done);
        assert_int_equal(first.order + second.order, 0); /* never from inside the call */
        reap_all(&bench);
        swapped += first.order > second.order;
        bench_close(&bench);
    }
    assert_true(swapped > 5 && swapped < 35);
}

static void the_operation_that_was_chosen_fails_and_no_other(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, &(struct disk_fault_settings){.seed = 9});
    int file = prepare(&bench, "0/1");
    disk_fault_fail(bench.fault, DISK_FAULT_WRITE, 1, 2, -ENOSPC);
    assert_int_equal(write_block(&bench, file, 0, DISK_DURABLE), 0);
    assert_int_equal(write_block(&bench, file, 1, DISK_DURABLE), -ENOSPC);
    assert_int_equal(write_block(&bench, file, 2, DISK_DURABLE), -ENOSPC);
    assert_int_equal(write_block(&bench, file, 3, DISK_DURABLE), 0);
    bench_close(&bench);
}

static void a_full_disk_prepares_nothing_until_something_is_removed(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, &(struct disk_fault_settings){.seed = 9, .capacity_bytes = 2 * FILE_BYTES});
    struct disk_space space;
    assert_true(prepare(&bench, "0/1") >= 0);
    assert_true(prepare(&bench, "0/2") >= 0);
    assert_int_equal(prepare(&bench, "0/3"), -ENOSPC);
    assert_null(disk_fault_name(bench.fault, 2));
    struct call call = call_new(&bench);
    bench.disk->ops->space(bench.disk, &space, &call.done);
    reap_all(&bench);
    assert_int_equal(space.free_bytes, 0);
    assert_true(space.total_bytes == 2 * FILE_BYTES && space.free_files > 0);
    call = call_new(&bench);
    bench.disk->ops->remove(bench.disk, "0/1", &call.done);
    reap_all(&bench);
    assert_int_equal(call.result, 0);
    assert_true(prepare(&bench, "0/3") >= 0);
    bench_close(&bench);
}

static int read_at(struct bench *bench, int file, uint64_t offset, size_t bytes)
{
    struct call call = call_new(bench);
    assert_int_equal(
        bench->disk->ops->read(bench->disk, file, bench->memory, bytes, offset, &call.done), 0);
    reap_all(bench);
    return call.result;
}

static void places_that_were_chosen_cannot_be_read_until_they_are_mended(void **state)
{
    (void)state;
    struct bench bench;
    uint64_t bytes;
    bench_open(&bench, &(struct disk_fault_settings){.seed = 8});
    prepare(&bench, "0/1");
    prepare(&bench, "0/2");
    disk_fault_refuse_reads(bench.fault, "0/1", 2 * DISK_BLOCK_BYTES, DISK_BLOCK_BYTES);
    disk_fault_refuse_open(bench.fault, "0/2");
    disk_fault_crash(bench.fault);
    int file = bench.disk->ops->open(bench.disk, "0/1", &bytes);
    assert_true(file >= 0);
    assert_int_equal(bench.disk->ops->open(bench.disk, "0/2", &bytes), -EIO);
    assert_int_equal(read_at(&bench, file, 0, 2 * DISK_BLOCK_BYTES), 0);
    assert_int_equal(read_at(&bench, file, 0, 3 * DISK_BLOCK_BYTES), -EIO);
    assert_int_equal(read_at(&bench, file, 2 * DISK_BLOCK_BYTES, DISK_BLOCK_BYTES), -EIO);
    assert_int_equal(read_at(&bench, file, 3 * DISK_BLOCK_BYTES, DISK_BLOCK_BYTES), 0);
    disk_fault_mend(bench.fault);
    assert_int_equal(read_at(&bench, file, 0, FILE_BYTES), 0);
    assert_true(bench.disk->ops->open(bench.disk, "0/2", &bytes) >= 0);
    bench_close(&bench);
}

static void one_seed_makes_one_story(void **state)
{
    (void)state;
    unsigned sectors[2];
    for (int run = 0; run < 2; run++) {
        struct bench bench;
        bench_open(&bench, &(struct disk_fault_settings){.seed = 77});
        int file = prepare(&bench, "0/1");
        for (uint32_t block = 0; block < 8; block++) {
            write_block(&bench, file, block, 0);
        }
        disk_fault_crash(bench.fault);
        sectors[run] = 0;
        for (uint32_t block = 0; block < 8; block++) {
            sectors[run] = sectors[run] * 9 + sectors_written(&bench, "0/1", block);
        }
        bench_close(&bench);
    }
    assert_int_equal(sectors[0], sectors[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prepared_file_is_zeros_and_is_listed),
        cmocka_unit_test(a_durable_write_survives_a_crash_whole),
        cmocka_unit_test(a_write_that_is_not_durable_may_survive_in_part),
        cmocka_unit_test(a_write_under_way_at_a_crash_is_torn_and_never_reported),
        cmocka_unit_test(a_torn_write_leaves_stale_and_spoiled_sectors_for_good),
        cmocka_unit_test(completions_come_in_another_order),
        cmocka_unit_test(the_operation_that_was_chosen_fails_and_no_other),
        cmocka_unit_test(a_full_disk_prepares_nothing_until_something_is_removed),
        cmocka_unit_test(places_that_were_chosen_cannot_be_read_until_they_are_mended),
        cmocka_unit_test(one_seed_makes_one_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
