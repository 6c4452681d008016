/*
 * logins: a closed loop of IMAP clients that log in and leave again: connect, TLS, AUTHENTICATE, LOGOUT, each on a
 * connection of its own, as many at once as there are connections.
 *
 * A session of TLS is taken up again where the server lets it, as a client does that was there before. Users are
 * u0000000, u0000001 and so on, one after the other. Of SCRAM the server's proof is checked, and what was derived from the
 * password is kept as long as salt and count stay the same (RFC 5802 §5.1), so users who have one salt cost one derivation.
 *
 * Source: RFC 9051 §6.2.2, RFC 4616, RFC 5802, RFC 7677.
 */
#pragma once
#include "bench/histogram.h"
#include "bench/secure.h"
#include "engine/core/world.h"
#include "engine/stream.h"

enum logins_mechanism { LOGINS_PLAIN, LOGINS_SCRAM_SHA_256 };

struct logins_settings {
    struct endpoint at;
    enum logins_mechanism mechanism;
    enum secure_kind secure; /* TLS from the first octet on; SECURE_NOT: in the clear */
    const char *suites;      /* of TLS 1.3, in OpenSSL's words; NULL: its own */
    uint32_t connections, users;
    const char *password;
    double seconds, warmup_s;
};

struct logins_counters {
    uint64_t logins;   /* that came to the answer to LOGOUT */
    uint64_t measured; /* of them, after the warm-up and before the end */
    uint64_t refused;  /* answered NO or BAD, or not as SCRAM must be */
    uint64_t lost;     /* connections that failed or ended before that */
};

struct logins;
/* 0 or -errno. Connections begin with the first round. Owned until logins_close; network and world outlive it. */
int logins_open(struct logins **logins, struct network *network, const struct world *world,
                const struct logins_settings *settings);
/* Once a round, after poll. False: its time is over. */
bool logins_round(struct logins *logins, uint64_t now_ns);
void logins_close(struct logins *logins);
bool logins_have_work(const struct logins *logins); /* do not sleep */

const struct logins_counters *logins_counters(const struct logins *logins);
const struct histogram *logins_latency(const struct logins *logins); /* connect to LOGOUT, in ns */
const struct secure *logins_secure(const struct logins *logins);     /* NULL: in the clear */
double logins_measured_s(const struct logins *logins);
const char *
logins_trouble(const struct logins *logins); /* the first answer that was not OK; "": none */
