/*
 * body_structure: BODY and BODYSTRUCTURE of a message from its parts.
 *
 * Values are as the message has them; a parameter that was continued is one, with the percent signs and the charset of
 * RFC 2231. A multipart without parts is shown with one empty text, since the syntax wants one.
 *
 * Source: RFC 9051 §7.5.2, §9 (body), RFC 3501 §7.4.2.
 */
#pragma once
#include "proto/imap/writer.h"
#include "proto/message/structure.h"

enum imap_body_form { IMAP_BODY, IMAP_BODYSTRUCTURE /* with extension data */ };

/* `arena`: for addresses, which are not used any more afterwards. */
void imap_write_body(struct imap_writer *writer, struct arena *arena,
                     const struct message_part *part, enum imap_body_form form);
