/*
 * made_up: octets that depend on a name, always the same, and that nobody can tell who does not know the secret.
 *
 * A user who is nobody seems to have what is made here (server.h), and who has a password but no salt gets his from here
 * (engine/auth/directory.h): so the salt of a name does not tell which of them it is. Keeps nothing but what the hash has.
 */
#pragma once
#include "proto/sasl/keyed_hash.h"

#define SASL_MADE_UP_BYTES 32u
#define SASL_MADE_UP_NAME_MAX 320u

/* hash: of the service's secret. key_bytes: of the mechanism's hash. "Tim" is who "tim" is. name: at most
 * SASL_MADE_UP_NAME_MAX. */
void sasl_make_up(EVP_MAC_CTX *hash, const char *purpose, size_t key_bytes, struct slice name,
                  uint8_t made[SASL_MADE_UP_BYTES]);
