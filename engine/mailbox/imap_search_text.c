/* The text of a message for SEARCH: its header, and what is text in its parts, decoded and without regard to case. */
#include "engine/mailbox/imap_search.h"
#include "proto/message/header.h"
#include <stdlib.h>

#define SCAN_BYTES_A_STEP (256u * 1024)
#define GATHER_BYTES 2048u                       /* mapped at once */
#define WINDOW_BYTES (4096u + 16 * GATHER_BYTES) /* with what a word may have begun in before */

int search_text_open(struct search *search)
{
    if (search->text.session != NULL) {
        return 0;
    }
    int status = imap_text_open(&search->text, search->session, search->entry.text);
    if (status != 0) {
        search->text.session = NULL;
    }
    return status;
}

struct slice search_header(const struct search *search)
{
    return slice_of(search->header, search->header_bytes);
}

/* ---- The header ---- */

/* Where the header ends, looked for behind `from`; 0: not there. */
static uint32_t header_end(const struct search *search, uint32_t from)
{
    const uint8_t *bytes = search->header;
    for (uint32_t i = from > 2 ? from - 2 : 0; i < search->header_bytes; i++) {
        if (bytes[i] != '\n') {
            continue;
        }
        if (i + 1 < search->header_bytes && bytes[i + 1] == '\n') {
            return i + 2;
        }
        if (i + 2 < search->header_bytes && bytes[i + 1] == '\r' && bytes[i + 2] == '\n') {
            return i + 3;
        }
    }
    return 0;
}

static bool header_add(struct search *search, struct slice bytes)
{
    uint32_t from = search->header_bytes;
    bytes = slice_first(bytes, SEARCH_HEADER_BYTES_MAX - search->header_bytes);
    if (search->header_bytes + bytes.size > search->header_room) {
        uint32_t room = search->header_room == 0 ? 8192 : search->header_room;
        while (room < search->header_bytes + bytes.size) {
            room *= 2;
        }
        uint8_t *grown = (uint8_t *)realloc(search->header, room);
        if (grown == NULL) {
            return false;
        }
        search->header = grown;
        search->header_room = room;
    }
    memcpy(search->header + search->header_bytes, bytes.bytes, bytes.size);
    search->header_bytes += (uint32_t)bytes.size;
    uint32_t end = header_end(search, from);
    if (end > 0 || search->header_bytes == SEARCH_HEADER_BYTES_MAX) {
        search->header_bytes = end > 0 ? end : search->header_bytes;
        search->header_whole = true;
    }
    return true;
}

int search_header_load(struct search *search)
{
    while (!search->header_whole && search->header_bytes < search->text.text.bytes) {
        struct slice bytes;
        struct ref *owner;
        int status = imap_text_read(&search->text, search->header_bytes, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        bool good = header_add(search, slice_first(bytes, 8192));
        ref_drop(owner);
        if (!good) {
            return -ENOMEM;
        }
    }
    search->header_whole = true;
    return 0;
}

bool search_field_text(struct slice value, struct slice *text)
{
    size_t room = 3 * value.size + 64; /* a byte becomes U+FFFD at the worst */
    uint8_t *bytes = (uint8_t *)malloc(room);
    *text = slice_of(bytes, 0);
    if (bytes != NULL) {
        text->size = text_of_field(value, bytes, room);
    }
    return bytes != NULL;
}

bool search_field_has(struct slice value, const struct search_word *word)
{
    struct slice text;
    bool has = false;
    if (!search_field_text(value, &text)) {
        return false;
    }
    size_t room = 4 * text.size + 256, bytes = 0;
    uint8_t *mapped = (uint8_t *)malloc(room);
    if (mapped != NULL && text_casemap(text, mapped, room, &bytes) == 0) {
        has = text_contains(slice_of(mapped, bytes), slice_of(word->mapped, word->bytes));
    }
    free(mapped);
    free((void *)(uintptr_t)text.bytes);
    return has;
}

/* ---- Words in what is read ---- */

enum where { IN_HEADER, IN_BODY };

static bool word_is_for(const struct search_word *word, enum where where)
{
    return !word->found && word->bytes > 0 &&
           (word->key->kind == IMAP_SEARCH_TEXT ||
            (word->key->kind == IMAP_SEARCH_BODY && where == IN_BODY));
}

static void window_look(struct search *search, enum where where)
{
    const struct slice window = slice_of(search->window, search->window_bytes);
    size_t longest = 1;
    for (uint32_t i = 0; i < search->word_count; i++) {
        struct search_word *word = &search->words[i];
        if (word_is_for(word, where)) {
            word->found = text_contains(window, slice_of(word->mapped, word->bytes));
            longest = word->bytes > longest ? word->bytes : longest;
        }
    }
    size_t kept = longest - 1 < search->window_bytes ? longest - 1 : search->window_bytes;
    memmove(search->window, search->window + search->window_bytes - kept, kept);
    search->window_bytes = kept;
}

/* Maps what was gathered, and looks for the words in it. */
static void gather_map(struct search *search, size_t bytes, enum where where)
{
    uint8_t *out = search->window + search->window_bytes;
    size_t room = WINDOW_BYTES - search->window_bytes, size = 0;
    bool ascii = true;
    for (size_t i = 0; i < bytes; i++) {
        out[i] = slice_lower(search->gather[i]);
        ascii = ascii && out[i] < 0x80;
    }
    if (ascii) {
        size = bytes;
    } else {
        text_casemap(slice_of(search->gather, bytes), out, room, &size);
    }
    search->window_bytes += size;
    search->gather_bytes -= bytes;
    memmove(search->gather, search->gather + bytes, search->gather_bytes);
    window_look(search, where);
}

/* Where what was gathered may be cut: behind a blank, else in front of a character. */
static size_t gather_cut(const struct search *search)
{
    size_t size = search->gather_bytes;
    for (size_t i = size; i > size / 2; i--) {
        if (search->gather[i - 1] <= ' ') {
            return i;
        }
    }
    for (size_t i = size - 1; i > size / 2; i--) {
        if ((search->gather[i] & 0xc0) != 0x80) {
            return i;
        }
    }
    return size;
}

/* UTF-8, in pieces cut anywhere. */
static void gather_add(struct search *search, struct slice text, enum where where)
{
    while (text.size > 0) {
        size_t room = GATHER_BYTES - search->gather_bytes;
        size_t size = text.size < room ? text.size : room;
        memcpy(search->gather + search->gather_bytes, text.bytes, size);
        search->gather_bytes += size;
        text = slice_from(text, size);
        if (search->gather_bytes == GATHER_BYTES) {
            gather_map(search, gather_cut(search), where);
        }
    }
}

/* Words do not go on from one part to the next. */
static void gather_end(struct search *search, enum where where)
{
    gather_map(search, search->gather_bytes, where);
    search->window_bytes = 0;
}

static void header_search(struct search *search, struct slice header, enum where where)
{
    struct header_field field;
    while (header_next(&header, &field)) {
        struct slice text;
        gather_add(search, field.name, where);
        gather_add(search, slice_text(": "), where);
        if (search_field_text(field.value, &text)) {
            gather_add(search, text, where);
            free((void *)(uintptr_t)text.bytes);
        }
        gather_end(search, where);
    }
}

/* ---- The structure ---- */

int search_parts_scan(struct search *search)
{
    uint32_t end = search->scanned + SCAN_BYTES_A_STEP;
    if (!search->scanning) {
        if (structure_open(&search->structure, &search->arena) != 0) {
            return -ENOMEM;
        }
        search->scanning = true;
    }
    while (search->scanned < search->text.text.bytes) {
        struct slice bytes;
        struct ref *owner;
        if (search->scanned >= end) {
            return -E2BIG;
        }
        int status = imap_text_read(&search->text, search->scanned, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        structure_feed(&search->structure, bytes);
        search->scanned += (uint32_t)bytes.size;
        ref_drop(owner);
    }
    search->part = structure_finish(&search->structure);
    search->scanning = false;
    search->window = (uint8_t *)malloc(WINDOW_BYTES);
    search->gather = (uint8_t *)malloc(GATHER_BYTES);
    search->window_bytes = search->gather_bytes = 0;
    if (search->window == NULL || search->gather == NULL) {
        return -ENOMEM;
    }
    header_search(search, search_header(search), IN_HEADER);
    return 0;
}

/* ---- Bodies ---- */

static struct message_part *part_behind(struct message_part *part)
{
    if (part->children != NULL) {
        return part->children;
    }
    while (part != NULL && part->next == NULL) {
        part = part->parent;
    }
    return part != NULL ? part->next : NULL;
}

static bool is_text(const struct message_part *part)
{
    return part->kind == PART_SINGLE && slice_equal_nocase(part->type, slice_text("text"));
}

static void body_begin(struct search *search)
{
    const struct message_part *part = search->part;
    const struct mime_parameter *charset = mime_parameter_find(part->parameters, "charset");
    enum transfer_encoding encoding =
        part->encoding.bytes != NULL ? transfer_encoding_of(part->encoding) : TRANSFER_IDENTITY;
    transfer_open(&search->transfer, encoding == TRANSFER_UNKNOWN ? TRANSFER_IDENTITY : encoding);
    if (charset == NULL || charset_open(&search->charset, charset->value) != 0) {
        charset_open(&search->charset, slice_text("utf-8"));
    }
    search->part_at = (uint32_t)part->body_offset;
    search->part_open = true;
}

static void charset_feed(struct search *search, struct slice bytes, enum where where)
{
    uint8_t text[1024];
    while (bytes.size > 0) {
        size_t size = charset_decode(&search->charset, &bytes, text, sizeof(text));
        gather_add(search, slice_of(text, size), where);
    }
}

static void charset_end(struct search *search, enum where where)
{
    uint8_t rest[CHARSET_CLOSE_BYTES];
    size_t size = charset_close(&search->charset, rest);
    gather_add(search, slice_of(rest, size), where);
    gather_end(search, where);
    search->part_open = false;
}

static void body_feed(struct search *search, struct slice bytes)
{
    uint8_t decoded[1024];
    while (bytes.size > 0) {
        size_t size = transfer_decode(&search->transfer, &bytes, decoded, sizeof(decoded));
        charset_feed(search, slice_of(decoded, size), IN_BODY);
    }
}

static void body_end(struct search *search)
{
    uint8_t rest[TRANSFER_ROOM_MIN];
    charset_feed(search, slice_of(rest, transfer_close(&search->transfer, rest)), IN_BODY);
    charset_end(search, IN_BODY);
}

/* The header of a part, or of a message within: fields are for TEXT, not for BODY (RFC 9051 §6.4.4). They are read in
 * pieces, with encoded words as they stand. The message's own is searched before. */
static bool has_inner_header(const struct message_part *part)
{
    return part->parent != NULL && part->header_offset < part->body_offset;
}

static void part_begin(struct search *search)
{
    body_begin(search);
    if (has_inner_header(search->part)) {
        uint8_t rest[CHARSET_CLOSE_BYTES];
        charset_close(&search->charset, rest);
        charset_open(&search->charset, slice_text("utf-8"));
        search->part_at = (uint32_t)search->part->header_offset;
    }
}

static void part_feed(struct search *search, struct slice bytes, bool in_header)
{
    if (!in_header) {
        body_feed(search, bytes);
        return;
    }
    charset_feed(search, bytes, IN_HEADER);
    if (search->part_at + bytes.size == search->part->body_offset) {
        charset_end(search, IN_HEADER);
        body_begin(search);
    }
}

static int part_search(struct search *search, uint32_t *budget)
{
    const struct message_part *part = search->part;
    uint32_t end = (uint32_t)(part->body_offset + (is_text(part) ? part->body_bytes : 0));
    if (!search->part_open) {
        part_begin(search);
    }
    while (search->part_at < end) {
        struct slice bytes;
        struct ref *owner;
        if (*budget == 0) {
            return -E2BIG;
        }
        int status = imap_text_read(&search->text, search->part_at, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        bool in_header = search->part_at < part->body_offset;
        uint32_t until = in_header ? (uint32_t)part->body_offset : end;
        bytes = slice_first(bytes, until - search->part_at);
        bytes = slice_first(bytes, *budget);
        uint32_t at = search->part_at + (uint32_t)bytes.size;
        part_feed(search, bytes, in_header);
        search->part_at = at;
        *budget -= (uint32_t)bytes.size;
        ref_drop(owner);
    }
    body_end(search);
    return 0;
}

int search_bodies(struct search *search)
{
    uint32_t budget = SCAN_BYTES_A_STEP;
    while (search->part != NULL) {
        if (is_text(search->part) || has_inner_header(search->part)) {
            int status = part_search(search, &budget);
            if (status != 0) {
                return status;
            }
        }
        search->part = part_behind(search->part);
    }
    return 0;
}

void search_text_end(struct search *search)
{
    if (search->scanning) {
        structure_abort(&search->structure);
        search->scanning = false;
    }
    if (search->part_open) {
        uint8_t rest[CHARSET_CLOSE_BYTES];
        charset_close(&search->charset, rest);
        search->part_open = false;
    }
    imap_text_close(&search->text);
    free(search->header);
    free(search->window);
    free(search->gather);
    search->header = search->window = search->gather = NULL;
    search->header_bytes = search->header_room = search->scanned = 0;
    search->header_whole = false;
    search->part = NULL;
    arena_reset(&search->arena);
    for (uint32_t i = 0; i < search->word_count; i++) {
        search->words[i].found = false;
    }
}
