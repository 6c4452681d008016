/*
 * outgoing_letter: a letter of outgoing.h, and the record that it is in the store. Pure.
 *
 * A record: version (1 byte), flags (1), text (8), born_s (8), then user, reverse-path, forward-path, each with its size in
 * 2 bytes before it, and words to the end. Little-endian.
 */
#pragma once
#include "engine/core/slice.h"

#define OUTGOING_WORDS_BYTES_MAX (60u * 1024)
#define OUTGOING_RECORD_BYTES_MAX (64u * 1024) /* MAILSTORE_PROPERTY_BYTES_MAX */

enum outgoing_letter_flag {
    OUTGOING_8BITMIME = 1,
    OUTGOING_SMTPUTF8 = 2,
    OUTGOING_WORDS_ALONE = 4, /* the text is what it answers, and is not sent */
};

struct outgoing_letter {
    uint64_t text;     /* of the store, sent behind `words`, without its Return-Path:; 0: none */
    uint64_t born_s;   /* wall clock */
    uint8_t flags;     /* enum outgoing_letter_flag */
    struct slice user; /* whose script sends it */
    struct slice reverse_path; /* empty: the null one */
    struct slice forward_path;
    struct slice words; /* in wire form: CRLF lines, dot-stuffed, none cut */
};

/* Its size; 0: it does not fit. */
size_t outgoing_letter_write(const struct outgoing_letter *letter,
                             uint8_t record[OUTGOING_RECORD_BYTES_MAX]);
/* Slices point into the record. False: it is none. */
bool outgoing_letter_read(struct outgoing_letter *letter, struct slice record);
