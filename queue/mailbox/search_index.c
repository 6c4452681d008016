#include "queue/mailbox/search_index.h"
#include "engine/core/check.h"
#include "queue/mailbox/checked_vfs.h"
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <unistr.h>

#define VERSION 2u /* of the tables: another one is made anew */
#define BUSY_MS 2000
#define TRIGRAM 3u

/* `texts` says what is there; a row of `words` that it does not have was dropped: a table without content cannot
 * forget. columnsize, which only ranking needs, would make it a fifth larger. */
#define SCHEMA                                                                                     \
    "CREATE TABLE texts(id INTEGER PRIMARY KEY, cut INTEGER NOT NULL);"                            \
    "CREATE INDEX texts_cut ON texts(id) WHERE cut;"                                               \
    "CREATE TABLE dropped(count INTEGER NOT NULL);"                                                \
    "INSERT INTO dropped VALUES(0);"                                                               \
    "CREATE VIRTUAL TABLE words USING fts5(header, body, tokenize='trigram', content='',"          \
    " detail=column, columnsize=0);"

/* A journal that is always there: one that is missing was taken away, and with it perhaps the half of a change. */
#define SETTINGS                                                                                   \
    "PRAGMA page_size = 4096; PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = NORMAL;"

/* The plus keeps SQLite from asking FTS5 once for each text. */
#define FIND_TEXT                                                                                  \
    "SELECT rowid FROM words WHERE words MATCH ?1 AND +rowid IN (SELECT id FROM texts)"            \
    " UNION SELECT id FROM texts WHERE cut ORDER BY 1"

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    TEXT_ADD,
    WORDS_ADD,
    TEXT_DROP,
    DROPPED_ADD,
    EACH,
    FIND,
    COUNTS,
    STATEMENTS
};
static const char *const statement_texts[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [TEXT_ADD] = "INSERT OR IGNORE INTO texts VALUES(?1, ?2)",
    [WORDS_ADD] = "INSERT INTO words(rowid, header, body) VALUES(?1, ?2, ?3)",
    [TEXT_DROP] = "DELETE FROM texts WHERE id = ?1",
    [DROPPED_ADD] = "UPDATE dropped SET count = count + ?1",
    [EACH] = "SELECT id FROM texts ORDER BY id",
    [FIND] = FIND_TEXT,
    [COUNTS] = "SELECT (SELECT count(*) FROM texts), (SELECT count FROM dropped)",
};

struct search_index {
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENTS];
    int version; /* of tables and texts */
    char path[];
};

static int errno_of(int status)
{
    switch (status & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return 0;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return -EACCES;
    case SQLITE_CANTOPEN:
        return -ENOENT;
    default:
        return -EIO;
    }
}

/* ---- Opening ---- */

static void database_close(struct search_index *index)
{
    for (unsigned i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(index->statements[i]);
        index->statements[i] = NULL;
    }
    sqlite3_close(index->database);
    index->database = NULL;
}

static int version_take(void *version, int count, char **values, char **names)
{
    (void)names;
    *(int *)version = count == 1 && values[0] != NULL ? atoi(values[0]) : -1;
    return 0;
}

static int execute(struct search_index *index, const char *text)
{
    return sqlite3_exec(index->database, text, NULL, NULL, NULL);
}

static int tables_make(struct search_index *index)
{
    char version[64];
    snprintf(version, sizeof(version), "PRAGMA user_version = %d;", index->version);
    int status = execute(index, "BEGIN IMMEDIATE;" SCHEMA);
    status = status == SQLITE_OK ? execute(index, version) : status;
    return status == SQLITE_OK ? execute(index, "COMMIT;") : status;
}

/* A status of SQLite's. SQLITE_NOTADB: it is none of ours, or no more. */
static int database_open(struct search_index *index)
{
    int version = -1;
    const char *vfs = checked_vfs_name();
    if (vfs == NULL) {
        return SQLITE_NOMEM;
    }
    int status =
        sqlite3_open_v2(index->path, &index->database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, vfs);
    status = status == SQLITE_OK ? checked_vfs_begin(index->database) : status;
    if (status == SQLITE_OK) {
        sqlite3_extended_result_codes(index->database, 1);
        sqlite3_busy_timeout(index->database, BUSY_MS);
        status = execute(index, SETTINGS);
    }
    if (status == SQLITE_OK) {
        status = sqlite3_exec(index->database, "PRAGMA user_version", version_take, &version, NULL);
    }
    if (status == SQLITE_OK && version == 0) {
        status = tables_make(index);
    } else if (status == SQLITE_OK && version != index->version) {
        status = SQLITE_NOTADB;
    }
    for (unsigned i = 0; i < STATEMENTS && status == SQLITE_OK; i++) {
        status = sqlite3_prepare_v3(index->database, statement_texts[i], -1,
                                    SQLITE_PREPARE_PERSISTENT, &index->statements[i], NULL);
    }
    return status;
}

/* With what SQLite keeps beside it. */
static void files_remove(const struct search_index *index)
{
    static const char *const beside[] = {"", "-wal", "-shm", "-journal"};
    char path[4096];
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
        if ((size_t)snprintf(path, sizeof(path), "%s%s", index->path, beside[i]) < sizeof(path)) {
            unlink(path);
        }
    }
}

static bool is_spoilt(int status)
{
    int what = status & 0xff;
    return what == SQLITE_CORRUPT || what == SQLITE_NOTADB || status == SQLITE_IOERR_READ ||
           status == SQLITE_IOERR_SHORT_READ;
}

static bool exists(const struct search_index *index, const char *end)
{
    char path[4096];
    return (size_t)snprintf(path, sizeof(path), "%s%s", index->path, end) < sizeof(path) &&
           access(path, F_OK) == 0;
}

static int database_renew(struct search_index *index)
{
    database_close(index);
    files_remove(index);
    return database_open(index);
}

/* Never 0, which is that of a file without tables. */
static int version_of(uint32_t texts)
{
    return (int)(((texts * 31u + VERSION) & 0x7fffffffu) | 0x40000000u);
}

int search_index_open(struct search_index **opened, const char *path, uint32_t version)
{
    struct search_index *index = calloc(1, sizeof(*index) + strlen(path) + 1);
    if (index == NULL) {
        return -ENOMEM;
    }
    strcpy(index->path, path);
    index->version = version_of(version);
    if (exists(index, "") && !exists(index, "-journal")) {
        files_remove(index);
    }
    int status = database_open(index);
    if (is_spoilt(status) || (status & 0xff) == SQLITE_ERROR) { /* ERROR: tables are missing */
        status = database_renew(index);
    }
    if (status != SQLITE_OK) {
        search_index_close(index);
        return errno_of(status);
    }
    *opened = index;
    return 0;
}

void search_index_close(struct search_index *index)
{
    if (index != NULL) {
        database_close(index);
        free(index);
    }
}

int search_index_renew(struct search_index *index)
{
    return errno_of(database_renew(index));
}

/* What was found to be spoilt in use is made anew, and the caller told -EIO: he asks again, of an empty one. A
 * database that cannot even be made anew answers so until it can. */
static int answer(struct search_index *index, int status)
{
    if (is_spoilt(status)) {
        database_renew(index);
        return -EIO;
    }
    return errno_of(status);
}

/* ---- One statement ---- */

static int ready(const struct search_index *index)
{
    return index->database != NULL && index->statements[STATEMENTS - 1] != NULL ? SQLITE_OK
                                                                                : SQLITE_IOERR;
}

/* Runs to its end, and is ready for another time. */
static int run(struct search_index *index, enum statement which)
{
    sqlite3_stmt *statement = index->statements[which];
    int status = sqlite3_step(statement);
    int end = sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return status == SQLITE_DONE || status == SQLITE_ROW ? SQLITE_OK : end;
}

static int visit_rows(struct search_index *index, enum statement which,
                      void (*visit)(void *owner, uint64_t id), void *owner)
{
    sqlite3_stmt *statement = index->statements[which];
    int status;
    while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
        visit(owner, (uint64_t)sqlite3_column_int64(statement, 0));
    }
    int end = sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return status == SQLITE_DONE ? SQLITE_OK : end;
}

/* ---- Adding and dropping ---- */

/* FTS5 reads no further than a NUL. */
static int text_bind(sqlite3_stmt *statement, int at, struct slice text)
{
    text = slice_first(text, SEARCH_INDEX_TEXT_MAX);
    if (text.size == 0 || memchr(text.bytes, '\0', text.size) == NULL) {
        return sqlite3_bind_text(statement, at, text.size == 0 ? "" : (const char *)text.bytes,
                                 (int)text.size, SQLITE_STATIC);
    }
    char *copy = malloc(text.size);
    if (copy == NULL) {
        return SQLITE_NOMEM;
    }
    for (size_t i = 0; i < text.size; i++) {
        copy[i] = text.bytes[i] == '\0' ? ' ' : (char)text.bytes[i];
    }
    return sqlite3_bind_text(statement, at, copy, (int)text.size, free);
}

static int text_add(struct search_index *index, const struct search_text *text)
{
    bool cut = text->cut || text->header.size > SEARCH_INDEX_TEXT_MAX ||
               text->body.size > SEARCH_INDEX_TEXT_MAX;
    sqlite3_bind_int64(index->statements[TEXT_ADD], 1, (sqlite3_int64)text->id);
    sqlite3_bind_int(index->statements[TEXT_ADD], 2, cut);
    int status = run(index, TEXT_ADD);
    if (status != SQLITE_OK || sqlite3_changes(index->database) == 0) {
        return status;
    }
    sqlite3_stmt *words = index->statements[WORDS_ADD];
    sqlite3_bind_int64(words, 1, (sqlite3_int64)text->id);
    status = text_bind(words, 2, text->header);
    status = status == SQLITE_OK ? text_bind(words, 3, text->body) : status;
    if (status != SQLITE_OK) {
        sqlite3_clear_bindings(words);
        return status;
    }
    return run(index, WORDS_ADD);
}

static int text_drop(struct search_index *index, uint64_t id)
{
    sqlite3_bind_int64(index->statements[TEXT_DROP], 1, (sqlite3_int64)id);
    int status = run(index, TEXT_DROP);
    if (status == SQLITE_OK) {
        sqlite3_bind_int(index->statements[DROPPED_ADD], 1, sqlite3_changes(index->database));
        status = run(index, DROPPED_ADD);
    }
    return status;
}

static int transaction_end(struct search_index *index, int status)
{
    status = status == SQLITE_OK ? run(index, COMMIT) : status;
    if (status != SQLITE_OK && !sqlite3_get_autocommit(index->database)) {
        run(index, ROLLBACK);
    }
    return answer(index, status);
}

int search_index_add(struct search_index *index, const struct search_text *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (texts[i].id > INT64_MAX) {
            return -EINVAL;
        }
    }
    int status = ready(index);
    status = status == SQLITE_OK ? run(index, BEGIN) : status;
    for (size_t i = 0; i < count && status == SQLITE_OK; i++) {
        status = text_add(index, &texts[i]);
    }
    return transaction_end(index, status);
}

int search_index_drop(struct search_index *index, const uint64_t *ids, size_t count)
{
    int status = ready(index);
    status = status == SQLITE_OK ? run(index, BEGIN) : status;
    for (size_t i = 0; i < count && status == SQLITE_OK; i++) {
        status = ids[i] > INT64_MAX ? SQLITE_OK : text_drop(index, ids[i]);
    }
    return transaction_end(index, status);
}

/* ---- Asking ---- */

int search_index_each(struct search_index *index, void (*visit)(void *owner, uint64_t id),
                      void *owner)
{
    int status = ready(index);
    return answer(index, status == SQLITE_OK ? visit_rows(index, EACH, visit, owner) : status);
}

/* Of what is well-formed. */
static size_t character_bytes(struct slice text)
{
    int bytes = u8_mblen(text.bytes, text.size);
    check(bytes > 0 || text.bytes[0] == '\0');
    return bytes > 0 ? (size_t)bytes : 1;
}

/* Every trigram of the words, each as a string of FTS5's language: `{header body} : ("abc" AND "bcd")`. 0: there is none.
 * Every character of the words takes part, so that what FTS5 makes of it is in every text that holds the words. */
static size_t query_make(struct slice words, unsigned where, char *query)
{
    size_t used =
        (size_t)sprintf(query, "{%s%s} : (", (where & SEARCH_IN_HEADER) != 0 ? "header " : "",
                        (where & SEARCH_IN_BODY) != 0 ? "body" : "");
    size_t sizes[TRIGRAM] = {0}, count = 0;
    for (size_t at = 0; at < words.size; at += sizes[TRIGRAM - 1]) {
        memmove(sizes, sizes + 1, sizeof(sizes) - sizeof(sizes[0]));
        sizes[TRIGRAM - 1] = character_bytes(slice_from(words, at));
        if (++count < TRIGRAM) {
            continue;
        }
        size_t end = at + sizes[TRIGRAM - 1];
        used += (size_t)sprintf(query + used, "%s\"", count > TRIGRAM ? " AND " : "");
        for (size_t i = at - sizes[0] - sizes[1]; i < end; i++) {
            query[used++] = words.bytes[i] == '\0' ? ' ' : (char)words.bytes[i];
            if (words.bytes[i] == '"') {
                query[used++] = '"';
            }
        }
        query[used++] = '"';
    }
    query[used++] = ')';
    return count < TRIGRAM ? 0 : used;
}

/* Whole characters of the beginning: what is left off makes more candidates, not fewer. */
static struct slice words_bound(struct slice words)
{
    size_t size = words.size < SEARCH_INDEX_WORDS_MAX ? words.size : SEARCH_INDEX_WORDS_MAX;
    while (size < words.size && size > 0 && (words.bytes[size] & 0xc0) == 0x80) {
        size--;
    }
    return slice_first(words, size);
}

int search_index_find(struct search_index *index, struct slice words, unsigned where,
                      void (*visit)(void *owner, uint64_t id), void *owner)
{
    check((where & ~3u) == 0 && where != 0);
    words = words_bound(words);
    if (words.size > 0 && u8_check(words.bytes, words.size) != NULL) {
        return -ENOENT;
    }
    /* For each character a trigram at most, all of it quotes, and what stands around it. */
    char *query = malloc(64 + words.size * (TRIGRAM * 4 * 2 + 8));
    if (query == NULL) {
        return -ENOMEM;
    }
    size_t size = query_make(words, where, query);
    int status = ready(index);
    if (size > 0 && status == SQLITE_OK) {
        status = sqlite3_bind_text(index->statements[FIND], 1, query, (int)size, SQLITE_STATIC);
        status = status == SQLITE_OK ? visit_rows(index, FIND, visit, owner) : status;
    }
    free(query);
    return size == 0 ? -ENOENT : answer(index, status);
}

int search_index_facts(struct search_index *index, struct search_index_facts *facts)
{
    *facts = (struct search_index_facts){0};
    int status = ready(index);
    if (status == SQLITE_OK) {
        sqlite3_stmt *statement = index->statements[COUNTS];
        status = sqlite3_step(statement);
        if (status == SQLITE_ROW) {
            facts->texts = (uint64_t)sqlite3_column_int64(statement, 0);
            facts->dropped = (uint64_t)sqlite3_column_int64(statement, 1);
        }
        sqlite3_reset(statement);
    }
    return answer(index, status);
}
