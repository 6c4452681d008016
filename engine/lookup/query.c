#include "engine/lookup/query.h"
#include <stdio.h>
#include <stdlib.h>

static int common_read(struct query_file *file, const char *query_name,
                       char problem[MAP_PROBLEM_MAX])
{
    char *end;
    const char *limit = text_setting(&file->text, "expansion_limit", "0");
    unsigned long number = strtoul(limit, &end, 10);
    file->query = (struct query_settings){
        .result_format = text_setting(&file->text, "result_format", "%s"),
        .domains = text_setting(&file->text, "domain", ""),
        .expansion_limit = (unsigned)number,
    };
    if (*limit < '0' || *limit > '9' || *end != '\0' || number > 1000000) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.150s: expansion_limit: a number is expected",
                 file->text.path);
        return -EINVAL;
    }
    return query_file_required(file, query_name, &file->query.query, problem);
}

int query_file_open(struct query_file *file, const char *where, const char *query_name,
                    query_settings_own *own, char problem[MAP_PROBLEM_MAX])
{
    int status = text_settings_read(&file->text, where, problem);
    if (status < 0) {
        return status;
    }
    status = common_read(file, query_name, problem);
    status = status == 0 ? own(file, problem) : status;
    status = status == 0 ? text_settings_all_used(&file->text, problem) : status;
    file->text.path = NULL; /* which was the caller's */
    if (status < 0) {
        text_settings_free(&file->text);
    }
    return status;
}

void query_file_close(struct query_file *file)
{
    text_settings_free(&file->text);
}

int query_file_required(struct query_file *file, const char *name, const char **value,
                        char problem[MAP_PROBLEM_MAX])
{
    *value = text_setting(&file->text, name, NULL);
    if (*value == NULL) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.150s: \"%s\" is missing", file->text.path, name);
        return -EINVAL;
    }
    return 0;
}

/* Where the domain begins, behind the last "@"; the size when there is none. */
static size_t domain_at(struct slice key)
{
    size_t at = key.size;
    while (at > 0 && key.bytes[at - 1] != '@') {
        at--;
    }
    return at == 0 ? key.size : at;
}

/* The label of a domain, counted from the right, from 1. Empty: it has not so many. */
static struct slice label_of(struct slice domain, unsigned number)
{
    size_t end = domain.size;
    for (;; number--) {
        size_t begin = end;
        while (begin > 0 && domain.bytes[begin - 1] != '.') {
            begin--;
        }
        if (number == 1) {
            return slice_of(domain.bytes + begin, end - begin);
        }
        if (begin == 0) {
            return slice_of(domain.bytes, 0);
        }
        end = begin - 1;
    }
}

/* What stands for a letter behind "%". False: the text has no such part. */
static bool part_of(struct slice text, char letter, struct slice *part)
{
    size_t at = domain_at(text);
    bool has_domain = at < text.size;
    struct slice domain = slice_from(text, at);
    switch (letter) {
    case 's':
        *part = text;
        return true;
    case 'u': /* all of it when there is no "@" */
        *part = has_domain ? slice_first(text, at - 1) : text;
        return part->size > 0;
    case 'd':
        *part = domain;
        return has_domain;
    default:
        *part = has_domain ? label_of(domain, (unsigned)(letter - '0')) : slice_of(NULL, 0);
        return part->size > 0;
    }
}

static bool is_part(char letter)
{
    return letter == 's' || letter == 'u' || letter == 'd' || (letter >= '1' && letter <= '9');
}

static bool domain_listed(const char *domains, struct slice domain)
{
    while (*domains != '\0') {
        size_t size = strcspn(domains, ", \t");
        if (size > 0 && slice_equal_nocase(slice_of(domains, size), domain)) {
            return true;
        }
        domains += size + (domains[size] != '\0');
    }
    return false;
}

bool query_wanted(const struct query_settings *settings, struct slice key)
{
    struct slice part;
    if (settings->domains[0] != '\0' &&
        (!part_of(key, 'd', &part) || !domain_listed(settings->domains, part))) {
        return false;
    }
    for (const char *at = strchr(settings->query, '%'); at != NULL; at = strchr(at + 2, '%')) {
        if (at[1] == '\0') {
            return true;
        }
        if (is_part(at[1]) && !part_of(key, at[1], &part)) {
            return false;
        }
    }
    return true;
}

int query_make(const struct query_settings *settings, struct slice key, query_escape *escape,
               void *owner, char question[QUERY_BYTES_MAX])
{
    size_t used = 0;
    for (const char *at = settings->query; *at != '\0'; at++) {
        struct slice part;
        if (used + 1 >= QUERY_BYTES_MAX) {
            return -E2BIG;
        }
        if (*at != '%' || !is_part(at[1])) {
            question[used++] = *at;
            at += *at == '%' && at[1] == '%';
            continue;
        }
        part_of(key, *++at, &part); /* it is there: query_wanted */
        size_t more = escape(owner, question + used, QUERY_BYTES_MAX - used - 1, part);
        if (more == SIZE_MAX) {
            return -E2BIG;
        }
        used += more;
    }
    question[used] = '\0';
    return 0;
}

/* False: there is no room. */
static bool append(struct map_result *result, struct slice text)
{
    if (text.size > MAP_VALUE_MAX - result->bytes) {
        return false;
    }
    if (text.size > 0) {
        memcpy(result->value + result->bytes, text.bytes, text.size);
    }
    result->bytes += text.size;
    return true;
}

static bool format_append(const char *format, struct slice key, struct slice value,
                          struct map_result *result)
{
    bool room = true;
    for (const char *at = format; *at != '\0' && room; at++) {
        struct slice part = slice_of(at, 1);
        if (*at == '%' && at[1] != '\0') {
            char letter = *++at;
            bool of_key =
                letter == 'S' || letter == 'U' || letter == 'D' || (letter >= '1' && letter <= '9');
            char lower = (char)slice_lower((uint8_t)letter);
            part = slice_of(at, 1); /* %% */
            if (is_part(lower) && !part_of(of_key ? key : value, lower, &part)) {
                part = slice_of(NULL, 0);
            }
        }
        room = append(result, part);
    }
    return room;
}

void query_value(const struct query_settings *settings, struct slice key, struct slice value,
                 unsigned *count, struct map_result *result)
{
    bool over = result->answer == MAP_FAILED || result->answer == MAP_TOO_LONG;
    if (over || value.size == 0) {
        return;
    }
    if (settings->expansion_limit > 0 && *count == settings->expansion_limit) {
        map_failed(result, "more than %u values", settings->expansion_limit);
        return;
    }
    result->answer = MAP_FOUND;
    bool room = *count == 0 || append(result, slice_text(","));
    ++*count;
    if (!room || !format_append(settings->result_format, key, value, result)) {
        map_too_long(result, "the values together are too long");
    }
}
