/* New passwords, and those that other mechanisms than PLAIN want: SCRAM's keys, the password itself. */
#include "engine/auth/password_private.h"
#include "engine/core/check.h"
#include "engine/core/base64.h"
#include <argon2.h>
#include <crypt.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

#define SALT_BYTES 16u

/* ---- SCRAM ---- */

static const char *const scram_schemes[] = {
    [PASSWORD_SHA_1] = "SCRAM-SHA-1", [PASSWORD_SHA_256] = "SCRAM-SHA-256"};

/* RFC 5802 §3. */
int password_scram_make(enum password_hash hash, struct slice password,
                        struct password_scram *scram)
{
    const EVP_MD *digest = hash == PASSWORD_SHA_1 ? EVP_sha1() : EVP_sha256();
    int bytes = hash == PASSWORD_SHA_1 ? 20 : 32;
    uint8_t salted[32], client_key[32];
    unsigned size = 0;
    check(scram->iterations > 0 && scram->iterations <= PASSWORD_ITERATIONS_MAX &&
          password.size <= PASSWORD_STORED_MAX && scram->salt_bytes <= sizeof(scram->salt));
    bool made =
        PKCS5_PBKDF2_HMAC(password.size == 0 ? "" : (const char *)password.bytes,
                          (int)password.size, scram->salt, scram->salt_bytes,
                          (int)scram->iterations, digest, bytes, salted) == 1 &&
        HMAC(digest, salted, bytes, (const uint8_t *)"Client Key", 10, client_key, &size) &&
        EVP_Digest(client_key, size, scram->stored_key, &size, digest, NULL) &&
        HMAC(digest, salted, bytes, (const uint8_t *)"Server Key", 10, scram->server_key, &size);
    scram->key_bytes = (uint8_t)bytes;
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client_key, sizeof(client_key));
    return made ? 0 : -ENOMEM;
}

/* Takes what is before the next comma. */
static struct slice field_take(struct slice *rest)
{
    const uint8_t *comma = rest->size == 0 ? NULL : memchr(rest->bytes, ',', rest->size);
    struct slice field =
        comma == NULL ? *rest : slice_of(rest->bytes, (size_t)(comma - rest->bytes));
    *rest = slice_from(*rest, field.size + 1);
    return field;
}

/* Octets into room for so many. Returns how many, or -1. */
static long octets_take(struct slice *rest, uint8_t *to, size_t room)
{
    uint8_t octets[PASSWORD_STORED_MAX];
    struct slice field = field_take(rest);
    long size = field.size > sizeof(octets) ? -1 : base64_decode(field, octets);
    if (size > (long)room) {
        return -1;
    }
    memcpy(to, octets, size < 0 ? 0 : (size_t)size);
    return size;
}

bool password_scram_parse(const struct password_parts *parts, enum password_hash hash,
                          struct password_scram *scram)
{
    uint8_t text[PASSWORD_STORED_MAX];
    char count[16], *end;
    long size = password_decode(parts, PASSWORD_USUAL, text);
    struct slice rest = slice_of(text, size < 0 ? 0 : (size_t)size);
    struct slice digits = field_take(&rest);
    if (digits.size == 0 || digits.size >= sizeof(count)) {
        return false;
    }
    memcpy(count, digits.bytes, digits.size);
    count[digits.size] = '\0';
    unsigned long iterations = strtoul(count, &end, 10);
    long salt = octets_take(&rest, scram->salt, sizeof(scram->salt));
    long stored = octets_take(&rest, scram->stored_key, sizeof(scram->stored_key));
    long server = octets_take(&rest, scram->server_key, sizeof(scram->server_key));
    long bytes = hash == PASSWORD_SHA_1 ? 20 : 32;
    scram->iterations = (uint32_t)iterations;
    scram->salt_bytes = (uint8_t)(salt < 0 ? 0 : salt);
    scram->key_bytes = (uint8_t)bytes;
    return *end == '\0' && iterations > 0 && iterations <= PASSWORD_ITERATIONS_MAX && salt > 0 &&
           stored == bytes && server == bytes && rest.size == 0;
}

bool password_scram_read(struct slice stored, enum password_hash hash, struct password_scram *scram)
{
    struct password_parts parts;
    return password_part(stored, "", &parts) &&
           slice_equal_nocase(parts.scheme, slice_text(scram_schemes[hash])) &&
           password_scram_parse(&parts, hash, scram);
}

/* ---- What else is stored for a mechanism ---- */

bool password_plain(struct slice stored, const char *otherwise_scheme,
                    uint8_t plain[PASSWORD_STORED_MAX], size_t *size)
{
    struct password_parts parts;
    if (!password_part(stored, otherwise_scheme, &parts) ||
        (!slice_equal_nocase(parts.scheme, slice_text("PLAIN")) &&
         !slice_equal_nocase(parts.scheme, slice_text("CLEARTEXT")))) {
        return false;
    }
    long octets = password_decode(&parts, PASSWORD_USUAL, plain);
    *size = octets < 0 ? 0 : (size_t)octets;
    return octets >= 0;
}

bool password_digest_md5(struct slice stored, struct slice *digits)
{
    struct password_parts parts;
    if (!password_part(stored, "", &parts) || parts.encoding != PASSWORD_USUAL ||
        !slice_equal_nocase(parts.scheme, slice_text("DIGEST-MD5")) || parts.rest.size != 32) {
        return false;
    }
    for (size_t i = 0; i < parts.rest.size; i++) {
        uint8_t octet = parts.rest.bytes[i];
        if (!(octet >= '0' && octet <= '9') && !(octet >= 'a' && octet <= 'f')) {
            return false;
        }
    }
    *digits = parts.rest;
    return true;
}

/* ---- New ones ---- */

struct making {
    struct slice password;
    const struct password_costs *costs;
    const uint8_t *random;
    char *to; /* behind "{SCHEME}" */
    size_t room;
};

static int plain_make(const struct making *making)
{
    if (making->password.size >= making->room ||
        (making->password.size > 0 &&
         memchr(making->password.bytes, '\0', making->password.size))) {
        return -EINVAL;
    }
    snprintf(making->to, making->room, "%.*s", (int)making->password.size,
             (const char *)making->password.bytes);
    return 0;
}

static int argon2id_make(const struct making *making)
{
    uint32_t kib = making->costs->argon2_kib, passes = making->costs->argon2_passes;
    kib = kib == 0 ? 64u << 10 : kib;
    passes = passes == 0 ? 3 : passes;
    if (kib > PASSWORD_ARGON2_KIB_MAX || passes > PASSWORD_ARGON2_PASSES_MAX) {
        return -EINVAL;
    }
    int status =
        argon2id_hash_encoded(passes, kib, 1, making->password.bytes, making->password.size,
                              making->random, SALT_BYTES, 32, making->to, making->room);
    return status == ARGON2_OK ? 0 : status == ARGON2_MEMORY_ALLOCATION_ERROR ? -ENOMEM : -EINVAL;
}

static int scram_store(const struct making *making, enum password_hash hash)
{
    struct password_scram scram = {.iterations = making->costs->scram_iterations,
                                   .salt_bytes = SALT_BYTES};
    char salt[BASE64_BYTES(SALT_BYTES) + 1], stored[BASE64_BYTES(32) + 1],
        server[BASE64_BYTES(32) + 1];
    scram.iterations = scram.iterations == 0 ? 4096 : scram.iterations;
    if (scram.iterations > PASSWORD_ITERATIONS_MAX) {
        return -EINVAL;
    }
    memcpy(scram.salt, making->random, SALT_BYTES);
    int status = password_scram_make(hash, making->password, &scram);
    salt[base64_encode(slice_of(scram.salt, SALT_BYTES), salt)] = '\0';
    stored[base64_encode(slice_of(scram.stored_key, scram.key_bytes), stored)] = '\0';
    server[base64_encode(slice_of(scram.server_key, scram.key_bytes), server)] = '\0';
    snprintf(making->to, making->room, "%u,%s,%s,%s", scram.iterations, salt, stored, server);
    return status;
}

static int scram_sha1_make(const struct making *making)
{
    return scram_store(making, PASSWORD_SHA_1);
}

static int scram_sha256_make(const struct making *making)
{
    return scram_store(making, PASSWORD_SHA_256);
}

static int salted_make(const struct making *making, const EVP_MD *hash)
{
    uint8_t octets[EVP_MAX_MD_SIZE + SALT_BYTES];
    size_t bytes = (size_t)EVP_MD_get_size(hash);
    EVP_MD_CTX *work = EVP_MD_CTX_new();
    bool good = work != NULL && EVP_DigestInit_ex(work, hash, NULL) &&
                EVP_DigestUpdate(work, making->password.bytes, making->password.size) &&
                EVP_DigestUpdate(work, making->random, SALT_BYTES) &&
                EVP_DigestFinal_ex(work, octets, NULL);
    EVP_MD_CTX_free(work);
    if (!good) {
        return -ENOMEM;
    }
    memcpy(octets + bytes, making->random, SALT_BYTES);
    check(BASE64_BYTES(bytes + SALT_BYTES) < making->room);
    making->to[base64_encode(slice_of(octets, bytes + SALT_BYTES), making->to)] = '\0';
    return 0;
}

static int ssha512_make(const struct making *making)
{
    return salted_make(making, EVP_sha512());
}

static int ssha256_make(const struct making *making)
{
    return salted_make(making, EVP_sha256());
}

static int crypt_make(const struct making *making, const char *prefix)
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE], string[PASSWORD_STORED_MAX];
    struct making plain = *making;
    plain.to = string;
    plain.room = sizeof(string);
    if (plain_make(&plain) < 0 ||
        crypt_gensalt_rn(prefix, making->costs->crypt_cost, (const char *)making->random,
                         SALT_BYTES, setting, (int)sizeof(setting)) == NULL) {
        return -EINVAL;
    }
    struct crypt_data *work = calloc(1, sizeof(*work));
    const char *made = work == NULL ? NULL : crypt_rn(string, setting, work, (int)sizeof(*work));
    int status = made == NULL ? -ENOMEM : 0;
    if (made != NULL) {
        snprintf(making->to, making->room, "%s", made);
    }
    OPENSSL_cleanse(string, sizeof(string));
    free(work);
    return status;
}

static int yescrypt_make(const struct making *making)
{
    return crypt_make(making, "$y$");
}

static int sha512_crypt_make(const struct making *making)
{
    return crypt_make(making, "$6$");
}

static int bcrypt_make(const struct making *making)
{
    return making->costs->crypt_cost > PASSWORD_BCRYPT_COST_MAX ? -EINVAL
                                                                : crypt_make(making, "$2y$");
}

int password_make(const char *scheme, struct slice password, const struct password_costs *costs,
                  const uint8_t random[16], char stored[PASSWORD_STORED_MAX])
{
    static const struct {
        const char *scheme;
        int (*make)(const struct making *);
    } all[] = {
        {"PLAIN", plain_make},
        {"ARGON2ID", argon2id_make},
        {"SCRAM-SHA-1", scram_sha1_make},
        {"SCRAM-SHA-256", scram_sha256_make},
        {"SSHA512", ssha512_make},
        {"SSHA256", ssha256_make},
        {"CRYPT", yescrypt_make},
        {"SHA512-CRYPT", sha512_crypt_make},
        {"BLF-CRYPT", bcrypt_make},
    };
    if (password.size >= PASSWORD_STORED_MAX) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(scheme, all[i].scheme) == 0) {
            int used = snprintf(stored, PASSWORD_STORED_MAX, "{%s}", scheme);
            const struct making making = {password, costs, random, stored + used,
                                          PASSWORD_STORED_MAX - (size_t)used};
            return all[i].make(&making);
        }
    }
    return -EINVAL;
}
