/*
 * original: the header section of a message that is reported on, read from its wire form.
 *
 * For dsn alone. Lines may lie across slices; dots are unstuffed; ends before the first empty line,
 * or at the last line end before DSN_ORIGINAL_BYTES_MAX.
 */
#pragma once
#include "proto/message/wire_writer.h"

/* What it is written in, whatever its sender has declared. */
enum dsn_text {
    DSN_TEXT_ASCII,
    DSN_TEXT_UTF8,
    DSN_TEXT_UNKNOWN, /* RFC 1428 §3: "unknown-8bit" */
};

struct dsn_original {
    size_t bytes;        /* of the header section */
    enum dsn_text text;  /* of it */
    bool has_long_lines; /* longer than RFC 5322 allows */
};
void dsn_original_measure(const struct slice *pieces, size_t count, struct dsn_original *original);

/* Writes those first bytes, with a line end after the last. */
void dsn_original_write(struct wire_writer *writer, const struct slice *original, size_t count,
                        size_t bytes);
