/*
 * body_scan: finds the end of a message in what a client sends, and what in it must not be believed.
 *
 * The server machine feeds it the input of DATA, or the octets of BDAT chunks, and passes on the pieces it gives:
 * slices of the input wherever possible, in wire form (CRLF lines, dot-stuffed), so that nobody copies them but
 * the log. Only CRLF "." CRLF ends DATA. Bare CR, bare LF and NUL make the message bad (strict), or become
 * line ends (normalize; NUL stays). Pieces of a message that is bad are given too, so that the end is found; the caller
 * throws them away.
 *
 * On the way it reads the header section: how many fields, how long, how many Received:.
 *
 * Source: RFC 5321 §2.3.8, §4.1.1.4, §4.5.2; RFC 3030; RFC 5321 §6.3 (loops).
 */
#pragma once
#include "engine/core/slice.h"

enum body_fault {
    BODY_GOOD,
    BODY_BARE_NEWLINE, /* 550 5.6.0 */
    BODY_NUL,          /* 550 5.6.0 */
    BODY_LONG_LINE,    /* 552 5.6.0 */
    BODY_LARGE_HEADER, /* 552 5.6.0 */
    BODY_LOOP,         /* 554 5.4.6 */
    BODY_TOO_LARGE,    /* 552 5.3.4 */
};

struct body_limits { /* 0: none */
    uint64_t bytes_max;
    uint32_t line_bytes_max; /* without CRLF */
    uint32_t header_bytes_max;
    uint32_t header_lines_max;
    uint32_t hops_max;
    bool normalize;
};

enum body_step {
    BODY_MORE, /* all input is used */
    BODY_PIECE, /* *piece is the next part of the message: take it and call again with what is left */
    BODY_END,   /* the end of data: what is left of the input are commands */
};

struct body_scan {
    const struct body_limits *limits;
    uint8_t state; /* where in a line we are: enum body_place, in the .c */
    uint8_t fault; /* enum body_fault, the first that was found */
    bool chunks;   /* BDAT: no dot ends it, dots are stuffed here */
    bool in_header;
    bool stuff;   /* a dot must be given before the input goes on */
    bool newline; /* normalize: a CRLF must be given before the input goes on */
    uint8_t prefix_bytes;
    uint8_t prefix[9]; /* the first octets of a header line, lower case: "received:" */
    uint32_t line_bytes;
    uint32_t header_bytes, header_lines, hops;
    uint64_t bytes; /* of the message, as stored */
};

void body_scan_open(struct body_scan *scan, const struct body_limits *limits, bool chunks);
enum body_step body_scan_next(struct body_scan *scan, struct slice input, size_t *used,
                              struct slice *piece);
/* BDAT, after the last chunk: what must follow so that the message ends with CRLF; may be empty. */
struct slice body_scan_close(struct body_scan *scan);
