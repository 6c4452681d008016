/*
 * population: which kinds of passwords the users of a database have, and which of them a name that is nobody's seems to have.
 *
 * A database may mix kinds: SCRAM's keys beside passwords in plain text, bcrypt beside SHA512-CRYPT. Answers about them take
 * different times, and SCRAM tells counts and lengths of salts; so somebody's kind shows, and a name that is nobody's must
 * have a kind as somebody's, the same whenever it is asked.
 *
 * Users and names stand on a ring, each where a hash of the name with the service's secret puts it: nobody's name has the kind of the
 * user who is next. So names have the kinds in the users' proportion, keep them over restarts, and of n users one who comes
 * or goes changes the kind of one name in n. Of the users a sample stands for all, one for each place of the ring, the same in
 * whatever order they come. A user who was not noted for a week gives his place to whoever comes, so where users are noted
 * when they are seen, it is those of late.
 *
 * Of each kind one stored password is kept as an example, which a check for nobody is made against. The directory's; one
 * thread at a time.
 */
#pragma once
#include "engine/auth/password_kind.h"

#define POPULATION_PLACES 4096u
#define POPULATION_KINDS_MAX 31u /* users of more kinds than these are not in it */

struct population;

/* scheme: of what is stored without "{SCHEME}"; borrowed. NULL: no memory. */
struct population *population_open(const uint8_t secret[32], const char *scheme);
void population_close(struct population *population); /* NULL is fine */
/* This user has this; what serves nothing is passed over. name: folded. */
void population_note(struct population *population, struct slice name, struct slice stored,
                     uint64_t now_ns);
void population_clear(struct population *population);
/* What the name, at most SASL_MADE_UP_NAME_MAX octets, has if it is nobody's, or somebody's whose password does not serve this
 * use. False: there is no user with one that does. */
bool population_example(const struct population *population, struct slice name,
                        enum password_use use, char stored[PASSWORD_STORED_MAX + 1]);
/* This example has turned out to be no password; nobody seems to have it any more, until it is noted again. */
void population_spoil(struct population *population, const char *stored);
