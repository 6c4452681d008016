/* What a shard may answer by itself. */
#include "engine/auth/directory_private.h"
#include "engine/core/check.h"
#include <openssl/crypto.h>

static bool backends_are_near(const struct directory_backend *backends, unsigned count,
                              uint64_t now_ns)
{
    for (unsigned i = 0; i < count; i++) {
        const struct backend_kind *kind = backends[i].kind;
        if (kind->is_near == NULL || !kind->is_near(backends[i].source, now_ns)) {
            return false;
        }
    }
    return true;
}

/* Of a password in plain text SCRAM's keys are derived, which takes a millisecond. stored: may be NULL. */
static bool is_derived(const struct directory *directory, const struct auth_ask *ask,
                       const char *stored)
{
    uint8_t plain[PASSWORD_STORED_MAX];
    size_t bytes = 0;
    bool derived = (ask->credential == AUTH_SCRAM_SHA_1 || ask->credential == AUTH_SCRAM_SHA_256) &&
                   stored != NULL &&
                   password_plain(slice_text(stored), directory->settings.scheme, plain, &bytes);
    OPENSSL_cleanse(plain, bytes);
    return derived;
}

static bool credential_near(struct directory *directory, const struct auth_ask *ask,
                            uint64_t now_ns, struct auth_answer *answer)
{
    struct directory_who who;
    struct directory_search search;
    if (!directory_kinds_are_fresh(directory, now_ns)) {
        return false;
    }
    directory_credential_search(directory, ask, now_ns, &who, &search);
    bool near = search.outcome != AUTH_UNKNOWN &&
                !is_derived(directory, ask, directory_credential_made_of(&search));
    if (near) {
        directory_credential_give(directory, ask, now_ns, &who, &search, answer);
    }
    explicit_bzero(&search, sizeof(search));
    return near;
}

static bool verify_near(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                        struct auth_answer *answer)
{
    struct directory_who who;
    struct result result;
    if (!directory_who_read(directory, ask, &who) || ask->password.size == 0 ||
        ask->password.size > PASSWORD_STORED_MAX) {
        return false;
    }
    const struct result_key key = {who.master, who.user, who.owner, ask->password,
                                   directory_generation(directory, now_ns)};
    if (!result_cache_find(&directory->cache, &key, now_ns, &result) || !result.right) {
        return false;
    }
    penalty_succeeded(&directory->penalty, who.owner);
    directory_fields_give(&who, &result.user, answer);
    return true;
}

static bool answer_near(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                        struct auth_answer *answer)
{
    bool near = backends_are_near(directory->users, directory->user_count, now_ns) &&
                backends_are_near(directory->masters, directory->master_count, now_ns);
    switch (ask->kind) {
    case AUTH_SUCCEEDED:
        directory_answer(directory, ask, now_ns, answer);
        return true;
    case AUTH_CREDENTIAL:
        return near && !penalty_blocked(&directory->penalty, &ask->address, now_ns) &&
               credential_near(directory, ask, now_ns, answer);
    case AUTH_VERIFY:
        return near && !penalty_blocked(&directory->penalty, &ask->address, now_ns) &&
               verify_near(directory, ask, now_ns, answer);
    case AUTH_EXISTS:
    case AUTH_TOKEN:
    case AUTH_FAILED:
        return false;
    }
    return false;
}

bool directory_answer_near(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                           struct auth_answer *answer)
{
    check(now_ns > 0);
    if (pthread_mutex_trylock(&directory->lock) != 0) {
        return false; /* a helper that has lost its processor may have it */
    }
    memset(answer, 0, sizeof(*answer));
    bool near = answer_near(directory, ask, now_ns, answer);
    pthread_mutex_unlock(&directory->lock);
    return near;
}
