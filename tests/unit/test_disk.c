/* Both disks by one table of tests, on the build folder's file system. */
#include "engine/core/system_world.h"
#include "engine/disk/disk.h"
#include "engine/shard/uring.h"
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    char folder[64];
    struct uring uring;
    bool with_uring;
    struct disk *disk;
};

struct awaited {
    struct disk_done done;
    int result;
    unsigned count;
};

static void awaited_run(struct disk_done *done, int result)
{
    struct awaited *awaited = list_entry(done, struct awaited, done);
    awaited->result = result;
    awaited->count++;
}

static int await(struct rig *rig, struct awaited *awaited)
{
    for (int i = 0; awaited->count == 0 && i < 10000; i++) {
        rig->disk->ops->submit(rig->disk);
        if (rig->disk->ops->reap(rig->disk) == 0) {
            poll(NULL, 0, 1);
        }
    }
    assert_int_equal(awaited->count, 1);
    awaited->count = 0;
    return awaited->result;
}

static void rig_open(struct rig *rig, bool with_uring, const char *parent)
{
    *rig = (struct rig){.with_uring = with_uring};
    snprintf(rig->folder, sizeof(rig->folder), "%s/disk.XXXXXX", parent);
    assert_non_null(mkdtemp(rig->folder));
    if (with_uring) {
        assert_int_equal(uring_open(&rig->uring, 16, URING_SLEEPS), 0);
        assert_int_equal(disk_open_uring(&rig->disk, &rig->uring, rig->folder), 0);
    } else {
        assert_int_equal(disk_open_thread(&rig->disk, rig->folder), 0);
    }
}

static void rig_close(struct rig *rig)
{
    rig->disk->ops->close(rig->disk);
    if (rig->with_uring) {
        uring_close(&rig->uring);
    }
    rmdir(rig->folder);
}

static void visit_count(void *owner, const char *name)
{
    (void)name;
    ++*(unsigned *)owner;
}

static void file_goes_round(struct rig *rig)
{
    struct awaited awaited = {.done = {.run = awaited_run}};
    struct disk *disk = rig->disk;
    uint8_t *block = NULL;
    uint64_t bytes = 0;
    unsigned entries = 0;
    assert_int_equal(posix_memalign((void **)&block, DISK_BLOCK_BYTES, 2 * DISK_BLOCK_BYTES), 0);
    disk->ops->pin(disk, block, DISK_BLOCK_BYTES);

    assert_int_equal(disk->ops->prepare(disk, "0/a.segment", 1 << 20, &awaited.done), 0);
    int file = await(rig, &awaited);
    assert_true(file >= 0);
    assert_int_equal(disk->ops->prepare(disk, "0/a.segment", 1 << 20, &awaited.done), 0);
    assert_int_equal(await(rig, &awaited), -EEXIST);

    memset(block, 0xa5, 2 * DISK_BLOCK_BYTES);
    assert_int_equal(disk->ops->write(disk, file, block, DISK_BLOCK_BYTES, DISK_BLOCK_BYTES,
                                      DISK_DURABLE, &awaited.done),
                     0);
    assert_int_equal(await(rig, &awaited), DISK_BLOCK_BYTES);
    assert_int_equal(disk->ops->read(disk, file, block, 2 * DISK_BLOCK_BYTES, 0, &awaited.done), 0);
    assert_int_equal(await(rig, &awaited), 2 * DISK_BLOCK_BYTES);
    assert_int_equal(block[0], 0);
    assert_int_equal(block[DISK_BLOCK_BYTES], 0xa5);

    assert_int_equal(disk->ops->read(disk, file, block, 2 * DISK_BLOCK_BYTES,
                                     (1 << 20) - DISK_BLOCK_BYTES, &awaited.done),
                     0);
    assert_int_equal(await(rig, &awaited), -EIO); /* the end cuts it short */
    disk->ops->forget(disk, file);

    file = disk->ops->open(disk, "0/a.segment", &bytes);
    assert_true(file >= 0);
    assert_int_equal(bytes, 1 << 20);
    disk->ops->forget(disk, file);
    assert_int_equal(disk->ops->list(disk, "0", visit_count, &entries), 0);
    assert_int_equal(entries, 1);
    assert_int_equal(disk->ops->free_bytes(disk, &bytes), 0);
    assert_true(bytes > 0);

    assert_int_equal(disk->ops->prepare(disk, "../escape", 4096, &awaited.done), 0);
    assert_int_equal(await(rig, &awaited), -EINVAL);
    assert_int_equal(disk->ops->open(disk, "0/none", &bytes), -ENOENT);
    assert_int_equal(disk->ops->remove(disk, "0/a.segment", &awaited.done), 0);
    assert_int_equal(await(rig, &awaited), 0);
    assert_int_equal(disk->ops->remove(disk, "0/a.segment", &awaited.done), 0);
    assert_int_equal(await(rig, &awaited), -ENOENT);
    assert_int_equal(disk->ops->remove(disk, "0", &awaited.done), 0);
    assert_int_equal(await(rig, &awaited), 0);
    free(block);
}

static void a_file_is_prepared_written_read_listed_and_removed(void **state)
{
    (void)state;
    for (int with_uring = 0; with_uring < 2; with_uring++) {
        struct rig rig;
        rig_open(&rig, with_uring, "build");
        file_goes_round(&rig);
        rig_close(&rig);
    }
}

static void where_o_direct_is_refused_it_is_said_and_everything_works(void **state)
{
    (void)state;
    for (int with_uring = 0; with_uring < 2; with_uring++) {
        struct rig rig;
        rig_open(&rig, with_uring, "/dev/shm");
        file_goes_round(&rig);
        rig_close(&rig);
    }
}

static void a_full_disk_refuses_to_prepare_and_keeps_nothing(void **state)
{
    (void)state;
    for (int with_uring = 0; with_uring < 2; with_uring++) {
        char mounted[] = "/tmp/full.XXXXXX";
        struct rig rig;
        struct awaited awaited = {.done = {.run = awaited_run}};
        unsigned entries = 0;
        assert_non_null(mkdtemp(mounted));
        if (mount("tmpfs", mounted, "tmpfs", 0, "size=1m") < 0) {
            rmdir(mounted);
            print_message("mounting needs root\n");
            skip();
        }
        rig_open(&rig, with_uring, mounted);
        assert_int_equal(rig.disk->ops->prepare(rig.disk, "0/big", 4 << 20, &awaited.done), 0);
        assert_int_equal(await(&rig, &awaited), -ENOSPC);
        assert_int_equal(rig.disk->ops->list(rig.disk, "0", visit_count, &entries), 0);
        assert_int_equal(entries, 0);
        assert_int_equal(rig.disk->ops->prepare(rig.disk, "0/small", 64 << 10, &awaited.done), 0);
        assert_true(await(&rig, &awaited) >= 0);
        rig_close(&rig);
        umount2(mounted, MNT_DETACH);
        rmdir(mounted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_prepared_written_read_listed_and_removed),
        cmocka_unit_test(where_o_direct_is_refused_it_is_said_and_everything_works),
        cmocka_unit_test(a_full_disk_refuses_to_prepare_and_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
