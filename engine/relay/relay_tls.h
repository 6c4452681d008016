/*
 * relay_tls: the certificates of a relay's listeners and routes, as the configuration names them, and
 * the shard's TLS. One a shard.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/shard/shard.h"
#include "engine/tls/tls.h"

#define RELAY_TLS_SERVERS (CONF_CLIENT_CERTIFICATE_REQUIRE + 1)

/* For next hops: of one certificate that we show, or of none. */
struct relay_tls_client {
    char *certificate, *key; /* files; NULL: none is shown */
    struct tls_context *context;
};

/* All contexts of one configuration. */
struct relay_tls_contexts {
    struct tls_authorities *authorities;
    /* By what listeners want of their clients; NULL: there are no certificates, or no such listener
     * was ever in the configuration. */
    struct tls_context *servers[RELAY_TLS_SERVERS];
    struct relay_tls_client *clients; /* the first: what tls.client_certificate says */
    uint32_t client_count;
};

struct relay_tls {
    struct tls *tls;
    struct relay_tls_contexts contexts;
    uint64_t generation; /* of `contexts`: what one has let through, the next looks at again */
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

/* Of a listener; NULL: it has no TLS. */
struct tls_context *relay_tls_server(const struct relay_tls *self,
                                     enum conf_client_certificate client_certificate);
bool relay_tls_has_server(const struct relay_tls *self); /* of any listener */
/* Of a route. */
struct tls_context *relay_tls_client(const struct relay_tls *self, const struct conf_route *route);

/* May this client send to any destination, by the certificate that it has shown? */
bool relay_tls_may_relay(const struct relay_conf *conf, const struct tls_facts *client);

/* Says why a stream's handshake has failed: most often a peer that trusts nobody, or a scanner. */
void relay_tls_failed(const struct relay_tls *self, const struct stream *stream);

/* Are the certificates as they should be? For `--check`. 0, or -EINVAL and the problem, which begins
 * with the key. */
int relay_tls_check(const struct relay_conf *conf, char problem[TLS_PROBLEM_MAX]);
