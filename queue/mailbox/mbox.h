/*
 * mbox: many messages in one file, read and written piece by piece, for import and export.
 *
 *   From a@client.test Thu Nov  9 22:33:52 2001
 *   Status: RO                                   R seen, O old
 *   X-Status: AF                                 A replied, F flagged, T draft, D to be removed
 *   X-Keywords: $Junk mine
 *   X-UID: 12
 *   Subject: x
 *
 *   >From the start of a line, quoted
 *                                                an empty line, which is none of the message's
 *
 * Both quotings are read and written: mboxrd puts one '>' more before any number of them and can be undone; mboxo
 * puts one before "From " alone and cannot. A From_ line counts at the start and behind an empty line, if its date
 * can be read. The headers above are taken out of what is read, and out of what is written, where those of the
 * caller take their place. A text that begins with a blank, where it would go on one of these, gets the empty line
 * that ends the header in front. Memory is bounded, whatever a line's length. Line ends stay as they are; a message that
 * ends without one gets one. The reader tells of one thing at a time and is called again; no I/O, no clock.
 *
 * Source: RFC 4155 appendix A; c-client's and Dovecot's headers.
 */
#pragma once
#include "engine/core/slice.h"
#include "queue/mailbox/maildir_name.h"

#define MBOX_LINE_BYTES                                                                            \
    4096 /* of a line that is looked at: a From_ line or one of our headers; the rest is dropped */
#define MBOX_SENDER_BYTES 256
#define MBOX_KEYWORDS_BYTES 1024

enum mbox_quoting { MBOX_RD, MBOX_O };

/* What is known of a message beside its text. */
struct mbox_facts {
    char sender[MBOX_SENDER_BYTES];     /* of the From_ line; "MAILER-DAEMON" for none */
    int64_t date_s;                     /* UTC where the line names no zone */
    unsigned flags;                     /* enum maildir_flag */
    bool old;                           /* not \Recent */
    uint32_t uid;                       /* 0: none */
    char keywords[MBOX_KEYWORDS_BYTES]; /* between blanks */
    uint32_t uidvalidity, uid_last;     /* X-IMAPbase, of the first message; 0: none */
    bool internal;                      /* a note of c-client's to itself, no message: X-IMAP */
};

enum mbox_event {
    MBOX_MORE,    /* all input is taken */
    MBOX_MESSAGE, /* one begins; sender and date are known */
    MBOX_TEXT,    /* .text of it; valid until the next call */
    MBOX_END,     /* it has ended; all facts are known */
    MBOX_NONE,    /* this is no mbox: it does not begin with a From_ line; over */
};

enum mbox_place { MBOX_AT_START, MBOX_IN_HEADER, MBOX_IN_BODY, MBOX_BROKEN };

struct mbox_reader {
    enum mbox_quoting quoting;
    struct mbox_facts facts; /* of the message in hand */
    struct slice text;
    /* The module's. */
    enum mbox_place place;
    bool inside_line; /* its front has been told already */
    bool dropping;    /* the rest of this line, and a header's further lines */
    bool keywords_go_on;
    bool at_end;
    uint8_t blank[2]; /* an empty line that may be the last */
    unsigned blank_size, next_blank_size;
    bool was_blank;
    bool started; /* the From_ line is told by the next call */
    size_t used, told;
    uint8_t line[MBOX_LINE_BYTES];
};

void mbox_reader_begin(struct mbox_reader *reader, enum mbox_quoting quoting);
/* Takes from the front of *input. */
enum mbox_event mbox_read(struct mbox_reader *reader, struct slice *input);
/* No more input comes: again until MBOX_MORE. */
enum mbox_event mbox_read_end(struct mbox_reader *reader);

struct mbox_writer {
    enum mbox_quoting quoting;
    /* The module's. */
    bool at_front, in_header, at_line_start, dropping, wrote_line_end, quoted;
    size_t held_size;
    uint8_t held[24]; /* the front of a line that is not told apart yet */
};

#define MBOX_FRONT_BYTES_MAX (MBOX_SENDER_BYTES + MBOX_KEYWORDS_BYTES + 256)

/* Begins a message: its From_ line and headers. Returns bytes written. */
size_t mbox_write_begin(struct mbox_writer *writer, enum mbox_quoting quoting,
                        const struct mbox_facts *facts, char out[MBOX_FRONT_BYTES_MAX]);
/* Takes from the front of *text what there is room for; needs room for 32 bytes to make progress. */
size_t mbox_write(struct mbox_writer *writer, struct slice *text, uint8_t *out, size_t room);
/* What still hangs, and the empty line. Room for 32 bytes. */
size_t mbox_write_end(struct mbox_writer *writer, uint8_t *out);

/* The From_ line, without its line end; used by the reader. */
bool mbox_from_read(struct slice line, struct mbox_facts *facts);
