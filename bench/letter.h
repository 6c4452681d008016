/*
 * letter: the messages that the source makes and the sink proves.
 *
 * Each says in a header which one it is and what its body must be:
 *   Tubepost-Bench: RUN SEQUENCE BODY-BYTES CRC32C SENT-NS RECIPIENTS     (fixed-width hexadecimal)
 * The digest is CRC32C of the body's content, that is after dot-unstuffing, so that it says the
 * same whether DATA or BDAT carried it, and however many headers a relay has put above.
 *
 * Bodies are made once, LETTER_BODIES of them, in both forms; a letter costs the printing of its
 * header.
 */
#pragma once
#include "engine/core/ref.h"
#include "engine/core/slice.h"

#define LETTER_BODIES 32u /* different ones, fewer when they are large */
#define LETTER_BOOK_BYTES (64u << 20)
#define LETTER_HEADER_BYTES_MAX 512u
#define LETTER_BYTES_MIN 512u /* of a whole message */

struct letter_body {
    struct slice wire;    /* for DATA: dot-stuffed, with the dot that ends it */
    struct slice content; /* as it is, for BDAT */
    uint32_t crc32c;
};

/* Where bodies lie: the heap, or what a port may read by itself. */
struct letter_memory {
    void *(*take)(size_t bytes);
    void (*give)(void *memory);
};

/* What a source sends from. Bodies are owned and live until letter_book_close. */
struct letter_book {
    uint64_t run;
    uint32_t recipient_count;
    char date[40];
    uint32_t body_count;
    struct letter_memory memory;
    struct ref ref; /* for stream_write_ref; the book outlives every stream */
    struct letter_body bodies[LETTER_BODIES];
};

/* What the header says. */
struct letter_claim {
    uint64_t run, sequence, sent_ns;
    uint32_t body_bytes, crc32c, recipient_count;
};

struct letter_plan {
    uint64_t run;
    uint32_t recipient_count;
    int64_t wall_s;
    size_t message_bytes; /* header and body before stuffing, >= LETTER_BYTES_MIN */
    struct letter_memory memory;
};

/* 0 or -ENOMEM. */
int letter_book_open(struct letter_book *book, const struct letter_plan *plan);
void letter_book_close(struct letter_book *book);
const struct letter_body *letter_body_of(const struct letter_book *book, uint64_t sequence);
/* Prints header lines and the empty line; `header` holds LETTER_HEADER_BYTES_MAX. Returns their
 * bytes. */
size_t letter_header(const struct letter_book *book, uint64_t sequence, uint64_t sent_ns,
                     char *header);

/* Reads a message's content as it comes, in slices of any size. */
struct letter_proof {
    struct letter_claim claim;
    bool claimed; /* the header was there and could be read */
    bool in_body;
    uint32_t line_bytes;
    uint32_t crc32c;
    uint64_t body_bytes;
    uint64_t content_bytes;
    char line[128]; /* the current header line's beginning */
};

void letter_proof_begin(struct letter_proof *proof);
void letter_proof_take(struct letter_proof *proof, struct slice content);
/* After the last slice: is the body what the header claims? */
bool letter_proof_holds(const struct letter_proof *proof);

uint32_t letter_crc32c(uint32_t crc32c, struct slice bytes);
