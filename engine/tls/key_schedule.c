/* The low-level hashes are deprecated for programs that choose algorithms at run time; these two are all there are. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "engine/tls/key_schedule.h"
#include "engine/core/slice.h"
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <string.h>

#define HASH_BYTES_MAX SHA384_DIGEST_LENGTH
#define BLOCK_BYTES_MAX SHA512_CBLOCK
#define LABEL_BYTES_MAX 255u /* RFC 8446 §7.1: opaque label<7..255> */
#define BLOCKS_MAX 255u      /* RFC 5869 §2.3 */

/* ---- HMAC (RFC 2104) ---- */

struct hash {
    const char *name; /* as OpenSSL names it */
    size_t bytes, block_bytes;
};

static const struct hash sha256 = {"SHA2-256", SHA256_DIGEST_LENGTH, SHA256_CBLOCK};
static const struct hash sha384 = {"SHA2-384", SHA384_DIGEST_LENGTH, SHA512_CBLOCK};

union state {
    SHA256_CTX narrow;
    SHA512_CTX wide;
};

static void hash_begin(const struct hash *hash, union state *state)
{
    if (hash == &sha384) {
        SHA384_Init(&state->wide);
    } else {
        SHA256_Init(&state->narrow);
    }
}

static void hash_add(const struct hash *hash, union state *state, struct slice bytes)
{
    if (hash == &sha384) {
        SHA384_Update(&state->wide, bytes.bytes, bytes.size);
    } else {
        SHA256_Update(&state->narrow, bytes.bytes, bytes.size);
    }
}

static void hash_end(const struct hash *hash, union state *state, uint8_t *digest)
{
    if (hash == &sha384) {
        SHA384_Final(digest, &state->wide);
    } else {
        SHA256_Final(digest, &state->narrow);
    }
}

/* key: at most a block. The parts lie one behind the other. digest may be one of them. */
static void hmac(const struct hash *hash, struct slice key, const struct slice *parts, size_t count,
                 uint8_t digest[HASH_BYTES_MAX])
{
    uint8_t pad[BLOCK_BYTES_MAX];
    union state state;
    memset(pad, 0x36, sizeof(pad));
    for (size_t i = 0; i < key.size; i++) {
        pad[i] ^= key.bytes[i];
    }
    hash_begin(hash, &state);
    hash_add(hash, &state, slice_of(pad, hash->block_bytes));
    for (size_t i = 0; i < count; i++) {
        hash_add(hash, &state, parts[i]);
    }
    hash_end(hash, &state, digest);
    for (size_t i = 0; i < hash->block_bytes; i++) {
        pad[i] ^= 0x36 ^ 0x5c;
    }
    hash_begin(hash, &state);
    hash_add(hash, &state, slice_of(pad, hash->block_bytes));
    hash_add(hash, &state, slice_of(digest, hash->bytes));
    hash_end(hash, &state, digest);
    OPENSSL_cleanse(pad, sizeof(pad));
    OPENSSL_cleanse(&state, sizeof(state));
}

/* ---- HKDF (RFC 5869), with the labels of RFC 8446 ---- */

struct wanted {
    const struct hash *hash; /* NULL: one that we do not have */
    int mode;                /* EVP_KDF_HKDF_MODE_ */
    struct slice key, salt, prefix, label, data;
};

/* HKDF-Expand-Label. 1: done, as OpenSSL says it; 0: it makes no sense. */
static int expand(const struct wanted *wanted, struct slice secret, struct slice context,
                  uint8_t *out, size_t size)
{
    const struct hash *hash = wanted->hash;
    size_t label_bytes = wanted->prefix.size + wanted->label.size;
    if (secret.size > hash->block_bytes || label_bytes > LABEL_BYTES_MAX ||
        context.size > UINT8_MAX || size == 0 || size > BLOCKS_MAX * hash->bytes) {
        return 0;
    }
    const uint8_t head[] = {(uint8_t)(size >> 8), (uint8_t)size, (uint8_t)label_bytes};
    const uint8_t context_bytes = (uint8_t)context.size;
    uint8_t block[HASH_BYTES_MAX], number = 1;
    struct slice parts[] = {
        slice_of(block, 0), /* from the second on the block before */
        slice_of(head, sizeof(head)), wanted->prefix, wanted->label,
        slice_of(&context_bytes, 1),  context,        slice_of(&number, 1),
    };
    for (size_t done = 0; done < size; number++) {
        size_t part = size - done < hash->bytes ? size - done : hash->bytes;
        hmac(hash, secret, parts, sizeof(parts) / sizeof(parts[0]), block);
        memcpy(out + done, block, part);
        parts[0].size = hash->bytes;
        done += part;
    }
    OPENSSL_cleanse(block, sizeof(block));
    return 1;
}

/* HKDF-Extract; before it, where a secret goes before, Derive-Secret(., "derived", "") of that. */
static int extract(const struct wanted *wanted, uint8_t *out, size_t size)
{
    static const uint8_t zeroes[HASH_BYTES_MAX];
    const struct hash *hash = wanted->hash;
    struct slice key = wanted->key.bytes != NULL ? wanted->key : slice_of(zeroes, hash->bytes);
    uint8_t salt[HASH_BYTES_MAX], nothing[HASH_BYTES_MAX];
    size_t salt_bytes = 0;
    if (size != hash->bytes) {
        return 0;
    }
    if (wanted->salt.bytes != NULL) {
        union state state;
        hash_begin(hash, &state);
        hash_end(hash, &state, nothing);
        salt_bytes = hash->bytes;
        if (expand(wanted, wanted->salt, slice_of(nothing, hash->bytes), salt, salt_bytes) != 1) {
            return 0;
        }
    }
    uint8_t digest[HASH_BYTES_MAX];
    hmac(hash, slice_of(salt, salt_bytes), &key, 1, digest);
    memcpy(out, digest, size);
    OPENSSL_cleanse(salt, sizeof(salt));
    OPENSSL_cleanse(digest, sizeof(digest));
    return 1;
}

/* ---- What OpenSSL calls ---- */

static bool is(const OSSL_PARAM *parameter, const char *key)
{
    return strcmp(parameter->key, key) == 0;
}

static const struct hash *hash_named(const OSSL_PARAM *parameter)
{
    const struct slice name = slice_of(parameter->data, parameter->data_size);
    return slice_equal(name, slice_text(sha384.name))   ? &sha384
           : slice_equal(name, slice_text(sha256.name)) ? &sha256
                                                        : NULL;
}

static void wanted_read(struct wanted *wanted, const OSSL_PARAM *parameter)
{
    *wanted = (struct wanted){.mode = -1};
    for (; parameter != NULL && parameter->key != NULL; parameter++) {
        const struct slice bytes = slice_of(parameter->data, parameter->data_size);
        if (is(parameter, OSSL_KDF_PARAM_KEY)) {
            wanted->key = bytes;
        } else if (is(parameter, OSSL_KDF_PARAM_LABEL)) {
            wanted->label = bytes;
        } else if (is(parameter, OSSL_KDF_PARAM_DATA)) {
            wanted->data = bytes;
        } else if (is(parameter, OSSL_KDF_PARAM_PREFIX)) {
            wanted->prefix = bytes;
        } else if (is(parameter, OSSL_KDF_PARAM_SALT)) {
            wanted->salt = bytes;
        } else if (is(parameter, OSSL_KDF_PARAM_DIGEST)) {
            wanted->hash = hash_named(parameter);
        } else if (is(parameter, OSSL_KDF_PARAM_MODE) &&
                   OSSL_PARAM_get_int(parameter, &wanted->mode) != 1) {
            wanted->mode = -1;
        }
    }
}

/* All that is wanted comes with the call, as OpenSSL's TLS says it: there is nothing to keep. */
static int derive(void *nothing, unsigned char *out, size_t size, const OSSL_PARAM parameters[])
{
    struct wanted wanted;
    (void)nothing;
    wanted_read(&wanted, parameters);
    if (wanted.hash == NULL) {
        return 0;
    }
    return wanted.mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY
               ? expand(&wanted, wanted.key, wanted.data, out, size)
           : wanted.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY ? extract(&wanted, out, size)
                                                           : 0;
}

static const char nothing_kept;

static void *context_new(void *provider)
{
    (void)provider;
    return (void *)(uintptr_t)&nothing_kept;
}

static void context_free(void *nothing)
{
    (void)nothing;
}

#define CALLED(function) ((void (*)(void))(function))
static const OSSL_DISPATCH derivation[] = {{OSSL_FUNC_KDF_NEWCTX, CALLED(context_new)},
                                           {OSSL_FUNC_KDF_FREECTX, CALLED(context_free)},
                                           {OSSL_FUNC_KDF_DERIVE, CALLED(derive)},
                                           {0, NULL}};
static const OSSL_ALGORITHM derivations[] = {
    {OSSL_KDF_NAME_TLS1_3_KDF, "provider=tubepost", derivation, "RFC 8446 7.1"},
    {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *uncached)
{
    (void)provider;
    *uncached = 0;
    return operation == OSSL_OP_KDF ? derivations : NULL;
}

static const OSSL_DISPATCH provided[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, CALLED(query)},
                                         {0, NULL}};

static int provider_begin(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *offered,
                          const OSSL_DISPATCH **functions, void **provider)
{
    (void)core;
    (void)offered;
    *functions = provided;
    *provider = context_new(NULL);
    return 1;
}

bool tls_key_schedule_offer(void)
{
    /* Any provider that a program loads itself takes the place of those that OpenSSL would load. */
    return OSSL_PROVIDER_available(NULL, "default") == 1 &&
           OSSL_PROVIDER_load(NULL, "default") != NULL &&
           OSSL_PROVIDER_add_builtin(NULL, "tubepost", provider_begin) == 1 &&
           OSSL_PROVIDER_load(NULL, "tubepost") != NULL;
}
