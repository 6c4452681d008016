/* What each item of FETCH says (RFC 9051 §7.5.2). */
#include "engine/mailbox/imap_fetch.h"
#include <stdio.h>
#include <stdlib.h>

void fetch_flags_write(struct fetch *fetch, bool modseq)
{
    imap_write(&fetch->writer, "FLAGS ");
    imap_flags_write(&fetch->writer, fetch->session->view.box, &fetch->entry);
    if (modseq && imap_session_has(fetch->session, IMAP_ENABLED_CONDSTORE | IMAP_ENABLED_QRESYNC)) {
        imap_write(&fetch->writer, " MODSEQ (");
        imap_write_number(&fetch->writer, fetch->entry.modseq);
        imap_write(&fetch->writer, ")");
    }
}

static void object_id_write(struct imap_writer *writer, const char *word, char kind, uint64_t id)
{
    char text[48];
    snprintf(text, sizeof(text), "%s (%c%016llx)", word, kind, (unsigned long long)id);
    imap_write(writer, text);
}

static void thread_write(struct fetch *fetch)
{
    uint64_t thread;
    if (mailstore_thread(imap_session_store(fetch->session), fetch->session->view.box,
                         fetch->entry.uid, &thread) == 0) {
        object_id_write(&fetch->writer, "THREADID", 'T', thread);
    } else {
        imap_write(&fetch->writer, "THREADID NIL");
    }
}

/* ---- BODY[section] ---- */

void fetch_section_name_write(struct imap_writer *writer, const struct imap_section *section)
{
    static const char *const texts[] = {
        [IMAP_SECTION_ALL] = "",
        [IMAP_SECTION_HEADER] = "HEADER",
        [IMAP_SECTION_HEADER_FIELDS] = "HEADER.FIELDS",
        [IMAP_SECTION_HEADER_FIELDS_NOT] = "HEADER.FIELDS.NOT",
        [IMAP_SECTION_TEXT] = "TEXT",
        [IMAP_SECTION_MIME] = "MIME",
    };
    for (uint32_t i = 0; i < section->part_count; i++) {
        imap_write(writer, i > 0 ? "." : "");
        imap_write_number(writer, section->parts[i]);
    }
    imap_write(writer, section->part_count > 0 && section->text != IMAP_SECTION_ALL ? "." : "");
    imap_write(writer, texts[section->text]);
    if (section->text == IMAP_SECTION_HEADER_FIELDS ||
        section->text == IMAP_SECTION_HEADER_FIELDS_NOT) {
        imap_write(writer, " (");
        for (uint32_t i = 0; i < section->fields.count; i++) {
            imap_write(writer, i > 0 ? " " : "");
            imap_write_astring(writer, section->fields.items[i]);
        }
        imap_write(writer, ")");
    }
}

static void item_name_write(struct fetch *fetch, const struct imap_fetch_item *item,
                            const char *word)
{
    imap_write(&fetch->writer, word);
    imap_write(&fetch->writer, "[");
    fetch_section_name_write(&fetch->writer, &item->section);
    imap_write(&fetch->writer, "]");
    if (item->partial) {
        imap_write(&fetch->writer, "<");
        imap_write_number(&fetch->writer, item->partial_first);
        imap_write(&fetch->writer, ">");
    }
    imap_write(&fetch->writer, " ");
}

bool fetch_section_find(const struct fetch *fetch, const struct imap_section *section,
                        struct section_range *range)
{
    static const enum section_text texts[] = {
        [IMAP_SECTION_ALL] = SECTION_ALL,
        [IMAP_SECTION_HEADER] = SECTION_HEADER,
        [IMAP_SECTION_HEADER_FIELDS] = SECTION_HEADER,
        [IMAP_SECTION_HEADER_FIELDS_NOT] = SECTION_HEADER,
        [IMAP_SECTION_TEXT] = SECTION_TEXT,
        [IMAP_SECTION_MIME] = SECTION_MIME,
    };
    if (section->part_count == 0 && section->text == IMAP_SECTION_ALL) {
        *range = (struct section_range){0, fetch->text.text.bytes};
        return true;
    }
    return section_find(fetch->root, section->parts, section->part_count, texts[section->text],
                        range);
}

/* A literal of fetch->range. */
static enum fetch_phase literal_begin(struct fetch *fetch, const struct imap_fetch_item *item)
{
    if (item->partial) {
        fetch->range = section_partial(fetch->range, item->partial_first, item->partial_bytes);
    }
    imap_write_literal_head(&fetch->writer, fetch->range.bytes);
    return FETCH_LITERAL;
}

static enum fetch_phase section_begin(struct fetch *fetch, const struct imap_fetch_item *item)
{
    item_name_write(fetch, item, "BODY");
    if (!fetch_section_find(fetch, &item->section, &fetch->range)) {
        imap_write(&fetch->writer, "NIL");
        return FETCH_ITEMS;
    }
    if (item->section.text == IMAP_SECTION_HEADER_FIELDS ||
        item->section.text == IMAP_SECTION_HEADER_FIELDS_NOT) {
        return FETCH_LOAD;
    }
    return literal_begin(fetch, item);
}

/* RFC822, RFC822.HEADER and RFC822.TEXT are sections by another name. */
static enum fetch_phase old_section_begin(struct fetch *fetch, const struct imap_fetch_item *item,
                                          const char *word, enum imap_section_text text)
{
    const struct imap_section section = {.text = text};
    imap_write(&fetch->writer, word);
    if (!fetch_section_find(fetch, &section, &fetch->range)) {
        imap_write(&fetch->writer, "NIL");
        return FETCH_ITEMS;
    }
    return literal_begin(fetch, item);
}

static void fields_write(struct fetch *fetch, const struct imap_fetch_item *item)
{
    struct imap_writer fields;
    const struct imap_section *section = &item->section;
    imap_writer_open(&fields, 2 * (size_t)fetch->gathered_bytes + 16);
    section_fields_write(&fields, slice_of(fetch->gathered, fetch->gathered_bytes),
                         section->fields.items, section->fields.count,
                         section->text == IMAP_SECTION_HEADER_FIELDS ? SECTION_FIELDS
                                                                     : SECTION_FIELDS_NOT);
    struct section_range range = {0, imap_writer_bytes(&fields).size};
    if (item->partial) {
        range = section_partial(range, item->partial_first, item->partial_bytes);
    }
    imap_write_literal_head(&fetch->writer, range.bytes);
    for (size_t i = 0; i < fields.size; i++) { /* only literal8 may hold it */
        fields.bytes[i] = fields.bytes[i] == '\0' ? 0x80 : fields.bytes[i];
    }
    imap_write_bytes(&fetch->writer,
                     slice_first(slice_from(imap_writer_bytes(&fields), (size_t)range.offset),
                                 (size_t)range.bytes));
    fetch->writer.failed = fetch->writer.failed || fields.failed;
    imap_writer_close(&fields);
}

enum fetch_phase fetch_item_loaded(struct fetch *fetch, const struct imap_fetch_item *item)
{
    if (item->kind == IMAP_FETCH_PREVIEW) {
        fetch_preview_loaded(fetch);
    } else {
        fields_write(fetch, item);
    }
    free(fetch->gathered);
    fetch->gathered = NULL;
    fetch->gathered_bytes = 0;
    return FETCH_ITEMS;
}

/* ---- BINARY, RFC 3516 ---- */

static enum fetch_phase binary_begin(struct fetch *fetch, const struct imap_fetch_item *item)
{
    enum transfer_encoding encoding = TRANSFER_IDENTITY;
    bool sized = item->kind == IMAP_FETCH_BINARY_SIZE;
    item_name_write(fetch, item, sized ? "BINARY.SIZE" : "BINARY");
    bool found = true;
    if (item->section.part_count == 0) {
        fetch->range = (struct section_range){0, fetch->text.text.bytes};
    } else {
        found = section_binary(fetch->root, item->section.parts, item->section.part_count,
                               &fetch->range, &encoding);
    }
    if (!found || encoding == TRANSFER_UNKNOWN) {
        fetch->binary_refused = fetch->binary_refused || found;
        imap_write(&fetch->writer, sized ? "0" : "NIL");
        return FETCH_ITEMS;
    }
    transfer_open(&fetch->decoder, encoding);
    fetch->decoded_bytes = 0;
    return FETCH_COUNT;
}

enum fetch_phase fetch_item_counted(struct fetch *fetch, const struct imap_fetch_item *item)
{
    struct section_range all = {0, fetch->decoded_bytes};
    enum transfer_encoding encoding = TRANSFER_IDENTITY;
    if (item->kind == IMAP_FETCH_BINARY_SIZE) {
        imap_write_number(&fetch->writer, fetch->decoded_bytes);
        return FETCH_ITEMS;
    }
    if (item->partial) {
        all = section_partial(all, item->partial_first, item->partial_bytes);
    }
    fetch->skip = all.offset;
    fetch->left = all.bytes;
    imap_write_literal8_head(&fetch->writer, all.bytes);
    if (item->section.part_count == 0) {
        fetch->range = (struct section_range){0, fetch->text.text.bytes};
    } else {
        section_binary(fetch->root, item->section.parts, item->section.part_count, &fetch->range,
                       &encoding);
    }
    transfer_open(&fetch->decoder, encoding);
    return FETCH_DECODED;
}

/* ---- Items ---- */

static enum fetch_phase entry_item(struct fetch *fetch, const struct imap_fetch_item *item)
{
    struct imap_writer *writer = &fetch->writer;
    const struct mailstore_entry *entry = &fetch->entry;
    if (item->kind == IMAP_FETCH_FLAGS) {
        imap_write(writer, "FLAGS ");
        imap_flags_write(writer, fetch->session->view.box, entry);
    } else if (item->kind == IMAP_FETCH_UID) {
        imap_write(writer, "UID ");
        imap_write_number(writer, entry->uid);
    } else if (item->kind == IMAP_FETCH_INTERNALDATE) {
        imap_write(writer, "INTERNALDATE ");
        imap_write_internal_date(writer, entry->internal_s, entry->zone_min);
    } else if (item->kind == IMAP_FETCH_SAVEDATE) {
        imap_write(writer, "SAVEDATE ");
        imap_write_internal_date(writer, entry->saved_s, 0);
    } else if (item->kind == IMAP_FETCH_MODSEQ) {
        imap_write(writer, "MODSEQ (");
        imap_write_number(writer, entry->modseq);
        imap_write(writer, ")");
    } else {
        imap_write(writer, "RFC822.SIZE ");
        imap_write_number(writer, entry->bytes);
    }
    return FETCH_ITEMS;
}

enum fetch_phase fetch_item_begin(struct fetch *fetch, const struct imap_fetch_item *item)
{
    switch ((enum imap_fetch_kind)item->kind) {
    case IMAP_FETCH_FLAGS:
    case IMAP_FETCH_UID:
    case IMAP_FETCH_INTERNALDATE:
    case IMAP_FETCH_SAVEDATE:
    case IMAP_FETCH_MODSEQ:
    case IMAP_FETCH_RFC822_SIZE:
        return entry_item(fetch, item);
    case IMAP_FETCH_EMAILID:
        object_id_write(&fetch->writer, "EMAILID", 'M', fetch->entry.text);
        return FETCH_ITEMS;
    case IMAP_FETCH_THREADID:
        thread_write(fetch);
        return FETCH_ITEMS;
    case IMAP_FETCH_ENVELOPE:
    case IMAP_FETCH_BODY:
    case IMAP_FETCH_BODYSTRUCTURE:
        fetch_structure_write(fetch, item);
        return FETCH_ITEMS;
    case IMAP_FETCH_PREVIEW:
        return fetch_preview_begin(fetch, item);
    case IMAP_FETCH_RFC822:
        return old_section_begin(fetch, item, "RFC822 ", IMAP_SECTION_ALL);
    case IMAP_FETCH_RFC822_HEADER:
        return old_section_begin(fetch, item, "RFC822.HEADER ", IMAP_SECTION_HEADER);
    case IMAP_FETCH_RFC822_TEXT:
        return old_section_begin(fetch, item, "RFC822.TEXT ", IMAP_SECTION_TEXT);
    case IMAP_FETCH_BODY_SECTION:
        return section_begin(fetch, item);
    case IMAP_FETCH_BINARY:
    case IMAP_FETCH_BINARY_SIZE:
        return binary_begin(fetch, item);
    }
    return FETCH_ITEMS;
}
