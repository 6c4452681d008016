/*
 * APPEND and REPLACE: text and messages by turns. The text between two messages is read as soon as its line is there,
 * in steps, each of which ends with something to tell the owner or with the wish for more.
 *
 *           take        literal            ')'               SP
 *  HEAD ─► MESSAGE ─────────────► CLOSE ─────────► AFTER ─────────► MESSAGE
 *             │ CATENATE (                          ▲ │ CRLF
 *             └─────► PART_FIRST ─► PART ─ ) ───────┘ └────► COMMAND
 */
#include "proto/imap/server_private.h"

enum append_stage { HEAD, MESSAGE, PART_FIRST, PART, CLOSE, AFTER };

static void fail(struct imap_server *server, enum imap_result result, const char *code,
                 const char *text)
{
    const struct imap_answer answer = imap_answer_of(result, code, text);
    imap_server_fail(server, &answer);
}

/* What the parser says is wrong; or more is to come. */
static void parse_failed(struct imap_server *server, const struct imap_parser *parser)
{
    switch ((enum imap_parse)parser->result) {
    case IMAP_PARSE_INCOMPLETE:
        imap_server_literal_keep(server);
        return;
    case IMAP_PARSE_NAME:
        fail(server, IMAP_NO, "CANNOT", parser->error);
        return;
    case IMAP_PARSE_LIMIT:
        fail(server, IMAP_NO, "LIMIT", parser->error);
        return;
    case IMAP_PARSE_GOOD:
    case IMAP_PARSE_BAD:
    case IMAP_PARSE_CHARSET:
        break;
    }
    fail(server, IMAP_BAD, NULL, parser->error);
}

/* May so many more bytes of the message come? */
static bool bytes_allowed(struct imap_server *server)
{
    uint64_t most = server->settings->append_bytes_max;
    if (server->append->bytes > most || server->append_bytes > most - server->append->bytes) {
        fail(server, IMAP_NO, "TOOBIG", "Message is too large");
        return false;
    }
    if (server->append->bytes == 0 && !server->append->catenate) {
        fail(server, IMAP_NO, NULL, "APPEND is aborted by an empty message"); /* RFC 3502 §6.3.11 */
        return false;
    }
    server->append_bytes += server->append->bytes;
    return true;
}

/* The literal at the end of the text begins. */
static void literal_begin(struct imap_server *server)
{
    if (!server->head.no_wait) {
        imap_server_write_text(server, "+ OK\r\n");
    }
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    server->has_literal = false;
    server->literal_left = server->append->bytes;
    server->text_bytes = server->append_at = server->line_from = 0;
    server->phase = server->literal_left > 0 ? IMAP_PHASE_MESSAGE_BYTES : IMAP_PHASE_LINE;
}

static void message_give(struct imap_server *server, struct imap_event *event)
{
    server->append_count++;
    server->phase = IMAP_PHASE_MESSAGE;
    event->kind = IMAP_EVENT_MESSAGE;
    event->append = server->append;
}

static void head_step(struct imap_server *server, struct imap_parser *parser)
{
    struct imap_command_head head;
    struct imap_append *append = arena_take(&server->arena, sizeof(*append));
    if (append == NULL) {
        imap_server_break(server);
        return;
    }
    if (!imap_parse_head(parser, &head) || !imap_parse_append_head(parser, &head, append)) {
        parse_failed(server, parser);
        return;
    }
    server->append = append;
    server->append_stage = MESSAGE;
}

static void message_step(struct imap_server *server, struct imap_parser *parser,
                         struct imap_event *event)
{
    server->append_bytes = 0;
    enum imap_append_step step = imap_parse_append_message(parser, server->append);
    if (step == IMAP_APPEND_FAILED) {
        parse_failed(server, parser);
    } else if (step == IMAP_APPEND_OPEN) {
        server->append_stage = PART_FIRST;
        message_give(server, event);
    } else if (bytes_allowed(server)) {
        server->append_stage = CLOSE;
        message_give(server, event);
    }
}

static void part_step(struct imap_server *server, struct imap_parser *parser,
                      struct imap_event *event)
{
    struct slice url;
    switch (
        imap_parse_append_part(parser, server->append, server->append_stage == PART_FIRST, &url)) {
    case IMAP_APPEND_LITERAL:
        server->append_stage = PART;
        if (bytes_allowed(server)) {
            literal_begin(server);
        }
        return;
    case IMAP_APPEND_URL:
        server->append_stage = PART;
        server->phase = IMAP_PHASE_MESSAGE;
        event->kind = IMAP_EVENT_MESSAGE_URL;
        event->bytes = url;
        return;
    case IMAP_APPEND_CLOSE:
        server->append_stage = AFTER;
        event->kind = IMAP_EVENT_MESSAGE_END;
        return;
    case IMAP_APPEND_FAILED:
    case IMAP_APPEND_OPEN:
    case IMAP_APPEND_NEXT:
    case IMAP_APPEND_END:
        break;
    }
    parse_failed(server, parser);
}

static void close_step(struct imap_server *server, struct imap_parser *parser,
                       struct imap_event *event)
{
    if (imap_parse_append_close(parser, server->append) == IMAP_APPEND_FAILED) {
        parse_failed(server, parser);
        return;
    }
    server->append_stage = AFTER;
    event->kind = IMAP_EVENT_MESSAGE_END;
}

static void after_step(struct imap_server *server, struct imap_parser *parser,
                       struct imap_event *event)
{
    uint64_t many = IMAP_CAP_MULTIAPPEND;
    switch (imap_parse_append_after(parser, server->append)) {
    case IMAP_APPEND_NEXT:
        if ((server->settings->capabilities & many) == 0) {
            fail(server, IMAP_BAD, NULL, "One message at a time");
            return;
        }
        server->append_stage = MESSAGE;
        return;
    case IMAP_APPEND_END:
        if (server->has_literal) {
            fail(server, IMAP_BAD, NULL, "Unexpected literal");
            return;
        }
        struct imap_command *command = arena_take(&server->arena, sizeof(*command));
        if (command == NULL) {
            fail(server, IMAP_NO, "LIMIT", "Command is too complex");
            return;
        }
        *command = (struct imap_command){
            .kind = (enum imap_command_kind)server->kind,
            .uid = server->append->uid,
            .tag = slice_of(server->tag, server->tag_bytes),
            .appended = {.mailbox = server->append->mailbox, .messages = server->append_count},
        };
        imap_server_give(server, command, event);
        return;
    case IMAP_APPEND_FAILED:
    case IMAP_APPEND_LITERAL:
    case IMAP_APPEND_OPEN:
    case IMAP_APPEND_URL:
    case IMAP_APPEND_CLOSE:
        break;
    }
    parse_failed(server, parser);
}

/* The message was taken whose literal the line ends with. */
static bool literal_waits(const struct imap_server *server)
{
    return server->append != NULL && server->append_stage == CLOSE && server->has_literal &&
           server->append_at == server->text_bytes;
}

void imap_server_append(struct imap_server *server, struct imap_event *event)
{
    if (literal_waits(server)) {
        literal_begin(server);
        return;
    }
    if (server->append == NULL) {
        server->append_stage = HEAD;
    }
    while (server->phase == IMAP_PHASE_APPEND && event->kind == IMAP_EVENT_NONE) {
        struct imap_parser parser;
        bool utf8 = (server->enabled & (IMAP_ENABLED_UTF8 | IMAP_ENABLED_REV2)) != 0;
        uint32_t end = server->text_bytes - (server->has_literal ? 0 : 2);
        imap_parser_open(&parser, &server->arena, server->text + server->append_at,
                         end - server->append_at, utf8);
        uint32_t text_bytes = server->text_bytes;
        switch ((enum append_stage)server->append_stage) {
        case HEAD:
            head_step(server, &parser);
            break;
        case MESSAGE:
            message_step(server, &parser, event);
            break;
        case PART_FIRST:
        case PART:
            part_step(server, &parser, event);
            break;
        case CLOSE:
            close_step(server, &parser, event);
            break;
        case AFTER:
            after_step(server, &parser, event);
            break;
        }
        /* What was read is behind us, unless the text is another already or more of it must come first. */
        if (server->text_bytes == text_bytes && text_bytes > 0 &&
            parser.result == IMAP_PARSE_GOOD) {
            server->append_at = (uint32_t)(parser.at - server->text);
        }
    }
}

size_t imap_server_append_bytes(struct imap_server *server, struct slice input,
                                struct imap_event *event)
{
    struct slice part = slice_first(
        input, server->literal_left < SIZE_MAX ? (size_t)server->literal_left : SIZE_MAX);
    if (part.size == 0) {
        return 0;
    }
    const uint8_t *nul = server->append->binary ? NULL : memchr(part.bytes, 0, part.size);
    if (nul == part.bytes) {
        server->failure = imap_answer_of(IMAP_BAD, NULL, "NUL in a message needs a binary literal");
        imap_server_skip(server, server->literal_left);
        return 0;
    }
    if (nul != NULL) {
        part.size = (size_t)(nul - part.bytes);
    }
    server->literal_left -= part.size;
    if (server->literal_left == 0) {
        server->phase = IMAP_PHASE_LINE;
    }
    event->kind = IMAP_EVENT_MESSAGE_BYTES;
    event->bytes = part;
    return part.size;
}
