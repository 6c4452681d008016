/*
 * section: which bytes of a message BODY[section]<partial> and BINARY[section] are.
 *
 * For FETCH. A section is a range of the message, which the caller reads from its store, but for HEADER.FIELDS, which is
 * made from the header's text, and BINARY, of which the caller takes the transfer encoding off.
 *
 * Part numbers: a multipart has 1, 2, ...; a message that is not multipart has 1, its body; of a message within, they
 * go on in its own parts. As Dovecot does, ".1" of a part without parts is that part, once.
 *
 * Source: RFC 9051 §6.4.5, RFC 3501 §6.4.5, RFC 3516 §4.
 */
#pragma once
#include "proto/imap/writer.h"
#include "proto/message/structure.h"
#include "proto/message/transfer.h"

enum section_text {
    SECTION_ALL,    /* the message, or the body of a part */
    SECTION_HEADER, /* of the message, or of the one within a part; for HEADER.FIELDS too */
    SECTION_TEXT,   /* its body */
    SECTION_MIME,   /* the header of a part */
};

enum section_fields { SECTION_FIELDS /* those named */, SECTION_FIELDS_NOT /* all but those */ };

struct section_range {
    uint64_t offset, bytes; /* in the message */
};

/* NULL: there is no such part. `count` numbers, at least one. */
const struct message_part *section_part(const struct message_part *root, const uint32_t *numbers,
                                        size_t count);
/* False, and the range is empty: there is no such section (the answer is an empty string, or NIL). */
bool section_find(const struct message_part *root, const uint32_t *numbers, size_t count,
                  enum section_text text, struct section_range *range);
/* <first.bytes> of it; empty behind its end. */
struct section_range section_partial(struct section_range range, uint64_t first, uint64_t bytes);

/* Appends the fields of `header`, and the empty line behind them unless it has none: a message that ends in its header
 * (RFC 9051 §6.4.5). Names in any case. */
void section_fields_write(struct imap_writer *writer, struct slice header,
                          const struct slice *names, size_t count, enum section_fields which);

/* What BINARY[] has to take off: TRANSFER_UNKNOWN asks for NO [UNKNOWN-CTE]. Of a multipart or a message, and without
 * numbers, nothing is taken off: parts within keep theirs. False: there is no such part. */
bool section_binary(const struct message_part *root, const uint32_t *numbers, size_t count,
                    struct section_range *range, enum transfer_encoding *encoding);
/* For BINARY.SIZE: how many bytes this piece of the body gives, and at its end (transfer_close). */
uint64_t section_binary_bytes(struct transfer_decoder *decoder, struct slice piece);
uint64_t section_binary_end(struct transfer_decoder *decoder);
