/*
 * made_up: octets that depend on a name, always the same, and that nobody can tell who does not know the secret.
 *
 * A user who is nobody seems to have what is made here (server.h), and who has a password but no salt gets his from here
 * (engine/auth/directory.h): so the salt of a name does not tell which of them it is. Pure.
 */
#pragma once
#include "engine/core/slice.h"

#define SASL_MADE_UP_BYTES 32u
#define SASL_MADE_UP_NAME_MAX 320u

/* key_bytes: of the mechanism's hash. "Tim" is who "tim" is. name: at most SASL_MADE_UP_NAME_MAX. */
void sasl_make_up(const uint8_t secret[32], const char *purpose, size_t key_bytes,
                  struct slice name, uint8_t made[SASL_MADE_UP_BYTES]);
