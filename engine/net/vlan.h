/*
 * vlan: the 802.1Q tag of a port that takes part in one virtual network: put on what leaves, taken
 * off what arrives, so that nobody else in the stack knows of it.
 *
 * In software: a tag is four bytes, and the header that it goes into is in the cache.
 * Source: IEEE 802.1Q §9.
 */
#pragma once
#include <rte_mbuf.h>
#include <stdbool.h>

#define VLAN_MAX 4094u

struct stack;

/* The frame without its tag; given. NULL: of another network than ours, or no buffer; counted. */
struct rte_mbuf *vlan_take_off(struct stack *stack, struct rte_mbuf *frame);
/* False: it has no room; the frame stays the caller's. */
bool vlan_put_on(struct stack *stack, struct rte_mbuf *frame);
