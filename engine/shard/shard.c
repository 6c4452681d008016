#include "engine/shard/shard.h"
#include "engine/core/check.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <rte_ring.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SHARD_PARTS_MAX 16
#define SHARD_RING_SIZE 1024
#define SHARD_MESSAGES_A_ROUND 64
#define SHARD_SLEEP_MAX_NS (60ull * 1000000000ull)

/* A descriptor that is watched through the io_uring while the shard sleeps. */
struct shard_watch {
    struct uring_op op;
    int fd;
    bool armed;
};

struct shard_post {
    struct shard_post *next;
    struct shard_message *message;
};

struct shard_private {
    struct shard_part parts[SHARD_PARTS_MAX];
    unsigned part_count;
    struct rte_ring *from[64]; /* by sender; NULL: no ring */
    unsigned peer_count;
    struct shard_message *self_first[SHARD_RING_SIZE]; /* messages to itself */
    unsigned self_head, self_tail;
    int wake_fd;
    atomic_bool asleep;
    atomic_bool stop;
    pthread_mutex_t post_lock;
    struct shard_post *posted, **posted_tail;
    atomic_bool posted_any;
    uint64_t idle_since_ns; /* 0: the last round was busy */
    struct uring uring;
    struct shard_watch watches[SHARD_PARTS_MAX + 1];
    unsigned watch_count;
};

int shard_open(struct shard *shard, const struct shard_settings *settings)
{
    *shard =
        (struct shard){.settings = *settings, .world = settings->world, .logger = settings->logger};
    struct shard_private *private = calloc(1, sizeof(*private));
    if (private == NULL) {
        return -ENOMEM;
    }
    shard->private = private;
    private->posted_tail = &private->posted;
    pthread_mutex_init(&private->post_lock, NULL);
    private->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    shard->now_ns = world_now_ns(shard->world);
    shard->wheel = wheel_open(shard->now_ns);
    if (private->wake_fd < 0 || shard->wheel == NULL) {
        shard_close(shard);
        return -ENOMEM;
    }
    return 0;
}

void shard_close(struct shard *shard)
{
    struct shard_private *private = shard->private;
    for (unsigned i = 0; i < private->peer_count; i++) {
        rte_ring_free(private->from[i]);
    }
    while (private->posted != NULL) {
        struct shard_post *post = private->posted;
        private->posted = post->next;
        free(post);
    }
    if (shard->uring != NULL) {
        uring_close(shard->uring);
    }
    if (shard->wheel != NULL) {
        wheel_close(shard->wheel);
    }
    if (private->wake_fd >= 0) {
        close(private->wake_fd);
    }
    pthread_mutex_destroy(&private->post_lock);
    free(private);
    shard->private = NULL;
}

void shard_add(struct shard *shard, const struct shard_part *part)
{
    struct shard_private *private = shard->private;
    check(private->part_count < SHARD_PARTS_MAX);
    private->parts[private->part_count++] = *part;
}

int shard_connect_all(struct shard **shards, unsigned count)
{
    check(count <= 64);
    for (unsigned to = 0; to < count; to++) {
        struct shard_private *private = shards[to]->private;
        for (unsigned from = 0; from < count; from++) {
            char name[RTE_RING_NAMESIZE];
            if (from == to) {
                continue;
            }
            snprintf(name, sizeof(name), "shard%p.%u", (void *)shards[to], from);
            private->from[from] = rte_ring_create(name, SHARD_RING_SIZE, (int)rte_socket_id(),
                                                  RING_F_SP_ENQ | RING_F_SC_DEQ);
            if (private->from[from] == NULL) {
                return -ENOMEM;
            }
        }
        private->peer_count = count;
    }
    return 0;
}

/* ---- Messages ---- */

void shard_wake(struct shard *shard)
{
    uint64_t one = 1;
    ssize_t written = write(shard->private->wake_fd, &one, sizeof(one));
    (void)written; /* full: it is awake */
}

/* What was handed over before this is seen by a shard that falls asleep after it, or it is woken.
 */
static void shard_wake_if_asleep(struct shard *shard)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&shard->private->asleep, memory_order_relaxed)) {
        shard_wake(shard);
    }
}

int shard_send(struct shard *from, struct shard *to, struct shard_message *message)
{
    struct shard_private *private = to->private;
    if (from == to) {
        if (private->self_tail - private->self_head == SHARD_RING_SIZE) {
            return -ENOBUFS;
        }
        private->self_first[private->self_tail++ % SHARD_RING_SIZE] = message;
        return 0;
    }
    if (rte_ring_sp_enqueue(private->from[from->settings.index], message) != 0) {
        return -ENOBUFS;
    }
    from->counters.messages_out++;
    shard_wake_if_asleep(to);
    return 0;
}

int shard_post(struct shard *to, struct shard_message *message)
{
    struct shard_private *private = to->private;
    struct shard_post *post = malloc(sizeof(*post));
    if (post == NULL) {
        return -ENOBUFS;
    }
    *post = (struct shard_post){.message = message};
    pthread_mutex_lock(&private->post_lock);
    *private->posted_tail = post;
    private->posted_tail = &post->next;
    pthread_mutex_unlock(&private->post_lock);
    atomic_store_explicit(&private->posted_any, true, memory_order_release);
    shard_wake_if_asleep(to);
    return 0;
}

static unsigned shard_posts_take(struct shard *shard)
{
    struct shard_private *private = shard->private;
    unsigned count = 0;
    if (!atomic_exchange_explicit(&private->posted_any, false, memory_order_acquire)) {
        return 0;
    }
    pthread_mutex_lock(&private->post_lock);
    struct shard_post *post = private->posted;
    private->posted = NULL;
    private->posted_tail = &private->posted;
    pthread_mutex_unlock(&private->post_lock);
    while (post != NULL) {
        struct shard_post *next = post->next;
        struct shard_message *message = post->message;
        free(post);
        message->run(message, shard);
        count++;
        post = next;
    }
    return count;
}

static unsigned shard_messages_take(struct shard *shard)
{
    struct shard_private *private = shard->private;
    unsigned count = 0;
    for (unsigned i = 0; i < private->peer_count; i++) {
        void *messages[SHARD_MESSAGES_A_ROUND];
        if (private->from[i] == NULL) {
            continue;
        }
        unsigned got =
            rte_ring_sc_dequeue_burst(private->from[i], messages, SHARD_MESSAGES_A_ROUND, NULL);
        for (unsigned j = 0; j < got; j++) {
            struct shard_message *message = messages[j];
            message->run(message, shard);
        }
        count += got;
    }
    for (unsigned left = private->self_tail - private->self_head; left > 0; left--) {
        struct shard_message *message = private->self_first[private->self_head++ % SHARD_RING_SIZE];
        message->run(message, shard);
        count++;
    }
    count += shard_posts_take(shard);
    shard->counters.messages_in += count;
    return count;
}

static bool shard_messages_waiting(const struct shard *shard)
{
    const struct shard_private *private = shard->private;
    for (unsigned i = 0; i < private->peer_count; i++) {
        if (private->from[i] != NULL && !rte_ring_empty(private->from[i])) {
            return true;
        }
    }
    return private->self_head != private->self_tail ||
           atomic_load_explicit(&private->posted_any, memory_order_acquire) ||
           atomic_load_explicit(&private->stop, memory_order_acquire);
}

/* ---- The loop ---- */

unsigned shard_round(struct shard *shard)
{
    struct shard_private *private = shard->private;
    uint64_t now_ns = world_now_ns(shard->world);
    uint64_t gap_ns = now_ns - shard->now_ns;
    unsigned work = 0;
    if (private->idle_since_ns == 0 && gap_ns > shard->counters.poll_gap_ns_max) {
        shard->counters.poll_gap_ns_max = gap_ns;
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
    shard->counters.rounds++;
    shard->counters.busy_rounds += work > 0;
    return work;
}

static void watch_done(struct uring_op *op, int32_t result, uint32_t cqe_flags)
{
    struct shard_watch *watch = list_entry(op, struct shard_watch, op);
    (void)result;
    (void)cqe_flags;
    watch->armed = false;
}

/* Arms a watch on the descriptor unless one is armed already. */
static void watch_arm(struct shard *shard, int fd)
{
    struct shard_private *private = shard->private;
    struct shard_watch *watch = NULL;
    for (unsigned i = 0; i < private->watch_count && watch == NULL; i++) {
        if (private->watches[i].fd == fd) {
            watch = &private->watches[i];
        }
    }
    if (watch == NULL) {
        check(private->watch_count < SHARD_PARTS_MAX + 1);
        watch = &private->watches[private->watch_count++];
        *watch = (struct shard_watch){.op = {watch_done}, .fd = fd};
    }
    if (!watch->armed) {
        watch->armed = true;
        io_uring_prep_poll_add(uring_entry(shard->uring, &watch->op), fd, POLLIN);
        /* prep clears the user data */
    }
}

struct shard_sleep {
    uint64_t until_ns;
    struct pollfd fds[SHARD_PARTS_MAX + 1];
    nfds_t fd_count;
};

/* Asks every part what to wait for. False: there is work. */
static bool shard_arm_parts(struct shard *shard, struct shard_sleep *sleep)
{
    struct shard_private *private = shard->private;
    for (unsigned i = 0; i < private->part_count; i++) {
        struct shard_part *part = &private->parts[i];
        int armed = part->arm == NULL ? SHARD_ARM_URING : part->arm(part->self);
        if (armed == -EAGAIN) {
            return false;
        }
        if (armed == -ENOTSUP) {
            uint64_t poll_ns = shard->now_ns + shard->settings.idle_poll_ns;
            sleep->until_ns = poll_ns < sleep->until_ns ? poll_ns : sleep->until_ns;
        } else if (armed >= 0) {
            sleep->fds[sleep->fd_count++] = (struct pollfd){.fd = armed, .events = POLLIN};
        }
    }
    return true;
}

static void shard_wait(struct shard *shard, struct shard_sleep *sleep)
{
    uint64_t now_ns = world_now_ns(shard->world);
    uint64_t timeout_ns = sleep->until_ns > now_ns ? sleep->until_ns - now_ns : 0;
    if (timeout_ns == 0) {
        return;
    }
    if (shard->uring != NULL) {
        for (nfds_t i = 0; i < sleep->fd_count; i++) {
            watch_arm(shard, sleep->fds[i].fd);
        }
        uring_wait(shard->uring, timeout_ns);
    } else {
        struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000ull),
                                   .tv_nsec = (long)(timeout_ns % 1000000000ull)};
        ppoll(sleep->fds, sleep->fd_count, &timeout, NULL);
    }
}

static void shard_sleep(struct shard *shard)
{
    struct shard_private *private = shard->private;
    struct shard_sleep sleep = {.until_ns = shard->now_ns + SHARD_SLEEP_MAX_NS};
    uint64_t timer_ns = wheel_next_ns(shard->wheel);
    sleep.until_ns = timer_ns < sleep.until_ns ? timer_ns : sleep.until_ns;
    sleep.fds[sleep.fd_count++] = (struct pollfd){.fd = private->wake_fd, .events = POLLIN};
    if (!shard_arm_parts(shard, &sleep)) {
        return;
    }
    atomic_store_explicit(&private->asleep, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (!shard_messages_waiting(shard)) {
        shard->counters.sleeps++;
        shard_wait(shard, &sleep);
    }
    atomic_store_explicit(&private->asleep, false, memory_order_relaxed);
    uint64_t drained;
    ssize_t got = read(private->wake_fd, &drained, sizeof(drained));
    (void)got;
}

static void shard_idle(struct shard *shard)
{
    struct shard_private *private = shard->private;
    if (private->idle_since_ns == 0) {
        private->idle_since_ns = shard->now_ns;
    }
    if (shard->now_ns - private->idle_since_ns >= shard->settings.idle_spin_ns) {
        shard_sleep(shard);
    }
}

static void shard_pin(struct shard *shard)
{
    cpu_set_t cpus;
    if (shard->settings.cpu < 0) {
        return;
    }
    CPU_ZERO(&cpus);
    CPU_SET(shard->settings.cpu, &cpus);
    int status = pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
    if (status != 0) {
        logger_line(shard->logger, LOGGER_WARNING, "shard %u: not pinned to processor %d: %s",
                    shard->settings.index, shard->settings.cpu, strerror(status));
    }
}

int shard_run(struct shard *shard, int (*start)(struct shard *, void *), void *owner)
{
    struct shard_private *private = shard->private;
    shard_pin(shard);
    if (shard->settings.with_uring) {
        int status =
            uring_open(&private->uring, shard->settings.uring_entries, shard->settings.uring_mode);
        if (status < 0) {
            return status;
        }
        shard->uring = &private->uring;
    }
    shard->now_ns = world_now_ns(shard->world);
    int status = start(shard, owner);
    while (status == 0 && !atomic_load_explicit(&private->stop, memory_order_acquire)) {
        if (shard_round(shard) > 0) {
            private->idle_since_ns = 0;
        } else {
            shard_idle(shard);
        }
    }
    return status;
}

void shard_stop(struct shard *shard)
{
    atomic_store_explicit(&shard->private->stop, true, memory_order_release);
    shard_wake(shard);
}
