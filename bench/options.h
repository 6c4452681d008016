/*
 * options: the command line of tubepost-bench.
 */
#pragma once
#include "bench/exchange.h"
#include "bench/flood.h"
#include "bench/logins.h"
#include "bench/sink.h"
#include "bench/source.h"
#include <stdbool.h>

#define EAL_ARGUMENTS_MAX 32

enum bench_part {
    BENCH_SOURCE = 1,
    BENCH_SINK = 2,
    BENCH_LOOP = 3,
    BENCH_ASK = 4,
    BENCH_ANSWER = 8,
    BENCH_COST = 16,
    BENCH_QUEUE = 32,
    BENCH_SCHED = 64,
    BENCH_LOGINS = 128,
};

struct carrier_options {
    bool uring; /* kernel sockets over io_uring instead of epoll */
    bool dpdk;
    const char *eal[EAL_ARGUMENTS_MAX + 1];
    unsigned eal_count;
    const char *port;
    struct network_prefix address;
    uint16_t mtu;            /* 0: as the device has it */
    struct endpoint gateway; /* family ENDPOINT_NONE: none */
};

struct options {
    enum bench_part part;
    struct source_settings source;
    struct sink_settings sink;
    struct exchange_settings exchange;
    struct flood_settings flood; /* of an asker over dpdk */
    struct logins_settings logins;
    struct carrier_options carrier;
    uint64_t sink_count; /* stop after so many messages; 0: no bound */
    double sink_seconds; /* stop after; 0: no bound */
    double
        sink_idle_s; /* stop when nothing has come for so long, once something has; 0: no bound */
    const char *folder; /* of a queue */
    int cpu;            /* to run on; -1: any */
    bool json;
};

/* Exits with 0 after --help, with 2 and a line on standard error when something is wrong. */
void options_parse(struct options *options, int argc, char **argv);
