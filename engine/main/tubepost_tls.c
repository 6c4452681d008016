/* tubepost tls: how TLS to next hops went. */
#include "engine/main/tubepost.h"
#include <stdlib.h>
#include <string.h>

static int by_day_and_domain(const void *a, const void *b)
{
    static const char *const keys[] = {"day", "domain", "policy"};
    int order = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && order == 0; i++) {
        const char *first = json_string_value(json_object_get(*(json_t *const *)a, keys[i]));
        const char *second = json_string_value(json_object_get(*(json_t *const *)b, keys[i]));
        order = strcmp(first != NULL ? first : "", second != NULL ? second : "");
    }
    return order;
}

static void row_keep(void *owner, const json_t *line)
{
    json_array_append(owner, (json_t *)(uintptr_t)line);
}

/* A line for each domain, and below it what went wrong, if anything did. */
static void row_print(const json_t *row)
{
    const json_t *results = json_object_get(row, "results");
    const char *key;
    json_t *value;
    long long good = json_integer_value(json_object_get(results, "success")), bad = 0;
    json_object_foreach((json_t *)(uintptr_t)results, key, value)
    {
        bad += strcmp(key, "success") != 0 ? json_integer_value(value) : 0;
    }
    printf("%-10s  %-32s  %-15s  %9lld  %9lld\n", json_string_value(json_object_get(row, "day")),
           json_string_value(json_object_get(row, "domain")),
           json_string_value(json_object_get(row, "policy")), good, bad);
    json_object_foreach((json_t *)(uintptr_t)results, key, value)
    {
        if (strcmp(key, "success") != 0) {
            printf("            %-60s %9lld\n", key, (long long)json_integer_value(value));
        }
    }
}

static int rows_print(json_t *rows)
{
    size_t count = json_array_size(rows);
    const json_t **sorted = calloc(count + 1, sizeof *sorted);
    if (sorted == NULL) {
        return tool_fail(EX_OSERR, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = json_array_get(rows, i);
    }
    qsort(sorted, count, sizeof *sorted, by_day_and_domain);
    if (count > 0) {
        printf("%-10s  %-32s  %-15s  %9s  %9s\n", "day", "domain", "policy", "good", "failed");
    }
    for (size_t i = 0; i < count; i++) {
        row_print(sorted[i]);
    }
    free(sorted);
    return EX_OK;
}

int tubepost_tls(struct tool *tool, int count, char **words)
{
    int taken = tool_options(tool, count, words);
    if (taken != TOOL_TAKEN) {
        return taken;
    }
    if (count - optind != 1 || strcmp(words[optind], "report") != 0) {
        return tool_usage(EX_USAGE);
    }
    json_t *rows = json_array(), *last = NULL;
    int code = tool_ask(tool, "tls report", row_keep, rows, &last);
    json_decref(last);
    size_t index;
    const json_t *row;
    if (code == EX_OK && tool->as_json) {
        json_array_foreach(rows, index, row)
        {
            tool_print_json(row);
        }
    } else if (code == EX_OK) {
        code = rows_print(rows);
    }
    json_decref(rows);
    return code;
}
