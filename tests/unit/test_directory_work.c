/* What an answer costs must not tell whose name it was: hashes are counted, and not measured. */
#include "engine/auth/directory_private.h"
#include <argon2.h>
#include <crypt.h>
#include <errno.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* Each computation that is slow on purpose, with what its cost depends on. */
static char work[512];
static bool memory_is_short;

static void work_add(const char *text)
{
    assert_true(strlen(work) + strlen(text) + 2 < sizeof(work));
    strcat(strcat(work, text), ";");
}

char *__real_crypt_rn(const char *phrase, const char *setting, void *data, int size);
char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size);
char *__wrap_crypt_rn(const char *phrase, const char *setting, void *data, int size)
{
    char text[64];
    char *made = memory_is_short ? NULL : __real_crypt_rn(phrase, setting, data, size);
    if (memory_is_short) {
        errno = ENOMEM;
    }
    if (made != NULL && made[0] != '*') { /* else nothing was computed */
        const char *method = strrchr(setting, '$');
        snprintf(text, sizeof(text), "%.*s", method == NULL ? 13 : 12, setting);
        work_add(text);
    }
    return made;
}

int __real_argon2_verify(const char *encoded, const void *password, size_t size, argon2_type type);
int __wrap_argon2_verify(const char *encoded, const void *password, size_t size, argon2_type type);
int __wrap_argon2_verify(const char *encoded, const void *password, size_t size, argon2_type type)
{
    char text[64];
    snprintf(text, sizeof(text), "%.27s", encoded); /* "$argon2id$v=19$m=1024,t=1," */
    work_add(text);
    return memory_is_short ? ARGON2_MEMORY_ALLOCATION_ERROR
                           : __real_argon2_verify(encoded, password, size, type);
}

int __real_PKCS5_PBKDF2_HMAC(const char *password, int size, const unsigned char *salt,
                             int salt_size, int iterations, const EVP_MD *digest, int bytes,
                             unsigned char *made);
int __wrap_PKCS5_PBKDF2_HMAC(const char *password, int size, const unsigned char *salt,
                             int salt_size, int iterations, const EVP_MD *digest, int bytes,
                             unsigned char *made);
int __wrap_PKCS5_PBKDF2_HMAC(const char *password, int size, const unsigned char *salt,
                             int salt_size, int iterations, const EVP_MD *digest, int bytes,
                             unsigned char *made)
{
    char text[64];
    snprintf(text, sizeof(text), "%s %d", EVP_MD_get0_name(digest), iterations);
    work_add(text);
    return __real_PKCS5_PBKDF2_HMAC(password, size, salt, salt_size, iterations, digest, bytes,
                                    made);
}

static void random_fill(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static const struct world world = {.random = random_fill};

static struct directory *opened_with(const char *stored)
{
    static char users[3][PASSWORD_STORED_MAX + 64];
    static struct logger logger;
    static const char *backends[4];
    char problem[BACKEND_PROBLEM_MAX];
    struct directory *directory = NULL;
    snprintf(users[0], sizeof(users[0]), "static:tim:%s", stored);
    snprintf(users[1], sizeof(users[1]), "static:locked:!");
    snprintf(users[2], sizeof(users[2]), "static:empty:");
    for (unsigned i = 0; i < 3; i++) {
        backends[i] = users[i];
    }
    logger_open(&logger, -1, LOGGER_ERROR);
    const struct directory_settings settings = {.backends = backends,
                                                .world = &world,
                                                .logger = &logger,
                                                .penalty = {.block_after = UINT32_MAX}};
    assert_int_equal(directory_open(&directory, &settings, problem), 0);
    return directory;
}

/* What was computed for the answer. */
static const char *cost_of(struct directory *directory, enum auth_ask_kind kind, const char *user,
                           const char *password, enum auth_outcome expected)
{
    struct auth_answer answer;
    const struct auth_ask ask = {.kind = kind,
                                 .credential = AUTH_SCRAM_SHA_256,
                                 .method = "PLAIN",
                                 .authid = slice_text(user),
                                 .password = slice_text(password)};
    work[0] = '\0';
    directory_answer(directory, &ask, 1000, &answer);
    assert_int_equal(answer.outcome, expected);
    return work;
}

static const char *const nobodies[] = {"nobody", "locked", "empty", "a/b", "", ".hidden"};
#define NOBODIES (sizeof(nobodies) / sizeof(*nobodies))

static void an_unknown_user_costs_the_hash_that_a_wrong_password_costs(void **state)
{
    static const char *const schemes[] = {"CRYPT",    "SHA512-CRYPT",  "BLF-CRYPT",
                                          "ARGON2ID", "SCRAM-SHA-256", "SCRAM-SHA-1"};
    const struct password_costs costs = {
        .argon2_kib = 1024, .argon2_passes = 1, .scram_iterations = 4096};
    static const uint8_t random[16] = {1, 2, 3};
    (void)state;
    for (unsigned i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        char stored[PASSWORD_STORED_MAX], wrong[sizeof(work)];
        assert_int_equal(password_make(schemes[i], slice_text("right"), &costs, random, stored), 0);
        struct directory *directory = opened_with(stored);
        cost_of(directory, AUTH_VERIFY, "tim", "right", AUTH_RIGHT);
        assert_true(strlen(work) > 4);
        snprintf(wrong, sizeof(wrong), "%s", work);
        assert_string_equal(cost_of(directory, AUTH_VERIFY, "tim", "wrong", AUTH_WRONG), wrong);
        for (unsigned n = 0; n < NOBODIES; n++) {
            assert_string_equal(cost_of(directory, AUTH_VERIFY, nobodies[n], "wrong", AUTH_WRONG),
                                wrong);
        }
        directory_close(directory);
    }
}

/* What SCRAM needs of a password in plain text is computed, and so it is of nobody's. */
static void an_unknown_user_costs_the_proof_that_a_known_one_costs(void **state)
{
    struct directory *directory = opened_with("{PLAIN}right");
    char known[sizeof(work)];
    (void)state;
    cost_of(directory, AUTH_CREDENTIAL, "tim", "", AUTH_RIGHT);
    assert_string_equal(work, "SHA256 4096;");
    snprintf(known, sizeof(known), "%s", work);
    for (unsigned n = 0; n < NOBODIES; n++) {
        assert_string_equal(cost_of(directory, AUTH_CREDENTIAL, nobodies[n], "", AUTH_WRONG),
                            known);
    }
    directory_close(directory);
}

/* ---- A database that mixes kinds ---- */

#define SCRAM_OF(count, salt)                                                                      \
    "{SCRAM-SHA-256}" count "," salt ",AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,"              \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

static const struct {
    const char *name, *stored;
} mixed[] = {
    {"plain", "{PLAIN}right"},
    {"scram", SCRAM_OF("4096", "AAAAAAAAAAAAAAAAAAAAAA==")},
    {"hard", SCRAM_OF("10000", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")},
    {"crypt", "{SHA512-CRYPT}$6$rounds=1000$salt$hash"},
    {"bcrypt", "{BLF-CRYPT}$2y$04$abcdefghijklmnopqrstuuOxGeLGF0DeDmXW7nUc6ld2d0fbeqmPG"},
    {"locked", "!"},
    {"digest", "{DIGEST-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69"},
};
#define MIXED (sizeof(mixed) / sizeof(*mixed))
#define UNUSABLE 2u /* at the end */
#define MIXED_NAMES 200u

/* kind: "static", or "inline", a database that cannot be read as a whole. */
static struct directory *opened_mixed_as(const char *kind, uint8_t secret, const char *const *kinds)
{
    static char text[4096];
    static struct logger logger;
    static const char *backends[2] = {text, NULL};
    char problem[BACKEND_PROBLEM_MAX];
    struct directory *directory = NULL;
    bool map = strcmp(kind, "inline") == 0;
    size_t used = (size_t)snprintf(text, sizeof(text), "%s:%s", kind, map ? "{" : "");
    for (unsigned i = 0; i < MIXED; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, map ? "%s{%s=%s}" : "%s%s:%s",
                                 i == 0 ? ""
                                 : map  ? ", "
                                        : "\n",
                                 mixed[i].name, mixed[i].stored);
    }
    snprintf(text + used, sizeof(text) - used, map ? "}" : "");
    logger_open(&logger, -1, LOGGER_ERROR);
    const struct directory_settings settings = {.backends = backends,
                                                .world = &world,
                                                .logger = &logger,
                                                .secret = {secret},
                                                .kinds = kinds,
                                                .penalty = {.block_after = UINT32_MAX}};
    assert_int_equal(directory_open(&directory, &settings, problem), 0);
    return directory;
}

static struct directory *opened_mixed(const char *kind, uint8_t secret)
{
    return opened_mixed_as(kind, secret, NULL);
}

/* All that somebody outside could see of it: what was computed, whether on a shard, and count and length of the salt. */
static const char *looks_of(struct directory *directory, enum auth_ask_kind kind, const char *user)
{
    static char looks[sizeof(work) + 64];
    struct auth_answer answer;
    const struct auth_ask ask = {.kind = kind,
                                 .credential = AUTH_SCRAM_SHA_256,
                                 .method = "PLAIN",
                                 .authid = slice_text(user),
                                 .password = slice_text(kind == AUTH_VERIFY ? "wrong" : "")};
    work[0] = '\0';
    bool near = directory_answer_near(directory, &ask, 1000, &answer);
    if (!near) {
        directory_answer(directory, &ask, 1000, &answer);
    }
    assert_true(kind == AUTH_CREDENTIAL || answer.outcome == AUTH_WRONG);
    const struct password_scram *scram = &answer.seems;
    assert_true(scram->key_bytes == 0 && scram->stored_key[0] == 0 && scram->server_key[0] == 0);
    snprintf(looks, sizeof(looks), "%s%s%u %u", near ? "near " : "", work, scram->iterations,
             scram->salt_bytes);
    return looks;
}

/* How somebody looks, as often as there are such names. */
struct crowd {
    char looks[MIXED][sizeof(work) + 64];
    unsigned names[MIXED];
};

/* Each name looks as one of the users, and of each kind there are some. users: the first so many have a kind of their own. */
static void crowd_check(struct directory *directory, enum auth_ask_kind kind, unsigned users)
{
    struct crowd crowd = {0};
    char first[MIXED_NAMES][96];
    for (unsigned i = 0; i < users; i++) {
        snprintf(crowd.looks[i], sizeof(crowd.looks[i]), "%s",
                 looks_of(directory, kind, mixed[i].name));
    }
    for (unsigned n = 0; n < MIXED_NAMES; n++) {
        char name[16];
        unsigned i = 0;
        snprintf(name, sizeof(name), "nobody%u", n);
        snprintf(first[n], sizeof(first[n]), "%s", looks_of(directory, kind, name));
        while (i < users && strcmp(first[n], crowd.looks[i]) != 0) {
            i++;
        }
        assert_true(i < users);
        crowd.names[i]++;
    }
    for (unsigned i = 0; i < users; i++) {
        assert_true(crowd.names[i] > 0);
    }
    for (unsigned n = 0; n < MIXED_NAMES; n++) { /* whoever was last */
        char name[16];
        snprintf(name, sizeof(name), "NOBODY%u", n);
        looks_of(directory, kind, mixed[n % MIXED].name);
        assert_string_equal(looks_of(directory, kind, name), first[n]);
    }
    for (unsigned i = users; i < MIXED; i++) { /* whom it does not serve looks as nobody would */
        char his[96];
        snprintf(his, sizeof(his), "%s", looks_of(directory, kind, mixed[i].name));
        unsigned at = 0;
        while (at < users && strcmp(his, crowd.looks[at]) != 0) {
            at++;
        }
        assert_true(at < users);
    }
}

static void a_name_that_is_nobodys_looks_like_that_of_somebody_and_always_the_same(void **state)
{
    struct directory *directory = opened_mixed("static", 1);
    (void)state;
    crowd_check(directory, AUTH_VERIFY, MIXED - UNUSABLE);
    crowd_check(directory, AUTH_CREDENTIAL, 3);
    directory_close(directory);
}

/* Of those who were seen. */
static void so_it_does_where_users_are_in_a_database(void **state)
{
    struct directory *directory = opened_mixed("inline", 1);
    (void)state;
    for (unsigned i = 0; i < MIXED; i++) {
        looks_of(directory, AUTH_VERIFY, mixed[i].name);
    }
    crowd_check(directory, AUTH_VERIFY, MIXED - UNUSABLE);
    crowd_check(directory, AUTH_CREDENTIAL, 3);
    directory_close(directory);
}

/* Mail has come for them, and nobody has logged in yet. */
static void so_it_does_where_users_of_a_database_have_had_mail(void **state)
{
    struct directory *directory = opened_mixed("inline", 1);
    (void)state;
    for (unsigned i = 0; i < MIXED; i++) {
        assert_int_equal(directory_knows(directory, slice_text(mixed[i].name), 1000), AUTH_RIGHT);
    }
    assert_int_equal(directory_knows(directory, slice_text("nobody"), 1000), AUTH_WRONG);
    crowd_check(directory, AUTH_CREDENTIAL, 3);
    directory_close(directory);
}

/* No user need have been seen. */
static void so_it_does_where_the_kinds_of_a_database_are_configured(void **state)
{
    const char *kinds[MIXED - UNUSABLE + 1] = {NULL};
    char problem[BACKEND_PROBLEM_MAX];
    struct directory *directory;
    (void)state;
    for (unsigned i = 0; i < MIXED - UNUSABLE; i++) {
        kinds[i] = mixed[i].stored;
    }
    directory = opened_mixed_as("inline", 1, kinds);
    crowd_check(directory, AUTH_VERIFY, MIXED - UNUSABLE);
    crowd_check(directory, AUTH_CREDENTIAL, 3);
    directory_close(directory);
    kinds[1] = "!";
    const char *const backends[] = {"inline:{a=b}", NULL};
    const struct directory_settings settings = {
        .backends = backends, .kinds = kinds, .world = &world};
    assert_int_equal(directory_open(&directory, &settings, problem), -EINVAL);
    assert_string_equal(problem, "kinds: number 2 is no password that could be used");
}

static void a_name_looks_the_same_after_the_next_start(void **state)
{
    static const char *const kinds[] = {"static", "inline"};
    char before[2][MIXED_NAMES][96];
    unsigned other = 0;
    (void)state;
    for (unsigned start = 0; start < 3; start++) {
        struct directory *directory = opened_mixed(kinds[start % 2], start == 2 ? 2 : 1);
        for (unsigned i = 0; i < MIXED; i++) {
            looks_of(directory, AUTH_VERIFY, mixed[start == 0 ? i : MIXED - 1 - i].name);
        }
        for (unsigned n = 0; n < MIXED_NAMES; n++) {
            char name[16];
            snprintf(name, sizeof(name), "nobody%u", n);
            snprintf(before[start > 0][n], 96, "%s", looks_of(directory, AUTH_VERIFY, name));
            assert_true(start != 1 || strcmp(before[0][n], before[1][n]) == 0);
            other += start == 2 && strcmp(before[0][n], before[1][n]) != 0;
        }
        directory_close(directory);
    }
    assert_true(other > 0); /* with another secret */
}

static struct password_scram seems_of(struct directory *directory, const char *user)
{
    struct auth_answer answer;
    const struct auth_ask ask = {.kind = AUTH_CREDENTIAL,
                                 .credential = AUTH_SCRAM_SHA_256,
                                 .method = "SCRAM-SHA-256",
                                 .authid = slice_text(user)};
    directory_answer(directory, &ask, 1000, &answer);
    return answer.seems;
}

static void the_salt_of_a_masters_name_tells_neither_who_he_is_nor_who_is_a_user(void **state)
{
    static const char *const backends[] = {"static:tim:{PLAIN}right", NULL},
                             *const masters[] = {
                                 "static:root:" SCRAM_OF("4096", "AAAAAAAAAAAAAAAAAAAAAA=="), NULL};
    static struct logger logger;
    char problem[BACKEND_PROBLEM_MAX];
    struct directory *directory = NULL;
    (void)state;
    logger_open(&logger, -1, LOGGER_ERROR);
    const struct directory_settings settings = {.backends = backends,
                                                .masters = masters,
                                                .master_separator = '*',
                                                .world = &world,
                                                .logger = &logger};
    assert_int_equal(directory_open(&directory, &settings, problem), 0);
    struct password_scram somebody = seems_of(directory, "tim*root"),
                          nobody = seems_of(directory, "nobody*root"),
                          other = seems_of(directory, "tim*other"),
                          again = seems_of(directory, "nobody*other");
    assert_memory_equal(&somebody, &nobody, sizeof(somebody));
    assert_memory_equal(&other, &again, sizeof(other));
    assert_int_equal(other.iterations, somebody.iterations);
    assert_int_equal(other.salt_bytes, somebody.salt_bytes);
    assert_memory_not_equal(other.salt, somebody.salt, other.salt_bytes);
    directory_close(directory);
}

/* What is stored looked like a hash, and is none: a name that would seem to have it costs one all the same. */
static void a_hash_that_cannot_be_made_makes_nobody_cheap(void **state)
{
    struct directory *directory =
        opened_with("{BLF-CRYPT}$2y$04$!!cdefghijklmnopqrstuuOxGeLGF0DeDmXW7nUc6ld2d0fbeqmPG");
    char known[sizeof(work)];
    (void)state;
    snprintf(known, sizeof(known), "%s",
             cost_of(directory, AUTH_VERIFY, "tim", "wrong", AUTH_WRONG));
    assert_true(strlen(known) > 4);
    assert_string_equal(cost_of(directory, AUTH_VERIFY, "nobody", "wrong", AUTH_WRONG), known);
    directory_close(directory);
}

/* crypt() takes 511 octets. A stranger chooses the password, and must not choose with it what names look like. */
static void a_password_that_no_hash_takes_is_wrong_and_changes_nobodys_kind(void **state)
{
    char looks[MIXED][96], cost[MIXED][96], before[MIXED_NAMES][96], name[16];
    char longest[PASSWORD_STORED_MAX];
    struct directory *directory = opened_mixed("static", 1);
    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    for (unsigned n = 0; n < MIXED_NAMES; n++) {
        snprintf(name, sizeof(name), "nobody%u", n);
        snprintf(before[n], sizeof(before[n]), "%s", looks_of(directory, AUTH_VERIFY, name));
    }
    for (unsigned i = 0; i < MIXED - UNUSABLE; i++) {
        snprintf(looks[i], sizeof(looks[i]), "%s", looks_of(directory, AUTH_VERIFY, mixed[i].name));
        snprintf(cost[i], sizeof(cost[i]), "%s",
                 cost_of(directory, AUTH_VERIFY, mixed[i].name, longest, AUTH_WRONG));
    }
    for (unsigned n = 0; n < MIXED_NAMES; n++) {
        unsigned i = 0;
        snprintf(name, sizeof(name), "nobody%u", n);
        while (strcmp(before[n], looks[i]) != 0) {
            i++;
            assert_true(i < MIXED - UNUSABLE);
        }
        assert_string_equal(cost_of(directory, AUTH_VERIFY, name, longest, AUTH_WRONG), cost[i]);
    }
    for (unsigned n = 0; n < MIXED_NAMES; n++) {
        snprintf(name, sizeof(name), "nobody%u", n);
        assert_string_equal(looks_of(directory, AUTH_VERIFY, name), before[n]);
    }
    directory_close(directory);
}

/* Nobody is told that a password is wrong which nobody has looked at, and no name gets another kind by it. */
static void without_memory_for_a_hash_nothing_is_known_of_anybody(void **state)
{
    static const char *const schemes[] = {"CRYPT", "SHA512-CRYPT", "BLF-CRYPT", "ARGON2ID"};
    const struct password_costs costs = {.argon2_kib = 1024, .argon2_passes = 1};
    static const uint8_t random[16] = {1, 2, 3};
    (void)state;
    for (unsigned i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        char stored[PASSWORD_STORED_MAX], before[sizeof(work)];
        assert_int_equal(password_make(schemes[i], slice_text("right"), &costs, random, stored), 0);
        struct directory *directory = opened_with(stored);
        snprintf(before, sizeof(before), "%s",
                 cost_of(directory, AUTH_VERIFY, "nobody", "wrong", AUTH_WRONG));
        memory_is_short = true;
        cost_of(directory, AUTH_VERIFY, "tim", "right", AUTH_UNKNOWN);
        cost_of(directory, AUTH_VERIFY, "tim", "wrong", AUTH_UNKNOWN);
        for (unsigned n = 0; n < 3; n++) { /* behind them names that nobody can have */
            cost_of(directory, AUTH_VERIFY, nobodies[n], "wrong", AUTH_UNKNOWN);
        }
        memory_is_short = false;
        assert_string_equal(cost_of(directory, AUTH_VERIFY, "nobody", "wrong", AUTH_WRONG), before);
        cost_of(directory, AUTH_VERIFY, "tim", "right", AUTH_RIGHT);
        directory_close(directory);
    }
}

/* A million users take seconds, in which nobody else's login waits: names look as they did. */
static void while_kinds_are_read_again_others_are_answered(void **state)
{
    struct directory *directory = opened_mixed("static", 1);
    char before[96];
    (void)state;
    snprintf(before, sizeof(before), "%s", looks_of(directory, AUTH_VERIFY, "nobody"));
    directory->kinds[0].generation++; /* as if they were others now */
    assert_int_equal(pthread_mutex_lock(&directory->surveying), 0);
    alarm(60); /* who waited here would do so for ever */
    assert_string_equal(looks_of(directory, AUTH_VERIFY, "nobody"), before);
    alarm(0);
    assert_int_equal(pthread_mutex_unlock(&directory->surveying), 0);
    assert_false(directory_kinds_are_fresh(directory, 1000));
    assert_string_equal(looks_of(directory, AUTH_VERIFY, "nobody"), before);
    assert_true(directory_kinds_are_fresh(directory, 1000));
    directory_close(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_user_costs_the_hash_that_a_wrong_password_costs),
        cmocka_unit_test(an_unknown_user_costs_the_proof_that_a_known_one_costs),
        cmocka_unit_test(a_name_that_is_nobodys_looks_like_that_of_somebody_and_always_the_same),
        cmocka_unit_test(so_it_does_where_users_are_in_a_database),
        cmocka_unit_test(so_it_does_where_users_of_a_database_have_had_mail),
        cmocka_unit_test(so_it_does_where_the_kinds_of_a_database_are_configured),
        cmocka_unit_test(a_name_looks_the_same_after_the_next_start),
        cmocka_unit_test(the_salt_of_a_masters_name_tells_neither_who_he_is_nor_who_is_a_user),
        cmocka_unit_test(a_hash_that_cannot_be_made_makes_nobody_cheap),
        cmocka_unit_test(a_password_that_no_hash_takes_is_wrong_and_changes_nobodys_kind),
        cmocka_unit_test(without_memory_for_a_hash_nothing_is_known_of_anybody),
        cmocka_unit_test(while_kinds_are_read_again_others_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
