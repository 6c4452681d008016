/*
 * tubepost_mailbox_files: what import and export share: a message between a mailbox and a file.
 */
#pragma once
#include "engine/main/tubepost_mailbox.h"
#include "queue/mailbox/mbox.h"

struct letter {
    FILE *out; /* a stream into text */
    char *text;
    size_t size;
    bool after_cr;
    unsigned flags; /* enum maildir_flag */
    char keywords[MBOX_KEYWORDS_BYTES];
    int64_t date_s; /* 0: none */
};

/* \Seen and the like, and what a file calls them. */
struct letter_flag {
    const char *name;
    unsigned flag; /* enum maildir_flag */
};
extern const struct letter_flag letter_flags[];
extern const size_t letter_flag_count;

enum mail_format { MAIL_MBOX, MAIL_MAILDIR };
/* "mbox:FILE" or "maildir:FOLDER": the path; NULL: neither, which is printed. */
const char *mail_place_read(const char *text, enum mail_format *format);
