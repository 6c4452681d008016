/*
 * disk_worker: a thread that does what would block a shard: preparing and removing files and, where
 * there is no io_uring, reads and writes. Private to engine/disk.
 *
 * Jobs are done one after the other. A finished job comes back to the shard through
 * disk_worker_reap; `fd` is readable while there is one.
 */
#pragma once
#include "engine/disk/disk.h"
#include <pthread.h>
#include <stdatomic.h>

struct disk_job {
    struct disk_job *next;
    int (*work)(struct disk_job *job); /* on the worker's thread; its result is told to `done` */
    void (*undo)(
        struct disk_job *job); /* instead of `done` when the disk is closed first, or NULL */
    void (*finish)(struct disk_job *job); /* on the shard's thread, before `done`; or NULL */
    int result;
    struct disk_done *done;
    int folder; /* descriptor */
    char *name; /* of prepare and remove; freed with the job */
    uint64_t bytes, offset;
    int file;
    void *block;
    struct disk_space space;
    uint32_t flags;
    bool direct; /* with O_DIRECT */
};

struct disk_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct disk_job *first, **last; /* to be done */
    struct disk_job *finished, **finished_last;
    atomic_bool any_finished; /* changed under the lock, looked at without */
    bool stop;
    unsigned under_way; /* the shard's count */
    int fd;
};

int disk_worker_open(struct disk_worker *worker);
void disk_worker_close(struct disk_worker *worker); /* finishes what was asked, tells nobody */

/* A job of `work`, all else zero; NULL when memory is short. name: copied, or NULL. */
struct disk_job *disk_job_new(int (*work)(struct disk_job *), int folder, const char *name,
                              struct disk_done *done);
/* job: given. */
void disk_worker_ask(struct disk_worker *worker, struct disk_job *job);
unsigned disk_worker_reap(struct disk_worker *worker);
/* As shard_part.arm: `fd`, or -EAGAIN when a finished job waits. */
int disk_worker_arm(struct disk_worker *worker);
