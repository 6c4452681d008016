/*
 * sets: numbers of messages as clients write them: "1:4,9,12:*", "$", and the ranges of PARTIAL.
 *
 * A set is kept as ranges in order, none touching another, so a client that names a message a thousand times asks for
 * it once. '*' is the largest number there is when the set is used: since "7:*" says all from 7 on, and the largest in
 * any case, the smallest beginning of such a range says it all.
 *
 * Source: RFC 9051 §9 (sequence-set, seq-number); RFC 5182 ('$'); RFC 9394 (partial-range).
 */
#pragma once
#include "engine/core/arena.h"

struct imap_range {
    uint32_t first, last; /* 1 <= first <= last */
};

struct imap_set {
    const struct imap_range *ranges; /* in the arena of the command */
    uint32_t count;
    uint32_t open_from; /* 0: none; n: "n:*"; UINT32_MAX: '*' alone */
    uint32_t named_max; /* the largest number that is written in it; 0: none */
    bool saved;         /* '$': the result that SEARCH saved; then there is nothing else */
};

struct imap_partial {
    bool from_end;        /* both were negative: 1 is the last one */
    uint32_t first, last; /* 1 <= first <= last */
};

enum imap_set_result { IMAP_SET_GOOD, IMAP_SET_BAD, IMAP_SET_MEMORY };

/* Reads a set at the start of text; *used: the bytes that it has, up to the first that cannot belong to one. Time is
 * n log n of it. '$' is taken as a set. */
enum imap_set_result imap_set_read(struct arena *arena, struct slice text, size_t *used,
                                   struct imap_set *set);

/* Digits 1 to 4294967295 at the start of text without a zero in front. 0: there are none; else the bytes they have. */
size_t imap_nz_number_read(struct slice text, uint32_t *number);

/* "1:100" or "-1:-100", in any order. 0: it is none; else the bytes it has. */
size_t imap_partial_read(struct slice text, struct imap_partial *partial);

/* Where a walk through a set has got to; begins as {0}. */
struct imap_set_walk {
    uint32_t index;
    uint32_t last; /* of the range before */
};

/* The next range of those numbers of the set that are at most `largest` (0: there is no message). In order, none twice.
 * False: there are no more. Not for '$'. */
bool imap_set_next(const struct imap_set *set, uint32_t largest, struct imap_set_walk *walk,
                   struct imap_range *range);
/* Is there a message of each number that is written in it, and one for '*', among so many? Sequence numbers that are not
 * there make a command BAD (RFC 9051 §9, seq-number). */
bool imap_set_is_within(const struct imap_set *set, uint32_t count);
bool imap_set_contains(const struct imap_set *set, uint32_t number, uint32_t largest);
/* How many numbers there are in it up to `largest`. */
uint64_t imap_set_numbers(const struct imap_set *set, uint32_t largest);
