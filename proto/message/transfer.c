#include "proto/message/transfer.h"
#include "engine/core/check.h"

enum transfer_encoding transfer_encoding_of(struct slice name)
{
    static const struct {
        const char *name;
        enum transfer_encoding encoding;
    } names[] = {
        {"7bit", TRANSFER_IDENTITY},   {"8bit", TRANSFER_IDENTITY},
        {"binary", TRANSFER_IDENTITY}, {"quoted-printable", TRANSFER_QUOTED_PRINTABLE},
        {"base64", TRANSFER_BASE64},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal_nocase(name, slice_text(names[i].name))) {
            return names[i].encoding;
        }
    }
    return TRANSFER_UNKNOWN;
}

void transfer_open(struct transfer_decoder *decoder, enum transfer_encoding encoding)
{
    check(encoding != TRANSFER_UNKNOWN);
    *decoder = (struct transfer_decoder){.encoding = (uint8_t)encoding};
}

static int base64_value(uint8_t byte)
{
    if (byte >= 'A' && byte <= 'Z') {
        return byte - 'A';
    }
    if (byte >= 'a' && byte <= 'z') {
        return byte - 'a' + 26;
    }
    if (byte >= '0' && byte <= '9') {
        return byte - '0' + 52;
    }
    return byte == '+' ? 62 : byte == '/' ? 63 : -1;
}

static size_t base64_decode(struct transfer_decoder *decoder, struct slice *input, uint8_t *out,
                            size_t room)
{
    size_t size = 0, i = 0;
    for (; i < input->size && size < room; i++) {
        uint8_t byte = input->bytes[i];
        int value = base64_value(byte);
        if (value < 0) {
            decoder->padded = decoder->padded || byte == '=';
            decoder->broken = decoder->broken || strchr("= \t\r\n", byte) == NULL || byte == '\0';
            continue;
        }
        if (decoder->padded) { /* another piece of base64 behind the first */
            decoder->padded = false;
            decoder->bits = 0;
        }
        decoder->value = (decoder->value << 6 | (uint32_t)value) & 0xffffff;
        decoder->bits = (uint8_t)(decoder->bits + 6);
        if (decoder->bits >= 8) {
            decoder->bits = (uint8_t)(decoder->bits - 8);
            out[size++] = (uint8_t)(decoder->value >> decoder->bits);
        }
    }
    *input = slice_from(*input, i);
    return size;
}

static int hex_value(uint8_t byte)
{
    uint8_t lower = slice_lower(byte);
    return byte >= '0' && byte <= '9'     ? byte - '0'
           : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                          : -1;
}

static size_t held_out(struct transfer_decoder *decoder, uint8_t *out)
{
    size_t size = decoder->held_size;
    memcpy(out, decoder->held, size);
    decoder->held_size = 0;
    return size;
}

/* Is what is held the beginning of a soft line break: "=" and perhaps blanks? */
static bool holds_soft_break(const struct transfer_decoder *decoder)
{
    return decoder->held_size > 0 && decoder->held[0] == '=' &&
           (decoder->held_size == 1 || hex_value(decoder->held[1]) < 0);
}

/* Blanks in front of the end of a line go (RFC 2045 §6.7 rule 3). */
static size_t line_end(struct transfer_decoder *decoder, uint8_t *out)
{
    size_t size = 0;
    if (holds_soft_break(decoder)) {
        decoder->held_size = 0;
        return 0;
    }
    if (decoder->held_size > 0 && decoder->held[0] == '=') {
        decoder->broken = true;
        size = held_out(decoder, out);
    }
    if (decoder->held_size > 0 && decoder->held[decoder->held_size - 1] == '\r') {
        out[size++] = '\r';
    }
    decoder->held_size = 0;
    out[size] = '\n';
    return size + 1;
}

/* One byte behind "=". */
static size_t escape_byte(struct transfer_decoder *decoder, uint8_t byte, uint8_t *out)
{
    const uint8_t *held = decoder->held;
    if (holds_soft_break(decoder) && (byte == ' ' || byte == '\t' || byte == '\r')) {
        decoder->held[decoder->held_size++] = byte;
        return 0;
    }
    if (decoder->held_size == 1 && hex_value(byte) >= 0) {
        decoder->held[decoder->held_size++] = byte;
        return 0;
    }
    if (decoder->held_size == 2 && hex_value(held[1]) >= 0 && hex_value(byte) >= 0) {
        out[0] = (uint8_t)(hex_value(held[1]) << 4 | hex_value(byte));
        decoder->held_size = 0;
        return 1;
    }
    decoder->broken = true;
    size_t size = held_out(decoder, out);
    out[size] = byte;
    return size + 1;
}

static size_t quoted_byte(struct transfer_decoder *decoder, uint8_t byte, uint8_t *out)
{
    size_t size = 0;
    if (decoder->held_size == sizeof(decoder->held)) {
        size = held_out(decoder, out); /* so many blanks are more than a line may have */
        out += size;
    }
    if (byte == '\n') {
        return size + line_end(decoder, out);
    }
    if (decoder->held_size > 0 && decoder->held[0] == '=') {
        return size + escape_byte(decoder, byte, out);
    }
    if (byte == ' ' || byte == '\t' || byte == '\r') {
        decoder->held[decoder->held_size++] = byte;
        return size;
    }
    size_t held = held_out(decoder, out);
    if (byte == '=') {
        decoder->held[decoder->held_size++] = byte;
        return size + held;
    }
    out[held] = byte;
    return size + held + 1;
}

size_t transfer_decode(struct transfer_decoder *decoder, struct slice *input, uint8_t *out,
                       size_t room)
{
    check(room >= TRANSFER_ROOM_MIN);
    if (decoder->encoding == TRANSFER_BASE64) {
        return base64_decode(decoder, input, out, room);
    }
    size_t size = 0, i = 0;
    if (decoder->encoding == TRANSFER_QUOTED_PRINTABLE) {
        /* A byte gives at most what was held and itself. */
        for (; i < input->size && room - size > sizeof(decoder->held) + 2; i++) {
            size += quoted_byte(decoder, input->bytes[i], out + size);
        }
    } else {
        size = i = input->size < room ? input->size : room;
        if (size > 0) {
            memcpy(out, input->bytes, size);
        }
    }
    *input = slice_from(*input, i);
    return size;
}

size_t transfer_close(struct transfer_decoder *decoder, uint8_t *out)
{
    if (decoder->encoding == TRANSFER_BASE64) {
        decoder->broken = decoder->broken || (decoder->bits != 0 && !decoder->padded);
        return 0;
    }
    if (decoder->held_size == 0) {
        return 0;
    }
    if (decoder->held[0] == '=') {
        if (holds_soft_break(decoder)) { /* a soft line break of which the end is cut off */
            decoder->held_size = 0;
            return 0;
        }
        decoder->broken = true;
        return held_out(decoder, out);
    }
    while (decoder->held_size > 0 && (decoder->held[decoder->held_size - 1] == ' ' ||
                                      decoder->held[decoder->held_size - 1] == '\t')) {
        decoder->held_size--; /* blanks at the end of the last line */
    }
    return held_out(decoder, out);
}
