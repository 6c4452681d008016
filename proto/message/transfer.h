/*
 * transfer: takes the content transfer encoding off a body: base64, quoted-printable.
 *
 * For BINARY[], SEARCH and PREVIEW. A stream: pieces in, pieces out, of any size, nothing is allocated. What is no part
 * of the encoding is passed over (base64) or kept (quoted-printable), as receivers do, and remembered as `broken`.
 *
 * Source: RFC 2045 §6.7, §6.8.
 */
#pragma once
#include "engine/core/slice.h"

enum transfer_encoding {
    TRANSFER_IDENTITY, /* 7bit, 8bit, binary */
    TRANSFER_QUOTED_PRINTABLE,
    TRANSFER_BASE64,
    TRANSFER_UNKNOWN,
};

struct transfer_decoder {
    uint8_t encoding; /* enum transfer_encoding, not TRANSFER_UNKNOWN */
    bool broken;
    bool padded;  /* base64: '=' has come */
    uint8_t bits; /* base64: how many of `value` are not yet out */
    uint32_t value;
    uint32_t held_size; /* quoted-printable: bytes of which is not yet known what they are */
    uint8_t held[128];  /* "=", "=A", "=  \r", or blanks that may end a line */
};

enum transfer_encoding transfer_encoding_of(struct slice name);
void transfer_open(struct transfer_decoder *decoder, enum transfer_encoding encoding);
/* Takes off *input what it can, writes at most `room` bytes, returns how many. Call it again until *input is empty.
 * `room` is at least TRANSFER_ROOM_MIN. */
size_t transfer_decode(struct transfer_decoder *decoder, struct slice *input, uint8_t *out,
                       size_t room);
/* There is no more input: what was held. At most TRANSFER_ROOM_MIN bytes. */
size_t transfer_close(struct transfer_decoder *decoder, uint8_t *out);

#define TRANSFER_ROOM_MIN 256u
