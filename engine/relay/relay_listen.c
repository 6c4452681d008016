/* Where clients come in, and what each listener says of TLS and of those who talk too early. */
#include "engine/relay/inbound.h"
#include "engine/relay/relay_private.h"
#include <stdlib.h>

static uint8_t listener_tls(const struct relay *relay, const struct conf_listener *from)
{
    return relay->tls == NULL ? CONF_TLS_OFF : from->tls;
}

static int listener_open(struct relay *relay, const struct conf_listener *from,
                         const struct endpoint *at)
{
    struct relay_listener *listener = &relay->listeners[relay->listener_count];
    char text[ENDPOINT_TEXT_MAX];
    *listener = (struct relay_listener){.relay = relay,
                                        .network = relay_network_to(relay, at),
                                        .at = *at,
                                        .protocol = from->protocol,
                                        .tls = listener_tls(relay, from),
                                        .client_certificate = from->client_certificate,
                                        .priority = from->priority,
                                        .greet_action = from->greet_action,
                                        .login = from->login,
                                        .greet_wait_ns = from->greet_wait};
    const struct listen_request request = {
        .at = *at, .unix_mode = from->unix_mode, .accepted = inbound_accepted, .owner = listener};
    endpoint_format(at, text);
    int status = listener->network->ops->listen(listener->network, &request, &listener->listener);
    if (status < 0 && from->by_default) {
        logger_line(relay->logger, LOGGER_WARNING, "listen %s: %s", text, strerror(-status));
        return 0;
    }
    if (status < 0) {
        logger_line(relay->logger, LOGGER_ERROR, "listen %s (%s): %s", text, from->name,
                    strerror(-status));
        return status;
    }
    relay->listener_count++;
    logger_line(relay->logger, LOGGER_INFO, "listening on %s (%s, %s transport)", text, from->name,
                listener->network->transport);
    return 0;
}

int relay_listen(struct relay *relay)
{
    const struct relay_conf *conf = relay->conf;
    uint32_t count = 0;
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        count += conf->listen[i].addresses_count;
    }
    if (count == 0) {
        return 0;
    }
    relay->listeners = calloc(count, sizeof(*relay->listeners));
    if (relay->listeners == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        for (uint32_t j = 0; j < conf->listen[i].addresses_count; j++) {
            const struct endpoint *at = &conf->listen[i].addresses[j];
            if (at->family == ENDPOINT_UNIX && relay->shard->settings.index > 0) {
                continue; /* a path can be bound once: the first shard has it */
            }
            int status = listener_open(relay, &conf->listen[i], at);
            if (status < 0) {
                return status;
            }
        }
    }
    return 0;
}

/* What the new configuration has for the address. One that it no longer names stays as strict as it was: where TLS
 * was required, nobody falls back to the clear when the last certificate has gone. */
static void listener_reload(struct relay_listener *listener, const struct relay_conf *conf)
{
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        for (uint32_t j = 0; j < conf->listen[i].addresses_count; j++) {
            if (endpoint_equal(&conf->listen[i].addresses[j], &listener->at)) {
                listener->tls = listener_tls(listener->relay, &conf->listen[i]);
                listener->client_certificate = conf->listen[i].client_certificate;
                listener->greet_action = conf->listen[i].greet_action;
                listener->greet_wait_ns = conf->listen[i].greet_wait;
                listener->priority = conf->listen[i].priority;
            }
        }
    }
}

void relay_listeners_reload(struct relay *relay)
{
    for (uint32_t i = 0; i < relay->listener_count; i++) {
        listener_reload(&relay->listeners[i], relay->conf);
    }
}

static enum relay_tls_kind tls_kind(const struct relay_listener *at)
{
    bool has_certificate = relay_tls_server(at->relay->tls, at->client_certificate) != NULL;
    switch ((enum conf_tls)at->tls) {
    case CONF_TLS_AUTO: /* settled when the configuration was read */
    case CONF_TLS_OFF:
        return RELAY_TLS_OFF;
    case CONF_TLS_STARTTLS:
        return has_certificate ? RELAY_TLS_OFFERED : RELAY_TLS_OFF;
    case CONF_TLS_REQUIRED:
    case CONF_TLS_IMPLICIT:
        return has_certificate ? RELAY_TLS_REQUIRED : RELAY_TLS_MISSED;
    }
    return RELAY_TLS_MISSED;
}

const struct smtp_server_settings *relay_listener_settings(const struct relay_listener *at)
{
    return &at->relay->server_settings[at->protocol == CONF_PROTOCOL_LMTP][tls_kind(at)];
}
