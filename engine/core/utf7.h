/*
 * utf7: names of mailboxes in modified UTF-7, as IMAP4rev1 sends them and Maildir++ folders are called.
 *
 * Pure. Strict in both directions: a name has exactly one encoded form, so that two folders are never the same
 * mailbox: nothing is encoded that could stand for itself, no shift follows another without need, padding bits are
 * zero, surrogates come in pairs. Both forms hold no NUL; control characters are encoded. Errors: -EILSEQ: not
 * well-formed; -EINVAL: a NUL was encoded; -ENOBUFS: more than room.
 * Source: RFC 3501 §5.1.3, RFC 2152.
 */
#pragma once
#include "engine/core/slice.h"
#include <sys/types.h>

/* What is needed at most to encode `size` bytes of UTF-8: one control character among others becomes "&AAA-". */
#define UTF7_ENCODED_BYTES_MAX(size) ((size)*5u)

/* From UTF-8. Returns the bytes written to out, which may not overlap. */
ssize_t utf7_encode(struct slice utf8, uint8_t *out, size_t room);
/* Of UTF-8, from so much: never more than three bytes for two. */
#define UTF7_DECODED_BYTES_MAX(size) ((size)*3u / 2 + 1)

/* To UTF-8; the same. */
ssize_t utf7_decode(struct slice utf7, uint8_t *out, size_t room);
