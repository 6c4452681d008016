/* Maps in LDAP: a file says which servers, where to search and for what (ldap_table(5) of Postfix). */
#include "engine/core/list.h"
#include "engine/lookup/ldap_server.h"
#include "engine/lookup/ldap_text.h"
#include "engine/lookup/query.h"
#include <stdio.h>
#include <stdlib.h>

struct map_source {
    struct query_file file; /* the query is the filter */
    struct ldap_server server;
    const char *base, *attributes;
    LDAP *connection; /* NULL: to be made */
};

static void ldap_map_close(struct map_source *source)
{
    ldap_server_leave(&source->connection);
    query_file_close(&source->file);
    free(source);
}

static int ldap_settings(struct query_file *file, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = list_entry(file, struct map_source, file);
    struct text_settings *text = &file->text;
    const char *bad = ldap_server_read(&source->server, text);
    const char *bind = text_setting(text, "bind", "yes");
    source->attributes = text_setting(text, "result_attribute", "maildrop");
    if (strcmp(bind, "no") == 0 || strcmp(bind, "none") == 0) {
        source->server.bind_dn = source->server.password = "";
    }
    if (bad != NULL) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.150s: %s", text->path, bad);
        return -EINVAL;
    }
    return query_file_required(file, "search_base", &source->base, problem);
}

static int ldap_map_open(struct map_source **made, const char *where, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = calloc(1, sizeof(*source));
    int status = source == NULL ? -ENOMEM
                                : query_file_open(&source->file, where, "query_filter",
                                                  ldap_settings, problem);
    if (status < 0) {
        free(source);
        return status;
    }
    *made = source;
    return 0;
}

static int server_connect(struct map_source *source)
{
    int status = ldap_server_connect(&source->server, &source->connection);
    status =
        status == LDAP_SUCCESS ? ldap_server_bind_own(&source->server, source->connection) : status;
    if (status != LDAP_SUCCESS) {
        ldap_server_leave(&source->connection);
    }
    return status;
}

static void entry_take(struct map_source *source, LDAPMessage *entry, struct slice key,
                       unsigned *count, struct map_result *result)
{
    const char *at = source->attributes;
    while (*at != '\0') {
        char name[128];
        size_t size = strcspn(at, ", \t");
        snprintf(name, sizeof(name), "%.*s", (int)size, at);
        struct berval **values =
            size == 0 ? NULL : ldap_get_values_len(source->connection, entry, name);
        for (size_t i = 0; values != NULL && values[i] != NULL; i++) {
            query_value(&source->file.query, key, slice_of(values[i]->bv_val, values[i]->bv_len),
                        count, result);
        }
        ldap_value_free_len(values);
        at += size + (at[size] != '\0');
    }
}

static int search(struct map_source *source, const char *filter, struct slice key,
                  struct map_result *result)
{
    struct timeval limit = {.tv_sec = source->server.timeout_s};
    LDAPMessage *found = NULL;
    unsigned count = 0;
    int status = ldap_search_ext_s(source->connection, source->base, source->server.scope, filter,
                                   NULL, 0, NULL, NULL, &limit, LDAP_NO_LIMIT, &found);
    map_absent(result);
    if (status == LDAP_SUCCESS) {
        for (LDAPMessage *entry = ldap_first_entry(source->connection, found); entry != NULL;
             entry = ldap_next_entry(source->connection, entry)) {
            entry_take(source, entry, key, &count, result);
        }
    }
    ldap_msgfree(found); /* NULL is fine */
    return status == LDAP_NO_SUCH_OBJECT ? LDAP_SUCCESS : status;
}

static void ldap_map_find(struct map_source *source, struct slice key, struct map_result *result)
{
    char filter[QUERY_BYTES_MAX];
    if (!query_wanted(&source->file.query, key)) {
        map_absent(result);
        return;
    }
    if (query_make(&source->file.query, key, ldap_escape_filter, NULL, filter) < 0) {
        map_failed(result, "the filter is too long");
        return;
    }
    /* A connection that has died since is found by asking, and asked for anew once. */
    int status = LDAP_SUCCESS;
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        status = source->connection == NULL ? server_connect(source) : LDAP_SUCCESS;
        status = status == LDAP_SUCCESS ? search(source, filter, key, result) : status;
        if (status == LDAP_SUCCESS) {
            return;
        }
        ldap_server_leave(&source->connection);
        if (status != LDAP_SERVER_DOWN && status != LDAP_CONNECT_ERROR) {
            break;
        }
    }
    map_failed(result, "%.100s: %.100s", source->server.urls, ldap_err2string(status));
}

const struct map_kind map_ldap = {
    .name = "ldap", .open = ldap_map_open, .close = ldap_map_close, .find = ldap_map_find};
