/* Sleep: until a part has work, a message comes or a timer is due. An idle shard must cost less than
 * 1 % of a processor. */
#include "engine/shard/shard_private.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SLEEP_NS_MAX (60ull * 1000000000ull)
#define WAKE_WATCH SHARD_PARTS_MAX

struct waits {
    uint64_t until_ns;
    int fds[SHARD_PARTS_MAX + 1]; /* by part, the last is wake_fd; -1: none */
};

static void watch_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct shard_watch *watch = list_entry(op, struct shard_watch, op);
    (void)result;
    (void)cqe_flags;
    watch->armed = false;
}

/* A watch that has not come is left standing for the next sleep; arming it costs an entry. One on
 * another descriptor is taken back: that completes it, which ends this sleep, and the next arms it
 * anew. */
static void watch_arm(struct shard *shard, struct shard_watch *watch, int fd)
{
    if (!watch->armed) {
        *watch = (struct shard_watch){.op = {watch_done}, .fd = fd, .armed = true};
        io_uring_prep_poll_add(uring_entry(shard->uring, &watch->op), fd, POLLIN);
    } else if (watch->fd != fd) {
        io_uring_prep_poll_remove(uring_entry(shard->uring, NULL), (uintptr_t)&watch->op);
    }
}

/* Asks every part what to wait for. False: one of them has work, or may have some soon. */
static bool arm_parts(struct shard *shard, struct waits *waits)
{
    struct shard_private *private = shard->private;
    for (unsigned i = 0; i < private->part_count; i++) {
        struct shard_part *part = &private->parts[i];
        int answer = part->arm == NULL ? SHARD_ARM_URING : part->arm(part->self);
        if (answer == -EAGAIN) {
            return false;
        }
        if (answer == -ENOTSUP) {
            if (shard->now_ns - private->idle_since_ns < shard->settings.idle_spin_polled_ns) {
                return false;
            }
            uint64_t poll_ns = shard->now_ns + shard->settings.idle_poll_ns;
            waits->until_ns = poll_ns < waits->until_ns ? poll_ns : waits->until_ns;
        }
        waits->fds[i] = answer >= 0 ? answer : -1;
    }
    return true;
}

static void wait_by_poll(const struct waits *waits, uint64_t timeout_ns)
{
    struct pollfd watched[SHARD_PARTS_MAX + 1];
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                               .tv_nsec = (long)(timeout_ns % 1000000000)};
    for (unsigned i = 0; i <= WAKE_WATCH; i++) {
        watched[i] = (struct pollfd){.fd = waits->fds[i], .events = POLLIN};
    }
    ppoll(watched, WAKE_WATCH + 1, &timeout, NULL);
}

static void wait_for(struct shard *shard, const struct waits *waits)
{
    /* Arming may have taken long, and a timer must not come late for it. */
    uint64_t now_ns = world_now_ns(shard->world);
    if (waits->until_ns <= now_ns) {
        return;
    }
    shard_count(&shard->counters.sleeps, 1);
    if (shard->uring == NULL) {
        wait_by_poll(waits, waits->until_ns - now_ns);
        return;
    }
    for (unsigned i = 0; i <= WAKE_WATCH; i++) {
        if (waits->fds[i] >= 0) {
            watch_arm(shard, &shard->private->watches[i], waits->fds[i]);
        }
    }
    uring_wait(shard->uring, waits->until_ns - now_ns);
}

void shard_sleep(struct shard *shard)
{
    struct shard_private *private = shard->private;
    struct waits waits = {.until_ns = shard->now_ns + SLEEP_NS_MAX};
    uint64_t timer_ns = wheel_next_ns(shard->wheel);
    uint64_t drained;
    waits.until_ns = timer_ns < waits.until_ns ? timer_ns : waits.until_ns;
    memset(waits.fds, -1, sizeof(waits.fds));
    waits.fds[WAKE_WATCH] = private->wake_fd;
    if (!arm_parts(shard, &waits)) {
        return;
    }
    /* See wake_if_asleep: after this exchange a message is either seen here or wakes us. */
    atomic_exchange_explicit(&private->asleep, true, memory_order_acq_rel);
    if (!shard_messages_waiting(shard) &&
        !atomic_load_explicit(&private->stop, memory_order_acquire)) {
        wait_for(shard, &waits);
    }
    atomic_store_explicit(&private->asleep, false, memory_order_relaxed);
    while (read(private->wake_fd, &drained, sizeof(drained)) < 0 && errno == EINTR) {
    }
}
