#include "tests/sim/faults.h"
#include "engine/core/check.h"
#include "tests/sim/sim.h"

const char *const sim_fault_names[SIM_FAULTS] = {
    [SIM_FAULT_LOSS] = "loss",     [SIM_FAULT_BURST] = "burst",     [SIM_FAULT_REORDER] = "reorder",
    [SIM_FAULT_REPEAT] = "repeat", [SIM_FAULT_CORRUPT] = "corrupt", [SIM_FAULT_SLOW] = "slow",
    [SIM_FAULT_DELAY] = "delay",   [SIM_FAULT_MTU] = "mtu",         [SIM_FAULT_CUT] = "cut",
    [SIM_FAULT_DEVICE] = "device", [SIM_FAULT_LIMITS] = "limits",   [SIM_FAULT_CRASH] = "crash",
    [SIM_FAULT_DISK] = "disk",     [SIM_FAULT_PEER] = "peer",
};

#define CUT_MAX_NS (20 * SIM_S)
#define CUT_HARSH_NS (60 * SIM_S)
#define LOST_HARSH 1500u /* of 10,000, in one way of one cable: four ways make an exchange */

/* Zero unless the fault is on; drawn in any case, so that the rest of a run stays the same without it. */
static uint64_t drawn(struct sim_faults *faults, enum sim_fault fault, uint64_t from, uint64_t to)
{
    uint64_t value = sim_spread(faults->sim, from, to);
    return sim_fault_on(faults, fault) ? value : 0;
}

static void way_draw(struct sim_faults *faults, struct sim_way *way)
{
    way->delay_ns = sim_spread(faults->sim, 1 * SIM_US, 200 * SIM_US);
    way->delay_ns += drawn(faults, SIM_FAULT_DELAY, 1 * SIM_MS, 150 * SIM_MS);
    way->lost = (uint32_t)drawn(faults, SIM_FAULT_LOSS, 5, 1200);
    way->burst_begins = (uint32_t)drawn(faults, SIM_FAULT_BURST, 5, 200);
    way->burst_ends = (uint32_t)drawn(faults, SIM_FAULT_BURST, 500, 8000);
    way->burst_lost = (uint32_t)drawn(faults, SIM_FAULT_BURST, 3000, 10000);
    way->reordered = (uint32_t)drawn(faults, SIM_FAULT_REORDER, 5, 4000);
    way->reorder_ns = drawn(faults, SIM_FAULT_REORDER, 10 * SIM_US, 30 * SIM_MS);
    way->repeated = (uint32_t)drawn(faults, SIM_FAULT_REPEAT, 5, 2000);
    way->corrupted = (uint32_t)drawn(faults, SIM_FAULT_CORRUPT, 5, 800);
    way->bits_per_s = drawn(faults, SIM_FAULT_SLOW, 1000000, 1000000000);
    way->queue_bytes = (uint32_t)drawn(faults, SIM_FAULT_SLOW, 3000, 300000);
    if (way->bits_per_s == 0) {
        way->bits_per_s = 10000000000ull;
        way->queue_bytes = 0;
    }
    faults->harsh |= way->lost > LOST_HARSH || (way->burst_begins * 10 > way->burst_ends);
}

static void port_draw(struct sim_faults *faults, struct sim_port *port)
{
    port->dma_ns = drawn(faults, SIM_FAULT_DEVICE, 1 * SIM_US, 3 * SIM_MS);
    port->ring_frames = (uint32_t)drawn(faults, SIM_FAULT_DEVICE, 2, 512);
    port->chained = (uint32_t)drawn(faults, SIM_FAULT_DEVICE, 1, 5000);
    port->port.facts.tx_segments = sim_chance(faults->sim, 70);
    for (unsigned i = 0; i < 2; i++) {
        way_draw(faults, &port->ways[i]);
    }
}

static void limits_draw(struct sim_faults *faults, struct stack_limits *limits)
{
    /* Slow paths and small windows take longer than a released stream is given as a rule. */
    *limits = (struct stack_limits){.connection_max = 256,
                                    .half_open_max = 256,
                                    .time_wait_max = 256,
                                    .linger_ns = 1800 * SIM_S};
    uint32_t half_open = (uint32_t)drawn(faults, SIM_FAULT_LIMITS, 1, 16);
    uint32_t window = (uint32_t)drawn(faults, SIM_FAULT_LIMITS, 2048, 262144);
    uint32_t held = (uint32_t)drawn(faults, SIM_FAULT_LIMITS, 64, 2048);
    uint32_t time_wait = (uint32_t)drawn(faults, SIM_FAULT_LIMITS, 1, 256);
    if (sim_fault_on(faults, SIM_FAULT_LIMITS)) {
        limits->half_open_max = half_open;
        limits->receive_window_bytes = window;
        limits->held_mbuf_max = held;
        limits->time_wait_max = time_wait;
    }
}

/* ---- Cutting hosts off ---- */

static void mend(struct timer *timer, uint64_t now_ns)
{
    struct sim_faults *faults = list_entry(timer, struct sim_faults, mend);
    struct sim *sim = faults->sim;
    memset(sim->net.cut, 0, sizeof(sim->net.cut));
    wheel_arm(sim->script, &faults->cut, now_ns + sim_spread(sim, 10 * SIM_MS, 20 * SIM_S));
}

static void cut(struct timer *timer, uint64_t now_ns)
{
    struct sim_faults *faults = list_entry(timer, struct sim_faults, cut);
    struct sim *sim = faults->sim;
    uint64_t for_ns = sim_spread(sim, 10 * SIM_MS, CUT_MAX_NS);
    unsigned whom = sim_below(sim, sim->host_count);
    bool in = sim_chance(sim, 70), out = !in || sim_chance(sim, 70);
    for (unsigned other = 0; other < sim->host_count; other++) {
        bool this_one = sim_chance(sim, 80);
        sim->net.cut[other][whom] |= in && this_one;
        sim->net.cut[whom][other] |= out && this_one;
    }
    faults->cut_ns += for_ns;
    faults->harsh |= faults->cut_ns > CUT_HARSH_NS;
    sim_say(sim, "host %u is cut off (in %d, out %d) for %llu ms", whom, in, out,
            (unsigned long long)(for_ns / SIM_MS));
    wheel_arm(sim->script, &faults->mend, now_ns + for_ns);
}

static void mtu_change(struct timer *timer, uint64_t now_ns)
{
    struct sim_faults *faults = list_entry(timer, struct sim_faults, mtu);
    struct sim *sim = faults->sim;
    static const uint16_t sizes[] = {0, 0, 1492, 1400, 1280, 1006, 600};
    struct sim_port *port = &sim->net.ports[sim_below(sim, sim->host_count)];
    uint16_t mtu = sizes[sim_below(sim, RTE_DIM(sizes))];
    bool told = sim_chance(sim, 50);
    for (unsigned i = 0; i < 2; i++) {
        port->ways[i].mtu = mtu;
        port->ways[i].mtu_told = told;
    }
    sim_say(sim, "the cable of host %u bears packets of %u bytes%s", port->host, mtu,
            told ? ", and says so" : "");
    wheel_arm(sim->script, &faults->mtu, now_ns + sim_spread(sim, 50 * SIM_MS, 20 * SIM_S));
}

void sim_faults_on(struct sim_faults *faults, uint32_t more)
{
    const struct sim_options *options = &faults->sim->options;
    faults->on = (faults->on | more) & ~options->without;
    if (options->faults_drawn != NULL) {
        *options->faults_drawn = faults->on;
    }
}

void sim_faults_open(struct sim_faults *faults, struct sim *sim)
{
    *faults = (struct sim_faults){.sim = sim};
    uint32_t percent = (uint32_t)sim_spread(sim, 1, 90);
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        faults->on |= sim_chance(sim, percent) ? 1u << i : 0;
    }
    sim_faults_on(faults, 0);
    for (unsigned i = 0; i < sim->host_count; i++) {
        port_draw(faults, &sim->net.ports[i]);
        limits_draw(faults, &sim->hosts[i].limits);
    }
    timer_init(&faults->cut, cut);
    timer_init(&faults->mend, mend);
    timer_init(&faults->mtu, mtu_change);
    uint64_t cut_ns = sim_spread(sim, 5 * SIM_MS, 5 * SIM_S);
    uint64_t mtu_ns = sim_spread(sim, 5 * SIM_MS, 5 * SIM_S);
    if (sim_fault_on(faults, SIM_FAULT_CUT)) {
        wheel_arm(sim->script, &faults->cut, sim->world.now_ns + cut_ns);
    }
    if (sim_fault_on(faults, SIM_FAULT_MTU)) {
        wheel_arm(sim->script, &faults->mtu, sim->world.now_ns + mtu_ns);
    }
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        if (sim_fault_on(faults, (enum sim_fault)i)) {
            sim_say(sim, "fault: %s", sim_fault_names[i]);
        }
    }
}

void sim_faults_close(struct sim_faults *faults)
{
    wheel_disarm(faults->sim->script, &faults->cut);
    wheel_disarm(faults->sim->script, &faults->mend);
    wheel_disarm(faults->sim->script, &faults->mtu);
}
