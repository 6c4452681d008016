/*
 * sieve_scripts: where users' Sieve scripts are, and the programs that they were compiled to.
 *
 * A script is a property of its user: "sieve/script/NAME" is its text, "sieve/active" the name of the one that runs
 * when mail comes in. Programs are kept, a bounded number of them, beside the text that they come from: one whose text
 * is no longer that of the script is not used. What includes others is compiled each time.
 *
 * One a shard, of mailbox.c; delivery_sieve.c asks. Reads may block as the store's do.
 */
#pragma once
#include "proto/sieve/compile.h"
#include "proto/sieve/program.h"
#include "queue/mailbox/mailstore.h"

#define SIEVE_ACTIVE_KEY "sieve/active"
#define SIEVE_SCRIPT_KEY "sieve/script/"

/* Of scripts that run here. */
#define SIEVE_EXTENSIONS_HERE SIEVE_EXTENSIONS_ALL

struct sieve_scripts;

/* count_max: programs that are kept. 0, -ENOMEM. */
int sieve_scripts_open(struct sieve_scripts **scripts, struct mailstore *store, uint32_t count_max);
void sieve_scripts_close(struct sieve_scripts *scripts); /* NULL is fine */

enum sieve_scripts_want {
    SIEVE_SCRIPTS_HEADER = 1,    /* he has an active script */
    SIEVE_SCRIPTS_BODY = 2,      /* which tests the body */
    SIEVE_SCRIPTS_EDIT = 4,      /* which edits the header */
    SIEVE_SCRIPTS_MAILBOXES = 8, /* which asks what mailboxes he has */
};
/* What his active script is to be shown of a message, enum sieve_scripts_want; 0: there is none. */
uint32_t sieve_scripts_want(struct sieve_scripts *scripts, const struct mailstore_user *user);
/* His active script, valid until the next call. 0; -ENOENT: there is none; -EINVAL: *error says what is wrong with it;
 * -ENOMEM; -EIO. */
int sieve_scripts_active(struct sieve_scripts *scripts, const struct mailstore_user *user,
                         const struct sieve_program **program, struct sieve_error *error);

struct sieve_scripts_counters {
    uint64_t compiled, found; /* found: for sieve_scripts_want no compiling was needed */
};
const struct sieve_scripts_counters *sieve_scripts_counters(const struct sieve_scripts *scripts);
