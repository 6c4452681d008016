/*
 * secure: TLS of a generator's connections: STARTTLS to whoever answers, sessions resumed where they may be.
 *
 * The server's certificate is not looked at, as a sender does that has nothing to compare it with
 * (RFC 7435). One a generator; of its thread.
 */
#pragma once
#include "engine/core/world.h"
#include "engine/stream.h"
#include "engine/tls/context.h"
#include <stdbool.h>

enum secure_kind {
    SECURE_NOT,
    SECURE_RESUMED, /* a connection takes up the session of an earlier one where the server lets it */
    SECURE_WHOLE,   /* each makes a whole handshake */
};

struct secure;

/* 0 or -errno. The world is borrowed until secure_close, *rules until it returns. */
int secure_open(struct secure **secure, const struct world *world, enum secure_kind kind,
                const struct tls_rules *rules);
/* After the sessions have released their streams. NULL is fine. */
void secure_close(struct secure *secure);
/* `below` is given, also when it fails: it must be connected, with nothing left to read. STREAM_CONNECTED follows when
 * the handshake is done. target: sessions of one are not another's. 0 or -errno. */
int secure_connect(struct secure *secure, struct stream *below, unsigned target,
                   struct stream **stream);
/* Once a round, after the network's poll. */
void secure_round(struct secure *secure, uint64_t now_ns);
bool secure_has_work(const struct secure *secure); /* do not sleep */

struct secure_counters {
    uint64_t handshakes, resumed, failed;
};
void secure_count(const struct secure *secure, struct secure_counters *counters);
