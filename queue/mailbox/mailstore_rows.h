/*
 * mailstore_rows: rows in memory, by key in order of bytes: those that the index does not have yet. A row may say that
 * there is none. A skip list. Used by mailstore_index; mailstore_check takes the order of keys from here.
 */
#pragma once
#include "engine/core/slice.h"

#define ROW_LEVELS 10u

struct row {
    uint8_t *value; /* of the heap */
    uint32_t value_bytes, value_room;
    uint16_t key_bytes;
    uint8_t levels;
    bool gone;
    struct row *next[]; /* then the key */
};
struct row_table {
    struct row *first[ROW_LEVELS], *last;
    uint32_t count, random;
    size_t bytes;
};

void row_table_clear(struct row_table *table);
/* The first `most` of its rows go. */
void row_table_shrink(struct row_table *table, uint32_t most);
struct slice row_key(const struct row *row);
struct row *row_find(const struct row_table *table, struct slice key);
/* The first one at or behind the key. NULL: none. */
struct row *row_from(const struct row_table *table, struct slice key);
/* 0 or -ENOMEM: nothing was changed. `gone`: there is no such row. */
int row_put(struct row_table *table, struct slice key, struct slice value, bool gone);
/* < 0, 0, > 0 */
int row_key_order(struct slice a, struct slice b);
