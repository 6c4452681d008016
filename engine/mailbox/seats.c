#include "engine/mailbox/seats.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

#define SLOTS_FIRST 64u
#define PREFIX_BYTES 8u /* of IPv6: a host has the whole /64 to itself */

/* A seat's key as it is compared. */
struct packed {
    uint8_t head[18]; /* protocol, family, address */
    char user[USER_NAME_BYTES];
};

static struct packed packed_of(const struct seat_key *key)
{
    struct packed packed = {{key->protocol}, ""};
    if (key->address != NULL) {
        bool six = key->address->family == ENDPOINT_IPV6;
        packed.head[1] = key->address->family;
        memcpy(packed.head + 2, key->address->address,
               !six                ? 4
               : key->user != NULL ? 16
                                   : PREFIX_BYTES);
    }
    if (key->user != NULL) {
        check(strlen(key->user) < sizeof packed.user);
        strcpy(packed.user, key->user);
    }
    return packed;
}

static size_t slot_of(const struct seats *seats, const struct packed *packed)
{
    uint64_t words[(sizeof *packed + 7) / 8] = {0};
    memcpy(words, packed, sizeof *packed);
    return siphash(&seats->key, words, sizeof words / sizeof words[0]) & (seats->slot_count - 1);
}

static struct packed packed_again(const struct seat *seat)
{
    struct packed packed = {{seat->protocol, seat->family}, ""};
    memcpy(packed.head + 2, seat->address, sizeof seat->address);
    strcpy(packed.user, seat->user);
    return packed;
}

/* Without memory the chains grow instead. */
static void grow(struct seats *seats)
{
    struct seats larger = {.key = seats->key,
                           .slot_count =
                               seats->slot_count == 0 ? SLOTS_FIRST : seats->slot_count * 2};
    larger.slots = (struct seat **)calloc(larger.slot_count, sizeof(larger.slots[0]));
    if (larger.slots == NULL) {
        return;
    }
    for (size_t i = 0; i < seats->slot_count; i++) {
        for (struct seat *seat = seats->slots[i], *next; seat != NULL; seat = next) {
            struct packed packed = packed_again(seat);
            struct seat **first = &larger.slots[slot_of(&larger, &packed)];
            next = seat->next;
            seat->next = *first;
            *first = seat;
        }
    }
    free(seats->slots);
    seats->slots = larger.slots;
    seats->slot_count = larger.slot_count;
}

static struct seat *find(const struct seats *seats, const struct packed *packed)
{
    struct seat *seat = seats->slots[slot_of(seats, packed)];
    while (seat != NULL) {
        struct packed other = packed_again(seat);
        if (memcmp(&other, packed, sizeof other) == 0) {
            return seat;
        }
        seat = seat->next;
    }
    return NULL;
}

static struct seat *make(struct seats *seats, const struct packed *packed)
{
    size_t size = strlen(packed->user) + 1;
    struct seat *seat = (struct seat *)malloc(sizeof *seat + size);
    if (seat != NULL) {
        struct seat **first = &seats->slots[slot_of(seats, packed)];
        *seat =
            (struct seat){.next = *first, .protocol = packed->head[0], .family = packed->head[1]};
        memcpy(seat->address, packed->head + 2, sizeof seat->address);
        memcpy(seat->user, packed->user, size);
        *first = seat;
        seats->seat_count++;
    }
    return seat;
}

int seats_take(struct seats *seats, const struct seat_key *key, uint32_t limit, struct seat **taken)
{
    *taken = NULL;
    if (key->address != NULL && key->address->family != ENDPOINT_IPV4 &&
        key->address->family != ENDPOINT_IPV6) {
        return 0;
    }
    if (seats->seat_count >= seats->slot_count) {
        grow(seats);
    }
    if (seats->slot_count == 0) {
        return -ENOMEM;
    }
    struct packed packed = packed_of(key);
    struct seat *seat = find(seats, &packed);
    if (seat != NULL && limit != 0 && seat->count >= limit) {
        return -EUSERS;
    }
    seat = seat != NULL ? seat : make(seats, &packed);
    if (seat == NULL) {
        return -ENOMEM;
    }
    seat->count++;
    *taken = seat;
    return 0;
}

void seats_leave(struct seats *seats, struct seat **taken)
{
    struct seat *seat = *taken;
    *taken = NULL;
    if (seat == NULL || --seat->count > 0) {
        return;
    }
    struct packed packed = packed_again(seat);
    struct seat **link = &seats->slots[slot_of(seats, &packed)];
    while (*link != seat) {
        link = &(*link)->next;
    }
    *link = seat->next;
    seats->seat_count--;
    free(seat);
}

void seats_close(struct seats *seats)
{
    check(seats->seat_count == 0);
    free(seats->slots);
    seats->slots = NULL;
    seats->slot_count = 0;
}
