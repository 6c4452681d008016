/*
 * resolver_private: what the parts of resolver share. Nobody else includes it.
 *
 *   resolver.c           jobs between shards and threads: who owns one when
 *   resolver_pool.c      the threads that ask by the same settings
 *   resolver_dns.c       a thread around a libunbound context
 *   resolver_fetch.c     the thread that fetches policies with libcurl
 *
 * A job is made on its shard, handed to a thread, and comes back as a message. Its backend lists it all the while. When
 * the backend closes first, the thread that has the job frees it.
 */
#pragma once
#include "engine/core/check.h"
#include "engine/resolve/policy_file.h"
#include "engine/resolve/resolver.h"
#include <pthread.h>

#define RESOLVER_ADDRESSES_MAX 8u /* of a web server; more are not tried */

enum resolver_job_kind { RESOLVER_QUESTION, RESOLVER_FETCH, RESOLVER_KEEP };

struct resolver_job {
    struct shard_message message;
    struct list_node all;             /* in the backend; the shard's */
    struct list_node node;            /* in the list of the thread that has it */
    uint8_t kind;                     /* enum resolver_job_kind */
    bool returned;                    /* posted to the shard; under resolver->lock */
    struct resolver_backend *backend; /* NULL: closed; under resolver->lock */
    struct resolver *resolver;
    struct resolver_dns *dns; /* that it was given to */
    /* Who waits for it, on the shard; NULL: cancelled. */
    struct resolve_question *question;
    struct resolve_fetch *fetch;
    /* The thread's. */
    char name[DNS_NAME_BYTES];
    uint16_t type;
    int async_id;
    uint64_t deadline_ns;
    struct resolver_page *page;
    /* The answer. */
    struct resolve_answer answer;
    char canonical[DNS_NAME_BYTES];
    char reason[160];
    uint8_t *rdata; /* owned: the records' bytes, then their slices */
    enum resolve_fetch_status fetch_status;
    uint8_t *text; /* owned: of the policy; KEEP: the record */
    size_t text_size;
    char addresses[RESOLVER_ADDRESSES_MAX][64]; /* of the web server */
    unsigned address_count;
    /* How it is asked, as the DNS thread knows it, which may have ended by then. */
    uint16_t web_port;
    uint64_t web_timeout_ns;
    char *web_authorities; /* owned; NULL: the system's */
};

/* What all threads have: jobs come in, a descriptor says so. */
struct resolver_inbox {
    pthread_mutex_t lock;
    struct list_node jobs;
    bool stop;
    int fd; /* readable when there is something */
};

struct resolver_pool;

struct resolver_backend {
    struct resolve_backend backend;
    struct resolver *resolver;
    struct resolver_pool *pool; /* that its questions go to; the shard's */
    struct shard *shard;
    struct list_node jobs;
};

struct resolver_dns {
    const struct resolver_settings *settings; /* of its pool */
    struct resolver *resolver;
    struct resolver_inbox inbox;
    pthread_t thread;
    struct ub_ctx *context; /* made at the first question */
    struct list_node asked; /* the oldest first: the order of their deadlines */
};

struct resolver_fetcher {
    struct resolver *resolver;
    void *multi;       /* CURLM */
    uint64_t write_ns; /* when what has changed is written */
    struct resolver_inbox inbox;
    pthread_t thread;
};

/* DNS threads, and how they ask. A reload makes another pool; the one before ends when no shard asks it any more. */
struct resolver_pool {
    struct resolver_settings settings; /* its texts and lists are ours */
    unsigned dns_open;
    struct resolver_dns dns[]; /* settings.threads of them */
};

struct resolver {
    pthread_mutex_t lock;                /* of returning jobs and closing backends */
    struct resolver_pool *pool, *before; /* before: during a reload */
    const struct world *world;
    struct logger *logger;
    struct resolver_fetcher fetcher;
    bool fetcher_open;
    struct policy_file policies; /* the fetcher puts in and writes */
    bool policies_open;
};

/* ---- resolver.c ---- */

int resolver_inbox_open(struct resolver_inbox *inbox);
void resolver_inbox_close(struct resolver_inbox *inbox);
/* From any thread. */
void resolver_inbox_put(struct resolver_inbox *inbox, struct resolver_job *job);
void resolver_inbox_stop(struct resolver_inbox *inbox);
/* On its thread: all that came in. false: it is to end. */
bool resolver_inbox_take(struct resolver_inbox *inbox, struct list_node *jobs);
/* A helper thread with every signal blocked that may run on any processor. 0 or -errno. */
int resolver_thread_start(pthread_t *thread, void *(*run)(void *), void *owner);
void resolver_job_free(struct resolver_job *job);
/* To its shard, or away. */
void resolver_job_return(struct resolver_job *job);
void resolver_job_fail(struct resolver_job *job, const char *reason);

/* ---- resolver_pool.c ---- */

/* The settings are copied. 0 or -errno. */
int resolver_pool_open(struct resolver_pool **pool, struct resolver *resolver,
                       const struct resolver_settings *settings);
/* What is not is noted in the log. */
bool resolver_files_there(const struct resolver_settings *settings);
/* What its threads still have comes back as failed. */
void resolver_pool_close(struct resolver_pool *pool);
/* The thread that has the name. */
struct resolver_dns *resolver_pool_dns(struct resolver_pool *pool, const char *name);

/* ---- resolver_dns.c, resolver_fetch.c ---- */

/* The settings live as long as it does. */
int resolver_dns_open(struct resolver_dns *dns, struct resolver *resolver,
                      const struct resolver_settings *settings);
void resolver_dns_close(struct resolver_dns *dns);
/* Can libunbound be set up so? 0 or -EINVAL, which is noted in the log. */
int resolver_dns_check(const struct resolver_settings *settings);

int resolver_fetcher_open(struct resolver_fetcher *fetcher, struct resolver *resolver);
void resolver_fetcher_close(struct resolver_fetcher *fetcher);
