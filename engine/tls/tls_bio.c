/* OpenSSL's way to the stream below, and back. */
#include "engine/tls/tls_private.h"
#include <stdlib.h>

#define SLICES 4u

static int bio_read(BIO *bio, char *bytes, int size)
{
    struct tls_stream *self = BIO_get_data(bio);
    struct slice slices[SLICES];
    size_t count = stream_peek(self->below, slices, SLICES), taken = 0;
    BIO_clear_retry_flags(bio);
    for (size_t i = 0; i < count && taken < (size_t)size; i++) {
        struct slice piece = slice_first(slices[i], (size_t)size - taken);
        memcpy(bytes + taken, piece.bytes, piece.size);
        taken += piece.size;
    }
    if (taken > 0) {
        stream_consume(self->below, taken);
        return (int)taken;
    }
    if (!self->end_below) {
        BIO_set_retry_read(bio);
        return -1;
    }
    return 0;
}

static bool sealed_append(struct tls_stream *self, struct slice bytes)
{
    if (self->sealed_begin == self->sealed_end) {
        self->sealed_begin = self->sealed_end = 0;
    }
    if (self->sealed_end + bytes.size > self->sealed_room) {
        size_t room = self->sealed_end + bytes.size;
        uint8_t *grown = realloc(self->sealed, room);
        if (grown == NULL) {
            return false;
        }
        self->sealed = grown;
        self->sealed_room = room;
    }
    memcpy(self->sealed + self->sealed_end, bytes.bytes, bytes.size);
    self->sealed_end += bytes.size;
    return true;
}

/* As much as the stream below takes; the rest is what was not taken. */
static struct slice pass_on(struct tls_stream *self, struct slice bytes)
{
    while (bytes.size > 0 && !self->below_blocked) {
        struct slice piece = slice_first(bytes, STREAM_WRITE_MAX);
        int status = stream_write(self->below, piece);
        if (status == -EPIPE) {
            return slice_of(NULL, 0); /* what it was for has ended, of which events tell */
        }
        if (status < 0) {
            self->below_blocked = true;
            break;
        }
        bytes = slice_from(bytes, piece.size);
    }
    return bytes;
}

/* Takes everything: whoever encrypts looks first whether anything waits. */
static int bio_write(BIO *bio, const char *bytes, int size)
{
    struct tls_stream *self = BIO_get_data(bio);
    struct slice left = slice_of(bytes, (size_t)size);
    BIO_clear_retry_flags(bio);
    if (self->sealed_begin == self->sealed_end) {
        left = pass_on(self, left);
    }
    return left.size == 0 || sealed_append(self, left) ? size : -1;
}

bool tls_bio_flush(struct tls_stream *self)
{
    struct slice waits =
        slice_of(self->sealed + self->sealed_begin, self->sealed_end - self->sealed_begin);
    if (waits.size > 0) {
        struct slice left = pass_on(self, waits);
        self->sealed_begin = left.size == 0 ? self->sealed_end : self->sealed_end - left.size;
    }
    if (self->sealed_begin < self->sealed_end) {
        return false;
    }
    free(self->sealed);
    self->sealed = NULL;
    self->sealed_begin = self->sealed_end = self->sealed_room = 0;
    return true;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    const struct tls_stream *self = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return self->end_below;
    default:
        return 0;
    }
}

BIO_METHOD *tls_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (method != NULL) {
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_control);
    }
    return method;
}

BIO *tls_bio_new(struct tls_stream *stream)
{
    BIO *bio = BIO_new(stream->tls->bio);
    if (bio != NULL) {
        BIO_set_data(bio, stream);
        BIO_set_init(bio, 1);
    }
    return bio;
}
