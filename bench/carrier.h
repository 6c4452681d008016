/*
 * carrier: the network a bench runs on: lean kernel sockets, or our own stack over a DPDK port.
 */
#pragma once
#include "bench/options.h"

/* 0 or -errno, with a line on standard error. */
int carrier_open(struct network **network, const struct dpdk_options *dpdk,
                 const struct world *world);
/* Before poll when the last round did nothing: kernel sockets wait up to `milliseconds` in it, a
 * polled port does not. */
void carrier_patience(struct network *network, int milliseconds);
void carrier_close(struct network *network);
