/* Threads for what may block: answers reach the shard, and none is lost when it ends first. */
#include "engine/shard/helpers.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static uint64_t clock_now(void *self)
{
    (void)self;
    return 1;
}

static const struct world world = {.now_ns = clock_now};

struct errand {
    struct helper_job job;
    _Atomic unsigned worked;
    unsigned done, dropped;
};

static void errand_work(struct helper_job *job, void *own)
{
    (void)own;
    list_entry(job, struct errand, job)->worked++;
}

static void errand_done(struct helper_job *job, struct shard *shard)
{
    (void)shard;
    list_entry(job, struct errand, job)->done++;
}

static void errand_dropped(struct helper_job *job)
{
    list_entry(job, struct errand, job)->dropped++;
}

#define ERRAND                                                                                     \
    {                                                                                              \
        .job = {.work = errand_work, .done = errand_done, .dropped = errand_dropped }              \
    }

static void wait_for_work(struct errand *errand)
{
    for (unsigned i = 0; i < 100000 && errand->worked == 0; i++) {
        usleep(100);
    }
    assert_int_equal(errand->worked, 1);
}

static void begin(struct shard *shard, struct helpers **helpers)
{
    const struct shard_settings settings = {.count = 1, .cpu = -1, .world = &world};
    const struct helpers_settings helping = {.threads = 1, .queue_max = 16, .name = "helper"};
    assert_int_equal(shard_open(shard, &settings), 0);
    assert_int_equal(helpers_open(helpers, &helping), 0);
}

static void test_an_answer_reaches_the_shard_that_asked(void **state)
{
    struct shard shard;
    struct helpers *helpers;
    struct errand errand = ERRAND;
    (void)state;
    begin(&shard, &helpers);
    assert_int_equal(helpers_give(helpers, &shard, &errand.job), 0);
    for (unsigned i = 0; i < 100000 && errand.done == 0; i++) {
        shard_round(&shard);
        usleep(100);
    }
    assert_int_equal(errand.done, 1);
    helpers_close(helpers);
    shard_close(&shard);
    assert_int_equal(errand.dropped, 0);
}

static void test_an_answer_that_the_shard_never_took_is_dropped_with_it(void **state)
{
    struct shard shard;
    struct helpers *helpers;
    struct errand first = ERRAND, second = ERRAND;
    (void)state;
    begin(&shard, &helpers);
    assert_int_equal(helpers_give(helpers, &shard, &first.job), 0);
    assert_int_equal(helpers_give(helpers, &shard, &second.job), 0);
    wait_for_work(&second); /* so the first one's answer is under way */
    helpers_close(helpers);
    shard_close(&shard);
    assert_int_equal(first.done + second.done, 0);
    assert_int_equal(first.dropped, 1);
    assert_int_equal(second.dropped, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_reaches_the_shard_that_asked),
        cmocka_unit_test(test_an_answer_that_the_shard_never_took_is_dropped_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
