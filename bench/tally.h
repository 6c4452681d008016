/*
 * tally: which deliveries of a run have been seen, so that loss and repetition show.
 *
 * A delivery is (sequence number of the letter, index of the recipient). One bit each: ten million
 * letters to one recipient take 1.25 MB. One tally a run; a sink keeps those of several.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define TALLY_DELIVERIES_MAX                                                                       \
    (1ull                                                                                          \
     << 33) /* 1 GiB of bits; beyond: not counted, a forged header                            \
                  */

struct tally {
    uint64_t run;
    uint32_t recipient_count; /* of each letter */
    uint64_t seen_count;      /* different deliveries */
    uint64_t repeated_count;
    uint64_t end; /* highest delivery seen, plus one */
    uint64_t *bits;
    uint64_t word_count;
};

enum tally_answer { TALLY_FIRST, TALLY_REPEATED, TALLY_REFUSED };

void tally_open(struct tally *tally, uint64_t run, uint32_t recipient_count);
void tally_close(struct tally *tally);
/* TALLY_REFUSED: recipient or sequence out of range, or no memory. */
enum tally_answer tally_mark(struct tally *tally, uint64_t sequence, uint32_t recipient);
/* Deliveries not seen of the letters up to the highest that was. */
uint64_t tally_missing(const struct tally *tally);
