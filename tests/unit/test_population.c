/* Which kind of password a name that is nobody's seems to have. */
#include "engine/auth/population.h"
#include "proto/sasl/made_up.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define NAMES 4000u
#define WEEK_NS (7 * 24 * 3600 * 1000000000ull)

static const uint8_t secret[32] = {1, 2, 3}, other_secret[32] = {3, 2, 1};
static const char scram[] = "{SCRAM-SHA-256}4096,AAAAAAAAAAAAAAAAAAAAAA==,"
                            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,"
                            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
static const char sha512[] = "{SHA512-CRYPT}$6$salt$hash";

static struct population *opened(const uint8_t key[32])
{
    struct population *population = population_open(key, "CRYPT");
    assert_non_null(population);
    return population;
}

static void note(struct population *population, unsigned user, const char *stored, uint64_t now_ns)
{
    char name[16];
    snprintf(name, sizeof(name), "user%u", user);
    population_note(population, slice_text(name), slice_text(stored), now_ns);
}

/* What nobody's name seems to have: the first letter behind "{"; '-': nothing. */
static char seems(const struct population *population, unsigned number, enum password_use use)
{
    char name[16], stored[PASSWORD_STORED_MAX + 1];
    snprintf(name, sizeof(name), "nobody%u", number);
    return population_example(population, slice_text(name), use, stored) ? stored[1] : '-';
}

/* Every fourth user has a password in plain text. */
static const char *stored_of(unsigned user)
{
    return user % 4 == 0 ? "{PLAIN}secret" : scram;
}

static void names_have_kinds_in_the_proportion_of_users(void **state)
{
    struct population *population = opened(secret);
    unsigned plain = 0;
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        note(population, i, stored_of(i), 0);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        plain += seems(population, i, PASSWORD_FOR_SCRAM_SHA_256) == 'P';
    }
    assert_in_range(plain, NAMES / 5, NAMES * 3 / 10);
    population_close(population);
}

static void a_name_keeps_its_kind_whatever_order_the_users_come_in(void **state)
{
    struct population *one = opened(secret), *again = opened(secret), *other = opened(other_secret);
    unsigned different = 0;
    (void)state;
    for (unsigned i = 0; i < 10000; i++) { /* more than there are places */
        note(one, i, stored_of(i), 0);
        note(other, i, stored_of(i), 0);
        note(again, 9999 - i, stored_of(9999 - i), i);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        char kind = seems(one, i, PASSWORD_FOR_VERIFY);
        assert_int_equal(seems(again, i, PASSWORD_FOR_VERIFY), kind);
        different += seems(other, i, PASSWORD_FOR_VERIFY) != kind;
    }
    assert_true(different > NAMES / 10); /* nobody can tell who does not know the secret */
    population_close(one);
    population_close(again);
    population_close(other);
}

static void one_user_more_changes_few_names(void **state)
{
    struct population *population = opened(secret);
    char before[NAMES];
    unsigned changed = 0;
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        note(population, i, stored_of(i), 0);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        before[i] = seems(population, i, PASSWORD_FOR_VERIFY);
    }
    note(population, 1000, sha512, 0);
    for (unsigned i = 0; i < NAMES; i++) {
        changed += seems(population, i, PASSWORD_FOR_VERIFY) != before[i];
    }
    assert_in_range(changed, 0, NAMES / 100);
    population_close(population);
}

static void a_name_has_only_what_serves(void **state)
{
    struct population *population = opened(secret);
    (void)state;
    assert_int_equal(seems(population, 0, PASSWORD_FOR_VERIFY), '-');
    note(population, 0, "!", 0);
    note(population, 1, "", 0);
    assert_int_equal(seems(population, 0, PASSWORD_FOR_VERIFY), '-');
    note(population, 2, sha512, 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(seems(population, i, PASSWORD_FOR_VERIFY), 'S');
        assert_int_equal(seems(population, i, PASSWORD_FOR_SCRAM_SHA_256), '-');
    }
    note(population, 3, "{PLAIN}secret", 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(seems(population, i, PASSWORD_FOR_SCRAM_SHA_1), 'P');
    }
    population_clear(population);
    assert_int_equal(seems(population, 0, PASSWORD_FOR_VERIFY), '-');
    population_close(population);
}

static void somebody_whose_password_does_not_serve_seems_to_have_anothers(void **state)
{
    struct population *population = opened(secret);
    char stored[PASSWORD_STORED_MAX + 1];
    (void)state;
    note(population, 0, sha512, 0);
    note(population, 1, scram, 0);
    assert_true(
        population_example(population, slice_text("user0"), PASSWORD_FOR_SCRAM_SHA_256, stored));
    assert_string_equal(stored, scram);
    population_close(population);
}

static void who_has_another_password_now_is_of_its_kind(void **state)
{
    struct population *population = opened(secret);
    (void)state;
    note(population, 0, sha512, 0);
    note(population, 0, "{PLAIN}secret", 1);
    assert_int_equal(seems(population, 0, PASSWORD_FOR_VERIFY), 'P');
    population_close(population);
}

static void kinds_beyond_the_bound_are_passed_over(void **state)
{
    struct population *population = opened(secret);
    char stored[64];
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(stored, sizeof(stored), "{CRYPT}$6$rounds=%u$salt$hash", 1000 + i);
        note(population, i, stored, 0);
    }
    assert_int_equal(seems(population, 0, PASSWORD_FOR_VERIFY), 'C');
    population_close(population);
}

/* Those who are gone leave their places to those who are there, and then the kinds are gone that were theirs. */
static void who_was_not_seen_for_a_week_gives_way(void **state)
{
    struct population *population = opened(secret);
    unsigned old = 0;
    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        note(population, i, sha512, 1);
    }
    for (unsigned i = 100000; i < 200000; i++) {
        note(population, i, "{PLAIN}secret", 2 * WEEK_NS);
    }
    for (unsigned i = 0; i < NAMES; i++) {
        old += seems(population, i, PASSWORD_FOR_VERIFY) != 'P';
    }
    assert_int_equal(old, 0);
    population_close(population);
}

static void an_example_that_is_no_password_is_nobodys(void **state)
{
    struct population *population = opened(secret);
    (void)state;
    note(population, 0, sha512, 0);
    population_spoil(population, sha512);
    assert_int_equal(seems(population, 0, PASSWORD_FOR_VERIFY), '-');
    note(population, 1, "{SHA512-CRYPT}$6$other$hash", 0);
    assert_int_equal(seems(population, 0, PASSWORD_FOR_VERIFY), 'S');
    population_close(population);
}

/* ---- Kinds ---- */

static void what_decides_costs_and_answers_is_the_kind(void **state)
{
    static const struct {
        const char *stored, *kind; /* NULL: none */
        unsigned uses;
    } table[] = {
        {"{PLAIN}a", "PLAIN", 7},
        {"{cleartext}b", "PLAIN", 7},
        {"{PLAIN.b64}YQ==", "PLAIN", 7},
        {"{SHA512-CRYPT}$6$salt$hash", "$6$", 1},
        {"$6$salt$hash", "$6$", 1},
        {"{CRYPT}$6$rounds=5000$salt$hash", "$6$rounds=5000$", 1},
        {"{CRYPT}$6$rounds=50000$salt$hash", "$6$rounds=50000$", 1},
        {"{CRYPT}$6$rounds=50000000$salt$hash", NULL, 0}, /* would cost too much */
        {"{CRYPT}$5$salt$hash", "$5$", 1},
        {"{MD5-CRYPT}$1$salt$hash", "$1$", 1},
        {"{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuuOxGeLGF0DeDmXW7nUc6ld2d0fbeqmPG", "$2y$05$", 1},
        {"{BLF-CRYPT}$2y$05$short", NULL, 0},
        {"{BLF-CRYPT}$2y$15$abcdefghijklmnopqrstuuOxGeLGF0DeDmXW7nUc6ld2d0fbeqmPG", NULL, 0},
        {"{CRYPT}$y$j9T$salt$hash", "$y$j9T$", 1},
        {"{ARGON2ID}$argon2id$v=19$m=1024,t=1,p=1$c2FsdA$aGFzaA", "$argon2id$v=19$m=1024,t=1,p=1$",
         1},
        {"{ARGON2ID}$argon2id$v=19$m=1024,t=1,p=1", NULL, 0},
        {scram, "SCRAM-SHA-256 4096 16", 5},
        {"{SCRAM-SHA-1}10000,AAAAAAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
         "SCRAM-SHA-1 10000 6", 3},
        {"{SCRAM-SHA-256}4096,AAAA", NULL, 0},
        {"{PBKDF2}$1$salt$5000$00", "PBKDF2 5000", 1},
        {"{PBKDF2}$1$salt", NULL, 0},
        {"{SSHA512}abcd", "ssha512", 1},
        {"{DIGEST-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69", NULL, 0},
        {"{UNHEARD-OF}a", NULL, 0},
        {"{PLAIN", NULL, 0},
        {"!", NULL, 0},
        {"*", NULL, 0},
        {"", NULL, 0},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct password_kind kind;
        bool good = password_kind_read(slice_text(table[i].stored), "CRYPT", &kind);
        assert_int_equal(good, table[i].kind != NULL);
        if (good) {
            assert_string_equal(kind.text, table[i].kind);
            assert_int_equal(kind.uses, table[i].uses);
        }
    }
}

/* ---- Against a ring that is walked ---- */

struct walked {
    struct {
        uint32_t rest;
        const char *stored;
    } places[POPULATION_PLACES];
    bool spoilt; /* sha512: is no password */
};

static uint32_t walked_place(const char *name, uint32_t *rest)
{
    EVP_MAC_CTX *hash = keyed_hash_open(secret);
    uint8_t made[SASL_MADE_UP_BYTES];
    assert_non_null(hash);
    sasl_make_up(hash, "place", 0, slice_text(name), made);
    keyed_hash_close(hash);
    *rest = (uint32_t)made[2] << 24 | (uint32_t)made[3] << 16 | (uint32_t)made[4] << 8 | made[5];
    return ((uint32_t)made[0] << 8 | made[1]) % POPULATION_PLACES;
}

static bool walked_serves(const struct walked *walked, const char *stored, enum password_use use)
{
    switch (use) {
    case PASSWORD_FOR_VERIFY:
        return stored != NULL && !(walked->spoilt && stored == sha512);
    case PASSWORD_FOR_SCRAM_SHA_1:
        return stored != NULL && stored[1] == 'P';
    case PASSWORD_FOR_SCRAM_SHA_256:
        return stored != NULL && stored != sha512;
    }
    return false;
}

static void walked_check(const struct population *population, const struct walked *walked,
                         unsigned number)
{
    static const enum password_use uses[] = {PASSWORD_FOR_VERIFY, PASSWORD_FOR_SCRAM_SHA_1,
                                             PASSWORD_FOR_SCRAM_SHA_256};
    char name[16], stored[PASSWORD_STORED_MAX + 1];
    uint32_t rest;
    snprintf(name, sizeof(name), "nobody%u", number);
    uint32_t at = walked_place(name, &rest);
    for (unsigned use = 0; use < sizeof(uses) / sizeof(*uses); use++) {
        uint32_t i = 0;
        while (i < POPULATION_PLACES &&
               !walked_serves(walked, walked->places[(at + i) % POPULATION_PLACES].stored,
                              uses[use])) {
            i++;
        }
        bool is = population_example(population, slice_text(name), uses[use], stored);
        assert_int_equal(is, i < POPULATION_PLACES);
        if (is) {
            assert_string_equal(stored, walked->places[(at + i) % POPULATION_PLACES].stored);
        }
    }
}

static void what_a_name_has_is_what_the_next_user_has_however_they_came(void **state)
{
    static const char *const kinds[] = {sha512, scram, "{PLAIN}secret"};
    struct walked *walked = calloc(1, sizeof(*walked));
    struct population *population = opened(secret);
    uint32_t random = 1;
    (void)state;
    assert_non_null(walked);
    for (unsigned i = 0; i < 3000; i++) {
        char name[16];
        uint32_t rest;
        random = random * 1664525 + 1013904223;
        const char *stored = kinds[(random >> 8) % 3];
        snprintf(name, sizeof(name), "user%u", (random >> 12) % (i < 1500 ? 4 : 4000));
        uint32_t at = walked_place(name, &rest);
        if (i % 1000 == 600) {
            population_spoil(population, sha512);
            walked->spoilt = true;
        }
        if (i == 800) {
            population_clear(population);
            memset(walked, 0, sizeof(*walked));
        }
        population_note(population, slice_text(name), slice_text(stored), 0);
        if (walked->places[at].stored == NULL || rest <= walked->places[at].rest) {
            walked->places[at].rest = rest;
            walked->places[at].stored = stored;
            walked->spoilt = walked->spoilt && stored != sha512;
        }
        walked_check(population, walked, i);
    }
    free(walked);
    population_close(population);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_kinds_in_the_proportion_of_users),
        cmocka_unit_test(a_name_keeps_its_kind_whatever_order_the_users_come_in),
        cmocka_unit_test(one_user_more_changes_few_names),
        cmocka_unit_test(a_name_has_only_what_serves),
        cmocka_unit_test(somebody_whose_password_does_not_serve_seems_to_have_anothers),
        cmocka_unit_test(who_has_another_password_now_is_of_its_kind),
        cmocka_unit_test(kinds_beyond_the_bound_are_passed_over),
        cmocka_unit_test(who_was_not_seen_for_a_week_gives_way),
        cmocka_unit_test(an_example_that_is_no_password_is_nobodys),
        cmocka_unit_test(what_decides_costs_and_answers_is_the_kind),
        cmocka_unit_test(what_a_name_has_is_what_the_next_user_has_however_they_came),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
