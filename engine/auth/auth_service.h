/*
 * auth_service: who may log in: the process's directory of users, and the threads that ask it. A program has one where
 * its configuration has listeners whose clients log in, or where backends say to whom mail may come (delivery_user.h);
 * each of its shards opens a desk (login.h) at it.
 *
 * What the service answers about users that do not exist must be the same after each start (proto/sasl/server.h): it
 * comes of a secret, in the file that auth.secret names, made when it is missing. Programs that have the same users
 * should have the same secret, or what they say of a name would tell whether it is somebody's.
 */
#pragma once
#include "engine/auth/login.h"
#include "engine/conf/conf.h"

#define AUTH_SECRET_BYTES 32u

struct auth_service {
    const struct conf_auth *conf; /* borrowed while it is open; NULL: it is not */
    struct helpers *helpers;
    struct directory *directory;
    struct tokens *tokens; /* NULL: none are taken */
    char realm[256];
    uint8_t secret[AUTH_SECRET_BYTES];
};

struct auth_service_settings {
    const struct conf_auth *conf; /* with all it names: borrowed while it is open */
    /* Where the secret lies unless conf says; made when it is missing. NULL: nobody logs in, and it is not kept. */
    const char *folder;
    const char *hostname;      /* realm of DIGEST-MD5 */
    const struct world *world; /* borrowed, and so is logger */
    struct logger *logger;
};

/* Can the backends, if there are any, be used? Nothing is written. 0, or -errno and the problem, which begins with the key. */
int auth_service_check(const struct conf_auth *conf, const struct world *world,
                       char problem[BACKEND_PROBLEM_MAX]);
/* 0 or -errno; why is logged. */
int auth_service_open(struct auth_service *self, const struct auth_service_settings *settings);
/* After the shards have stopped, before they are closed. Harmless when it is not open. */
void auth_service_close(struct auth_service *self);

/* On the shard's thread. is_user: as login_desk_settings. 0 or -errno; why is logged. */
int auth_service_desk(const struct auth_service *self, struct shard *shard,
                      bool (*is_user)(const char *user), struct login_desk **desk);
