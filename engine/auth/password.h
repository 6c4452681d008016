/*
 * password: is this the password that is stored, in Dovecot's notation "{SCHEME}rest"?
 *
 * Called by the backends (engine/auth) on helper threads, and by the operator's command that makes passwords. Slow on
 * purpose, as the schemes are: never on a shard. No state; any thread. What is stored comes from the operator's files
 * and databases, and may still be wrong or too costly: then it is unusable, and nobody comes in by it.
 *
 * Schemes: PLAIN, CLEARTEXT; CRYPT and its kinds (yescrypt, SHA512-CRYPT, SHA256-CRYPT, BLF-CRYPT, MD5-CRYPT);
 * ARGON2ID, ARGON2I; SCRAM-SHA-1, SCRAM-SHA-256; PBKDF2; SHA, SHA256, SHA512, SSHA, SSHA256, SSHA512, SMD5, LDAP-MD5,
 * PLAIN-MD5. A suffix says how the rest is written: .b64, .base64, .hex.
 *
 * Source: RFC 5803 and 5802 §3 (SCRAM), RFC 2307 and its custom (SSHA), RFC 9106 (Argon2), RFC 8018 (PBKDF2), crypt(5).
 */
#pragma once
#include "engine/core/slice.h"

#define PASSWORD_STORED_MAX 1024u /* a longer one is unusable */
/* Bounds of what one check may cost; what asks for more is unusable. */
#define PASSWORD_ARGON2_KIB_MAX (256u << 10)
#define PASSWORD_ARGON2_PASSES_MAX 64u
#define PASSWORD_ARGON2_LANES_MAX 16u
#define PASSWORD_ITERATIONS_MAX 1000000u /* of SCRAM, PBKDF2 and SHA-crypt */
#define PASSWORD_BCRYPT_COST_MAX 14u

enum password_answer {
    PASSWORD_MATCHES,
    PASSWORD_DIFFERS,
    PASSWORD_UNUSABLE,  /* what is stored cannot be understood */
    PASSWORD_NO_MEMORY, /* nothing is known: another time */
};

/* stored without a "{SCHEME}" is of otherwise_scheme. Takes as long for a wrong password as for the right one. */
enum password_answer password_verify(struct slice stored, const char *otherwise_scheme,
                                     struct slice password);

/* The password itself, where it is stored so that it can be had. False: it is not. */
bool password_plain(struct slice stored, const char *otherwise_scheme,
                    uint8_t plain[PASSWORD_STORED_MAX], size_t *size);

/* What a server of SCRAM needs. */
struct password_scram {
    uint32_t iterations;
    uint8_t key_bytes, salt_bytes;
    uint8_t salt[64], stored_key[32], server_key[32];
};
enum password_hash { PASSWORD_SHA_1, PASSWORD_SHA_256 };
/* Made of a password, with the salt and the count that are in *scram already; the password is prepared (RFC 4013) by
 * the caller. 0 or -ENOMEM. */
int password_scram_make(enum password_hash hash, struct slice password,
                        struct password_scram *scram);
/* As stored under SCRAM-SHA-1 or SCRAM-SHA-256. False: another scheme, or malformed. */
bool password_scram_read(struct slice stored, enum password_hash hash,
                         struct password_scram *scram);
/* 32 hexadecimal digits stored under DIGEST-MD5, in place. False: another scheme. */
bool password_digest_md5(struct slice stored, struct slice *digits);

/* Costs for new ones; zeroes are replaced: 64 MiB, 3 passes; 4096 (RFC 7677 §4); the library's. */
struct password_costs {
    uint32_t argon2_kib, argon2_passes, scram_iterations, crypt_cost;
};
/* Writes "{SCHEME}rest" and NUL. random: 16 octets that nobody can tell. Schemes: PLAIN, ARGON2ID, SCRAM-SHA-1,
 * SCRAM-SHA-256, SSHA512, SSHA256, CRYPT (yescrypt), SHA512-CRYPT, BLF-CRYPT. 0; -EINVAL: another scheme, or a cost
 * that password_verify would not take; -ENOMEM. */
int password_make(const char *scheme, struct slice password, const struct password_costs *costs,
                  const uint8_t random[16], char stored[PASSWORD_STORED_MAX]);
