/*
 * parser: the text of a command, with its literals in place, into a tree (command.h).
 *
 * The server machine calls it with a command that is whole. The text is the parser's to change: quoted strings lose
 * their escapes where they lie. Nothing is guessed: what the grammar does not allow is IMAP_PARSE_BAD, with a text that
 * says what was expected.
 *
 * Time and memory are bounded by the size of the text, recursion by IMAP_SEARCH_DEPTH_MAX.
 *
 * Source: RFC 9051 §9, RFC 3501 §9, and those that command.h names.
 */
#pragma once
#include "proto/imap/command.h"

enum imap_parse {
    IMAP_PARSE_GOOD,
    IMAP_PARSE_BAD,     /* no such command, or not so: tagged BAD */
    IMAP_PARSE_NAME,    /* a mailbox name that can never be: NO [CANNOT] */
    IMAP_PARSE_CHARSET, /* NO [BADCHARSET (...)] */
    IMAP_PARSE_LIMIT,   /* too much of something: NO [LIMIT] */
    IMAP_PARSE_INCOMPLETE, /* of APPEND: the text ends with the head of a literal that is not the message */
};

struct imap_parser {
    struct arena *arena;
    uint8_t *at, *end;
    bool utf8;         /* names and quoted strings are UTF-8: UTF8=ACCEPT or IMAP4rev2 is enabled */
    uint8_t result;    /* enum imap_parse; what was found first */
    const char *error; /* static text; NULL when good */
};

/* What stands before the arguments. */
struct imap_command_head {
    struct slice tag;  /* empty: there is none that is valid */
    struct slice word; /* the command's name as the client wrote it, "UID FETCH" without UID */
    bool known;
    bool uid;
    enum imap_command_kind kind;
};

/* text: without its last CRLF; borrowed, and changed. */
void imap_parser_open(struct imap_parser *parser, struct arena *arena, uint8_t *text, size_t bytes,
                      bool utf8);

/* Reads tag and name, and stands before the arguments then. False: it is no command, *head says what was found. */
bool imap_parse_head(struct imap_parser *parser, struct imap_command_head *head);

/* The arguments of any command but APPEND and REPLACE, behind the head. What is wrong: result and error. */
enum imap_parse imap_parse_arguments(struct imap_parser *parser,
                                     const struct imap_command_head *head,
                                     struct imap_command *command);

/* ---- APPEND and REPLACE: their text comes with the messages between ---- */

/* What a message consists of next. */
enum imap_append_step {
    IMAP_APPEND_FAILED, /* result and error, or IMAP_PARSE_INCOMPLETE: nothing was used up */
    IMAP_APPEND_LITERAL, /* *bytes of the message or of a part follow; the text ended with the literal's head */
    IMAP_APPEND_OPEN,  /* CATENATE ( was read: parts follow */
    IMAP_APPEND_URL,   /* *url is the next part */
    IMAP_APPEND_CLOSE, /* the message is whole */
    IMAP_APPEND_NEXT,  /* another message follows: imap_parse_append_message */
    IMAP_APPEND_END,   /* the command is whole */
};

/* Mailbox and number, behind the head. False: as IMAP_APPEND_FAILED. */
bool imap_parse_append_head(struct imap_parser *parser, const struct imap_command_head *head,
                            struct imap_append *append);
/* Flags, date and how the message comes: LITERAL or OPEN. */
enum imap_append_step imap_parse_append_message(struct imap_parser *parser,
                                                struct imap_append *append);
/* Behind OPEN, a literal or a URL of it: LITERAL, URL or CLOSE. first: nothing stood behind the parenthesis yet. */
enum imap_append_step imap_parse_append_part(struct imap_parser *parser, struct imap_append *append,
                                             bool first, struct slice *url);
/* Behind a message's literal that was no part: CLOSE, when what belongs to it is there. */
enum imap_append_step imap_parse_append_close(struct imap_parser *parser,
                                              const struct imap_append *append);
/* Behind a message: NEXT or END. */
enum imap_append_step imap_parse_append_after(struct imap_parser *parser,
                                              const struct imap_append *append);

/* The head of a literal: "{5}", "{5+}", "~{5}", "~{5+}", with CRLF at the end of text when crlf, else right at it.
 * False: text ends with none. A number that no literal can have is UINT64_MAX. */
struct imap_literal_head {
    uint64_t bytes;
    bool no_wait; /* "+": it follows unasked (RFC 7888) */
    bool binary;  /* "~" */
};
bool imap_literal_head_find(struct slice line, struct imap_literal_head *head);
