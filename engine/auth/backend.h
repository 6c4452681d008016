/*
 * backend: where users are kept. One file of code a kind; a kind is a struct backend_kind and nothing else.
 *
 * "KIND:WHERE" names one: passwd-file:/etc/tubepost/users; static:USER:{PLAIN}PASSWORD (lines); sqlite:FILE, pgsql:FILE,
 * ldap:FILE, lmdb:FILE, texthash:FILE (maps, whose value is what stands behind "user:" in a passwd-file); pam:SERVICE;
 * ldap-bind:FILE.
 * Only directory.h calls them, on helper threads: everything here may block, but what is_near has promised. A kind guards
 * itself against being asked by several threads.
 *
 * Names come from outside: a kind that builds a query or a filter of them escapes them. They were folded to small
 * letters, are UTF-8 without control characters, and have no "/" (directory.h).
 */
#pragma once
#include "engine/auth/password.h"

#define BACKEND_NAME_MAX 320u
#define BACKEND_PROBLEM_MAX 256u

/* What is kept of a user. Strings; empty: not given. */
struct auth_user {
    char stored[PASSWORD_STORED_MAX + 1]; /* the password; empty: nobody comes in by it */
    char uid[16], gid[16], home[256], extra[512];
};

enum backend_answer {
    BACKEND_FOUND,  /* the user is there; of verify: and this is the password */
    BACKEND_WRONG,  /* of verify: there is no such user, or this is not the password */
    BACKEND_ABSENT, /* of find: there is no such user */
    BACKEND_FAILED, /* not known now; `problem` says why */
};

struct backend_source; /* what a kind keeps */
typedef void backend_told(void *self, struct slice name, struct slice stored);

struct backend_kind {
    const char *name;
    /* 0; -EINVAL and `problem`; -ENOMEM; another errno: the file cannot be read. */
    int (*open)(struct backend_source **source, const char *kind, const char *where,
                char problem[BACKEND_PROBLEM_MAX]);
    void (*close)(struct backend_source *source);
    /* One of the two. find: what is kept; verify: where only the backend itself can tell. */
    enum backend_answer (*find)(struct backend_source *source, struct slice name, uint64_t now_ns,
                                struct auth_user *user, char problem[BACKEND_PROBLEM_MAX]);
    enum backend_answer (*verify)(struct backend_source *source, struct slice name,
                                  struct slice password, char problem[BACKEND_PROBLEM_MAX]);
    /* Of verify: is there such a user? NULL: it cannot be told without his password. */
    enum backend_answer (*exists)(struct backend_source *source, struct slice name,
                                  char problem[BACKEND_PROBLEM_MAX]);
    /* Counts up when the content has changed, so that nothing that was answered before is to be believed; NULL: it
     * cannot be told. */
    uint64_t (*generation)(struct backend_source *source, uint64_t now_ns);
    /* Are the users in memory, so that find and generation wait for nothing with this now_ns? NULL: never. Any thread. */
    bool (*is_near)(struct backend_source *source, uint64_t now_ns);
    /* Of those that may be near: tells of all users, as they are kept: what stands behind the name, up to ":". Takes its time. */
    void (*survey)(struct backend_source *source, backend_told *told, void *self);
};

extern const struct backend_kind backend_file, backend_static, backend_map, backend_pam,
    backend_ldap;

/* ---- for the kinds ---- */

/* "password:uid:gid:gecos:home:shell:extra", of which all but the first may be missing. False: something is too long. */
bool auth_user_read(struct slice line, struct auth_user *user);
