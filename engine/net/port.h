/*
 * port: frames in and out: a DPDK device, a share of one (port_deal), a wire in memory, a simulated
 * link.
 *
 * A frame is an Ethernet frame without its checksum, in an mbuf or a chain of them. Queue i belongs
 * to shard i: receive, transmit and arm are called by its thread alone. What the port can do is
 * said once, in facts, when it is opened; nothing is decided for each packet.
 */
#pragma once
#include "engine/net/rss.h"
#include <rte_mbuf.h>

struct port;

struct port_ops {
    /* Up to `count` frames, given to the caller. 0: nothing there. */
    uint16_t (*receive)(struct port *, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
    /* Takes as many of the first frames as there is room for, and says how many; the rest stay the
     * caller's. A frame that was taken may be held by the device for a while: whoever keeps a
     * reference to it must not write to it. */
    uint16_t (*transmit)(struct port *, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
    /* As shard_part.arm: a descriptor that becomes readable when receive has something; -ENOTSUP:
     * must be polled; -EAGAIN: there is something already. */
    int (*arm)(struct port *, uint16_t queue);
    void (*close)(struct port *);
};

/* Of the checksums: with rx_checksum_* a received mbuf's RTE_MBUF_F_RX_IP_CKSUM_* and _L4_CKSUM_*
 * tell, but "unknown" still means that the stack must look itself. With tx_checksum_* the stack may
 * ask by RTE_MBUF_F_TX_IP_CKSUM, _TCP_CKSUM. */
struct port_facts {
    uint8_t mac[6];
    uint16_t mtu; /* of IP, without the Ethernet header */
    uint16_t queue_count;
    bool rx_checksum_ipv4, rx_checksum_tcp;
    bool tx_checksum_ipv4, tx_checksum_tcp;
    bool tx_segments; /* false: chains are copied together by the port, so short frames are better
                         written whole */
    bool tso;         /* RTE_MBUF_F_TX_TCP_SEG */
    uint16_t tx_segment_max; /* mbufs of one frame; 0: no bound known */
    struct rss rss;          /* which queue a frame arrives at; each shard keeps a copy */
};

struct port {
    const struct port_ops *ops;
    struct port_facts facts;
};
