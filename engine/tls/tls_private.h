/* tls_private: a shard's TLS, and what its streams share. Only engine/tls includes this. */
#pragma once
#include "engine/core/limits.h"
#include "engine/core/ref.h"
#include "engine/tls/context_private.h"
#include "engine/tls/tls.h"
#include <openssl/err.h>

#define TLS_PLAIN_BYTES (TLS_RECORD_BYTES + TLS_RECORD_BYTES / 2)

/* What was written and is not encrypted yet. */
struct tls_piece {
    struct tls_piece *next;
    struct slice left;
    struct ref *owner; /* NULL: the bytes are the piece's own, behind it */
    uint8_t bytes[];
};

/*
 *               both hellos, keys, certificates           close_notify sent, read; cut; abort
 *   HANDSHAKE ──────────────────────────────────► OPEN ──────────────────────────────────────► OVER
 *       └──────────────────── refused, cut ─────────────────────────────────────────────────────▲
 */
enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_OVER };

struct tls_stream {
    struct stream stream; /* first; its `ready` is in tls->ready */
    struct tls *tls;
    struct stream *below;
    SSL *ssl;
    struct tls_context *context;
    enum tls_state state;
    bool client, released, read_stopped;
    bool shut;          /* the session has nothing more to write */
    bool close_sent;    /* our close_notify */
    bool below_shut;    /* and the FIN behind it */
    bool peer_closed;   /* its close_notify has been read */
    bool end_below;     /* nothing will come any more */
    bool below_over;    /* STREAM_CLOSED */
    bool below_blocked; /* it takes no more just now */
    bool write_waits;   /* the session, for STREAM_WRITABLE */
    bool undrained;     /* bytes were written and STREAM_DRAINED has not followed */
    bool plain_full;    /* reading stopped for want of room */
    bool exporter_asked, exporter_made;
    uint8_t exported[TLS_EXPORTER_BYTES];
    uint8_t *plain; /* received, TLS_PLAIN_BYTES; NULL while there is nothing */
    uint32_t plain_begin, plain_end;
    struct tls_piece *first, **last;
    size_t queued_bytes;
    uint8_t *sealed; /* ciphertext that the stream below did not take */
    size_t sealed_begin, sealed_end, sealed_room;
    char *session_key;
    struct list_node turn; /* in tls->turns */
    struct list_node node; /* in tls->streams */
    struct timer linger;
    struct tls_facts facts;
};

/* To empty a queue that is empty takes 500 instructions, to look at it 30. */
static inline void tls_errors_clear(void)
{
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

struct tls_session {
    struct list_node node;    /* in tls->sessions, the oldest first */
    struct tls_session *next; /* in its chain */
    SSL_SESSION *session;
    char key[];
};

#define TLS_SESSION_CHAINS 256u
#define TLS_SESSIONS_OF_KEY 64u

struct tls {
    struct tls_settings settings;
    struct tls_counters counters;
    uint64_t now_ns;
    BIO_METHOD *bio;
    struct list_node streams, ready, turns;
    struct list_node sessions;
    struct tls_session *chains[TLS_SESSION_CHAINS];
    uint32_t session_count;
    uint8_t *spare;                    /* one buffer for plaintext, which most rounds need one of */
    uint8_t staging[TLS_RECORD_BYTES]; /* small writes that become one record */
};

/* tls_stream.c */
void tls_stream_free(struct tls_stream *self);

/* tls_turn.c */
void tls_stream_wants_turn(struct tls_stream *self);
void tls_stream_turn(struct tls_stream *self); /* what can be done now; may free it */
void tls_stream_tell(struct tls_stream *self, uint32_t events);
/* Encrypts and passes on what is queued, a turn's worth. */
void tls_stream_send(struct tls_stream *self);
/* One record, all of which is taken. False: the connection has failed. */
bool tls_stream_seal(struct tls_stream *self, struct slice bytes);
bool tls_stream_finish(
    struct tls_stream *self); /* a released one, freed when it has nothing to do */
void tls_stream_over(struct tls_stream *self, int error);
void tls_stream_drop_queue(struct tls_stream *self);
void tls_stream_give_plain(struct tls_stream *self);
void tls_stream_below(struct stream *below, uint32_t events, void *session);

/* tls_session.c */
void tls_sessions_close(struct tls *tls);
/* The session is given. */
void tls_session_keep(struct tls *tls, const char *key, SSL_SESSION *session);
/* The caller's to free; NULL: none. One of TLS 1.3 is forgotten, since it shall be used once
 * (RFC 8446 appendix C.4). */
SSL_SESSION *tls_session_find(struct tls *tls, const char *key);
/* After a fatal alert (RFC 8446 §6.2). */
void tls_session_forget(struct tls *tls, const char *key);

/* tls_bio.c */
BIO_METHOD *tls_bio_method(void);
BIO *tls_bio_new(struct tls_stream *stream);
/* What waits, to the stream below. False: it takes no more. */
bool tls_bio_flush(struct tls_stream *self);
