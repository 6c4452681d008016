/*
 * tubepost: what the commands of the operator's tool share.
 *
 *   tubepost.c          the command line, and what needs no tubepostd
 *   tubepost_ask.c      asking over the control socket
 *   tubepost_status.c   status
 *   tubepost_queue.c    queue ...
 *   tubepost_net.c      net ...
 *   tubepost_tls.c      tls ...
 *   tubepost_spool*.c   spool ...
 *   tubepost_resolve.c  resolve
 *   tubepost_mailbox*.c mailbox ...
 *   tubepost_submit.c   the names that other programs call: sendmail, mailq, postqueue ...
 *
 * A command is handed the words of the command line from its own name on, reads its options with
 * getopt_long (TOOL_OPTIONS among them) and returns what the program exits with (sysexits.h).
 */
#pragma once
#include "engine/conf/conf.h"
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sysexits.h>

#define REQUEST_MAX 3072

struct tool {
    const char *conf_path;
    bool of_mailboxd; /* conf_path and the socket are tubepost-mailboxd's */
    char socket_path[ENDPOINT_PATH_MAX + 1];
    bool as_json;
    bool as_metrics; /* status: for Prometheus */
    FILE *to, *from; /* the socket */
    long patience_s; /* more than an answer usually takes */
};

/* Options that every command takes, and their letters. */
#define TOOL_OPTIONS                                                                               \
    {"config", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},            \
        {"json", no_argument, NULL, 'j'},                                                          \
    {                                                                                              \
        "help", no_argument, NULL, 'h'                                                             \
    }
#define TOOL_LETTERS "c:s:jh"
#define TOOL_TAKEN (-1)
/* Reads optarg for one of these options. TOOL_TAKEN, or what to exit with: it is none of them and
 * wrong, or asks for help. */
int tool_option(struct tool *tool, int option);
/* All options of a command that has no others; the words behind them begin at optind then. */
int tool_options(struct tool *tool, int count, char **words);
int tool_usage(int code); /* says how the tool is used, returns code */

/* Prints "tubepost: ..." and returns code. */
int tool_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* EX_OK, or EX_CONFIG with its problems on stderr. *conf is the caller's. */
int tool_load_conf(const char *path, struct relay_conf **conf);
int tool_load_mailboxd_conf(const char *path, struct mailboxd_conf **conf);
/* Connects, if it is not yet: tool->to and tool->from. */
int tool_reach(struct tool *tool);
/* Does it answer at its socket? EX_OK, or the configuration is wrong, or the socket is not for us: that is printed. */
int tool_finds_service(struct tool *tool, bool *runs);
/* Ends the connection, if there is one. */
void tool_leave(struct tool *tool);
/* Whom tool_fail speaks of from now on; NULL: nobody. Borrowed. */
void tool_about(const char *who);
/* The last line of an answer says that the request failed: prints why, returns what to exit with. */
int tool_refusal(const struct tool *tool, const json_t *last);

/* Sends one request and hands each line of the answer to `line`, which borrows it; *last is the
 * caller's. */
int tool_ask(struct tool *tool, const char *request, void (*line)(void *owner, const json_t *line),
             void *owner, json_t **last);
/* A list, page by page; `words` narrow it and come behind the cursor. */
int tool_ask_pages(struct tool *tool, const char *what, const char *words,
                   void (*line)(void *owner, const json_t *line), void *owner);

/* For `line`: owner is a json_t *, which the last line replaces; or nothing. */
void tool_keep_line(void *owner, const json_t *line);
void tool_ignore_line(void *owner, const json_t *line);
void tool_print_json(const json_t *line);

/* The commands. */
int tubepost_status(struct tool *tool, int count, char **words);
/* What `status` shows, of whichever service; interval: seconds, as it was given. */
int tool_status(struct tool *tool, const char *interval);
int tubepost_queue(struct tool *tool, int count, char **words);
int tubepost_net(struct tool *tool, int count, char **words);
int tubepost_spool(struct tool *tool, int count, char **words);
int tubepost_tls(struct tool *tool, int count, char **words);
int tubepost_resolve(struct tool *tool, int count, char **words);
int tubepost_mailbox(struct tool *tool, int count, char **words);
/* When the program is called by one of those names: true, and what to exit with. */
bool tubepost_run_as(struct tool *tool, const char *name, int count, char **words, int *code);
