#include "engine/shard/helpers.h"
#include "engine/core/check.h"
#include <errno.h>
#include <pthread.h>
#include <rte_ring.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define POST_AGAIN_US 1000

struct helper {
    struct helpers *helpers;
    pthread_t thread;
    void *own;
};

struct helpers {
    struct rte_ring *jobs;
    sem_t waiting; /* a job, or the end */
    _Atomic bool ending;
    unsigned count; /* threads that run */
    struct helper helper[HELPERS_MAX];
};

static void answer_run(struct shard_message *message, struct shard *receiver)
{
    struct helper_job *job = list_entry(message, struct helper_job, answer);
    job->done(job, receiver);
}

static void drop(struct helper_job *job)
{
    if (job->dropped != NULL) {
        job->dropped(job);
    }
}

/* The shard ended with the answer in its hands. */
static void answer_dropped(struct shard_message *message)
{
    drop(list_entry(message, struct helper_job, answer));
}

/* The shard may be short of memory for a moment; the answer is not lost by it. */
static void answer(struct helpers *helpers, struct helper_job *job)
{
    job->answer.run = answer_run;
    while (!atomic_load(&helpers->ending)) {
        if (shard_post_or(job->shard, &job->answer, answer_dropped) == 0) {
            return;
        }
        usleep(POST_AGAIN_US);
    }
    drop(job);
}

static void *helper_main(void *argument)
{
    struct helper *helper = argument;
    struct helpers *helpers = helper->helpers;
    for (;;) {
        void *job;
        while (sem_wait(&helpers->waiting) < 0) {
            check(errno == EINTR);
        }
        if (atomic_load(&helpers->ending)) {
            return NULL;
        }
        if (rte_ring_dequeue(helpers->jobs, &job) == 0) {
            struct helper_job *taken = job;
            taken->work(taken, helper->own);
            answer(helpers, taken);
        }
    }
}

static int threads_start(struct helpers *helpers, const struct helpers_settings *settings)
{
    for (unsigned i = 0; i < settings->threads; i++) {
        struct helper *helper = &helpers->helper[i];
        char name[16];
        helper->helpers = helpers;
        helper->own = settings->own_bytes == 0 ? NULL : calloc(1, settings->own_bytes);
        if (settings->own_bytes > 0 && helper->own == NULL) {
            return -ENOMEM;
        }
        int status = pthread_create(&helper->thread, NULL, helper_main, helper);
        if (status != 0) {
            free(helper->own);
            return -status;
        }
        helpers->count++;
        snprintf(name, sizeof(name), "%.11s/%u", settings->name, i % 100);
        pthread_setname_np(helper->thread, name);
    }
    return 0;
}

int helpers_open(struct helpers **opened, const struct helpers_settings *settings)
{
    struct helpers *helpers = calloc(1, sizeof(*helpers));
    ssize_t bytes = rte_ring_get_memsize(settings->queue_max);
    check(settings->threads >= 1 && settings->threads <= HELPERS_MAX && bytes > 0);
    void *ring = helpers == NULL ? NULL : aligned_alloc(RTE_CACHE_LINE_SIZE, (size_t)bytes);
    if (ring == NULL) {
        free(helpers);
        return -ENOMEM;
    }
    helpers->jobs = ring;
    /* RTS: a helper that loses its processor while it takes a job does not let the others spin until it is back. Givers are
     * not so: what one has given must be there when its sem_post is heard. */
    check(rte_ring_init(helpers->jobs, settings->name, settings->queue_max, RING_F_MC_RTS_DEQ) ==
          0);
    check(sem_init(&helpers->waiting, 0, 0) == 0);
    int status = threads_start(helpers, settings);
    if (status < 0) {
        helpers_close(helpers);
        return status;
    }
    *opened = helpers;
    return 0;
}

void helpers_close(struct helpers *helpers)
{
    atomic_store(&helpers->ending, true);
    for (unsigned i = 0; i < helpers->count; i++) {
        sem_post(&helpers->waiting);
    }
    for (unsigned i = 0; i < helpers->count; i++) {
        pthread_join(helpers->helper[i].thread, NULL);
        free(helpers->helper[i].own);
    }
    for (void *job; rte_ring_dequeue(helpers->jobs, &job) == 0;) {
        drop(job);
    }
    sem_destroy(&helpers->waiting);
    free(helpers->jobs);
    free(helpers);
}

int helpers_give(struct helpers *helpers, struct shard *shard, struct helper_job *job)
{
    job->shard = shard;
    if (rte_ring_mp_enqueue(helpers->jobs, job) < 0) {
        return -ENOBUFS;
    }
    sem_post(&helpers->waiting);
    return 0;
}
