/* Maps in SQLite: a file says where the database is and what to ask (sqlite_table(5) of Postfix). */
#include "engine/core/list.h"
#include "engine/lookup/query.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define BUSY_MS 2000

struct map_source {
    struct query_file file;
    const char *path;
    sqlite3 *database; /* NULL: to be opened */
};

static void sqlite_map_close(struct map_source *source)
{
    sqlite3_close(source->database); /* NULL is fine */
    query_file_close(&source->file);
    free(source);
}

static int sqlite_settings(struct query_file *file, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = list_entry(file, struct map_source, file);
    return query_file_required(file, "dbpath", &source->path, problem);
}

static int sqlite_map_open(struct map_source **made, const char *where,
                           char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = calloc(1, sizeof(*source));
    int status = source == NULL
                     ? -ENOMEM
                     : query_file_open(&source->file, where, "query", sqlite_settings, problem);
    if (status < 0) {
        free(source);
        return status;
    }
    *made = source;
    return 0;
}

/* SQL's own way: a quote is doubled. */
static size_t quote_double(void *owner, char *to, size_t room, struct slice from)
{
    size_t used = 0;
    (void)owner;
    for (size_t i = 0; i < from.size; i++) {
        if (used + 2 > room) {
            return SIZE_MAX;
        }
        to[used++] = (char)from.bytes[i];
        if (from.bytes[i] == '\'') {
            to[used++] = '\'';
        }
    }
    return used;
}

static bool database_open(struct map_source *source)
{
    if (source->database != NULL) {
        return true;
    }
    int status = sqlite3_open_v2(source->path, &source->database,
                                 SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (status != SQLITE_OK) {
        sqlite3_close(source->database);
        source->database = NULL;
        return false;
    }
    sqlite3_busy_timeout(source->database, BUSY_MS);
    return true;
}

static void rows_take(struct map_source *source, sqlite3_stmt *statement, struct slice key,
                      struct map_result *result)
{
    unsigned count = 0;
    int status;
    map_absent(result);
    while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const unsigned char *text = sqlite3_column_text(statement, i);
            size_t bytes = (size_t)sqlite3_column_bytes(statement, i);
            query_value(&source->file.query, key, slice_of(text, text == NULL ? 0 : bytes), &count,
                        result);
        }
    }
    if (status != SQLITE_DONE) {
        map_failed(result, "%.100s: %.100s", source->path, sqlite3_errmsg(source->database));
    }
}

static void sqlite_map_find(struct map_source *source, struct slice key, struct map_result *result)
{
    char question[QUERY_BYTES_MAX];
    sqlite3_stmt *statement;
    if (!query_wanted(&source->file.query, key)) {
        map_absent(result);
        return;
    }
    if (query_make(&source->file.query, key, quote_double, NULL, question) < 0) {
        map_failed(result, "the question is too long");
        return;
    }
    if (!database_open(source)) {
        map_failed(result, "%.150s: cannot be opened", source->path);
        return;
    }
    if (sqlite3_prepare_v2(source->database, question, -1, &statement, NULL) != SQLITE_OK) {
        map_failed(result, "%.100s: %.100s", source->path, sqlite3_errmsg(source->database));
        sqlite3_close(source->database); /* the file may have been replaced: begin anew */
        source->database = NULL;
        return;
    }
    rows_take(source, statement, key, result);
    sqlite3_finalize(statement);
}

const struct map_kind map_sqlite = {
    .name = "sqlite", .open = sqlite_map_open, .close = sqlite_map_close, .find = sqlite_map_find};
