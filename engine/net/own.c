#include "engine/net/own.h"
#include <assert.h>
#include <errno.h>

static_assert(OWN_SLOTS >= 2 * OWN_MAX && (OWN_SLOTS & (OWN_SLOTS - 1)) == 0,
              "there is always an empty slot");

/* Which addresses are in the table is the operator's choice, so nobody can make its runs long. */
static uint32_t slot_of(const struct ip_address *address)
{
    uint64_t mixed =
        ((uint64_t)address->words[0] << 32 | address->words[1]) * 0x9e3779b97f4a7c15ull;
    mixed ^= (uint64_t)address->words[2] << 32 | address->words[3];
    mixed *= 0x9e3779b97f4a7c15ull;
    return (uint32_t)(mixed >> 52);
}
static_assert(OWN_SLOTS == 1u << 12, "slot_of takes the 12 highest bits");

uint32_t own_find(const struct own *own, const struct ip_address *address)
{
    for (uint32_t at = slot_of(address); own->slots[at] != 0; at = (at + 1) % OWN_SLOTS) {
        uint32_t index = own->slots[at] - 1u;
        if (ip_address_equal(&own->list[index].address, address)) {
            return index;
        }
    }
    return OWN_NONE;
}

uint32_t own_find_claimed(const struct own *own, const struct ip_address *address)
{
    uint32_t index = own_find(own, address);
    return index != OWN_NONE && own->list[index].state == OWN_DUPLICATE ? OWN_NONE : index;
}

int own_add(struct own *own, const struct ip_address *address, uint8_t length, enum own_state state)
{
    if (own_find(own, address) != OWN_NONE) {
        return -EEXIST;
    }
    if (own->count == OWN_MAX) {
        return -ENOSPC;
    }
    uint32_t at = slot_of(address);
    while (own->slots[at] != 0) {
        at = (at + 1) % OWN_SLOTS;
    }
    own->list[own->count] =
        (struct own_address){.address = *address, .length = length, .state = (uint8_t)state};
    own->count++;
    own->slots[at] = (uint16_t)own->count;
    own->tentative_count += state == OWN_TENTATIVE;
    return 0;
}

void own_set_state(struct own *own, uint32_t index, enum own_state state)
{
    own->tentative_count -= own->list[index].state == OWN_TENTATIVE;
    own->tentative_count += state == OWN_TENTATIVE;
    own->list[index].state = (uint8_t)state;
}

bool own_has(const struct own *own, const struct ip_address *address)
{
    uint32_t index = own_find(own, address);
    return index != OWN_NONE && own->list[index].state == OWN_PREFERRED;
}
