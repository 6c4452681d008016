/*
 * The fields of a header that are searched and sorted by most are kept with the store's index, all of their lines as they
 * stand in the message and in their order: a small header of its own, of which the same is said as of the whole one.
 */
#include "engine/mailbox/imap_search.h"
#include "proto/message/header.h"
#include <stdlib.h>

/* Of one message; of longer ones nothing is kept, and they are read each time. A row that is longer than half of a page of
 * LMDB takes pages of its own: this fits one. */
#define FIELDS_BYTES_MAX 4000u

static const char *const kept[] = {
    "Date", "Subject", "From", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References",
};

bool search_field_is_kept(struct slice name)
{
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (slice_equal_nocase(name, slice_text(kept[i]))) {
            return true;
        }
    }
    return false;
}

static bool key_wants(const struct imap_search_key *key)
{
    switch ((enum imap_search_kind)key->kind) {
    case IMAP_SEARCH_AND:
    case IMAP_SEARCH_OR:
    case IMAP_SEARCH_NOT: {
        uint32_t count = key->kind == IMAP_SEARCH_NOT ? 1 : key->count;
        for (uint32_t i = 0; i < count; i++) {
            if (key_wants(&key->keys[i])) {
                return true;
            }
        }
        return false;
    }
    case IMAP_SEARCH_FROM:
    case IMAP_SEARCH_TO:
    case IMAP_SEARCH_CC:
    case IMAP_SEARCH_BCC:
    case IMAP_SEARCH_SUBJECT:
    case IMAP_SEARCH_SENTBEFORE:
    case IMAP_SEARCH_SENTON:
    case IMAP_SEARCH_SENTSINCE:
        return true;
    case IMAP_SEARCH_HEADER:
        return search_field_is_kept(key->name);
    default:
        return false;
    }
}

bool search_fields_wanted(const struct search *search)
{
    return (search->sorting != NULL && sorting_needs_header(search)) ||
           key_wants(&search->command->search.key);
}

static bool room_make(struct search *search)
{
    if (search->fields == NULL) {
        search->fields = (uint8_t *)malloc(FIELDS_BYTES_MAX);
    }
    return search->fields != NULL;
}

bool search_fields_find(struct search *search)
{
    struct slice value;
    if (mailstore_cache_get(imap_session_store(search->session), search->entry.text,
                            IMAP_CACHE_FIELDS, &value) != 0 ||
        value.size > FIELDS_BYTES_MAX || !room_make(search)) {
        return false;
    }
    if (value.size > 0) {
        memcpy(search->fields, value.bytes, value.size);
    }
    search->fields_bytes = (uint32_t)value.size;
    return true;
}

void search_fields_keep(struct search *search)
{
    struct slice rest = search_header(search);
    struct header_field field;
    uint32_t bytes = 0;
    if (!room_make(search)) {
        return;
    }
    while (header_next(&rest, &field)) {
        if (!search_field_is_kept(field.name)) {
            continue;
        }
        if (field.whole.size > FIELDS_BYTES_MAX - bytes) {
            return;
        }
        memcpy(search->fields + bytes, field.whole.bytes, field.whole.size);
        bytes += (uint32_t)field.whole.size;
    }
    mailstore_cache_put(imap_session_store(search->session), search->entry.text, IMAP_CACHE_FIELDS,
                        slice_of(search->fields, bytes));
}
