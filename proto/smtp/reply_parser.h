/*
 * reply_parser: replies of an SMTP or LMTP server, one at a time, from bytes in any pieces.
 *
 * The client feeds it; nobody else. Bounded: it keeps a code, the first bytes of the text and
 * counts; never a slice of the input. What it keeps of the text is fit for a log line or a report:
 * control characters and bytes that are no UTF-8 have become '?', lines are joined by a space, a
 * status that is repeated in each line stands once.
 *
 * Malformed is: a line that does not begin with a code 200..599 followed by ' ', '-' or its end; a
 * code that changes inside a reply; an empty line; a line or a reply that is too long (limits.h).
 * A line may end with LF alone: replies carry nothing that could be smuggled by it.
 *
 * Source: RFC 5321 §4.2; RFC 2034 for the status.
 */
#pragma once
#include "engine/core/limits.h"
#include "proto/smtp/status.h"

#define SMTP_REPLY_TEXT_MAX 256 /* what is kept of a reply's text */

enum smtp_reply_step {
    SMTP_REPLY_MORE,      /* all of the input is used, the reply goes on */
    SMTP_REPLY_LINE,      /* a line that is not the last: its text can be read */
    SMTP_REPLY_COMPLETE,  /* code, status and text are there until the next call */
    SMTP_REPLY_MALFORMED, /* the connection cannot be used any more */
};

struct smtp_reply_parser {
    uint8_t state;
    bool last_line;      /* the line's code was not followed by '-' */
    uint8_t code_digits; /* of this line, read so far */
    uint16_t code;       /* of the reply: its first line's; 0 before that */
    uint16_t line_code;  /* of this line */
    uint16_t line_bytes;
    uint16_t line_count; /* complete ones */
    uint16_t text_bytes; /* kept of all lines */
    uint16_t line_start; /* where this line's text begins in `text` */
    struct smtp_status status;
    char text[SMTP_REPLY_TEXT_MAX];
};

void smtp_reply_parser_init(struct smtp_reply_parser *parser);

/* Takes bytes up to the end of a line at most. */
enum smtp_reply_step smtp_reply_parser_input(struct smtp_reply_parser *parser, struct slice input,
                                             size_t *used);

/* Has a reply begun that is not complete? */
bool smtp_reply_parser_inside(const struct smtp_reply_parser *parser);

/* Text of the line just read, as far as it was kept, after SMTP_REPLY_LINE or _COMPLETE. */
struct slice smtp_reply_parser_line(const struct smtp_reply_parser *parser);
/* Forgets the text kept so far, so that the following lines find room: for the answer to EHLO. */
void smtp_reply_parser_forget_text(struct smtp_reply_parser *parser);
/* Text of the whole reply, with its status code, without the reply code. */
struct slice smtp_reply_parser_text(const struct smtp_reply_parser *parser);
