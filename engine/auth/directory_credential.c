/* What is stored, for mechanisms that prove a password without sending it; and what nobody seems to have stored. */
#include "engine/auth/directory_private.h"
#include "proto/sasl/made_up.h"
#include "proto/sasl/server.h"
#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>

/* Where kinds of passwords are answered differently. 0: they are not. */
static enum password_use use_of(const struct auth_ask *ask)
{
    switch (ask->credential) {
    case AUTH_SCRAM_SHA_1:
        return PASSWORD_FOR_SCRAM_SHA_1;
    case AUTH_SCRAM_SHA_256:
        return PASSWORD_FOR_SCRAM_SHA_256;
    case AUTH_PASSWORD:
    case AUTH_DIGEST_MD5:
        break;
    }
    return 0;
}

/* Whose secret it is: of a master, his, whoever he would be. */
static struct slice name_of(const struct auth_ask *ask, const struct directory_who *who)
{
    return who->owner.size > 0 ? who->owner : slice_first(ask->authid, SASL_MADE_UP_NAME_MAX);
}

static void make_up(struct directory *directory, const char *purpose, const struct auth_ask *ask,
                    const struct directory_who *who, uint8_t made[SASL_MADE_UP_BYTES])
{
    size_t key_bytes = ask->credential == AUTH_SCRAM_SHA_1 ? 20 : 32;
    pthread_mutex_lock(&directory->lock);
    sasl_make_up(directory->made_up, purpose, key_bytes, name_of(ask, who), made);
    pthread_mutex_unlock(&directory->lock);
}

/* The salt of a password that has none is that which the name would seem to have if it were nobody's. */
static void salt_make(struct directory *directory, const struct auth_ask *ask,
                      const struct directory_who *who, struct password_scram *scram)
{
    uint8_t made[SASL_MADE_UP_BYTES];
    make_up(directory, who->master ? "salt of a master" : "salt", ask, who, made);
    scram->iterations = directory->settings.scram_iterations;
    scram->salt_bytes = SASL_SALT_BYTES;
    memcpy(scram->salt, made, SASL_SALT_BYTES);
}

/* Another for each count and length: whose kind has changed seems to have a new password. */
static void salt_of_kind_make(struct directory *directory, const struct auth_ask *ask,
                              const struct directory_who *who, struct password_scram *scram)
{
    uint8_t made[2][SASL_MADE_UP_BYTES];
    static_assert(sizeof(scram->salt) <= sizeof(made), "a salt is made up of these");
    for (unsigned i = 0; i * SASL_MADE_UP_BYTES < scram->salt_bytes; i++) {
        char purpose[64];
        snprintf(purpose, sizeof(purpose), "salt %s%u %u %u", who->master ? "of a master " : "", i,
                 scram->iterations, scram->salt_bytes);
        make_up(directory, purpose, ask, who, made[i]);
    }
    memcpy(scram->salt, made, scram->salt_bytes);
}

static enum password_hash hash_of(const struct auth_ask *ask)
{
    return ask->credential == AUTH_SCRAM_SHA_1 ? PASSWORD_SHA_1 : PASSWORD_SHA_256;
}

/* Count and salt of one who has what the example has, as SCRAM tells them. */
static void seems_make(struct directory *directory, const struct auth_ask *ask,
                       const struct directory_who *who, const struct directory_search *search,
                       struct password_scram *seems)
{
    struct password_scram example;
    memset(seems, 0, sizeof(*seems));
    if (search->example && password_scram_read(slice_text(search->seems), hash_of(ask), &example)) {
        seems->iterations = example.iterations;
        seems->salt_bytes = example.salt_bytes;
        salt_of_kind_make(directory, ask, who, seems);
        OPENSSL_cleanse(&example, sizeof(example));
    } else {
        salt_make(directory, ask, who, seems);
    }
}

/* False: what is stored does not serve this mechanism. */
static bool credential_make(struct directory *directory, const struct auth_ask *ask,
                            const struct directory_who *who, struct slice stored,
                            struct auth_answer *answer)
{
    struct slice digits;
    bool plain = password_plain(stored, directory->settings.scheme, answer->password,
                                &answer->password_bytes);
    switch (ask->credential) {
    case AUTH_PASSWORD:
        return plain;
    case AUTH_DIGEST_MD5:
        if (password_digest_md5(stored, &digits)) {
            snprintf(answer->digest_ha1, sizeof(answer->digest_ha1), "%.32s",
                     (const char *)digits.bytes);
            return true;
        }
        return plain;
    case AUTH_SCRAM_SHA_1:
    case AUTH_SCRAM_SHA_256:
        break;
    }
    if (!plain) {
        return password_scram_read(stored, hash_of(ask), &answer->scram);
    }
    salt_make(directory, ask, who, &answer->scram);
    int status = password_scram_make(
        hash_of(ask), slice_of(answer->password, answer->password_bytes), &answer->scram);
    OPENSSL_cleanse(answer->password, sizeof(answer->password));
    answer->password_bytes = 0;
    return status == 0;
}

/* What was made goes to nobody. */
static void credential_drop(struct auth_answer *answer)
{
    OPENSSL_cleanse(answer->password, sizeof(answer->password));
    answer->password_bytes = 0;
    answer->digest_ha1[0] = '\0';
    OPENSSL_cleanse(&answer->scram, sizeof(answer->scram));
}

void directory_credential_search(struct directory *directory, const struct auth_ask *ask,
                                 uint64_t now_ns, struct directory_who *who,
                                 struct directory_search *search)
{
    enum password_use use = use_of(ask);
    struct password_kind kind;
    memset(search, 0, sizeof(*search));
    search->outcome = AUTH_WRONG;
    if (directory_who_read(directory, ask, who)) {
        directory_search_run(directory, who->master, who->owner, NULL, now_ns, search);
    }
    if (use == 0) {
        return;
    }
    search->example =
        directory_kinds_example(directory, who->master, name_of(ask, who), use, search->seems);
    bool has = search->outcome == AUTH_RIGHT && search->user.stored[0] != '\0';
    /* Of nobody's the example is read, which takes as long. */
    bool serves = password_kind_read(slice_text(has ? search->user.stored : search->seems),
                                     directory->settings.scheme, &kind) &&
                  (kind.uses & use) != 0;
    search->serves = has && serves;
}

const char *directory_credential_made_of(const struct directory_search *search)
{
    return search->serves ? search->user.stored : search->example ? search->seems : NULL;
}

void directory_credential_give(struct directory *directory, const struct auth_ask *ask,
                               uint64_t now_ns, const struct directory_who *who,
                               struct directory_search *search, struct auth_answer *answer)
{
    bool made = search->outcome == AUTH_RIGHT && search->user.stored[0] != '\0' &&
                credential_make(directory, ask, who, slice_text(search->user.stored), answer);
    if (use_of(ask) != 0) {
        seems_make(directory, ask, who, search, &answer->seems);
    }
    if (!made && search->example) { /* takes as long as what somebody has */
        credential_make(directory, ask, who, slice_text(search->seems), answer);
    } else if (made) {
        answer->seems = answer->scram; /* also of a master who would be nobody */
        OPENSSL_cleanse(answer->seems.stored_key, sizeof(answer->seems.stored_key));
        OPENSSL_cleanse(answer->seems.server_key, sizeof(answer->seems.server_key));
        answer->seems.key_bytes = 0;
        directory_master_becomes(directory, who, now_ns, search);
    }
    if (search->outcome == AUTH_UNKNOWN) {
        answer->outcome = AUTH_UNKNOWN;
        credential_drop(answer);
    } else if (made && search->outcome == AUTH_RIGHT) {
        directory_fields_give(who, &search->user, answer);
    } else {
        answer->outcome = AUTH_WRONG;
        credential_drop(answer);
    }
}
