#include "proto/pop3/server_private.h"
#include "engine/core/check.h"
#include "engine/core/base64.h"
#include <stdio.h>
#include <stdlib.h>

/* How long the client may say nothing. */
static uint64_t patience_ns(const struct pop3_server *server)
{
    const struct pop3_server_settings *settings = server->settings;
    return server->maildrop == NULL && settings->login_ns != 0 ? settings->login_ns
                                                               : settings->idle_ns;
}

void pop3_server_open(struct pop3_server *server, const struct pop3_server_settings *settings,
                      uint64_t now_ns)
{
    memset(server, 0, offsetof(struct pop3_server, user));
    server->settings = settings;
    server->state = POP3_CONNECTED;
    server->pending = POP3_EVENT_NONE;
    server->deadline_ns = now_ns + patience_ns(server);
}

/* A password may have been in it. */
static void line_drop(struct pop3_server *server)
{
    if (server->long_line != NULL) {
        explicit_bzero(server->long_line, POP3_EXCHANGE_BYTES_MAX);
        free(server->long_line);
        server->long_line = NULL;
    }
    server->line_bytes = 0;
    server->line_overflow = server->line_ended = false;
}

void pop3_server_close(struct pop3_server *server)
{
    line_drop(server);
    explicit_bzero(server->line, sizeof(server->line));
}

/* ---- Replies ---- */

size_t pop3_server_room(const struct pop3_server *server)
{
    return sizeof(server->output) - server->output_bytes + server->output_from;
}

void pop3_server_add(struct pop3_server *server, struct slice octets)
{
    if (server->output_from > 0) {
        memmove(server->output, server->output + server->output_from,
                server->output_bytes - server->output_from);
        server->output_bytes = (uint16_t)(server->output_bytes - server->output_from);
        server->output_from = 0;
    }
    check(octets.size <= sizeof(server->output) - server->output_bytes);
    if (octets.size > 0) {
        memcpy(server->output + server->output_bytes, octets.bytes, octets.size);
        server->output_bytes = (uint16_t)(server->output_bytes + octets.size);
    }
}

static void reply(struct pop3_server *server, const char *status, const char *code,
                  struct slice text)
{
    pop3_server_add(server, slice_text(status));
    if (code[0] != '\0') {
        pop3_server_add(server, slice_text(" ["));
        pop3_server_add(server, slice_text(code));
        pop3_server_add(server, slice_text("]"));
    }
    if (text.size > 0) {
        pop3_server_add(server, slice_text(" "));
        pop3_server_add(server, slice_first(text, POP3_TEXT_MAX));
    }
    pop3_server_add(server, slice_text("\r\n"));
}

void pop3_server_ok(struct pop3_server *server, const char *text)
{
    reply(server, "+OK", "", slice_text(text));
}

void pop3_server_end(struct pop3_server *server)
{
    server->state = POP3_ENDED;
    server->pending = POP3_EVENT_NONE;
}

static void error_count(struct pop3_server *server)
{
    uint32_t most = server->settings->errors_max;
    if (++server->errors >= most && most > 0) {
        pop3_server_end(server);
    }
}

void pop3_server_err(struct pop3_server *server, const char *code, const char *text)
{
    reply(server, "-ERR", code, slice_text(text));
    error_count(server);
}

/* ---- Answers of the owner ---- */

static void refuse(struct pop3_server *server, enum pop3_event_kind pending)
{
    switch (pending) {
    case POP3_EVENT_CONNECTED:
    case POP3_EVENT_UPDATE: /* RFC 1939 §6: it ends all the same */
        pop3_server_end(server);
        return;
    case POP3_EVENT_LOGIN:
    case POP3_EVENT_AUTH:
    case POP3_EVENT_AUTH_ANSWER:
        server->state = POP3_AUTHORIZATION;
        error_count(server);
        return;
    case POP3_EVENT_RETRIEVE:
        error_count(server);
        return;
    case POP3_EVENT_NONE:
    case POP3_EVENT_AUTH_CANCEL:
        break;
    }
    check(!"nothing is to be answered");
}

static void grant(struct pop3_server *server, enum pop3_event_kind pending)
{
    switch (pending) {
    case POP3_EVENT_CONNECTED:
        server->state = POP3_AUTHORIZATION;
        return;
    case POP3_EVENT_UPDATE:
        pop3_server_end(server);
        return;
    case POP3_EVENT_RETRIEVE:
        server->state = POP3_SENDING;
        return;
    case POP3_EVENT_LOGIN:
    case POP3_EVENT_AUTH:
    case POP3_EVENT_AUTH_ANSWER:
    case POP3_EVENT_NONE:
    case POP3_EVENT_AUTH_CANCEL:
        break;
    }
    check(!"this is granted by pop3_server_admit");
}

void pop3_server_verdict(struct pop3_server *server, const struct pop3_verdict *verdict)
{
    enum pop3_event_kind pending = (enum pop3_event_kind)server->pending;
    struct pop3_verdict usual = {POP3_OK, "",
                                 slice_text(pending == POP3_EVENT_UPDATE ? "Bye" : "")};
    if (pending == POP3_EVENT_CONNECTED) {
        usual.text = server->settings->greeting;
    }
    verdict = verdict == NULL ? &usual : verdict;
    server->pending = POP3_EVENT_NONE;
    server->clock_due = true;
    reply(server, verdict->answer == POP3_OK ? "+OK" : "-ERR", verdict->code, verdict->text);
    if (verdict->answer == POP3_OK) {
        grant(server, pending);
    } else {
        refuse(server, pending);
    }
    if (verdict->answer == POP3_ERR_CLOSE) {
        pop3_server_end(server);
    }
}

static bool exchange_pending(const struct pop3_server *server)
{
    return server->pending == POP3_EVENT_AUTH || server->pending == POP3_EVENT_AUTH_ANSWER;
}

void pop3_server_admit(struct pop3_server *server, struct pop3_maildrop *maildrop)
{
    check(exchange_pending(server) || server->pending == POP3_EVENT_LOGIN);
    server->pending = POP3_EVENT_NONE;
    server->clock_due = true;
    server->state = POP3_TRANSACTION;
    server->maildrop = maildrop;
    server->live_count = 0;
    server->live_bytes = 0;
    for (uint32_t i = 0; i < maildrop->count; i++) {
        check(maildrop->messages[i].uidl.size >= 1 &&
              maildrop->messages[i].uidl.size <= POP3_UIDL_BYTES_MAX);
        server->live_count += !maildrop->messages[i].deleted;
        server->live_bytes += maildrop->messages[i].deleted ? 0 : maildrop->messages[i].bytes;
    }
    pop3_server_ok(server, "Logged in");
}

void pop3_server_challenge(struct pop3_server *server, struct slice octets)
{
    char text[BASE64_BYTES(POP3_CHALLENGE_BYTES_MAX)];
    check(exchange_pending(server));
    server->pending = POP3_EVENT_NONE;
    server->clock_due = true;
    if (octets.size > POP3_CHALLENGE_BYTES_MAX) {
        server->state = POP3_AUTHORIZATION;
        pop3_server_err(server, "AUTH", "The exchange has grown too long");
        return;
    }
    server->state = POP3_EXCHANGE;
    pop3_server_add(server, slice_text("+ "));
    pop3_server_add(server, slice_of(text, base64_encode(octets, text)));
    pop3_server_add(server, slice_text("\r\n"));
}

/* ---- A message ---- */

bool pop3_server_piece(struct pop3_server *server, struct slice *rest, struct slice *piece)
{
    check(server->state == POP3_SENDING);
    return pop3_top_next(&server->top, rest, piece);
}

bool pop3_server_message_enough(const struct pop3_server *server)
{
    return server->top.done;
}

void pop3_server_message_end(struct pop3_server *server)
{
    check(server->state == POP3_SENDING);
    server->state = POP3_TRANSACTION;
    server->clock_due = true;
    pop3_server_add(server, slice_text(pop3_top_line_ended(&server->top) ? ".\r\n" : "\r\n.\r\n"));
}

void pop3_server_message_broken(struct pop3_server *server)
{
    check(server->state == POP3_SENDING);
    pop3_server_end(server);
}

/* ---- Input ---- */

static enum pop3_want want_now(const struct pop3_server *server)
{
    if (server->pending != POP3_EVENT_NONE) {
        return POP3_WANT_VERDICT;
    }
    switch ((enum pop3_state)server->state) {
    case POP3_SENDING:
        return POP3_WANT_MESSAGE;
    case POP3_SECURING:
        return POP3_WANT_TLS;
    case POP3_ENDED:
        return POP3_WANT_CLOSE;
    case POP3_CONNECTED:
    case POP3_AUTHORIZATION:
    case POP3_USER:
    case POP3_EXCHANGE:
    case POP3_TRANSACTION:
    case POP3_LISTING:
    case POP3_UPDATE:
        break;
    }
    return POP3_WANT_INPUT;
}

static char *line_of(struct pop3_server *server)
{
    return server->long_line != NULL ? server->long_line : server->line;
}

/* Only what carries SASL may be longer than a command. */
static bool line_grow(struct pop3_server *server, struct slice part)
{
    char start[5];
    size_t have = server->line_bytes < 5 ? server->line_bytes : 5;
    size_t more = part.size < 5 - have ? part.size : 5 - have;
    memcpy(start, server->line, have);
    memcpy(start + have, part.bytes, more);
    bool exchange = server->state == POP3_EXCHANGE ||
                    (server->state == POP3_AUTHORIZATION &&
                     slice_equal_nocase(slice_of(start, have + more), slice_text("AUTH ")));
    if (!exchange || server->long_line != NULL ||
        server->line_bytes + part.size > POP3_EXCHANGE_BYTES_MAX) {
        return false;
    }
    server->long_line = malloc(POP3_EXCHANGE_BYTES_MAX);
    if (server->long_line == NULL) {
        return false;
    }
    memcpy(server->long_line, server->line, server->line_bytes);
    return true;
}

static void line_keep(struct pop3_server *server, struct slice part)
{
    size_t room = server->long_line != NULL ? POP3_EXCHANGE_BYTES_MAX : POP3_COMMAND_BYTES_MAX;
    if (part.size == 0 || server->line_overflow) {
        return;
    }
    if (server->line_bytes + part.size > room && !line_grow(server, part)) {
        server->line_overflow = true;
        return;
    }
    memcpy(line_of(server) + server->line_bytes, part.bytes, part.size);
    server->line_bytes = (uint16_t)(server->line_bytes + part.size);
}

static size_t line_input(struct pop3_server *server, struct slice input, struct pop3_event *event)
{
    const uint8_t *newline = memchr(input.bytes, '\n', input.size);
    size_t size = newline == NULL ? input.size : (size_t)(newline - input.bytes);
    line_keep(server, slice_first(input, size));
    if (newline == NULL) {
        return size;
    }
    struct slice line = slice_of(line_of(server), server->line_bytes);
    if (server->line_overflow) {
        server->state = server->state == POP3_EXCHANGE ? POP3_AUTHORIZATION : server->state;
        pop3_server_err(server, "", "Line too long");
    } else if (line.size == 0 || line.bytes[line.size - 1] != '\r') {
        server->state = server->state == POP3_EXCHANGE ? POP3_AUTHORIZATION : server->state;
        pop3_server_err(server, "", "Lines end with CRLF");
    } else {
        pop3_server_command(server, slice_first(line, line.size - 1), event);
    }
    return size + 1;
}

enum pop3_want pop3_server_input(struct pop3_server *server, uint64_t now_ns, struct slice input,
                                 size_t *used, struct pop3_event *event)
{
    *used = 0;
    event->kind = POP3_EVENT_NONE;
    if (server->pending != POP3_EVENT_NONE || server->state == POP3_ENDED ||
        server->state == POP3_SECURING || server->state == POP3_SENDING) {
        return want_now(server);
    }
    if (server->state == POP3_CONNECTED) {
        server->pending = event->kind = POP3_EVENT_CONNECTED;
        return POP3_WANT_VERDICT;
    }
    if (server->clock_due) {
        server->clock_due = false;
        server->deadline_ns = now_ns + patience_ns(server);
    }
    if (server->state == POP3_LISTING) {
        pop3_server_list(server);
    }
    if (server->state == POP3_LISTING || input.size == 0 ||
        pop3_server_room(server) < POP3_REPLY_BYTES_MAX) {
        return want_now(server);
    }
    if (server->line_ended) { /* an event pointed into it */
        line_drop(server);
    }
    *used = line_input(server, input, event);
    server->line_ended = input.bytes[*used - 1] == '\n';
    if (server->line_ended) {
        server->deadline_ns = now_ns + patience_ns(server);
    }
    return want_now(server);
}

/* ---- The end, and the stream ---- */

void pop3_server_secured(struct pop3_server *server, uint64_t now_ns)
{
    check(server->state == POP3_CONNECTED || server->state == POP3_SECURING);
    server->secured = true;
    server->user_bytes = 0;
    server->deadline_ns = now_ns + patience_ns(server);
    if (server->state == POP3_SECURING) {
        server->state = POP3_AUTHORIZATION;
    }
}

struct slice pop3_server_output(const struct pop3_server *server)
{
    return slice_of(server->output + server->output_from,
                    (size_t)(server->output_bytes - server->output_from));
}

void pop3_server_sent(struct pop3_server *server, size_t bytes)
{
    check(bytes <= (size_t)(server->output_bytes - server->output_from));
    server->output_from = (uint16_t)(server->output_from + bytes);
}

void pop3_server_progress(struct pop3_server *server, uint64_t now_ns)
{
    server->deadline_ns = now_ns + patience_ns(server);
}

uint64_t pop3_server_deadline(const struct pop3_server *server)
{
    return server->pending != POP3_EVENT_NONE ? UINT64_MAX : server->deadline_ns;
}

void pop3_server_expire(struct pop3_server *server)
{
    pop3_server_end(server);
}
