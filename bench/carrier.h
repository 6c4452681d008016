/*
 * carrier: the network a bench runs on: lean kernel sockets (epoll), kernel sockets as the relay drives them (io_uring),
 * or our own stack over a DPDK port.
 */
#pragma once
#include "bench/options.h"
#include "bench/report.h"
#include "engine/net/port.h"
#include "engine/shard/shard.h"

struct carrier {
    struct network *network;
    bool dpdk;
    /* dpdk and io_uring only */
    struct rte_mempool *pool;
    struct wheel *wheel; /* dpdk only, as all below to the next line */
    struct port *port;
    unsigned idle_count;
    uint64_t round_cycles; /* when the round began, by the TSC */
    uint64_t
        busy_cycles; /* of rounds that did something, from poll to flush and the work between */
    bool busy;
    bool with_uring; /* io_uring only, as all below */
    struct shard shard;
    struct uring uring;
};

/* 0 or -errno, with a line on standard error when it says more. */
int carrier_open(struct carrier *carrier, const struct carrier_options *options,
                 const struct world *world);
/* Takes what came, runs timers. Kernel sockets sleep in it up to `patience_ms` until something comes; a port is polled. */
void carrier_poll(struct carrier *carrier, uint64_t now_ns, int patience_ms);
void carrier_flush(struct carrier *carrier, uint64_t now_ns);
void carrier_tell(const struct carrier *carrier, struct report *report);
void carrier_close(struct carrier *carrier);

/* Memory that streams of this carrier can send from without copying. */
struct letter_memory carrier_memory(const struct carrier *carrier);
