/*
 * slice: bytes that lie somewhere, with their length. Never NUL-terminated, never owned.
 *
 * Everything that came from outside (a peer, a disk, a file) travels as a slice.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *bytes;
    size_t size;
};

static inline struct slice slice_of(const void *bytes, size_t size)
{
    return (struct slice){.bytes = (const uint8_t *)bytes, .size = size};
}

/* A NUL-terminated string of our own, without its NUL. */
static inline struct slice slice_text(const char *text)
{
    return slice_of(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

static inline uint8_t slice_lower(uint8_t byte)
{
    return (uint8_t)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

/* Equal but for the case of ASCII letters. */
static inline bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.size != b.size) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (slice_lower(a.bytes[i]) != slice_lower(b.bytes[i])) {
            return false;
        }
    }
    return true;
}

/* The bytes from `from` on; empty when there are fewer. */
static inline struct slice slice_from(struct slice s, size_t from)
{
    if (s.size == 0) {
        return s; /* its bytes may be NULL, to which nothing may be added */
    }
    if (from >= s.size) {
        return slice_of(s.bytes + s.size, 0);
    }
    return slice_of(s.bytes + from, s.size - from);
}

/* At most the first `size` bytes. */
static inline struct slice slice_first(struct slice s, size_t size)
{
    return slice_of(s.bytes, size < s.size ? size : s.size);
}

/* Before (less than 0), equal or after, capitals and small letters alike; a beginning comes before the whole. */
static inline int slice_order_nocase(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    for (size_t i = 0; i < size; i++) {
        int difference = slice_lower(a.bytes[i]) - slice_lower(b.bytes[i]);
        if (difference != 0) {
            return difference;
        }
    }
    return a.size < b.size ? -1 : a.size > b.size;
}
