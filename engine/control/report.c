#include "engine/control/report.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define TIME_BYTES 32
#define NAME_BYTES 256

const char *report_size(uint64_t bytes, char text[REPORT_SIZE_BYTES])
{
    static const char units[] = "KMGTPE";
    if (bytes < 1024) {
        snprintf(text, REPORT_SIZE_BYTES, "%" PRIu64, bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    unsigned unit = 0;
    while (value >= 1023.95 && unit + 2 < sizeof units) {
        value /= 1024;
        unit++;
    }
    snprintf(text, REPORT_SIZE_BYTES, value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return text;
}

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

static const char *format_time(const json_t *object, const char *key, char text[TIME_BYTES])
{
    time_t seconds = (time_t)json_integer_value(json_object_get(object, key));
    struct tm broken;
    if (localtime_r(&seconds, &broken) == NULL ||
        strftime(text, TIME_BYTES, "%Y-%m-%d %H:%M:%S", &broken) == 0) {
        strcpy(text, "-");
    }
    return text;
}

static const char *sender_of(const json_t *message)
{
    const char *sender = text_of(message, "sender");
    return sender[0] != '\0' ? sender : "<>";
}

/* ---- the queue ---- */

static void recipient_line(FILE *out, const json_t *recipient)
{
    const char *reason = text_of(recipient, "reason");
    fprintf(out, "    %-9s %s%s%s%s\n", text_of(recipient, "state"), text_of(recipient, "address"),
            reason[0] != '\0' ? " (" : "", reason, reason[0] != '\0' ? ")" : "");
}

static void next_attempt_line(FILE *out, const json_t *message)
{
    const char *reason = text_of(message, "reason");
    if (reason[0] != '\0') {
        fprintf(out, "    (%s)\n", reason);
    }
    if (json_object_get(message, "due_s") != NULL) {
        fprintf(out, "    next attempt in %" PRIu64 " s, %" PRIu64 " made\n",
                number_of(message, "due_s"), number_of(message, "attempts"));
    }
}

void queue_report_message(struct queue_report *report, const json_t *message)
{
    char size[REPORT_SIZE_BYTES], arrival[TIME_BYTES];
    if (report->message_count++ == 0) {
        fprintf(report->out, "%-13s %6s %-19s %s\n", "ID", "Size", "Arrival", "Sender, recipients");
    }
    report->bytes += number_of(message, "bytes");
    fprintf(report->out, "%-13s %6s %-19s %s\n", text_of(message, "id"),
            report_size(number_of(message, "bytes"), size),
            format_time(message, "arrival", arrival), sender_of(message));
    next_attempt_line(report->out, message);
    size_t index;
    json_t *recipient;
    json_array_foreach(json_object_get(message, "recipients"), index, recipient)
    {
        recipient_line(report->out, recipient);
    }
}

void queue_report_end(struct queue_report *report)
{
    char size[REPORT_SIZE_BYTES];
    if (report->message_count == 0) {
        fprintf(report->out, "The queue is empty.\n");
        return;
    }
    fprintf(report->out, "-- %s in %" PRIu64 " message%s\n", report_size(report->bytes, size),
            report->message_count, report->message_count == 1 ? "" : "s");
}

void message_report(FILE *out, const json_t *message)
{
    char size[REPORT_SIZE_BYTES], arrival[TIME_BYTES];
    fprintf(out, "id:         %s\n", text_of(message, "id"));
    fprintf(out, "arrival:    %s\n", format_time(message, "arrival", arrival));
    fprintf(out, "size:       %s\n", report_size(number_of(message, "bytes"), size));
    fprintf(out, "sender:     %s\n", sender_of(message));
    fprintf(out, "recipients: %" PRIu64 ", of which %" PRIu64 " wait\n",
            number_of(message, "recipient_count"), number_of(message, "waiting_count"));
    next_attempt_line(out, message);
    size_t index;
    json_t *recipient;
    json_array_foreach(json_object_get(message, "recipients"), index, recipient)
    {
        recipient_line(out, recipient);
    }
}

/* ---- the status ---- */

static void number_line(FILE *out, const char *name, const json_t *value, const json_t *earlier,
                        double seconds)
{
    double now = json_number_value(value);
    if (earlier != NULL && seconds > 0) {
        fprintf(out, "  %-44s %16.0f %14.1f/s\n", name, now,
                (now - json_number_value(earlier)) / seconds);
    } else {
        fprintf(out, "  %-44s %16.0f\n", name, now);
    }
}

/* Every number below, under its full name. */
static void numbers_below(FILE *out, const char *above, const json_t *object, const json_t *earlier,
                          double seconds)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char name[NAME_BYTES];
        const json_t *before = json_object_get(earlier, key);
        snprintf(name, sizeof name, "%s%s%s", above, above[0] != '\0' ? "." : "", key);
        if (json_is_object(value)) {
            numbers_below(out, name, value, before, seconds);
        } else if (json_is_number(value)) {
            number_line(out, name, value, before, seconds);
        } else if (json_is_string(value)) {
            fprintf(out, "  %-44s %16s\n", name, json_string_value(value));
        }
    }
}

void status_report(FILE *out, const json_t *status, const json_t *earlier, double seconds)
{
    const char *hostname = text_of(status, "hostname");
    uint64_t uptime = number_of(status, "uptime_s");
    if (hostname[0] != '\0') {
        fprintf(out,
                "%s, process %" PRIu64 ", up %" PRIu64 "d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64
                "\n",
                hostname, number_of(status, "pid"), uptime / 86400, uptime / 3600 % 24,
                uptime / 60 % 60, uptime % 60);
    }
    fprintf(out, "counters\n");
    numbers_below(out, "", json_object_get(status, "counters"),
                  json_object_get(earlier, "counters"), seconds);
    fprintf(out, "now\n");
    numbers_below(out, "", json_object_get(status, "gauges"), NULL, 0);
}
