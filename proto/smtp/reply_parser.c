#include "proto/smtp/reply_parser.h"

#include "proto/message/utf8.h"

enum reply_parser_state {
    REPLY_CODE,       /* the three digits */
    REPLY_SEPARATOR,  /* what follows them */
    REPLY_CODE_ALONE, /* CR came in its place */
    REPLY_TEXT,
    REPLY_BROKEN,
};

void smtp_reply_parser_init(struct smtp_reply_parser *parser)
{
    parser->state = REPLY_CODE;
    parser->last_line = false;
    parser->code_digits = 0;
    parser->code = 0;
    parser->line_code = 0;
    parser->line_bytes = 0;
    parser->line_count = 0;
    parser->text_bytes = 0;
    parser->line_start = 0;
    parser->status = (struct smtp_status){0};
}

static void text_clean(uint8_t *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t bytes = utf8_printable(slice_of(text + i, size - i));
        if (bytes == 0) {
            text[i] = text[i] == '\t' ? ' ' : '?';
            bytes = 1;
        }
        i += bytes;
    }
}

/* Takes a status off the following lines that the first one has already: 250-2.1.5 a, 250 2.1.5 b.
 */
static void repeated_status_strip(struct smtp_reply_parser *parser)
{
    struct smtp_status first, status;
    struct slice line = smtp_reply_parser_line(parser);
    if (parser->line_start == 0 ||
        smtp_status_parse(&first, slice_of(parser->text, parser->text_bytes)) == 0) {
        return;
    }
    size_t bytes = smtp_status_parse(&status, line);
    if (bytes == 0 || bytes == line.size) {
        return;
    }
    memmove(parser->text + parser->line_start, line.bytes + bytes + 1, line.size - bytes - 1);
    parser->text_bytes = (uint16_t)(parser->text_bytes - bytes - 1);
}

static enum smtp_reply_step line_end(struct smtp_reply_parser *parser)
{
    struct slice line = smtp_reply_parser_line(parser);
    if (line.size > 0 && line.bytes[line.size - 1] == '\r') {
        parser->text_bytes--;
        line.size--;
    }
    text_clean((uint8_t *)parser->text + parser->line_start, line.size);
    repeated_status_strip(parser);
    parser->state = REPLY_CODE;
    parser->line_count++;
    if (!parser->last_line) {
        return parser->line_count < SMTP_REPLY_LINES_MAX ? SMTP_REPLY_LINE : SMTP_REPLY_MALFORMED;
    }
    struct slice text = smtp_reply_parser_text(parser);
    unsigned class = parser->code / 100;
    if (smtp_status_parse(&parser->status, text) == 0 || parser->status.class != class) {
        parser->status = (struct smtp_status){.class = (uint8_t) class};
    }
    return SMTP_REPLY_COMPLETE;
}

static void line_begin(struct smtp_reply_parser *parser)
{
    if (parser->last_line) {
        smtp_reply_parser_init(parser);
    }
    parser->code_digits = 0;
    parser->line_code = 0;
    parser->line_bytes = 0;
    if (parser->text_bytes > 0 && parser->text_bytes < SMTP_REPLY_TEXT_MAX) {
        parser->text[parser->text_bytes++] = ' ';
    }
    parser->line_start = parser->text_bytes;
}

static bool code_digit(struct smtp_reply_parser *parser, uint8_t byte)
{
    if (parser->code_digits == 0) {
        line_begin(parser);
    }
    if (byte < '0' || byte > '9' || (parser->code_digits == 0 && (byte < '2' || byte > '5'))) {
        return false;
    }
    parser->line_code = (uint16_t)(parser->line_code * 10 + (byte - '0'));
    if (++parser->code_digits < 3) {
        return true;
    }
    parser->state = REPLY_SEPARATOR;
    if (parser->code == 0) {
        parser->code = parser->line_code;
    }
    return parser->code == parser->line_code;
}

static enum smtp_reply_step separator(struct smtp_reply_parser *parser, uint8_t byte)
{
    parser->last_line = byte != '-';
    parser->code_digits = 0;
    switch (byte) {
    case ' ':
    case '-':
        parser->state = REPLY_TEXT;
        return SMTP_REPLY_MORE;
    case '\r':
        parser->state = REPLY_CODE_ALONE;
        return SMTP_REPLY_MORE;
    case '\n':
        return line_end(parser);
    default:
        return SMTP_REPLY_MALFORMED;
    }
}

/* Text up to the line's end, or all there is. *used is what it takes. */
static enum smtp_reply_step text_input(struct smtp_reply_parser *parser, struct slice input,
                                       size_t *used)
{
    const uint8_t *end = memchr(input.bytes, '\n', input.size);
    size_t size = end != NULL ? (size_t)(end - input.bytes) : input.size;
    *used = size;
    if (parser->line_bytes + size > SMTP_REPLY_LINE_BYTES_MAX) {
        return SMTP_REPLY_MALFORMED;
    }
    parser->line_bytes = (uint16_t)(parser->line_bytes + size);
    size_t room = (size_t)SMTP_REPLY_TEXT_MAX - parser->text_bytes;
    size_t kept = size < room ? size : room;
    memcpy(parser->text + parser->text_bytes, input.bytes, kept);
    parser->text_bytes = (uint16_t)(parser->text_bytes + kept);
    if (end == NULL) {
        return SMTP_REPLY_MORE;
    }
    *used = size + 1;
    return line_end(parser);
}

enum smtp_reply_step smtp_reply_parser_input(struct smtp_reply_parser *parser, struct slice input,
                                             size_t *used)
{
    enum smtp_reply_step step = SMTP_REPLY_MORE;
    size_t at = 0;
    while (step == SMTP_REPLY_MORE && at < input.size) {
        size_t taken = 1;
        switch ((enum reply_parser_state)parser->state) {
        case REPLY_CODE:
            step = code_digit(parser, input.bytes[at]) ? SMTP_REPLY_MORE : SMTP_REPLY_MALFORMED;
            break;
        case REPLY_SEPARATOR:
            step = separator(parser, input.bytes[at]);
            break;
        case REPLY_CODE_ALONE:
            step = input.bytes[at] == '\n' ? line_end(parser) : SMTP_REPLY_MALFORMED;
            break;
        case REPLY_TEXT:
            step = text_input(parser, slice_from(input, at), &taken);
            break;
        case REPLY_BROKEN:
            step = SMTP_REPLY_MALFORMED;
            break;
        }
        at += taken;
    }
    *used = at;
    if (step == SMTP_REPLY_MALFORMED) {
        parser->state = REPLY_BROKEN;
    }
    return step;
}

bool smtp_reply_parser_inside(const struct smtp_reply_parser *parser)
{
    bool between_lines = parser->state == REPLY_CODE && parser->code_digits == 0;
    return !between_lines || (parser->line_count > 0 && !parser->last_line);
}

struct slice smtp_reply_parser_line(const struct smtp_reply_parser *parser)
{
    return slice_of(parser->text + parser->line_start,
                    (size_t)parser->text_bytes - parser->line_start);
}

void smtp_reply_parser_forget_text(struct smtp_reply_parser *parser)
{
    parser->text_bytes = 0;
    parser->line_start = 0;
}

struct slice smtp_reply_parser_text(const struct smtp_reply_parser *parser)
{
    return slice_of(parser->text, parser->text_bytes);
}
