/* managesieve_private: what managesieve_server.c, managesieve_command.c and managesieve_output.c share. */
#pragma once
#include "proto/sieve/managesieve_server.h"

/* Room that the replies to any one command fit in; below it no input is taken. */
#define MANAGESIEVE_REPLY_ROOM 4608

/* ---- managesieve_command.c ---- */
/* The line is whole, without its CRLF. */
void managesieve_command(struct managesieve_server *server, struct managesieve_event *event);
/* A line that ends with a literal of so many octets. True: it is a script, which is now expected; else the literal
 * belongs to the line. */
bool managesieve_script_begin(struct managesieve_server *server, uint32_t size,
                              struct managesieve_event *event);
/* Gives the event, and waits. */
void managesieve_ask(struct managesieve_server *server, struct managesieve_event *event,
                     enum managesieve_event_kind kind);
/* The whole script has come: the event, or the refusal. */
void managesieve_script_done(struct managesieve_server *server, struct managesieve_event *event);
void managesieve_line_forget(struct managesieve_server *server);

/* ---- managesieve_output.c ---- */
size_t managesieve_room(const struct managesieve_server *server);
void managesieve_put(struct managesieve_server *server, struct slice bytes);
/* Quoted, or as a literal. */
void managesieve_put_string(struct managesieve_server *server, struct slice text);
/* At most so many bytes, no character cut in two. */
struct slice managesieve_cut(struct slice text, size_t size);
void managesieve_capabilities(struct managesieve_server *server);
void managesieve_answer(struct managesieve_server *server, enum managesieve_reply reply,
                        const char *code, struct slice text);
/* NO, which counts as a mistake. */
void managesieve_no(struct managesieve_server *server, const char *code, const char *text);
void managesieve_mistake(struct managesieve_server *server);
