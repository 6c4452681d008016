#include "bench/carrier.h"
#include "bench/network_epoll.h"
#include "engine/net/port_dpdk.h"
#include "engine/net/stack.h"
#include "engine/shard/memory.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define MEGABYTES 512 /* without huge pages */
#define MBUFS 65535u
#define DESCRIPTORS 2048
#define IDLE_ROUNDS 4096

static int port_set_up(struct carrier *carrier, const struct dpdk_options *dpdk)
{
    struct memory_settings memory = {
        .program = "tubepost-bench", .megabytes = MEGABYTES, .eal = dpdk->eal};
    int rc = memory_start(&memory);
    if (rc < 0) {
        fprintf(stderr, "tubepost-bench: the EAL does not start\n");
        return rc;
    }
    carrier->pool = memory_pool_open("bench", MBUFS, MEMORY_MBUF_BYTES);
    if (carrier->pool == NULL) {
        fprintf(stderr, "tubepost-bench: no memory for %u buffers\n", MBUFS);
        return -ENOMEM;
    }
    struct port_dpdk_settings port = {.name = dpdk->port,
                                      .queues_wanted = 1,
                                      .descriptors = DESCRIPTORS,
                                      .pools = &carrier->pool};
    rc = port_dpdk_open(&carrier->port, &port);
    if (rc < 0) {
        fprintf(stderr, "tubepost-bench: port %s does not open\n", dpdk->port);
    }
    return rc;
}

static int stack_set_up(struct carrier *carrier, const struct dpdk_options *dpdk,
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
        .addresses = &dpdk->address,
        .address_count = 1,
        .gateway = dpdk->gateway,
    };
    return stack_open(&carrier->network, &settings);
}

int carrier_open(struct carrier *carrier, const struct dpdk_options *dpdk,
                 const struct world *world)
{
    *carrier = (struct carrier){.dpdk = dpdk->wanted};
    if (!dpdk->wanted) {
        return network_epoll_open(&carrier->network);
    }
    int rc = port_set_up(carrier, dpdk);
    return rc < 0 ? rc : stack_set_up(carrier, dpdk, world);
}

void carrier_poll(struct carrier *carrier, uint64_t now_ns, int patience_ms)
{
    if (!carrier->dpdk) {
        network_epoll_patience(carrier->network, patience_ms);
    }
    unsigned did = carrier->network->ops->poll(carrier->network, now_ns);
    if (!carrier->dpdk) {
        return;
    }
    did += wheel_run(carrier->wheel, now_ns);
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
    if (carrier->pool != NULL) {
        memory_pool_close(carrier->pool);
    }
    if (carrier->dpdk) {
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
