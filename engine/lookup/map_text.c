/* Maps that are written out: inline in the configuration, in a text file, in the format of /etc/aliases; and lists that
 * aliases include. */
#include "engine/core/check.h"
#include "engine/lookup/text.h"
#include <stdio.h>
#include <stdlib.h>

struct entry {
    struct slice key, value;
};

struct map_source {
    char *text;            /* keys and values lie in it */
    struct entry *entries; /* by key; of equal ones the first that was written */
    size_t count, room;
};

static void text_close(struct map_source *source)
{
    if (source != NULL) {
        free(source->entries);
        free(source->text);
        free(source);
    }
}

static int order(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int first = size == 0 ? 0 : memcmp(a.bytes, b.bytes, size);
    return first != 0 ? first : (a.size > b.size) - (a.size < b.size);
}

static int by_key_and_place(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int keys = order(a->key, b->key);
    return keys != 0 ? keys : (a->key.bytes > b->key.bytes) - (a->key.bytes < b->key.bytes);
}

static int entry_add(struct map_source *source, struct slice key, struct slice value)
{
    if (source->count == source->room) {
        size_t room = source->room == 0 ? 64 : source->room * 2;
        struct entry *grown = realloc(source->entries, room * sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        source->entries = grown;
        source->room = room;
    }
    for (size_t i = 0; i < key.size; i++) {
        uint8_t *byte = (uint8_t *)(uintptr_t)key.bytes + i;
        *byte = slice_lower(*byte);
    }
    source->entries[source->count++] = (struct entry){key, value};
    return 0;
}

static void entries_sort(struct map_source *source)
{
    if (source->count > 0) {
        qsort(source->entries, source->count, sizeof(*source->entries), by_key_and_place);
    }
}

static void text_find(struct map_source *source, struct slice key, struct map_result *result)
{
    size_t low = 0, high = source->count; /* the first that is not before the key */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order(source->entries[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < source->count && slice_equal(source->entries[low].key, key)) {
        map_found(result, source->entries[low].value);
    } else {
        map_absent(result);
    }
}

/* "a quoted name": without the quotes. */
static struct slice unquoted(struct slice key)
{
    bool quoted = key.size >= 2 && key.bytes[0] == '"' && key.bytes[key.size - 1] == '"';
    return quoted ? slice_of(key.bytes + 1, key.size - 2) : key;
}

/* "key value", or "key: value". */
static bool line_split(struct slice line, bool colon, struct slice *key, struct slice *value)
{
    if (!colon) {
        return text_split(line, key, value);
    }
    bool quoted = false;
    size_t at = 0;
    while (at < line.size && (quoted || line.bytes[at] != ':')) {
        quoted ^= line.bytes[at++] == '"';
    }
    *key = unquoted(text_trim(slice_first(line, at)));
    *value = text_trim(slice_from(line, at + 1));
    return at < line.size && key->size > 0 && value->size > 0;
}

static int file_read(struct map_source **made, const char *path, bool colon,
                     char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = calloc(1, sizeof(*source));
    size_t bytes = 0;
    int status = source == NULL ? -ENOMEM : text_read(path, &source->text, &bytes);
    struct slice rest = slice_of(status == 0 ? source->text : NULL, bytes), line, key, value;
    unsigned number, next = 1;
    while (status == 0 && text_line(&rest, &line, &number, &next)) {
        if (!line_split(line, colon, &key, &value)) {
            snprintf(problem, MAP_PROBLEM_MAX, "%.150s:%u: \"%s\" is expected", path, number,
                     colon ? "name: value" : "key value");
            status = -EINVAL;
        } else {
            status = entry_add(source, key, value);
        }
    }
    if (status < 0) {
        text_close(source);
        return status;
    }
    entries_sort(source);
    *made = source;
    return 0;
}

static int texthash_open(struct map_source **source, const char *where,
                         char problem[MAP_PROBLEM_MAX])
{
    return file_read(source, where, false, problem);
}

static int aliases_open(struct map_source **source, const char *where,
                        char problem[MAP_PROBLEM_MAX])
{
    return file_read(source, where, true, problem);
}

/* {key=value, key=value}; a value with commas in it is written {key=value}. */
static int inline_parse(struct map_source *source, struct slice rest)
{
    while (rest.size > 0) {
        size_t depth = 0, at = 0;
        while (at < rest.size && (depth > 0 || rest.bytes[at] != ',')) {
            depth += rest.bytes[at] == '{';
            depth -= rest.bytes[at] == '}' && depth > 0;
            at++;
        }
        struct slice item = text_trim(slice_first(rest, at));
        rest = slice_from(rest, at + 1);
        if (item.size >= 2 && item.bytes[0] == '{' && item.bytes[item.size - 1] == '}') {
            item = text_trim(slice_of(item.bytes + 1, item.size - 2));
        }
        const uint8_t *equals = item.size == 0 ? NULL : memchr(item.bytes, '=', item.size);
        if (item.size == 0) {
            continue;
        }
        if (equals == NULL || equals == item.bytes) {
            return -EINVAL;
        }
        size_t key_bytes = (size_t)(equals - item.bytes);
        int status = entry_add(source, text_trim(slice_first(item, key_bytes)),
                               text_trim(slice_from(item, key_bytes + 1)));
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

static int inline_open(struct map_source **made, const char *where, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = calloc(1, sizeof(*source));
    if (source == NULL || (source->text = strdup(where)) == NULL) {
        free(source);
        return -ENOMEM;
    }
    struct slice text = text_trim(slice_text(source->text));
    int status = -EINVAL;
    if (text.size >= 2 && text.bytes[0] == '{' && text.bytes[text.size - 1] == '}') {
        status = inline_parse(source, slice_of(text.bytes + 1, text.size - 2));
    }
    if (status < 0) {
        if (status == -EINVAL) {
            snprintf(problem, MAP_PROBLEM_MAX, "inline:%.100s: {key=value, ...} is expected",
                     where);
        }
        text_close(source);
        return status;
    }
    entries_sort(source);
    *made = source;
    return 0;
}

const struct map_kind map_inline = {
    .name = "inline", .open = inline_open, .close = text_close, .find = text_find};
const struct map_kind map_texthash = {.name = "texthash",
                                      .is_file = true,
                                      .open = texthash_open,
                                      .close = text_close,
                                      .find = text_find};
const struct map_kind map_aliases = {.name = "aliases",
                                     .is_file = true,
                                     .open = aliases_open,
                                     .close = text_close,
                                     .find = text_find};

/* ---- ":include:": the key is a file of addresses, a line each or more ---- */

static int include_open(struct map_source **made, const char *where, char problem[MAP_PROBLEM_MAX])
{
    (void)where;
    (void)problem;
    *made = calloc(1, sizeof(**made));
    return *made == NULL ? -ENOMEM : 0;
}

static void include_find(struct map_source *source, struct slice key, struct map_result *result)
{
    char path[MAP_KEY_MAX + 1], *text;
    size_t bytes;
    unsigned number, next = 1;
    (void)source;
    memcpy(path, key.bytes, key.size);
    path[key.size] = '\0';
    int status = path[0] == '/' ? text_read(path, &text, &bytes) : -EINVAL;
    if (status == -EFBIG) {
        map_too_long(result, "%.150s: too long", path);
        return;
    }
    if (status < 0) {
        map_failed(result, "%.150s: %s", path, strerror(-status));
        return;
    }
    result->answer = MAP_FOUND;
    result->bytes = 0;
    struct slice rest = slice_of(text, bytes), line;
    while (result->answer == MAP_FOUND && text_line(&rest, &line, &number, &next)) {
        if (line.size + 1 > MAP_VALUE_MAX - result->bytes) {
            map_too_long(result, "%.150s: too long", path);
            break;
        }
        memcpy(result->value + result->bytes, line.bytes, line.size);
        result->value[result->bytes + line.size] = ',';
        result->bytes += line.size + 1;
    }
    free(text);
}

const struct map_kind map_include = {.name = "include",
                                     .of_patterns = true,
                                     .open = include_open,
                                     .close = text_close,
                                     .find = include_find};
