/*
 * address_parts: user, tag and domain of a recipient's address, as maps look for them.
 *
 * rewrite.c and transport_lookup.c call this. Pure: no allocation, no state; the parts point into the address.
 *
 *   user + "+tag"      "@" domain
 *   ╰── local part ──╯
 *
 * Which character begins a tag is the operator's (rewrite.extension). A tag needs a user before it, and what is
 * quoted has none. Where the character is "-", "owner-list" and "list-request" are names and no tags, in any case:
 * lists have had these addresses (RFC 2142 §6 for the second) before tags were thought of.
 */
#pragma once
#include "engine/core/slice.h"

struct address_parts {
    struct slice local;  /* with the tag */
    struct slice user;   /* without it */
    struct slice tag;    /* with the character before it; empty: none */
    struct slice domain; /* behind the last "@"; empty: none */
};

/* `address` is borrowed, as long as the parts; without <>. extension: 0: there are no tags. */
struct address_parts address_parts_of(struct slice address, char extension);
