/*
 * rewrite_lists: which of the addresses that a rewriting has come by were given by a mailing list.
 *
 * An alias NAME is one when there is an alias owner-NAME, too: what goes to its members comes from that address, so that
 * its owner hears of those that are gone, and not whoever wrote to the list.
 *
 * For rewrite.c alone. Source: RFC 5321 §3.9.2; aliases(5) of Postfix.
 */
#pragma once
#include "engine/core/slice.h"

struct rewrite_list;

struct rewrite_lists { /* zeroed before its first use */
    struct rewrite_list *lists;
    uint32_t count, size;
    uint32_t at; /* the first of whom it is not known whether it has an owner */
};

/* An alias has given further addresses: the list that they come from, its parent if it can be none; or -ENOMEM. parent:
 * the one that the alias comes from, or 0. name: of the alias. */
int rewrite_lists_open(struct rewrite_lists *lists, uint32_t parent, struct slice name,
                       struct slice domain);
/* "owner-NAME" of the list at `at`, to be looked up. False: each is known. */
bool rewrite_lists_ask(struct rewrite_lists *lists, struct slice *alias);
void rewrite_lists_told(struct rewrite_lists *lists, bool has_owner);
/* "owner-NAME@DOMAIN" of the nearest list with an owner; empty: there is none. */
struct slice rewrite_lists_owner(const struct rewrite_lists *lists, uint32_t list);
/* Is it an owner, or a list that he has given? */
bool rewrite_lists_of_owner(const struct rewrite_lists *lists, uint32_t list);
void rewrite_lists_free(struct rewrite_lists *lists);
