#include "proto/imap/writer.h"
#include "engine/core/check.h"
#include "proto/message/date.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistr.h>

void imap_writer_open(struct imap_writer *writer, size_t bytes_max)
{
    *writer = (struct imap_writer){.bytes_max = bytes_max};
}

void imap_writer_close(struct imap_writer *writer)
{
    free(writer->bytes);
    *writer = (struct imap_writer){.bytes_max = writer->bytes_max};
}

struct slice imap_writer_bytes(const struct imap_writer *writer)
{
    return slice_of(writer->bytes, writer->size);
}

void imap_writer_reset(struct imap_writer *writer)
{
    writer->size = 0;
    writer->failed = false;
}

/* Room for so many bytes at the end, or NULL. */
static uint8_t *room_take(struct imap_writer *writer, size_t bytes)
{
    if (writer->failed || bytes > writer->bytes_max - writer->size) {
        writer->failed = true;
        return NULL;
    }
    if (bytes > writer->room - writer->size) {
        size_t room = writer->room < 512 ? 1024 : writer->room * 2;
        room = room < writer->size + bytes ? writer->size + bytes : room;
        room = room > writer->bytes_max ? writer->bytes_max : room;
        uint8_t *grown = realloc(writer->bytes, room);
        if (grown == NULL) {
            writer->failed = true;
            return NULL;
        }
        writer->bytes = grown;
        writer->room = room;
    }
    uint8_t *place = writer->bytes + writer->size;
    writer->size += bytes;
    return place;
}

void imap_write_bytes(struct imap_writer *writer, struct slice bytes)
{
    uint8_t *place = bytes.size > 0 ? room_take(writer, bytes.size) : NULL;
    if (place != NULL) {
        memcpy(place, bytes.bytes, bytes.size);
    }
}

void imap_write(struct imap_writer *writer, const char *text)
{
    imap_write_bytes(writer, slice_text(text));
}

void imap_write_number(struct imap_writer *writer, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    imap_write(writer, text);
}

void imap_write_literal_head(struct imap_writer *writer, uint64_t bytes)
{
    imap_write(writer, "{");
    imap_write_number(writer, bytes);
    imap_write(writer, "}\r\n");
}

void imap_write_literal8_head(struct imap_writer *writer, uint64_t bytes)
{
    imap_write(writer, "~");
    imap_write_literal_head(writer, bytes);
}

/* RFC 9051 §9: quoted. */
static bool may_be_quoted(const struct imap_writer *writer, struct slice text)
{
    bool ascii = true;
    if (text.size > IMAP_QUOTED_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (byte == '\r' || byte == '\n' || byte == '\0') {
            return false;
        }
        ascii = ascii && byte < 0x80;
    }
    return ascii || (writer->utf8 && u8_check(text.bytes, text.size) == NULL);
}

void imap_write_string(struct imap_writer *writer, struct slice text)
{
    if (!may_be_quoted(writer, text)) {
        imap_write_literal_head(writer, text.size);
        uint8_t *place = room_take(writer, text.size);
        for (size_t i = 0; place != NULL && i < text.size; i++) {
            place[i] = text.bytes[i] == '\0' ? 0x80 : text.bytes[i];
        }
        return;
    }
    imap_write(writer, "\"");
    size_t from = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] == '"' || text.bytes[i] == '\\') {
            imap_write_bytes(writer, slice_of(text.bytes + from, i - from));
            imap_write(writer, "\\");
            from = i;
        }
    }
    imap_write_bytes(writer, slice_from(text, from));
    imap_write(writer, "\"");
}

void imap_write_nstring(struct imap_writer *writer, struct slice text)
{
    if (text.bytes == NULL) {
        imap_write(writer, "NIL");
    } else {
        imap_write_string(writer, text);
    }
}

/* RFC 9051 §9: 1*ASTRING-CHAR, and not NIL, which some clients take for nothing. */
static bool may_be_atom(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (byte <= ' ' || byte >= 0x7f || strchr("(){%*\"\\", byte) != NULL) {
            return false;
        }
    }
    return text.size > 0 && text.size <= IMAP_QUOTED_BYTES_MAX &&
           !slice_equal_nocase(text, slice_text("NIL"));
}

void imap_write_astring(struct imap_writer *writer, struct slice text)
{
    if (may_be_atom(text)) {
        imap_write_bytes(writer, text);
    } else {
        imap_write_string(writer, text);
    }
}

void imap_write_internal_date(struct imap_writer *writer, int64_t wall_s, int zone_min)
{
    char date[MESSAGE_DATE_TEXT], text[48];
    check(zone_min > -24 * 60 && zone_min < 24 * 60);
    unsigned distance = (unsigned)abs(zone_min);
    /* "Sat, 01 Aug 2026 09:05:00 +0000" has all that is wanted. */
    message_date_format(wall_s + zone_min * 60, date);
    snprintf(text, sizeof(text), "\"%c%c-%.3s-%.4s %.8s %c%02u%02u\"",
             date[5] == '0' ? ' ' : date[5], date[6], date + 8, date + 12, date + 17,
             zone_min < 0 ? '-' : '+', distance / 60 % 24, distance % 60);
    imap_write(writer, text);
}

void imap_write_flags(struct imap_writer *writer, const struct slice *flags, size_t count)
{
    imap_write(writer, "(");
    for (size_t i = 0; i < count; i++) {
        imap_write(writer, i > 0 ? " " : "");
        imap_write_bytes(writer, flags[i]);
    }
    imap_write(writer, ")");
}

void imap_write_sequence_set(struct imap_writer *writer, const uint32_t *numbers, size_t count)
{
    check(count > 0);
    for (size_t i = 0; i < count;) {
        size_t end = i + 1;
        while (end < count && numbers[end] == numbers[end - 1] + 1) {
            end++;
        }
        imap_write(writer, i > 0 ? "," : "");
        imap_write_number(writer, numbers[i]);
        if (end - i > 1) {
            imap_write(writer, ":");
            imap_write_number(writer, numbers[end - 1]);
        }
        check(end == count || numbers[end] > numbers[end - 1]);
        i = end;
    }
}
