/*
 * worker: one shard of the relay, put together: its networks, disk, log, spool and relay.
 *
 * main makes one for each shard, starts it on the shard's own thread, and asks it to reload or to
 * drain. All that a worker opens belongs to its thread.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/net/port.h"
#include "engine/shard/shard.h"

struct auth_service;
struct helpers;
struct lease_desk;
struct log;
struct operator_file;
struct operator_orders;
struct network;
struct relay;
struct resolve;
struct resolver;
struct relay_maps;
struct tls_counters;
struct worker;

struct worker_settings {
    const struct relay_conf *conf; /* borrowed until worker_reload hands over another, or the end */
    const struct world *world;
    struct logger *logger;
    bool with_uring;
    struct rte_mempool *pool; /* this shard's mbufs; borrowed */
    struct port *
        *ports; /* dpdk: opened by main, as conf->dpdk.ports; NULL on the kernel transport */
    struct port **exceptions;  /* the same, the kernel's beside them; NULL where there is none */
    struct resolver *resolver; /* of the process; NULL: no DNS. Borrowed */
    const struct relay_maps *maps;        /* of conf; NULL: none; borrowed as it is */
    const struct auth_service *auth;      /* who logs in; NULL: nobody; borrowed */
    struct helpers *helpers;              /* who ask them, and write what the operator says */
    const struct operator_orders *orders; /* of former lives; borrowed */
    const struct operator_file *operator_file;
    const uint8_t *ticket_secret; /* of TLS, the same for all; TLS_SECRET_BYTES, borrowed */
    struct lease_desk **leases;   /* room for one of each worker; filled as they are opened */
    struct worker **all;          /* every worker of the process, conf->shards of them */
    unsigned index;
};

/* Owned by the caller. 0 or -errno. */
int worker_open(struct worker **worker, const struct worker_settings *settings);
void worker_close(struct worker *worker); /* after its thread has ended */

struct shard *worker_shard(struct worker *worker);
struct relay *worker_relay(struct worker *worker);
struct log *worker_log(struct worker *worker);
struct resolve *worker_resolve(struct worker *worker); /* NULL: no DNS */
const struct tls_counters *worker_tls_counters(const struct worker *worker);
bool worker_is_draining(const struct worker *worker); /* on its shard */
/* Our own stack on one port; NULL: the transport is the kernel's, or it is not there (any more). */
struct network *worker_stack(struct worker *worker, unsigned port);
unsigned worker_port_count(const struct worker *worker); /* 0: the transport is the kernel's */
const char *worker_port_name(const struct worker *worker, unsigned port);
struct worker *worker_first(struct worker *worker); /* of shard 0 */
struct worker *
worker_next(struct worker *worker); /* of the next shard; after the last comes the first */

/* The thread's whole life: opens what belongs to it, recovers the spool, tells `started` (0 or -errno), serves
 * until drained, closes. Returns 0, or what went wrong. */
int worker_run(struct worker *worker, void (*started)(void *owner, int status), void *owner);

/* From main's thread. Drain: accept nobody, finish what is in flight within conf->shutdown.grace, then end. */
void worker_drain(struct worker *worker);
/* From main's thread: serve by this configuration from now on; `taken` runs on the shard when the old one is
 * no longer read. 0 or -ENOMEM. */
int worker_reload(struct worker *worker, const struct relay_conf *conf,
                  const struct relay_maps *maps, void (*taken)(void *owner), void *owner);
