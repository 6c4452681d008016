#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/conf/match_index.h"
#include "engine/conf/idna.h"
#include "engine/conf/names.h"
#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

/* An address takes far fewer; a pattern that can take more can be made to take for ever. */
#define PATTERN_STEPS_MAX 20000
#define PATTERN_HEAP_KIB_MAX 1024

/* An address, a domain or ".domain". No two kinds can be mistaken for each other. */
struct match_name {
    struct slice text;
    uint32_t row;
};

struct match_pattern {
    pcre2_code *code;
    uint32_t row;
};

struct match_index {
    const char **matches;
    uint32_t rest; /* "*"; MATCH_NONE */
    uint32_t name_count, pattern_count;
    struct match_name *names; /* sorted */
    char **spelled;           /* of names with U-labels: in A-labels */
    uint32_t spelled_count;
    struct match_pattern *patterns;
    pcre2_match_context *limits;
};

static bool is_pattern(const char *match)
{
    return match[0] == '/';
}

/* ---- Names ---- */

static int name_order(const void *first, const void *second)
{
    const struct match_name *a = first, *b = second;
    int order = slice_order_nocase(a->text, b->text);
    return order != 0 ? order : a->row < b->row ? -1 : 1;
}

/* Where the domain begins: behind the last '@', and behind the dot of ".domain". */
static size_t domain_at(struct slice text)
{
    const uint8_t *at = text.size > 0 ? memrchr(text.bytes, '@', text.size) : NULL;
    if (at != NULL) {
        return (size_t)(at - text.bytes) + 1;
    }
    return text.size > 0 && text.bytes[0] == '.' ? 1 : 0;
}

#define SPELLED_MAX 1024u

/* The text with its domain in A-labels. False: it is spelled so, or cannot be. */
static bool spell(struct slice text, char spelled[SPELLED_MAX], struct slice *made)
{
    char ascii[IDNA_ASCII_MAX + 1];
    size_t at = domain_at(text);
    struct slice domain = slice_from(text, at);
    if (!idna_is_unicode(domain) || at > SPELLED_MAX - sizeof ascii ||
        !idna_to_ascii(domain, ascii, &domain)) {
        return false;
    }
    memcpy(spelled, text.bytes, at);
    memcpy(spelled + at, domain.bytes, domain.size);
    *made = slice_of(spelled, at + domain.size);
    return true;
}

static int name_add(struct match_index *index, uint32_t row)
{
    char spelled[SPELLED_MAX];
    struct slice text = slice_text(index->matches[row]);
    if (spell(text, spelled, &text)) {
        char *kept = strndup(spelled, text.size);
        if (kept == NULL) {
            return -ENOMEM;
        }
        index->spelled[index->spelled_count++] = kept;
        text = slice_text(kept);
    }
    index->names[index->name_count++] = (struct match_name){.text = text, .row = row};
    return 0;
}

static uint32_t name_find(const struct match_index *index, struct slice text)
{
    uint32_t from = 0, to = index->name_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        int order = slice_order_nocase(text, index->names[middle].text);
        if (order == 0) {
            return index->names[middle].row;
        }
        if (order < 0) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    return MATCH_NONE;
}

static int never_reached(struct match_problem *problem, uint32_t row, uint32_t before)
{
    problem->row = row;
    snprintf(problem->text, sizeof problem->text,
             "never reached, %s[%u] takes all of it; expected each once", problem->rows, before);
    return -EINVAL;
}

static int names_sort(struct match_index *index, struct match_problem *problem)
{
    qsort(index->names, index->name_count, sizeof index->names[0], name_order);
    for (uint32_t i = 1; i < index->name_count; i++) {
        const struct match_name *before = &index->names[i - 1];
        if (slice_order_nocase(before->text, index->names[i].text) == 0) {
            return never_reached(problem, index->names[i].row, before->row);
        }
    }
    return 0;
}

/* ---- Patterns ---- */

static int pattern_add(struct match_index *index, uint32_t row, struct match_problem *problem)
{
    const char *match = index->matches[row];
    const char *end = strrchr(match, '/');
    uint32_t options =
        PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
    int code = 0;
    PCRE2_SIZE at = 0;
    if (end[1] == 'i') {
        options |= PCRE2_CASELESS;
    }
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)(match + 1), (PCRE2_SIZE)(end - match - 1),
                                         options, &code, &at, NULL);
    if (compiled == NULL) {
        PCRE2_UCHAR text[100] = "";
        pcre2_get_error_message(code, text, sizeof text);
        problem->row = row;
        snprintf(problem->text, sizeof problem->text,
                 "no regular expression: %s, after %zu characters", (const char *)text, at);
        return -EINVAL;
    }
    index->patterns[index->pattern_count++] = (struct match_pattern){.code = compiled, .row = row};
    return 0;
}

static uint32_t pattern_find(const struct match_index *index, struct slice address)
{
    uint32_t found = MATCH_NONE;
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    for (uint32_t i = 0; match != NULL && found == MATCH_NONE && i < index->pattern_count; i++) {
        const struct match_pattern *pattern = &index->patterns[i];
        if (pcre2_match(pattern->code, address.bytes, address.size, 0, 0, match, index->limits) >=
            0) {
            found = pattern->row;
        }
    }
    pcre2_match_data_free(match);
    return found;
}

/* ---- All of them ---- */

static int rows_add(struct match_index *index, uint32_t count, struct match_problem *problem)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *match = index->matches[i];
        int status = 0;
        if (match == NULL || match[0] == '\0') {
            continue;
        }
        if (is_pattern(match)) {
            status = pattern_add(index, i, problem);
        } else if (strcmp(match, "*") != 0) {
            status = name_add(index, i);
        } else if (index->rest != MATCH_NONE) {
            return never_reached(problem, i, index->rest);
        } else {
            index->rest = i;
        }
        if (status < 0) {
            return status;
        }
    }
    return names_sort(index, problem);
}

int match_index_open(struct match_index **opened, const char *const *matches, uint32_t count,
                     struct match_problem *problem)
{
    int status = -ENOMEM;
    struct match_index *index = calloc(1, sizeof *index);
    if (index == NULL) {
        return status;
    }
    index->rest = MATCH_NONE;
    index->matches = calloc((size_t)count + 1, sizeof *index->matches);
    index->names = calloc((size_t)count + 1, sizeof *index->names);
    index->patterns = calloc((size_t)count + 1, sizeof *index->patterns);
    index->spelled = calloc((size_t)count + 1, sizeof(char *));
    index->limits = pcre2_match_context_create(NULL);
    if (index->matches != NULL && index->names != NULL && index->patterns != NULL &&
        index->spelled != NULL && index->limits != NULL) {
        pcre2_set_match_limit(index->limits, PATTERN_STEPS_MAX);
        pcre2_set_heap_limit(index->limits, PATTERN_HEAP_KIB_MAX);
        memcpy(index->matches, matches, count * sizeof *matches);
        status = rows_add(index, count, problem);
    }
    if (status < 0) {
        match_index_close(index);
        return status;
    }
    *opened = index;
    return 0;
}

void match_index_close(struct match_index *index)
{
    if (index == NULL) {
        return;
    }
    for (uint32_t i = 0; i < index->pattern_count; i++) {
        pcre2_code_free(index->patterns[i].code);
    }
    for (uint32_t i = 0; i < index->spelled_count; i++) {
        free(index->spelled[i]);
    }
    pcre2_match_context_free(index->limits);
    free(index->spelled);
    free(index->patterns);
    free(index->names);
    free(index->matches);
    free(index);
}

static uint32_t name_of(const struct match_index *index, struct slice address)
{
    char spelled[SPELLED_MAX];
    spell(address, spelled, &address);
    size_t at = domain_at(address);
    bool has_local = at > 0 && address.bytes[at - 1] == '@';
    uint32_t found = has_local ? name_find(index, address) : MATCH_NONE;
    struct slice domain = has_local ? slice_from(address, at) : address;
    if (found == MATCH_NONE && domain.size > 0 && domain.bytes[0] != '.') {
        found = name_find(index, domain);
    }
    /* ".example.org" holds what is below it, not its own name with a dot before. */
    for (size_t i = 1; found == MATCH_NONE && i < domain.size; i++) {
        if (domain.bytes[i] == '.') {
            found = name_find(index, slice_from(domain, i));
        }
    }
    return found;
}

uint32_t match_index_find(const struct match_index *index, struct slice address)
{
    uint32_t found = name_of(index, address);
    if (found == MATCH_NONE && index->pattern_count > 0) {
        found = pattern_find(index, address);
    }
    return found != MATCH_NONE ? found : index->rest;
}

bool match_is_good(const char *match)
{
    size_t length = strlen(match);
    if (is_pattern(match)) {
        const char *end = strrchr(match, '/');
        return end > match + 1 && (end[1] == '\0' || strcmp(end, "/i") == 0);
    }
    if (match[0] == '[') {
        return length > 2 && match[length - 1] == ']' && name_is_printable(match);
    }
    const char *at = strrchr(match, '@');
    if (at != NULL) {
        return at > match && name_is_printable(match) &&
               (name_is_domain(at + 1) || (at[1] == '[' && match_is_good(at + 1)));
    }
    return strcmp(match, "*") == 0 || name_is_domain(match[0] == '.' ? match + 1 : match);
}
