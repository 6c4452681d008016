/* directory_private: what directory.c and directory_near.c share. Only they include this. */
#pragma once
#include "engine/auth/directory.h"
#include "engine/auth/result_cache.h"
#include <pthread.h>

struct directory_backend {
    const struct backend_kind *kind;
    struct backend_source *source;
};

struct directory {
    struct directory_settings settings;
    struct directory_backend users[DIRECTORY_BACKENDS_MAX], masters[DIRECTORY_BACKENDS_MAX];
    unsigned user_count, master_count;
    pthread_mutex_t lock;                      /* of all that follows; recursive */
    char last_stored[PASSWORD_STORED_MAX + 1]; /* what an unknown user is checked against */
    char last_made[PASSWORD_STORED_MAX + 1];   /* what is made of one for SCRAM, and the like */
    struct penalty penalty;
    struct result_cache cache;
};

/* Who logs in, with whose password. */
struct directory_who {
    bool master;
    struct slice user, owner; /* owner: the master, or the user */
    uint8_t room[2][BACKEND_NAME_MAX];
};

struct directory_search {
    enum auth_outcome outcome;
    const char *reason; /* why not, for the log */
    bool found;         /* there is such a user */
    struct auth_user user;
    char problem[BACKEND_PROBLEM_MAX];
};

bool directory_who_read(const struct directory *directory, const struct auth_ask *ask,
                        struct directory_who *who);
/* Sum over all backends: another one says that results are not to be believed any more. */
uint64_t directory_generation(const struct directory *directory, uint64_t now_ns);
void directory_fields_give(const struct directory_who *who, const struct auth_user *user,
                           struct auth_answer *answer);
/* The user that an exchange is about, before anything is made of what is stored. */
void directory_credential_search(struct directory *directory, const struct auth_ask *ask,
                                 uint64_t now_ns, struct directory_who *who,
                                 struct directory_search *search);
void directory_credential_give(struct directory *directory, const struct auth_ask *ask,
                               uint64_t now_ns, const struct directory_who *who,
                               struct directory_search *search, struct auth_answer *answer);
