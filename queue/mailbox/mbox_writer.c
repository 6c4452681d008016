/* mbox_writer: a message into an mbox: lines that begin with "From " quoted, our headers in front. */
#include "engine/core/check.h"
#include "queue/mailbox/mbox.h"
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static const char *const DROPPED[] = {
    "status:", "x-status:", "x-keywords:", "x-uid:", "x-imap:", "x-imapbase:", "content-length:"};

size_t mbox_write_begin(struct mbox_writer *writer, enum mbox_quoting quoting,
                        const struct mbox_facts *facts, char out[MBOX_FRONT_BYTES_MAX])
{
    static const char days[] = "SunMonTueWedThuFriSat",
                      months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    *writer = (struct mbox_writer){
        .quoting = quoting, .at_front = true, .in_header = true, .at_line_start = true};
    struct tm date;
    time_t date_s = facts->date_s;
    if (gmtime_r(&date_s, &date) == NULL || date.tm_year < 0 || date.tm_year > 8099) {
        date_s = 0;
        gmtime_r(&date_s, &date);
    }
    size_t room = MBOX_FRONT_BYTES_MAX;
    int used =
        snprintf(out, room, "From %.*s %.3s %.3s %2d %02d:%02d:%02d %04d\n", MBOX_SENDER_BYTES - 1,
                 facts->sender[0] != 0 ? facts->sender : "MAILER-DAEMON",
                 days + (size_t)date.tm_wday * 3, months + (size_t)date.tm_mon * 3, date.tm_mday,
                 date.tm_hour, date.tm_min, date.tm_sec, date.tm_year + 1900);
    for (int i = 5; i < used - 1; i++) {
        out[i] = (char)((unsigned char)out[i] < ' ' ? '?' : out[i]);
    }
    if (facts->uidvalidity != 0) {
        used +=
            snprintf(out + used, room - (size_t)used, "X-IMAPbase: %" PRIu32 " %010" PRIu32 "\n",
                     facts->uidvalidity, facts->uid_last);
    }
    if (facts->uid != 0) {
        used += snprintf(out + used, room - (size_t)used, "X-UID: %" PRIu32 "\n", facts->uid);
    }
    bool seen = (facts->flags & MAILDIR_SEEN) != 0;
    used +=
        snprintf(out + used, room - (size_t)used, "Status: %s%s\nX-Status: %s%s%s%s\n",
                 seen ? "R" : "", facts->old ? "O" : "", facts->flags & MAILDIR_REPLIED ? "A" : "",
                 facts->flags & MAILDIR_FLAGGED ? "F" : "", facts->flags & MAILDIR_DRAFT ? "T" : "",
                 facts->flags & MAILDIR_TRASHED ? "D" : "");
    if (facts->keywords[0] != 0) {
        used += snprintf(out + used, room - (size_t)used, "X-Keywords: %s\n", facts->keywords);
    }
    return (size_t)used;
}

/* ---- the front of a line ---- */

enum verdict { FRONT_UNKNOWN, FRONT_PLAIN, FRONT_FROM, FRONT_QUOTE, FRONT_DROPPED, FRONT_EMPTY };

static bool begins(struct slice held, struct slice with)
{
    size_t size = held.size < with.size ? held.size : with.size;
    return slice_equal_nocase(slice_first(held, size), slice_first(with, size));
}

static enum verdict header_verdict(const struct mbox_writer *writer, struct slice held)
{
    if (held.bytes[0] == '\n' ||
        (held.size > 1 && held.bytes[0] == '\r' && held.bytes[1] == '\n')) {
        return FRONT_EMPTY;
    }
    if (held.bytes[0] == '\r' && held.size == 1) {
        return FRONT_UNKNOWN;
    }
    if (held.bytes[0] == ' ' || held.bytes[0] == '\t') {
        return writer->dropping ? FRONT_DROPPED : FRONT_PLAIN;
    }
    for (size_t i = 0; i < sizeof DROPPED / sizeof DROPPED[0]; i++) {
        struct slice name = slice_text(DROPPED[i]);
        if (begins(held, name)) {
            return held.size >= name.size ? FRONT_DROPPED : FRONT_UNKNOWN;
        }
    }
    return FRONT_PLAIN;
}

static enum verdict verdict_of(const struct mbox_writer *writer, struct slice held)
{
    if (writer->in_header && !writer->quoted) { /* behind a '>' stands no name of a header */
        enum verdict verdict = header_verdict(writer, held);
        if (verdict != FRONT_PLAIN) {
            return verdict;
        }
    }
    /* '>' are passed on one by one: one more behind them is as good as in front. */
    if (held.bytes[0] == '>') {
        return FRONT_QUOTE;
    }
    struct slice from = slice_text("From ");
    bool could = held.size < from.size ? memcmp(held.bytes, from.bytes, held.size) == 0
                                       : memcmp(held.bytes, from.bytes, from.size) == 0;
    if (!could) {
        return FRONT_PLAIN;
    }
    return held.size < from.size ? FRONT_UNKNOWN : FRONT_FROM;
}

/* Whatever is held goes out, with a '>' where one is due. */
static size_t front_write(struct mbox_writer *writer, enum verdict verdict, uint8_t *out)
{
    size_t used = 0;
    bool quote = verdict == FRONT_FROM && (writer->quoting == MBOX_RD || !writer->quoted);
    size_t size = verdict == FRONT_QUOTE ? 1 : writer->held_size;
    if (writer->at_front && (writer->held[0] == ' ' || writer->held[0] == '\t')) {
        out[used++] = '\n'; /* or it would go on our last header */
        writer->in_header = false;
    }
    writer->at_front = false;
    if (quote) {
        out[used++] = '>';
    }
    writer->dropping = verdict == FRONT_DROPPED;
    if (!writer->dropping) {
        memcpy(out + used, writer->held, size);
        used += size;
        writer->wrote_line_end = out[used - 1] == '\n';
    }
    writer->quoted = verdict == FRONT_QUOTE;
    writer->at_line_start = verdict == FRONT_QUOTE || writer->held[size - 1] == '\n';
    writer->in_header = writer->in_header && verdict != FRONT_EMPTY;
    writer->held_size -= size;
    memmove(writer->held, writer->held + size, writer->held_size);
    return used;
}

static size_t rest_write(struct mbox_writer *writer, struct slice *text, uint8_t *out, size_t room)
{
    const uint8_t *end = memchr(text->bytes, '\n', text->size);
    struct slice piece =
        slice_first(*text, end == NULL ? text->size : (size_t)(end - text->bytes) + 1);
    piece = writer->dropping ? piece : slice_first(piece, room);
    *text = slice_from(*text, piece.size);
    bool ended = piece.bytes[piece.size - 1] == '\n';
    writer->at_line_start = ended;
    if (writer->dropping) {
        return 0;
    }
    memcpy(out, piece.bytes, piece.size);
    writer->wrote_line_end = ended;
    return piece.size;
}

size_t mbox_write(struct mbox_writer *writer, struct slice *text, uint8_t *out, size_t room)
{
    size_t used = 0;
    while (text->size > 0 && room - used >= sizeof writer->held + 1) {
        if (!writer->at_line_start) {
            used += rest_write(writer, text, out + used, room - used);
            continue;
        }
        if (writer->held_size == 0) {
            writer->quoted = writer->quoted && !writer->wrote_line_end;
        }
        writer->held[writer->held_size++] = text->bytes[0];
        *text = slice_from(*text, 1);
        enum verdict verdict = verdict_of(writer, slice_of(writer->held, writer->held_size));
        check(verdict == FRONT_UNKNOWN || writer->held_size > 0);
        if (verdict != FRONT_UNKNOWN) {
            used += front_write(writer, verdict, out + used);
        }
    }
    return used;
}

size_t mbox_write_end(struct mbox_writer *writer, uint8_t *out)
{
    size_t used = 0;
    if (writer->held_size > 0) {
        used = front_write(writer, FRONT_PLAIN, out);
    }
    if (!writer->wrote_line_end) {
        out[used++] = '\n';
    }
    if (writer->in_header) {
        out[used++] = '\n'; /* a message without a body: the empty line that ends its header */
    }
    out[used++] = '\n';
    return used;
}
