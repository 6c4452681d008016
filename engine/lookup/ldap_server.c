#include "engine/lookup/ldap_server.h"
#include <stdlib.h>

const char *ldap_server_read(struct ldap_server *server, struct text_settings *text)
{
    static const char *const scopes[] = {"base", "one", "sub"}; /* as LDAP numbers them */
    const char *scope = text_setting(text, "scope", "sub"),
               *timeout = text_setting(text, "timeout", "10"),
               *tls = text_setting(text, "start_tls", "no");
    char *end;
    server->urls = text_setting(text, "server_host", "ldap://localhost");
    server->authorities = text_setting(text, "tls_ca_cert_file", NULL);
    server->bind_dn = text_setting(text, "bind_dn", "");
    server->password = text_setting(text, "bind_pw", "");
    server->start_tls = strcmp(tls, "yes") == 0;
    server->timeout_s = (int)strtol(timeout, &end, 10);
    for (server->scope = 0; server->scope < 3 && strcmp(scope, scopes[server->scope]) != 0;) {
        server->scope++;
    }
    if (!server->start_tls && strcmp(tls, "no") != 0) {
        return "start_tls: yes or no is expected";
    }
    if (server->scope == 3) {
        return "scope: sub, one or base is expected";
    }
    return *end != '\0' || server->timeout_s < 1 || server->timeout_s > 300
               ? "timeout: 1 to 300 seconds are expected"
               : NULL;
}

int ldap_server_connect(const struct ldap_server *server, LDAP **connection)
{
    const int version = LDAP_VERSION3, as_client = 0;
    const struct timeval limit = {.tv_sec = server->timeout_s};
    int status = ldap_initialize(connection, server->urls);
    if (status != LDAP_SUCCESS) {
        *connection = NULL;
        return status;
    }
    ldap_set_option(*connection, LDAP_OPT_PROTOCOL_VERSION, &version);
    ldap_set_option(*connection, LDAP_OPT_NETWORK_TIMEOUT, &limit);
    ldap_set_option(*connection, LDAP_OPT_TIMEOUT, &limit);
    ldap_set_option(*connection, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
    if (server->authorities != NULL) {
        ldap_set_option(*connection, LDAP_OPT_X_TLS_CACERTFILE, server->authorities);
        ldap_set_option(*connection, LDAP_OPT_X_TLS_NEWCTX, &as_client);
    }
    return server->start_tls ? ldap_start_tls_s(*connection, NULL, NULL) : LDAP_SUCCESS;
}

void ldap_server_leave(LDAP **connection)
{
    if (*connection != NULL) {
        ldap_unbind_ext_s(*connection, NULL, NULL);
        *connection = NULL;
    }
}

int ldap_server_bind(LDAP *connection, const char *dn, struct slice password)
{
    struct berval secret = {password.size, (char *)(uintptr_t)password.bytes};
    return ldap_sasl_bind_s(connection, dn, LDAP_SASL_SIMPLE, &secret, NULL, NULL, NULL);
}

int ldap_server_bind_own(const struct ldap_server *server, LDAP *connection)
{
    return ldap_server_bind(connection, server->bind_dn, slice_text(server->password));
}
