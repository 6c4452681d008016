/*
 * match_rows: the index of rows of a configuration by what they match (match_index.h), and what is wrong with them.
 *
 * For route_conf.c and priority_conf.c alone.
 */
#pragma once
#include "engine/conf/match_index.h"
#include "engine/conf/reader.h"

struct match_rows {
    const char *rows, *member; /* "routes", "match": as messages name them */
    const void *first;         /* of the rows */
    size_t row_bytes;
    size_t match_offset; /* of the text in a row, a const char * */
    uint32_t count;
};

/* 0, also when the reader's report says what is wrong; -ENOMEM. Without a reader (NULL) that is -EINVAL. */
int match_rows_index(struct match_index **index, const struct match_rows *rows,
                     struct reader *reader);
