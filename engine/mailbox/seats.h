/*
 * seats: how many sessions there are of each user, of each address, and of a user from an address.
 *
 * session.c takes a seat for each session where it is counted, and gives it back. Owns the seats; a name that nobody has a
 * seat for takes no memory. Keyed, so that nobody can choose names or addresses that lie in one place.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/net/siphash.h"
#include "queue/mailbox/user_name.h"

struct seat { /* read-only outside */
    struct seat *next;
    uint32_t count;
    uint8_t protocol, family;
    uint8_t address[16]; /* of IPv6 without a user: the /64 */
    char user[];
};

struct seats { /* zeroed: none; then `key` may be set */
    struct siphash_key key;
    struct seat **slots;
    size_t slot_count; /* a power of two, or 0 */
    size_t seat_count;
};

/* What is counted together. */
struct seat_key {
    uint8_t protocol;               /* 0: all of them */
    const struct endpoint *address; /* NULL: wherever they come from */
    const char *user;               /* NULL: whoever they are; below USER_NAME_BYTES */
};

/* One more: 0; -EUSERS: it has `limit` already (0: no limit); -ENOMEM. A unix socket is no address: *seat is NULL then,
 * unless the key is a user's alone. */
int seats_take(struct seats *seats, const struct seat_key *key, uint32_t limit, struct seat **seat);
void seats_leave(struct seats *seats,
                 struct seat **seat); /* harmless where it is NULL; it is NULL then */
void seats_close(struct seats *seats);
