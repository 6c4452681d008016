/*
 * resolver: the helper threads that ask the DNS and fetch MTA-STS policies, one set a process.
 *
 * Each DNS thread owns a libunbound context that works on many questions at once; a question goes to the
 * thread that its name hashes to, so that their caches do not overlap. The policies are fetched with libcurl
 * by a thread of its own: a slow web server delays no mail.
 * A question that leaves a shard takes a lock for a few instructions; answers come back as shard messages.
 */
#pragma once
#include "engine/core/logger.h"
#include "engine/resolve/backend.h"
#include "engine/shard/shard.h"

struct policy_record;
struct resolver;

struct resolver_settings {
    const struct endpoint
        *servers; /* recursive resolvers to forward to; none: as resolv_conf says */
    uint32_t server_count;
    const char *resolv_conf;  /* NULL and no servers: iterate from the root */
    const char *trust_anchor; /* file of DS or DNSKEY records */
    bool dnssec;              /* validate; without it nothing is ever secure */
    uint64_t timeout_ns;      /* for an answer, all attempts together */
    uint32_t attempts;        /* at one server */
    uint32_t threads;
    uint16_t mta_sts_port;  /* of the web servers: 443, but for tests */
    const char *mta_sts_ca; /* file of trusted CAs; NULL: the system's */
    uint64_t mta_sts_timeout_ns;
    const char *mta_sts_file;  /* where policies are kept (policy_file.h); NULL: nowhere */
    const struct world *world; /* borrowed; the threads ask it too */
    struct logger *logger;
};

/* 0 or -errno. The settings are copied. Owned by the caller. */
int resolver_open(struct resolver **resolver, const struct resolver_settings *settings);
/*
 * Other settings from now on, of all but mta_sts_file, world and logger: threads of their own ask by them. A shard goes
 * over to them when it says so (resolver_backend_renew); when all have, resolver_reload_end. On the thread that opened it.
 * 0 or -errno: all is as before.
 */
int resolver_reload(struct resolver *resolver, const struct resolver_settings *settings);
/* The threads of before end. */
void resolver_reload_end(struct resolver *resolver);
/* After every shard has closed its resolve: ends the threads. */
void resolver_close(struct resolver *resolver);

/* The way of one shard to the threads. Owned by the caller; NULL when memory is short. */
struct resolve_backend *resolver_backend_open(struct resolver *resolver, struct shard *shard);
/* After a reload, on the shard, when no question is under way: those to come go to the threads of now. */
void resolver_backend_renew(struct resolve_backend *backend);
/* After the shard's resolve. */
void resolver_backend_close(struct resolve_backend *backend);

/* The policies that were kept. On the calling thread. */
void resolver_recall(struct resolver *resolver,
                     void (*each)(void *owner, const struct policy_record *record), void *owner);
