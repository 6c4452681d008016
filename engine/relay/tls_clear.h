/*
 * tls_clear: the addresses with which a handshake has failed lately, of those that may be spoken to in
 * the clear. One a shard.
 *
 * Mail that is to be encrypted only where that works does not try again what has just failed; after
 * TLS_CLEAR_NS it does. Nobody else asks: a level that requires TLS never learns of this.
 *
 * Bounded: a few thousand addresses; the one that is forgotten soonest makes room. Known by a keyed
 * hash alone.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/net/siphash.h"

#define TLS_CLEAR_NS (600ull * 1000000000ull)
#define TLS_CLEAR_SETS 1024u
#define TLS_CLEAR_WAYS 4u

struct tls_clear_entry {
    uint64_t hash;
    uint64_t until_ns; /* 0: free */
};

struct tls_clear {
    struct siphash_key secret;
    struct tls_clear_entry entries[TLS_CLEAR_SETS][TLS_CLEAR_WAYS];
};

/* secret: random. NULL: memory is short. */
struct tls_clear *tls_clear_open(const struct siphash_key *secret);
void tls_clear_close(struct tls_clear *clear); /* NULL is fine */

void tls_clear_add(struct tls_clear *clear, const struct endpoint *to, uint64_t now_ns);
bool tls_clear_has(const struct tls_clear *clear, const struct endpoint *to, uint64_t now_ns);
