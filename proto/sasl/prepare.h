/*
 * prepare: SASLprep, which makes the same name or password the same octets in whatever way it was typed.
 *
 * Called by the machine (server.h) for names, and by who takes a name and a password without SASL, so that one
 * password serves both. No state; what was in the heap meanwhile is wiped.
 *
 * Source: RFC 4013. Unassigned characters are prohibited in all that we prepare (§2.5, as of stored strings).
 */
#pragma once
#include "engine/core/slice.h"

#define SASL_PREPARE_BYTES_MAX 1024u /* of text; longer: false */

/* Writes to `room`, at most `room_bytes`; *prepared lies there. False: prohibited or unassigned characters, a NUL, not
 * UTF-8, nothing left of it, too long, or no memory. Empty text stays empty. */
bool sasl_prepare(struct slice text, uint8_t *room, size_t room_bytes, struct slice *prepared);
