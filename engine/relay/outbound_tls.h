/*
 * outbound_tls: TLS of one connection to a next hop: decided before it is opened, begun when the server is
 * ready for it, told of in the log and in the counts.
 *
 * Part of outbound.c's session, which carries bytes and time; the machine (proto/smtp/client.h) asks for
 * TLS, engine/tls makes it, and what must be true of the peer is tls_policy.h's to say.
 */
#pragma once
#include "engine/relay/relay_private.h"
#include "engine/relay/tls_policy.h"

enum outbound_secrecy {
    OUTBOUND_IN_CLEAR,
    OUTBOUND_SHAKING_HANDS, /* the stream is TLS, and not yet open */
    OUTBOUND_SECURED,
    OUTBOUND_NO_HANDSHAKE, /* it has failed: `problem` */
};

struct outbound_tls {
    struct tls_policy policy;
    uint8_t secrecy; /* enum outbound_secrecy */
    char problem[192];
};

/* For a connection that is about to be opened. False: the host must not be used, policy.why. */
bool outbound_tls_choose(struct outbound_tls *self, struct relay *relay,
                         const struct conf_route *route, const struct relay_hop *hop);
enum smtp_client_tls outbound_tls_wish(const struct outbound_tls *self);

/* From here on *stream is TLS; NULL: that has failed, and the stream is gone. */
void outbound_tls_start(struct outbound_tls *self, struct relay *relay,
                        const struct conf_route *route, const struct relay_hop *hop,
                        struct stream **stream);
/* The handshake is done; or will never be, and why, unless the stream knows better. */
void outbound_tls_opened(struct outbound_tls *self, struct relay *relay,
                         const struct conf_route *route, const struct relay_hop *hop,
                         const struct stream *stream);
void outbound_tls_failed(struct outbound_tls *self, struct relay *relay,
                         const struct conf_route *route, const struct relay_hop *hop,
                         const struct stream *stream, const char *why);
/* STARTTLS would have been asked for, but was not offered, or refused. */
void outbound_tls_not_there(const struct outbound_tls *self, struct relay *relay,
                            const struct conf_route *route, const struct relay_hop *hop);

/* After a handshake has failed: may mail go in the clear, by a new connection? It is remembered. */
bool outbound_tls_falls_back(struct outbound_tls *self, struct relay *relay,
                             const struct relay_hop *hop);
