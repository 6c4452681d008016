/*
 * resolve_private: what the parts of resolve share. Nobody else includes it.
 *
 *   resolve.c          the door: queries, the cache of destinations
 *   asking.c           one question to the backend, however many wait for it
 *   fetching.c         one fetch of a domain's MTA-STS policy, the same way
 *   resolution.c       from a domain to its destination, in steps, each waiting for what it asked
 *   resolution_end.c   what the answers mean: addresses, loops, TLSA records, the destination
 */
#pragma once
#include "engine/core/check.h"
#include "engine/resolve/answer.h"
#include "engine/resolve/cache.h"
#include "engine/resolve/policies.h"
#include "engine/resolve/resolve.h"

#define RESOLVE_ASKINGS_MAX 16384u /* questions that are out or wait their turn; more: no answer */
#define RESOLVE_POLICIES_BYTES (16u << 20) /* of MTA-STS policies */
#define RESOLVE_FETCHINGS_MAX 256u         /* policies on their way; more: as if there were none */

struct resolve {
    struct resolve_settings settings;
    struct answer_lives lives;
    struct cache cache;
    struct table askings;   /* by question */
    struct table fetchings; /* by domain */
    struct table running;   /* resolutions, by destination key */
    struct list_node asking_list, fetching_list, running_list;
    struct list_node turn;    /* askings that wait for room at the backend */
    struct list_node refused; /* askings that it did not take, until the timer tells */
    struct list_node refused_fetchings;
    struct list_node rewound; /* resolutions that begin anew, when the timer tells */
    struct timer refusals;
    struct policies policies;
    struct answer *unavailable;    /* instead of one that could not be had for want of room */
    struct destination *no_memory; /* the same */
    struct resolve_counters counters;
};

/* An answer that a resolution waits for, or has. Zeroed: not asked for. */
struct need {
    struct list_node node; /* in the asking */
    struct resolution *resolution;
    struct answer *answer; /* a count of it */
};

/*
 *   EXCHANGERS ──► ADDRESSES ──► TLSA ──► TLSA_INITIAL ──► done
 *    MX, TXT        A, AAAA,      TLSA of the  TLSA of the
 *                   policy        last name    first name
 */
enum resolution_step {
    RESOLUTION_EXCHANGERS,
    RESOLUTION_ADDRESSES,
    RESOLUTION_TLSA,
    RESOLUTION_TLSA_INITIAL,
    RESOLUTION_DONE
};

enum { RESOLUTION_IPV4, RESOLUTION_IPV6, RESOLUTION_FAMILIES };

struct resolution_host {
    char name[DNS_NAME_BYTES];
    uint16_t preference;
    bool secure; /* MX records and addresses */
    struct need addresses[RESOLUTION_FAMILIES];
    struct need alias;        /* CNAME of the name: where it leads is not secure, is it? */
    struct need tlsa;         /* of the name at the end of the CNAMEs */
    struct need tlsa_initial; /* of the name itself */
};

struct resolution {
    struct table_node node; /* in running */
    struct list_node running;
    struct list_node ready;   /* all it waited for is there */
    struct list_node queries; /* who waits for it */
    struct list_node fetch;   /* in the fetching that it waits for */
    struct resolve *resolve;
    struct resolve_options options;
    uint8_t step;     /* enum resolution_step */
    uint32_t missing; /* what it waits for */
    struct need mx, txt;
    uint8_t status; /* enum destination_status */
    bool implicit_mx;
    bool mx_secure;
    const char *asked;              /* of which type the question was that decided: for the text */
    uint32_t host_count, host_made; /* those that are tried; all, the cut ones too */
    struct resolution_host *hosts;
    char domain[DNS_NAME_BYTES];
};

/* ---- asking.c ---- */

/* Learns it: from the cache, or later, when resolution->missing is one more. */
void asking_need(struct resolve *resolve, struct resolution *resolution, struct need *need,
                 const char *name, enum dns_type type);
void need_drop(struct need *need);
/* Those that the backend did not take have no answer. */
void asking_refuse_all(struct resolve *resolve, struct list_node *ready);
void asking_close_all(struct resolve *resolve);

/* ---- fetching.c ---- */

/* Fetches the policy, once. resolution: waits for it; NULL: nobody does. */
void fetching_need(struct resolve *resolve, struct resolution *resolution, const char *domain,
                   const char *id);
void fetching_refuse_all(struct resolve *resolve, struct list_node *ready);
void fetching_close_all(struct resolve *resolve);

/* ---- resolution.c ---- */

/* Goes on as far as answers are known. A count of the destination when it is done, else NULL. */
struct destination *resolution_advance(struct resolution *resolution);
void resolution_free(struct resolution *resolution);
/* As if it had not begun; who waits for it does so still. */
void resolution_rewind(struct resolution *resolution);
/* Its first questions. */
void resolution_begin(struct resolution *resolution);

/* ---- resolution_end.c ---- */

/* Cuts off the hosts that are ourselves, and all behind them. */
void resolution_cut_loop(struct resolution *resolution);
/* The name whose TLSA records come first: the end of the CNAMEs when all of them are validated. */
const char *resolution_host_canonical(const struct resolution_host *host);
bool resolution_host_has_address(const struct resolution_host *host);
bool resolution_host_validated(const struct resolution_host *host); /* its addresses */
/* A count of it; never NULL. */
struct destination *resolution_end(struct resolution *resolution);
/* The same for what needs no question: a name that is none, an address literal. `address` NULL: bad name. */
struct destination *resolution_end_at_once(struct resolve *resolve, const char *domain,
                                           const struct endpoint *address);

/* ---- resolve.c ---- */

/* Goes on with the resolutions on the list; tells all who wait for those that are done, and frees them. */
void resolve_finish(struct resolve *resolve, struct list_node *ready);

static inline void resolve_count(uint64_t *counter, uint64_t by)
{
    __atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}
