#define PCRE2_CODE_UNIT_WIDTH 8
#include "proto/sieve/match.h"
#include "proto/message/utf8.h"
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

bool sieve_match_valid(uint32_t match)
{
    enum sieve_match_type type = sieve_match_type(match);
    enum sieve_comparator comparator = sieve_match_comparator(match);
    if (type >= SIEVE_MATCH_TYPES || sieve_match_relation(match) >= SIEVE_RELATIONS ||
        comparator >= SIEVE_COMPARATORS) {
        return false;
    }
    bool substrings = type == SIEVE_CONTAINS || type == SIEVE_MATCHES || type == SIEVE_REGEX;
    return !(comparator == SIEVE_NUMERIC && substrings);
}

/* ---- Comparators ---- */

static struct slice digits_of(struct slice text)
{
    size_t size = 0;
    while (size < text.size && text.bytes[size] >= '0' && text.bytes[size] <= '9') {
        size++;
    }
    return slice_of(text.bytes, size);
}

/* What does not begin with a digit is infinity. */
static int numeric_compare(struct slice a, struct slice b)
{
    a = digits_of(a);
    b = digits_of(b);
    if (a.size == 0 || b.size == 0) {
        return (a.size == 0) - (b.size == 0);
    }
    while (a.size > 0 && a.bytes[0] == '0') {
        a = slice_from(a, 1);
    }
    while (b.size > 0 && b.bytes[0] == '0') {
        b = slice_from(b, 1);
    }
    if (a.size != b.size) {
        return a.size < b.size ? -1 : 1;
    }
    int order = a.size > 0 ? memcmp(a.bytes, b.bytes, a.size) : 0;
    return (order > 0) - (order < 0);
}

/* RFC 4790 §9.2.1: small letters count as capitals. */
static uint8_t upper(uint8_t byte)
{
    return (uint8_t)(byte >= 'a' && byte <= 'z' ? byte - ('a' - 'A') : byte);
}

int sieve_compare(enum sieve_comparator comparator, struct slice a, struct slice b)
{
    if (comparator == SIEVE_NUMERIC) {
        return numeric_compare(a, b);
    }
    size_t size = a.size < b.size ? a.size : b.size;
    for (size_t i = 0; i < size; i++) {
        uint8_t left = a.bytes[i], right = b.bytes[i];
        if (comparator == SIEVE_CASEMAP) {
            left = upper(left);
            right = upper(right);
        }
        if (left != right) {
            return left < right ? -1 : 1;
        }
    }
    return (a.size > b.size) - (a.size < b.size);
}

bool sieve_relate(enum sieve_relation relation, int order)
{
    switch (relation) {
    case SIEVE_EQ:
        return order == 0;
    case SIEVE_NE:
        return order != 0;
    case SIEVE_GT:
        return order > 0;
    case SIEVE_GE:
        return order >= 0;
    case SIEVE_LT:
        return order < 0;
    case SIEVE_LE:
        return order <= 0;
    case SIEVE_RELATIONS:
        break;
    }
    return false;
}

static bool same(enum sieve_comparator comparator, uint8_t a, uint8_t b)
{
    return a == b || (comparator == SIEVE_CASEMAP && upper(a) == upper(b));
}

static bool contains(enum sieve_comparator comparator, struct slice value, struct slice key,
                     uint64_t *work)
{
    uint64_t limit = *work + SIEVE_WORK_MAX;
    if (key.size > value.size) {
        return false;
    }
    for (size_t at = 0; at + key.size <= value.size; at++) {
        size_t i = 0;
        while (i < key.size && same(comparator, value.bytes[at + i], key.bytes[i])) {
            i++;
        }
        *work += i + 1;
        if (i == key.size) {
            return true;
        }
        if (*work > limit) {
            break;
        }
    }
    return false;
}

/* ---- :matches ---- */

/* Where each wildcard's piece of the value begins and ends. */
struct glob {
    enum sieve_comparator comparator;
    struct slice value, pattern;
    size_t begin[SIEVE_MATCH_VALUES_MAX], end[SIEVE_MATCH_VALUES_MAX];
    unsigned count; /* more than there is room for are counted too */
};

static size_t character_size(const struct glob *glob, size_t at)
{
    size_t bytes =
        glob->comparator == SIEVE_OCTET ? 1 : utf8_printable(slice_from(glob->value, at));
    return bytes == 0 ? 1 : bytes;
}

static void piece_note(struct glob *glob, unsigned index, size_t begin, size_t end)
{
    if (index < SIEVE_MATCH_VALUES_MAX) {
        glob->begin[index] = begin;
        glob->end[index] = end;
    }
}

/* One step without a star. False: it does not fit. */
static bool one_step(struct glob *glob, size_t *at, size_t *in_pattern)
{
    struct slice pattern = glob->pattern;
    if (*in_pattern == pattern.size || *at == glob->value.size) {
        return false;
    }
    uint8_t byte = pattern.bytes[*in_pattern];
    if (byte == '?') {
        size_t bytes = character_size(glob, *at);
        piece_note(glob, glob->count++, *at, *at + bytes);
        *at += bytes;
        (*in_pattern)++;
        return true;
    }
    size_t literal = *in_pattern;
    if (byte == '\\' && literal + 1 < pattern.size) {
        byte = pattern.bytes[++literal];
    }
    if (!same(glob->comparator, glob->value.bytes[*at], byte)) {
        return false;
    }
    (*at)++;
    *in_pattern = literal + 1;
    return true;
}

/*
 * Each star stands for as little as possible. When what follows the last one does not fit, that one takes a character
 * more; those before it never have to: whatever fits further on fits at the first place too.
 */
static bool glob_match(struct glob *glob, uint64_t *work)
{
    size_t at = 0, in_pattern = 0;
    size_t star_pattern = SIZE_MAX, star_at = 0;
    unsigned star = 0;
    for (uint64_t limit = *work + SIEVE_WORK_MAX; *work <= limit;) {
        (*work)++;
        if (in_pattern < glob->pattern.size && glob->pattern.bytes[in_pattern] == '*') {
            star = glob->count++;
            star_pattern = ++in_pattern;
            star_at = at;
            piece_note(glob, star, at, at);
            if (in_pattern == glob->pattern.size) {
                piece_note(glob, star, at, glob->value.size); /* nothing follows: all the rest */
                return true;
            }
            continue;
        }
        if (one_step(glob, &at, &in_pattern)) {
            continue;
        }
        if (in_pattern == glob->pattern.size && at == glob->value.size) {
            return true;
        }
        if (star_pattern == SIZE_MAX || star_at >= glob->value.size) {
            return false;
        }
        size_t begin = star < SIEVE_MATCH_VALUES_MAX ? glob->begin[star] : 0;
        star_at += character_size(glob, star_at);
        at = star_at;
        in_pattern = star_pattern;
        glob->count = star + 1;
        piece_note(glob, star, begin, star_at);
    }
    return false;
}

static bool matches(enum sieve_comparator comparator, struct slice value, struct slice key,
                    struct sieve_captures *captures, uint64_t *work)
{
    struct glob glob = {.comparator = comparator, .value = value, .pattern = key};
    if (!glob_match(&glob, work)) {
        return false;
    }
    captures->values[0] = value;
    captures->count = 1;
    for (unsigned i = 0; i < glob.count && captures->count < SIEVE_MATCH_VALUES_MAX; i++) {
        captures->values[captures->count++] =
            slice_first(slice_from(value, glob.begin[i]), glob.end[i] - glob.begin[i]);
    }
    return true;
}

/* ---- :regex ---- */

struct sieve_regex {
    pcre2_code *code;
    pcre2_match_data *found;
    pcre2_match_context *limits;
};

void sieve_regex_close(struct sieve_regex *regex)
{
    if (regex != NULL) {
        pcre2_match_context_free(regex->limits);
        pcre2_match_data_free(regex->found);
        pcre2_code_free(regex->code);
        free(regex);
    }
}

struct sieve_regex *sieve_regex_open(struct slice pattern, enum sieve_comparator comparator,
                                     char problem[128])
{
    problem[0] = '\0';
    if (pattern.size > SIEVE_PATTERN_BYTES_MAX) {
        snprintf(problem, 128, "it is longer than %u bytes", SIEVE_PATTERN_BYTES_MAX);
        return NULL;
    }
    struct sieve_regex *regex = calloc(1, sizeof(*regex));
    if (regex == NULL) {
        return NULL;
    }
    int error;
    PCRE2_SIZE place;
    uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C |
                       PCRE2_AUTO_CALLOUT | (comparator == SIEVE_CASEMAP ? PCRE2_CASELESS : 0);
    const uint8_t *bytes = pattern.size > 0 ? pattern.bytes : (const uint8_t *)"";
    regex->code = pcre2_compile(bytes, pattern.size, options, &error, &place, NULL);
    if (regex->code == NULL) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)problem, 128);
        sieve_regex_close(regex);
        return NULL;
    }
    regex->found = pcre2_match_data_create_from_pattern(regex->code, NULL);
    regex->limits = pcre2_match_context_create(NULL);
    if (regex->found == NULL || regex->limits == NULL) {
        sieve_regex_close(regex);
        return NULL;
    }
    pcre2_set_match_limit(regex->limits, SIEVE_REGEX_STEPS_MAX);
    pcre2_set_heap_limit(regex->limits, SIEVE_REGEX_KILOBYTES_MAX);
    return regex;
}

/* PCRE2's own limit begins anew at each place of the value, so we count. */
static int step_count(pcre2_callout_block *block, void *steps)
{
    (void)block;
    return ++*(uint64_t *)steps > SIEVE_REGEX_STEPS_MAX ? PCRE2_ERROR_CALLOUT : 0;
}

bool sieve_regex_match(const struct sieve_regex *regex, struct slice value,
                       struct sieve_captures *captures, uint64_t *work)
{
    uint64_t steps = 0;
    value = slice_first(value, SIEVE_REGEX_VALUE_BYTES_MAX);
    const uint8_t *bytes = value.size > 0 ? value.bytes : (const uint8_t *)"";
    pcre2_set_callout(regex->limits, step_count, &steps);
    int groups = pcre2_match(regex->code, bytes, value.size, 0, 0, regex->found, regex->limits);
    *work += 64 + value.size + steps * (1 + value.size / 128); /* a step may look at all of it */
    if (groups <= 0) {
        return false;
    }
    const PCRE2_SIZE *places = pcre2_get_ovector_pointer(regex->found);
    captures->count = 0;
    for (int i = 0; i < groups && captures->count < SIEVE_MATCH_VALUES_MAX; i++) {
        PCRE2_SIZE begin = places[2 * i], end = places[2 * i + 1];
        bool took_part = begin != PCRE2_UNSET && begin <= end;
        captures->values[captures->count++] =
            took_part ? slice_first(slice_from(value, begin), end - begin) : slice_of(NULL, 0);
    }
    return true;
}

/* ---- All ---- */

bool sieve_match(uint32_t match, struct slice value, struct slice key,
                 struct sieve_captures *captures, uint64_t *work)
{
    enum sieve_comparator comparator = sieve_match_comparator(match);
    *work += 1 + (value.size < key.size ? value.size : key.size) / 16;
    switch (sieve_match_type(match)) {
    case SIEVE_IS:
        return sieve_compare(comparator, value, key) == 0;
    case SIEVE_CONTAINS:
        return contains(comparator, value, key, work);
    case SIEVE_MATCHES:
        return matches(comparator, value, key, captures, work);
    case SIEVE_VALUE:
        return sieve_relate(sieve_match_relation(match), sieve_compare(comparator, value, key));
    case SIEVE_REGEX:
    case SIEVE_COUNT:
    case SIEVE_MATCH_TYPES:
        break;
    }
    return false;
}
