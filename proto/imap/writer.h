/*
 * writer: the syntax of IMAP responses, appended to a buffer that grows up to a bound.
 *
 * For all that answers a client. A string is quoted when it may be, else a literal; with UTF8=ACCEPT or IMAP4rev2
 * (`utf8`) well-formed UTF-8 is quoted too. A NUL, which only literal8 can carry, becomes 0x80 elsewhere.
 *
 * When memory is short or the bound is reached, `failed` is set and nothing more is appended: the caller looks once, at
 * the end, and drops the response.
 *
 * Source: RFC 9051 §4, §9; RFC 3501 §9; RFC 6855 §3; RFC 3516 §7 (literal8).
 */
#pragma once
#include "engine/core/slice.h"

#define IMAP_QUOTED_BYTES_MAX 1000u /* longer strings are literals */

struct imap_writer {
    uint8_t *bytes; /* owned */
    size_t size, room;
    size_t bytes_max;
    bool utf8;
    bool failed;
};

void imap_writer_open(struct imap_writer *writer, size_t bytes_max);
void imap_writer_close(struct imap_writer *writer);
struct slice imap_writer_bytes(const struct imap_writer *writer);
/* Forgets what was written, and that it failed. */
void imap_writer_reset(struct imap_writer *writer);

/* As it is: atoms, blanks, parentheses, text that is known to be right. */
void imap_write(struct imap_writer *writer, const char *text);
void imap_write_bytes(struct imap_writer *writer, struct slice bytes);
void imap_write_number(struct imap_writer *writer, uint64_t number);
void imap_write_string(struct imap_writer *writer, struct slice text);
/* NIL when its bytes are NULL. */
void imap_write_nstring(struct imap_writer *writer, struct slice text);
/* An atom when it may be one: for names of mailboxes in the form that the client is to see, user names, keywords. */
void imap_write_astring(struct imap_writer *writer, struct slice text);
/* "{n}" or "~{n}" and the end of the line: the caller sends n bytes behind it. */
void imap_write_literal_head(struct imap_writer *writer, uint64_t bytes);
void imap_write_literal8_head(struct imap_writer *writer, uint64_t bytes);
/* In quotes, " 1-Jan-1970 00:00:00 +0000". `zone_min`: east of Greenwich, -1439..1439. */
void imap_write_internal_date(struct imap_writer *writer, int64_t wall_s, int zone_min);
/* "(\Seen $Forwarded)" */
void imap_write_flags(struct imap_writer *writer, const struct slice *flags, size_t count);
/* "1:3,7": ascending numbers, at least one. */
void imap_write_sequence_set(struct imap_writer *writer, const uint32_t *numbers, size_t count);
