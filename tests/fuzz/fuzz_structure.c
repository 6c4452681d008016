/* Any bytes as a message: its parts lie within it and in one another, there are no more than may be, they are the same
 * whatever pieces it comes in, and ENVELOPE, BODYSTRUCTURE, sections, addresses and texts can be made of it. */
#include "engine/core/check.h"
#include "proto/imap/body_structure.h"
#include "proto/imap/envelope.h"
#include "proto/imap/section.h"
#include "proto/message/subject.h"
#include "proto/message/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const struct message_part *tree_of(struct arena *arena, struct slice text, size_t step)
{
    struct structure structure;
    check(structure_open(&structure, arena) == 0);
    while (text.size > 0) {
        structure_feed(&structure, slice_first(text, step));
        text = slice_from(text, step);
    }
    return structure_finish(&structure);
}

/* Returns how many parts there are. */
static size_t tree_check(const struct message_part *part, uint64_t end)
{
    size_t count = 1, children = 0;
    uint64_t body_end = part->body_offset + part->body_bytes, before = part->body_offset;
    check(part->header_offset <= part->body_offset && body_end <= end);
    check(part->body_lines <= part->body_bytes);
    check(part->depth <= STRUCTURE_DEPTH_MAX);
    for (const struct message_part *child = part->children; child != NULL; child = child->next) {
        check(child->parent == part && child->depth == part->depth + 1);
        check(child->header_offset >= before);
        before = child->body_offset + child->body_bytes;
        count += tree_check(child, body_end > child->body_offset ? body_end : child->body_offset);
        children++;
    }
    check(children == part->child_count);
    check(part->kind == PART_SINGLE ? children == 0
                                    : part->kind == PART_MULTIPART || children == 1);
    check(count <= STRUCTURE_PARTS_MAX);
    return count;
}

static void sections_check(const struct message_part *root, struct slice text)
{
    for (uint32_t i = 0; i < 4 * 64; i++) {
        const uint32_t numbers[3] = {1 + i % 4, 1 + i / 4 % 4, 1 + i / 16 % 4};
        struct section_range range;
        enum transfer_encoding encoding;
        enum section_text kind = (enum section_text)(i / 64);
        for (size_t count = 0; count <= 3; count++) {
            section_find(root, numbers, count, kind, &range);
            check(range.offset <= text.size && range.bytes <= text.size - range.offset);
        }
        if (section_binary(root, numbers, i % 4, &range, &encoding) &&
            encoding != TRANSFER_UNKNOWN && kind == SECTION_ALL) {
            struct transfer_decoder decoder;
            struct slice body =
                slice_first(slice_from(text, (size_t)range.offset), (size_t)range.bytes);
            transfer_open(&decoder, encoding);
            uint64_t decoded = section_binary_bytes(&decoder, body);
            check(decoded + section_binary_end(&decoder) <= range.bytes);
        }
    }
}

static void texts_check(const struct message_part *part)
{
    static uint8_t text[65536], folded[65536 * 4];
    for (const struct message_field *field = part->envelope[ENVELOPE_SUBJECT]; field != NULL;
         field = field->next) {
        size_t folded_size;
        bool is_reply;
        size_t size = text_of_field(field->value, text, sizeof(text));
        check(size <= sizeof(text));
        if (text_casemap(slice_of(text, size), folded, sizeof(folded), &folded_size) == 0) {
            check(text_contains(slice_of(folded, folded_size), slice_of(folded, folded_size)));
        }
        struct slice base = subject_base(text, size, &is_reply);
        check(base.size <= size);
    }
}

static void answers_write(struct imap_writer *writer, const struct message_part *root,
                          struct slice text)
{
    const struct slice names[] = {slice_text("subject"), slice_text("to")};
    struct arena arena;
    arena_open(&arena, 64u << 20);
    imap_write_envelope(writer, &arena, root->envelope);
    imap_write_body(writer, &arena, root, IMAP_BODYSTRUCTURE);
    imap_write_body(writer, &arena, root, IMAP_BODY);
    arena_close(&arena);
    size_t before = writer->size;
    struct slice header = slice_first(text, (size_t)root->body_offset);
    section_fields_write(writer, header, names, 2, SECTION_FIELDS);
    section_fields_write(writer, header, names, 2, SECTION_FIELDS_NOT);
    check(writer->failed || writer->size - before <= header.size + 6);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct slice text = slice_of(bytes, size);
    struct imap_writer whole, pieces;
    struct arena arena;
    arena_open(&arena, 64u << 20);
    imap_writer_open(&whole, 64u << 20);
    imap_writer_open(&pieces, 64u << 20);
    const struct message_part *root = tree_of(&arena, text, SIZE_MAX);
    check(root->header_offset == 0 && root->body_offset + root->body_bytes == size);
    tree_check(root, size);
    sections_check(root, text);
    texts_check(root);
    answers_write(&whole, root, text);
    answers_write(&pieces, tree_of(&arena, text, size > 0 ? 1 + bytes[0] % 5u : 1), text);
    check(whole.failed == pieces.failed);
    check(whole.failed || slice_equal(imap_writer_bytes(&whole), imap_writer_bytes(&pieces)));
    imap_writer_close(&whole);
    imap_writer_close(&pieces);
    arena_close(&arena);
    return 0;
}
