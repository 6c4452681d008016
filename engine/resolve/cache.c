#include "engine/resolve/cache.h"

#define ENTRY_BYTES_TYPICAL 512 /* how many entries there may be: sizes the table */

struct entry {
    struct table_node node;
    struct list_node used;
    struct ref *value;
    uint64_t expires_ns;
    uint64_t bytes;
    char name[]; /* what node.key.name points to */
};

int cache_open(struct cache *cache, const struct siphash_key *secret, uint64_t bytes_max)
{
    *cache = (struct cache){.bytes_max = bytes_max};
    list_init(&cache->used);
    return table_open(&cache->entries, secret, bytes_max / ENTRY_BYTES_TYPICAL);
}

static void entry_drop(struct cache *cache, struct entry *entry)
{
    table_remove(&cache->entries, &entry->node);
    list_remove(&entry->used);
    cache->bytes -= entry->bytes;
    ref_drop(entry->value);
    free(entry);
}

void cache_forget(struct cache *cache)
{
    while (!list_empty(&cache->used)) {
        entry_drop(cache, list_entry(cache->used.next, struct entry, used));
    }
}

void cache_resize(struct cache *cache, uint64_t bytes_max)
{
    struct table entries;
    cache_forget(cache);
    cache->bytes_max = bytes_max;
    if (table_open(&entries, &cache->entries.secret, bytes_max / ENTRY_BYTES_TYPICAL) == 0) {
        table_close(&cache->entries);
        cache->entries = entries;
    } /* else the chains are longer, that is all */
}

void cache_close(struct cache *cache)
{
    cache_forget(cache);
    table_close(&cache->entries);
}

static struct entry *entry_find(struct cache *cache, const struct table_key *key)
{
    struct table_node *node = table_find(&cache->entries, key);
    return node != NULL ? list_entry(node, struct entry, node) : NULL;
}

struct ref *cache_find(struct cache *cache, const struct table_key *key, uint64_t now_ns)
{
    struct entry *entry = entry_find(cache, key);
    if (entry == NULL) {
        return NULL;
    }
    if (now_ns >= entry->expires_ns) {
        entry_drop(cache, entry);
        return NULL;
    }
    list_remove(&entry->used);
    list_append(&cache->used, &entry->used);
    return entry->value;
}

void cache_put(struct cache *cache, const struct table_key *key, struct ref *value, uint64_t bytes,
               uint64_t expires_ns)
{
    size_t name_bytes = strlen(key->name) + 1;
    struct entry *entry = entry_find(cache, key);
    if (entry != NULL) {
        entry_drop(cache, entry);
    }
    bytes += sizeof(*entry) + name_bytes;
    if (bytes > cache->bytes_max / 4 || (entry = malloc(sizeof(*entry) + name_bytes)) == NULL) {
        return;
    }
    while (cache->bytes + bytes > cache->bytes_max) {
        entry_drop(cache, list_entry(cache->used.next, struct entry, used));
        cache->evicted++;
    }
    memcpy(entry->name, key->name, name_bytes);
    entry->value = ref_take(value);
    entry->expires_ns = expires_ns;
    entry->bytes = bytes;
    cache->bytes += bytes;
    list_append(&cache->used, &entry->used);
    const struct table_key own = {.name = entry->name, .kind = key->kind};
    table_add(&cache->entries, &entry->node, &own);
}
