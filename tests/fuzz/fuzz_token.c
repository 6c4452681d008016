/*
 * Tokens and key sets of any bytes. The first byte chooses: the rest is a file of keys, a token, or the claims of one that
 * is signed with a key that is known.
 */
#include "engine/auth/token.h"
#include "engine/auth/token_key.h"
#include "engine/core/base64.h"
#include "engine/core/check.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SECRET "0123456789abcdef0123456789abcdef"
#define CLAIMS_MAX 4000u

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char *const audiences[] = {"mail", NULL};

static struct tokens *tokens_once(void)
{
    static struct tokens *tokens;
    static const char key[] = "{\"keys\":[{\"kty\":\"oct\",\"k\":"
                              "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}";
    char path[] = "/tmp/fuzz-token-XXXXXX", problem[BACKEND_PROBLEM_MAX];
    if (tokens != NULL) {
        return tokens;
    }
    int file = mkstemp(path);
    check(file >= 0 && write(file, key, sizeof(key) - 1) == (ssize_t)sizeof(key) - 1);
    close(file);
    const struct token_settings settings = {
        .keys = path, .issuer = "i", .audiences = audiences, .user_claim = "sub", .scope = "s"};
    check(tokens_open(&tokens, &settings, problem) == 0);
    unlink(path); /* from here on it does not change */
    return tokens;
}

static size_t encode(const uint8_t *bytes, size_t size, char *text)
{
    size_t length = base64_encode(slice_of(bytes, size), text);
    while (length > 0 && text[length - 1] == '=') {
        length--;
    }
    for (size_t i = 0; i < length; i++) {
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    }
    return length;
}

static struct slice signed_claims(const uint8_t *claims, size_t size)
{
    static char token[BASE64_BYTES(CLAIMS_MAX) + 200];
    uint8_t made[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    size_t used = (size_t)snprintf(token, sizeof(token), "eyJhbGciOiJIUzI1NiJ9.");
    used += encode(claims, size, token + used);
    HMAC(EVP_sha256(), SECRET, sizeof(SECRET) - 1, (const uint8_t *)token, used, made, &bytes);
    token[used++] = '.';
    used += encode(made, bytes, token + used);
    return slice_of(token, used);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char problem[BACKEND_PROBLEM_MAX], user[BACKEND_NAME_MAX + 1];
    const char *reason = NULL;
    struct token_keys *keys = NULL;
    if (size == 0) {
        return 0;
    }
    struct slice rest = slice_of(bytes + 1, size - 1);
    if (bytes[0] % 3 == 0) {
        if (token_keys_read(&keys, rest, problem) == 0) {
            token_keys_verify(keys, TOKEN_ES256, "a", rest, slice_first(rest, 64));
            token_keys_free(keys);
        } else {
            check(problem[0] != '\0');
        }
        return 0;
    }
    if (bytes[0] % 3 == 2) {
        rest = signed_claims(rest.bytes, rest.size < CLAIMS_MAX ? rest.size : CLAIMS_MAX);
    }
    bool good = tokens_judge(tokens_once(), rest, 1000, user, &reason) == TOKEN_GOOD;
    check(good == (reason == NULL) && (!good || (user[0] != '\0' && bytes[0] % 3 == 2)));
    return 0;
}
