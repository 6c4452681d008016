#include "engine/conf/match_rows.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int match_rows_index(struct match_index **index, const struct match_rows *rows,
                     struct reader *reader)
{
    struct match_problem problem = {.rows = rows->rows};
    const char **matches = calloc((size_t)rows->count + 1, sizeof *matches);
    if (matches == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        const char *row = (const char *)rows->first + i * rows->row_bytes;
        memcpy(&matches[i], row + rows->match_offset, sizeof matches[i]);
    }
    int status = match_index_open(index, matches, rows->count, &problem);
    free(matches);
    if (status == -EINVAL && reader != NULL) {
        char key[64];
        snprintf(key, sizeof key, "%s[%u].%s", rows->rows, problem.row, rows->member);
        reader_problem(reader, key, "%s", problem.text);
        return 0;
    }
    return status;
}
