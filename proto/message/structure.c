#include "proto/message/structure_private.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

static bool is_type(const struct message_part *part, const char *type)
{
    return slice_equal_nocase(part->type, slice_text(type));
}

static bool is_message(const struct message_part *part)
{
    return is_type(part, "message") && (slice_equal_nocase(part->subtype, slice_text("rfc822")) ||
                                        slice_equal_nocase(part->subtype, slice_text("global")));
}

/* Up to 8 bytes, zeros behind them. */
static uint64_t key_of(struct slice text)
{
    uint64_t key = 0;
    if (text.size > 0) {
        memcpy(&key, text.bytes, text.size < sizeof(key) ? text.size : sizeof(key));
    }
    return key;
}

/* From now on lines are compared with the boundary of this part, or not, if it has none. */
static void boundary_set(struct structure *structure, const struct message_part *part)
{
    struct slice ones = slice_of("\377\377\377\377\377\377\377\377", 8);
    if (part->boundary.size == 0 || part->boundary_over) {
        structure->boundary_keys[part->depth] = 1; /* what no mask of zeros gives */
        structure->boundary_masks[part->depth] = 0;
        return;
    }
    structure->boundary_keys[part->depth] = key_of(part->boundary);
    structure->boundary_masks[part->depth] = key_of(slice_first(ones, part->boundary.size));
}

/* The header of a part begins here. NULL: no more parts. */
static struct message_part *part_begin(struct structure *structure, struct message_part *parent)
{
    struct message_part *part = NULL;
    if (structure->part_count < STRUCTURE_PARTS_MAX) {
        part = arena_take(structure->arena, sizeof(*part));
    }
    if (part == NULL) {
        structure->full = true;
        return NULL;
    }
    structure->part_count++;
    part->header_offset = structure->offset;
    part->parent = parent;
    if (parent != NULL) {
        part->depth = (uint8_t)(parent->depth + 1);
        parent->child_count++;
        if (parent->last_child != NULL) {
            parent->last_child->next = part;
        } else {
            parent->children = part;
        }
        parent->last_child = part;
    }
    structure->current = part;
    structure->in_header = true;
    boundary_set(structure, part);
    return part;
}

int structure_open(struct structure *structure, struct arena *arena)
{
    *structure = (struct structure){.arena = arena};
    structure->root = part_begin(structure, NULL);
    return structure->root != NULL ? 0 : -ENOMEM;
}

static void field_keep(struct structure *structure, struct slice bytes)
{
    size_t size = structure->field_size + bytes.size;
    size = size > STRUCTURE_FIELD_BYTES_MAX ? STRUCTURE_FIELD_BYTES_MAX : size;
    if (size > structure->field_room) {
        size_t room = structure->field_room == 0 ? 1024 : structure->field_room;
        while (room < size) {
            room *= 2;
        }
        uint8_t *field = realloc(structure->field, room);
        if (field == NULL) {
            return; /* as if the field were longer than we read */
        }
        structure->field = field;
        structure->field_room = room;
    }
    size_t taken = size - structure->field_size;
    if (taken > 0) {
        memcpy(structure->field + structure->field_size, bytes.bytes, taken);
    }
    structure->field_size = size;
}

static void field_over(struct structure *structure)
{
    const struct message_part *parent = structure->current->parent;
    if (structure->field_size > 0) {
        structure_field_read(structure->arena, structure->current,
                             slice_of(structure->field, structure->field_size),
                             parent == NULL || parent->kind == PART_MESSAGE);
    }
    structure->field_size = 0;
}

/* A part that would hold others, too deep. */
static void part_close_off(struct message_part *part)
{
    part->type = slice_text("application");
    part->subtype = slice_text("octet-stream");
    part->parameters = NULL;
}

/* The body of the current part begins at `offset`; in a message that is another header. */
static void header_over(struct structure *structure, uint64_t offset, uint32_t lines)
{
    struct message_part *part = structure->current;
    bool in_digest = part->parent != NULL && part->parent->kind == PART_MULTIPART &&
                     slice_equal_nocase(part->parent->subtype, slice_text("digest"));
    field_over(structure);
    structure_fields_default(structure->arena, part, in_digest);
    part->body_offset = offset;
    part->lines_before = lines;
    structure->in_header = false;
    bool multipart = is_type(part, "multipart");
    if ((multipart || is_message(part)) && part->depth >= STRUCTURE_DEPTH_MAX) {
        part_close_off(part);
    } else if (multipart) {
        const struct mime_parameter *boundary = mime_parameter_find(part->parameters, "boundary");
        if (boundary != NULL && boundary->value.size > 0) {
            part->kind = PART_MULTIPART;
            part->boundary = slice_first(boundary->value, STRUCTURE_BOUNDARY_BYTES_MAX);
            boundary_set(structure, part);
        }
    } else if (is_message(part)) {
        struct message_part *child = part_begin(structure, part);
        if (child != NULL) {
            part->kind = PART_MESSAGE;
            child->header_offset = offset;
        } else {
            part_close_off(part);
        }
    }
}

/* The part whose boundary this line has; NULL: none. */
static struct message_part *boundary_find(struct structure *structure, struct slice line)
{
    struct message_part *best = NULL;
    line = slice_from(line, 2);
    uint64_t key = key_of(line);
    bool may_be = false;
    for (unsigned i = 0; i <= structure->current->depth; i++) {
        may_be |= (key & structure->boundary_masks[i]) == structure->boundary_keys[i];
    }
    if (!may_be) {
        return NULL;
    }
    for (struct message_part *part = structure->current; part != NULL; part = part->parent) {
        size_t size = part->boundary.size;
        if (size == 0 || part->boundary_over || size > line.size ||
            (best != NULL && best->boundary.size >= size) ||
            memcmp(part->boundary.bytes, line.bytes, size) != 0) {
            continue;
        }
        best = part;
        bool whole =
            size == line.size || (size + 2 == line.size && memcmp(line.bytes + size, "--", 2) == 0);
        if (whole) {
            break; /* "--a--" ends a, though another be called "a--" */
        }
    }
    return best;
}

static void part_end(struct message_part *part, uint64_t end, uint32_t lines)
{
    if (end > part->body_offset) {
        part->body_bytes = end - part->body_offset;
        part->body_lines = lines - part->lines_before;
    }
}

/* All that is open inside of `part` ends in front of the line that begins at `at`. */
static void parts_end_in(struct structure *structure, struct message_part *part, uint64_t at)
{
    while (structure->in_header) {
        header_over(structure, at, structure->lines);
    }
    uint64_t end = at - structure->ending_before;
    uint32_t lines = structure->lines - (structure->ending_before > 0);
    while (structure->current != part) {
        const struct message_part *inner = structure->current->last_child;
        if (inner != NULL && inner->body_offset + inner->body_bytes > end) {
            end = inner->body_offset + inner->body_bytes; /* its header was cut off */
            lines = structure->lines;
        }
        part_end(structure->current, end, lines);
        structure->current = structure->current->parent;
    }
}

/* `line` is its beginning, without its end; `ending` is how many bytes that has. False: an ordinary line. */
static bool boundary_line(struct structure *structure, struct slice line, uint8_t ending)
{
    if (line.size < 2 || line.bytes[0] != '-' || line.bytes[1] != '-' || structure->full) {
        return false;
    }
    struct message_part *part = boundary_find(structure, line);
    if (part == NULL) {
        return false;
    }
    structure->field_size = 0; /* it may have been taken for one */
    struct slice behind = slice_from(line, 2 + part->boundary.size);
    parts_end_in(structure, part, structure->offset - structure->line_bytes);
    structure->lines += ending > 0;
    if (behind.size >= 2 && memcmp(behind.bytes, "--", 2) == 0) {
        part->boundary_over = true;
        boundary_set(structure, part);
    } else if (ending > 0) { /* with the message cut off there, no part begins */
        part_begin(structure, part);
    }
    return true;
}

/* A line is whole, the last one perhaps without an end. */
static void line_over(struct structure *structure, uint8_t ending)
{
    uint64_t text_bytes = structure->line_bytes - ending;
    size_t prefix = structure->prefix_size < text_bytes ? structure->prefix_size : text_bytes;
    if (!boundary_line(structure, slice_of(structure->prefix, prefix), ending)) {
        structure->lines += ending > 0;
        if (structure->in_header && text_bytes == 0 && ending > 0) {
            structure->field_size = 0;
            header_over(structure, structure->offset, structure->lines);
        }
    }
    structure->ending_before = ending;
    structure->line_bytes = 0;
    structure->prefix_size = 0;
}

/* Some of a line, its LF at most as the last byte. */
static void line_feed(struct structure *structure, struct slice bytes)
{
    uint8_t first = bytes.bytes[0];
    if (structure->line_bytes == 0 && structure->in_header && first != ' ' && first != '\t') {
        field_over(structure);
    }
    if (structure->line_bytes == 0 ? first == '-' : structure->prefix_size > 0) {
        size_t room = sizeof(structure->prefix) - structure->prefix_size;
        size_t taken = bytes.size < room ? bytes.size : room;
        memcpy(structure->prefix + structure->prefix_size, bytes.bytes, taken);
        structure->prefix_size = (uint16_t)(structure->prefix_size + taken);
    }
    if (structure->in_header && structure->header_bytes <= STRUCTURE_HEADERS_BYTES_MAX) {
        structure->header_bytes += bytes.size;
        field_keep(structure, bytes);
    }
    uint8_t before = bytes.size > 1 ? bytes.bytes[bytes.size - 2]
                                    : (structure->line_bytes > 0 ? structure->last_byte : 0);
    structure->last_byte = bytes.bytes[bytes.size - 1];
    structure->offset += bytes.size;
    structure->line_bytes += bytes.size;
    if (structure->last_byte == '\n') {
        line_over(structure, before == '\r' ? 2 : 1);
    }
}

void structure_feed(struct structure *structure, struct slice piece)
{
    while (piece.size > 0) {
        const uint8_t *end = memchr(piece.bytes, '\n', piece.size);
        size_t size = end != NULL ? (size_t)(end - piece.bytes) + 1 : piece.size;
        line_feed(structure, slice_first(piece, size));
        piece = slice_from(piece, size);
    }
}

struct message_part *structure_finish(struct structure *structure)
{
    if (structure->line_bytes > 0) {
        line_over(structure, 0);
    }
    while (structure->in_header) {
        header_over(structure, structure->offset, structure->lines);
    }
    for (struct message_part *part = structure->current; part != NULL; part = part->parent) {
        part_end(part, structure->offset, structure->lines);
    }
    structure_abort(structure);
    return structure->root;
}

void structure_abort(struct structure *structure)
{
    free(structure->field);
    structure->field = NULL;
}

struct message_part *message_part_behind(const struct message_part *part)
{
    if (part->children != NULL) {
        return part->children;
    }
    while (part != NULL && part->next == NULL) {
        part = part->parent;
    }
    return part != NULL ? part->next : NULL;
}
