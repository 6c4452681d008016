#include "engine/core/system_world.h"
#include "engine/shard/memory.h"
#include "engine/shard/shard.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define MESSAGES 20000

struct pair {
    struct world world;
    struct logger logger;
    struct shard shards[2];
    bool with_uring;
    unsigned received[2];
    unsigned sent[2];
    atomic_uint finished; /* shards that have received everything */
};

struct numbered {
    struct shard_message message;
    struct pair *pair;
    unsigned number;
};

static void numbered_run(struct shard_message *message, struct shard *receiver)
{
    struct numbered *numbered = (struct numbered *)message;
    unsigned index = receiver->settings.index;
    assert_int_equal(numbered->number, numbered->pair->received[index]);
    struct pair *pair = numbered->pair;
    free(numbered);
    if (++pair->received[index] == MESSAGES && atomic_fetch_add(&pair->finished, 1) == 1) {
        shard_stop(&pair->shards[0]);
        shard_stop(&pair->shards[1]);
    }
}

struct sender {
    struct pair *pair;
    struct shard *from, *to;
};

static unsigned sender_poll(void *self, uint64_t now_ns)
{
    struct sender *sender = self;
    unsigned index = sender->from->settings.index;
    (void)now_ns;
    unsigned work = 0;
    for (; work < 16 && sender->pair->sent[index] < MESSAGES; work++) {
        struct numbered *numbered = malloc(sizeof(*numbered));
        *numbered =
            (struct numbered){{.run = numbered_run}, sender->pair, sender->pair->sent[index]};
        if (shard_send(sender->from, sender->to, &numbered->message) < 0) {
            free(numbered);
            break;
        }
        sender->pair->sent[index]++;
    }
    return work;
}

/* Nobody is told when a full ring has room again: who has more to send stays awake. */
static int sender_arm(void *self)
{
    const struct sender *sender = self;
    unsigned sent = sender->pair->sent[sender->from->settings.index];
    return sent < MESSAGES ? -EAGAIN : SHARD_ARM_URING;
}

static int sender_start(struct shard *shard, void *owner)
{
    struct sender *sender = owner;
    const struct shard_part part = {
        .name = "sender", .self = sender, .poll = sender_poll, .arm = sender_arm};
    shard_add(shard, &part);
    return 0;
}

static void *sender_thread(void *owner)
{
    struct sender *sender = owner;
    assert_int_equal(memory_thread_enter(), 0);
    assert_int_equal(shard_run(sender->from, sender_start, sender), 0);
    memory_thread_leave();
    return NULL;
}

static void pair_open(struct pair *pair, bool with_uring)
{
    *pair = (struct pair){.with_uring = with_uring};
    system_world_fill(&pair->world);
    logger_open(&pair->logger, STDERR_FILENO, LOGGER_WARNING);
    for (unsigned i = 0; i < 2; i++) {
        const struct shard_settings settings = {
            .index = i,
            .count = 2,
            .cpu = -1,
            .idle_spin_ns = 10000,
            .idle_poll_ns = 1000000,
            .with_uring = with_uring,
            .uring_mode = URING_SLEEPS,
            .uring_entries = 64,
            .world = &pair->world,
            .logger = &pair->logger,
        };
        assert_int_equal(shard_open(&pair->shards[i], &settings), 0);
    }
    assert_int_equal(shard_connect_all((struct shard *[]){&pair->shards[0], &pair->shards[1]}, 2),
                     0);
}

static void messages_cross(bool with_uring)
{
    struct pair pair;
    pthread_t threads[2];
    pair_open(&pair, with_uring);
    struct sender senders[2] = {{&pair, &pair.shards[0], &pair.shards[1]},
                                {&pair, &pair.shards[1], &pair.shards[0]}};
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, sender_thread, &senders[i]);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(pair.received[0], MESSAGES);
    assert_int_equal(pair.received[1], MESSAGES);
    shard_close(&pair.shards[0]);
    shard_close(&pair.shards[1]);
}

static void messages_between_shards_arrive_once_and_in_order(void **state)
{
    (void)state;
    messages_cross(false);
    if (uring_probe() == 0) {
        messages_cross(true);
    }
}

struct post {
    struct shard_message message;
    unsigned *count;
};

static void post_run(struct shard_message *message, struct shard *receiver)
{
    struct post *post = (struct post *)message;
    if (++*post->count == 3) {
        shard_stop(receiver);
    }
}

static int start_nothing(struct shard *shard, void *owner)
{
    (void)shard;
    (void)owner;
    return 0;
}

static void *sleeper_thread(void *owner)
{
    shard_run(owner, start_nothing, NULL);
    return NULL;
}

static void a_sleeping_shard_is_woken_by_posts_and_sleeps_between_them(void **state)
{
    (void)state;
    for (int with_uring = 0; with_uring < (uring_probe() == 0 ? 2 : 1); with_uring++) {
        struct pair pair;
        pthread_t thread;
        unsigned count = 0;
        struct post posts[3] = {
            {{.run = post_run}, &count}, {{.run = post_run}, &count}, {{.run = post_run}, &count}};
        pair_open(&pair, with_uring);
        pthread_create(&thread, NULL, sleeper_thread, &pair.shards[0]);
        for (int i = 0; i < 3; i++) {
            while (__atomic_load_n(&pair.shards[0].counters.sleeps, __ATOMIC_RELAXED) <
                   (uint64_t)i + 1) {
                sched_yield();
            }
            assert_int_equal(shard_post(&pair.shards[0], &posts[i].message), 0);
        }
        pthread_join(thread, NULL);
        assert_int_equal(count, 3);
        shard_close(&pair.shards[0]);
        shard_close(&pair.shards[1]);
    }
}

static int start_eal(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_shard", .megabytes = 32};
    return memory_start(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_between_shards_arrive_once_and_in_order),
        cmocka_unit_test(a_sleeping_shard_is_woken_by_posts_and_sleeps_between_them),
    };
    return cmocka_run_group_tests(tests, start_eal, NULL);
}
