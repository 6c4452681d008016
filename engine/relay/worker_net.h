/*
 * worker_net: what the stacks of several shards have to tell each other: frames that came to the wrong one, and
 * neighbours that one of them has learned.
 *
 * A frame without a connection goes from shard to shard until one takes it; when it is back at the first, it is
 * refused there (RST). Rare: only where a port's hash is not what the start-up test made of it.
 */
#pragma once
#include "engine/core/endpoint.h"
#include <rte_mbuf.h>

struct worker;

/* The owner of a stack: on every shard the one of the same port. */
struct worker_port {
    struct worker *worker;
    unsigned index; /* of the port */
};

/* For struct stack_settings; owner is a struct worker_port. */
int worker_net_hand_over(void *owner, struct rte_mbuf *frame);
int worker_net_ask_neighbour(void *owner, const struct endpoint *address);
void worker_net_share_neighbour(void *owner, const struct endpoint *address, const uint8_t mac[6]);
