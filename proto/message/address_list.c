#include "proto/message/address_list.h"
#include <errno.h>

/* What is being read: text outside of <> counts only when there are none. */
struct reading {
    char *mailbox;
    size_t room, size;
    bool in_angles, angles_seen, too_long;
};

static void keep(struct reading *reading, uint8_t byte)
{
    if (!reading->in_angles && reading->angles_seen) {
        return; /* behind the address */
    }
    if (reading->size < reading->room) {
        reading->mailbox[reading->size++] = (char)byte;
    } else {
        reading->too_long = true;
    }
}

static void forget(struct reading *reading)
{
    reading->size = 0;
    reading->too_long = false;
}

/* "(comment (in a comment))": how many bytes it takes; 0: it does not end. */
static size_t comment_size(struct slice text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] == '\\') {
            i++;
        } else if (text.bytes[i] == '(') {
            depth++;
        } else if (text.bytes[i] == ')' && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* "quoted", or a [domain-literal]: all of it means itself. */
static size_t quoted_size(struct slice text, uint8_t end)
{
    for (size_t i = 1; i < text.size; i++) {
        if (text.bytes[i] == '\\') {
            i++;
        } else if (text.bytes[i] == end) {
            return i + 1;
        }
    }
    return 0;
}

/* One piece of it: the bytes that it takes; 0: it ends inside. *over: a mailbox may be whole. */
static size_t piece_read(struct reading *reading, struct slice text, bool *over)
{
    uint8_t byte = text.bytes[0];
    size_t size = 1;
    switch (byte) {
    case '(':
        return comment_size(text);
    case '"':
    case '[':
        size = quoted_size(text, byte == '"' ? '"' : ']');
        for (size_t i = 0; i < size; i++) {
            keep(reading, text.bytes[i]);
        }
        return size;
    case '<':
        forget(reading); /* what stood before was a name */
        reading->in_angles = true;
        return 1;
    case '>':
        reading->in_angles = false;
        reading->angles_seen = true;
        return 1;
    case ':':
        forget(reading); /* a group's name, or a route */
        return 1;
    case ',':
        if (reading->in_angles) {
            forget(reading); /* "@a,@b:": more of a route */
            return 1;
        }
        *over = true;
        return 1;
    case ';':
        if (reading->in_angles) {
            keep(reading, byte);
        } else {
            *over = true;
        }
        return 1;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        return 1;
    default:
        keep(reading, byte);
        return 1;
    }
}

int address_list_next(struct slice *list, char *mailbox, size_t room, size_t *size)
{
    struct reading reading = {.mailbox = mailbox, .room = room};
    while (list->size > 0) {
        bool over = false;
        size_t taken = piece_read(&reading, *list, &over);
        if (taken == 0) {
            *list = slice_of(NULL, 0);
            return -EINVAL;
        }
        *list = slice_from(*list, taken);
        if (over && (reading.size > 0 || reading.too_long)) {
            break;
        }
        if (over) {
            reading = (struct reading){.mailbox = mailbox, .room = room};
        }
    }
    if (reading.in_angles) {
        return -EINVAL;
    }
    *size = reading.size;
    return reading.too_long ? -E2BIG : reading.size > 0;
}
