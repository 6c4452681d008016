/*
 * ldap_text: names that come from outside, in filters and distinguished names of LDAP.
 *
 * Both are a query_escape (query.h).
 */
#pragma once
#include "engine/core/slice.h"

/* RFC 4515 §3. */
size_t ldap_escape_filter(void *owner, char *to, size_t room, struct slice from);
/* RFC 4514 §2.4; all that is no letter, digit, "-", ".", "_" or "@" of ASCII, nor beyond it, is written in hexadecimal. */
size_t ldap_escape_name(void *owner, char *to, size_t room, struct slice from);
