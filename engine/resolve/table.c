#include "engine/resolve/table.h"

#include "engine/core/check.h"
#include <errno.h>

static uint64_t key_hash(const struct table *table, const struct table_key *key)
{
    uint64_t words[2 + (DNS_NAME_MAX + 7) / 8] = {0};
    size_t size = strlen(key->name);
    check(size <= DNS_NAME_MAX);
    words[0] = key->kind;
    memcpy(words + 1, key->name, size);
    return siphash(&table->secret, words, 1 + (size + 7) / 8);
}

int table_open(struct table *table, const struct siphash_key *secret, size_t expected)
{
    size_t buckets = 16;
    while (buckets < expected) {
        buckets *= 2;
    }
    *table = (struct table){.secret = *secret, .mask = buckets - 1};
    table->buckets = calloc(buckets, sizeof(*table->buckets));
    return table->buckets != NULL ? 0 : -ENOMEM;
}

void table_close(struct table *table)
{
    free(table->buckets);
    table->buckets = NULL;
}

struct table_node *table_find(const struct table *table, const struct table_key *key)
{
    uint64_t hash = key_hash(table, key);
    struct table_node *node = table->buckets[hash & table->mask];
    while (node != NULL && (node->hash != hash || node->key.kind != key->kind ||
                            strcmp(node->key.name, key->name) != 0)) {
        node = node->next;
    }
    return node;
}

void table_add(struct table *table, struct table_node *node, const struct table_key *key)
{
    node->key = *key;
    node->hash = key_hash(table, key);
    struct table_node **bucket = &table->buckets[node->hash & table->mask];
    node->next = *bucket;
    *bucket = node;
    table->count++;
}

void table_remove(struct table *table, struct table_node *node)
{
    struct table_node **place = &table->buckets[node->hash & table->mask];
    while (*place != node) {
        check(*place != NULL);
        place = &(*place)->next;
    }
    *place = node->next;
    table->count--;
}
