#include "engine/tls/tls_private.h"
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

static struct tls_stream *of(const struct stream *stream)
{
    return (struct tls_stream *)(void *)(uintptr_t)stream; /* its first member */
}

static size_t op_peek(struct stream *stream, struct slice *slices, size_t count)
{
    const struct tls_stream *self = of(stream);
    if (self->plain == NULL || count == 0) {
        return 0;
    }
    slices[0] = slice_of(self->plain + self->plain_begin, self->plain_end - self->plain_begin);
    return 1;
}

static void op_consume(struct stream *stream, size_t bytes)
{
    struct tls_stream *self = of(stream);
    check(bytes <= self->plain_end - self->plain_begin);
    self->plain_begin += (uint32_t)bytes;
    if (self->plain != NULL && self->plain_begin == self->plain_end) {
        tls_stream_give_plain(self);
    }
    if (self->plain_full && bytes > 0) {
        self->plain_full = false;
        tls_stream_wants_turn(self);
    }
}

static int may_write(struct tls_stream *self)
{
    if (self->state == TLS_OVER || self->shut) {
        return -EPIPE;
    }
    if (self->queued_bytes >= STREAM_QUEUED_BYTES_MAX) {
        self->write_waits = true;
        return -EAGAIN;
    }
    return 0;
}

static void queue(struct tls_stream *self, struct tls_piece *piece)
{
    piece->next = NULL;
    *self->last = piece;
    self->last = &piece->next;
    self->queued_bytes += piece->left.size;
}

static int op_write(struct stream *stream, struct slice bytes)
{
    struct tls_stream *self = of(stream);
    int status = bytes.size > STREAM_WRITE_MAX ? -EMSGSIZE : may_write(self);
    if (status < 0 || bytes.size == 0) {
        return status;
    }
    if (self->state == TLS_OPEN && self->first == NULL && tls_bio_flush(self)) {
        return tls_stream_seal(self, bytes) ? 0 : -EPIPE;
    }
    struct tls_piece *piece = malloc(sizeof(*piece) + bytes.size);
    if (piece == NULL) {
        self->write_waits = true;
        return -ENOMEM;
    }
    memcpy(piece->bytes, bytes.bytes, bytes.size);
    piece->left = slice_of(piece->bytes, bytes.size);
    piece->owner = NULL;
    queue(self, piece);
    return 0;
}

static int op_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    struct tls_stream *self = of(stream);
    int status = may_write(self);
    if (status < 0 || bytes.size == 0) {
        return status;
    }
    struct tls_piece *piece = malloc(sizeof(*piece));
    if (piece == NULL) {
        self->write_waits = true;
        return -ENOMEM;
    }
    piece->left = bytes;
    piece->owner = ref_take(owner);
    queue(self, piece);
    tls_stream_send(self);
    return self->state == TLS_OVER ? -EPIPE : 0;
}

static size_t op_queued(const struct stream *stream)
{
    const struct tls_stream *self = of(stream);
    return self->state == TLS_OVER ? 0
                                   : self->queued_bytes + self->sealed_end - self->sealed_begin +
                                         stream_queued(self->below);
}

static size_t op_unacknowledged(const struct stream *stream)
{
    const struct tls_stream *self = of(stream);
    return self->state == TLS_OVER ? 0
                                   : self->queued_bytes + self->sealed_end - self->sealed_begin +
                                         stream_unacknowledged(self->below);
}

static void op_read_stop(struct stream *stream)
{
    struct tls_stream *self = of(stream);
    self->read_stopped = true;
    if (self->state == TLS_OPEN) {
        stream_read_stop(self->below);
    }
}

static void op_read_start(struct stream *stream)
{
    struct tls_stream *self = of(stream);
    if (self->read_stopped) {
        self->read_stopped = false;
        if (self->state == TLS_OPEN) {
            stream_read_start(self->below);
        }
        if (self->plain != NULL) {
            tls_stream_tell(self, STREAM_READABLE);
        }
        tls_stream_wants_turn(self); /* some may be decrypted already, or wait below */
    }
}

static void op_shut(struct stream *stream)
{
    struct tls_stream *self = of(stream);
    self->shut = true;
    tls_stream_send(self);
}

static void op_abort(struct stream *stream)
{
    struct tls_stream *self = of(stream);
    if (!self->below_over) {
        stream_abort(self->below);
    }
    tls_stream_over(self, -ECONNABORTED);
}

static void op_release(struct stream *stream)
{
    struct tls_stream *self = of(stream);
    check(!self->released);
    self->released = true;
    stream->notify = NULL;
    stream->session = NULL;
    list_remove(&stream->ready);
    if (self->plain != NULL) {
        tls_stream_give_plain(self);
    }
    if (self->state == TLS_HANDSHAKE && !self->below_over) {
        stream_abort(self->below);
    }
    self->shut = true;
    tls_stream_send(self);
    if (!tls_stream_finish(self)) {
        wheel_arm(self->tls->settings.wheel, &self->linger,
                  self->tls->now_ns + self->tls->settings.linger_ns);
    }
}

static void op_facts(const struct stream *stream, struct stream_facts *facts)
{
    stream_facts(of(stream)->below, facts);
    facts->tls = &of(stream)->facts;
}

static const struct stream_ops operations = {.peek = op_peek,
                                             .consume = op_consume,
                                             .write = op_write,
                                             .write_ref = op_write_ref,
                                             .queued = op_queued,
                                             .unacknowledged = op_unacknowledged,
                                             .read_stop = op_read_stop,
                                             .read_start = op_read_start,
                                             .shut = op_shut,
                                             .abort = op_abort,
                                             .release = op_release,
                                             .facts = op_facts};

/* ---- Making and ending ---- */

static void linger_over(struct timer *timer, uint64_t now_ns)
{
    struct tls_stream *self = list_entry(timer, struct tls_stream, linger);
    (void)now_ns;
    stream_abort(self->below);
    tls_stream_free(self);
}

/* Nothing unread is left to the stream below: an end with bytes that nobody has read is a reset, which
 * would take our last words from the peer (RFC 2525 §2.17). */
static void below_release(struct stream *below)
{
    struct slice slice;
    while (stream_peek(below, &slice, 1) > 0) {
        stream_consume(below, slice.size);
    }
    stream_release(below);
}

void tls_stream_free(struct tls_stream *self)
{
    struct tls *tls = self->tls;
    tls_stream_drop_queue(self);
    if (self->plain != NULL) {
        tls_stream_give_plain(self);
    }
    below_release(self->below);
    SSL_free(self->ssl);
    if (self->context != NULL) {
        tls_context_drop(self->context);
    }
    wheel_disarm(tls->settings.wheel, &self->linger);
    list_remove(&self->turn);
    list_remove(&self->node);
    list_remove(&self->stream.ready);
    tls->counters.streams--;
    free(self->session_key);
    free(self);
}

static int make(struct tls *tls, struct stream *below, struct tls_context *context, bool client,
                struct tls_stream **made)
{
    struct tls_stream *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        stream_abort(below);
        stream_release(below);
        return -ENOMEM;
    }
    self->stream.ops = &operations;
    self->tls = tls;
    self->below = below;
    self->client = client;
    self->last = &self->first;
    self->facts.verdict = TLS_VERDICT_NONE;
    self->context = tls_context_take(context);
    list_init(&self->stream.ready);
    list_init(&self->turn);
    list_init(&self->node);
    timer_init(&self->linger, linger_over);
    list_append(&tls->streams, &self->node);
    tls->counters.streams++;
    below->notify = tls_stream_below;
    below->session = self;
    self->ssl = SSL_new(context->identities[0]);
    BIO *bio = self->ssl == NULL ? NULL : tls_bio_new(self);
    if (bio == NULL) {
        stream_abort(below);
        tls_stream_free(self);
        return -ENOMEM;
    }
    SSL_set_bio(self->ssl, bio, bio);
    SSL_set_app_data(self->ssl, self);
    *made = self;
    return 0;
}

int tls_session_learned(SSL *ssl, SSL_SESSION *session)
{
    struct tls_stream *self = SSL_get_app_data(ssl);
    if (self->session_key == NULL) {
        return 0;
    }
    /* A copy: the connection's own is spoilt when it ends without close_notify, as many servers end after
     * QUIT, and neither version asks for that (RFC 5246 §7.2.1, RFC 8446 §6.1). */
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    if (copy != NULL) {
        tls_session_keep(self->tls, self->session_key, copy);
    }
    return 0; /* the reference stays OpenSSL's */
}

static bool names_set(SSL *ssl, const struct tls_peer *peer)
{
    bool right = peer->name_count > 0;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    for (uint32_t i = 0; i < peer->name_count && right; i++) {
        right = i == 0 ? SSL_set1_host(ssl, peer->names[i]) == 1
                       : SSL_add1_host(ssl, peer->names[i]) == 1;
    }
    return right;
}

/* The certificate that is named itself needs no name in it: RFC 7672 §3.1.1. */
static bool associations_set(SSL *ssl, const struct tls_peer *peer)
{
    uint32_t usable = 0;
    if (peer->name_count == 0 || SSL_dane_enable(ssl, peer->names[0]) != 1) {
        return false;
    }
    SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    for (uint32_t i = 0; i < peer->association_count; i++) {
        const struct tls_association *association = &peer->associations[i];
        int added =
            SSL_dane_tlsa_add(ssl, association->usage, association->selector, association->matching,
                              association->bytes.bytes, association->bytes.size);
        if (added < 0) {
            return false;
        }
        usable += added > 0;
    }
    return usable > 0 && names_set(ssl, peer);
}

static bool peer_set(struct tls_stream *self, const struct tls_peer *peer)
{
    bool right = true;
    SSL_set_verify(self->ssl, peer->trust == TLS_ANYBODY ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    switch (peer->trust) {
    case TLS_ANYBODY:
        right = peer->name_count == 0 || names_set(self->ssl, peer);
        break;
    case TLS_VERIFIED:
        right = names_set(self->ssl, peer);
        break;
    case TLS_DANE:
        right = associations_set(self->ssl, peer);
        break;
    }
    return right && (peer->server_name == NULL ||
                     SSL_set_tlsext_host_name(self->ssl, peer->server_name) == 1);
}

static int session_set(struct tls_stream *self, const char *key)
{
    if (key == NULL) {
        return 0;
    }
    self->session_key = strdup(key);
    if (self->session_key == NULL) {
        return -ENOMEM;
    }
    SSL_SESSION *session = tls_session_find(self->tls, key);
    if (session != NULL) {
        SSL_set_session(self->ssl, session); /* what it will not resume begins anew */
        SSL_SESSION_free(session);
    }
    return 0;
}

int tls_connect(struct tls *tls, struct stream *below, const struct tls_peer *peer,
                struct stream **stream)
{
    struct tls_stream *self;
    int status = make(tls, below, peer->context, true, &self);
    if (status < 0) {
        return status;
    }
    tls_errors_clear();
    status = peer_set(self, peer) ? session_set(self, peer->session_key) : -EINVAL;
    tls_errors_clear();
    if (status < 0) {
        stream_abort(below);
        tls_stream_free(self);
        return status;
    }
    SSL_set_connect_state(self->ssl);
    tls_stream_wants_turn(self);
    *stream = &self->stream;
    return 0;
}

int tls_accept(struct tls *tls, struct stream *below, struct tls_context *context,
               struct stream **stream)
{
    struct tls_stream *self;
    int status = make(tls, below, context, false, &self);
    if (status < 0) {
        return status;
    }
    SSL_set_accept_state(self->ssl);
    tls_stream_wants_turn(self); /* its hello may be here already */
    *stream = &self->stream;
    return 0;
}

void tls_half_closed(struct stream *stream)
{
    of(stream)->end_below = true; /* its turn is due */
}
