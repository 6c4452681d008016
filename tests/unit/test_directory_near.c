/* What of the directory a shard may answer by itself: nothing that waits or takes long, and never so that it tells whose name it was. */
#include "engine/auth/directory.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND_NS 1000000000ull

static struct directory *directory;
static struct logger logger;
static struct auth_answer answer;
static char scram[PASSWORD_STORED_MAX];

static void random_fill(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static const struct world world = {.random = random_fill};

static int set_up(void **state)
{
    static const struct password_costs costs = {.scram_iterations = 4096};
    static const uint8_t random[16] = {1, 2, 3};
    (void)state;
    directory = NULL;
    logger_open(&logger, -1, LOGGER_ERROR);
    return password_make("SCRAM-SHA-256", slice_text("secret"), &costs, random, scram);
}

static int tear_down(void **state)
{
    (void)state;
    if (directory != NULL) {
        directory_close(directory);
    }
    return 0;
}

static void open_with(const char *kind, const char *user, const char *stored)
{
    static char name[PASSWORD_STORED_MAX + 64];
    static const char *backends[2];
    char problem[BACKEND_PROBLEM_MAX];
    if (directory != NULL) {
        directory_close(directory);
    }
    snprintf(name, sizeof(name), "%s:%s%s", kind, user, stored);
    backends[0] = name;
    const struct directory_settings settings = {.backends = backends,
                                                .world = &world,
                                                .logger = &logger,
                                                .right_ns = 100 * SECOND_NS,
                                                .wrong_ns = 100 * SECOND_NS,
                                                .penalty = {.block_after = 3}};
    assert_int_equal(directory_open(&directory, &settings, problem), 0);
}

static struct auth_ask ask_of(enum auth_ask_kind kind, const char *user, const char *password)
{
    return (struct auth_ask){.kind = kind,
                             .credential = AUTH_SCRAM_SHA_256,
                             .method = "SCRAM-SHA-256",
                             .authid = slice_text(user),
                             .password = slice_text(password),
                             .address = {.octets = {192, 0, 2, 1}}};
}

static bool near_at(enum auth_ask_kind kind, const char *user, const char *password,
                    uint64_t now_ns)
{
    const struct auth_ask ask = ask_of(kind, user, password);
    return directory_answer_near(directory, &ask, now_ns, &answer);
}

static enum auth_outcome asked_at(enum auth_ask_kind kind, const char *user, const char *password,
                                  uint64_t now_ns)
{
    const struct auth_ask ask = ask_of(kind, user, password);
    directory_answer(directory, &ask, now_ns, &answer);
    return answer.outcome;
}

static void keys_that_are_stored_are_near_and_so_is_that_there_are_none(void **state)
{
    static const char *const nobodies[] = {"tom", "", "a/b", ".tim"};
    (void)state;
    open_with("static", "tim:", scram);
    assert_true(near_at(AUTH_CREDENTIAL, "Tim", "", SECOND_NS));
    assert_int_equal(answer.outcome, AUTH_RIGHT);
    assert_string_equal(answer.user, "tim");
    assert_int_equal(answer.scram.iterations, 4096);
    assert_int_equal(answer.scram.key_bytes, 32);
    const struct auth_answer near = answer;
    assert_int_equal(asked_at(AUTH_CREDENTIAL, "Tim", "", SECOND_NS), AUTH_RIGHT);
    assert_memory_equal(&near.scram, &answer.scram, sizeof(near.scram));
    for (unsigned i = 0; i < sizeof(nobodies) / sizeof(nobodies[0]); i++) {
        assert_true(near_at(AUTH_CREDENTIAL, nobodies[i], "", SECOND_NS));
        assert_int_equal(answer.outcome, AUTH_WRONG);
        assert_int_equal(answer.scram.key_bytes, 0);
    }
    assert_true(near_at(AUTH_SUCCEEDED, "tim", "", SECOND_NS));
    assert_int_equal(answer.outcome, AUTH_RIGHT);
}

/* Whether a name is nobody's does not show in who answers: some are near, some not, as those of somebody are, and each is
 * always the same, whoever came before. */
static void keys_that_are_derived_of_a_password_are_not_near_and_of_nobodys_some_are(void **state)
{
    bool near[64];
    unsigned count = 0;
    (void)state;
    open_with("static",
              "tim:{PLAIN}secret\nbob:{PLAIN}other\njim:{CRYPT}$6$salt$hash\nann:", scram);
    assert_false(near_at(AUTH_CREDENTIAL, "tim", "", SECOND_NS));
    assert_true(near_at(AUTH_CREDENTIAL, "ann", "", SECOND_NS));
    for (unsigned i = 0; i < 64; i++) {
        char name[16];
        snprintf(name, sizeof(name), "nobody%u", i);
        near[i] = near_at(AUTH_CREDENTIAL, name, "", SECOND_NS);
        count += near[i];
    }
    assert_in_range(count, 1, 63);
    for (unsigned i = 0; i < 64; i++) {
        char name[16];
        snprintf(name, sizeof(name), "Nobody%u", i);
        asked_at(AUTH_CREDENTIAL, i % 2 == 0 ? "tim" : "ann", "", SECOND_NS);
        assert_int_equal(near_at(AUTH_CREDENTIAL, name, "", SECOND_NS), near[i]);
    }
    bool jim = near_at(AUTH_CREDENTIAL, "jim", "", SECOND_NS); /* for whom SCRAM can do nothing */
    open_with("static", "tim:{PLAIN}secret\nbob:{PLAIN}other\nann:", scram);
    assert_int_equal(near_at(AUTH_CREDENTIAL, "jim", "", SECOND_NS), jim);
}

/* CRAM-MD5 and DIGEST-MD5 take moments for everybody. */
static void passwords_in_plain_text_are_near_as_they_are_and_so_is_nobodys(void **state)
{
    static const enum auth_credential credentials[] = {AUTH_PASSWORD, AUTH_DIGEST_MD5};
    static const char *const names[] = {"tim", "ann", "nobody", "a/b"};
    (void)state;
    open_with("static", "tim:{PLAIN}secret\nann:", scram);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned n = 0; n < 4; n++) {
            struct auth_ask ask = ask_of(AUTH_CREDENTIAL, names[n], "");
            ask.credential = credentials[i];
            assert_true(directory_answer_near(directory, &ask, SECOND_NS, &answer));
            assert_int_equal(answer.outcome, n == 0 ? AUTH_RIGHT : AUTH_WRONG);
        }
    }
}

/* Another file may have other kinds, which are read by a helper. */
static void nothing_is_near_before_the_kinds_of_a_file_were_read_again(void **state)
{
    char path[] = "/tmp/test_directory_near.XXXXXX";
    int file = mkstemp(path);
    (void)state;
    assert_true(file >= 0 && dprintf(file, "tim:{PLAIN}secret\n") > 0);
    open_with("passwd-file", path, "");
    assert_int_equal(asked_at(AUTH_CREDENTIAL, "nobody", "", 10 * SECOND_NS), AUTH_WRONG);
    assert_false(near_at(AUTH_CREDENTIAL, "nobody", "", 10 * SECOND_NS)); /* as tim */
    assert_true(ftruncate(file, 0) == 0 && pwrite(file, "tim:", 4, 0) == 4 &&
                pwrite(file, scram, strlen(scram), 4) > 0);
    assert_int_equal(asked_at(AUTH_EXISTS, "tim", "", 11 * SECOND_NS), AUTH_RIGHT);
    assert_false(near_at(AUTH_CREDENTIAL, "tim", "", 11 * SECOND_NS));
    assert_int_equal(asked_at(AUTH_CREDENTIAL, "nobody", "", 11 * SECOND_NS), AUTH_WRONG);
    assert_true(near_at(AUTH_CREDENTIAL, "nobody", "", 11 * SECOND_NS));
    assert_true(near_at(AUTH_CREDENTIAL, "tim", "", 11 * SECOND_NS));
    close(file);
    unlink(path);
}

static void a_password_that_was_right_is_near_and_a_wrong_one_never(void **state)
{
    (void)state;
    open_with("static", "tim:", scram);
    assert_false(near_at(AUTH_VERIFY, "tim", "secret", SECOND_NS));
    assert_int_equal(asked_at(AUTH_VERIFY, "tim", "secret", SECOND_NS), AUTH_RIGHT);
    assert_true(near_at(AUTH_VERIFY, "TIM", "secret", SECOND_NS));
    assert_int_equal(answer.outcome, AUTH_RIGHT);
    assert_string_equal(answer.user, "tim");
    assert_int_equal(asked_at(AUTH_VERIFY, "tim", "other", SECOND_NS), AUTH_WRONG);
    assert_false(near_at(AUTH_VERIFY, "tim", "other", SECOND_NS));
    assert_false(near_at(AUTH_VERIFY, "tom", "secret", SECOND_NS));
    assert_false(near_at(AUTH_VERIFY, "tim", "", SECOND_NS));
    assert_false(near_at(AUTH_FAILED, "tim", "", SECOND_NS));
    assert_false(near_at(AUTH_EXISTS, "tim", "", SECOND_NS));
    assert_false(near_at(AUTH_VERIFY, "tim", "secret", 102 * SECOND_NS));
}

static void an_address_that_is_blocked_has_nothing_near(void **state)
{
    static const char *const wrong[] = {"a", "b", "c"};
    (void)state;
    open_with("static", "tim:", scram);
    assert_int_equal(asked_at(AUTH_VERIFY, "tim", "secret", SECOND_NS), AUTH_RIGHT);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(near_at(AUTH_VERIFY, "tim", "secret", SECOND_NS));
        assert_int_equal(asked_at(AUTH_VERIFY, "ann", wrong[i], SECOND_NS), AUTH_WRONG);
    }
    assert_false(near_at(AUTH_VERIFY, "tim", "secret", SECOND_NS));
    assert_false(near_at(AUTH_CREDENTIAL, "tim", "", SECOND_NS));
    assert_int_equal(asked_at(AUTH_VERIFY, "tim", "secret", SECOND_NS), AUTH_WRONG);
}

static void a_file_is_near_until_it_must_be_looked_at_again(void **state)
{
    char path[] = "/tmp/test_directory_near.XXXXXX";
    int file = mkstemp(path);
    (void)state;
    assert_true(file >= 0 && dprintf(file, "tim:%s\n", scram) > 0);
    open_with("passwd-file", path, "");
    assert_false(near_at(AUTH_CREDENTIAL, "tim", "", 10 * SECOND_NS));
    assert_int_equal(asked_at(AUTH_CREDENTIAL, "tim", "", 10 * SECOND_NS), AUTH_RIGHT);
    assert_true(near_at(AUTH_CREDENTIAL, "tim", "", 10 * SECOND_NS + 1));
    assert_int_equal(answer.outcome, AUTH_RIGHT);
    assert_true(dprintf(file, "ann:%s\n", scram) > 0);
    assert_false(near_at(AUTH_CREDENTIAL, "ann", "", 11 * SECOND_NS));
    assert_int_equal(asked_at(AUTH_CREDENTIAL, "ann", "", 11 * SECOND_NS), AUTH_RIGHT);
    close(file);
    unlink(path);
}

/* A helper waits for it. */
static void users_in_a_database_are_not_near(void **state)
{
    (void)state;
    open_with("inline", "{tim=", "{PLAIN}secret}");
    assert_false(near_at(AUTH_CREDENTIAL, "tim", "", SECOND_NS));
    assert_int_equal(asked_at(AUTH_VERIFY, "tim", "secret", SECOND_NS), AUTH_RIGHT);
    assert_false(near_at(AUTH_VERIFY, "tim", "secret", SECOND_NS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(keys_that_are_stored_are_near_and_so_is_that_there_are_none),
        TEST(keys_that_are_derived_of_a_password_are_not_near_and_of_nobodys_some_are),
        TEST(passwords_in_plain_text_are_near_as_they_are_and_so_is_nobodys),
        TEST(nothing_is_near_before_the_kinds_of_a_file_were_read_again),
        TEST(a_password_that_was_right_is_near_and_a_wrong_one_never),
        TEST(an_address_that_is_blocked_has_nothing_near),
        TEST(a_file_is_near_until_it_must_be_looked_at_again),
        TEST(users_in_a_database_are_not_near),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
