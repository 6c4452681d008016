/*
 * address_set: which of many addresses were seen already, however many there are.
 *
 * The addresses stay with the caller, who gives each a number and gets the numbers of those that may be the same: by a
 * keyed hash, so that nobody can choose addresses that are all alike to it. Capitals and small letters are one.
 */
#pragma once
#include "engine/core/slice.h"
#include "engine/net/siphash.h"

struct address_place {
    uint32_t hash;
    uint32_t number; /* one more than it is; 0: free */
};

struct address_set { /* zeroed before its first use */
    struct address_place *places;
    uint32_t place_count; /* a power of two, at least twice `count` */
    uint32_t count;
    uint64_t candidate_count; /* that walks have given since it was made: what it costs */
};

/* 0 or -ENOMEM, which changes nothing. The secret is the same for all calls. */
int address_set_add(struct address_set *set, const struct siphash_key *secret, struct slice address,
                    uint32_t number);
/* Nothing was seen. The memory stays, unless it is much. */
void address_set_clear(struct address_set *set);
void address_set_free(struct address_set *set);

/* Those that may be the same: the caller compares. No add in the middle. */
struct address_walk {
    uint32_t hash, at;
};
struct address_walk address_set_find(const struct siphash_key *secret, struct slice address);
bool address_set_next(struct address_set *set, struct address_walk *walk, uint32_t *number);
