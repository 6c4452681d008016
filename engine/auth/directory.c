#include "engine/auth/directory_private.h"
#include "engine/core/check.h"
#include "engine/core/endpoint.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCKED_DELAY_NS 15000000000ull

/* ---- Open and close ---- */

static const struct backend_kind *kind_of(struct slice name)
{
    static const char *const maps[] = {"sqlite", "pgsql", "ldap", "lmdb", "texthash", "inline"};
    static const struct backend_kind *const kinds[] = {&backend_file, &backend_static, &backend_pam,
                                                       &backend_ldap};
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (slice_equal(name, slice_text(kinds[i]->name))) {
            return kinds[i];
        }
    }
    for (unsigned i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
        if (slice_equal(name, slice_text(maps[i]))) {
            return &backend_map;
        }
    }
    return NULL;
}

static int backend_open(struct directory_backend *backend, const char *name,
                        char problem[BACKEND_PROBLEM_MAX])
{
    char kind[16];
    const char *colon = strchr(name, ':');
    size_t size = colon == NULL ? 0 : (size_t)(colon - name);
    backend->kind = size >= sizeof(kind) ? NULL : kind_of(slice_of(name, size));
    if (backend->kind == NULL) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "%.100s: no such kind of users", name);
        return -EINVAL;
    }
    memcpy(kind, name, size);
    kind[size] = '\0';
    int status = backend->kind->open(&backend->source, kind, colon + 1, problem);
    if (status < 0 && status != -ENOMEM &&
        problem[0] == '\0') { /* a file's: its name is no secret */
        snprintf(problem, BACKEND_PROBLEM_MAX, "%.150s: %s", name, strerror(-status));
    }
    return status;
}

static int backends_open(struct directory_backend *backends, const char *const *names,
                         unsigned *count, char problem[BACKEND_PROBLEM_MAX])
{
    int status = 0;
    for (; names != NULL && *names != NULL && status == 0; names++) {
        if (*count == DIRECTORY_BACKENDS_MAX) {
            snprintf(problem, BACKEND_PROBLEM_MAX, "more than %u kinds of users",
                     DIRECTORY_BACKENDS_MAX);
            return -EINVAL;
        }
        status = backend_open(&backends[*count], *names, problem);
        *count += status == 0;
    }
    return status;
}

static void lock_open(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    check(pthread_mutexattr_init(&attributes) == 0);
    check(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE) == 0);
    check(pthread_mutex_init(lock, &attributes) == 0);
    pthread_mutexattr_destroy(&attributes);
}

int directory_open(struct directory **opened, const struct directory_settings *settings,
                   char problem[BACKEND_PROBLEM_MAX])
{
    static const struct password_costs usual = {0};
    uint8_t random[80];
    struct directory *directory = calloc(1, sizeof(*directory));
    problem[0] = '\0';
    if (directory == NULL) {
        return -ENOMEM;
    }
    directory->settings = *settings;
    struct directory_settings *own = &directory->settings;
    own->scheme = own->scheme == NULL ? "CRYPT" : own->scheme;
    own->scram_iterations = own->scram_iterations == 0 ? 4096 : own->scram_iterations;
    lock_open(&directory->lock);
    check(pthread_mutex_init(&directory->surveying, NULL) == 0);
    world_random(own->world, random, sizeof(random));
    int status = penalty_open(&directory->penalty, &own->penalty, random);
    status = status < 0 ? status : result_cache_open(&directory->cache, random + 32);
    status = status < 0 ? status
                        : password_make("CRYPT", slice_text("nobody"), &usual, random + 64,
                                        directory->nobody);
    OPENSSL_cleanse(random, sizeof(random));
    directory->made_up = keyed_hash_open(own->secret);
    status = status == 0 && directory->made_up == NULL ? -ENOMEM : status;
    status = status < 0
                 ? status
                 : backends_open(directory->users, own->backends, &directory->user_count, problem);
    status = status < 0 ? status
                        : backends_open(directory->masters, own->masters, &directory->master_count,
                                        problem);
    status = status < 0 ? status : directory_kinds_open(directory, problem);
    if (status < 0) {
        directory_close(directory);
        return status;
    }
    *opened = directory;
    return 0;
}

void directory_close(struct directory *directory)
{
    for (unsigned i = 0; i < directory->user_count; i++) {
        directory->users[i].kind->close(directory->users[i].source);
    }
    for (unsigned i = 0; i < directory->master_count; i++) {
        directory->masters[i].kind->close(directory->masters[i].source);
    }
    directory_kinds_close(directory);
    keyed_hash_close(directory->made_up);
    result_cache_close(&directory->cache);
    penalty_close(&directory->penalty);
    pthread_mutex_destroy(&directory->surveying);
    pthread_mutex_destroy(&directory->lock);
    OPENSSL_cleanse(directory, sizeof(*directory));
    free(directory);
}

/* ---- Who is meant ---- */

/* A name may become part of a path, of a query, of a line of the log. */
static bool name_fold(struct slice name, uint8_t room[BACKEND_NAME_MAX], struct slice *folded)
{
    if (name.size == 0 || name.size > BACKEND_NAME_MAX || name.bytes[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        uint8_t octet = name.bytes[i];
        if (octet < 0x20 || octet == 0x7f || octet == '/' || octet == ':') {
            return false;
        }
        room[i] = slice_lower(octet);
    }
    *folded = slice_of(room, name.size);
    return true;
}

bool directory_who_read(const struct directory *directory, const struct auth_ask *ask,
                        struct directory_who *who)
{
    char separator = directory->settings.master_separator;
    struct slice user = ask->authid, owner = ask->authid;
    memset(who, 0, sizeof(*who));
    const uint8_t *at =
        separator == '\0' || owner.size == 0 ? NULL : memchr(owner.bytes, separator, owner.size);
    if (at != NULL) {
        user = slice_of(owner.bytes, (size_t)(at - owner.bytes));
        owner = slice_from(owner, user.size + 1);
    }
    if (ask->authzid.size > 0) {
        if (at != NULL) {
            return false; /* two that he would be */
        }
        user = ask->authzid;
    }
    if (!name_fold(user, who->room[0], &who->user) ||
        !name_fold(owner, who->room[1], &who->owner)) {
        return false;
    }
    who->master = at != NULL || !slice_equal(who->user, who->owner);
    return true;
}

/* ---- Asking the backends ---- */

static enum auth_outcome no_memory(const struct directory *directory)
{
    logger_line(directory->settings.logger, LOGGER_ERROR,
                "auth: memory is short: a password could not be checked");
    return AUTH_UNKNOWN;
}

/* Takes as long as a password of the kind that he seems to have, and fails as often for want of memory: what of an answer
 * that is `wrong` then comes of it. */
static enum auth_outcome pretend(struct directory *directory, bool masters, struct slice password,
                                 const struct directory_search *search)
{
    const char *scheme = directory->settings.scheme;
    enum password_answer answer = search->example
                                      ? password_verify(slice_text(search->seems), scheme, password)
                                      : PASSWORD_UNUSABLE;
    if (search->example && answer == PASSWORD_UNUSABLE) {
        pthread_mutex_lock(&directory->lock);
        population_spoil(directory->kinds[masters].population, search->seems);
        pthread_mutex_unlock(&directory->lock);
    }
    if (answer == PASSWORD_UNUSABLE) {
        answer = password_verify(slice_text(directory->nobody), scheme, password);
    }
    return answer == PASSWORD_NO_MEMORY ? no_memory(directory) : AUTH_WRONG;
}

static void stored_judge(struct directory *directory, bool masters, const struct slice *password,
                         struct directory_search *search)
{
    search->found = true;
    if (password == NULL) {
        search->outcome = AUTH_RIGHT;
        return;
    }
    enum password_answer answer = search->user.stored[0] == '\0'
                                      ? PASSWORD_UNUSABLE
                                      : password_verify(slice_text(search->user.stored),
                                                        directory->settings.scheme, *password);
    switch (answer) {
    case PASSWORD_MATCHES:
        search->outcome = AUTH_RIGHT;
        return;
    case PASSWORD_DIFFERS:
        search->outcome = AUTH_WRONG;
        search->reason = "wrong password";
        return;
    case PASSWORD_UNUSABLE:
        search->outcome = pretend(directory, masters, *password, search);
        search->reason = "what is stored is no usable password";
        return;
    case PASSWORD_NO_MEMORY:
        search->outcome = no_memory(directory);
        return;
    }
}

/* True: the search is at its end. */
static bool backend_ask(struct directory *directory, const struct directory_backend *backend,
                        struct slice name, const struct slice *password, uint64_t now_ns,
                        struct directory_search *search)
{
    bool masters =
        backend >= directory->masters && backend < directory->masters + DIRECTORY_BACKENDS_MAX;
    if (backend->kind->find == NULL && password == NULL) {
        return false;
    }
    enum backend_answer answer =
        backend->kind->find != NULL
            ? backend->kind->find(backend->source, name, now_ns, &search->user, search->problem)
            : backend->kind->verify(backend->source, name, *password, search->problem);
    switch (answer) {
    case BACKEND_FOUND:
        if (backend->kind->find != NULL) {
            directory_kinds_found(directory, backend, name, &search->user, now_ns);
            stored_judge(directory, masters, password, search);
        } else {
            memset(&search->user, 0, sizeof(search->user));
            search->found = true;
            search->outcome = AUTH_RIGHT;
        }
        return true;
    case BACKEND_WRONG:
        search->found = true; /* as far as anybody can tell: it took its time */
        search->reason = "wrong password or no such user";
        return false;
    case BACKEND_FAILED: /* the next might know another user of the same name */
        search->outcome = AUTH_UNKNOWN;
        logger_line(directory->settings.logger, LOGGER_ERROR, "auth: %s: %.200s",
                    backend->kind->name, search->problem);
        return true;
    case BACKEND_ABSENT:
        break;
    }
    return false;
}

static enum backend_answer backend_knows(struct directory *directory,
                                         const struct directory_backend *backend, struct slice name,
                                         uint64_t now_ns, char problem[BACKEND_PROBLEM_MAX])
{
    struct auth_user user;
    enum backend_answer answer = BACKEND_FAILED;
    if (backend->kind->find != NULL) {
        answer = backend->kind->find(backend->source, name, now_ns, &user, problem);
        if (answer == BACKEND_FOUND) {
            directory_kinds_found(directory, backend, name, &user, now_ns);
        }
        OPENSSL_cleanse(&user, sizeof(user));
    } else if (backend->kind->exists != NULL) {
        answer = backend->kind->exists(backend->source, name, problem);
    }
    return answer;
}

enum auth_outcome directory_knows(struct directory *directory, struct slice name, uint64_t now_ns)
{
    uint8_t room[BACKEND_NAME_MAX];
    struct slice folded;
    if (!name_fold(name, room, &folded)) {
        return AUTH_WRONG;
    }
    for (unsigned i = 0; i < directory->user_count; i++) {
        char problem[BACKEND_PROBLEM_MAX] = "it cannot tell without a password";
        enum backend_answer answer =
            backend_knows(directory, &directory->users[i], folded, now_ns, problem);
        if (answer == BACKEND_FAILED) {
            logger_line(directory->settings.logger, LOGGER_ERROR, "auth: %s: %.200s",
                        directory->users[i].kind->name, problem);
            return AUTH_UNKNOWN;
        }
        if (answer == BACKEND_FOUND) {
            return AUTH_RIGHT;
        }
    }
    return AUTH_WRONG;
}

void directory_search_run(struct directory *directory, bool masters, struct slice name,
                          const struct slice *password, uint64_t now_ns,
                          struct directory_search *search)
{
    const struct directory_backend *backends = masters ? directory->masters : directory->users;
    unsigned count = masters ? directory->master_count : directory->user_count;
    memset(search, 0, sizeof(*search));
    search->outcome = AUTH_WRONG;
    search->reason = masters ? "no such master" : "no such user";
    if (password != NULL) {
        search->example =
            directory_kinds_example(directory, masters, name, PASSWORD_FOR_VERIFY, search->seems);
    }
    for (unsigned i = 0; i < count; i++) {
        if (backend_ask(directory, &backends[i], name, password, now_ns, search)) {
            break;
        }
    }
    if (!search->found && search->outcome == AUTH_WRONG && password != NULL) {
        search->outcome = pretend(directory, masters, *password, search);
    }
}

void directory_master_becomes(struct directory *directory, const struct directory_who *who,
                              uint64_t now_ns, struct directory_search *search)
{
    if (who->master && search->outcome == AUTH_RIGHT) {
        directory_search_run(directory, false, who->user, NULL, now_ns, search);
    }
}

uint64_t directory_generation(const struct directory *directory, uint64_t now_ns)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < directory->user_count + directory->master_count; i++) {
        const struct directory_backend *backend =
            i < directory->user_count ? &directory->users[i]
                                      : &directory->masters[i - directory->user_count];
        sum += backend->kind->generation == NULL
                   ? 0
                   : backend->kind->generation(backend->source, now_ns);
    }
    return sum;
}

/* ---- What becomes of it ---- */

static void address_text(const struct penalty_address *address, char text[ENDPOINT_TEXT_MAX])
{
    struct endpoint endpoint = {.family = address->ipv6 ? ENDPOINT_IPV6 : ENDPOINT_IPV4};
    memcpy(endpoint.address, address->octets, sizeof(endpoint.address));
    endpoint_format_address(&endpoint, text);
}

static void failed(struct directory *directory, const struct auth_ask *ask, const char *reason,
                   uint64_t now_ns, struct auth_answer *answer)
{
    char address[ENDPOINT_TEXT_MAX];
    struct directory_who who;
    struct slice user = slice_first(ask->authid, BACKEND_NAME_MAX);
    /* Whose password it is: a master fails as himself, whoever he would be. */
    struct slice counted = directory_who_read(directory, ask, &who) ? who.owner : user;
    answer->outcome = AUTH_WRONG;
    pthread_mutex_lock(&directory->lock);
    answer->delay_ns =
        penalty_failed(&directory->penalty, &ask->address, counted, ask->password, now_ns);
    pthread_mutex_unlock(&directory->lock);
    address_text(&ask->address, address);
    logger_line(directory->settings.logger, LOGGER_WARNING,
                "auth: failed: user=<%.*s>, method=%s, rip=%s%s%s, %s", (int)user.size,
                (const char *)user.bytes, ask->method, address,
                ask->service == NULL ? "" : ", service=", ask->service == NULL ? "" : ask->service,
                reason);
}

void directory_fields_give(const struct directory_who *who, const struct auth_user *user,
                           struct auth_answer *answer)
{
    answer->outcome = AUTH_RIGHT;
    snprintf(answer->user, sizeof(answer->user), "%.*s", (int)who->user.size,
             (const char *)who->user.bytes);
    answer->fields = *user;
    OPENSSL_cleanse(answer->fields.stored, sizeof(answer->fields.stored));
}

static void verify(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                   struct auth_answer *answer)
{
    struct directory_who who;
    struct directory_search search;
    struct result result;
    if (!directory_who_read(directory, ask, &who) || ask->password.size == 0 ||
        ask->password.size > PASSWORD_STORED_MAX) {
        memset(&search, 0, sizeof(search));
        search.example = directory_kinds_example(directory, false, ask->authid, PASSWORD_FOR_VERIFY,
                                                 search.seems);
        (void)pretend(directory, false, ask->password, &search);
        OPENSSL_cleanse(&search, sizeof(search));
        failed(directory, ask, "no name of a user, or no password", now_ns, answer);
        return;
    }
    uint64_t generation = directory_generation(directory, now_ns);
    const struct result_key key = {who.master, who.user, who.owner, ask->password, generation};
    pthread_mutex_lock(&directory->lock);
    bool known = result_cache_find(&directory->cache, &key, now_ns, &result);
    pthread_mutex_unlock(&directory->lock);
    if (known) {
        search.outcome = result.right ? AUTH_RIGHT : AUTH_WRONG;
        search.reason = "wrong password or no such user";
        search.user = result.user;
    } else {
        directory_search_run(directory, who.master, who.owner, &ask->password, now_ns, &search);
        directory_master_becomes(directory, &who, now_ns, &search);
    }
    if (search.outcome == AUTH_UNKNOWN) {
        answer->outcome = AUTH_UNKNOWN;
        return;
    }
    bool right = search.outcome == AUTH_RIGHT;
    uint64_t life_ns = right ? directory->settings.right_ns : directory->settings.wrong_ns;
    pthread_mutex_lock(&directory->lock);
    if (!known && life_ns > 0) {
        result_cache_keep(&directory->cache, &key, now_ns + life_ns,
                          &(struct result){.right = right, .user = search.user});
    }
    if (right) {
        penalty_succeeded(&directory->penalty, who.owner);
    }
    pthread_mutex_unlock(&directory->lock);
    if (right) {
        directory_fields_give(&who, &search.user, answer);
    } else {
        failed(directory, ask, search.reason, now_ns, answer);
    }
    OPENSSL_cleanse(&search, sizeof(search));
}

/* ---- The other questions ---- */

static void credential(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                       struct auth_answer *answer)
{
    struct directory_who who;
    struct directory_search search;
    directory_credential_search(directory, ask, now_ns, &who, &search);
    directory_credential_give(directory, ask, now_ns, &who, &search, answer);
    OPENSSL_cleanse(&search, sizeof(search));
}

/* AUTH_FAILED follows, and is counted. The salt is that of always, or a block would tell whose it is. */
static void blocked_credential(struct directory *directory, const struct auth_ask *ask,
                               uint64_t now_ns, struct auth_answer *answer)
{
    struct auth_answer all = {0};
    credential(directory, ask, now_ns, &all);
    answer->outcome = all.outcome == AUTH_UNKNOWN ? AUTH_UNKNOWN : AUTH_WRONG;
    answer->seems = all.seems;
    OPENSSL_cleanse(&all, sizeof(all));
}

static void exists(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                   struct auth_answer *answer)
{
    struct directory_who who;
    struct directory_search search;
    if (!directory_who_read(directory, ask, &who)) {
        failed(directory, ask, "no name of a user", now_ns, answer);
        return;
    }
    directory_search_run(directory, who.master, who.owner, NULL, now_ns, &search);
    directory_master_becomes(directory, &who, now_ns, &search);
    switch (search.outcome) {
    case AUTH_RIGHT:
        directory_fields_give(&who, &search.user, answer);
        return;
    case AUTH_WRONG:
        failed(directory, ask, search.reason, now_ns, answer);
        return;
    case AUTH_UNKNOWN:
        answer->outcome = AUTH_UNKNOWN;
        return;
    }
}

static void token(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                  struct auth_answer *answer)
{
    const struct directory_settings *settings = &directory->settings;
    char name[BACKEND_NAME_MAX + 1];
    const char *reason = "no tokens are taken";
    struct directory_who who = {0};
    struct directory_search search;
    enum token_answer said = settings->tokens == NULL
                                 ? TOKEN_BAD
                                 : tokens_judge(settings->tokens, ask->password,
                                                world_wall_s(settings->world), name, &reason);
    bool good = said == TOKEN_GOOD;
    if (said == TOKEN_UNKNOWN) {
        answer->outcome = AUTH_UNKNOWN;
        return;
    }
    if (good && ask->authid.size > 0 && !slice_equal_nocase(ask->authid, slice_text(name))) {
        good = false;
        reason = "the token is another user's";
    } else if (good && !name_fold(slice_text(name), who.room[0], &who.user)) {
        good = false;
        reason = "the token names nobody that can be";
    }
    if (!good) {
        failed(directory, ask, reason, now_ns, answer);
        return;
    }
    directory_search_run(directory, false, who.user, NULL, now_ns, &search);
    if (search.outcome == AUTH_UNKNOWN) {
        answer->outcome = AUTH_UNKNOWN;
        return;
    }
    if (search.outcome != AUTH_RIGHT) { /* who issues tokens knows more users than we */
        memset(&search.user, 0, sizeof(search.user));
    }
    pthread_mutex_lock(&directory->lock);
    penalty_succeeded(&directory->penalty, who.user);
    pthread_mutex_unlock(&directory->lock);
    directory_fields_give(&who, &search.user, answer);
}

void directory_answer(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                      struct auth_answer *answer)
{
    struct directory_who who;
    memset(answer, 0, sizeof(*answer));
    check(now_ns > 0);
    pthread_mutex_lock(&directory->lock);
    bool blocked = penalty_blocked(&directory->penalty, &ask->address, now_ns);
    pthread_mutex_unlock(&directory->lock);
    if (ask->kind == AUTH_VERIFY || ask->kind == AUTH_CREDENTIAL) {
        directory_kinds_refresh(directory, now_ns);
    }
    if (blocked && ask->kind == AUTH_CREDENTIAL) {
        blocked_credential(directory, ask, now_ns, answer);
        return;
    }
    if (blocked && ask->kind != AUTH_SUCCEEDED) {
        failed(directory, ask, "the address is blocked", now_ns, answer);
        answer->delay_ns = BLOCKED_DELAY_NS;
        return;
    }
    switch (ask->kind) {
    case AUTH_VERIFY:
        verify(directory, ask, now_ns, answer);
        return;
    case AUTH_CREDENTIAL:
        credential(directory, ask, now_ns, answer);
        return;
    case AUTH_EXISTS:
        exists(directory, ask, now_ns, answer);
        return;
    case AUTH_TOKEN:
        token(directory, ask, now_ns, answer);
        return;
    case AUTH_FAILED:
        failed(directory, ask, "wrong password or no such user", now_ns, answer);
        return;
    case AUTH_SUCCEEDED:
        if (directory_who_read(directory, ask, &who)) {
            pthread_mutex_lock(&directory->lock);
            penalty_succeeded(&directory->penalty, who.owner);
            pthread_mutex_unlock(&directory->lock);
        }
        answer->outcome = AUTH_RIGHT;
        return;
    }
}
