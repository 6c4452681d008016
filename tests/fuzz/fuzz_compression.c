/*
 * What a peer has deflated, or says it has, cut anywhere and parked between: the same comes out as when all of it is
 * inflated at once, and memory is bounded. The first byte chooses how the rest is cut and when it is parked.
 */
#include "engine/mailbox/compression.h"
#include "engine/core/check.h"
#include <stdlib.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define PLAIN_MAX (256u * 1024)
#define MEMORY_MAX (128u * 1024)

static struct wire {
    struct stream stream;
    struct slice left;
} wire;

static size_t wire_peek(struct stream *stream, struct slice *slices, size_t count)
{
    (void)stream, (void)count;
    slices[0] = wire.left;
    return wire.left.size > 0;
}

static void wire_consume(struct stream *stream, size_t bytes)
{
    (void)stream;
    check(bytes <= wire.left.size);
    wire.left = slice_from(wire.left, bytes);
}

static const struct stream_ops wire_ops = {.peek = wire_peek, .consume = wire_consume};

/* All at once. Returns how much came out; *good: nothing was wrong with what there is. */
static size_t whole(struct slice input, uint8_t *plain, bool *good)
{
    z_stream in = {0};
    check(inflateInit2(&in, -15) == Z_OK);
    in.next_in = (Bytef *)(uintptr_t)input.bytes;
    in.avail_in = (uInt)input.size;
    in.next_out = plain;
    in.avail_out = PLAIN_MAX;
    int status = inflate(&in, Z_SYNC_FLUSH);
    *good = status == Z_OK || status == Z_BUF_ERROR;
    inflateEnd(&in);
    return PLAIN_MAX - in.avail_out;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t expected[PLAIN_MAX];
    if (size < 1) {
        return 0;
    }
    bool good;
    struct slice input = slice_of(bytes + 1, size - 1);
    size_t step = bytes[0] % 16 + 1u, came = 0;
    size_t most = whole(input, expected, &good);
    struct compression *compression = compression_new();
    struct outbox said;
    uint64_t now_ns = 1;
    int status = 0;
    check(compression != NULL);
    outbox_open(&said, 4096);
    compression_begin(compression, &said, now_ns);
    wire.stream.ops = &wire_ops;
    wire.left = slice_first(input, 0);
    for (bool more = true; more && status == 0 && came < most;) {
        struct slice plain;
        if (wire.left.size == 0) {
            wire.left = slice_first(input, step);
            input = slice_from(input, wire.left.size);
        }
        more = wire.left.size > 0;
        compression_turn(compression, now_ns);
        status = compression_peek(compression, &wire.stream, &plain);
        check(compression_memory(compression) <= MEMORY_MAX);
        more = more || plain.size > 0;
        plain = slice_first(plain, most - came);
        check(plain.size == 0 || memcmp(expected + came, plain.bytes, plain.size) == 0);
        came += plain.size;
        compression_consume(compression, plain.size);
        if (bytes[0] & 0x10) {
            now_ns += COMPRESSION_PARK_NS;
            compression_park(compression, now_ns);
        }
    }
    check(came == most);
    check(status == 0 || (status == -EBADMSG && !good));
    compression_free(compression);
    return 0;
}
