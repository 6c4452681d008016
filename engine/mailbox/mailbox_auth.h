/*
 * mailbox_auth: who may log in: the process's directory of users, and the threads that ask it. Main has one where the
 * configuration has listeners for IMAP or POP3.
 *
 * What the service answers about users that do not exist must be the same after each start (proto/sasl/server.h): it
 * comes of a secret, in the file "secret" of the store's folder, made when it is missing.
 */
#pragma once
#include "engine/auth/directory.h"
#include "engine/conf/conf.h"
#include "engine/shard/helpers.h"

#define MAILBOX_SECRET_BYTES 32u

struct mailbox_auth {
    struct helpers *helpers;
    struct directory *directory;
    uint8_t secret[MAILBOX_SECRET_BYTES];
};

/* Does it listen for those who read mail? */
bool mailbox_auth_is_wanted(const struct mailboxd_conf *conf);
/* Can the backends, if there are any, be used? Nothing is written. 0, or -errno and the problem, which begins with the key. */
int mailbox_auth_check(const struct mailboxd_conf *conf, const struct world *world,
                       char problem[BACKEND_PROBLEM_MAX]);
/* conf, world, logger: borrowed while it is open. 0 or -errno; why is logged. */
int mailbox_auth_open(struct mailbox_auth *self, const struct mailboxd_conf *conf,
                      const struct world *world, struct logger *logger);
/* After the shard has stopped, before it is closed. Harmless when it is not open. */
void mailbox_auth_close(struct mailbox_auth *self);
