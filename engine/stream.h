/*
 * stream: one connection, whatever carries it: kernel socket, our TCP, TLS over another, a test's queues.
 *
 * network: what makes streams on one shard (listens, connects) and drives them.
 *
 * All calls come from the owning shard. None blocks. None calls back before it returns: events reach
 * the session from network_poll, at one place in the loop, at most once a round for each stream,
 * with all that happened since as one mask.
 *
 * Ownership: a stream handed to `accepted` or returned by network_connect belongs to the session
 * until stream_release. After release nothing of the session is touched again: what was written is
 * still sent (lingering, within the transport's time limits), then the stream ends by itself.
 * A stream that has reported STREAM_CLOSED must still be released.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/core/list.h"
#include "engine/core/ref.h"
#include "engine/core/slice.h"
#include <errno.h>

enum stream_event {
    STREAM_CONNECTED = 1,   /* an outgoing connection is there */
    STREAM_READABLE = 2,    /* bytes that were not there before */
    STREAM_WRITABLE = 4,    /* room again after -EAGAIN */
    STREAM_HALF_CLOSED = 8, /* the peer's FIN; bytes before it can still be read */
    STREAM_CLOSED = 16,     /* over in both directions, or failed: see stream.error */
    STREAM_DRAINED =
        32, /* all that was written has been acknowledged (TCP) or taken by the kernel */
};

struct stream;

/* What a certificate was worth, by the reasons of RFC 8460 §4.3.2. */
enum tls_verdict {
    TLS_VERDICT_GOOD, /* by a known authority or record, and for the names that were given */
    TLS_VERDICT_EXPIRED,
    TLS_VERDICT_OTHER_HOST,
    TLS_VERDICT_NOT_TRUSTED, /* of nobody that we know */
    TLS_VERDICT_NO_RECORD,   /* no TLSA record is of it */
    TLS_VERDICT_INVALID,     /* anything else that is wrong with it */
    TLS_VERDICT_NONE,        /* no certificate was judged */
};

#define TLS_EXPORTER_BYTES 32u

struct tls_facts {
    const char *version; /* "TLSv1.3"; NULL: the handshake is not done */
    const char *cipher;  /* "TLS_AES_256_GCM_SHA384" */
    unsigned cipher_bits;
    bool resumed;
    bool verified;         /* the peer's certificate stood all checks that were asked for */
    char server_name[256]; /* that the client asked for; "": none */
    char peer_name[256];   /* the common name in the peer's certificate; "": none, or with a NUL */
    uint8_t peer_digest[32];     /* of a client: SHA-256 of that certificate */
    uint8_t peer_key_digest[32]; /* of a client: SHA-256 of its public key */
    /* tls-exporter (RFC 9266): the same at both ends, and on no other connection. It is reckoned for the first who asks, who
     * must be on the stream's thread, by `exporter`; false: it cannot be had. */
    bool exporter_known;
    bool (*exporter)(const struct tls_facts *facts, uint8_t exported[TLS_EXPORTER_BYTES]);
    uint8_t verdict;   /* enum tls_verdict */
    char problem[128]; /* why a handshake failed, or the peer is not verified; "": nothing */
};

/* Addresses and what is known of the carrier: for Received:, logs and policy. */
struct stream_facts {
    struct endpoint local;
    struct endpoint remote;
    const char *transport;       /* "kernel", "dpdk", "test"; static text */
    const struct tls_facts *tls; /* NULL: in the clear. As long as the stream */
    bool user_known;             /* a unix socket's other end is a process of this user: */
    uint32_t user;
};

struct stream_ops {
    /* Received bytes where they lie, oldest first; at most `count` slices. Borrowed until consume. */
    size_t (*peek)(struct stream *, struct slice *slices, size_t count);
    void (*consume)(struct stream *, size_t bytes);
    /* Copied; for replies. All or nothing: 0; -EAGAIN: wait for STREAM_WRITABLE; -EPIPE: closed or shut;
     * -EMSGSIZE above STREAM_WRITE_MAX; -ENOMEM: buffers are out, wait for STREAM_WRITABLE. */
    int (*write)(struct stream *, struct slice bytes);
    /* Not copied: takes a ref of its own on owner and drops it when the bytes are acknowledged (TCP) or
     * taken by the kernel. Bytes must not change until then. Any size; answers as write. */
    int (*write_ref)(struct stream *, struct slice bytes, struct ref *owner);
    /* Bytes written that are not yet acknowledged (TCP) or taken by the kernel; 0 after STREAM_CLOSED. */
    size_t (*queued)(const struct stream *);
    /* Bytes written that the peer's TCP has not acknowledged (of a unix socket: that nobody has read), whoever has
     * them. Costs a call of the kernel: for rare questions. 0 after STREAM_CLOSED. */
    size_t (*unacknowledged)(const struct stream *);
    void (*read_stop)(
        struct stream *); /* no STREAM_READABLE until read_start; the peer's window closes */
    void (*read_start)(struct stream *);
    void (*shut)(struct stream *);    /* FIN after what is queued */
    void (*abort)(struct stream *);   /* RST, now; STREAM_CLOSED follows */
    void (*release)(struct stream *); /* see above */
    void (*facts)(const struct stream *, struct stream_facts *);
};

struct stream {
    const struct stream_ops *ops;
    /* The session's: set by it, called by the network. */
    void (*notify)(struct stream *stream, uint32_t events, void *session);
    void *session;
    /* The network's. */
    uint32_t pending; /* events not yet delivered */
    int error; /* with STREAM_CLOSED: 0 orderly, else -ECONNRESET, -ETIMEDOUT, -ECONNREFUSED... */
    struct list_node ready; /* in the network's list of streams with pending events */
};

static inline size_t stream_peek(struct stream *s, struct slice *slices, size_t count)
{
    return s->ops->peek(s, slices, count);
}
static inline void stream_consume(struct stream *s, size_t bytes)
{
    s->ops->consume(s, bytes);
}
static inline int stream_write(struct stream *s, struct slice bytes)
{
    return s->ops->write(s, bytes);
}
static inline int stream_write_ref(struct stream *s, struct slice bytes, struct ref *owner)
{
    return s->ops->write_ref(s, bytes, owner);
}
static inline size_t stream_queued(const struct stream *s)
{
    return s->ops->queued(s);
}
static inline size_t stream_unacknowledged(const struct stream *s)
{
    return s->ops->unacknowledged(s);
}
static inline void stream_read_stop(struct stream *s)
{
    s->ops->read_stop(s);
}
static inline void stream_read_start(struct stream *s)
{
    s->ops->read_start(s);
}
static inline void stream_shut(struct stream *s)
{
    s->ops->shut(s);
}
static inline void stream_abort(struct stream *s)
{
    s->ops->abort(s);
}
static inline void stream_release(struct stream *s)
{
    s->ops->release(s);
}
static inline void stream_facts(const struct stream *s, struct stream_facts *facts)
{
    s->ops->facts(s, facts);
}

struct network;
struct listener;

struct listen_request {
    struct endpoint at;
    uint32_t unix_mode; /* permissions of a unix socket, e.g. 0660; 0: as umask says */
    /* A connection is there. Set stream->notify and stream->session before returning. */
    void (*accepted)(void *owner, struct listener *listener, struct stream *stream);
    void *owner;
    /* Of kernel sockets: a connection is there, and is no stream yet. True: its descriptor has been taken, for the network of
     * another shard to adopt. NULL: none is. */
    bool (*elsewhere)(void *owner, int fd);
};

struct connect_request {
    struct endpoint to;
    struct endpoint from; /* source address; family ENDPOINT_NONE: any */
    uint64_t timeout_ns;  /* for the handshake; then STREAM_CLOSED with -ETIMEDOUT */
};

struct network_ops {
    int (*listen)(struct network *, const struct listen_request *, struct listener **);
    void (*unlisten)(struct network *, struct listener *); /* stops accepting; streams live on */
    /* Returns at once; STREAM_CONNECTED or STREAM_CLOSED follows. */
    int (*connect)(struct network *, const struct connect_request *, struct stream **);
    /* What another network's listener has given away (listen_request.elsewhere), as if one of this network's own had accepted
     * it: `accepted` is called from within, with no listener. The descriptor is given, also when it fails. 0; -ENOMEM.
     * NULL: not of this network. */
    int (*adopt)(struct network *, const struct listen_request *, int fd);
    /* Receives, runs the transport, delivers the round's events. Returns how much it did; 0: idle. */
    unsigned (*poll)(struct network *, uint64_t now_ns);
    /* Sends what the round has queued. */
    void (*flush)(struct network *, uint64_t now_ns);
    /* A descriptor that becomes readable when poll has work, armed by this call; -ENOTSUP: must be polled.
     * Called before the shard sleeps. -EAGAIN: work came meanwhile, do not sleep. */
    int (*arm)(struct network *);
    void (*close)(struct network *); /* aborts all that is left and frees */
};

struct network {
    const struct network_ops *ops;
    const char *transport; /* "kernel", "dpdk", "test" */
};
