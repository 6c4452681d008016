/*
 * status: an enhanced mail system status code, "5.1.1": what a reply or a report means to machines.
 *
 * Source: RFC 3463; RFC 2034 puts it in front of a reply's text.
 */
#pragma once
#include "engine/core/slice.h"

#define SMTP_STATUS_TEXT_MAX 12 /* "5.999.999" and NUL */

struct smtp_status {
    uint8_t class;    /* 2, 4 or 5 */
    uint16_t subject; /* 0..999 */
    uint16_t detail;  /* 0..999 */
};

/* Reads "x.y.z" at the start of text, which must end there or be followed by a space.
 * Returns the bytes it takes, 0 when there is none. */
size_t smtp_status_parse(struct smtp_status *status, struct slice text);

/* Writes "x.y.z" and NUL; returns the length. */
size_t smtp_status_format(const struct smtp_status *status, char text[SMTP_STATUS_TEXT_MAX]);
