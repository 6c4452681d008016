#include "proto/message/header_writer.h"
#include "proto/message/utf8.h"
#include <stdio.h>

#define LINE_MAX 76u /* RFC 2047 §2: of a line that holds an encoded word */
#define WORD_BEGIN "=?utf-8?q?"
#define WORD_END "?="

struct out {
    uint8_t *bytes;
    size_t size, room, column;
    bool full;
};

static void put(struct out *out, struct slice text)
{
    out->full = out->full || out->size + text.size > out->room;
    if (!out->full && text.size > 0) {
        memcpy(out->bytes + out->size, text.bytes, text.size);
        out->size += text.size;
        out->column += text.size;
    }
}

static void fold(struct out *out)
{
    put(out, slice_text("\r\n "));
    out->column = 1;
}

/* ---- Encoded words ---- */

/* How a byte stands in one, of the characters that may stand as they are in any field (RFC 2047 §5 (3)). */
static size_t quoted(uint8_t byte, char text[4])
{
    bool plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                 (byte >= 'a' && byte <= 'z') || byte == '!' || byte == '*' || byte == '+' ||
                 byte == '-' || byte == '/';
    if (plain || byte == ' ') {
        text[0] = byte == ' ' ? '_' : (char)byte;
        return 1;
    }
    return (size_t)snprintf(text, 4, "=%02X", byte);
}

/* A character, or the next byte where it is none, is never cut over two words. */
static void put_words(struct out *out, struct slice text)
{
    bool inside = false;
    while (text.size > 0) {
        char word[16];
        size_t size = 0, bytes = utf8_printable(text);
        bytes = bytes > 0 ? bytes : 1;
        for (size_t i = 0; i < bytes; i++) {
            uint8_t byte = text.bytes[i] < ' ' || text.bytes[i] == 0x7f ? ' ' : text.bytes[i];
            size += quoted(byte, word + size);
        }
        if (inside && out->column + size + strlen(WORD_END) > LINE_MAX) {
            put(out, slice_text(WORD_END));
            inside = false;
        }
        if (!inside) {
            if (out->column + strlen(WORD_BEGIN WORD_END) + size > LINE_MAX) {
                fold(out);
            }
            put(out, slice_text(WORD_BEGIN));
            inside = true;
        }
        put(out, slice_of(word, size));
        text = slice_from(text, bytes);
    }
    if (inside) {
        put(out, slice_text(WORD_END));
    }
}

/* ---- ASCII ---- */

static void put_plain(struct out *out, struct slice text)
{
    bool first = true;
    while (text.size > 0) {
        const uint8_t *blank = (const uint8_t *)memchr(text.bytes + 1, ' ', text.size - 1);
        size_t size = blank != NULL ? (size_t)(blank - text.bytes) : text.size;
        struct slice word = slice_first(text, size); /* with the blank before it */
        bool folds =
            !first && word.bytes[0] == ' ' && word.size > 1 && out->column + size > LINE_MAX;
        if (folds) {
            put(out, slice_text("\r\n"));
            out->column = 0;
        }
        put(out, word);
        text = slice_from(text, size);
        first = false;
    }
}

/* ---- Fields ---- */

static bool is_plain(struct slice text)
{
    size_t word = 0;
    for (size_t i = 0; i < text.size; i++) {
        word = text.bytes[i] == ' ' ? 0 : word + 1;
        if (text.bytes[i] >= 0x7f || text.bytes[i] < ' ' || word > 900) {
            return false; /* a word that is longer than a line may be can only be cut when it is encoded */
        }
    }
    return memmem(text.bytes, text.size, "=?", 2) == NULL;
}

static void put_value(struct out *out, struct slice value)
{
    if (is_plain(value)) {
        put_plain(out, value);
    } else {
        put_words(out, value);
    }
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && text.bytes[0] <= ' ') {
        text = slice_from(text, 1);
    }
    while (text.size > 0 && text.bytes[text.size - 1] <= ' ') {
        text.size--;
    }
    return text;
}

static void open_field(struct out *out, struct slice name)
{
    put(out, name);
    put(out, slice_text(": "));
}

static size_t close_field(struct out *out)
{
    put(out, slice_text("\r\n"));
    return out->full ? 0 : out->size;
}

size_t header_write(struct slice name, struct slice value, uint8_t *bytes, size_t room)
{
    struct out out = {.bytes = bytes, .room = room};
    open_field(&out, name);
    put_value(&out, trim(value));
    return close_field(&out);
}

size_t header_write_mailbox(struct slice name, struct slice mailbox, uint8_t *bytes, size_t room)
{
    struct out out = {.bytes = bytes, .room = room};
    mailbox = trim(mailbox);
    const uint8_t *angle = (const uint8_t *)memrchr(mailbox.bytes, '<', mailbox.size);
    struct slice words = slice_first(mailbox, angle != NULL ? (size_t)(angle - mailbox.bytes) : 0);
    struct slice address = slice_from(mailbox, words.size);
    words = trim(words);
    open_field(&out, name);
    if (words.size > 0 && !is_plain(words)) {
        if (words.size >= 2 && words.bytes[0] == '"' && words.bytes[words.size - 1] == '"') {
            words = slice_of(words.bytes + 1, words.size - 2);
        }
        put_words(&out, words);
    } else {
        put_plain(&out, words);
    }
    if (words.size > 0) {
        put(&out, slice_text(out.column + address.size >= LINE_MAX ? "\r\n " : " "));
    }
    put(&out, address);
    return close_field(&out);
}
