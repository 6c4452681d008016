#include "proto/sieve/error.h"
#include "proto/message/utf8.h"
#include <stdarg.h>
#include <stdio.h>

void sieve_error_set(struct sieve_error *error, uint32_t line, uint32_t column, const char *format,
                     ...)
{
    char text[SIEVE_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    error->line = line;
    error->column = column;
    struct slice rest = slice_text(text);
    size_t used = 0;
    while (rest.size > 0) {
        size_t bytes = utf8_printable(rest);
        if (bytes == 0) {
            error->text[used++] = '?';
            bytes = 1;
        } else {
            memcpy(error->text + used, rest.bytes, bytes);
            used += bytes;
        }
        rest = slice_from(rest, bytes);
    }
    error->text[used] = '\0';
}
