/*
 * helpers: a few threads for what may block: databases, files, libraries with sockets of their own.
 *
 * A shard gives them a job and goes on; `done` runs on that shard when it is finished. Whoever waits for it waits in a
 * state. Jobs that are given to a full queue are refused, so that a database that hangs costs its users and nobody else.
 *
 * Giving takes no lock: the queue is a ring. A helper wakes the shard with its answer (shard_post).
 */
#pragma once
#include "engine/shard/shard.h"

struct helpers;

struct helper_job { /* the giver's, until `done` */
    /* On a helper. `own`: what this thread keeps for itself, see helpers_settings. */
    void (*work)(struct helper_job *job, void *own);
    void (*done)(struct helper_job *job, struct shard *shard); /* on the shard that gave it */
    void (*dropped)(struct helper_job
                        *job); /* instead of `done`, by helpers_close or shard_close; may be NULL */
    /* The helpers' own. */
    struct shard *shard;
    struct shard_message answer;
};

struct helpers_settings {
    unsigned threads;   /* 1 to HELPERS_MAX */
    unsigned queue_max; /* jobs that wait, a power of two */
    size_t own_bytes;   /* memory of each thread, zeroed at first */
    const char *name;   /* of the threads, in lists of them */
};

#define HELPERS_MAX 64u

/* 0 or -errno. */
int helpers_open(struct helpers **helpers, const struct helpers_settings *settings);
/* After the shards have stopped and before they are closed, since answers go to them. Waits for the jobs under way;
 * those that wait are dropped. */
void helpers_close(struct helpers *helpers);
/* From the shard. 0: done will run; -ENOBUFS: too many wait. */
int helpers_give(struct helpers *helpers, struct shard *shard, struct helper_job *job);
