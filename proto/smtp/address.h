/*
 * address: paths and mailboxes of the envelope, as MAIL and RCPT carry them.
 *
 * Strict where a lax reading has let mail servers be fooled (a second '@', control octets, quoting that does not
 * end), lax where the world is (dots anywhere in a local part). A source route is read and dropped, as
 * RFC 5321 appendix F.2 allows. Slices point into the text given.
 *
 * Source: RFC 5321 §4.1.2, §4.5.3.1; RFC 6531 §3.3.
 */
#pragma once
#include "engine/core/slice.h"

struct smtp_path {
    struct slice
        mailbox; /* local@domain, as it was written, without route and <>; empty: the null path */
    struct slice local;  /* with its quotes, if any */
    struct slice domain; /* empty: none ("postmaster") */
    bool ascii;
};

enum smtp_path_error {
    SMTP_PATH_GOOD,
    SMTP_PATH_SYNTAX,   /* 501 5.1.3 or 5.1.7 */
    SMTP_PATH_TOO_LONG, /* 501 */
    SMTP_PATH_NOT_UTF8, /* 8-bit octets that are no UTF-8 */
};

/* Reads "<...>" at the start of text; *used: the octets it takes, the brackets included. */
enum smtp_path_error smtp_path_parse(struct smtp_path *path, struct slice text, size_t *used);

/* A name as EHLO and HELO carry it: printable, without blanks, at most 255 octets. */
bool smtp_helo_valid(struct slice name);
