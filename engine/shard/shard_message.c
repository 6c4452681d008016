/* Messages: from shard to shard over rings, to itself, and from threads that are no shard. */
#include "engine/shard/shard_private.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MESSAGES_A_ROUND 64 /* of one sender: no shard is held by another that talks a lot */

void shard_messages_open(struct shard *shard)
{
    struct shard_private *private = shard->private;
    private->posted_last = &private->posted;
    pthread_mutex_init(&private->post_lock, NULL);
}

static void drop(struct shard_message *message)
{
    if (message->dropped != NULL) {
        message->dropped(message);
    }
}

void shard_messages_close(struct shard *shard)
{
    struct shard_private *private = shard->private;
    for (unsigned i = 0; i < private->peer_count; i++) {
        void *message;
        while (private->from[i] != NULL && rte_ring_sc_dequeue(private->from[i], &message) == 0) {
            drop(message);
        }
        rte_ring_free(private->from[i]);
    }
    while (private->own_head != private->own_tail) {
        drop(private->own[private->own_head++ % SHARD_RING_SIZE]);
    }
    free(private->from);
    while (private->posted != NULL) {
        struct shard_post *post = private->posted;
        private->posted = post->next;
        if (post->dropped != NULL) {
            post->dropped(post->message);
        }
        free(post);
    }
    pthread_mutex_destroy(&private->post_lock);
}

int shard_connect_all(struct shard **shards, unsigned count)
{
    for (unsigned to = 0; to < count; to++) {
        struct shard_private *private = shards[to]->private;
        private->from = calloc(count, sizeof(void *));
        if (private->from == NULL) {
            return -ENOMEM;
        }
        private->peer_count = count;
        for (unsigned from = 0; from < count; from++) {
            char name[RTE_RING_NAMESIZE];
            if (from == to) {
                continue;
            }
            /* Two relays may live in one process, so the number alone would not do. */
            snprintf(name, sizeof(name), "s%p.%u", (void *)private, from);
            private->from[from] = rte_ring_create(name, SHARD_RING_SIZE, SOCKET_ID_ANY,
                                                  RING_F_SP_ENQ | RING_F_SC_DEQ);
            if (private->from[from] == NULL) {
                return -ENOMEM;
            }
        }
    }
    return 0;
}

void shard_wake(struct shard *shard)
{
    uint64_t one = 1;
    ssize_t written = write(shard->private->wake_fd, &one, sizeof(one));
    (void)written; /* full: it wakes already */
}

/*
 * Called after something was handed over. The exchange here and the one in shard_sleep are on one
 * flag, so one of them comes first: if this one, the sleeper's exchange sees what was handed over
 * before it; if the sleeper's, this one answers true and wakes it. Only the first who finds the
 * shard asleep makes the system call.
 */
static void wake_if_asleep(struct shard *shard)
{
    if (atomic_exchange_explicit(&shard->private->asleep, false, memory_order_acq_rel)) {
        shard_wake(shard);
    }
}

static int send_to_self(struct shard *shard, struct shard_message *message)
{
    struct shard_private *private = shard->private;
    if (private->own_tail - private->own_head == SHARD_RING_SIZE) {
        return -ENOBUFS;
    }
    private->own[private->own_tail++ % SHARD_RING_SIZE] = message;
    return 0;
}

int shard_send(struct shard *from, struct shard *to, struct shard_message *message)
{
    if (from == to) {
        return send_to_self(from, message);
    }
    check(from->settings.index < to->private->peer_count);
    if (rte_ring_sp_enqueue(to->private->from[from->settings.index], message) != 0) {
        return -ENOBUFS;
    }
    shard_count(&from->counters.messages_out, 1);
    wake_if_asleep(to);
    return 0;
}

int shard_post(struct shard *to, struct shard_message *message)
{
    return shard_post_or(to, message, NULL);
}

int shard_post_or(struct shard *to, struct shard_message *message,
                  void (*dropped)(struct shard_message *message))
{
    struct shard_private *private = to->private;
    struct shard_post *post = malloc(sizeof(*post));
    if (post == NULL) {
        return -ENOBUFS;
    }
    *post = (struct shard_post){.message = message, .dropped = dropped};
    pthread_mutex_lock(&private->post_lock);
    *private->posted_last = post;
    private->posted_last = &post->next;
    atomic_store_explicit(&private->any_posted, true, memory_order_release);
    pthread_mutex_unlock(&private->post_lock);
    wake_if_asleep(to);
    return 0;
}

static unsigned posts_take(struct shard *shard)
{
    struct shard_private *private = shard->private;
    unsigned count = 0;
    if (!atomic_load_explicit(&private->any_posted, memory_order_acquire)) {
        return 0;
    }
    pthread_mutex_lock(&private->post_lock);
    struct shard_post *post = private->posted;
    private->posted = NULL;
    private->posted_last = &private->posted;
    atomic_store_explicit(&private->any_posted, false, memory_order_relaxed);
    pthread_mutex_unlock(&private->post_lock);
    for (; post != NULL; count++) {
        struct shard_post *next = post->next;
        struct shard_message *message = post->message;
        free(post);
        message->run(message, shard);
        post = next;
    }
    return count;
}

static unsigned own_take(struct shard *shard)
{
    struct shard_private *private = shard->private;
    unsigned count = private->own_tail - private->own_head;
    for (unsigned left = count; left > 0; left--) { /* those sent meanwhile wait a round */
        struct shard_message *message = private->own[private->own_head++ % SHARD_RING_SIZE];
        message->run(message, shard);
    }
    return count;
}

unsigned shard_messages_take(struct shard *shard)
{
    struct shard_private *private = shard->private;
    void *messages[MESSAGES_A_ROUND];
    unsigned count = 0;
    for (unsigned from = 0; from < private->peer_count; from++) {
        if (private->from[from] == NULL) {
            continue;
        }
        unsigned taken =
            rte_ring_sc_dequeue_burst(private->from[from], messages, MESSAGES_A_ROUND, NULL);
        for (unsigned i = 0; i < taken; i++) {
            struct shard_message *message = messages[i];
            message->run(message, shard);
        }
        count += taken;
    }
    count += own_take(shard);
    count += posts_take(shard);
    shard_count(&shard->counters.messages_in, count);
    return count;
}

/* rte_ring_empty reads without order. */
static bool ring_holds(const struct rte_ring *ring)
{
    return __atomic_load_n(&ring->prod.tail, __ATOMIC_ACQUIRE) !=
           __atomic_load_n(&ring->cons.tail, __ATOMIC_RELAXED);
}

bool shard_messages_waiting(const struct shard *shard)
{
    const struct shard_private *private = shard->private;
    for (unsigned from = 0; from < private->peer_count; from++) {
        if (private->from[from] != NULL && ring_holds(private->from[from])) {
            return true;
        }
    }
    return private->own_head != private->own_tail ||
           atomic_load_explicit(&private->any_posted, memory_order_acquire);
}
