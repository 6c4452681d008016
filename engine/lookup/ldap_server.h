/*
 * ldap_server: what maps and users in LDAP have in common: what their files say of the servers, and a connection to one.
 *
 * The names are those of ldap_table(5) of Postfix. All calls block as long as the file's `timeout` says, and answer a
 * number of LDAP's: not for a shard's thread.
 */
#pragma once
#include "engine/lookup/text.h"
#include <ldap.h>

struct ldap_server {
    const char *urls;        /* libldap goes through them by itself */
    const char *authorities; /* a file; NULL: the system's */
    const char *bind_dn;     /* "": anonymous */
    const char *password;
    int scope; /* of a search, as LDAP numbers it */
    int timeout_s;
    bool start_tls;
};

/* server_host, start_tls, tls_ca_cert_file, timeout, scope, bind_dn, bind_pw: they live as long as the text. NULL; or what
 * is wrong, static. */
const char *ldap_server_read(struct ldap_server *server, struct text_settings *text);
/* *connection is to be let go of by ldap_server_leave, whatever the answer. */
int ldap_server_connect(const struct ldap_server *server, LDAP **connection);
void ldap_server_leave(LDAP **connection); /* harmless twice */
int ldap_server_bind(LDAP *connection, const char *dn, struct slice password);
/* As the file says. */
int ldap_server_bind_own(const struct ldap_server *server, LDAP *connection);
