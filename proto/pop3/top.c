#include "proto/pop3/top.h"

enum { LINE_BEGINS, IN_LINE, BEHIND_CR, BEHIND_FIRST_CR };

void pop3_top_open(struct pop3_top *top, uint32_t lines)
{
    *top = (struct pop3_top){.lines = lines, .at = LINE_BEGINS};
}

/* A line has ended. */
static void line_end(struct pop3_top *top, bool empty)
{
    bool counted = top->body && top->lines != POP3_ALL_LINES;
    top->at = LINE_BEGINS;
    top->body = top->body || empty;
    top->lines -= counted;
    top->done = top->body && top->lines == 0;
}

/* How far the line that is under way reaches in `text`, which does not begin it with a dot that is to be stuffed. */
static size_t line_take(struct pop3_top *top, struct slice text)
{
    size_t at = 0;
    while (at < text.size) {
        uint8_t octet = text.bytes[at++];
        bool behind_cr = top->at == BEHIND_CR || top->at == BEHIND_FIRST_CR;
        if (octet == '\n' && behind_cr) {
            line_end(top, top->at == BEHIND_FIRST_CR);
            return at;
        }
        if (octet == '\r') {
            top->at = top->at == LINE_BEGINS ? BEHIND_FIRST_CR : BEHIND_CR;
            continue;
        }
        top->at = IN_LINE;
        const uint8_t *carriage = memchr(text.bytes + at, '\r', text.size - at);
        at = carriage == NULL ? text.size : (size_t)(carriage - text.bytes);
    }
    return at;
}

bool pop3_top_next(struct pop3_top *top, struct slice *rest, struct slice *piece)
{
    size_t size = 0;
    if (top->done) {
        *rest = slice_from(*rest, rest->size);
    }
    if (rest->size == 0) {
        return false;
    }
    if (top->at == LINE_BEGINS && rest->bytes[0] == '.' && !top->dot_owed) {
        top->dot_owed = true;
        *piece = slice_text(".");
        return true;
    }
    /* Lines together, as far as the next that begins with a dot. */
    do {
        top->dot_owed = false;
        size += line_take(top, slice_from(*rest, size));
    } while (!top->done && size < rest->size &&
             !(top->at == LINE_BEGINS && rest->bytes[size] == '.'));
    *piece = slice_first(*rest, size);
    *rest = slice_from(*rest, size);
    return true;
}

bool pop3_top_line_ended(const struct pop3_top *top)
{
    return top->at == LINE_BEGINS;
}
