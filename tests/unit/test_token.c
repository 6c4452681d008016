/* Tokens that are good and those that are not: signatures, keys of another kind, times, claims, the file of keys. */
#include "engine/auth/token.h"
#include "engine/core/base64.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define NOW 1800000000
#define SECRET "0123456789abcdef0123456789abcdef"
#define CLAIMS                                                                                     \
    "\"iss\":\"https://id.test\",\"aud\":\"mail\",\"azp\":\"app\",\"exp\":1800000100,"             \
    "\"sub\":\"tim\",\"scope\":\"openid mail.all\""

static EVP_PKEY *rsa, *rsa_other, *ec;
static char keys_path[64];
static struct tokens *tokens;
static struct logger logger;

static const char *const audiences[] = {"mail", "imap", NULL}, *const clients[] = {"app", NULL};

/* ---- Making them ---- */

/* In the alphabet of URLs; of static memory, several at a time. */
static const char *encoded(const void *octets, size_t size)
{
    static char texts[8][4096];
    static unsigned next;
    char *text = texts[next++ % 8];
    size_t length = base64_encode(slice_of(octets, size), text);
    while (length > 0 && text[length - 1] == '=') {
        length--;
    }
    text[length] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    }
    return text;
}

static size_t sign(EVP_PKEY *key, const char *text, uint8_t made[512])
{
    size_t size = 512;
    EVP_MD_CTX *work = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(work, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(work, made, &size, (const uint8_t *)text, strlen(text)), 1);
    EVP_MD_CTX_free(work);
    if (EVP_PKEY_is_a(key, "EC")) {
        const uint8_t *at = made;
        ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)size);
        assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(pair), made, 32), 32);
        assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(pair), made + 32, 32), 32);
        ECDSA_SIG_free(pair);
        size = 64;
    }
    return size;
}

/* key NULL: by the secret. */
static const char *token_of(const char *header, const char *claims, EVP_PKEY *key,
                            const char *secret)
{
    static char token[8192];
    uint8_t made[512];
    size_t size;
    snprintf(token, sizeof(token), "%s.%s", encoded(header, strlen(header)),
             encoded(claims, strlen(claims)));
    if (key != NULL) {
        size = sign(key, token, made);
    } else {
        unsigned bytes;
        assert_non_null(secret);
        HMAC(EVP_sha256(), secret, secret == NULL ? 0 : (int)strlen(secret), (const uint8_t *)token,
             strlen(token), made, &bytes);
        size = bytes;
    }
    strcat(strcat(token, "."), encoded(made, size));
    return token;
}

static const char *number_of(const EVP_PKEY *key, const char *name)
{
    uint8_t octets[512];
    BIGNUM *number = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    int size =
        EVP_PKEY_is_a(key, "EC") ? BN_bn2binpad(number, octets, 32) : BN_bn2bin(number, octets);
    BN_free(number);
    return encoded(octets, (size_t)size);
}

static void file_write(const char *text)
{
    FILE *file = fopen(keys_path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* All three, named "r", "e" and "s". */
static void set_write(const char *more)
{
    static char text[4096];
    snprintf(
        text, sizeof(text),
        " {\"keys\":[{\"kty\":\"RSA\",\"kid\":\"r\",\"use\":\"sig\",\"n\":\"%s\",\"e\":\"%s\"},"
        "{\"kty\":\"EC\",\"kid\":\"e\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"},"
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"},"
        "{\"kty\":\"oct\",\"kid\":\"s\",\"alg\":\"HS256\",\"k\":\"%s\"}%s]}",
        number_of(rsa, OSSL_PKEY_PARAM_RSA_N), number_of(rsa, OSSL_PKEY_PARAM_RSA_E),
        number_of(ec, OSSL_PKEY_PARAM_EC_PUB_X), number_of(ec, OSSL_PKEY_PARAM_EC_PUB_Y),
        encoded(SECRET, strlen(SECRET)), more);
    file_write(text);
}

static void pem_write(void)
{
    FILE *file = fopen(keys_path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PUBKEY(file, rsa), 1);
    assert_int_equal(PEM_write_PUBKEY(file, ec), 1);
    assert_int_equal(fclose(file), 0);
}

static int opened_with(const struct token_settings *more, char problem[BACKEND_PROBLEM_MAX])
{
    struct token_settings settings = *more;
    settings.keys = keys_path;
    settings.logger = &logger;
    settings.user_claim = more->user_claim == NULL ? "sub" : more->user_claim;
    return tokens_open(&tokens, &settings, problem);
}

static void open_with(const struct token_settings *settings)
{
    char problem[BACKEND_PROBLEM_MAX] = "";
    if (opened_with(settings, problem) != 0) {
        fail_msg("%s", problem);
    }
}

static const struct token_settings strict = {
    .issuer = "https://id.test", .audiences = audiences, .clients = clients, .scope = "mail.all"};

/* "tim", or why not. */
static const char *judged(const char *token)
{
    static char user[BACKEND_NAME_MAX + 1];
    const char *reason;
    bool good = tokens_judge(tokens, slice_text(token), NOW, user, &reason) == TOKEN_GOOD;
    assert_true(good == (reason == NULL));
    return good ? user : reason;
}

static int set_up_all(void **state)
{
    (void)state;
    rsa = EVP_RSA_gen(2048);
    rsa_other = EVP_RSA_gen(2048);
    ec = EVP_EC_gen("P-256");
    return rsa == NULL || rsa_other == NULL || ec == NULL;
}

static int tear_down_all(void **state)
{
    (void)state;
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(rsa_other);
    EVP_PKEY_free(ec);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(keys_path, sizeof(keys_path), "/tmp/tubepost-token-XXXXXX");
    int file = mkstemp(keys_path);
    assert_true(file >= 0);
    close(file);
    logger_open(&logger, -1, LOGGER_ERROR);
    set_write("");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (tokens != NULL) {
        tokens_close(tokens);
        tokens = NULL;
    }
    return unlink(keys_path);
}

/* ---- What is judged ---- */

static void a_good_token_tells_its_user_by_each_algorithm(void **state)
{
    (void)state;
    open_with(&strict);
    assert_string_equal(judged(token_of("{\"alg\":\"RS256\"}", "{" CLAIMS "}", rsa, NULL)), "tim");
    assert_string_equal(judged(token_of("{\"alg\":\"RS256\",\"kid\":\"r\",\"typ\":\"at+jwt\"}",
                                        "{" CLAIMS "}", rsa, NULL)),
                        "tim");
    assert_string_equal(judged(token_of("{\"alg\":\"ES256\"}", "{" CLAIMS "}", ec, NULL)), "tim");
    assert_string_equal(judged(token_of("{\"alg\":\"HS256\"}", "{" CLAIMS "}", NULL, SECRET)),
                        "tim");
    pem_write(); /* the file has changed: it is looked at again */
    assert_string_equal(judged(token_of("{\"alg\":\"RS256\"}", "{" CLAIMS "}", rsa, NULL)), "tim");
    assert_string_equal(judged(token_of("{\"alg\":\"ES256\"}", "{" CLAIMS "}", ec, NULL)), "tim");
    assert_string_equal(judged(token_of("{\"alg\":\"HS256\"}", "{" CLAIMS "}", NULL, SECRET)),
                        "the token is not signed by a known key");
}

static void what_is_not_signed_by_a_known_key_is_nobodys(void **state)
{
    static const char unsigned_text[] = "the token is not signed by a known key";
    char pem[4096], changed[9216];
    BIO *text = BIO_new(BIO_s_mem());
    (void)state;
    open_with(&strict);
    PEM_write_bio_PUBKEY(text, rsa);
    int size = BIO_read(text, pem, sizeof(pem) - 1);
    pem[size] = '\0';
    BIO_free(text);
    assert_string_equal(judged(token_of("{\"alg\":\"RS256\"}", "{" CLAIMS "}", rsa_other, NULL)),
                        unsigned_text);
    /* The public key as a secret (RFC 8725 §2.1). */
    assert_string_equal(judged(token_of("{\"alg\":\"HS256\"}", "{" CLAIMS "}", NULL, pem)),
                        unsigned_text);
    static const char *const headers[] = {"{\"alg\":\"none\"}",
                                          "{\"alg\":\"NONE\"}",
                                          "{\"alg\":\"ES256\"}",
                                          "{\"alg\":\"HS256\"}",
                                          "{\"alg\":\"RS512\"}",
                                          "{\"alg\":256}",
                                          "{}",
                                          "{\"alg\":\"RS256\",\"kid\":\"e\"}",
                                          "{\"alg\":\"RS256\",\"kid\":\"other\"}",
                                          "{\"alg\":\"RS256\",\"crit\":[\"exp\"]}"};
    for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
        assert_string_equal(judged(token_of(headers[i], "{" CLAIMS "}", rsa, NULL)), unsigned_text);
    }
    /* One octet of what was signed, and of the signature, is another. */
    const char *good = token_of("{\"alg\":\"RS256\"}", "{" CLAIMS "}", rsa, NULL);
    for (size_t at = 0; at < strlen(good); at += 7) {
        assert_true(strlen(good) < sizeof(changed));
        strcpy(changed, good);
        changed[at] = changed[at] == 'A' ? 'B' : 'A';
        assert_string_not_equal(judged(changed), "tim");
    }
    assert_true(strlen(good) < sizeof(changed));
    strcpy(changed, good);
    *(strrchr(changed, '.') + 1) = '\0';
    assert_string_equal(judged(changed), unsigned_text);
}

static void what_is_no_token_is_told_so(void **state)
{
    static const char *const texts[] = {
        "",    ".",          "..",         "a.b",        "a.b.c", "e30.e30.e30.e30",
        "e30", "W10.e30.AA", "%%%.e30.AA", "e30=.e30.AA"};
    static char long_text[TOKEN_BYTES_MAX + 10];
    (void)state;
    open_with(&strict);
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        const char *said = judged(texts[i]);
        assert_true(strcmp(said, "that is no token") == 0 ||
                    strcmp(said, "the token is not signed by a known key") == 0);
    }
    memset(long_text, 'a', sizeof(long_text) - 1);
    long_text[3] = long_text[6] = '.';
    assert_string_equal(judged(long_text), "that is no token");
    assert_string_equal(judged(token_of("{\"alg\":\"RS256\"}", "[]", rsa, NULL)),
                        "that is no token");
    assert_string_equal(
        judged(token_of("{\"alg\":\"RS256\"}", "{" CLAIMS ",\"sub\":\"una\"}", rsa, NULL)),
        "that is no token"); /* a name twice */
}

static void claims_are_as_the_operator_says(void **state)
{
#define ISS "\"iss\":\"https://id.test\","
#define AUD "\"aud\":\"mail\","
#define AZP "\"azp\":\"app\","
#define SCOPE "\"scope\":\"mail.all\","
#define SUB "\"sub\":\"tim\""
#define EXP "\"exp\":1800000001,"
    static const struct {
        const char *claims, *said;
    } rows[] = {
        {ISS AUD AZP SCOPE EXP SUB, "tim"},
        {AUD AZP SCOPE EXP SUB, "the token is of another issuer"},
        {"\"iss\":\"https://id.test/\"," AUD AZP SCOPE EXP SUB, "the token is of another issuer"},
        {ISS AZP SCOPE EXP SUB, "the token is for another service"},
        {ISS "\"aud\":\"shop\"," AZP SCOPE EXP SUB, "the token is for another service"},
        {ISS "\"aud\":[\"shop\",\"imap\"]," AZP SCOPE EXP SUB, "tim"},
        {ISS "\"aud\":[\"shop\",7,null]," AZP SCOPE EXP SUB, "the token is for another service"},
        {ISS AUD SCOPE EXP SUB, "the token is of another client"},
        {ISS AUD "\"azp\":\"spy\"," SCOPE EXP SUB, "the token is of another client"},
        {ISS AUD "\"client_id\":\"app\"," SCOPE EXP SUB, "tim"},
        {ISS AUD "\"azp\":\"spy\",\"client_id\":\"app\"," SCOPE EXP SUB,
         "the token is of another client"},
        {ISS AUD AZP EXP SUB, "the token lacks the scope"},
        {ISS AUD AZP "\"scope\":\"mail.all.not mail\"," EXP SUB, "the token lacks the scope"},
        {ISS AUD AZP "\"scp\":[\"a\",\"mail.all\"]," EXP SUB, "tim"},
        {ISS AUD AZP SCOPE SUB, "the token has no end"},
        {ISS AUD AZP SCOPE "\"exp\":\"1800000001\"," SUB, "the token has no end"},
        {ISS AUD AZP SCOPE "\"exp\":1799999971," SUB, "tim"},
        {ISS AUD AZP SCOPE "\"exp\":1799999970," SUB, "the token is expired"},
        {ISS AUD AZP SCOPE "\"exp\":-1e300," SUB, "the token is expired"},
        {ISS AUD AZP SCOPE EXP "\"nbf\":1800000030," SUB, "tim"},
        {ISS AUD AZP SCOPE EXP "\"nbf\":1800000031," SUB, "the token is not valid yet"},
        {ISS AUD AZP SCOPE EXP "\"nbf\":\"x\"," SUB, "the token is not valid yet"},
        {ISS AUD AZP SCOPE EXP "\"email\":\"tim\"", "the token names no user"},
        {ISS AUD AZP SCOPE EXP "\"sub\":7", "the token names no user"},
        {ISS AUD AZP SCOPE EXP "\"sub\":\"\"", "the token names no user"},
        {ISS AUD AZP SCOPE EXP "\"sub\":\"tim\\u0000x\"", "that is no token"},
    };
    char claims[512];
    (void)state;
    open_with(&strict);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        snprintf(claims, sizeof(claims), "{%s}", rows[i].claims);
        const char *said = judged(token_of("{\"alg\":\"ES256\"}", claims, ec, NULL));
        if (strcmp(said, rows[i].said) != 0) {
            print_error("%s\n", claims);
        }
        assert_string_equal(said, rows[i].said);
    }
}

static void the_user_is_in_the_claim_that_is_named(void **state)
{
    static const char *const domains[] = {"home.test", NULL};
    (void)state;
    open_with(&(struct token_settings){.user_claim = "email", .domains = domains});
    assert_string_equal(judged(token_of("{\"alg\":\"ES256\"}",
                                        "{" EXP SUB ",\"email\":\"una@home.test\"}", ec, NULL)),
                        "una@home.test");
}

/* alice@evil.test and alice+x, signed as they should be, have opened alice's mailbox. */
static void a_token_opens_no_mailbox_of_another_name(void **state)
{
    static const char *const domains[] = {"home.test", "else.test", NULL};
    static const struct {
        const char *user, *said, *said_without;
    } rows[] = {
        {"alice", "alice", "alice"},
        {"alice@home.test", "alice@home.test", "the token's user is of another domain"},
        {"alice@ELSE.test", "alice@ELSE.test", "the token's user is of another domain"},
        {"alice@evil.test", "the token's user is of another domain",
         "the token's user is of another domain"},
        {"alice@home.test.evil.test", "the token's user is of another domain",
         "the token's user is of another domain"},
        {"alice@evil.test@home.test", "the token's user is of another domain",
         "the token's user is of another domain"},
        {"alice@", "the token's user is of another domain",
         "the token's user is of another domain"},
        {"@home.test", "the token names no user", "the token names no user"},
        {"alice+x", "the token names a part of a mailbox", "the token names a part of a mailbox"},
        {"alice+x@home.test", "the token names a part of a mailbox",
         "the token names a part of a mailbox"},
        {"\\\"alice\\\"@home.test", "the token names a part of a mailbox",
         "the token names a part of a mailbox"},
    };
    char claims[512];
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof(rows) / sizeof(*rows)); i++) {
        bool with = i % 2 == 0;
        open_with(
            &(struct token_settings){.user_claim = "email", .domains = with ? domains : NULL});
        snprintf(claims, sizeof(claims), "{" EXP "\"email\":\"%s\"}", rows[i / 2].user);
        assert_string_equal(judged(token_of("{\"alg\":\"ES256\"}", claims, ec, NULL)),
                            with ? rows[i / 2].said : rows[i / 2].said_without);
        tokens_close(tokens);
        tokens = NULL;
    }
}

static void a_wrong_file_is_refused_and_later_leaves_the_old_keys(void **state)
{
    static const struct {
        const char *text, *problem;
    } rows[] = {
        {"", "there is no key in it"},
        {"{", "no JSON"},
        {"{\"keys\":{}}", "no set of keys (RFC 7517)"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2hvcnQ\"}]}",
         "a secret has not between 32 and 512 octets"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}]}",
         "there is no key in it"},
        {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "there is no key in it"},
    };
    char problem[BACKEND_PROBLEM_MAX];
    const char *good;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        file_write(rows[i].text);
        assert_int_equal(opened_with(&strict, problem), -EINVAL);
        assert_non_null(strstr(problem, rows[i].problem));
    }
    set_write(",{\"kty\":\"EC\",\"use\":\"enc\"}");
    open_with(&strict);
    file_write("{");
    good = token_of("{\"alg\":\"ES256\"}", "{" CLAIMS "}", ec, NULL);
    assert_string_equal(judged(good), "tim");
    file_write("{\"keys\":[]}");
    assert_string_equal(judged(good), "tim");
    unlink(keys_path);
    assert_string_equal(judged(good), "tim");
    assert_int_equal(opened_with(&strict, problem), -ENOENT);
    set_write("");
}

static void a_short_key_of_rsa_is_refused(void **state)
{
    char problem[BACKEND_PROBLEM_MAX];
    EVP_PKEY *small = EVP_RSA_gen(1024);
    FILE *file = fopen(keys_path, "w");
    (void)state;
    assert_non_null(small);
    assert_int_equal(PEM_write_PUBKEY(file, small), 1);
    fclose(file);
    EVP_PKEY_free(small);
    assert_int_equal(opened_with(&strict, problem), -EINVAL);
    assert_non_null(strstr(problem, "shorter than 2048 bits"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_token_tells_its_user_by_each_algorithm),
        TEST(what_is_not_signed_by_a_known_key_is_nobodys),
        TEST(what_is_no_token_is_told_so),
        TEST(claims_are_as_the_operator_says),
        TEST(a_token_opens_no_mailbox_of_another_name),
        TEST(the_user_is_in_the_claim_that_is_named),
        TEST(a_wrong_file_is_refused_and_later_leaves_the_old_keys),
        TEST(a_short_key_of_rsa_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
