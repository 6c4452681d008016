#include "engine/conf/reader.h"
#include "engine/conf/reader_schema.h"
#include "engine/conf/value.h"
#include "engine/core/check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX (8u << 20) /* larger: refused as not meant */
#define KEY_BYTES 256

struct reader_block {
    struct reader_block *next;
    _Alignas(16) uint8_t bytes[];
};

/* A value and where it stands: what every parser below needs. */
struct place {
    struct reader *reader;
    const struct reader_key *key;
    const char *path; /* for messages */
};

static int fill_keys(struct reader *reader, const struct reader_key *keys,
                     const struct raw_slot *slots, const char *above, void *into);

/* *text is the caller's, also after a failure. 0 or -errno. */
static int read_file(const char *path, char **text, size_t *size)
{
    size_t room = 0;
    int status = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -errno;
    }
    while (status == 0 && !feof(file)) {
        if (*size == room) {
            room = room == 0 ? 16384 : room * 2;
            char *larger = realloc(*text, room);
            if (larger == NULL) {
                status = -ENOMEM;
                break;
            }
            *text = larger;
        }
        *size += fread(*text + *size, 1, room - *size, file);
        status = ferror(file) ? -errno : *size > FILE_BYTES_MAX ? -EFBIG : 0;
    }
    fclose(file);
    return status;
}

int reader_load(struct reader *reader, const struct reader_key *keys, const char *path, void *into)
{
    char *text = NULL;
    size_t size = 0;
    const struct raw_slot *slots = NULL;
    struct raw_document *document = NULL;
    int status = 0;
    if (path != NULL) {
        status = read_file(path, &text, &size);
        if (status < 0) {
            reader_problem(reader, NULL, "cannot be read: %s", strerror(-status));
            free(text);
            return status;
        }
        status = marks_read(&reader->marks, text, size);
        if (status == -EINVAL) {
            reader_problem(reader, NULL, "%s, expected YAML", reader->marks.problem);
        }
        if (status == 0 && !reader->marks.empty) {
            status = raw_document_load(&document, reader, keys, text, size, &slots);
        }
        free(text);
    }
    if (status == 0) {
        status = fill_keys(reader, keys, slots, "", into);
    }
    raw_document_close(document);
    if (status == 0 && reader->out_of_memory) {
        status = -ENOMEM;
    }
    return status == 0 && reader->report->count > 0 ? -EINVAL : status;
}

void reader_close(struct reader *reader)
{
    marks_free(&reader->marks);
}

/* Where the key stands; where it is absent, what it would be in. Of a key given twice: the second.
 */
static const struct mark *nearest_mark(const struct marks *marks, const char *key)
{
    char path[KEY_BYTES];
    snprintf(path, sizeof path, "%s", key);
    while (path[0] != '\0') {
        for (size_t i = marks->count; i-- > 0;) {
            if (strcmp(marks->all[i].path, path) == 0) {
                return &marks->all[i];
            }
        }
        size_t end = strlen(path) - 1;
        while (end > 0 && path[end] != '.' && path[end] != '[') {
            end--;
        }
        path[end] = '\0';
    }
    return NULL;
}

void reader_problem(struct reader *reader, const char *key, const char *format, ...)
{
    struct conf_report *report = reader->report;
    if (report->count++ >= CONF_PROBLEMS_MAX) {
        return;
    }
    char *line = report->problems[report->count - 1];
    const char *file = reader->file != NULL ? reader->file : "defaults";
    const struct mark *mark = key != NULL ? nearest_mark(&reader->marks, key) : NULL;
    size_t at_line = mark != NULL ? mark->line : reader->marks.line;
    size_t at_column = mark != NULL ? mark->column : reader->marks.column;
    int used = at_line > 0 ? snprintf(line, CONF_PROBLEM_BYTES, "%.200s:%zu:%zu: ", file, at_line,
                                      at_column)
                           : snprintf(line, CONF_PROBLEM_BYTES, "%.200s: ", file);
    if (key != NULL && used < CONF_PROBLEM_BYTES) {
        used += snprintf(line + used, CONF_PROBLEM_BYTES - (size_t)used, "%.200s: ", key);
    }
    if (used < CONF_PROBLEM_BYTES) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(line + used, CONF_PROBLEM_BYTES - (size_t)used, format, arguments);
        va_end(arguments);
    }
}

bool reader_given(const struct reader *reader, const char *key)
{
    const struct mark *mark = marks_find(&reader->marks, key);
    return mark != NULL && mark->kind != MARK_NOTHING;
}

/* ---- single values ---- */

static void problem_with(const struct place *place, const char *text, const char *format, ...)
{
    char quoted[96], expected[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(expected, sizeof expected, format, arguments);
    va_end(arguments);
    if (text[0] == '\0') {
        reader_problem(place->reader, place->path, "empty, expected %s", expected);
    } else {
        reader_problem(place->reader, place->path, "%s will not do, expected %s",
                       value_quote(text, quoted, sizeof quoted), expected);
    }
}

static void store_integer(const struct reader_key *key, uint64_t value, void *into)
{
    if (key->bytes == sizeof(uint64_t)) {
        memcpy(into, &value, sizeof value);
    } else if (key->bytes == sizeof(uint32_t)) {
        uint32_t narrow = (uint32_t)value;
        memcpy(into, &narrow, sizeof narrow);
    } else {
        check(key->bytes == sizeof(uint8_t));
        uint8_t byte = (uint8_t)value;
        memcpy(into, &byte, sizeof byte);
    }
}

static void read_word(const struct place *place, const char *text, void *into)
{
    char expected[256];
    size_t used = 0;
    for (const struct reader_word *word = place->key->words; word->word != NULL; word++) {
        if (strcmp(word->word, text) == 0) {
            store_integer(place->key, word->value, into);
            return;
        }
        const char *between = used == 0 ? "" : word[1].word == NULL ? " or " : ", ";
        used +=
            (size_t)snprintf(expected + used, sizeof expected - used, "%s%s", between, word->word);
    }
    problem_with(place, text, "%s", expected);
}

static void read_integer(const struct place *place, const char *text, void *into)
{
    const struct reader_key *key = place->key;
    uint64_t value = 0;
    char least[VALUE_TEXT_MAX], most[VALUE_TEXT_MAX];
    int status;
    const char *what;
    if (key->kind == READER_SIZE) {
        status = value_parse_size(text, &value);
        what = "a size such as 10K or 64M";
        value_format_size(key->min, least);
        value_format_size(key->max, most);
    } else if (key->kind == READER_DURATION) {
        status = value_parse_duration(text, &value);
        what = "a duration such as 300ms, 10s or 5m";
        value_format_duration(key->min, least);
        value_format_duration(key->max, most);
    } else {
        status = value_parse_number(text, &value);
        what = "a whole number";
        snprintf(least, sizeof least, "%" PRIu64, key->min);
        snprintf(most, sizeof most, "%" PRIu64, key->max);
    }
    if (status < 0 || value < key->min || value > key->max) {
        problem_with(place, text, "%s, from %s to %s", what, least, most);
        return;
    }
    store_integer(key, value, into);
}

static void read_text(const struct place *place, const char *text, void *into)
{
    const struct reader_key *key = place->key;
    if (text[0] == '\0' || (key->good != NULL && !key->good(text))) {
        problem_with(place, text, "%s", key->expected != NULL ? key->expected : "a text");
        return;
    }
    const char *copy = reader_copy(place->reader->memory, text);
    if (copy == NULL) {
        place->reader->out_of_memory = true;
        return;
    }
    memcpy(into, &copy, sizeof copy);
}

static void read_endpoint(const struct place *place, const char *text, void *into)
{
    struct endpoint endpoint;
    if (endpoint_parse(&endpoint, slice_text(text)) < 0 ||
        (endpoint.family != ENDPOINT_UNIX && endpoint.port == 0)) {
        problem_with(place, text, "ADDRESS:PORT, [IPV6]:PORT or unix:/PATH");
        return;
    }
    memcpy(into, &endpoint, sizeof endpoint);
}

static void read_network(const struct place *place, const char *text, void *into)
{
    struct network_prefix prefix;
    bool lone = place->key->kind == READER_ADDRESS;
    if ((lone && strchr(text, '/') != NULL) ||
        network_prefix_parse(&prefix, slice_text(text)) < 0) {
        problem_with(place, text, "%s",
                     lone ? "an address such as 192.0.2.1 or 2001:db8::1"
                          : "a network such as 192.0.2.0/24 or 2001:db8::/32");
    } else if (lone) {
        memcpy(into, &prefix.address, sizeof prefix.address);
    } else {
        memcpy(into, &prefix, sizeof prefix);
    }
}

static void read_permissions(const struct place *place, const char *text, void *into)
{
    uint64_t mode = 0;
    if (value_parse_permissions(text, &mode) < 0) {
        problem_with(place, text, "permissions in octal, such as 660");
        return;
    }
    store_integer(place->key, mode, into);
}

static void read_value(const struct place *place, enum reader_kind kind, const char *text,
                       void *into)
{
    switch (kind) {
    case READER_TEXT:
        read_text(place, text, into);
        break;
    case READER_WORD:
        read_word(place, text, into);
        break;
    case READER_NUMBER:
    case READER_SIZE:
    case READER_DURATION:
        read_integer(place, text, into);
        break;
    case READER_PERMISSIONS:
        read_permissions(place, text, into);
        break;
    case READER_ENDPOINT:
        read_endpoint(place, text, into);
        break;
    case READER_ADDRESS:
    case READER_NETWORK:
        read_network(place, text, into);
        break;
    case READER_SECTION:
    case READER_LIST:
    case READER_ROWS:
        check(!"a value has a simple kind");
    }
}

/* ---- lists and rows ---- */

static void store_many(const struct reader_key *key, void *items, uint32_t count, void *into)
{
    memcpy((uint8_t *)into + key->offset, &items, sizeof items);
    memcpy((uint8_t *)into + key->count_offset, &count, sizeof count);
}

static void fill_list(const struct place *place, char *const *texts, uint32_t count, void *into)
{
    const struct reader_key *key = place->key;
    if (count < key->min || count > key->max) {
        reader_problem(place->reader, place->path,
                       "%" PRIu32 " entries, expected %" PRIu64 " to %" PRIu64, count, key->min,
                       key->max);
        return;
    }
    /* One more stays zero: a list of texts ends with NULL. */
    uint8_t *items = reader_take(place->reader->memory, (count + 1) * key->item_bytes);
    if (items == NULL) {
        place->reader->out_of_memory = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        char path[KEY_BYTES];
        snprintf(path, sizeof path, "%s[%" PRIu32 "]", place->path, i);
        struct place item = {place->reader, key, path};
        read_value(&item, key->item_kind, texts[i], items + i * key->item_bytes);
    }
    store_many(key, items, count, into);
}

/* The default of a list: words separated by blanks. */
static void fill_standard_list(const struct place *place, void *into)
{
    char words[256];
    char *texts[16];
    uint32_t count = 0;
    const char *standard = place->key->standard != NULL ? place->key->standard : "";
    check(strlen(standard) < sizeof words);
    strcpy(words, standard);
    char *rest = words;
    for (char *word; (word = strtok_r(rest, " ", &rest)) != NULL;) {
        check(count < sizeof texts / sizeof texts[0]);
        texts[count++] = word;
    }
    fill_list(place, texts, count, into);
}

static void fill_rows(const struct place *place, const struct raw_slot *rows, uint32_t count,
                      void *into)
{
    const struct reader_key *key = place->key;
    unsigned width = reader_keys_count(key->keys);
    uint8_t *items = reader_take(place->reader->memory, (count + 1) * key->item_bytes);
    if (items == NULL) {
        place->reader->out_of_memory = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        char path[KEY_BYTES];
        snprintf(path, sizeof path, "%s[%" PRIu32 "]", place->path, i);
        fill_keys(place->reader, key->keys, rows + (size_t)i * width, path,
                  items + i * key->item_bytes);
    }
    store_many(key, items, count, into);
}

/* The default of rows is YAML itself, read by the same way. */
static int fill_standard_rows(const struct place *place, void *into)
{
    struct reader_key alone[2] = {*place->key, {.name = NULL}};
    char text[512];
    int length = snprintf(text, sizeof text, "%s: %s", alone[0].name, alone[0].standard);
    check(length > 0 && (size_t)length < sizeof text);
    struct raw_document *document = NULL;
    const struct raw_slot *slots = NULL;
    int status = raw_document_load(&document, place->reader, alone, text, (size_t)length, &slots);
    if (status == 0) {
        check(slots != NULL && slots[0].count > 0);
        fill_rows(place, slots[0].value, slots[0].count, into);
    }
    raw_document_close(document);
    return status;
}

/* ---- keys ---- */

static int fill_many(const struct place *place, const struct raw_slot *slot, void *into)
{
    /* "key: []" is an answer: none. "key:" alone is not. */
    bool given = slot->count > 0 || reader_given(place->reader, place->path);
    if (!given && place->key->required) {
        reader_problem(place->reader, place->path, "missing, expected a list");
        return 0;
    }
    if (place->key->kind == READER_LIST) {
        if (given) {
            fill_list(place, (char *const *)slot->value, slot->count, into);
        } else {
            fill_standard_list(place, into);
        }
    } else if (given) {
        fill_rows(place, (const struct raw_slot *)slot->value, slot->count, into);
    } else if (place->key->standard != NULL) {
        return fill_standard_rows(place, into);
    }
    return 0;
}

static int fill_key(const struct place *place, const struct raw_slot *slot, void *into)
{
    const struct reader_key *key = place->key;
    switch (key->kind) {
    case READER_SECTION:
        return fill_keys(place->reader, key->keys, (const struct raw_slot *)slot->value,
                         place->path, into);
    case READER_LIST:
    case READER_ROWS:
        return fill_many(place, slot, into);
    case READER_TEXT:
    case READER_WORD:
    case READER_NUMBER:
    case READER_SIZE:
    case READER_DURATION:
    case READER_PERMISSIONS:
    case READER_ENDPOINT:
    case READER_ADDRESS:
    case READER_NETWORK: {
        const char *text = slot->value != NULL ? (const char *)slot->value : key->standard;
        if (text != NULL) {
            read_value(place, key->kind, text, (uint8_t *)into + key->offset);
        } else if (key->required) {
            reader_problem(place->reader, place->path, "missing, expected %s",
                           key->expected != NULL ? key->expected : "a value");
        }
        return 0;
    }
    }
    return 0;
}

/* slots NULL: the file says nothing of these. Mistakes are reported, not returned. 0 or -ENOMEM. */
static int fill_keys(struct reader *reader, const struct reader_key *keys,
                     const struct raw_slot *slots, const char *above, void *into)
{
    static const struct raw_slot nothing = {.value = NULL, .count = 0};
    int status = 0;
    for (unsigned i = 0; status == 0 && keys[i].name != NULL; i++) {
        char path[KEY_BYTES];
        snprintf(path, sizeof path, "%s%s%s", above, above[0] != '\0' ? "." : "", keys[i].name);
        struct place place = {reader, &keys[i], path};
        status = fill_key(&place, slots != NULL ? &slots[i] : &nothing, into);
    }
    return status;
}

int reader_fill_standard(struct reader *reader, const struct reader_key *keys, void *into)
{
    return fill_keys(reader, keys, NULL, "[]", into); /* no file says anything of such a key */
}

static void each_key(const struct reader_key *keys, const char *above,
                     void (*visit)(void *owner, const char *key, const char *value), void *owner)
{
    for (const struct reader_key *key = keys; key->name != NULL; key++) {
        char path[KEY_BYTES];
        snprintf(path, sizeof path, "%s%s%s%s", above, above[0] != '\0' ? "." : "", key->name,
                 key->kind == READER_ROWS ? "[]" : "");
        if (key->kind != READER_SECTION) {
            visit(owner, path, key->standard);
        }
        if (key->keys != NULL) {
            each_key(key->keys, path, visit, owner);
        }
    }
}

void reader_each_key(const struct reader_key *keys,
                     void (*visit)(void *owner, const char *key, const char *value), void *owner)
{
    each_key(keys, "", visit, owner);
}

void *reader_take(struct reader_memory *memory, size_t bytes)
{
    struct reader_block *block = calloc(1, sizeof *block + bytes);
    if (block == NULL) {
        return NULL;
    }
    block->next = memory->blocks;
    memory->blocks = block;
    return block->bytes;
}

char *reader_copy(struct reader_memory *memory, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = reader_take(memory, size);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

void reader_memory_free(struct reader_memory *memory)
{
    while (memory->blocks != NULL) {
        struct reader_block *block = memory->blocks;
        memory->blocks = block->next;
        free(block);
    }
}
