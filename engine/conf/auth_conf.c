#include "engine/conf/auth_conf.h"
#include <string.h>

/* "KIND:WHERE": engine/auth opens it, and says what is wrong with it then. */
bool auth_conf_is_backend(const char *text)
{
    static const char *const kinds[] = {"passwd-file", "static", "pam",      "sqlite",   "pgsql",
                                        "ldap",        "lmdb",   "texthash", "ldap-bind"};
    const char *colon = strchr(text, ':');
    for (size_t i = 0; colon != NULL && colon[1] != '\0' && i < sizeof kinds / sizeof *kinds; i++) {
        size_t size = strlen(kinds[i]);
        if (size == (size_t)(colon - text) && memcmp(text, kinds[i], size) == 0) {
            return true;
        }
    }
    return false;
}

/* A mechanism of SCRAM stands for itself and for the one with channel binding, "-PLUS". */
bool auth_conf_is_mechanism(const char *text)
{
    static const char *const known[] = {"PLAIN",      "LOGIN",       "CRAM-MD5",
                                        "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256",
                                        "EXTERNAL",   "OAUTHBEARER", "XOAUTH2"};
    bool found = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        found = found || strcmp(text, known[i]) == 0;
    }
    return found;
}

bool auth_conf_is_separator(const char *text)
{
    return strchr("*%!|", text[0]) != NULL && text[1] == '\0';
}

bool auth_conf_is_plain(const char *text)
{
    return name_is_printable(text) && strpbrk(text, "\"\\") == NULL && strlen(text) <= 200;
}

bool auth_conf_is_endpoint(const char *text)
{
    static const char *const begins[] = {"https://", "http://127.0.0.1:", "http://127.0.0.1/",
                                         "http://[::1]:", "http://[::1]/"};
    bool good = false;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        good = good || strncmp(text, begins[i], strlen(begins[i])) == 0;
    }
    return good && name_is_printable(text) && strchr(text, '@') == NULL;
}

static bool judges_tokens(const struct conf_auth *conf)
{
    return conf->token_keys != NULL || conf->token_introspection != NULL;
}

bool auth_conf_has_users(const struct conf_auth *conf)
{
    return conf->backends_count > 0 || judges_tokens(conf);
}

static bool names_token(const struct conf_auth *conf)
{
    bool any = false;
    for (uint32_t i = 0; i < conf->mechanisms_count; i++) {
        any = any || strcmp(conf->mechanisms[i], "OAUTHBEARER") == 0 ||
              strcmp(conf->mechanisms[i], "XOAUTH2") == 0;
    }
    return any;
}

/* The claims that are addresses. */
static bool names_domain(const char *claim)
{
    return strcmp(claim, "email") == 0 || strcmp(claim, "upn") == 0;
}

/* RFC 8725 §3.8, 3.9: a token that the issuer has made for somebody else's service must let nobody in here. */
static void check_tokens(struct reader *reader, const struct conf_auth *conf)
{
    if (names_token(conf) && !judges_tokens(conf)) {
        reader_problem(reader, "auth.mechanisms",
                       "nobody could judge a token, expected auth.token_keys");
    }
    if (conf->token_keys != NULL && conf->token_introspection != NULL) {
        reader_problem(reader, "auth.token_introspection", "besides auth.token_keys, expected one");
    }
    if (conf->token_credentials != NULL && conf->token_introspection == NULL) {
        reader_problem(reader, "auth.token_credentials",
                       "alone, expected auth.token_introspection with it");
    }
    if (conf->token_keys != NULL && conf->token_issuer == NULL) {
        reader_problem(reader, "auth.token_keys", "alone, expected auth.token_issuer with it");
    }
    if (conf->token_keys != NULL && conf->token_audiences_count + conf->token_clients_count == 0) {
        reader_problem(reader, "auth.token_keys",
                       "for whom? expected auth.token_audiences, or auth.token_clients");
    }
    if (conf->token_introspection != NULL && conf->token_scope == NULL &&
        conf->token_audiences_count + conf->token_clients_count == 0) {
        reader_problem(reader, "auth.token_introspection",
                       "for whom? expected auth.token_scope, auth.token_audiences or "
                       "auth.token_clients");
    }
    if (judges_tokens(conf) && conf->token_domains_count == 0 && names_domain(conf->token_user)) {
        reader_problem(reader, "auth.token_user",
                       "of which domains? expected auth.token_domains with it");
    }
}

void auth_conf_check(struct reader *reader, const struct conf_auth *conf)
{
    if (conf->master_separator != NULL && conf->masters_count == 0) {
        reader_problem(reader, "auth.master_separator", "alone, expected auth.masters with it");
    }
    check_tokens(reader, conf);
}
