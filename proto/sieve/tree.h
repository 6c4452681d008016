/*
 * tree: a script as the grammar has it, before anybody asks what its words mean. In an arena, with the places.
 *
 * Source: RFC 5228 §8.2.
 */
#pragma once
#include "proto/sieve/lexer.h"

enum sieve_argument_kind {
    SIEVE_ARGUMENT_TAG,
    SIEVE_ARGUMENT_NUMBER,
    SIEVE_ARGUMENT_STRING,
    SIEVE_ARGUMENT_LIST,
};

struct sieve_string {
    uint32_t line, column;
    struct slice text;
    struct sieve_string *next;
};

struct sieve_argument {
    enum sieve_argument_kind kind;
    uint32_t line, column;
    uint64_t number;
    struct slice tag;             /* without its colon */
    struct sieve_string *strings; /* of a string: one */
    uint32_t string_count;
    struct sieve_argument *next;
};

/* A command, or a test. */
struct sieve_node {
    struct slice name;
    uint32_t line, column;
    struct sieve_argument *arguments;
    struct sieve_node *tests;
    uint32_t test_count;
    bool tests_listed; /* in parentheses */
    bool has_block;
    struct sieve_node *block;
    struct sieve_node *next;
};

/* False: *error says why. Slices point into the script or the arena. */
bool sieve_tree_parse(struct slice script, struct arena *arena, struct sieve_node **commands,
                      struct sieve_error *error);
