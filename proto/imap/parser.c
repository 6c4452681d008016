/* The ground of the grammar: bytes, words, strings, numbers, lists. */
#include "proto/imap/parser_private.h"

void imap_parser_open(struct imap_parser *parser, struct arena *arena, uint8_t *text, size_t bytes,
                      bool utf8)
{
    *parser = (struct imap_parser){
        .arena = arena, .at = text, .end = text + bytes, .utf8 = utf8, .result = IMAP_PARSE_GOOD};
}

bool imap_parse_fail(struct imap_parser *parser, enum imap_parse result, const char *error)
{
    if (parser->result == IMAP_PARSE_GOOD) {
        parser->result = (uint8_t)result;
        parser->error = error;
    }
    return false;
}

static bool memory_fail(struct imap_parser *parser)
{
    /* The arena's bound and the heap's end look alike; both say that this command is more than we take. */
    return imap_parse_fail(parser, IMAP_PARSE_LIMIT, "Command is too complex");
}

static size_t left(const struct imap_parser *parser)
{
    return (size_t)(parser->end - parser->at);
}

bool imap_at_end(const struct imap_parser *parser)
{
    return parser->at == parser->end;
}

uint8_t imap_peek(const struct imap_parser *parser)
{
    return parser->at < parser->end ? *parser->at : 0;
}

bool imap_skip_byte(struct imap_parser *parser, uint8_t byte)
{
    if (parser->at < parser->end && *parser->at == byte) {
        parser->at++;
        return true;
    }
    return false;
}

bool imap_take_byte(struct imap_parser *parser, uint8_t byte, const char *error)
{
    return imap_skip_byte(parser, byte) || imap_parse_bad(parser, error);
}

bool imap_take_space(struct imap_parser *parser)
{
    return imap_skip_byte(parser, ' ') ||
           imap_parse_bad(parser, imap_at_end(parser) ? "Missing argument" : "Expected a space");
}

/* ATOM-CHAR, and with UTF-8 not more: atoms stay ASCII. */
bool imap_atom_char(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f && strchr("(){%*\"\\]", byte) == NULL;
}

static bool astring_char(uint8_t byte)
{
    return imap_atom_char(byte) || byte == ']';
}

static struct slice take_while(struct imap_parser *parser, bool (*wanted)(uint8_t))
{
    uint8_t *from = parser->at;
    while (parser->at < parser->end && wanted(*parser->at)) {
        parser->at++;
    }
    return slice_of(from, (size_t)(parser->at - from));
}

bool imap_skip_word(struct imap_parser *parser, const char *word)
{
    size_t size = strlen(word);
    if (left(parser) < size ||
        !slice_equal_nocase(slice_of(parser->at, size), slice_of(word, size)) ||
        (left(parser) > size && imap_atom_char(parser->at[size]) &&
         imap_atom_char((uint8_t)word[size - 1]) && parser->at[size] != '[')) {
        return false;
    }
    parser->at += size;
    return true;
}

bool imap_skip_word_of(struct imap_parser *parser, const struct imap_word *words, size_t count,
                       uint32_t *value)
{
    for (size_t i = 0; i < count; i++) {
        if (imap_skip_word(parser, words[i].word)) {
            *value = words[i].value;
            return true;
        }
    }
    return false;
}

bool imap_take_atom(struct imap_parser *parser, struct slice *atom)
{
    *atom = take_while(parser, imap_atom_char);
    return atom->size > 0 || imap_parse_bad(parser, "Expected an atom");
}

/* ---- Strings ---- */

static bool text_check(struct imap_parser *parser, struct slice text)
{
    return !parser->utf8 || imap_utf8_valid(text) || imap_parse_bad(parser, "Invalid UTF-8");
}

/* Behind the opening quote. Escapes are taken out where they lie. */
static bool quoted_take(struct imap_parser *parser, struct slice *string)
{
    uint8_t *from = parser->at, *to = parser->at;
    while (parser->at < parser->end && *parser->at != '"') {
        uint8_t byte = *parser->at++;
        if (byte == '\\') {
            byte = imap_peek(parser);
            if (byte != '"' && byte != '\\') {
                return imap_parse_bad(parser, "Invalid escape in a quoted string");
            }
            parser->at++;
        } else if (byte == '\0' || byte == '\r' || byte == '\n') {
            return imap_parse_bad(parser, "Invalid character in a quoted string");
        }
        *to++ = byte;
    }
    *string = slice_of(from, (size_t)(to - from));
    return imap_take_byte(parser, '"', "Quoted string has no end") && text_check(parser, *string);
}

bool imap_literal_head_find(struct slice line, struct imap_literal_head *head)
{
    size_t at = line.size;
    *head = (struct imap_literal_head){0};
    if (at == 0 || line.bytes[--at] != '}') {
        return false;
    }
    size_t digits_end = at;
    if (at > 0 && line.bytes[at - 1] == '+') {
        head->no_wait = true;
        digits_end = --at;
    }
    while (at > 0 && line.bytes[at - 1] >= '0' && line.bytes[at - 1] <= '9') {
        at--;
    }
    if (at == digits_end || at == 0 || line.bytes[at - 1] != '{') {
        return false;
    }
    for (size_t i = at; i < digits_end; i++) {
        unsigned digit = (unsigned)(line.bytes[i] - '0');
        bool fits = head->bytes <= ((uint64_t)INT64_MAX - digit) / 10;
        head->bytes = fits ? head->bytes * 10 + digit : UINT64_MAX;
        if (!fits) {
            break;
        }
    }
    head->binary = at > 1 && line.bytes[at - 2] == '~';
    return true;
}

/* A literal's head with its CRLF, at which the parser stands. */
static bool head_take(struct imap_parser *parser, struct imap_literal_head *head)
{
    uint8_t *end = memchr(parser->at, '\r', left(parser));
    struct slice line = slice_of(parser->at, end == NULL ? 0 : (size_t)(end - parser->at));
    bool tilde = line.size > 0 && line.bytes[0] == '~';
    struct slice braces = slice_from(line, tilde);
    const uint8_t *inner = braces.size < 2 ? NULL : memchr(braces.bytes + 1, '{', braces.size - 1);
    if (end == NULL || parser->end - end < 2 || end[1] != '\n' || inner != NULL ||
        braces.size == 0 || braces.bytes[0] != '{' || !imap_literal_head_find(line, head)) {
        return imap_parse_bad(parser, "Invalid literal");
    }
    parser->at = end + 2;
    return true;
}

static bool literal_take(struct imap_parser *parser, bool binary, struct slice *string)
{
    struct imap_literal_head head;
    if (!head_take(parser, &head)) {
        return false;
    }
    if (head.binary && !binary) {
        return imap_parse_bad(parser, "No binary literal is allowed here");
    }
    if (head.bytes > left(parser)) {
        return imap_at_end(parser)
                   ? imap_parse_fail(parser, IMAP_PARSE_INCOMPLETE, "Literal is not there yet")
                   : imap_parse_bad(parser, "Literal is cut short");
    }
    *string = slice_of(parser->at, (size_t)head.bytes);
    parser->at += head.bytes;
    if (!head.binary && string->size > 0 && memchr(string->bytes, 0, string->size) != NULL) {
        return imap_parse_bad(parser, "NUL in a literal");
    }
    return head.binary || text_check(parser, *string);
}

static bool string_take(struct imap_parser *parser, bool binary, struct slice *string)
{
    uint8_t next = imap_peek(parser);
    if (imap_skip_byte(parser, '"')) {
        return quoted_take(parser, string);
    }
    if (next == '{' || (next == '~' && left(parser) > 1 && parser->at[1] == '{')) {
        return literal_take(parser, binary, string);
    }
    return imap_parse_bad(parser, imap_at_end(parser) ? "Missing argument" : "Expected a string");
}

bool imap_take_string(struct imap_parser *parser, struct slice *string)
{
    return string_take(parser, false, string);
}

bool imap_take_string8(struct imap_parser *parser, struct slice *string)
{
    return string_take(parser, true, string);
}

bool imap_take_astring(struct imap_parser *parser, struct slice *string)
{
    uint8_t next = imap_peek(parser);
    bool literal8 = next == '~' && left(parser) > 1 && parser->at[1] == '{';
    if (!astring_char(next) || literal8) {
        return string_take(parser, false, string);
    }
    *string = take_while(parser, astring_char);
    return true;
}

bool imap_take_nstring(struct imap_parser *parser, struct slice *string, bool *nil)
{
    *nil = imap_skip_word(parser, "NIL");
    if (*nil) {
        *string = slice_of(NULL, 0);
        return true;
    }
    return string_take(parser, false, string);
}

/* ---- Numbers ---- */

bool imap_take_number(struct imap_parser *parser, uint64_t most, uint64_t *number)
{
    uint8_t *from = parser->at;
    uint64_t value = 0;
    while (parser->at < parser->end && *parser->at >= '0' && *parser->at <= '9') {
        unsigned digit = (unsigned)(*parser->at++ - '0');
        if (digit > most || value > (most - digit) / 10) {
            return imap_parse_bad(parser, "Number is too large");
        }
        value = value * 10 + digit;
    }
    *number = value;
    return parser->at > from || imap_parse_bad(parser, "Expected a number");
}

bool imap_take_nz_number(struct imap_parser *parser, uint32_t *number)
{
    uint64_t value;
    if (!imap_take_number(parser, UINT32_MAX, &value)) {
        return false;
    }
    *number = (uint32_t)value;
    return value > 0 || imap_parse_bad(parser, "Number must not be 0");
}

/* ---- Lists ---- */

void *imap_list_add(struct imap_parser *parser, const void **items, uint32_t *count, size_t bytes)
{
    bool full = *count == 0 || (*count >= 4 && (*count & (*count - 1)) == 0);
    if (full) {
        uint8_t *larger = arena_take_array(parser->arena, *count == 0 ? 4 : *count * 2u, bytes);
        if (larger == NULL) {
            memory_fail(parser);
            return NULL;
        }
        if (*count > 0) {
            memcpy(larger, *items, *count * bytes);
        }
        *items = larger;
    }
    /* The array is ours and of the arena, const only for those who read the tree. */
    return (uint8_t *)(uintptr_t)*items + (size_t)(*count)++ * bytes;
}

bool imap_text_list_add(struct imap_parser *parser, struct imap_text_list *list, struct slice text)
{
    const void *items = list->items;
    struct slice *item = imap_list_add(parser, &items, &list->count, sizeof(*item));
    if (item == NULL) {
        return false;
    }
    *item = text;
    list->items = items;
    return true;
}
