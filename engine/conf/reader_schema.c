#include "engine/conf/reader_schema.h"
#include "engine/conf/value.h"
#include "engine/core/check.h"
#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX 4096
#define ROWS_MAX 10000
#define BACKTRACE_MAX 16

/* What libcyaml said of a file that does not fit: the first line, then the keys from the inside
 * out. */
struct complaint {
    char first[256];
    char steps[BACKTRACE_MAX][64]; /* "name" or "[index]" */
    unsigned steps_count;
};

struct raw_document {
    struct reader_memory memory; /* the schema's */
    cyaml_schema_value_t top;
    cyaml_config_t config;
    struct complaint complaint;
    void *data;
};

static const cyaml_schema_value_t text_item = {
    .type = CYAML_STRING,
    .flags = CYAML_FLAG_POINTER,
    .data_size = sizeof(char),
    .string = {.min = 0, .max = TEXT_BYTES_MAX},
};

unsigned reader_keys_count(const struct reader_key *keys)
{
    unsigned count = 0;
    while (keys[count].name != NULL) {
        count++;
    }
    return count;
}

static cyaml_schema_field_t *make_fields(struct reader_memory *memory,
                                         const struct reader_key *keys);

/* A value of the kind; 0 or -ENOMEM. */
static int make_value(struct reader_memory *memory, const struct reader_key *key,
                      cyaml_schema_value_t *value)
{
    *value = text_item;
    value->flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL;
    if (key->kind == READER_LIST) {
        value->type = CYAML_SEQUENCE;
        value->flags = CYAML_FLAG_POINTER_NULL | CYAML_FLAG_OPTIONAL;
        value->data_size = sizeof(char *);
        value->sequence.entry = &text_item;
        value->sequence.min = 0;
        value->sequence.max = ROWS_MAX;
    } else if (key->kind == READER_SECTION || key->kind == READER_ROWS) {
        cyaml_schema_field_t *fields = make_fields(memory, key->keys);
        cyaml_schema_value_t *row = reader_take(memory, sizeof *row);
        if (fields == NULL || row == NULL) {
            return -ENOMEM;
        }
        *row = (cyaml_schema_value_t){
            .type = CYAML_MAPPING,
            .flags = CYAML_FLAG_DEFAULT,
            .data_size = (uint32_t)(sizeof(struct raw_slot) * reader_keys_count(key->keys)),
            .mapping = {.fields = fields},
        };
        value->flags = CYAML_FLAG_POINTER_NULL | CYAML_FLAG_OPTIONAL;
        value->data_size = row->data_size;
        if (key->kind == READER_SECTION) {
            value->type = CYAML_MAPPING;
            value->mapping.fields = fields;
        } else {
            value->type = CYAML_SEQUENCE;
            value->sequence.entry = row;
            value->sequence.min = 0;
            value->sequence.max = ROWS_MAX;
        }
    }
    return 0;
}

static cyaml_schema_field_t *make_fields(struct reader_memory *memory,
                                         const struct reader_key *keys)
{
    unsigned count = reader_keys_count(keys);
    cyaml_schema_field_t *fields = reader_take(memory, (count + 1) * sizeof *fields);
    for (unsigned i = 0; fields != NULL && i < count; i++) {
        fields[i].key = keys[i].name;
        fields[i].data_offset =
            (uint32_t)(i * sizeof(struct raw_slot) + offsetof(struct raw_slot, value));
        fields[i].count_offset =
            (uint32_t)(i * sizeof(struct raw_slot) + offsetof(struct raw_slot, count));
        fields[i].count_size = sizeof(uint32_t);
        if (make_value(memory, &keys[i], &fields[i].value) < 0) {
            return NULL;
        }
    }
    return fields; /* the last one's key is NULL: the end */
}

/* libcyaml's log, a line a call: "Load: TEXT", then "  in mapping field 'NAME' (line...)" and
 * "  in sequence entry 'N' (...)", counted from 1. */
static void hear(cyaml_log_t level, void *owner, const char *format, va_list arguments)
{
    struct complaint *complaint = (struct complaint *)owner;
    char line[512];
    vsnprintf(line, sizeof line, format, arguments);
    line[strcspn(line, "\n")] = '\0';
    if (level < CYAML_LOG_WARNING) {
        return;
    }
    unsigned long entry = 0;
    char name[56];
    if (complaint->steps_count < BACKTRACE_MAX) {
        char *step = complaint->steps[complaint->steps_count];
        if (sscanf(line, " in mapping field '%55[^']'", name) == 1) {
            snprintf(step, sizeof complaint->steps[0], "%s", name);
            complaint->steps_count++;
            return;
        }
        if (sscanf(line, " in sequence entry '%lu'", &entry) == 1) {
            snprintf(step, sizeof complaint->steps[0], "[%lu]", entry > 0 ? entry - 1 : 0);
            complaint->steps_count++;
            return;
        }
    }
    static const char prefix[] = "Load: ";
    if (complaint->first[0] == '\0' && strncmp(line, prefix, sizeof prefix - 1) == 0 &&
        strcmp(line, "Load: Backtrace:") != 0) {
        snprintf(complaint->first, sizeof complaint->first, "%.255s", line + sizeof prefix - 1);
    }
}

/* The steps, outermost first, as a path of marks; and the keys that are allowed there. */
static const struct reader_key *complaint_place(const struct complaint *complaint,
                                                const struct reader_key *keys, char *path,
                                                size_t size, const struct reader_key **last)
{
    size_t used = 0;
    path[0] = '\0';
    *last = NULL;
    for (unsigned i = complaint->steps_count; i-- > 0;) {
        const char *step = complaint->steps[i];
        bool index = step[0] == '[';
        used +=
            (size_t)snprintf(path + used, size - used, "%s%s", used > 0 && !index ? "." : "", step);
        check(used < size);
        for (const struct reader_key *key = keys; !index && key != NULL && key->name != NULL;
             key++) {
            if (strcmp(key->name, step) == 0) {
                *last = key;
                keys = key->keys;
                break;
            }
        }
    }
    return keys;
}

static void list_names(const struct reader_key *keys, char *names, size_t size)
{
    size_t used = 0;
    names[0] = '\0';
    for (const struct reader_key *key = keys; key->name != NULL && used < size; key++) {
        used +=
            (size_t)snprintf(names + used, size - used, "%s%s", used > 0 ? ", " : "", key->name);
    }
}

static const char *kind_name(const struct reader_key *key, bool item)
{
    if (key == NULL) {
        return "a section of keys (key: value)";
    }
    switch (key->kind) {
    case READER_SECTION:
        return "a section of keys (key: value)";
    case READER_LIST:
        return item ? "one value" : "a list ([one, two])";
    case READER_ROWS:
        return item ? "keys (key: value)" : "a list of entries (- key: value)";
    case READER_TEXT:
    case READER_WORD:
    case READER_NUMBER:
    case READER_SIZE:
    case READER_DURATION:
    case READER_PERMISSIONS:
    case READER_ENDPOINT:
    case READER_ADDRESS:
    case READER_NETWORK:
        return "one value";
    }
    return "something else";
}

/* Puts libcyaml's complaint into our words, at the right place of the file. */
static void report_complaint(struct reader *reader, const struct reader_key *keys,
                             cyaml_err_t error, const struct complaint *complaint)
{
    char path[BACKTRACE_MAX * 66 + 64], names[CONF_PROBLEM_BYTES - 128], quoted[64];
    const struct reader_key *last = NULL;
    const struct reader_key *allowed =
        complaint_place(complaint, keys, path, sizeof path - 64, &last);
    size_t used = strlen(path);
    char word[56] = "";
    if (error == CYAML_ERR_INVALID_KEY && allowed != NULL &&
        sscanf(complaint->first, "Unexpected key: %55[^\n]", word) == 1) {
        snprintf(path + used, sizeof path - used, "%s%s", used > 0 ? "." : "", word);
        list_names(allowed, names, sizeof names);
        reader_problem(reader, path, "unknown key, expected one of: %s", names);
    } else if (strncmp(complaint->first, "Mapping field already seen", 26) == 0) {
        reader_problem(reader, path, "given twice, expected once");
    } else if (strncmp(complaint->first, "Expecting", 9) == 0) {
        bool item = used > 0 && path[used - 1] == ']';
        reader_problem(reader, used > 0 ? path : NULL, "not what belongs here, expected %s",
                       kind_name(last, item));
    } else if (error == CYAML_ERR_STRING_LENGTH_MAX) {
        reader_problem(reader, path, "too long, expected at most %u characters", TEXT_BYTES_MAX);
    } else if (error == CYAML_ERR_SEQUENCE_ENTRIES_MAX) {
        reader_problem(reader, path, "too many, expected at most %u", ROWS_MAX);
    } else {
        const char *said = complaint->first[0] != '\0' ? complaint->first : cyaml_strerror(error);
        reader_problem(reader, used > 0 ? path : NULL, "%s",
                       value_quote(said, quoted, sizeof quoted));
    }
}

int raw_document_load(struct raw_document **made, struct reader *reader,
                      const struct reader_key *keys, const char *text, size_t size,
                      const struct raw_slot **slots)
{
    *slots = NULL;
    struct raw_document *document = calloc(1, sizeof *document);
    *made = document;
    if (document == NULL) {
        return -ENOMEM;
    }
    document->top = (cyaml_schema_value_t){
        .type = CYAML_MAPPING,
        .flags = CYAML_FLAG_POINTER,
        .data_size = (uint32_t)(sizeof(struct raw_slot) * reader_keys_count(keys)),
        .mapping = {.fields = make_fields(&document->memory, keys)},
    };
    if (document->top.mapping.fields == NULL) {
        return -ENOMEM;
    }
    document->config = (cyaml_config_t){
        .log_fn = hear,
        .log_ctx = &document->complaint,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_WARNING,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    cyaml_err_t error = cyaml_load_data((const uint8_t *)text, size, &document->config,
                                        &document->top, &document->data, NULL);
    if (error == CYAML_ERR_OOM) {
        return -ENOMEM;
    }
    if (error != CYAML_OK) {
        report_complaint(reader, keys, error, &document->complaint);
        return -EINVAL;
    }
    *slots = (const struct raw_slot *)document->data;
    return 0;
}

void raw_document_close(struct raw_document *document)
{
    if (document == NULL) {
        return;
    }
    cyaml_free(&document->config, &document->top, document->data, 0);
    reader_memory_free(&document->memory);
    free(document);
}
