#include "tests/sim/sim.h"
#include "engine/core/check.h"
#include "engine/net/stack.h"
#include "engine/shard/memory.h"
#include "tests/sim/pcap.h"
#include <stdarg.h>
#include <unistd.h>

#define POOL_MBUFS 4096u
#define ROUND_NS_MAX 20000u /* between two rounds of a host that has work */

const char *const sim_plant_names[SIM_PLANTS] = {
    [SIM_PLANT_NONE] = "none",     [SIM_PLANT_BYTE] = "byte", [SIM_PLANT_TIMERS] = "timers",
    [SIM_PLANT_LEAK] = "leak",     [SIM_PLANT_LOST] = "lost", [SIM_PLANT_TWICE] = "twice",
    [SIM_PLANT_ASTRAY] = "astray", [SIM_PLANT_TORN] = "torn", [SIM_PLANT_EARLY] = "early",
};

static struct rte_mempool *pools[SIM_HOSTS_MAX];

int sim_start(void)
{
    const struct memory_settings settings = {.program = "sim", .megabytes = 512};
    int status = memory_start(&settings);
    for (unsigned i = 0; status == 0 && i < SIM_HOSTS_MAX; i++) {
        char name[32];
        snprintf(name, sizeof(name), "host%u", i);
        pools[i] = memory_pool_open(name, POOL_MBUFS, MEMORY_MBUF_BYTES);
        status = pools[i] == NULL ? -ENOMEM : 0;
    }
    return status;
}

/* ---- Chance ---- */

uint32_t sim_below(struct sim *sim, uint32_t bound)
{
    return net_random_below(&sim->random, bound);
}

bool sim_chance(struct sim *sim, uint32_t percent)
{
    return sim_below(sim, 100) < percent;
}

uint64_t sim_spread(struct sim *sim, uint64_t from, uint64_t to)
{
    uint64_t span = to - from + 1;
    uint64_t bits = 64 - (uint64_t)__builtin_clzll(span | 1);
    uint64_t some = net_random(&sim->random), shift = net_random(&sim->random);
    return from + (some >> (shift & 1 ? 0 : 64 - bits + (shift >> 1) % bits)) % span;
}

/* ---- Words ---- */

static void stamp(const struct sim *sim, FILE *to)
{
    fprintf(to, "%12.6f ", (double)(sim->world.now_ns - sim->started_ns) / 1e9);
}

void sim_say(struct sim *sim, const char *format, ...)
{
    if (!sim->options.verbose) {
        return;
    }
    va_list values;
    va_start(values, format);
    stamp(sim, stdout);
    vprintf(format, values);
    putchar('\n');
    va_end(values);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fflush(stdout);
    stamp(sim, stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    pcap_close();
    abort(); /* main says which run it was */
}

/* ---- Hosts ---- */

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

struct endpoint sim_host_at(const struct sim_host *host, enum sim_family family, uint16_t port)
{
    struct endpoint at = host->prefixes[family].address;
    at.port = port;
    return at;
}

struct endpoint sim_any(enum sim_family family, uint16_t port)
{
    return (struct endpoint){.family = family == SIM_IPV4 ? ENDPOINT_IPV4 : ENDPOINT_IPV6,
                             .port = port};
}

void sim_host_open(struct sim_host *host)
{
    struct sim *sim = host->sim;
    const struct shard_settings shard = {
        .count = 1, .cpu = -1, .world = &sim->world.world, .logger = &sim->logger};
    check(shard_open(&host->shard, &shard) == 0);
    sim_net_plug(&sim->net, host->index);
    const struct stack_settings stack = {.port = &sim->net.ports[host->index].port,
                                         .world = &sim->world.world,
                                         .wheel = host->shard.wheel,
                                         .pool = host->pool,
                                         .addresses = host->prefixes,
                                         .address_count = SIM_FAMILIES,
                                         .skips_dad = host->skips_dad,
                                         .limits = host->limits};
    check(stack_open(&host->network, &stack) == 0);
    const struct shard_part part = {
        .name = "stack", .self = host->network, .poll = network_poll, .flush = network_flush};
    shard_add(&host->shard, &part);
    sim_states_open(&host->states);
    host->up = true;
    host->last_round_ns = sim->world.now_ns;
    sim_host_touch(host);
}

static void host_drop(struct sim_host *host)
{
    if (host->network != NULL) {
        host->network->ops->close(host->network);
        host->network = NULL;
    }
    shard_close(&host->shard);
    sim_states_close(&host->states);
    host->up = false;
}

void sim_host_cut(struct sim_host *host)
{
    sim_net_unplug(&host->sim->net, host->index);
    host->network->ops->close(host->network);
    host->network = NULL;
}

void sim_host_unplug(struct sim_host *host)
{
    sim_net_unplug(&host->sim->net, host->index);
    sim_wire_forget(&host->sim->wire, host->index);
    host_drop(host);
    unsigned out = rte_mempool_in_use_count(host->pool);
    if (out != 0) {
        sim_fail(host->sim, "host %u: %u buffers outlive it", host->index, out);
    }
}

void sim_host_close(struct sim_host *host)
{
    host_drop(host);
}

void sim_host_touch(struct sim_host *host)
{
    host->again_ns = host->sim->world.now_ns;
}

void sim_host_check_quiet(struct sim_host *host)
{
    sim_states_check_quiet(host);
    if (host->shard.wheel != NULL && wheel_next_ns(host->shard.wheel) != WHEEL_NEVER) {
        sim_fail(host->sim, "host %u: a timer is armed, though nothing is left to do", host->index);
    }
}

static uint64_t host_next_ns(const struct sim *sim, struct sim_host *host)
{
    if (!host->up) {
        return UINT64_MAX;
    }
    uint64_t next_ns = host->again_ns;
    uint64_t others[4] = {
        sim_net_arrival_ns(&sim->net, host->index), wheel_next_ns(host->shard.wheel),
        host->next_ns == NULL ? UINT64_MAX : host->next_ns(host),
        host->heartbeat_ns == 0 ? UINT64_MAX : host->last_round_ns + host->heartbeat_ns};
    if (sim->options.plant == SIM_PLANT_TIMERS && host->index == 0) {
        others[1] = UINT64_MAX;
    }
    for (unsigned i = 0; i < 4; i++) {
        next_ns = others[i] < next_ns ? others[i] : next_ns;
    }
    return next_ns;
}

/* As shard_round, for a shard whose wheel has stopped. */
static unsigned round_without_timers(struct sim_host *host)
{
    uint64_t now_ns = host->sim->world.now_ns;
    host->shard.now_ns = now_ns;
    unsigned work = host->network->ops->poll(host->network, now_ns);
    host->network->ops->flush(host->network, now_ns);
    return work;
}

static void host_round(struct sim *sim, struct sim_host *host)
{
    bool lame = sim->options.plant == SIM_PLANT_TIMERS && host->index == 0;
    host->again_ns = UINT64_MAX;
    unsigned work = lame ? round_without_timers(host) : shard_round(&host->shard);
    host->rounds++;
    if (!host->up) {
        return;
    }
    sim_states_check(host);
    host->last_round_ns = sim->world.now_ns;
    bool more = host->network->ops->arm(host->network) == -EAGAIN;
    if (work > 0 || more) {
        uint64_t again_ns =
            sim->world.now_ns + 1000 + net_random_below(&sim->net.random, ROUND_NS_MAX);
        host->again_ns = again_ns < host->again_ns ? again_ns : host->again_ns;
    }
    if (sim->options.plant == SIM_PLANT_LEAK && host->kept == NULL && host->rounds > 50) {
        host->kept = rte_pktmbuf_alloc(host->pool);
    }
}

/* ---- The world ---- */

void sim_open(struct sim *sim, const struct sim_options *options, unsigned host_count)
{
    memset(sim, 0, sizeof(*sim));
    check(host_count <= SIM_HOSTS_MAX);
    sim->options = *options;
    sim->random = options->seed * 0x9e3779b97f4a7c15ull + 1;
    net_world_open(&sim->world, options->seed);
    sim->started_ns = sim->world.now_ns;
    setvbuf(stdout, NULL, _IOLBF, 0); /* the logger writes beside it */
    logger_open(&sim->logger, options->verbose ? STDOUT_FILENO : -1,
                options->verbose ? LOGGER_DEBUG : LOGGER_ERROR);
    sim->host_count = host_count;
    sim->script = wheel_open(sim->world.now_ns);
    check(sim->script != NULL);
    sim_net_open(&sim->net, &sim->world, options->seed, host_count, pools);
    sim_wire_open(&sim->wire, sim);
    sim->net.wire = &sim->wire;
    for (unsigned i = 0; i < host_count; i++) {
        struct sim_host *host = &sim->hosts[i];
        char text[32];
        *host = (struct sim_host){.sim = sim, .index = i, .pool = pools[i], .again_ns = UINT64_MAX};
        snprintf(text, sizeof(text), "10.0.0.%u/24", i + 1);
        check(network_prefix_parse(&host->prefixes[SIM_IPV4], slice_text(text)) == 0);
        snprintf(text, sizeof(text), "fd00::%x/64", i + 1);
        check(network_prefix_parse(&host->prefixes[SIM_IPV6], slice_text(text)) == 0);
        host->skips_dad = sim_chance(sim, 50);
    }
    sim_faults_open(&sim->faults, sim);
}

void sim_close(struct sim *sim)
{
    sim_faults_close(&sim->faults);
    for (unsigned i = 0; i < sim->host_count; i++) {
        sim_net_unplug(&sim->net, i);
        if (sim->hosts[i].up) {
            sim_host_close(&sim->hosts[i]);
        }
        rte_pktmbuf_free(sim->hosts[i].kept);
    }
    sim_net_close(&sim->net);
    sim_wire_close(&sim->wire);
    wheel_close(sim->script);
}

bool sim_step(struct sim *sim, uint64_t at_most_ns)
{
    uint64_t next_ns = sim_net_next_ns(&sim->net);
    uint64_t script_ns = wheel_next_ns(sim->script);
    next_ns = script_ns < next_ns ? script_ns : next_ns;
    for (unsigned i = 0; i < sim->host_count; i++) {
        uint64_t host_ns = host_next_ns(sim, &sim->hosts[i]);
        next_ns = host_ns < next_ns ? host_ns : next_ns;
    }
    bool any = next_ns != UINT64_MAX;
    next_ns = next_ns < at_most_ns ? next_ns : at_most_ns;
    uint64_t least_ns = sim->world.now_ns + 100; /* nothing takes no time */
    sim->world.now_ns = next_ns > least_ns ? next_ns : least_ns;
    sim->steps++;
    wheel_run(sim->script, sim->world.now_ns);
    sim_net_run(&sim->net);
    for (unsigned i = 0; i < sim->host_count; i++) {
        struct sim_host *host = &sim->hosts[i];
        if (host_next_ns(sim, host) <= sim->world.now_ns) {
            host_round(sim, host);
        }
    }
    return any;
}

bool sim_run_until(struct sim *sim, bool (*holds)(struct sim *, void *), void *owner,
                   uint64_t for_ns)
{
    uint64_t until_ns = sim->world.now_ns + for_ns;
    while (sim->world.now_ns < until_ns) {
        if (holds(sim, owner)) {
            return true;
        }
        sim_step(sim, until_ns);
    }
    return holds(sim, owner);
}

void sim_run(struct sim *sim, uint64_t for_ns)
{
    uint64_t until_ns = sim->world.now_ns + for_ns;
    while (sim->world.now_ns < until_ns) {
        sim_step(sim, until_ns);
    }
}

void sim_heal(struct sim *sim)
{
    sim_faults_close(&sim->faults);
    memset(sim->net.cut, 0, sizeof(sim->net.cut));
    sim->healed = true;
    for (unsigned i = 0; i < sim->host_count; i++) {
        struct sim_port *port = &sim->net.ports[i];
        bool narrow = sim_chance(sim, 30); /* a narrow cable is no fault: it may stay */
        for (unsigned j = 0; j < 2; j++) {
            struct sim_way *way = &port->ways[j];
            way->lost = way->burst_begins = way->reordered = way->repeated = way->corrupted = 0;
            way->bad = false;
            if (way->queue_bytes > 0) { /* nor is it to take hours */
                way->queue_bytes = way->queue_bytes > 100000 ? way->queue_bytes : 100000;
                way->bits_per_s = way->bits_per_s > 10000000 ? way->bits_per_s : 10000000;
            }
            way->mtu = narrow && way->mtu >= 600 ? way->mtu : 0;
        }
    }
    sim_say(sim, "all faults end");
}
