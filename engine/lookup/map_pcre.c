/*
 * Patterns and what is said of each (pcre_table(5) of Postfix): the first that matches.
 *
 *   /pattern/flags value      $1 to $9 and ${1} in the value: what its groups have matched; $$: a dollar sign
 *   !/pattern/flags value     of what does not match
 *   if /pattern/flags ... endif, if !/pattern/flags: rules that are looked at only then
 *
 * Patterns do not care for case, and "." matches a line end, until flags say otherwise: i, m, s, x, A, E, U each
 * turn over what is the default. Keys come from strangers, so each match is bounded in steps and memory.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/lookup/text.h"
#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

#define MATCH_STEPS_MAX 100000u
#define MATCH_KILOBYTES_MAX 4096u
#define NESTED_MAX 16u

struct rule {
    pcre2_code *pattern;
    bool negated;
    bool is_if;
    size_t end; /* of an "if": the rule behind its endif */
    struct slice value;
};

struct map_source {
    char *text;
    struct rule *rules;
    size_t count, room;
    pcre2_match_context *limits;
};

struct reading {
    const char *path;
    unsigned line;
    char *problem;
    size_t open[NESTED_MAX]; /* "if"s without their "endif" */
    unsigned open_count;
};

static void pcre_close(struct map_source *source)
{
    if (source == NULL) {
        return;
    }
    for (size_t i = 0; i < source->count; i++) {
        pcre2_code_free(source->rules[i].pattern);
    }
    pcre2_match_context_free(source->limits);
    free(source->rules);
    free(source->text);
    free(source);
}

static int wrong(const struct reading *reading, const char *what)
{
    snprintf(reading->problem, MAP_PROBLEM_MAX, "%.100s:%u: %.120s", reading->path, reading->line,
             what);
    return -EINVAL;
}

static bool flags_read(struct slice text, uint32_t *options)
{
    static const struct {
        char letter;
        uint32_t option;
    } flags[] = {{'i', PCRE2_CASELESS}, {'m', PCRE2_MULTILINE}, {'s', PCRE2_DOTALL},
                 {'x', PCRE2_EXTENDED}, {'A', PCRE2_ANCHORED},  {'E', PCRE2_DOLLAR_ENDONLY},
                 {'U', PCRE2_UNGREEDY}};
    *options = PCRE2_CASELESS | PCRE2_DOTALL;
    for (size_t i = 0; i < text.size; i++) {
        size_t at = 0;
        while (at < sizeof(flags) / sizeof(*flags) && flags[at].letter != (char)text.bytes[i]) {
            at++;
        }
        if (at == sizeof(flags) / sizeof(*flags)) {
            return false;
        }
        *options ^= flags[at].option;
    }
    return true;
}

static struct rule *rule_new(struct map_source *source)
{
    if (source->count == source->room) {
        size_t room = source->room == 0 ? 16 : source->room * 2;
        struct rule *grown = realloc(source->rules, room * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        source->rules = grown;
        source->room = room;
    }
    struct rule *rule = &source->rules[source->count++];
    *rule = (struct rule){0};
    return rule;
}

/* "!/pattern/flags", and the rest of the line behind it. */
static int pattern_read(struct map_source *source, struct reading *reading, struct slice *line,
                        struct rule **made)
{
    bool negated = line->size > 0 && line->bytes[0] == '!';
    struct slice text = text_trim(slice_from(*line, negated));
    size_t end = 1, flags_end;
    uint32_t options;
    int error;
    PCRE2_SIZE error_at;
    if (text.size < 2 || text.bytes[0] <= ' ' || isalnum(text.bytes[0])) {
        return wrong(reading, "/pattern/ is expected");
    }
    while (end < text.size && text.bytes[end] != text.bytes[0]) {
        end += text.bytes[end] == '\\' ? 2 : 1;
    }
    if (end >= text.size) {
        return wrong(reading, "the pattern has no end");
    }
    for (flags_end = end + 1; flags_end < text.size && text.bytes[flags_end] > ' '; flags_end++) {
    }
    if (!flags_read(slice_of(text.bytes + end + 1, flags_end - end - 1), &options)) {
        return wrong(reading, "a flag is not known: i, m, s, x, A, E, U are");
    }
    struct rule *rule = rule_new(source);
    if (rule == NULL) {
        return -ENOMEM;
    }
    rule->negated = negated;
    rule->pattern = pcre2_compile(text.bytes + 1, end - 1, options, &error, &error_at, NULL);
    if (rule->pattern == NULL) {
        PCRE2_UCHAR message[120];
        pcre2_get_error_message(error, message, sizeof(message));
        return wrong(reading, (const char *)message);
    }
    pcre2_jit_compile(rule->pattern, PCRE2_JIT_COMPLETE); /* slower without */
    *line = text_trim(slice_from(text, flags_end));
    *made = rule;
    return 0;
}

/* Which group "$" leads to, and where the text behind it begins; -1: a dollar sign, -2: nothing that is known. */
static int group_of(struct slice text, size_t *next)
{
    if (text.size > 1 && text.bytes[1] == '$') {
        *next = 2;
        return -1;
    }
    bool braced = text.size > 1 && (text.bytes[1] == '{' || text.bytes[1] == '(');
    size_t at = 1 + braced;
    int number = 0;
    size_t begin = at;
    while (at < text.size && at < begin + 3 && text.bytes[at] >= '0' && text.bytes[at] <= '9') {
        number = number * 10 + (text.bytes[at++] - '0');
    }
    char closing = braced && text.bytes[1] == '{' ? '}' : ')';
    if (at == begin || (braced && (at == text.size || (char)text.bytes[at] != closing))) {
        return -2;
    }
    *next = at + braced;
    return number;
}

static int value_judge(const struct rule *rule, const struct reading *reading)
{
    uint32_t groups = 0;
    pcre2_pattern_info(rule->pattern, PCRE2_INFO_CAPTURECOUNT, &groups);
    for (size_t i = 0, next; i < rule->value.size; i += next) {
        next = 1;
        int group = rule->value.bytes[i] == '$' ? group_of(slice_from(rule->value, i), &next) : -1;
        if (group == -2 || group > (int)groups || (group >= 0 && rule->negated)) {
            return wrong(reading, group == -2 ? "$1, ${1} or $$ is expected"
                                              : "the value names a group that the pattern has not");
        }
    }
    return 0;
}

static int if_begin(struct map_source *source, struct reading *reading, struct slice line)
{
    struct rule *rule;
    int status = reading->open_count == NESTED_MAX ? wrong(reading, "too many ifs in each other")
                                                   : pattern_read(source, reading, &line, &rule);
    if (status == 0 && line.size > 0) {
        return wrong(reading, "nothing is expected behind the pattern of an if");
    }
    if (status == 0) {
        rule->is_if = true;
        reading->open[reading->open_count++] = source->count - 1;
    }
    return status;
}

static int line_read(struct map_source *source, struct reading *reading, struct slice line)
{
    struct slice word, rest;
    struct rule *rule;
    text_split(line, &word, &rest);
    if (slice_equal_nocase(word, slice_text("endif"))) {
        if (reading->open_count == 0) {
            return wrong(reading, "an endif without its if");
        }
        source->rules[reading->open[--reading->open_count]].end = source->count;
        return 0;
    }
    if (slice_equal_nocase(word, slice_text("if"))) {
        return if_begin(source, reading, rest);
    }
    int status = pattern_read(source, reading, &line, &rule);
    if (status < 0) {
        return status;
    }
    if (line.size == 0) {
        return wrong(reading, "a value is expected");
    }
    rule->value = line;
    return value_judge(rule, reading);
}

static int pcre_open(struct map_source **made, const char *where, char problem[MAP_PROBLEM_MAX])
{
    struct reading reading = {.path = where, .problem = problem};
    struct map_source *source = calloc(1, sizeof(*source));
    size_t bytes = 0;
    int status = source == NULL ? -ENOMEM : text_read(where, &source->text, &bytes);
    if (status == 0 && (source->limits = pcre2_match_context_create(NULL)) == NULL) {
        status = -ENOMEM;
    }
    if (status == 0) {
        pcre2_set_match_limit(source->limits, MATCH_STEPS_MAX);
        pcre2_set_heap_limit(source->limits, MATCH_KILOBYTES_MAX);
    }
    struct slice rest = slice_of(status == 0 ? source->text : NULL, bytes), line;
    unsigned next = 1;
    while (status == 0 && text_line(&rest, &line, &reading.line, &next)) {
        status = line_read(source, &reading, line);
    }
    if (status == 0 && reading.open_count > 0) {
        status = wrong(&reading, "an if without its endif");
    }
    if (status < 0) {
        pcre_close(source);
        return status;
    }
    *made = source;
    return 0;
}

/* The value with what the groups have matched. */
static void value_make(const struct rule *rule, struct slice key, pcre2_match_data *match,
                       struct map_result *result)
{
    const PCRE2_SIZE *places = pcre2_get_ovector_pointer(match);
    uint32_t groups = pcre2_get_ovector_count(match);
    char made[MAP_VALUE_MAX];
    size_t used = 0;
    for (size_t i = 0, next; i < rule->value.size; i += next) {
        next = 1;
        struct slice part = slice_of(rule->value.bytes + i, 1);
        int group = part.bytes[0] == '$' ? group_of(slice_from(rule->value, i), &next) : -1;
        if (group >= 0) {
            bool there = (uint32_t)group < groups && places[2 * group] != PCRE2_UNSET &&
                         places[2 * group] <= places[2 * group + 1];
            part = there ? slice_of(key.bytes + places[2 * group],
                                    places[2 * group + 1] - places[2 * group])
                         : slice_of(NULL, 0);
        }
        if (part.size > sizeof(made) - used) {
            map_failed(result, "a value is too long");
            return;
        }
        if (part.size > 0) {
            memcpy(made + used, part.bytes, part.size);
        }
        used += part.size;
    }
    map_found(result, slice_of(made, used));
}

/* 1, 0, or -1 when it took too long. */
static int matches(const struct map_source *source, const struct rule *rule, struct slice key,
                   pcre2_match_data *match)
{
    int status = pcre2_match(rule->pattern, key.bytes, key.size, 0, 0, match, source->limits);
    if (status < 0 && status != PCRE2_ERROR_NOMATCH) {
        return -1;
    }
    return (status >= 0) != rule->negated;
}

static void pcre_find(struct map_source *source, struct slice key, struct map_result *result)
{
    map_absent(result);
    for (size_t i = 0; i < source->count;) {
        const struct rule *rule = &source->rules[i];
        pcre2_match_data *match = pcre2_match_data_create_from_pattern(rule->pattern, NULL);
        int matched = match == NULL ? -1 : matches(source, rule, key, match);
        if (matched == 1 && !rule->is_if) {
            value_make(rule, key, match, result);
        } else if (matched < 0) {
            map_failed(result, "a pattern took too long");
        }
        pcre2_match_data_free(match); /* NULL is fine */
        if (result->answer != MAP_ABSENT) {
            return;
        }
        i = rule->is_if && matched == 0 ? rule->end : i + 1;
    }
}

const struct map_kind map_pcre = {.name = "pcre",
                                  .is_file = true,
                                  .of_patterns = true,
                                  .open = pcre_open,
                                  .close = pcre_close,
                                  .find = pcre_find};
