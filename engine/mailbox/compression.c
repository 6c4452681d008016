#include "engine/mailbox/compression.h"
#include "engine/core/check.h"
#include <stdlib.h>
#include <zlib.h>

/* Of IMAP's answers 13 bits of window and level 3 leave 25 %, what takes four times the memory and twice the time 22 %. */
#define DEFLATE_LEVEL 3
#define DEFLATE_WINDOW_BITS 13
#define DEFLATE_MEMORY_LEVEL 6
#define INFLATE_WINDOW_BITS 15 /* the peer chooses */
#define WINDOW_BYTES (1u << INFLATE_WINDOW_BITS)

#define PLAIN_BYTES 4096u
#define TURN_BYTES (32u * 1024)  /* inflated, and deflated: less than a millisecond */
#define UNSENT_FULL (32u * 1024) /* of a peer that reads slowly */
#define PIECE_BYTES 8192u        /* deflated at once */
#define PLACE_BYTES 512u /* written at once: so much of a piece of the outbox may stay unused */

struct parked { /* what the peer has said last, compressed */
    size_t bytes;
    uLong window_bytes;
    uint8_t window[];
};

struct compression {
    z_stream in, out;
    bool in_open, out_open;
    bool in_more;  /* there is more in `in` than the last time there was room for */
    bool out_owed; /* what was deflated has not been flushed */
    bool parked_all;
    int status;               /* of the input, once it has failed */
    size_t in_left, out_left; /* of this turn */
    uint64_t now_ns, used_ns;
    uint8_t *plain; /* PLAIN_BYTES; NULL while there is nothing */
    uint32_t plain_begin, plain_end;
    struct parked *parked; /* NULL: `in` has it, or nothing was said yet */
    struct outbox packed;
    size_t zlib_bytes;
};

/* ---- Memory: zlib's is counted ---- */

static voidpf zlib_take(voidpf owner, uInt count, uInt size)
{
    struct compression *compression = (struct compression *)owner;
    size_t bytes = (size_t)count * size;
    size_t *taken = (size_t *)malloc(bytes + 2 * sizeof(size_t)); /* it stays aligned */
    if (taken == NULL) {
        return Z_NULL;
    }
    taken[0] = bytes;
    compression->zlib_bytes += bytes;
    return taken + 2;
}

static void zlib_give(voidpf owner, voidpf given)
{
    struct compression *compression = (struct compression *)owner;
    size_t *taken = (size_t *)given - 2;
    compression->zlib_bytes -= taken[0];
    free(taken);
}

struct compression *compression_new(void)
{
    struct compression *compression = (struct compression *)calloc(1, sizeof(*compression));
    if (compression != NULL) {
        outbox_open(&compression->packed, UNSENT_FULL);
        compression->parked_all = true;
    }
    return compression;
}

void compression_begin(struct compression *compression, struct outbox *said, uint64_t now_ns)
{
    outbox_move(&compression->packed, said);
    compression->now_ns = compression->used_ns = now_ns;
}

static void inflate_close(struct compression *compression)
{
    if (compression->in_open) {
        inflateEnd(&compression->in);
        compression->in_open = false;
    }
}

static void deflate_close(struct compression *compression)
{
    if (compression->out_open) {
        deflateEnd(&compression->out);
        compression->out_open = false;
    }
}

void compression_free(struct compression *compression)
{
    if (compression != NULL) {
        inflate_close(compression);
        deflate_close(compression);
        outbox_close(&compression->packed);
        free(compression->parked);
        free(compression->plain);
        free(compression);
    }
}

size_t compression_memory(const struct compression *compression)
{
    size_t parked =
        compression->parked != NULL ? sizeof(*compression->parked) + compression->parked->bytes : 0;
    return sizeof(*compression) + compression->zlib_bytes + parked +
           compression->packed.memory_bytes + (compression->plain != NULL ? PLAIN_BYTES : 0);
}

/* ---- Turns ---- */

void compression_turn(struct compression *compression, uint64_t now_ns)
{
    compression->in_left = compression->out_left = TURN_BYTES;
    compression->now_ns = now_ns;
}

bool compression_is_spent(const struct compression *compression)
{
    return compression->in_left == 0 || compression->out_left == 0;
}

static size_t less(size_t left, size_t used)
{
    return left > used ? left - used : 0;
}

static void used(struct compression *compression)
{
    compression->used_ns = compression->now_ns;
    compression->parked_all = false;
}

/* ---- Input ---- */

/* Goes on where it was parked. */
static int inflate_open(struct compression *compression)
{
    if (compression->in_open) {
        return 0;
    }
    compression->in = (z_stream){.zalloc = zlib_take, .zfree = zlib_give, .opaque = compression};
    if (inflateInit2(&compression->in, -INFLATE_WINDOW_BITS) != Z_OK) {
        return -ENOMEM;
    }
    compression->in_open = true;
    struct parked *parked = compression->parked;
    if (parked == NULL) {
        return 0;
    }
    uint8_t *window = (uint8_t *)malloc(WINDOW_BYTES);
    uLongf size = WINDOW_BYTES;
    bool good = window != NULL &&
                uncompress(window, &size, parked->window, parked->bytes) == Z_OK &&
                size == parked->window_bytes &&
                inflateSetDictionary(&compression->in, window, (uInt)size) == Z_OK;
    free(window);
    if (!good) {
        inflate_close(compression);
        return -ENOMEM;
    }
    free(parked);
    compression->parked = NULL;
    return 0;
}

static int plain_open(struct compression *compression)
{
    if (compression->plain == NULL) {
        compression->plain = (uint8_t *)malloc(PLAIN_BYTES);
    }
    compression->plain_begin = compression->plain_end = 0;
    return compression->plain != NULL ? inflate_open(compression) : -ENOMEM;
}

/* Inflates some of it. *progress: it was of use. */
static int inflate_some(struct compression *compression, struct stream *stream, struct slice input,
                        bool *progress)
{
    z_stream *in = &compression->in;
    size_t room = compression->in_left < PLAIN_BYTES ? compression->in_left : PLAIN_BYTES;
    input = slice_first(input, UINT32_MAX);
    in->next_in = (Bytef *)(uintptr_t)input.bytes;
    in->avail_in = (uInt)input.size;
    in->next_out = compression->plain;
    in->avail_out = (uInt)room;
    int status = inflate(in, Z_SYNC_FLUSH);
    size_t took = input.size - in->avail_in, made = room - in->avail_out;
    stream_consume(stream, took);
    compression->plain_end = (uint32_t)made;
    compression->in_left = less(compression->in_left, took + made);
    compression->in_more = in->avail_out == 0;
    *progress = took + made > 0;
    used(compression);
    return status == Z_OK || status == Z_BUF_ERROR ? 0 : status == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
}

static bool plain_is_empty(const struct compression *compression)
{
    return compression->plain_begin == compression->plain_end;
}

static void plain_fill(struct compression *compression, struct stream *stream)
{
    bool progress = true;
    while (compression->status == 0 && plain_is_empty(compression) && progress &&
           compression->in_left > 0) {
        struct slice input = slice_of(NULL, 0);
        if (stream_peek(stream, &input, 1) == 0 && !compression->in_more) {
            break;
        }
        compression->status = plain_open(compression);
        if (compression->status == 0) {
            compression->status = inflate_some(compression, stream, input, &progress);
        }
    }
    if (plain_is_empty(compression)) {
        free(compression->plain);
        compression->plain = NULL;
    }
}

int compression_peek(struct compression *compression, struct stream *stream, struct slice *said)
{
    if (plain_is_empty(compression)) {
        plain_fill(compression, stream);
    }
    *said = compression->plain == NULL
                ? slice_of(NULL, 0)
                : slice_of(compression->plain + compression->plain_begin,
                           compression->plain_end - compression->plain_begin);
    return said->size > 0 ? 0 : compression->status; /* what was good before it comes first */
}

void compression_consume(struct compression *compression, size_t bytes)
{
    check(bytes <= compression->plain_end - compression->plain_begin);
    compression->plain_begin += (uint32_t)bytes;
}

/* ---- Output ---- */

static int deflate_open(struct compression *compression)
{
    if (compression->out_open) {
        return 0;
    }
    compression->out = (z_stream){.zalloc = zlib_take, .zfree = zlib_give, .opaque = compression};
    if (deflateInit2(&compression->out, DEFLATE_LEVEL, Z_DEFLATED, -DEFLATE_WINDOW_BITS,
                     DEFLATE_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        return -ENOMEM;
    }
    compression->out_open = true;
    return 0;
}

/* Into the packed outbox, which may take more than it should by what zlib has gathered. */
static int deflate_some(struct compression *compression, struct slice plain, int flush)
{
    z_stream *out = &compression->out;
    out->next_in = (Bytef *)(uintptr_t)plain.bytes;
    out->avail_in = (uInt)plain.size;
    do {
        uint8_t *place = outbox_place(&compression->packed, PLACE_BYTES);
        if (place == NULL) {
            return -ENOMEM;
        }
        out->next_out = place;
        out->avail_out = PLACE_BYTES;
        check(deflate(out, flush) != Z_STREAM_ERROR);
        outbox_wrote(&compression->packed, PLACE_BYTES - out->avail_out);
    } while (out->avail_in > 0 || out->avail_out == 0);
    return 0;
}

/* What the turn allows, as long as there is room. */
static int deflate_turn(struct compression *compression, struct outbox *outbox)
{
    int status = outbox_is_empty(outbox) ? 0 : deflate_open(compression);
    while (status == 0 && !outbox_is_empty(outbox) && compression->out_left > 0 &&
           !outbox_is_full(&compression->packed)) {
        struct slice plain = slice_first(outbox_first(outbox), compression->out_left);
        plain = slice_first(plain, PIECE_BYTES);
        status = deflate_some(compression, plain, Z_NO_FLUSH);
        outbox_sent(outbox, plain.size);
        compression->out_left -= plain.size;
        compression->out_owed = true;
        used(compression);
    }
    if (status == 0 && compression->out_owed && outbox_is_empty(outbox)) {
        status = deflate_some(compression, slice_of(NULL, 0), Z_SYNC_FLUSH);
        compression->out_owed = false;
    }
    return status;
}

int compression_flush(struct compression *compression, struct outbox *outbox, struct stream *stream)
{
    int status;
    size_t before;
    do { /* what the stream has taken makes room for more */
        before = outbox->bytes;
        status = deflate_turn(compression, outbox);
        if (status == 0) {
            status = outbox_flush(&compression->packed, stream);
        }
    } while (status == 0 && !outbox_is_empty(outbox) && outbox->bytes < before);
    return status == 0 && outbox->failed ? -ENOMEM : status;
}

size_t compression_unsent(const struct compression *compression)
{
    return compression->packed.bytes;
}

/* ---- Idle ---- */

uint64_t compression_park_due(const struct compression *compression)
{
    return compression->parked_all ? 0 : compression->used_ns + COMPRESSION_PARK_NS;
}

/* Between blocks, with no bit of the next one taken: nothing but the window matters then (zlib.h, data_type). */
static bool inflate_rests(const struct compression *compression)
{
    return compression->in_open && compression->status == 0 && plain_is_empty(compression) &&
           !compression->in_more && (compression->in.data_type & 0xff) == 128;
}

/* When memory is short it stays as it is. */
static void inflate_park(struct compression *compression)
{
    uLong room = compressBound(WINDOW_BYTES);
    uint8_t *window = (uint8_t *)malloc(WINDOW_BYTES);
    struct parked *parked = (struct parked *)malloc(sizeof(*parked) + room);
    uInt size = 0;
    uLongf packed = room;
    if (window != NULL && parked != NULL &&
        inflateGetDictionary(&compression->in, window, &size) == Z_OK &&
        compress2(parked->window, &packed, window, size, Z_BEST_SPEED) == Z_OK) {
        parked->bytes = packed;
        parked->window_bytes = size;
        struct parked *fit = (struct parked *)realloc(parked, sizeof(*parked) + packed);
        compression->parked = fit != NULL ? fit : parked;
        parked = NULL;
        inflate_close(compression);
    }
    free(parked);
    free(window);
}

void compression_park(struct compression *compression, uint64_t now_ns)
{
    if (compression->parked_all || compression_park_due(compression) > now_ns) {
        return;
    }
    if (compression->out_owed || !outbox_is_empty(&compression->packed)) {
        compression->used_ns = now_ns;
        return;
    }
    /* It ended with a whole block and a byte's end; what begins anew there refers to nothing before it. */
    deflate_close(compression);
    if (inflate_rests(compression)) {
        inflate_park(compression);
    }
    compression->parked_all = true;
}
