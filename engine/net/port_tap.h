/*
 * port_tap: a kernel TAP interface beside a port of ours, for stack_settings.exception: DPDK's net_tap,
 * made when it is opened and gone with the process.
 *
 * The driver is told by a signal that the kernel has sent something, which the process's first thread
 * gets: a round with nothing to receive makes no system call. A shard that sleeps watches the descriptor.
 * Each frame to the kernel is a system call.
 */
#pragma once
#include "engine/net/port.h"

struct port_tap_settings {
    const char *name;          /* of the interface: at most 15 bytes */
    const struct port *beside; /* whose Ethernet address and MTU it gets */
    uint16_t shard_count;
    struct rte_mempool *const *pools; /* one a shard: where it receives into */
};

/* Owned until port->ops->close. -errno: net_tap is not there, no right to make an interface, or one of
 * that name is there already. */
int port_tap_open(struct port **port, const struct port_tap_settings *settings);
