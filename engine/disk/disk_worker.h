/*
 * disk_worker: a thread that does what would block a shard: preparing and removing files and, where
 * there is no io_uring, reads and writes. Private to engine/disk.
 *
 * Jobs are done one after the other. A finished job comes back to the shard through
 * disk_worker_reap; `fd` becomes readable when there is one.
 */
#pragma once
#include "engine/disk/disk.h"
#include <pthread.h>
#include <stdatomic.h>

struct disk_job {
    struct disk_job *next;
    int (*work)(struct disk_job *job); /* on the worker's thread; its result is told to `done` */
    int result;
    struct disk_done *done;
    int folder; /* descriptor */
    char *name; /* of prepare and remove; freed with the job */
    uint64_t bytes, offset;
    int file;
    void *block;
    uint32_t flags;
};

struct disk_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct disk_job *first, **last; /* to be done */
    struct disk_job *finished, **finished_last;
    atomic_bool any_finished;
    bool stop;
    unsigned under_way; /* the shard's count */
    int fd;
};

int disk_worker_open(struct disk_worker *worker);
void disk_worker_close(struct disk_worker *worker); /* finishes what was asked, tells nobody */
/* job: given, allocated with malloc. */
void disk_worker_ask(struct disk_worker *worker, struct disk_job *job);
unsigned disk_worker_reap(struct disk_worker *worker);

/* The jobs themselves. */
int disk_job_prepare(struct disk_job *job);
int disk_job_remove(struct disk_job *job);
int disk_job_write(struct disk_job *job);
int disk_job_read(struct disk_job *job);
/* A job for a name, or NULL when memory is short. */
struct disk_job *disk_job_new(int (*work)(struct disk_job *), int folder, const char *name,
                              struct disk_done *done);

/* What both disks do in the same way, blocking, at start. `direct` becomes false where O_DIRECT is
 * refused. */
int disk_file_open(int folder, const char *name, bool *direct, uint64_t *bytes);
int disk_folder_list(int folder, const char *name, void (*visit)(void *owner, const char *name),
                     void *owner);
int disk_folder_free_bytes(int folder, uint64_t *bytes);
int disk_folder_open(const char *path, bool *direct);
