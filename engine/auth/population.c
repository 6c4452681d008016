#include "engine/auth/population.h"
#include "proto/sasl/made_up.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define WEEK_NS (7 * 24 * 3600 * 1000000000ull)

struct kind {
    struct password_kind kind;
    uint32_t places; /* that hold it; 0: free */
    char example[PASSWORD_STORED_MAX + 1];
};

struct place {
    uint64_t seen_ns;
    uint32_t rest; /* of the hash: the least has the place */
    uint32_t kind; /* from 1; 0: nobody is here */
};

struct population {
    EVP_MAC_CTX *hash;
    const char *scheme;
    struct kind kinds[POPULATION_KINDS_MAX + 1];
    struct place places[POPULATION_PLACES];
};

struct population *population_open(const uint8_t secret[32], const char *scheme)
{
    struct population *made = calloc(1, sizeof(*made));
    EVP_MAC_CTX *hash = keyed_hash_open(secret);
    if (made == NULL || hash == NULL) {
        free(made);
        keyed_hash_close(hash);
        return NULL;
    }
    made->hash = hash;
    made->scheme = scheme;
    return made;
}

void population_close(struct population *population)
{
    if (population != NULL) {
        population_clear(population);
        keyed_hash_close(population->hash);
        free(population);
    }
}

void population_clear(struct population *population)
{
    OPENSSL_cleanse(population->kinds, sizeof(population->kinds));
    memset(population->places, 0, sizeof(population->places));
}

/* Where the name stands: the place, and what is behind it. */
static uint32_t place_of(const struct population *population, struct slice name, uint32_t *rest)
{
    uint8_t made[SASL_MADE_UP_BYTES];
    sasl_make_up(population->hash, "place", 0, name, made);
    *rest = (uint32_t)made[2] << 24 | (uint32_t)made[3] << 16 | (uint32_t)made[4] << 8 | made[5];
    return ((uint32_t)made[0] << 8 | made[1]) % POPULATION_PLACES;
}

/* 0: there is no room for another. */
static uint32_t kind_number(struct population *population, const struct password_kind *wanted,
                            struct slice stored)
{
    uint32_t found = 0;
    for (uint32_t i = 1; i <= POPULATION_KINDS_MAX; i++) {
        const struct kind *kind = &population->kinds[i];
        if (kind->places > 0 && strcmp(kind->kind.text, wanted->text) == 0) {
            found = i;
            break;
        }
        found = kind->places == 0 && found == 0 ? i : found;
    }
    struct kind *kind = &population->kinds[found];
    if (found > 0 && (kind->places == 0 || kind->kind.uses != wanted->uses)) {
        kind->kind = *wanted;
        snprintf(kind->example, sizeof(kind->example), "%.*s", (int)stored.size,
                 (const char *)stored.bytes);
    }
    return found;
}

void population_note(struct population *population, struct slice name, struct slice stored,
                     uint64_t now_ns)
{
    struct password_kind kind;
    uint32_t rest;
    struct place *place = &population->places[place_of(population, name, &rest)];
    bool better = place->kind == 0 || rest <= place->rest || place->seen_ns + WEEK_NS < now_ns;
    if (!password_kind_read(stored, population->scheme, &kind) || !better) {
        return;
    }
    uint32_t number = kind_number(population, &kind, stored);
    if (number > 0) {
        population->kinds[number].places++;
        population->kinds[place->kind].places -= place->kind > 0;
        *place = (struct place){.seen_ns = now_ns, .rest = rest, .kind = number};
    }
}

bool population_example(const struct population *population, struct slice name,
                        enum password_use use, char stored[PASSWORD_STORED_MAX + 1])
{
    uint32_t rest, at = place_of(population, name, &rest);
    for (uint32_t i = 0; i < POPULATION_PLACES; i++) {
        const struct kind *kind =
            &population->kinds[population->places[(at + i) % POPULATION_PLACES].kind];
        if (kind->kind.uses & use) {
            memcpy(stored, kind->example, sizeof(kind->example));
            return true;
        }
    }
    return false;
}

void population_spoil(struct population *population, const char *stored)
{
    for (uint32_t i = 1; i <= POPULATION_KINDS_MAX; i++) {
        struct kind *kind = &population->kinds[i];
        if (kind->places > 0 && strcmp(kind->example, stored) == 0) {
            kind->kind.uses &= (uint8_t)~PASSWORD_FOR_VERIFY;
        }
    }
}
