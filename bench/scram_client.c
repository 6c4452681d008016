#include "bench/scram_client.h"
#include "engine/core/base64.h"
#include "engine/core/check.h"
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

#define BARE 3u /* "n,,", before client-first-message-bare */

static void hmac(const uint8_t key[32], struct slice text, uint8_t out[32])
{
    unsigned size = 32;
    check(HMAC(EVP_sha256(), key, 32, text.bytes, text.size, out, &size) != NULL);
}

/* One that has its key already: a fifth of what one from the start takes. */
static void keyed(EVP_MAC_CTX *mac, struct slice text, uint8_t out[32])
{
    size_t size;
    check(EVP_MAC_init(mac, NULL, 0, NULL) == 1 &&
          EVP_MAC_update(mac, text.bytes, text.size) == 1 &&
          EVP_MAC_final(mac, out, &size, 32) == 1 && size == 32);
}

static EVP_MAC_CTX *keyed_make(const uint8_t key[32])
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end()};
    EVP_MAC *kind = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *made = kind == NULL ? NULL : EVP_MAC_CTX_new(kind);
    check(made != NULL && EVP_MAC_init(made, key, 32, parameters) == 1);
    EVP_MAC_free(kind);
    return made;
}

void scram_client_keys_drop(struct scram_client_keys *keys)
{
    EVP_MAC_CTX_free(keys->stored);
    EVP_MAC_CTX_free(keys->server);
    keys->stored = keys->server = NULL;
}

size_t scram_client_begin(struct scram_client *client, const char *user,
                          const uint8_t nonce[SCRAM_CLIENT_NONCE_BYTES])
{
    char text[BASE64_BYTES(SCRAM_CLIENT_NONCE_BYTES) + 1];
    text[base64_encode(slice_of(nonce, SCRAM_CLIENT_NONCE_BYTES), text)] = '\0';
    int size = snprintf(client->first, sizeof(client->first), "n,,n=%s,r=%s", user, text);
    check(size > 0 && (size_t)size < sizeof(client->first));
    return (size_t)size;
}

/* "r=...,s=...,i=4096": the value of one letter, up to the next comma. */
static bool value_of(const char *text, char letter, struct slice *value)
{
    while (text[0] != '\0' && text[0] != letter) {
        text += strcspn(text, ",");
        text += text[0] == ',';
    }
    if (text[0] == '\0' || text[1] != '=') {
        return false;
    }
    *value = slice_of(text + 2, strcspn(text + 2, ","));
    return true;
}

/* False: salt or count cannot be. */
static bool keys_make(struct scram_client_keys *keys, const char *password, struct slice salt_text,
                      uint32_t iterations)
{
    uint8_t salt[SCRAM_CLIENT_BYTES], salted[32], stored[32], server[32];
    long salt_bytes = base64_decode(salt_text, salt);
    unsigned size = 32;
    if (salt_bytes <= 0 || (size_t)salt_bytes > sizeof(keys->salt) || iterations == 0 ||
        iterations > 10000000) {
        return false;
    }
    if (keys->iterations == iterations && keys->salt_bytes == (size_t)salt_bytes &&
        memcmp(keys->salt, salt, keys->salt_bytes) == 0) {
        return true;
    }
    check(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)salt_bytes, (int)iterations,
                            EVP_sha256(), 32, salted) == 1);
    hmac(salted, slice_text("Client Key"), keys->client);
    hmac(salted, slice_text("Server Key"), server);
    check(EVP_Digest(keys->client, 32, stored, &size, EVP_sha256(), NULL) == 1);
    scram_client_keys_drop(keys);
    keys->stored = keyed_make(stored);
    keys->server = keyed_make(server);
    memcpy(keys->salt, salt, (size_t)salt_bytes);
    keys->salt_bytes = (size_t)salt_bytes;
    keys->iterations = iterations;
    return true;
}

size_t scram_client_answer(struct scram_client *client, struct scram_client_keys *keys,
                           const char *password, struct slice server_first,
                           char final[SCRAM_CLIENT_BYTES])
{
    struct slice nonce, salt, count;
    char known[3 * SCRAM_CLIENT_BYTES];
    uint8_t signature[32];
    if (server_first.size >= sizeof(client->server)) {
        return 0;
    }
    memcpy(client->server, server_first.bytes, server_first.size);
    client->server[server_first.size] = '\0';
    const char *own = strstr(client->first, ",r=") + 3;
    if (!value_of(client->server, 'r', &nonce) || !value_of(client->server, 's', &salt) ||
        !value_of(client->server, 'i', &count) || nonce.size <= strlen(own) ||
        memcmp(nonce.bytes, own, strlen(own)) != 0 ||
        !keys_make(keys, password, salt, (uint32_t)strtoul((const char *)count.bytes, NULL, 10))) {
        return 0;
    }
    int bare = snprintf(final, SCRAM_CLIENT_BYTES, "c=biws,r=%.*s", (int)nonce.size,
                        (const char *)nonce.bytes);
    int size =
        snprintf(known, sizeof(known), "%s,%s,%s", client->first + BARE, client->server, final);
    if (bare + 3 + (int)BASE64_BYTES(32) >= (int)SCRAM_CLIENT_BYTES) {
        return 0;
    }
    keyed(keys->stored, slice_of(known, (size_t)size), signature);
    keyed(keys->server, slice_of(known, (size_t)size), client->server_signature);
    for (unsigned i = 0; i < 32; i++) {
        signature[i] ^= keys->client[i];
    }
    memcpy(final + bare, ",p=", 3);
    return (size_t)bare + 3 + base64_encode(slice_of(signature, 32), final + bare + 3);
}

bool scram_client_proven(const struct scram_client *client, struct slice server_final)
{
    char expected[2 + BASE64_BYTES(32)] = "v=";
    size_t size = 2 + base64_encode(slice_of(client->server_signature, 32), expected + 2);
    return slice_equal(slice_first(server_final, size), slice_of(expected, size));
}
