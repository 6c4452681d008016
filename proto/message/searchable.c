#include "proto/message/searchable.h"
#include "engine/core/check.h"
#include "proto/message/header.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define GATHER_BYTES 2048u /* mapped at once */
static_assert(SEARCHABLE_PIECE_BYTES_MAX >= 16 * GATHER_BYTES,
              "mapped text is up to 11 times as long");

int searchable_open(struct searchable *searchable)
{
    searchable->gather = (uint8_t *)malloc(GATHER_BYTES);
    searchable->mapped = (uint8_t *)malloc(SEARCHABLE_PIECE_BYTES_MAX);
    if (searchable->gather == NULL || searchable->mapped == NULL) {
        searchable_close(searchable);
        return -ENOMEM;
    }
    return 0;
}

void searchable_close(struct searchable *searchable)
{
    if (searchable->part_open) {
        uint8_t rest[CHARSET_CLOSE_BYTES];
        charset_close(&searchable->charset, rest);
        searchable->part_open = false;
    }
    free(searchable->gather);
    free(searchable->mapped);
    searchable->gather = searchable->mapped = NULL;
    searchable->gather_bytes = 0;
    searchable->part = NULL;
}

/* ---- Mapping ---- */

/* Maps what was gathered. */
static void gather_map(struct searchable *searchable, size_t bytes, enum searchable_where where)
{
    uint8_t *out = searchable->mapped;
    size_t size = bytes;
    bool ascii = true;
    for (size_t i = 0; i < bytes; i++) {
        out[i] = slice_lower(searchable->gather[i]);
        ascii = ascii && out[i] < 0x80;
    }
    if (!ascii) {
        int status = text_casemap(slice_of(searchable->gather, bytes), out,
                                  SEARCHABLE_PIECE_BYTES_MAX, &size);
        searchable->failed = searchable->failed || status == -ENOMEM;
    }
    searchable->gather_bytes -= bytes;
    memmove(searchable->gather, searchable->gather + bytes, searchable->gather_bytes);
    searchable->text(searchable->owner, slice_of(out, size), where);
}

/* Where what was gathered may be cut: behind a blank, else in front of a character. */
static size_t gather_cut(const struct searchable *searchable)
{
    size_t size = searchable->gather_bytes;
    for (size_t i = size; i > size / 2; i--) {
        if (searchable->gather[i - 1] <= ' ') {
            return i;
        }
    }
    for (size_t i = size - 1; i > size / 2; i--) {
        if ((searchable->gather[i] & 0xc0) != 0x80) {
            return i;
        }
    }
    return size;
}

/* UTF-8, in pieces cut anywhere. */
static void gather_add(struct searchable *searchable, struct slice text,
                       enum searchable_where where)
{
    while (text.size > 0) {
        size_t room = GATHER_BYTES - searchable->gather_bytes;
        size_t size = text.size < room ? text.size : room;
        memcpy(searchable->gather + searchable->gather_bytes, text.bytes, size);
        searchable->gather_bytes += size;
        text = slice_from(text, size);
        if (searchable->gather_bytes == GATHER_BYTES) {
            gather_map(searchable, gather_cut(searchable), where);
        }
    }
}

/* Words do not go on from one part to the next. */
static void gather_end(struct searchable *searchable, enum searchable_where where)
{
    gather_map(searchable, searchable->gather_bytes, where);
    searchable->ended(searchable->owner, where);
}

/* ---- The header ---- */

size_t searchable_header_end(struct slice bytes, size_t from)
{
    const uint8_t *at = bytes.bytes;
    for (size_t i = from > 2 ? from - 2 : 0; i < bytes.size; i++) {
        if (at[i] != '\n') {
            continue;
        }
        if (i + 1 < bytes.size && at[i + 1] == '\n') {
            return i + 2;
        }
        if (i + 2 < bytes.size && at[i + 1] == '\r' && at[i + 2] == '\n') {
            return i + 3;
        }
    }
    return 0;
}

bool searchable_field_text(struct slice value, struct slice *text)
{
    size_t room = 3 * value.size + 64; /* a byte becomes U+FFFD at the worst */
    uint8_t *bytes = (uint8_t *)malloc(room);
    *text = slice_of(bytes, 0);
    if (bytes != NULL) {
        text->size = text_of_field(value, bytes, room);
    }
    return bytes != NULL;
}

void searchable_header(struct searchable *searchable, struct slice header)
{
    struct header_field field;
    while (header_next(&header, &field)) {
        struct slice text;
        gather_add(searchable, field.name, SEARCHABLE_HEADER);
        gather_add(searchable, slice_text(": "), SEARCHABLE_HEADER);
        if (searchable_field_text(field.value, &text)) {
            gather_add(searchable, text, SEARCHABLE_HEADER);
            free((void *)(uintptr_t)text.bytes);
        } else {
            searchable->failed = true;
        }
        gather_end(searchable, SEARCHABLE_HEADER);
    }
}

/* ---- Parts ---- */

static bool is_text(const struct message_part *part)
{
    return part->kind == PART_SINGLE && slice_equal_nocase(part->type, slice_text("text"));
}

/* The header of a part, or of a message within: fields are for TEXT, not for BODY (RFC 9051 §6.4.4). They are read in
 * pieces, with encoded words as they stand. The message's own is searched before. */
static bool has_inner_header(const struct message_part *part)
{
    return part->parent != NULL && part->header_offset < part->body_offset;
}

static void body_begin(struct searchable *searchable)
{
    const struct message_part *part = searchable->part;
    const struct mime_parameter *charset = mime_parameter_find(part->parameters, "charset");
    enum transfer_encoding encoding =
        part->encoding.bytes != NULL ? transfer_encoding_of(part->encoding) : TRANSFER_IDENTITY;
    transfer_open(&searchable->transfer,
                  encoding == TRANSFER_UNKNOWN ? TRANSFER_IDENTITY : encoding);
    int status = charset != NULL ? charset_open(&searchable->charset, charset->value) : -EINVAL;
    searchable->failed = searchable->failed || status == -ENOMEM;
    if (status != 0) {
        charset_open(&searchable->charset, slice_text("utf-8"));
    }
    searchable->part_at = part->body_offset;
    searchable->part_open = true;
}

static void charset_feed(struct searchable *searchable, struct slice bytes,
                         enum searchable_where where)
{
    uint8_t text[1024];
    while (bytes.size > 0) {
        size_t size = charset_decode(&searchable->charset, &bytes, text, sizeof(text));
        gather_add(searchable, slice_of(text, size), where);
    }
}

static void charset_end(struct searchable *searchable, enum searchable_where where)
{
    uint8_t rest[CHARSET_CLOSE_BYTES];
    size_t size = charset_close(&searchable->charset, rest);
    gather_add(searchable, slice_of(rest, size), where);
    gather_end(searchable, where);
    searchable->part_open = false;
}

static void body_feed(struct searchable *searchable, struct slice bytes)
{
    uint8_t decoded[1024];
    while (bytes.size > 0) {
        size_t size = transfer_decode(&searchable->transfer, &bytes, decoded, sizeof(decoded));
        charset_feed(searchable, slice_of(decoded, size), SEARCHABLE_BODY);
    }
}

static void body_end(struct searchable *searchable)
{
    uint8_t rest[TRANSFER_ROOM_MIN];
    size_t size = transfer_close(&searchable->transfer, rest);
    charset_feed(searchable, slice_of(rest, size), SEARCHABLE_BODY);
    charset_end(searchable, SEARCHABLE_BODY);
}

static void part_begin(struct searchable *searchable)
{
    body_begin(searchable);
    if (has_inner_header(searchable->part)) {
        uint8_t rest[CHARSET_CLOSE_BYTES];
        charset_close(&searchable->charset, rest);
        charset_open(&searchable->charset, slice_text("utf-8"));
        searchable->part_at = searchable->part->header_offset;
    }
}

void searchable_parts(struct searchable *searchable, struct message_part *root)
{
    searchable->part = root;
}

bool searchable_wants(struct searchable *searchable, uint64_t *offset, uint64_t *bytes)
{
    for (struct message_part *part; (part = searchable->part) != NULL;
         searchable->part = message_part_behind(part)) {
        if (!is_text(part) && !has_inner_header(part)) {
            continue;
        }
        if (!searchable->part_open) {
            part_begin(searchable);
        }
        uint64_t end = part->body_offset + (is_text(part) ? part->body_bytes : 0);
        if (searchable->part_at < part->body_offset) {
            end = part->body_offset;
        }
        if (searchable->part_at < end) {
            *offset = searchable->part_at;
            *bytes = end - searchable->part_at;
            return true;
        }
        body_end(searchable);
    }
    return false;
}

void searchable_give(struct searchable *searchable, struct slice bytes)
{
    const struct message_part *part = searchable->part;
    check(part != NULL && searchable->part_open);
    uint64_t at = searchable->part_at + bytes.size;
    if (searchable->part_at >= part->body_offset) {
        body_feed(searchable, bytes);
    } else {
        charset_feed(searchable, bytes, SEARCHABLE_HEADER);
        if (at == part->body_offset) {
            charset_end(searchable, SEARCHABLE_HEADER);
            body_begin(searchable);
        }
    }
    searchable->part_at = at;
}
