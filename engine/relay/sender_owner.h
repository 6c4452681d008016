/*
 * sender_owner: may who has logged in send with this reverse-path?
 *
 * The maps of auth.sender_logins say who owns an address: names of logins, with commas or blanks between. Looked for as
 * Postfix's smtpd_sender_login_maps are: user+tag@domain, user@domain, @domain; the first that is found counts, in the
 * first map that has it. An address that is in none is nobody's.
 *
 * Lookups may have to wait (lookup.h); then the job does. For recipient.c, its only caller.
 */
#pragma once
#include "engine/core/limits.h"
#include "engine/lookup/lookup.h"
#include "engine/relay/rewrite.h"

enum sender_owner_answer { SENDER_OWNED, SENDER_NOT_OWNED, SENDER_UNKNOWN };

struct sender_owner { /* zeroed before its first use; the owner's, see sender_owner_end */
    void (*done)(struct sender_owner *job);
    enum sender_owner_answer answer; /* when done has run or sender_owner_run has returned 0 */
    /* Its own. */
    struct lookup *lookup;
    const struct rewrite_maps *maps;
    struct slice address, login;
    char extension;
    uint8_t form; /* of the key that is asked for */
    uint32_t map_at;
    struct lookup_query query;
    bool waiting;
};

/* 0: it is done, `done` does not run; -EINPROGRESS: it runs later. Address and login live as long as the job, and so do
 * the maps. */
int sender_owner_run(struct sender_owner *job, struct lookup *lookup,
                     const struct rewrite_maps *maps, const struct rewrite_rules *rules,
                     struct slice address, struct slice login);
/* Done or not: nothing runs any more. */
void sender_owner_end(struct sender_owner *job);
