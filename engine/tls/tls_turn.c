/* What a connection does when it has its turn: handshake, decrypt, encrypt, end. */
#include "engine/core/mutation.h"
#include "engine/tls/tls_private.h"
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>

#define SMALL_BYTES 4096u /* below it writes are gathered into one record */

void tls_stream_wants_turn(struct tls_stream *self)
{
    if (list_empty(&self->turn)) {
        list_append(&self->tls->turns, &self->turn);
    }
}

void tls_stream_tell(struct tls_stream *self, uint32_t events)
{
    if (self->released) {
        return;
    }
    self->stream.pending |= events;
    if (list_empty(&self->stream.ready)) {
        list_append(&self->tls->ready, &self->stream.ready);
    }
}

/* ---- Ends ---- */

static void piece_drop(struct tls_stream *self)
{
    struct tls_piece *piece = self->first;
    self->first = piece->next;
    self->last = self->first == NULL ? &self->first : self->last;
    if (piece->owner != NULL) {
        ref_drop(piece->owner);
    }
    free(piece);
}

void tls_stream_drop_queue(struct tls_stream *self)
{
    while (self->first != NULL) {
        piece_drop(self);
    }
    self->queued_bytes = 0;
    free(self->sealed);
    self->sealed = NULL;
    self->sealed_begin = self->sealed_end = self->sealed_room = 0;
}

void tls_stream_over(struct tls_stream *self, int error)
{
    if (self->state == TLS_OVER) {
        return;
    }
    self->tls->counters.failed += self->state == TLS_HANDSHAKE;
    self->state = TLS_OVER;
    self->stream.error = error;
    tls_stream_drop_queue(self);
    tls_stream_tell(self, STREAM_CLOSED);
}

static enum tls_verdict verdict_of(long verdict)
{
    switch (verdict) {
    case X509_V_OK:
        return TLS_VERDICT_GOOD;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return TLS_VERDICT_EXPIRED;
    case X509_V_ERR_HOSTNAME_MISMATCH:
        return TLS_VERDICT_OTHER_HOST;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        return TLS_VERDICT_NOT_TRUSTED;
    case X509_V_ERR_DANE_NO_MATCH:
        return TLS_VERDICT_NO_RECORD;
    default:
        return TLS_VERDICT_INVALID;
    }
}

/* An alert may be on its way, so the end of the stream below is an orderly one. */
static void fail(struct tls_stream *self, int error)
{
    long verdict = SSL_get_verify_result(self->ssl);
    if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        snprintf(self->facts.problem, sizeof(self->facts.problem), "certificate: %s",
                 X509_verify_cert_error_string(verdict));
        self->facts.verdict = (uint8_t)verdict_of(verdict);
        tls_errors_clear();
    } else {
        tls_problem(self->facts.problem, sizeof(self->facts.problem));
    }
    if (error == -EPROTO && self->session_key != NULL) {
        tls_session_forget(self->tls, self->session_key);
    }
    tls_bio_flush(self);
    if (!self->below_over) {
        stream_shut(self->below);
    }
    tls_stream_over(self, error);
}

/* What an operation that did not succeed has met. */
static void stopped(struct tls_stream *self, int result)
{
    switch (SSL_get_error(self->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return;
    case SSL_ERROR_ZERO_RETURN:
        self->peer_closed = true;
        tls_stream_tell(self, STREAM_HALF_CLOSED);
        return;
    default:
        break;
    }
    if (self->end_below && (ERR_peek_error() == 0 || ERR_GET_REASON(ERR_peek_error()) ==
                                                         SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
        if (self->close_sent) { /* it has nothing to lose: many do not answer our close_notify */
            tls_errors_clear();
            self->peer_closed = true;
            tls_stream_tell(self, STREAM_HALF_CLOSED);
            return;
        }
        self->tls->counters.truncated += self->state == TLS_OPEN;
        fail(self, -ECONNRESET);
        return;
    }
    fail(self, -EPROTO);
}

/* ---- The handshake ---- */

static void key_digest(X509 *certificate, uint8_t digest[32])
{
    uint8_t *bytes = NULL;
    unsigned size = 0;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &bytes);
    if (length < 0 || EVP_Digest(bytes, (size_t)length, digest, &size, EVP_sha256(), NULL) != 1) {
        memset(digest, 0, 32);
    }
    OPENSSL_free(bytes);
}

static bool exporter(const struct tls_facts *facts, uint8_t exported[TLS_EXPORTER_BYTES])
{
    static const char label[] = "EXPORTER-Channel-Binding";
    struct tls_stream *self =
        (struct tls_stream *)(uintptr_t)list_entry(facts, struct tls_stream, facts);
    if (facts->exporter_known && !self->exporter_asked) {
        self->exporter_asked = true;
        self->exporter_made =
            SSL_export_keying_material(self->ssl, self->exported, TLS_EXPORTER_BYTES, label,
                                       sizeof(label) - 1, (const uint8_t *)"", 0, 1) == 1;
        tls_errors_clear();
    }
    memcpy(exported, self->exported, TLS_EXPORTER_BYTES);
    return self->exporter_made;
}

/* Rules about clients name them. Of a server, whose handshakes are as many as its clients make, nobody asks. */
static void digests_describe(struct tls_facts *facts, X509 *certificate)
{
    unsigned size = 0;
    if (X509_digest(certificate, EVP_sha256(), facts->peer_digest, &size) != 1) {
        memset(facts->peer_digest, 0, sizeof(facts->peer_digest));
    }
    key_digest(certificate, facts->peer_key_digest);
}

static void peer_describe(struct tls_stream *self, X509 *certificate)
{
    struct tls_facts *facts = &self->facts;
    int name_bytes = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                               facts->peer_name, sizeof(facts->peer_name));
    if (name_bytes < 0 || (size_t)name_bytes != strlen(facts->peer_name)) {
        facts->peer_name[0] = '\0'; /* what is before a NUL is another's name */
    }
    if (!self->client) {
        digests_describe(facts, certificate);
    }
    long verdict = SSL_get_verify_result(self->ssl);
    facts->verdict = (uint8_t)verdict_of(verdict);
    facts->verified = verdict == X509_V_OK &&
                      (!self->client || SSL_get_verify_mode(self->ssl) != SSL_VERIFY_NONE);
    if (verdict != X509_V_OK) {
        snprintf(facts->problem, sizeof(facts->problem), "certificate: %s",
                 X509_verify_cert_error_string(verdict));
    }
}

static void describe(struct tls_stream *self)
{
    struct tls_facts *facts = &self->facts;
    const char *asked = SSL_get_servername(self->ssl, TLSEXT_NAMETYPE_host_name);
    X509 *certificate = SSL_get0_peer_certificate(self->ssl);
    facts->version = SSL_get_version(self->ssl);
    facts->cipher = SSL_get_cipher_name(self->ssl);
    facts->cipher_bits = (unsigned)SSL_get_cipher_bits(self->ssl, NULL);
    facts->resumed = SSL_session_reused(self->ssl) == 1;
    snprintf(facts->server_name, sizeof(facts->server_name), "%s", asked == NULL ? "" : asked);
    /* Until 1.3, only a master secret that is of this handshake makes it one of the connection (RFC 9266 §3.2). */
    facts->exporter_known =
        SSL_version(self->ssl) >= TLS1_3_VERSION || SSL_get_extms_support(self->ssl) == 1;
    facts->exporter = exporter;
    if (certificate != NULL) {
        peer_describe(self, certificate);
    }
}

static void shake_hands(struct tls_stream *self)
{
    struct tls_counters *counters = &self->tls->counters;
    tls_errors_clear();
    int result = SSL_do_handshake(self->ssl);
    if (result != 1) {
        stopped(self, result);
        return;
    }
    self->state = TLS_OPEN;
    describe(self);
    counters->accepted += !self->client;
    counters->connected += self->client;
    counters->resumed += self->facts.resumed;
    if (self->read_stopped) {
        stream_read_stop(self->below);
    }
    tls_stream_tell(self, STREAM_CONNECTED);
}

/* ---- In ---- */

static bool plain_take(struct tls_stream *self)
{
    struct tls *tls = self->tls;
    if (self->plain == NULL) {
        self->plain = tls->spare != NULL ? tls->spare : malloc(TLS_PLAIN_BYTES);
        tls->spare = self->plain == tls->spare ? NULL : tls->spare;
        self->plain_begin = self->plain_end = 0;
    }
    return self->plain != NULL;
}

void tls_stream_give_plain(struct tls_stream *self)
{
    if (self->tls->spare == NULL) {
        self->tls->spare = self->plain;
    } else {
        free(self->plain);
    }
    self->plain = NULL;
    self->plain_begin = self->plain_end = 0;
}

/* To ask OpenSSL for what is not there costs as much as a small record. */
static bool more_waits(const struct tls_stream *self)
{
    struct slice slice;
    return self->end_below || SSL_has_pending(self->ssl) == 1 ||
           stream_peek(self->below, &slice, 1) > 0;
}

static void receive(struct tls_stream *self)
{
    uint32_t before = self->plain_end - self->plain_begin;
    if (self->read_stopped || self->released || self->peer_closed || !plain_take(self)) {
        return;
    }
    if (self->plain_begin > 0) {
        memmove(self->plain, self->plain + self->plain_begin, before);
        self->plain_begin = 0;
        self->plain_end = before;
    }
    int result = 1;
    bool waits = true;
    while (waits && self->plain_end < TLS_PLAIN_BYTES) {
        size_t got = 0;
        tls_errors_clear();
        result = SSL_read_ex(self->ssl, self->plain + self->plain_end,
                             TLS_PLAIN_BYTES - self->plain_end, &got);
        self->plain_end += (uint32_t)got;
        self->tls->counters.records_in += result == 1;
        waits = result == 1 && more_waits(self);
    }
    self->plain_full = waits;
    if (self->plain_end > before) {
        tls_stream_tell(self, STREAM_READABLE);
    }
    if (self->plain_end == 0) {
        tls_stream_give_plain(self);
    }
    if (result != 1) {
        stopped(self, result);
    }
}

/* ---- Out ---- */

bool tls_stream_seal(struct tls_stream *self, struct slice bytes)
{
    size_t written;
    tls_errors_clear();
    int result = SSL_write_ex(self->ssl, bytes.bytes, bytes.size, &written);
    if (result != 1) {
        fail(self, -EPROTO);
        return false;
    }
    check(written == bytes.size);
    self->tls->counters.records_out++;
    self->undrained = true;
    return true;
}

/* The next record's bytes: of one piece where it has many, or of several small ones put together. */
static struct slice record_of(struct tls_stream *self)
{
    struct tls_piece *piece = self->first;
    uint8_t *staging = self->tls->staging;
    size_t size = 0;
    if (piece->left.size >= SMALL_BYTES || piece->next == NULL) {
        return slice_first(piece->left, TLS_RECORD_BYTES);
    }
    for (; piece != NULL && size < TLS_RECORD_BYTES; piece = piece->next) {
        struct slice part = slice_first(piece->left, TLS_RECORD_BYTES - size);
        memcpy(staging + size, part.bytes, part.size);
        size += part.size;
    }
    return slice_of(staging, size);
}

static void queue_advance(struct tls_stream *self, size_t bytes)
{
    self->queued_bytes -= bytes;
    while (bytes > 0) {
        struct tls_piece *piece = self->first;
        size_t part = bytes < piece->left.size ? bytes : piece->left.size;
        bool again = MUTATED(TLS_BYTE_TWICE) && part > 1 && part < piece->left.size;
        piece->left = slice_from(piece->left, again ? part - 1 : part);
        bytes -= part;
        if (piece->left.size == 0) {
            piece_drop(self);
        }
    }
}

void tls_stream_send(struct tls_stream *self)
{
    uint32_t records = self->tls->settings.records_a_turn;
    if (self->state != TLS_OPEN) {
        return;
    }
    bool room = tls_bio_flush(self);
    while (room && self->first != NULL && records-- > 0) {
        struct slice record = record_of(self);
        size_t size = record.size;
        if (!tls_stream_seal(self, record)) {
            return;
        }
        queue_advance(self, size);
        room = self->sealed_begin == self->sealed_end && !self->below_blocked;
    }
    if (room && self->first != NULL) {
        tls_stream_wants_turn(self);
    }
    if (self->write_waits && self->queued_bytes <= STREAM_QUEUED_BYTES_MAX / 2) {
        self->write_waits = false;
        tls_stream_tell(self, STREAM_WRITABLE);
    }
    if (self->shut && self->first == NULL && !self->close_sent) {
        self->close_sent = true;
        tls_errors_clear();
        SSL_shutdown(self->ssl); /* -1 only when the peer has failed, of which reading tells */
        tls_errors_clear();
    }
    if (self->close_sent && !self->below_shut && tls_bio_flush(self)) {
        self->below_shut = true;
        stream_shut(self->below);
    }
}

/* ---- The turn ---- */

static size_t unsent(const struct tls_stream *self)
{
    return self->queued_bytes + self->sealed_end - self->sealed_begin;
}

/* All that it owed is with the stream below, or cannot be any more. */
static bool is_done(const struct tls_stream *self)
{
    return self->state != TLS_OPEN || self->below_over ||
           (self->below_shut && self->sealed_begin == self->sealed_end);
}

bool tls_stream_finish(struct tls_stream *self)
{
    if (!is_done(self)) {
        return false;
    }
    if (!MUTATED(TLS_STREAM_LEAK)) {
        tls_stream_free(self);
    }
    return true;
}

static void look_at_end(struct tls_stream *self)
{
    if (self->state == TLS_OVER || !self->below_over || self->plain_full) {
        return;
    }
    bool orderly = self->stream.error == 0 && self->below->error == 0 && self->peer_closed;
    int error = self->below->error != 0 ? self->below->error : -ECONNRESET;
    tls_stream_over(self, orderly ? 0 : error);
}

void tls_stream_turn(struct tls_stream *self)
{
    size_t before = unsent(self);
    tls_bio_flush(self);
    if (self->state == TLS_HANDSHAKE) {
        shake_hands(self);
    }
    if (self->state == TLS_OPEN) {
        receive(self);
        tls_stream_send(self);
    }
    if (self->released) {
        if (!tls_stream_finish(self) && unsent(self) < before) {
            wheel_arm(self->tls->settings.wheel, &self->linger,
                      self->tls->now_ns + self->tls->settings.linger_ns);
        }
        return;
    }
    look_at_end(self);
}

void tls_stream_below(struct stream *below, uint32_t events, void *session)
{
    struct tls_stream *self = session;
    self->end_below |= (events & (STREAM_HALF_CLOSED | STREAM_CLOSED)) != 0;
    self->below_over |= (events & STREAM_CLOSED) != 0;
    if ((events & (STREAM_WRITABLE | STREAM_CLOSED)) != 0) {
        self->below_blocked = false;
    }
    /* What was written since it was raised drains later, and is told then. */
    if ((events & STREAM_DRAINED) != 0 && self->undrained && unsent(self) == 0 &&
        stream_queued(below) == 0) {
        self->undrained = false;
        tls_stream_tell(self, STREAM_DRAINED);
    }
    if ((events & ~(uint32_t)STREAM_DRAINED) != 0) {
        tls_stream_wants_turn(self);
    }
}
