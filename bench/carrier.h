/*
 * carrier: the network a bench runs on: lean kernel sockets, or our own stack over a DPDK port.
 */
#pragma once
#include "bench/options.h"
#include "bench/report.h"
#include "engine/net/port.h"

struct carrier {
    struct network *network;
    bool dpdk;
    /* dpdk only */
    struct wheel *wheel;
    struct port *port;
    struct rte_mempool *pool;
    unsigned idle_count;
};

/* 0 or -errno, with a line on standard error when it says more. */
int carrier_open(struct carrier *carrier, const struct dpdk_options *dpdk,
                 const struct world *world);
/* Takes what came, runs timers. Kernel sockets sleep in it up to `patience_ms` until something comes; a port is polled. */
void carrier_poll(struct carrier *carrier, uint64_t now_ns, int patience_ms);
void carrier_flush(struct carrier *carrier, uint64_t now_ns);
void carrier_tell(const struct carrier *carrier, struct report *report);
void carrier_close(struct carrier *carrier);

/* Memory that streams of this carrier can send from without copying. */
struct letter_memory carrier_memory(const struct carrier *carrier);
