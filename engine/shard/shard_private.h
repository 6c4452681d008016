/*
 * shard_private: what the files of the shard share: its parts, its messages and its sleep.
 */
#pragma once
#include "engine/shard/shard.h"
#include <poll.h>
#include <pthread.h>
#include <rte_ring.h>

#define SHARD_PARTS_MAX 32
#define SHARD_RING_SIZE 1024 /* messages between two shards; full: -ENOBUFS */

/* A descriptor that is watched through the io_uring while the shard sleeps. */
struct shard_watch {
    struct uring_op op;
    int fd;
    bool armed;
};

struct shard_post {
    struct shard_post *next;
    struct shard_message *message;
    void (*dropped)(struct shard_message *message); /* NULL: nobody needs to know */
};

struct shard_private {
    struct shard_part parts[SHARD_PARTS_MAX];
    unsigned part_count;
    uint64_t idle_since_ns;
    bool idle; /* the last round did nothing */
    bool busy; /* the last round did something */
    struct uring uring;
    struct shard_watch watches[SHARD_PARTS_MAX + 1]; /* one a part, the last for wake_fd */
    int wake_fd;

    struct rte_ring **from; /* by the sender's index; its own: NULL */
    unsigned peer_count;
    struct shard_message *own[SHARD_RING_SIZE]; /* to itself */
    unsigned own_head, own_tail;

    /* What other threads touch, away from what the shard writes every round. */
    _Alignas(64) atomic_bool asleep;
    _Alignas(64) atomic_bool stop;
    atomic_bool any_posted;
    pthread_mutex_t post_lock;
    struct shard_post *posted, **posted_last;
};

/* Counters have one writer, so that an addition need not be atomic, only its store. */
static inline void shard_count(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

void shard_messages_open(struct shard *shard);
void shard_messages_close(struct shard *shard);
/* Runs what has come; a bounded piece of it. Returns how many. */
unsigned shard_messages_take(struct shard *shard);
bool shard_messages_waiting(const struct shard *shard);

/* Sleeps until there may be something to do, or returns at once when there is. */
void shard_sleep(struct shard *shard);
