#include "engine/core/utf7.h"
#include <errno.h>
#include <unistr.h>

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

struct writer {
    uint8_t *out;
    size_t size, room;
};

static int put(struct writer *writer, uint8_t byte)
{
    if (writer->size == writer->room) {
        return -ENOBUFS;
    }
    writer->out[writer->size++] = byte;
    return 0;
}

static bool is_direct(uint8_t byte)
{
    return byte >= 0x20 && byte <= 0x7e;
}

/* ---- UTF-8 ---- */

/* The code point at the front; returns its bytes, 0 when there is none that is well-formed. */
static size_t utf8_take(struct slice utf8, uint32_t *point)
{
    ucs4_t character;
    int size = u8_mbtoucr(&character, utf8.bytes, utf8.size);
    *point = character;
    return size > 0 && character != 0 ? (size_t)size : 0;
}

static int utf8_put(struct writer *writer, uint32_t point)
{
    int size =
        u8_uctomb(writer->out + writer->size, point, (ptrdiff_t)(writer->room - writer->size));
    if (size < 0) {
        return -ENOBUFS; /* no surrogate comes alone this far */
    }
    writer->size += (size_t)size;
    return 0;
}

/* ---- encoding ---- */

struct bits {
    uint32_t value;
    unsigned count;
};

static int put_unit(struct writer *writer, struct bits *bits, uint32_t unit)
{
    bits->value = bits->value << 16 | unit;
    bits->count += 16;
    int status = 0;
    while (status == 0 && bits->count >= 6) {
        bits->count -= 6;
        status = put(writer, (uint8_t)DIGITS[bits->value >> bits->count & 0x3f]);
        bits->value &= (1u << bits->count) - 1;
    }
    return status;
}

/* What may not stand for itself, up to where something may. */
static int encode_shifted(struct writer *writer, struct slice *utf8)
{
    struct bits bits = {0};
    int status = put(writer, '&');
    while (status == 0 && utf8->size > 0 && !is_direct(utf8->bytes[0])) {
        uint32_t point = 0;
        size_t size = utf8_take(*utf8, &point);
        if (size == 0) {
            return -EILSEQ;
        }
        *utf8 = slice_from(*utf8, size);
        if (point >= 0x10000) {
            status = put_unit(writer, &bits, 0xd7c0 + (point >> 10));
            point = 0xdc00 | (point & 0x3ff);
        }
        status = status == 0 ? put_unit(writer, &bits, point) : status;
    }
    if (status == 0 && bits.count > 0) {
        status = put(writer, (uint8_t)DIGITS[bits.value << (6 - bits.count) & 0x3f]);
    }
    return status == 0 ? put(writer, '-') : status;
}

ssize_t utf7_encode(struct slice utf8, uint8_t *out, size_t room)
{
    struct writer writer = {.out = out, .room = room};
    int status = 0;
    while (status == 0 && utf8.size > 0) {
        uint8_t byte = utf8.bytes[0];
        if (!is_direct(byte)) {
            status = encode_shifted(&writer, &utf8);
            continue;
        }
        status = put(&writer, byte);
        if (status == 0 && byte == '&') {
            status = put(&writer, '-');
        }
        utf8 = slice_from(utf8, 1);
    }
    return status < 0 ? status : (ssize_t)writer.size;
}

/* ---- decoding ---- */

static int digit_of(uint8_t byte)
{
    const char *found = byte == 0 ? NULL : strchr(DIGITS, byte);
    return found == NULL ? -1 : (int)(found - DIGITS);
}

/* A 16-bit unit of UTF-16; *high is the first half of a pair that waits for the second. */
static int take_unit(struct writer *writer, uint32_t unit, uint32_t *high)
{
    if (*high != 0) {
        if (unit < 0xdc00 || unit > 0xdfff) {
            return -EILSEQ;
        }
        uint32_t point = ((*high - 0xd7c0) << 10) + (unit - 0xdc00);
        *high = 0;
        return utf8_put(writer, point);
    }
    if (unit >= 0xd800 && unit < 0xdc00) {
        *high = unit;
        return 0;
    }
    bool alone = unit >= 0xdc00 && unit <= 0xdfff;
    if (unit == 0) {
        return -EINVAL;
    }
    if (alone || (unit < 0x80 && is_direct((uint8_t)unit))) {
        return -EILSEQ;
    }
    return utf8_put(writer, unit);
}

/* Behind the '&', up to and with the '-'. */
static int decode_shifted(struct writer *writer, struct slice *utf7)
{
    struct bits bits = {0};
    uint32_t high = 0;
    unsigned units = 0;
    while (utf7->size > 0 && utf7->bytes[0] != '-') {
        int digit = digit_of(utf7->bytes[0]);
        if (digit < 0) {
            return -EILSEQ;
        }
        *utf7 = slice_from(*utf7, 1);
        bits.value = bits.value << 6 | (uint32_t)digit;
        bits.count += 6;
        if (bits.count >= 16) {
            bits.count -= 16;
            int status = take_unit(writer, bits.value >> bits.count, &high);
            if (status < 0) {
                return status;
            }
            bits.value &= (1u << bits.count) - 1;
            units++;
        }
    }
    if (utf7->size == 0 || units == 0 || high != 0 || bits.count >= 6 || bits.value != 0) {
        return -EILSEQ;
    }
    *utf7 = slice_from(*utf7, 1);
    /* Another shift at once could have been part of this one; "&-" could not. */
    bool again = utf7->size >= 2 && utf7->bytes[0] == '&' && utf7->bytes[1] != '-';
    return again ? -EILSEQ : 0;
}

ssize_t utf7_decode(struct slice utf7, uint8_t *out, size_t room)
{
    struct writer writer = {.out = out, .room = room};
    int status = 0;
    while (status == 0 && utf7.size > 0) {
        uint8_t byte = utf7.bytes[0];
        utf7 = slice_from(utf7, 1);
        if (!is_direct(byte)) {
            return -EILSEQ;
        }
        if (byte != '&') {
            status = put(&writer, byte);
        } else if (utf7.size > 0 && utf7.bytes[0] == '-') {
            utf7 = slice_from(utf7, 1);
            status = put(&writer, '&');
        } else {
            status = decode_shifted(&writer, &utf7);
        }
    }
    return status < 0 ? status : (ssize_t)writer.size;
}
