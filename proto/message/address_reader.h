/*
 * address_reader: the addresses of a header field with all that stands beside them, for ENVELOPE, SEARCH and SORT.
 *
 * Takes any text, ends in time in proportion to it, and never fails but for memory: what cannot be read is `broken`,
 * or lacks a part, and the reading goes on behind the next comma. Encoded words and bytes above 127 are kept as they
 * are. Quotes and backslashes go; comments too, but the last one names an address that has no display name.
 *
 * Source: RFC 5322 §3.4, §4.4 (routes, empty elements), RFC 6532.
 */
#pragma once
#include "engine/core/arena.h"

enum address_kind { ADDRESS_MAILBOX, ADDRESS_GROUP, ADDRESS_GROUP_END };

/* Bytes are NULL where a part is missing. */
struct address {
    struct address *next;
    struct slice name;  /* of the mailbox or group */
    struct slice route; /* "@a,@b" */
    struct slice local;
    struct slice domain;
    uint8_t kind; /* enum address_kind */
    bool broken;  /* what stands in <> is no address */
    bool route_broken;
};

/* Appends those of `text`, folded or not, to the list that ends at *end (a pointer to its last `next`). Returns its new
 * end. They lie in the arena; when it is full the list ends early. A group that is open at the end is ended. */
struct address **address_read(struct arena *arena, struct slice text, struct address **end);
