/*
 * match_index: which of many rows an address belongs to, found without asking each of them.
 *
 * Made from what the rows match ("example.org", ".example.org", "user@example.org", "/pattern/i", "*") when a
 * configuration is read; immutable after that, so that all shards may ask it. An address is looked for among the
 * addresses, then the domains, then what is below them (the longest first), then by the patterns in their order, then
 * there is "*".
 *
 * A domain in U-labels and the same in A-labels are one (idna.h), also in addresses; patterns see what was written.
 * A row that matches "" is found by no address.
 *
 * Patterns are PCRE2's, compiled here. Matching is bounded: one that takes too many steps, which
 * peers choose by the address, does not match.
 */
#pragma once
#include "engine/core/slice.h"

struct match_index;

#define MATCH_NONE UINT32_MAX
#define MATCH_PROBLEM_BYTES 160

/* What keeps a row from being found. */
struct match_problem {
    const char *rows; /* what they are called; the caller's to set */
    uint32_t row;
    char text[MATCH_PROBLEM_BYTES];
};

/* 0; -ENOMEM; -EINVAL: the problem tells of the first. The texts are borrowed; one that is NULL or empty is of a row
 * that is found by no address. */
int match_index_open(struct match_index **index, const char *const *matches, uint32_t count,
                     struct match_problem *problem);
void match_index_close(struct match_index *index); /* NULL is fine */

/* The row, or MATCH_NONE. address: the mailbox with its domain, no case. */
uint32_t match_index_find(const struct match_index *index, struct slice address);

/* Is it one that match_index_open takes, if it is a pattern that compiles? */
bool match_is_good(const char *match);
