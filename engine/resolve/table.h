/*
 * table: finds things by a domain name and what is asked of it; the things hold their own nodes.
 *
 * Under the cache, the questions in flight and the resolutions under way. Keyed with a secret: names come from
 * outside and must not be able to choose their bucket. The number of buckets is given once, by the bound of what is
 * filed.
 */
#pragma once
#include "engine/net/siphash.h"
#include "proto/dns/name.h"

struct table_key {
    const char *name; /* at most DNS_NAME_MAX; as long as what it names */
    uint32_t kind;    /* any number that tells apart what is asked of one name */
};

struct table_node {
    struct table_node *next;
    uint64_t hash;
    struct table_key key;
};

struct table {
    struct siphash_key secret;
    struct table_node **buckets;
    uint64_t mask;
    size_t count;
};

/* expected: how many it will hold at most. 0 or -ENOMEM. */
int table_open(struct table *table, const struct siphash_key *secret, size_t expected);
void table_close(struct table *table); /* what is in it is its owner's */

/* NULL: not there. */
struct table_node *table_find(const struct table *table, const struct table_key *key);
/* The key must not be there yet; its name stays where it is until table_remove. */
void table_add(struct table *table, struct table_node *node, const struct table_key *key);
void table_remove(struct table *table, struct table_node *node);
