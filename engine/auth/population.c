#include "engine/auth/population.h"
#include "engine/core/check.h"
#include "proto/sasl/made_up.h"
#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define POPULATION_USES 3u /* bits of password_use */
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

/* served: the kind of the user who is next, of those whose password serves the use; 0: there are none. Who is looked for from
 * a name's place on is found sooner from a user's than from nobody's: here it takes the same. */
struct population {
    EVP_MAC_CTX *hash;
    const char *scheme;
    struct kind kinds[POPULATION_KINDS_MAX + 1];
    struct place places[POPULATION_PLACES];
    uint8_t served[POPULATION_USES][POPULATION_PLACES];
};
static_assert(POPULATION_KINDS_MAX <= UINT8_MAX &&
                  (POPULATION_PLACES & (POPULATION_PLACES - 1)) == 0,
              "numbers of kinds are octets, and the ring is counted down through 0");

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
    memset(population->served, 0, sizeof(population->served));
}

static enum password_use use_of(unsigned number)
{
    return (enum password_use)(1u << number);
}

/* The kind of the user at this place, if it serves; else 0. */
static uint8_t serving(const struct population *population, unsigned use, uint32_t at)
{
    uint32_t kind = population->places[at % POPULATION_PLACES].kind;
    return population->kinds[kind].kind.uses & use_of(use) ? (uint8_t)kind : 0;
}

/* The place has become another: so have those before it, up to the next that serves. */
static void served_from(struct population *population, unsigned use, uint32_t at)
{
    uint8_t *served = population->served[use], own = serving(population, use, at);
    uint8_t next = own != 0 ? own : served[(at + 1) % POPULATION_PLACES];
    uint32_t i = 0;
    do {
        served[(at - i) % POPULATION_PLACES] = next;
        i++;
    } while (i < POPULATION_PLACES && serving(population, use, at - i) == 0);
    if (i == POPULATION_PLACES && own == 0) { /* it was the only one */
        memset(served, 0, POPULATION_PLACES);
    }
}

static void served_all(struct population *population)
{
    memset(population->served, 0, sizeof(population->served));
    for (unsigned use = 0; use < POPULATION_USES; use++) {
        for (uint32_t at = 0; at < POPULATION_PLACES; at++) {
            if (serving(population, use, at) != 0) {
                served_from(population, use, at);
            }
        }
    }
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
        if (kind->places > 0) {
            served_all(population);
        }
    }
    return found;
}

static void place_take(struct population *population, uint32_t at, const struct place *taken)
{
    struct place *place = &population->places[at];
    uint32_t before = place->kind;
    population->kinds[taken->kind].places++;
    population->kinds[before].places -= before > 0;
    *place = *taken;
    for (unsigned use = 0; before != taken->kind && use < POPULATION_USES; use++) {
        served_from(population, use, at);
    }
}

void population_note(struct population *population, struct slice name, struct slice stored,
                     uint64_t now_ns)
{
    struct password_kind kind;
    uint32_t rest, at = place_of(population, name, &rest);
    const struct place *place = &population->places[at];
    bool better = place->kind == 0 || rest <= place->rest || place->seen_ns + WEEK_NS < now_ns;
    if (!password_kind_read(stored, population->scheme, &kind) || !better) {
        return;
    }
    uint32_t number = kind_number(population, &kind, stored);
    if (number > 0) {
        place_take(population, at,
                   &(struct place){.seen_ns = now_ns, .rest = rest, .kind = number});
    }
}

bool population_example(const struct population *population, struct slice name,
                        enum password_use use, char stored[PASSWORD_STORED_MAX + 1])
{
    unsigned number = 0;
    uint32_t rest, at = place_of(population, name, &rest);
    while (use_of(number) != use) {
        number++;
        check(number < POPULATION_USES);
    }
    uint8_t kind = population->served[number][at];
    if (kind > 0) {
        memcpy(stored, population->kinds[kind].example, sizeof(population->kinds[kind].example));
    }
    return kind > 0;
}

void population_spoil(struct population *population, const char *stored)
{
    for (uint32_t i = 1; i <= POPULATION_KINDS_MAX; i++) {
        struct kind *kind = &population->kinds[i];
        if (kind->places > 0 && strcmp(kind->example, stored) == 0) {
            kind->kind.uses &= (uint8_t)~PASSWORD_FOR_VERIFY;
            served_all(population);
        }
    }
}
