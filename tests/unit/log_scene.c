#include "tests/unit/log_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

uint32_t scene_below(struct scene *scene, uint32_t limit)
{
    scene->random = scene->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((scene->random >> 33) % limit);
}

struct scene *scene_open(uint64_t seed)
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

void scene_close(struct scene *scene)
{
    log_rig_close(&scene->rig);
    free(scene->told);
    free(scene->found);
    free(scene);
}

void scene_fill(uint8_t *bytes, uint64_t tag, uint32_t length)
{
    uint64_t state = tag * 0x9e3779b97f4a7c15ull + 1;
    for (uint32_t i = 0; i < length; i++) {
        state = state * 6364136223846793005ull + 1;
        bytes[i] = (uint8_t)(state >> 56);
    }
}

void told_done(struct log_waiter *waiter, int status)
{
    struct told *told = list_entry(waiter, struct told, waiter);
    assert_false(told->done);
    told->done = true;
    told->status = status;
}

struct told *scene_append(struct scene *scene, uint8_t flags, uint32_t length)
{
    struct told *told = &scene->told[scene->count];
    struct log_head head = {
        .type = flags & LOG_KEPT ? TYPE_NOTE : TYPE_MAIL, .flags = flags, .tag = scene->count};
    struct log_extent extent;
    scene_fill(scene->content, head.tag, length);
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
    scene_fill(scene->content, told->tag, told->length);
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

void scene_start(struct scene *scene)
{
    struct log_visitor visitor = {.record = found_record, .damaged = found_damaged, .owner = scene};
    scene->found_count = 0;
    scene->found_lsn = 0;
    memset(scene->found, 0, scene->capacity);
    assert_int_equal(log_rig_start(&scene->rig, &visitor), 0);
}
