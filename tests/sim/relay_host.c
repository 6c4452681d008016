#include "tests/sim/relay_host.h"
#include "engine/core/check.h"
#include "engine/relay/bounce.h"
#include "engine/relay/inbound.h"
#include "engine/relay/operator_file.h"
#include "engine/relay/outbound.h"
#include "engine/relay/relay_suspend.h"
#include "engine/shard/memory.h"
#include "queue/log/log_private.h"
#include "queue/spool/spool_private.h"
#include "tests/sim/secure.h"
#include <stdlib.h>

#define FETCH_MEMORY_BYTES (2u << 20)
#define HEARD_NS (500 * SIM_MS)
#define HEARTBEAT_NS (100 * SIM_MS) /* as a shard that polls wakes up */

bool sim_relay_has_crashed;

/* ---- The parts of its rounds, as engine/relay/worker adds them ---- */

static unsigned queue_poll(void *self, uint64_t now_ns)
{
    struct sim_relay *relay = self;
    relay->disk_due_ns = UINT64_MAX;
    unsigned work = relay->disk->ops->reap(relay->disk);
    work += log_round(relay->log, now_ns);
    if (relay->log->void_from == 0) {
        relay->void_since_ns = 0;
    } else if (relay->void_since_ns == 0) {
        relay->void_since_ns = now_ns;
    }
    if (relay->serving) {
        work += sim_dns_poll(&relay->dns, now_ns);
        work += relay_round(relay->relay, now_ns);
    }
    return work;
}

static bool moment_has_come(const struct sim_relay *relay)
{
    const struct log *log = relay->log;
    switch (relay->moment) {
    case SIM_MOMENT_WRITE:
        return log->write_count >= 1;
    case SIM_MOMENT_BODY:
        return log->write_count >= 1 && log->writes[log->write_first].bytes >= 2 * DISK_BLOCK_BYTES;
    case SIM_MOMENT_WRITES:
        return log->write_count >= 2;
    case SIM_MOMENT_FAILED:
        return log->counters.write_failures > relay->write_failures;
    case SIM_MOMENT_VOID:
        return log->counters.write_failures > relay->write_failures && log->void_from == 0;
    case SIM_MOMENT_ANY:
    case SIM_MOMENTS:
        break;
    }
    return true;
}

void sim_relay_await(struct sim_relay *relay, struct timer *crash)
{
    struct sim *sim = relay->host->sim;
    /* Where no write fails, the moments of a failed one do not come; where some do, few come soon after. */
    bool fails = relay->disk_settings.error_permyriad[DISK_FAULT_WRITE] > 0;
    bool failed = sim_chance(sim, 40);
    relay->moment = (enum sim_moment)sim_below(sim, fails ? SIM_MOMENTS : SIM_MOMENT_FAILED);
    relay->moment = fails && failed ? SIM_MOMENT_FAILED : relay->moment;
    relay->crash = crash;
    relay->write_failures = relay->log->counters.write_failures;
}

static void queue_flush(void *self, uint64_t now_ns)
{
    struct sim_relay *relay = self;
    struct log *log = relay->log;
    log_flush(log);
    relay->disk->ops->submit(relay->disk);
    if (log->state == LOG_RUNNING && log->frontier >= log->end && log->stash.size == 0) {
        relay->settled_ns = now_ns;
    }
    if (relay->crash != NULL && relay->moment == SIM_MOMENT_WRITES && log->write_count > 0) {
        disk_fault_hold(relay->fault, true); /* until there is another */
    }
    if (relay->crash != NULL && moment_has_come(relay)) {
        struct sim *sim = relay->host->sim;
        bool now = relay->moment >= SIM_MOMENT_WRITE && relay->moment <= SIM_MOMENT_WRITES;
        /* Somebody has to hear of a failed write, or wrongly of a good one, for it to matter. */
        uint64_t later_ns =
            sim_spread(sim, 1, relay->moment == SIM_MOMENT_FAILED ? HEARD_NS : relay->disk_slow_ns);
        wheel_arm(sim->script, relay->crash, now_ns + (now ? 0 : later_ns));
        disk_fault_hold(relay->fault, now); /* a tick is longer than most writes take */
        relay->crash = NULL;
    }
}

static unsigned secure_poll(void *self, uint64_t now_ns)
{
    struct sim_relay *relay = self;
    return relay->tls.tls == NULL ? 0 : tls_poll(relay->tls.tls, now_ns);
}

static uint64_t relay_next_ns(struct sim_host *host)
{
    struct sim_relay *relay = host->owner;
    if (relay->tls.tls != NULL && tls_has_work(relay->tls.tls)) {
        return host->sim->world.now_ns;
    }
    if (relay->relay != NULL && relay->disk_due_ns == UINT64_MAX &&
        disk_fault_pending(relay->fault) > 0) {
        relay->disk_due_ns =
            host->sim->world.now_ns + sim_spread(host->sim, 20 * SIM_US, relay->disk_slow_ns);
    }
    if (relay->relay == NULL) {
        return UINT64_MAX;
    }
    return relay->dns.due_ns < relay->disk_due_ns ? relay->dns.due_ns : relay->disk_due_ns;
}

/* ---- Configuration ---- */

static void conf_secure(struct sim_relay *relay)
{
    struct relay_conf *conf = relay->conf;
    relay->certificate = (struct conf_certificate){.certificate = sim_secure_certificate(),
                                                   .key = sim_secure_certificate()};
    conf->tls.certificates = &relay->certificate;
    conf->tls.certificates_count = 1;
    conf->tls.authorities = sim_secure_authority();
    /* To find out about a path of 600 bytes that says nothing takes TCP 40 s, and a server's first
     * words need it. */
    conf->timeouts.handshake = conf->timeouts.command = SIM_SECURE_HANDSHAKE_NS;
    relay->listener.tls = (uint8_t)relay->listener_tls;
    relay->names[0] = SIM_SECURE_NAME;
    for (unsigned i = 0; i < relay->route_count; i++) {
        relay->routes[i].tls.level = (uint8_t)relay->level;
        relay->routes[i].tls.names = relay->names;
        relay->routes[i].tls.names_count = 1;
    }
}

static void conf_make(struct sim_relay *relay)
{
    struct sim *sim = relay->host->sim;
    static struct conf_report report;
    char name[32];
    snprintf(name, sizeof(name), "relay%u.example", relay->host->index);
    check(relay_conf_load(&relay->conf, NULL, name, &report) == 0);
    struct relay_conf *conf = relay->conf;
    relay->listener =
        (struct conf_listener){.name = "smtp", .addresses = &relay->address, .addresses_count = 1};
    conf->listen = &relay->listener;
    conf->listen_count = 1;
    conf->routes = relay->routes;
    conf->routes_count = relay->route_count;
    check(network_prefix_parse(&relay->clients[SIM_IPV4], slice_text("10.0.0.0/24")) == 0);
    check(network_prefix_parse(&relay->clients[SIM_IPV6], slice_text("fd00::/64")) == 0);
    conf->relay_networks = relay->clients;
    conf->relay_networks_count = SIM_FAMILIES;
    conf->timeouts.command = conf->timeouts.data = 60 * SIM_S;
    conf->timeouts.greeting = conf->timeouts.reply = conf->timeouts.data_start = 40 * SIM_S;
    conf->timeouts.data_block = conf->timeouts.data_end = 60 * SIM_S;
    conf->timeouts.connect = 20 * SIM_S;
    conf->timeouts.idle = sim_spread(sim, 10 * SIM_MS, 10 * SIM_S);
    conf->retry.first = sim_spread(sim, 100 * SIM_MS, 5 * SIM_S);
    conf->retry.limit = conf->retry.first + sim_spread(sim, SIM_S, 40 * SIM_S);
    conf->retry.expire =
        sim_chance(sim, 15) ? sim_spread(sim, 20 * SIM_S, 300 * SIM_S) : 5 * 86400 * SIM_S;
    conf->smtp.pipelining = sim_chance(sim, 80);
    conf->smtp.chunking = sim_chance(sim, 80);
    conf->smtp.dsn = relay->host->index == 0 || (sim->options.seed & 3) != 0;
    for (unsigned i = 0; i < relay->route_count; i++) {
        struct conf_route *route = &relay->routes[i];
        route->match = relay->matches[i];
        route->connections = (uint32_t)sim_spread(sim, 1, 8);
        route->messages_per_connection = sim_chance(sim, 50) ? 0 : (uint32_t)sim_spread(sim, 1, 10);
        route->recipients_per_message = (uint32_t)sim_spread(sim, 1, 10);
        route->pipelining = sim_chance(sim, 80);
    }
    if (relay->secures) {
        conf_secure(relay);
    }
    check(relay_conf_index(conf) == 0);
}

static void disk_draw(struct sim_relay *relay)
{
    struct sim *sim = relay->host->sim;
    struct disk_fault_settings *settings = &relay->disk_settings;
    relay->segment_bytes = (uint32_t)(8 + sim_below(sim, 3)) * LOG_FRAME_BYTES;
    relay->disk_slow_ns = sim_spread(sim, 50 * SIM_US, 20 * SIM_MS);
    *settings = (struct disk_fault_settings){.seed = net_random(&sim->random)};
    uint32_t late = (uint32_t)sim_spread(sim, 0, 95);
    uint32_t errors[DISK_FAULT_KINDS];
    for (unsigned i = 0; i < DISK_FAULT_KINDS; i++) {
        /* A disk that refuses a write once in a thousand does so in no run. */
        uint32_t least = i == DISK_FAULT_WRITE ? 100 : 0;
        errors[i] = (uint32_t)sim_spread(sim, least, i == DISK_FAULT_READ ? 500 : 2000);
    }
    uint64_t capacity = sim_spread(sim, 4, 40) * relay->segment_bytes;
    bool fails = sim_chance(sim, 50), fills = sim_chance(sim, 40);
    if (!sim_fault_on(&sim->faults, SIM_FAULT_DISK)) {
        return;
    }
    settings->late_percent = late;
    if (fails) {
        memcpy(settings->error_permyriad, errors, sizeof(errors));
    }
    settings->capacity_bytes = fills ? capacity : 0;
}

/* The disk answers nothing for a while. */
static void disk_stall(struct timer *timer, uint64_t now_ns)
{
    struct sim_relay *relay = list_entry(timer, struct sim_relay, stall);
    struct sim *sim = relay->host->sim;
    bool held = !sim->healed && sim_chance(sim, 50);
    disk_fault_hold(relay->fault, held);
    sim_say(sim, "host %u: its disk %s", relay->host->index, held ? "answers no more" : "answers");
    if (!sim->healed) {
        wheel_arm(sim->script, timer, now_ns + sim_spread(sim, SIM_MS, 10 * SIM_S));
    }
}

static void *memory_make(const char *name, size_t bytes)
{
    void *memory = memory_take(name, bytes, DISK_BLOCK_BYTES);
    check(memory != NULL);
    return memory;
}

void sim_relay_setup(struct sim_relay *relay, struct sim_host *host, enum sim_family family)
{
    struct sim *sim = host->sim;
    relay->host = host;
    relay->route_count = relay->route_count == 0 ? SIM_ROUTES : relay->route_count;
    relay->address = sim_host_at(host, family, SIM_SMTP_PORT);
    conf_make(relay);
    disk_draw(relay);
    relay->fault = disk_fault_open(&relay->disk_settings);
    check(relay->fault != NULL);
    relay->disk = disk_fault_disk(relay->fault);
    relay->log_memory = memory_make("log", LOG_MEMORY_BYTES_MIN);
    relay->fetch_memory = memory_make("fetch", FETCH_MEMORY_BYTES);
    relay->disk_due_ns = UINT64_MAX;
    host->owner = relay;
    host->next_ns = relay_next_ns;
    host->heartbeat_ns = HEARTBEAT_NS;
    timer_init(&relay->stall, disk_stall);
    uint64_t stall_ns = sim_spread(sim, SIM_MS, 20 * SIM_S);
    if (sim_fault_on(&sim->faults, SIM_FAULT_DISK) && sim_chance(sim, 30)) {
        wheel_arm(sim->script, &relay->stall, sim->world.now_ns + stall_ns);
    }
}

void sim_relay_teardown(struct sim_relay *relay)
{
    wheel_disarm(relay->host->sim->script, &relay->stall);
    disk_fault_close(relay->fault);
    memory_give(relay->log_memory);
    memory_give(relay->fetch_memory);
    free(relay->operator_text);
    relay_conf_free(relay->conf);
}

/* ---- The operator ---- */

/* Its file is replaced as a whole, or not at all: a text in memory that outlives the relay. */
static int operator_read(void *self, char **text, size_t *size)
{
    struct sim_relay *relay = self;
    if (relay->operator_text == NULL) {
        return -ENOENT;
    }
    *text = strdup(relay->operator_text);
    *size = strlen(relay->operator_text);
    return *text != NULL ? 0 : -ENOMEM;
}

static int operator_replace(void *self, const char *text, size_t size)
{
    struct sim_relay *relay = self;
    free(relay->operator_text);
    relay->operator_text = strndup(text, size);
    return relay->operator_text != NULL ? 0 : -ENOMEM;
}

static struct operator_file operator_file_of(struct sim_relay *relay)
{
    return (struct operator_file){
        .self = relay, .read = operator_read, .replace = operator_replace};
}

void sim_relay_suspend(struct sim_relay *relay, const struct operator_suspension *said)
{
    const struct operator_file file = operator_file_of(relay);
    const struct shard *shard = &relay->host->shard;
    uint64_t for_s = (uint64_t)(said->until_wall_s - world_wall_s(shard->world));
    struct operator_orders orders;
    check(operator_file_load(&orders, &file, "sim", shard->logger) == 0);
    check(operator_orders_suspend(&orders, said) == 0);
    char *text = operator_orders_write(&orders);
    check(text != NULL && file.replace(file.self, text, strlen(text)) == 0);
    check(relay_suspend(relay->relay, said, shard->now_ns + for_s * SIM_S) == 0);
    free(text);
    operator_orders_free(&orders);
    sim_host_touch(relay->host);
}

/* ---- Life and death ---- */

static int log_make(struct sim_relay *relay)
{
    struct log_settings settings = {.disk = relay->disk,
                                    .segment_bytes = relay->segment_bytes,
                                    .memory = relay->log_memory,
                                    .memory_bytes = LOG_MEMORY_BYTES_MIN,
                                    .durability = LOG_DURABLE};
    if (relay->host->sim->options.plant == SIM_PLANT_EARLY) {
        settings.durability = LOG_RELAXED;
    }
    world_random(&relay->host->sim->world.world, &settings.new_id, sizeof(settings.new_id));
    return log_open(&relay->log, &settings);
}

/* What follows without waiting when the program is started. 0 or -errno. */
static int relay_begin(struct sim_relay *relay)
{
    struct disk_fault_settings whole = relay->disk_settings;
    memset(whole.error_permyriad, 0,
           sizeof(whole.error_permyriad)); /* it starts, or an operator comes */
    whole.capacity_bytes = 0;
    disk_fault_set(relay->fault, &whole);
    disk_fault_hold(relay->fault, false);
    const struct operator_file file = operator_file_of(relay);
    struct operator_orders orders = {0};
    int status = operator_file_load(&orders, &file, "sim", relay->host->shard.logger);
    status = status == 0 ? log_make(relay) : status;
    if (status == 0 && relay->secures) {
        status =
            relay_tls_open(&relay->tls, &relay->host->shard, relay->conf, relay->ticket_secret);
    }
    if (status == 0) {
        status = sim_dns_start(&relay->dns, &relay->host->shard);
    }
    if (status == 0) {
        const struct relay_settings settings = {.conf = relay->conf,
                                                .shard = &relay->host->shard,
                                                .bypass = relay->host->network,
                                                .tls = relay->secures ? &relay->tls : NULL,
                                                .resolve = relay->dns.resolve,
                                                .orders = &orders,
                                                .log = relay->log,
                                                .fetch_memory = relay->fetch_memory,
                                                .fetch_memory_bytes = FETCH_MEMORY_BYTES};
        status = relay_open(&relay->relay, &settings);
    }
    operator_orders_free(&orders);
    return status;
}

int sim_relay_start(struct sim_relay *relay)
{
    struct sim_host *host = relay->host;
    int status = relay_begin(relay);
    disk_fault_set(relay->fault, &relay->disk_settings);
    if (status < 0) {
        return status;
    }
    if (relay->secures) {
        const struct shard_part secure = {.name = "tls", .self = relay, .poll = secure_poll};
        shard_add(&host->shard, &secure);
    }
    const struct shard_part part = {
        .name = "queue", .self = relay, .poll = queue_poll, .flush = queue_flush};
    shard_add(&host->shard, &part);
    check(relay_listen(relay->relay) == 0);
    relay->serving = true;
    relay->void_since_ns = 0;
    relay->disk_due_ns = UINT64_MAX;
    relay->lives++;
    sim_host_touch(host);
    return 0;
}

static void copy_stop(void *owner, struct spool_message *message)
{
    (void)owner;
    if (message_copy(message) != NULL) {
        message_copy(message)->in_flight = false;
    }
}

/* What waits for a disk that will never answer. What those who wait for a commit hold is left to lie. */
static void spool_cut_off(struct spool *spool)
{
    while (spool->pending_first != NULL) {
        struct spool_message *message = spool->pending_first;
        spool->pending_first = message_next(message);
        if (message_commit(message)->draft != NULL) {
            spool_abort(message_commit(message)->draft);
        }
        spool_message_free(spool, message);
    }
    spool->forward.in_flight = 0;
    message_table_each(&spool->table, copy_stop, NULL);
}

static void sessions_drop(struct relay *relay)
{
    struct list_node all;
    list_init(&all);
    list_splice(&all, &relay->inbounds);
    for (struct list_node *node; (node = list_pop(&all)) != NULL;) {
        inbound_abort(inbound_of_node(node));
    }
    outbound_abort_all(relay);
    bounce_abandon_all(relay);
}

static void log_drop(struct log *log)
{
    log->write_count = 0;
    log->watch.asks = false;
    if (log->maker.state != MAKER_IDLE) {
        free(log->maker.segment);
        log->maker.state = MAKER_IDLE;
    }
    log_close(log);
}

static void secure_drop(struct sim_relay *relay)
{
    if (relay->tls.tls != NULL) {
        relay_tls_close(&relay->tls);
    }
}

void sim_relay_crash(struct sim_relay *relay)
{
    struct sim_host *host = relay->host;
    sim_relay_has_crashed = true;
    sim_net_unplug(&host->sim->net,
                   host->index); /* nobody hears what it says while it is taken apart */
    relay->serving = false;
    if (relay->relay != NULL) {
        relay->deferred += relay_counters(relay->relay)->deferred;
        sessions_drop(relay->relay);
        relay_unlisten(relay->relay);
        secure_drop(relay);
        sim_host_cut(host);
        disk_fault_crash(relay->fault);
        spool_cut_off(relay_spool(relay->relay));
        relay_close(relay->relay);
        relay->relay = NULL;
        log_drop(relay->log);
        relay->log = NULL;
        sim_dns_stop(&relay->dns);
    }
    relay->crash = NULL;
    relay->crashed_ns = host->sim->world.now_ns;
    sim_host_unplug(host);
}

/* From some operation on the disk changes nothing more: nobody learns what would have come of it. It can
 * be read, since a program that is gone reads nothing. */
void sim_relay_start_in_vain(struct sim_relay *relay)
{
    struct sim *sim = relay->host->sim;
    static const enum disk_fault_kind changes[] = {DISK_FAULT_WRITE, DISK_FAULT_PREPARE,
                                                   DISK_FAULT_REMOVE};
    for (unsigned i = 0; i < RTE_DIM(changes); i++) {
        disk_fault_fail(relay->fault, changes[i], (uint32_t)sim_spread(sim, 0, 5), UINT32_MAX,
                        -EIO);
    }
    int status = relay_begin(relay);
    sim_say(sim, "host %u loses its power while it starts: %d", relay->host->index, status);
    disk_fault_crash(relay->fault);
    if (relay->relay != NULL) {
        spool_cut_off(relay_spool(relay->relay));
        relay_close(relay->relay);
        relay->relay = NULL;
    }
    if (relay->log != NULL) {
        log_drop(relay->log);
        relay->log = NULL;
    }
    sim_dns_stop(&relay->dns);
    secure_drop(relay);
    disk_fault_set(relay->fault, &relay->disk_settings);
}

/* ---- Reading what it keeps ---- */

struct text_reading {
    struct spool_fetch fetch;
    bool told;
};

static void text_fetched(struct spool_waiter *waiter, int status)
{
    (void)status; /* spool_read says it again */
    list_entry(list_entry(waiter, struct spool_fetch, waiter), struct text_reading, fetch)->told =
        true;
}

int sim_relay_text(struct sim_relay *relay, struct message *message, uint8_t *to)
{
    struct spool *spool = relay_spool(relay->relay);
    struct text_reading reading = {.fetch.waiter.done = text_fetched};
    struct disk_fault_settings whole = relay->disk_settings;
    memset(whole.error_permyriad, 0, sizeof(whole.error_permyriad));
    disk_fault_set(relay->fault, &whole);
    int status = 0;
    for (uint64_t at = 0; at < message->body_bytes && status == 0;) {
        struct slice bytes;
        struct ref *owner;
        reading.told = false;
        status = spool_read(spool, message, at, &bytes, &owner, &reading.fetch);
        if (status == 0) {
            memcpy(to + at, bytes.bytes, bytes.size);
            at += bytes.size;
            ref_drop(owner);
        } else if (status == -EINPROGRESS) {
            while (!reading.told) {
                relay->disk->ops->reap(relay->disk);
            }
            status = 0;
        } else if (status == -EAGAIN && disk_fault_pending(relay->fault) > 0) {
            relay->disk->ops->reap(relay->disk); /* of whoever else reads */
            status = 0;
        }
    }
    disk_fault_set(relay->fault, &relay->disk_settings);
    return status;
}

void sim_relay_stop(struct sim_relay *relay)
{
    relay->serving = false;
    relay_close(relay->relay);
    relay->relay = NULL;
    secure_drop(relay);
    sim_dns_stop(&relay->dns);
    while (!log_is_quiet(relay->log)) { /* it asks now and then how much room there is */
        relay->disk->ops->reap(relay->disk);
    }
    log_close(relay->log);
    relay->log = NULL;
}

void sim_relay_heal(struct sim_relay *relay)
{
    struct disk_fault_settings *settings = &relay->disk_settings;
    relay->crash = NULL;
    memset(settings->error_permyriad, 0, sizeof(settings->error_permyriad));
    settings->capacity_bytes = 0;
    disk_fault_set(relay->fault, settings);
    disk_fault_hold(relay->fault, false);
    wheel_disarm(relay->host->sim->script, &relay->stall);
    sim_host_touch(relay->host);
}

uint64_t sim_relay_deferred(const struct sim_relay *relay)
{
    return relay->deferred + (relay->relay == NULL ? 0 : relay_counters(relay->relay)->deferred);
}
