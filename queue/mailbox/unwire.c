#include "queue/mailbox/unwire.h"

/* Writes the CR that waited, unless an LF follows and swallows it. */
static size_t write_carriage(struct unwire *unwire, uint8_t *out)
{
    if (!unwire->carriage) {
        return 0;
    }
    unwire->carriage = false;
    unwire->wrote_carriage = true;
    out[0] = '\r';
    return 1;
}

static size_t write_line_end(struct unwire *unwire, uint8_t *out)
{
    if (!unwire->wrote_carriage) {
        unwire->lone_lines++;
    }
    unwire->carriage = false;
    unwire->wrote_carriage = false;
    unwire->inside_line = false;
    out[0] = '\n';
    return 1;
}

/* Text without line end: all of it in one copy, but for a CR at its end, which waits for what
 * follows. */
static size_t write_text(struct unwire *unwire, struct slice text, uint8_t *out)
{
    size_t used = write_carriage(unwire, out);
    size_t size = text.size;
    if (text.bytes[size - 1] == '\r') {
        unwire->carriage = true;
        size--;
    }
    if (size > 0) {
        memcpy(out + used, text.bytes, size);
        used += size;
        unwire->wrote_carriage = text.bytes[size - 1] == '\r';
    }
    return used;
}

size_t unwire_take(struct unwire *unwire, struct slice *wire, uint8_t *out, size_t room)
{
    size_t used = 0;
    while (wire->size > 0 && room - used >= 2) {
        if (!unwire->inside_line && !unwire->carriage && wire->bytes[0] == '.') {
            unwire->inside_line = true;
            *wire = slice_from(*wire, 1);
            continue;
        }
        if (wire->bytes[0] == '\n') {
            used += write_line_end(unwire, out + used);
            *wire = slice_from(*wire, 1);
            continue;
        }
        struct slice text = slice_first(*wire, room - used - 1); /* one for a CR that waits */
        const uint8_t *end = memchr(text.bytes, '\n', text.size);
        if (end != NULL) {
            text.size = (size_t)(end - text.bytes);
        }
        unwire->inside_line = true;
        used += write_text(unwire, text, out + used);
        *wire = slice_from(*wire, text.size);
    }
    unwire->bytes += used;
    return used;
}

size_t unwire_end(struct unwire *unwire, uint8_t *out)
{
    size_t used = write_carriage(unwire, out);
    unwire->bytes += used;
    return used;
}
