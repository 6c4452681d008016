/* The index of a store, and its file, when there is no room. */
#include "queue/mailbox/mailstore_index.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>

/* ── A file system that may be full: LMDB writes through these ───────────────────────────────── */

static bool is_full;

ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset)
{
    if (is_full) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, file, bytes, size, offset);
}

ssize_t writev(int file, const struct iovec *pieces, int count)
{
    if (is_full) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_writev, file, pieces, count);
}

/* And a machine that has no more addresses than these, as the index is told when it tries. */
static size_t most_addresses = SIZE_MAX;

void *__real_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    if (size > most_addresses) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(at, size, protection, flags, file, offset);
}

/* ── An index ────────────────────────────────────────────────────────────────────────────────── */

struct scene {
    struct index *index;
    struct mailstore_settings settings;
    char folder[64], path[80];
};

static void scene_start(struct scene *scene)
{
    bool damaged;
    assert_int_equal(index_open(&scene->index, &scene->settings, &damaged), 0);
    assert_false(damaged);
}

static int scene_open(void **state)
{
    struct scene *scene = (struct scene *)calloc(1, sizeof *scene);
    assert_non_null(scene);
    snprintf(scene->folder, sizeof scene->folder, "/tmp/test_mailstore_index.XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    snprintf(scene->path, sizeof scene->path, "%s/index", scene->folder);
    scene->settings.index_path = scene->path;
    scene->settings.driven = true;
    *state = scene;
    return 0;
}

static int scene_close(void **state)
{
    static const char *const ends[] = {"", "-lock", ".owner"};
    struct scene *scene = (struct scene *)*state;
    is_full = false;
    most_addresses = SIZE_MAX;
    index_close(scene->index);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s", scene->path, ends[i]);
        unlink(name);
    }
    assert_int_equal(rmdir(scene->folder), 0);
    free(scene);
    return 0;
}

static struct slice name_of(char name[16], uint32_t number)
{
    snprintf(name, 16, "%08u", number);
    return slice_text(name);
}

static void rows_put(struct scene *scene, uint32_t first, uint32_t last)
{
    uint8_t value[1000] = {0};
    for (uint32_t i = first; i <= last; i++) {
        char name[16];
        memcpy(value, &i, sizeof i);
        assert_int_equal(index_put(scene->index, name_of(name, i), slice_of(value, sizeof value)),
                         0);
    }
}

static void rows_are(struct scene *scene, uint32_t first, uint32_t last)
{
    for (uint32_t i = first; i <= last; i++) {
        char name[16];
        struct slice value;
        uint32_t number;
        assert_int_equal(index_get(scene->index, name_of(name, i), &value), 0);
        assert_int_equal(value.size, 1000);
        memcpy(&number, value.bytes, sizeof number);
        assert_int_equal(number, i);
    }
}

static void it_outlasts_a_disk_that_is_full_for_hours(void **state)
{
    struct scene *scene = (struct scene *)*state;
    scene_start(scene);
    rows_put(scene, 1, 1000);
    assert_int_equal(index_write(scene->index), 0);
    assert_int_equal(index_wait(scene->index), 1);
    rows_put(scene, 1001, 2000);
    is_full = true;
    assert_int_equal(index_write(scene->index), 0);
    for (uint32_t i = 0; i < 4000; i++) { /* the second of a failure and its next attempt */
        int status = index_round(scene->index);
        assert_true(status == -ENOSPC || status == 0);
        rows_are(scene, 1, 10);
        rows_are(scene, 1001, 1010);
    }
    is_full = false;
    int status = index_wait(scene->index); /* of the last attempt, or of the next */
    assert_int_equal(status == -ENOSPC ? index_wait(scene->index) : status, 1);
    rows_are(scene, 1, 2000);
}

/* What is built from a whole log is waited for. */
static void it_has_as_many_addresses_as_it_needs(void **state)
{
    struct scene *scene = (struct scene *)*state;
    scene->settings.index_bytes_max = 1u << 20;
    scene_start(scene);
    rows_put(scene, 1, 9000);
    assert_int_equal(index_write(scene->index), 0);
    assert_int_equal(index_wait(scene->index), 1);
    rows_are(scene, 1, 9000);
}

static void without_more_addresses_it_goes_on_with_those_that_it_has(void **state)
{
    struct scene *scene = (struct scene *)*state;
    scene->settings.index_bytes_max = 1u << 20;
    scene_start(scene);
    rows_put(scene, 1, 100);
    assert_int_equal(index_write(scene->index), 0);
    assert_int_equal(index_wait(scene->index), 1);
    rows_put(scene, 101, 9000);
    most_addresses = 3u << 20;
    assert_int_equal(index_write(scene->index), 0);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(index_wait(scene->index), -ENOSPC);
        rows_are(scene, 1, 9000);
    }
    most_addresses = SIZE_MAX;
    assert_int_equal(index_wait(scene->index), 1);
    rows_are(scene, 1, 9000);
}

static void while_it_is_glanced_at_it_is_cramped_and_grows_behind_that(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct index *glance;
    struct slice value;
    char name[16];
    scene->settings.index_bytes_max = 1u << 20;
    scene_start(scene);
    rows_put(scene, 1, 100);
    assert_int_equal(index_write(scene->index), 0);
    assert_int_equal(index_wait(scene->index), 1);
    assert_int_equal(index_glance_begin(scene->index, &glance), 0);
    rows_put(scene, 101, 3000);
    assert_int_equal(index_write(scene->index), 0);
    assert_int_equal(index_wait(scene->index), -ENOSPC);
    assert_true(index_is_cramped(scene->index));
    assert_int_equal(index_get(glance, name_of(name, 100), &value), 0);
    assert_int_equal(index_get(glance, name_of(name, 101), &value), -ENOENT);
    index_glance_end(glance);
    assert_int_equal(index_wait(scene->index), 1);
    assert_false(index_is_cramped(scene->index));
    rows_are(scene, 1, 3000);
}

/* LMDB uses no page again that somebody may look at, and its file never becomes smaller. */
static void while_it_is_glanced_at_its_file_grows_so_much_and_no_more(void **state)
{
    struct scene *scene = (struct scene *)*state;
    struct index *glance;
    struct stat before, behind;
    scene->settings.index_bytes_max = 64u << 20;
    scene_start(scene);
    rows_put(scene, 1, 3000);
    assert_int_equal(index_write(scene->index), 0);
    assert_int_equal(index_wait(scene->index), 1);
    assert_int_equal(stat(scene->path, &before), 0);
    assert_int_equal(index_glance_begin(scene->index, &glance), 0);
    assert_false(index_is_cramped(scene->index));
    for (uint32_t i = 0; i < 1000 && !index_is_cramped(scene->index); i++) {
        rows_put(scene, 1 + i % 3000, 1 + i % 3000 + 20);
        assert_int_equal(index_write(scene->index), 0);
        assert_int_equal(index_wait(scene->index), 1);
    }
    assert_true(index_is_cramped(scene->index));
    assert_int_equal(stat(scene->path, &behind), 0);
    assert_in_range(behind.st_size, before.st_size * 3 / 2, before.st_size * 3);
    index_glance_end(glance);
    assert_false(index_is_cramped(scene->index));
}

/* Of the file, in the process's memory. */
static size_t resident_bytes(const struct scene *scene)
{
    char line[512];
    size_t kib = 0, one;
    bool ours = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            ours = strstr(line, scene->path) != NULL;
        } else if (ours && sscanf(line, "Rss: %zu kB", &one) == 1) {
            kib += one;
        }
    }
    fclose(file);
    return kib * 1024;
}

static void walk_all(struct scene *scene, uint32_t rows, size_t *most)
{
    struct index_walk walk;
    uint32_t count = 0;
    bool more = index_walk_begin(scene->index, &walk, slice_text(""), slice_of(NULL, 0));
    for (; more; more = index_walk_next(&walk)) {
        size_t now = ++count % 1024 == 0 ? resident_bytes(scene) : 0;
        *most = now > *most ? now : *most;
    }
    index_walk_end(&walk);
    assert_int_equal(count, rows);
}

static void of_a_large_file_that_is_read_a_part_stays_in_memory(void **state)
{
    struct scene *scene = (struct scene *)*state;
    const uint32_t rows = 64 * 1024;
    size_t most = 0;
    scene->settings.index_unsafe = true;
    scene_start(scene);
    rows_put(scene, 1, rows);
    index_write(scene->index);
    assert_int_equal(index_wait(scene->index), 1);
    walk_all(scene, rows, &most);
    for (uint32_t i = 1; i <= rows; i += 1024) {
        rows_are(scene, i, i + 1023);
        size_t now = resident_bytes(scene);
        most = now > most ? now : most;
    }
    assert_in_range(most, 1, 32u << 20);
}

int main(void)
{
#define WITH_SCENE(test) cmocka_unit_test_setup_teardown(test, scene_open, scene_close)
    const struct CMUnitTest tests[] = {
        WITH_SCENE(it_outlasts_a_disk_that_is_full_for_hours),
        WITH_SCENE(it_has_as_many_addresses_as_it_needs),
        WITH_SCENE(without_more_addresses_it_goes_on_with_those_that_it_has),
        WITH_SCENE(while_it_is_glanced_at_it_is_cramped_and_grows_behind_that),
        WITH_SCENE(while_it_is_glanced_at_its_file_grows_so_much_and_no_more),
        WITH_SCENE(of_a_large_file_that_is_read_a_part_stays_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
