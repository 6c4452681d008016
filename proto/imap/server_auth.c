/* AUTHENTICATE: the exchange in base64 (RFC 9051 §6.2.2, RFC 4959). */
#include "proto/imap/server_private.h"
#include "engine/core/base64.h"
#include "engine/core/check.h"

#define PIECE_OCTETS 192u /* three to four letters: no padding but at the end */

void imap_server_challenge(struct imap_server *server, struct slice challenge)
{
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    check(server->phase == IMAP_PHASE_CHALLENGE);
    imap_server_write_text(server, "+ ");
    for (size_t at = 0; at < challenge.size; at += PIECE_OCTETS) {
        char text[BASE64_BYTES(PIECE_OCTETS)];
        struct slice piece = slice_first(slice_from(challenge, at), PIECE_OCTETS);
        imap_server_write(server, slice_of(text, base64_encode(piece, text)));
    }
    imap_server_write_text(server, "\r\n");
    if (server->phase != IMAP_PHASE_ENDED) {
        imap_server_command_forget(server);
        server->phase = IMAP_PHASE_RESPONSE;
    }
    server->clock_due = true;
}

static void cancel(struct imap_server *server, const char *why, struct imap_event *event)
{
    event->kind = IMAP_EVENT_CANCELLED;
    imap_server_fail_now(server, IMAP_BAD, NULL, why);
}

void imap_server_response(struct imap_server *server, struct imap_event *event)
{
    size_t bytes = server->text_bytes;
    if (bytes < 2 || server->text[bytes - 2] != '\r') {
        cancel(server, "Lines end with CRLF", event);
        return;
    }
    bytes -= 2;
    if (bytes == 1 && server->text[0] == '*') {
        cancel(server, "Authentication is cancelled", event);
        return;
    }
    long octets = base64_decode(slice_of(server->text, bytes), server->text);
    if (octets < 0) {
        cancel(server, "Invalid base64", event);
        return;
    }
    server->phase = IMAP_PHASE_CHALLENGE;
    event->kind = IMAP_EVENT_RESPONSE;
    event->bytes = slice_of(server->text, (size_t)octets);
}

/* Is it among them? They are separated by blanks. */
static bool mechanism_listed(struct slice list, struct slice mechanism)
{
    while (list.size > 0) {
        const uint8_t *end = memchr(list.bytes, ' ', list.size);
        size_t size = end == NULL ? list.size : (size_t)(end - list.bytes);
        if (slice_equal_nocase(slice_first(list, size), mechanism)) {
            return true;
        }
        list = slice_from(list, size + 1);
    }
    return false;
}

void imap_server_authenticate(struct imap_server *server, struct imap_command *command,
                              struct imap_event *event)
{
    struct imap_authenticate *authenticate = &command->authenticate;
    const struct imap_server_settings *settings = server->settings;
    struct slice initial = authenticate->initial;
    long octets = 0; /* of "=" (RFC 4959 §3): there is one, and it is empty */
    if (!mechanism_listed(server->secured ? settings->mechanisms : settings->mechanisms_clear,
                          authenticate->mechanism)) {
        bool later = mechanism_listed(settings->mechanisms, authenticate->mechanism);
        imap_server_fail_now(server, IMAP_NO, later ? "PRIVACYREQUIRED" : "CANNOT",
                             later ? "Only when encrypted" : "Unknown mechanism");
        return;
    }
    if (!slice_equal(initial, slice_text("="))) {
        octets = base64_decode(initial, (uint8_t *)(uintptr_t)initial.bytes);
    }
    if (octets < 0) {
        imap_server_fail_now(server, IMAP_BAD, NULL, "Invalid base64");
        return;
    }
    authenticate->initial.size = (size_t)octets;
    imap_server_give(server, command, event);
    server->phase = IMAP_PHASE_CHALLENGE;
    event->initial_given = authenticate->initial_given;
    event->bytes = authenticate->initial;
}
