#include "queue/mailbox/mailstore_rows.h"
#include <errno.h>
#include <stdlib.h>

struct slice row_key(const struct row *row)
{
    return slice_of(&row->next[row->levels], row->key_bytes);
}

int row_key_order(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size > 0 ? memcmp(a.bytes, b.bytes, size) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* Where the links lie that lead to the first row at or behind the key, on each level. */
static struct row *row_seek(const struct row_table *table, struct slice key, struct row ***links)
{
    struct row **row = (struct row **)(uintptr_t)table->first;
    for (uint32_t level = ROW_LEVELS; level-- > 0;) {
        while (row[level] != NULL && row_key_order(row_key(row[level]), key) < 0) {
            row = row[level]->next;
        }
        if (links != NULL) {
            links[level] = &row[level];
        }
    }
    return row[0];
}

/* All rows are before the key. Who fills a table in the order of keys asks for nothing else, and for rows of kinds that
 * are not in it: some 25 comparisons each without this. */
static bool is_behind(const struct row_table *table, struct slice key)
{
    return table->last == NULL || row_key_order(row_key(table->last), key) < 0;
}

struct row *row_from(const struct row_table *table, struct slice key)
{
    return is_behind(table, key) ? NULL : row_seek(table, key, NULL);
}

struct row *row_find(const struct row_table *table, struct slice key)
{
    struct row *row = row_from(table, key);
    return row != NULL && slice_equal(row_key(row), key) ? row : NULL;
}

static int value_set(struct row_table *table, struct row *row, struct slice value, bool gone)
{
    if (value.size > row->value_room) {
        size_t room = value.size + value.size / 4;
        uint8_t *grown = (uint8_t *)realloc(row->value, room);
        if (grown == NULL) {
            return -ENOMEM;
        }
        table->bytes += room - row->value_room;
        row->value = grown;
        row->value_room = (uint32_t)room;
    }
    if (value.size > 0) {
        memmove(row->value, value.bytes, value.size);
    }
    row->value_bytes = (uint32_t)value.size;
    row->gone = gone;
    return 0;
}

/* Each level has a quarter of the one below. */
static uint32_t levels_choose(struct row_table *table)
{
    uint32_t levels = 1;
    table->random = table->random * 1664525u + 1013904223u;
    for (uint32_t bits = table->random >> 8; levels < ROW_LEVELS && (bits & 3) == 0; bits >>= 2) {
        levels++;
    }
    return levels;
}

int row_put(struct row_table *table, struct slice key, struct slice value, bool gone)
{
    struct row **links[ROW_LEVELS];
    struct row *row = row_seek(table, key, links);
    if (row != NULL && slice_equal(row_key(row), key)) {
        return value_set(table, row, value, gone);
    }
    uint32_t levels = levels_choose(table);
    size_t bytes = sizeof(*row) + levels * sizeof(row->next[0]) + key.size;
    row = (struct row *)calloc(1, bytes);
    if (row == NULL) {
        return -ENOMEM;
    }
    row->levels = (uint8_t)levels;
    row->key_bytes = (uint16_t)key.size;
    memcpy(&row->next[levels], key.bytes, key.size);
    if (value_set(table, row, value, gone) != 0) {
        free(row);
        return -ENOMEM;
    }
    for (uint32_t level = 0; level < levels; level++) {
        row->next[level] = *links[level];
        *links[level] = row;
    }
    table->last = row->next[0] == NULL ? row : table->last;
    table->count++;
    table->bytes += bytes;
    return 0;
}

static size_t row_free(struct row *row)
{
    size_t bytes = sizeof(*row) + row->levels * sizeof(row->next[0]) + row->key_bytes;
    bytes += row->value_room;
    free(row->value);
    free(row);
    return bytes;
}

void row_table_shrink(struct row_table *table, uint32_t most)
{
    struct row *row;
    for (uint32_t i = 0; i < most && (row = table->first[0]) != NULL; i++) {
        for (uint32_t level = 0; level < row->levels; level++) {
            table->first[level] = row->next[level];
        }
        table->bytes -= row_free(row);
        table->count--;
    }
    table->last = table->first[0] != NULL ? table->last : NULL;
}

void row_table_clear(struct row_table *table)
{
    for (struct row *row = table->first[0], *next; row != NULL; row = next) {
        next = row->next[0];
        row_free(row);
    }
    *table = (struct row_table){.random = table->random};
}
