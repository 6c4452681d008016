/*
 * shard: one pinned thread that runs its parts round after round, alone.
 *
 * A round: read the clock; poll every part; reap the io_uring; take other shards' messages; run due
 * timers; flush every part; submit. When a round did nothing: spin for idle_spin_ns, then sleep until
 * a part has work, a message comes, a timer is due (see arm). Parts are added before shard_run and are
 * polled and flushed in the order in which they were added. The shard knows nothing of mail or networks.
 */
#pragma once
#include "engine/core/logger.h"
#include "engine/core/wheel.h"
#include "engine/core/world.h"
#include "engine/shard/uring.h"
#include <stdatomic.h>

struct shard;

/* What arm may answer besides a descriptor >= 0 to watch for readability. */
#define SHARD_ARM_URING (-1000) /* my completions come through the shard's io_uring */
/* -ENOTSUP: only polling finds my work; -EAGAIN: there is work, do not sleep.
 * A descriptor that was answered stays open until shard_run has returned. */

struct shard_part {
    const char *name;
    void *self;
    unsigned (*poll)(void *self, uint64_t now_ns); /* how much was done; may be NULL */
    void (*flush)(void *self, uint64_t now_ns);    /* may be NULL */
    int (*arm)(void *self);                        /* NULL: nothing to wait for */
};

/* A message between shards. The memory is the sender's to hand over; `run` frees it, on the receiver, or `dropped` does
 * when the receiver was closed before: that one knows only that nobody will read it. */
struct shard_message {
    void (*run)(struct shard_message *message, struct shard *receiver);
    void (*dropped)(struct shard_message *message); /* NULL: nobody needs to know */
};

struct shard_settings {
    unsigned index, count;
    int cpu;               /* to pin to; -1: not pinned */
    uint64_t idle_spin_ns; /* spin after the last work before sleeping */
    /* The same while a part can only be polled: what comes does not end a sleep. */
    uint64_t idle_spin_polled_ns;
    uint64_t idle_poll_ns; /* longest sleep while a part can only be polled */
    bool with_uring;
    enum uring_mode uring_mode;
    unsigned uring_entries;
    const struct world *world; /* borrowed, as long as the shard */
    struct logger *logger;
};

struct shard_counters { /* written by the shard only; read relaxed by anyone */
    uint64_t rounds, busy_rounds, busy_ns, sleeps, messages_in, messages_out, poll_gap_ns_max;
};

struct shard {
    struct shard_settings settings;
    const struct world *world;
    struct logger *logger;
    uint64_t now_ns; /* of this round */
    struct wheel *wheel;
    struct uring *uring; /* NULL where io_uring is not permitted */
    struct shard_counters counters;
    struct shard_private *private;
};

/* Made by main, then entered by its thread. `shards`: all of the process, for messages. 0 or -errno. */
int shard_open(struct shard *shard, const struct shard_settings *settings);
void shard_add(struct shard *shard, const struct shard_part *part);
/* Rings from and to every other shard; once, after all are open, before any runs. */
int shard_connect_all(struct shard **shards, unsigned count);
/* Runs `start` (opens what must belong to the thread, adds parts), then rounds until shard_stop. On the calling thread. */
int shard_run(struct shard *shard, int (*start)(struct shard *, void *owner), void *owner);
/* From any thread or a signal handler: leave shard_run after this round. */
void shard_stop(struct shard *shard);
/* From any thread: leave the sleep. */
void shard_wake(struct shard *shard);
/* Messages that have not run are dropped; see shard_post_or. */
void shard_close(struct shard *shard);

/* From the shard `from`, to another or itself; delivered in order. 0, or -ENOBUFS when the ring is full:
 * nobody is told when it has room again, so try in a later round and do not sleep until then. */
int shard_send(struct shard *from, struct shard *to, struct shard_message *message);
/* From a thread that is no shard (control, signals, helpers); takes a lock. 0 or -ENOBUFS. */
int shard_post(struct shard *to, struct shard_message *message);
/* The same, with what becomes of a message that the shard never takes: `dropped`, by shard_close, instead of `run`. */
int shard_post_or(struct shard *to, struct shard_message *message,
                  void (*dropped)(struct shard_message *message));
/* One round, for tests and the simulator. Returns how much was done. */
unsigned shard_round(struct shard *shard);
