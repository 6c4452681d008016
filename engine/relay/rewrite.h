/*
 * rewrite: which addresses one address of an envelope stands for: canonical names, virtual aliases, aliases.
 *
 * For a recipient, in Postfix's order: recipient_canonical once; virtual_aliases, again and again until an address stands
 * for itself; then, for those of our local domains, aliases, whose results go through virtual_aliases again. For a
 * sender: sender_canonical.
 *
 * In a map that is not of patterns an address is looked for as user+tag@domain, user@domain, then, where the domain is
 * ours, user+tag and user, then @domain. A tag that was not part of what was found is added to the results. A result
 * "@domain" keeps the user. A result without a domain gets our hostname.
 *
 * An alias NAME beside which there is an alias owner-NAME is a mailing list: its addresses have an owner (rewrite_owner).
 *
 * Lookups may have to wait (lookup.h); then the job does. Whatever is made of one address is bounded, and an address that
 * leads back to where it came from ends there.
 *
 * Source: RFC 5321 §3.9.1; canonical(5), virtual(5), aliases(5) of Postfix.
 */
#pragma once
#include "engine/lookup/lookup.h"
#include "engine/relay/rewrite_lists.h"
#include "engine/relay/address_set.h"

#define REWRITE_ADDRESSES_MAX 1000u /* that one address stands for, those on the way counted */
#define REWRITE_REASON_MAX 200u

struct rewrite_maps {
    struct map **maps; /* asked in turn, the first that knows it counts */
    uint32_t count;
};

struct rewrite_rules {
    struct rewrite_maps sender_canonical, recipient_canonical, virtual_aliases, aliases;
    struct map *includes;             /* what ":include:" of an alias reads; NULL: refused */
    const char *hostname;             /* of addresses without a domain; a local domain */
    const char *const *local_domains; /* further ones */
    uint32_t local_domains_count;
    char extension; /* "+"; 0: none */
};

enum rewrite_status {
    REWRITE_OK,
    REWRITE_FAILED,   /* a map does not answer: 451 4.3.0 */
    REWRITE_TOO_MANY, /* 550 5.4.6 */
    REWRITE_LOOP,     /* nothing is left but what leads back: 550 5.4.6 */
    REWRITE_WRONG,    /* a map gives what is no address, or may not be used: 451 4.3.5 */
};

struct rewrite_item;

struct rewrite_job { /* zeroed before its first use; the owner's, see rewrite_job_end */
    void (*done)(struct rewrite_job *job);
    /* The result, when done has run or rewrite_* has returned 0. */
    enum rewrite_status status;
    char reason[REWRITE_REASON_MAX]; /* unless REWRITE_OK, for the log */
    struct slice *addresses;         /* without <> */
    uint32_t address_count;
    bool by_pattern; /* a pattern had a say: the sender may have chosen where it leads to */
    /* Its own. */
    struct lookup *lookup;
    const struct rewrite_rules *rules;
    struct lookup_query query;
    struct rewrite_item *items; /* seen so far, in the order in which they came */
    uint32_t item_count, item_size, item_at;
    uint32_t *address_lists; /* where each address comes from */
    uint32_t address_size;
    struct rewrite_lists lists;
    uint32_t list_now;                /* from where that comes which is added now */
    struct address_set seen, results; /* by the index in items, in addresses */
    uint32_t key_at, map_at;
    const struct rewrite_maps *known; /* of rewrite_known */
    bool waiting, tagless, asked_pattern;
};

/* 0: it is done, `done` does not run; -EINPROGRESS: it runs later; -ENOMEM. The rules live as long as the job. */
int rewrite_recipient(struct rewrite_job *job, struct lookup *lookup,
                      const struct rewrite_rules *rules, struct slice address);
int rewrite_sender(struct rewrite_job *job, struct lookup *lookup,
                   const struct rewrite_rules *rules, struct slice address);
/* Is the address in the maps, as it would be found by a rewriting? status REWRITE_OK, and address_count is 1 when it is. */
int rewrite_known(struct rewrite_job *job, struct lookup *lookup, const struct rewrite_rules *rules,
                  const struct rewrite_maps *maps, struct slice address);
/* Of the result: who hears of mail to this address that fails, "owner-list@example.org"; empty: whoever has sent it. */
struct slice rewrite_owner(const struct rewrite_job *job, uint32_t index);
/* Has an owner of a list given it? */
bool rewrite_by_owner(const struct rewrite_job *job, uint32_t index);
/* Done or not: nothing runs any more, its memory is free, and it may be used again. */
void rewrite_job_end(struct rewrite_job *job);
