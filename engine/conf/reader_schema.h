/*
 * reader_schema: from a table of keys to libcyaml's schema, and from a YAML text to raw values.
 *
 * Each key becomes a slot: a text, or an array of texts, or slots of the keys below it. What
 * libcyaml says of a file that does not fit is put into our words.
 */
#pragma once
#include "engine/conf/reader.h"

struct raw_slot {
    void *value; /* READER_SECTION: raw_slot[keys]; READER_ROWS: raw_slot[count][keys]; READER_LIST:
                    char *[count]; otherwise char *. NULL: absent */
    uint32_t count;
};

struct raw_document; /* what libcyaml has read */

/* 0 with *slots (NULL when the text says nothing), -EINVAL with the report, -ENOMEM. Closed in any
 * case. */
int raw_document_load(struct raw_document **document, struct reader *reader,
                      const struct reader_key *keys, const char *text, size_t size,
                      const struct raw_slot **slots);
void raw_document_close(struct raw_document *document);

unsigned reader_keys_count(const struct reader_key *keys);
