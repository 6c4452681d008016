/*
 * log_scan: finds the records of a segment again, whatever its bytes have become.
 *
 * Where no valid record begins, the search goes on at every place where one may begin: damage hides
 * the records that it touches, and nothing else. Stale records of an earlier use are told by their
 * LSN, and what only looks like a record by its checksum, which is seeded by the log's secret id.
 * Every step goes forward, and nothing outside the piece is read.
 *
 * log_folder reads the pieces; the fuzzer brings its own.
 */
#pragma once
#include "queue/log/record.h"

struct log_scan {
    uint32_t sequence;
    uint32_t seed;
    uint32_t valid_end; /* nothing counts at or behind this offset */
    const struct log_visitor *visitor;
    uint64_t
        unread; /* blocks of the next piece, lowest bit first, that could not be read: what is missed
                        there is not damage */
    /* Results. */
    uint64_t records;
    uint64_t damaged_bytes; /* were durable once */
    uint64_t torn_bytes;    /* lost between others, but never promised */
    uint32_t end;           /* offset behind the last valid record */
    /* Where valid records were missed, until the next one is found. */
    bool in_hole;
    bool hole_unread; /* some of it could not be read */
    uint32_t hole;
};

/* The next piece, in order: `bytes` (at most LOG_FRAME_BYTES) from `offset` of the segment, which is
 * a multiple of LOG_FRAME_BYTES. 0, or what the visitor returned. */
int log_scan_piece(struct log_scan *scan, const uint8_t *piece, uint32_t offset, uint32_t bytes);

/* The highest sequence of any valid record in a piece whose segment header is lost; 0: none. */
uint32_t log_scan_probe(const uint8_t *piece, uint32_t offset, uint32_t bytes, uint32_t seed);
