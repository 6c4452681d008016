/*
 * unwire: from wire form to what a file holds: dot-stuffing undone, CRLF to LF.
 *
 * Pure; the bytes come in pieces cut anywhere, so what hangs between two pieces (a CR, the start of
 * a line) is state. CR or LF alone stay as they are. Source: RFC 5321 §4.5.2.
 */
#pragma once
#include "engine/core/slice.h"

struct unwire {
    bool inside_line;    /* bytes of the current line were seen */
    bool carriage;       /* a CR was seen and not written yet */
    bool wrote_carriage; /* the last byte written is a CR */
    uint64_t bytes;      /* written so far */
    uint64_t lone_lines; /* LFs written without a CR before: what the size with CRLF has more */
};

/* Takes bytes from the front of *wire while there is room; returns how many were written to out.
 * Needs room for 2 bytes to make progress. */
size_t unwire_take(struct unwire *unwire, struct slice *wire, uint8_t *out, size_t room);
/* The end: a CR that still hangs. Returns 0 or 1 bytes written; room for 1. */
size_t unwire_end(struct unwire *unwire, uint8_t *out);
