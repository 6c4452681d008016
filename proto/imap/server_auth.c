/* AUTHENTICATE: the exchange in base64 (RFC 9051 §6.2.2, RFC 4959). */
#include "proto/imap/server_private.h"
#include "engine/core/check.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit_value(uint8_t digit)
{
    const char *at = digit == 0 ? NULL : strchr(digits, digit);
    return at == NULL ? -1 : (int)(at - digits);
}

bool imap_base64_decode(uint8_t *text, size_t *bytes)
{
    size_t size = *bytes, out = 0;
    if (size % 4 != 0) {
        return false;
    }
    for (size_t at = 0; at < size; at += 4) {
        bool last = at + 4 == size;
        unsigned padding = !last ? 0 : text[at + 3] != '=' ? 0 : text[at + 2] != '=' ? 1 : 2;
        uint32_t bits = 0;
        for (unsigned i = 0; i < 4; i++) {
            int value = i >= 4 - padding ? 0 : digit_value(text[at + i]);
            if (value < 0) {
                return false;
            }
            bits = bits << 6 | (uint32_t)value;
        }
        if ((padding == 1 && (bits & 0xff) != 0) || (padding == 2 && (bits & 0xffff) != 0)) {
            return false;
        }
        text[out++] = (uint8_t)(bits >> 16);
        if (padding < 2) {
            text[out++] = (uint8_t)(bits >> 8);
        }
        if (padding < 1) {
            text[out++] = (uint8_t)bits;
        }
    }
    *bytes = out;
    return true;
}

void imap_server_challenge(struct imap_server *server, struct slice challenge)
{
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    check(server->phase == IMAP_PHASE_CHALLENGE);
    imap_server_write_text(server, "+ ");
    for (size_t at = 0; at < challenge.size; at += 3) {
        size_t left = challenge.size - at;
        uint32_t bits = (uint32_t)challenge.bytes[at] << 16;
        bits |= left > 1 ? (uint32_t)challenge.bytes[at + 1] << 8 : 0;
        bits |= left > 2 ? challenge.bytes[at + 2] : 0;
        const char four[4] = {digits[bits >> 18], digits[bits >> 12 & 0x3f],
                              left > 1 ? digits[bits >> 6 & 0x3f] : '=',
                              left > 2 ? digits[bits & 0x3f] : '='};
        imap_server_write(server, slice_of(four, 4));
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
    if (!imap_base64_decode(server->text, &bytes)) {
        cancel(server, "Invalid base64", event);
        return;
    }
    server->phase = IMAP_PHASE_CHALLENGE;
    event->kind = IMAP_EVENT_RESPONSE;
    event->bytes = slice_of(server->text, bytes);
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
    size_t bytes = authenticate->initial.size;
    if (!mechanism_listed(server->secured ? settings->mechanisms : settings->mechanisms_clear,
                          authenticate->mechanism)) {
        bool later = mechanism_listed(settings->mechanisms, authenticate->mechanism);
        imap_server_fail_now(server, IMAP_NO, later ? "PRIVACYREQUIRED" : "CANNOT",
                             later ? "Only when encrypted" : "Unknown mechanism");
        return;
    }
    if (slice_equal(authenticate->initial, slice_text("="))) {
        bytes = 0; /* RFC 4959 §3: there is one, and it is empty */
    } else if (bytes > 0 &&
               !imap_base64_decode((uint8_t *)(uintptr_t)authenticate->initial.bytes, &bytes)) {
        imap_server_fail_now(server, IMAP_BAD, NULL, "Invalid base64");
        return;
    }
    authenticate->initial.size = bytes;
    imap_server_give(server, command, event);
    server->phase = IMAP_PHASE_CHALLENGE;
    event->initial_given = authenticate->initial_given;
    event->bytes = authenticate->initial;
}
