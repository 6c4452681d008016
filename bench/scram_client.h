/*
 * scram_client: SCRAM-SHA-256 as a client speaks it, without channel binding.
 *
 * For the generator, which asks as fast as it can: keys are kept while salt and count stay the same. Pure.
 *
 * Source: RFC 5802 §3 and §5, RFC 7677.
 */
#pragma once
#include "engine/core/slice.h"
#include <openssl/evp.h>

#define SCRAM_CLIENT_BYTES 512u /* of a message */
#define SCRAM_CLIENT_NONCE_BYTES 15u

struct scram_client_keys { /* zeroed at first */
    uint8_t salt[64];
    size_t salt_bytes;
    uint32_t iterations; /* 0: none are known */
    uint8_t client[32];
    EVP_MAC_CTX *stored, *server; /* HMACs that have these keys; owned */
};

struct scram_client {                /* of one exchange */
    char first[SCRAM_CLIENT_BYTES];  /* client-first-message */
    char server[SCRAM_CLIENT_BYTES]; /* server-first-message */
    uint8_t server_signature[32];
};

/* Returns the size of client-first-message, in `client->first`. user: without "," and "=". */
size_t scram_client_begin(struct scram_client *client, const char *user,
                          const uint8_t nonce[SCRAM_CLIENT_NONCE_BYTES]);
/* Writes client-final-message and returns its size; 0: what the server has said is not as it must be. */
size_t scram_client_answer(struct scram_client *client, struct scram_client_keys *keys,
                           const char *password, struct slice server_first,
                           char final[SCRAM_CLIENT_BYTES]);
void scram_client_keys_drop(struct scram_client_keys *keys);
/* Does the server know the password's keys, too? */
bool scram_client_proven(const struct scram_client *client, struct slice server_final);
