/*
 * response: what an IMAP server says, taken apart, for programs that are clients: the operator's tool. Pure.
 *
 * A response is a line with the literals in it and what stands behind them:
 *
 *   * 1 FETCH (UID 7 BODY[HEADER.FIELDS (SUBJECT)] {12}\r\nSubject: x\r\n FLAGS (\Seen))\r\n
 *
 * Who collects it asks after each line whether a literal follows. Then it is read token by token, front to back; slices
 * point into it. Nothing is copied, nesting costs nothing.
 *
 * Source: RFC 9051 §9.
 */
#pragma once
#include "engine/core/slice.h"

/* The line ends with a literal's size and CRLF: so many bytes and another line belong to it. */
bool imap_response_literal(struct slice line, uint64_t *bytes);

enum imap_token_kind {
    IMAP_TOKEN_END,   /* nothing stands behind */
    IMAP_TOKEN_ATOM,  /* numbers, flags, NIL and names of items too; "BODY[1.MIME]<0>" is one */
    IMAP_TOKEN_TEXT,  /* quoted, or a literal */
    IMAP_TOKEN_OPEN,  /* ( */
    IMAP_TOKEN_CLOSE, /* ) */
    IMAP_TOKEN_BAD,   /* this is no response; *rest stays */
};

struct imap_token {
    enum imap_token_kind kind;
    struct slice bytes;
    bool quoted; /* has backslashes in it: imap_token_copy takes them out */
};

struct imap_token imap_response_next(struct slice *rest);
/* A token, or a list from ( to ) with all in it, as it stands there. False: BAD or END, or a list without its end. */
bool imap_response_value(struct slice *rest, struct slice *value);
/* What the token says; `out` has room for its bytes. Returns how many it is. */
size_t imap_token_copy(const struct imap_token *token, char *out);
