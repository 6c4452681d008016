#include "proto/dsn/original.h"

#include "proto/dsn/dsn.h"
#include "proto/message/utf8.h"

#define LINE_BYTES_MAX 998 /* RFC 5322 §2.1.1, without CRLF */

/* UTF-8 across slices: a character is judged when all of it is there. */
struct text_reader {
    enum dsn_text text;
    uint8_t character[4];
    uint8_t size, wanted; /* bytes of it; 0: none is begun */
};

static void text_read(struct text_reader *reader, uint8_t byte)
{
    if (reader->text == DSN_TEXT_UNKNOWN) {
        return;
    }
    if (reader->wanted == 0 && byte >= 0x80) {
        reader->text = DSN_TEXT_UTF8;
        reader->wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    }
    if (reader->wanted == 0) {
        return;
    }
    reader->character[reader->size++] = byte;
    if (reader->size == reader->wanted) {
        struct slice character = slice_of(reader->character, reader->size);
        if (utf8_printable(character) != reader->wanted) {
            reader->text = DSN_TEXT_UNKNOWN;
        }
        reader->size = reader->wanted = 0;
    }
}

void dsn_original_measure(const struct slice *pieces, size_t count, struct dsn_original *original)
{
    struct text_reader reader = {0};
    size_t line_bytes = 0, at = 0;
    *original = (struct dsn_original){0};
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < pieces[i].size && at < DSN_ORIGINAL_BYTES_MAX; j++) {
            uint8_t byte = pieces[i].bytes[j];
            at++;
            text_read(&reader, byte);
            if (byte != '\n') {
                line_bytes += byte != '\r';
                original->has_long_lines = original->has_long_lines || line_bytes > LINE_BYTES_MAX;
                continue;
            }
            if (line_bytes == 0) {
                goto measured;
            }
            line_bytes = 0;
            original->bytes = at;
        }
    }
    if (original->bytes == 0 || at < DSN_ORIGINAL_BYTES_MAX) {
        original->bytes = at; /* one endless line, or all there is */
    }
measured:
    /* A character that the bound cuts lies behind what is kept. */
    original->text = reader.wanted > 0 && original->bytes == at ? DSN_TEXT_UNKNOWN : reader.text;
}

/* CR is written with its LF: one that stands alone is no line end, and becomes '?' as any control
 * character. */
void dsn_original_write(struct wire_writer *writer, const struct slice *original, size_t count,
                        size_t bytes)
{
    bool line_start = true, carriage_return = false;
    for (size_t i = 0; i < count && bytes > 0; i++) {
        struct slice part = slice_first(original[i], bytes);
        bytes -= part.size;
        for (size_t j = 0; j < part.size; j++) {
            uint8_t byte = part.bytes[j];
            if (byte == '\n') {
                wire_writer_line_end(writer);
                line_start = true;
                carriage_return = false;
                continue;
            }
            if (carriage_return) {
                wire_writer_text(writer, slice_of("\r", 1));
            }
            carriage_return = byte == '\r';
            if (!carriage_return && !(line_start && byte == '.')) {
                wire_writer_text(writer, slice_of(&byte, 1));
            }
            line_start = false;
        }
    }
    if (!line_start) {
        wire_writer_line_end(writer);
    }
}
