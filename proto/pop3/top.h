/*
 * top: a message as POP3 sends it: dots stuffed, and for TOP cut behind so many lines of the body.
 *
 * The owner feeds a message in slices of any size and sends the pieces that come back; they point into what was fed or
 * are static, so nothing is copied. Pure: no allocation, no I/O. Used by server.h; of use alone.
 *
 * Lines end with CRLF, as everything that is stored here. The terminating octet "." is server.h's business.
 *
 * Source: RFC 1939 §3 (stuffing), §7 (TOP).
 */
#pragma once
#include "engine/core/slice.h"

#define POP3_ALL_LINES UINT32_MAX

struct pop3_top {
    uint32_t lines; /* of the body, that are still to come; POP3_ALL_LINES: all */
    bool body;      /* the empty line behind the header was passed */
    bool done;      /* nothing more is sent */
    bool dot_owed;  /* the line begins with a dot, of which the first is still to come */
    uint8_t
        at; /* 0: a line begins, 1: in a line, 2: behind a CR, 3: behind a CR that began the line */
};

void pop3_top_open(struct pop3_top *top, uint32_t lines);
/* Takes from *rest and gives the next piece. False: all of *rest is taken. */
bool pop3_top_next(struct pop3_top *top, struct slice *rest, struct slice *piece);
/* Does what was sent end with a whole line? */
bool pop3_top_line_ended(const struct pop3_top *top);
