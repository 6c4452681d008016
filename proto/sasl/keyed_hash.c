#include "proto/sasl/keyed_hash.h"
#include "engine/core/check.h"
#include <openssl/core_names.h>

EVP_MAC_CTX *keyed_hash_open(const uint8_t secret[KEYED_HASH_BYTES])
{
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end()};
    EVP_MAC *kind = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *hash = kind == NULL ? NULL : EVP_MAC_CTX_new(kind);
    EVP_MAC_free(kind);
    if (hash != NULL && EVP_MAC_init(hash, secret, KEYED_HASH_BYTES, parameters) != 1) {
        keyed_hash_close(hash);
        return NULL;
    }
    return hash;
}

void keyed_hash_close(EVP_MAC_CTX *hash)
{
    EVP_MAC_CTX_free(hash);
}

void keyed_hash_make(EVP_MAC_CTX *hash, struct slice text, uint8_t digest[KEYED_HASH_BYTES])
{
    size_t size;
    check(EVP_MAC_init(hash, NULL, 0, NULL) == 1 &&
          EVP_MAC_update(hash, text.bytes, text.size) == 1 &&
          EVP_MAC_final(hash, digest, &size, KEYED_HASH_BYTES) == 1 && size == KEYED_HASH_BYTES);
}
