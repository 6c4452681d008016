/*
 * relay_tls: the certificates of a relay's listeners, as the configuration names them, and the shard's
 * TLS. One a shard.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/shard/shard.h"
#include "engine/tls/tls.h"

struct relay_tls {
    struct tls *tls;
    struct tls_context *server; /* NULL: there are no certificates */
    const uint8_t *ticket_secret;
    const struct world *world;
    struct logger *logger;
};

/* ticket_secret: TLS_SECRET_BYTES, the process's, borrowed. 0 or -errno; what is wrong with a
 * certificate is logged. */
int relay_tls_open(struct relay_tls *self, struct shard *shard, const struct relay_conf *conf,
                   const uint8_t *ticket_secret);
/* Connections that are there keep their certificates. What cannot be read is logged, and the old ones
 * stay. */
void relay_tls_reload(struct relay_tls *self, const struct relay_conf *conf);
void relay_tls_close(struct relay_tls *self);

/* Says why a stream's handshake has failed: most often a peer that trusts nobody, or a scanner. */
void relay_tls_failed(const struct relay_tls *self, const struct stream *stream);

/* Are the certificates as they should be? For `--check`. 0, or -EINVAL and the problem. */
int relay_tls_check(const struct relay_conf *conf, char problem[TLS_PROBLEM_MAX]);
