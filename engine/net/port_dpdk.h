/*
 * port_dpdk: a DPDK ethdev as a port: a PCI device or a vdev that the EAL arguments made.
 *
 * main opens it before the shards run; shard i then uses queue pair i alone. Where the device has
 * fewer queue pairs than were wanted, facts.queue_count says so and port_deal shares them out.
 * Only what the device offers is asked of it: checksums, segmentation and hashing that it lacks are
 * the stack's to do in software.
 */
#pragma once
#include "engine/net/port.h"

#define PORT_DPDK_QUEUES_MAX 64

struct port_dpdk_settings {
    const char *name;                 /* as the EAL knows it: "net_memif0", "0000:00:05.0" */
    uint16_t queues_wanted;           /* 1..PORT_DPDK_QUEUES_MAX */
    uint16_t descriptors;             /* of each ring, both ways; 0: 1024. Made to fit the device */
    uint16_t mtu;                     /* 0: as the device has it */
    struct rte_mempool *const *pools; /* queues_wanted of them: where queue i receives into */
};

/* Room for data that the pools of a port must have at least, so that any frame of this MTU lies in one mbuf. */
uint32_t port_dpdk_buffer_bytes(const char *name, uint16_t mtu);
/* Owned until port->ops->close. -ENODEV: no port of that name; else what the device answered. */
int port_dpdk_open(struct port **port, const struct port_dpdk_settings *settings);

struct port_dpdk_counters { /* what the device says */
    uint64_t rx_frames, tx_frames, rx_bytes, tx_bytes, rx_missed, rx_errors, tx_errors, rx_no_mbuf;
};
void port_dpdk_counters(const struct port *port, struct port_dpdk_counters *counters);
/* Of a port that port_dpdk_open made. */
const char *port_dpdk_driver(const struct port *port);

/* Which of the RTE_ETH_RSS_ types that a device offers it is asked to hash. */
uint64_t port_dpdk_rss_types(uint64_t offered);
