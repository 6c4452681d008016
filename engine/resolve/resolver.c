#include "engine/resolve/resolver_private.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- Threads and what comes in to them ---- */

int resolver_inbox_open(struct resolver_inbox *inbox)
{
    list_init(&inbox->jobs);
    inbox->stop = false;
    pthread_mutex_init(&inbox->lock, NULL);
    inbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return inbox->fd < 0 ? -errno : 0;
}

void resolver_inbox_close(struct resolver_inbox *inbox)
{
    close(inbox->fd);
    pthread_mutex_destroy(&inbox->lock);
}

static void inbox_ring(struct resolver_inbox *inbox)
{
    uint64_t one = 1;
    ssize_t written = write(inbox->fd, &one, sizeof(one));
    (void)written; /* full: readable already */
}

void resolver_inbox_put(struct resolver_inbox *inbox, struct resolver_job *job)
{
    pthread_mutex_lock(&inbox->lock);
    list_append(&inbox->jobs, &job->node);
    pthread_mutex_unlock(&inbox->lock);
    inbox_ring(inbox);
}

void resolver_inbox_stop(struct resolver_inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    inbox->stop = true;
    pthread_mutex_unlock(&inbox->lock);
    inbox_ring(inbox);
}

bool resolver_inbox_take(struct resolver_inbox *inbox, struct list_node *jobs)
{
    uint64_t drained;
    ssize_t got = read(inbox->fd, &drained, sizeof(drained));
    (void)got;
    pthread_mutex_lock(&inbox->lock);
    list_splice(jobs, &inbox->jobs);
    bool stop = inbox->stop;
    pthread_mutex_unlock(&inbox->lock);
    return !stop;
}

int resolver_thread_start(pthread_t *thread, void *(*run)(void *), void *owner)
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
    error = pthread_create(thread, &attributes, run, owner);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

/* ---- Jobs ---- */

void resolver_job_free(struct resolver_job *job)
{
    free(job->rdata);
    free(job->text);
    free(job->web_authorities);
    free(job);
}

static void job_arrived(struct shard_message *message, struct shard *receiver)
{
    struct resolver_job *job = list_entry(message, struct resolver_job, message);
    (void)receiver;
    list_remove(&job->all);
    if (job->question != NULL) {
        job->question->answered(job->question, &job->answer);
    } else if (job->fetch != NULL) {
        job->fetch->fetched(job->fetch, job->fetch_status, slice_of(job->text, job->text_size));
    }
    resolver_job_free(job);
}

void resolver_job_return(struct resolver_job *job)
{
    struct resolver *resolver = job->resolver;
    pthread_mutex_lock(&resolver->lock);
    if (job->backend == NULL) {
        pthread_mutex_unlock(&resolver->lock);
        resolver_job_free(job);
        return;
    }
    job->returned = true;
    job->message.run = job_arrived;
    while (shard_post(job->backend->shard, &job->message) < 0) { /* no memory for a few bytes */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    pthread_mutex_unlock(&resolver->lock);
}

void resolver_job_fail(struct resolver_job *job, const char *reason)
{
    snprintf(job->reason, sizeof(job->reason), "%s", reason);
    job->answer = (struct resolve_answer){.status = RESOLVE_ANSWER_FAILED, .reason = job->reason};
    job->fetch_status = RESOLVE_FETCH_FAILED;
    resolver_job_return(job);
}

static struct resolver_backend *backend_of(struct resolve_backend *backend)
{
    return list_entry(backend, struct resolver_backend, backend);
}

static struct resolver_job *job_new(struct resolve_backend *of, enum resolver_job_kind kind)
{
    struct resolver_backend *backend = backend_of(of);
    struct resolver_job *job = calloc(1, sizeof(*job));
    if (job != NULL) {
        job->kind = (uint8_t)kind;
        job->backend = backend;
        job->resolver = backend->resolver;
        job->deadline_ns = UINT64_MAX;
        list_append(&backend->jobs, &job->all);
    }
    return job;
}

/* To the thread that has its name. */
static void job_give(struct resolver_job *job)
{
    job->dns = resolver_pool_dns(job->backend->pool, job->name);
    resolver_inbox_put(&job->dns->inbox, job);
}

static int ask(struct resolve_backend *backend, struct resolve_question *question)
{
    struct resolver_job *job = job_new(backend, RESOLVER_QUESTION);
    if (job == NULL) {
        return -ENOMEM;
    }
    job->question = question;
    question->job = job;
    job->type = question->type;
    memcpy(job->name, question->name, sizeof(job->name));
    job_give(job);
    return 0;
}

static void cancel(struct resolve_backend *backend, struct resolve_question *question)
{
    struct resolver_job *job = question->job;
    (void)backend;
    job->question = NULL;
}

/* Its addresses are learned first, from the same servers as everything else. */
static int fetch_policy(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    char name[DNS_NAME_BYTES];
    struct resolver_job *job = dns_name_with_prefix("mta-sts", fetch->domain, name) > 0
                                   ? job_new(backend, RESOLVER_FETCH)
                                   : NULL;
    if (job == NULL) {
        return -ENOMEM;
    }
    job->fetch = fetch;
    fetch->job = job;
    job->type = DNS_TYPE_AAAA;
    memcpy(job->name, name, sizeof(job->name));
    job_give(job);
    return 0;
}

static void cancel_fetch(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    struct resolver_job *job = fetch->job;
    (void)backend;
    job->fetch = NULL;
}

/* Nobody waits for it, so it is no job of the backend's. */
static void keep(struct resolve_backend *backend, struct slice record)
{
    struct resolver_job *job = calloc(1, sizeof(*job));
    uint8_t *copy = malloc(record.size);
    if (job == NULL || copy == NULL) { /* it is known until the end of the process */
        free(job);
        free(copy);
        return;
    }
    memcpy(copy, record.bytes, record.size);
    job->kind = RESOLVER_KEEP;
    job->text = copy;
    job->text_size = record.size;
    resolver_inbox_put(&backend_of(backend)->resolver->fetcher.inbox, job);
}

struct resolve_backend *resolver_backend_open(struct resolver *resolver, struct shard *shard)
{
    static const struct resolve_backend_ops ops = {.ask = ask,
                                                   .cancel = cancel,
                                                   .fetch = fetch_policy,
                                                   .cancel_fetch = cancel_fetch,
                                                   .keep = keep};
    struct resolver_backend *backend = calloc(1, sizeof(*backend));
    if (backend == NULL) {
        return NULL;
    }
    backend->backend.ops = &ops;
    backend->resolver = resolver;
    backend->pool = resolver->pool;
    backend->shard = shard;
    list_init(&backend->jobs);
    return &backend->backend;
}

void resolver_backend_close(struct resolve_backend *closed)
{
    struct resolver_backend *backend = backend_of(closed);
    struct list_node *node;
    pthread_mutex_lock(&backend->resolver->lock);
    while ((node = list_pop(&backend->jobs)) != NULL) {
        struct resolver_job *job = list_entry(node, struct resolver_job, all);
        if (job->returned) {
            resolver_job_free(job);
        } else {
            job->backend = NULL; /* its thread frees it */
        }
    }
    pthread_mutex_unlock(&backend->resolver->lock);
    free(backend);
}

/* ---- Life ---- */

int resolver_open(struct resolver **opened, const struct resolver_settings *settings)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    if (resolver == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_init(&resolver->lock, NULL);
    resolver->world = settings->world;
    resolver->logger = settings->logger;
    int status = policy_file_open(&resolver->policies, settings->mta_sts_file,
                                  world_wall_s(settings->world), settings->logger);
    resolver->policies_open = status == 0;
    status = status == 0 ? resolver_pool_open(&resolver->pool, resolver, settings) : status;
    if (status == 0) {
        status = resolver_fetcher_open(&resolver->fetcher, resolver);
        resolver->fetcher_open = status == 0;
    }
    if (status < 0) {
        resolver_close(resolver);
        return status;
    }
    *opened = resolver;
    return 0;
}

void resolver_close(struct resolver *resolver)
{
    check(resolver->before == NULL);
    if (resolver->pool != NULL) {
        resolver_pool_close(resolver->pool); /* it hands jobs to the fetcher, which is the last */
    }
    if (resolver->fetcher_open) {
        resolver_fetcher_close(&resolver->fetcher);
    }
    if (resolver->policies_open) {
        policy_file_close(&resolver->policies);
    }
    pthread_mutex_destroy(&resolver->lock);
    free(resolver);
}

int resolver_reload(struct resolver *resolver, const struct resolver_settings *settings)
{
    struct resolver_pool *pool;
    check(resolver->before == NULL);
    /* A file that is missing is no mistake of this configuration's alone: not every relay asks the DNS. */
    int status = resolver_files_there(settings) ? resolver_dns_check(settings) : 0;
    status = status == 0 ? resolver_pool_open(&pool, resolver, settings) : status;
    if (status == 0) {
        resolver->before = resolver->pool;
        resolver->pool = pool;
    }
    return status;
}

void resolver_backend_renew(struct resolve_backend *backend)
{
    backend_of(backend)->pool = backend_of(backend)->resolver->pool;
}

void resolver_reload_end(struct resolver *resolver)
{
    resolver_pool_close(resolver->before);
    resolver->before = NULL;
}

void resolver_recall(struct resolver *resolver,
                     void (*each)(void *owner, const struct policy_record *record), void *owner)
{
    policy_file_each(&resolver->policies, each, owner);
}
