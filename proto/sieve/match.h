/*
 * match: how a key is compared with a value, by match type, comparator and relation.
 *
 * :matches is linear in the value for each star; :regex is PCRE2's with a bound on its steps and memory. What a match
 * costs is counted, so that the interpreter can hold a budget.
 *
 * Source: RFC 5228 §2.7; RFC 4790 §9 (comparators); RFC 5231 (relations); RFC 5229 §3.2 (match variables);
 * draft-ietf-sieve-regex.
 */
#pragma once
#include "engine/core/slice.h"
#include "proto/sieve/limits.h"

enum sieve_match_type {
    SIEVE_IS,
    SIEVE_CONTAINS,
    SIEVE_MATCHES,
    SIEVE_REGEX,
    SIEVE_COUNT,
    SIEVE_VALUE,
    SIEVE_MATCH_TYPES,
};

enum sieve_relation {
    SIEVE_EQ,
    SIEVE_NE,
    SIEVE_GT,
    SIEVE_GE,
    SIEVE_LT,
    SIEVE_LE,
    SIEVE_RELATIONS,
};

enum sieve_comparator { SIEVE_CASEMAP, SIEVE_OCTET, SIEVE_NUMERIC, SIEVE_COMPARATORS };

/* All three in one number, for the bytecode. */
static inline uint32_t sieve_match_pack(enum sieve_match_type type, enum sieve_relation relation,
                                        enum sieve_comparator comparator)
{
    return (uint32_t)type | (uint32_t)relation << 4 | (uint32_t)comparator << 8;
}

static inline enum sieve_match_type sieve_match_type(uint32_t match)
{
    return (enum sieve_match_type)(match & 15);
}

static inline enum sieve_relation sieve_match_relation(uint32_t match)
{
    return (enum sieve_relation)(match >> 4 & 15);
}

static inline enum sieve_comparator sieve_match_comparator(uint32_t match)
{
    return (enum sieve_comparator)(match >> 8);
}

/* i;ascii-numeric has no substrings, nor patterns (RFC 4790 §9.1.1). */
bool sieve_match_valid(uint32_t match);

/* What the wildcards or groups of the last good match stood for; [0]: all of it. They point into the value. */
struct sieve_captures {
    struct slice values[SIEVE_MATCH_VALUES_MAX];
    unsigned count;
};

/* A compiled regular expression; NULL: *problem says what is wrong with it; empty: memory is short. */
struct sieve_regex;
struct sieve_regex *sieve_regex_open(struct slice pattern, enum sieve_comparator comparator,
                                     char problem[128]);
void sieve_regex_close(struct sieve_regex *regex); /* NULL is fine */

/* One value with one key, but for :count. regex: of the key, when the type is :regex. *captures is filled by :matches
 * and :regex that match; *work grows by the bytes that were looked at. */
bool sieve_match(uint32_t match, struct slice value, struct slice key,
                 struct sieve_captures *captures, uint64_t *work);
bool sieve_regex_match(const struct sieve_regex *regex, struct slice value,
                       struct sieve_captures *captures, uint64_t *work);
/* -1, 0, 1, by the comparator. */
int sieve_compare(enum sieve_comparator comparator, struct slice a, struct slice b);
bool sieve_relate(enum sieve_relation relation, int order);
