/* imap_grammar: tables of commands that are good, with their trees (imap_dump), and of those that are not. */
#pragma once
#include "proto/imap/parser.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

struct imap_good {
    const char *text, *tree;
};

/* The text is parsed in memory of its very size, so that a sanitizer sees what is read behind it. */
enum imap_parse imap_grammar_parse(struct slice text, bool utf8, char *dump, size_t room);
/* Each fails the test when it comes to something else. */
void imap_grammar_good(const struct imap_good *rows, size_t count);
void imap_grammar_bad(const char *const *rows, size_t count, enum imap_parse wanted);
#define GOOD(rows) imap_grammar_good(rows, ROWS(rows))
#define BAD(rows) imap_grammar_bad(rows, ROWS(rows), IMAP_PARSE_BAD)
