#include "engine/net/tcp_table.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

#define INDEX_BITS 30u
#define INDEX_MASK ((1u << INDEX_BITS) - 1)

int tcp_table_open(struct tcp_table *table, uint32_t max)
{
    uint32_t slots = 64;
    check(max < 1u << 28);
    while (slots < max * 2) {
        slots *= 2;
    }
    table->slots = calloc(slots, sizeof(table->slots[0]));
    table->mask = slots - 1;
    table->used = 0;
    return table->slots == NULL ? -ENOMEM : 0;
}

void tcp_table_close(struct tcp_table *table)
{
    free(table->slots);
    table->slots = NULL;
}

static uint64_t pair(uint32_t high, uint32_t low)
{
    return (uint64_t)high << 32 | low;
}

uint32_t tcp_table_hash(const struct tcp_table *table, const struct tcp_tuple *tuple)
{
    const uint32_t *local = tuple->local.words, *remote = tuple->remote.words;
    uint64_t ports = pair(tuple->local_port, tuple->remote_port);
    if (ip_address_is_ipv4(&tuple->remote)) {
        const uint64_t words[2] = {pair(local[3], remote[3]), ports};
        return (uint32_t)siphash(&table->key, words, 2);
    }
    const uint64_t words[5] = {pair(local[0], local[1]), pair(local[2], local[3]),
                               pair(remote[0], remote[1]), pair(remote[2], remote[3]), ports};
    return (uint32_t)siphash(&table->key, words, 5);
}

struct tcp_found tcp_table_find(const struct tcp_table *table, const struct tcp_tuple *tuple,
                                uint32_t hash)
{
    for (uint32_t at = hash & table->mask; table->slots[at].what != 0;
         at = (at + 1) & table->mask) {
        const struct tcp_slot *slot = &table->slots[at];
        if (slot->hash == hash) {
            enum tcp_kind kind = (enum tcp_kind)(slot->what >> INDEX_BITS);
            uint32_t index = slot->what & INDEX_MASK;
            if (tcp_tuple_equal(table->tuple_of(table->owner, kind, index), tuple)) {
                return (struct tcp_found){kind, index};
            }
        }
    }
    return (struct tcp_found){TCP_NOTHING, 0};
}

void tcp_table_add(struct tcp_table *table, uint32_t hash, enum tcp_kind kind, uint32_t index)
{
    uint32_t at = hash & table->mask;
    check(table->used <= table->mask / 2 && index <= INDEX_MASK);
    while (table->slots[at].what != 0) {
        at = (at + 1) & table->mask;
    }
    table->slots[at] = (struct tcp_slot){hash, (uint32_t)kind << INDEX_BITS | index};
    table->used++;
}

static uint32_t place_of(const struct tcp_table *table, uint32_t hash, uint32_t what)
{
    uint32_t at = hash & table->mask;
    while (table->slots[at].what != what) {
        check(table->slots[at].what != 0);
        at = (at + 1) & table->mask;
    }
    return at;
}

/* What follows in the same run is moved up, so that no run is broken and no grave is left. */
void tcp_table_remove(struct tcp_table *table, uint32_t hash, enum tcp_kind kind, uint32_t index)
{
    uint32_t hole = place_of(table, hash, (uint32_t)kind << INDEX_BITS | index);
    uint32_t at = (hole + 1) & table->mask;
    while (table->slots[at].what != 0) {
        uint32_t home = table->slots[at].hash & table->mask;
        if (((at - home) & table->mask) >= ((at - hole) & table->mask)) {
            table->slots[hole] = table->slots[at];
            hole = at;
        }
        at = (at + 1) & table->mask;
    }
    table->slots[hole] = (struct tcp_slot){0, 0};
    table->used--;
}

void tcp_table_replace(struct tcp_table *table, uint32_t hash, struct tcp_found from,
                       struct tcp_found to)
{
    uint32_t at = place_of(table, hash, (uint32_t)from.kind << INDEX_BITS | from.index);
    table->slots[at].what = (uint32_t)to.kind << INDEX_BITS | to.index;
}
