/*
 * scan: finds the end of a message in wire form, whatever the pieces it comes in.
 *
 * Gives the content between dots as slices of the input, dot-stuffing undone, nothing copied.
 * Only CRLF.CRLF ends a message (RFC 5321 §4.1.1.4).
 */
#pragma once
#include "engine/core/slice.h"

/*
 *          CR          LF            .             CR             LF
 *  TEXT ────────► CR ─────► LINE ─────► DOT ─────────► DOT_CR ────────► end
 *   ▲                        │ ▲         │ other: content begins here
 *   └────────── other ───────┘ └─ start ─┘
 */
enum scan_state { SCAN_LINE, SCAN_TEXT, SCAN_CR, SCAN_DOT, SCAN_DOT_CR };

struct scan {
    enum scan_state state;
    uint64_t bare_lf_count;
    void (*content)(void *owner, struct slice content);
    void *owner;
};

void scan_begin(struct scan *scan, void (*content)(void *owner, struct slice content), void *owner);
/* Takes input up to the message's end; returns how much. *ended: the end was there. */
size_t scan_take(struct scan *scan, struct slice input, bool *ended);
