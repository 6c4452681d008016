#include "engine/auth/password_private.h"
#include "engine/core/check.h"
#include "engine/core/base64.h"
#include <argon2.h>
#include <crypt.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

/* ---- {SCHEME.encoding}rest ---- */

static bool ends_with(struct slice text, const char *end)
{
    size_t size = strlen(end);
    return text.size >= size &&
           slice_equal_nocase(slice_from(text, text.size - size), slice_text(end));
}

static int digit_of(uint8_t octet)
{
    octet = slice_lower(octet);
    return octet >= '0' && octet <= '9'   ? octet - '0'
           : octet >= 'a' && octet <= 'f' ? octet - 'a' + 10
                                          : -1;
}

static long hex_decode(struct slice text, uint8_t *to)
{
    for (size_t i = 0; i + 1 < text.size; i += 2) {
        int high = digit_of(text.bytes[i]), low = digit_of(text.bytes[i + 1]);
        if (high < 0 || low < 0) {
            return -1;
        }
        to[i / 2] = (uint8_t)(high << 4 | low);
    }
    return text.size % 2 == 0 ? (long)(text.size / 2) : -1;
}

/* Cuts off the encoding's name. */
static enum password_encoding encoding_cut(struct slice *scheme)
{
    static const struct {
        const char *suffix;
        enum password_encoding encoding;
    } all[] = {{".b64", PASSWORD_BASE64}, {".base64", PASSWORD_BASE64}, {".hex", PASSWORD_HEX}};
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (ends_with(*scheme, all[i].suffix)) {
            scheme->size -= strlen(all[i].suffix);
            return all[i].encoding;
        }
    }
    return PASSWORD_USUAL;
}

bool password_part(struct slice stored, const char *otherwise_scheme, struct password_parts *parts)
{
    if (stored.size > PASSWORD_STORED_MAX) {
        return false;
    }
    parts->scheme = slice_text(otherwise_scheme);
    parts->rest = stored;
    if (stored.size > 0 && stored.bytes[0] == '{') {
        const uint8_t *end = memchr(stored.bytes, '}', stored.size);
        if (end == NULL) {
            return false;
        }
        parts->scheme = slice_of(stored.bytes + 1, (size_t)(end - stored.bytes) - 1);
        parts->rest = slice_from(stored, parts->scheme.size + 2);
    }
    parts->encoding = encoding_cut(&parts->scheme);
    return true;
}

long password_decode(const struct password_parts *parts, enum password_encoding usual,
                     uint8_t to[PASSWORD_STORED_MAX])
{
    switch (parts->encoding == PASSWORD_USUAL ? usual : parts->encoding) {
    case PASSWORD_HEX:
        return hex_decode(parts->rest, to);
    case PASSWORD_BASE64:
        return base64_decode_bare(parts->rest, to);
    case PASSWORD_USUAL:
        break;
    }
    if (parts->rest.size > 0) {
        memcpy(to, parts->rest.bytes, parts->rest.size);
    }
    return (long)parts->rest.size;
}

/* ---- The schemes ---- */

/* Compares as long for one that differs at once as for one that differs at the end. */
static enum password_answer compare(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    return a_bytes == b_bytes && CRYPTO_memcmp(a, b, a_bytes) == 0 ? PASSWORD_MATCHES
                                                                   : PASSWORD_DIFFERS;
}

/* Both by their digests, so that neither length nor common beginning shows. */
static enum password_answer plain_verify(const struct password_parts *parts, struct slice password)
{
    uint8_t plain[PASSWORD_STORED_MAX], digests[2][EVP_MAX_MD_SIZE];
    unsigned bytes;
    long size = password_decode(parts, PASSWORD_USUAL, plain);
    if (size < 0) {
        return PASSWORD_UNUSABLE;
    }
    int made = EVP_Digest(plain, (size_t)size, digests[0], &bytes, EVP_sha256(), NULL) &&
               EVP_Digest(password.bytes, password.size, digests[1], &bytes, EVP_sha256(), NULL);
    OPENSSL_cleanse(plain, sizeof(plain));
    return made ? compare(digests[0], 32, digests[1], 32) : PASSWORD_NO_MEMORY;
}

/* The password as crypt() takes it. False: it takes no such one, and so has never made anything of it: that says nothing of
 * what is stored. */
static bool phrase_of(struct slice password, char string[CRYPT_MAX_PASSPHRASE_SIZE])
{
    if (password.size >= CRYPT_MAX_PASSPHRASE_SIZE ||
        (password.size > 0 && memchr(password.bytes, '\0', password.size) != NULL)) {
        return false;
    }
    if (password.size > 0) {
        memcpy(string, password.bytes, password.size);
    }
    string[password.size] = '\0';
    return true;
}

/* "NAME=digits" somewhere in the text. 0: it is not there. */
static uint64_t number_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

/* crypt(5): which setting costs how much. yescrypt has it in letters: "j", then the logarithm of N, then r. */
bool password_crypt_bounded(const char *setting)
{
    static const char letters[] =
        "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const char *at = setting[1] == 'g' ? setting + 4 : setting + 3;
    if (strncmp(setting, "$1$", 3) == 0) {
        return true;
    }
    if (strncmp(setting, "$5$", 3) == 0 || strncmp(setting, "$6$", 3) == 0) {
        return number_after(setting, "$rounds=") <= PASSWORD_ITERATIONS_MAX;
    }
    if (strncmp(setting, "$2a$", 4) == 0 || strncmp(setting, "$2b$", 4) == 0 ||
        strncmp(setting, "$2y$", 4) == 0) {
        return strtoul(setting + 4, NULL, 10) <= PASSWORD_BCRYPT_COST_MAX;
    }
    if (strncmp(setting, "$y$", 3) == 0 || strncmp(setting, "$gy$", 4) == 0) {
        const char *n = at[0] == 'j' && at[1] != '\0' ? strchr(letters, at[1]) : NULL;
        const char *r = n == NULL || at[2] == '\0' ? NULL : strchr(letters, at[2]);
        /* 128 * N * r octets: with r = 32 ('T') and N = 2^15 ('C') 128 MiB */
        return r != NULL && at[3] == '$' && n - letters <= 14 && r - letters <= 31;
    }
    return false;
}

static enum password_answer crypt_verify(const struct password_parts *parts, struct slice password)
{
    uint8_t text[PASSWORD_STORED_MAX + 1];
    char string[CRYPT_MAX_PASSPHRASE_SIZE];
    long size = password_decode(parts, PASSWORD_USUAL, text);
    if (size <= 0 || memchr(text, '\0', (size_t)size) != NULL) {
        return PASSWORD_UNUSABLE;
    }
    text[size] = '\0';
    if (!password_crypt_bounded((char *)text)) {
        return PASSWORD_UNUSABLE;
    }
    if (!phrase_of(password, string)) {
        return PASSWORD_DIFFERS;
    }
    struct crypt_data *work = calloc(1, sizeof(*work));
    errno = work == NULL ? ENOMEM : 0;
    const char *made =
        work == NULL ? NULL : crypt_rn(string, (char *)text, work, (int)sizeof(*work));
    enum password_answer answer = made != NULL ? compare(made, strlen(made), text, (size_t)size)
                                  : errno == ENOMEM ? PASSWORD_NO_MEMORY
                                                    : PASSWORD_UNUSABLE;
    OPENSSL_cleanse(string, sizeof(string));
    if (work != NULL) {
        OPENSSL_cleanse(work, sizeof(*work));
    }
    free(work);
    return answer;
}

static enum password_answer argon2_check(const struct password_parts *parts, struct slice password,
                                         argon2_type type)
{
    uint8_t text[PASSWORD_STORED_MAX + 1];
    long size = password_decode(parts, PASSWORD_USUAL, text);
    if (size <= 0 || memchr(text, '\0', (size_t)size) != NULL) {
        return PASSWORD_UNUSABLE;
    }
    text[size] = '\0';
    const char *encoded = (const char *)text;
    if (number_after(encoded, "$m=") > PASSWORD_ARGON2_KIB_MAX ||
        number_after(encoded, ",t=") > PASSWORD_ARGON2_PASSES_MAX ||
        number_after(encoded, ",p=") > PASSWORD_ARGON2_LANES_MAX) {
        return PASSWORD_UNUSABLE;
    }
    int status = argon2_verify(encoded, password.bytes, password.size, type);
    return status == ARGON2_OK                ? PASSWORD_MATCHES
           : status == ARGON2_VERIFY_MISMATCH ? PASSWORD_DIFFERS
           : status == ARGON2_MEMORY_ALLOCATION_ERROR || status == ARGON2_THREAD_FAIL
               ? PASSWORD_NO_MEMORY
               : PASSWORD_UNUSABLE;
}

static enum password_answer argon2_id(const struct password_parts *parts, struct slice password)
{
    return argon2_check(parts, password, Argon2_id);
}

static enum password_answer argon2_i(const struct password_parts *parts, struct slice password)
{
    return argon2_check(parts, password, Argon2_i);
}

static enum password_answer scram_check(const struct password_parts *parts, struct slice password,
                                        enum password_hash hash)
{
    struct password_scram stored, made;
    if (!password_scram_parse(parts, hash, &stored)) {
        return PASSWORD_UNUSABLE;
    }
    made = stored;
    if (password_scram_make(hash, password, &made) < 0) {
        return PASSWORD_NO_MEMORY;
    }
    return compare(made.stored_key, made.key_bytes, stored.stored_key, stored.key_bytes);
}

static enum password_answer scram_sha1_verify(const struct password_parts *parts,
                                              struct slice password)
{
    return scram_check(parts, password, PASSWORD_SHA_1);
}

static enum password_answer scram_sha256_verify(const struct password_parts *parts,
                                                struct slice password)
{
    return scram_check(parts, password, PASSWORD_SHA_256);
}

/* "$1$salt$count$hexadecimal digits", with SHA-1; the salt is the text that it is. */
static enum password_answer pbkdf2_verify(const struct password_parts *parts, struct slice password)
{
    char text[PASSWORD_STORED_MAX + 1];
    uint8_t stored[PASSWORD_STORED_MAX], made[20];
    long size = password_decode(parts, PASSWORD_USUAL, (uint8_t *)text);
    if (size <= 0) {
        return PASSWORD_UNUSABLE;
    }
    text[size] = '\0';
    char *salt = text + 3, *count, *digits, *end;
    if (strncmp(text, "$1$", 3) != 0 || (count = strchr(salt, '$')) == NULL) {
        return PASSWORD_UNUSABLE;
    }
    unsigned long iterations = strtoul(count + 1, &end, 10);
    digits = end + 1;
    if (*end != '$' || iterations == 0 || iterations > PASSWORD_ITERATIONS_MAX ||
        hex_decode(slice_text(digits), stored) != (long)sizeof(made)) {
        return PASSWORD_UNUSABLE;
    }
    if (PKCS5_PBKDF2_HMAC((const char *)password.bytes, (int)password.size, (uint8_t *)salt,
                          (int)(count - salt), (int)iterations, EVP_sha1(), (int)sizeof(made),
                          made) != 1) {
        return PASSWORD_NO_MEMORY;
    }
    return compare(made, sizeof(made), stored, sizeof(made));
}

/* A digest, with what is behind it as its salt. */
static enum password_answer digest_check(const struct password_parts *parts, struct slice password,
                                         const EVP_MD *hash, bool salted)
{
    uint8_t stored[PASSWORD_STORED_MAX], made[EVP_MAX_MD_SIZE];
    enum password_encoding usual =
        slice_equal_nocase(parts->scheme, slice_text("PLAIN-MD5")) ? PASSWORD_HEX : PASSWORD_BASE64;
    long size = password_decode(parts, usual, stored);
    size_t bytes = (size_t)EVP_MD_get_size(hash);
    if (size < (long)bytes || (!salted && size != (long)bytes)) {
        return PASSWORD_UNUSABLE;
    }
    EVP_MD_CTX *work = EVP_MD_CTX_new();
    bool good = work != NULL && EVP_DigestInit_ex(work, hash, NULL) &&
                EVP_DigestUpdate(work, password.bytes, password.size) &&
                EVP_DigestUpdate(work, stored + bytes, (size_t)size - bytes) &&
                EVP_DigestFinal_ex(work, made, NULL);
    EVP_MD_CTX_free(work);
    return good ? compare(made, bytes, stored, bytes) : PASSWORD_NO_MEMORY;
}

typedef enum password_answer verify(const struct password_parts *parts, struct slice password);

static const struct {
    const char *name;
    verify *verify; /* or */
    const EVP_MD *(*hash)(void);
    bool salted;
} schemes[] = {
    {"PLAIN", plain_verify, NULL, false},
    {"CLEARTEXT", plain_verify, NULL, false},
    {"CRYPT", crypt_verify, NULL, false},
    {"SHA512-CRYPT", crypt_verify, NULL, false},
    {"SHA256-CRYPT", crypt_verify, NULL, false},
    {"BLF-CRYPT", crypt_verify, NULL, false},
    {"MD5-CRYPT", crypt_verify, NULL, false},
    {"ARGON2ID", argon2_id, NULL, false},
    {"ARGON2I", argon2_i, NULL, false},
    {"SCRAM-SHA-1", scram_sha1_verify, NULL, false},
    {"SCRAM-SHA-256", scram_sha256_verify, NULL, false},
    {"PBKDF2", pbkdf2_verify, NULL, false},
    {"SHA", NULL, EVP_sha1, false},
    {"SHA1", NULL, EVP_sha1, false},
    {"SHA256", NULL, EVP_sha256, false},
    {"SHA512", NULL, EVP_sha512, false},
    {"SSHA", NULL, EVP_sha1, true},
    {"SSHA256", NULL, EVP_sha256, true},
    {"SSHA512", NULL, EVP_sha512, true},
    {"SMD5", NULL, EVP_md5, true},
    {"LDAP-MD5", NULL, EVP_md5, false},
    {"PLAIN-MD5", NULL, EVP_md5, false},
};

enum password_answer password_verify(struct slice stored, const char *otherwise_scheme,
                                     struct slice password)
{
    struct password_parts parts;
    if (password.size > PASSWORD_STORED_MAX) {
        return PASSWORD_DIFFERS;
    }
    if (!password_part(stored, otherwise_scheme, &parts)) {
        return PASSWORD_UNUSABLE;
    }
    for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (slice_equal_nocase(parts.scheme, slice_text(schemes[i].name))) {
            return schemes[i].verify != NULL
                       ? schemes[i].verify(&parts, password)
                       : digest_check(&parts, password, schemes[i].hash(), schemes[i].salted);
        }
    }
    return PASSWORD_UNUSABLE;
}
