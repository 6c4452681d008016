/*
 * envelope: the ENVELOPE of a message from the fields of its header.
 *
 * For FETCH ENVELOPE, and BODYSTRUCTURE of messages within. `fields` are those of a part that is a message
 * (proto/message/structure.h); for a header alone, feed it to a structure and take its root.
 *
 * As Dovecot does: of several Date, Subject, In-Reply-To or Message-ID fields the last counts, addresses of several
 * fields are put together; an address that lacks a part, which NIL would make a group, says so.
 *
 * Source: RFC 9051 §7.5.2, RFC 3501 §7.4.2.
 */
#pragma once
#include "proto/imap/writer.h"
#include "proto/message/structure.h"

/* `arena`: for the addresses, which are not used any more afterwards. */
void imap_write_envelope(struct imap_writer *writer, struct arena *arena,
                         struct message_field *const fields[ENVELOPE_FIELDS]);
