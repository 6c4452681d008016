/* A store on a real disk, its index written by its thread. */
#include "engine/disk/disk.h"
#include "queue/log/log.h"
#include "queue/mailbox/mailstore.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define MESSAGES 3000u
#define TEXT_BYTES 3000u

struct scene {
    char folder[64], index[96];
    struct disk *disk;
    struct log *log;
    struct mailstore *store;
    void *memory;
    uint64_t now_ns;
    uint32_t waiting;
};

static void store_open(struct scene *scene)
{
    assert_int_equal(disk_open_thread(&scene->disk, scene->folder), 0);
    struct log_settings settings = {.disk = scene->disk,
                                    .segment_bytes = LOG_SEGMENT_BYTES_MIN,
                                    .memory = scene->memory,
                                    .memory_bytes = LOG_MEMORY_BYTES_MIN,
                                    .new_id = 5};
    struct mailstore_settings mailbox = {.index_path = scene->index,
                                         .index_changes_max = 500,
                                         .clean_bytes_min = 1,
                                         .wall_s = 1700000000};
    assert_int_equal(log_open(&scene->log, &settings), 0);
    assert_int_equal(mailstore_open(&scene->store, scene->log, &mailbox), 0);
}

static void turn(struct scene *scene)
{
    scene->now_ns += 1000000;
    unsigned done = scene->disk->ops->reap(scene->disk);
    done += log_round(scene->log, scene->now_ns);
    done += mailstore_round(scene->store, 1700000000);
    done += log_flush(scene->log);
    scene->disk->ops->submit(scene->disk);
    if (done == 0) {
        usleep(50);
    }
}

static void store_close(struct scene *scene)
{
    mailstore_rest(scene->store);
    while (!mailstore_is_quiet(scene->store) || !log_is_quiet(scene->log)) {
        turn(scene);
    }
    mailstore_close(scene->store);
    log_close(scene->log);
    scene->disk->ops->close(scene->disk);
}

struct letter {
    struct mailstore_waiter waiter;
    struct mailstore_place place;
    struct scene *scene;
};
static void delivered(struct mailstore_waiter *waiter, int status)
{
    struct letter *letter = list_entry(waiter, struct letter, waiter);
    assert_int_equal(status, 0);
    assert_int_equal(letter->place.status, 0);
    letter->scene->waiting--;
    free(letter);
}

static void deliver(struct scene *scene, uint32_t number)
{
    char name[32], text[TEXT_BYTES];
    struct letter *letter = (struct letter *)calloc(1, sizeof(*letter));
    struct mailstore_draft *draft;
    snprintf(name, sizeof(name), "user%u", number % 100);
    memset(text, 'a' + (char)(number % 26), sizeof(text));
    struct slice part = slice_of(text, sizeof(text));
    letter->scene = scene;
    letter->waiter.done = delivered;
    letter->place.user = slice_text(name);
    while (mailstore_begin(scene->store, &draft) == -EAGAIN) {
        turn(scene);
    }
    while (mailstore_append(draft, &part, 1) == -EAGAIN) {
        turn(scene);
    }
    scene->waiting++;
    assert_int_equal(mailstore_commit(draft, 0, &letter->place, 1, &letter->waiter), 0);
}

static void all_check(struct scene *scene)
{
    for (uint32_t number = 0; number < 100; number++) {
        char name[32];
        struct mailstore_user *user;
        snprintf(name, sizeof(name), "user%u", number);
        assert_int_equal(mailstore_user_open(scene->store, slice_text(name), &user), 0);
        struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
        assert_non_null(box);
        assert_int_equal(mailstore_box_open(scene->store, box), 0);
        assert_int_equal(box->count, MESSAGES / 100);
        for (uint32_t i = 0; i < box->count; i++) {
            assert_int_equal(box->entries[i].uid, i + 1);
        }
        mailstore_box_close(scene->store, box);
        mailstore_user_close(scene->store, user);
    }
}

static void folder_remove(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char name[512];
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlink(name) != 0) {
            folder_remove(name);
        }
    }
    if (folder != NULL) {
        closedir(folder);
        rmdir(path);
    }
}

static void many_deliveries_survive_restarts_on_a_real_disk(void **state)
{
    struct scene *scene = (struct scene *)calloc(1, sizeof(*scene));
    (void)state;
    snprintf(scene->folder, sizeof(scene->folder), "/tmp/tubepost-mailstore-XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    snprintf(scene->index, sizeof(scene->index), "%s/index", scene->folder);
    scene->memory = aligned_alloc(DISK_BLOCK_BYTES, LOG_MEMORY_BYTES_MIN);
    store_open(scene);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        deliver(scene, i);
        if (i % 16 == 0) {
            turn(scene);
        }
    }
    while (scene->waiting > 0) {
        turn(scene);
    }
    all_check(scene);
    assert_true(mailstore_counters(scene->store)->index_writes > 0);
    store_close(scene);
    store_open(scene);
    assert_int_equal(mailstore_counters(scene->store)->rebuilds, 0);
    assert_int_equal(mailstore_counters(scene->store)->replayed_records, 0);
    all_check(scene);
    store_close(scene);
    unlink(scene->index);
    store_open(scene);
    assert_int_equal(mailstore_counters(scene->store)->rebuilds, 1);
    all_check(scene);
    store_close(scene);
    folder_remove(scene->folder);
    free(scene->memory);
    free(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_deliveries_survive_restarts_on_a_real_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
