#include "proto/dsn/dsn.h"

#include "engine/core/limits.h"
#include "proto/dsn/original.h"
#include "proto/message/date.h"
#include "proto/message/utf8.h"
#include "proto/smtp/dsn_parameters.h"

#include <stdio.h>

#define BOUNDARY_TEXT 40 /* "=_", 32 digits and NUL */
#define TEXT_BYTES_MAX                                                                             \
    300 /* of a reply or a name: two of them and an address are a line of less than 998 bytes */
#define HOST_BYTES_MAX 255
#define HOST_ADDRESS_BYTES_MAX 60
#define COLUMN_MAX 900 /* of one that becomes longer as it is written */

/* What is told, and in which words. */
enum dsn_kind { KIND_FAILURE, KIND_DELAY, KIND_SUCCESS };

struct dsn_writer {
    const struct dsn_report *report;
    enum dsn_kind kind;
    bool utf8; /* in the form of RFC 6533 */
    struct wire_writer wire;
    char boundary[BOUNDARY_TEXT];
};

static bool ascii(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

static void text(struct dsn_writer *writer, const char *words)
{
    wire_writer_text(&writer->wire, slice_text(words));
}

static void peer_text(struct dsn_writer *writer, struct slice words)
{
    wire_writer_text(&writer->wire, slice_first(words, TEXT_BYTES_MAX));
}

/* Whole: one that is cut is another one. */
static void address_text(struct dsn_writer *writer, struct slice address)
{
    wire_writer_text(&writer->wire, slice_first(address, SMTP_ADDRESS_BYTES_MAX));
}

static void line(struct dsn_writer *writer, const char *words)
{
    wire_writer_line(&writer->wire, words);
}

static void line_end(struct dsn_writer *writer)
{
    wire_writer_line_end(&writer->wire);
}

static void date(struct dsn_writer *writer, int64_t wall_s)
{
    char words[MESSAGE_DATE_TEXT];
    message_date_format(wall_s, words);
    text(writer, words);
}

/* "=_" cannot stand in quoted-printable text, and nobody can foresee the rest. */
static void boundary_make(char boundary[BOUNDARY_TEXT], const uint8_t random[16])
{
    static const char digits[] = "0123456789abcdef";
    char *to = boundary;
    *to++ = '=';
    *to++ = '_';
    for (size_t i = 0; i < 16; i++) {
        *to++ = digits[random[i] >> 4];
        *to++ = digits[random[i] & 15];
    }
    *to = '\0';
}

static void boundary_line(struct dsn_writer *writer, const char *end)
{
    wire_writer_encode(&writer->wire, WIRE_ASCII);
    line_end(writer);
    text(writer, "--");
    text(writer, writer->boundary);
    line(writer, end);
}

static void header(struct dsn_writer *writer)
{
    static const char *const subjects[] = {"Subject: Undelivered Mail Returned to Sender",
                                           "Subject: Delayed Mail (still being retried)",
                                           "Subject: Successful Mail Delivery Report"};
    const struct dsn_report *report = writer->report;
    text(writer, "From: Mail Delivery System <MAILER-DAEMON@");
    peer_text(writer, report->hostname);
    line(writer, ">");
    wire_writer_encode(&writer->wire, WIRE_UTF8);
    text(writer, "To: <");
    address_text(writer, report->reverse_path);
    line(writer, ">");
    wire_writer_encode(&writer->wire, WIRE_ASCII);
    line(writer, subjects[writer->kind]);
    text(writer, "Date: ");
    date(writer, report->now_wall_s);
    line_end(writer);
    text(writer, "Message-ID: <");
    peer_text(writer, report->message_id);
    text(writer, "@");
    peer_text(writer, report->hostname);
    line(writer, ">");
    line(writer, "Auto-Submitted: auto-replied");
    line(writer, "MIME-Version: 1.0");
    line(writer, "Content-Type: multipart/report; report-type=delivery-status;");
    text(writer, "\tboundary=\"");
    text(writer, writer->boundary);
    line(writer, "\"");
    line_end(writer);
    line(writer, "This is a message in MIME format.");
}

static void reason_line(struct dsn_writer *writer, const struct dsn_recipient *recipient)
{
    text(writer, "<");
    address_text(writer, recipient->forward_path);
    text(writer, ">: ");
    if (writer->kind == KIND_SUCCESS) {
        text(writer, recipient->action == DSN_DELIVERED ? "delivered: "
                     : recipient->action == DSN_RELAYED ? "relayed: "
                                                        : "expanded: ");
    }
    if (recipient->remote_mta.size > 0) {
        text(writer, "host ");
        wire_writer_text(&writer->wire, slice_first(recipient->remote_mta, HOST_BYTES_MAX));
        if (recipient->remote_address.size > 0) {
            text(writer, "[");
            wire_writer_text(&writer->wire,
                             slice_first(recipient->remote_address, HOST_ADDRESS_BYTES_MAX));
            text(writer, "]");
        }
        text(writer, " said: ");
    }
    if (recipient->code != 0) {
        char code[8];
        snprintf(code, sizeof(code), "%u ", recipient->code % 1000u);
        text(writer, code);
    }
    peer_text(writer, recipient->text);
    line_end(writer);
}

static void explanation(struct dsn_writer *writer)
{
    const struct dsn_report *report = writer->report;
    bool plain = true;
    for (size_t i = 0; i < report->recipient_count; i++) {
        plain =
            plain && ascii(report->recipients[i].forward_path) && ascii(report->recipients[i].text);
    }
    boundary_line(writer, "");
    line(writer, "Content-Description: Notification");
    line(writer, plain ? "Content-Type: text/plain; charset=us-ascii"
                       : "Content-Type: text/plain; charset=utf-8");
    line(writer,
         plain ? "Content-Transfer-Encoding: 7bit" : "Content-Transfer-Encoding: quoted-printable");
    line_end(writer);
    wire_writer_encode(&writer->wire, plain ? WIRE_ASCII : WIRE_UTF8_QUOTED);
    text(writer, "This is the mail system at host ");
    peer_text(writer, report->hostname);
    line(writer, ".");
    line_end(writer);
    switch (writer->kind) {
    case KIND_FAILURE:
        line(writer, "Your message could not be delivered to the recipients below, and will");
        line(writer, "not be tried again.");
        break;
    case KIND_DELAY:
        line(writer, "Your message could not yet be delivered to the recipients below.");
        text(writer, "You need not send it again: it will be tried until ");
        date(writer, report->expires_wall_s);
        line(writer, ".");
        break;
    case KIND_SUCCESS:
        line(writer,
             "You asked to be told. Delivered means: in a mailbox. Relayed means: taken by a");
        line(writer,
             "server that tells of failures only. Expanded means: sent on to several others.");
        break;
    }
    line_end(writer);
    for (size_t i = 0; i < report->recipient_count; i++) {
        reason_line(writer, &report->recipients[i]);
    }
}

/* RFC 6533 §3: utf-8-addr-xtext, so that the report stays ASCII. */
static void utf8_address(struct dsn_writer *writer, struct slice address)
{
    while (address.size > 0 && writer->wire.column < COLUMN_MAX) {
        size_t bytes = utf8_printable(address);
        uint8_t first = address.bytes[0];
        if (bytes == 0) {
            text(writer, "?");
            bytes = 1;
        } else if (first > ' ' && first < 0x7f && first != '\\' && first != '+' && first != '=') {
            wire_writer_text(&writer->wire, slice_first(address, 1));
        } else {
            uint32_t character = bytes == 1 ? first : first & (0x7fu >> bytes);
            for (size_t i = 1; i < bytes; i++) {
                character = character << 6 | (address.bytes[i] & 0x3f);
            }
            char escaped[16];
            snprintf(escaped, sizeof(escaped), "\\x{%02X}", (unsigned)character);
            text(writer, escaped);
        }
        address = slice_from(address, bytes);
    }
}

/* RFC 3464 §2.3.1: as the sender wrote it, but for its xtext. What is not ASCII in it goes as the form of the report
 * allows (RFC 6533 §3). */
static void original_recipient(struct dsn_writer *writer, struct slice orcpt)
{
    struct slice type, xtext;
    uint8_t decoded[SMTP_ORCPT_BYTES_MAX];
    smtp_orcpt_split(orcpt, &type, &xtext);
    bool is_utf8 = !ascii(xtext); /* then it is no xtext, and is as it came */
    int size = is_utf8 || xtext.size > sizeof(decoded) ? -1 : smtp_xtext_decode(xtext, decoded);
    text(writer, "Original-Recipient: ");
    peer_text(writer, type);
    text(writer, "; ");
    if (is_utf8 && !writer->utf8) {
        utf8_address(writer, xtext);
    } else {
        wire_writer_text(&writer->wire, size < 0 ? slice_first(xtext, sizeof(decoded))
                                                 : slice_of(decoded, (size_t)size));
    }
    line_end(writer);
}

static void recipient_fields(struct dsn_writer *writer, const struct dsn_recipient *recipient)
{
    static const char *const actions[] = {"Action: failed", "Action: delayed", "Action: delivered",
                                          "Action: relayed", "Action: expanded"};
    line_end(writer);
    wire_writer_encode(&writer->wire, writer->utf8 ? WIRE_UTF8 : WIRE_ASCII);
    if (recipient->orcpt.size > 0) {
        original_recipient(writer, recipient->orcpt);
    }
    bool is_ascii = ascii(recipient->forward_path);
    text(writer, is_ascii ? "Final-Recipient: rfc822; " : "Final-Recipient: utf-8; ");
    if (is_ascii || writer->utf8) {
        address_text(writer, recipient->forward_path);
    } else {
        utf8_address(writer, slice_first(recipient->forward_path, SMTP_ADDRESS_BYTES_MAX));
    }
    line_end(writer);
    line(writer, actions[recipient->action]);
    char words[SMTP_STATUS_TEXT_MAX];
    smtp_status_format(&recipient->status, words);
    text(writer, "Status: ");
    line(writer, words);
    if (recipient->remote_mta.size > 0) {
        text(writer, "Remote-MTA: dns; ");
        peer_text(writer, recipient->remote_mta);
        line_end(writer);
    }
    if (recipient->code != 0) {
        char code[32];
        snprintf(code, sizeof(code), "Diagnostic-Code: smtp; %u ", recipient->code % 1000u);
        text(writer, code);
    } else {
        text(writer, "Diagnostic-Code: X-Tubepost; ");
    }
    peer_text(writer, recipient->text);
    line_end(writer);
    if (writer->kind == KIND_DELAY) {
        text(writer, "Will-Retry-Until: ");
        date(writer, writer->report->expires_wall_s);
        line_end(writer);
    }
}

static void delivery_status(struct dsn_writer *writer)
{
    const struct dsn_report *report = writer->report;
    boundary_line(writer, "");
    line(writer, "Content-Description: Delivery report");
    if (writer->utf8) {
        line(writer, "Content-Type: message/global-delivery-status");
        line(writer, "Content-Transfer-Encoding: 8bit");
    } else {
        line(writer, "Content-Type: message/delivery-status");
    }
    line_end(writer);
    if (report->envid.size > 0 && report->envid.size <= SMTP_ENVID_BYTES_MAX) {
        uint8_t envid[SMTP_ENVID_BYTES_MAX];
        int size = smtp_xtext_decode(report->envid, envid);
        text(writer, "Original-Envelope-Id: ");
        peer_text(writer, size < 0 ? report->envid : slice_of(envid, (size_t)size));
        line_end(writer);
    }
    text(writer, "Reporting-MTA: dns; ");
    peer_text(writer, report->hostname);
    line_end(writer);
    text(writer, "X-Tubepost-Queue-ID: ");
    peer_text(writer, report->queue_id);
    line_end(writer);
    text(writer, "Arrival-Date: ");
    date(writer, report->arrival_wall_s);
    line_end(writer);
    for (size_t i = 0; i < report->recipient_count; i++) {
        recipient_fields(writer, &report->recipients[i]);
    }
}

static void original_header(struct dsn_writer *writer)
{
    static const char *const types[] = {
        [DSN_TEXT_ASCII] = "Content-Type: text/rfc822-headers",
        [DSN_TEXT_UTF8] = "Content-Type: text/rfc822-headers; charset=utf-8",
        [DSN_TEXT_UNKNOWN] = "Content-Type: text/rfc822-headers; charset=unknown-8bit"};
    const struct dsn_report *report = writer->report;
    struct dsn_original original;
    dsn_original_measure(report->original, report->original_count, &original);
    bool plain = original.text == DSN_TEXT_ASCII && !original.has_long_lines;
    boundary_line(writer, "");
    line(writer, "Content-Description: Header of the message");
    line(writer,
         report->original_is_utf8 ? "Content-Type: message/global-headers" : types[original.text]);
    line(writer,
         plain ? "Content-Transfer-Encoding: 7bit" : "Content-Transfer-Encoding: quoted-printable");
    line_end(writer);
    wire_writer_encode(&writer->wire, plain ? WIRE_ASCII : WIRE_ANY_QUOTED);
    dsn_original_write(&writer->wire, report->original, report->original_count, original.bytes);
}

unsigned dsn_needs(const struct dsn_report *report)
{
    unsigned needs = ascii(report->reverse_path) ? 0 : DSN_NEEDS_8BITMIME | DSN_NEEDS_SMTPUTF8;
    return report->full && report->full_is_8bit ? needs | DSN_NEEDS_8BITMIME : needs;
}

bool dsn_may_return_full(const struct dsn_report *report)
{
    return !report->original_is_utf8 || !ascii(report->reverse_path);
}

static void writer_open(struct dsn_writer *writer, const struct dsn_report *report,
                        int (*write)(void *owner, struct slice bytes), void *owner)
{
    uint8_t action = report->recipients[0].action;
    *writer = (struct dsn_writer){.report = report,
                                  .kind = action == DSN_FAILED    ? KIND_FAILURE
                                          : action == DSN_DELAYED ? KIND_DELAY
                                                                  : KIND_SUCCESS,
                                  .utf8 = !ascii(report->reverse_path)};
    wire_writer_open(&writer->wire, write, owner);
    boundary_make(writer->boundary, report->random);
}

static void before_original(struct dsn_writer *writer, const struct dsn_report *report,
                            int (*write)(void *owner, struct slice bytes), void *owner)
{
    writer_open(writer, report, write, owner);
    header(writer);
    explanation(writer);
    delivery_status(writer);
}

int dsn_begin(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
              void *owner)
{
    struct dsn_writer writer;
    before_original(&writer, report, write, owner);
    boundary_line(&writer, "");
    line(&writer, "Content-Description: The message");
    line(&writer, report->original_is_utf8 ? "Content-Type: message/global"
                                           : "Content-Type: message/rfc822");
    line(&writer, report->full_is_8bit ? "Content-Transfer-Encoding: 8bit"
                                       : "Content-Transfer-Encoding: 7bit");
    line_end(&writer);
    return wire_writer_close(&writer.wire);
}

int dsn_end(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
            void *owner)
{
    struct dsn_writer writer;
    writer_open(&writer, report, write, owner);
    boundary_line(&writer, "--");
    return wire_writer_close(&writer.wire);
}

int dsn_end_header(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
                   void *owner)
{
    struct dsn_writer writer;
    writer_open(&writer, report, write, owner);
    original_header(&writer);
    boundary_line(&writer, "--");
    return wire_writer_close(&writer.wire);
}

int dsn_build(const struct dsn_report *report, int (*write)(void *owner, struct slice bytes),
              void *owner)
{
    struct dsn_writer writer;
    before_original(&writer, report, write, owner);
    original_header(&writer);
    boundary_line(&writer, "--");
    return wire_writer_close(&writer.wire);
}
