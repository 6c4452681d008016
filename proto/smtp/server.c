#include "proto/smtp/server_private.h"
#include "engine/core/check.h"
#include <stdio.h>

/* Room that the replies to any one command fit in (the longest is EHLO's); below it no input is taken. */
#define REPLY_BYTES_MAX 640

void smtp_server_open(struct smtp_server *server, const struct smtp_server_settings *settings,
                      uint64_t now_ns)
{
    server->settings = settings;
    server->state = SMTP_CONNECTED;
    server->pending = SMTP_EVENT_NONE;
    server->extended = server->secured = server->reset_owed = server->refused = server->chunk_last =
        false;
    server->line_overflow = server->smtputf8 = false;
    server->bare_lines = server->lf_passed_over = server->text_may_follow = false;
    server->clock_due = false;
    server->auth_known = server->auth_demanded = server->authenticated = false;
    server->answer_due = server->auth_line = false;
    server->mechanisms = slice_of(NULL, 0);
    server->lent = NULL;
    server->chunk_left = 0;
    server->after_skip = SMTP_READY;
    server->recipient_count = server->commit_left = 0;
    server->errors = server->junk = server->messages = 0;
    server->deadline_ns = server->body_deadline_ns = now_ns + settings->command_ns;
    server->body_limits = (struct body_limits){
        .bytes_max = settings->message_bytes_max,
        .line_bytes_max = settings->line_bytes_max,
        .header_bytes_max = settings->header_bytes_max,
        .header_lines_max = settings->header_lines_max,
        .hops_max = settings->hops_max,
        .normalize = settings->normalize,
    };
    server->tail = slice_of(NULL, 0);
    server->helo_bytes = 0;
    server->line_bytes = server->output_from = server->output_bytes = 0;
}

void smtp_server_take_bare_lines(struct smtp_server *server)
{
    check(server->state == SMTP_CONNECTED);
    server->bare_lines = true;
}

/* ---- Replies ---- */

static size_t output_room(const struct smtp_server *server)
{
    return sizeof(server->output) - server->output_bytes;
}

bool smtp_server_fits(const struct smtp_server *server, size_t size)
{
    return output_room(server) + server->output_from >= size;
}

bool smtp_server_has_room(const struct smtp_server *server)
{
    return smtp_server_fits(server, REPLY_BYTES_MAX);
}

static void output_add(struct smtp_server *server, const void *bytes, size_t size)
{
    check(size <= output_room(server));
    memcpy(server->output + server->output_bytes, bytes, size);
    server->output_bytes = (uint16_t)(server->output_bytes + size);
}

static void output_compact(struct smtp_server *server)
{
    if (server->output_from > 0) {
        memmove(server->output, server->output + server->output_from,
                server->output_bytes - server->output_from);
        server->output_bytes = (uint16_t)(server->output_bytes - server->output_from);
        server->output_from = 0;
    }
}

void smtp_server_reply(struct smtp_server *server, unsigned code, const char *status,
                       struct slice text)
{
    char start[16];
    size_t size = 0;
    start[size++] = (char)('0' + code / 100);
    start[size++] = (char)('0' + code / 10 % 10);
    start[size++] = (char)('0' + code % 10);
    start[size++] = ' ';
    output_compact(server);
    output_add(server, start, size);
    if (status[0] != '\0') {
        output_add(server, status, strlen(status));
        output_add(server, " ", 1);
    }
    text = slice_first(text, SMTP_VERDICT_TEXT_MAX);
    output_add(server, text.bytes, text.size);
    output_add(server, "\r\n", 2);
}

void smtp_server_lines(struct smtp_server *server, struct slice lines)
{
    output_compact(server);
    output_add(server, lines.bytes, lines.size);
}

void smtp_server_end(struct smtp_server *server)
{
    smtp_server_reset(server);
    server->state = SMTP_ENDED;
}

static void errors_limit(struct smtp_server *server)
{
    uint32_t most = server->settings->errors_max;
    if (server->state != SMTP_ENDED && most > 0 && server->errors >= most) {
        smtp_server_reply(server, 421, "4.7.0", slice_text("Too many errors"));
        smtp_server_end(server);
    }
}

void smtp_server_error(struct smtp_server *server, unsigned code, const char *status,
                       const char *text)
{
    server->errors++;
    smtp_server_reply(server, code, status, slice_text(text));
    errors_limit(server);
}

void smtp_server_no_command(struct smtp_server *server, unsigned code, const char *status,
                            const char *text)
{
    if (server->text_may_follow) {
        server->errors++;
        smtp_server_reply(server, 421, "4.7.0", slice_text("Protocol synchronization lost"));
        smtp_server_end(server);
    } else {
        smtp_server_error(server, code, status, text);
    }
}

struct slice smtp_server_output(const struct smtp_server *server)
{
    return slice_of(server->output + server->output_from,
                    (size_t)(server->output_bytes - server->output_from));
}

void smtp_server_sent(struct smtp_server *server, size_t bytes)
{
    check(bytes <= (size_t)(server->output_bytes - server->output_from));
    server->output_from = (uint16_t)(server->output_from + bytes);
    if (server->output_from == server->output_bytes) {
        server->output_from = server->output_bytes = 0;
    }
}

/* ---- The transaction ---- */

void smtp_server_reset(struct smtp_server *server)
{
    if (smtp_server_in_transaction(server)) {
        server->reset_owed = true;
        server->state = SMTP_READY;
    }
    server->recipient_count = 0;
    server->refused = false;
    server->smtputf8 = false;
    server->tail = slice_of(NULL, 0);
}

void smtp_server_body_open(struct smtp_server *server, bool chunks, struct smtp_event *event)
{
    body_scan_open(&server->scan, &server->body_limits, chunks);
    server->state = chunks ? SMTP_CHUNK : SMTP_BODY;
    server->refused = false;
    event->kind = SMTP_EVENT_BODY_BEGIN;
}

void smtp_server_body_refuse(struct smtp_server *server, const struct smtp_verdict *verdict)
{
    check(server->state == SMTP_BODY || server->state == SMTP_CHUNK ||
          server->state == SMTP_CHUNK_NEXT || server->state == SMTP_COMMIT ||
          server->state == SMTP_CHUNK_SKIP);
    server->refused = true;
    server->refusal_code = verdict->code;
    snprintf(server->refusal_status, sizeof(server->refusal_status), "%s", verdict->status);
    snprintf(server->refusal_text, sizeof(server->refusal_text), "%.*s", (int)verdict->text.size,
             (const char *)verdict->text.bytes);
}

static struct smtp_verdict fault_verdict(enum body_fault fault)
{
    switch (fault) {
    case BODY_GOOD:
        break;
    case BODY_BARE_NEWLINE:
        return (struct smtp_verdict){550, "5.6.0", slice_text("Bare CR or LF in the message")};
    case BODY_NUL:
        return (struct smtp_verdict){550, "5.6.0", slice_text("NUL in the message")};
    case BODY_LONG_LINE:
        return (struct smtp_verdict){552, "5.6.0", slice_text("A line of the message is too long")};
    case BODY_LARGE_HEADER:
        return (struct smtp_verdict){552, "5.6.0", slice_text("The header section is too large")};
    case BODY_LOOP:
        return (struct smtp_verdict){554, "5.4.6", slice_text("Too many hops, this is a loop")};
    case BODY_TOO_LARGE:
        return (struct smtp_verdict){552, "5.3.4", slice_text("Message is too large")};
    }
    return (struct smtp_verdict){451, "4.3.0", slice_text("Local error in processing")};
}

static void fault_refuse(struct smtp_server *server)
{
    if (server->scan.fault != BODY_GOOD && !server->refused) {
        const struct smtp_verdict verdict = fault_verdict((enum body_fault)server->scan.fault);
        smtp_server_body_refuse(server, &verdict);
    }
}

/* The refusal goes out once for SMTP, and for LMTP once for each recipient that was accepted (RFC 2033 §4.2). */
static void refusal_reply(struct smtp_server *server)
{
    uint32_t count = server->settings->lmtp ? server->recipient_count : 1;
    server->commit_left = count;
    server->state = SMTP_COMMIT;
    server->reset_owed = true; /* before the replies */
}

/* The whole message is there. */
static void body_close(struct smtp_server *server, struct smtp_event *event)
{
    server->messages++;
    fault_refuse(server);
    if (server->refused) {
        server->errors++;
        refusal_reply(server);
        return;
    }
    server->state = SMTP_COMMIT;
    server->commit_left = server->settings->lmtp ? server->recipient_count : 1;
    server->pending = SMTP_EVENT_BODY_END;
    event->kind = SMTP_EVENT_BODY_END;
}

static void commit_finish(struct smtp_server *server)
{
    server->pending = SMTP_EVENT_NONE;
    server->state = SMTP_READY;
    server->clock_due = true;
    server->recipient_count = 0;
    server->refused = false;
    server->smtputf8 = false;
}

/* Replies of a refusal as far as there is room; LMTP may owe a thousand. */
static bool refusal_drain(struct smtp_server *server)
{
    while (server->commit_left > 0 && smtp_server_has_room(server)) {
        smtp_server_reply(server, server->refusal_code, server->refusal_status,
                          slice_text(server->refusal_text));
        server->commit_left--;
    }
    if (server->commit_left > 0) {
        return false;
    }
    commit_finish(server);
    errors_limit(server);
    return true;
}

static void greet(struct smtp_server *server)
{
    char text[320];
    int size = snprintf(
        text, sizeof(text), "%.*s %s Tubepost",
        (int)(server->settings->hostname.size < 255 ? server->settings->hostname.size : 255),
        (const char *)server->settings->hostname.bytes, server->settings->lmtp ? "LMTP" : "ESMTP");
    smtp_server_reply(server, 220, "", slice_of(text, (size_t)size));
}

static void verdict_give(struct smtp_server *server, const struct smtp_verdict *verdict)
{
    smtp_server_reply(server, verdict->code, verdict->status, verdict->text);
    if (verdict->code >= 400) {
        server->errors++;
    }
    if (verdict->code == 421) {
        smtp_server_end(server);
    }
}

void smtp_server_verdict(struct smtp_server *server, const struct smtp_verdict *verdict)
{
    static const struct smtp_verdict usual = {250, "2.0.0", {(const uint8_t *)"Ok", 2}};
    enum smtp_event_kind pending = (enum smtp_event_kind)server->pending;
    const struct smtp_verdict *answer = verdict != NULL ? verdict : &usual;
    check(pending != SMTP_EVENT_NONE);
    if (pending == SMTP_EVENT_BODY_END) {
        if (answer->code < 400) {
            server->junk = 0; /* many clients say RSET before each message */
        }
        verdict_give(server, answer);
        if (server->state == SMTP_COMMIT && --server->commit_left == 0) {
            commit_finish(server);
        }
        return;
    }
    check(pending != SMTP_EVENT_AUTH_ROOM);
    server->pending = SMTP_EVENT_NONE;
    server->clock_due = true;
    if (pending == SMTP_EVENT_AUTH || pending == SMTP_EVENT_AUTH_ANSWER) {
        smtp_server_auth_over(server);
        server->authenticated = answer->code < 400;
        verdict_give(server, answer);
        errors_limit(server);
        return;
    }
    if (pending == SMTP_EVENT_CONNECTED) {
        if (verdict == NULL) {
            greet(server);
            server->state = SMTP_GREETED;
        } else {
            verdict_give(server, verdict);
            server->state = verdict->code < 400 ? SMTP_GREETED : SMTP_ENDED;
        }
        return;
    }
    if (answer->code < 400 && pending == SMTP_EVENT_SENDER) {
        server->state = SMTP_SENDER;
    } else if (answer->code < 400 && pending == SMTP_EVENT_RECIPIENT) {
        server->state = SMTP_RECIPIENTS;
        server->recipient_count++;
    }
    verdict_give(server, answer);
    errors_limit(server);
}

/* ---- Input ---- */

static enum smtp_want want_now(const struct smtp_server *server)
{
    if (server->pending == SMTP_EVENT_BODY_END) {
        return SMTP_WANT_COMMIT;
    }
    if (server->pending != SMTP_EVENT_NONE) {
        return SMTP_WANT_VERDICT;
    }
    if (server->state == SMTP_SECURING && !server->reset_owed) {
        return SMTP_WANT_TLS;
    }
    return server->state == SMTP_ENDED && !server->reset_owed ? SMTP_WANT_CLOSE : SMTP_WANT_INPUT;
}

/* A piece of the body that the owner is to keep, unless it is refused already. */
static void piece_give(struct smtp_server *server, struct slice piece, struct smtp_event *event)
{
    if (server->scan.fault == BODY_GOOD && !server->refused && piece.size > 0) {
        event->kind = SMTP_EVENT_BODY;
        event->body = piece;
    }
}

/* Reads body until there is a piece to give. Pieces of a body that is refused are passed over here: some take no input,
 * and who feeds us would believe that we wait for more. */
static enum body_step body_read(struct smtp_server *server, struct slice input, size_t *used,
                                struct smtp_event *event)
{
    enum body_step step;
    *used = 0;
    do {
        struct slice piece;
        size_t taken;
        step = body_scan_next(&server->scan, slice_from(input, *used), &taken, &piece);
        *used += taken;
        if (step == BODY_PIECE) {
            piece_give(server, piece, event);
        }
    } while (step == BODY_PIECE && event->kind == SMTP_EVENT_NONE);
    return step;
}

static size_t data_input(struct smtp_server *server, struct slice input, struct smtp_event *event)
{
    size_t used;
    if (body_read(server, input, &used, event) == BODY_END) {
        body_close(server, event);
    }
    return used;
}

static void chunk_end(struct smtp_server *server, struct smtp_event *event)
{
    if (!server->chunk_last) {
        server->state = SMTP_CHUNK_NEXT;
        fault_refuse(server);
        if (server->refused) { /* RFC 3030 §3: a failed chunk ends the transaction */
            smtp_server_reset(server);
            smtp_server_error(server, server->refusal_code, server->refusal_status,
                              server->refusal_text);
            return;
        }
        smtp_server_reply(server, 250, "2.0.0", slice_text("Ok"));
        return;
    }
    struct slice tail = body_scan_close(&server->scan);
    if (tail.size > 0 && server->scan.fault == BODY_GOOD && !server->refused) {
        /* The end follows with the next call: chunk_left is 0 and the line is closed. */
        event->kind = SMTP_EVENT_BODY;
        event->body = tail;
        return;
    }
    body_close(server, event);
}

static size_t chunk_input(struct smtp_server *server, struct slice input, struct smtp_event *event)
{
    size_t used = 0;
    input =
        slice_first(input, server->chunk_left < SIZE_MAX ? (size_t)server->chunk_left : SIZE_MAX);
    if (server->state == SMTP_CHUNK_SKIP) {
        server->chunk_left -= input.size;
        if (server->chunk_left == 0) {
            server->state = server->after_skip;
        }
        return input.size;
    }
    enum body_step step = body_read(server, input, &used, event);
    server->chunk_left -= used;
    if (step != BODY_PIECE && server->chunk_left == 0) {
        chunk_end(server, event);
    }
    return used;
}

/* Keeps a part of a command line. False: there is no room, which the owner is asked for. */
static bool line_keep(struct smtp_server *server, struct slice part, struct smtp_event *event)
{
    size_t room = server->lent != NULL ? SMTP_AUTH_LINE_BYTES_MAX : sizeof(server->line);
    if (!server->line_overflow && server->line_bytes + part.size > room) {
        server->auth_line = smtp_server_auth_is_line(server, part);
        if (server->auth_line && server->lent == NULL) {
            event->kind = SMTP_EVENT_AUTH_ROOM;
            server->pending = SMTP_EVENT_AUTH_ROOM;
            return false;
        }
        server->line_overflow = true;
    }
    if (!server->line_overflow) {
        char *place = server->lent != NULL ? server->lent : server->line;
        memcpy(place + server->line_bytes, part.bytes, part.size);
        server->line_bytes = (uint16_t)(server->line_bytes + part.size);
    }
    return true;
}

/* Whether the line is one of AUTH's or a command. */
static void line_take(struct smtp_server *server, struct slice line, bool more,
                      struct smtp_event *event)
{
    if (server->state == SMTP_EXCHANGE) {
        smtp_server_auth_answer(server, line, event);
    } else {
        smtp_server_command(server, line, more, event);
    }
}

static void line_break(struct smtp_server *server, const char *status, const char *text)
{
    if (server->state == SMTP_EXCHANGE) {
        smtp_server_auth_break(server, 500, status, text);
    } else {
        smtp_server_no_command(server, 500, status, text);
    }
}

static void line_run(struct smtp_server *server, struct slice line, bool more,
                     struct smtp_event *event)
{
    bool exchanged = server->state == SMTP_EXCHANGE || server->lent != NULL;
    if (server->line_overflow) {
        line_break(server, server->auth_line ? "5.5.6" : "5.5.2", "Line too long");
    } else if (line.size > 0 && line.bytes[line.size - 1] == '\r') {
        line_take(server, slice_first(line, line.size - 1), more, event);
    } else if (server->bare_lines) {
        line_take(server, line, more, event);
    } else {
        line_break(server, "5.5.2", "Lines end with CRLF");
        if (slice_equal_nocase(line, slice_text("DATA"))) {
            smtp_server_text_expect(server, more);
        }
    }
    server->line_bytes = 0;
    server->line_overflow = server->auth_line = false;
    if (exchanged && server->pending == SMTP_EVENT_NONE) {
        smtp_server_auth_over(server);
        event->kind = SMTP_EVENT_AUTH_END;
    }
}

/* Returns how far the command line reaches with its end, and in *size how far without LF, or without the CR that ends
 * it where that is taken; 0: the end has not come. */
static size_t line_find(struct smtp_server *server, struct slice input, size_t *size)
{
    const uint8_t *newline = memchr(input.bytes, '\n', input.size);
    *size = newline == NULL ? input.size : (size_t)(newline - input.bytes);
    const uint8_t *carriage = server->bare_lines ? memchr(input.bytes, '\r', *size) : NULL;
    if (carriage == NULL) {
        return newline == NULL ? 0 : *size + 1;
    }
    *size = (size_t)(carriage - input.bytes);
    server->lf_passed_over = *size + 1 == input.size;
    return *size + 1 + (carriage + 1 == newline);
}

static size_t command_input(struct smtp_server *server, struct slice input,
                            struct smtp_event *event)
{
    size_t size;
    if (server->text_may_follow && server->output_bytes > server->output_from) {
        smtp_server_text_came(server); /* it was here before the refusal was sent */
        return input.size;
    }
    if (server->answer_due && server->output_bytes > server->output_from) {
        smtp_server_synchronization_lost(
            server); /* who pipelines has not seen the answer to AUTH */
        return input.size;
    }
    server->answer_due = false;
    if (server->line_bytes == 0 && !server->line_overflow && input.bytes[0] == 0x16 &&
        server->state == SMTP_GREETED) {
        smtp_server_reply(server, 554, "5.5.1",
                          slice_text("TLS begins with STARTTLS here, if at all"));
        smtp_server_end(server);
        return input.size;
    }
    size_t taken = line_find(server, input, &size);
    bool in_place = taken > 0 && server->line_bytes == 0 && !server->line_overflow &&
                    server->state != SMTP_EXCHANGE && size <= sizeof(server->line);
    struct slice part = taken > 0 ? slice_first(input, size) : input;
    if (!in_place && !line_keep(server, part, event)) {
        return 0;
    }
    if (taken == 0) {
        return input.size;
    }
    const char *kept = server->lent != NULL ? server->lent : server->line;
    line_run(server, in_place ? part : slice_of(kept, server->line_bytes), taken < input.size,
             event);
    return taken;
}

static bool reset_give(struct smtp_server *server, struct smtp_event *event)
{
    if (!server->reset_owed) {
        return false;
    }
    server->reset_owed = false;
    event->kind = SMTP_EVENT_RESET;
    return true;
}

enum smtp_want smtp_server_input(struct smtp_server *server, uint64_t now_ns, struct slice input,
                                 size_t *used, struct smtp_event *event)
{
    *used = 0;
    event->kind = SMTP_EVENT_NONE;
    if (reset_give(server, event)) {
        return want_now(server);
    }
    if (server->pending != SMTP_EVENT_NONE || server->state == SMTP_ENDED ||
        server->state == SMTP_SECURING) {
        return want_now(server);
    }
    if (server->state == SMTP_CONNECTED) {
        server->pending = SMTP_EVENT_CONNECTED;
        event->kind = SMTP_EVENT_CONNECTED;
        return SMTP_WANT_VERDICT;
    }
    if (server->clock_due) {
        server->clock_due = false;
        smtp_server_time_command(server, now_ns, true);
    }
    if (!smtp_server_has_room(server)) {
        return SMTP_WANT_INPUT;
    }
    if (server->state == SMTP_COMMIT && (!refusal_drain(server) || server->state == SMTP_ENDED)) {
        return want_now(server);
    }
    if (server->lf_passed_over && input.size > 0) {
        server->lf_passed_over = false;
        *used = input.bytes[0] == '\n';
        if (*used > 0) {
            return want_now(server);
        }
    }
    bool empty_chunk = server->state == SMTP_CHUNK && server->chunk_left == 0;
    if (input.size == 0 && !empty_chunk) {
        return SMTP_WANT_INPUT;
    }
    bool body = server->state == SMTP_BODY;
    bool chunk = server->state == SMTP_CHUNK || server->state == SMTP_CHUNK_SKIP;
    if (body || chunk) {
        *used = body ? data_input(server, input, event) : chunk_input(server, input, event);
        smtp_server_time_body(server, now_ns, *used);
    } else {
        bool between_chunks = server->state == SMTP_CHUNK_NEXT;
        *used = command_input(server, input, event);
        if (server->line_bytes == 0 && !server->line_overflow && *used > 0) {
            smtp_server_time_command(server, now_ns, !between_chunks);
        }
    }
    if (*used == 0 && event->kind == SMTP_EVENT_NONE) {
        reset_give(server, event); /* the end of an empty chunk: without it we would seem to wait */
    }
    return want_now(server);
}

/* ---- The end, and what is known of the session ---- */

bool smtp_server_idle(const struct smtp_server *server)
{
    return server->pending == SMTP_EVENT_NONE && server->line_bytes == 0 &&
           !server->line_overflow && (server->state == SMTP_GREETED || server->state == SMTP_READY);
}

void smtp_server_shut(struct smtp_server *server)
{
    check(smtp_server_idle(server));
    if (smtp_server_has_room(server)) {
        smtp_server_reply(server, 421, "4.3.2", slice_text("Service is ending"));
    }
    smtp_server_end(server);
}

struct slice smtp_server_helo(const struct smtp_server *server)
{
    return slice_of(server->helo, server->helo_bytes);
}

void smtp_server_secured(struct smtp_server *server, uint64_t now_ns)
{
    check(server->state == SMTP_CONNECTED || server->state == SMTP_SECURING);
    check(server->line_bytes == 0 && !server->line_overflow);
    server->secured = true;
    server->extended = server->lf_passed_over = server->text_may_follow = false;
    server->helo_bytes = 0;
    server->deadline_ns = now_ns + server->settings->command_ns;
    if (server->state == SMTP_SECURING) {
        server->state = SMTP_GREETED;
    }
}

const char *smtp_server_protocol(const struct smtp_server *server)
{
    static const char *const words[2][4] = {{"ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"},
                                            {"UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"}};
    bool secured = server->secured, authenticated = server->authenticated;
    if (server->settings->lmtp) {
        return server->smtputf8 ? secured ? "UTF8LMTPS" : "UTF8LMTP" : secured ? "LMTPS" : "LMTP";
    }
    /* HELO has no word of its own for what EHLO has announced, and who says HELO cannot know of it: RFC 3848. */
    if (!server->smtputf8 && !server->extended) {
        return "SMTP";
    }
    return words[server->smtputf8][2 * secured + authenticated];
}
