/*
 * mld: tells switches which groups we listen to, so that questions about our addresses reach us.
 *
 * Reports are MLDv2: one when an address is claimed, one when it is ours, and all of them when a
 * router or switch asks.
 * Source: RFC 3810; RFC 4862 §5.4.2.
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/net/ip.h"

struct mld {
    struct timer timer; /* armed: a query is being answered */
    uint32_t reported;  /* how many of our addresses, of this answer */
};

void mld_open(struct stack *stack);
void mld_close(struct stack *stack);
void mld_report(struct stack *stack, const struct ip_address *own);
/* As nd_input. */
void mld_query_arrives(struct stack *stack, const struct rte_mbuf *frame);
