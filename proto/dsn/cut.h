/*
 * cut: where the original begins in a report of ours, so that the report can be sent again with the header alone.
 *
 * For a report that dsn_begin and dsn_end have written: a server on its way does not take 8-bit text. Reads it from its
 * first byte on, in pieces of any size; no state but its own.
 */
#pragma once
#include "engine/core/slice.h"
#include <stdbool.h>
#include <stdint.h>

#define DSN_CUT_LINE_MAX 64 /* all that is looked for is shorter */

struct dsn_cut { /* zeroed before its first use */
    /* The result, when `found`. */
    bool found;
    uint8_t random[16]; /* of the report's boundary */
    uint64_t
        report_bytes; /* up to the boundary before the original, the line end before that not counted */
    uint64_t original_begin; /* the original's first byte */
    /* Its own. */
    uint64_t at;
    bool has_boundary;
    char boundary[37]; /* "--=_", 32 digits and NUL */
    unsigned boundary_count;
    char line[DSN_CUT_LINE_MAX + 1]; /* under way, as far as it has room */
    uint32_t line_bytes;
};

/* What follows what was read before. */
void dsn_cut_read(struct dsn_cut *cut, struct slice bytes);
