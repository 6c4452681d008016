/*
 * books: what the world knows of a user's mailboxes: which letters were put into them, which uid is which letter, what may
 * have left, and what has.
 *
 * What is told over IMAP is durable, so it holds from then on, over crashes too: a uid is one letter for ever, what has
 * left does not come back, and what nobody asked to leave is there.
 */
#pragma once
#include "engine/core/slice.h"
#include "tests/sim/sim.h"

#define BOOKS_BOXES 3u /* mailboxes: books_box_names */
#define BOOKS_UIDS_MAX 4096u
#define BOOKS_LETTERS_MAX 1024u
#define BOOKS_LETTER_BYTES_MAX 60000u
#define BOOKS_KEYS 8u /* keywords, each of one client, who alone sets and clears it */

extern const char *const books_box_names[BOOKS_BOXES];

enum book_key {
    BOOK_KEY_UNKNOWN, /* until its client sees or sets it */
    BOOK_KEY_CLEAR,
    BOOK_KEY_SET,
    BOOK_KEY_IN_DOUBT, /* for good: its client has not heard what became of a change */
};

struct book_entry {             /* a uid of a mailbox */
    uint32_t letter;            /* 0: nobody has read it yet */
    bool known;                 /* somebody was told of it */
    bool leaves;                /* somebody asked for it to be moved away */
    uint64_t known_ns, gone_ns; /* the first time; 0: not yet */
    uint8_t keys[BOOKS_KEYS];   /* enum book_key */
};

struct book_letter {
    uint64_t seed;
    uint32_t bytes;
    bool deleted; /* somebody asked for \Deleted of a copy, and copies take it along */
    struct {      /* copies in each mailbox, ever */
        uint32_t least, most, seen;
    } in[BOOKS_BOXES];
};

struct books {
    struct sim *sim;
    struct book_letter letters[BOOKS_LETTERS_MAX]; /* 0: none */
    uint32_t letter_count;
    struct {
        uint32_t uidvalidity; /* 0: not told yet */
        bool expunged;        /* somebody has asked for it: what is \Deleted may be gone */
        struct book_entry entries[BOOKS_UIDS_MAX];
    } boxes[BOOKS_BOXES];
    uint64_t well_ns; /* from then on nothing that is asked may fail */
    uint8_t *text;    /* room for a letter */
    uint64_t told;    /* answers that were checked */
};

void books_open(struct books *books, struct sim *sim);
void books_close(struct books *books);

/* 0: enough. */
uint32_t books_letter_new(struct books *books);
/* From its first field on, in books->text, until the next call. */
struct slice books_letter_text(struct books *books, uint32_t letter);

void books_uidvalidity(struct books *books, unsigned box, uint32_t uidvalidity);
/* Somebody was told that it is there. */
struct book_entry *books_entry(struct books *books, unsigned box, uint32_t uid);
/* And which letter it is. */
void books_entry_is(struct books *books, unsigned box, uint32_t uid, uint32_t letter);
/* And its text: below what a delivery puts above it. */
void books_entry_text(struct books *books, unsigned box, uint32_t uid, struct slice text);
/* It may be gone: somebody has asked for it. */
bool books_may_be_gone(const struct books *books, unsigned box, uint32_t uid);
void books_gone(struct books *books, unsigned box, uint32_t uid);
/* A mailbox was selected after since_ns, and holds these uids, in order. */
void books_check_view(struct books *books, unsigned box, const uint32_t *uids, uint32_t count,
                      uint64_t since_ns);
/* At the end, when all that is left was read. */
void books_check_all(struct books *books);
