/*
 * header_writer: one header field, from text that people have written: folded, and encoded where it is not ASCII.
 *
 * For answers that are composed here, and for fields that scripts add. Pure. What would end a line becomes a blank.
 *
 * Source: RFC 5322 §2.1.1, §2.2.3 (lines, folding); RFC 2047 §2, §4.2, §5 (encoded words).
 */
#pragma once
#include "engine/core/slice.h"

/* Writes "Name: value" with its end of line. value: UTF-8, unstructured; in ASCII it stays as it is, but for folding.
 * Returns the size; 0: it is more than `room`. */
size_t header_write(struct slice name, struct slice value, uint8_t *out, size_t room);
/* The same for a mailbox as From: has it: of "Name <address>" only the name is encoded. */
size_t header_write_mailbox(struct slice name, struct slice mailbox, uint8_t *out, size_t room);
