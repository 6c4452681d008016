/*
 * address_list: the mailboxes that a To:, Cc: or Bcc: field names, one after the other.
 *
 * Takes the field's text behind its colon, folded or not. Display names, comments, groups' names and routes are passed
 * over; quoted local parts stay quoted.
 *
 * Source: RFC 5322 §3.4, §4.4 (routes).
 */
#pragma once
#include "engine/core/slice.h"

/* The next mailbox, "local@domain" or "local": 1, and how long it is in *size; 0: none is left; -EINVAL: the text ends
 * inside of something; -E2BIG: longer than room, the list goes on behind it. */
int address_list_next(struct slice *list, char *mailbox, size_t room, size_t *size);
