/*
 * siblings: the stacks of a shard's other ports: what arrives here and is theirs.
 *
 * One thread, so a frame is simply read by the other stack; what it answers leaves by its own port
 * when it is flushed. Who is whose is decided by networks. Only engine/net includes this.
 * Source: RFC 1122 §3.3.4.2.
 */
#pragma once
#include "engine/net/address.h"
#include <rte_mbuf.h>

struct network;
struct stack;

struct siblings {
    struct network *const *stacks; /* ours among them; borrowed */
    unsigned count;                /* 0: there are none */
    bool reading;                  /* what is read now came by another port's link */
};

/* An IP frame to this port's MAC. True: it is given to the stack that has its target's address.
 * Link-local addresses, and what Neighbor Discovery says, are a link's own. */
bool siblings_took(struct stack *stack, struct rte_mbuf *frame);
/* One of their addresses, which nobody else may send from. */
bool siblings_have(const struct stack *stack, const struct ip_address *address);
