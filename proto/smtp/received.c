#include "proto/smtp/received.h"
#include "proto/message/date.h"
#include <stdio.h>

struct writer {
    char *text;
    size_t used;
};

static void put(struct writer *writer, const char *text)
{
    size_t size = strlen(text);
    memcpy(writer->text + writer->used, text, size);
    writer->used += size;
}

/* At most `most` bytes of a peer's text; what could end a token or a comment becomes '?'. */
static void put_cleaned(struct writer *writer, struct slice text, size_t most)
{
    text = slice_first(text, most);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        bool good = byte > ' ' && byte < 0x7f && strchr("()<>\\\";,", byte) == NULL;
        writer->text[writer->used++] = good ? (char)byte : '?';
    }
}

size_t smtp_received_format(const struct smtp_received *received, char *text)
{
    struct writer writer = {.text = text};
    char date[MESSAGE_DATE_TEXT];
    put(&writer, "Received: from ");
    if (received->helo.size > 0) {
        put_cleaned(&writer, received->helo, 255);
    } else {
        put(&writer, "unknown");
    }
    if (received->address.size > 0) {
        put(&writer, received->ipv6 ? " ([IPv6:" : " ([");
        put_cleaned(&writer, received->address, 64);
        put(&writer, "])");
    } else {
        put(&writer, " (local)");
    }
    if (received->tls_version != NULL) {
        char bits[32];
        put(&writer, "\r\n\t(using ");
        put_cleaned(&writer, slice_text(received->tls_version), 32);
        put(&writer, " with cipher ");
        put_cleaned(&writer, slice_text(received->tls_cipher), 64);
        snprintf(bits, sizeof(bits), " (%u bits))", received->tls_bits);
        put(&writer, bits);
    }
    if (received->tls_client_shown) {
        put(&writer, "\r\n\t(Client CN \"");
        put_cleaned(&writer, received->tls_client, 255);
        put(&writer, received->tls_client_verified ? "\" (verified OK))" : "\" (not verified))");
    }
    put(&writer, "\r\n\tby ");
    put_cleaned(&writer, received->hostname, 255);
    put(&writer, " (Tubepost) with ");
    put(&writer, received->protocol);
    put(&writer, " id ");
    put_cleaned(&writer, received->id, 32);
    if (received->forward_path.size > 0) {
        put(&writer, "\r\n\tfor <");
        put_cleaned(&writer, received->forward_path, 320);
        put(&writer, ">");
    }
    put(&writer, ";\r\n\t");
    message_date_format(received->wall_s, date);
    put(&writer, date);
    put(&writer, "\r\n");
    return writer.used;
}
