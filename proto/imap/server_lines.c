/* From bytes to lines: commands in pieces, literals in them, and how to stay in step with what is refused. */
#include "proto/imap/server_private.h"
#include <stdlib.h>

/* Behind a refused line only its end matters: whether a literal follows unasked. */
#define TAIL_BYTES 32
#define LITERAL_MINUS_BYTES_MAX 4096 /* RFC 7888 §5 */
#define IDLE_LINE_BYTES_MAX 64

static size_t text_bytes_max(const struct imap_server *server)
{
    if (server->phase == IMAP_PHASE_RESPONSE) {
        return IMAP_AUTH_LINE_BYTES_MAX;
    }
    if (server->phase == IMAP_PHASE_IDLE) {
        return IDLE_LINE_BYTES_MAX;
    }
    return server->state == IMAP_NOT_AUTHENTICATED
               ? IMAP_COMMAND_BYTES_BEFORE_LOGIN
               : IMAP_COMMAND_BYTES_MAX + server->settings->command_bytes_more;
}

/* False: no memory, and the session is over. */
static bool text_add(struct imap_server *server, struct slice part)
{
    size_t needed = server->text_bytes + part.size;
    if (needed > server->text_room) {
        size_t room = server->text_room == 0 ? 128 : server->text_room;
        while (room < needed) {
            room *= 2;
        }
        uint8_t *larger = malloc(room); /* no realloc: it would leave a copy of a password behind */
        if (larger == NULL) {
            imap_server_break(server);
            return false;
        }
        if (server->text != NULL) {
            memcpy(larger, server->text, server->text_bytes);
            explicit_bzero(server->text, server->text_room);
            free(server->text);
        }
        server->text = larger;
        server->text_room = (uint32_t)room;
    }
    memcpy(server->text + server->text_bytes, part.bytes, part.size);
    server->text_bytes += (uint32_t)part.size;
    return true;
}

/* ---- What is passed over ---- */

void imap_server_skip(struct imap_server *server, uint64_t bytes)
{
    server->reset_owed = server->reset_owed || server->append_open;
    server->append_open = server->has_literal = false;
    if (bytes > server->skip_left) {
        imap_server_bye(server, slice_text("TOOBIG"), slice_text("Literal is too large"));
        return;
    }
    server->skip_left -= bytes;
    server->literal_left = bytes;
    server->text_bytes = server->line_from = 0;
    server->phase = bytes > 0 ? IMAP_PHASE_SKIP_LITERAL : IMAP_PHASE_SKIP_LINE;
}

void imap_server_skip_line(struct imap_server *server)
{
    uint32_t kept = server->text_bytes - server->line_from;
    server->reset_owed = server->reset_owed || server->append_open;
    server->append_open = server->has_literal = false;
    if (kept > 0) {
        kept = kept < TAIL_BYTES ? kept : TAIL_BYTES;
        memmove(server->text, server->text + server->text_bytes - kept, kept);
    }
    server->text_bytes = kept;
    server->line_from = 0;
    server->phase = IMAP_PHASE_SKIP_LINE;
}

void imap_server_fail(struct imap_server *server, const struct imap_answer *answer)
{
    server->reset_owed = server->reset_owed || server->append_open;
    server->append_open = false;
    if (server->has_literal && server->head.no_wait) {
        server->failure = *answer;
        imap_server_skip(server, server->head.bytes);
        return;
    }
    /* The line is whole, or the client waits for leave to go on. */
    imap_server_answer(server, answer);
}

static void skip_line_end(struct imap_server *server)
{
    size_t size = server->text_bytes;
    size -= size > 0 && server->text[size - 1] == '\n';
    size -= size > 0 && server->text[size - 1] == '\r';
    server->has_literal = imap_literal_head_find(slice_of(server->text, size), &server->head);
    const struct imap_answer failure = server->failure;
    imap_server_fail(server, &failure);
}

static size_t skip_line_input(struct imap_server *server, struct slice input)
{
    const uint8_t *newline = memchr(input.bytes, '\n', input.size);
    size_t size = newline == NULL ? input.size : (size_t)(newline - input.bytes) + 1;
    if (size > server->skip_left) {
        imap_server_bye(server, slice_of(NULL, 0), slice_text("Command line is too long"));
        return size;
    }
    server->skip_left -= size;
    struct slice part = slice_first(input, size);
    if (part.size >= TAIL_BYTES) {
        server->text_bytes = 0;
        part = slice_from(part, part.size - TAIL_BYTES);
    } else if (server->text_bytes + part.size > TAIL_BYTES) {
        size_t drop = server->text_bytes + part.size - TAIL_BYTES;
        drop = drop < server->text_bytes ? drop : server->text_bytes;
        memmove(server->text, server->text + drop, server->text_bytes - drop);
        server->text_bytes -= (uint32_t)drop;
    }
    if (text_add(server, part) && newline != NULL) {
        skip_line_end(server);
    }
    return size;
}

static size_t skip_literal_input(struct imap_server *server, struct slice input)
{
    size_t size = slice_first(input, server->literal_left < SIZE_MAX ? (size_t)server->literal_left
                                                                     : SIZE_MAX)
                      .size;
    server->literal_left -= size;
    if (server->literal_left == 0) {
        server->phase = IMAP_PHASE_SKIP_LINE;
    }
    return size;
}

/* ---- Literals that are arguments ---- */

void imap_server_literal_keep(struct imap_server *server)
{
    const struct imap_literal_head *head = &server->head;
    bool plus = (server->settings->capabilities & IMAP_CAP_LITERAL_PLUS) != 0;
    size_t room = text_bytes_max(server) - server->text_bytes;
    if (head->bytes > room || (head->no_wait && !plus && head->bytes > LITERAL_MINUS_BYTES_MAX)) {
        const struct imap_answer answer =
            imap_answer_of(IMAP_BAD, "TOOBIG", "Literal is too large");
        imap_server_fail(server, &answer);
        return;
    }
    if (!head->no_wait) {
        imap_server_write_text(server, "+ OK\r\n");
    }
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    server->has_literal = false;
    server->literal_left = head->bytes;
    server->line_from = server->text_bytes;
    server->phase = head->bytes > 0 ? IMAP_PHASE_LITERAL : IMAP_PHASE_LINE;
}

static size_t literal_input(struct imap_server *server, struct slice input)
{
    struct slice part = slice_first(input, (size_t)server->literal_left);
    if (!text_add(server, part)) {
        return input.size;
    }
    server->literal_left -= part.size;
    if (server->literal_left == 0) {
        server->line_from = server->text_bytes;
        server->phase = IMAP_PHASE_LINE;
    }
    return part.size;
}

/* ---- Lines ---- */

/* What other protocols begin with. Browsers can be made to send a form here, with commands of ours in it. */
static bool is_foreign(const struct imap_server *server)
{
    static const char *const words[] = {"GET ",     "POST ",  "PUT ",    "HEAD ",      "OPTIONS ",
                                        "CONNECT ", "TRACE ", "DELETE ", "PATCH ",     "EHLO ",
                                        "HELO ",    "LHLO ",  "USER ",   "MAIL FROM:", "SSH-"};
    struct slice text = slice_of(server->text, server->text_bytes);
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        struct slice word = slice_text(words[i]);
        if (slice_equal_nocase(slice_first(text, word.size), word)) {
            return true;
        }
    }
    return text.bytes[0] == 0x16; /* TLS */
}

/* Whose command this is, as far as its text is there. Returns what is wrong with it, NULL: nothing. */
static const char *head_read(struct imap_server *server, size_t bytes,
                             struct imap_command_head *head)
{
    struct imap_parser parser;
    imap_parser_open(&parser, &server->arena, server->text, bytes, false);
    bool known = imap_parse_head(&parser, head);
    server->kind = (uint8_t)head->kind;
    server->tag_bytes = (uint8_t)head->tag.size;
    if (head->tag.size > 0) {
        memcpy(server->tag, head->tag.bytes, head->tag.size);
    }
    return known ? NULL : parser.error;
}

/* The first line of a command is there. False: it has failed. */
static bool first_line(struct imap_server *server)
{
    struct imap_command_head head;
    struct imap_answer answer;
    const char *error = head_read(server, server->text_bytes - 2, &head);
    if (error != NULL && server->foreign && is_foreign(server)) {
        imap_server_bye(server, slice_of(NULL, 0), slice_text("This is IMAP"));
        return false;
    }
    if (error != NULL) {
        answer = imap_answer_of(IMAP_BAD, NULL, error);
        imap_server_fail(server, &answer);
        return false;
    }
    server->foreign = false;
    if (!imap_server_allows(server, &head, &answer)) {
        imap_server_fail(server, &answer);
        return false;
    }
    return true;
}

static bool appends(const struct imap_server *server)
{
    return server->kind == IMAP_APPEND || server->kind == IMAP_REPLACE;
}

/* A line of a command has ended with CRLF. */
static void line_end(struct imap_server *server, struct imap_event *event)
{
    struct slice line =
        slice_of(server->text + server->line_from, server->text_bytes - server->line_from - 2);
    bool first = server->line_from == 0 && server->append == NULL;
    server->has_literal = imap_literal_head_find(line, &server->head);
    if (first) {
        server->skip_left = IMAP_SKIP_BYTES_MAX;
        if (!first_line(server)) {
            return;
        }
        if (appends(server)) {
            server->skip_left += UINT32_MAX; /* who has logged in may send what we throw away */
        }
    }
    if (appends(server)) {
        server->phase = IMAP_PHASE_APPEND;
        imap_server_append(server, event);
    } else if (server->has_literal) {
        imap_server_literal_keep(server);
    } else {
        imap_server_run(server, event);
    }
}

/* A line that ends with LF alone is no line. What follows a literal's head in it is nothing we could be sure of. */
static void bare_line_end(struct imap_server *server)
{
    struct slice line =
        slice_of(server->text + server->line_from, server->text_bytes - server->line_from - 1);
    if (imap_literal_head_find(line, &server->head) && server->head.no_wait) {
        imap_server_bye(server, slice_of(NULL, 0), slice_text("Lines end with CRLF"));
        return;
    }
    server->has_literal = false;
    if (server->line_from == 0 && server->append == NULL) {
        struct imap_command_head head;
        head_read(server, server->text_bytes - 1, &head);
    }
    const struct imap_answer answer = imap_answer_of(IMAP_BAD, NULL, "Lines end with CRLF");
    imap_server_fail(server, &answer);
}

/* Too long to be kept: what came so far says whose it is. */
static void overflow(struct imap_server *server, struct slice part)
{
    if (server->phase == IMAP_PHASE_IDLE) {
        imap_server_bye(server, slice_of(NULL, 0), slice_text("Expected DONE"));
        return;
    }
    if (server->phase == IMAP_PHASE_LINE && server->line_from == 0 && server->append == NULL) {
        struct imap_command_head head;
        if (server->text_bytes < IMAP_TAG_BYTES_MAX + 16 &&
            !text_add(server, slice_first(part, IMAP_TAG_BYTES_MAX + 16))) {
            return;
        }
        head_read(server, server->text_bytes, &head);
    }
    if (server->append == NULL) {
        server->skip_left = IMAP_SKIP_BYTES_MAX;
    }
    server->failure = imap_answer_of(IMAP_BAD, "LIMIT", "Command is too long");
    imap_server_skip_line(server);
}

static void idle_line(struct imap_server *server, struct imap_event *event)
{
    struct slice line = slice_of(server->text, server->text_bytes - 1);
    line.size -= line.size > 0 && line.bytes[line.size - 1] == '\r';
    server->idle_broken = !slice_equal_nocase(line, slice_text("DONE"));
    server->phase = IMAP_PHASE_IDLE_DONE;
    event->kind = IMAP_EVENT_IDLE_DONE;
}

static size_t line_input(struct imap_server *server, struct slice input, struct imap_event *event)
{
    const uint8_t *newline = memchr(input.bytes, '\n', input.size);
    size_t size = newline == NULL ? input.size : (size_t)(newline - input.bytes) + 1;
    if (server->text_bytes + size > text_bytes_max(server)) {
        overflow(server, input);
        return 0; /* what came goes the way of what is passed over */
    }
    if (!text_add(server, slice_first(input, size)) || newline == NULL) {
        return size;
    }
    if (server->phase == IMAP_PHASE_IDLE) {
        idle_line(server, event);
    } else if (server->phase == IMAP_PHASE_RESPONSE) {
        imap_server_response(server, event);
    } else if (server->text_bytes - server->line_from < 2 ||
               server->text[server->text_bytes - 2] != '\r') {
        bare_line_end(server);
    } else {
        line_end(server, event);
    }
    return size;
}

size_t imap_server_lines(struct imap_server *server, struct slice input, struct imap_event *event)
{
    size_t used = 0;
    /* Until something was used or said: who feeds us takes silence for the wish for more. */
    do {
        struct slice rest = slice_from(input, used);
        switch ((enum imap_server_phase)server->phase) {
        case IMAP_PHASE_LINE:
        case IMAP_PHASE_RESPONSE:
        case IMAP_PHASE_IDLE:
            used += line_input(server, rest, event);
            break;
        case IMAP_PHASE_LITERAL:
            used += literal_input(server, rest);
            break;
        case IMAP_PHASE_SKIP_LINE:
            used += skip_line_input(server, rest);
            break;
        case IMAP_PHASE_SKIP_LITERAL:
            used += skip_literal_input(server, rest);
            break;
        case IMAP_PHASE_GREETING:
        case IMAP_PHASE_APPEND:
        case IMAP_PHASE_MESSAGE:
        case IMAP_PHASE_MESSAGE_BYTES:
        case IMAP_PHASE_COMMAND:
        case IMAP_PHASE_CHALLENGE:
        case IMAP_PHASE_IDLE_DONE:
        case IMAP_PHASE_SECURING:
        case IMAP_PHASE_ENDED:
            return used;
        }
    } while (used == 0);
    return used;
}
