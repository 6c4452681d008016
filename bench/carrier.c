#include "bench/carrier.h"
#include "bench/network_epoll.h"
#include "engine/net/port_dpdk.h"
#include "engine/net/stack.h"
#include "engine/shard/memory.h"
#include "engine/sock/sock.h"
#include <rte_cycles.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define MEGABYTES 512 /* without huge pages */
#define MBUFS 65535u
#define DESCRIPTORS 2048
#define IDLE_ROUNDS 4096
#define URING_ENTRIES 1024

static int port_set_up(struct carrier *carrier, const struct carrier_options *options)
{
    struct memory_settings memory = {
        .program = "tubepost-bench", .megabytes = MEGABYTES, .eal = options->eal};
    int rc = memory_start(&memory);
    if (rc < 0) {
        fprintf(stderr, "tubepost-bench: the EAL does not start\n");
        return rc;
    }
    uint32_t bytes = port_dpdk_buffer_bytes(options->port, options->mtu);
    bytes = bytes > MEMORY_MBUF_BYTES ? bytes : MEMORY_MBUF_BYTES;
    uint32_t count = (uint32_t)((uint64_t)MBUFS * MEMORY_MBUF_BYTES / bytes);
    carrier->pool = memory_pool_open("bench", count, bytes);
    if (carrier->pool == NULL) {
        fprintf(stderr, "tubepost-bench: no memory for %u buffers\n", count);
        return -ENOMEM;
    }
    struct port_dpdk_settings port = {.name = options->port,
                                      .queues_wanted = 1,
                                      .descriptors = DESCRIPTORS,
                                      .mtu = options->mtu,
                                      .pools = &carrier->pool};
    rc = port_dpdk_open(&carrier->port, &port);
    if (rc < 0) {
        fprintf(stderr, "tubepost-bench: port %s does not open\n", options->port);
    }
    return rc;
}

static int stack_set_up(struct carrier *carrier, const struct carrier_options *options,
                        const struct world *world)
{
    carrier->wheel = wheel_open(world_now_ns(world));
    if (carrier->wheel == NULL) {
        return -ENOMEM;
    }
    struct stack_settings settings = {
        .port = carrier->port,
        .shard_count = 1,
        .world = world,
        .wheel = carrier->wheel,
        .pool = carrier->pool,
        .addresses = &options->address,
        .address_count = 1,
        .gateway = options->gateway,
    };
    return stack_open(&carrier->network, &settings);
}

static int uring_set_up(struct carrier *carrier, const struct world *world)
{
    const struct memory_settings memory = {.program = "tubepost-bench", .megabytes = MEGABYTES};
    const struct shard_settings settings = {.count = 1, .cpu = -1, .world = world};
    int rc = memory_start(&memory);
    carrier->pool = rc < 0 ? NULL : memory_pool_open("bench", MBUFS, MEMORY_MBUF_BYTES);
    if (carrier->pool == NULL) {
        fprintf(stderr, "tubepost-bench: no memory for %u buffers\n", MBUFS);
        return -ENOMEM;
    }
    rc = shard_open(&carrier->shard, &settings);
    rc = rc < 0 ? rc : uring_open(&carrier->uring, URING_ENTRIES, URING_SLEEPS);
    if (rc < 0) {
        return rc;
    }
    carrier->shard.uring = &carrier->uring;
    const struct sock_settings sock = {.shard = &carrier->shard, .pool = carrier->pool};
    return sock_open_uring(&carrier->network, &sock);
}

int carrier_open(struct carrier *carrier, const struct carrier_options *options,
                 const struct world *world)
{
    *carrier = (struct carrier){.dpdk = options->dpdk, .with_uring = options->uring};
    if (options->dpdk) {
        int rc = port_set_up(carrier, options);
        return rc < 0 ? rc : stack_set_up(carrier, options, world);
    }
    return options->uring ? uring_set_up(carrier, world) : network_epoll_open(&carrier->network);
}

/* As the relay's shard does it: a round without work ends in a wait for the next completion. */
static void uring_poll(struct carrier *carrier, uint64_t now_ns, int patience_ms)
{
    struct shard *shard = &carrier->shard;
    shard->now_ns = now_ns;
    unsigned did = carrier->network->ops->poll(carrier->network, now_ns);
    did += uring_reap(shard->uring);
    did += wheel_run(shard->wheel, now_ns);
    carrier->network->ops->flush(carrier->network, now_ns);
    if (did > 0 || carrier->network->ops->arm(carrier->network) == -EAGAIN) {
        uring_submit(shard->uring);
    } else {
        uring_wait(shard->uring, (uint64_t)patience_ms * 1000000u);
    }
}

void carrier_poll(struct carrier *carrier, uint64_t now_ns, int patience_ms)
{
    if (carrier->with_uring) {
        uring_poll(carrier, now_ns, patience_ms);
        return;
    }
    if (!carrier->dpdk) {
        network_epoll_patience(carrier->network, patience_ms);
        carrier->network->ops->poll(carrier->network, now_ns);
        return;
    }
    uint64_t now_cycles = rte_get_tsc_cycles();
    carrier->busy_cycles += carrier->busy ? now_cycles - carrier->round_cycles : 0;
    carrier->round_cycles = now_cycles;
    unsigned did = carrier->network->ops->poll(carrier->network, now_ns);
    did += wheel_run(carrier->wheel, now_ns);
    carrier->busy = did > 0;
    carrier->idle_count = did > 0 ? 0 : carrier->idle_count + 1;
    if (carrier->idle_count >= IDLE_ROUNDS) {
        carrier->idle_count = 0;
        sched_yield(); /* whoever we wait for may need this very processor */
    }
}

void carrier_flush(struct carrier *carrier, uint64_t now_ns)
{
    carrier->network->ops->flush(carrier->network, now_ns);
}

void carrier_tell(const struct carrier *carrier, struct report *report)
{
    report_text(report, "transport", carrier->network->transport);
    if (carrier->dpdk) {
        const struct stack_counters *counters = stack_counters(carrier->network);
        report_text(report, "driver", port_dpdk_driver(carrier->port));
        report_count(report, "frames_in", counters->frames_in);
        report_count(report, "frames_out", counters->frames_out);
        uint64_t frames = counters->frames_in + counters->frames_out;
        report_number(report, "busy_cycles_per_frame",
                      frames == 0 ? 0 : (double)carrier->busy_cycles / (double)frames);
        report_count(report, "frames_out_lost", counters->frames_out_lost);
        report_count(report, "tcp_retransmitted_segments", counters->tcp_retransmitted_segments);
        report_count(report, "tcp_tx_copied_bytes", counters->tcp_tx_copied_bytes);
        report_count(report, "tcp_tx_referenced_bytes", counters->tcp_tx_referenced_bytes);
    }
}

void carrier_close(struct carrier *carrier)
{
    if (carrier->network != NULL) {
        carrier->network->ops->close(carrier->network);
    }
    if (carrier->wheel != NULL) {
        wheel_close(carrier->wheel);
    }
    if (carrier->port != NULL) {
        carrier->port->ops->close(carrier->port);
    }
    if (carrier->with_uring) {
        shard_close(&carrier->shard);
    }
    if (carrier->pool != NULL) {
        memory_pool_close(carrier->pool);
    }
    if (carrier->dpdk || carrier->with_uring) {
        memory_stop();
    }
}

static void *heap_take(size_t bytes)
{
    return malloc(bytes);
}

static void *port_memory_take(size_t bytes)
{
    return memory_take("letter", bytes, 64);
}

struct letter_memory carrier_memory(const struct carrier *carrier)
{
    return carrier->dpdk ? (struct letter_memory){port_memory_take, memory_give}
                         : (struct letter_memory){heap_take, free};
}
