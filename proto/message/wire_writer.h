/*
 * wire_writer: writes a message that we compose ourselves in wire form: CRLF lines, dot-stuffed.
 *
 * For delivery reports. Text from peers can be handed in as it is: what would end a line, or steer
 * a terminal, becomes '?'; lines end only where wire_writer_line_end says so.
 *
 * Bytes leave by a callback, in pieces of some hundred bytes. The first answer of it that is not 0
 * is kept, and nothing is written after it.
 *
 * Source: RFC 5321 §4.5.2 (dots), RFC 2045 §6.7 (quoted-printable).
 */
#pragma once
#include "engine/core/slice.h"

enum wire_encoding {
    WIRE_ASCII,       /* all else becomes '?' */
    WIRE_UTF8,        /* printable UTF-8; all else becomes '?' */
    WIRE_UTF8_QUOTED, /* the same in quoted-printable */
    WIRE_ANY_QUOTED,  /* any byte but control characters, in quoted-printable */
};

struct wire_writer {
    int (*write)(void *owner, struct slice bytes);
    void *owner;
    int status;
    uint8_t encoding; /* enum wire_encoding */
    uint8_t blank;    /* quoted-printable: a space or tab that is not yet written, or 0 */
    uint16_t column;  /* bytes of this line so far, without the stuffed dot */
    uint16_t size;    /* bytes in the buffer */
    uint8_t buffer[512];
};

void wire_writer_open(struct wire_writer *writer, int (*write)(void *owner, struct slice bytes),
                      void *owner);
/* From the next line on; call it at the start of a line. */
void wire_writer_encode(struct wire_writer *writer, enum wire_encoding encoding);
void wire_writer_text(struct wire_writer *writer, struct slice text);
void wire_writer_line_end(struct wire_writer *writer);
/* Text and the end of its line. `text` is our own. */
void wire_writer_line(struct wire_writer *writer, const char *text);
/* Writes what is left. 0, or the first answer of the callback that was not. */
int wire_writer_close(struct wire_writer *writer);
