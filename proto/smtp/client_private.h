/*
 * client_private: what the two halves of the client share: client.c (what we say, and when) and
 * client_reply.c (what the answers mean). Nobody else includes it.
 */
#pragma once
#include "proto/smtp/client.h"

/* smtp_client_recipient.state */
enum recipient_state {
    RECIPIENT_UNASKED,     /* RCPT not sent, or not answered */
    RECIPIENT_TAKEN,       /* RCPT accepted */
    RECIPIENT_JUDGED,      /* the result was given */
    RECIPIENT_BAD_ADDRESS, /* cannot be written in a command */
    RECIPIENT_NEEDS_UTF8,  /* and the server does not offer it */
};
#define STATE_BIT(state) (1u << (state))
#define STATES_UNFINISHED (STATE_BIT(RECIPIENT_UNASKED) | STATE_BIT(RECIPIENT_TAKEN))

static inline bool smtp_client_pipelined(const struct smtp_client *client)
{
    return client->settings->pipelining && (client->extensions & SMTP_EXTENSION_PIPELINING) != 0;
}

/* EHLO, LHLO or HELO; what the server announced before is forgotten. */
void smtp_client_hello(struct smtp_client *client, const char *verb);

/* Puts a whole command line in the output; it will bring so many replies. */
void smtp_client_command(struct smtp_client *client, const char *verb, struct slice argument,
                         uint32_t replies);

/* The end of the data, which brings so many replies. */
void smtp_client_dot(struct smtp_client *client, uint32_t replies);

/* The first recipient from `index` on that is still to be asked; recipient_count when there is
 * none. */
uint32_t smtp_client_unasked(const struct smtp_client *client, uint32_t index);
/* The position of RCPT for that recipient, or of DATA. */
void smtp_client_position_set(const struct smtp_client *client,
                              struct smtp_client_position *position, uint32_t from);

/* The same fate for every recipient in one of these states. */
void smtp_client_report(struct smtp_client *client, uint32_t states,
                        const struct smtp_client_result *result);
/* Gives the next result; false: none is left. */
bool smtp_client_report_next(struct smtp_client *client, struct smtp_client_result *result);

/* The connection failed without a reply that explains it. text: copied. */
void smtp_client_fail(struct smtp_client *client, struct smtp_status status, const char *text);

/* Takes one reply, or a line of one, or less. */
void smtp_client_receive(struct smtp_client *client, uint64_t now_ns, struct slice input,
                         size_t *used);
