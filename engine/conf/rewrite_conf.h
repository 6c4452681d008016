/*
 * rewrite_conf: the keys of rewriting and of maps.
 *
 * A part of the relay's table (relay_conf.c), the only caller.
 */
#pragma once
#include "engine/conf/reader.h"

#define MAP_NAME_EXPECTED                                                                          \
    "a map such as texthash:/etc/tubepost/virtual (also aliases, pcre, cidr, lmdb, sqlite, "       \
    "pgsql, "                                                                                      \
    "ldap with a file, or inline:{a=b})"

extern const struct reader_key rewrite_conf_keys[]; /* section rewrite */

/* "KIND:WHERE", of a kind that there is. */
bool map_name_is_good(const char *text);
