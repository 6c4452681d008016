/*
 * header: the fields of a message's header, one after the other, as they lie there.
 *
 * For whoever has a header in memory: ENVELOPE, BODY[HEADER.FIELDS], SEARCH, Sieve. Takes CRLF and bare LF. Nothing is
 * copied or changed; all slices point into what was given. Takes time in proportion to the text.
 *
 * Source: RFC 5322 §2.2, §2.2.3 (folding), §4.5 (blanks before the colon).
 */
#pragma once
#include "engine/core/slice.h"

struct header_field {
    struct slice name; /* empty: a line without a colon */
    struct slice
        value; /* behind the colon and the blanks there, still folded, without the last end of line */
    struct slice whole; /* name to last end of line */
};

/* Takes the next field off *rest. False: the header is over, and *rest is what comes behind the empty line. */
bool header_next(struct slice *rest, struct header_field *field);
/* The first field of this name. */
bool header_find(struct slice header, struct slice name, struct header_field *field);
/* The next one of this name behind those that were taken off *rest. */
bool header_find_next(struct slice *rest, struct slice name, struct header_field *field);
/* One field, its continuation lines included, taken apart. */
struct header_field header_field_of(struct slice whole);

/* The value in one line: ends of lines go, the blanks behind them stay. Writes at most `room` bytes, returns how many. */
size_t header_unfold(struct slice value, uint8_t *text, size_t room);
