#include "engine/auth/password_kind.h"
#include "engine/auth/password_private.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define BCRYPT_BYTES 60u /* "$2b$NN$", 22 letters of salt, 31 of hash */

/* How many octets the first `fields` fields of "$a$b$..." take, with the "$" behind them. 0: there are not so many. */
static size_t fields_size(const char *text, unsigned fields)
{
    const char *at = text[0] == '$' ? text : NULL;
    for (unsigned i = 0; i < fields && at != NULL; i++) {
        at = strchr(at + 1, '$');
    }
    return at == NULL ? 0 : (size_t)(at - text) + 1;
}

static bool is_one_of(const char *text, const char *const *beginnings)
{
    while (*beginnings != NULL && strncmp(text, *beginnings, strlen(*beginnings)) != 0) {
        beginnings++;
    }
    return *beginnings != NULL;
}

/* crypt(5): the method, and what of the setting is its cost. */
static size_t crypt_cost_size(const char *text)
{
    static const char *const bcrypt[] = {"$2a$", "$2b$", "$2y$", NULL};
    static const char *const yescrypt[] = {"$y$", "$gy$", NULL};
    static const char *const rounds[] = {"$5$rounds=", "$6$rounds=", NULL};
    if (!password_crypt_bounded(text)) {
        return 0;
    }
    if (is_one_of(text, bcrypt)) {
        return strlen(text) == BCRYPT_BYTES ? fields_size(text, 2) : 0;
    }
    return fields_size(text, is_one_of(text, yescrypt) || is_one_of(text, rounds) ? 2 : 1);
}

/* "$argon2id$v=19$m=65536,t=3,p=1$salt$hash", of which v= may be missing. */
static size_t argon2_cost_size(const char *text)
{
    const char *costs = strstr(text, "$m=");
    const char *end = costs == NULL ? NULL : strchr(costs + 1, '$');
    return end == NULL || strchr(end + 1, '$') == NULL ? 0 : (size_t)(end - text) + 1;
}

/* "$1$salt$count$digits": the count. */
static bool pbkdf2_kind(const char *text, char kind[PASSWORD_KIND_BYTES])
{
    size_t before = fields_size(text, 2);
    unsigned long count = before == 0 ? 0 : strtoul(text + before, NULL, 10);
    snprintf(kind, PASSWORD_KIND_BYTES, "PBKDF2 %lu", count);
    return strncmp(text, "$1$", 3) == 0 && count > 0 && count <= PASSWORD_ITERATIONS_MAX;
}

static bool scram_kind(const struct password_parts *parts, enum password_hash hash,
                       struct password_kind *kind)
{
    struct password_scram scram;
    bool sha1 = hash == PASSWORD_SHA_1;
    bool good = password_scram_parse(parts, hash, &scram);
    if (good) {
        snprintf(kind->text, sizeof(kind->text), "SCRAM-SHA-%s %u %u", sha1 ? "1" : "256",
                 scram.iterations, scram.salt_bytes);
        kind->uses =
            PASSWORD_FOR_VERIFY | (sha1 ? PASSWORD_FOR_SCRAM_SHA_1 : PASSWORD_FOR_SCRAM_SHA_256);
    }
    OPENSSL_cleanse(&scram, sizeof(scram));
    return good;
}

static bool is_named(struct slice scheme, const char *const *names)
{
    while (*names != NULL && !slice_equal_nocase(scheme, slice_text(*names))) {
        names++;
    }
    return *names != NULL;
}

/* Of those whose rest is text: false where it says no costs that it may have. */
static bool text_kind(const struct password_parts *parts, const char *text,
                      struct password_kind *kind)
{
    static const char *const crypts[] = {"CRYPT",     "SHA512-CRYPT", "SHA256-CRYPT",
                                         "BLF-CRYPT", "MD5-CRYPT",    NULL};
    static const char *const argon2s[] = {"ARGON2ID", "ARGON2I", NULL};
    static const char *const plains[] = {"PLAIN", "CLEARTEXT", NULL};
    static const char *const digests[] = {"SHA",      "SHA1",      "SHA256",  "SHA512",
                                          "SSHA",     "SSHA256",   "SSHA512", "SMD5",
                                          "LDAP-MD5", "PLAIN-MD5", NULL};
    kind->uses = PASSWORD_FOR_VERIFY;
    if (is_named(parts->scheme, plains)) {
        snprintf(kind->text, sizeof(kind->text), "PLAIN");
        kind->uses |= PASSWORD_FOR_SCRAM_SHA_1 | PASSWORD_FOR_SCRAM_SHA_256;
        return true;
    }
    if (is_named(parts->scheme, digests)) {
        snprintf(kind->text, sizeof(kind->text), "%.*s", (int)parts->scheme.size,
                 (const char *)parts->scheme.bytes);
        for (char *at = kind->text; *at != '\0'; at++) {
            *at = (char)slice_lower((uint8_t)*at);
        }
        return text[0] != '\0';
    }
    if (slice_equal_nocase(parts->scheme, slice_text("PBKDF2"))) {
        return pbkdf2_kind(text, kind->text);
    }
    size_t size = is_named(parts->scheme, crypts)    ? crypt_cost_size(text)
                  : is_named(parts->scheme, argon2s) ? argon2_cost_size(text)
                                                     : 0;
    if (size == 0 || size >= sizeof(kind->text)) {
        return false;
    }
    memcpy(kind->text, text, size);
    kind->text[size] = '\0';
    return true;
}

bool password_kind_read(struct slice stored, const char *otherwise_scheme,
                        struct password_kind *kind)
{
    struct password_parts parts;
    char text[PASSWORD_STORED_MAX + 1];
    memset(kind, 0, sizeof(*kind));
    if (stored.size == 0 || !password_part(stored, otherwise_scheme, &parts)) {
        return false;
    }
    if (slice_equal_nocase(parts.scheme, slice_text("SCRAM-SHA-1"))) {
        return scram_kind(&parts, PASSWORD_SHA_1, kind);
    }
    if (slice_equal_nocase(parts.scheme, slice_text("SCRAM-SHA-256"))) {
        return scram_kind(&parts, PASSWORD_SHA_256, kind);
    }
    long size = password_decode(&parts, PASSWORD_USUAL, (uint8_t *)text);
    text[size < 0 ? 0 : size] = '\0';
    bool good = size >= 0 && text_kind(&parts, text, kind);
    OPENSSL_cleanse(text, sizeof(text));
    if (!good) {
        memset(kind, 0, sizeof(*kind));
    }
    return good;
}
