/*
 * auth: a shard's way to the directory of users (directory.h): asks on a helper thread, unless the answer is near, and is told
 * on the shard.
 *
 * Sessions call it with what a SASL exchange or a login wants to know, and wait in a state. Who fails is told late, by
 * as much as the directory says (penalty.h); the waiting is done by a timer of the shard, so that no helper sleeps.
 * What was asked is copied and wiped afterwards.
 */
#pragma once
#include "engine/auth/directory.h"
#include "engine/shard/helpers.h"

struct auth;
struct auth_job;

struct auth_settings {
    struct shard *shard;
    struct helpers *helpers; /* own_bytes: none needed */
    struct directory *directory;
    uint32_t asked_max; /* questions under way, of those that wait for their delay too; 0: 1024 */
};

struct auth_request { /* the asker's, until `told` or auth_cancel */
    /* *answer is borrowed. Runs on the shard, never before auth_ask has returned. */
    void (*told)(struct auth_request *request, const struct auth_answer *answer);
    struct auth_job *job; /* auth's own; NULL: nothing is asked */
};

/* 0 or -ENOMEM. */
int auth_open(struct auth **auth, const struct auth_settings *settings);
/* After every request was told or cancelled; what helpers have under way ends by itself. */
void auth_close(struct auth *auth);

/* 0: told runs later; -ENOBUFS: too many are asked; -ENOMEM; -EINVAL: a name or password that is longer than any. *ask is
 * borrowed until it returns. */
int auth_ask(struct auth *auth, struct auth_request *request, const struct auth_ask *ask);
/* The client has gone: told will not run. What it did counts all the same. */
void auth_cancel(struct auth_request *request);
/* Questions under way. */
uint32_t auth_asked(const struct auth *auth);
