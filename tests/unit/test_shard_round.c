/* The shard on a clock of the test's own, and asleep on the real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/system_world.h"
#include "engine/shard/memory.h"
#include "engine/shard/shard.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#define MS 1000000ull

struct fixture {
    struct world world;
    uint64_t now_ns; /* of the test's clock */
    struct logger logger;
    struct shard shard;
    char order[32]; /* a letter for each thing that ran */
    unsigned count;
    int fd;
    int armed; /* what arm answers */
};

static uint64_t test_now_ns(void *self)
{
    return ((struct fixture *)self)->now_ns;
}

static void note(struct fixture *f, const char *letter)
{
    strncat(f->order, letter, sizeof(f->order) - strlen(f->order) - 1);
}

static void fixture_open(struct fixture *f, const struct shard_settings *given)
{
    struct shard_settings settings = *given;
    memset(&f->shard, 0, sizeof(f->shard));
    f->order[0] = 0;
    logger_open(&f->logger, STDERR_FILENO, LOGGER_WARNING);
    settings.count = 1;
    settings.world = &f->world;
    settings.logger = &f->logger;
    settings.uring_entries = 16;
    assert_int_equal(shard_open(&f->shard, &settings), 0);
}

static void open_on_test_clock(struct fixture *f)
{
    const struct shard_settings settings = {.cpu = -1};
    *f = (struct fixture){.world = {.now_ns = test_now_ns}, .now_ns = 1000 * MS};
    f->world.self = f;
    fixture_open(f, &settings);
}

static unsigned poll_a(void *self, uint64_t now_ns)
{
    assert_int_equal(now_ns, ((struct fixture *)self)->now_ns);
    note(self, "a");
    return 1;
}

static void flush_a(void *self, uint64_t now_ns)
{
    (void)now_ns;
    note(self, "A");
}

static unsigned poll_b(void *self, uint64_t now_ns)
{
    (void)now_ns;
    note(self, "b");
    return 2;
}

static void flush_b(void *self, uint64_t now_ns)
{
    (void)now_ns;
    note(self, "B");
}

struct noted {
    struct shard_message message;
    struct timer timer;
    struct fixture *f;
};

static void noted_run(struct shard_message *message, struct shard *receiver)
{
    struct fixture *f = list_entry(message, struct noted, message)->f;
    assert_ptr_equal(receiver, &f->shard);
    note(f, "m");
}

static void send_another(struct shard_message *message, struct shard *receiver)
{
    struct noted *noted = list_entry(message, struct noted, message);
    noted_run(message, receiver);
    noted->message.run = noted_run;
    assert_int_equal(shard_send(receiver, receiver, message), 0);
}

static void noted_fire(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    note(list_entry(timer, struct noted, timer)->f, "t");
}

static void a_round_runs_parts_messages_timers_and_flushes_in_that_order(void **state)
{
    (void)state;
    struct fixture f;
    open_on_test_clock(&f);
    struct noted noted = {.message = {.run = noted_run}, .f = &f};
    const struct shard_part a = {.name = "a", .self = &f, .poll = poll_a, .flush = flush_a};
    const struct shard_part b = {.name = "b", .self = &f, .poll = poll_b, .flush = flush_b};
    shard_add(&f.shard, &a);
    shard_add(&f.shard, &b);
    timer_init(&noted.timer, noted_fire);
    wheel_arm(f.shard.wheel, &noted.timer, f.now_ns + 2 * MS);
    assert_int_equal(shard_send(&f.shard, &f.shard, &noted.message), 0);
    f.now_ns += 2 * MS;
    assert_int_equal(shard_round(&f.shard), 5);
    assert_string_equal(f.order, "abmtAB");
    shard_close(&f.shard);
}

static void a_message_that_a_message_sends_waits_a_round(void **state)
{
    (void)state;
    struct fixture f;
    open_on_test_clock(&f);
    struct noted own = {.message = {.run = send_another}, .f = &f};
    struct noted posted = {.message = {.run = noted_run}, .f = &f};
    assert_int_equal(shard_send(&f.shard, &f.shard, &own.message), 0);
    assert_int_equal(shard_post(&f.shard, &posted.message), 0);
    assert_int_equal(shard_round(&f.shard), 2);
    assert_int_equal(shard_round(&f.shard), 1);
    assert_int_equal(shard_round(&f.shard), 0);
    assert_int_equal(f.shard.counters.messages_in, 3);
    assert_int_equal(f.shard.counters.rounds, 3);
    assert_int_equal(f.shard.counters.busy_rounds, 2);
    shard_close(&f.shard);
}

static void a_full_ring_refuses_and_what_is_in_it_arrives(void **state)
{
    (void)state;
    struct fixture f, other;
    open_on_test_clock(&f);
    open_on_test_clock(&other);
    other.shard.settings.index = 1;
    struct shard *shards[] = {&f.shard, &other.shard};
    assert_int_equal(shard_connect_all(shards, 2), 0);
    struct noted noted = {.message = {.run = noted_run}, .f = &f};
    unsigned sent = 0;
    while (shard_send(&other.shard, &f.shard, &noted.message) == 0) {
        sent++;
    }
    assert_true(sent >= 1000);
    assert_int_equal(other.shard.counters.messages_out, sent);
    unsigned arrived = 0;
    for (unsigned got; (got = shard_round(&f.shard)) > 0; arrived += got) {
        assert_true(got <= 64); /* one sender does not hold the shard */
    }
    assert_int_equal(arrived, sent);
    sent = 0;
    while (shard_send(&f.shard, &f.shard, &noted.message) == 0) {
        sent++;
    }
    assert_true(sent >= 1000);
    shard_close(&f.shard);
    shard_close(&other.shard);
}

static void the_longest_gap_between_polls_is_kept(void **state)
{
    (void)state;
    struct fixture f;
    open_on_test_clock(&f);
    static const uint64_t gaps[] = {3, 50, 7};
    for (unsigned i = 0; i < 3; i++) {
        f.now_ns += gaps[i] * MS;
        shard_round(&f.shard);
    }
    assert_int_equal(f.shard.counters.poll_gap_ns_max, 50 * MS);
    shard_close(&f.shard);
}

static int start_nothing(struct shard *shard, void *owner)
{
    (void)shard;
    (void)owner;
    return 0;
}

static int start_fails(struct shard *shard, void *owner)
{
    (void)shard;
    (void)owner;
    return -ENOSPC;
}

static void what_start_answers_ends_the_run(void **state)
{
    (void)state;
    struct fixture f;
    open_on_test_clock(&f);
    assert_int_equal(shard_run(&f.shard, start_fails, &f), -ENOSPC);
    shard_stop(&f.shard);
    assert_int_equal(shard_run(&f.shard, start_nothing, &f), 0);
    shard_close(&f.shard);
}

/* The real clock from here on: without io_uring and, where it is permitted, with both kinds. */
static unsigned variants(void)
{
    return uring_probe() == 0 ? 3 : 1;
}

static void open_to_sleep(struct fixture *f, unsigned variant)
{
    const struct shard_settings settings = {.cpu = 0,
                                            .idle_poll_ns = 1 * MS,
                                            .with_uring = variant > 0,
                                            .uring_mode =
                                                variant == 2 ? URING_POLLS : URING_SLEEPS};
    *f = (struct fixture){.armed = SHARD_ARM_URING};
    system_world_fill(&f->world);
    fixture_open(f, &settings);
}

struct bell {
    struct timer timer;
    struct shard *shard;
};

static void bell_rings(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    shard_stop(list_entry(timer, struct bell, timer)->shard);
}

static int start_bell(struct shard *shard, void *owner)
{
    struct bell *bell = owner;
    bell->shard = shard;
    timer_init(&bell->timer, bell_rings);
    wheel_arm(shard->wheel, &bell->timer, world_now_ns(shard->world) + 30 * MS);
    return 0;
}

static void an_idle_shard_sleeps_until_its_timer(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < variants(); variant++) {
        struct fixture f;
        struct bell bell;
        open_to_sleep(&f, variant);
        uint64_t before = world_now_ns(&f.world);
        assert_int_equal(shard_run(&f.shard, start_bell, &bell), 0);
        assert_true(world_now_ns(&f.world) - before >= 30 * MS);
        /* A level of the wheel may have to be turned, and the clock be read a little early. */
        assert_in_range(f.shard.counters.sleeps, 1, 4);
        assert_in_range(f.shard.counters.rounds, 2, 8);
        shard_close(&f.shard);
    }
}

static int part_arm(void *self)
{
    struct fixture *f = self;
    return f->armed;
}

static unsigned part_poll(void *self, uint64_t now_ns)
{
    struct fixture *f = self;
    uint64_t drained;
    (void)now_ns;
    f->count++;
    if (f->fd >= 0 && read(f->fd, &drained, sizeof(drained)) == sizeof(drained)) {
        shard_stop(&f->shard);
        return 1;
    }
    return 0;
}

static void *write_when_it_sleeps(void *owner)
{
    struct fixture *f = owner;
    uint64_t one = 1;
    while (__atomic_load_n(&f->shard.counters.sleeps, __ATOMIC_RELAXED) == 0) {
        sched_yield();
    }
    return write(f->fd, &one, sizeof(one)) == sizeof(one) ? NULL : owner;
}

static void a_parts_descriptor_ends_the_sleep(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < variants(); variant++) {
        struct fixture f;
        pthread_t writer;
        void *failed;
        open_to_sleep(&f, variant);
        f.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        f.armed = f.fd;
        const struct shard_part part = {"part", &f, part_poll, NULL, part_arm};
        shard_add(&f.shard, &part);
        pthread_create(&writer, NULL, write_when_it_sleeps, &f);
        assert_int_equal(shard_run(&f.shard, start_nothing, &f), 0);
        pthread_join(writer, &failed);
        assert_null(failed);
        assert_true(f.count <= 6);
        shard_close(&f.shard);
        close(f.fd);
    }
}

static unsigned poll_ten_times(void *self, uint64_t now_ns)
{
    struct fixture *f = self;
    (void)now_ns;
    if (++f->count == 10) {
        shard_stop(&f->shard);
    }
    return 0;
}

static void a_part_that_must_be_polled_is_polled_between_short_sleeps(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < variants(); variant++) {
        struct fixture f;
        open_to_sleep(&f, variant);
        f.armed = -ENOTSUP;
        const struct shard_part part = {"part", &f, poll_ten_times, NULL, part_arm};
        shard_add(&f.shard, &part);
        uint64_t before = world_now_ns(&f.world);
        assert_int_equal(shard_run(&f.shard, start_nothing, &f), 0);
        assert_in_range(world_now_ns(&f.world) - before, 9 * MS, 5000 * MS);
        assert_in_range(f.shard.counters.sleeps, 9, 10);
        shard_close(&f.shard);
    }
}

static void a_part_that_must_be_polled_is_polled_without_sleep_at_first(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < variants(); variant++) {
        struct fixture f;
        open_to_sleep(&f, variant);
        f.armed = -ENOTSUP;
        f.shard.settings.idle_spin_polled_ns = 60000 * MS;
        const struct shard_part part = {"part", &f, poll_ten_times, NULL, part_arm};
        shard_add(&f.shard, &part);
        assert_int_equal(shard_run(&f.shard, start_nothing, &f), 0);
        assert_int_equal(f.shard.counters.sleeps, 0);
        shard_close(&f.shard);
    }
}

static void a_part_that_found_work_while_arming_keeps_the_shard_awake(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < variants(); variant++) {
        struct fixture f;
        open_to_sleep(&f, variant);
        f.armed = -EAGAIN;
        const struct shard_part part = {"part", &f, poll_ten_times, NULL, part_arm};
        shard_add(&f.shard, &part);
        assert_int_equal(shard_run(&f.shard, start_nothing, &f), 0);
        assert_int_equal(f.shard.counters.sleeps, 0);
        shard_close(&f.shard);
    }
}

static struct shard *signalled;

static void on_alarm(int number)
{
    (void)number;
    shard_stop(signalled);
}

static void a_signal_handler_can_stop_it(void **state)
{
    (void)state;
    struct sigaction ours = {.sa_handler = on_alarm}, before;
    sigaction(SIGALRM, &ours, &before);
    for (unsigned variant = 0; variant < variants(); variant++) {
        struct fixture f;
        open_to_sleep(&f, variant);
        signalled = &f.shard;
        const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
        setitimer(ITIMER_REAL, &soon, NULL);
        assert_int_equal(shard_run(&f.shard, start_nothing, &f), 0);
        shard_close(&f.shard);
    }
    sigaction(SIGALRM, &before, NULL);
}

static void a_wake_before_the_sleep_is_not_lost(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < variants(); variant++) {
        struct fixture f;
        open_to_sleep(&f, variant);
        f.armed = SHARD_ARM_URING;
        const struct shard_part part = {"part", &f, poll_ten_times, NULL, part_arm};
        shard_add(&f.shard, &part);
        f.count = 8;
        shard_wake(&f.shard); /* else it would sleep for a minute */
        assert_int_equal(shard_run(&f.shard, start_nothing, &f), 0);
        assert_int_equal(f.count, 10);
        shard_close(&f.shard);
    }
}

static int start_eal(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_shard_round", .megabytes = 32};
    return memory_start(&settings);
}

static int stop_eal(void **state)
{
    (void)state;
    memory_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_round_runs_parts_messages_timers_and_flushes_in_that_order),
        cmocka_unit_test(a_message_that_a_message_sends_waits_a_round),
        cmocka_unit_test(a_full_ring_refuses_and_what_is_in_it_arrives),
        cmocka_unit_test(the_longest_gap_between_polls_is_kept),
        cmocka_unit_test(what_start_answers_ends_the_run),
        cmocka_unit_test(an_idle_shard_sleeps_until_its_timer),
        cmocka_unit_test(a_parts_descriptor_ends_the_sleep),
        cmocka_unit_test(a_part_that_must_be_polled_is_polled_between_short_sleeps),
        cmocka_unit_test(a_part_that_must_be_polled_is_polled_without_sleep_at_first),
        cmocka_unit_test(a_part_that_found_work_while_arming_keeps_the_shard_awake),
        cmocka_unit_test(a_signal_handler_can_stop_it),
        cmocka_unit_test(a_wake_before_the_sleep_is_not_lost),
    };
    return cmocka_run_group_tests(tests, start_eal, stop_eal);
}
