/* TLS 1.3's key schedule of our own: the RFC's example, and whatever is asked as OpenSSL would have answered. */
#include "engine/tls/key_schedule.h"
#include "engine/core/slice.h"
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define OURS "provider=tubepost"
#define THEIRS "provider=default"
#define OUT_MAX 1024u

/* What libssl asks. A slice without bytes is left out. */
struct question {
    int mode;
    const char *digest;
    struct slice key, salt, prefix, label, data;
    size_t size;
};

static OSSL_PARAM *piece(OSSL_PARAM *at, const char *name, struct slice bytes)
{
    if (bytes.bytes != NULL) {
        *at++ = OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)bytes.bytes, bytes.size);
    }
    return at;
}

/* 1: answered. */
static int ask(const char *whom, const struct question *question, uint8_t out[OUT_MAX])
{
    int mode = question->mode;
    OSSL_PARAM parameters[8], *at = parameters;
    *at++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
    *at++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                             (char *)(uintptr_t)question->digest, 0);
    at = piece(at, OSSL_KDF_PARAM_KEY, question->key);
    at = piece(at, OSSL_KDF_PARAM_SALT, question->salt);
    at = piece(at, OSSL_KDF_PARAM_PREFIX, question->prefix);
    at = piece(at, OSSL_KDF_PARAM_LABEL, question->label);
    at = piece(at, OSSL_KDF_PARAM_DATA, question->data);
    *at = OSSL_PARAM_construct_end();
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, whom);
    assert_non_null(kdf);
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
    int answered = EVP_KDF_derive(context, out, question->size, parameters);
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return answered;
}

/* RFC 8448 §3: the early secret of no PSK, then the secret "derived" goes into the handshake's. */
static void the_secrets_of_rfc_8448_come_out(void **state)
{
    (void)state;
    static const uint8_t early[] = {0x33, 0xad, 0x0a, 0x1c, 0x60, 0x7e, 0xc0, 0x3b,
                                    0x09, 0xe6, 0xcd, 0x98, 0x93, 0x68, 0x0c, 0xe2,
                                    0x10, 0xad, 0xf3, 0x00, 0xaa, 0x1f, 0x26, 0x60,
                                    0xe1, 0xb2, 0x2e, 0x10, 0xf1, 0x70, 0xf9, 0x2a};
    static const uint8_t shared[] = {0x8b, 0xd4, 0x05, 0x4f, 0xb5, 0x5b, 0x9d, 0x63,
                                     0xfd, 0xfb, 0xac, 0xf9, 0xf0, 0x4b, 0x9f, 0x0d,
                                     0x35, 0xe6, 0xd6, 0x3f, 0x53, 0x75, 0x63, 0xef,
                                     0xd4, 0x62, 0x72, 0x90, 0x0f, 0x89, 0x49, 0x2d};
    static const uint8_t handshake[] = {0x1d, 0xc8, 0x26, 0xe9, 0x36, 0x06, 0xaa, 0x6f,
                                        0xdc, 0x0a, 0xad, 0xc1, 0x2f, 0x74, 0x1b, 0x01,
                                        0x04, 0x6a, 0xa6, 0xb9, 0x9f, 0x69, 0x1e, 0xd2,
                                        0x21, 0xa9, 0xf0, 0xca, 0x04, 0x3f, 0xbe, 0xac};
    uint8_t out[OUT_MAX];
    struct question question = {.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY,
                                .digest = "SHA2-256",
                                .prefix = slice_text("tls13 "),
                                .label = slice_text("derived"),
                                .size = 32};
    assert_int_equal(ask(OURS, &question, out), 1);
    assert_memory_equal(out, early, sizeof(early));
    question.salt = slice_of(early, sizeof(early));
    question.key = slice_of(shared, sizeof(shared));
    assert_int_equal(ask(OURS, &question, out), 1);
    assert_memory_equal(out, handshake, sizeof(handshake));
}

static void every_question_is_answered_as_openssl_answers_it(void **state)
{
    (void)state;
    uint8_t bytes[256], ours[OUT_MAX], theirs[OUT_MAX];
    uint32_t random = 1;
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 37 + 11);
    }
    for (unsigned i = 0; i < 4000; i++) {
        random = random * 1664525u + 1013904223u;
        bool wide = (random >> 8 & 1) != 0, extracts = (random >> 9 & 3) == 0;
        size_t hash_bytes = wide ? 48 : 32;
        const struct question question = {
            .mode = extracts ? EVP_KDF_HKDF_MODE_EXTRACT_ONLY : EVP_KDF_HKDF_MODE_EXPAND_ONLY,
            .digest = wide ? "SHA2-384" : "SHA2-256",
            .key = slice_of(extracts && i % 5 == 0 ? NULL : bytes + i % 7, hash_bytes),
            .salt = slice_of(extracts && i % 3 > 0 ? bytes + i % 11 : NULL, hash_bytes),
            .prefix = slice_text("tls13 "),
            .label = slice_of(bytes + i % 13, 1 + (random >> 12) % 30),
            .data = slice_of(extracts || i % 4 == 0 ? NULL : bytes, (random >> 18) % 200),
            .size = extracts ? hash_bytes : 1 + (random >> 20) % OUT_MAX};
        assert_int_equal(ask(THEIRS, &question, theirs), 1);
        assert_int_equal(ask(OURS, &question, ours), 1);
        assert_memory_equal(ours, theirs, question.size);
    }
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const uint8_t bytes[300];
    uint8_t out[OUT_MAX];
    const struct question good = {.mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY,
                                  .digest = "SHA2-256",
                                  .key = slice_of(bytes, 32),
                                  .prefix = slice_text("tls13 "),
                                  .label = slice_text("key"),
                                  .size = 16};
    struct question wrong[6] = {good, good, good, good, good, good};
    wrong[0].mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
    wrong[1].digest = "SHA2-512";
    wrong[2].key = slice_of(bytes, 65);
    wrong[3].label = slice_of(bytes, 250);
    wrong[4].data = slice_of(bytes, 256);
    wrong[5].mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY; /* of another size than the hash's */
    assert_int_equal(ask(OURS, &good, out), 1);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_not_equal(ask(OURS, &wrong[i], out), 1);
    }
}

/* Offered a second time it is there once, and everything else is still OpenSSL's. */
static void nothing_else_changes(void **state)
{
    (void)state;
    assert_true(tls_key_schedule_offer());
    EVP_MD *digest = EVP_MD_fetch(NULL, "SHA2-384", TLS_KEY_SCHEDULE_WISHED);
    assert_non_null(digest);
    EVP_MD_free(digest);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, TLS_KEY_SCHEDULE_WISHED);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), "tubepost");
    EVP_KDF_free(kdf);
}

static int offer(void **state)
{
    (void)state;
    return tls_key_schedule_offer() ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_secrets_of_rfc_8448_come_out),
        cmocka_unit_test(every_question_is_answered_as_openssl_answers_it),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(nothing_else_changes),
    };
    return cmocka_run_group_tests(tests, offer, NULL);
}
