#include "engine/auth/token_key.h"
#include "engine/auth/token.h"
#include "engine/core/base64.h"
#include <errno.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

#define RSA_BITS_MIN 2048   /* RFC 7518 §3.3 */
#define SECRET_BYTES_MIN 32 /* §3.2 */
#define SECRET_BYTES_MAX 512
#define P256_BYTES 32
#define NUMBER_BYTES_MAX 1024 /* of RSA: 8192 bits */
#define KID_BYTES_MAX 128

struct token_key {
    char kid[KID_BYTES_MAX]; /* "": it has none */
    enum token_algorithm algorithm;
    EVP_PKEY *key; /* NULL: of HS256 */
    uint8_t secret[SECRET_BYTES_MAX];
    size_t secret_bytes;
};

struct token_keys {
    unsigned count;
    struct token_key all[TOKEN_KEYS_MAX];
};

enum token_algorithm token_algorithm_find(const char *name)
{
    static const char *const names[TOKEN_ALGORITHMS] = {
        [TOKEN_RS256] = "RS256", [TOKEN_ES256] = "ES256", [TOKEN_HS256] = "HS256"};
    unsigned at = 0;
    while (at < TOKEN_ALGORITHMS && strcmp(name, names[at]) != 0) {
        at++;
    }
    return (enum token_algorithm)at;
}

long token_base64_decode(struct slice text, uint8_t *to)
{
    uint8_t usual[BASE64_BYTES(TOKEN_BYTES_MAX)];
    if (text.size > sizeof usual || (text.size > 0 && memchr(text.bytes, '=', text.size) != NULL)) {
        return -1;
    }
    for (size_t i = 0; i < text.size; i++) {
        uint8_t octet = text.bytes[i];
        if (octet == '+' || octet == '/') {
            return -1;
        }
        usual[i] = octet == '-' ? '+' : octet == '_' ? '/' : octet;
    }
    return base64_decode_bare(slice_of(usual, text.size), to);
}

/* ---- Reading keys ---- */

static void problem_say(char problem[BACKEND_PROBLEM_MAX], const char *text)
{
    if (problem[0] == '\0') {
        snprintf(problem, BACKEND_PROBLEM_MAX, "%s", text);
    }
}

/* A member in base64, of about `room` octets; `to` has room for 3 more. -1: there is none, or it is another thing. */
static long member_octets(const json_t *key, const char *name, uint8_t *to, size_t room)
{
    const json_t *value = json_object_get(key, name);
    size_t size = json_string_length(value);
    if (!json_is_string(value) || size > BASE64_BYTES(room)) {
        return -1;
    }
    return token_base64_decode(slice_of(json_string_value(value), size), to);
}

static EVP_PKEY *key_of(const char *type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *making = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (parameters != NULL && making != NULL && EVP_PKEY_fromdata_init(making) == 1 &&
        EVP_PKEY_fromdata(making, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1) {
        key = NULL;
    }
    EVP_PKEY_CTX_free(making);
    OSSL_PARAM_free(parameters);
    return key;
}

static EVP_PKEY *rsa_read(const json_t *jwk)
{
    uint8_t n[NUMBER_BYTES_MAX + 3], e[NUMBER_BYTES_MAX + 3];
    long n_bytes = member_octets(jwk, "n", n, NUMBER_BYTES_MAX);
    long e_bytes = member_octets(jwk, "e", e, NUMBER_BYTES_MAX);
    if (n_bytes <= 0 || e_bytes <= 0) {
        return NULL;
    }
    BIGNUM *modulus = BN_bin2bn(n, (int)n_bytes, NULL),
           *exponent = BN_bin2bn(e, (int)e_bytes, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (modulus != NULL && exponent != NULL && build != NULL &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent)) {
        key = key_of("RSA", build);
    }
    OSSL_PARAM_BLD_free(build);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

static EVP_PKEY *ec_read(const json_t *jwk)
{
    uint8_t point[1 + 2 * (P256_BYTES + 3)] = {POINT_CONVERSION_UNCOMPRESSED};
    const char *curve = json_string_value(json_object_get(jwk, "crv"));
    if (curve == NULL || strcmp(curve, "P-256") != 0 ||
        member_octets(jwk, "x", point + 1, P256_BYTES) != P256_BYTES ||
        member_octets(jwk, "y", point + 1 + P256_BYTES, P256_BYTES) != P256_BYTES) {
        return NULL;
    }
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (build != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point,
                                         1 + 2 * P256_BYTES)) {
        key = key_of("EC", build);
    }
    OSSL_PARAM_BLD_free(build);
    return key;
}

/* Is it one that its algorithm can be trusted with? Of another curve or type: it is passed over. */
static bool key_settle(struct token_key *key, char problem[BACKEND_PROBLEM_MAX])
{
    char group[32] = "";
    if (EVP_PKEY_is_a(key->key, "RSA")) {
        key->algorithm = TOKEN_RS256;
        if (EVP_PKEY_get_bits(key->key) < RSA_BITS_MIN) {
            problem_say(problem, "a key of RSA is shorter than 2048 bits");
            return false;
        }
        return true;
    }
    key->algorithm = TOKEN_ES256;
    return EVP_PKEY_is_a(key->key, "EC") &&
           EVP_PKEY_get_group_name(key->key, group, sizeof group, NULL) == 1 &&
           strcmp(group, "prime256v1") == 0;
}

static bool secret_read(const json_t *jwk, struct token_key *key, char problem[BACKEND_PROBLEM_MAX])
{
    uint8_t octets[SECRET_BYTES_MAX + 3];
    long size = member_octets(jwk, "k", octets, SECRET_BYTES_MAX);
    key->algorithm = TOKEN_HS256;
    if (size < SECRET_BYTES_MIN || size > SECRET_BYTES_MAX) {
        problem_say(problem, "a secret has not between 32 and 512 octets");
        return false;
    }
    memcpy(key->secret, octets, (size_t)size);
    key->secret_bytes = (size_t)size;
    OPENSSL_cleanse(octets, sizeof octets);
    return true;
}

static bool says_otherwise(const json_t *jwk, const char *name, const char *wanted)
{
    const char *value = json_string_value(json_object_get(jwk, name));
    return value != NULL && strcmp(value, wanted) != 0;
}

/* What we have no use for is passed over, as RFC 7517 §5 wants it. */
static void jwk_read(const json_t *jwk, struct token_keys *keys, char problem[BACKEND_PROBLEM_MAX])
{
    static const char *const names[] = {"RS256", "ES256", "HS256"};
    struct token_key *key = &keys->all[keys->count];
    const char *type = json_string_value(json_object_get(jwk, "kty"));
    const char *kid = json_string_value(json_object_get(jwk, "kid"));
    memset(key, 0, sizeof *key);
    if (type == NULL || says_otherwise(jwk, "use", "sig") ||
        (kid != NULL && strlen(kid) >= sizeof key->kid)) {
        return;
    }
    snprintf(key->kid, sizeof key->kid, "%s", kid == NULL ? "" : kid);
    bool good = false;
    if (strcmp(type, "oct") == 0) {
        good = secret_read(jwk, key, problem);
    } else {
        key->key = strcmp(type, "RSA") == 0  ? rsa_read(jwk)
                   : strcmp(type, "EC") == 0 ? ec_read(jwk)
                                             : NULL;
        good = key->key != NULL && key_settle(key, problem);
    }
    if (good && !says_otherwise(jwk, "alg", names[key->algorithm])) {
        keys->count++;
    } else {
        EVP_PKEY_free(key->key);
        OPENSSL_cleanse(key, sizeof *key);
    }
}

static void set_read(struct slice text, struct token_keys *keys, char problem[BACKEND_PROBLEM_MAX])
{
    json_error_t error;
    json_t *set = json_loadb((const char *)text.bytes, text.size, JSON_REJECT_DUPLICATES, &error);
    const json_t *all = json_object_get(set, "keys");
    if (!json_is_array(all)) {
        problem_say(problem, set == NULL ? "no JSON" : "no set of keys (RFC 7517)");
    }
    for (size_t i = 0; i < json_array_size(all) && keys->count < TOKEN_KEYS_MAX; i++) {
        jwk_read(json_array_get(all, i), keys, problem);
    }
    json_decref(set);
}

static void pem_read(struct slice text, struct token_keys *keys, char problem[BACKEND_PROBLEM_MAX])
{
    BIO *file = BIO_new_mem_buf(text.bytes, (int)text.size);
    while (file != NULL && keys->count < TOKEN_KEYS_MAX) {
        struct token_key *key = &keys->all[keys->count];
        memset(key, 0, sizeof *key);
        key->key = PEM_read_bio_PUBKEY(file, NULL, NULL, NULL);
        if (key->key == NULL) {
            break;
        }
        if (key_settle(key, problem)) {
            keys->count++;
        } else {
            EVP_PKEY_free(key->key);
            key->key = NULL;
        }
    }
    BIO_free(file);
}

int token_keys_read(struct token_keys **read, struct slice text, char problem[BACKEND_PROBLEM_MAX])
{
    struct token_keys *keys = calloc(1, sizeof *keys);
    size_t blank = 0;
    problem[0] = '\0';
    if (keys == NULL) {
        return -ENOMEM;
    }
    while (blank < text.size && text.bytes[blank] <= ' ') {
        blank++;
    }
    if (blank < text.size && text.bytes[blank] == '{') {
        set_read(text, keys, problem);
    } else {
        pem_read(text, keys, problem);
    }
    ERR_clear_error();
    if (keys->count == 0 || problem[0] != '\0') {
        problem_say(problem, "there is no key in it");
        token_keys_free(keys);
        return -EINVAL;
    }
    *read = keys;
    return 0;
}

void token_keys_free(struct token_keys *keys)
{
    for (unsigned i = 0; keys != NULL && i < keys->count; i++) {
        EVP_PKEY_free(keys->all[i].key);
    }
    if (keys != NULL) {
        OPENSSL_cleanse(keys, sizeof *keys);
    }
    free(keys);
}

/* ---- Signatures ---- */

static bool secret_verify(const struct token_key *key, struct slice text, struct slice signature)
{
    uint8_t made[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    return HMAC(EVP_sha256(), key->secret, (int)key->secret_bytes, text.bytes, text.size, made,
                &size) != NULL &&
           signature.size == size && CRYPTO_memcmp(made, signature.bytes, size) == 0;
}

/* RFC 7518 §3.4: two numbers, one behind the other; OpenSSL wants them in DER. */
static int pair_to_der(struct slice signature, uint8_t **der)
{
    ECDSA_SIG *pair = signature.size == 2 * P256_BYTES ? ECDSA_SIG_new() : NULL;
    BIGNUM *r = pair == NULL ? NULL : BN_bin2bn(signature.bytes, P256_BYTES, NULL);
    BIGNUM *s = pair == NULL ? NULL : BN_bin2bn(signature.bytes + P256_BYTES, P256_BYTES, NULL);
    int size = -1;
    if (r != NULL && s != NULL && ECDSA_SIG_set0(pair, r, s) == 1) {
        size = i2d_ECDSA_SIG(pair, der);
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(pair);
    return size;
}

static bool public_verify(const struct token_key *key, struct slice text, struct slice signature)
{
    uint8_t *der = NULL;
    EVP_MD_CTX *work = EVP_MD_CTX_new();
    bool good = work != NULL;
    if (key->algorithm == TOKEN_ES256) {
        int size = pair_to_der(signature, &der);
        good = good && size > 0;
        signature = slice_of(der, size > 0 ? (size_t)size : 0);
    }
    good = good && EVP_DigestVerifyInit(work, NULL, EVP_sha256(), NULL, key->key) == 1 &&
           EVP_DigestVerify(work, signature.bytes, signature.size, text.bytes, text.size) == 1;
    EVP_MD_CTX_free(work);
    OPENSSL_free(der);
    ERR_clear_error();
    return good;
}

bool token_keys_verify(const struct token_keys *keys, enum token_algorithm algorithm,
                       const char *kid, struct slice text, struct slice signature)
{
    for (unsigned i = 0; i < keys->count; i++) {
        const struct token_key *key = &keys->all[i];
        bool named = kid != NULL && key->kid[0] != '\0';
        if (key->algorithm != algorithm || (named && strcmp(kid, key->kid) != 0)) {
            continue;
        }
        if (algorithm == TOKEN_HS256 ? secret_verify(key, text, signature)
                                     : public_verify(key, text, signature)) {
            return true;
        }
    }
    return false;
}
