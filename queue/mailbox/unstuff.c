#include "queue/mailbox/unstuff.h"
#include "engine/core/check.h"

/* The first line that begins with a dot behind a line end in the text: where its dot is; else the text's end. */
static const uint8_t *stuffing_find(struct slice text)
{
    const uint8_t *end = text.bytes + text.size, *at = text.bytes;
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if (at == end) {
            return end;
        }
        if (*at == '.') {
            return at;
        }
    }
    return end;
}

size_t unstuff_take(struct unstuff *unstuff, struct slice *wire, struct slice *parts, size_t room)
{
    size_t count = 0;
    check(room > 0);
    while (wire->size > 0 && count < room) {
        if (!unstuff->inside_line && wire->bytes[0] == '.') {
            unstuff->inside_line = true;
            *wire = slice_from(*wire, 1);
            continue;
        }
        const uint8_t *end = stuffing_find(*wire);
        size_t size = (size_t)(end - wire->bytes);
        parts[count++] = slice_first(*wire, size);
        unstuff->inside_line = wire->bytes[size - 1] != '\n';
        *wire = slice_from(*wire, size);
    }
    return count;
}
