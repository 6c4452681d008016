#include "proto/sasl/made_up.h"
#include "engine/core/check.h"
#include <assert.h>
#include <stdio.h>

static_assert(SASL_MADE_UP_BYTES == KEYED_HASH_BYTES, "what is made up is a hash");

void sasl_make_up(EVP_MAC_CTX *hash, const char *purpose, size_t key_bytes, struct slice name,
                  uint8_t made[SASL_MADE_UP_BYTES])
{
    uint8_t text[64 + SASL_MADE_UP_NAME_MAX];
    size_t used = (size_t)snprintf((char *)text, 64, "%s %zu ", purpose, key_bytes);
    check(used < 64 && name.size <= SASL_MADE_UP_NAME_MAX);
    for (size_t i = 0; i < name.size; i++) {
        text[used++] = slice_lower(name.bytes[i]);
    }
    keyed_hash_make(hash, slice_of(text, used), made);
}
