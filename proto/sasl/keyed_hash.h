/*
 * keyed_hash: HMAC-SHA-256 with a secret that stays, for what is made up of a name (made_up.h) and for tables whose keys nobody
 * shall choose or read (engine/auth).
 *
 * The key is taken in once: OpenSSL takes 22,000 instructions to begin from nothing, 3,000 to go on from there. One thread at
 * a time, so each user has it under its own lock.
 */
#pragma once
#include "engine/core/slice.h"
#include <openssl/evp.h>

#define KEYED_HASH_BYTES 32u

/* Owned, until keyed_hash_close. NULL: no memory. */
EVP_MAC_CTX *keyed_hash_open(const uint8_t secret[KEYED_HASH_BYTES]);
void keyed_hash_close(EVP_MAC_CTX *hash); /* NULL is fine */
void keyed_hash_make(EVP_MAC_CTX *hash, struct slice text, uint8_t digest[KEYED_HASH_BYTES]);
