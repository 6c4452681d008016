/*
 * names: the names of mailboxes, and the patterns of LIST.
 *
 * Inside, a name is UTF-8, its levels separated by '/', its first level "INBOX" whenever it is that in any case. On the
 * wire it is that, or modified UTF-7 as long as the client has not asked for UTF-8. Who has a canonical name may build
 * a path from it: no level is empty, "." or "..", and there are no control characters.
 *
 * Pure functions; results lie in the caller's arena.
 *
 * Source: RFC 3501 §5.1, §6.3.8; RFC 9051 §5.1, §6.3.9; RFC 6855 §3.
 */
#pragma once
#include "engine/core/arena.h"
#include "engine/core/limits.h"

#define IMAP_SEPARATOR '/'

/* What a name may not be. */
enum imap_name_fault {
    IMAP_NAME_GOOD,
    IMAP_NAME_ENCODING,  /* no modified UTF-7, or not the only way to write it; no UTF-8 */
    IMAP_NAME_LONG,      /* as a whole, a level of it, or too many levels */
    IMAP_NAME_LEVEL,     /* a level is empty, "." or ".."; or no level at all */
    IMAP_NAME_CHARACTER, /* a control character, a line or paragraph separator */
    IMAP_NAME_MEMORY,
};

/* Modified UTF-7 to UTF-8. Refuses what has a shorter or another way to be written, so that no two texts are one name.
 * *text is empty unless IMAP_NAME_GOOD. Wildcards are ordinary here: it does for patterns too. */
enum imap_name_fault imap_utf7_decode(struct arena *arena, struct slice utf7, struct slice *text);

/* UTF-8 (well formed) to modified UTF-7. False: no memory. */
bool imap_utf7_encode(struct arena *arena, struct slice text, struct slice *utf7);

/* Valid UTF-8, whatever it says. */
bool imap_utf8_valid(struct slice text);

/* The canonical name of what a client sent, in UTF-8 (utf8) or in modified UTF-7. One separator at the end is dropped
 * (RFC 3501 §6.3.3). *name is empty unless IMAP_NAME_GOOD; it lies in the arena. */
enum imap_name_fault imap_name_read(struct arena *arena, struct slice sent, bool utf8,
                                    struct slice *name);

/* The same for something that is UTF-8 already: may it be a name? No INBOX is made canonical. */
enum imap_name_fault imap_name_check(struct slice name);

/* Wildcards are legal in names that exist, but not in a new one: nobody could list it alone. */
bool imap_name_has_wildcard(struct slice name);

/* The pattern of LIST and LSUB: the reference with the pattern behind it, decoded, runs of wildcards made one. At most
 * IMAP_MAILBOX_BYTES_MAX. */
enum imap_name_fault imap_pattern_read(struct arena *arena, struct slice reference,
                                       struct slice pattern, bool utf8, struct slice *joined);

/* Does the canonical name match the pattern that imap_pattern_read gave? '*' is anything, '%' anything within a level,
 * INBOX is matched in any case. Time is the product of their sizes at the most. */
bool imap_pattern_match(struct slice pattern, struct slice name);
