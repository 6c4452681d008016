/*
 * password_kind: what of a stored password decides how long answers about it take, and what SCRAM tells of it: its scheme and
 * costs, without salt and hash.
 *
 * Called by the directory, for what a name that is nobody's shall look like (population.h). No state; any thread. Computes
 * no hash: what looks like a password may still turn out to be none.
 */
#pragma once
#include "engine/auth/password.h"

#define PASSWORD_KIND_BYTES 96u

/* What a password of the kind serves; bits. */
enum password_use {
    PASSWORD_FOR_VERIFY = 1,
    PASSWORD_FOR_SCRAM_SHA_1 = 2,
    PASSWORD_FOR_SCRAM_SHA_256 = 4,
};

struct password_kind {
    char text[PASSWORD_KIND_BYTES]; /* equal texts: one kind */
    uint8_t uses;                   /* password_use */
};

/* False, and all zeroes: it serves nothing of the above. */
bool password_kind_read(struct slice stored, const char *otherwise_scheme,
                        struct password_kind *kind);
