#include "proto/sieve/lexer.h"
#include "proto/message/utf8.h"
#include "proto/sieve/limits.h"
#include <stdio.h>

void sieve_lexer_open(struct sieve_lexer *lexer, struct slice script, struct arena *arena,
                      struct sieve_error *error)
{
    *lexer = (struct sieve_lexer){
        .script = script, .line = 1, .column = 1, .arena = arena, .error = error};
    if (script.size >= 3 && memcmp(script.bytes, "\xef\xbb\xbf", 3) == 0) {
        lexer->at = 3;
    }
}

static int peek(const struct sieve_lexer *lexer, size_t ahead)
{
    size_t left = lexer->script.size - lexer->at;
    return ahead < left ? lexer->script.bytes[lexer->at + ahead] : -1;
}

/* Columns count characters, not bytes. */
static void pass(struct sieve_lexer *lexer)
{
    uint8_t byte = lexer->script.bytes[lexer->at++];
    if (byte == '\n') {
        lexer->line++;
        lexer->column = 1;
    } else if ((byte & 0xc0) != 0x80) {
        lexer->column++;
    }
}

static bool wrong(const struct sieve_lexer *lexer, const char *what)
{
    sieve_error_set(lexer->error, lexer->line, lexer->column, "%s", what);
    return false;
}

static bool wrong_since(const struct sieve_lexer *lexer, const struct sieve_token *token,
                        const char *what)
{
    sieve_error_set(lexer->error, token->line, token->column, "%s", what);
    return false;
}

/* ---- What stands between tokens ---- */

static bool comment_pass(struct sieve_lexer *lexer)
{
    struct sieve_token start = {.line = lexer->line, .column = lexer->column};
    pass(lexer);
    pass(lexer);
    while (!(peek(lexer, 0) == '*' && peek(lexer, 1) == '/')) {
        if (peek(lexer, 0) < 0) {
            return wrong_since(lexer, &start, "the comment that begins here has no end");
        }
        pass(lexer);
    }
    pass(lexer);
    pass(lexer);
    return true;
}

static void line_pass(struct sieve_lexer *lexer)
{
    while (peek(lexer, 0) >= 0 && peek(lexer, 0) != '\n') {
        pass(lexer);
    }
}

static bool blanks_pass(struct sieve_lexer *lexer)
{
    for (;;) {
        int byte = peek(lexer, 0);
        if (byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') {
            pass(lexer);
        } else if (byte == '#') {
            line_pass(lexer);
        } else if (byte == '/' && peek(lexer, 1) == '*') {
            if (!comment_pass(lexer)) {
                return false;
            }
        } else {
            return true;
        }
    }
}

/* ---- Words and numbers ---- */

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_name(int byte, bool first)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
           (!first && is_digit(byte));
}

static struct slice name_read(struct sieve_lexer *lexer)
{
    size_t start = lexer->at;
    while (is_name(peek(lexer, 0), lexer->at == start)) {
        pass(lexer);
    }
    return slice_of(lexer->script.bytes + start, lexer->at - start);
}

static bool number_read(struct sieve_lexer *lexer, struct sieve_token *token)
{
    token->kind = SIEVE_TOKEN_NUMBER;
    uint64_t number = 0;
    bool too_large = false;
    while (is_digit(peek(lexer, 0))) {
        uint64_t digit = (uint64_t)(peek(lexer, 0) - '0');
        too_large = too_large || number > (INT64_MAX - digit) / 10;
        number = too_large ? number : number * 10 + digit;
        pass(lexer);
    }
    unsigned shift = 0;
    switch (peek(lexer, 0)) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'm':
    case 'M':
        shift = 20;
        break;
    case 'g':
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    if (shift > 0) {
        pass(lexer);
        too_large = too_large || number > (uint64_t)INT64_MAX >> shift;
        number <<= too_large ? 0 : shift;
    }
    if (is_name(peek(lexer, 0), false)) {
        return wrong(lexer, "a number is digits, and K, M or G behind them");
    }
    if (too_large) {
        return wrong_since(lexer, token, "the number is too large");
    }
    token->number = number;
    return true;
}

/* ---- Strings ---- */

/* Room for all of it, however many LFs become CRLF. NULL: the error is set. */
static uint8_t *string_room(struct sieve_lexer *lexer, const struct sieve_token *token, size_t raw)
{
    if (raw > SIEVE_STRING_BYTES_MAX) {
        wrong_since(lexer, token, "the string is too long");
        return NULL;
    }
    size_t lines = 0;
    for (size_t i = 0; i < raw; i++) {
        lines += lexer->script.bytes[lexer->at + i] == '\n';
    }
    uint8_t *room = arena_take(lexer->arena, raw + lines + 1);
    if (room == NULL) {
        wrong_since(lexer, token, "the script takes too much memory");
    }
    return room;
}

/* One character of a string into room: its bytes as they are, LF as CRLF. 0: it is no text. */
static size_t character_take(struct sieve_lexer *lexer, uint8_t *room)
{
    uint8_t byte = (uint8_t)peek(lexer, 0);
    size_t used = 0;
    if (byte == '\n' && (lexer->at == 0 || lexer->script.bytes[lexer->at - 1] != '\r')) {
        room[used++] = '\r';
    }
    size_t bytes = byte < 0x80 ? byte != 0 : utf8_printable(slice_from(lexer->script, lexer->at));
    if (bytes == 0 && byte == 0xc2 && (peek(lexer, 1) & 0xe0) == 0x80) {
        bytes = 2; /* C1: no good, but text */
    }
    for (size_t i = 0; i < bytes; i++) {
        room[used++] = (uint8_t)peek(lexer, 0);
        pass(lexer);
    }
    return bytes == 0 ? 0 : used;
}

static bool quoted_read(struct sieve_lexer *lexer, struct sieve_token *token)
{
    pass(lexer);
    size_t raw = 0;
    for (int byte; (byte = peek(lexer, raw)) != '"'; raw++) {
        raw += byte == '\\';
        if (byte < 0) {
            return wrong_since(lexer, token, "the string that begins here has no end");
        }
    }
    uint8_t *room = string_room(lexer, token, raw);
    if (room == NULL) {
        return false;
    }
    size_t used = 0;
    while (peek(lexer, 0) != '"') {
        if (peek(lexer, 0) == '\\') {
            pass(lexer);
        }
        size_t bytes = peek(lexer, 0) >= 0 ? character_take(lexer, room + used) : 0;
        if (bytes == 0) {
            return wrong(lexer, "this is not UTF-8 text");
        }
        used += bytes;
    }
    pass(lexer);
    token->kind = SIEVE_TOKEN_STRING;
    token->text = slice_of(room, used);
    return true;
}

/* The bytes up to the line that is a lone dot; SIZE_MAX: there is none. */
static size_t multi_line_size(const struct sieve_lexer *lexer)
{
    bool line_start = true;
    for (size_t i = 0; peek(lexer, i) >= 0; i++) {
        if (line_start && peek(lexer, i) == '.' &&
            (peek(lexer, i + 1) == '\n' || peek(lexer, i + 1) < 0 ||
             (peek(lexer, i + 1) == '\r' && peek(lexer, i + 2) == '\n'))) {
            return i;
        }
        line_start = peek(lexer, i) == '\n';
    }
    return SIZE_MAX;
}

/* Behind "text:". */
static bool multi_line_read(struct sieve_lexer *lexer, struct sieve_token *token)
{
    while (peek(lexer, 0) == ' ' || peek(lexer, 0) == '\t') {
        pass(lexer);
    }
    if (peek(lexer, 0) == '#') {
        line_pass(lexer);
    } else if (peek(lexer, 0) == '\r') {
        pass(lexer);
    }
    if (peek(lexer, 0) != '\n') {
        return wrong(lexer, "behind \"text:\" the line must end");
    }
    pass(lexer);
    size_t raw = multi_line_size(lexer);
    if (raw == SIZE_MAX) {
        return wrong_since(lexer, token, "the text that begins here has no line of a lone dot");
    }
    uint8_t *room = string_room(lexer, token, raw);
    if (room == NULL) {
        return false;
    }
    size_t used = 0, end = lexer->at + raw;
    while (lexer->at < end) {
        if (peek(lexer, 0) == '.' && lexer->script.bytes[lexer->at - 1] == '\n') {
            pass(lexer); /* stuffed, or wrongly alone */
            if (peek(lexer, 0) != '.') {
                room[used++] = '.';
            }
            continue;
        }
        size_t bytes = character_take(lexer, room + used);
        if (bytes == 0) {
            return wrong(lexer, "this is not UTF-8 text");
        }
        used += bytes;
    }
    pass(lexer); /* the dot */
    if (peek(lexer, 0) == '\r') {
        pass(lexer);
    }
    token->kind = SIEVE_TOKEN_STRING;
    token->text = slice_of(room, used);
    return true;
}

static bool punctuation_read(struct sieve_lexer *lexer, struct sieve_token *token)
{
    static const char marks[] = ",;()[]{}";
    static const enum sieve_token_kind kinds[] = {
        SIEVE_TOKEN_COMMA,
        SIEVE_TOKEN_SEMICOLON,
        SIEVE_TOKEN_PARENTHESIS_OPEN,
        SIEVE_TOKEN_PARENTHESIS_CLOSE,
        SIEVE_TOKEN_BRACKET_OPEN,
        SIEVE_TOKEN_BRACKET_CLOSE,
        SIEVE_TOKEN_BRACE_OPEN,
        SIEVE_TOKEN_BRACE_CLOSE,
    };
    int byte = peek(lexer, 0);
    const char *mark = byte > 0 ? strchr(marks, byte) : NULL;
    if (mark == NULL) {
        return byte < ' ' || byte > '~'
                   ? wrong(lexer, "a character that has no place outside of strings and comments")
                   : (sieve_error_set(lexer->error, lexer->line, lexer->column,
                                      "'%c' has no place outside of strings and comments", byte),
                      false);
    }
    token->kind = kinds[mark - marks];
    pass(lexer);
    return true;
}

bool sieve_lexer_next(struct sieve_lexer *lexer, struct sieve_token *token)
{
    if (!blanks_pass(lexer)) {
        return false;
    }
    *token =
        (struct sieve_token){.kind = SIEVE_TOKEN_END, .line = lexer->line, .column = lexer->column};
    int byte = peek(lexer, 0);
    if (byte < 0) {
        return true;
    }
    if (is_digit(byte)) {
        return number_read(lexer, token);
    }
    if (byte == '"') {
        return quoted_read(lexer, token);
    }
    if (byte == ':') {
        pass(lexer);
        token->kind = SIEVE_TOKEN_TAG;
        token->text = name_read(lexer);
        return token->text.size > 0 || wrong(lexer, "the tag behind ':' has no name");
    }
    if (!is_name(byte, true)) {
        return punctuation_read(lexer, token);
    }
    token->kind = SIEVE_TOKEN_IDENTIFIER;
    token->text = name_read(lexer);
    if (slice_equal_nocase(token->text, slice_text("text")) && peek(lexer, 0) == ':') {
        pass(lexer);
        return multi_line_read(lexer, token);
    }
    return true;
}

const char *sieve_token_name(const struct sieve_token *token, char room[64])
{
    static const char *const names[] = {
        [SIEVE_TOKEN_END] = "the end of the script",
        [SIEVE_TOKEN_STRING] = "a string",
        [SIEVE_TOKEN_COMMA] = "','",
        [SIEVE_TOKEN_SEMICOLON] = "';'",
        [SIEVE_TOKEN_PARENTHESIS_OPEN] = "'('",
        [SIEVE_TOKEN_PARENTHESIS_CLOSE] = "')'",
        [SIEVE_TOKEN_BRACKET_OPEN] = "'['",
        [SIEVE_TOKEN_BRACKET_CLOSE] = "']'",
        [SIEVE_TOKEN_BRACE_OPEN] = "'{'",
        [SIEVE_TOKEN_BRACE_CLOSE] = "'}'",
    };
    switch (token->kind) {
    case SIEVE_TOKEN_IDENTIFIER:
        snprintf(room, 64, "'%.*s'", (int)(token->text.size < 40 ? token->text.size : 40),
                 (const char *)token->text.bytes);
        return room;
    case SIEVE_TOKEN_TAG:
        snprintf(room, 64, "the tag ':%.*s'", (int)(token->text.size < 40 ? token->text.size : 40),
                 (const char *)token->text.bytes);
        return room;
    case SIEVE_TOKEN_NUMBER:
        snprintf(room, 64, "the number %llu", (unsigned long long)token->number);
        return room;
    case SIEVE_TOKEN_END:
    case SIEVE_TOKEN_STRING:
    case SIEVE_TOKEN_COMMA:
    case SIEVE_TOKEN_SEMICOLON:
    case SIEVE_TOKEN_PARENTHESIS_OPEN:
    case SIEVE_TOKEN_PARENTHESIS_CLOSE:
    case SIEVE_TOKEN_BRACKET_OPEN:
    case SIEVE_TOKEN_BRACKET_CLOSE:
    case SIEVE_TOKEN_BRACE_OPEN:
    case SIEVE_TOKEN_BRACE_CLOSE:
        break;
    }
    return names[token->kind];
}
