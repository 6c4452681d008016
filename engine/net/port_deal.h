/*
 * port_deal: shares a port with too few queues, or with a hash nobody can predict, among all
 * shards.
 *
 * Shards that own a queue of the device read it and deal frames by our own Toeplitz hash (rss_init)
 * to the rings of the others; shards without one send through the ring of one that has. So every
 * shard sees a port with a queue of its own whose hash is known, at the price of one ring for a
 * frame that came in at the wrong door. ARP answers and IPv6 neighbour advertisements are copied to
 * all, since each shard resolves for itself; other frames without a hash go to shard 0.
 *
 * Queue i of this port is shard i's; each is used by its own thread only. Before the first is used
 * all must be set up, and close must come after the last thread has stopped.
 */
#pragma once
#include "engine/net/port.h"

#define PORT_DEAL_SHARDS_MAX 64

/* Does a port need this between it and so many shards? A hash that is only claimed is trusted: a frame that then lands
 * elsewhere is handed over by the stacks, one by one. */
static inline bool port_deal_wanted(const struct port *port, uint16_t shard_count)
{
    return port->facts.queue_count < shard_count ||
           (shard_count > 1 && port->facts.rss.mode == RSS_UNKNOWN);
}

/* Takes `inner` over, whose queue pairs 0..n-1 are used by shards 0..n-1; it is closed with this
 * port. shard_count > 0. 0 or -ENOMEM, -EINVAL (too many shards); then inner is still the caller's.
 */
int port_deal_open(struct port **port, struct port *inner, uint16_t shard_count);
/* In the place of *port, which is closed when this fails; then *port is NULL. */
int port_deal_among(struct port **port, uint16_t shard_count);

/* A frame that every shard gets: copied to those whose door it did not come in by. */
bool port_deal_is_for_all(const uint8_t *frame, uint32_t bytes);

struct port_deal_counters { /* of one shard, written by it alone */
    uint64_t kept;          /* frames that came in at the right door */
    uint64_t dealt;         /* handed to another shard */
    uint64_t dealt_lost;    /* its ring was full */
    uint64_t sent_through;  /* sent by way of another shard */
    uint64_t sent_copied;   /* of them: copied, since they refer to memory of this shard */
    uint64_t sent_lost;     /* taken from another shard, but the device's ring stayed full */
};
void port_deal_counters(const struct port *port, uint16_t shard,
                        struct port_deal_counters *counters);
