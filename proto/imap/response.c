#include "proto/imap/response.h"
#include <string.h>

#define LITERAL_DIGITS_MAX 19u

/* "{12}" at the end of the text, or "{12+}"; 0: none; else how long it is. */
static size_t literal_head(struct slice text, uint64_t *bytes)
{
    size_t at = text.size;
    if (at == 0 || text.bytes[at - 1] != '}') {
        return 0;
    }
    at--;
    if (at > 0 && text.bytes[at - 1] == '+') {
        at--;
    }
    size_t end = at;
    while (at > 0 && text.bytes[at - 1] >= '0' && text.bytes[at - 1] <= '9') {
        at--;
    }
    if (at == 0 || text.bytes[at - 1] != '{' || end == at || end - at > LITERAL_DIGITS_MAX - 1) {
        return 0;
    }
    *bytes = 0;
    for (size_t i = at; i < end; i++) {
        *bytes = *bytes * 10 + (uint64_t)(text.bytes[i] - '0');
    }
    return text.size - at + 1;
}

bool imap_response_literal(struct slice line, uint64_t *bytes)
{
    return line.size >= 2 && memcmp(line.bytes + line.size - 2, "\r\n", 2) == 0 &&
           literal_head(slice_first(line, line.size - 2), bytes) > 0;
}

static struct imap_token token_of(enum imap_token_kind kind, struct slice bytes)
{
    return (struct imap_token){.kind = kind, .bytes = bytes};
}

static struct imap_token quoted_next(struct slice *rest)
{
    bool quoted = false;
    for (size_t i = 1; i < rest->size; i++) {
        uint8_t byte = rest->bytes[i];
        if (byte == '"') {
            struct imap_token token = token_of(IMAP_TOKEN_TEXT, slice_of(rest->bytes + 1, i - 1));
            token.quoted = quoted;
            *rest = slice_from(*rest, i + 1);
            return token;
        }
        if (byte == '\\') {
            quoted = true;
            i++;
        } else if (byte == '\r' || byte == '\n') {
            break;
        }
    }
    return token_of(IMAP_TOKEN_BAD, slice_of(NULL, 0));
}

/* At '{', or at '~' with one behind. */
static struct imap_token literal_next(struct slice *rest)
{
    const uint8_t *end = memchr(rest->bytes, '\n', rest->size);
    size_t line = end != NULL ? (size_t)(end - rest->bytes) + 1 : 0;
    uint64_t bytes = 0;
    size_t tilde = rest->bytes[0] == '~';
    if (line < 3 || rest->bytes[line - 2] != '\r' ||
        literal_head(slice_of(rest->bytes + tilde, line - 2 - tilde), &bytes) != line - 2 - tilde ||
        bytes > rest->size - line) {
        return token_of(IMAP_TOKEN_BAD, slice_of(NULL, 0));
    }
    struct imap_token token =
        token_of(IMAP_TOKEN_TEXT, slice_of(rest->bytes + line, (size_t)bytes));
    *rest = slice_from(*rest, line + (size_t)bytes);
    return token;
}

static bool ends_atom(uint8_t byte)
{
    return byte <= ' ' || byte == '(' || byte == ')' || byte == '"' || byte == '{' || byte == 0x7f;
}

/* A section, from [ to ], may have blanks, parentheses and quotes in it. */
static struct imap_token atom_next(struct slice *rest)
{
    size_t size = 0;
    bool section = false;
    while (size < rest->size) {
        uint8_t byte = rest->bytes[size];
        if (byte == '\r' || byte == '\n' || (!section && ends_atom(byte))) {
            break;
        }
        section = byte == '[' || (section && byte != ']');
        size++;
    }
    if (size == 0 || section) {
        return token_of(IMAP_TOKEN_BAD, slice_of(NULL, 0));
    }
    struct imap_token token = token_of(IMAP_TOKEN_ATOM, slice_first(*rest, size));
    *rest = slice_from(*rest, size);
    return token;
}

struct imap_token imap_response_next(struct slice *rest)
{
    while (rest->size > 0 &&
           (rest->bytes[0] == ' ' || rest->bytes[0] == '\r' || rest->bytes[0] == '\n')) {
        *rest = slice_from(*rest, 1);
    }
    if (rest->size == 0) {
        return token_of(IMAP_TOKEN_END, *rest);
    }
    switch (rest->bytes[0]) {
    case '(':
    case ')': {
        struct imap_token token = token_of(
            rest->bytes[0] == '(' ? IMAP_TOKEN_OPEN : IMAP_TOKEN_CLOSE, slice_first(*rest, 1));
        *rest = slice_from(*rest, 1);
        return token;
    }
    case '"':
        return quoted_next(rest);
    case '{':
        return literal_next(rest);
    case '~':
        return rest->size > 1 && rest->bytes[1] == '{' ? literal_next(rest) : atom_next(rest);
    default:
        return atom_next(rest);
    }
}

bool imap_response_value(struct slice *rest, struct slice *value)
{
    size_t depth = 0;
    const uint8_t *begin = NULL;
    do {
        struct slice before = *rest;
        struct imap_token token = imap_response_next(rest);
        if (begin == NULL) {
            while (before.size > rest->size && before.bytes[0] <= ' ') {
                before = slice_from(before, 1);
            }
            begin = before.bytes;
        }
        switch (token.kind) {
        case IMAP_TOKEN_OPEN:
            depth++;
            break;
        case IMAP_TOKEN_CLOSE:
            if (depth == 0) {
                return false;
            }
            depth--;
            break;
        case IMAP_TOKEN_END:
        case IMAP_TOKEN_BAD:
            return false;
        case IMAP_TOKEN_ATOM:
        case IMAP_TOKEN_TEXT:
            break;
        }
    } while (depth > 0);
    *value = slice_of(begin, (size_t)(rest->bytes - begin));
    return true;
}

size_t imap_token_copy(const struct imap_token *token, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < token->bytes.size; i++) {
        if (token->quoted && token->bytes.bytes[i] == '\\' && i + 1 < token->bytes.size) {
            i++;
        }
        out[used++] = (char)token->bytes.bytes[i];
    }
    return used;
}
