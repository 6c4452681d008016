/*
 * The SASL machine against any client, each message of a length that the input chooses. The first byte is the
 * mechanism, the second what the owner answers.
 */
#include "proto/sasl/server.h"
#include "engine/core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const struct sasl_settings settings = {
    .offer = {.mechanisms = SASL_BIT(SASL_MECHANISMS) - 1},
    .iterations = 1,
    .realm = "fuzz.test",
};

static enum sasl_want owner_answers(struct sasl_server *server, enum sasl_want want, uint8_t seed)
{
    const struct sasl_question *question = sasl_server_question(server);
    const uint8_t keys[32] = {0};
    check(question->authid.size <= SASL_NAME_BYTES_MAX &&
          question->authzid.size <= SASL_NAME_BYTES_MAX);
    if (want == SASL_WANT_SECRET && (seed & 3) != 3) {
        bool sha1 =
            question->mechanism == SASL_SCRAM_SHA_1 || question->mechanism == SASL_SCRAM_SHA_1_PLUS;
        const struct sasl_secret secret = {
            .password = slice_text("secret"),
            .iterations = 1,
            .salt = slice_text("salt"),
            .stored_key = slice_of(keys, sha1 ? 20 : 32),
            .server_key = slice_of(keys, sha1 ? 20 : 32),
        };
        return sasl_server_secret(server, (seed & 3) == 0 ? NULL : &secret);
    }
    check(want != SASL_WANT_TOKEN || question->token.size > 0);
    check(want != SASL_WANT_VERIFY || question->authid.size > 0);
    enum sasl_verdict verdict = (enum sasl_verdict)(seed % 3);
    return sasl_server_verdict(server, want == SASL_WANT_SECRET ? SASL_UNKNOWN_NOW : verdict);
}

static void exchange(struct sasl_server *server, const uint8_t *bytes, size_t size, uint8_t seed)
{
    enum sasl_want want = seed & 0x80 ? sasl_server_step(server, NULL) : SASL_WANT_INPUT;
    for (unsigned i = 0; i < 8 && want != SASL_DONE && want != SASL_FAILED; i++) {
        if (want != SASL_WANT_INPUT) {
            want = owner_answers(server, want, seed);
            continue;
        }
        size_t part = size > 0 ? *bytes++ : 0;
        size -= size > 0;
        part = part < size ? part : size;
        uint8_t *copy = malloc(part + (part == 0));
        check(copy != NULL);
        memcpy(copy, bytes, part);
        const struct slice message = slice_of(copy, part);
        want = sasl_server_step(server, &message);
        free(copy);
        bytes += part;
        size -= part;
        check(sasl_server_challenge(server).size < 4096);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct sasl_library *library;
    static const struct sasl_facts facts = {
        .encrypted = true,
        .tls_unique = {(const uint8_t *)"unique", 6},
        .certificate_name = {(const uint8_t *)"name", 4},
    };
    struct sasl_server *server;
    if (library == NULL) {
        check(sasl_library_open(&library, &settings) == 0);
    }
    if (size < 2) {
        return 0;
    }
    check(sasl_server_open(&server, library, (enum sasl_mechanism)(bytes[0] % SASL_MECHANISMS),
                           &facts) == 0);
    exchange(server, bytes + 2, size - 2, bytes[1]);
    sasl_server_close(server);
    return 0;
}
