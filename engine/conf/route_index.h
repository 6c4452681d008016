/*
 * route_index: which route takes a recipient, found without asking each of them.
 *
 * Made from the routes of a configuration when it is read; immutable after that, so that all shards
 * may ask it. A recipient is looked for among the addresses, then the domains, then what is below
 * them (the longest first), then by the patterns in their order, then there is "*".
 *
 * Patterns are PCRE2's, compiled here. Matching is bounded: one that takes too many steps, which
 * peers choose by the address, does not match.
 */
#pragma once
#include "engine/conf/conf.h"

struct route_index;

#define ROUTE_PROBLEM_BYTES 160

/* What keeps a route from being found. */
struct route_problem {
    uint32_t route;
    char text[ROUTE_PROBLEM_BYTES];
};

/* 0; -ENOMEM; -EINVAL: the problem tells of the first. The routes are borrowed. */
int route_index_open(struct route_index **index, const struct conf_route *routes, uint32_t count,
                     struct route_problem *problem);
void route_index_close(struct route_index *index); /* NULL is fine */

/* NULL: none. address: the mailbox with its domain, no case. */
const struct conf_route *route_index_find(const struct route_index *index, struct slice address);

/* Is it one that route_index_open takes, if it is a pattern that compiles? */
bool route_match_is_good(const char *match);
