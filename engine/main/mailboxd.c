/*
 * tubepost-mailboxd: the companion. LMTP in, into Maildirs or a store of its own, which IMAP and POP3 read.
 *
 * usage: tubepost-mailboxd [-c FILE] [--check]
 *
 * Main reads the configuration, starts the shard's thread and then only waits for signals:
 * SIGTERM, SIGINT: finish what is in flight, then end; a second one ends at once.
 * SIGHUP: read the configuration again, for users, limits, timeouts and certificates.
 */
#include "engine/conf/conf.h"
#include "engine/core/system_world.h"
#include "engine/mailbox/mailbox.h"
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

#define EAL_MEGABYTES 64
#define MBUFS 8192
#define URING_ENTRIES 512
#define SPIN_NS 20000
#define POLL_NS 1000000

struct service {
    const char *conf_path;
    char hostname[256];
    struct mailboxd_conf *conf;
    struct mailboxd_conf *first; /* of the start: `auth` holds on to it */
    struct auth_service auth;
    struct world world;
    struct maildir_files files;
    struct logger logger;
    struct rte_mempool *pool;
    struct shard shard;
    struct network *network;
    struct mailbox *mailbox;
    bool draining; /* the shard's */
    int status;    /* of the shard's thread */
    sem_t started;
};

/* Asks the shard for something; main waits until it is done. */
struct order {
    struct shard_message message; /* first */
    struct service *service;
    struct mailboxd_conf *conf; /* reload; NULL: drain */
    sem_t done;
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

static void drained(void *owner)
{
    shard_stop(&((struct service *)owner)->shard);
}

static int open_network(struct service *service)
{
    const struct sock_settings settings = {.shard = &service->shard, .pool = service->pool};
    int status = service->shard.uring != NULL ? sock_open_uring(&service->network, &settings)
                                              : sock_open_epoll(&service->network, &settings);
    if (status < 0) {
        logger_line(&service->logger, LOGGER_ERROR, "kernel sockets cannot be opened: %s",
                    strerror(-status));
        return status;
    }
    shard_add(&service->shard, &(struct shard_part){.name = "network",
                                                    .self = service->network,
                                                    .poll = network_poll,
                                                    .flush = network_flush,
                                                    .arm = network_arm});
    return 0;
}

static int serve(struct shard *shard, void *owner)
{
    struct service *service = (struct service *)owner;
    const struct mailbox_settings settings = {
        .conf = service->conf,
        .shard = shard,
        .files = &service->files,
        .process_id = (uint32_t)getpid(),
        .auth = service->auth.directory != NULL ? &service->auth : NULL,
        .drained = drained,
        .owner = service,
    };
    int status = open_network(service);
    if (status == 0) {
        struct mailbox_settings with_network = settings;
        with_network.network = service->network;
        status = mailbox_open(&service->mailbox, &with_network);
    }
    if (status == 0) {
        mailbox_add_parts(service->mailbox);
        status = mailbox_listen(service->mailbox);
    }
    if (status == 0) {
        mailbox_listen_control(service->mailbox);
        logger_line(&service->logger, LOGGER_INFO, "tubepost-mailboxd is ready: %s, mail below %s",
                    service->conf->hostname, service->conf->store.path);
    }
    service->status = status;
    sem_post(&service->started);
    return status;
}

static void *shard_thread(void *owner)
{
    struct service *service = (struct service *)owner;
    memory_thread_enter();
    shard_run(&service->shard, serve, service);
    if (service->mailbox != NULL) {
        mailbox_leave(service->mailbox);
    }
    if (service->network != NULL) {
        service->network->ops->close(service->network);
    }
    if (service->mailbox != NULL) {
        mailbox_close(service->mailbox);
    }
    memory_thread_leave();
    kill(getpid(), SIGUSR1);
    return NULL;
}

static void obey(struct shard_message *message, struct shard *shard)
{
    struct order *order = (struct order *)(void *)message;
    struct service *service = order->service;
    if (order->conf != NULL) {
        mailbox_reload(service->mailbox, order->conf);
    } else if (!service->draining) {
        service->draining = true;
        mailbox_drain(service->mailbox, shard->now_ns + service->conf->shutdown.grace);
    }
    sem_post(&order->done);
}

/* ---- main's thread ---- */

static void give_order(struct service *service, struct mailboxd_conf *conf)
{
    struct order order = {.message = {.run = obey}, .service = service, .conf = conf};
    sem_init(&order.done, 0, 0);
    while (shard_post(&service->shard, &order.message) < 0) {
        usleep(1000); /* its ring is full: it empties it every round */
    }
    while (sem_wait(&order.done) < 0) {
    }
    sem_destroy(&order.done);
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
                "reloaded; listeners, the store and auth stay as they were at start");
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
            return; /* the shard has ended */
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

static int run(struct service *service, const sigset_t *signals)
{
    struct shard_settings settings = {
        .count = 1,
        .cpu = -1,
        .idle_spin_ns = SPIN_NS,
        .idle_poll_ns = POLL_NS,
        .uring_mode = URING_SLEEPS,
        .uring_entries = URING_ENTRIES,
        .world = &service->world,
        .logger = &service->logger,
    };
    int status = choose_io(service, &settings.with_uring);
    service->pool = memory_pool_open("mailboxd", MBUFS, MEMORY_MBUF_BYTES);
    if (status == 0 && service->pool == NULL) {
        status = -ENOMEM;
    }
    if (status == 0) {
        status = shard_open(&service->shard, &settings);
    }
    if (status < 0) {
        return status;
    }
    if (mailboxd_conf_asks_backends(service->conf)) {
        /* Among Maildirs the secret's file would stand in the way of a user of its name. */
        bool keeps_secret =
            mailboxd_conf_has_logins(service->conf) &&
            (service->conf->store.format == CONF_STORE_LOG || service->conf->auth.secret != NULL);
        const struct auth_service_settings auth = {
            .conf = &service->conf->auth,
            .folder = keeps_secret ? service->conf->store.path : NULL,
            .hostname = service->conf->hostname,
            .world = &service->world,
            .logger = &service->logger};
        status = auth_service_open(&service->auth, &auth);
    }
    struct shard *only = &service->shard;
    pthread_t thread;
    status = status == 0 ? shard_connect_all(&only, 1) : status;
    if (status == 0) {
        status = -pthread_create(&thread, NULL, shard_thread, service);
    }
    if (status == 0) {
        while (sem_wait(&service->started) < 0) {
        }
        wait_for_signals(service, signals);
        pthread_join(thread, NULL);
        status = service->status;
    }
    auth_service_close(&service->auth);
    shard_close(&service->shard);
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
    logger_open(&service->logger, STDERR_FILENO, (enum logger_level)service->conf->log.level);
    maildir_system_files(&service->files);
    sem_init(&service->started, 0, 0);
    const struct memory_settings memory = {.program = program, .megabytes = EAL_MEGABYTES};
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
    if (service->pool != NULL) {
        memory_pool_close(service->pool);
    }
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
