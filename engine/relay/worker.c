#include "engine/relay/worker.h"
#include "engine/lookup/lookup.h"
#include "engine/disk/disk.h"
#include "engine/net/networks.h"
#include "engine/net/stack.h"
#include "engine/relay/lease_desk.h"
#include "engine/relay/relay.h"
#include "engine/relay/relay_control.h"
#include "engine/relay/relay_resolve.h"
#include "engine/relay/relay_tls.h"
#include "engine/relay/worker_net.h"
#include "engine/shard/memory.h"
#include "engine/sock/sock.h"
#include "queue/log/log.h"
#include "queue/log/log_found.h"
#include "queue/spool/spool.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define URING_ENTRIES 1024
#define FETCH_MEMORY_BYTES (8u << 20) /* bodies that are read back from the disk */

struct worker {
    struct worker_settings settings;
    struct shard shard;
    struct network *kernel;
    struct network *stacks[CONF_PORTS_MAX]; /* one for each port */
    struct network *bypass;                 /* all of them, which it closes; NULL: there are none */
    struct worker_port ports[CONF_PORTS_MAX];
    char port_names[CONF_PORTS_MAX][64]; /* outlive the configuration */
    unsigned port_count;
    struct disk *disk;
    void *log_memory;
    size_t log_memory_bytes;
    void *fetch_memory;
    struct log *log;
    struct log_found found;
    struct relay_tls tls;
    struct relay_resolve resolve;
    struct lookup *lookup;
    struct lease_desk *leases; /* NULL: this is the only shard */
    struct relay *relay;
    struct relay_control *control;
    char hostname[256]; /* outlives the configuration */
    bool draining;
    atomic_bool over; /* it has left its rounds: of the first, the operator has all answers */
    bool serving;     /* relay_round may be called */
    struct shard_message drain_message;
    void (*started)(void *owner, int status);
    void *started_owner;
};

/* ---- The parts of a round ---- */

static unsigned network_poll(void *self, uint64_t now_ns)
{
    struct network *network = self;
    return network->ops->poll(network, now_ns);
}

static void network_flush(void *self, uint64_t now_ns)
{
    struct network *network = self;
    network->ops->flush(network, now_ns);
}

static int network_arm(void *self)
{
    struct network *network = self;
    return network->ops->arm(network);
}

static int exception_arm(void *self)
{
    return stack_arm_exception(self);
}

static unsigned secure_poll(void *self, uint64_t now_ns)
{
    return tls_poll(((struct worker *)self)->tls.tls, now_ns);
}

static int secure_arm(void *self)
{
    return tls_has_work(((struct worker *)self)->tls.tls) ? -EAGAIN : SHARD_ARM_URING;
}

static unsigned queue_poll(void *self, uint64_t now_ns)
{
    struct worker *worker = self;
    unsigned work = worker->disk->ops->reap(worker->disk);
    work += log_round(worker->log, now_ns);
    if (worker->serving) {
        work += relay_round(worker->relay, now_ns);
    }
    return work;
}

static void queue_flush(void *self, uint64_t now_ns)
{
    struct worker *worker = self;
    (void)now_ns;
    log_flush(worker->log);
    worker->disk->ops->submit(worker->disk);
}

static int queue_arm(void *self)
{
    struct worker *worker = self;
    return worker->disk->ops->arm(worker->disk);
}

static void leases_flush(void *self, uint64_t now_ns)
{
    (void)now_ns;
    lease_desk_round(((struct worker *)self)->leases);
}

static int leases_arm(void *self)
{
    return lease_desk_busy(((struct worker *)self)->leases) ? -EAGAIN : SHARD_ARM_URING;
}

/* What the operator asks, captures too, the first shard asks the others: it is the first to end. */
static bool is_asked(const struct worker *worker)
{
    return worker->settings.index == 0
               ? worker->control != NULL && !relay_control_quiet(worker->control)
               : !atomic_load_explicit(&worker->settings.all[0]->over, memory_order_acquire);
}

/* The last part of a drain: everything is answered, the log is on the disk, the replies are out. */
static unsigned drain_poll(void *self, uint64_t now_ns)
{
    struct worker *worker = self;
    (void)now_ns;
    if (worker->draining && relay_drained(worker->relay) && log_is_quiet(worker->log)) {
        relay_control_rest(worker->control);
        if (!is_asked(worker)) {
            shard_stop(&worker->shard);
        }
    }
    return 0;
}

/* ---- Opening ---- */

struct network *worker_stack(struct worker *worker, unsigned port)
{
    return worker->bypass != NULL && port < worker->port_count ? worker->stacks[port] : NULL;
}

bool worker_is_draining(const struct worker *worker)
{
    return worker->draining;
}

unsigned worker_port_count(const struct worker *worker)
{
    return worker->port_count;
}

const char *worker_port_name(const struct worker *worker, unsigned port)
{
    return worker->port_names[port];
}

struct resolve *worker_resolve(struct worker *worker)
{
    return worker->resolve.resolve;
}

const struct tls_counters *worker_tls_counters(const struct worker *worker)
{
    return tls_counters(worker->tls.tls);
}

struct worker *worker_first(struct worker *worker)
{
    return worker->settings.all[0];
}

struct worker *worker_next(struct worker *worker)
{
    return worker->settings.all[(worker->settings.index + 1) % worker->settings.conf->shards];
}

/* The nth of the processors that this process may use; -1 when there are not so many. */
static int processor_of(const struct relay_conf *conf, unsigned index)
{
    cpu_set_t allowed;
    unsigned wanted = conf->cpu.first_cpu + index;
    if (!conf->cpu.pin || sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
        return -1;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && wanted-- == 0) {
            return cpu;
        }
    }
    return -1;
}

int worker_open(struct worker **opened, const struct worker_settings *settings)
{
    const struct relay_conf *conf = settings->conf;
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return -ENOMEM;
    }
    worker->settings = *settings;
    const struct shard_settings shard = {
        .index = settings->index,
        .count = conf->shards,
        .cpu = processor_of(conf, settings->index),
        .idle_spin_ns = conf->idle.spin,
        .idle_spin_polled_ns = conf->idle.spin_polled,
        .idle_poll_ns = conf->idle.poll,
        .with_uring = settings->with_uring,
        .uring_mode = settings->ports == NULL ? URING_SLEEPS : URING_POLLS,
        .uring_entries = URING_ENTRIES,
        .world = settings->world,
        .logger = settings->logger,
    };
    int status = shard_open(&worker->shard, &shard);
    if (status == 0 && conf->shards > 1) {
        const struct lease_desk_settings leases = {.shard = &worker->shard,
                                                   .all = settings->leases,
                                                   .index = settings->index,
                                                   .count = conf->shards};
        status = lease_desk_open(&leases);
        worker->leases = settings->leases[settings->index];
    }
    if (status < 0) {
        shard_close(&worker->shard);
        free(worker);
        return status;
    }
    *opened = worker;
    return 0;
}

void worker_close(struct worker *worker)
{
    if (worker->leases != NULL) {
        lease_desk_close(worker->leases);
    }
    shard_close(&worker->shard);
    free(worker);
}

struct shard *worker_shard(struct worker *worker)
{
    return &worker->shard;
}

struct relay *worker_relay(struct worker *worker)
{
    return worker->relay;
}

struct log *worker_log(struct worker *worker)
{
    return worker->log;
}

static int kernel_open(struct worker *worker)
{
    struct shard *shard = &worker->shard;
    const struct sock_settings settings = {
        .shard = shard,
        .pool = worker->settings.pool,
    };
    int status = shard->uring != NULL ? sock_open_uring(&worker->kernel, &settings)
                                      : sock_open_epoll(&worker->kernel, &settings);
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "kernel sockets cannot be opened: %s",
                    strerror(-status));
    }
    return status;
}

#define PORT_ROUTES_MAX 128

static enum stack_routers routers_of(const struct conf_port *port)
{
    switch ((enum conf_routers)port->router_advertisements) {
    case CONF_ROUTERS_AUTO:
        return STACK_ROUTERS_FOR_WANT;
    case CONF_ROUTERS_ON:
        return STACK_ROUTERS_HEARD;
    case CONF_ROUTERS_OFF:
        break;
    }
    return STACK_ROUTERS_IGNORED;
}

static enum stack_ecn ecn_of(const struct relay_conf *conf)
{
    switch ((enum conf_ecn)conf->dpdk.ecn) {
    case CONF_ECN_ACCEPT:
        return STACK_ECN_ACCEPT;
    case CONF_ECN_ASK:
        return STACK_ECN_ASK;
    case CONF_ECN_OFF:
        break;
    }
    return STACK_ECN_OFF;
}

static int stack_of_port_open(struct worker *worker, unsigned index)
{
    struct shard *shard = &worker->shard;
    const struct relay_conf *conf = worker->settings.conf;
    const struct conf_port *port = &conf->dpdk.ports[index];
    struct stack_route routes[PORT_ROUTES_MAX];
    for (uint32_t i = 0; i < port->routes_count && i < PORT_ROUTES_MAX; i++) {
        routes[i] = (struct stack_route){port->routes[i].to, port->routes[i].via};
    }
    worker->ports[index] = (struct worker_port){worker, index};
    snprintf(worker->port_names[index], sizeof(worker->port_names[index]), "%s", port->name);
    const struct stack_settings settings = {
        .port = worker->settings.ports[index],
        .exception = worker->settings.exceptions[index],
        .queue = (uint16_t)worker->settings.index,
        .shard_count = (uint16_t)conf->shards,
        .world = shard->world,
        .wheel = shard->wheel,
        .logger = shard->logger,
        .pool = worker->settings.pool,
        .pool_share = (uint16_t)conf->dpdk.ports_count,
        .addresses = port->addresses,
        .address_count = port->addresses_count,
        .gateway = port->gateway,
        .gateway6 = port->gateway6,
        .routes = routes,
        .route_count = port->routes_count,
        .routers = routers_of(port),
        .skips_dad = !port->duplicate_address_detection,
        .vlan = (uint16_t)port->vlan,
        .mtu = (uint16_t)port->mtu,
        .ecn = ecn_of(conf),
        .limits = {.congestion = conf->dpdk.congestion == CONF_CONGESTION_NEWRENO ? STACK_NEWRENO
                                                                                  : STACK_CUBIC},
        .hand_over = conf->shards > 1 ? worker_net_hand_over : NULL,
        .ask_neighbour = worker->settings.index > 0 ? worker_net_ask_neighbour : NULL,
        .share_neighbour = conf->shards > 1 ? worker_net_share_neighbour : NULL,
        .owner = &worker->ports[index],
    };
    int status = stack_open(&worker->stacks[index], &settings);
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "the stack on port %s cannot be opened: %s",
                    port->name, strerror(-status));
    }
    return status;
}

static int bypass_open(struct worker *worker)
{
    unsigned wanted = worker->settings.ports == NULL ? 0 : worker->settings.conf->dpdk.ports_count,
             opened = 0;
    int status = 0;
    while (opened < wanted && (status = stack_of_port_open(worker, opened)) == 0) {
        opened++;
    }
    if (status == 0 && wanted > 0) {
        status = networks_open(&worker->bypass, worker->stacks, wanted);
    }
    if (status == 0) {
        worker->port_count = wanted;
        return 0;
    }
    while (opened > 0) {
        opened--;
        worker->stacks[opened]->ops->close(worker->stacks[opened]);
    }
    return status;
}

static int disk_open(struct worker *worker)
{
    struct shard *shard = &worker->shard;
    const char *path = worker->settings.conf->spool.path;
    int status = shard->uring != NULL ? disk_open_uring(&worker->disk, shard->uring, path)
                                      : disk_open_thread(&worker->disk, path);
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "spool: %s cannot be used: %s", path,
                    strerror(-status));
        return status;
    }
    if (!worker->disk->direct && worker->settings.index == 0) {
        logger_line(shard->logger, LOGGER_WARNING,
                    "spool: the file system of %s has no O_DIRECT: writing through the page cache, "
                    "which is slower",
                    path);
    }
    return 0;
}

static int log_make(struct worker *worker)
{
    struct shard *shard = &worker->shard;
    const struct relay_conf *conf = worker->settings.conf;
    char name[32];
    snprintf(name, sizeof(name), "log%u", worker->settings.index);
    worker->log_memory_bytes = conf->spool.memory_bytes / LOG_FRAME_BYTES * LOG_FRAME_BYTES;
    if (worker->log_memory_bytes < LOG_MEMORY_BYTES_MIN) {
        worker->log_memory_bytes = LOG_MEMORY_BYTES_MIN;
    }
    worker->log_memory = memory_take(name, worker->log_memory_bytes, DISK_BLOCK_BYTES);
    worker->fetch_memory = memory_take("fetch", FETCH_MEMORY_BYTES, DISK_BLOCK_BYTES);
    if (worker->log_memory == NULL || worker->fetch_memory == NULL) {
        logger_line(shard->logger, LOGGER_ERROR,
                    "spool: no memory for the log; memory.eal_bytes must hold spool.memory_bytes "
                    "and %u MiB for every shard, and its mbufs",
                    FETCH_MEMORY_BYTES >> 20);
        return -ENOMEM;
    }
    worker->disk->ops->pin(worker->disk, worker->log_memory, worker->log_memory_bytes);
    worker->found = (struct log_found){.logger = shard->logger, .store = "spool"};
    struct log_settings settings = {
        .disk = worker->disk,
        .shard = worker->settings.index,
        .segment_bytes = (uint32_t)conf->spool.segment_bytes,
        .memory = worker->log_memory,
        .memory_bytes = worker->log_memory_bytes,
        .disk_free_min = conf->spool.free_min_bytes,
        .share_count = conf->shards,
        .durability = conf->spool.durability == CONF_DURABILITY_NONE ? LOG_RELAXED : LOG_DURABLE,
        .unread = log_found_unread,
        .unread_owner = &worker->found,
    };
    uint64_t of_shard = conf->spool.max_bytes / conf->shards / conf->spool.segment_bytes;
    if (conf->spool.max_bytes > 0) {
        settings.segment_count_max =
            (uint32_t)(of_shard < LOG_SEGMENTS_MIN ? LOG_SEGMENTS_MIN : of_shard);
    }
    world_random(shard->world, &settings.new_id, sizeof(settings.new_id));
    int status = log_open(&worker->log, &settings);
    if (status < 0) {
        log_found_unusable(&worker->found, worker->settings.index, status);
    }
    return status;
}

static int queue_open(struct worker *worker)
{
    struct shard *shard = &worker->shard;
    const struct lookup_settings lookup = {.shard = shard, .helpers = worker->settings.helpers};
    int status = disk_open(worker);
    status = status == 0 ? lookup_open(&worker->lookup, &lookup) : status;
    status = status == 0 ? log_make(worker) : status;
    if (status < 0) {
        return status;
    }
    const struct relay_settings settings = {
        .conf = worker->settings.conf,
        .shard = shard,
        .kernel = worker->kernel,
        .bypass = worker->bypass,
        .tls = &worker->tls,
        .resolve = worker->resolve.resolve,
        .lookup = worker->lookup,
        .maps = worker->settings.maps,
        .leases = worker->leases,
        .auth = worker->settings.auth,
        .orders = worker->settings.orders,
        .log = worker->log,
        .fetch_memory = worker->fetch_memory,
        .fetch_memory_bytes = FETCH_MEMORY_BYTES,
    };
    uint64_t start_ns = world_now_ns(shard->world);
    status = relay_open(&worker->relay, &settings);
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "spool: shard %u does not recover: %s",
                    worker->settings.index, strerror(-status));
        return status;
    }
    const struct log_counters *log = log_counters(worker->log);
    const struct spool_counters *spool = spool_counters(relay_spool(worker->relay));
    uint64_t took_ms = (world_now_ns(shard->world) - start_ns) / 1000000;
    logger_line(shard->logger, LOGGER_INFO,
                "spool: shard %u: %llu messages wait; %llu MiB read in %llu ms",
                worker->settings.index, (unsigned long long)spool->live_messages,
                (unsigned long long)(log->scanned_bytes >> 20), (unsigned long long)took_ms);
    log_found_recovered(&worker->found, worker->log);
    if (worker->settings.conf->spool.durability == CONF_DURABILITY_NONE &&
        worker->settings.index == 0) {
        logger_line(shard->logger, LOGGER_WARNING,
                    "spool: durability is none: 250 does NOT mean that a message survives a crash");
    }
    return 0;
}

static void parts_add(struct worker *worker)
{
    struct shard *shard = &worker->shard;
    /* Each stack by itself, so that the shard sleeps on all ports' descriptors. */
    for (unsigned i = 0; i <= worker->port_count; i++) {
        struct network *network = i < worker->port_count ? worker->stacks[i] : worker->kernel;
        if (network != NULL) {
            shard_add(shard, &(struct shard_part){.name = network->transport,
                                                  .self = network,
                                                  .poll = network_poll,
                                                  .flush = network_flush,
                                                  .arm = network_arm});
        }
        if (i < worker->port_count && worker->settings.exceptions[i] != NULL) {
            shard_add(shard, &(struct shard_part){
                                 .name = "exception", .self = network, .arm = exception_arm});
        }
    }
    shard_add(shard, &(struct shard_part){
                         .name = "tls", .self = worker, .poll = secure_poll, .arm = secure_arm});
    /* After the networks, so that what they brought in this round is on its way to the disk in this round. */
    shard_add(shard, &(struct shard_part){.name = "queue",
                                          .self = worker,
                                          .poll = queue_poll,
                                          .flush = queue_flush,
                                          .arm = queue_arm});
    if (worker->leases != NULL) {
        shard_add(shard,
                  &(struct shard_part){
                      .name = "leases", .self = worker, .flush = leases_flush, .arm = leases_arm});
    }
    shard_add(shard, &(struct shard_part){.name = "drain", .self = worker, .poll = drain_poll});
}

static int control_start(struct worker *worker)
{
    const struct relay_conf *conf = worker->settings.conf;
    if (worker->settings.index != 0 || conf->control.path == NULL ||
        conf->control.path[0] == '\0') {
        return 0;
    }
    struct relay_control_settings settings = {
        .workers = worker->settings.all,
        .worker_count = conf->shards,
        .hostname = worker->hostname,
        .network = worker->kernel,
        .unix_mode = conf->control.unix_mode,
        .at = {.family = ENDPOINT_UNIX},
        .orders = worker->settings.orders,
        .operator_file = worker->settings.operator_file,
        .helpers = worker->settings.helpers,
    };
    snprintf(worker->hostname, sizeof(worker->hostname), "%s", conf->hostname);
    snprintf(settings.at.path, sizeof(settings.at.path), "%s", conf->control.path);
    int status = relay_control_open(&worker->control, &settings);
    if (status < 0) { /* mail goes on without the operator's tool */
        logger_line(worker->settings.logger, LOGGER_WARNING, "control: %s: %s", conf->control.path,
                    strerror(-status));
    }
    return 0;
}

static int worker_start(struct shard *shard, void *owner)
{
    struct worker *worker = owner;
    int status = kernel_open(worker);
    status = status == 0 ? bypass_open(worker) : status;
    status = status == 0 ? relay_tls_open(&worker->tls, shard, worker->settings.conf,
                                          worker->settings.ticket_secret)
                         : status;
    if (status == 0 && worker->settings.resolver != NULL) {
        status = relay_resolve_open(&worker->resolve, worker->settings.resolver,
                                    worker->settings.conf, shard);
    }
    status = status == 0 ? queue_open(worker) : status;
    if (status == 0) {
        parts_add(worker);
        status = relay_listen(worker->relay);
    }
    if (status == 0) {
        status = control_start(worker);
        worker->serving = true;
    }
    worker->started(worker->started_owner, status);
    return status;
}

static void worker_end(struct worker *worker)
{
    if (worker->control != NULL) {
        relay_control_close(worker->control);
    }
    if (worker->relay != NULL) {
        relay_unlisten(worker->relay);
    }
    relay_tls_close(&worker->tls);
    if (worker->bypass != NULL) {
        worker->bypass->ops->close(worker->bypass);
    }
    if (worker->kernel != NULL) {
        worker->kernel->ops->close(worker->kernel);
    }
    if (worker->relay != NULL) { /* its bodies were still in the networks' frames */
        relay_close(worker->relay);
    }
    relay_resolve_close(&worker->resolve);
    if (worker->lookup != NULL) {
        lookup_close(worker->lookup);
    }
    if (worker->log != NULL) {
        log_close(worker->log);
    }
    if (worker->disk != NULL) {
        worker->disk->ops->close(worker->disk);
    }
    if (worker->log_memory != NULL) {
        memory_give(worker->log_memory);
    }
    if (worker->fetch_memory != NULL) {
        memory_give(worker->fetch_memory);
    }
}

static void over(struct worker *worker)
{
    atomic_store_explicit(&worker->over, true, memory_order_release);
    for (unsigned i = 1; i < worker->settings.conf->shards && worker->settings.index == 0; i++) {
        shard_wake(worker_shard(worker->settings.all[i]));
    }
}

int worker_run(struct worker *worker, void (*started)(void *owner, int status), void *owner)
{
    worker->started = started;
    worker->started_owner = owner;
    int status = memory_thread_enter();
    if (status < 0) {
        started(owner, status);
        over(worker);
        return status;
    }
    status = shard_run(&worker->shard, worker_start, worker);
    over(worker);
    worker_end(worker);
    memory_thread_leave();
    return status;
}

/* ---- From main's thread ---- */

static void drain_arrived(struct shard_message *message, struct shard *shard)
{
    struct worker *worker = list_entry(message, struct worker, drain_message);
    worker->draining = true;
    relay_drain(worker->relay, shard->now_ns + worker->settings.conf->shutdown.grace);
}

void worker_drain(struct worker *worker)
{
    worker->drain_message.run = drain_arrived;
    if (shard_post(&worker->shard, &worker->drain_message) < 0) {
        shard_stop(&worker->shard); /* without grace: the log has what was promised */
    }
}

struct reload_message {
    struct shard_message message;
    struct worker *worker;
    const struct relay_conf *conf;
    const struct relay_maps *maps;
    void (*taken)(void *owner);
    void *owner;
};

static void reload_arrived(struct shard_message *message, struct shard *shard)
{
    struct reload_message *reload = list_entry(message, struct reload_message, message);
    relay_resolve_reload(&reload->worker->resolve, reload->conf, shard);
    relay_reload(reload->worker->relay, reload->conf, reload->maps);
    reload->worker->settings.conf = reload->conf;
    reload->worker->settings.maps = reload->maps;
    reload->taken(reload->owner);
    free(reload);
}

static void reload_dropped(struct shard_message *message)
{
    free(list_entry(message, struct reload_message, message));
}

int worker_reload(struct worker *worker, const struct relay_conf *conf,
                  const struct relay_maps *maps, void (*taken)(void *owner), void *owner)
{
    struct reload_message *reload = calloc(1, sizeof(*reload));
    if (reload == NULL) {
        return -ENOMEM;
    }
    *reload = (struct reload_message){{.run = reload_arrived}, worker, conf, maps, taken, owner};
    int status = shard_post_or(&worker->shard, &reload->message, reload_dropped);
    if (status < 0) {
        free(reload);
    }
    return status;
}
