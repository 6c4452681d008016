/* server_private: what server.c and server_command.c share. Nobody else includes it. */
#pragma once
#include "proto/pop3/server.h"

/* Room that the reply to any one command fits in. */
#define POP3_REPLY_BYTES_MAX 2800
/* The same for a line of a listing. */
#define POP3_LISTING_BYTES_MAX 128

/* A whole line, without CRLF. */
void pop3_server_command(struct pop3_server *server, struct slice line, struct pop3_event *event);
/* Lines of the listing under way, as many as there is room for. */
void pop3_server_list(struct pop3_server *server);

void pop3_server_ok(struct pop3_server *server, const char *text);
void pop3_server_err(struct pop3_server *server, const char *code, const char *text); /* counted */
void pop3_server_add(struct pop3_server *server, struct slice octets);
size_t pop3_server_room(const struct pop3_server *server);
void pop3_server_end(struct pop3_server *server);
