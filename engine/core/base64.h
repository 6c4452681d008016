/*
 * base64: bytes as the lines of SASL carry them, strict.
 *
 * Called by the protocols around an exchange (SMTP, POP3, IMAP, ManageSieve) and by those that read stored passwords. Nothing is
 * allocated. Time depends on the lengths alone, since what is coded are secrets.
 *
 * Source: RFC 4648 §4; RFC 4422 §4 (no line breaks, padding is a must).
 */
#pragma once
#include "engine/core/slice.h"

/* Octets that so many need, padding included. */
#define BASE64_BYTES(octets) (((octets) + 2) / 3 * 4)

/* Returns how many octets were written to `to`, which has room for 3/4 of the text, or is where the text lies; -1: it is no base64: a foreign
 * octet, padding that is missing or in the middle, bits that are left over and are not zero. */
long base64_decode(struct slice text, uint8_t *to);
/* The same for text whose padding may be left out, as password hashes have it. */
long base64_decode_bare(struct slice text, uint8_t *to);
/* Writes BASE64_BYTES(bytes.size) octets, without a NUL, and returns how many. */
size_t base64_encode(struct slice bytes, char *to);
