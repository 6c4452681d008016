#include "engine/mailbox/sieve_edit.h"
#include "proto/message/header.h"
#include "proto/message/header_writer.h"
#include "proto/sieve/limits.h"
#include <errno.h>

#define FIELD_BYTES (5 * SIEVE_VALUE_BYTES_MAX) /* each byte =XX, and folds */

struct fields {
    struct slice *at; /* whole: with its end of line */
    uint32_t count;
};

static bool is_named(struct slice field, struct slice name)
{
    return slice_equal_nocase(header_field_of(field).name, name);
}

static void field_insert(struct fields *fields, uint32_t index, struct slice field)
{
    memmove(&fields->at[index + 1], &fields->at[index],
            (fields->count - index) * sizeof fields->at[0]);
    fields->at[index] = field;
    fields->count++;
}

static int add(struct arena *arena, struct fields *fields, const struct sieve_edit *edit)
{
    uint8_t bytes[FIELD_BYTES];
    size_t size = header_write(edit->name, edit->value, bytes, sizeof bytes);
    struct slice field;
    if (size == 0) {
        return -E2BIG;
    }
    if (!arena_copy(arena, slice_of(bytes, size), &field)) {
        return -ENOMEM;
    }
    bool traced = fields->count > 0 && is_named(fields->at[0], slice_text("Return-Path"));
    field_insert(fields, edit->last ? fields->count : traced ? 1 : 0, field);
    return 0;
}

static void field_remove(struct fields *fields, const struct sieve_edit *edit)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < fields->count; i++) {
        if (is_named(fields->at[i], edit->name) && seen++ == edit->index) {
            fields->count--;
            memmove(&fields->at[i], &fields->at[i + 1], (fields->count - i) * sizeof fields->at[0]);
            return;
        }
    }
}

/* With room for as many more as there are edits. */
static bool fields_find(struct arena *arena, struct slice *rest, uint32_t more,
                        struct fields *fields)
{
    struct header_field field;
    struct slice again = *rest;
    uint32_t count = 0;
    while (header_next(&again, &field)) {
        count++;
    }
    *fields = (struct fields){
        .at = (struct slice *)arena_take_array(arena, count + more + 1, sizeof fields->at[0])};
    while (fields->at != NULL && fields->count < count && header_next(rest, &field)) {
        fields->at[fields->count++] = field.whole;
    }
    return fields->at != NULL;
}

int sieve_edit_header(struct arena *arena, struct slice header, const struct sieve_edit *edits,
                      uint32_t edit_count, struct slice *edited)
{
    struct fields fields;
    struct slice rest = header;
    int status = fields_find(arena, &rest, edit_count, &fields) ? 0 : -ENOMEM;
    size_t size = 0, before = 0, used = 0;
    for (uint32_t i = 0; status == 0 && i < fields.count; i++) {
        before += fields.at[i].size;
    }
    for (uint32_t i = 0; status == 0 && i < edit_count; i++) {
        if (edits[i].kind == SIEVE_EDIT_ADD) {
            status = add(arena, &fields, &edits[i]);
        } else {
            field_remove(&fields, &edits[i]);
        }
    }
    for (uint32_t i = 0; status == 0 && i < fields.count; i++) {
        size += fields.at[i].size + 2;
    }
    struct slice end = status == 0 ? slice_from(header, before) : slice_of(NULL, 0);
    uint8_t *bytes = status == 0 ? (uint8_t *)arena_take(arena, size + end.size + 1) : NULL;
    if (bytes == NULL) {
        return status == 0 ? -ENOMEM : status;
    }
    for (uint32_t i = 0; i < fields.count; i++) {
        memcpy(bytes + used, fields.at[i].bytes, fields.at[i].size);
        used += fields.at[i].size;
        if (i + 1 < fields.count &&
            bytes[used - 1] != '\n') { /* where the message ends within a line */
            memcpy(bytes + used, "\r\n", 2);
            used += 2;
        }
    }
    if (end.size > 0) {
        memcpy(bytes + used, end.bytes, end.size);
    }
    *edited = slice_of(bytes, used + end.size);
    return 0;
}
