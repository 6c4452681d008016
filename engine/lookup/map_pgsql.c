/* Maps in PostgreSQL: a file says which servers, and what to ask (pgsql_table(5) of Postfix). */
#include "engine/core/list.h"
#include "engine/lookup/query.h"
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT "5" /* seconds, of one host */
#define QUESTION_TIMEOUT "-c statement_timeout=10000"

struct map_source {
    struct query_file file;
    const char *hosts, *user, *password, *database;
    PGconn *connection; /* NULL: to be made */
};

static void pgsql_close(struct map_source *source)
{
    PQfinish(source->connection); /* NULL is fine */
    query_file_close(&source->file);
    free(source);
}

static int pgsql_settings(struct query_file *file, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = list_entry(file, struct map_source, file);
    source->hosts = text_setting(&file->text, "hosts", "localhost");
    source->user = text_setting(&file->text, "user", NULL);
    source->password = text_setting(&file->text, "password", NULL);
    return query_file_required(file, "dbname", &source->database, problem);
}

static int pgsql_open(struct map_source **made, const char *where, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = calloc(1, sizeof(*source));
    int status = source == NULL
                     ? -ENOMEM
                     : query_file_open(&source->file, where, "query", pgsql_settings, problem);
    if (status < 0) {
        free(source);
        return status;
    }
    *made = source;
    return 0;
}

/* One of `hosts`: NAME, NAME:PORT, unix:/FOLDER (with the socket in it), or a URI of libpq's. */
static PGconn *host_connect(const struct map_source *source, struct slice host)
{
    char name[256], uri[512];
    const char *port = NULL, *at = name;
    snprintf(name, sizeof(name), "%.*s", (int)host.size, (const char *)host.bytes);
    if (strncmp(name, "postgresql://", 13) == 0) {
        snprintf(uri, sizeof(uri), "%s", name);
        const char *const keys[] = {"dbname", "connect_timeout", "options", NULL};
        const char *const values[] = {uri, CONNECT_TIMEOUT, QUESTION_TIMEOUT, NULL};
        return PQconnectdbParams(keys, values, 1);
    }
    if (strncmp(name, "unix:", 5) == 0) {
        at = name + 5;
    } else if (strchr(name, ':') != NULL && strchr(name, ':') == strrchr(name, ':')) {
        char *colon = strchr(name, ':');
        *colon = '\0';
        port = colon + 1;
    }
    const char *const keys[] = {"host",    "port", "user", "password", "dbname", "connect_timeout",
                                "options", NULL};
    const char *const values[] = {at,
                                  port,
                                  source->user,
                                  source->password,
                                  source->database,
                                  CONNECT_TIMEOUT,
                                  QUESTION_TIMEOUT,
                                  NULL};
    return PQconnectdbParams(keys, values, 0);
}

/* The first host that answers. */
static bool connect_any(struct map_source *source, struct map_result *result)
{
    const char *at = source->hosts;
    if (source->connection != NULL && PQstatus(source->connection) == CONNECTION_OK) {
        return true;
    }
    PQfinish(source->connection);
    source->connection = NULL;
    map_failed(result, "no host to ask");
    while (*at != '\0') {
        size_t size = strcspn(at, ", \t");
        if (size > 0) {
            source->connection = host_connect(source, slice_of(at, size));
            if (PQstatus(source->connection) == CONNECTION_OK) {
                return true;
            }
            map_failed(result, "%.*s: %.150s", (int)(size < 80 ? size : 80), at,
                       PQerrorMessage(source->connection));
            PQfinish(source->connection);
            source->connection = NULL;
        }
        at += size + (at[size] != '\0');
    }
    return false;
}

static size_t escape(void *owner, char *to, size_t room, struct slice from)
{
    int error = 0;
    if (2 * from.size + 1 > room) {
        return SIZE_MAX;
    }
    size_t used = PQescapeStringConn(owner, to, (const char *)from.bytes, from.size, &error);
    return error == 0 ? used : SIZE_MAX; /* not text in the database's encoding */
}

static void rows_take(const struct map_source *source, const PGresult *rows, struct slice key,
                      struct map_result *result)
{
    unsigned count = 0;
    map_absent(result);
    for (int row = 0; row < PQntuples(rows); row++) {
        for (int column = 0; column < PQnfields(rows); column++) {
            struct slice value =
                slice_of(PQgetvalue(rows, row, column), (size_t)PQgetlength(rows, row, column));
            query_value(&source->file.query, key, value, &count, result);
        }
    }
}

static void pgsql_find(struct map_source *source, struct slice key, struct map_result *result)
{
    char question[QUERY_BYTES_MAX];
    if (!query_wanted(&source->file.query, key)) {
        map_absent(result);
        return;
    }
    /* A connection that has died since is found by asking, and asked for anew once. */
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        if (!connect_any(source, result)) {
            return;
        }
        if (query_make(&source->file.query, key, escape, source->connection, question) < 0) {
            map_absent(result); /* nothing that is stored is equal to it */
            return;
        }
        PGresult *rows = PQexec(source->connection, question);
        if (PQresultStatus(rows) == PGRES_TUPLES_OK) {
            rows_take(source, rows, key, result);
            PQclear(rows);
            return;
        }
        map_failed(result, "%.200s", PQerrorMessage(source->connection));
        PQclear(rows);
        if (PQstatus(source->connection) == CONNECTION_OK) {
            return; /* it understood us and said no */
        }
    }
}

const struct map_kind map_pgsql = {
    .name = "pgsql", .open = pgsql_open, .close = pgsql_close, .find = pgsql_find};
