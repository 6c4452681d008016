/*
 * policies: the MTA-STS policies that a shard knows, and when each must be fetched (again).
 *
 * A policy holds until its max_age is over, whatever the DNS or the web server say meanwhile: who can suppress both
 * must not be able to take it back. A failure is remembered beside it, so that a dead web server is not asked for every
 * message. Times are of the wall clock, because policies outlive the process.
 * No I/O; bounded in bytes, the least recently used goes first.
 *
 * Source: RFC 8461 §3.3 (fetching), §5.1 (application), §10.2 (downgrades).
 */
#pragma once
#include "engine/core/list.h"
#include "engine/resolve/destination.h"
#include "engine/resolve/table.h"

#define POLICIES_RETRY_S 300 /* after a failure, for the same id (§3.3: "five minutes or longer") */
#define POLICIES_REFRESH_S 86400 /* a policy that is in use is fetched again once a day (§10.2) */

struct policies {
    struct table table;
    struct list_node used; /* the least recently used first */
    size_t bytes, bytes_max;
    uint64_t evicted;
};

enum policies_wish {
    POLICIES_READY,   /* what is known holds */
    POLICIES_FETCH,   /* fetch and wait: the domain announces what is not known */
    POLICIES_REFRESH, /* fetch, but go on with what is known */
};

/* 0 or -ENOMEM. */
int policies_open(struct policies *policies, const struct siphash_key *secret, size_t bytes_max);
void policies_close(struct policies *policies);

/* id: as the domain's TXT record announces it; "": there is no record, or it could not be learned. */
enum policies_wish policies_judge(struct policies *policies, const char *domain, const char *id,
                                  int64_t wall_s);
/* A policy was fetched for this id. Without memory it is not kept: -ENOMEM. */
int policies_store(struct policies *policies, const char *domain, const char *id,
                   const struct dns_mta_sts_policy *policy, int64_t fetched_s);
void policies_fail(struct policies *policies, const char *domain, const char *id,
                   enum destination_mta_sts_failure failure, int64_t wall_s);
/* What holds now; points into the policies until the next call that changes them. */
void policies_describe(struct policies *policies, const char *domain, int64_t wall_s,
                       struct destination_mta_sts *description);
