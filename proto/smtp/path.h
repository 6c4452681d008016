/*
 * path: may an address of ours be written into a command?
 *
 * The client asks before MAIL and RCPT: control characters, and what would end the path outside of
 * a quoted string, would let an address carry commands or parameters. Whether it is a good address
 * is for others to say.
 *
 * Source: RFC 5321 §4.1.2; the limit is SMTP_ADDRESS_BYTES_MAX.
 */
#pragma once
#include "engine/core/slice.h"

/* Can it stand between '<' and '>'? The empty path can. *ascii: it has no byte above 0x7f. */
bool smtp_path_writable(struct slice path, bool *ascii);
