/* AUTH: what of a SASL exchange is SMTP's (RFC 4954). */
#include "proto/smtp/server_private.h"
#include "engine/core/base64.h"
#include "engine/core/check.h"

void smtp_server_offer_auth(struct smtp_server *server, struct slice mechanisms,
                            enum smtp_auth demand)
{
    server->auth_known = true;
    server->auth_demanded = demand == SMTP_AUTH_DEMANDED;
    server->mechanisms = mechanisms;
}

static bool is_own(const struct smtp_server *server, struct slice text)
{
    const char *begin = server->lent != NULL ? server->lent : server->line;
    size_t size = server->lent != NULL ? SMTP_AUTH_LINE_BYTES_MAX : sizeof(server->line);
    const char *at = (const char *)text.bytes;
    return at >= begin && at < begin + size;
}

/* Where the line lies; what the stream holds is not written to. */
static bool octets_take(struct smtp_server *server, struct slice text, struct smtp_event *event)
{
    uint8_t *to = text.size > 0 && is_own(server, text) ? (uint8_t *)(uintptr_t)text.bytes
                                                        : (uint8_t *)server->line;
    check(server->lent != NULL || text.size <= sizeof(server->line));
    long size = base64_decode(text, to);
    event->octets = slice_of(to, size < 0 ? 0 : (size_t)size);
    event->has_octets = true;
    return size >= 0;
}

static void give(struct smtp_server *server, enum smtp_event_kind kind, struct smtp_event *event)
{
    event->kind = kind;
    server->pending = (uint8_t)kind;
    server->answer_due = true;
}

void smtp_server_auth_over(struct smtp_server *server)
{
    if (server->lent != NULL) {
        explicit_bzero(server->lent, SMTP_AUTH_LINE_BYTES_MAX);
    }
    explicit_bzero(server->line, sizeof(server->line));
    server->lent = NULL;
    if (server->state == SMTP_EXCHANGE) {
        server->state = SMTP_READY;
    }
}

void smtp_server_auth_break(struct smtp_server *server, unsigned code, const char *status,
                            const char *text)
{
    smtp_server_auth_over(server);
    smtp_server_error(server, code, status, text);
}

void smtp_server_auth_begin(struct smtp_server *server, struct slice arguments,
                            struct smtp_event *event)
{
    struct slice none = slice_of(NULL, 0), mechanism = arguments, initial = none;
    const uint8_t *blank = arguments.size > 0 ? memchr(arguments.bytes, ' ', arguments.size) : NULL;
    if (blank != NULL) {
        mechanism = slice_first(arguments, (size_t)(blank - arguments.bytes));
        initial = slice_from(arguments, mechanism.size + 1);
    }
    if (server->authenticated) {
        smtp_server_error(server, 503, "5.5.1", "You have logged in already");
    } else if (server->state != SMTP_READY) {
        smtp_server_error(server, 503, "5.5.1",
                          server->state == SMTP_GREETED ? "Say hello first"
                                                        : "Not within a transaction");
    } else if (mechanism.size == 0 || (blank != NULL && initial.size == 0) ||
               (initial.size > 0 && memchr(initial.bytes, ' ', initial.size) != NULL)) {
        smtp_server_error(server, 501, "5.5.4", "Syntax: AUTH mechanism [initial response]");
    } else {
        event->text = mechanism;
        event->has_octets = blank != NULL;
        event->octets = none;
        if (blank != NULL && !slice_equal(initial, slice_text("=")) &&
            !octets_take(server, initial, event)) {
            smtp_server_auth_break(server, 501, "5.5.2", "That is no base64");
            return;
        }
        give(server, SMTP_EVENT_AUTH, event);
    }
}

void smtp_server_auth_answer(struct smtp_server *server, struct slice line,
                             struct smtp_event *event)
{
    if (slice_equal(line, slice_text("*"))) {
        smtp_server_auth_break(server, 501, "5.7.0", "Authentication is given up");
    } else if (!octets_take(server, line, event)) {
        smtp_server_auth_break(server, 501, "5.5.2", "That is no base64");
    } else {
        server->state = SMTP_READY; /* unless another challenge follows */
        give(server, SMTP_EVENT_AUTH_ANSWER, event);
    }
}

bool smtp_server_challenge(struct smtp_server *server, struct slice octets)
{
    char text[BASE64_BYTES(SMTP_SERVER_OUTPUT_BYTES)];
    check(server->pending == SMTP_EVENT_AUTH || server->pending == SMTP_EVENT_AUTH_ANSWER);
    if (!smtp_server_fits(server, sizeof("334 \r\n") + BASE64_BYTES(octets.size))) {
        return false;
    }
    size_t size = base64_encode(octets, text);
    server->pending = SMTP_EVENT_NONE;
    server->state = SMTP_EXCHANGE;
    server->clock_due = true;
    smtp_server_lines(server, slice_text("334 "));
    smtp_server_lines(server, slice_of(text, size));
    smtp_server_lines(server, slice_text("\r\n"));
    return true;
}

bool smtp_server_auth_is_line(const struct smtp_server *server, struct slice part)
{
    static const char verb[] = "AUTH ";
    size_t size = sizeof(verb) - 1, kept = server->line_bytes < size ? server->line_bytes : size;
    struct slice rest = slice_first(part, size - kept);
    if (server->state == SMTP_EXCHANGE || server->lent != NULL) {
        return true;
    }
    return server->auth_known && kept + rest.size == size &&
           slice_equal_nocase(slice_of(server->line, kept), slice_of(verb, kept)) &&
           slice_equal_nocase(rest, slice_of(verb + kept, rest.size));
}

void smtp_server_auth_room(struct smtp_server *server, char *room)
{
    check(server->pending == SMTP_EVENT_AUTH_ROOM);
    server->pending = SMTP_EVENT_NONE;
    if (room == NULL) {
        server->line_overflow = server->auth_line = true;
        return;
    }
    memcpy(room, server->line, server->line_bytes);
    explicit_bzero(server->line, sizeof(server->line));
    server->lent = room;
}
