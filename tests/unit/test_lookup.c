/* A shard's way to the maps: remembered, asked once, told on the shard. */
#include "engine/core/check.h"
#include "engine/lookup/lookup.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND_NS 1000000000ull

static struct helpers *helpers;
static struct shard shard;
static struct lookup *lookup;
static struct map *map;
static uint64_t now_ns;

static uint64_t clock_now(void *self)
{
    (void)self;
    return now_ns;
}

static int64_t clock_wall(void *self)
{
    (void)self;
    return 0;
}

static void random_fill(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static const struct world world = {
    .now_ns = clock_now, .wall_s = clock_wall, .random = random_fill};

struct asker {
    struct lookup_query query;
    unsigned told;
    struct lookup_value *value;
    pthread_t thread;
};

static void told(struct lookup_query *query, struct lookup_value *value)
{
    struct asker *asker = list_entry(query, struct asker, query);
    asker->told++;
    asker->value = value;
    asker->thread = pthread_self();
}

static int ask(struct asker *asker, const char *key)
{
    *asker = (struct asker){.query = {.told = told}};
    return lookup_find(lookup, map, slice_text(key), &asker->query, &asker->value);
}

static void assert_value(struct asker *asker, enum map_answer answer, const char *text)
{
    assert_non_null(asker->value);
    assert_int_equal(asker->value->answer, answer);
    assert_true(slice_equal(asker->value->text, slice_text(text)));
    lookup_value_drop(asker->value);
    asker->value = NULL;
}

static void open_all(bool with_helpers, const struct lookup_settings *more, const char *name)
{
    char problem[MAP_PROBLEM_MAX];
    const struct shard_settings settings = {.count = 1, .cpu = -1, .world = &world};
    const struct helpers_settings helping = {
        .threads = 2, .queue_max = 16, .own_bytes = LOOKUP_HELPER_BYTES, .name = "lookup"};
    now_ns = SECOND_NS;
    assert_int_equal(shard_open(&shard, &settings), 0);
    helpers = NULL;
    if (with_helpers) {
        assert_int_equal(helpers_open(&helpers, &helping), 0);
    }
    struct lookup_settings own = *more;
    own.shard = &shard;
    own.helpers = helpers;
    assert_int_equal(lookup_open(&lookup, &own), 0);
    assert_int_equal(map_open(&map, name, problem), 0);
    shard_round(&shard);
}

static void close_all(void)
{
    if (lookup != NULL) {
        lookup_close(lookup);
    }
    if (helpers != NULL) {
        helpers_close(helpers);
    }
    map_close(map);
    shard_close(&shard);
}

/* Rounds of the shard until nothing is asked any more. */
static void rounds(void)
{
    for (unsigned i = 0; i < 10000 && lookup_counters(lookup)->asked > 0; i++) {
        shard_round(&shard);
        usleep(100);
    }
    assert_int_equal(lookup_counters(lookup)->asked, 0);
}

static void without_helpers_maps_are_asked_in_place(void **state)
{
    struct asker asker;
    (void)state;
    open_all(false, &(struct lookup_settings){0}, "inline:{a@b.test=c@d.test}");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ask(&asker, i == 1 ? "A@B.test" : "a@b.test"), 0);
        assert_value(&asker, MAP_FOUND, "c@d.test");
        assert_int_equal(ask(&asker, "x"), 0);
        assert_value(&asker, MAP_ABSENT, "");
    }
    assert_int_equal(lookup_counters(lookup)->misses, 2);
    assert_int_equal(lookup_counters(lookup)->hits, 4);
    assert_int_equal(ask(&asker, ""), 0);
    assert_value(&asker, MAP_ABSENT, "");
    close_all();
}

static void what_helpers_find_is_told_on_the_shard_and_once_for_all(void **state)
{
    struct asker first, second, third;
    (void)state;
    open_all(true, &(struct lookup_settings){0}, "inline:{a=1, b=2}");
    assert_int_equal(ask(&first, "a"), -EINPROGRESS);
    assert_int_equal(ask(&second, "a"), -EINPROGRESS);
    assert_int_equal(ask(&third, "b"), -EINPROGRESS);
    assert_int_equal(lookup_counters(lookup)->asked, 2);
    usleep(20000); /* answered by now, and nobody was told before the shard's round */
    assert_int_equal(first.told, 0);
    rounds();
    assert_int_equal(first.told + second.told + third.told, 3);
    assert_true(pthread_equal(first.thread, pthread_self()));
    assert_value(&first, MAP_FOUND, "1");
    assert_value(&second, MAP_FOUND, "1");
    assert_value(&third, MAP_FOUND, "2");
    assert_int_equal(ask(&first, "a"), 0);
    assert_value(&first, MAP_FOUND, "1");
    close_all();
}

static void whoever_has_gone_is_not_told(void **state)
{
    struct asker gone, stays;
    (void)state;
    open_all(true, &(struct lookup_settings){0}, "inline:{a=1}");
    assert_int_equal(ask(&gone, "a"), -EINPROGRESS);
    assert_int_equal(ask(&stays, "a"), -EINPROGRESS);
    lookup_cancel(&gone.query);
    rounds();
    assert_int_equal(gone.told, 0);
    assert_value(&stays, MAP_FOUND, "1");
    assert_int_equal(ask(&gone, "z"), -EINPROGRESS);
    lookup_cancel(&gone.query);
    lookup_close(lookup); /* the answer comes later, to nobody */
    lookup = NULL;
    for (unsigned i = 0; i < 100; i++) {
        shard_round(&shard);
        usleep(100);
    }
    assert_int_equal(gone.told, 0);
    close_all();
}

static void answers_grow_old(void **state)
{
    const struct lookup_settings lives = {
        .found_ns = 10 * SECOND_NS, .absent_ns = 5 * SECOND_NS, .failed_ns = SECOND_NS};
    struct asker asker;
    (void)state;
    open_all(false, &lives, "inline:{a=1}");
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(ask(&asker, "a"), 0);
        assert_value(&asker, MAP_FOUND, "1");
        assert_int_equal(ask(&asker, "b"), 0);
        assert_value(&asker, MAP_ABSENT, "");
        now_ns += SECOND_NS;
        shard_round(&shard);
    }
    assert_int_equal(lookup_counters(lookup)->misses, 2 + 3);
    close_all();
}

static void a_map_that_has_changed_is_asked_anew(void **state)
{
    char name[64] = "texthash:/tmp/lookup-XXXXXX";
    struct asker asker;
    (void)state;
    int fd = mkstemp(name + 9);
    assert_true(fd >= 0 && write(fd, "a 1\nb 1\n", 8) == 8);
    open_all(false, &(struct lookup_settings){0}, name);
    assert_int_equal(ask(&asker, "a"), 0);
    assert_value(&asker, MAP_FOUND, "1");
    assert_int_equal(pwrite(fd, "a 22\nb 22\n", 10, 0), 10);
    now_ns += 2 * SECOND_NS;
    shard_round(&shard);
    assert_int_equal(ask(&asker, "b"), 0); /* by which it is noticed */
    assert_value(&asker, MAP_FOUND, "22");
    assert_int_equal(ask(&asker, "a"), 0);
    assert_value(&asker, MAP_FOUND, "22");
    close(fd);
    unlink(name + 9);
    close_all();
}

static void a_failure_is_told_with_its_reason_and_soon_asked_again(void **state)
{
    struct asker asker;
    char path[] = "/tmp/lookup-XXXXXX";
    char name[64];
    static const char text[] = "dbpath = /nowhere\nquery = select 1\n";
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1);
    snprintf(name, sizeof(name), "sqlite:%s", path);
    open_all(true, &(struct lookup_settings){0}, name);
    assert_int_equal(ask(&asker, "a"), -EINPROGRESS);
    rounds();
    assert_value(&asker, MAP_FAILED, "/nowhere: cannot be opened");
    assert_int_equal(ask(&asker, "a"), 0);
    assert_value(&asker, MAP_FAILED, "/nowhere: cannot be opened");
    now_ns += 6 * SECOND_NS;
    shard_round(&shard);
    assert_int_equal(ask(&asker, "a"), -EINPROGRESS);
    rounds();
    lookup_value_drop(asker.value);
    assert_int_equal(lookup_counters(lookup)->failures, 2);
    close(fd);
    unlink(path);
    close_all();
}

static void memory_and_questions_are_bounded(void **state)
{
    const struct lookup_settings few = {.bytes_max = 4096, .asked_max = 3};
    struct asker askers[5];
    char key[32];
    (void)state;
    open_all(false, &few, "inline:{a=1}");
    for (unsigned i = 0; i < 500; i++) {
        snprintf(key, sizeof(key), "key %u", i);
        assert_int_equal(ask(&askers[0], key), 0);
        assert_value(&askers[0], MAP_ABSENT, "");
        assert_true(lookup_counters(lookup)->bytes <= 4096);
    }
    assert_true(lookup_counters(lookup)->evicted > 400);
    close_all();
    open_all(true, &few, "inline:{a=1}");
    for (unsigned i = 0; i < 5; i++) {
        snprintf(key, sizeof(key), "key %u", i);
        assert_int_equal(ask(&askers[i], key), i < 3 ? -EINPROGRESS : -ENOBUFS);
    }
    assert_int_equal(lookup_counters(lookup)->refused, 2);
    rounds();
    for (unsigned i = 0; i < 3; i++) {
        assert_value(&askers[i], MAP_ABSENT, "");
    }
    close_all();
}

static void after_a_reload_nothing_of_the_old_maps_is_believed(void **state)
{
    struct asker asker;
    (void)state;
    open_all(true, &(struct lookup_settings){0}, "inline:{a=1}");
    assert_int_equal(ask(&asker, "a"), -EINPROGRESS);
    lookup_forget(lookup);
    rounds();
    assert_value(&asker, MAP_FOUND, "1"); /* who asked before is told */
    assert_int_equal(lookup_counters(lookup)->bytes, 0);
    assert_int_equal(ask(&asker, "a"), -EINPROGRESS);
    rounds();
    assert_value(&asker, MAP_FOUND, "1");
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_helpers_maps_are_asked_in_place),
        cmocka_unit_test(what_helpers_find_is_told_on_the_shard_and_once_for_all),
        cmocka_unit_test(whoever_has_gone_is_not_told),
        cmocka_unit_test(answers_grow_old),
        cmocka_unit_test(a_map_that_has_changed_is_asked_anew),
        cmocka_unit_test(a_failure_is_told_with_its_reason_and_soon_asked_again),
        cmocka_unit_test(memory_and_questions_are_bounded),
        cmocka_unit_test(after_a_reload_nothing_of_the_old_maps_is_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
