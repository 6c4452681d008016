#include "engine/shard/shard_private.h"
#include "engine/core/check.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int shard_open(struct shard *shard, const struct shard_settings *settings)
{
    *shard =
        (struct shard){.settings = *settings, .world = settings->world, .logger = settings->logger};
    struct shard_private *private = aligned_alloc(64, sizeof(*private));
    if (private == NULL) {
        return -ENOMEM;
    }
    memset(private, 0, sizeof(*private));
    shard->private = private;
    private->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int error = private->wake_fd < 0 ? -errno : 0;
    shard_messages_open(shard);
    shard->now_ns = world_now_ns(shard->world);
    shard->wheel = wheel_open(shard->now_ns);
    if (error == 0 && shard->wheel == NULL) {
        error = -ENOMEM;
    }
    if (error < 0) {
        shard_close(shard);
    }
    return error;
}

void shard_close(struct shard *shard)
{
    struct shard_private *private = shard->private;
    if (private == NULL) {
        return;
    }
    shard_messages_close(shard);
    if (shard->uring != NULL) {
        uring_close(shard->uring);
        shard->uring = NULL;
    }
    wheel_close(shard->wheel);
    shard->wheel = NULL;
    if (private->wake_fd >= 0) {
        close(private->wake_fd);
    }
    free(private);
    shard->private = NULL;
}

void shard_add(struct shard *shard, const struct shard_part *part)
{
    struct shard_private *private = shard->private;
    check(private->part_count < SHARD_PARTS_MAX);
    private->parts[private->part_count++] = *part;
}

/* The longest that a busy shard has left its ports alone. Sleep is not counted: it ends when they
 * have something. */
static void note_gap(struct shard *shard, uint64_t gap_ns)
{
    if (!shard->private->idle && gap_ns > shard->counters.poll_gap_ns_max) {
        __atomic_store_n(&shard->counters.poll_gap_ns_max, gap_ns, __ATOMIC_RELAXED);
    }
}

unsigned shard_round(struct shard *shard)
{
    struct shard_private *private = shard->private;
    uint64_t now_ns = world_now_ns(shard->world);
    unsigned work = 0;
    note_gap(shard, now_ns - shard->now_ns);
    if (private->busy) { /* the round before this one */
        shard_count(&shard->counters.busy_ns, now_ns - shard->now_ns);
    }
    shard->now_ns = now_ns;
    for (unsigned i = 0; i < private->part_count; i++) {
        if (private->parts[i].poll != NULL) {
            work += private->parts[i].poll(private->parts[i].self, now_ns);
        }
    }
    if (shard->uring != NULL) {
        work += uring_reap(shard->uring);
    }
    work += shard_messages_take(shard);
    work += wheel_run(shard->wheel, now_ns);
    for (unsigned i = 0; i < private->part_count; i++) {
        if (private->parts[i].flush != NULL) {
            private->parts[i].flush(private->parts[i].self, now_ns);
        }
    }
    if (shard->uring != NULL) {
        uring_submit(shard->uring);
    }
    shard_count(&shard->counters.rounds, 1);
    shard_count(&shard->counters.busy_rounds, work > 0);
    private->busy = work > 0;
    return work;
}

static void rest(struct shard *shard)
{
    struct shard_private *private = shard->private;
    if (!private->idle) {
        private->idle = true;
        private->idle_since_ns = shard->now_ns;
    }
    if (shard->now_ns - private->idle_since_ns >= shard->settings.idle_spin_ns) {
        shard_sleep(shard);
    }
}

static void pin(struct shard *shard)
{
    cpu_set_t cpus;
    int cpu = shard->settings.cpu;
    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&cpus);
    if (cpu < CPU_SETSIZE) {
        CPU_SET(cpu, &cpus);
    }
    int error = pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
    if (error != 0) {
        logger_line(shard->logger, LOGGER_WARNING, "shard %u: not pinned to processor %d: %s",
                    shard->settings.index, cpu, strerror(error));
    }
}

int shard_run(struct shard *shard, int (*start)(struct shard *, void *), void *owner)
{
    struct shard_private *private = shard->private;
    pin(shard);
    if (shard->settings.with_uring) {
        int error =
            uring_open(&private->uring, shard->settings.uring_entries, shard->settings.uring_mode);
        if (error < 0) {
            return error;
        }
        shard->uring = &private->uring;
    }
    int status = start(shard, owner);
    shard->now_ns = world_now_ns(shard->world); /* what start took is no gap */
    while (status == 0 && !atomic_load_explicit(&private->stop, memory_order_acquire)) {
        if (shard_round(shard) > 0) {
            private->idle = false;
        } else {
            rest(shard);
        }
    }
    return status;
}

void shard_stop(struct shard *shard)
{
    atomic_store_explicit(&shard->private->stop, true, memory_order_release);
    shard_wake(shard);
}
