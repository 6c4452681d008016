/* The text of a message for FETCH: what its parts are, and its bytes on their way to the client. */
#include "engine/mailbox/imap_fetch.h"
#include "engine/core/check.h"
#include "proto/imap/body_structure.h"
#include "proto/imap/envelope.h"
#include <stdlib.h>

#define SCAN_BYTES_A_STEP (256u * 1024)
#define SCAN_PIECE_BYTES 4096u /* so that little is scanned behind a header */

static uint8_t cache_kind_of(const struct fetch *fetch, const struct imap_fetch_item *item)
{
    unsigned kind = item->kind == IMAP_FETCH_ENVELOPE ? IMAP_CACHE_ENVELOPE
                    : item->kind == IMAP_FETCH_BODY   ? IMAP_CACHE_BODY
                                                      : IMAP_CACHE_BODYSTRUCTURE;
    return (uint8_t)(kind + fetch->writer.utf8);
}

static bool is_cached(const struct fetch *fetch, const struct imap_fetch_item *item)
{
    struct slice value;
    return mailstore_cache_get(imap_session_store(fetch->session), fetch->entry.text,
                               cache_kind_of(fetch, item), &value) == 0;
}

static bool preview_is_cached(const struct fetch *fetch)
{
    struct slice value;
    return mailstore_cache_get(imap_session_store(fetch->session), fetch->entry.text,
                               IMAP_CACHE_PREVIEW, &value) == 0;
}

static uint8_t section_needs(const struct imap_section *section)
{
    if (section->part_count > 0) {
        return FETCH_NEEDS_TEXT | FETCH_NEEDS_PARTS;
    }
    return section->text == IMAP_SECTION_ALL ? FETCH_NEEDS_TEXT
                                             : FETCH_NEEDS_TEXT | FETCH_NEEDS_HEADER;
}

uint8_t fetch_needs(const struct fetch *fetch, const struct imap_fetch_item *item)
{
    switch ((enum imap_fetch_kind)item->kind) {
    case IMAP_FETCH_ENVELOPE:
        return is_cached(fetch, item) ? 0 : FETCH_NEEDS_TEXT | FETCH_NEEDS_HEADER;
    case IMAP_FETCH_BODY:
    case IMAP_FETCH_BODYSTRUCTURE:
        return is_cached(fetch, item) ? 0 : FETCH_NEEDS_TEXT | FETCH_NEEDS_PARTS;
    case IMAP_FETCH_PREVIEW:
        return item->lazy || preview_is_cached(fetch) ? 0 : FETCH_NEEDS_TEXT | FETCH_NEEDS_PARTS;
    case IMAP_FETCH_RFC822:
        return FETCH_NEEDS_TEXT;
    case IMAP_FETCH_RFC822_HEADER:
    case IMAP_FETCH_RFC822_TEXT:
        return FETCH_NEEDS_TEXT | FETCH_NEEDS_HEADER;
    case IMAP_FETCH_BODY_SECTION:
    case IMAP_FETCH_BINARY:
    case IMAP_FETCH_BINARY_SIZE:
        return section_needs(&item->section);
    case IMAP_FETCH_FLAGS:
    case IMAP_FETCH_UID:
    case IMAP_FETCH_INTERNALDATE:
    case IMAP_FETCH_SAVEDATE:
    case IMAP_FETCH_MODSEQ:
    case IMAP_FETCH_EMAILID:
    case IMAP_FETCH_THREADID:
    case IMAP_FETCH_RFC822_SIZE:
        return 0;
    }
    return 0;
}

/* ---- The scan ---- */

static bool scan_is_over(const struct fetch *fetch)
{
    bool whole = (fetch->needs & FETCH_NEEDS_PARTS) != 0;
    return fetch->scanned == fetch->text.text.bytes ||
           (!whole && fetch->structure.root->body_offset > 0);
}

static void scan_feed(struct fetch *fetch, struct slice bytes)
{
    while (bytes.size > 0 && !scan_is_over(fetch)) {
        struct slice piece = slice_first(bytes, SCAN_PIECE_BYTES);
        structure_feed(&fetch->structure, piece);
        fetch->scanned += (uint32_t)piece.size;
        bytes = slice_from(bytes, piece.size);
    }
}

/* Of a text that is sent as it is: another program may have removed its file, and the client is not promised it yet. */
static int text_try(struct fetch *fetch)
{
    struct slice bytes;
    struct ref *owner;
    int status = fetch->text.text.bytes > 0 ? imap_text_read(&fetch->text, 0, &bytes, &owner) : 0;
    if (status == 0 && fetch->text.text.bytes > 0) {
        ref_drop(owner);
    }
    return status;
}

int fetch_scan(struct fetch *fetch)
{
    uint32_t end = fetch->scanned + SCAN_BYTES_A_STEP;
    if ((fetch->needs & (FETCH_NEEDS_HEADER | FETCH_NEEDS_PARTS)) == 0) {
        return text_try(fetch);
    }
    if (!fetch->scanning) {
        if (structure_open(&fetch->structure, &fetch->arena) != 0) {
            return -ENOMEM;
        }
        fetch->scanning = true;
    }
    while (!scan_is_over(fetch)) {
        struct slice bytes;
        struct ref *owner;
        if (fetch->scanned >= end) {
            return -E2BIG;
        }
        int status = imap_text_read(&fetch->text, fetch->scanned, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        scan_feed(fetch, bytes);
        ref_drop(owner);
    }
    fetch->root = structure_finish(&fetch->structure);
    fetch->scanning = false;
    if ((fetch->needs & FETCH_NEEDS_PARTS) == 0) { /* its body was not read */
        fetch->root->body_bytes = fetch->text.text.bytes - fetch->root->body_offset;
    }
    return 0;
}

void fetch_structure_write(struct fetch *fetch, const struct imap_fetch_item *item)
{
    struct mailstore *store = imap_session_store(fetch->session);
    struct imap_writer *writer = &fetch->writer;
    uint8_t kind = cache_kind_of(fetch, item);
    struct slice value;
    imap_write(writer, item->kind == IMAP_FETCH_ENVELOPE ? "ENVELOPE "
                       : item->kind == IMAP_FETCH_BODY   ? "BODY "
                                                         : "BODYSTRUCTURE ");
    if (mailstore_cache_get(store, fetch->entry.text, kind, &value) == 0) {
        imap_write_bytes(writer, value);
        return;
    }
    if (fetch->root == NULL) { /* the cache has lost it since it was asked */
        imap_write(writer, "NIL");
        fetch->some_broken = true;
        return;
    }
    size_t from = writer->size;
    if (item->kind == IMAP_FETCH_ENVELOPE) {
        imap_write_envelope(writer, &fetch->arena, fetch->root->envelope);
    } else {
        imap_write_body(writer, &fetch->arena, fetch->root,
                        item->kind == IMAP_FETCH_BODY ? IMAP_BODY : IMAP_BODYSTRUCTURE);
    }
    size_t bytes = writer->size - from;
    if (!writer->failed && bytes <= MAILSTORE_CACHE_BYTES_MAX) {
        mailstore_cache_put(store, fetch->entry.text, kind, slice_of(writer->bytes + from, bytes));
    }
}

/* ---- Bytes ---- */

/* The next piece of fetch->range. */
static int piece_read(struct fetch *fetch, struct slice *bytes, struct ref **owner)
{
    int status = imap_text_read(&fetch->text, (uint32_t)fetch->range.offset, bytes, owner);
    if (status == 0) {
        *bytes = slice_first(*bytes,
                             fetch->range.bytes < SIZE_MAX ? (size_t)fetch->range.bytes : SIZE_MAX);
        fetch->range.offset += bytes->size;
        fetch->range.bytes -= bytes->size;
    }
    return status;
}

/* Only literal8 may hold a NUL (RFC 9051 §9: CHAR8). */
static void piece_send(struct imap_session *session, struct slice bytes, struct ref *owner)
{
    const uint8_t *nul;
    while (bytes.size > 0 && (nul = memchr(bytes.bytes, 0, bytes.size)) != NULL) {
        struct slice before = slice_of(bytes.bytes, (size_t)(nul - bytes.bytes));
        outbox_write_ref(&session->outbox, before, owner);
        outbox_write(&session->outbox, slice_of("\200", 1));
        bytes = slice_from(bytes, before.size + 1);
    }
    outbox_write_ref(&session->outbox, bytes, owner);
}

int fetch_literal(struct fetch *fetch)
{
    struct imap_session *session = fetch->session;
    while (fetch->range.bytes > 0) {
        struct slice bytes;
        struct ref *owner;
        if (outbox_is_full(&session->outbox)) {
            return -E2BIG;
        }
        int status = piece_read(fetch, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        piece_send(session, bytes, owner);
        ref_drop(owner);
    }
    return 0;
}

int fetch_load(struct fetch *fetch)
{
    if (fetch->gathered == NULL) {
        if (fetch->range.bytes > FETCH_GATHERED_BYTES_MAX) {
            fetch->range.bytes = FETCH_GATHERED_BYTES_MAX;
        }
        fetch->gathered = (uint8_t *)malloc((size_t)fetch->range.bytes + 1);
        fetch->gathered_bytes = 0;
        if (fetch->gathered == NULL) {
            return -ENOMEM;
        }
    }
    while (fetch->range.bytes > 0) {
        struct slice bytes;
        struct ref *owner;
        int status = piece_read(fetch, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        memcpy(fetch->gathered + fetch->gathered_bytes, bytes.bytes, bytes.size);
        fetch->gathered_bytes += (uint32_t)bytes.size;
        ref_drop(owner);
    }
    return 0;
}

int fetch_count(struct fetch *fetch)
{
    for (size_t done = 0; fetch->range.bytes > 0;) {
        struct slice bytes;
        struct ref *owner;
        if (done >= SCAN_BYTES_A_STEP) {
            return -E2BIG;
        }
        int status = piece_read(fetch, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        fetch->decoded_bytes += section_binary_bytes(&fetch->decoder, bytes);
        done += bytes.size;
        ref_drop(owner);
    }
    fetch->decoded_bytes += section_binary_end(&fetch->decoder);
    return 0;
}

/* Of what is decoded, those that the client wants. */
static void decoded_send(struct fetch *fetch, struct slice bytes)
{
    size_t skipped = fetch->skip < bytes.size ? (size_t)fetch->skip : bytes.size;
    fetch->skip -= skipped;
    bytes = slice_from(bytes, skipped);
    bytes = slice_first(bytes, fetch->left < bytes.size ? (size_t)fetch->left : bytes.size);
    fetch->left -= bytes.size;
    outbox_write(&fetch->session->outbox, bytes);
}

int fetch_decoded(struct fetch *fetch)
{
    uint8_t decoded[4096];
    while (fetch->range.bytes > 0) {
        struct slice bytes;
        struct ref *owner;
        if (outbox_is_full(&fetch->session->outbox)) {
            return -E2BIG;
        }
        int status = piece_read(fetch, &bytes, &owner);
        if (status != 0) {
            return status;
        }
        while (bytes.size > 0) {
            size_t size = transfer_decode(&fetch->decoder, &bytes, decoded, sizeof(decoded));
            decoded_send(fetch, slice_of(decoded, size));
        }
        ref_drop(owner);
    }
    decoded_send(fetch, slice_of(decoded, transfer_close(&fetch->decoder, decoded)));
    check(fetch->left == 0);
    return 0;
}

void fetch_message_end(struct fetch *fetch)
{
    if (fetch->scanning) {
        structure_abort(&fetch->structure);
        fetch->scanning = false;
    }
    imap_text_close(&fetch->text);
    fetch->text_open = false;
    fetch->root = NULL;
    fetch->scanned = 0;
    arena_reset(&fetch->arena);
    free(fetch->gathered);
    fetch->gathered = NULL;
    fetch->gathered_bytes = 0;
}
