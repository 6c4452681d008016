#include "engine/relay/relay_trace.h"

size_t relay_trace_format(const struct smtp_server *server, const struct stream_facts *client,
                          const struct smtp_received *known, char line[SMTP_RECEIVED_MAX])
{
    const struct tls_facts *tls = client->tls;
    struct smtp_received received = *known;
    char address[ENDPOINT_TEXT_MAX] = "";
    if (client->remote.family != ENDPOINT_UNIX) {
        endpoint_format_address(&client->remote, address);
    }
    received.helo = smtp_server_helo(server);
    received.protocol = smtp_server_protocol(server);
    received.address = slice_text(address);
    received.ipv6 = client->remote.family == ENDPOINT_IPV6;
    if (tls != NULL) {
        received.tls_version = tls->version;
        received.tls_cipher = tls->cipher;
        received.tls_bits = tls->cipher_bits;
        received.tls_client_shown = tls->verdict != TLS_VERDICT_NONE;
        received.tls_client_verified = received.tls_client_shown && tls->verified;
        received.tls_client = slice_text(tls->peer_name);
    }
    return smtp_received_format(&received, line);
}
