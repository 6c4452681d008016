/*
 * Users of a directory that keeps its passwords to itself: whoever can bind with one, has it. "ldap-bind:FILE".
 *
 * The file says which servers, as that of an LDAP map does: server_host, start_tls, tls_ca_cert_file, timeout; and who is
 * meant by a name: user_dn, a name with %s, %u or %d in it; or search_base, query_filter and scope, asked as bind_dn with
 * bind_pw, which must find one entry.
 *
 * Each question has a connection of its own, so any threads ask at once. Who is not found is bound as all the same, under
 * a name that nobody has: he costs a bind like others.
 */
#include "engine/auth/backend.h"
#include "engine/core/check.h"
#include "engine/lookup/ldap_server.h"
#include "engine/lookup/ldap_text.h"
#include "engine/lookup/query.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NOBODY "cn=nobody has this name"

struct backend_source {
    struct text_settings text;
    struct ldap_server server;
    const char *base;
    struct query_settings user_dn, filter; /* query NULL: not given */
};

/* ---- What the file says ---- */

static int wrong(const struct backend_source *source, const char *text,
                 char problem[BACKEND_PROBLEM_MAX])
{
    snprintf(problem, BACKEND_PROBLEM_MAX, "%.120s: %s", source->text.path, text);
    return -EINVAL;
}

static int settings_read(struct backend_source *source, char problem[BACKEND_PROBLEM_MAX])
{
    struct text_settings *text = &source->text;
    const char *bad = ldap_server_read(&source->server, text);
    source->base = text_setting(text, "search_base", NULL);
    source->user_dn =
        (struct query_settings){.query = text_setting(text, "user_dn", NULL), .domains = ""};
    source->filter =
        (struct query_settings){.query = text_setting(text, "query_filter", NULL), .domains = ""};
    if (bad != NULL) {
        return wrong(source, bad, problem);
    }
    if ((source->user_dn.query == NULL) == (source->filter.query == NULL)) {
        return wrong(source, "user_dn or query_filter is expected", problem);
    }
    if (source->filter.query != NULL && source->base == NULL) {
        return wrong(source, "\"search_base\" is missing", problem);
    }
    return text_settings_all_used(text, problem);
}

static int ldap_open(struct backend_source **opened, const char *kind, const char *where,
                     char problem[BACKEND_PROBLEM_MAX])
{
    static_assert(MAP_PROBLEM_MAX <= BACKEND_PROBLEM_MAX, "what a file's reader says fits");
    struct backend_source *source = calloc(1, sizeof(*source));
    (void)kind;
    if (source == NULL) {
        return -ENOMEM;
    }
    int status = text_settings_read(&source->text, where, problem);
    if (status == 0) {
        status = settings_read(source, problem);
        source->text.path = NULL; /* which was the caller's */
        if (status < 0) {
            text_settings_free(&source->text);
        }
    }
    if (status < 0) {
        free(source);
        return status;
    }
    *opened = source;
    return 0;
}

static void ldap_close(struct backend_source *source)
{
    text_settings_free(&source->text);
    free(source);
}

/* ---- Asking ---- */

/* The one entry's name; "": there is none, or several. */
static int name_find(const struct backend_source *source, LDAP *connection, struct slice user,
                     char name[QUERY_BYTES_MAX])
{
    static char *const nothing[] = {(char *)(uintptr_t)LDAP_NO_ATTRS, NULL};
    const struct ldap_server *server = &source->server;
    struct timeval limit = {.tv_sec = server->timeout_s};
    char filter[QUERY_BYTES_MAX];
    LDAPMessage *found = NULL;
    name[0] = '\0';
    if (query_make(&source->filter, user, ldap_escape_filter, NULL, filter) < 0) {
        return LDAP_SUCCESS;
    }
    int status = ldap_server_bind_own(server, connection);
    status = status != LDAP_SUCCESS
                 ? status
                 : ldap_search_ext_s(connection, source->base, server->scope, filter,
                                     (char **)(uintptr_t)nothing, 0, NULL, NULL, &limit, 2, &found);
    if (status == LDAP_SUCCESS && ldap_count_entries(connection, found) == 1) {
        char *dn = ldap_get_dn(connection, ldap_first_entry(connection, found));
        if (dn != NULL && strlen(dn) < QUERY_BYTES_MAX) {
            snprintf(name, QUERY_BYTES_MAX, "%s", dn);
        }
        ldap_memfree(dn);
    }
    ldap_msgfree(found); /* NULL is fine */
    return status == LDAP_SIZELIMIT_EXCEEDED ? LDAP_SUCCESS : status;
}

static int name_make(const struct backend_source *source, LDAP *connection, struct slice user,
                     char name[QUERY_BYTES_MAX])
{
    if (source->filter.query != NULL) {
        return name_find(source, connection, user, name);
    }
    if (!query_wanted(&source->user_dn, user) ||
        query_make(&source->user_dn, user, ldap_escape_name, NULL, name) < 0) {
        name[0] = '\0';
    }
    return LDAP_SUCCESS;
}

/* Of the client's own bind. What came before it is the service's: no result of that says anything of a password. */
static enum backend_answer answer_of(int status)
{
    switch (status) {
    case LDAP_SUCCESS:
        return BACKEND_FOUND;
    case LDAP_INVALID_CREDENTIALS:
    case LDAP_INAPPROPRIATE_AUTH: /* the entry has no password */
    case LDAP_NO_SUCH_OBJECT:
    case LDAP_INVALID_DN_SYNTAX:
        return BACKEND_WRONG;
    default: /* LDAP's numbers are the directory's, not ours to list */
        return BACKEND_FAILED;
    }
}

static enum backend_answer ldap_verify(struct backend_source *source, struct slice user,
                                       struct slice password, char problem[BACKEND_PROBLEM_MAX])
{
    char name[QUERY_BYTES_MAX] = "";
    LDAP *connection = NULL;
    /* An empty one would be no question at all (RFC 4513 §5.1.2). */
    if (password.size == 0 || password.size > PASSWORD_STORED_MAX) {
        return BACKEND_WRONG;
    }
    int status = ldap_server_connect(&source->server, &connection);
    status = status == LDAP_SUCCESS ? name_make(source, connection, user, name) : status;
    bool known = name[0] != '\0';
    enum backend_answer answer = BACKEND_FAILED;
    if (status == LDAP_SUCCESS) {
        status = ldap_server_bind(connection, known ? name : NOBODY, password);
        answer = answer_of(status);
    }
    if (answer == BACKEND_FAILED) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "%.100s: %.100s", source->server.urls,
                 ldap_err2string(status));
    }
    ldap_server_leave(&connection);
    return known || answer == BACKEND_FAILED ? answer : BACKEND_WRONG;
}

const struct backend_kind backend_ldap = {
    .name = "ldap-bind", .open = ldap_open, .close = ldap_close, .verify = ldap_verify};
