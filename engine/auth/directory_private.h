/* directory_private: what the files directory*.c share. Only they include this. */
#pragma once
#include "engine/auth/directory.h"
#include "engine/auth/population.h"
#include "engine/auth/result_cache.h"
#include <pthread.h>

struct directory_backend {
    const struct backend_kind *kind;
    struct backend_source *source;
};

/* The kinds of passwords that names who are nobody's seem to have. Of users in memory all are read; of others who was found. */
struct directory_kinds {
    struct population *population;
    bool read, configured;
    bool of_last;        /* not read: the last backend's users are in it, and nobody else's */
    uint64_t generation; /* of those that were read */
};

struct directory {
    struct directory_settings settings;
    struct directory_backend users[DIRECTORY_BACKENDS_MAX], masters[DIRECTORY_BACKENDS_MAX];
    unsigned user_count, master_count;
    char nobody[PASSWORD_STORED_MAX + 1]; /* what is checked where no user is known */
    pthread_mutex_t surveying;
    pthread_mutex_t lock;            /* of all that follows; recursive */
    EVP_MAC_CTX *made_up;            /* made_up.h */
    struct directory_kinds kinds[2]; /* of users, of masters */
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
    /* What he seems to have, if he is nobody or what he has does not serve; with `example`, that there is such a thing. */
    bool example;
    char seems[PASSWORD_STORED_MAX + 1];
    bool serves; /* of SCRAM's keys: what he has does */
    char problem[BACKEND_PROBLEM_MAX];
};

bool directory_who_read(const struct directory *directory, const struct auth_ask *ask,
                        struct directory_who *who);
/* Sum over all backends: another one says that results are not to be believed any more. */
uint64_t directory_generation(const struct directory *directory, uint64_t now_ns);
void directory_fields_give(const struct directory_who *who, const struct auth_user *user,
                           struct auth_answer *answer);
/* password NULL: only whether he is there. */
void directory_search_run(struct directory *directory, bool masters, struct slice name,
                          const struct slice *password, uint64_t now_ns,
                          struct directory_search *search);
/* A master has shown who he is; is there whom he wants to be? The fields are the user's. */
void directory_master_becomes(struct directory *directory, const struct directory_who *who,
                              uint64_t now_ns, struct directory_search *search);

/* directory_kinds.c. 0, -ENOMEM, or -EINVAL and `problem`; close is harmless then, too. */
int directory_kinds_open(struct directory *directory, char problem[BACKEND_PROBLEM_MAX]);
void directory_kinds_close(struct directory *directory);
/* Reads again what has changed, unless another does. On helpers. */
void directory_kinds_refresh(struct directory *directory, uint64_t now_ns);
/* Has nothing changed? Waits for nothing where all backends are near. */
bool directory_kinds_are_fresh(struct directory *directory, uint64_t now_ns);
void directory_kinds_found(struct directory *directory, const struct directory_backend *backend,
                           struct slice name, const struct auth_user *user, uint64_t now_ns);
/* As population_example; name may be longer. */
bool directory_kinds_example(struct directory *directory, bool master, struct slice name,
                             enum password_use use, char stored[PASSWORD_STORED_MAX + 1]);

/* directory_credential.c: the user that an exchange is about, before anything is made of what is stored. */
void directory_credential_search(struct directory *directory, const struct auth_ask *ask,
                                 uint64_t now_ns, struct directory_who *who,
                                 struct directory_search *search);
void directory_credential_give(struct directory *directory, const struct auth_ask *ask,
                               uint64_t now_ns, const struct directory_who *who,
                               struct directory_search *search, struct auth_answer *answer);
/* What the answer is made of: what he has, or seems to have; NULL: nothing. */
const char *directory_credential_made_of(const struct directory_search *search);
