/* Desks of three shards on a clock of the test's own: words, answers, and what becomes of them at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/system_world.h"
#include "engine/relay/lease_desk.h"
#include "engine/shard/memory.h"
#include "engine/shard/shard.h"
#include "queue/spool/spool.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARDS 3
#define MS 1000000ull
#define SECOND (1000 * MS)
#define MESSAGES 64

static const struct sched_site_settings site_settings = {
    .connection_count_max = 100,
    .address_count = 1,
    .retry = {.first_ns = SECOND, .limit_ns = SECOND},
    .reconnect = {.first_ns = SECOND, .limit_ns = SECOND},
    .expire_ns = 1000 * SECOND,
};

struct scene {
    struct world world;
    uint64_t now_ns;
    struct logger logger;
    struct shard shards[SHARDS];
    struct lease_desk *desks[SHARDS];
    struct sched *scheds[SHARDS];
    struct sched_group *groups[SHARDS]; /* NULL: none */
    struct sched_site *sites[SHARDS];
    struct message messages[MESSAGES];
    unsigned message_count;
};

static uint64_t scene_now_ns(void *self)
{
    return ((struct scene *)self)->now_ns;
}

static void scene_random(void *self, void *bytes, size_t size)
{
    memset(bytes, 3 + (int)((struct scene *)self)->now_ns, size);
}

static void desk_flush(void *self, uint64_t now_ns)
{
    (void)now_ns;
    lease_desk_round(self);
}

static struct scene *scene_open(void)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct shard *shards[SHARDS];
    assert_non_null(scene);
    scene->world = (struct world){.self = scene, .now_ns = scene_now_ns, .random = scene_random};
    scene->now_ns = SECOND;
    logger_open(&scene->logger, STDERR_FILENO, LOGGER_WARNING);
    for (unsigned i = 0; i < SHARDS; i++) {
        const struct shard_settings settings = {.index = i,
                                                .count = SHARDS,
                                                .cpu = -1,
                                                .world = &scene->world,
                                                .logger = &scene->logger};
        shards[i] = &scene->shards[i];
        assert_int_equal(shard_open(shards[i], &settings), 0);
        const struct lease_desk_settings desk = {
            .shard = shards[i], .all = scene->desks, .index = i, .count = SHARDS};
        assert_int_equal(lease_desk_open(&desk), 0);
        shard_add(shards[i], &(struct shard_part){
                                 .name = "leases", .self = scene->desks[i], .flush = desk_flush});
        scene->scheds[i] = sched_open(i);
        assert_non_null(scene->scheds[i]);
        lease_desk_attach(scene->desks[i], scene->scheds[i]);
    }
    assert_int_equal(shard_connect_all(shards, SHARDS), 0);
    return scene;
}

static void empty(struct scene *scene, unsigned shard)
{
    struct sched_delivery *delivery;
    while ((delivery = sched_evict(scene->sites[shard])) != NULL) {
        sched_done(delivery);
    }
    assert_int_equal(sched_wants_connection(scene->sites[shard], scene->now_ns), 0);
}

static void leave(struct scene *scene, unsigned shard)
{
    empty(scene, shard);
    sched_site_close(scene->sites[shard]);
    lease_desk_leave(scene->desks[shard], scene->groups[shard]);
    sched_group_close(scene->groups[shard]);
    scene->groups[shard] = NULL;
}

static void scene_close(struct scene *scene)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        sched_close(scene->scheds[i]);
        if (scene->groups[i] != NULL) {
            lease_desk_leave(scene->desks[i], scene->groups[i]);
            sched_group_close(scene->groups[i]);
        }
        lease_desk_attach(scene->desks[i], NULL);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        lease_desk_close(scene->desks[i]);
        shard_close(&scene->shards[i]);
    }
    free(scene);
}

static void join(struct scene *scene, unsigned shard, uint64_t id,
                 const struct sched_limits *limits)
{
    struct sched_site_settings settings = site_settings;
    const struct lease_id lease_id = {.words = {id, 1}};
    assert_int_equal(sched_group_open(scene->scheds[shard], limits, &scene->groups[shard]), 0);
    assert_null(lease_desk_find(scene->desks[shard], &lease_id));
    assert_int_equal(lease_desk_join(scene->desks[shard], &lease_id, scene->groups[shard], limits,
                                     &scene->groups[shard]),
                     0);
    assert_ptr_equal(lease_desk_find(scene->desks[shard], &lease_id), &scene->groups[shard]);
    settings.group = scene->groups[shard];
    assert_int_equal(sched_site_open(scene->scheds[shard], &settings, NULL, &scene->sites[shard]),
                     0);
}

static void want(struct scene *scene, unsigned shard, unsigned count)
{
    uint32_t index = 0;
    for (; count > 0; count--) {
        const struct sched_request request = {.message = &scene->messages[scene->message_count++],
                                              .indexes = &index,
                                              .count = 1,
                                              .due_ns = scene->now_ns};
        assert_int_equal(sched_add(scene->sites[shard], &request, scene->now_ns), 0);
    }
    assert_int_equal(sched_wants_connection(scene->sites[shard], scene->now_ns), 0);
}

static void rounds(struct scene *scene, unsigned count)
{
    for (; count > 0; count--) {
        scene->now_ns += MS;
        for (unsigned i = 0; i < SHARDS; i++) {
            shard_round(&scene->shards[i]);
        }
    }
}

/* How many connections it can open now. */
static unsigned opens(struct scene *scene, unsigned shard)
{
    unsigned wanted = sched_wants_connection(scene->sites[shard], scene->now_ns);
    for (unsigned i = 0; i < wanted; i++) {
        sched_connection_started(scene->sites[shard]);
        sched_connection_opened(scene->sites[shard]);
    }
    return wanted;
}

static void closes(struct scene *scene, unsigned shard, unsigned count)
{
    for (; count > 0; count--) {
        sched_connection_closed(scene->sites[shard]);
    }
}

static const struct sched_limits four = {.connection_count_max = 4};

/* ---- */

static void one_limit_holds_for_groups_of_one_id_on_all_shards(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 16; id++) { /* whichever shard keeps the book */
        struct scene *scene = scene_open();
        for (unsigned i = 0; i < SHARDS; i++) {
            join(scene, i, id, &four);
            want(scene, i, 4);
        }
        rounds(scene, 4);
        unsigned open = 0;
        for (unsigned i = 0; i < SHARDS; i++) {
            unsigned here = opens(scene, i);
            assert_in_range(here, 1, 2);
            open += here;
        }
        assert_int_equal(open, 4);
        scene_close(scene);
    }
}

static void groups_of_other_ids_do_not_share(void **state)
{
    (void)state;
    struct scene *scene = scene_open();
    for (unsigned i = 0; i < SHARDS; i++) {
        join(scene, i, 10 + i, &four);
        want(scene, i, 4);
    }
    rounds(scene, 4);
    for (unsigned i = 0; i < SHARDS; i++) {
        assert_int_equal(opens(scene, i), 4);
    }
    scene_close(scene);
}

static void a_group_that_ends_leaves_its_part_and_may_come_again(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 16; id++) {
        struct scene *scene = scene_open();
        join(scene, 0, id, &four);
        join(scene, 1, id, &four);
        for (unsigned turn = 0; turn < 5; turn++) {
            want(scene, 0, 4);
            leave(scene, 0); /* the answer is under way, to nobody */
            join(scene, 0, id, &four);
            rounds(scene, 1 + turn % 3);
        }
        want(scene, 1, 4);
        rounds(scene, 4);
        assert_int_equal(opens(scene, 1), 4);
        scene_close(scene);
    }
}

static void new_limits_hold_for_all(void **state)
{
    (void)state;
    struct scene *scene = scene_open();
    join(scene, 0, 5, &four);
    join(scene, 1, 5, &four);
    want(scene, 0, 10);
    rounds(scene, 4);
    assert_int_equal(opens(scene, 0), 4);
    const struct sched_limits seven = {.connection_count_max = 7};
    sched_group_set(scene->groups[1], &seven);
    lease_desk_set(scene->desks[1], scene->groups[1], &seven); /* the other has not read it yet */
    rounds(scene, 4);
    assert_int_equal(opens(scene, 0), 3);
    scene_close(scene);
}

static void what_is_idle_goes_to_who_needs_it(void **state)
{
    (void)state;
    struct scene *scene = scene_open();
    join(scene, 0, 5, &four);
    join(scene, 1, 5, &four);
    want(scene, 0, 4);
    rounds(scene, 4);
    assert_int_equal(opens(scene, 0), 4);
    closes(scene, 0, 4);
    empty(scene, 0);
    want(scene, 1, 4);
    rounds(scene, 6);
    assert_int_equal(opens(scene, 1), 4);
    scene_close(scene);
}

static void tokens_come_when_they_are_due(void **state)
{
    (void)state;
    const struct sched_limits limits = {.connection_count_max = 9,
                                        .connections = {.count = 1, .period_ns = SECOND}};
    struct scene *scene = scene_open();
    for (unsigned i = 0; i < SHARDS; i++) {
        join(scene, i, 5, &limits);
        want(scene, i, 5);
    }
    unsigned opened = 0;
    for (unsigned ms = 0; ms < 10000; ms += 5) {
        rounds(scene, 5);
        for (unsigned i = 0; i < SHARDS; i++) {
            struct sched_site *looked;
            while ((looked = sched_look(scene->scheds[i])) != NULL) {
            }
            opened += opens(scene, i);
        }
    }
    assert_in_range(opened, 8, 9); /* the limit of those at once */
    scene_close(scene);
}

static int start_eal(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_lease_desk", .megabytes = 32};
    return memory_start(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_limit_holds_for_groups_of_one_id_on_all_shards),
        cmocka_unit_test(groups_of_other_ids_do_not_share),
        cmocka_unit_test(a_group_that_ends_leaves_its_part_and_may_come_again),
        cmocka_unit_test(new_limits_hold_for_all),
        cmocka_unit_test(what_is_idle_goes_to_who_needs_it),
        cmocka_unit_test(tokens_come_when_they_are_due),
    };
    return cmocka_run_group_tests(tests, start_eal, NULL);
}
