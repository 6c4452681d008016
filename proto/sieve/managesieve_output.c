#include "proto/sieve/managesieve_private.h"
#include "engine/core/check.h"
#include <stdio.h>

size_t managesieve_room(const struct managesieve_server *server)
{
    return sizeof(server->output) - (server->output_bytes - server->output_from);
}

void managesieve_put(struct managesieve_server *server, struct slice bytes)
{
    if (server->output_from > 0) {
        server->output_bytes -= server->output_from;
        memmove(server->output, server->output + server->output_from, server->output_bytes);
        server->output_from = 0;
    }
    check(bytes.size <= managesieve_room(server));
    if (bytes.size > 0) {
        memcpy(server->output + server->output_bytes, bytes.bytes, bytes.size);
    }
    server->output_bytes += (uint32_t)bytes.size;
}

static void put_text(struct managesieve_server *server, const char *text)
{
    managesieve_put(server, slice_text(text));
}

static bool quotable(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] == '\r' || text.bytes[i] == '\n' || text.bytes[i] == '\0') {
            return false;
        }
    }
    return text.size <= 500; /* escaped, no more than 1024 octets */
}

void managesieve_put_string(struct managesieve_server *server, struct slice text)
{
    if (!quotable(text)) {
        char literal[24];
        int size = snprintf(literal, sizeof(literal), "{%zu}\r\n", text.size);
        managesieve_put(server, slice_of(literal, (size_t)size));
        managesieve_put(server, text);
        return;
    }
    put_text(server, "\"");
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] == '"' || text.bytes[i] == '\\') {
            put_text(server, "\\");
        }
        managesieve_put(server, slice_of(text.bytes + i, 1));
    }
    put_text(server, "\"");
}

static void capability(struct managesieve_server *server, const char *name, struct slice value)
{
    put_text(server, name);
    put_text(server, " ");
    managesieve_put_string(server, value);
    put_text(server, "\r\n");
}

void managesieve_capabilities(struct managesieve_server *server)
{
    const struct managesieve_settings *settings = server->settings;
    char number[16];
    int size = snprintf(number, sizeof(number), "%u", settings->redirects_max);
    capability(server, "\"IMPLEMENTATION\"", settings->implementation);
    capability(server, "\"SIEVE\"", settings->sieve);
    capability(server, "\"SASL\"", server->secured ? settings->sasl : settings->sasl_in_clear);
    if (settings->starttls && !server->secured) {
        put_text(server, "\"STARTTLS\"\r\n");
    }
    capability(server, "\"MAXREDIRECTS\"", slice_of(number, (size_t)size));
    if (server->logged_in && settings->owner.size > 0) {
        capability(server, "\"OWNER\"", settings->owner);
    }
    put_text(server, "\"UNAUTHENTICATE\"\r\n\"VERSION\" \"1.0\"\r\n");
}

struct slice managesieve_cut(struct slice text, size_t size)
{
    if (text.size <= size) {
        return text;
    }
    while (size > 0 && (text.bytes[size] & 0xc0) == 0x80) {
        size--;
    }
    return slice_first(text, size);
}

void managesieve_answer(struct managesieve_server *server, enum managesieve_reply reply,
                        const char *code, struct slice text)
{
    static const char *const words[] = {"OK", "NO", "BYE"};
    put_text(server, words[reply]);
    if (code != NULL) {
        put_text(server, " (");
        put_text(server, code);
        put_text(server, ")");
    }
    if (text.size > 0) {
        put_text(server, " ");
        managesieve_put_string(server, managesieve_cut(text, MANAGESIEVE_TEXT_BYTES_MAX));
    }
    put_text(server, "\r\n");
    if (reply == MANAGESIEVE_BYE) {
        server->state = MANAGESIEVE_ENDED;
    }
}

void managesieve_mistake(struct managesieve_server *server)
{
    uint32_t most = server->settings->errors_max;
    server->errors++;
    if (server->state != MANAGESIEVE_ENDED && most > 0 && server->errors >= most) {
        managesieve_answer(server, MANAGESIEVE_BYE, NULL, slice_text("Too many errors."));
    }
}

void managesieve_no(struct managesieve_server *server, const char *code, const char *text)
{
    managesieve_answer(server, MANAGESIEVE_NO, code, slice_text(text));
    managesieve_mistake(server);
}

struct slice managesieve_server_output(const struct managesieve_server *server)
{
    return slice_of(server->output + server->output_from,
                    server->output_bytes - server->output_from);
}

void managesieve_server_sent(struct managesieve_server *server, size_t bytes)
{
    check(bytes <= server->output_bytes - server->output_from);
    server->output_from += (uint32_t)bytes;
    if (server->output_from == server->output_bytes) {
        server->output_from = server->output_bytes = 0;
    }
}
