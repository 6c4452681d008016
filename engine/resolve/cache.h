/*
 * cache: what a shard knows of the DNS, until it is too old or there is no room.
 *
 * Values are counted memory (answers, destinations); the cache holds one count of each. Bounded in bytes: the least
 * recently used goes first, whatever its age, and who still holds a count keeps it.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/ref.h"
#include "engine/resolve/table.h"

struct cache {
    struct table entries;
    struct list_node used; /* the least recently used first */
    uint64_t bytes, bytes_max;
    uint64_t evicted; /* for want of room */
};

/* 0 or -ENOMEM. */
int cache_open(struct cache *cache, const struct siphash_key *secret, uint64_t bytes_max);
void cache_close(struct cache *cache);

/* Borrowed until the next call: take a count to keep it. NULL: not there, or too old. */
struct ref *cache_find(struct cache *cache, const struct table_key *key, uint64_t now_ns);
/* Takes a count of `value`, which takes `bytes` itself, and replaces what was there. Without memory, or when it
 * would take more than a quarter of the room, it is not kept: a cache may forget. */
void cache_put(struct cache *cache, const struct table_key *key, struct ref *value, uint64_t bytes,
               uint64_t expires_ns);
void cache_forget(struct cache *cache);
/* Forgets all, and has this much room from now on. */
void cache_resize(struct cache *cache, uint64_t bytes_max);
