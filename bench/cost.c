#include "bench/cost.h"
#include "bench/exchange.h"
#include "bench/report.h"
#include "engine/core/check.h"
#include "engine/core/wheel.h"
#include "engine/net/stack.h"
#include "engine/shard/memory.h"
#include <rte_cycles.h>
#include <stdlib.h>

#define MEGABYTES 1024
#define MBUFS 65535u
#define RING 8192u    /* frames on the wire in one direction */
#define STEP_NS 5000u /* of a round, while there is work */
#define WARM_ROUNDS 20000u
#define ROUNDS 100000u
#define IDLE_CONNECTIONS 10000u
#define IDLE_WARM_ROUNDS 40000u
#define IDLE_WARM_STEP_NS 50000u
#define IDLE_TICKS 2000u /* of a millisecond */
#define SMALL_CONNECTIONS 64u

struct cost_end {
    struct port port;
    struct cost_end *peer;
    struct rte_mbuf *frames[RING]; /* that arrive here */
    uint32_t first, count;
    struct wheel *wheel;
    struct network *network;
    uint64_t cycles;
};

struct cost {
    struct world world;
    uint64_t now_ns, random;
    struct rte_mempool *pool;
    struct cost_end ends[2]; /* the asker's, the answerer's */
    struct asker *asker;
    struct answerer *answerer;
};

static uint64_t clock_now_ns(void *self)
{
    return ((struct cost *)self)->now_ns;
}

static int64_t clock_wall_s(void *self)
{
    return (int64_t)(clock_now_ns(self) / 1000000000u);
}

static void random_fill(void *self, void *bytes, size_t count)
{
    struct cost *cost = self;
    for (size_t i = 0; i < count; i++) {
        cost->random = cost->random * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)bytes)[i] = (uint8_t)(cost->random >> 56);
    }
}

static struct cost_end *end_of(struct port *port)
{
    return (struct cost_end *)port; /* its first member */
}

static uint16_t wire_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct cost_end *end = end_of(port);
    uint16_t got = 0;
    (void)queue;
    for (; got < count && end->count > 0; got++, end->count--) {
        frames[got] = end->frames[end->first];
        end->first = (end->first + 1) % RING;
    }
    return got;
}

static uint16_t wire_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct cost_end *to = end_of(port)->peer;
    uint16_t taken = 0;
    (void)queue;
    for (; taken < count && to->count < RING; taken++) {
        to->frames[(to->first + to->count++) % RING] = frames[taken];
    }
    return taken;
}

static int wire_arm(struct port *port, uint16_t queue)
{
    (void)port;
    (void)queue;
    return -ENOTSUP;
}

static const struct port_ops wire_ops = {
    .receive = wire_receive, .transmit = wire_transmit, .arm = wire_arm};

static int end_open(struct cost *cost, unsigned index)
{
    static const char *const addresses[2] = {"198.51.100.1/24", "198.51.100.2/24"};
    struct cost_end *end = &cost->ends[index];
    struct network_prefix address;
    check(network_prefix_parse(&address, slice_text(addresses[index])) == 0);
    end->peer = &cost->ends[1 - index];
    end->port = (struct port){.ops = &wire_ops,
                              .facts = {.mac = {2, 0, 0, 0, 0, (uint8_t)(index + 1)},
                                        .mtu = 1500,
                                        .queue_count = 1,
                                        .tx_segments = true}};
    rss_init(&end->port.facts.rss, 1);
    end->wheel = wheel_open(cost->now_ns);
    const struct stack_settings settings = {.port = &end->port,
                                            .world = &cost->world,
                                            .wheel = end->wheel,
                                            .pool = cost->pool,
                                            .addresses = &address,
                                            .address_count = 1};
    return end->wheel == NULL ? -ENOMEM : stack_open(&end->network, &settings);
}

static void *letter_take(size_t bytes)
{
    return memory_take("bulk", bytes, 64);
}

/* `answers`: how the answerer takes what is asked. */
static int cost_open(struct cost *cost, const struct exchange_settings *asked,
                     enum exchange_kind answers)
{
    struct exchange_settings settings = *asked;
    cost->world = (struct world){clock_now_ns, clock_wall_s, random_fill, cost};
    cost->now_ns = 1000000000u;
    int rc = end_open(cost, 0);
    rc = rc < 0 ? rc : end_open(cost, 1);
    check(endpoint_parse(&settings.at, slice_text("198.51.100.2:25")) == 0);
    settings.seconds = 1e9;
    settings.memory = (struct letter_memory){letter_take, memory_give};
    rc = rc < 0 ? rc : asker_open(&cost->asker, cost->ends[0].network, &cost->world, &settings);
    settings.kind = answers;
    return rc < 0 ? rc : answerer_open(&cost->answerer, cost->ends[1].network, &settings);
}

static void cost_close(struct cost *cost)
{
    if (cost->asker != NULL) {
        asker_close(cost->asker);
    }
    if (cost->answerer != NULL) {
        answerer_close(cost->answerer);
    }
    for (unsigned i = 0; i < 2; i++) {
        struct cost_end *end = &cost->ends[i];
        if (end->network != NULL) {
            end->network->ops->close(end->network);
        }
        for (; end->count > 0; end->count--, end->first = (end->first + 1) % RING) {
            rte_pktmbuf_free(end->frames[end->first]);
        }
        if (end->wheel != NULL) {
            wheel_close(end->wheel);
        }
    }
}

static void end_round(struct cost *cost, struct cost_end *end)
{
    uint64_t begun = rte_get_tsc_cycles();
    end->network->ops->poll(end->network, cost->now_ns);
    wheel_run(end->wheel, cost->now_ns);
    if (end == &cost->ends[0]) {
        asker_round(cost->asker, cost->now_ns);
    }
    end->network->ops->flush(end->network, cost->now_ns);
    end->cycles += rte_get_tsc_cycles() - begun;
}

static void rounds(struct cost *cost, unsigned count, uint64_t step_ns)
{
    for (unsigned i = 0; i < count; i++) {
        cost->now_ns += step_ns;
        end_round(cost, &cost->ends[0]);
        end_round(cost, &cost->ends[1]);
    }
}

static double share(uint64_t cycles, uint64_t count)
{
    return count == 0 ? 0 : (double)cycles / (double)count;
}

static void begin(struct cost *cost)
{
    rounds(cost, WARM_ROUNDS, STEP_NS);
    cost->ends[0].cycles = cost->ends[1].cycles = 0;
}

static void bulk(struct cost *cost, struct report *report)
{
    begin(cost);
    uint64_t before = stack_counters(cost->ends[0].network)->tcp_out_segments;
    rounds(cost, ROUNDS, STEP_NS);
    uint64_t sent = stack_counters(cost->ends[0].network)->tcp_out_segments - before;
    report_count(report, "bulk_segments", sent);
    report_number(report, "cycles_per_received_segment", share(cost->ends[1].cycles, sent));
    report_number(report, "cycles_per_sent_segment", share(cost->ends[0].cycles, sent));
}

static void chat(struct cost *cost, struct report *report)
{
    begin(cost);
    uint64_t before = answerer_counters(cost->answerer)->exchanges;
    rounds(cost, ROUNDS, STEP_NS);
    uint64_t count = answerer_counters(cost->answerer)->exchanges - before;
    report_count(report, "exchanges", count);
    report_number(report, "cycles_per_exchange_answered", share(cost->ends[1].cycles, count));
}

/* All have connected and exchanged once, and are silent. */
static void idle(struct cost *cost, struct report *report)
{
    rounds(cost, IDLE_WARM_ROUNDS, IDLE_WARM_STEP_NS);
    cost->ends[1].cycles = 0;
    rounds(cost, IDLE_TICKS, 1000000);
    report_count(report, "idle_connections", answerer_counters(cost->answerer)->connections);
    report_number(report, "cycles_per_idle_tick", share(cost->ends[1].cycles, IDLE_TICKS));
}

static const struct {
    struct exchange_settings asked;
    enum exchange_kind answers;
    void (*measure)(struct cost *, struct report *);
} measurements[] = {
    {{.kind = EXCHANGE_BULK, .connections = 1}, EXCHANGE_BULK, bulk},
    {{.kind = EXCHANGE_CHAT,
      .connections = SMALL_CONNECTIONS,
      .request_bytes = 64,
      .reply_bytes = 64},
     EXCHANGE_CHAT,
     chat},
    /* A brief exchange whose answerer never closes. */
    {{.kind = EXCHANGE_BRIEF,
      .connections = IDLE_CONNECTIONS,
      .request_bytes = 64,
      .reply_bytes = 64},
     EXCHANGE_CHAT,
     idle},
};

static int measure(unsigned index, struct rte_mempool *pool, struct report *report)
{
    struct cost *cost = calloc(1, sizeof(*cost));
    if (cost == NULL) {
        return -ENOMEM;
    }
    cost->pool = pool;
    int rc = cost_open(cost, &measurements[index].asked, measurements[index].answers);
    if (rc == 0) {
        measurements[index].measure(cost, report);
    }
    cost_close(cost);
    free(cost);
    return rc;
}

int cost_run(bool as_json)
{
    const struct memory_settings memory = {.program = "tubepost-bench", .megabytes = MEGABYTES};
    int rc = memory_start(&memory);
    if (rc < 0 || (rc = memory_thread_enter()) < 0) {
        return rc;
    }
    struct rte_mempool *pool = memory_pool_open("cost", MBUFS, MEMORY_MBUF_BYTES);
    struct report *report = report_open();
    rc = pool == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; rc == 0 && i < sizeof(measurements) / sizeof(measurements[0]); i++) {
        rc = measure(i, pool, report);
    }
    report_number(report, "cycles_per_us", (double)rte_get_tsc_hz() / 1e6);
    report_print(report, as_json);
    if (pool != NULL) {
        memory_pool_close(pool);
    }
    memory_thread_leave();
    memory_stop();
    return rc;
}
