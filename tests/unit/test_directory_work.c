/* What an answer costs must not tell whose name it was: hashes are counted, and not measured. */
#include "engine/auth/directory.h"
#include <argon2.h>
#include <crypt.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* Each computation that is slow on purpose, with what its cost depends on. */
static char work[512];

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
    char *made = __real_crypt_rn(phrase, setting, data, size);
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
    return __real_argon2_verify(encoded, password, size, type);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_user_costs_the_hash_that_a_wrong_password_costs),
        cmocka_unit_test(an_unknown_user_costs_the_proof_that_a_known_one_costs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
