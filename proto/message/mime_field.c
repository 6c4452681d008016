#include "proto/message/mime_field.h"
#include <stdlib.h>

#define PARAMETERS_MAX 256u /* of one field; what comes behind them is not read */

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* RFC 2045 §5.1, and bytes above 127, which many send raw. */
static bool is_token(uint8_t byte)
{
    return byte > ' ' && byte != 0x7f && strchr("()<>@,;:\\\"/[]?=", byte) == NULL;
}

/* "(comment (in a comment))": how many bytes it takes, all when it does not end. */
static size_t comment_size(struct slice text)
{
    size_t depth = 0, i = 0;
    while (i < text.size) {
        uint8_t byte = text.bytes[i++];
        if (byte == '\\') {
            i++;
        } else if (byte == '(') {
            depth++;
        } else if (byte == ')' && --depth == 0) {
            return i;
        }
    }
    return text.size;
}

void mime_skip_blanks(struct slice *text)
{
    while (text->size > 0 && (is_blank(text->bytes[0]) || text->bytes[0] == '(')) {
        *text = slice_from(*text, text->bytes[0] == '(' ? comment_size(*text) : 1);
    }
}

struct slice mime_token(struct slice *text)
{
    size_t size = 0;
    while (size < text->size && is_token(text->bytes[size])) {
        size++;
    }
    struct slice token = slice_first(*text, size);
    *text = slice_from(*text, size);
    mime_skip_blanks(text);
    return token;
}

/* What stands in quotes, without the backslashes and ends of lines. False: no end, or no room. */
static bool quoted_take(struct arena *arena, struct slice *text, struct slice *value)
{
    size_t end = 1;
    while (end < text->size && text->bytes[end] != '"') {
        end += text->bytes[end] == '\\' ? 2 : 1;
    }
    uint8_t *place = end < text->size ? arena_take(arena, end) : NULL;
    if (place == NULL) {
        return false;
    }
    size_t size = 0;
    for (size_t i = 1; i < end; i++) {
        if (text->bytes[i] == '\\') {
            i++;
        } else if (text->bytes[i] == '\r' || text->bytes[i] == '\n') {
            continue;
        }
        place[size++] = text->bytes[i];
    }
    *value = slice_of(place, size);
    *text = slice_from(*text, end + 1);
    mime_skip_blanks(text);
    return true;
}

/* Outside of quotes, more than a token: "a/b", "a?b", "a=b" are seen. */
static struct slice bare_take(struct slice *text)
{
    size_t size = 0;
    while (size < text->size &&
           (is_token(text->bytes[size]) ||
            (text->bytes[size] != '\0' && strchr("/?=:@<>[]", text->bytes[size]) != NULL))) {
        size++;
    }
    struct slice value = slice_first(*text, size);
    *text = slice_from(*text, size);
    mime_skip_blanks(text);
    return value;
}

static bool parameter_take(struct arena *arena, struct slice *text, struct mime_parameter *found)
{
    mime_skip_blanks(text);
    if (text->size == 0 || text->bytes[0] != ';') {
        return false;
    }
    *text = slice_from(*text, 1);
    mime_skip_blanks(text);
    found->name = mime_token(text);
    if (found->name.size == 0 || text->size == 0 || text->bytes[0] != '=') {
        return false;
    }
    *text = slice_from(*text, 1);
    mime_skip_blanks(text);
    if (text->size > 0 && text->bytes[0] == '"') {
        return quoted_take(arena, text, &found->value);
    }
    found->value = bare_take(text);
    return true;
}

/* A parameter of RFC 2231: "name*", "name*0", "name*0*". */
struct extended {
    struct mime_parameter raw;
    struct slice base;
    uint32_t index, place; /* number of the section; where it stood */
    bool encoded, numbered;
};

static bool extended_of(struct mime_parameter raw, uint32_t place, struct extended *extended)
{
    const uint8_t *star = memchr(raw.name.bytes, '*', raw.name.size);
    if (star == NULL) {
        return false;
    }
    *extended = (struct extended){.raw = raw, .place = place};
    extended->base = slice_first(raw.name, (size_t)(star - raw.name.bytes));
    struct slice rest = slice_from(raw.name, extended->base.size + 1);
    size_t digits = 0;
    while (digits < rest.size && digits < 6 && rest.bytes[digits] >= '0' &&
           rest.bytes[digits] <= '9') {
        extended->index = extended->index * 10 + (uint32_t)(rest.bytes[digits++] - '0');
    }
    extended->numbered = digits > 0;
    extended->encoded = rest.size == 0;
    rest = slice_from(rest, digits);
    if (rest.size == 1 && rest.bytes[0] == '*') {
        extended->encoded = true;
        rest.size = 0;
    }
    return rest.size == 0;
}

static int extended_order(const void *one, const void *other)
{
    const struct extended *a = one, *b = other;
    int order = slice_order_nocase(a->base, b->base);
    if (order == 0) {
        order = a->index < b->index ? -1 : a->index > b->index;
    }
    return order != 0 ? order : a->place < b->place ? -1 : 1;
}

static bool append(struct arena *arena, struct mime_parameter **last, struct mime_parameter found)
{
    struct mime_parameter *kept = arena_take(arena, sizeof(*kept));
    if (kept == NULL) {
        return false;
    }
    *kept = (struct mime_parameter){.name = found.name, .value = found.value};
    if (*last != NULL) {
        (*last)->next = kept;
    }
    *last = kept;
    return true;
}

/* Sections 0, 1, ... of one name: a value in one piece, its name without numbers. */
static bool sections_join(struct arena *arena, const struct extended *sections, size_t count,
                          struct mime_parameter *joined)
{
    bool encoded = false;
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        encoded = encoded || sections[i].encoded;
        size += sections[i].raw.value.size;
    }
    uint8_t *name = arena_take(arena, sections->base.size + 1);
    uint8_t *value = arena_take(arena, size);
    if (name == NULL || value == NULL) {
        return false;
    }
    memcpy(name, sections->base.bytes, sections->base.size);
    name[sections->base.size] = '*';
    joined->name = slice_of(name, sections->base.size + encoded);
    joined->value = slice_of(value, size);
    for (size_t i = 0; i < count; i++) {
        if (sections[i].raw.value.size > 0) {
            memcpy(value, sections[i].raw.value.bytes, sections[i].raw.value.size);
        }
        value += sections[i].raw.value.size;
    }
    return true;
}

/* `count` sections of one name. When one is missing or there twice, all are kept as they came. */
static bool sections_append(struct arena *arena, struct mime_parameter **last,
                            const struct extended *sections, size_t count)
{
    bool whole = true;
    for (size_t i = 0; i < count; i++) {
        whole = whole && sections[i].index == i && (sections[i].numbered || count == 1);
    }
    struct mime_parameter joined;
    if (whole) {
        return sections_join(arena, sections, count, &joined) && append(arena, last, joined);
    }
    for (size_t i = 0; i < count; i++) {
        if (!append(arena, last, sections[i].raw)) {
            return false;
        }
    }
    return true;
}

struct mime_parameter *mime_parameters(struct arena *arena, struct slice text)
{
    struct mime_parameter head = {.next = NULL}, *last = &head, found;
    struct extended sections[PARAMETERS_MAX];
    size_t section_count = 0, first = 0;
    for (uint32_t i = 0; i < PARAMETERS_MAX && parameter_take(arena, &text, &found); i++) {
        if (extended_of(found, i, &sections[section_count])) {
            section_count++;
        } else if (!append(arena, &last, found)) {
            return head.next;
        }
    }
    if (section_count > 1) {
        qsort(sections, section_count, sizeof(sections[0]), extended_order);
    }
    while (first < section_count) {
        size_t count = 1;
        while (first + count < section_count &&
               slice_equal_nocase(sections[first].base, sections[first + count].base)) {
            count++;
        }
        if (!sections_append(arena, &last, sections + first, count)) {
            break;
        }
        first += count;
    }
    return head.next;
}

const struct mime_parameter *mime_parameter_find(const struct mime_parameter *first,
                                                 const char *name)
{
    while (first != NULL && !slice_equal_nocase(first->name, slice_text(name))) {
        first = first->next;
    }
    return first;
}
