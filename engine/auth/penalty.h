/*
 * penalty: how long who fails to log in must wait, and who is not heard at all for a while.
 *
 * Failures are counted by address and by user, who is the same whatever domain stands behind his name: a backend may cut it
 * off, and alice@1, alice@2 would be as many users to begin anew with. The answer to a failure waits 2, 4, 8, then 15 seconds by the greater
 * count. The same wrong password for the same user again is a program with an old password, and counts once. An address
 * with too many failures is blocked for a time: its passwords are not even looked at. A user never is, or anybody could
 * lock him out.
 *
 * Called by directory.h only, under its lock. The table is bounded: in a set that is full the oldest goes. Addresses of
 * IPv6 are counted by /64, which is what a site has. No clock, no randomness: all handed in.
 */
#pragma once
#include "proto/sasl/keyed_hash.h"

#define PENALTY_SETS 1024u
#define PENALTY_WAYS 8u

struct penalty_address {
    bool ipv6;
    uint8_t octets[16]; /* of IPv4 the first four */
};

struct penalty_count {
    uint8_t key[16];           /* keyed hash of address or user */
    uint8_t last_tries[4][16]; /* keyed hashes of user and password; only of addresses */
    uint64_t failed_ns;        /* the last time; 0: the place is free */
    uint64_t blocked_until_ns;
    uint32_t count;
    uint8_t last_index;
};

struct penalty_settings { /* zeroes are replaced */
    uint64_t forget_ns;   /* without failure for so long: 1 h */
    uint32_t block_after; /* failures of an address: 20; UINT32_MAX: never */
    uint64_t block_ns;    /* 10 min */
};

struct penalty {
    struct penalty_settings settings;
    EVP_MAC_CTX *hash; /* of its keys */
    struct penalty_count counts[PENALTY_SETS][PENALTY_WAYS];
};

/* The table is large: not on a stack. secret: random octets. 0 or -ENOMEM. */
int penalty_open(struct penalty *penalty, const struct penalty_settings *settings,
                 const uint8_t secret[32]);
void penalty_close(struct penalty *penalty); /* harmless where it is zero */
bool penalty_blocked(const struct penalty *penalty, const struct penalty_address *address,
                     uint64_t now_ns);
/* Returns how long the answer is to wait. password: empty where it is not known (SCRAM). now_ns > 0. */
uint64_t penalty_failed(struct penalty *penalty, const struct penalty_address *address,
                        struct slice user, struct slice password, uint64_t now_ns);
/* The user has come in: his failures are forgotten, those of the address are not, since one good account must not buy
 * tries at others. */
void penalty_succeeded(struct penalty *penalty, struct slice user);
