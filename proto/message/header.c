#include "proto/message/header.h"

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

/* Bytes up to and with the LF, or all. */
static size_t line_size(struct slice text)
{
    const uint8_t *end = text.size > 0 ? memchr(text.bytes, '\n', text.size) : NULL;
    return end != NULL ? (size_t)(end - text.bytes) + 1 : text.size;
}

static struct slice without_line_end(struct slice line)
{
    if (line.size > 0 && line.bytes[line.size - 1] == '\n') {
        line.size--;
        if (line.size > 0 && line.bytes[line.size - 1] == '\r') {
            line.size--;
        }
    }
    return line;
}

struct header_field header_field_of(struct slice whole)
{
    struct header_field field = {.whole = whole, .name = slice_of(whole.bytes, 0)};
    struct slice text = without_line_end(whole);
    struct slice first = without_line_end(slice_first(whole, line_size(whole)));
    const uint8_t *colon = first.size > 0 ? memchr(first.bytes, ':', first.size) : NULL;
    if (colon == NULL || is_blank(first.bytes[0])) {
        field.value = text;
        return field;
    }
    size_t name_size = (size_t)(colon - whole.bytes), value_at = name_size + 1;
    while (name_size > 0 && is_blank(whole.bytes[name_size - 1])) {
        name_size--;
    }
    while (value_at < text.size && is_blank(text.bytes[value_at])) {
        value_at++;
    }
    field.name = slice_first(whole, name_size);
    field.value = slice_from(text, value_at);
    return field;
}

bool header_next(struct slice *rest, struct header_field *field)
{
    size_t size = line_size(*rest);
    if (without_line_end(slice_first(*rest, size)).size == 0) {
        *rest = slice_from(*rest, size);
        return false;
    }
    while (size < rest->size && is_blank(rest->bytes[size])) {
        size += line_size(slice_from(*rest, size));
    }
    *field = header_field_of(slice_first(*rest, size));
    *rest = slice_from(*rest, size);
    return true;
}

bool header_find_next(struct slice *rest, struct slice name, struct header_field *field)
{
    while (header_next(rest, field)) {
        if (slice_equal_nocase(field->name, name)) {
            return true;
        }
    }
    return false;
}

bool header_find(struct slice header, struct slice name, struct header_field *field)
{
    return header_find_next(&header, name, field);
}

size_t header_unfold(struct slice value, uint8_t *text, size_t room)
{
    size_t size = 0;
    for (size_t i = 0; i < value.size && size < room; i++) {
        bool ends = value.bytes[i] == '\n' ||
                    (value.bytes[i] == '\r' && i + 1 < value.size && value.bytes[i + 1] == '\n');
        if (!ends) {
            text[size++] = value.bytes[i];
        }
    }
    return size;
}
