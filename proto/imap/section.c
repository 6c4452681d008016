#include "proto/imap/section.h"
#include "proto/message/header.h"

static bool is_multipart(const struct message_part *part)
{
    return slice_equal_nocase(part->type, slice_text("multipart"));
}

const struct message_part *section_part(const struct message_part *root, const uint32_t *numbers,
                                        size_t count)
{
    const struct message_part *part = root;
    bool has_one = true; /* "1" is the part itself, if it has none */
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && part->kind == PART_MESSAGE && !has_one) {
            part = part->children;
            has_one = true;
        }
        if (is_multipart(part)) {
            const struct message_part *child = part->children;
            for (uint32_t number = 1; child != NULL && number < numbers[i]; number++) {
                child = child->next;
            }
            if (child == NULL || numbers[i] == 0) {
                return NULL;
            }
            part = child;
            has_one = part->kind == PART_SINGLE;
        } else if (has_one && numbers[i] == 1) {
            has_one = false;
        } else {
            return NULL;
        }
    }
    return part;
}

static struct section_range header_of(const struct message_part *part)
{
    return (struct section_range){part->header_offset, part->body_offset - part->header_offset};
}

static struct section_range body_of(const struct message_part *part)
{
    return (struct section_range){part->body_offset, part->body_bytes};
}

bool section_find(const struct message_part *root, const uint32_t *numbers, size_t count,
                  enum section_text text, struct section_range *range)
{
    const struct message_part *part = count > 0 ? section_part(root, numbers, count) : root;
    *range = (struct section_range){0, 0};
    if (part == NULL) {
        return false;
    }
    const struct message_part *message = count == 0                   ? root
                                         : part->kind == PART_MESSAGE ? part->children
                                                                      : NULL;
    switch (text) {
    case SECTION_ALL:
        *range = body_of(part);
        if (count == 0) {
            *range = (struct section_range){0, root->body_offset + root->body_bytes};
        }
        return true;
    case SECTION_HEADER:
    case SECTION_TEXT:
        if (message == NULL) {
            return false;
        }
        *range = text == SECTION_HEADER ? header_of(message) : body_of(message);
        return true;
    case SECTION_MIME:
        *range = header_of(part);
        return true;
    }
    return false;
}

struct section_range section_partial(struct section_range range, uint64_t first, uint64_t bytes)
{
    if (first > range.bytes) {
        first = range.bytes;
    }
    range.offset += first;
    range.bytes -= first;
    range.bytes = bytes < range.bytes ? bytes : range.bytes;
    return range;
}

static bool is_named(struct slice name, const struct slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_equal_nocase(name, names[i])) {
            return true;
        }
    }
    return false;
}

static bool ends_in_empty_line(struct slice header)
{
    if (header.size == 0 || header.bytes[header.size - 1] != '\n') {
        return false;
    }
    header.size--;
    if (header.size > 0 && header.bytes[header.size - 1] == '\r') {
        header.size--;
    }
    return header.size == 0 || header.bytes[header.size - 1] == '\n';
}

void section_fields_write(struct imap_writer *writer, struct slice header,
                          const struct slice *names, size_t count, enum section_fields which)
{
    const struct slice whole = header;
    struct header_field field;
    while (header_next(&header, &field)) {
        if (is_named(field.name, names, count) == (which == SECTION_FIELDS)) {
            imap_write_bytes(writer, field.whole);
            if (field.whole.bytes[field.whole.size - 1] != '\n') {
                imap_write(writer, "\r\n"); /* the message ends in its header */
            }
        }
    }
    if (ends_in_empty_line(whole)) {
        imap_write(writer, "\r\n");
    }
}

bool section_binary(const struct message_part *root, const uint32_t *numbers, size_t count,
                    struct section_range *range, enum transfer_encoding *encoding)
{
    const struct message_part *part = count > 0 ? section_part(root, numbers, count) : NULL;
    *encoding = TRANSFER_IDENTITY;
    if (part != NULL && part->kind == PART_SINGLE && !is_multipart(part)) {
        *encoding = transfer_encoding_of(part->encoding);
    }
    return section_find(root, numbers, count, SECTION_ALL, range);
}

uint64_t section_binary_bytes(struct transfer_decoder *decoder, struct slice piece)
{
    uint8_t decoded[4096];
    uint64_t bytes = 0;
    while (piece.size > 0) {
        bytes += transfer_decode(decoder, &piece, decoded, sizeof(decoded));
    }
    return bytes;
}

uint64_t section_binary_end(struct transfer_decoder *decoder)
{
    uint8_t rest[TRANSFER_ROOM_MIN];
    return transfer_close(decoder, rest);
}
