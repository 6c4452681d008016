#include "engine/auth/result_cache.h"
#include "engine/core/check.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#define ENTRIES (RESULT_SETS * RESULT_WAYS)

int result_cache_open(struct result_cache *cache, const uint8_t secret[32])
{
    cache->entries = NULL;
    cache->hash = keyed_hash_open(secret);
    return cache->hash == NULL ? -ENOMEM : 0;
}

void result_cache_close(struct result_cache *cache)
{
    free(cache->entries);
    cache->entries = NULL;
    keyed_hash_close(cache->hash);
    cache->hash = NULL;
}

/* Each part with its length, so that no two keys can be written the same. */
static void key_digest(const struct result_cache *cache, const struct result_key *key,
                       uint8_t digest[32])
{
    uint8_t text[2 * BACKEND_NAME_MAX + PASSWORD_STORED_MAX + 32];
    const struct slice parts[] = {key->user, key->owner, key->password,
                                  slice_of(&key->generation, sizeof(key->generation)),
                                  slice_of(&key->master, sizeof(key->master))};
    size_t used = 0;
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        check(used + 2 + parts[i].size <= sizeof(text));
        text[used++] = (uint8_t)(parts[i].size >> 8);
        text[used++] = (uint8_t)parts[i].size;
        memcpy(text + used, parts[i].size == 0 ? (const uint8_t *)"" : parts[i].bytes,
               parts[i].size);
        used += parts[i].size;
    }
    keyed_hash_make(cache->hash, slice_of(text, used), digest);
    explicit_bzero(text, used);
}

static struct result_entry *set_of(const struct result_cache *cache, const uint8_t digest[32])
{
    unsigned set = ((unsigned)digest[0] << 8 | digest[1]) % RESULT_SETS;
    return cache->entries + (size_t)set * RESULT_WAYS;
}

bool result_cache_find(const struct result_cache *cache, const struct result_key *key,
                       uint64_t now_ns, struct result *result)
{
    uint8_t digest[32];
    if (cache->entries == NULL) {
        return false;
    }
    key_digest(cache, key, digest);
    const struct result_entry *set = set_of(cache, digest);
    for (unsigned i = 0; i < RESULT_WAYS; i++) {
        if (now_ns < set[i].expires_ns && CRYPTO_memcmp(set[i].key, digest, 32) == 0) {
            *result = set[i].result;
            return true;
        }
    }
    return false;
}

void result_cache_keep(struct result_cache *cache, const struct result_key *key,
                       uint64_t expires_ns, const struct result *result)
{
    uint8_t digest[32];
    if (cache->entries == NULL) {
        cache->entries = calloc(ENTRIES, sizeof(*cache->entries));
    }
    if (cache->entries == NULL) {
        return;
    }
    key_digest(cache, key, digest);
    struct result_entry *set = set_of(cache, digest), *place = set;
    for (unsigned i = 0; i < RESULT_WAYS; i++) {
        if (memcmp(set[i].key, digest, 32) == 0) {
            place = &set[i];
            break;
        }
        place = set[i].expires_ns < place->expires_ns ? &set[i] : place;
    }
    memcpy(place->key, digest, 32);
    place->expires_ns = expires_ns;
    place->result = *result;
    OPENSSL_cleanse(place->result.user.stored, sizeof(place->result.user.stored));
}
