#include "engine/mailbox/mailbox_auth.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE 1024u
#define SECRET_FILE "secret"

bool mailbox_auth_is_wanted(const struct mailboxd_conf *conf)
{
    bool any = false;
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        any = any || conf->listen[i].protocol != CONF_PROTOCOL_LMTP;
    }
    return any;
}

static int directory_make(struct directory **directory, const struct mailboxd_conf *conf,
                          const uint8_t secret[MAILBOX_SECRET_BYTES], const struct world *world,
                          struct logger *logger, char problem[BACKEND_PROBLEM_MAX])
{
    char what[BACKEND_PROBLEM_MAX] = "";
    struct directory_settings settings = {
        .backends = conf->auth.backends,
        .masters = conf->auth.masters,
        .master_separator =
            conf->auth.master_separator != NULL ? conf->auth.master_separator[0] : '\0',
        .scheme = conf->auth.scheme,
        .right_ns = conf->auth.cache_right,
        .wrong_ns = conf->auth.cache_wrong,
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

int mailbox_auth_check(const struct mailboxd_conf *conf, const struct world *world,
                       char problem[BACKEND_PROBLEM_MAX])
{
    static const uint8_t none[MAILBOX_SECRET_BYTES];
    struct directory *directory = NULL;
    if (conf->auth.backends_count == 0) {
        return 0;
    }
    int status = directory_make(&directory, conf, none, world, NULL, problem);
    if (status == 0) {
        directory_close(directory);
    }
    return status;
}

/* ---- The secret ---- */

/* 0, -ENOENT: there is none; -EINVAL: it is no secret. */
static int secret_read(int folder, uint8_t secret[MAILBOX_SECRET_BYTES])
{
    uint8_t more;
    int file = openat(folder, SECRET_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0) {
        return -errno;
    }
    bool whole = read(file, secret, MAILBOX_SECRET_BYTES) == MAILBOX_SECRET_BYTES &&
                 read(file, &more, 1) == 0;
    close(file);
    return whole ? 0 : -EINVAL;
}

/* It is there whole, under its name, or not at all. */
static int secret_write(int folder, const uint8_t secret[MAILBOX_SECRET_BYTES])
{
    static const char draft[] = SECRET_FILE ".new";
    unlinkat(folder, draft, 0);
    int file = openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) {
        return -errno;
    }
    ssize_t written = write(file, secret, MAILBOX_SECRET_BYTES);
    int status = written < 0                               ? -errno
                 : (size_t)written != MAILBOX_SECRET_BYTES ? -ENOSPC
                 : fsync(file) < 0                         ? -errno
                                                           : 0;
    close(file);
    if (status == 0 && renameat(folder, draft, folder, SECRET_FILE) < 0) {
        status = -errno;
    }
    return status == 0 && fsync(folder) < 0 ? -errno : status;
}

static int secret_get(struct mailbox_auth *self, const char *path, const struct world *world)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return -errno;
    }
    int status = secret_read(folder, self->secret);
    if (status == -ENOENT) {
        world_random(world, self->secret, sizeof self->secret);
        status = secret_write(folder, self->secret);
    }
    close(folder);
    return status;
}

/* ---- Life ---- */

int mailbox_auth_open(struct mailbox_auth *self, const struct mailboxd_conf *conf,
                      const struct world *world, struct logger *logger)
{
    const struct helpers_settings helping = {
        .threads = conf->auth.threads, .queue_max = QUEUE, .name = "auth"};
    char problem[BACKEND_PROBLEM_MAX] = "auth: no threads can be had";
    int status = secret_get(self, conf->store.path, world);
    if (status < 0) {
        logger_line(logger, LOGGER_ERROR, "auth: %s/%s cannot be used: %s", conf->store.path,
                    SECRET_FILE, status == -EINVAL ? "it is no secret" : strerror(-status));
        return status;
    }
    status = directory_make(&self->directory, conf, self->secret, world, logger, problem);
    if (status == 0) {
        status = helpers_open(&self->helpers, &helping);
    }
    if (status < 0) {
        logger_line(logger, LOGGER_ERROR, "%s", problem);
        mailbox_auth_close(self);
    }
    return status;
}

void mailbox_auth_close(struct mailbox_auth *self)
{
    if (self->helpers != NULL) {
        helpers_close(self->helpers);
    }
    if (self->directory != NULL) {
        directory_close(self->directory);
    }
    OPENSSL_cleanse(self->secret, sizeof self->secret);
    self->helpers = NULL;
    self->directory = NULL;
}
