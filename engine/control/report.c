#include "engine/control/report.h"
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

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

/* ---- for Prometheus ---- */

/* Of what a metric's name may have: letters, digits, '_'. */
static void metric_name(char name[NAME_BYTES], const char *above, const char *key)
{
    snprintf(name, NAME_BYTES, "%s_%s", above, key);
    for (char *at = name; *at != '\0'; at++) {
        bool fine =
            (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9');
        *at = (char)(fine ? *at : '_');
    }
}

static void metrics_below(FILE *out, const char *above, const json_t *object, const char *type)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char name[NAME_BYTES];
        metric_name(name, above, key);
        const char *end = strcmp(type, "counter") == 0 ? "_total" : "";
        if (json_is_object(value)) {
            metrics_below(out, name, value, type);
        } else if (json_is_number(value)) {
            fprintf(out, "# TYPE %s%s %s\n%s%s %.0f\n", name, end, type, name, end,
                    json_number_value(value));
        }
    }
}

void status_prometheus(FILE *out, const char *prefix, const json_t *status)
{
    metrics_below(out, prefix, json_object_get(status, "counters"), "counter");
    metrics_below(out, prefix, json_object_get(status, "gauges"), "gauge");
    fprintf(out, "# TYPE %s_uptime_seconds gauge\n%s_uptime_seconds %" PRIu64 "\n", prefix, prefix,
            number_of(status, "uptime_s"));
}
