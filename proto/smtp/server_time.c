/* How long a client may take: for a command, for a message, and what ends it. */
#include "proto/smtp/server_private.h"

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void smtp_server_time_command(struct smtp_server *server, uint64_t now_ns, bool begins)
{
    uint64_t data_ns = server->settings->data_ns;
    server->deadline_ns = now_ns + server->settings->command_ns;
    switch ((enum smtp_server_state)server->state) {
    case SMTP_BODY:
    case SMTP_CHUNK:
    case SMTP_CHUNK_SKIP:
        if (begins) {
            server->body_deadline_ns = now_ns + data_ns;
        }
        server->deadline_ns = server->body_deadline_ns;
        return;
    case SMTP_CHUNK_NEXT: /* the wait for the next chunk is a part of the message's time */
        if (server->settings->octet_ns > 0) {
            server->deadline_ns = earlier(server->deadline_ns, server->body_deadline_ns);
        }
        return;
    case SMTP_CONNECTED:
    case SMTP_GREETED:
    case SMTP_READY:
    case SMTP_EXCHANGE:
    case SMTP_SENDER:
    case SMTP_RECIPIENTS:
    case SMTP_COMMIT:
    case SMTP_SECURING:
    case SMTP_ENDED:
        return;
    }
}

void smtp_server_time_body(struct smtp_server *server, uint64_t now_ns, size_t octets)
{
    uint64_t data_ns = server->settings->data_ns, octet_ns = server->settings->octet_ns;
    uint64_t latest_ns = now_ns + data_ns;
    if (octet_ns == 0 || octets >= data_ns / octet_ns) {
        server->body_deadline_ns = latest_ns;
    } else {
        server->body_deadline_ns = earlier(latest_ns, server->body_deadline_ns + octets * octet_ns);
    }
    smtp_server_time_command(server, now_ns, false);
}

void smtp_server_waited(struct smtp_server *server, uint64_t waited_ns)
{
    server->deadline_ns += waited_ns;
    server->body_deadline_ns += waited_ns;
}

uint64_t smtp_server_deadline(const struct smtp_server *server)
{
    return server->pending == SMTP_EVENT_BODY_END ? SMTP_SERVER_NEVER : server->deadline_ns;
}

void smtp_server_expire(struct smtp_server *server, uint64_t now_ns)
{
    (void)now_ns;
    if (server->state != SMTP_ENDED) {
        if (smtp_server_has_room(server)) {
            smtp_server_reply(server, 421, "4.4.2", slice_text("Timeout, closing connection"));
        }
        server->pending = SMTP_EVENT_NONE;
        smtp_server_end(server);
    }
}

const char *smtp_server_stage(const struct smtp_server *server)
{
    switch ((enum smtp_server_state)server->state) {
    case SMTP_CONNECTED:
    case SMTP_GREETED:
        return "CONNECT";
    case SMTP_READY:
        return server->messages > 0 ? "END-OF-MESSAGE" : "EHLO";
    case SMTP_EXCHANGE:
        return "AUTH";
    case SMTP_SENDER:
        return "MAIL";
    case SMTP_RECIPIENTS:
        return "RCPT";
    case SMTP_BODY:
        return "DATA";
    case SMTP_CHUNK:
    case SMTP_CHUNK_NEXT:
    case SMTP_CHUNK_SKIP:
        return "BDAT";
    case SMTP_COMMIT:
        return "END-OF-MESSAGE";
    case SMTP_SECURING:
        return "STARTTLS";
    case SMTP_ENDED:
        return "QUIT";
    }
    return "";
}
