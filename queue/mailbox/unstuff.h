/*
 * unstuff: from wire form to plain form without a copy: the bytes as they lie, but for the dots that SMTP puts in
 * front of lines that begin with one (RFC 5321 §4.5.2).
 *
 * Lines end with CRLF, as the server machine passes them on. The bytes come in pieces cut anywhere. Pure.
 */
#pragma once
#include "engine/core/slice.h"

struct unstuff {
    bool inside_line; /* bytes of the current line were seen */
};

/* Fills at most `room` parts with what the front of *wire holds and takes that off; what does not fit is left. Parts are
 * borrowed from the wire, none of them empty. Returns
 * how many there are: none only when no byte but dots was left. room: at least 1. */
size_t unstuff_take(struct unstuff *unstuff, struct slice *wire, struct slice *parts, size_t room);
