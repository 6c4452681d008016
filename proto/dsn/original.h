/*
 * original: the header section of a message that is reported on, read from its wire form.
 *
 * For dsn alone. Lines may lie across slices; dots are unstuffed; ends before the first empty line,
 * or at the last line end before DSN_ORIGINAL_BYTES_MAX.
 */
#pragma once
#include "proto/message/wire_writer.h"

/* How the header section must be written: WIRE_ASCII, or WIRE_ANY_QUOTED when it holds 8-bit text
 * or lines that are longer than RFC 5322 allows. *bytes: how long it is. */
enum wire_encoding dsn_original_measure(const struct slice *original, size_t count, size_t *bytes);

/* Writes those first bytes, with a line end after the last. */
void dsn_original_write(struct wire_writer *writer, const struct slice *original, size_t count,
                        size_t bytes);
