#include "engine/relay/client_count.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

/* Open addressing with linear probing; a slot with count 0 is free. */
struct client_slot {
    uint64_t key[2]; /* address bits; the family in the unused low half */
    uint32_t count;
};

struct client_count {
    uint64_t seed;
    size_t slot_count; /* a power of two */
    size_t used_count;
    struct client_slot *slots;
};

#define CLIENT_SLOTS_FIRST 256

static bool client_key(const struct endpoint *client, uint64_t key[2])
{
    key[0] = 0;
    key[1] = client->family;
    switch (client->family) {
    case ENDPOINT_IPV4:
        memcpy(&key[0], client->address, 4);
        return true;
    case ENDPOINT_IPV6:
        memcpy(&key[0], client->address, 8);
        return true;
    default:
        return false;
    }
}

static size_t client_hash(const struct client_count *clients, const uint64_t key[2])
{
    /* Two rounds of multiply and fold (as wyhash does), with the seed in both operands. */
    __uint128_t product =
        (__uint128_t)(key[0] ^ clients->seed) * (key[1] ^ 0x9e3779b97f4a7c15ull ^ ~clients->seed);
    uint64_t folded = (uint64_t)product ^ (uint64_t)(product >> 64);
    product = (__uint128_t)folded * (clients->seed | 1);
    folded = (uint64_t)product ^ (uint64_t)(product >> 64);
    return folded & (clients->slot_count - 1);
}

/* The slot of the key, or the free one where it would stand. */
static struct client_slot *client_find(const struct client_count *clients, const uint64_t key[2])
{
    size_t index = client_hash(clients, key);
    for (;;) {
        struct client_slot *slot = &clients->slots[index];
        if (slot->count == 0 || (slot->key[0] == key[0] && slot->key[1] == key[1])) {
            return slot;
        }
        index = (index + 1) & (clients->slot_count - 1);
    }
}

static int client_grow(struct client_count *clients)
{
    struct client_count grown = {.seed = clients->seed, .slot_count = clients->slot_count * 2};
    grown.slots = calloc(grown.slot_count, sizeof(*grown.slots));
    if (grown.slots == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < clients->slot_count; i++) {
        if (clients->slots[i].count > 0) {
            *client_find(&grown, clients->slots[i].key) = clients->slots[i];
        }
    }
    free(clients->slots);
    clients->slots = grown.slots;
    clients->slot_count = grown.slot_count;
    return 0;
}

struct client_count *client_count_open(uint64_t seed)
{
    struct client_count *clients = calloc(1, sizeof(*clients));
    if (clients == NULL) {
        return NULL;
    }
    clients->seed = seed;
    clients->slot_count = CLIENT_SLOTS_FIRST;
    clients->slots = calloc(clients->slot_count, sizeof(*clients->slots));
    if (clients->slots == NULL) {
        free(clients);
        return NULL;
    }
    return clients;
}

void client_count_close(struct client_count *clients)
{
    free(clients->slots);
    free(clients);
}

int client_count_enter(struct client_count *clients, const struct endpoint *client, uint32_t limit)
{
    uint64_t key[2];
    if (!client_key(client, key)) {
        return 0;
    }
    struct client_slot *slot = client_find(clients, key);
    if (slot->count >= limit) {
        return -EUSERS;
    }
    if (slot->count == 0) {
        if (clients->used_count >= clients->slot_count / 2) {
            if (client_grow(clients) < 0) {
                return -ENOMEM;
            }
            slot = client_find(clients, key);
        }
        slot->key[0] = key[0];
        slot->key[1] = key[1];
        clients->used_count++;
    }
    slot->count++;
    return 0;
}

/* Closes the gap at `hole` so that probing never stops short of a key (Knuth 6.4, algorithm R). */
static void client_close_gap(struct client_count *clients, size_t hole)
{
    size_t mask = clients->slot_count - 1;
    size_t index = hole;
    for (;;) {
        index = (index + 1) & mask;
        struct client_slot *slot = &clients->slots[index];
        if (slot->count == 0) {
            return;
        }
        size_t home = client_hash(clients, slot->key);
        if (((index - home) & mask) >= ((index - hole) & mask)) {
            clients->slots[hole] = *slot;
            slot->count = 0;
            hole = index;
        }
    }
}

void client_count_leave(struct client_count *clients, const struct endpoint *client)
{
    uint64_t key[2];
    if (!client_key(client, key)) {
        return;
    }
    struct client_slot *slot = client_find(clients, key);
    check(slot->count > 0);
    if (--slot->count == 0) {
        clients->used_count--;
        client_close_gap(clients, (size_t)(slot - clients->slots));
    }
}
