/*
 * auth_conf: the keys of section auth, the same of either program, and what no single one of them shows.
 *
 * Parts of the programs' tables (relay_conf.c, mailboxd_conf.c), the only callers.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/conf/names.h"
#include "engine/conf/words.h"

#define AUTH_CONF_BACKENDS_MAX 8 /* DIRECTORY_BACKENDS_MAX */
#define AUTH_CONF_KINDS_MAX 31   /* POPULATION_KINDS_MAX */
#define AUTH_CONF_BACKEND_EXPECTED                                                                 \
    "KIND:WHERE of a kind among passwd-file, static, pam, sqlite, pgsql, ldap, ldap-bind, lmdb "   \
    "and texthash"
#define AUTH_CONF_MECHANISM_EXPECTED                                                               \
    "PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5, SCRAM-SHA-1, SCRAM-SHA-256, EXTERNAL, OAUTHBEARER "       \
    "or XOAUTH2"

bool auth_conf_is_backend(const char *text);
bool auth_conf_is_mechanism(const char *text);
bool auth_conf_is_separator(const char *text);
/* Can stand in quotes in JSON as it is. */
bool auth_conf_is_plain(const char *text);

#define AUTH_CONF_KEYS(type)                                                                       \
    KEY_LIST("backends", type, auth.backends, READER_TEXT, .max = AUTH_CONF_BACKENDS_MAX,          \
             .good = auth_conf_is_backend, .expected = AUTH_CONF_BACKEND_EXPECTED),                \
        KEY_LIST("masters", type, auth.masters, READER_TEXT, .max = AUTH_CONF_BACKENDS_MAX,        \
                 .good = auth_conf_is_backend, .expected = AUTH_CONF_BACKEND_EXPECTED),            \
        KEY_TEXT("master_separator", type, auth.master_separator, auth_conf_is_separator,          \
                 "one of * % ! |"),                                                                \
        KEY_TEXT("scheme", type, auth.scheme, name_is_printable, "the name of a password scheme",  \
                 .standard = "CRYPT"),                                                             \
        KEY_LIST("kinds", type, auth.kinds, READER_TEXT, .max = AUTH_CONF_KINDS_MAX,               \
                 .good = name_is_printable, .expected = "a password as it is stored"),             \
        KEY_LIST("mechanisms", type, auth.mechanisms, READER_TEXT, .max = 16,                      \
                 .good = auth_conf_is_mechanism, .expected = AUTH_CONF_MECHANISM_EXPECTED,         \
                 .standard = "PLAIN LOGIN"),                                                       \
        KEY_WORD("clear_on_loopback", type, auth.clear_on_loopback, "false", word_switches),       \
        KEY_DURATION("cache_right", type, auth.cache_right, "10m", 0, AUTH_CONF_DAY_NS),           \
        KEY_DURATION("cache_wrong", type, auth.cache_wrong, "1m", 0, AUTH_CONF_DAY_NS),            \
        KEY_NUMBER("threads", type, auth.threads, "4", 1, 64),                                     \
        KEY_TEXT("secret", type, auth.secret, name_is_absolute_path, NAME_PATH_EXPECTED),          \
        KEY_TEXT("token_keys", type, auth.token_keys, name_is_absolute_path, NAME_PATH_EXPECTED),  \
        KEY_TEXT("token_introspection", type, auth.token_introspection, auth_conf_is_endpoint,     \
                 "a URL that begins with https://, or http:// and an address of this machine"),    \
        KEY_TEXT("token_credentials", type, auth.token_credentials, name_is_absolute_path,         \
                 NAME_PATH_EXPECTED),                                                              \
        KEY_TEXT("token_issuer", type, auth.token_issuer, name_is_printable,                       \
                 "the issuer's name, as in iss"),                                                  \
        KEY_LIST("token_audiences", type, auth.token_audiences, READER_TEXT, .max = 64,            \
                 .good = name_is_printable, .expected = "a name of this service, as in aud"),      \
        KEY_LIST("token_clients", type, auth.token_clients, READER_TEXT, .max = 1000,              \
                 .good = name_is_printable, .expected = "a client's name, as in azp"),             \
        KEY_TEXT("token_user", type, auth.token_user, name_is_printable, "the name of a claim",    \
                 .standard = "sub"),                                                               \
        KEY_LIST("token_domains", type, auth.token_domains, READER_TEXT, .max = 1000,              \
                 .good = name_is_domain, .expected = NAME_DOMAIN_EXPECTED),                        \
        KEY_TEXT("token_scope", type, auth.token_scope, auth_conf_is_plain,                        \
                 "the name of a scope"),                                                           \
        KEY_TEXT("token_configuration", type, auth.token_configuration, auth_conf_is_plain,        \
                 "a URL that ends with /.well-known/openid-configuration")
#define AUTH_CONF_DAY_NS (86400ull * 1000000000ull)

/* Tokens, and what is believed of them, travel encrypted, or not beyond this machine. */
bool auth_conf_is_endpoint(const char *text);
/* Could anybody log in? */
bool auth_conf_has_users(const struct conf_auth *conf);
void auth_conf_check(struct reader *reader, const struct conf_auth *conf);
