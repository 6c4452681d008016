/*
 * imap_cache: what IMAP keeps of a text with the store's index (mailstore_cache_*), by its kind.
 *
 * All of it is computed again when it is not there.
 */
#pragma once

enum imap_cache {
    /* Of these three with room for the form in which UTF-8 is quoted. */
    IMAP_CACHE_ENVELOPE = 2,
    IMAP_CACHE_BODY = 4,
    IMAP_CACHE_BODYSTRUCTURE = 6,
    IMAP_CACHE_PREVIEW = 8,
    IMAP_CACHE_FIELDS =
        9, /* of the header, those that are searched and sorted by; as they stand there */
};
