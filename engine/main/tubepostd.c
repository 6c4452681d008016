/*
 * tubepostd: the relay. SMTP in, a durable queue, SMTP and LMTP out.
 *
 * usage: tubepostd [-c FILE] [--check]
 *
 * Main reads the configuration, starts one thread for each shard and then only waits for signals:
 * SIGTERM, SIGINT: finish what is in flight, then end; a second one ends at once.
 * SIGHUP: read the configuration again.
 */
#include "engine/auth/auth_service.h"
#include "engine/conf/conf.h"
#include "engine/core/file_limit.h"
#include "engine/core/system_world.h"
#include "engine/net/port_deal.h"
#include "engine/net/port_dpdk.h"
#include "engine/net/port_tap.h"
#include "engine/relay/operator_file.h"
#include "engine/relay/operator_orders.h"
#include "engine/relay/relay_resolve.h"
#include "engine/relay/relay_maps.h"
#include "engine/relay/relay_tls.h"
#include "engine/relay/worker.h"
#include "engine/shard/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define HELPER_THREADS 4 /* who ask databases and read files */
#define HELPER_QUEUE 4096u
#define KERNEL_BUFFER_FACTOR 4 /* how much larger a buffer is that sockets receive into */

struct daemon {
    const char *conf_path;
    char hostname[256];
    struct relay_conf *conf;
    struct relay_conf *first; /* of the start: `auth` holds on to it */
    struct auth_service auth;
    struct world world;
    struct logger logger;
    struct rte_mempool **pools; /* one a shard */
    struct relay_maps *maps;    /* of conf */
    struct helpers *helpers;
    struct operator_file operator_file;
    struct operator_orders orders;           /* of former lives */
    uint8_t ticket_secret[TLS_SECRET_BYTES]; /* of this process: tickets end with it */
    struct port **ports;
    struct port **exceptions; /* beside them; NULL where none is wanted */
    unsigned ports_count;
    int spool_fd; /* locked: two relays on one spool would each hold the other's records for damage */
    unsigned shards;
    struct resolver *resolver;
    struct worker **workers;
    struct lease_desk **leases;
    struct worker_thread *threads;
    sem_t started;
};

struct worker_thread {
    struct daemon *daemon;
    struct worker *worker;
    pthread_t thread;
    int start_status;
    bool running;
};

static void print_report(const struct conf_report *report)
{
    uint32_t shown = report->count < CONF_PROBLEMS_MAX ? report->count : CONF_PROBLEMS_MAX;
    for (uint32_t i = 0; i < shown; i++) {
        fprintf(stderr, "%s\n", report->problems[i]);
    }
    if (report->count > shown) {
        fprintf(stderr, "and %u more\n", report->count - shown);
    }
}

static void log_report(struct logger *logger, const struct conf_report *report)
{
    uint32_t shown = report->count < CONF_PROBLEMS_MAX ? report->count : CONF_PROBLEMS_MAX;
    for (uint32_t i = 0; i < shown; i++) {
        logger_line(logger, LOGGER_ERROR, "conf: %s", report->problems[i]);
    }
}

static void worker_started(void *owner, int status)
{
    struct worker_thread *thread = owner;
    thread->start_status = status;
    sem_post(&thread->daemon->started);
}

static void *worker_main(void *owner)
{
    struct worker_thread *thread = owner;
    worker_run(thread->worker, worker_started, thread);
    return NULL;
}

/* The kernel gives the lock back however we end. */
static int claim_spool(struct daemon *daemon)
{
    const char *path = daemon->conf->spool.path;
    daemon->spool_fd = -1;
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        logger_line(&daemon->logger, LOGGER_ERROR, "spool: %s cannot be made: %s", path,
                    strerror(errno));
        return -errno;
    }
    daemon->spool_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (daemon->spool_fd >= 0 && flock(daemon->spool_fd, LOCK_EX | LOCK_NB) == 0) {
        return 0;
    }
    int status = errno == EWOULDBLOCK ? -EBUSY : -errno;
    logger_line(&daemon->logger, LOGGER_ERROR, "spool: %s cannot be used: %s", path,
                status == -EBUSY ? "another relay works on it" : strerror(-status));
    return status;
}

/* Large enough for every port. */
static uint32_t buffer_bytes(const struct relay_conf *conf)
{
    uint32_t bytes = MEMORY_MBUF_BYTES;
    for (uint32_t i = 0; i < conf->dpdk.ports_count; i++) {
        const struct conf_port *port = &conf->dpdk.ports[i];
        uint32_t wanted = port_dpdk_buffer_bytes(port->name, (uint16_t)port->mtu);
        bytes = wanted > bytes ? wanted : bytes;
    }
    return bytes;
}

/* Buffers of each shard. On the kernel transport fewer and larger ones, since a receive fills what it is given. */
static int open_pools(struct daemon *daemon)
{
    const struct relay_conf *conf = daemon->conf;
    bool kernel = conf->transport == CONF_TRANSPORT_KERNEL;
    daemon->pools = calloc(conf->shards, sizeof(struct rte_mempool *));
    for (uint32_t i = 0; daemon->pools != NULL && i < conf->shards; i++) {
        char name[32];
        snprintf(name, sizeof(name), "shard%u", i);
        daemon->pools[i] =
            kernel ? memory_pool_open(name, conf->memory.mbuf_count / KERNEL_BUFFER_FACTOR,
                                      MEMORY_MBUF_BYTES * KERNEL_BUFFER_FACTOR)
                   : memory_pool_open(name, conf->memory.mbuf_count, buffer_bytes(conf));
        if (daemon->pools[i] == NULL) {
            logger_line(&daemon->logger, LOGGER_ERROR, "no memory for the mbufs of shard %u", i);
            return -ENOMEM;
        }
    }
    return daemon->pools == NULL ? -ENOMEM : 0;
}

/* A port with fewer queues than shards, or with a hash nobody can predict, is dealt out by software. */
static int open_port(struct daemon *daemon, const struct conf_port *conf, struct port **port)
{
    const struct port_dpdk_settings settings = {
        .name = conf->name,
        .queues_wanted = (uint16_t)daemon->conf->shards,
        .mtu = (uint16_t)conf->mtu,
        .pools = daemon->pools,
    };
    int status = port_dpdk_open(port, &settings);
    if (status == 0 && daemon->conf->shards > 1) {
        status = port_deal_among(port, (uint16_t)daemon->conf->shards);
    }
    if (status < 0) {
        logger_line(&daemon->logger, LOGGER_ERROR, "port %s: cannot be opened: %s", conf->name,
                    strerror(-status));
    }
    return status;
}

/* The interface of a relay before us: the kernel lets go of it a little after its end. */
static bool is_in_the_way(int status)
{
    return status == -EEXIST || status == -EBUSY;
}

#define EXCEPTION_TRY_MS 100
#define EXCEPTION_TRIES 50u

static int open_exception(struct daemon *daemon, const struct conf_port *conf,
                          const struct port *beside, struct port **port)
{
    const struct port_tap_settings settings = {
        .name = conf->exception,
        .beside = beside,
        .shard_count = (uint16_t)daemon->conf->shards,
        .pools = daemon->pools,
    };
    if (conf->exception == NULL) {
        return 0;
    }
    int status = port_tap_open(port, &settings);
    for (unsigned i = 0; is_in_the_way(status) && i < EXCEPTION_TRIES; i++) {
        if (i == 0) {
            logger_line(&daemon->logger, LOGGER_WARNING,
                        "port %s: exception %s is there already: waiting for its end", conf->name,
                        conf->exception);
        }
        nanosleep(&(struct timespec){.tv_nsec = EXCEPTION_TRY_MS * 1000000L}, NULL);
        status = port_tap_open(port, &settings);
    }
    if (status < 0) {
        logger_line(&daemon->logger, LOGGER_ERROR, "port %s: exception %s cannot be made: %s",
                    conf->name, conf->exception, strerror(-status));
    }
    return status;
}

/* Where there is none the array stays NULL. */
static int open_ports(struct daemon *daemon)
{
    const struct relay_conf *conf = daemon->conf;
    if (conf->transport != CONF_TRANSPORT_DPDK) {
        return 0;
    }
    daemon->ports = calloc(conf->dpdk.ports_count, sizeof(struct port *));
    daemon->exceptions = calloc(conf->dpdk.ports_count, sizeof(struct port *));
    if (daemon->ports == NULL || daemon->exceptions == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->dpdk.ports_count; i++) {
        int status = open_port(daemon, &conf->dpdk.ports[i], &daemon->ports[i]);
        if (status < 0) {
            return status;
        }
        daemon->ports_count++;
        status =
            open_exception(daemon, &conf->dpdk.ports[i], daemon->ports[i], &daemon->exceptions[i]);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

static int start_workers(struct daemon *daemon)
{
    int worst = 0;
    for (unsigned i = 0; i < daemon->shards; i++) {
        struct worker_thread *thread = &daemon->threads[i];
        thread->daemon = daemon;
        thread->worker = daemon->workers[i];
        int status = pthread_create(&thread->thread, NULL, worker_main, thread);
        if (status != 0) {
            return -status;
        }
        thread->running = true;
    }
    for (unsigned i = 0; i < daemon->shards; i++) {
        while (sem_wait(&daemon->started) < 0) {
        }
    }
    for (unsigned i = 0; i < daemon->shards; i++) {
        if (daemon->threads[i].start_status < 0) {
            worst = daemon->threads[i].start_status;
        }
    }
    return worst;
}

static int open_workers(struct daemon *daemon)
{
    bool with_uring = daemon->conf->io.uring != CONF_URING_OFF;
    int probed = with_uring ? uring_probe() : -EPERM;
    if (probed < 0) {
        if (daemon->conf->io.uring == CONF_URING_ON) {
            logger_line(&daemon->logger, LOGGER_ERROR, "io_uring is demanded and not to be had: %s",
                        strerror(-probed));
            return probed;
        }
        with_uring = false;
        logger_line(&daemon->logger, LOGGER_WARNING,
                    "io_uring is %s: serving with epoll and a writer thread, which is slower",
                    daemon->conf->io.uring == CONF_URING_OFF ? "turned off" : strerror(-probed));
    }
    daemon->shards = daemon->conf->shards;
    daemon->workers = calloc(daemon->shards, sizeof(struct worker *));
    daemon->threads = calloc(daemon->shards, sizeof(struct worker_thread));
    daemon->leases = calloc(daemon->shards, sizeof(struct lease_desk *));
    struct shard **shards = calloc(daemon->shards, sizeof(struct shard *));
    bool memory = daemon->workers != NULL && daemon->threads != NULL && daemon->leases != NULL &&
                  shards != NULL;
    int status = memory ? 0 : -ENOMEM;
    for (unsigned i = 0; status == 0 && i < daemon->shards; i++) {
        struct worker_settings settings = {
            .conf = daemon->conf,
            .world = &daemon->world,
            .logger = &daemon->logger,
            .with_uring = with_uring,
            .pool = daemon->pools[i],
            .ports = daemon->ports,
            .exceptions = daemon->exceptions,
            .resolver = daemon->resolver,
            .maps = daemon->maps,
            .helpers = daemon->helpers,
            .auth = daemon->auth.directory != NULL ? &daemon->auth : NULL,
            .orders = &daemon->orders,
            .operator_file = &daemon->operator_file,
            .ticket_secret = daemon->ticket_secret,
            .leases = daemon->leases,
            .all = daemon->workers,
            .index = i,
        };
        status = worker_open(&daemon->workers[i], &settings);
        if (status == 0) {
            shards[i] = worker_shard(daemon->workers[i]);
        }
    }
    if (status == 0) {
        status = shard_connect_all(shards, daemon->shards);
    }
    free(shards);
    return status;
}

static void conf_taken(void *owner)
{
    sem_post(owner);
}

/* The old configuration is freed when the last shard has let go of it. */
static void reload(struct daemon *daemon)
{
    static struct conf_report report; /* 16 KiB that only main's thread uses */
    struct relay_conf *conf = NULL;
    struct relay_maps *maps = NULL;
    char problem[MAP_PROBLEM_MAX];
    int status = relay_conf_load(&conf, daemon->conf_path, daemon->hostname, &report);
    if (status < 0) {
        log_report(&daemon->logger, &report);
    } else if ((status = relay_maps_open(&maps, conf, problem)) < 0) {
        logger_line(&daemon->logger, LOGGER_ERROR, "%s", problem);
        relay_conf_free(conf);
    } else if ((status = relay_resolver_reload(daemon->resolver, conf, &daemon->world,
                                               &daemon->logger)) < 0) {
        logger_line(&daemon->logger, LOGGER_ERROR, "conf: %s: dns: cannot be used: %s",
                    daemon->conf_path != NULL ? daemon->conf_path : "(defaults)",
                    strerror(-status));
        relay_maps_close(maps);
        relay_conf_free(conf);
    }
    if (status < 0) {
        logger_line(&daemon->logger, LOGGER_ERROR,
                    "the configuration was not reloaded: the old one stays");
        return;
    }
    sem_t taken;
    sem_init(&taken, 0, 0);
    unsigned asked = 0;
    for (unsigned i = 0; i < daemon->shards; i++) {
        while (worker_reload(daemon->workers[i], conf, maps, conf_taken, &taken) < 0) {
            usleep(1000); /* the shard's ring is full: it empties it every round */
        }
        asked++;
    }
    while (asked > 0) {
        asked -= sem_wait(&taken) == 0;
    }
    sem_destroy(&taken);
    resolver_reload_end(daemon->resolver);
    relay_maps_close(daemon->maps);
    if (daemon->conf != daemon->first) {
        relay_conf_free(daemon->conf);
    }
    daemon->maps = maps;
    daemon->conf = conf;
    logger_line(
        &daemon->logger, LOGGER_INFO,
        "reloaded; listeners, shards, transport, spool and auth stay as they were at start");
}

static void serve(struct daemon *daemon, const sigset_t *signals)
{
    bool draining = false;
    for (;;) {
        int signal_number = 0;
        if (sigwait(signals, &signal_number) != 0) {
            continue;
        }
        if (signal_number == SIGHUP) {
            if (!draining) {
                reload(daemon);
            }
        } else if (signal_number == SIGUSR1) {
            return; /* every worker has ended */
        } else if (draining) {
            logger_line(&daemon->logger, LOGGER_WARNING, "second signal: ending at once");
            _exit(EX_TEMPFAIL);
        } else {
            draining = true;
            logger_line(&daemon->logger, LOGGER_INFO, "ending: finishing what is in flight");
            for (unsigned i = 0; i < daemon->shards; i++) {
                worker_drain(daemon->workers[i]);
            }
        }
    }
}

static void *join_workers(void *owner)
{
    struct daemon *daemon = owner;
    for (unsigned i = 0; i < daemon->shards; i++) {
        if (daemon->threads[i].running) {
            pthread_join(daemon->threads[i].thread, NULL);
        }
    }
    kill(getpid(), SIGUSR1);
    return NULL;
}

static int open_auth(struct daemon *daemon)
{
    const struct auth_service_settings settings = {.conf = &daemon->conf->auth,
                                                   .folder = daemon->conf->spool.path,
                                                   .hostname = daemon->conf->hostname,
                                                   .world = &daemon->world,
                                                   .logger = &daemon->logger};
    return relay_conf_has_logins(daemon->conf) ? auth_service_open(&daemon->auth, &settings) : 0;
}

static int run(struct daemon *daemon, const sigset_t *signals)
{
    const struct helpers_settings helping = {.threads = HELPER_THREADS,
                                             .queue_max = HELPER_QUEUE,
                                             .own_bytes = LOOKUP_HELPER_BYTES,
                                             .name = "helper"};
    int status = claim_spool(daemon);
    if (status == 0) {
        operator_file_system(&daemon->operator_file, &daemon->spool_fd);
        status = operator_file_load(&daemon->orders, &daemon->operator_file,
                                    daemon->conf->spool.path, &daemon->logger);
    }
    status = status == 0 ? helpers_open(&daemon->helpers, &helping) : status;
    status = status == 0 ? open_auth(daemon) : status;
    status = status == 0 ? open_pools(daemon) : status;
    status = status == 0 ? open_ports(daemon) : status;
    status = status == 0 ? relay_resolver_open(&daemon->resolver, daemon->conf, &daemon->world,
                                               &daemon->logger)
                         : status;
    if (status == 0) {
        status = open_workers(daemon);
    }
    if (status == 0) {
        status = start_workers(daemon);
        pthread_t joiner;
        if (pthread_create(&joiner, NULL, join_workers, daemon) != 0) {
            return -ENOMEM;
        }
        if (status < 0) {
            for (unsigned i = 0; i < daemon->shards; i++) {
                worker_drain(daemon->workers[i]);
            }
        } else {
            logger_line(&daemon->logger, LOGGER_INFO,
                        "tubepostd is ready: %s, %s transport, %u shard%s", daemon->conf->hostname,
                        daemon->ports != NULL ? "dpdk" : "kernel", daemon->shards,
                        daemon->shards == 1 ? "" : "s");
        }
        serve(daemon, signals);
        pthread_join(joiner, NULL);
    }
    if (status < 0) {
        logger_line(&daemon->logger, LOGGER_ERROR, "could not start: %s", strerror(-status));
    }
    if (daemon->helpers != NULL) {
        helpers_close(daemon->helpers);
    }
    auth_service_close(&daemon->auth);
    for (unsigned i = 0; i < daemon->shards && daemon->workers != NULL; i++) {
        if (daemon->workers[i] != NULL) {
            worker_close(daemon->workers[i]);
        }
    }
    if (daemon->resolver != NULL) {
        resolver_close(daemon->resolver);
    }
    for (unsigned i = 0; i < daemon->ports_count; i++) {
        if (daemon->exceptions[i] != NULL) {
            daemon->exceptions[i]->ops->close(daemon->exceptions[i]);
        }
        daemon->ports[i]->ops->close(daemon->ports[i]);
    }
    for (unsigned i = 0; daemon->pools != NULL && i < daemon->conf->shards; i++) {
        memory_pool_close(daemon->pools[i]);
    }
    operator_orders_free(&daemon->orders);
    if (daemon->spool_fd >= 0) {
        close(daemon->spool_fd);
    }
    free(daemon->workers);
    free(daemon->leases);
    free(daemon->threads);
    free(daemon->ports);
    free(daemon->exceptions);
    free(daemon->pools);
    return status;
}

static int usage(FILE *out, int code)
{
    fprintf(out,
            "usage: tubepostd [-c FILE] [--check]\n"
            "  -c FILE   the configuration (docs/configuration.md); without it the defaults serve\n"
            "  --check   read the configuration, say what is wrong with it, and end\n");
    return code;
}

/* Certificates, maps and users: files that the configuration names, which the reader does not open. */
static bool what_it_names_is_wrong(struct daemon *daemon)
{
    char problem[TLS_PROBLEM_MAX > MAP_PROBLEM_MAX ? TLS_PROBLEM_MAX : MAP_PROBLEM_MAX];
    static_assert(sizeof(problem) >= BACKEND_PROBLEM_MAX, "any of them fits");
    if (relay_tls_check(daemon->conf, problem) == 0 &&
        auth_service_check(&daemon->conf->auth, &daemon->world, problem) == 0 &&
        relay_maps_open(&daemon->maps, daemon->conf, problem) == 0) {
        return false;
    }
    fprintf(stderr, "%s: %s\n", daemon->conf_path ? daemon->conf_path : "(defaults)", problem);
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"check", no_argument, NULL, 'C'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static struct conf_report report;
    struct daemon daemon = {0};
    bool check_only = false;
    for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            daemon.conf_path = optarg;
            break;
        case 'C':
            check_only = true;
            break;
        case 'h':
            return usage(stdout, EX_OK);
        default:
            return usage(stderr, EX_USAGE);
        }
    }
    if (optind != argc) {
        return usage(stderr, EX_USAGE);
    }
    if (gethostname(daemon.hostname, sizeof(daemon.hostname) - 1) < 0 ||
        daemon.hostname[0] == '\0') {
        strcpy(daemon.hostname, "localhost");
    }
    if (relay_conf_load(&daemon.conf, daemon.conf_path, daemon.hostname, &report) < 0) {
        print_report(&report);
        return EX_CONFIG;
    }
    daemon.first = daemon.conf;
    system_world_fill(&daemon.world);
    if (what_it_names_is_wrong(&daemon)) {
        relay_conf_free(daemon.conf);
        return EX_CONFIG;
    }
    if (check_only) {
        printf("%s: the configuration is good\n",
               daemon.conf_path ? daemon.conf_path : "(defaults)");
        relay_maps_close(daemon.maps);
        relay_conf_free(daemon.conf);
        return EX_OK;
    }

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGIO, SIG_IGN); /* comes in place of net_tap's signal when too many are pending */
    file_limit_raise();
    logger_open(&daemon.logger, STDERR_FILENO, (enum logger_level)daemon.conf->log.level);
    world_random(&daemon.world, daemon.ticket_secret, sizeof(daemon.ticket_secret));
    sem_init(&daemon.started, 0, 0);

    const struct memory_settings memory = {
        .program = argv[0],
        .megabytes = (unsigned)(daemon.conf->memory.eal_bytes >> 20),
        .eal = daemon.conf->transport == CONF_TRANSPORT_DPDK
                   ? (const char *const *)daemon.conf->dpdk.eal
                   : NULL,
    };
    int status = memory_start(&memory);
    if (status < 0) {
        logger_line(&daemon.logger, LOGGER_ERROR, "the EAL does not start: %s", strerror(-status));
    } else {
        status = run(&daemon, &signals);
        memory_stop();
    }
    relay_maps_close(daemon.maps);
    if (daemon.conf != daemon.first) {
        relay_conf_free(daemon.conf);
    }
    relay_conf_free(daemon.first);
    return status < 0 ? EX_OSERR : EX_OK;
}
