/*
 * siphash: SipHash-1-3 over a few 64-bit words, keyed with a per-start secret.
 *
 * For what peers must not be able to foresee: places in hash tables, initial sequence numbers, SYN
 * cookies, source ports. Equal to the published function over the words' little-endian bytes.
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t words[2];
};

static inline uint64_t siphash_turn(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void siphash_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = siphash_turn(v[1], 13) ^ v[0];
    v[3] = siphash_turn(v[3], 16) ^ v[2];
    v[0] = siphash_turn(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = siphash_turn(v[1], 17) ^ v[2];
    v[3] = siphash_turn(v[3], 21) ^ v[0];
    v[2] = siphash_turn(v[2], 32);
}

static inline uint64_t siphash(const struct siphash_key *key, const uint64_t *words, size_t count)
{
    uint64_t v[4] = {key->words[0] ^ 0x736f6d6570736575ull, key->words[1] ^ 0x646f72616e646f6dull,
                     key->words[0] ^ 0x6c7967656e657261ull, key->words[1] ^ 0x7465646279746573ull};
    for (size_t i = 0; i < count; i++) {
        v[3] ^= words[i];
        siphash_round(v);
        v[0] ^= words[i];
    }
    uint64_t last = (uint64_t)(count * 8) << 56;
    v[3] ^= last;
    siphash_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    siphash_round(v);
    siphash_round(v);
    siphash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
