#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

void write_bytes(struct writer *writer, const void *bytes, size_t size)
{
    if (writer->failed || size == 0) {
        return;
    }
    if (writer->size + size > writer->room) {
        size_t room = (writer->size + size) * 2 + 64;
        uint8_t *grown = (uint8_t *)realloc(writer->bytes, room);
        if (grown == NULL) {
            writer->failed = true;
            return;
        }
        writer->bytes = grown;
        writer->room = room;
    }
    memcpy(writer->bytes + writer->size, bytes, size);
    writer->size += size;
}

void write_u8(struct writer *writer, uint8_t value)
{
    write_bytes(writer, &value, sizeof(value));
}

void write_u16(struct writer *writer, uint16_t value)
{
    write_bytes(writer, &value, sizeof(value));
}

void write_u32(struct writer *writer, uint32_t value)
{
    write_bytes(writer, &value, sizeof(value));
}

void write_u64(struct writer *writer, uint64_t value)
{
    write_bytes(writer, &value, sizeof(value));
}

void write_text(struct writer *writer, struct slice text)
{
    check(text.size <= UINT16_MAX);
    write_u16(writer, (uint16_t)text.size);
    write_bytes(writer, text.bytes, text.size);
}

void writer_free(struct writer *writer)
{
    free(writer->bytes);
    *writer = (struct writer){0};
}

struct slice read_bytes(struct reader *reader, size_t size)
{
    if (size > (size_t)(reader->end - reader->at)) {
        reader->bad = true;
        reader->at = reader->end;
        return slice_of(reader->end, 0);
    }
    const uint8_t *at = reader->at;
    reader->at += size;
    return slice_of(at, size);
}

static void read_number(struct reader *reader, void *value, size_t size)
{
    struct slice bytes = read_bytes(reader, size);
    memset(value, 0, size);
    if (bytes.size == size) {
        memcpy(value, bytes.bytes, size);
    }
}

uint8_t read_u8(struct reader *reader)
{
    uint8_t value;
    read_number(reader, &value, sizeof(value));
    return value;
}

uint16_t read_u16(struct reader *reader)
{
    uint16_t value;
    read_number(reader, &value, sizeof(value));
    return value;
}

uint32_t read_u32(struct reader *reader)
{
    uint32_t value;
    read_number(reader, &value, sizeof(value));
    return value;
}

uint64_t read_u64(struct reader *reader)
{
    uint64_t value;
    read_number(reader, &value, sizeof(value));
    return value;
}

struct slice read_text(struct reader *reader)
{
    return read_bytes(reader, read_u16(reader));
}

struct slice users_at(struct slice users, uint32_t index)
{
    struct reader reader = {.at = users.bytes, .end = users.bytes + users.size};
    struct slice name = {0};
    for (uint32_t i = 0; i <= index && !reader.bad; i++) {
        name = reader.at < reader.end ? read_bytes(&reader, read_u8(&reader)) : slice_of(NULL, 0);
    }
    return name;
}

bool change_parse(struct slice content, struct change_head *head, struct slice *users,
                  struct slice *rest)
{
    if (content.size < sizeof(*head)) {
        return false;
    }
    memcpy(head, content.bytes, sizeof(*head));
    struct slice behind = slice_from(content, sizeof(*head));
    if (head->users_bytes > behind.size) {
        return false;
    }
    *users = slice_first(behind, head->users_bytes);
    *rest = slice_from(behind, head->users_bytes);
    return true;
}

/* ── Keys ────────────────────────────────────────────────────────────────────────────────────── */

void key_begin(struct key *key, enum row_kind kind)
{
    key->bytes[0] = (uint8_t)kind;
    key->size = 1;
}

void key_u64(struct key *key, uint64_t value)
{
    key_u32(key, (uint32_t)(value >> 32));
    key_u32(key, (uint32_t)value);
}

void key_u32(struct key *key, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        key->bytes[key->size++] = (uint8_t)(value >> shift);
    }
}

void key_text(struct key *key, struct slice text)
{
    check(key->size + text.size <= ROW_KEY_BYTES);
    if (text.size > 0) {
        memcpy(key->bytes + key->size, text.bytes, text.size);
    }
    key->size += (uint32_t)text.size;
}

uint64_t key_read_u64(struct slice key, size_t at)
{
    return (uint64_t)key_read_u32(key, at) << 32 | key_read_u32(key, at + 4);
}

uint32_t key_read_u32(struct slice key, size_t at)
{
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; i++) {
        value = value << 8 | (i < key.size ? key.bytes[i] : 0);
    }
    return value;
}

/* ── Many rows ───────────────────────────────────────────────────────────────────────────────── */

#define TAKEN_BYTES (256u * 1024)

/* Some of them; `from`: where they go on. */
static int rows_take(struct mailstore *store, const struct key *prefix, struct key *from,
                     struct writer *taken)
{
    struct index_walk walk;
    taken->size = 0;
    bool more = index_walk_begin(store->index, &walk, key_slice(prefix), key_slice(from));
    for (; more && taken->size < TAKEN_BYTES; more = index_walk_next(&walk)) {
        write_text(taken, walk.key);
        write_u32(taken, (uint32_t)walk.value.size);
        write_bytes(taken, walk.value.bytes, walk.value.size);
        from->size = 0;
        key_text(from, walk.key);
    }
    index_walk_end(&walk);
    return taken->failed ? -ENOMEM : walk.status;
}

int rows_remove_some(struct mailstore *store, const struct rows_removal *removal, struct key *from)
{
    struct writer taken = {0};
    int status = rows_take(store, removal->prefix, from, &taken);
    struct reader reader = {.at = taken.bytes, .end = taken.bytes + taken.size};
    while (status == 0 && reader.at < reader.end) {
        struct slice key = read_text(&reader);
        struct slice value = read_bytes(&reader, read_u32(&reader));
        status = index_remove(store->index, key);
        if (status == 0 && removal->visit != NULL) {
            status = removal->visit(store, removal->owner, key, value);
        }
    }
    bool more = taken.size >= TAKEN_BYTES;
    writer_free(&taken);
    return status == 0 && more ? -EINPROGRESS : status;
}

int rows_remove(struct mailstore *store, const struct key *prefix, rows_visit *visit, void *owner)
{
    const struct rows_removal removal = {.prefix = prefix, .visit = visit, .owner = owner};
    struct key from = *prefix;
    int status;
    do {
        status = rows_remove_some(store, &removal, &from);
    } while (status == -EINPROGRESS);
    return status;
}
