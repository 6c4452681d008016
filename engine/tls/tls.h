/*
 * tls: OpenSSL as a stream over a stream, for both ends of a connection.
 *
 *   tls_context   certificates and rules, shared by many connections (context.h)
 *   tls           what a shard keeps for its connections: the round, remembered sessions
 *   tls_stream    one connection
 *
 * A TLS stream takes the stream below it over and is used, as any other, by its own operations.
 * Ciphertext goes through OpenSSL into and out of the stream below where it lies; plaintext that was
 * received and not yet consumed is at most one record and a half, and memory for it is held only while
 * there is some, so that idle connections stay cheap. What OpenSSL computes is done a few records and a
 * few handshakes at a time: a large message, or a flood of handshakes, leaves the shard to others
 * after each turn. Handshakes wait in the order in which they came.
 *
 * The stream below must be connected. On STARTTLS (RFC 3207) it must have nothing left to read, which
 * is the caller's to see to: what a peer sends in the clear behind that word is never part of
 * anything (the server drops it, the client the connection).
 *
 * Events come from tls_poll, after the handshake STREAM_CONNECTED on both sides. A handshake that
 * fails ends with STREAM_CLOSED and -EPROTO (stream_facts.tls->problem says why), one that the
 * peer cuts with -ECONNRESET; and so does a connection that is cut without close_notify while the
 * peer might have had more to say (RFC 8446 §6.1): what was read before it may be half a message.
 *
 * No clock of its own but OpenSSL's for certificates, no thread, no lock. Of one shard.
 */
#pragma once
#include "engine/core/wheel.h"
#include "engine/stream.h"
#include "engine/tls/context.h"

#define TLS_RECORD_BYTES 16384u /* of plaintext: RFC 8446 §5.1 */

struct tls;

struct tls_settings { /* zeroes are replaced */
    struct wheel *wheel;
    uint32_t handshakes_a_round; /* steps of them, each of at most one signature; 4 */
    uint32_t records_a_turn;     /* written by one connection before others have theirs; 8 */
    uint32_t session_max;        /* remembered, to be resumed as a client; 1024 */
    uint64_t linger_ns;          /* a released stream that makes no progress is reset; 30 s */
};

/* 0 or -ENOMEM. The wheel is borrowed until tls_close. */
int tls_open(struct tls **tls, const struct tls_settings *settings);
/* After all its streams' sessions have let go of them: what lingers is aborted. */
void tls_close(struct tls *tls);
/* In each round after the networks' polls: turns, then events. Returns how much was done. */
unsigned tls_poll(struct tls *tls, uint64_t now_ns);
bool tls_has_work(const struct tls *tls); /* a round must follow, do not sleep */

/* ---- one connection ---- */

/* How much the server's name is worth. Session keys, below, must differ where these do. */
enum tls_trust {
    TLS_ANYBODY,  /* encrypted, to whomever: RFC 7435 */
    TLS_VERIFIED, /* a certificate of an authority that the context trusts, for one of the names */
    TLS_DANE,     /* as the TLSA records say: RFC 7672 */
};

struct tls_association { /* a TLSA record: RFC 6698 §2.1 */
    uint8_t usage, selector, matching;
    struct slice bytes;
};

struct tls_peer {
    struct tls_context *context; /* of a client; it keeps a reference */
    const char *server_name;     /* for SNI; NULL: none */
    enum tls_trust trust;
    /* TLS_VERIFIED, TLS_DANE: each of them is right. TLS_ANYBODY: the facts' verdict is about them. */
    const char *const *names;
    uint32_t name_count;
    const struct tls_association *associations; /* TLS_DANE: usable ones, at least one */
    uint32_t association_count;
    /* Sessions are remembered by it and resumed with it: peer, port, names, trust and what else a
     * session may not be shared across. NULL: a whole handshake, and nothing is remembered. */
    const char *session_key;
};

/* `below` is given, also when it fails. 0, -ENOMEM, -EINVAL (a TLSA record or name that makes no sense). */
int tls_connect(struct tls *tls, struct stream *below, const struct tls_peer *peer,
                struct stream **stream);
int tls_accept(struct tls *tls, struct stream *below, struct tls_context *context,
               struct stream **stream);
/* The session had STREAM_HALF_CLOSED of the stream below while it was its own: nothing will come, and no
 * handshake can be waited for. Right after one of the two above. */
void tls_half_closed(struct stream *stream);

struct tls_counters {
    uint64_t accepted, connected; /* handshakes that succeeded */
    uint64_t resumed;             /* of them */
    uint64_t failed;
    uint64_t turns_put_off; /* handshakes that had to wait for a later round */
    uint64_t truncated;     /* connections cut without close_notify */
    uint64_t records_in, records_out;
    uint64_t streams; /* now */
};
const struct tls_counters *tls_counters(const struct tls *tls);
