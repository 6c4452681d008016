#include "queue/mailbox/crew.h"
#include "engine/core/check.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct crew {
    pthread_mutex_t lock;
    pthread_cond_t given;
    struct list_node lines; /* that have jobs, and nobody at work */
    struct list_node ended; /* jobs */
    bool stopping;
    void (*wake)(void *owner);
    void *owner;
    unsigned outstanding; /* the shard's */
    unsigned thread_count;
    pthread_t threads[];
};

static void crew_lock(struct crew *crew)
{
    check(pthread_mutex_lock(&crew->lock) == 0);
}

static void crew_unlock(struct crew *crew)
{
    check(pthread_mutex_unlock(&crew->lock) == 0);
}

/* One job of the line that has waited longest; under the lock before and behind, not meanwhile. */
static bool job_do(struct crew *crew)
{
    struct list_node *node = list_pop(&crew->lines);
    if (node == NULL) {
        return false;
    }
    struct crew_line *line = list_entry(node, struct crew_line, node);
    list_init(&line->node);
    struct crew_job *job = list_entry(list_pop(&line->jobs), struct crew_job, node);
    line->busy = true;
    crew_unlock(crew);
    job->work(job);
    crew_lock(crew);
    line->busy = false;
    if (!list_empty(&line->jobs)) {
        list_append(&crew->lines, &line->node);
        pthread_cond_signal(&crew->given);
    }
    list_init(&job->node);
    list_append(&crew->ended, &job->node);
    return true;
}

static void *thread_run(void *self)
{
    struct crew *crew = self;
    crew_lock(crew);
    for (;;) {
        if (job_do(crew)) {
            crew_unlock(crew);
            crew->wake(crew->owner);
            crew_lock(crew);
        } else if (crew->stopping) {
            break;
        } else {
            pthread_cond_wait(&crew->given, &crew->lock);
        }
    }
    crew_unlock(crew);
    return NULL;
}

/* Signals are the main thread's. */
static int thread_start(struct crew *crew)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = -pthread_create(&crew->threads[crew->thread_count], NULL, thread_run, crew);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    crew->thread_count += status == 0;
    return status;
}

int crew_open(struct crew **made, unsigned thread_count, void (*wake)(void *owner), void *owner)
{
    struct crew *crew = calloc(1, sizeof *crew + thread_count * sizeof(crew->threads[0]));
    if (crew == NULL) {
        return -ENOMEM;
    }
    crew->wake = wake;
    crew->owner = owner;
    list_init(&crew->lines);
    list_init(&crew->ended);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->given, NULL);
    int status = 0;
    for (unsigned i = 0; i < thread_count && status == 0; i++) {
        status = thread_start(crew);
    }
    if (status != 0) {
        crew_close(crew);
        return status;
    }
    *made = crew;
    return 0;
}

void crew_close(struct crew *crew)
{
    if (crew == NULL) {
        return;
    }
    crew_lock(crew);
    crew->stopping = true;
    while (crew->thread_count == 0 && job_do(crew)) {
    }
    pthread_cond_broadcast(&crew->given);
    crew_unlock(crew);
    for (unsigned i = 0; i < crew->thread_count; i++) {
        pthread_join(crew->threads[i], NULL);
    }
    pthread_cond_destroy(&crew->given);
    pthread_mutex_destroy(&crew->lock);
    free(crew);
}

void crew_line_open(struct crew_line *line)
{
    *line = (struct crew_line){.busy = false};
    list_init(&line->jobs);
    list_init(&line->node);
}

void crew_give(struct crew *crew, struct crew_line *line, struct crew_job *job)
{
    crew->outstanding++;
    job->line = line;
    list_init(&job->node);
    crew_lock(crew);
    list_append(&line->jobs, &job->node);
    if (!line->busy && list_empty(&line->node)) {
        list_append(&crew->lines, &line->node);
        pthread_cond_signal(&crew->given);
    }
    crew_unlock(crew);
}

unsigned crew_reap(struct crew *crew)
{
    struct list_node ended;
    unsigned count = 0;
    if (crew->outstanding == 0) {
        return 0;
    }
    list_init(&ended);
    crew_lock(crew);
    while (crew->thread_count == 0 && job_do(crew)) {
    }
    list_splice(&ended, &crew->ended);
    crew_unlock(crew);
    for (struct list_node *node; (node = list_pop(&ended)) != NULL; count++) {
        struct crew_job *job = list_entry(node, struct crew_job, node);
        crew->outstanding--;
        job->done(job);
    }
    return count;
}

bool crew_is_idle(const struct crew *crew)
{
    return crew->outstanding == 0;
}
