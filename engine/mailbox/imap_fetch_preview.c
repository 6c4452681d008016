/*
 * PREVIEW (RFC 8970): the first words of a message: of its first text/plain part, else of its first text/html part
 * without the tags. What was quoted is passed over. Computed once, and remembered with the text.
 */
#include "engine/mailbox/imap_fetch.h"
#include "proto/message/text.h"
#include <stdlib.h>

#define READ_BYTES_MAX (64u * 1024) /* of a part; what follows has no part in it */
#define PREVIEW_CHARACTERS 200u     /* RFC 8970 §3.1 */

static bool is_text(const struct message_part *part, const char *subtype)
{
    return part->kind == PART_SINGLE && slice_equal_nocase(part->type, slice_text("text")) &&
           slice_equal_nocase(part->subtype, slice_text(subtype));
}

static const struct message_part *part_find(const struct message_part *root, const char *subtype)
{
    const struct message_part *part = root;
    while (part != NULL && !is_text(part, subtype)) {
        if (part->children != NULL) {
            part = part->children;
            continue;
        }
        while (part != NULL && part->next == NULL) {
            part = part->parent;
        }
        part = part != NULL ? part->next : NULL;
    }
    return part;
}

/* What part it is taken of; NULL: there is no text. */
static const struct message_part *preview_part(const struct fetch *fetch)
{
    const struct message_part *plain = part_find(fetch->root, "plain");
    return plain != NULL ? plain : part_find(fetch->root, "html");
}

enum fetch_phase fetch_preview_begin(struct fetch *fetch, const struct imap_fetch_item *item)
{
    struct slice value;
    (void)item;
    imap_write(&fetch->writer, "PREVIEW ");
    if (mailstore_cache_get(imap_session_store(fetch->session), fetch->entry.text,
                            IMAP_CACHE_PREVIEW, &value) == 0) {
        imap_write_string(&fetch->writer, value);
        return FETCH_ITEMS;
    }
    const struct message_part *part = fetch->root != NULL ? preview_part(fetch) : NULL;
    if (part == NULL) { /* LAZY, or there is no text in it */
        imap_write(&fetch->writer, fetch->root != NULL ? "\"\"" : "NIL");
        return FETCH_ITEMS;
    }
    fetch->range = (struct section_range){part->body_offset, part->body_bytes};
    if (fetch->range.bytes > READ_BYTES_MAX) {
        fetch->range.bytes = READ_BYTES_MAX;
    }
    return FETCH_LOAD;
}

/* ---- From a body to words ---- */

struct preview {
    uint8_t text[PREVIEW_CHARACTERS * 4];
    size_t size;
    unsigned characters;
    bool blank; /* one is owed */
    bool html, in_tag, quoted, line_begins;
};

static void character_add(struct preview *preview, struct slice character)
{
    if (preview->blank && preview->characters > 0 && preview->characters < PREVIEW_CHARACTERS) {
        preview->text[preview->size++] = ' ';
        preview->characters++;
    }
    preview->blank = false;
    if (preview->characters < PREVIEW_CHARACTERS) {
        memcpy(preview->text + preview->size, character.bytes, character.size);
        preview->size += character.size;
        preview->characters++;
    }
}

static size_t character_bytes(struct slice text)
{
    size_t size = 1;
    while (size < text.size && size < 4 && (text.bytes[size] & 0xc0) == 0x80) {
        size++;
    }
    return size;
}

static void text_add(struct preview *preview, struct slice text)
{
    while (text.size > 0) {
        struct slice character = slice_first(text, character_bytes(text));
        uint8_t byte = text.bytes[0];
        text = slice_from(text, character.size);
        if (byte == '\n') {
            preview->line_begins = true;
            preview->blank = true;
            continue;
        }
        if (preview->line_begins) {
            preview->quoted = !preview->html && byte == '>';
            preview->line_begins = false;
        }
        if (preview->html && (byte == '<' || byte == '>')) {
            preview->in_tag = byte == '<';
            preview->blank = true;
        } else if (byte <= ' ' || byte == 0x7f) {
            preview->blank = true;
        } else if (!preview->in_tag && !preview->quoted) {
            character_add(preview, character);
        }
    }
}

static void body_add(struct preview *preview, const struct message_part *part, struct slice body)
{
    struct transfer_decoder transfer;
    struct charset_decoder charset;
    uint8_t decoded[1024], text[2048];
    const struct mime_parameter *name = mime_parameter_find(part->parameters, "charset");
    enum transfer_encoding encoding =
        part->encoding.bytes != NULL ? transfer_encoding_of(part->encoding) : TRANSFER_IDENTITY;
    transfer_open(&transfer, encoding == TRANSFER_UNKNOWN ? TRANSFER_IDENTITY : encoding);
    if (name == NULL || charset_open(&charset, name->value) != 0) {
        charset_open(&charset, slice_text("utf-8"));
    }
    while (body.size > 0 && preview->characters < PREVIEW_CHARACTERS) {
        size_t size = transfer_decode(&transfer, &body, decoded, sizeof(decoded));
        for (struct slice piece = slice_of(decoded, size); piece.size > 0;) {
            size_t bytes = charset_decode(&charset, &piece, text, sizeof(text));
            text_add(preview, slice_of(text, bytes));
        }
    }
    size_t size = transfer_close(&transfer, decoded);
    for (struct slice piece = slice_of(decoded, size); piece.size > 0;) {
        text_add(preview, slice_of(text, charset_decode(&charset, &piece, text, sizeof(text))));
    }
    charset_close(&charset, text);
}

void fetch_preview_loaded(struct fetch *fetch)
{
    const struct message_part *part = preview_part(fetch);
    struct preview preview = {.line_begins = true, .html = is_text(part, "html")};
    body_add(&preview, part, slice_of(fetch->gathered, fetch->gathered_bytes));
    struct slice text = slice_of(preview.text, preview.size);
    mailstore_cache_put(imap_session_store(fetch->session), fetch->entry.text, IMAP_CACHE_PREVIEW,
                        text);
    imap_write_string(&fetch->writer, text);
}
