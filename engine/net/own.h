/*
 * own: the IP addresses that are ours, each with the state of its duplicate address detection.
 *
 * A sender has hundreds of them, so the question that every packet asks, "is this ours", is a
 * lookup in a hash table. Filled when the stack is opened; only states change after that.
 *
 *              nobody answers for a second
 *   TENTATIVE ────────────────────────────► PREFERRED      IPv4 addresses and those of a stack
 *       │       somebody has it                            that need not ask begin as PREFERRED
 *       └──────────────────────────► DUPLICATE, for ever
 *
 * Source: RFC 4862 §2 (names), §5.4.
 */
#pragma once
#include "engine/net/address.h"

#define OWN_MAX 1025u /* STACK_ADDRESSES_MAX, and a link-local one */
#define OWN_SLOTS 4096u
#define OWN_NONE UINT32_MAX

enum own_state { OWN_TENTATIVE, OWN_PREFERRED, OWN_DUPLICATE };

struct own_address {
    struct ip_address address;
    uint64_t asked_ns; /* whether anybody has it */
    uint8_t length;    /* of its network's prefix, in 128 bits */
    uint8_t state;     /* enum own_state */
};

struct own {
    struct own_address list[OWN_MAX];
    uint32_t count;
    uint32_t tentative_count;
    uint16_t slots[OWN_SLOTS]; /* 0: empty; else one more than the index */
};

/* 0, -EEXIST: it is there already, -ENOSPC. */
int own_add(struct own *own, const struct ip_address *address, uint8_t length,
            enum own_state state);
uint32_t own_find(const struct own *own, const struct ip_address *address); /* index, OWN_NONE */
/* The same, but one that another host has is not ours. */
uint32_t own_find_claimed(const struct own *own, const struct ip_address *address);
void own_set_state(struct own *own, uint32_t index, enum own_state state);
/* Ours, and known to be nobody else's. */
bool own_has(const struct own *own, const struct ip_address *address);
