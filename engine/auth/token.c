#include "engine/auth/token.h"
#include "engine/auth/token_ask.h"
#include "engine/auth/token_key.h"
#include "engine/core/check.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1u << 20)

struct tokens {
    struct token_settings settings;
    pthread_rwlock_t lock; /* of all that follows */
    struct token_keys *keys;
    struct stat seen;  /* of the file that they, or a wrong one, came from */
    char *credentials; /* owned; NULL: none */
};

/* ---- The file ---- */

static int text_read(int file, char **text, size_t *bytes)
{
    *text = malloc(FILE_BYTES_MAX + 1);
    *bytes = 0;
    if (*text == NULL) {
        return -ENOMEM;
    }
    for (;;) {
        ssize_t size = read(file, *text + *bytes, FILE_BYTES_MAX + 1 - *bytes);
        if (size <= 0) {
            return size < 0 ? -errno : 0;
        }
        *bytes += (size_t)size;
        if (*bytes > FILE_BYTES_MAX) {
            return -EFBIG;
        }
    }
}

static int file_read(const char *path, struct token_keys **keys, struct stat *seen,
                     char problem[BACKEND_PROBLEM_MAX])
{
    char *text = NULL;
    size_t bytes = 0;
    problem[0] = '\0';
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int status = file < 0 || fstat(file, seen) < 0 ? -errno : text_read(file, &text, &bytes);
    if (status == 0) {
        status = token_keys_read(keys, slice_of(text, bytes), problem);
    }
    if (file >= 0) {
        close(file);
    }
    if (text != NULL) {
        explicit_bzero(text, bytes < FILE_BYTES_MAX ? bytes : FILE_BYTES_MAX);
        free(text);
    }
    return status;
}

/* The first line of the file, in memory of its own. */
static int credentials_read(const char *path, char **credentials)
{
    size_t bytes = 0;
    if (path == NULL) {
        return 0;
    }
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int status = file < 0 ? -errno : text_read(file, credentials, &bytes);
    if (file >= 0) {
        close(file);
    }
    if (status == 0) {
        (*credentials)[bytes <= FILE_BYTES_MAX ? bytes : FILE_BYTES_MAX] = '\0';
        (*credentials)[strcspn(*credentials, "\r\n")] = '\0';
    }
    return status;
}

static bool is_another(const struct stat *one, const struct stat *other)
{
    return one->st_ino != other->st_ino || one->st_dev != other->st_dev ||
           one->st_size != other->st_size || one->st_mtim.tv_sec != other->st_mtim.tv_sec ||
           one->st_mtim.tv_nsec != other->st_mtim.tv_nsec;
}

static void file_look(struct tokens *tokens)
{
    struct stat now;
    char problem[BACKEND_PROBLEM_MAX];
    const char *path = tokens->settings.keys;
    pthread_rwlock_rdlock(&tokens->lock);
    bool changed = stat(path, &now) == 0 && is_another(&now, &tokens->seen);
    pthread_rwlock_unlock(&tokens->lock);
    if (!changed) {
        return;
    }
    struct token_keys *keys = NULL;
    int status = file_read(path, &keys, &now, problem);
    pthread_rwlock_wrlock(&tokens->lock);
    if (status != -ENOMEM) {
        tokens->seen = now;
    }
    if (status == 0) {
        token_keys_free(tokens->keys);
        tokens->keys = keys;
    }
    pthread_rwlock_unlock(&tokens->lock);
    if (status < 0) {
        logger_line(tokens->settings.logger, LOGGER_ERROR, "auth: %s: %s: the old keys stay", path,
                    problem[0] != '\0' ? problem : strerror(-status));
    }
}

int tokens_open(struct tokens **opened, const struct token_settings *settings,
                char problem[BACKEND_PROBLEM_MAX])
{
    char why[BACKEND_PROBLEM_MAX];
    struct tokens *tokens = calloc(1, sizeof *tokens);
    if (tokens == NULL) {
        return -ENOMEM;
    }
    tokens->settings = *settings;
    why[0] = '\0';
    int status = settings->introspection != NULL
                     ? credentials_read(settings->credentials, &tokens->credentials)
                     : file_read(settings->keys, &tokens->keys, &tokens->seen, why);
    if (status < 0) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "%.120s: %.100s",
                 settings->introspection != NULL ? settings->credentials : settings->keys,
                 why[0] != '\0' ? why : strerror(-status));
        free(tokens->credentials);
        free(tokens);
        return status;
    }
    check(pthread_rwlock_init(&tokens->lock, NULL) == 0);
    *opened = tokens;
    return 0;
}

void tokens_close(struct tokens *tokens)
{
    token_keys_free(tokens->keys);
    if (tokens->credentials != NULL) {
        explicit_bzero(tokens->credentials, strlen(tokens->credentials));
    }
    free(tokens->credentials);
    pthread_rwlock_destroy(&tokens->lock);
    free(tokens);
}

/* ---- A token ---- */

struct parts {
    struct slice header, payload, signature, signed_text; /* in base64 */
};

static bool parts_find(struct slice token, struct parts *parts)
{
    const uint8_t *first = token.size > 0 ? memchr(token.bytes, '.', token.size) : NULL;
    if (first == NULL || token.size > TOKEN_BYTES_MAX) {
        return false;
    }
    parts->header = slice_first(token, (size_t)(first - token.bytes));
    struct slice rest = slice_from(token, parts->header.size + 1);
    const uint8_t *second = rest.size > 0 ? memchr(rest.bytes, '.', rest.size) : NULL;
    if (second == NULL) {
        return false;
    }
    parts->payload = slice_first(rest, (size_t)(second - rest.bytes));
    parts->signature = slice_from(rest, parts->payload.size + 1);
    parts->signed_text = slice_first(token, parts->header.size + 1 + parts->payload.size);
    return parts->signature.size == 0 ||
           memchr(parts->signature.bytes, '.', parts->signature.size) == NULL;
}

/* NULL: it is no object. */
static json_t *object_read(struct slice text)
{
    uint8_t octets[TOKEN_BYTES_MAX];
    json_error_t error;
    long size = token_base64_decode(text, octets);
    json_t *object =
        size <= 0 ? NULL
                  : json_loadb((const char *)octets, (size_t)size, JSON_REJECT_DUPLICATES, &error);
    explicit_bzero(octets, size > 0 ? (size_t)size : 0);
    if (object != NULL && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

static const char *member(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)); /* NULL: none, or no string */
}

/* RFC 7515 §4.1.11: what a header calls critical must be understood, and we understand nothing of that kind. */
static bool signature_is_good(struct tokens *tokens, const struct parts *parts,
                              const json_t *header)
{
    uint8_t octets[TOKEN_BYTES_MAX];
    const char *name = member(header, "alg");
    long size = token_base64_decode(parts->signature, octets);
    if (name == NULL || size <= 0 || json_object_get(header, "crit") != NULL) {
        return false;
    }
    enum token_algorithm algorithm = token_algorithm_find(name);
    if (algorithm == TOKEN_ALGORITHMS) {
        return false;
    }
    pthread_rwlock_rdlock(&tokens->lock);
    bool good = token_keys_verify(tokens->keys, algorithm, member(header, "kid"),
                                  parts->signed_text, slice_of(octets, (size_t)size));
    pthread_rwlock_unlock(&tokens->lock);
    return good;
}

/* ---- Claims ---- */

static bool is_among(const char *text, const char *const *names)
{
    for (; text != NULL && *names != NULL; names++) {
        if (strcmp(text, *names) == 0) {
            return true;
        }
    }
    return false;
}

/* Of a text, or of several (RFC 7519 §4.1.3). */
static bool any_is_among(const json_t *value, const char *const *names)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (is_among(json_string_value(json_array_get(value, i)), names)) {
            return true;
        }
    }
    return is_among(json_string_value(value), names);
}

static bool names_any(const char *const *names)
{
    return names != NULL && names[0] != NULL;
}

/* Words with blanks between (RFC 8693 §4.2), or an array of them, as some have it. */
static bool scope_has(const json_t *value, const char *wanted)
{
    const char *const only[] = {wanted, NULL};
    const char *text = json_string_value(value);
    size_t size = strlen(wanted);
    for (const char *at = text; at != NULL && *at != '\0';) {
        size_t word = strcspn(at, " ");
        if (word == size && memcmp(at, wanted, size) == 0) {
            return true;
        }
        at += word;
        at += strspn(at, " ");
    }
    return any_is_among(value, only);
}

/* NULL: it is good. */
static const char *time_problem(const json_t *claims, int64_t wall_s, bool may_be_endless)
{
    const json_t *expires = json_object_get(claims, "exp"),
                 *begins = json_object_get(claims, "nbf");
    if (expires == NULL && may_be_endless) {
        return NULL; /* the issuer has just said that it is good */
    }
    if (!json_is_number(expires)) {
        return "the token has no end";
    }
    if ((double)(wall_s - TOKEN_LEEWAY_S) >= json_number_value(expires)) {
        return "the token is expired";
    }
    if (begins != NULL && !(json_is_number(begins) &&
                            (double)(wall_s + TOKEN_LEEWAY_S) >= json_number_value(begins))) {
        return "the token is not valid yet";
    }
    return NULL;
}

static const char *claims_problem(const struct token_settings *settings, const json_t *claims)
{
    const char *issuer = member(claims, "iss"), *client = member(claims, "azp");
    client = client != NULL ? client : member(claims, "client_id");
    const json_t *scope = json_object_get(claims, "scope");
    if (settings->issuer != NULL && (issuer == NULL || strcmp(issuer, settings->issuer) != 0)) {
        return "the token is of another issuer";
    }
    if (names_any(settings->audiences) &&
        !any_is_among(json_object_get(claims, "aud"), settings->audiences)) {
        return "the token is for another service";
    }
    if (names_any(settings->clients) && !is_among(client, settings->clients)) {
        return "the token is of another client";
    }
    if (settings->scope != NULL &&
        !scope_has(scope != NULL ? scope : json_object_get(claims, "scp"), settings->scope)) {
        return "the token lacks the scope";
    }
    return NULL;
}

static bool is_domain_among(const char *text, const char *const *names)
{
    for (; names != NULL && *names != NULL; names++) {
        if (slice_equal_nocase(slice_text(text), slice_text(*names))) {
            return true;
        }
    }
    return false;
}

/* The user need not be one of the backends', and is a mailbox all the same: of "alice@evil.test" and "alice+x" it would be
 * alice's, and whoever chooses his address at the issuer would be she. */
static const char *user_problem(const json_t *claims, const struct token_settings *settings,
                                char user[BACKEND_NAME_MAX + 1])
{
    const json_t *claim = json_object_get(claims, settings->user_claim);
    size_t size = json_string_length(claim);
    if (!json_is_string(claim) || size == 0 || size > BACKEND_NAME_MAX ||
        strlen(json_string_value(claim)) != size) {
        return "the token names no user";
    }
    const char *at = strchr(json_string_value(claim), '@');
    if (strpbrk(json_string_value(claim), "+\"") != NULL) {
        return "the token names a part of a mailbox";
    }
    if (at == json_string_value(claim)) {
        return "the token names no user";
    }
    if (at != NULL && !is_domain_among(at + 1, settings->domains)) {
        return "the token's user is of another domain";
    }
    memcpy(user, json_string_value(claim), size + 1);
    return NULL;
}

/* NULL: it is good. *claims: the caller's to release. */
static const char *signed_problem(struct tokens *tokens, struct slice token, json_t **claims)
{
    struct parts parts;
    file_look(tokens);
    json_t *header = parts_find(token, &parts) ? object_read(parts.header) : NULL;
    bool good = header != NULL && signature_is_good(tokens, &parts, header);
    const char *problem = header == NULL ? "that is no token"
                          : !good        ? "the token is not signed by a known key"
                                         : NULL;
    json_decref(header);
    if (problem == NULL) {
        *claims = object_read(parts.payload);
        problem = *claims == NULL ? "that is no token" : NULL;
    }
    return problem;
}

/* False: the issuer cannot be asked. */
static bool issuer_ask(struct tokens *tokens, struct slice token, json_t **claims,
                       const char **reason)
{
    char problem[BACKEND_PROBLEM_MAX];
    const struct token_settings *settings = &tokens->settings;
    int status = token_ask(settings->introspection, tokens->credentials, token, claims, problem);
    if (status < 0) {
        logger_line(settings->logger, LOGGER_ERROR, "auth: %.200s: %s", settings->introspection,
                    problem[0] != '\0' ? problem : strerror(-status));
        return false;
    }
    *reason = json_is_true(json_object_get(*claims, "active")) ? NULL : "the token is not active";
    return true;
}

enum token_answer tokens_judge(struct tokens *tokens, struct slice token, int64_t wall_s,
                               char user[BACKEND_NAME_MAX + 1], const char **reason)
{
    const struct token_settings *settings = &tokens->settings;
    bool asks = settings->introspection != NULL;
    json_t *claims = NULL;
    *reason = NULL;
    if (!asks) {
        *reason = signed_problem(tokens, token, &claims);
    } else if (!issuer_ask(tokens, token, &claims, reason)) {
        return TOKEN_UNKNOWN;
    }
    if (*reason == NULL) {
        *reason = time_problem(claims, wall_s, asks);
    }
    if (*reason == NULL) {
        *reason = claims_problem(settings, claims);
    }
    if (*reason == NULL) {
        *reason = user_problem(claims, settings, user);
    }
    json_decref(claims);
    return *reason == NULL ? TOKEN_GOOD : TOKEN_BAD;
}
