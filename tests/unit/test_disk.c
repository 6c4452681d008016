/* Both disks, with O_DIRECT and without, by one table of tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/disk/disk.h"
#include "engine/shard/shard.h"
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK DISK_BLOCK_BYTES
#define MIB (1ull << 20)

struct rig {
    const char *name;
    bool with_uring;
    bool buffered; /* on a file system without O_DIRECT */
    char folder[64];
    bool mounted;
    struct uring uring;
    struct uring_op watch; /* on the descriptor that arm answers */
    bool watching;
    struct disk *disk;
    uint8_t *memory; /* 64 blocks */
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

static struct awaited nobody(void)
{
    return (struct awaited){.done = {.run = awaited_run}};
}

static void watch_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    (void)result;
    (void)cqe_flags;
    list_entry(op, struct rig, watch)->watching = false;
}

/* Sleeps as the shard does: on what arm answers and on the io_uring. */
static void sleep_until_work(struct rig *rig)
{
    int fd = rig->disk->ops->arm(rig->disk);
    if (fd == -EAGAIN) {
        return;
    }
    if (!rig->with_uring) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&readable, 1, 60000), 1);
        return;
    }
    if (fd >= 0 && !rig->watching) {
        rig->watching = true;
        rig->watch.done = watch_done;
        io_uring_prep_poll_add(uring_entry(&rig->uring, &rig->watch), fd, POLLIN);
    }
    assert_int_equal(uring_wait(&rig->uring, 60000000000), 0);
}

static void await_count(struct rig *rig, struct awaited *awaited, unsigned count)
{
    assert_int_equal(awaited->count, 0); /* never from inside the call */
    while (awaited->count < count) {
        rig->disk->ops->submit(rig->disk);
        if (rig->disk->ops->reap(rig->disk) == 0) {
            sleep_until_work(rig);
        }
    }
    assert_int_equal(awaited->count, count);
    awaited->count = 0;
}

static int await(struct rig *rig, struct awaited *awaited)
{
    await_count(rig, awaited, 1);
    return awaited->result;
}

static int prepare(struct rig *rig, const char *name, uint64_t bytes)
{
    struct awaited awaited = nobody();
    assert_int_equal(rig->disk->ops->prepare(rig->disk, name, bytes, &awaited.done), 0);
    return await(rig, &awaited);
}

static int remove_name(struct rig *rig, const char *name)
{
    struct awaited awaited = nobody();
    assert_int_equal(rig->disk->ops->remove(rig->disk, name, &awaited.done), 0);
    return await(rig, &awaited);
}

static int read_blocks(struct rig *rig, int file, uint64_t offset, unsigned count)
{
    struct awaited awaited = nobody();
    assert_int_equal(
        rig->disk->ops->read(rig->disk, file, rig->memory, count * BLOCK, offset, &awaited.done),
        0);
    return await(rig, &awaited);
}

static int write_blocks(struct rig *rig, int file, uint64_t offset, unsigned count, uint32_t flags)
{
    struct awaited awaited = nobody();
    assert_int_equal(rig->disk->ops->write(rig->disk, file, rig->memory, count * BLOCK, offset,
                                           flags, &awaited.done),
                     0);
    return await(rig, &awaited);
}

static bool exists(const struct rig *rig, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", rig->folder, name);
    return access(path, F_OK) == 0;
}

static void visit_name(void *owner, const char *name)
{
    char *names = owner;
    strcat(names, name);
    strcat(names, " ");
}

/* ---- The tests ---- */

static void o_direct_is_reported_as_it_is(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig->disk->direct, !rig->buffered);
    int file = prepare(rig, "a", 64 * BLOCK);
    assert_int_equal((fcntl(file, F_GETFL) & O_DIRECT) != 0, !rig->buffered);
    rig->disk->ops->forget(rig->disk, file);
    uint64_t bytes;
    file = rig->disk->ops->open(rig->disk, "a", &bytes);
    assert_int_equal((fcntl(file, F_GETFL) & O_DIRECT) != 0, !rig->buffered);
    rig->disk->ops->forget(rig->disk, file);
}

static void a_prepared_file_is_all_zeros_and_takes_its_space(void **state)
{
    struct rig *rig = *state;
    uint64_t bytes = 2 * MIB + 3 * BLOCK; /* not a multiple of what is written at once */
    int file = prepare(rig, "0/a.segment", bytes);
    assert_true(file >= 0);
    static const uint8_t zeros[BLOCK];
    for (uint64_t at = 0; at < bytes; at += BLOCK) {
        memset(rig->memory, 1, BLOCK);
        assert_int_equal(read_blocks(rig, file, at, 1), BLOCK);
        assert_memory_equal(rig->memory, zeros, BLOCK);
    }
    struct stat facts;
    assert_int_equal(fstat(file, &facts), 0);
    assert_int_equal(facts.st_size, bytes);
    assert_true(rig->buffered || (uint64_t)facts.st_blocks * 512 >= bytes);
    assert_int_equal(facts.st_mode & 0777, 0600);
    rig->disk->ops->forget(rig->disk, file);
}

static void what_was_written_is_read_back_and_found_when_opened(void **state)
{
    struct rig *rig = *state;
    static const uint32_t flags[] = {DISK_DURABLE, 0};
    for (unsigned i = 0; i < 2; i++) {
        int file = prepare(rig, "0/a.segment", MIB);
        memset(rig->memory, 0xa5, BLOCK);
        memset(rig->memory + BLOCK, 0x5a, BLOCK);
        assert_int_equal(write_blocks(rig, file, 7 * BLOCK, 2, flags[i]), 2 * BLOCK);
        rig->disk->ops->forget(rig->disk, file);
        uint64_t bytes = 0;
        file = rig->disk->ops->open(rig->disk, "0/a.segment", &bytes);
        assert_int_equal(bytes, MIB);
        memset(rig->memory, 0, 4 * BLOCK);
        assert_int_equal(read_blocks(rig, file, 6 * BLOCK, 4), 4 * BLOCK);
        assert_int_equal(rig->memory[BLOCK - 1], 0);
        assert_int_equal(rig->memory[BLOCK], 0xa5);
        assert_int_equal(rig->memory[3 * BLOCK - 1], 0x5a);
        assert_int_equal(rig->memory[3 * BLOCK], 0);
        rig->disk->ops->forget(rig->disk, file);
        assert_int_equal(remove_name(rig, "0/a.segment"), 0);
    }
}

static void many_writes_may_be_under_way_from_pinned_memory_and_from_other(void **state)
{
    struct rig *rig = *state;
    struct awaited awaited = nobody();
    int file = prepare(rig, "a", MIB);
    assert_int_equal(rig->disk->ops->pin(rig->disk, rig->memory, 32 * BLOCK), 0);
    for (unsigned i = 0; i < 64; i++) {
        memset(rig->memory + i * BLOCK, (int)i + 1, BLOCK);
        assert_int_equal(rig->disk->ops->write(rig->disk, file, rig->memory + i * BLOCK, BLOCK,
                                               i * BLOCK, DISK_DURABLE, &awaited.done),
                         0);
    }
    await_count(rig, &awaited, 64);
    assert_int_equal(awaited.result, BLOCK);
    memset(rig->memory, 0, 64 * BLOCK);
    assert_int_equal(read_blocks(rig, file, 0, 64), 64 * BLOCK);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(rig->memory[i * BLOCK], i + 1);
        assert_int_equal(rig->memory[i * BLOCK + BLOCK - 1], i + 1);
    }
    memset(rig->memory, 0, 64 * BLOCK); /* half pinned, half not, in one */
    assert_int_equal(read_blocks(rig, file, 0, 32), 32 * BLOCK);
    assert_int_equal(rig->memory[31 * BLOCK], 32);
    rig->disk->ops->forget(rig->disk, file);
}

static void short_and_failed_transfers_are_errors(void **state)
{
    struct rig *rig = *state;
    int file = prepare(rig, "a", 16 * BLOCK);
    assert_int_equal(read_blocks(rig, file, 15 * BLOCK, 2), -EIO); /* the end cuts it short */
    assert_int_equal(read_blocks(rig, file, 16 * BLOCK, 1), -EIO);
    rig->disk->ops->forget(rig->disk, file);
    assert_int_equal(read_blocks(rig, 1000000, 0, 1), -EBADF);
    assert_int_equal(write_blocks(rig, 1000000, 0, 1, DISK_DURABLE), -EBADF);
}

static void a_name_that_is_taken_is_refused_and_its_file_untouched(void **state)
{
    struct rig *rig = *state;
    int file = prepare(rig, "0/a", 16 * BLOCK);
    memset(rig->memory, 7, BLOCK);
    assert_int_equal(write_blocks(rig, file, 0, 1, DISK_DURABLE), BLOCK);
    assert_int_equal(prepare(rig, "0/a", 16 * BLOCK), -EEXIST);
    memset(rig->memory, 0, BLOCK);
    assert_int_equal(read_blocks(rig, file, 0, 1), BLOCK);
    assert_int_equal(rig->memory[0], 7);
    rig->disk->ops->forget(rig->disk, file);
}

static void names_stay_inside_the_folder(void **state)
{
    struct rig *rig = *state;
    static const char *const names[] = {"../a", "..", ".",    "",      "/a", "0/",    "0/..",
                                        "./a",  ".a", "0/.a", "0/1/a", "/",  "a/../b"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(prepare(rig, names[i], BLOCK), -EINVAL);
        assert_int_equal(remove_name(rig, names[i]), -EINVAL);
        assert_int_equal(rig->disk->ops->open(rig->disk, names[i], &bytes), -EINVAL);
    }
}

static void what_is_removed_is_gone_and_what_is_not_there_is_said(void **state)
{
    struct rig *rig = *state;
    uint64_t bytes;
    rig->disk->ops->forget(rig->disk, prepare(rig, "0/a", BLOCK));
    assert_int_equal(remove_name(rig, "0"), -ENOTEMPTY);
    assert_int_equal(remove_name(rig, "0/a"), 0);
    assert_int_equal(remove_name(rig, "0/a"), -ENOENT);
    assert_int_equal(rig->disk->ops->open(rig->disk, "0/a", &bytes), -ENOENT);
    assert_int_equal(remove_name(rig, "0"), 0);
    assert_int_equal(remove_name(rig, "0/a"), -ENOENT);
    assert_int_equal(rig->disk->ops->open(rig->disk, "0/a", &bytes), -ENOENT);
}

static void a_list_tells_names_but_hidden_ones(void **state)
{
    struct rig *rig = *state;
    char names[256] = "", path[128];
    assert_int_equal(rig->disk->ops->list(rig->disk, "0", visit_name, names), -ENOENT);
    rig->disk->ops->forget(rig->disk, prepare(rig, "0/a", BLOCK));
    snprintf(path, sizeof(path), "%s/0/.hidden", rig->folder);
    close(open(path, O_CREAT | O_RDWR, 0600));
    assert_int_equal(rig->disk->ops->list(rig->disk, "0", visit_name, names), 0);
    assert_string_equal(names, "a ");
    names[0] = 0;
    assert_int_equal(rig->disk->ops->list(rig->disk, "", visit_name, names), 0);
    assert_non_null(strstr(names, "0 "));
    assert_null(strstr(names, "direct"));
}

static void a_disk_closed_with_work_under_way_tells_nobody(void **state)
{
    struct rig *rig = *state;
    struct awaited awaited = nobody();
    int file = prepare(rig, "a", MIB);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(rig->disk->ops->write(rig->disk, file, rig->memory, 8 * BLOCK,
                                               i * 8 * BLOCK, DISK_DURABLE, &awaited.done),
                         0);
    }
    int before = dup(0);
    assert_int_equal(rig->disk->ops->prepare(rig->disk, "b", MIB, &awaited.done), 0);
    assert_int_equal(rig->disk->ops->remove(rig->disk, "a", &awaited.done), 0);
    rig->disk->ops->close(rig->disk);
    rig->disk = NULL;
    assert_int_equal(awaited.count, 0);
    assert_true(exists(rig, "b") && !exists(rig, "a"));
    close(file);
    close(before);
    int after = dup(0); /* the file that nobody heard of was closed */
    assert_true(after <= before);
    close(after);
}

static struct disk_space space_of(struct rig *rig)
{
    struct disk_space space = {0};
    struct awaited awaited = nobody();
    assert_int_equal(rig->disk->ops->space(rig->disk, &space, &awaited.done), 0);
    assert_int_equal(await(rig, &awaited), 0);
    return space;
}

static void free_bytes_fall_with_what_is_prepared(void **state)
{
    struct rig *rig = *state;
    struct disk_space before = space_of(rig);
    int file = prepare(rig, "a", 4 * MIB);
    struct disk_space after = space_of(rig);
    assert_true(before.free_bytes >= after.free_bytes + 4 * MIB);
    assert_true(before.total_bytes == after.total_bytes);
    assert_true(after.total_bytes > after.free_bytes && after.free_files > 0);
    rig->disk->ops->forget(rig->disk, file);
}

static void a_full_disk_refuses_and_keeps_nothing(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(prepare(rig, "0/big", 64 * MIB), -ENOSPC);
    assert_false(exists(rig, "0"));
    int small = prepare(rig, "0/small", MIB);
    assert_true(small >= 0);
    assert_int_equal(prepare(rig, "0/big", 64 * MIB), -ENOSPC);
    assert_false(exists(rig, "0/big"));
    memset(rig->memory, 1, BLOCK);
    assert_int_equal(write_blocks(rig, small, 0, 1, DISK_DURABLE), BLOCK); /* has its space */
    rig->disk->ops->forget(rig->disk, small);
}

/* ---- The places ---- */

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
    char command[256];
    va_list values;
    va_start(values, format);
    vsnprintf(command, sizeof(command), format, values);
    va_end(values);
    return system(command);
}

static int place_make(struct rig *rig)
{
    snprintf(rig->folder, sizeof(rig->folder), "/tmp/test_disk.XXXXXX");
    if (mkdtemp(rig->folder) == NULL) {
        return -1;
    }
    if (rig->buffered) {
        rig->mounted = mount("ramfs", rig->folder, "ramfs", 0, "mode=700") == 0;
        return 0;
    }
    /* A real file system, small enough to be filled. */
    rig->mounted = run("truncate -s 24M %s.image && mke2fs -q -F -t ext4 %s.image >/dev/null 2>&1 "
                       "&& mount -o loop %s.image %s 2>/dev/null",
                       rig->folder, rig->folder, rig->folder, rig->folder) == 0;
    return run("rm -f %s.image", rig->folder); /* the loop device holds it */
}

static int rig_open(void **state)
{
    struct rig *rig = *state;
    void *memory = NULL;
    if (place_make(rig) != 0 || posix_memalign(&memory, BLOCK, 64 * BLOCK) != 0) {
        return -1;
    }
    memset(memory, 0, 64 * BLOCK);
    rig->memory = memory;
    if (!rig->with_uring) {
        return disk_open_thread(&rig->disk, rig->folder);
    }
    int error = uring_open(&rig->uring, 16, URING_SLEEPS);
    return error < 0 ? error : disk_open_uring(&rig->disk, &rig->uring, rig->folder);
}

static int rig_close(void **state)
{
    struct rig *rig = *state;
    if (rig->disk != NULL) {
        rig->disk->ops->close(rig->disk);
    }
    if (rig->with_uring) {
        uring_close(&rig->uring);
    }
    free(rig->memory);
    if (rig->mounted) {
        umount2(rig->folder, MNT_DETACH);
    }
    run("rm -rf %s", rig->folder);
    rig->disk = NULL;
    rig->watching = false;
    rig->mounted = false;
    return 0;
}

#define DISK_TEST(test)                                                                            \
    {                                                                                              \
#test, test, rig_open, rig_close, NULL                                                     \
    }
static const struct CMUnitTest table[] = {
    DISK_TEST(o_direct_is_reported_as_it_is),
    DISK_TEST(a_prepared_file_is_all_zeros_and_takes_its_space),
    DISK_TEST(what_was_written_is_read_back_and_found_when_opened),
    DISK_TEST(many_writes_may_be_under_way_from_pinned_memory_and_from_other),
    DISK_TEST(short_and_failed_transfers_are_errors),
    DISK_TEST(a_name_that_is_taken_is_refused_and_its_file_untouched),
    DISK_TEST(names_stay_inside_the_folder),
    DISK_TEST(what_is_removed_is_gone_and_what_is_not_there_is_said),
    DISK_TEST(a_list_tells_names_but_hidden_ones),
    DISK_TEST(a_disk_closed_with_work_under_way_tells_nobody),
    DISK_TEST(free_bytes_fall_with_what_is_prepared),
    DISK_TEST(a_full_disk_refuses_and_keeps_nothing),
};
#define TEST_COUNT (sizeof(table) / sizeof(table[0]))
#define SPACE_TEST_COUNT 2 /* the last: ramfs counts no space and is never full */

static int run_table(struct rig *rig)
{
    struct CMUnitTest tests[TEST_COUNT];
    memcpy(tests, table, sizeof(tests));
    for (unsigned i = 0; i < TEST_COUNT; i++) {
        tests[i].initial_state = rig;
    }
    size_t count = rig->buffered ? TEST_COUNT - SPACE_TEST_COUNT : TEST_COUNT;
    return _cmocka_run_group_tests(rig->name, tests, count, NULL, NULL);
}

int main(void)
{
    struct rig rigs[] = {
        {.name = "thread, direct"},
        {.name = "thread, buffered", .buffered = true},
        {.name = "io_uring, direct", .with_uring = true},
        {.name = "io_uring, buffered", .with_uring = true, .buffered = true},
    };
    /* What is mounted is seen by this process alone and goes with it. */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("1..1\nok 1 - disk # SKIP mounting small file systems needs root\n");
        return 0;
    }
    int failed = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (!rigs[i].with_uring || uring_probe() == 0) {
            failed += run_table(&rigs[i]);
        }
    }
    return failed;
}
