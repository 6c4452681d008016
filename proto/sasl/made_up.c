#include "proto/sasl/made_up.h"
#include "engine/core/check.h"
#include <openssl/hmac.h>
#include <stdio.h>

void sasl_make_up(const uint8_t secret[32], const char *purpose, size_t key_bytes,
                  struct slice name, uint8_t made[SASL_MADE_UP_BYTES])
{
    uint8_t text[64 + SASL_MADE_UP_NAME_MAX];
    unsigned size = SASL_MADE_UP_BYTES;
    size_t used = (size_t)snprintf((char *)text, 64, "%s %zu ", purpose, key_bytes);
    check(used < 64 && name.size <= SASL_MADE_UP_NAME_MAX);
    for (size_t i = 0; i < name.size; i++) {
        text[used++] = slice_lower(name.bytes[i]);
    }
    check(HMAC(EVP_sha256(), secret, 32, text, used, made, &size) != NULL);
}
