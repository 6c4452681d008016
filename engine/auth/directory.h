/*
 * directory: all backends together, and what is asked of them: is this the password, what is stored of this user, is
 * this a good token, and what becomes of one who fails.
 *
 * One a process, shared by all helper threads; auth.h is the shards' way to it, and of directory_knows delivery_user.c
 * of the mailbox service. Everything here may block and takes its time on purpose, so it never runs on a shard, but
 * directory_answer_near. A lock guards what is remembered: results, and failures.
 *
 * An unknown user is answered as a known one, and takes as long: he seems to have a password of a kind that somebody has, the
 * same each time (population.h), and it is checked against that.
 * Results are remembered by a keyed hash of name and password; passwords themselves are kept nowhere.
 *
 * One line of the log a failure, fit for Fail2ban:
 *     auth: failed: user=<NAME>, method=PLAIN, rip=192.0.2.1, service=imap, wrong password
 *
 * Names are folded to small letters (ASCII). "user*master", with a separator that the operator chooses, and an
 * authorization identity that is another's, log in as the user with the password of a master.
 */
#pragma once
#include "engine/auth/backend.h"
#include "engine/auth/penalty.h"
#include "engine/auth/token.h"
#include "engine/core/logger.h"
#include "engine/core/world.h"

#define DIRECTORY_BACKENDS_MAX 8u

enum auth_ask_kind {
    AUTH_VERIFY,     /* is this the password? */
    AUTH_CREDENTIAL, /* what is stored, for a mechanism that proves it without sending it */
    AUTH_EXISTS, /* the name is proven (EXTERNAL): is there such a user, and may he act as authzid? */
    /* Is the token in `password` good, and that of authid, unless that is empty? Its user need not be in a backend. */
    AUTH_TOKEN,
    AUTH_FAILED, /* a mechanism with AUTH_CREDENTIAL has ended so: count it, log it, say how long to wait */
    AUTH_SUCCEEDED,
};
enum auth_credential { AUTH_PASSWORD, AUTH_DIGEST_MD5, AUTH_SCRAM_SHA_1, AUTH_SCRAM_SHA_256 };

struct auth_ask { /* slices: borrowed */
    enum auth_ask_kind kind;
    enum auth_credential credential;
    const char *method;  /* for the log: "PLAIN"; static text */
    const char *service; /* the same: "imap"; NULL: not said */
    struct slice authid, authzid, password;
    struct penalty_address address;
};

enum auth_outcome {
    AUTH_RIGHT,   /* of AUTH_CREDENTIAL: it is there */
    AUTH_WRONG,   /* of AUTH_CREDENTIAL: there is none */
    AUTH_UNKNOWN, /* cannot be known now */
};

struct auth_answer {
    enum auth_outcome outcome;
    uint64_t delay_ns;               /* to wait before the client is told */
    char user[BACKEND_NAME_MAX + 1]; /* who has logged in; of a master: as whom */
    struct auth_user fields;         /* his; stored is empty */
    /* Of AUTH_CREDENTIAL, of its kind. */
    uint8_t password[PASSWORD_STORED_MAX];
    size_t password_bytes;
    char digest_ha1[33];
    struct password_scram scram;
    /* Of AUTH_CREDENTIAL of SCRAM, AUTH_WRONG: iterations and salt that he seems to have, or really has; no keys. */
    struct password_scram seems;
};

struct directory_settings {
    const char *const *backends; /* "KIND:WHERE", asked in this order; NULL at the end */
    const char *const *masters;  /* the same, of masters; may be NULL */
    char master_separator;       /* 0: none */
    const char *scheme;          /* of what is stored without "{SCHEME}"; NULL: CRYPT */
    /* What nobody seems to have where users are in a database: of each kind one as it is stored, equally often; NULL at the end.
     * NULL: what users have who were found of late. */
    const char *const *kinds;
    uint64_t right_ns, wrong_ns; /* how long results are remembered; 0: not at all */
    uint8_t secret[32];          /* of the service: the same as sasl_settings' */
    uint32_t scram_iterations;   /* as sasl_settings; 0: 4096 */
    struct penalty_settings penalty;
    struct tokens *tokens;     /* borrowed; NULL: no token is good */
    const struct world *world; /* for random octets, while opening; of tokens, the time */
    struct logger *logger;
};

struct directory;

/* 0; -EINVAL and `problem`; -ENOMEM; -errno of a file. *settings and what it points to: borrowed while it is open. */
int directory_open(struct directory **directory, const struct directory_settings *settings,
                   char problem[BACKEND_PROBLEM_MAX]);
void directory_close(struct directory *directory); /* after the helpers */
/* now_ns: of the shard that asks, > 0. Any helper thread. */
void directory_answer(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                      struct auth_answer *answer);
/* The same on a shard, where it takes moments: who has succeeded; a password that was right a while ago; what is stored, where
 * all users are in memory and nothing is derived of it, nor would be of what nobody seems to have. False: a helper is to be
 * asked, and nothing has been done. */
bool directory_answer_near(struct directory *directory, const struct auth_ask *ask, uint64_t now_ns,
                           struct auth_answer *answer);
/* Is there such a user, whoever asks? Nobody is counted or logged for it. AUTH_UNKNOWN: a backend cannot be asked now, or
 * only with his password. Any helper thread. */
enum auth_outcome directory_knows(struct directory *directory, struct slice name, uint64_t now_ns);
