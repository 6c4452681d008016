#include "engine/relay/address_set.h"
#include "engine/lookup/map.h"
#include <errno.h>
#include <stdlib.h>

#define PLACES_FIRST 16u
#define PLACES_KEPT_MAX 1024u

static uint32_t hash_of(const struct siphash_key *secret, struct slice address)
{
    uint64_t words[1 + MAP_KEY_MAX / 8] = {address.size};
    uint8_t *bytes = (uint8_t *)&words[1];
    address = slice_first(address, MAP_KEY_MAX); /* longer ones are told apart by who compares */
    for (size_t i = 0; i < address.size; i++) {
        bytes[i] = slice_lower(address.bytes[i]);
    }
    return (uint32_t)siphash(secret, words, 1 + (address.size + 7) / 8);
}

static void place(struct address_place *places, uint32_t place_count, struct address_place entry)
{
    uint32_t at = entry.hash & (place_count - 1);
    while (places[at].number != 0) {
        at = (at + 1) & (place_count - 1);
    }
    places[at] = entry;
}

static int grow(struct address_set *set)
{
    uint32_t place_count = set->place_count == 0 ? PLACES_FIRST : 2 * set->place_count;
    struct address_place *grown = calloc(place_count, sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < set->place_count; i++) {
        if (set->places[i].number != 0) {
            place(grown, place_count, set->places[i]);
        }
    }
    free(set->places);
    set->places = grown;
    set->place_count = place_count;
    return 0;
}

int address_set_add(struct address_set *set, const struct siphash_key *secret, struct slice address,
                    uint32_t number)
{
    if (2 * (set->count + 1) > set->place_count && grow(set) < 0) {
        return -ENOMEM;
    }
    place(set->places, set->place_count,
          (struct address_place){.hash = hash_of(secret, address), .number = number + 1});
    set->count++;
    return 0;
}

void address_set_clear(struct address_set *set)
{
    set->count = 0;
    if (set->place_count > PLACES_KEPT_MAX) {
        address_set_free(set);
    } else if (set->place_count > 0) {
        memset(set->places, 0, set->place_count * sizeof(*set->places));
    }
}

void address_set_free(struct address_set *set)
{
    free(set->places);
    set->places = NULL;
    set->place_count = set->count = 0;
}

struct address_walk address_set_find(const struct siphash_key *secret, struct slice address)
{
    uint32_t hash = hash_of(secret, address);
    return (struct address_walk){.hash = hash, .at = hash};
}

bool address_set_next(struct address_set *set, struct address_walk *walk, uint32_t *number)
{
    while (set->place_count > 0) {
        const struct address_place *at = &set->places[walk->at++ & (set->place_count - 1)];
        if (at->number == 0) {
            return false;
        }
        if (at->hash == walk->hash) {
            set->candidate_count++;
            *number = at->number - 1;
            return true;
        }
    }
    return false;
}
