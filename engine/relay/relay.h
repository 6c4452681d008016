/*
 * relay: joins streams, the SMTP machines, the spool and the scheduler: one relay a shard.
 *
 * Inbound sessions receive messages into the spool; every recipient is filed under the site that its
 * domain is routed to; outbound sessions deliver; what fails for good is returned to its sender.
 *
 * The worker opens it on the shard's thread, hands it the networks, and calls relay_round once a round.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/shard/shard.h"
#include "engine/stream.h"

struct auth_service;
struct lease_desk;
struct log;
struct lookup;
struct operator_orders;
struct queue_walks;
struct relay;
struct relay_maps;
struct relay_tls;
struct resolve;
struct tls_report;
struct message;
struct spool;

struct relay_settings {
    const struct relay_conf *conf; /* borrowed until relay_reload or relay_close */
    struct shard *shard;
    struct network *kernel;        /* unix sockets, loopback; everything on the kernel transport */
    struct network *bypass;        /* our own stack; NULL on the kernel transport */
    struct relay_tls *tls;         /* NULL: nobody offers TLS, whatever the configuration says */
    struct resolve *resolve;       /* NULL: no DNS, mail of routes by MX waits; borrowed */
    struct lookup *lookup;         /* with maps; borrowed */
    const struct relay_maps *maps; /* NULL: none have a say; borrowed as conf is */
    struct lease_desk *leases;     /* NULL: there is no other shard */
    const struct auth_service *auth; /* NULL: nobody logs in; borrowed */
    const struct operator_orders
        *orders; /* of former lives; NULL: none. Borrowed until it is open */
    struct log *log;
    void *fetch_memory; /* for bodies that are read back; see queue/spool */
    size_t fetch_memory_bytes;
};

/* Counts since start; written by the shard, read by anyone. */
struct relay_counters {
    uint64_t connections_in, connections_refused, connections_out, connections_out_failed;
    uint64_t connections_pregreet;     /* whose client has talked before the banner */
    uint64_t timeouts_in;              /* sessions whose client has let its time pass */
    uint64_t connections_out_insecure; /* of those that failed: for want of TLS, or of trust */
    uint64_t messages_in, bytes_in, recipients_in, refused_commands, refused_messages;
    uint64_t deferred_unreached; /* recipients, for whose connection see outbound_failed.c */
    uint64_t deliveries, delivered, deferred, failed, bounces, double_bounces, bytes_out;
    uint64_t success_reports, delay_reports;
    uint64_t transports_refused; /* ways that maps name, for want of room */
    uint64_t transport_failures; /* recipients put off, since no map answered or a row was wrong */
    uint32_t sessions_in, sessions_out; /* now */
    uint32_t transports;                /* ways that maps have made, now */
};

/* Recovers the spool and schedules what it finds. 0 or -errno. */
int relay_open(struct relay **relay, const struct relay_settings *settings);
/* Aborts what is left. The networks may be closed by then, after relay_unlisten: what they still have to send lies
 * in memory of the relay's. */
void relay_close(struct relay *relay);

/* Listens on every listener of the configuration that the networks at hand can serve. 0 or -errno. */
int relay_listen(struct relay *relay);
void relay_unlisten(struct relay *relay);
/* Once a round, after the networks were polled: starts deliveries that are due, tidies the spool. Returns work done. */
unsigned relay_round(struct relay *relay, uint64_t now_ns);

/* maps: of this configuration; NULL: none. */
void relay_reload(struct relay *relay, const struct relay_conf *conf,
                  const struct relay_maps *maps);
/* Accept nobody; end idle sessions; let the others finish until the deadline, then abort them. */
void relay_drain(struct relay *relay, uint64_t deadline_ns);
bool relay_drained(const struct relay *relay);

const struct relay_counters *relay_counters(const struct relay *relay);
struct spool *relay_spool(struct relay *relay);
/* How TLS to next hops went. */
const struct tls_report *relay_tls_report(const struct relay *relay);

/* For the operator. Everything is due now. */
void relay_flush_queue(struct relay *relay);
struct queue_walks *relay_walks(struct relay *relay);
struct log *relay_log(struct relay *relay);
bool relay_is_draining(const struct relay *relay);
int64_t relay_mail_age_max_s(
    const struct relay *relay); /* as the configuration says now; but for held mail */
/* A question of the operator's has come to this shard, or gone: it ends behind the last. */
void relay_visit_begin(struct relay *relay);
void relay_visit_end(struct relay *relay);
