#include "engine/disk/disk_worker.h"
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void job_free(struct disk_job *job)
{
    free(job->name);
    free(job);
}

struct disk_job *disk_job_new(int (*work)(struct disk_job *), int folder, const char *name,
                              struct disk_done *done)
{
    struct disk_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return NULL;
    }
    job->work = work;
    job->folder = folder;
    job->done = done;
    if (name != NULL && (job->name = strdup(name)) == NULL) {
        free(job);
        return NULL;
    }
    return job;
}

/* The list, the flag and the descriptor change together: a shard that finds one of them and not the
 * others would never sleep again, or never wake. */
static void worker_finish(struct disk_worker *worker, struct disk_job *job)
{
    uint64_t one = 1;
    job->next = NULL;
    pthread_mutex_lock(&worker->lock);
    *worker->finished_last = job;
    worker->finished_last = &job->next;
    atomic_store_explicit(&worker->any_finished, true, memory_order_release);
    ssize_t written = write(worker->fd, &one, sizeof(one));
    (void)written; /* full: readable already */
    pthread_mutex_unlock(&worker->lock);
}

static struct disk_job *worker_next(struct disk_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (worker->first == NULL && !worker->stop) {
        pthread_cond_wait(&worker->wake, &worker->lock);
    }
    struct disk_job *job = worker->first;
    if (job != NULL) {
        worker->first = job->next;
        if (worker->first == NULL) {
            worker->last = &worker->first;
        }
    }
    pthread_mutex_unlock(&worker->lock);
    return job;
}

static void *worker_main(void *owner)
{
    struct disk_worker *worker = owner;
    struct disk_job *job;
    while ((job = worker_next(worker)) != NULL) {
        job->result = job->work(job);
        worker_finish(worker, job);
    }
    return NULL;
}

/* A thread begins with its maker's processors, which is one for a pinned shard, and with its open
 * signals, which are none of its business. */
static int worker_start(struct disk_worker *worker)
{
    pthread_attr_t attributes;
    cpu_set_t everywhere;
    sigset_t all, before;
    memset(&everywhere, 0xff, sizeof(everywhere)); /* the kernel takes those that we may use */
    sigfillset(&all);
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return -error;
    }
    pthread_attr_setaffinity_np(&attributes, sizeof(everywhere), &everywhere);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&worker->thread, &attributes, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

int disk_worker_open(struct disk_worker *worker)
{
    memset(worker, 0, sizeof(*worker));
    worker->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (worker->fd < 0) {
        return -errno;
    }
    worker->last = &worker->first;
    worker->finished_last = &worker->finished;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->wake, NULL);
    int error = worker_start(worker);
    if (error < 0) {
        close(worker->fd);
        pthread_mutex_destroy(&worker->lock);
        pthread_cond_destroy(&worker->wake);
    }
    return error;
}

void disk_worker_close(struct disk_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->stop = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    while (worker->finished != NULL) {
        struct disk_job *job = worker->finished;
        worker->finished = job->next;
        if (job->undo != NULL) {
            job->undo(job);
        }
        job_free(job);
    }
    pthread_mutex_destroy(&worker->lock);
    pthread_cond_destroy(&worker->wake);
    close(worker->fd);
}

void disk_worker_ask(struct disk_worker *worker, struct disk_job *job)
{
    job->next = NULL;
    worker->under_way++;
    pthread_mutex_lock(&worker->lock);
    *worker->last = job;
    worker->last = &job->next;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
}

static struct disk_job *take_finished(struct disk_worker *worker)
{
    uint64_t drained;
    pthread_mutex_lock(&worker->lock);
    struct disk_job *job = worker->finished;
    worker->finished = NULL;
    worker->finished_last = &worker->finished;
    atomic_store_explicit(&worker->any_finished, false, memory_order_relaxed);
    ssize_t got = read(worker->fd, &drained, sizeof(drained));
    (void)got;
    pthread_mutex_unlock(&worker->lock);
    return job;
}

unsigned disk_worker_reap(struct disk_worker *worker)
{
    unsigned count = 0;
    if (!atomic_load_explicit(&worker->any_finished, memory_order_acquire)) {
        return 0;
    }
    struct disk_job *job = take_finished(worker);
    for (; job != NULL; count++) {
        struct disk_job *next = job->next;
        struct disk_done *done = job->done;
        int result = job->result;
        if (job->finish != NULL) {
            job->finish(job);
        }
        job_free(job);
        worker->under_way--;
        done->run(done, result);
        job = next;
    }
    return count;
}

int disk_worker_arm(struct disk_worker *worker)
{
    return atomic_load_explicit(&worker->any_finished, memory_order_acquire) ? -EAGAIN : worker->fd;
}
