#include "proto/dsn/original.h"

#include "proto/dsn/dsn.h"

#define LINE_BYTES_MAX 998 /* RFC 5322 §2.1.1, without CRLF */

enum wire_encoding dsn_original_measure(const struct slice *original, size_t count, size_t *bytes)
{
    size_t line_bytes = 0, line_bytes_max = 0, at = 0;
    bool eight_bit = false;
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < original[i].size && at < DSN_ORIGINAL_BYTES_MAX; j++) {
            uint8_t byte = original[i].bytes[j];
            at++;
            if (byte != '\n') {
                eight_bit |= byte >= 0x80;
                line_bytes += byte != '\r';
                line_bytes_max = line_bytes > line_bytes_max ? line_bytes : line_bytes_max;
                continue;
            }
            if (line_bytes == 0) {
                goto measured;
            }
            line_bytes = 0;
            *bytes = at;
        }
    }
    if (*bytes == 0 || at < DSN_ORIGINAL_BYTES_MAX) {
        *bytes = at; /* one endless line, or all there is */
    }
measured:
    return eight_bit || line_bytes_max > LINE_BYTES_MAX ? WIRE_ANY_QUOTED : WIRE_ASCII;
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
