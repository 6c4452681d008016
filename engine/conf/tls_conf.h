/*
 * tls_conf: the keys of TLS, of listeners and of routes, and what no single one of them shows.
 *
 * A part of the relay's table (relay_conf.c), the only caller.
 */
#pragma once
#include "engine/conf/reader.h"

extern const struct reader_key tls_conf_keys[];       /* section tls */
extern const struct reader_word tls_conf_listeners[]; /* enum conf_tls */
extern const struct reader_word tls_conf_clients[];   /* enum conf_client_certificate */
extern const struct reader_word tls_conf_levels[];    /* enum conf_tls_level */

/* After the file was read: settles what others decide, and reports what does not fit together. 0 or
 * -ENOMEM. */
int tls_conf_settle(struct reader *reader, struct relay_conf *conf);
