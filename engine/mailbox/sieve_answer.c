#include "engine/mailbox/sieve_answer.h"
#include "proto/message/date.h"
#include "proto/message/header.h"
#include "proto/message/header_writer.h"
#include "proto/message/wire_writer.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define FIELD_BYTES 16384u /* of a subject of 4096 bytes, each =XX, and its folds */
#define MESSAGE_ID_BYTES_MAX 500u
#define REFERENCES_BYTES_MAX 2000u
#define ORIGINAL_BYTES_MAX 8192u /* of the header that a rejection repeats */

struct writing {
    const struct sieve_answer *answer;
    struct wire_writer writer;
    uint8_t *out;
    size_t size, room;
};

static int take(void *owner, struct slice bytes)
{
    struct writing *writing = (struct writing *)owner;
    if (writing->size + bytes.size > writing->room) {
        return -E2BIG;
    }
    memcpy(writing->out + writing->size, bytes.bytes, bytes.size);
    writing->size += bytes.size;
    return 0;
}

/* Text with ends of lines of any kind, each line on one of its own. */
static void put_lines(struct writing *writing, struct slice text)
{
    while (text.size > 0) {
        const uint8_t *end = (const uint8_t *)memchr(text.bytes, '\n', text.size);
        size_t size = end != NULL ? (size_t)(end - text.bytes) : text.size;
        struct slice line = slice_first(text, size);
        if (line.size > 0 && line.bytes[line.size - 1] == '\r') {
            line.size--;
        }
        wire_writer_text(&writing->writer, line);
        wire_writer_line_end(&writing->writer);
        text = slice_from(text, size + 1);
    }
}

static void put_line(struct writing *writing, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put_line(struct writing *writing, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    wire_writer_line(&writing->writer, line);
}

static void put_field(struct writing *writing, const char *name, struct slice value, bool mailbox)
{
    uint8_t field[FIELD_BYTES];
    size_t size = mailbox ? header_write_mailbox(slice_text(name), value, field, sizeof field)
                          : header_write(slice_text(name), value, field, sizeof field);
    wire_writer_encode(&writing->writer, WIRE_UTF8); /* addresses may be (RFC 6532) */
    put_lines(writing, slice_of(field, size));
}

/* ---- What it answers ---- */

/* One word in angle brackets, or nothing: what is none would break the field that it is put into. */
static struct slice message_id(struct slice header)
{
    struct header_field field;
    if (!header_find(header, slice_text("Message-ID"), &field)) {
        return slice_of(NULL, 0);
    }
    const uint8_t *begin = (const uint8_t *)memchr(field.value.bytes, '<', field.value.size);
    const uint8_t *end = (const uint8_t *)memchr(field.value.bytes, '>', field.value.size);
    size_t size = begin != NULL && end > begin ? (size_t)(end - begin) + 1 : 0;
    for (size_t i = 0; i < size; i++) {
        if (begin[i] <= ' ' || begin[i] >= 0x7f) {
            size = 0;
        }
    }
    return slice_of(begin, size <= MESSAGE_ID_BYTES_MAX ? size : 0);
}

/* RFC 5322 §3.6.4: those of the message, and itself. */
static void put_references(struct writing *writing)
{
    struct slice id = message_id(writing->answer->original);
    uint8_t text[REFERENCES_BYTES_MAX + MESSAGE_ID_BYTES_MAX + 1];
    struct header_field field;
    size_t size = 0;
    if (id.size == 0) {
        return;
    }
    put_field(writing, "In-Reply-To", id, false);
    if ((header_find(writing->answer->original, slice_text("References"), &field) ||
         header_find(writing->answer->original, slice_text("In-Reply-To"), &field)) &&
        field.value.size <= REFERENCES_BYTES_MAX) {
        size = header_unfold(field.value, text, REFERENCES_BYTES_MAX);
        text[size++] = ' ';
    }
    memcpy(text + size, id.bytes, id.size);
    put_field(writing, "References", slice_of(text, size + id.size), false);
}

static void put_head(struct writing *writing, struct slice from, struct slice subject)
{
    const struct sieve_answer *answer = writing->answer;
    char date[MESSAGE_DATE_TEXT];
    message_date_format(answer->wall_s, date);
    put_line(writing, "Message-ID: <%016" PRIx64 ".%016" PRIx64 "@%.*s>", answer->id[0],
             answer->id[1], (int)answer->hostname.size, (const char *)answer->hostname.bytes);
    put_line(writing, "Date: %s", date);
    put_field(writing, "From", from, true);
    put_field(writing, "To", answer->to, true);
    put_field(writing, "Subject", subject, false);
    put_references(writing);
}

static size_t finish(struct writing *writing)
{
    return wire_writer_close(&writing->writer) == 0 ? writing->size : 0;
}

/* ---- Away ---- */

size_t sieve_answer_vacation(const struct sieve_answer *answer, uint8_t *out, size_t room)
{
    struct writing writing = {.answer = answer, .out = out, .room = room};
    wire_writer_open(&writing.writer, take, &writing);
    put_head(&writing, answer->from.size > 0 ? answer->from : answer->owner, answer->subject);
    put_line(&writing, "Auto-Submitted: auto-replied (vacation)");
    put_line(&writing, "Precedence: bulk");
    put_line(&writing, "X-Auto-Response-Suppress: All");
    put_line(&writing, "MIME-Version: 1.0");
    if (answer->mime) {
        put_lines(&writing, answer->reason);
        return finish(&writing);
    }
    put_line(&writing, "Content-Type: text/plain; charset=utf-8");
    put_line(&writing, "Content-Transfer-Encoding: quoted-printable");
    put_line(&writing, "%s", "");
    wire_writer_encode(&writing.writer, WIRE_UTF8_QUOTED);
    put_lines(&writing, answer->reason);
    return finish(&writing);
}

/* ---- Rejected ---- */

static void put_boundary(struct writing *writing, const char *end)
{
    wire_writer_encode(&writing->writer, WIRE_ASCII);
    put_line(writing, "%s", "");
    put_line(writing, "--%016" PRIx64 "%s", writing->answer->id[1], end);
}

static void put_disposition(struct writing *writing)
{
    const struct sieve_answer *answer = writing->answer;
    struct slice id = message_id(answer->original);
    put_boundary(writing, "");
    put_line(writing, "Content-Type: message/disposition-notification");
    put_line(writing, "%s", "");
    put_line(writing, "Reporting-UA: %.*s; Tubepost", (int)answer->hostname.size,
             (const char *)answer->hostname.bytes);
    put_line(writing, "Final-Recipient: rfc822; %.*s", (int)answer->owner.size,
             (const char *)answer->owner.bytes);
    if (id.size > 0) {
        put_line(writing, "Original-Message-ID: %.*s", (int)id.size, (const char *)id.bytes);
    }
    put_line(writing, "Disposition: automatic-action/MDN-sent-automatically; deleted");
}

/* Whole fields, as many as there is room for. */
static void put_original(struct writing *writing)
{
    struct slice rest = writing->answer->original;
    struct header_field field;
    size_t size = 0;
    put_boundary(writing, "");
    put_line(writing, "Content-Type: text/rfc822-headers");
    put_line(writing, "Content-Transfer-Encoding: quoted-printable");
    put_line(writing, "%s", "");
    wire_writer_encode(&writing->writer, WIRE_ANY_QUOTED);
    while (header_next(&rest, &field) && (size += field.whole.size) <= ORIGINAL_BYTES_MAX) {
        put_lines(writing, field.whole);
    }
}

size_t sieve_answer_rejection(const struct sieve_answer *answer, uint8_t *out, size_t room)
{
    struct writing writing = {.answer = answer, .out = out, .room = room};
    wire_writer_open(&writing.writer, take, &writing);
    put_head(&writing, answer->owner, slice_text("Automatically rejected mail"));
    put_line(&writing, "Auto-Submitted: auto-replied (rejected)");
    put_line(&writing, "MIME-Version: 1.0");
    put_line(&writing, "Content-Type: multipart/report; report-type=disposition-notification;");
    put_line(&writing, " boundary=\"%016" PRIx64 "\"", answer->id[1]);
    put_boundary(&writing, "");
    put_line(&writing, "Content-Type: text/plain; charset=utf-8");
    put_line(&writing, "Content-Transfer-Encoding: quoted-printable");
    put_line(&writing, "%s", "");
    wire_writer_encode(&writing.writer, WIRE_UTF8_QUOTED);
    put_line(&writing, "Your message was automatically rejected by its recipient:");
    put_line(&writing, "%s", "");
    put_lines(&writing, answer->reason);
    put_disposition(&writing);
    put_original(&writing);
    put_boundary(&writing, "--");
    return finish(&writing);
}
