/* A shard's way to the directory: asked on a helper, told on the shard, late when somebody has failed. */
#include "engine/auth/auth.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND_NS 1000000000ull

static struct shard shard;
static struct helpers *helpers;
static struct directory *directory;
static struct auth *auth;
static struct logger logger;
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
    struct auth_request request;
    unsigned told;
    enum auth_outcome outcome;
    char user[64];
    pthread_t thread;
};

static void told(struct auth_request *request, const struct auth_answer *answer)
{
    struct asker *asker = list_entry(request, struct asker, request);
    asker->told++;
    asker->outcome = answer->outcome;
    snprintf(asker->user, sizeof(asker->user), "%.63s", answer->user);
    asker->thread = pthread_self();
}

static int ask(struct asker *asker, const char *user, const char *password)
{
    *asker = (struct asker){.request = {.told = told}};
    const struct auth_ask question = {.kind = AUTH_VERIFY,
                                      .method = "PLAIN",
                                      .authid = slice_text(user),
                                      .password = slice_text(password)};
    return auth_ask(auth, &asker->request, &question);
}

static int set_up(void **state)
{
    static const char *const backends[] = {"static:tim:{PLAIN}secret", NULL};
    char problem[BACKEND_PROBLEM_MAX];
    const struct shard_settings settings = {.count = 1, .cpu = -1, .world = &world};
    const struct helpers_settings helping = {.threads = 2, .queue_max = 16, .name = "auth"};
    const struct directory_settings of_users = {
        .backends = backends, .world = &world, .logger = &logger};
    (void)state;
    now_ns = SECOND_NS;
    logger_open(&logger, -1, LOGGER_ERROR);
    assert_int_equal(shard_open(&shard, &settings), 0);
    assert_int_equal(helpers_open(&helpers, &helping), 0);
    assert_int_equal(directory_open(&directory, &of_users, problem), 0);
    const struct auth_settings own = {
        .shard = &shard, .helpers = helpers, .directory = directory, .asked_max = 3};
    assert_int_equal(auth_open(&auth, &own), 0);
    shard_round(&shard);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (auth != NULL) {
        auth_close(auth);
    }
    helpers_close(helpers);
    directory_close(directory);
    shard_close(&shard);
    return 0;
}

/* Rounds of the shard while the clock stands, until so many questions are left. False: they did not end. */
static bool rounds_until(uint32_t left)
{
    for (unsigned i = 0; i < 50000 && auth_asked(auth) > left; i++) {
        shard_round(&shard);
        usleep(100);
    }
    return auth_asked(auth) == left;
}

static void the_answer_comes_to_the_shard(void **state)
{
    struct asker asker;
    (void)state;
    assert_int_equal(ask(&asker, "Tim", "secret"), 0);
    assert_int_equal(asker.told, 0);
    assert_true(rounds_until(0));
    assert_int_equal(asker.told, 1);
    assert_int_equal(asker.outcome, AUTH_RIGHT);
    assert_string_equal(asker.user, "tim");
    assert_true(pthread_equal(asker.thread, pthread_self()));
    assert_null(asker.request.job);
}

static void who_fails_is_told_when_his_time_is_over_and_others_at_once(void **state)
{
    struct asker wrong, right;
    (void)state;
    assert_int_equal(ask(&wrong, "tim", "wrong"), 0);
    assert_int_equal(ask(&right, "tim", "secret"), 0);
    assert_true(rounds_until(1));
    assert_int_equal(right.told, 1);
    for (unsigned i = 0; i < 100; i++) {
        shard_round(&shard);
        usleep(100);
    }
    assert_int_equal(wrong.told, 0);
    now_ns += 2 * SECOND_NS - 10 * WHEEL_TICK_NS;
    shard_round(&shard);
    assert_int_equal(wrong.told, 0);
    now_ns += 20 * WHEEL_TICK_NS;
    assert_true(rounds_until(0));
    assert_int_equal(wrong.told, 1);
    assert_int_equal(wrong.outcome, AUTH_WRONG);
}

static void who_has_gone_is_not_told(void **state)
{
    struct asker early, late;
    (void)state;
    assert_int_equal(ask(&early, "tim", "secret"), 0);
    auth_cancel(&early.request);
    assert_true(rounds_until(0));
    assert_int_equal(ask(&late, "tim", "wrong"), 0);
    for (unsigned i = 0; i < 1000; i++) {
        shard_round(&shard);
        usleep(100);
    }
    auth_cancel(&late.request); /* while it waits for its delay, or before */
    assert_true(rounds_until(0));
    now_ns += 20 * SECOND_NS;
    shard_round(&shard);
    assert_int_equal(early.told + late.told, 0);
    auth_cancel(&late.request); /* once more does no harm */
}

/* While the clock stands: no tick of the wheel comes. */
static void what_is_near_is_told_in_the_next_round(void **state)
{
    struct asker asker = {.request = {.told = told}};
    const struct auth_ask question = {
        .kind = AUTH_SUCCEEDED, .method = "CRAM-MD5", .authid = slice_text("tim")};
    (void)state;
    now_ns += 500000; /* between two ticks */
    shard_round(&shard);
    assert_int_equal(auth_ask(auth, &asker.request, &question), 0);
    assert_int_equal(asker.told, 0);
    shard_round(&shard);
    assert_int_equal(asker.told, 1);
    assert_int_equal(asker.outcome, AUTH_RIGHT);
    assert_int_equal(auth_asked(auth), 0);
    assert_int_equal(auth_ask(auth, &asker.request, &question), 0);
    auth_cancel(&asker.request);
    shard_round(&shard);
    assert_int_equal(asker.told, 1);
    assert_int_equal(auth_asked(auth), 0);
}

static void too_many_questions_are_refused(void **state)
{
    static char name[BACKEND_NAME_MAX + 2];
    struct asker askers[4];
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ask(&askers[i], "tim", "secret"), 0);
    }
    assert_int_equal(ask(&askers[3], "tim", "secret"), -ENOBUFS);
    assert_null(askers[3].request.job);
    assert_true(rounds_until(0));
    memset(name, 'a', sizeof(name) - 1);
    assert_int_equal(ask(&askers[3], name, "secret"), -EINVAL);
    assert_int_equal(ask(&askers[3], "tim", "secret"), 0);
    assert_true(rounds_until(0));
    assert_int_equal(askers[3].outcome, AUTH_RIGHT);
}

static void the_end_may_come_while_helpers_are_at_it(void **state)
{
    struct asker asker;
    (void)state;
    assert_int_equal(ask(&asker, "nobody", "secret"), 0);
    auth_cancel(&asker.request);
    auth_close(auth);
    auth = NULL;
    for (unsigned i = 0; i < 10; i++) {
        shard_round(&shard);
        usleep(1000);
    }
    assert_int_equal(asker.told, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(the_answer_comes_to_the_shard),
        TEST(who_fails_is_told_when_his_time_is_over_and_others_at_once),
        TEST(who_has_gone_is_not_told),
        TEST(what_is_near_is_told_in_the_next_round),
        TEST(too_many_questions_are_refused),
        TEST(the_end_may_come_while_helpers_are_at_it),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
