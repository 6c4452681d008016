#include "engine/auth/auth_service.h"
#include "proto/sasl/mechanism.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE 1024u
#define SECRET_FILE "secret"

/* What a directory stands on, too. */
static int tokens_make(struct tokens **tokens, const struct conf_auth *conf, struct logger *logger,
                       char problem[BACKEND_PROBLEM_MAX])
{
    char what[BACKEND_PROBLEM_MAX] = "";
    const struct token_settings settings = {.keys = conf->token_keys,
                                            .introspection = conf->token_introspection,
                                            .credentials = conf->token_credentials,
                                            .issuer = conf->token_issuer,
                                            .audiences = conf->token_audiences,
                                            .clients = conf->token_clients,
                                            .user_claim = conf->token_user,
                                            .domains = conf->token_domains,
                                            .scope = conf->token_scope,
                                            .logger = logger};
    if (conf->token_keys == NULL && conf->token_introspection == NULL) {
        return 0;
    }
    int status = tokens_open(tokens, &settings, what);
    if (status < 0) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "auth: tokens: %.*s",
                 (int)(BACKEND_PROBLEM_MAX - 24), what[0] != '\0' ? what : strerror(-status));
    }
    return status;
}

static int directory_make(struct directory **directory, struct tokens *tokens,
                          const struct conf_auth *conf, const uint8_t secret[AUTH_SECRET_BYTES],
                          const struct world *world, struct logger *logger,
                          char problem[BACKEND_PROBLEM_MAX])
{
    char what[BACKEND_PROBLEM_MAX] = "";
    struct directory_settings settings = {
        .backends = conf->backends,
        .masters = conf->masters,
        .master_separator = conf->master_separator != NULL ? conf->master_separator[0] : '\0',
        .scheme = conf->scheme,
        .kinds = conf->kinds,
        .right_ns = conf->cache_right,
        .wrong_ns = conf->cache_wrong,
        .tokens = tokens,
        .world = world,
        .logger = logger,
    };
    memcpy(settings.secret, secret, sizeof settings.secret);
    int status = directory_open(directory, &settings, what);
    OPENSSL_cleanse(settings.secret, sizeof settings.secret);
    if (status < 0) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "auth: %.*s", (int)(BACKEND_PROBLEM_MAX - 16),
                 what[0] != '\0' ? what : strerror(-status));
    }
    return status;
}

int auth_service_check(const struct conf_auth *conf, const struct world *world,
                       char problem[BACKEND_PROBLEM_MAX])
{
    static const uint8_t none[AUTH_SECRET_BYTES];
    struct directory *directory = NULL;
    struct tokens *tokens = NULL;
    int status = tokens_make(&tokens, conf, NULL, problem);
    if (status == 0 && conf->backends_count > 0) {
        status = directory_make(&directory, tokens, conf, none, world, NULL, problem);
    }
    if (directory != NULL) {
        directory_close(directory);
    }
    if (tokens != NULL) {
        tokens_close(tokens);
    }
    return status;
}

/* ---- The secret ---- */

/* 0, -ENOENT: there is none; -EINVAL: it is no secret. */
static int secret_read(int folder, const char *name, uint8_t secret[AUTH_SECRET_BYTES])
{
    uint8_t more;
    int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0) {
        return -errno;
    }
    bool whole =
        read(file, secret, AUTH_SECRET_BYTES) == AUTH_SECRET_BYTES && read(file, &more, 1) == 0;
    close(file);
    return whole ? 0 : -EINVAL;
}

/* It is there whole, under its name, or not at all. What another has put there meanwhile stays: -EEXIST. */
static int secret_write(int folder, const char *name, const uint8_t secret[AUTH_SECRET_BYTES])
{
    char draft[PATH_MAX];
    if (snprintf(draft, sizeof draft, "%s.%ld", name, (long)getpid()) >= (int)sizeof draft) {
        return -ENAMETOOLONG;
    }
    unlinkat(folder, draft, 0);
    int file = openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) {
        return -errno;
    }
    ssize_t written = write(file, secret, AUTH_SECRET_BYTES);
    int status = written < 0                            ? -errno
                 : (size_t)written != AUTH_SECRET_BYTES ? -ENOSPC
                 : fsync(file) < 0                      ? -errno
                                                        : 0;
    close(file);
    if (status == 0 && linkat(folder, draft, folder, name, 0) < 0) {
        status = -errno;
    }
    unlinkat(folder, draft, 0);
    return status == 0 && fsync(folder) < 0 ? -errno : status;
}

static int secret_path(const struct auth_service_settings *settings, char path[PATH_MAX])
{
    const char *given = settings->conf->secret;
    int size = given != NULL ? snprintf(path, PATH_MAX, "%s", given)
                             : snprintf(path, PATH_MAX, "%s/" SECRET_FILE, settings->folder);
    return size < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* path: is cut where its file's name begins. */
static int secret_get(struct auth_service *self, char *path, const struct world *world)
{
    char *name = strrchr(path, '/');
    if (name == NULL || name == path) {
        return -EINVAL;
    }
    *name++ = '\0';
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return -errno;
    }
    int status = secret_read(folder, name, self->secret);
    if (status == -ENOENT) {
        world_random(world, self->secret, sizeof self->secret);
        status = secret_write(folder, name, self->secret);
        status = status == -EEXIST ? secret_read(folder, name, self->secret) : status;
    }
    close(folder);
    return status;
}

/* ---- Life ---- */

int auth_service_open(struct auth_service *self, const struct auth_service_settings *settings)
{
    const struct conf_auth *conf = settings->conf;
    const struct helpers_settings helping = {
        .threads = conf->threads, .queue_max = QUEUE, .name = "auth"};
    char problem[BACKEND_PROBLEM_MAX] = "auth: no threads can be had";
    char path[PATH_MAX] = "";
    int status = 0;
    if (settings->folder == NULL) {
        world_random(settings->world, self->secret, sizeof self->secret);
    } else {
        status = secret_path(settings, path);
        status = status == 0 ? secret_get(self, path, settings->world) : status;
    }
    if (status < 0) {
        logger_line(settings->logger, LOGGER_ERROR, "auth: the secret cannot be used, in %s: %s",
                    path, status == -EINVAL ? "it is no secret" : strerror(-status));
        return status;
    }
    self->conf = conf;
    snprintf(self->realm, sizeof self->realm, "%s", settings->hostname);
    status = tokens_make(&self->tokens, conf, settings->logger, problem);
    if (status == 0) {
        status = directory_make(&self->directory, self->tokens, conf, self->secret, settings->world,
                                settings->logger, problem);
    }
    if (status == 0) {
        status = helpers_open(&self->helpers, &helping);
    }
    if (status < 0) {
        logger_line(settings->logger, LOGGER_ERROR, "%s", problem);
        auth_service_close(self);
    }
    return status;
}

void auth_service_close(struct auth_service *self)
{
    if (self->helpers != NULL) {
        helpers_close(self->helpers);
    }
    if (self->directory != NULL) {
        directory_close(self->directory);
    }
    if (self->tokens != NULL) {
        tokens_close(self->tokens);
    }
    self->tokens = NULL;
    OPENSSL_cleanse(self->secret, sizeof self->secret);
    self->helpers = NULL;
    self->directory = NULL;
    self->conf = NULL;
}

/* ---- A shard's desk ---- */

static uint32_t mechanisms_of(const struct conf_auth *conf)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < conf->mechanisms_count; i++) {
        enum sasl_mechanism found = sasl_mechanism_find(slice_text(conf->mechanisms[i]));
        bits |= SASL_BIT(found);
        bits |= found == SASL_SCRAM_SHA_256 ? SASL_BIT(SASL_SCRAM_SHA_256_PLUS)
                : found == SASL_SCRAM_SHA_1 ? SASL_BIT(SASL_SCRAM_SHA_1_PLUS)
                                            : 0;
    }
    return bits;
}

int auth_service_desk(const struct auth_service *self, struct shard *shard,
                      bool (*is_user)(const char *user), struct login_desk **desk)
{
    struct login_desk_settings settings = {
        .shard = shard,
        .helpers = self->helpers,
        .directory = self->directory,
        .realm = self->realm,
        .clear_on_loopback = self->conf->clear_on_loopback,
        .mechanisms = mechanisms_of(self->conf),
        .is_user = is_user,
        .tokens = self->tokens != NULL,
        .token_scope = self->conf->token_scope,
        .token_configuration = self->conf->token_configuration,
    };
    memcpy(settings.secret, self->secret, sizeof settings.secret);
    int status = login_desk_open(desk, &settings);
    OPENSSL_cleanse(settings.secret, sizeof settings.secret);
    if (status < 0) {
        logger_line(shard->logger, LOGGER_ERROR, "auth: cannot be opened: %s",
                    status == -ENOSYS ? "GNU SASL lacks a mechanism" : strerror(-status));
    }
    return status;
}
