/*
 * resolve: one shard's knowledge of where mail goes: asks, remembers, tells.
 *
 * What is known is answered at once from the cache, without a lock; what is not is asked of a backend
 * (backend.h: libunbound on helper threads in production, made-up answers in tests) and told later, on
 * the shard. One question is asked once, however many wait for it.
 *
 * The cache is bounded in bytes, the least recently used goes first. Answers live for their TTL
 * between a floor and a cap, negative ones for their SOA's, failures for failure_ns: they are told apart.
 * An MTA-STS policy outlives all this: it holds until its max_age is over, whatever the DNS says meanwhile.
 *
 * Opened by the worker on its shard; never calls back from inside a call into it.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/logger.h"
#include "engine/core/wheel.h"
#include "engine/core/world.h"
#include "engine/resolve/destination.h"

struct policy_record;
struct resolve;
struct resolve_backend;

enum resolve_family {
    RESOLVE_ANY,        /* both, alternating, beginning with IPv6 */
    RESOLVE_IPV4_FIRST, /* all IPv4, then all IPv6 */
    RESOLVE_IPV6_FIRST,
    RESOLVE_IPV4_ONLY,
    RESOLVE_IPV6_ONLY
};

struct resolve_settings {
    struct resolve_backend *backend; /* borrowed, longer than the resolve */
    const struct world *world;       /* borrowed */
    struct wheel *wheel;             /* the shard's; borrowed */
    struct logger *logger;
    const char *const *own_names; /* a host of this name is ourselves; borrowed */
    uint32_t own_name_count;
    const struct endpoint *own; /* a host that has one of these is ourselves, port too; borrowed */
    uint32_t own_count;
    uint64_t cache_bytes;
    uint64_t ttl_min_ns, ttl_max_ns; /* of answers */
    uint64_t negative_ttl_max_ns;    /* of "does not exist" */
    uint64_t failure_ns;             /* of no answer, or a bogus one */
    uint32_t outstanding_max;        /* questions at the backend at once; more wait their turn */
    uint32_t waiting_max;            /* queries that wait for an answer; more: -ENOBUFS */
    bool mta_sts;                    /* ask for policies at all */
};

struct resolve_options {
    uint8_t family;  /* enum resolve_family */
    uint16_t port;   /* of the endpoints, and of the TLSA records' name */
    bool host_only;  /* the name is a host: its addresses, no MX, no MTA-STS ("[host]:port") */
    bool tls_policy; /* learn TLSA records and MTA-STS too */
};

/* A question that waits. The caller's memory; must stay until done or cancelled. */
struct resolve_query {
    /* Called once, on the shard, unless cancelled. destination: given; drop it. */
    void (*done)(struct resolve_query *query, struct destination *destination);
    struct list_node node; /* the resolve's */
    struct resolution *resolution;
};

struct resolve_counters {   /* written by the shard, read by anyone */
    uint64_t queries, hits; /* destinations asked for; answered from the cache */
    uint64_t questions;     /* handed to the backend */
    uint64_t answers, negatives, failures, bogus;
    uint64_t malformed; /* records left out */
    uint64_t evicted;   /* from the cache before their time */
    uint64_t refused;   /* queries, for want of room */
    uint64_t mta_sts_fetched, mta_sts_failed;
    uint64_t cache_bytes, cache_entries, outstanding, waiting; /* now */
};

/* 0 or -errno. Owned by the caller. */
int resolve_open(struct resolve **resolve, const struct resolve_settings *settings);
/* Nobody's done is called any more. */
void resolve_close(struct resolve *resolve);

/*
 * domain: A-labels, U-labels in UTF-8, or an address literal's domain part (which is no domain).
 * Returns 0 and a reference to the answer in *destination; or -EINPROGRESS: query->done follows, set it
 * before; or -ENOBUFS, -ENOMEM: nothing was begun, try later (4.3.2).
 */
int resolve_destination(struct resolve *resolve, struct slice domain,
                        const struct resolve_options *options, struct resolve_query *query,
                        struct destination **destination);
/* Its done is not called. Harmless when nothing waits, if the query was zeroed once. */
void resolve_cancel(struct resolve *resolve, struct resolve_query *query);

/* After opening: a policy that was kept (backend.h). */
void resolve_remember_policy(struct resolve *resolve, const struct policy_record *record);
/* Forgets answers (not MTA-STS policies), e.g. by the operator's wish. */
void resolve_forget(struct resolve *resolve);
/* Other settings from now on, of the same wheel; the backend may be another one, or ask others. Of what was remembered only
 * MTA-STS policies stay. What is under way begins anew, in the next round, and tells whoever waits for it; when this
 * returns no question is at the backend. */
void resolve_reload(struct resolve *resolve, const struct resolve_settings *settings);
/* One of settings.own, exactly. */
bool resolve_is_own(const struct resolve *resolve, const struct endpoint *endpoint);
const struct resolve_counters *resolve_counters(const struct resolve *resolve);
