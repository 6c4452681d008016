/*
 * transport_lookup: what the transport maps say of a recipient, or maps of owners of a sender.
 *
 * In Postfix's order (transport(5)), the first that is found counts, in the first map that has it: user+tag@domain,
 * user@domain, domain, then .parent of each domain that it is below, the longest first, then "*". Maps of patterns and
 * networks see the whole address only, and of an address literal the address. A domain is looked for as it was written
 * and in its other form (idna.h). Maps of owners, as Postfix's smtpd_sender_login_maps: user+tag@domain, user@domain,
 * "@domain", and no networks.
 *
 * Lookups may have to wait (lookup.h); then the job does.
 */
#pragma once
#include "engine/core/limits.h"
#include "engine/lookup/lookup.h"
#include "engine/relay/rewrite.h"

/* The longest address that a client may name, or one without a domain and ours behind it. */
#define TRANSPORT_ADDRESS_BYTES (SMTP_ADDRESS_BYTES_MAX + 1 + 255 + 1)

struct transport_job { /* zeroed before its first use; the owner's, see transport_job_end */
    void (*done)(struct transport_job *job);
    bool of_owners; /* set before */
    /* The result, when done has run or transport_lookup has returned 0. */
    enum map_answer answer;
    bool busy;                  /* of MAP_FAILED: there was no room to ask */
    struct lookup_value *value; /* the row, or why it failed; until transport_job_end. NULL: none */
    /* Its own. */
    struct lookup *lookup;
    const struct rewrite_maps *maps;
    struct lookup_query query;
    bool waiting;
    uint8_t form, spelling; /* of the key that is asked for */
    uint16_t parent;        /* labels that are left out */
    uint32_t map_at;
    uint16_t address_bytes, domain_at, user_bytes; /* user: without the tag */
    char address[TRANSPORT_ADDRESS_BYTES];
};

/* 0: it is done, `done` does not run; -EINPROGRESS: it runs later. rules: which character begins a tag, and the domain of
 * an address that has none. The maps live as long as the job. */
int transport_lookup(struct transport_job *job, struct lookup *lookup,
                     const struct rewrite_maps *maps, const struct rewrite_rules *rules,
                     struct slice address);
/* Done or not: nothing runs any more, and it may be used again. */
void transport_job_end(struct transport_job *job);
