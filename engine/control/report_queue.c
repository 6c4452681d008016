#include "engine/control/report_queue.h"
#include "engine/control/report.h"
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define TIME_BYTES 32
#define COUNT_BYTES 24
#define LINE_COLUMNS 79
#define ADDRESS_COLUMN 41 /* as mailq has it */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(object, key));
    return number > 0 ? (uint64_t)number : 0;
}

static const char *format_time(const json_t *object, const char *key, const char *format,
                               char text[TIME_BYTES])
{
    time_t seconds = (time_t)json_integer_value(json_object_get(object, key));
    struct tm broken;
    if (localtime_r(&seconds, &broken) == NULL ||
        strftime(text, TIME_BYTES, format, &broken) == 0) {
        strcpy(text, "-");
    }
    return text;
}

const char *report_span(uint64_t seconds, char text[REPORT_SPAN_BYTES])
{
    uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
    if (days > 0) {
        snprintf(text, REPORT_SPAN_BYTES, "%" PRIu64 "d%02" PRIu64 "h", days, hours % 24);
    } else if (hours > 0) {
        snprintf(text, REPORT_SPAN_BYTES, "%" PRIu64 "h%02" PRIu64 "m", hours, minutes % 60);
    } else if (minutes > 0) {
        snprintf(text, REPORT_SPAN_BYTES, "%" PRIu64 "m", minutes);
    } else {
        snprintf(text, REPORT_SPAN_BYTES, "%" PRIu64 "s", seconds);
    }
    return text;
}

/* ---- The queue ---- */

static bool any_is(const json_t *recipients, const char *state)
{
    size_t index;
    json_t *recipient;
    json_array_foreach((json_t *)(uintptr_t)recipients, index, recipient)
    {
        if (strcmp(text_of(recipient, "state"), state) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_held(const json_t *message)
{
    return json_is_true(json_object_get(message, "held"));
}

static const char *sender_of(const json_t *message)
{
    const char *sender = text_of(message, "sender");
    return sender[0] != '\0' ? sender : "MAILER-DAEMON";
}

/* Its last column is that of the others' lines, when there is room. */
static void reason_line(FILE *out, const char *reason)
{
    int length = (int)strlen(reason) + 2;
    int indent = length < LINE_COLUMNS ? LINE_COLUMNS - length : 0;
    fprintf(out, "%*s(%s)\n", indent < ADDRESS_COLUMN ? indent : ADDRESS_COLUMN, "", reason);
}

static void recipient_lines(FILE *out, const json_t *recipients)
{
    const char *reason = "";
    size_t index;
    json_t *recipient;
    json_array_foreach((json_t *)(uintptr_t)recipients, index, recipient)
    {
        const char *own = text_of(recipient, "reason");
        if (own[0] != '\0' && strcmp(own, reason) != 0) {
            reason_line(out, own);
        }
        reason = own;
        fprintf(out, "%*s%s\n", ADDRESS_COLUMN, "", text_of(recipient, "address"));
    }
}

void queue_report_message(struct queue_report *report, const json_t *message)
{
    char arrival[TIME_BYTES], marked[24];
    const json_t *recipients = json_object_get(message, "recipients");
    const char *id = text_of(message, "id");
    if (id[0] != '\0' && strcmp(report->last_id, id) == 0) { /* it has many recipients */
        recipient_lines(report->out, recipients);
        return;
    }
    if (report->message_count++ == 0) {
        fprintf(report->out, "%-15s%8s %-20s %s\n", "-Queue ID-", "--Size--",
                "----Arrival Time----", "-Sender/Recipient------------");
    } else {
        fputc('\n', report->out);
    }
    report->bytes += number_of(message, "bytes");
    snprintf(report->last_id, sizeof report->last_id, "%s", id);
    snprintf(marked, sizeof marked, "%.13s%s", id,
             is_held(message)               ? "!"
             : any_is(recipients, "active") ? "*"
                                            : "");
    fprintf(report->out, "%-15s%8" PRIu64 " %20.20s %s\n", marked, number_of(message, "bytes"),
            format_time(message, "arrival", "%a %b %e %H:%M:%S", arrival), sender_of(message));
    recipient_lines(report->out, recipients);
}

void queue_report_end(struct queue_report *report)
{
    if (report->message_count == 0) {
        fprintf(report->out, "Mail queue is empty\n");
        return;
    }
    fprintf(report->out, "\n-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n",
            report->bytes / 1024, report->message_count, report->message_count == 1 ? "" : "s");
}

void queue_report_json(FILE *out, const json_t *message)
{
    json_t *recipients = json_array();
    const json_t *from = json_object_get(message, "recipients");
    size_t index;
    json_t *recipient;
    json_array_foreach((json_t *)(uintptr_t)from, index, recipient)
    {
        json_t *shown = json_object();
        json_object_set(shown, "address", json_object_get(recipient, "address"));
        if (json_object_get(recipient, "reason") != NULL) {
            json_object_set(shown, "delay_reason", json_object_get(recipient, "reason"));
        }
        json_array_append_new(recipients, shown);
    }
    const char *name = is_held(message)           ? "hold"
                       : any_is(from, "active")   ? "active"
                       : any_is(from, "deferred") ? "deferred"
                                                  : "incoming";
    json_t *shown = json_object();
    json_object_set_new(shown, "queue_name", json_string(name));
    json_object_set(shown, "queue_id", json_object_get(message, "id"));
    json_object_set(shown, "arrival_time", json_object_get(message, "arrival"));
    json_object_set(shown, "message_size", json_object_get(message, "bytes"));
    json_object_set_new(shown, "forced_expire", json_false());
    json_object_set_new(shown, "sender", json_string(sender_of(message)));
    json_object_set_new(shown, "recipients", recipients);
    json_dumpf(shown, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(shown);
}

/* ---- One message ---- */

static void recipient_report(FILE *out, const json_t *recipient)
{
    char span[REPORT_SPAN_BYTES];
    const char *site = text_of(recipient, "site"), *reason = text_of(recipient, "reason");
    fprintf(out, "    %-9s %s\n", text_of(recipient, "state"), text_of(recipient, "address"));
    if (site[0] != '\0') {
        uint64_t attempts = number_of(recipient, "attempts");
        fprintf(out, "              site %s, %" PRIu64 " attempt%s", site, attempts,
                attempts == 1 ? "" : "s");
        if (json_object_get(recipient, "due_s") != NULL) {
            uint64_t due_s = number_of(recipient, "due_s");
            fprintf(out, ", the next %s%s", due_s > 0 ? "in " : "now",
                    due_s > 0 ? report_span(due_s, span) : "");
        }
        fputc('\n', out);
    }
    if (reason[0] != '\0') {
        fprintf(out, "              (%s)\n", reason);
    }
}

void message_report_more(FILE *out, const json_t *message)
{
    size_t index;
    json_t *recipient;
    json_array_foreach(json_object_get(message, "recipients"), index, recipient)
    {
        recipient_report(out, recipient);
    }
}

void message_report(FILE *out, const json_t *message)
{
    char size[REPORT_SIZE_BYTES], arrival[TIME_BYTES];
    const char *sender = text_of(message, "sender");
    fprintf(out, "id:         %s%s\n", text_of(message, "id"), is_held(message) ? " (held)" : "");
    fprintf(out, "arrival:    %s\n", format_time(message, "arrival", "%Y-%m-%d %H:%M:%S", arrival));
    fprintf(out, "size:       %s\n", report_size(number_of(message, "bytes"), size));
    fprintf(out, "sender:     %s\n", sender[0] != '\0' ? sender : "<>");
    fprintf(out, "priority:   %s\n", text_of(message, "priority"));
    fprintf(out, "recipients: %" PRIu64 ", of which %" PRIu64 " wait%s\n",
            number_of(message, "recipient_count"), number_of(message, "waiting_count"),
            number_of(message, "waiting_count") == 1 ? "s" : "");
    message_report_more(out, message);
}

/* ---- A summary ---- */

/* At most 4 characters: 9999, 12K, 1.2M, 120M */
static const char *short_count(uint64_t count, char text[COUNT_BYTES])
{
    static const char units[] = "KMGTPE";
    if (count < 10000) {
        snprintf(text, COUNT_BYTES, "%" PRIu64, count);
        return text;
    }
    double value = (double)count / 1000;
    unsigned unit = 0;
    while (value >= 999.5 && unit + 2 < sizeof units) {
        value /= 1000;
        unit++;
    }
    snprintf(text, COUNT_BYTES, value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return text;
}

/* 79 columns in all. */
#define NAME_COLUMNS 16

static void summary_title(const struct summary_report *report)
{
    static const char *const ages[] = {"5",   "10",  "20",  "40",   "80",
                                       "160", "320", "640", "1280", "1280+"};
    fprintf(report->out, "%-*s%5s%7s", NAME_COLUMNS, report->by, "T", "oldest");
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        fprintf(report->out, i < 9 ? "%5s" : "%6s", ages[i]);
    }
    fputc('\n', report->out);
}

void summary_report_line(struct summary_report *report, const json_t *row)
{
    char text[COUNT_BYTES], span[REPORT_SPAN_BYTES];
    const char *name = text_of(row, "name");
    if (report->line_count++ == 0) {
        summary_title(report);
    }
    name = name[0] != '\0' ? name : strcmp(report->by, "sender") == 0 ? "<>" : "-";
    if (strlen(name) >= NAME_COLUMNS) {
        fprintf(report->out, "%s\n", name);
        name = "";
    }
    fprintf(report->out, "%-*s%5s%7s", NAME_COLUMNS, name,
            short_count(number_of(row, "count"), text),
            report_span(number_of(row, "oldest_s"), span));
    size_t index;
    json_t *count;
    json_array_foreach(json_object_get(row, "ages"), index, count)
    {
        fprintf(report->out, index < 9 ? "%5s" : "%6s",
                short_count((uint64_t)json_integer_value(count), text));
    }
    fputc('\n', report->out);
}

/* ---- Jobs ---- */

void jobs_report_line(struct jobs_report *report, const json_t *job)
{
    char span[REPORT_SPAN_BYTES];
    char looked[COUNT_BYTES], matched[COUNT_BYTES], done[COUNT_BYTES];
    if (report->line_count++ == 0) {
        fprintf(report->out, "%4s %-9s %6s %7s %6s %6s  %s\n", "Job", "State", "Looked", "Matched",
                "Done", "Time", "What");
    }
    const char *words = text_of(job, "words");
    fprintf(report->out, "%4" PRIu64 " %-9s %6s %7s %6s %6s  %s%s%s\n", number_of(job, "job"),
            text_of(job, "state"), short_count(number_of(job, "looked"), looked),
            short_count(number_of(job, "matched"), matched),
            short_count(number_of(job, "done"), done),
            report_span((uint64_t)json_number_value(json_object_get(job, "seconds")), span),
            text_of(job, "verb"), words[0] != '\0' ? " " : "", words);
}
