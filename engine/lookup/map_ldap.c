/* Maps in LDAP: a file says which servers, where to search and for what (ldap_table(5) of Postfix). */
#include "engine/core/list.h"
#include "engine/lookup/ldap_text.h"
#include "engine/lookup/query.h"
#include <ldap.h>
#include <stdio.h>
#include <stdlib.h>

struct map_source {
    struct query_file file; /* the query is the filter */
    const char *servers, *base, *attributes, *bind_dn, *password;
    int scope, timeout_s;
    bool start_tls;
    LDAP *connection; /* NULL: to be made */
};

static void connection_drop(struct map_source *source)
{
    if (source->connection != NULL) {
        ldap_unbind_ext_s(source->connection, NULL, NULL);
        source->connection = NULL;
    }
}

static void ldap_map_close(struct map_source *source)
{
    connection_drop(source);
    query_file_close(&source->file);
    free(source);
}

static int scope_of(const char *word)
{
    return strcmp(word, "sub") == 0    ? LDAP_SCOPE_SUBTREE
           : strcmp(word, "one") == 0  ? LDAP_SCOPE_ONELEVEL
           : strcmp(word, "base") == 0 ? LDAP_SCOPE_BASE
                                       : -1;
}

static int ldap_settings(struct query_file *file, char problem[MAP_PROBLEM_MAX])
{
    struct map_source *source = list_entry(file, struct map_source, file);
    struct text_settings *text = &file->text;
    char *end;
    const char *timeout = text_setting(text, "timeout", "10");
    const char *bind = text_setting(text, "bind", "yes"),
               *tls = text_setting(text, "start_tls", "no");
    source->servers = text_setting(text, "server_host", "ldap://localhost");
    source->attributes = text_setting(text, "result_attribute", "maildrop");
    source->bind_dn = text_setting(text, "bind_dn", "");
    source->password = text_setting(text, "bind_pw", "");
    source->scope = scope_of(text_setting(text, "scope", "sub"));
    source->timeout_s = (int)strtol(timeout, &end, 10);
    source->start_tls = strcmp(tls, "yes") == 0;
    if (strcmp(bind, "no") == 0 || strcmp(bind, "none") == 0) {
        source->bind_dn = source->password = "";
    }
    if (!source->start_tls && strcmp(tls, "no") != 0) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.150s: start_tls: yes or no is expected", text->path);
        return -EINVAL;
    }
    if (source->scope < 0 || *end != '\0' || source->timeout_s < 1 || source->timeout_s > 300) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.150s: %s", text->path,
                 source->scope < 0 ? "scope: sub, one or base is expected"
                                   : "timeout: 1 to 300 seconds are expected");
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

/* libldap goes through the servers of the list by itself. */
static int server_connect(struct map_source *source)
{
    const int version = LDAP_VERSION3;
    const struct timeval limit = {.tv_sec = source->timeout_s};
    struct berval password = {strlen(source->password), (char *)(uintptr_t)source->password};
    int status = ldap_initialize(&source->connection, source->servers);
    if (status != LDAP_SUCCESS) {
        source->connection = NULL;
        return status;
    }
    ldap_set_option(source->connection, LDAP_OPT_PROTOCOL_VERSION, &version);
    ldap_set_option(source->connection, LDAP_OPT_NETWORK_TIMEOUT, &limit);
    ldap_set_option(source->connection, LDAP_OPT_TIMEOUT, &limit);
    ldap_set_option(source->connection, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
    if (source->start_tls) {
        status = ldap_start_tls_s(source->connection, NULL, NULL);
    }
    if (status == LDAP_SUCCESS) {
        status = ldap_sasl_bind_s(source->connection, source->bind_dn, LDAP_SASL_SIMPLE, &password,
                                  NULL, NULL, NULL);
    }
    if (status != LDAP_SUCCESS) {
        connection_drop(source);
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
    struct timeval limit = {.tv_sec = source->timeout_s};
    LDAPMessage *found = NULL;
    unsigned count = 0;
    int status = ldap_search_ext_s(source->connection, source->base, source->scope, filter, NULL, 0,
                                   NULL, NULL, &limit, LDAP_NO_LIMIT, &found);
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
        connection_drop(source);
        if (status != LDAP_SERVER_DOWN && status != LDAP_CONNECT_ERROR) {
            break;
        }
    }
    map_failed(result, "%.100s: %.100s", source->servers, ldap_err2string(status));
}

const struct map_kind map_ldap = {
    .name = "ldap", .open = ldap_map_open, .close = ldap_map_close, .find = ldap_map_find};
