/*
 * source: a closed loop of SMTP or LMTP clients: each sends its next letter when the last was
 * answered.
 *
 * A server that goes away in the middle is part of its life (crash tests): sessions connect again
 * until the count or the time is over. What was acknowledged is written down only then. It always
 * ends: after count letters or `seconds`, then at most SOURCE_DRAIN_S for what is under way; or
 * when nothing was answered for stall_s.
 */
#pragma once
#include "bench/histogram.h"
#include "bench/letter.h"
#include "bench/secure.h"
#include "engine/core/world.h"
#include "engine/stream.h"

#define SOURCE_TARGETS_MAX 16
#define SOURCE_DRAIN_S 30
#define SOURCE_TROUBLE_BYTES 200

enum source_pace {
    SOURCE_PACE_COMMAND, /* one command a write, each answered before the next: four round trips and
                            one a recipient */
    SOURCE_PACE_GROUP,   /* MAIL, RCPT, DATA in one write (RFC 2920): two round trips */
    SOURCE_PACE_DEEP,    /* the next group rides behind the body: one round trip */
    SOURCE_PACE_BDAT, /* MAIL, RCPT, BDAT LAST and the content in one go (RFC 3030): one round trip
                       */
};

struct source_settings {
    struct endpoint to[SOURCE_TARGETS_MAX]; /* connections take them in turn */
    unsigned to_count;
    struct endpoint from; /* family ENDPOINT_NONE: any */
    bool lmtp;
    enum secure_kind secure; /* STARTTLS before the first letter */
    const char *suites;      /* of TLS 1.3, in OpenSSL's words; NULL: its own */
    enum source_pace pace;
    uint32_t connections;
    uint64_t letters_per_connection; /* then QUIT and connect again; 0: no bound */
    uint64_t count;                  /* 0: no bound */
    double seconds;                  /* 0: no bound; one of the two is given */
    double warmup_s;                 /* answered before it counts neither in rates nor in latency */
    double stall_s;
    size_t message_bytes;
    uint32_t recipients;
    struct letter_memory memory; /* where bodies are to lie */
    const char *domain;          /* recipients are r0@domain, r1@domain, ... */
    uint32_t
        domains; /* > 0: they are in so many domains below it, d0000000.domain, ..., each recipient in the next one */
    uint32_t
        users; /* > 0: they are u0000000@domain, ..., each recipient the next one. Not beside domains */
    const char *sender;
    int acked_fd; /* a line for each acknowledged letter: RUN SEQUENCE CRC32C BODY-BYTES
                     RECIPIENT...; -1: none */
};

#define SOURCE_DOMAINS_MAX 10000000u /* and of users */

struct source_counters {
    uint64_t issued;
    uint64_t acknowledged; /* letters with at least one recipient taken */
    uint64_t deliveries;   /* recipients taken */
    uint64_t deferred;     /* letters refused for all, by 4xx */
    uint64_t refused;      /* by 5xx */
    uint64_t unanswered;   /* connection lost before the answer */
    uint64_t connections, connections_failed, connections_lost;
    uint64_t bytes;    /* of acknowledged letters, header and body */
    uint64_t measured; /* acknowledged after the warm-up and before the end */
    uint64_t measured_bytes;
};

struct source;

/* 0 or -ENOMEM. Owned until source_close; the network and the world outlive it. Connections begin
 * with the first round. */
int source_open(struct source **source, struct network *network, const struct world *world,
                const struct source_settings *settings);
/* Once a round, after poll. False: it is over. */
bool source_round(struct source *source, uint64_t now_ns);
/* Issue no more; what is under way is still waited for. */
void source_stop(struct source *source);
void source_close(struct source *source);

const struct source_counters *source_counters(const struct source *source);
/* Work is left that no event of the network will bring: another round must follow at once. */
bool source_has_work(const struct source *source);
/* NULL: without TLS. */
const struct secure *source_secure(const struct source *source);
const struct histogram *
source_latency(const struct source *source); /* from MAIL (DEEP: from the body) to the answer */
double source_measured_s(const struct source *source);
uint64_t
source_first_ns(const struct source *source); /* when the first letter was taken; 0: none was */
uint64_t source_run(const struct source *source);
bool source_stalled(const struct source *source);
const char *
source_trouble(const struct source *source); /* the first unexpected reply or error; "" when none */
