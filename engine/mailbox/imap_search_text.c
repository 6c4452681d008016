/* The text of a message for SEARCH: its header, and what is text in its parts, decoded and without regard to case. */
#include "engine/mailbox/imap_search.h"
#include "engine/core/check.h"
#include "proto/message/header.h"
#include <stdlib.h>

#define SCAN_BYTES_A_STEP (256u * 1024)
#define HEADER_KEPT_BYTES (64u * 1024) /* of memory, for the next message */
/* With what a word may have begun in before. */
#define WINDOW_BYTES (4u * SEARCH_WORD_BYTES_MAX + SEARCHABLE_PIECE_BYTES_MAX)

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
    return search->stage == SEARCH_FIELDS ? slice_of(search->fields, search->fields_bytes)
                                          : slice_of(search->header, search->header_bytes);
}

/* ---- The header ---- */

static bool header_add(struct search *search, struct slice bytes)
{
    uint32_t from = search->header_bytes;
    bytes = slice_first(bytes, SEARCHABLE_HEADER_BYTES_MAX - search->header_bytes);
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
    size_t end = searchable_header_end(slice_of(search->header, search->header_bytes), from);
    if (end > 0 || search->header_bytes == SEARCHABLE_HEADER_BYTES_MAX) {
        search->header_bytes = end > 0 ? (uint32_t)end : search->header_bytes;
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

bool search_field_has(struct slice value, const struct search_word *word)
{
    struct slice text;
    bool has = false;
    if (!searchable_field_text(value, &text)) {
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

static bool word_is_for(const struct search_word *word, enum searchable_where where)
{
    return !word->found && word->bytes > 0 &&
           (word->key->kind == IMAP_SEARCH_TEXT ||
            (word->key->kind == IMAP_SEARCH_BODY && where == SEARCHABLE_BODY));
}

/* The end of what was before is in front of it. */
static void window_look(void *owner, struct slice text, enum searchable_where where)
{
    struct search *search = (struct search *)owner;
    check(search->window_bytes + text.size <= WINDOW_BYTES);
    memcpy(search->window + search->window_bytes, text.bytes, text.size);
    const struct slice window = slice_of(search->window, search->window_bytes + text.size);
    size_t longest = 1;
    for (uint32_t i = 0; i < search->word_count; i++) {
        struct search_word *word = &search->words[i];
        if (word_is_for(word, where)) {
            word->found = text_contains(window, slice_of(word->mapped, word->bytes));
            longest = word->bytes > longest ? word->bytes : longest;
        }
    }
    size_t kept = longest - 1 < window.size ? longest - 1 : window.size;
    memmove(search->window, search->window + window.size - kept, kept);
    search->window_bytes = kept;
}

static void window_clear(void *owner, enum searchable_where where)
{
    (void)where;
    ((struct search *)owner)->window_bytes = 0;
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
    struct message_part *root = structure_finish(&search->structure);
    search->scanning = false;
    search->window = (uint8_t *)malloc(WINDOW_BYTES);
    search->window_bytes = 0;
    search->searchable =
        (struct searchable){.text = window_look, .ended = window_clear, .owner = search};
    if (search->window == NULL || searchable_open(&search->searchable) != 0) {
        return -ENOMEM;
    }
    searchable_header(&search->searchable, search_header(search));
    searchable_parts(&search->searchable, root);
    return 0;
}

/* ---- Bodies ---- */

int search_bodies(struct search *search)
{
    uint64_t offset, wanted;
    uint32_t budget = SCAN_BYTES_A_STEP;
    while (searchable_wants(&search->searchable, &offset, &wanted)) {
        struct slice bytes;
        struct ref *owner;
        if (budget == 0) {
            return -E2BIG;
        }
        int status = imap_text_read(&search->text, (uint32_t)offset, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        bytes = slice_first(slice_first(bytes, wanted), budget);
        searchable_give(&search->searchable, bytes);
        budget -= (uint32_t)bytes.size;
        ref_drop(owner);
    }
    return search->searchable.failed ? -ENOMEM : 0;
}

void search_text_end(struct search *search)
{
    if (search->scanning) {
        structure_abort(&search->structure);
        search->scanning = false;
    }
    searchable_close(&search->searchable);
    imap_text_close(&search->text);
    free(search->window);
    search->window = NULL;
    if (search->header_room > HEADER_KEPT_BYTES) {
        search_text_free(search);
    }
    search->header_bytes = search->scanned = 0;
    search->header_whole = false;
    arena_reset(&search->arena);
    for (uint32_t i = 0; i < search->word_count; i++) {
        search->words[i].found = false;
    }
}

void search_text_free(struct search *search)
{
    free(search->header);
    search->header = NULL;
    search->header_room = 0;
}
