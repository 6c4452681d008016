#include "proto/message/wire_writer.h"

#include "proto/message/utf8.h"

#define QUOTED_LINE_MAX 75 /* RFC 2045 §6.7: 76 with the '=' of a soft line break */

static void flush(struct wire_writer *writer)
{
    if (writer->status == 0 && writer->size > 0) {
        writer->status = writer->write(writer->owner, slice_of(writer->buffer, writer->size));
    }
    writer->size = 0;
}

static void put(struct wire_writer *writer, const void *bytes, size_t count)
{
    const uint8_t *from = (const uint8_t *)bytes;
    while (count > 0) {
        size_t room = sizeof(writer->buffer) - writer->size;
        size_t part = count < room ? count : room;
        memcpy(writer->buffer + writer->size, from, part);
        writer->size = (uint16_t)(writer->size + part);
        from += part;
        count -= part;
        if (writer->size == sizeof(writer->buffer)) {
            flush(writer);
        }
    }
}

/* Bytes of a line, none of them CR or LF. */
static void put_text(struct wire_writer *writer, const void *bytes, size_t count)
{
    if (writer->column == 0 && *(const uint8_t *)bytes == '.') {
        put(writer, ".", 1);
    }
    put(writer, bytes, count);
    size_t column = writer->column + count;
    writer->column = (uint16_t)(column < UINT16_MAX ? column : UINT16_MAX);
}

static void put_line_end(struct wire_writer *writer)
{
    put(writer, "\r\n", 2);
    writer->column = 0;
}

/* One byte in quoted-printable, as it is or as =XX. */
static void put_quoted(struct wire_writer *writer, uint8_t byte, bool literal)
{
    static const char digits[] = "0123456789ABCDEF";
    const char escaped[3] = {'=', digits[byte >> 4], digits[byte & 15]};
    size_t count = literal ? 1 : sizeof(escaped);
    if (writer->column + count > QUOTED_LINE_MAX) {
        put_text(writer, "=", 1);
        put_line_end(writer);
    }
    put_text(writer, literal ? (const void *)&byte : escaped, count);
}

/* A blank is literal when something follows it on its line. */
static void blank_end(struct wire_writer *writer, bool literal)
{
    if (writer->blank != 0) {
        put_quoted(writer, writer->blank, literal);
        writer->blank = 0;
    }
}

static void quote(struct wire_writer *writer, uint8_t byte)
{
    blank_end(writer, true);
    if (byte == ' ' || byte == '\t') {
        writer->blank = byte;
    } else {
        put_quoted(writer, byte, byte < 0x80 && byte != '=');
    }
}

/* How many bytes at the start of text may pass as they are; 0: the first becomes '?'. */
static size_t allowed(const struct wire_writer *writer, struct slice text)
{
    uint8_t first = text.bytes[0];
    if (first == '\t') {
        return 1;
    }
    if (first < 0x80) {
        return utf8_printable(text);
    }
    switch ((enum wire_encoding)writer->encoding) {
    case WIRE_ASCII:
        return 0;
    case WIRE_UTF8:
    case WIRE_UTF8_QUOTED:
        return utf8_printable(text);
    case WIRE_ANY_QUOTED:
        break;
    }
    return 1;
}

void wire_writer_text(struct wire_writer *writer, struct slice text)
{
    bool quoted = writer->encoding == WIRE_UTF8_QUOTED || writer->encoding == WIRE_ANY_QUOTED;
    while (text.size > 0) {
        size_t bytes = allowed(writer, text);
        const uint8_t *from = bytes > 0 ? text.bytes : (const uint8_t *)"?";
        size_t count = bytes > 0 ? bytes : 1;
        if (!quoted) {
            put_text(writer, from, count);
        }
        for (size_t i = 0; quoted && i < count; i++) {
            quote(writer, from[i]);
        }
        text = slice_from(text, count);
    }
}

void wire_writer_line_end(struct wire_writer *writer)
{
    blank_end(writer, false);
    put_line_end(writer);
}

void wire_writer_line(struct wire_writer *writer, const char *text)
{
    wire_writer_text(writer, slice_text(text));
    wire_writer_line_end(writer);
}

void wire_writer_open(struct wire_writer *writer, int (*write)(void *owner, struct slice bytes),
                      void *owner)
{
    *writer = (struct wire_writer){.write = write, .owner = owner, .encoding = WIRE_ASCII};
}

void wire_writer_encode(struct wire_writer *writer, enum wire_encoding encoding)
{
    writer->encoding = (uint8_t)encoding;
}

int wire_writer_close(struct wire_writer *writer)
{
    flush(writer);
    return writer->status;
}
