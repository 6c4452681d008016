/*
 * result_cache: what became of a name and a password, for a while.
 *
 * Called by directory.h only, under its lock. Keyed by HMAC of names and password with a secret of this start, so that
 * neither is kept. Bounded: in a set that is full the one that ends first goes. No clock: times are handed in.
 */
#pragma once
#include "engine/auth/backend.h"
#include "proto/sasl/keyed_hash.h"

#define RESULT_SETS 512u
#define RESULT_WAYS 4u

struct result_key { /* borrowed */
    bool master;    /* the password is that of a master, who may be called as the user is */
    struct slice user, owner, password;
    uint64_t generation; /* of the backends: another one is another key */
};
struct result {
    bool right;
    struct auth_user user; /* its stored is empty */
};
struct result_entry {
    uint8_t key[32];
    uint64_t expires_ns; /* 0: free */
    struct result result;
};
struct result_cache {
    EVP_MAC_CTX *hash; /* of its keys */
    struct result_entry
        *entries; /* RESULT_SETS * RESULT_WAYS, taken with the first that is kept; owned */
};

/* 0 or -ENOMEM. */
int result_cache_open(struct result_cache *cache, const uint8_t secret[32]);
void result_cache_close(struct result_cache *cache);
bool result_cache_find(const struct result_cache *cache, const struct result_key *key,
                       uint64_t now_ns, struct result *result);
/* Without memory nothing is kept. */
void result_cache_keep(struct result_cache *cache, const struct result_key *key,
                       uint64_t expires_ns, const struct result *result);
