#include "engine/core/base64.h"

/* All ones when low <= value <= high, else zero; without a branch. */
static int within(int value, int low, int high)
{
    return -(int)((unsigned)((low - 1 - value) & (value - high - 1)) >> 31);
}

/* 0 to 63, or -1. */
static int sextet_of(uint8_t octet)
{
    int value = octet;
    int sextet = -1;
    sextet += within(value, 'A', 'Z') & (value - 'A' + 1);
    sextet += within(value, 'a', 'z') & (value - 'a' + 27);
    sextet += within(value, '0', '9') & (value - '0' + 53);
    sextet += within(value, '+', '+') & 63;
    sextet += within(value, '/', '/') & 64;
    return sextet;
}

static char letter_of(unsigned sextet)
{
    int value = (int)sextet;
    int letter = within(value, 0, 25) & (value + 'A');
    letter += within(value, 26, 51) & (value - 26 + 'a');
    letter += within(value, 52, 61) & (value - 52 + '0');
    letter += within(value, 62, 62) & '+';
    letter += within(value, 63, 63) & '/';
    return (char)letter;
}

long base64_decode_bare(struct slice text, uint8_t *to)
{
    uint32_t bits = 0;
    int foreign = 0;
    size_t written = 0;
    if (text.size % 4 == 0 && text.size > 0) {
        text.size -= text.bytes[text.size - 1] == '=';
        text.size -= text.size % 4 == 3 && text.bytes[text.size - 1] == '=';
    }
    if (text.size % 4 == 1) {
        return -1;
    }
    for (size_t i = 0; i < text.size; i++) {
        int sextet = sextet_of(text.bytes[i]);
        foreign |= sextet;
        bits = bits << 6 | ((uint32_t)sextet & 63);
        if (i % 4 != 0) {
            unsigned left = 6 - 2 * (unsigned)(i % 4);
            to[written++] = (uint8_t)(bits >> left);
        }
    }
    uint32_t over = text.size % 4 == 2 ? bits & 15 : text.size % 4 == 3 ? bits & 3 : 0;
    return foreign < 0 || over != 0 ? -1 : (long)written;
}

long base64_decode(struct slice text, uint8_t *to)
{
    return text.size % 4 != 0 ? -1 : base64_decode_bare(text, to);
}

size_t base64_encode(struct slice bytes, char *to)
{
    size_t written = 0;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t have = bytes.size - i < 3 ? bytes.size - i : 3;
        uint32_t bits = (uint32_t)bytes.bytes[i] << 16;
        bits |= have > 1 ? (uint32_t)bytes.bytes[i + 1] << 8 : 0;
        bits |= have > 2 ? bytes.bytes[i + 2] : 0;
        to[written++] = letter_of(bits >> 18);
        to[written++] = letter_of(bits >> 12 & 63);
        to[written++] = have > 1 ? letter_of(bits >> 6 & 63) : '=';
        to[written++] = have > 2 ? letter_of(bits & 63) : '=';
    }
    return written;
}
