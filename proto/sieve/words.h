/*
 * words: the commands, tests, tags and extensions that we know, and what belongs to each.
 *
 * Source: RFC 5228 and the RFCs of the extensions (docs/sieve.md lists them).
 */
#pragma once
#include "engine/core/slice.h"

/* X(name, what `require` calls it) */
#define SIEVE_EXTENSIONS(X)                                                                        \
    X(FILEINTO, "fileinto")                                                                        \
    X(REJECT, "reject")                                                                            \
    X(EREJECT, "ereject")                                                                          \
    X(ENVELOPE, "envelope")                                                                        \
    X(ENCODED_CHARACTER, "encoded-character")                                                      \
    X(VACATION, "vacation")                                                                        \
    X(VACATION_SECONDS, "vacation-seconds")                                                        \
    X(SUBADDRESS, "subaddress")                                                                    \
    X(RELATIONAL, "relational")                                                                    \
    X(REGEX, "regex")                                                                              \
    X(IMAP4FLAGS, "imap4flags")                                                                    \
    X(COPY, "copy")                                                                                \
    X(INCLUDE, "include")                                                                          \
    X(BODY, "body")                                                                                \
    X(VARIABLES, "variables")                                                                      \
    X(ENVIRONMENT, "environment")                                                                  \
    X(MAILBOX, "mailbox")                                                                          \
    X(DATE, "date")                                                                                \
    X(INDEX, "index")                                                                              \
    X(IHAVE, "ihave")                                                                              \
    X(DUPLICATE, "duplicate")                                                                      \
    X(EDITHEADER, "editheader")                                                                    \
    X(NUMERIC, "comparator-i;ascii-numeric")                                                       \
    X(OCTET, "comparator-i;octet")                                                                 \
    X(CASEMAP, "comparator-i;ascii-casemap")

#define SIEVE_ENUMERATOR(name, text) SIEVE_EXTENSION_##name,
enum sieve_extension {
    SIEVE_EXTENSION_NONE,
    SIEVE_EXTENSIONS(SIEVE_ENUMERATOR) SIEVE_EXTENSION_COUNT
};
#undef SIEVE_ENUMERATOR

#define SIEVE_EXTENSION_BIT(name) (1u << SIEVE_EXTENSION_##name)
#define SIEVE_EXTENSIONS_ALL ((1u << SIEVE_EXTENSION_COUNT) - 1)

enum sieve_word {
    SIEVE_WORD_REQUIRE,
    SIEVE_WORD_IF,
    SIEVE_WORD_ELSIF,
    SIEVE_WORD_ELSE,
    SIEVE_WORD_STOP,
    SIEVE_WORD_KEEP,
    SIEVE_WORD_DISCARD,
    SIEVE_WORD_FILEINTO,
    SIEVE_WORD_REDIRECT,
    SIEVE_WORD_REJECT,
    SIEVE_WORD_EREJECT,
    SIEVE_WORD_VACATION,
    SIEVE_WORD_SETFLAG,
    SIEVE_WORD_ADDFLAG,
    SIEVE_WORD_REMOVEFLAG,
    SIEVE_WORD_SET,
    SIEVE_WORD_INCLUDE,
    SIEVE_WORD_RETURN,
    SIEVE_WORD_GLOBAL,
    SIEVE_WORD_ADDHEADER,
    SIEVE_WORD_DELETEHEADER,
    SIEVE_WORD_ERROR,
    SIEVE_WORD_TESTS, /* from here on */
    SIEVE_WORD_TRUE = SIEVE_WORD_TESTS,
    SIEVE_WORD_FALSE,
    SIEVE_WORD_NOT,
    SIEVE_WORD_ALLOF,
    SIEVE_WORD_ANYOF,
    SIEVE_WORD_ADDRESS,
    SIEVE_WORD_ENVELOPE,
    SIEVE_WORD_EXISTS,
    SIEVE_WORD_HEADER,
    SIEVE_WORD_SIZE,
    SIEVE_WORD_STRING,
    SIEVE_WORD_HASFLAG,
    SIEVE_WORD_DATE,
    SIEVE_WORD_CURRENTDATE,
    SIEVE_WORD_BODY,
    SIEVE_WORD_ENVIRONMENT,
    SIEVE_WORD_MAILBOXEXISTS,
    SIEVE_WORD_IHAVE,
    SIEVE_WORD_DUPLICATE,
};

/* Tags that come together. */
enum {
    SIEVE_TAGS_MATCH = 1,
    SIEVE_TAGS_ADDRESS = 2,
    SIEVE_TAGS_INDEX = 4,
    SIEVE_TAGS_FLAGS = 8,
    SIEVE_TAGS_COPY = 16,
    SIEVE_TAGS_CREATE = 32,
    SIEVE_TAGS_VACATION = 64,
    SIEVE_TAGS_SET = 128,
    SIEVE_TAGS_INCLUDE = 256,
    SIEVE_TAGS_ADDHEADER = 512,
    SIEVE_TAGS_DELETEHEADER = 1024,
    SIEVE_TAGS_SIZE = 2048,
    SIEVE_TAGS_ZONE = 4096,
    SIEVE_TAGS_ORIGINALZONE = 8192,
    SIEVE_TAGS_BODY = 16384,
    SIEVE_TAGS_DUPLICATE = 32768,
};

enum sieve_tag {
    SIEVE_TAG_COMPARATOR,
    SIEVE_TAG_IS,
    SIEVE_TAG_CONTAINS,
    SIEVE_TAG_MATCHES,
    SIEVE_TAG_REGEX,
    SIEVE_TAG_COUNT_OF, /* :count */
    SIEVE_TAG_VALUE,
    SIEVE_TAG_ALL,
    SIEVE_TAG_LOCALPART,
    SIEVE_TAG_DOMAIN,
    SIEVE_TAG_USER,
    SIEVE_TAG_DETAIL,
    SIEVE_TAG_INDEX,
    SIEVE_TAG_LAST,
    SIEVE_TAG_FLAGS,
    SIEVE_TAG_COPY,
    SIEVE_TAG_CREATE,
    SIEVE_TAG_DAYS,
    SIEVE_TAG_SECONDS,
    SIEVE_TAG_SUBJECT,
    SIEVE_TAG_FROM,
    SIEVE_TAG_ADDRESSES,
    SIEVE_TAG_MIME,
    SIEVE_TAG_HANDLE,
    SIEVE_TAG_LOWER,
    SIEVE_TAG_UPPER,
    SIEVE_TAG_LOWERFIRST,
    SIEVE_TAG_UPPERFIRST,
    SIEVE_TAG_QUOTEWILDCARD,
    SIEVE_TAG_QUOTEREGEX,
    SIEVE_TAG_LENGTH,
    SIEVE_TAG_PERSONAL,
    SIEVE_TAG_GLOBAL,
    SIEVE_TAG_ONCE,
    SIEVE_TAG_OPTIONAL,
    SIEVE_TAG_OVER,
    SIEVE_TAG_UNDER,
    SIEVE_TAG_ZONE,
    SIEVE_TAG_ORIGINALZONE,
    SIEVE_TAG_RAW,
    SIEVE_TAG_CONTENT,
    SIEVE_TAG_TEXT,
    SIEVE_TAG_HEADER,
    SIEVE_TAG_UNIQUEID,
    SIEVE_TAGS,
};

enum sieve_tests { SIEVE_TESTS_NONE, SIEVE_TESTS_ONE, SIEVE_TESTS_MANY };

struct sieve_word_shape {
    const char *name;
    enum sieve_extension extension;
    const char *positional; /* s string, l string list, n number; behind '?': may be left out */
    uint32_t tags;
    enum sieve_tests tests;
    bool block;
};

struct sieve_tag_shape {
    const char *name;
    enum sieve_tag tag;
    enum sieve_extension extension;
    char value;    /* s, l, n; '\0': none */
    uint8_t group; /* at most one of those with the same number; 0: none */
    uint32_t tags; /* where it may stand */
};
#define SIEVE_TAG_GROUPS 10

extern const struct sieve_word_shape sieve_word_shapes[]; /* by enum sieve_word */

/* -1: there is none. tests: among the tests, else among the commands. */
int sieve_word_find(struct slice name, bool tests);
/* Of those that may stand there; NULL: there is none. */
const struct sieve_tag_shape *sieve_tag_find(struct slice name, uint32_t tags);
/* SIEVE_EXTENSION_NONE: there is none. */
enum sieve_extension sieve_extension_find(struct slice name);
const char *sieve_extension_name(enum sieve_extension extension);
