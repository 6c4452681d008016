/*
 * tubepost-mailboxd: the companion. LMTP in, into Maildirs or a store of its own, which IMAP and POP3 read.
 *
 * usage: tubepost-mailboxd [-c FILE] [--check]
 *
 * Main reads the configuration, starts a thread for each shard and then only waits for signals:
 * SIGTERM, SIGINT: finish what is in flight, then end; a second one ends at once.
 * SIGHUP: read the configuration again, for users, limits, timeouts and certificates.
 */
#include "engine/conf/conf.h"
#include "engine/core/file_limit.h"
#include "engine/core/system_world.h"
#include "engine/mailbox/crossing.h"
#include "engine/mailbox/mailbox.h"
#include "engine/mailbox/mailbox_group.h"
#include "engine/mailbox/mailbox_store.h"
#include "engine/mailbox/mailbox_tls.h"
#include "engine/shard/memory.h"
#include "engine/sock/sock.h"
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define EAL_MEGABYTES 32 /* and for each shard: */
#define EAL_SHARD_MEGABYTES 32
#define MBUFS 8192
#define URING_ENTRIES 512
#define SPIN_NS 20000
#define POLL_NS 1000000
#define LAST_ROUNDS 8 /* of all shards together, for what they still say to one another */

struct service;

/* A shard and its thread. */
struct worker {
    struct service *service;
    struct rte_mempool *pool;
    struct shard shard;
    bool shard_open;
    struct crossing *crossing; /* NULL: it is the only one */
    struct network *network;
    struct mailbox *mailbox;
    bool draining; /* the shard's */
    int status;    /* of its start */
    sem_t may_serve;
    pthread_t thread;
};

struct service {
    const char *conf_path;
    char hostname[256];
    struct mailboxd_conf *conf;
    struct mailboxd_conf *first; /* of the start: `auth` holds on to it */
    struct auth_service auth;
    struct world world;
    struct maildir_files files;
    struct logger logger;
    int folder; /* of the stores, claimed; -1 where their only shard does that */
    unsigned shards;
    struct worker workers[CONF_SHARDS_MAX];
    struct mailbox_group group;
    bool gives_up;             /* a shard could not start: nobody serves */
    sem_t started;             /* one more has a status, of its store and then of its listeners */
    pthread_barrier_t ending;  /* all of them have come so far */
    atomic_uint drained, left; /* of the workers */
};

/* Asks a shard for something; main waits until it is done. */
struct order {
    struct shard_message message; /* first */
    struct worker *worker;
    struct mailboxd_conf *conf; /* reload; NULL: drain */
    sem_t *done;
};

/* ---- on the shard's thread ---- */

static unsigned network_poll(void *self, uint64_t now_ns)
{
    return ((struct network *)self)->ops->poll(self, now_ns);
}

static void network_flush(void *self, uint64_t now_ns)
{
    ((struct network *)self)->ops->flush(self, now_ns);
}

static int network_arm(void *self)
{
    return ((struct network *)self)->ops->arm(self);
}

/* The last one ends them all: until then any may be told something by another. */
static void drained(void *owner)
{
    struct service *service = ((struct worker *)owner)->service;
    if (atomic_fetch_add(&service->drained, 1) + 1 == service->shards) {
        for (unsigned i = 0; i < service->shards; i++) {
            shard_stop(&service->workers[i].shard);
        }
    }
}

static int open_network(struct worker *worker)
{
    const struct sock_settings settings = {.shard = &worker->shard, .pool = worker->pool};
    int status = worker->shard.uring != NULL ? sock_open_uring(&worker->network, &settings)
                                             : sock_open_epoll(&worker->network, &settings);
    if (status < 0) {
        logger_line(&worker->service->logger, LOGGER_ERROR, "kernel sockets cannot be opened: %s",
                    strerror(-status));
        return status;
    }
    shard_add(&worker->shard, &(struct shard_part){.name = "network",
                                                   .self = worker->network,
                                                   .poll = network_poll,
                                                   .flush = network_flush,
                                                   .arm = network_arm});
    return 0;
}

static int store_open(struct worker *worker)
{
    struct service *service = worker->service;
    bool alone = service->shards == 1;
    const struct mailbox_settings settings = {
        .conf = service->conf,
        .shard = &worker->shard,
        .network = worker->network,
        .group = alone ? NULL : &service->group,
        .crossing = worker->crossing,
        .files = &service->files,
        .process_id = (uint32_t)getpid(),
        .auth = service->auth.directory != NULL ? &service->auth : NULL,
        .drained = drained,
        .owner = worker,
    };
    return mailbox_open(&worker->mailbox, &settings);
}

/* Nobody listens before every shard knows whose mail lies where. */
static int others_await(struct worker *worker)
{
    sem_post(&worker->service->started);
    while (sem_wait(&worker->may_serve) < 0) {
    }
    return worker->service->gives_up ? -ECANCELED : 0;
}

static int serve(struct shard *shard, void *owner)
{
    struct worker *worker = (struct worker *)owner;
    (void)shard;
    worker->status = open_network(worker);
    worker->status = worker->status == 0 ? store_open(worker) : worker->status;
    int status = others_await(worker);
    if (status == 0) {
        mailbox_add_parts(worker->mailbox);
        worker->status = status = mailbox_listen(worker->mailbox);
    }
    if (status == 0) {
        mailbox_listen_control(worker->mailbox);
    }
    sem_post(&worker->service->started);
    return status;
}

/* What one shard still says to another is heard, so that nothing is left in anybody's hands. */
static void last_rounds(struct worker *worker)
{
    struct service *service = worker->service;
    for (unsigned i = 0; service->shards > 1 && i < LAST_ROUNDS; i++) {
        shard_round(&worker->shard);
        pthread_barrier_wait(&service->ending);
    }
}

static void *worker_thread(void *owner)
{
    struct worker *worker = (struct worker *)owner;
    struct service *service = worker->service;
    memory_thread_enter();
    shard_run(&worker->shard, serve, worker);
    pthread_barrier_wait(&service->ending);
    if (worker->mailbox != NULL) {
        mailbox_leave(worker->mailbox);
    }
    pthread_barrier_wait(&service->ending);
    last_rounds(worker);
    if (worker->network != NULL) {
        worker->network->ops->close(worker->network);
    }
    pthread_barrier_wait(&service->ending); /* nobody sends from another's store any more */
    if (worker->mailbox != NULL) {
        mailbox_close(worker->mailbox);
    }
    memory_thread_leave();
    if (atomic_fetch_add(&service->left, 1) + 1 == service->shards) {
        kill(getpid(), SIGUSR1);
    }
    return NULL;
}

static void obey(struct shard_message *message, struct shard *shard)
{
    struct order *order = (struct order *)(void *)message;
    struct worker *worker = order->worker;
    if (order->conf != NULL) {
        mailbox_reload(worker->mailbox, order->conf);
    } else if (!worker->draining) {
        worker->draining = true;
        mailbox_drain(worker->mailbox, shard->now_ns + worker->service->conf->shutdown.grace);
    }
    sem_post(order->done);
}

/* ---- main's thread ---- */

static void await(sem_t *semaphore, unsigned count)
{
    while (count > 0) {
        count -= sem_wait(semaphore) == 0;
    }
}

/* To all shards. */
static void give_order(struct service *service, struct mailboxd_conf *conf)
{
    static struct order orders[CONF_SHARDS_MAX]; /* main's thread only */
    sem_t done;
    sem_init(&done, 0, 0);
    for (unsigned i = 0; i < service->shards; i++) {
        orders[i] = (struct order){
            .message = {.run = obey}, .worker = &service->workers[i], .conf = conf, .done = &done};
        while (shard_post(&service->workers[i].shard, &orders[i].message) < 0) {
            usleep(1000); /* memory is short: it may come back */
        }
    }
    await(&done, service->shards);
    sem_destroy(&done);
}

static void show_report(struct logger *logger, const struct conf_report *report)
{
    uint32_t shown = report->count < CONF_PROBLEMS_MAX ? report->count : CONF_PROBLEMS_MAX;
    for (uint32_t i = 0; i < shown; i++) {
        if (logger != NULL) {
            logger_line(logger, LOGGER_ERROR, "conf: %s", report->problems[i]);
        } else {
            fprintf(stderr, "%s\n", report->problems[i]);
        }
    }
}

static void reload(struct service *service)
{
    static struct conf_report report; /* 16 KiB that only main's thread uses */
    struct mailboxd_conf *conf = NULL;
    if (mailboxd_conf_load(&conf, service->conf_path, service->hostname, &report) < 0) {
        show_report(&service->logger, &report);
        logger_line(&service->logger, LOGGER_ERROR,
                    "the configuration was not reloaded: the old one stays");
        return;
    }
    give_order(service, conf);
    if (service->conf != service->first) {
        mailboxd_conf_free(service->conf);
    }
    service->conf = conf;
    logger_line(&service->logger, LOGGER_INFO,
                "reloaded; listeners, shards, the store and auth stay as they were at start");
}

static void wait_for_signals(struct service *service, const sigset_t *signals)
{
    bool ending = false;
    for (;;) {
        int signal_number = 0;
        if (sigwait(signals, &signal_number) != 0) {
            continue;
        }
        if (signal_number == SIGUSR1) {
            return; /* the shards have ended */
        }
        if (signal_number == SIGHUP) {
            if (!ending) {
                reload(service);
            }
        } else if (ending) {
            logger_line(&service->logger, LOGGER_WARNING, "second signal: ending at once");
            _exit(EX_TEMPFAIL);
        } else {
            ending = true;
            logger_line(&service->logger, LOGGER_INFO, "ending: finishing what is in flight");
            give_order(service, NULL);
        }
    }
}

/* io_uring as the configuration has it; false in *with_uring where it is not to be had. 0 or -errno. */
static int choose_io(struct service *service, bool *with_uring)
{
    int probed = service->conf->io.uring == CONF_URING_OFF ? -EPERM : uring_probe();
    *with_uring = probed == 0;
    if (probed < 0 && service->conf->io.uring == CONF_URING_ON) {
        logger_line(&service->logger, LOGGER_ERROR, "io_uring is demanded and not to be had: %s",
                    strerror(-probed));
        return probed;
    }
    if (probed < 0) {
        logger_line(&service->logger, LOGGER_WARNING,
                    "io_uring is %s: serving with epoll, which is slower",
                    service->conf->io.uring == CONF_URING_OFF ? "turned off" : strerror(-probed));
    }
    return 0;
}

static int worker_open(struct worker *worker, unsigned index, bool with_uring)
{
    struct service *service = worker->service;
    const struct shard_settings settings = {
        .index = index,
        .count = service->shards,
        .cpu = -1,
        .idle_spin_ns = SPIN_NS,
        .idle_poll_ns = POLL_NS,
        .with_uring = with_uring,
        .uring_mode = URING_SLEEPS,
        .uring_entries = URING_ENTRIES,
        .world = &service->world,
        .logger = &service->logger,
    };
    char name[32];
    snprintf(name, sizeof name, "mailboxd%u", index);
    worker->pool = memory_pool_open(name, MBUFS, MEMORY_MBUF_BYTES);
    int status = worker->pool == NULL ? -ENOMEM : shard_open(&worker->shard, &settings);
    worker->shard_open = status == 0;
    return status == 0 && service->shards > 1 ? crossing_open(&worker->crossing, &worker->shard)
                                              : status;
}

static int workers_open(struct service *service)
{
    struct shard *all[CONF_SHARDS_MAX];
    bool with_uring = false;
    int status = choose_io(service, &with_uring);
    for (unsigned i = 0; status == 0 && i < service->shards; i++) {
        struct worker *worker = &service->workers[i];
        worker->service = service;
        sem_init(&worker->may_serve, 0, 0);
        all[i] = &worker->shard;
        status = worker_open(worker, i, with_uring);
    }
    return status == 0 ? shard_connect_all(all, service->shards) : status;
}

static int users_open(struct service *service)
{
    const struct mailboxd_conf *conf = service->conf;
    if (!mailboxd_conf_asks_backends(conf)) {
        return 0;
    }
    /* Among Maildirs the secret's file would stand in the way of a user of its name. */
    bool keeps_secret = mailboxd_conf_has_logins(conf) &&
                        (conf->store.format == CONF_STORE_LOG || conf->auth.secret != NULL);
    const struct auth_service_settings auth = {.conf = &conf->auth,
                                               .folder = keeps_secret ? conf->store.path : NULL,
                                               .hostname = conf->hostname,
                                               .world = &service->world,
                                               .logger = &service->logger};
    return auth_service_open(&service->auth, &auth);
}

/* The first bad one. */
static int worst_status(const struct service *service)
{
    for (unsigned i = 0; i < service->shards; i++) {
        if (service->workers[i].status < 0) {
            return service->workers[i].status;
        }
    }
    return 0;
}

/* All have opened their stores, or one could not: then all end. */
static int stores_await(struct service *service)
{
    await(&service->started, service->shards);
    int status = worst_status(service);
    service->gives_up = status < 0;
    mailbox_group_settle(&service->group);
    for (unsigned i = 0; i < service->shards; i++) {
        sem_post(&service->workers[i].may_serve);
    }
    await(&service->started, service->shards);
    status = worst_status(service);
    if (status < 0) {
        for (unsigned i = 0; i < service->shards; i++) {
            shard_stop(&service->workers[i].shard);
        }
    }
    return status;
}

/* A thread that cannot be made would leave the others waiting for it: there is nothing to lose yet. */
static void threads_start(struct service *service)
{
    for (unsigned i = 0; i < service->shards; i++) {
        struct worker *worker = &service->workers[i];
        int status = pthread_create(&worker->thread, NULL, worker_thread, worker);
        if (status != 0) {
            logger_line(&service->logger, LOGGER_ERROR, "could not start a thread: %s",
                        strerror(status));
            _exit(EX_OSERR);
        }
    }
}

static void workers_close(struct service *service)
{
    for (unsigned i = 0; i < service->shards; i++) {
        if (service->workers[i].crossing != NULL) {
            crossing_close(service->workers[i].crossing);
        }
    }
    for (unsigned i = 0; i < service->shards; i++) {
        if (service->workers[i].shard_open) {
            shard_close(&service->workers[i].shard);
        }
    }
}

static int run(struct service *service, const sigset_t *signals)
{
    const struct mailboxd_conf *conf = service->conf;
    int status = workers_open(service);
    if (status == 0 && service->shards > 1) {
        service->folder = mailbox_store_claim(conf, &service->logger);
        status = service->folder < 0 ? service->folder : 0;
    }
    status = status == 0 ? users_open(service) : status;
    if (status == 0) {
        threads_start(service);
        status = stores_await(service);
        if (status == 0) {
            logger_line(&service->logger, LOGGER_INFO,
                        "tubepost-mailboxd is ready: %s, mail below %s", conf->hostname,
                        conf->store.path);
            wait_for_signals(service, signals);
        } /* else the shards end by themselves, and would not answer an order */
        for (unsigned i = 0; i < service->shards; i++) {
            pthread_join(service->workers[i].thread, NULL);
        }
    }
    auth_service_close(&service->auth);
    workers_close(service);
    if (service->folder >= 0) {
        close(service->folder);
    }
    return status;
}

static int usage(FILE *out, int code)
{
    fprintf(out,
            "usage: tubepost-mailboxd [-c FILE] [--check]\n"
            "  -c FILE   the configuration (docs/configuration.md); without it the defaults serve\n"
            "  --check   read the configuration, say what is wrong with it, and end\n");
    return code;
}

static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int start(struct service *service, const char *program)
{
    sigset_t signals;
    block_signals(&signals);
    file_limit_raise();
    logger_open(&service->logger, STDERR_FILENO, (enum logger_level)service->conf->log.level);
    maildir_system_files(&service->files);
    service->folder = -1;
    service->shards = service->conf->shards;
    sem_init(&service->started, 0, 0);
    pthread_barrier_init(&service->ending, NULL, service->shards);
    mailbox_group_open(&service->group, service->shards, &service->world);
    mailbox_group_place(&service->group, service->first->users.placed,
                        service->first->users.placed_count);
    service->group.logger = &service->logger;
    service->group.of_maildirs = service->first->store.format == CONF_STORE_MAILDIR;
    const struct memory_settings memory = {
        .program = program, .megabytes = EAL_MEGABYTES + service->shards * EAL_SHARD_MEGABYTES};
    int status = memory_start(&memory);
    if (status < 0) {
        logger_line(&service->logger, LOGGER_ERROR, "the EAL does not start: %s",
                    strerror(-status));
        return status;
    }
    status = run(service, &signals);
    if (status < 0) {
        logger_line(&service->logger, LOGGER_ERROR, "could not start: %s", strerror(-status));
    }
    for (unsigned i = 0; i < service->shards; i++) {
        if (service->workers[i].pool != NULL) {
            memory_pool_close(service->workers[i].pool);
        }
    }
    mailbox_group_close(&service->group);
    memory_stop();
    return status;
}

/* Certificates and users: files that the configuration names, which the reader does not open. */
static bool what_it_names_is_wrong(const struct service *service)
{
    char problem[TLS_PROBLEM_MAX > BACKEND_PROBLEM_MAX ? TLS_PROBLEM_MAX : BACKEND_PROBLEM_MAX];
    if (mailbox_tls_check(service->conf, problem) == 0 &&
        auth_service_check(&service->conf->auth, &service->world, problem) == 0) {
        return false;
    }
    fprintf(stderr, "%s: %s\n", service->conf_path, problem);
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"check", no_argument, NULL, 'C'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static struct conf_report report;
    static struct service service;
    bool check_only = false;
    for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        if (option == 'c') {
            service.conf_path = optarg;
        } else if (option == 'C') {
            check_only = true;
        } else {
            return usage(option == 'h' ? stdout : stderr, option == 'h' ? EX_OK : EX_USAGE);
        }
    }
    if (optind != argc) {
        return usage(stderr, EX_USAGE);
    }
    if (gethostname(service.hostname, sizeof service.hostname - 1) < 0 ||
        service.hostname[0] == '\0') {
        strcpy(service.hostname, "localhost");
    }
    if (mailboxd_conf_load(&service.conf, service.conf_path, service.hostname, &report) < 0) {
        show_report(NULL, &report);
        return EX_CONFIG;
    }
    service.first = service.conf;
    system_world_fill(&service.world);
    if (what_it_names_is_wrong(&service)) {
        mailboxd_conf_free(service.conf);
        return EX_CONFIG;
    }
    int status = 0;
    if (check_only) {
        printf("%s: the configuration is good\n",
               service.conf_path != NULL ? service.conf_path : "(defaults)");
    } else {
        status = start(&service, argv[0]);
    }
    if (service.conf != service.first) {
        mailboxd_conf_free(service.conf);
    }
    mailboxd_conf_free(service.first);
    return status < 0 ? EX_OSERR : EX_OK;
}
