#include "proto/sieve/managesieve_private.h"
#include "engine/core/check.h"
#include <stdio.h>

/* Literals that are thrown away, as the client sends them without asking; larger ones end the session. */
#define SKIP_BYTES_MAX (16u * 1024 * 1024)

static void clock_wind(struct managesieve_server *server, uint64_t now_ns)
{
    server->deadline_ns =
        now_ns + (server->logged_in ? server->settings->idle_ns : server->settings->login_ns);
}

static void greet(struct managesieve_server *server)
{
    managesieve_capabilities(server);
    managesieve_answer(server, MANAGESIEVE_OK, NULL, slice_text("ManageSieve ready."));
}

void managesieve_server_open(struct managesieve_server *server,
                             const struct managesieve_settings *settings, bool secured,
                             uint64_t now_ns)
{
    check(settings->implementation.size + settings->sieve.size + settings->sasl.size <=
          MANAGESIEVE_CAPABILITIES_BYTES_MAX);
    *server = (struct managesieve_server){.settings = settings, .secured = secured};
    clock_wind(server, now_ns);
    greet(server);
}

void managesieve_server_secured(struct managesieve_server *server, uint64_t now_ns)
{
    check(server->state == MANAGESIEVE_SECURING);
    server->state = MANAGESIEVE_CLEAR;
    server->secured = true;
    managesieve_line_forget(server);
    clock_wind(server, now_ns);
    greet(server);
}

/* ---- Lines ---- */

#define TAIL_BYTES                                                                                 \
    16u /* of a line that is too long: enough to see whether it ends with a literal */

static void line_add(struct managesieve_server *server, struct slice bytes)
{
    if (!server->overflow && bytes.size > sizeof(server->line) - server->line_bytes) {
        server->overflow = true;
        server->line_bytes = server->literal_end = 0;
    }
    if (server->overflow) {
        bytes = slice_from(bytes, bytes.size > TAIL_BYTES ? bytes.size - TAIL_BYTES : 0);
        while (server->line_bytes + bytes.size > TAIL_BYTES) {
            memmove(server->line, server->line + 1, --server->line_bytes);
        }
    }
    memcpy(server->line + server->line_bytes, bytes.bytes, bytes.size);
    server->line_bytes += (uint32_t)bytes.size;
}

/* Does it end with "{123+}"? */
static bool literal_announced(const struct managesieve_server *server, uint64_t *size)
{
    uint32_t at = server->line_bytes;
    uint64_t number = 0, scale = 1;
    if (at < 4 || server->line[at - 1] != '}' || server->line[at - 2] != '+') {
        return false;
    }
    at -= 2;
    uint32_t end = at;
    while (at > 0 && server->line[at - 1] >= '0' && server->line[at - 1] <= '9' && end - at < 11) {
        number += (uint64_t)(server->line[--at] - '0') * scale;
        scale *= 10;
    }
    *size = number;
    return at < end && at > server->literal_end && server->line[at - 1] == '{';
}

/* A literal begins. Returns whether an event or a script came of it. */
static bool literal_begin(struct managesieve_server *server, uint64_t size,
                          struct managesieve_event *event)
{
    if (size > SKIP_BYTES_MAX && size > server->settings->script_bytes_max) {
        managesieve_answer(server, MANAGESIEVE_BYE, "QUOTA/MAXSIZE",
                           slice_text("The literal is too large."));
        return true;
    }
    if (managesieve_script_begin(server, (uint32_t)size, event)) {
        return true;
    }
    line_add(server, slice_text("\r\n"));
    server->literal_left = (uint32_t)size;
    return false;
}

/* The end of a line: a command, or a literal goes on with it. True: stop here. */
static bool line_end(struct managesieve_server *server, struct managesieve_event *event)
{
    uint64_t size;
    if (server->line_bytes > server->literal_end && server->line[server->line_bytes - 1] == '\r') {
        server->line_bytes--;
    }
    if (!server->in_quotes && literal_announced(server, &size)) {
        return literal_begin(server, size, event);
    }
    managesieve_command(server, event);
    if (server->state != MANAGESIEVE_SCRIPT && server->pending == MANAGESIEVE_EVENT_NONE) {
        managesieve_line_forget(server); /* else what the event speaks of lies in it */
    }
    return true;
}

static bool byte_take(struct managesieve_server *server, uint8_t byte,
                      struct managesieve_event *event)
{
    if (byte == '\n') {
        return line_end(server, event);
    }
    if (server->escaped) {
        server->escaped = false;
    } else if (byte == '\\' && server->in_quotes) {
        server->escaped = true;
    } else if (byte == '"') {
        server->in_quotes = !server->in_quotes;
    }
    line_add(server, slice_of(&byte, 1));
    return false;
}

static void line_take(struct managesieve_server *server, struct slice input, size_t *used,
                      struct managesieve_event *event)
{
    while (*used < input.size) {
        if (server->literal_left > 0) {
            struct slice piece = slice_first(slice_from(input, *used), server->literal_left);
            line_add(server, piece);
            server->literal_left -= (uint32_t)piece.size;
            server->literal_end = server->line_bytes; /* nothing in it announces another */
            *used += piece.size;
        } else if (byte_take(server, input.bytes[(*used)++], event)) {
            return;
        }
    }
}

/* ---- Scripts ---- */

/* The line that a script was the last of. */
static void tail_take(struct managesieve_server *server, struct slice input, size_t *used,
                      struct managesieve_event *event)
{
    while (*used < input.size) {
        uint8_t byte = input.bytes[(*used)++];
        if (byte == '\n') {
            managesieve_script_done(server, event);
            return;
        }
        if (byte != '\r' && !server->script_refused) {
            server->script_refused = true;
            server->refusal_code = NULL;
            snprintf(server->refusal_text, sizeof(server->refusal_text),
                     "Behind the script the line must end.");
        }
    }
}

static void script_take(struct managesieve_server *server, struct slice input, size_t *used,
                        struct managesieve_event *event)
{
    if (server->script_quoted) {
        /* Its line has ended already: the piece, then the end. */
        if (server->script_left > 0 && !server->script_refused) {
            event->kind = MANAGESIEVE_EVENT_SCRIPT;
            event->text = server->quoted;
            server->script_left = 0;
            return;
        }
        managesieve_script_done(server, event);
        return;
    }
    struct slice piece = slice_first(input, server->script_left);
    *used += piece.size;
    server->script_left -= (uint32_t)piece.size;
    if (piece.size > 0 && !server->script_refused) {
        event->kind = MANAGESIEVE_EVENT_SCRIPT;
        event->text = piece;
    }
    if (server->script_left == 0) {
        server->state = MANAGESIEVE_SCRIPT_TAIL;
        managesieve_line_forget(server);
        if (event->kind == MANAGESIEVE_EVENT_NONE) {
            tail_take(server, input, used, event);
        }
    }
}

/* ---- The machine ---- */

static enum managesieve_want want_of(const struct managesieve_server *server)
{
    if (server->pending != MANAGESIEVE_EVENT_NONE) {
        return MANAGESIEVE_WANT_VERDICT;
    }
    switch ((enum managesieve_state)server->state) {
    case MANAGESIEVE_CLEAR:
    case MANAGESIEVE_LOGGING_IN:
    case MANAGESIEVE_LOGGED_IN:
    case MANAGESIEVE_SCRIPT:
    case MANAGESIEVE_SCRIPT_TAIL:
        break;
    case MANAGESIEVE_SECURING:
        return MANAGESIEVE_WANT_TLS;
    case MANAGESIEVE_ENDED:
        return MANAGESIEVE_WANT_CLOSE;
    }
    return MANAGESIEVE_WANT_INPUT;
}

enum managesieve_want managesieve_server_input(struct managesieve_server *server, uint64_t now_ns,
                                               struct slice input, size_t *used,
                                               struct managesieve_event *event)
{
    *used = 0;
    *event = (struct managesieve_event){.kind = MANAGESIEVE_EVENT_NONE};
    if (want_of(server) != MANAGESIEVE_WANT_INPUT ||
        managesieve_room(server) < MANAGESIEVE_REPLY_ROOM) {
        return want_of(server);
    }
    switch ((enum managesieve_state)server->state) {
    case MANAGESIEVE_CLEAR:
    case MANAGESIEVE_LOGGING_IN:
    case MANAGESIEVE_LOGGED_IN:
        line_take(server, input, used, event);
        break;
    case MANAGESIEVE_SCRIPT:
        script_take(server, input, used, event);
        break;
    case MANAGESIEVE_SCRIPT_TAIL:
        tail_take(server, input, used, event);
        break;
    case MANAGESIEVE_SECURING:
    case MANAGESIEVE_ENDED:
        break;
    }
    bool moved = server->clock_due || event->kind != MANAGESIEVE_EVENT_NONE ||
                 (*used > 0 && server->line_bytes == 0);
    if (moved) {
        clock_wind(server, now_ns);
        server->clock_due = false;
    }
    return want_of(server);
}

/* ---- The owner's answers ---- */

static void login_answer(struct managesieve_server *server,
                         const struct managesieve_verdict *verdict)
{
    if (verdict->reply != MANAGESIEVE_OK) {
        server->state = MANAGESIEVE_CLEAR;
        managesieve_answer(server, verdict->reply, verdict->code, verdict->text);
        managesieve_mistake(server);
        return;
    }
    server->state = MANAGESIEVE_LOGGED_IN;
    server->logged_in = true;
    if (verdict->text.size > 0) {
        managesieve_put(server, slice_text("OK (SASL "));
        managesieve_put_string(server, slice_first(verdict->text, MANAGESIEVE_CHALLENGE_BYTES_MAX));
        managesieve_put(server, slice_text(")\r\n"));
    } else {
        managesieve_answer(server, MANAGESIEVE_OK, NULL, slice_text("Logged in."));
    }
}

static void script_answer(struct managesieve_server *server,
                          const struct managesieve_verdict *verdict)
{
    if (verdict->reply == MANAGESIEVE_BYE) {
        managesieve_answer(server, verdict->reply, verdict->code, verdict->text);
    } else if (verdict->reply == MANAGESIEVE_NO) {
        server->script_refused = true;
        server->refusal_code = verdict->code;
        struct slice text = managesieve_cut(verdict->text, sizeof(server->refusal_text) - 1);
        snprintf(server->refusal_text, sizeof(server->refusal_text), "%.*s", (int)text.size,
                 text.size > 0 ? (const char *)text.bytes : "");
        if (server->script_quoted) {
            struct managesieve_event none;
            managesieve_script_done(server, &none); /* nothing more has to come */
        }
    }
}

void managesieve_server_verdict(struct managesieve_server *server,
                                const struct managesieve_verdict *verdict)
{
    const struct managesieve_verdict usual = {.reply = MANAGESIEVE_OK};
    enum managesieve_event_kind kind = (enum managesieve_event_kind)server->pending;
    check(kind != MANAGESIEVE_EVENT_NONE);
    verdict = verdict != NULL ? verdict : &usual;
    server->pending = MANAGESIEVE_EVENT_NONE;
    server->clock_due = true;
    if (kind == MANAGESIEVE_EVENT_SCRIPT_BEGIN) {
        script_answer(server, verdict);
        return;
    }
    managesieve_line_forget(server);
    if (kind == MANAGESIEVE_EVENT_AUTHENTICATE || kind == MANAGESIEVE_EVENT_RESPONSE) {
        login_answer(server, verdict);
        return;
    }
    if (server->sending) {
        check(server->sending_left == 0 || verdict->reply == MANAGESIEVE_BYE);
        server->sending = false;
        managesieve_put(server, slice_text("\r\n"));
    }
    managesieve_answer(server, verdict->reply, verdict->code, verdict->text);
}

void managesieve_server_challenge(struct managesieve_server *server, struct slice challenge)
{
    check(server->pending == MANAGESIEVE_EVENT_AUTHENTICATE ||
          server->pending == MANAGESIEVE_EVENT_RESPONSE);
    check(challenge.size <= MANAGESIEVE_CHALLENGE_BYTES_MAX);
    server->pending = MANAGESIEVE_EVENT_NONE;
    server->clock_due = true;
    managesieve_line_forget(server);
    managesieve_put_string(server, challenge);
    managesieve_put(server, slice_text("\r\n"));
}

bool managesieve_server_list(struct managesieve_server *server, struct slice name, bool active)
{
    check(server->pending == MANAGESIEVE_EVENT_LISTSCRIPTS);
    if (managesieve_room(server) < MANAGESIEVE_REPLY_ROOM / 2 + 2 * name.size) {
        return false; /* the answer must still fit */
    }
    managesieve_put_string(server, name);
    managesieve_put(server, slice_text(active ? " ACTIVE\r\n" : "\r\n"));
    return true;
}

void managesieve_server_script(struct managesieve_server *server, uint32_t size)
{
    char literal[24];
    check(server->pending == MANAGESIEVE_EVENT_GETSCRIPT && !server->sending);
    int written = snprintf(literal, sizeof(literal), "{%u}\r\n", size);
    managesieve_put(server, slice_of(literal, (size_t)written));
    server->sending = true;
    server->sending_left = size;
}

size_t managesieve_server_script_piece(struct managesieve_server *server, struct slice bytes)
{
    size_t room = managesieve_room(server), kept = MANAGESIEVE_REPLY_ROOM / 2;
    check(server->sending && bytes.size <= server->sending_left);
    bytes = slice_first(bytes, room > kept ? room - kept : 0);
    managesieve_put(server, bytes);
    server->sending_left -= (uint32_t)bytes.size;
    return bytes.size;
}

uint64_t managesieve_server_deadline(const struct managesieve_server *server)
{
    return server->pending != MANAGESIEVE_EVENT_NONE ? UINT64_MAX : server->deadline_ns;
}

static void bye(struct managesieve_server *server, const char *code, const char *text)
{
    if (server->state == MANAGESIEVE_ENDED) {
        return;
    }
    if (managesieve_room(server) >= MANAGESIEVE_TEXT_BYTES_MAX) {
        managesieve_answer(server, MANAGESIEVE_BYE, code, slice_text(text));
    }
    server->state = MANAGESIEVE_ENDED;
}

void managesieve_server_expire(struct managesieve_server *server)
{
    bye(server, NULL, "You have been idle for too long.");
}

void managesieve_server_shut(struct managesieve_server *server)
{
    if (server->pending == MANAGESIEVE_EVENT_NONE) {
        bye(server, "TRYLATER", "The server is stopping.");
    }
}
