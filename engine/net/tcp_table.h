/*
 * tcp_table: from addresses and ports to what we know of that connection: a struct tcp_conn, a
 * half-open entry or a TIME-WAIT entry.
 *
 * Open addressing with linear probes, 8 bytes a slot, sized once for all that may ever be in it, so
 * that nothing is moved under load; pages that were never needed are never touched. The hash is
 * keyed, so peers cannot make long runs.
 */
#pragma once
#include "engine/net/address.h"
#include "engine/net/siphash.h"

struct tcp_tuple { /* from our side, whichever way the segment goes */
    struct ip_address local, remote;
    uint16_t local_port, remote_port; /* host order */
};

static inline bool tcp_tuple_equal(const struct tcp_tuple *a, const struct tcp_tuple *b)
{
    return a->remote_port == b->remote_port && a->local_port == b->local_port &&
           ip_address_equal(&a->remote, &b->remote) && ip_address_equal(&a->local, &b->local);
}

enum tcp_kind { TCP_NOTHING, TCP_CONN, TCP_HALF_OPEN, TCP_TIME_WAITING };

struct tcp_slot {
    uint32_t hash;
    uint32_t what; /* 0: empty; else enum tcp_kind << 30 | index in its slab */
};

struct tcp_table {
    struct tcp_slot *slots;
    uint32_t mask;
    uint32_t used;
    struct siphash_key key;
    /* Where an entry keeps its tuple. */
    const struct tcp_tuple *(*tuple_of)(const void *owner, enum tcp_kind kind, uint32_t index);
    const void *owner;
};

struct tcp_found {
    enum tcp_kind kind;
    uint32_t index;
};

/* For `max` entries, < 2^28; key, tuple_of and owner are the caller's to set. 0 or -ENOMEM. */
int tcp_table_open(struct tcp_table *table, uint32_t max);
void tcp_table_close(struct tcp_table *table);

uint32_t tcp_table_hash(const struct tcp_table *table, const struct tcp_tuple *tuple);
struct tcp_found tcp_table_find(const struct tcp_table *table, const struct tcp_tuple *tuple,
                                uint32_t hash);
/* The tuple must not be in it yet. */
void tcp_table_add(struct tcp_table *table, uint32_t hash, enum tcp_kind kind, uint32_t index);
/* It must be there. */
void tcp_table_remove(struct tcp_table *table, uint32_t hash, enum tcp_kind kind, uint32_t index);
/* Puts another object in the place of one with the same tuple. */
void tcp_table_replace(struct tcp_table *table, uint32_t hash, struct tcp_found from,
                       struct tcp_found to);

static inline void tcp_table_prefetch(const struct tcp_table *table, uint32_t hash)
{
    __builtin_prefetch(&table->slots[hash & table->mask]);
}
