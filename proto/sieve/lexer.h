/*
 * lexer: a script's tokens, one after the other, for the parser.
 *
 * Strings come decoded: quotes, backslashes, dot-stuffing and "text:" are gone, and their lines end with CRLF
 * whatever the script has.
 *
 * Source: RFC 5228 §2.1-2.4, §8.1.
 */
#pragma once
#include "engine/core/arena.h"
#include "proto/sieve/error.h"

enum sieve_token_kind {
    SIEVE_TOKEN_END,
    SIEVE_TOKEN_IDENTIFIER,
    SIEVE_TOKEN_TAG,
    SIEVE_TOKEN_NUMBER,
    SIEVE_TOKEN_STRING,
    SIEVE_TOKEN_COMMA,
    SIEVE_TOKEN_SEMICOLON,
    SIEVE_TOKEN_PARENTHESIS_OPEN,
    SIEVE_TOKEN_PARENTHESIS_CLOSE,
    SIEVE_TOKEN_BRACKET_OPEN,
    SIEVE_TOKEN_BRACKET_CLOSE,
    SIEVE_TOKEN_BRACE_OPEN,
    SIEVE_TOKEN_BRACE_CLOSE,
};

struct sieve_token {
    enum sieve_token_kind kind;
    uint32_t line, column; /* of its first character */
    struct slice text;     /* of an identifier, a tag (without its colon) or a string */
    uint64_t number;
};

struct sieve_lexer {
    struct slice script; /* borrowed */
    size_t at;
    uint32_t line, column;
    struct arena *arena; /* strings are put there */
    struct sieve_error *error;
};

/* A BOM at its start is passed over. */
void sieve_lexer_open(struct sieve_lexer *lexer, struct slice script, struct arena *arena,
                      struct sieve_error *error);
/* False: *error says why. Behind the last token comes SIEVE_TOKEN_END, again and again. */
bool sieve_lexer_next(struct sieve_lexer *lexer, struct sieve_token *token);
/* "';'", "identifier 'keep'": for messages; borrowed until the next call with the same room. */
const char *sieve_token_name(const struct sieve_token *token, char room[64]);
