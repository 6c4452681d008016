/* The commands of POP3, one line each. */
#include "engine/core/check.h"
#include "proto/pop3/server_private.h"
#include "engine/core/base64.h"
#include <stdio.h>

static struct slice mechanisms_of(const struct pop3_server *server)
{
    return server->secured ? server->settings->sasl_secure : server->settings->sasl_clear;
}

static bool login_allowed(const struct pop3_server *server)
{
    return server->secured || server->settings->clear_login;
}

/* ---- AUTHORIZATION ---- */

static void user_run(struct pop3_server *server, struct slice name, struct pop3_event *event)
{
    (void)event;
    if (!login_allowed(server)) {
        pop3_server_err(server, "", "Not without encryption");
        return;
    }
    if (name.size == 0 || name.size > POP3_USER_BYTES_MAX ||
        memchr(name.bytes, '\0', name.size) != NULL) {
        pop3_server_err(server, "", "USER wants a name");
        return;
    }
    memcpy(server->user, name.bytes, name.size);
    server->user_bytes = (uint16_t)name.size;
    server->state = POP3_USER;
    pop3_server_ok(server, "Password?"); /* whether there is such a user or not */
}

static void pass_run(struct pop3_server *server, struct slice password, struct pop3_event *event)
{
    server->state = POP3_AUTHORIZATION;
    if (password.size == 0 || memchr(password.bytes, '\0', password.size) != NULL) {
        pop3_server_err(server, "", "PASS wants a password");
        return;
    }
    event->kind = POP3_EVENT_LOGIN;
    event->user = slice_of(server->user, server->user_bytes);
    event->password = password;
    server->pending = POP3_EVENT_LOGIN;
}

/* Decodes in place. */
static bool octets_decode(struct slice text, struct slice *octets)
{
    uint8_t *place = (uint8_t *)(uintptr_t)text.bytes;
    long size = base64_decode(text, place);
    *octets = slice_of(place, size < 0 ? 0 : (size_t)size);
    return size >= 0;
}

/* RFC 1734's first drafts listed the mechanisms so, and there are clients that ask. */
static void auth_list(struct pop3_server *server)
{
    struct slice rest = mechanisms_of(server);
    pop3_server_ok(server, "");
    while (rest.size > 0) {
        const uint8_t *blank = memchr(rest.bytes, ' ', rest.size);
        size_t size = blank == NULL ? rest.size : (size_t)(blank - rest.bytes);
        pop3_server_add(server, slice_first(rest, size));
        pop3_server_add(server, slice_text("\r\n"));
        rest = slice_from(rest, size + 1);
    }
    pop3_server_add(server, slice_text(".\r\n"));
}

static void auth_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    if (mechanisms_of(server).size == 0) {
        pop3_server_err(server, "", "Not here, or not without encryption");
        return;
    }
    if (argument.size == 0) {
        auth_list(server);
        return;
    }
    const uint8_t *blank = memchr(argument.bytes, ' ', argument.size);
    size_t size = blank == NULL ? argument.size : (size_t)(blank - argument.bytes);
    struct slice initial = slice_from(argument, size + 1);
    event->mechanism = slice_first(argument, size);
    event->octets = slice_of(NULL, 0);
    event->has_octets = blank != NULL;
    /* RFC 5034 §4: "=" is an initial response of no octets */
    if (event->has_octets && !slice_equal(initial, slice_text("=")) &&
        (initial.size == 0 || !octets_decode(initial, &event->octets))) {
        pop3_server_err(server, "", "The initial response is no base64");
        return;
    }
    event->kind = POP3_EVENT_AUTH;
    server->pending = POP3_EVENT_AUTH;
}

static void exchange_run(struct pop3_server *server, struct slice line, struct pop3_event *event)
{
    bool cancelled = slice_equal(line, slice_text("*"));
    if (cancelled || !octets_decode(line, &event->octets)) {
        server->state = POP3_AUTHORIZATION;
        event->kind = POP3_EVENT_AUTH_CANCEL;
        pop3_server_err(server, "", cancelled ? "Cancelled" : "This is no base64");
        return;
    }
    event->has_octets = true;
    event->kind = POP3_EVENT_AUTH_ANSWER;
    server->pending = POP3_EVENT_AUTH_ANSWER;
}

static void stls_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    (void)event;
    if (!server->settings->stls || server->secured || argument.size > 0) {
        pop3_server_err(server, "", server->secured ? "It is encrypted" : "Not here");
        return;
    }
    pop3_server_ok(server, "Begin TLS");
    server->state = POP3_SECURING;
}

/* ---- Any state ---- */

static void capa_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    struct slice mechanisms = slice_first(mechanisms_of(server), POP3_TEXT_MAX);
    (void)argument;
    (void)event;
    pop3_server_ok(server, "");
    pop3_server_add(server,
                    slice_text("TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n"
                               "EXPIRE NEVER\r\n"));
    if (login_allowed(server)) {
        pop3_server_add(server, slice_text("USER\r\n"));
    }
    if (server->settings->stls && !server->secured && server->maildrop == NULL) {
        pop3_server_add(server, slice_text("STLS\r\n"));
    }
    if (mechanisms.size > 0) {
        pop3_server_add(server, slice_text("SASL "));
        pop3_server_add(server, mechanisms);
        pop3_server_add(server, slice_text("\r\n"));
    }
    pop3_server_add(server, slice_text(".\r\n"));
}

static void quit_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    (void)argument;
    if (server->state == POP3_TRANSACTION) {
        server->state = POP3_UPDATE;
        event->kind = POP3_EVENT_UPDATE;
        server->pending = POP3_EVENT_UPDATE;
        return;
    }
    pop3_server_ok(server, "Bye");
    pop3_server_end(server);
}

/* ---- TRANSACTION ---- */

/* Takes a decimal number off *text, and the blanks behind it. False: there is none. */
static bool number_take(struct slice *text, uint32_t *number)
{
    uint64_t value = 0;
    size_t at = 0;
    while (at < text->size && text->bytes[at] >= '0' && text->bytes[at] <= '9') {
        value = value * 10 + (uint64_t)(text->bytes[at++] - '0');
        if (value >= UINT32_MAX) {
            return false;
        }
    }
    bool ended = at > 0 && (at == text->size || text->bytes[at] == ' ');
    while (at < text->size && text->bytes[at] == ' ') {
        at++;
    }
    *text = slice_from(*text, at);
    *number = (uint32_t)value;
    return ended;
}

/* The message that a command names. NULL: there is none, and that was said. */
static struct pop3_message *message_take(struct pop3_server *server, struct slice *argument,
                                         uint32_t *index)
{
    uint32_t number;
    if (!number_take(argument, &number)) {
        pop3_server_err(server, "", "A message number is wanted");
        return NULL;
    }
    if (number == 0 || number > server->maildrop->count ||
        server->maildrop->messages[number - 1].deleted) {
        pop3_server_err(server, "", "No such message");
        return NULL;
    }
    *index = number - 1;
    return &server->maildrop->messages[number - 1];
}

static void stat_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    char text[48];
    (void)argument;
    (void)event;
    snprintf(text, sizeof(text), "%u %llu", server->live_count,
             (unsigned long long)server->live_bytes);
    pop3_server_ok(server, text);
}

static void listing_line(struct pop3_server *server, uint32_t index, const char *before, bool uidl)
{
    const struct pop3_message *message = &server->maildrop->messages[index];
    char line[POP3_LISTING_BYTES_MAX];
    int size = uidl ? snprintf(line, sizeof(line), "%s%u %.*s\r\n", before, index + 1,
                               (int)message->uidl.size, (const char *)message->uidl.bytes)
                    : snprintf(line, sizeof(line), "%s%u %llu\r\n", before, index + 1,
                               (unsigned long long)message->bytes);
    check(size > 0 && size < (int)sizeof(line));
    pop3_server_add(server, slice_of(line, (size_t)size));
}

void pop3_server_list(struct pop3_server *server)
{
    while (server->listing_at < server->maildrop->count) {
        if (pop3_server_room(server) < POP3_LISTING_BYTES_MAX) {
            return;
        }
        if (!server->maildrop->messages[server->listing_at].deleted) {
            listing_line(server, server->listing_at, "", server->listing_uidl);
        }
        server->listing_at++;
    }
    if (pop3_server_room(server) >= 3) {
        pop3_server_add(server, slice_text(".\r\n"));
        server->state = POP3_TRANSACTION;
    }
}

static void listing_run(struct pop3_server *server, struct slice argument, bool uidl)
{
    char text[64];
    uint32_t index;
    if (argument.size > 0) {
        if (message_take(server, &argument, &index) != NULL) {
            listing_line(server, index, "+OK ", uidl);
        }
        return;
    }
    snprintf(text, sizeof(text), "%u messages (%llu octets)", server->live_count,
             (unsigned long long)server->live_bytes);
    pop3_server_ok(server, text);
    server->listing_uidl = uidl;
    server->listing_at = 0;
    server->state = POP3_LISTING;
    pop3_server_list(server);
}

static void list_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    (void)event;
    listing_run(server, argument, false);
}

static void uidl_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    (void)event;
    listing_run(server, argument, true);
}

static void retrieve(struct pop3_server *server, uint32_t index, uint32_t lines,
                     struct pop3_event *event)
{
    pop3_top_open(&server->top, lines);
    event->kind = POP3_EVENT_RETRIEVE;
    event->message = index;
    event->lines = lines;
    server->pending = POP3_EVENT_RETRIEVE;
}

static void retr_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    uint32_t index;
    if (message_take(server, &argument, &index) != NULL) {
        retrieve(server, index, POP3_ALL_LINES, event);
    }
}

static void top_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    uint32_t index, lines;
    if (message_take(server, &argument, &index) == NULL) {
        return;
    }
    if (!number_take(&argument, &lines)) {
        pop3_server_err(server, "", "TOP wants a message and how many lines");
        return;
    }
    retrieve(server, index, lines, event);
}

static void dele_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    uint32_t index;
    (void)event;
    struct pop3_message *message = message_take(server, &argument, &index);
    if (message == NULL) {
        return;
    }
    message->deleted = true;
    server->live_count--;
    server->live_bytes -= message->bytes;
    pop3_server_ok(server, "Marked");
}

static void rset_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    (void)argument;
    (void)event;
    for (uint32_t i = 0; i < server->maildrop->count; i++) {
        struct pop3_message *message = &server->maildrop->messages[i];
        server->live_count += message->deleted;
        server->live_bytes += message->deleted ? message->bytes : 0;
        message->deleted = false;
    }
    pop3_server_ok(server, "");
}

static void noop_run(struct pop3_server *server, struct slice argument, struct pop3_event *event)
{
    (void)argument;
    (void)event;
    pop3_server_ok(server, "");
}

#define STATE_BIT(state) (1u << (state))
#define BEFORE (STATE_BIT(POP3_AUTHORIZATION) | STATE_BIT(POP3_USER))
#define AFTER STATE_BIT(POP3_TRANSACTION)

static const struct {
    const char *name;
    unsigned states;
    void (*run)(struct pop3_server *, struct slice argument, struct pop3_event *);
} commands[] = {
    {"CAPA", BEFORE | AFTER, capa_run},
    {"QUIT", BEFORE | AFTER, quit_run},
    {"USER", BEFORE, user_run},
    {"PASS", STATE_BIT(POP3_USER), pass_run},
    {"AUTH", BEFORE, auth_run},
    {"STLS", BEFORE, stls_run},
    {"STAT", AFTER, stat_run},
    {"LIST", AFTER, list_run},
    {"UIDL", AFTER, uidl_run},
    {"RETR", AFTER, retr_run},
    {"TOP", AFTER, top_run},
    {"DELE", AFTER, dele_run},
    {"RSET", AFTER, rset_run},
    {"NOOP", AFTER, noop_run},
};

void pop3_server_command(struct pop3_server *server, struct slice line, struct pop3_event *event)
{
    if (server->state == POP3_EXCHANGE) {
        exchange_run(server, line, event);
        return;
    }
    const uint8_t *blank = line.size == 0 ? NULL : memchr(line.bytes, ' ', line.size);
    size_t size = blank == NULL ? line.size : (size_t)(blank - line.bytes);
    struct slice name = slice_first(line, size);
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (!slice_equal_nocase(name, slice_text(commands[i].name))) {
            continue;
        }
        if (commands[i].states & STATE_BIT(server->state)) {
            commands[i].run(server, slice_from(line, size + 1), event);
        } else {
            pop3_server_err(server, "", "Not now");
        }
        return;
    }
    pop3_server_err(server, "", "No such command");
}
