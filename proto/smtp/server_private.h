/* server_private: what server.c, server_command.c, server_auth.c and server_parameters.c share. Nobody else includes it. */
#pragma once
#include "proto/smtp/server.h"

/* A command line, whole, without its CRLF. Gives an event or a reply. more: input follows it already. */
void smtp_server_command(struct smtp_server *server, struct slice line, bool more,
                         struct smtp_event *event);

void smtp_server_reply(struct smtp_server *server, unsigned code, const char *status,
                       struct slice text);
/* Whole reply lines, as they are. */
void smtp_server_lines(struct smtp_server *server, struct slice lines);
void smtp_server_error(struct smtp_server *server, unsigned code, const char *status,
                       const char *text);
/* What came is no command. Behind a refused DATA it is text, and the session ends: text is never run. */
void smtp_server_no_command(struct smtp_server *server, unsigned code, const char *status,
                            const char *text);
/* DATA was refused. It is the last of what may be sent together (RFC 2920 §3.1): what follows without waiting for the
 * reply is a body, and must never be read as commands. more: something is there already. */
void smtp_server_text_expect(struct smtp_server *server, bool more);
/* Room that the replies to any one command fit in. */
bool smtp_server_has_room(const struct smtp_server *server);
/* Has the output room for so many octets? */
bool smtp_server_fits(const struct smtp_server *server, size_t size);
/* What the client says next cannot be told from what it did not wait with: 421. */
void smtp_server_synchronization_lost(struct smtp_server *server);
/* Ends a transaction, in whatever state it is: the one way out. */
void smtp_server_reset(struct smtp_server *server);
/* No more input is taken. */
void smtp_server_end(struct smtp_server *server);
/* Begins a body: DATA, or the first chunk. */
void smtp_server_body_open(struct smtp_server *server, bool chunks, struct smtp_event *event);

/* ---- server_auth.c ---- */
/* AUTH, its arguments; the client's next line, whole, without its CRLF. */
void smtp_server_auth_begin(struct smtp_server *server, struct slice arguments,
                            struct smtp_event *event);
void smtp_server_auth_answer(struct smtp_server *server, struct slice line,
                             struct smtp_event *event);
/* A line of an exchange that cannot be taken: it is over. */
void smtp_server_auth_break(struct smtp_server *server, unsigned code, const char *status,
                            const char *text);
/* The verdict is given, or an error: nothing is left of what was said. */
void smtp_server_auth_over(struct smtp_server *server);
/* Is `part`, behind what is kept of the line, a line of AUTH's? */
bool smtp_server_auth_is_line(const struct smtp_server *server, struct slice part);

/* ---- server_time.c ---- */
/* A whole command was taken, or the owner has answered: the client's time begins anew. begins: no message was under
 * way before it. */
void smtp_server_time_command(struct smtp_server *server, uint64_t now_ns, bool begins);
/* So many octets of a message were taken. */
void smtp_server_time_body(struct smtp_server *server, uint64_t now_ns, size_t octets);

/* ---- server_parameters.c ---- */
/* The next "KEYWORD" or "KEYWORD=VALUE". False: none is left. */
bool smtp_parameter_next(struct slice *parameters, struct slice *keyword, struct slice *value);
/* Decimal octets; SIZE_MAX-like huge ones are cut at UINT64_MAX. False: it is no number. */
bool smtp_number_parse(struct slice text, uint64_t *number);
/* What the parameters of MAIL or RCPT say goes into *event. False: the reply is given. */
bool smtp_server_mail_parameters(struct smtp_server *server, struct slice parameters,
                                 struct smtp_event *event);
bool smtp_server_rcpt_parameters(struct smtp_server *server, struct slice parameters,
                                 struct smtp_event *event);

static inline bool smtp_server_in_transaction(const struct smtp_server *server)
{
    return server->state >= SMTP_SENDER && server->state <= SMTP_CHUNK_SKIP;
}
