/* server_private: what the files of the machine share. Nobody else includes it. */
#pragma once
#include "proto/imap/server.h"

/* ---- server.c ---- */
void imap_server_write(struct imap_server *server, struct slice bytes);
void imap_server_write_text(struct imap_server *server, const char *text);
/* The tagged line, and the command is over. */
void imap_server_answer(struct imap_server *server, const struct imap_answer *answer);
/* The same for what the client has done wrong; code may be NULL. */
void imap_server_fail_now(struct imap_server *server, enum imap_result result, const char *code,
                          const char *text);
/* Nothing of the command is kept. */
void imap_server_command_forget(struct imap_server *server);
/* Ends without a word: there is no memory to say one. */
void imap_server_break(struct imap_server *server);
static inline struct imap_answer imap_answer_of(enum imap_result result, const char *code,
                                                const char *text)
{
    return (struct imap_answer){result, code == NULL ? slice_of(NULL, 0) : slice_text(code),
                                slice_text(text)};
}

/* ---- server_lines.c ---- */
/* One step with input. Returns the bytes used. */
size_t imap_server_lines(struct imap_server *server, struct slice input, struct imap_event *event);
/* The command fails, but its rest must be passed over first if it comes unasked. The answer is not copied. */
void imap_server_fail(struct imap_server *server, const struct imap_answer *answer);
/* Throws away so many bytes and what follows up to the end of the command, then answers with `failure`. */
void imap_server_skip(struct imap_server *server, uint64_t bytes);
/* The same in the middle of a line, of which `text` has the beginning. */
void imap_server_skip_line(struct imap_server *server);
/* The literal that the line ends with is an argument: keeps it, or fails. */
void imap_server_literal_keep(struct imap_server *server);

/* ---- server_append.c ---- */
/* A line of APPEND is there: reads on to the next event. */
void imap_server_append(struct imap_server *server, struct imap_event *event);
size_t imap_server_append_bytes(struct imap_server *server, struct slice input,
                                struct imap_event *event);

/* ---- server_command.c ---- */
/* Is there such a command here and now? Else *answer says why not. */
bool imap_server_allows(const struct imap_server *server, const struct imap_command_head *head,
                        struct imap_answer *answer);
/* The whole text of a command is there. */
void imap_server_run(struct imap_server *server, struct imap_event *event);
/* Gives COMMAND. */
void imap_server_give(struct imap_server *server, struct imap_command *command,
                      struct imap_event *event);
/* Does what the owner's answer means for the session. */
void imap_server_settle(struct imap_server *server, const struct imap_answer *answer);

/* ---- server_auth.c ---- */
/* A line of the client's within AUTHENTICATE is there. */
void imap_server_response(struct imap_server *server, struct imap_event *event);
/* AUTHENTICATE begins. */
void imap_server_authenticate(struct imap_server *server, struct imap_command *command,
                              struct imap_event *event);
