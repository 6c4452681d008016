#include "bench/report.h"
#include "engine/core/check.h"
#include <jansson.h>
#include <stdio.h>

struct report {
    json_t *root;
};

struct report *report_open(void)
{
    struct report *report = malloc(sizeof(*report));
    check(report != NULL);
    report->root = json_object();
    check(report->root != NULL);
    return report;
}

static void put(json_t *object, const char *name, json_t *value)
{
    check(value != NULL && json_object_set_new(object, name, value) == 0);
}

void report_text(struct report *report, const char *name, const char *text)
{
    json_t *value = json_string(text);
    put(report->root, name, value != NULL ? value : json_string("(not UTF-8)"));
}

void report_count(struct report *report, const char *name, uint64_t count)
{
    put(report->root, name, json_integer((json_int_t)count));
}

void report_number(struct report *report, const char *name, double number)
{
    put(report->root, name, json_real(number));
}

void report_latency(struct report *report, const char *name, const struct histogram *histogram)
{
    static const struct {
        const char *name;
        double share;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    json_t *object = json_object();
    check(object != NULL);
    for (unsigned i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        put(object, quantiles[i].name,
            json_real((double)histogram_quantile(histogram, quantiles[i].share) / 1e3));
    }
    put(report->root, name, object);
}

static void print_row(const char *name, json_t *value)
{
    const char *key;
    json_t *part;
    printf("%-26s", name);
    if (json_is_object(value)) {
        json_object_foreach(value, key, part)
        {
            printf(" %s %.0f", key, json_real_value(part));
        }
        printf("\n");
    } else if (json_is_integer(value)) {
        printf(" %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
    } else if (json_is_real(value)) {
        printf(" %.2f\n", json_real_value(value));
    } else {
        printf(" %s\n", json_string_value(value));
    }
}

void report_print(struct report *report, bool as_json)
{
    const char *name;
    json_t *value;
    if (as_json) {
        json_dumpf(report->root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
        printf("\n");
    } else {
        json_object_foreach(report->root, name, value)
        {
            print_row(name, value);
        }
    }
    fflush(stdout);
    json_decref(report->root);
    free(report);
}
