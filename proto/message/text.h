/*
 * text: what people read of a message, as UTF-8: any charset, encoded words, and comparison without regard to case.
 *
 * For SEARCH, SORT and PREVIEW. Results go to the caller's buffers; what does not fit is left out, never in the middle
 * of a character. What cannot be decoded becomes U+FFFD, or stays as it was written.
 *
 * Source: RFC 2047, RFC 2231 §5 (language in encoded words), RFC 5051 (i;unicode-casemap).
 */
#pragma once
#include "engine/core/slice.h"

/* ---- Charsets ---- */

#define CHARSET_HELD_MAX 16u
#define CHARSET_CLOSE_BYTES 32u

struct charset_decoder {
    void *converter; /* owned: an iconv_t, or NULL: the text is UTF-8 */
    uint8_t held_size;
    uint8_t held[CHARSET_HELD_MAX]; /* the beginning of a character */
};

/* 0; -EINVAL: a charset that nobody knows; -ENOMEM. */
int charset_open(struct charset_decoder *decoder, struct slice charset);
/* Takes off *input what it can; returns how many bytes of UTF-8 it wrote. Call it again until *input is empty; `room`
 * is at least 64. */
size_t charset_decode(struct charset_decoder *decoder, struct slice *input, uint8_t *out,
                      size_t room);
/* There is no more input. Writes at most CHARSET_CLOSE_BYTES; U+FFFD when the last character is not whole. */
size_t charset_close(struct charset_decoder *decoder, uint8_t *out);

/* ---- Header fields ---- */

/* The value of a field, folded or not, encoded words decoded; raw bytes that are no UTF-8 become U+FFFD. */
size_t text_of_field(struct slice value, uint8_t *out, size_t room);

/* ---- Comparison ---- */

/* UTF-8 in the form in which texts that differ in case, or in how a character is composed, are the same bytes.
 * 0; *size is 0 with -E2BIG: more than room; -EINVAL: no UTF-8; -ENOMEM. */
int text_casemap(struct slice text, uint8_t *out, size_t room, size_t *size);
/* Is `part` in it? Both are what text_casemap makes. */
bool text_contains(struct slice text, struct slice part);
