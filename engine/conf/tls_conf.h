/*
 * tls_conf: the keys of TLS, of listeners and of routes, and what no single one of them shows.
 *
 * Parts of the programs' tables (relay_conf.c, mailboxd_conf.c), the only callers.
 */
#pragma once
#include "engine/conf/names.h"
#include "engine/conf/words.h"

extern const struct reader_key tls_conf_keys[];       /* section tls */
extern const struct reader_word tls_conf_listeners[]; /* enum conf_tls */
extern const struct reader_word tls_conf_clients[];   /* enum conf_client_certificate */
extern const struct reader_word tls_conf_levels[];    /* enum conf_tls_level */
extern const struct reader_word tls_conf_versions[];  /* enum conf_tls_version */
extern const struct reader_key tls_conf_certificates[];

/* What a server needs, of section tls of either program. */
#define TLS_CONF_SERVER_KEYS(type)                                                                 \
    KEY_ROWS("certificates", type, tls.certificates, tls_conf_certificates, NULL),                 \
        KEY_WORD("version_min", type, tls.version_min, "1.2", tls_conf_versions),                  \
        KEY_NUMBER("security_level", type, tls.security_level, "0", 0, 5),                         \
        KEY_TEXT("ciphers", type, tls.ciphers, name_is_printable,                                  \
                 "ciphers of TLS 1.2, as OpenSSL lists them"),                                     \
        KEY_TEXT("ciphersuites", type, tls.ciphersuites, name_is_printable,                        \
                 "suites of TLS 1.3, as OpenSSL lists them")

/* After the file was read: settles what others decide, and reports what does not fit together. 0 or
 * -ENOMEM. */
int tls_conf_settle(struct reader *reader, struct relay_conf *conf);
