/*
 * sink: an SMTP or LMTP receiver that takes everything, at once, and proves what it took.
 *
 * Its dialogue is written apart from proto/smtp on purpose: it is the witness in tests of the
 * relay's client, so it must not share the relay's mistakes. Lines and the end of a message are
 * CRLF only; a bare LF in what arrives is counted, never taken for a line's end. Nothing is stored.
 * Bodies are checked as they pass: identity, length and digest (letter.h), repetition and loss
 * (tally.h).
 */
#pragma once
#include "bench/histogram.h"
#include "bench/letter.h"
#include "bench/tally.h"
#include "engine/core/world.h"
#include "engine/stream.h"

#define SINK_LISTENERS_MAX 16
#define SINK_RUNS_MAX 64

struct sink_settings {
    bool lmtp;
    struct endpoint listen[SINK_LISTENERS_MAX];
    unsigned listen_count;
    int received_fd; /* a line for each message: RUN SEQUENCE CRC32C BYTES ok|bad RECIPIENT... ; -1:
                        none */
};

struct sink_counters {
    uint64_t connections, sessions_open, messages, recipients, bytes;
    uint64_t proven;   /* body is what its header claims */
    uint64_t damaged;  /* claims something else than it is */
    uint64_t foreign;  /* no claim: bounces, other senders */
    uint64_t torn;     /* connection lost within a message */
    uint64_t bare_lf;  /* LF without CR in a message */
    uint64_t wrong;    /* commands that got a 5xx */
    uint64_t unmarked; /* deliveries whose recipient is not one of a source's */
};

struct sink;

/* Listens. Owned until sink_close. 0 or -errno. The network and the world outlive it. */
int sink_open(struct sink **sink, struct network *network, const struct world *world,
              const struct sink_settings *settings);
/* Once a round, after poll: writes what --received asks for. */
void sink_round(struct sink *sink);
void sink_close(struct sink *sink);

const struct sink_counters *sink_counters(const struct sink *sink);
const struct histogram *
sink_latency(const struct sink *sink); /* from the source's send to our 250, same machine */
/* Over all runs seen. */
void sink_deliveries(const struct sink *sink, uint64_t *different, uint64_t *repeated,
                     uint64_t *missing);
